//! The journal and interfaces that are lent.
//!
//! What an interface loses when it leaves home is struck out of its home's journal. How it was
//! made and what was set on it is put aside, and stays in the record, so that a twin of the home
//! has it at home. When it comes home the entries return, under the name that it has then, with
//! what was set while it was away.

use super::Op;
use super::journal::{Journal, Key, Noted};
use crate::base::id::IfId;
use crate::instance::bridges;
use crate::instance::routes;
use crate::ip::fib::Origin;
use crate::netif::Netif;
use crate::stack::Stack;

/// What is noted of an interface that is lent.
#[derive(Debug)]
pub(super) struct Away {
    /// Of the loan.
    serial: u64,
    /// Its name at home.
    pub(super) name: Box<str>,
    /// How it was set when it left.
    settings: Vec<Op>,
    pub(super) entries: Vec<(Key, Noted)>,
}

impl Away {
    /// Whether an interface was made here by an operation, and not by an init step.
    fn was_made(&self) -> bool {
        let made = |(key, _): &(Key, Noted)| matches!(key, Key::Interface(_));
        self.entries.iter().any(made)
    }
}

/// The operations that set what is an interface's own, under its name in its present vnet.
pub(crate) fn settings(netif: &Netif) -> Vec<Op> {
    let interface = || netif.name.to_string();
    let mut settings = vec![
        Op::SetMac {
            interface: interface(),
            mac: netif.mac,
        },
        Op::SetIpMtu {
            interface: interface(),
            ip_mtu: netif.ip_mtu,
        },
        Op::SetUp {
            interface: interface(),
            state: netif.admin,
        },
        Op::SetOffload {
            interface: interface(),
            offload: netif.offload,
        },
    ];
    if let Some(link) = &netif.link {
        settings.push(Op::SetLink {
            interface: interface(),
            link: Box::new(link.config().clone()),
        });
    }
    settings
}

/// The operations that would take from an interface what it loses when it leaves its home.
pub(crate) fn left_behind(stack: &Stack, id: IfId) -> Vec<Op> {
    let Some(netif) = stack.ifs.get(id) else {
        return Vec::new();
    };
    let interface = netif.name.to_string();
    let by_it = |r: &routes::RouteInfo| r.origin == Origin::Static && r.interface == interface;
    let routes = routes::list(stack).into_iter().filter(by_it);
    let routes = routes.map(|r| Op::RemoveRoute { dst: r.dst });
    let addresses = stack.ip.addrs.on_interface(id).map(|a| Op::RemoveAddress {
        interface: interface.clone(),
        address: a.addr(),
    });
    let membership = bridges::bridge_of(stack, netif).map(|bridge| Op::RemoveMember {
        interface: bridge,
        member: interface.clone(),
    });
    routes.chain(addresses).chain(membership).collect()
}

impl Journal {
    /// Notes that an interface leaves its home: what it leaves behind, and how it is set.
    pub(crate) fn leaves(
        &mut self,
        serial: u64,
        name: &str,
        left_behind: Vec<Op>,
        settings: Vec<Op>,
    ) {
        left_behind.into_iter().for_each(|op| self.note(op));
        let entries = self.put_aside(name);
        self.away.push(Away {
            serial,
            name: name.into(),
            settings: settings.into_iter().map(|op| op.renamed("")).collect(),
            entries,
        });
    }

    /// Notes that it is at home again, as `name`.
    pub(crate) fn returns(&mut self, serial: u64, name: &str, settings: Vec<Op>) {
        let Some(at) = self.away.iter().position(|a| a.serial == serial) else {
            return;
        };
        let away = self.away.remove(at);
        for (key, mut noted) in away.entries {
            noted.op = Box::new(noted.op.renamed(name));
            self.take_back(key.renamed(name), noted);
        }
        for op in settings {
            if !away.settings.contains(&op.clone().renamed("")) {
                self.note(op.renamed(name));
            }
        }
    }

    /// What is noted of interfaces that are lent. One whose name has been given to another one
    /// meanwhile is left out: two of one name cannot be made.
    pub(super) fn noted_away(&self) -> impl Iterator<Item = &(Key, Noted)> {
        let has_name = |a: &&Away| !(a.was_made() && self.made(&a.name).is_some());
        self.away.iter().filter(has_name).flat_map(|a| &a.entries)
    }
}
