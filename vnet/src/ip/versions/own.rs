//! Which addresses of IPv6 an interface was given, which it has by itself, and when something about them is due.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::Ip;
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::ip::family::{Family, V4, V6};
use crate::ip::v6::select::Source;

impl Ip {
    /// Takes the route to the prefix of an address away, when no other address of the interface lies in it: a prefix
    /// is on the link while somebody may have an address of it, used or not. Static routes stay.
    pub(crate) fn disconnect(&mut self, ifid: IfId, net: IpNet) {
        let prefix = net.trunc();
        let is_held = self.dad.held(ifid).any(|(net, _)| net.trunc() == prefix);
        if is_held {
            return;
        }
        match prefix {
            IpNet::V4(prefix) => self.v4.disconnect(ifid, prefix),
            IpNet::V6(prefix) => self.v6_mut().disconnect(ifid, prefix),
        }
    }

    /// The address of IPv6 that an interface has given itself.
    pub(crate) fn own_v6(&self, ifid: IfId) -> Option<Ipv6Addr> {
        self.own.get(&ifid).copied()
    }

    /// Notes that it has.
    pub(crate) fn set_own_v6(&mut self, ifid: IfId, addr: Option<Ipv6Addr>) {
        match addr {
            Some(addr) => self.own.insert(ifid, addr),
            None => drop(self.own.remove(&ifid)),
        }
    }

    /// True when any interface was given an address of IPv6.
    pub(crate) fn has_given_v6(&self) -> bool {
        // Those that follow from advertisements are none that were given.
        let derived = self.own.len() + self.autoconf.assigned.len();
        self.v6().addrs.len() + self.dad.held_v6_len() > derived || !self.anycast.given.is_empty()
    }

    /// The addresses of IPv6 that an interface was given.
    pub(crate) fn given_v6(&self, ifid: IfId) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.v6().addrs.on_interface(ifid).map(|a| a.addr());
        let all = all.chain(self.dad.held_v6(ifid).map(|net| net.addr()));
        let own = self.own_v6(ifid);
        let assigned = &self.autoconf.assigned;
        all.filter(move |addr| Some(*addr) != own && !assigned.contains(&(ifid, *addr)))
    }

    /// The addresses that an interface was given, and then the anycast addresses.
    pub(crate) fn given_on(&self, ifid: IfId) -> impl Iterator<Item = IpAddr> {
        let v6 = self.given_v6(ifid).chain(self.anycast.given_on(ifid));
        self.given_v4(ifid).chain(v6.map(IpAddr::from))
    }

    /// The addresses of IPv4 that an interface was given.
    pub(crate) fn given_v4(&self, ifid: IfId) -> impl Iterator<Item = IpAddr> {
        let used = self.v4.addrs.on_interface(ifid).map(|a| a.addr().into());
        let held = self.dad.held(ifid).map(|(net, _)| net.addr());
        let all = used.chain(held.filter(IpAddr::is_ipv4));
        let own = self.link_local.of(ifid).map(IpAddr::from);
        all.filter(move |addr| Some(*addr) != own)
    }

    /// What is known of an address of ours that is a source.
    pub(crate) fn source(&self, addr: IpAddr) -> Source {
        let (prefix_len, derived) = match addr {
            IpAddr::V4(addr) => {
                let own = self.v4.addrs.own(addr);
                (own.map_or(V4::BITS, |own| V4::prefix_len(own.net)), None)
            }
            IpAddr::V6(addr) => {
                let own = self.v6().addrs.own(addr);
                let derived = own.and_then(|own| self.autoconf.derived(own.ifid, addr));
                (own.map_or(V6::BITS, |own| V6::prefix_len(own.net)), derived)
            }
        };
        Source {
            addr,
            prefix_len,
            derived,
        }
    }

    /// To be called when deadlines have come or gone.
    pub(crate) fn note_deadlines(&mut self) {
        let slow = [
            self.dad.next_deadline(),
            self.autoconf.next_deadline(),
            self.anycast.next_deadline(),
            self.redirected.ends().min(),
            self.v6().groups.next_deadline(),
            self.v4.groups.next_deadline(),
        ];
        self.slow = slow.into_iter().flatten().min().unwrap_or(Instant::MAX);
        self.note_reassembly();
    }

    pub(super) fn note_reassembly(&mut self) {
        let due = [
            self.v4.reassembly.next_deadline(),
            self.v6().reassembly.next_deadline(),
        ];
        self.due = due.into_iter().flatten().fold(self.slow, Instant::min);
    }

    /// Addresses in doubt, what routers have said, and answers that wait: what ends in time.
    pub(crate) fn in_time(&self) -> usize {
        self.dad.len() + self.autoconf.len() + self.redirected.len() + self.anycast.len()
    }
}
