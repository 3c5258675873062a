//! The address of IPv4 that an interface gives itself where it has no other (RFC 3927).
//!
//! Which it is; whether somebody has it, [`dad`](crate::ip::dad) asks.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use siphasher::sip::SipHasher13;

use crate::base::id::IfId;
use crate::base::switch::Switch;
use crate::packet::MacAddr;

/// The link-local addresses of the interfaces of one vnet. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct LinkLocal {
    /// Whether interfaces have any.
    pub used: Switch,
    secret: u64,
    own: BTreeMap<IfId, Own>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Own {
    addr: Option<Ipv4Addr>,
    /// How many before it somebody had.
    conflicts: u32,
}

impl LinkLocal {
    /// None. They follow from the secret.
    pub(crate) fn new(secret: u64) -> LinkLocal {
        LinkLocal {
            used: Switch::Off,
            secret,
            own: BTreeMap::new(),
        }
    }

    /// True where nothing is to be done about them.
    pub(crate) fn is_idle(&self) -> bool {
        !self.used.is_on() && self.own.is_empty()
    }

    /// That of an interface.
    pub(crate) fn of(&self, ifid: IfId) -> Option<Ipv4Addr> {
        self.own.get(&ifid).and_then(|own| own.addr)
    }

    /// Gives one to an interface. RFC 3927 section 2.1: it is drawn from 169.254.1.0 to 169.254.254.255, by the MAC address, so
    /// that it is the same the next time.
    pub(crate) fn choose(&mut self, ifid: IfId, mac: MacAddr) -> Ipv4Net {
        let own = self.own.entry(ifid).or_default();
        let mut hash = SipHasher13::new_with_keys(self.secret, 6);
        hash.write(&mac.0);
        match u8::try_from(own.conflicts) {
            Ok(conflicts) => hash.write_u8(conflicts),
            Err(_) => hash.write_u32(own.conflicts),
        }
        let [.., a, b, c, d] = hash.finish().to_be_bytes();
        let number = u32::from_be_bytes([a, b, c, d]) % (254 * 256);
        let [_, _, third, fourth] = (256 + number).to_be_bytes();
        let addr = Ipv4Addr::new(169, 254, third, fourth);
        own.addr = Some(addr);
        Ipv4Net::new_assert(addr, 16)
    }

    /// Somebody else has that of an interface. The next that is chosen is another one.
    pub(crate) fn conflict(&mut self, ifid: IfId) {
        if let Some(own) = self.own.get_mut(&ifid) {
            own.addr = None;
            own.conflicts = own.conflicts.wrapping_add(1);
        }
    }

    /// An interface is to have none.
    pub(crate) fn forget(&mut self, ifid: IfId) {
        self.own.remove(&ifid);
    }

    /// Forgets them all.
    pub(crate) fn reset(&mut self) {
        self.own = BTreeMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::testing::interfaces;

    #[test]
    fn each_is_another_one_of_the_range_and_the_same_the_next_time() {
        let [a, b] = interfaces();
        let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
        let mut all = LinkLocal::new(1);
        assert!(all.is_idle() && all.of(a).is_none());
        let first = all.choose(a, mac(1));
        assert_eq!(all.of(a), Some(first.addr()));
        assert_ne!(all.choose(b, mac(2)), first);
        let mut seen = vec![first];
        for _ in 1..300 {
            all.conflict(a);
            assert_eq!(all.of(a), None);
            seen.push(all.choose(a, mac(1)));
        }
        let is_in_range = |net: &Ipv4Net| {
            let [first, second, third, _] = net.addr().octets();
            [first, second] == [169, 254] && (1..=254).contains(&third) && net.prefix_len() == 16
        };
        assert!(seen.iter().all(is_in_range), "{seen:?}");
        seen.sort_unstable();
        seen.dedup();
        // They are drawn, and a few more than once.
        assert!(seen.len() > 290, "{}", seen.len());
        all.forget(a);
        assert_eq!(all.choose(a, mac(1)), first);
    }
}
