//! The Ethernet addresses that a system gives to interfaces: locally administered, and none twice.
//!
//! They are numbered from a start that the system's seed decides, so that those of two systems
//! differ: 2^46 numbers are enough for a collision to be unlikely. With one seed they are the same in
//! every run. An address that a user gave by hand is not given out later; one given by hand twice is
//! the user's business, as it is with any other equipment.

use std::collections::BTreeSet;

use crate::base::rng::Rng;
use crate::packet::MacAddr;

/// Label of the random stream that decides where a system's addresses start.
const STREAM: u64 = 0x6d61_6373;
/// The most addresses given by hand that are remembered because they are still to come. Others lie
/// out of reach: nobody has that many but by intent.
const MAX_AHEAD: usize = 1 << 16;
/// How far ahead an address can be that is still to come.
const REACH: u64 = 1 << 32;

/// The addresses of one system.
pub(crate) struct Macs {
    first: u64,
    made: u64,
    /// Numbers after `made`, counted from `first`, that were given by hand.
    by_hand: BTreeSet<u64>,
}

/// Too many addresses were given by hand that the system would give out itself.
pub(crate) struct TooManyByHand;

impl Macs {
    /// The addresses of a system with this seed.
    pub(crate) fn new(seed: u64) -> Macs {
        Macs {
            first: Rng::seeded(seed).split(STREAM).u64() % MacAddr::NUMBERS,
            made: 0,
            by_hand: BTreeSet::new(),
        }
    }

    /// An address that no interface of the system has or had.
    pub(crate) fn next(&mut self) -> MacAddr {
        loop {
            self.made += 1;
            if !self.by_hand.remove(&self.made) {
                return MacAddr::from_number(self.first.wrapping_add(self.made));
            }
        }
    }

    /// Notes an address that is given by hand.
    pub(crate) fn given(&mut self, mac: MacAddr) -> Result<(), TooManyByHand> {
        let Some(number) = mac.number() else {
            return Ok(());
        };
        let at = number.wrapping_sub(self.first) % MacAddr::NUMBERS;
        if at <= self.made || at - self.made > REACH {
            return Ok(());
        }
        if self.by_hand.len() >= MAX_AHEAD && !self.by_hand.contains(&at) {
            return Err(TooManyByHand);
        }
        self.by_hand.insert(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_addresses_and_back() {
        for n in [0, 1, 6, 1 << 40, MacAddr::NUMBERS - 1] {
            let mac = MacAddr::from_number(n);
            assert!(mac.is_local() && mac.is_station(), "{mac}");
            assert_eq!(mac.number(), Some(n));
        }
        assert_eq!(MacAddr::BROADCAST.number(), None);
        assert_eq!(MacAddr([0x00, 1, 2, 3, 4, 5]).number(), None);
    }

    #[test]
    fn what_is_given_by_hand_is_not_given_again() {
        for seed in 0..100 {
            let mut foreseen = Macs::new(seed);
            let coming: Vec<MacAddr> = (0..20).map(|_| foreseen.next()).collect();
            let mut macs = Macs::new(seed);
            let by_hand = [coming[0], coming[3], coming[4], coming[9]];
            for mac in by_hand {
                assert!(macs.given(mac).is_ok() && macs.given(mac).is_ok());
            }
            let given: Vec<MacAddr> = (0..16).map(|_| macs.next()).collect();
            let mut expected = coming;
            expected.retain(|mac| !by_hand.contains(mac));
            assert_eq!(given, expected);
            assert!(macs.by_hand.is_empty(), "what has passed is forgotten");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut macs = Macs::new(1);
        let mut coming = Macs::new(1);
        for _ in 0..MAX_AHEAD {
            assert!(macs.given(coming.next()).is_ok());
        }
        assert!(macs.given(coming.next()).is_err());
        macs.next();
        assert!(macs.given(coming.next()).is_ok());
    }
}
