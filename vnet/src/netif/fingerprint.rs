//! A fingerprint of everything that passes an interface: which frames, when, and with what result. In two runs with the
//! same fingerprint, the same happened on every wire.
//!
//! For each frame that an interface is to send, the hash covers the time, the bytes from the link header on, the segment
//! size if the frame stands for several segments, and the result: the time of arrival or the reason for the drop. For
//! each received frame, it covers the time and the same bytes. The bytes are those that are handed over; if an interface
//! leaves checksums or segmentation to the far end ([`Offload`](super::kind::Offload)), they are unfinished. A frame
//! that is lost in a full inbox is noticed because it is not received.
//!
//! The hash is SipHash-1-3 with 128 bits and a fixed key, over a fixed little-endian form, so that a
//! fingerprint can be kept in a file. It detects changes, but offers no protection against forgery.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::base::config::ParseError;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::Packet;

/// What is hashed in front of a frame, to tell events apart.
const OUT_DELIVERED: u8 = 1;
const OUT_DROPPED: u8 = 2;
const IN: u8 = 3;

/// The fingerprint of a run; see [`System::fingerprint`](crate::System::fingerprint).
///
/// ```
/// use vnet::Fingerprint;
///
/// let text = "00112233445566778899aabbccddeeff";
/// let fingerprint: Fingerprint = text.parse()?;
/// assert_eq!(fingerprint.to_string(), text);
/// assert!("0011".parse::<Fingerprint>().is_err());
/// # Ok::<(), vnet::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Fingerprint, ParseError> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number.map(Fingerprint).ok_or_else(|| {
            ParseError::new(format!(
                "{text:?} is not a fingerprint: use 32 hexadecimal digits"
            ))
        })
    }
}

/// A sum of the fingerprints of interfaces. Each is bound to its place (the vnet's number, the
/// interface's number in it), so the sum is the same in whatever order they are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FingerprintSum(u128);

impl FingerprintSum {
    /// Adds what another sum has.
    pub(crate) fn add(&mut self, other: FingerprintSum) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// The interfaces of the vnet of that number, which the sum is made of, as part of a system.
    pub(crate) fn of_vnet(self, number: u64) -> FingerprintSum {
        if self == FingerprintSum::default() {
            return self;
        }
        let mut hash = SipHasher13::new();
        hash.write(&number.to_le_bytes());
        hash.write(&self.0.to_le_bytes());
        FingerprintSum(hash.finish128().as_u128())
    }

    /// The fingerprint of a system of which this is the sum.
    pub(crate) fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.0)
    }
}

/// What became of a frame that an interface was given to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// It does not arrive.
    Dropped(DropReason),
}

/// The frames of one interface, hashed as they come.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    hash: SipHasher13,
    /// The interface's number in the order of creation in its vnet.
    place: u64,
    frames: u64,
}

impl Recorder {
    /// Nothing yet, of the interface that was made as the `place`th.
    pub(crate) fn new(place: u64) -> Recorder {
        Recorder {
            hash: SipHasher13::new(),
            place,
            frames: 0,
        }
    }

    /// Notes a frame that the interface was given to send, and what became of it.
    #[cold]
    pub(crate) fn sent(&mut self, now: Instant, packet: &Packet, fate: Fate) {
        match fate {
            Fate::Arrives(at) => {
                self.event(OUT_DELIVERED, now);
                self.hash.write(&at.as_nanos().to_le_bytes());
            }
            Fate::Dropped(reason) => {
                self.event(OUT_DROPPED, now);
                self.field(reason.as_str().as_bytes());
            }
        }
        self.frame(packet);
    }

    /// Notes a frame that came in.
    #[cold]
    pub(crate) fn received(&mut self, now: Instant, packet: &Packet) {
        self.event(IN, now);
        self.frame(packet);
    }

    /// What it comes to; nothing when there was no frame.
    pub(crate) fn sum(&self) -> FingerprintSum {
        if self.frames == 0 {
            return FingerprintSum::default();
        }
        let mut hash = self.hash;
        hash.write(&self.place.to_le_bytes());
        hash.write(&self.frames.to_le_bytes());
        FingerprintSum(hash.finish128().as_u128())
    }

    fn event(&mut self, kind: u8, now: Instant) {
        self.frames += 1;
        self.hash.write(&[kind]);
        self.hash.write(&now.as_nanos().to_le_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.hash.write(&(bytes.len() as u64).to_le_bytes());
        self.hash.write(bytes);
    }

    fn frame(&mut self, packet: &Packet) {
        if !packet.meta.tags.is_empty() {
            return self.frame(&packet.with_tags());
        }
        let segment_size = packet.meta.gso.map_or(0, |gso| gso.segment_size);
        self.hash.write(&segment_size.to_le_bytes());
        self.hash.write(&(packet.len() as u64).to_le_bytes());
        self.hash.write(packet.head());
        for slice in packet.payload.slices() {
            self.hash.write(slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Payload;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn packet(parts: &[&[u8]]) -> Packet {
        let mut payload = Payload::new();
        for part in parts {
            payload.push(Bytes::copy_from_slice(part));
        }
        Packet::incoming(payload)
    }

    fn sum(f: impl FnOnce(&mut Recorder)) -> FingerprintSum {
        let mut recorder = Recorder::new(1);
        f(&mut recorder);
        recorder.sum()
    }

    proptest! {
        /// Where the slices of a frame end does not matter, nor what was pulled up of it.
        #[test]
        fn only_the_bytes_count(
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            cut in any::<prop::sample::Index>(),
            pulled in 0usize..60,
        ) {
            let whole = packet(&[&bytes]);
            let (a, b) = bytes.split_at(cut.index(bytes.len()));
            let mut parts = packet(&[a, b]);
            let _ = parts.pull_up(pulled.min(bytes.len()));
            prop_assert_eq!(
                sum(|r| r.received(at(5), &whole)),
                sum(|r| r.received(at(5), &parts))
            );
        }
    }

    #[test]
    fn every_part_of_an_event_counts() {
        let (p, q) = (packet(&[b"frame"]), packet(&[b"frames"]));
        let mut gso = packet(&[b"frame"]);
        gso.meta.gso = Some(crate::packet::Gso {
            kind: crate::packet::GsoKind::Tcp4,
            segment_size: 2,
        });
        let dropped = |r| Fate::Dropped(r);
        let sums = [
            sum(|_| {}),
            sum(|r| r.received(at(1), &p)),
            sum(|r| r.received(at(2), &p)),
            sum(|r| r.received(at(1), &q)),
            sum(|r| r.received(at(1), &gso)),
            sum(|r| r.sent(at(1), &p, Fate::Arrives(at(1)))),
            sum(|r| r.sent(at(1), &p, Fate::Arrives(at(2)))),
            sum(|r| r.sent(at(1), &p, dropped(DropReason::LinkLoss))),
            sum(|r| r.sent(at(1), &p, dropped(DropReason::LinkQueueFull))),
            sum(|r| {
                r.received(at(1), &p);
                r.received(at(1), &p);
            }),
            sum(|r| r.received(at(1), &p)).of_vnet(1),
            sum(|r| r.received(at(1), &p)).of_vnet(2),
        ];
        for (n, a) in sums.iter().enumerate() {
            for b in &sums[..n] {
                assert_ne!(a, b);
            }
        }
        let mut other_place = Recorder::new(2);
        other_place.received(at(1), &p);
        assert_ne!(other_place.sum(), sums[1]);
    }

    /// Fingerprints are kept in files: the same frame gives this one in every version.
    #[test]
    fn the_form_is_fixed() {
        let sum = sum(|r| {
            r.sent(at(1), &packet(&[b"hello"]), Fate::Arrives(at(2)));
            r.received(at(3), &packet(&[b"world"]));
        });
        assert_eq!(
            sum.of_vnet(1).fingerprint().to_string(),
            "58349b14fcf93066e25fcfc4f678bd6f"
        );
    }
}
