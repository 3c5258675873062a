//! The identifications of fragments (RFC 7739 section 5.3).
//!
//! Who can tell which identification comes next can put fragments of its own among ours, or have whole
//! datagrams refused. So they begin anywhere for each pair of addresses, and go on by counters of which each
//! is shared by some pairs only.

use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;

use crate::packet::Packet;
use crate::packet::header::ipv6::{Ipv6Header, MIN_LEN};

/// Where the identifications of one vnet are. Until one is taken, it holds no memory.
#[derive(Debug)]
pub(crate) struct Idents {
    secret: u64,
    counters: Box<[u32]>,
}

/// Counters, a power of two.
const COUNTERS: usize = 256;

impl Idents {
    /// All that follows from this secret.
    pub(crate) fn new(secret: u64) -> Idents {
        Idents {
            secret,
            counters: Box::default(),
        }
    }

    /// The identification of a packet at its IP header that is to be cut.
    pub(crate) fn take(&mut self, packet: &Packet) -> u32 {
        let mut bytes = [0; MIN_LEN];
        packet.copy_to(0, &mut bytes);
        match Ipv6Header::parse(&bytes) {
            Ok(header) => self.next(header.src, header.dst),
            // Then there is nothing to cut.
            Err(_) => 0,
        }
    }

    fn next(&mut self, src: Ipv6Addr, dst: Ipv6Addr) -> u32 {
        if self.counters.is_empty() {
            self.counters = vec![0; COUNTERS].into_boxed_slice();
        }
        let mut hash = SipHasher13::new_with_keys(self.secret, 0);
        hash.write(&src.octets());
        hash.write(&dst.octets());
        let hash = hash.finish();
        let counter = &mut self.counters[(hash >> 32) as usize % COUNTERS];
        *counter = counter.wrapping_add(1);
        (hash as u32).wrapping_add(*counter)
    }

    /// Begins again, and gives the memory back.
    pub(crate) fn reset(&mut self) {
        self.counters = Box::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn they_do_not_repeat_and_say_nothing_of_others() {
        let ip = |n: u128| Ipv6Addr::from(n);
        let mut idents = Idents::new(1);
        let mine: BTreeSet<u32> = (0..10_000).map(|_| idents.next(ip(1), ip(2))).collect();
        assert_eq!(mine.len(), 10_000);
        // What one destination sees says nothing of what the next one will.
        let to_each = |idents: &mut Idents| -> Vec<u32> {
            (0..100).map(|n| idents.next(ip(1), ip(n))).collect()
        };
        let first = to_each(&mut Idents::new(1));
        assert_eq!(first, to_each(&mut Idents::new(1)), "the same secret");
        assert_ne!(first, to_each(&mut Idents::new(2)));
        let near = |pair: &&[u32]| pair[1].wrapping_sub(pair[0]) < 1 << 16;
        assert_eq!(first.windows(2).filter(near).count(), 0);
    }
}
