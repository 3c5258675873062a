//! The journal of an instance: the operations that led to its present configuration, and no
//! others.
//!
//! It is kept short as it is written. What sets something replaces what had set it before; what
//! undoes something strikes out what had done it; an interface that goes takes with it all that
//! concerned it. So its length is bounded by what the instance consists of, not by how
//! often that was changed. What remains, in the order in which it was done and with what concerns
//! the whole at the end, gives the same configuration: every operation in it makes something that is
//! there in the end, names what it depends on (a route its interface, an address the metric of its
//! route), and stands behind what it depends on.
//!
//! An interface that is renamed is noted as if it had had its name from the beginning. Only what an
//! init step has made is made under the step's name, and then renamed.

mod away;
pub(crate) mod op;
mod routes;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::sorted::Sorted;
use crate::packet::MacAddr;
use crate::packet::tag::Tpid;
use crate::stack::limits::Resource;
use away::Away;
pub(crate) use op::{BridgeOp, IfOp, Op, RouteOp, VnetOp};
use routes::Routes;

/// The operations in effect. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Sorted<Key, Noted>,
    /// The static routes, if there are any: of all entries they can be the most by far.
    routes: Option<Box<Routes>>,
    /// Numbers given to operations so far.
    noted: u64,
    /// What concerns interfaces that are lent.
    away: Vec<Away>,
    /// Interfaces that an init step has made and that have another name by now: the name that the
    /// step gave, by the present one.
    strays: BTreeMap<Box<str>, Box<str>>,
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
    /// What an operation of this name sets on an interface.
    Setting(Box<str>, &'static str),
    Address(Box<str>, IpAddr),
    /// A neighbour set by hand.
    Neighbour(Box<str>, IpAddr),
    /// A static route; the entry is in [`Routes`].
    Route(IpNet, u32),
    /// A bridge, and an interface that is its member.
    Member(Box<str>, Box<str>),
    MemberSetting(Box<str>, Box<str>),
    /// A bridge, a static station, and its VLAN if it has one.
    Station(Box<str>, MacAddr, Option<u16>),
    Forwarding,
    Sysctl(Box<str>),
    AddressPolicy,
    Limit(Resource),
    Privileges,
    /// The removal of something that is not in the journal, because an init step made it.
    Without(Box<Key>),
}

impl Key {
    /// The same when the interface `from` is called `to`.
    fn renamed(self, from: &str, to: &str) -> Key {
        let named = |name: Box<str>| if &*name == from { to.into() } else { name };
        match self {
            Key::Interface(name) => Key::Interface(named(name)),
            Key::Setting(name, setting) => Key::Setting(named(name), setting),
            Key::Address(name, address) => Key::Address(named(name), address),
            Key::Neighbour(name, address) => Key::Neighbour(named(name), address),
            Key::Member(bridge, member) => Key::Member(named(bridge), named(member)),
            Key::MemberSetting(bridge, member) => Key::MemberSetting(named(bridge), named(member)),
            Key::Station(bridge, mac, vid) => Key::Station(named(bridge), mac, vid),
            Key::Without(key) => Key::Without(Box::new(key.renamed(from, to))),
            other @ (Key::Route(..)
            | Key::Forwarding
            | Key::Sysctl(_)
            | Key::AddressPolicy
            | Key::Limit(_)
            | Key::Privileges) => other,
        }
    }

    /// Where operations about it stand in a record.
    fn part(&self) -> Part {
        match self {
            Key::Forwarding
            | Key::Sysctl(_)
            | Key::AddressPolicy
            | Key::Limit(_)
            | Key::Privileges => Part::Whole,
            Key::Without(key) if matches!(**key, Key::Interface(_)) => Part::Removals,
            Key::Setting(_, SET_VLAN) => Part::Vlans,
            Key::Interface(_)
            | Key::Setting(..)
            | Key::Address(..)
            | Key::Neighbour(..)
            | Key::Route(..)
            | Key::Member(..)
            | Key::MemberSetting(..)
            | Key::Station(..)
            | Key::Without(_) => Part::Things,
        }
    }
}

/// What sets a VLAN interface's VLAN: [`IfOp::name`] of [`IfOp::SetVlan`].
const SET_VLAN: &str = "set_vlan";

/// The parts of a record, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Of interfaces that init steps have made: their names are free after that.
    Removals,
    /// Of VLAN interfaces that init steps have made, and that are other VLANs now: others may be what they
    /// were. Which of them is first does not matter, since replaying takes them all off their parents.
    Vlans,
    /// In the order in which they were done.
    Things,
    /// What concerns the instance as a whole: a limit leaves what there is, and may be below it.
    Whole,
}

/// What an operation does to what it is about.
enum Effect {
    Makes(Key),
    Unmakes(Key),
}

impl Journal {
    /// Notes an operation that has taken effect.
    pub(crate) fn note(&mut self, mut op: Op) {
        match &mut op {
            Op::Interface(interface, IfOp::RenameInterface { name }) => {
                return self.rename(interface, name);
            }
            Op::Interface(interface, IfOp::RemoveInterface {}) => {
                self.forget_interface(interface);
                // What a step has made is removed under the name that the step gives, which
                // something else may have by now.
                if let Some(made_as) = self.strays.remove(&**interface) {
                    *interface = made_as.clone().into();
                    let key = Key::Without(Box::new(Key::Interface(made_as)));
                    return self.insert(key, op);
                }
            }
            Op::Bridge(_, BridgeOp::RemoveMember { member, .. }) => self.forget_membership(member),
            Op::Interface(interface, IfOp::SetVlan { tpid, vid })
                if self.retag(interface, *tpid, *vid) =>
            {
                return;
            }
            Op::Interface(_, made) => self.has_address(made),
            _ => {}
        }
        let key = match effect(&op) {
            Effect::Makes(key) => key,
            Effect::Unmakes(key) => match self.strike_out(&key) {
                true => return,
                false => Key::Without(Box::new(key)),
            },
        };
        self.insert(key, op);
    }

    /// Notes that VLAN interfaces have gone with their parents, and takes their names.
    pub(crate) fn lose(&mut self, gone: Vec<Box<str>>) {
        for name in gone {
            self.forget_interface(&name);
            self.entries.remove(&Key::Interface(name.clone()));
            self.strays.remove(&name);
        }
    }

    /// Notes that a VLAN interface has another VLAN, as if it had had it from the beginning: what it
    /// had may be another's by now. False when an init step made it.
    fn retag(&mut self, interface: &str, new_tpid: Tpid, new_vid: u16) -> bool {
        let made = self.entries.get_mut(&Key::Interface(interface.into()));
        match made.map(|noted| &mut *noted.op) {
            Some(Op::Interface(_, IfOp::Vlan { tpid, vid, .. })) => {
                (*tpid, *vid) = (new_tpid, new_vid);
                true
            }
            _ => false,
        }
    }

    /// Notes what an operation on an interface of another vnet's has undone here.
    pub(crate) fn note_borrowed(&mut self, op: &Op) {
        if let Op::Interface(_, made) = op {
            self.has_address(made);
        }
    }

    /// The vnet's own address takes the place of a static route to it.
    fn has_address(&mut self, op: &IfOp) {
        let address = match op {
            IfOp::AddAddress { address, .. } => address.addr(),
            IfOp::AddAnycast { address } => IpAddr::from(*address),
            _ => return,
        };
        self.strike_out(&Key::Route(address.into(), 0));
    }

    /// Strikes out what made something; false when it is not in the journal.
    fn strike_out(&mut self, key: &Key) -> bool {
        let (Key::Route(dst, metric), Some(routes)) = (key, &mut self.routes) else {
            return self.entries.remove(key).is_some();
        };
        let is_out = routes.remove(*dst, *metric);
        self.routes.take_if(|routes| routes.is_empty());
        is_out
    }

    fn insert(&mut self, key: Key, op: Op) {
        self.noted += 1;
        let number = self.noted;
        match op {
            Op::Route(RouteOp::AddRoute {
                dst,
                gateway,
                interface,
                kind,
                metric,
            }) => {
                let routes = self.routes.get_or_insert_default();
                routes.insert(number, (dst, metric), gateway, interface, kind);
            }
            op => {
                let op = Box::new(op);
                self.entries.insert(key, Noted { number, op });
            }
        }
    }

    /// Notes that an interface has another name.
    fn rename(&mut self, from: &str, to: &str) {
        if self.made(from).is_none() {
            let made_as = self.made_as(from);
            self.strays(made_as, to);
        }
        let concerned = |key: &Key, noted: &Noted| {
            let named = [noted.op.interface(), noted.op.member()];
            // One that is gone had the name that it had.
            named.contains(&Some(from)) && key.part() != Part::Removals
        };
        let keys = self.entries.iter().filter(|(k, n)| concerned(k, n));
        let keys: Vec<Key> = keys.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(noted) = self.entries.remove(&key) {
                self.take_back(key, noted, from, to);
            }
        }
        if let Some(routes) = &mut self.routes {
            routes.rename(from, to);
        }
        for away in &mut self.away {
            away.bridge_is_renamed(from, to);
            away.parent_is_renamed(from, to);
        }
    }

    /// The name that an init step gave to the interface that is called `name`; no name of a stray
    /// any more.
    fn made_as(&mut self, name: &str) -> Box<str> {
        self.strays.remove(name).unwrap_or_else(|| name.into())
    }

    /// Notes that what a step made as `made_as` is called `name`.
    fn strays(&mut self, made_as: Box<str>, name: &str) {
        if &*made_as != name {
            self.strays.insert(name.into(), made_as);
        }
    }

    /// Strikes out what concerned an interface, but not that it was made, or unmade.
    fn forget_interface(&mut self, interface: &str) {
        for away in &mut self.away {
            away.forget_bridge(interface);
        }
        self.entries.retain(|key, noted| match key {
            Key::Interface(_) => true,
            Key::Without(key) if matches!(**key, Key::Interface(_)) => true,
            _ => {
                let concerned = [noted.op.interface(), noted.op.member()];
                !concerned.contains(&Some(interface))
            }
        });
        if let Some(routes) = &mut self.routes {
            routes.forget_interface(interface);
        }
        self.routes.take_if(|routes| routes.is_empty());
    }

    /// Strikes out what concerned an interface as a member of a bridge, but not that it became
    /// one, or ceased to be.
    fn forget_membership(&mut self, member: &str) {
        self.entries.retain(|key, noted| match key {
            Key::MemberSetting(..) | Key::Station(..) => noted.op.member() != Some(member),
            _ => true,
        });
    }

    /// Takes out what concerns an interface and goes with it when it is lent.
    fn put_aside(&mut self, interface: &str) -> Vec<(Key, Noted)> {
        let concerns = |key: &Key| match key {
            Key::Interface(name) | Key::Setting(name, _) => &**name == interface,
            Key::Without(key) => match &**key {
                Key::Address(name, _) | Key::Neighbour(name, _) | Key::Member(_, name) => {
                    &**name == interface
                }
                _ => false,
            },
            _ => false,
        };
        let keys = self.entries.iter().map(|(key, _)| key);
        let keys = keys.filter(|key| concerns(key)).cloned();
        let keys: Vec<Key> = keys.collect();
        keys.into_iter()
            .filter_map(|key| self.entries.remove(&key).map(|noted| (key, noted)))
            .collect()
    }

    /// Puts back what was taken out, in its old place, when the interface `from` is called `to`.
    fn take_back(&mut self, key: Key, mut noted: Noted, from: &str, to: &str) {
        noted.op = Box::new(noted.op.renamed(from, to));
        self.put_back(key.renamed(from, to), noted);
    }

    /// Puts back what was taken out, in its old place.
    fn put_back(&mut self, key: Key, noted: Noted) {
        self.entries.insert(key, noted);
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

    /// The operations: what init steps made is removed or named first, so that names are free;
    /// then everything in the order in which it was done; and what concerns the instance as a whole.
    ///
    /// `is_here` says whether an interface of the instance's own has a name now. One that is lent
    /// and whose name has been given away is left out: two of one name cannot be.
    pub(crate) fn ops(&self, is_here: impl Fn(&str) -> bool) -> Vec<Op> {
        let removal = |name: &str| Op::Interface(name.to_owned(), IfOp::RemoveInterface {});
        let mut noted: Vec<(Part, u64, Cow<'_, Op>)> = Vec::new();
        for (key, entry) in self.entries.iter() {
            noted.push((key.part(), entry.number, Cow::Borrowed(&*entry.op)));
        }
        let routes = self.routes.iter().flat_map(|routes| routes.ops());
        noted.extend(routes.map(|(number, op)| (Part::Things, number, Cow::Owned(op))));
        let mut removals = Vec::new();
        let mut renames: Vec<(&str, &str)> = Vec::new();
        renames.extend(
            self.strays
                .iter()
                .map(|(name, made_as)| (&**made_as, &**name)),
        );
        let mut taken = BTreeSet::new();
        for away in &self.away {
            let has_name = !is_here(&away.name) && taken.insert(&away.name);
            match (&away.made_as, has_name) {
                (Some(made_as), false) => removals.push(removal(made_as)),
                (Some(made_as), true) if *made_as != away.name => {
                    renames.push((made_as, &away.name));
                }
                _ => {}
            }
            if has_name {
                let entries = away.entries.iter();
                noted.extend(entries.map(|(k, n)| (k.part(), n.number, Cow::Borrowed(&*n.op))));
            }
        }
        noted.sort_unstable_by_key(|(part, number, _)| (*part, *number));
        let things = noted.partition_point(|(part, ..)| *part == Part::Removals);
        let mut noted = noted.into_iter().map(|(.., op)| op.into_owned());
        removals.extend(noted.by_ref().take(things));
        removals.sort_unstable_by(|a, b| a.interface().cmp(&b.interface()));
        let renames = in_order(renames);
        removals.into_iter().chain(renames).chain(noted).collect()
    }

    /// The operation that made an interface, if it was no init step.
    pub(crate) fn made(&self, interface: &str) -> Option<&Op> {
        let noted = self.entries.get(&Key::Interface(interface.into()))?;
        Some(&noted.op)
    }
}

/// Operations that rename all of them, each when its new name is free: `(old, new)`.
fn in_order(mut renames: Vec<(&str, &str)>) -> Vec<Op> {
    renames.sort_unstable();
    let mut pending: BTreeMap<&str, &str> = renames.iter().copied().collect();
    let mut ops = Vec::new();
    let rename = |interface: &str, name: &str| {
        Op::Interface(
            interface.to_owned(),
            IfOp::RenameInterface {
                name: name.to_owned(),
            },
        )
    };
    for (first, _) in renames {
        // The way to a name that is free, or round to where it began.
        let mut way = Vec::new();
        let mut at = first;
        while let Some(name) = pending.remove(at) {
            way.push((at, name));
            at = name;
        }
        let aside = format!(".{}", ops.len());
        let is_circle = at == first && !way.is_empty();
        if is_circle {
            ops.push(rename(first, &aside));
        }
        for (interface, name) in way.iter().rev() {
            let from = match is_circle && *interface == first {
                true => &aside,
                false => *interface,
            };
            ops.push(rename(from, name));
        }
    }
    ops
}

/// What an operation is about, and whether it makes that.
fn effect(op: &Op) -> Effect {
    use Effect::{Makes, Unmakes};
    match op {
        Op::Interface(interface, op) => of_interface(interface.as_str().into(), op),
        Op::Bridge(bridge, op) => of_bridge(bridge.as_str().into(), op),
        Op::Route(RouteOp::AddRoute { dst, metric, .. }) => Makes(Key::Route(dst.trunc(), *metric)),
        Op::Route(RouteOp::RemoveRoute { dst, metric }) => {
            Unmakes(Key::Route(dst.trunc(), *metric))
        }
        Op::Vnet(VnetOp::SetForwarding { .. }) => Makes(Key::Forwarding),
        Op::Vnet(VnetOp::SetSysctl { name, .. }) => Makes(Key::Sysctl(name.as_str().into())),
        Op::Vnet(VnetOp::SetAddressPolicy { .. }) => Makes(Key::AddressPolicy),
        Op::Vnet(VnetOp::SetLimit { resource, .. }) => Makes(Key::Limit(*resource)),
        Op::Vnet(VnetOp::SetPrivileges { .. }) => Makes(Key::Privileges),
    }
}

fn of_interface(interface: Box<str>, op: &IfOp) -> Effect {
    use Effect::{Makes, Unmakes};
    match op {
        IfOp::Epair { .. }
        | IfOp::Port { .. }
        | IfOp::Bridge {}
        | IfOp::Vlan { .. }
        | IfOp::Lagg { .. } => Makes(Key::Interface(interface)),
        // Renaming leaves no entry of its own.
        IfOp::RemoveInterface {} | IfOp::RenameInterface { .. } => {
            Unmakes(Key::Interface(interface))
        }
        IfOp::SetMac { .. }
        | IfOp::SetVlan { .. }
        | IfOp::SetVlanClasses { .. }
        | IfOp::SetRouter { .. }
        | IfOp::SetLagg { .. }
        | IfOp::SetIpMtu { .. }
        | IfOp::SetUp { .. }
        | IfOp::SetOffload { .. }
        | IfOp::SetLink { .. } => Makes(Key::Setting(interface, op.name())),
        IfOp::AddAddress { address, .. } => Makes(Key::Address(interface, address.addr())),
        IfOp::AddAnycast { address } => Makes(Key::Address(interface, (*address).into())),
        IfOp::RemoveAddress { address } => Unmakes(Key::Address(interface, *address)),
        IfOp::AddNeighbour { address, .. } => Makes(Key::Neighbour(interface, *address)),
        IfOp::RemoveNeighbour { address } => Unmakes(Key::Neighbour(interface, *address)),
    }
}

fn of_bridge(bridge: Box<str>, op: &BridgeOp) -> Effect {
    use Effect::{Makes, Unmakes};
    match op {
        BridgeOp::SetBridge { .. } => Makes(Key::Setting(bridge, op.name())),
        BridgeOp::AddMember { member } => Makes(Key::Member(bridge, member.as_str().into())),
        BridgeOp::RemoveMember { member } => Unmakes(Key::Member(bridge, member.as_str().into())),
        BridgeOp::SetMember { member, .. } => {
            Makes(Key::MemberSetting(bridge, member.as_str().into()))
        }
        BridgeOp::AddStation { mac, vid, .. } => Makes(Key::Station(bridge, *mac, *vid)),
        BridgeOp::RemoveStation { mac, vid } => Unmakes(Key::Station(bridge, *mac, *vid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::fib::RouteKind;
    use crate::netif::AdminState;

    fn port(name: &str) -> Op {
        Op::Interface(name.into(), IfOp::Port { mac: None })
    }

    fn remove(name: &str) -> Op {
        Op::Interface(name.into(), IfOp::RemoveInterface {})
    }

    fn mtu(name: &str, ip_mtu: u16) -> Op {
        Op::Interface(name.into(), IfOp::SetIpMtu { ip_mtu })
    }

    fn address(name: &str, net: &str) -> Op {
        Op::Interface(
            name.into(),
            IfOp::AddAddress {
                address: net.parse().expect("a prefix"),
                metric: 0,
            },
        )
    }

    fn route(dst: &str, name: &str) -> Op {
        Op::Route(RouteOp::AddRoute {
            dst: dst.parse().expect("a prefix"),
            gateway: None,
            interface: Some(name.into()),
            kind: RouteKind::Unicast,
            metric: 0,
        })
    }

    fn after(ops: &[Op]) -> Vec<Op> {
        let mut journal = Journal::default();
        for op in ops {
            journal.note(op.clone());
        }
        journal.ops(|_| false)
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
        let undo = Op::Interface(
            "lo0".into(),
            IfOp::RemoveAddress {
                address: std::net::Ipv4Addr::LOCALHOST.into(),
            },
        );
        let back = [undo.clone(), address("lo0", "127.0.0.1/8")];
        assert_eq!(after(&back), back);
        let gone = [&back[..], std::slice::from_ref(&undo)].concat();
        assert_eq!(after(&gone), [undo]);
    }

    fn renamed(from: &str, to: &str) -> Op {
        Op::Interface(from.into(), IfOp::RenameInterface { name: to.into() })
    }

    #[test]
    fn what_is_renamed_had_its_name_from_the_beginning() {
        let ops = [
            port("a"),
            mtu("a", 1000),
            route("203.0.113.0/24", "a"),
            renamed("a", "b"),
            port("a"),
        ];
        let expected = [
            port("b"),
            mtu("b", 1000),
            route("203.0.113.0/24", "b"),
            port("a"),
        ];
        assert_eq!(after(&ops), expected);
        assert!(after(&[&ops[..], &[remove("a"), remove("b")]].concat()).is_empty());
    }

    #[test]
    fn what_a_step_made_is_renamed_before_anything_else_is_done() {
        let ops = [mtu("s", 1000), renamed("s", "t"), port("s"), mtu("s", 1)];
        let expected = [renamed("s", "t"), mtu("t", 1000), port("s"), mtu("s", 1)];
        assert_eq!(after(&ops), expected);
        // And removed under the step's name, before that is given to another one.
        let gone = [&ops[..], &[remove("t")]].concat();
        assert_eq!(after(&gone), [remove("s"), port("s"), mtu("s", 1)]);
        let back = [&ops[..2], &[renamed("t", "u"), renamed("u", "s")]].concat();
        assert_eq!(after(&back), [mtu("s", 1000)]);
    }

    #[test]
    fn names_are_given_when_they_are_free() {
        // A chain, and a circle by way of a third name.
        let ops = [renamed("b", "c"), renamed("a", "b")];
        assert_eq!(after(&ops), ops);
        let ops = [
            renamed("a", "x"),
            renamed("b", "a"),
            renamed("x", "b"),
            mtu("a", 1),
        ];
        let expected = [
            renamed("a", ".0"),
            renamed("b", "a"),
            renamed(".0", "b"),
            mtu("a", 1),
        ];
        assert_eq!(after(&ops), expected);
        assert_eq!(after(&expected), expected, "the same from its record");
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
        let up = Op::Interface(
            "a".into(),
            IfOp::SetUp {
                state: AdminState::Down,
            },
        );
        let ops = [port("a"), up, address("a", "192.0.2.1/24"), remove("a")];
        assert!(after(&ops).is_empty());
    }
}
