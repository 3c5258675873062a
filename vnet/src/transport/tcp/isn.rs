//! Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323, section 5.4).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::ids::FourTuple;
use super::seq::SeqNum;
use crate::base::time::Instant;

/// The vnet's secret for choosing numbers that an outsider cannot guess.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    key: [u64; 2],
}

impl Secret {
    pub(super) fn new(key: [u64; 2]) -> Secret {
        Secret { key }
    }

    /// The initial sequence number of a connection that begins now.
    // RFC 6528 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), where M is a
    // timer that ticks every 4 microseconds.
    pub(super) fn isn(&self, now: Instant, tuple: &FourTuple) -> SeqNum {
        let m = (now.as_nanos() / 4_000) as u32;
        SeqNum(m.wrapping_add(self.hash(tuple, 1)))
    }

    /// What is added to the clock in the timestamps of a connection.
    pub(super) fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.hash(tuple, 2)
    }

    /// How much one of a group of listeners wants a connection.
    pub(super) fn weight(&self, tuple: &FourTuple, member: u64) -> u64 {
        let mut h = self.hasher(tuple, 3);
        h.write_u64(member);
        h.finish()
    }

    /// The keyed hash of a SYN cookie that says `said`.
    pub(super) fn cookie(&self, tuple: &FourTuple, irs: u32, said: u64) -> u32 {
        let mut h = self.hasher(tuple, 4);
        h.write_u32(irs);
        h.write_u64(said);
        h.finish() as u32
    }

    /// The cookie of a fast open in one period, for a peer's address.
    pub(super) fn fast_open(&self, tuple: &FourTuple, period: u64) -> u64 {
        let ends = FourTuple { ports: 0, ..*tuple };
        let mut h = self.hasher(&ends, 5);
        h.write_u64(period);
        h.finish()
    }

    /// What a map of things that peers say is seeded with.
    pub(super) fn seed(&self) -> u64 {
        let nobody = FourTuple {
            local: 0,
            remote: 0,
            ports: 0,
        };
        self.hasher(&nobody, 6).finish()
    }

    fn hash(&self, tuple: &FourTuple, purpose: u8) -> u32 {
        self.hasher(tuple, purpose).finish() as u32
    }

    fn hasher(&self, tuple: &FourTuple, purpose: u8) -> SipHasher13 {
        let mut h = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        h.write_u128(tuple.local);
        h.write_u128(tuple.remote);
        h.write_u32(tuple.ports);
        h.write_u8(purpose);
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_grows_with_time_and_differs_between_connections() {
        let secret = Secret::new([1, 2]);
        let tuple =
            |port: u16| FourTuple::new(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into());
        let a = secret.isn(Instant::ZERO, &tuple(1000));
        let later = secret.isn(Instant::from_nanos(8_000_000), &tuple(1000));
        assert_eq!(later.since(a), 2_000);
        assert_ne!(a, secret.isn(Instant::ZERO, &tuple(1001)));
        assert_ne!(a, Secret::new([1, 3]).isn(Instant::ZERO, &tuple(1000)));
    }
}
