//! The journal of an instance: the operations that led to its present configuration, and no
//! others.
//!
//! It is kept short as it is written. What sets something replaces what had set it before; what
//! undoes something strikes out what had done it; an interface that goes takes with it all that
//! concerned it. So its length is bounded by what the instance consists of, not by how
//! often that was changed. What remains, in the order in which it was done and with what concerns
//! the whole at the end, gives the same configuration: every operation in it makes something that is there in the end, names
//! what it depends on (a route its interface, an address the metric of its route), and stands
//! behind what it depends on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::op::Op;
use crate::instance::limits::Resource;
use crate::packet::MacAddr;

/// The operations in effect. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: BTreeMap<Key, Noted>,
    /// Numbers given to operations so far.
    noted: u64,
}

#[derive(Debug)]
struct Noted {
    number: u64,
    op: Box<Op>,
}

/// What an operation is about. Of two operations with one key, the later one counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Interface(Box<str>),
    Setting(Box<str>, Setting),
    Address(Box<str>, Ipv4Addr),
    Route(Ipv4Net),
    /// A bridge, and an interface that is its member.
    Member(Box<str>, Box<str>),
    MemberSetting(Box<str>, Box<str>),
    /// A bridge, and a static station.
    Station(Box<str>, MacAddr),
    Forwarding,
    Sysctl(Box<str>),
    Limit(Resource),
    Privileges,
    /// The removal of something that is not in the journal, because an init step made it.
    Without(Box<Key>),
}

impl Key {
    /// True when it is about the instance as a whole.
    fn is_of_the_whole(&self) -> bool {
        match self {
            Key::Forwarding | Key::Sysctl(_) | Key::Limit(_) | Key::Privileges => true,
            Key::Interface(_)
            | Key::Setting(..)
            | Key::Address(..)
            | Key::Route(_)
            | Key::Member(..)
            | Key::MemberSetting(..)
            | Key::Station(..)
            | Key::Without(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    Mac,
    IpMtu,
    Up,
    Offload,
    Link,
    Bridge,
}

/// What an operation does to what it is about.
enum Effect {
    Makes(Key),
    Unmakes(Key),
}

impl Journal {
    /// Notes an operation that has taken effect.
    pub(crate) fn note(&mut self, op: Op) {
        match &op {
            Op::RemoveInterface { interface } => self.forget_interface(interface),
            Op::RemoveMember { member, .. } => self.forget_membership(member),
            // The vnet's own address takes the place of a static route to it.
            Op::AddAddress { address, .. } => {
                let host = Key::Route(Ipv4Net::from(address.addr()));
                self.entries.remove(&host);
            }
            _ => {}
        }
        let key = match effect(&op) {
            Effect::Makes(key) => key,
            Effect::Unmakes(key) => match self.entries.remove(&key) {
                Some(_) => return,
                None => Key::Without(Box::new(key)),
            },
        };
        self.noted += 1;
        let noted = Noted {
            number: self.noted,
            op: Box::new(op),
        };
        self.entries.insert(key, noted);
    }

    /// Strikes out what concerned an interface, but not that it was made, or unmade.
    fn forget_interface(&mut self, interface: &str) {
        self.entries.retain(|key, noted| match key {
            Key::Interface(_) => true,
            Key::Without(key) if matches!(**key, Key::Interface(_)) => true,
            _ => {
                let concerned = [noted.op.interface(), noted.op.member()];
                !concerned.contains(&Some(interface))
            }
        });
    }

    /// Strikes out what concerned an interface as a member of a bridge, but not that it became
    /// one, or ceased to be.
    fn forget_membership(&mut self, member: &str) {
        self.entries.retain(|key, noted| match key {
            Key::MemberSetting(..) | Key::Station(..) => noted.op.member() != Some(member),
            _ => true,
        });
    }

    /// Strikes out tunables and limits, and returns what had set them.
    pub(crate) fn take_settings(&mut self) -> Vec<Op> {
        let mut taken = Vec::new();
        self.entries.retain(|key, noted| {
            let is_setting = matches!(key, Key::Sysctl(_) | Key::Limit(_));
            if is_setting {
                taken.push((*noted.op).clone());
            }
            !is_setting
        });
        taken
    }

    /// The operations, in the order in which they were done, and those that concern the
    /// instance as a whole behind the others: a limit leaves what there is, and may be below it.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut noted: Vec<(&Key, &Noted)> = self.entries.iter().collect();
        noted.sort_unstable_by_key(|(key, noted)| (key.is_of_the_whole(), noted.number));
        noted
            .into_iter()
            .map(|(_, noted)| (*noted.op).clone())
            .collect()
    }

    /// The operation that made an interface, if it was no init step.
    pub(crate) fn made(&self, interface: &str) -> Option<&Op> {
        let noted = self.entries.get(&Key::Interface(interface.into()))?;
        Some(&noted.op)
    }
}

fn effect(op: &Op) -> Effect {
    let setting = |interface: &str, setting| Effect::Makes(Key::Setting(interface.into(), setting));
    let membership = |bridge: &str, member: &str| Key::Member(bridge.into(), member.into());
    let station = |bridge: &str, mac| Key::Station(bridge.into(), mac);
    match op {
        Op::Epair { interface, .. } | Op::Port { interface, .. } | Op::Bridge { interface } => {
            Effect::Makes(Key::Interface(interface.as_str().into()))
        }
        Op::RemoveInterface { interface } => {
            Effect::Unmakes(Key::Interface(interface.as_str().into()))
        }
        Op::SetBridge { interface, .. } => setting(interface, Setting::Bridge),
        Op::AddMember { interface, member } => Effect::Makes(membership(interface, member)),
        Op::RemoveMember { interface, member } => Effect::Unmakes(membership(interface, member)),
        Op::SetMember {
            interface, member, ..
        } => {
            let (bridge, member) = (interface.as_str().into(), member.as_str().into());
            Effect::Makes(Key::MemberSetting(bridge, member))
        }
        Op::AddStation { interface, mac, .. } => Effect::Makes(station(interface, *mac)),
        Op::RemoveStation { interface, mac } => Effect::Unmakes(station(interface, *mac)),
        Op::SetMac { interface, .. } => setting(interface, Setting::Mac),
        Op::SetIpMtu { interface, .. } => setting(interface, Setting::IpMtu),
        Op::SetUp { interface, .. } => setting(interface, Setting::Up),
        Op::SetOffload { interface, .. } => setting(interface, Setting::Offload),
        Op::SetLink { interface, .. } => setting(interface, Setting::Link),
        Op::AddAddress {
            interface, address, ..
        } => Effect::Makes(Key::Address(interface.as_str().into(), address.addr())),
        Op::RemoveAddress { interface, address } => {
            Effect::Unmakes(Key::Address(interface.as_str().into(), *address))
        }
        Op::AddRoute { dst, .. } => Effect::Makes(Key::Route(dst.trunc())),
        Op::RemoveRoute { dst } => Effect::Unmakes(Key::Route(dst.trunc())),
        Op::SetForwarding { .. } => Effect::Makes(Key::Forwarding),
        Op::SetSysctl { name, .. } => Effect::Makes(Key::Sysctl(name.as_str().into())),
        Op::SetLimit { resource, .. } => Effect::Makes(Key::Limit(*resource)),
        Op::SetPrivileges { .. } => Effect::Makes(Key::Privileges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netif::AdminState;

    fn port(name: &str) -> Op {
        Op::Port {
            interface: name.into(),
            mac: None,
        }
    }

    fn remove(name: &str) -> Op {
        Op::RemoveInterface {
            interface: name.into(),
        }
    }

    fn mtu(name: &str, ip_mtu: u16) -> Op {
        Op::SetIpMtu {
            interface: name.into(),
            ip_mtu,
        }
    }

    fn address(name: &str, net: &str) -> Op {
        Op::AddAddress {
            interface: name.into(),
            address: net.parse().expect("a prefix"),
            metric: 0,
        }
    }

    fn route(dst: &str, name: &str) -> Op {
        Op::AddRoute {
            dst: dst.parse().expect("a prefix"),
            gateway: None,
            interface: Some(name.into()),
        }
    }

    fn after(ops: &[Op]) -> Vec<Op> {
        let mut journal = Journal::default();
        for op in ops {
            journal.note(op.clone());
        }
        journal.ops()
    }

    #[test]
    fn settings_replace_what_was_set_before() {
        let ops = [
            port("a"),
            mtu("a", 1000),
            mtu("lo0", 9),
            mtu("a", 1001),
            mtu("a", 1002),
        ];
        assert_eq!(
            after(&ops),
            [port("a"), mtu("lo0", 9), mtu("a", 1002)],
            "the last one, at its own place"
        );
        let many: Vec<Op> = (0..10_000).map(|n| mtu("a", n)).collect();
        assert_eq!(after(&many).len(), 1);
    }

    #[test]
    fn what_goes_takes_along_what_concerned_it() {
        let ops = [
            port("a"),
            port("b"),
            address("a", "192.0.2.1/24"),
            route("198.51.100.0/24", "a"),
            route("203.0.113.0/24", "b"),
            remove("a"),
        ];
        assert_eq!(after(&ops), [port("b"), route("203.0.113.0/24", "b")]);
    }

    #[test]
    fn what_a_step_made_is_removed_and_made_again() {
        assert_eq!(after(&[mtu("s", 1), remove("s")]), [remove("s")]);
        let again = [remove("s"), port("s"), mtu("s", 2)];
        assert_eq!(after(&again), again);
        let gone = [remove("s"), port("s"), mtu("s", 2), remove("s")];
        assert_eq!(after(&gone), [remove("s")]);
        let undo = Op::RemoveAddress {
            interface: "lo0".into(),
            address: Ipv4Addr::LOCALHOST,
        };
        let back = [undo.clone(), address("lo0", "127.0.0.1/8")];
        assert_eq!(after(&back), back);
        let gone = [&back[..], std::slice::from_ref(&undo)].concat();
        assert_eq!(after(&gone), [undo]);
    }

    #[test]
    fn an_address_takes_the_place_of_a_route_to_it() {
        let ops = [
            port("a"),
            route("192.0.2.1/32", "a"),
            address("a", "192.0.2.1/24"),
        ];
        assert_eq!(after(&ops), [port("a"), address("a", "192.0.2.1/24")]);
    }

    #[test]
    fn empty_again_after_everything_is_undone() {
        let up = Op::SetUp {
            interface: "a".into(),
            state: AdminState::Down,
        };
        let ops = [port("a"), up, address("a", "192.0.2.1/24"), remove("a")];
        assert!(after(&ops).is_empty());
    }
}
