//! The spanning tree of one bridge: its engine, and which member is which of its ports.

use super::stp::config::{RstpConfig, RstpPort};
use super::stp::engine::Rstp;
use super::stp::vector::{BridgeIdentifier, PortNumber};
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::packet::MacAddr;

/// A bridge's part in a spanning tree.
pub(crate) struct Tree {
    /// What decides.
    pub(crate) engine: Rstp,
    /// The members by the numbers of their ports.
    ports: Vec<(PortNumber, IfId)>,
    /// When it is looked at next.
    pub(super) armed: Armed,
    /// It is in the list of those that may have something to send.
    pub(super) is_listed: bool,
}

impl Tree {
    /// One without ports, of a bridge with that address.
    pub(super) fn new(mac: MacAddr, config: RstpConfig) -> Tree {
        Tree {
            engine: Rstp::new(identifier(mac, &config), config),
            ports: Vec::new(),
            armed: Armed::default(),
            is_listed: false,
        }
    }

    /// Makes a member a port, with the least number that is free. There is one: the number of
    /// members is limited.
    pub(super) fn add(&mut self, ifid: IfId, config: RstpPort, cost: u32) -> Option<PortNumber> {
        let is_used = |&(n, (number, _)): &(u16, &(PortNumber, IfId))| {
            PortNumber::new(n).is_some_and(|n| n == *number)
        };
        let used = (1..).zip(&self.ports).take_while(is_used).count();
        let number = PortNumber::new(u16::try_from(used + 1).ok()?)?;
        self.ports.insert(used, (number, ifid));
        self.engine.add_port(number, config, cost);
        Some(number)
    }

    /// The member that is a port.
    pub(crate) fn member(&self, number: PortNumber) -> Option<IfId> {
        let at = self.ports.binary_search_by_key(&number, |(n, _)| *n);
        Some(self.ports[at.ok()?].1)
    }

    /// The ports and their members, in the order of their numbers.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (PortNumber, IfId)> {
        self.ports.iter().copied()
    }

    /// Forgets a port.
    pub(super) fn remove(&mut self, number: PortNumber) {
        self.ports.retain(|(n, _)| *n != number);
    }
}

/// Who a bridge with that address is.
pub(super) fn identifier(mac: MacAddr, config: &RstpConfig) -> BridgeIdentifier {
    BridgeIdentifier {
        priority: config.priority,
        mac,
    }
}
