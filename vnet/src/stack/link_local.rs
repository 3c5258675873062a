//! Interfaces that give themselves an address of IPv4 (RFC 3927).

use std::net::{IpAddr, Ipv4Addr};

use super::Stack;
use crate::base::id::IfId;
use crate::base::switch::Switch;
use crate::netif::Netif;

/// How often another one is chosen at once where another interface of the vnet has one.
const MAX_TRIES: u32 = 10;

impl Stack {
    /// Has interfaces without an address of IPv4 give themselves one, or none.
    pub(crate) fn set_link_local(&mut self, used: Switch) {
        self.ip.link_local.used = used;
        self.ip.dad.asks_link_local = used;
        for ifid in self.ifs.ids() {
            self.keep_link_local(ifid);
        }
    }

    /// Sees to the address of IPv4 that an interface has by itself: RFC 3927 section 1.9, while it was given none.
    pub(crate) fn keep_link_local(&mut self, ifid: IfId) {
        if self.ip.link_local.is_idle() {
            return;
        }
        let is_wire = |i: &&Netif| i.can().needs_neighbours && i.member.is_none();
        let netif = self.ifs.get(ifid).filter(is_wire);
        let wants = self.ip.link_local.used.is_on() && self.ip.given_v4(ifid).next().is_none();
        let mac = netif.map(|i| i.mac).filter(|_| wants);
        match (self.ip.link_local.of(ifid), mac) {
            (None, Some(mac)) => {
                for _ in 0..MAX_TRIES {
                    let net = self.ip.link_local.choose(ifid, mac);
                    let is_held = self.ip.dad.holds(net.addr().into());
                    if !is_held && self.begin_address(ifid, net.into()).is_ok() {
                        break;
                    }
                    // Another interface of this vnet has it, which may have the same MAC address.
                    self.ip.link_local.conflict(ifid);
                }
            }
            (Some(addr), None) => {
                self.ip.link_local.forget(ifid);
                let ended = self.end_address(ifid, addr.into());
                debug_assert!(ended.is_ok(), "it has the address");
            }
            // The next time it begins anew.
            (None, None) => self.ip.link_local.forget(ifid),
            (Some(_), Some(_)) => {}
        }
    }

    /// Somebody else has an address: where it is one that an interface has by itself, another takes its place (RFC 3927
    /// sections 2.2.1 and 2.5).
    pub(super) fn leave_link_local(&mut self, ifid: IfId, addr: Ipv4Addr) {
        if self.ip.link_local.of(ifid) == Some(addr) {
            self.ip.link_local.conflict(ifid);
            let ended = self.end_address(ifid, IpAddr::V4(addr));
            debug_assert!(ended.is_ok(), "it has the address");
            self.keep_link_local(ifid);
        }
    }
}
