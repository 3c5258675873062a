//! SYN cookies (RFC 4987, section 3.6): what a listener must remember of a request for which it has no room, it puts into
//! the numbers of its answer, which the peer sends back.
//!
//! The initial sequence number says when it was made and what segment size the peer asked for; 24 bits of a keyed hash
//! say that it is ours. Where both use timestamps, the six lowest bits of ours say what else was negotiated. Without
//! timestamps such a connection has neither window scaling nor selective acknowledgements.

use super::ids::FourTuple;
use super::isn::Secret;
use super::options::Timestamps;
use super::seq::SeqNum;
use crate::base::time::{Duration, Instant};
use crate::packet::header::TcpOptions;
use crate::packet::header::tcp::SackPermitted;

/// A cookie is from this period or the one before.
const PERIOD: Duration = Duration::from_secs(64);
/// How long cookies are taken after the last one was sent.
pub(super) const LIFETIME: Duration = Duration::from_secs(128);
/// Segment sizes that a cookie can name; the peer's is rounded down.
const SIZES: [u16; 8] = [64, 536, 1024, 1220, 1300, 1440, 1460, 8940];
/// Bits of the hash.
const HASH: u32 = 0x00ff_ffff;
/// Bits of a timestamp that say what was negotiated: the shift (15 is none), and whether there is SACK.
const TS_BITS: u32 = 0x3f;
const NO_SCALING: u32 = 0xf;
const SACK: u32 = 0x10;

fn period(now: Instant) -> u64 {
    now.as_nanos() / PERIOD.as_nanos() as u64
}

/// Five bits of the period are said, and all of it is in the hash: a cookie is not good again when they are.
fn number(secret: &Secret, key: &FourTuple, irs: SeqNum, period: u64, size: u32) -> SeqNum {
    let said = (period as u32 & 0x1f) << 27 | size << 24;
    SeqNum(said | secret.cookie(key, irs.0, period << 3 | u64::from(size)) & HASH)
}

/// The initial sequence number for who asks for segments of `mss` bytes.
pub(super) fn make(
    secret: &Secret,
    key: &FourTuple,
    irs: SeqNum,
    mss: u16,
    now: Instant,
) -> SeqNum {
    let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0);
    number(secret, key, irs, period(now), size as u32)
}

/// The segment size that is in a cookie, if it is one of ours and fresh.
pub(super) fn take(
    secret: &Secret,
    key: &FourTuple,
    irs: SeqNum,
    iss: SeqNum,
    now: Instant,
) -> Option<u16> {
    let (made, size) = (u64::from(iss.0 >> 27), iss.0 >> 24 & 7);
    let age = period(now).wrapping_sub(made) & 0x1f;
    let period = period(now).checked_sub(age)?;
    let is_ours = age <= 1 && number(secret, key, irs, period, size) == iss;
    is_ours.then(|| SIZES[size as usize])
}

/// The timestamp of an answer with a cookie: no later than now, with what the peer has offered in its lowest bits.
pub(super) fn stamp(ts: &Timestamps, now: Instant, theirs: &TcpOptions) -> u32 {
    let value = ts.value(now);
    let scale = theirs
        .window_scale
        .map_or(NO_SCALING, |shift| shift.min(14).into());
    let sack = theirs.sack_permitted.map_or(0, |_| SACK);
    let stamped = value & !TS_BITS | scale | sack;
    match stamped > value {
        true => stamped.wrapping_sub(TS_BITS + 1),
        false => stamped,
    }
}

/// What the peer had offered, by its segment size and the timestamps of its acknowledgement.
pub(super) fn offered(mss: u16, timestamp: Option<(u32, u32)>) -> TcpOptions {
    let said = timestamp.map(|(_, echoed)| echoed & TS_BITS);
    let shift = said
        .map(|said| said & 0xf)
        .filter(|shift| *shift != NO_SCALING);
    TcpOptions {
        mss: Some(mss),
        window_scale: shift.map(|shift| shift as u8),
        sack_permitted: said
            .is_some_and(|said| said & SACK != 0)
            .then_some(SackPermitted),
        timestamp,
        ..TcpOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FourTuple {
        FourTuple::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
    }

    #[test]
    fn a_cookie_is_taken_from_whom_it_was_given_to_for_two_minutes_at_most() {
        let (secret, irs) = (Secret::new([1, 2]), SeqNum(77));
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        for (mss, kept) in [
            (1, 64),
            (536, 536),
            (1459, 1440),
            (1460, 1460),
            (65_000, 8940),
        ] {
            let cookie = make(&secret, &key(5), irs, mss, at(1000));
            let taken =
                |key: FourTuple, irs, cookie, now| take(&secret, &key, irs, cookie, at(now));
            assert_eq!(taken(key(5), irs, cookie, 1000), Some(kept));
            assert_eq!(taken(key(5), irs, cookie, 1063), Some(kept));
            assert_eq!(taken(key(5), irs, cookie, 1128), None);
            assert_eq!(taken(key(5), irs, cookie, 900), None);
            // The five bits that say when are the same again.
            assert_eq!(taken(key(5), irs, cookie, 1000 + 32 * 64), None);
            assert_eq!(taken(key(6), irs, cookie, 1000), None);
            assert_eq!(taken(key(5), irs + 1, cookie, 1000), None);
            for bit in 0..32 {
                let other = SeqNum(cookie.0 ^ 1 << bit);
                assert_eq!(taken(key(5), irs, other, 1000), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn timestamps_say_what_was_offered_and_are_never_ahead() {
        let offers = [
            (None, None),
            (Some(0), None),
            (Some(7), Some(SackPermitted)),
            (Some(14), Some(SackPermitted)),
            (None, Some(SackPermitted)),
        ];
        for ms in [0, 63, 64, 100, 1 << 20] {
            let now = Instant::from_nanos(ms * 1_000_000);
            let ts = Timestamps {
                recent: 9,
                recent_at: now,
                offset: 5,
            };
            for (window_scale, sack_permitted) in offers {
                let theirs = TcpOptions {
                    window_scale,
                    sack_permitted,
                    ..TcpOptions::default()
                };
                let stamped = stamp(&ts, now, &theirs);
                assert!(ts.value(now).wrapping_sub(stamped) < 128);
                let kept = offered(536, Some((9, stamped)));
                assert_eq!(kept.window_scale, window_scale);
                assert_eq!(kept.sack_permitted, sack_permitted);
            }
        }
        assert_eq!(offered(536, None).window_scale, None);
    }
}
