//! The Ethernet addresses that a system gives to interfaces: locally administered, and each used
//! only once.
//!
//! They are numbered from a start that the system's seed decides, so that those of two systems
//! differ: 2^46 numbers are enough for a collision to be unlikely. With one seed they are the same
//! in every run. An address that a user has set is not given out later. Setting the same address
//! twice is up to the user, as with any other equipment.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::base::rng::Rng;
use crate::packet::MacAddr;

/// Label of the random stream that decides where a system's addresses start.
const STREAM: u64 = 0x6d61_6373;
/// The most addresses given by hand that are remembered because they are still to come. Nobody has
/// that many but by intent, so what is more is not remembered; and so that nobody alone brings that
/// about, one vnet has no more than [`MAX_OF_ONE`] of them.
const MAX_AHEAD: usize = 1 << 16;
const MAX_OF_ONE: usize = 1 << 13;
/// How far ahead an address can be that is still to come.
const REACH: u64 = 1 << 32;

/// The addresses of one system.
pub(crate) struct Macs {
    first: u64,
    made: u64,
    /// Numbers after `made`, counted from `first`, that were given by hand, and in which vnet.
    by_hand: BTreeMap<u64, u64>,
    /// How many of them each vnet has.
    of_one: BTreeMap<u64, usize>,
}

/// In one vnet too many addresses were given by hand that the system would give out itself.
pub(crate) struct TooManyByHand;

impl Macs {
    /// The addresses of a system with this seed.
    pub(crate) fn new(seed: u64) -> Macs {
        Macs {
            first: Rng::seeded(seed).split(STREAM).u64() % MacAddr::NUMBERS,
            made: 0,
            by_hand: BTreeMap::new(),
            of_one: BTreeMap::new(),
        }
    }

    /// An address that no interface of the system has or had.
    pub(crate) fn next(&mut self) -> MacAddr {
        loop {
            self.made += 1;
            let Some(vnet) = self.by_hand.remove(&self.made) else {
                return MacAddr::from_number(self.first.wrapping_add(self.made));
            };
            self.forget_one_of(vnet);
        }
    }

    fn forget_one_of(&mut self, vnet: u64) {
        if let Entry::Occupied(mut count) = self.of_one.entry(vnet) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Notes an address that is given by hand in a vnet.
    pub(crate) fn given(&mut self, vnet: u64, mac: MacAddr) -> Result<(), TooManyByHand> {
        let Some(number) = mac.number() else {
            return Ok(());
        };
        let at = number.wrapping_sub(self.first) % MacAddr::NUMBERS;
        if at <= self.made || at - self.made > REACH {
            return Ok(());
        }
        if self.by_hand.contains_key(&at) || self.by_hand.len() >= MAX_AHEAD {
            return Ok(());
        }
        let count = self.of_one.entry(vnet).or_default();
        if *count >= MAX_OF_ONE {
            return Err(TooManyByHand);
        }
        *count += 1;
        self.by_hand.insert(at, vnet);
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
                assert!(macs.given(1, mac).is_ok() && macs.given(2, mac).is_ok());
            }
            let given: Vec<MacAddr> = (0..16).map(|_| macs.next()).collect();
            let mut expected = coming;
            expected.retain(|mac| !by_hand.contains(mac));
            assert_eq!(given, expected);
            assert!(macs.by_hand.is_empty(), "what has passed is forgotten");
            assert!(macs.of_one.is_empty());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut macs = Macs::new(1);
        let mut coming = Macs::new(1);
        for _ in 0..MAX_OF_ONE {
            assert!(macs.given(1, coming.next()).is_ok());
        }
        // Who has filled its share is told, and nobody else.
        assert!(macs.given(1, coming.next()).is_err());
        assert!(macs.given(2, coming.next()).is_ok());
        macs.next();
        assert!(macs.given(1, coming.next()).is_ok());
        // All together fill the list: nothing is refused, and no more is remembered.
        for vnet in 10..20 {
            (0..MAX_OF_ONE).for_each(|_| assert!(macs.given(vnet, coming.next()).is_ok()));
        }
        assert_eq!(macs.by_hand.len(), MAX_AHEAD);
    }
}
