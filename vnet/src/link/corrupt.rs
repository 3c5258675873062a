//! Corruption on the wire: bits that are flipped, one in so many on average (IMUNES' BER).
//!
//! Ethernet's frame check sequence shows nearly all such errors (IEEE 802.3, 3.2.9), and a frame that
//! fails it is discarded by its receiver. The link has two of these stages: of a frame that one hits,
//! nothing arrives; of one that the other hits, the flipped bits arrive.
//!
//! Errors are independent of each other, so the number of good bits from one to the next follows a
//! geometric distribution. It is drawn once an error, however many frames pass in between.

use bytes::Bytes;

use crate::base::rng::Rng;
use crate::packet::header::ether;
use crate::packet::{Csum, Packet, checksum};

/// The corruption stage.
#[derive(Debug)]
pub(crate) struct Corrupt {
    /// One error in so many bits.
    bits: Option<u64>,
    /// Good bits until the next error.
    good: u64,
    rng: Rng,
}

impl Corrupt {
    /// No errors, with the stage's own random stream.
    pub(crate) fn new(rng: Rng) -> Corrupt {
        Corrupt {
            bits: None,
            good: 0,
            rng,
        }
    }

    /// Changes how often bits of frames to come are flipped.
    pub(crate) fn set(&mut self, bits: Option<u64>) {
        if bits != self.bits {
            self.bits = bits;
            self.good = bits.map_or(0, |bits| draw(&mut self.rng, bits));
        }
    }

    /// True when the next frame, of `len` bytes, is hit; then [`Corrupt::apply`] or
    /// [`Corrupt::skip`] must follow. It counts the bits of one that is not.
    #[inline]
    pub(crate) fn hits(&mut self, len: usize) -> bool {
        if self.bits.is_none() {
            return false;
        }
        match self.good.checked_sub(8 * len as u64) {
            Some(left) => {
                self.good = left;
                false
            }
            None => true,
        }
    }

    /// Flips bits of a frame. Its checksums are filled in before, and nobody vouches for them any
    /// more. The bytes are copied: others may refer to them.
    pub(crate) fn apply(&mut self, packet: &Packet) -> Packet {
        let mut whole = packet.with_tags();
        // One that cannot be filled in is wrong already.
        let network = ether::network_offset(&mut whole);
        let _ = checksum::finish(&mut whole, network);
        let mut bytes = whole.to_vec();
        self.errors(bytes.len(), |at| {
            bytes[(at / 8) as usize] ^= 0x80 >> (at % 8);
        });
        let mut corrupted = Packet::incoming(Bytes::from(bytes));
        corrupted.meta = whole.meta;
        corrupted.meta.csum = Csum::Unknown;
        corrupted.meta.gso = None;
        corrupted.meta.bridges.mark_foreign();
        corrupted
    }

    /// Passes over a frame of `len` bytes that is hit.
    pub(crate) fn skip(&mut self, len: usize) {
        self.errors(len, |_| {});
    }

    /// Tells which bits of a frame of `len` bytes are flipped.
    fn errors(&mut self, len: usize, mut flip: impl FnMut(u64)) {
        let len = 8 * len as u64;
        let mut at = self.good;
        while at < len {
            flip(at);
            at = at.saturating_add(1 + draw(&mut self.rng, self.bits.unwrap_or(u64::MAX)));
        }
        self.good = at - len;
    }
}

/// Good bits before the next error, when one in `bits` is bad.
fn draw(rng: &mut Rng, bits: u64) -> u64 {
    if bits <= 1 {
        return 0;
    }
    // `1 - unit` is above zero, so its logarithm is finite.
    let good = libm::log(1.0 - rng.unit()) / libm::log1p(-1.0 / bits as f64);
    good as u64
}
