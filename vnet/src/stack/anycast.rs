//! Anycast addresses of IPv6 (RFC 4291 section 2.6): addresses that several stations on a link have.
//!
//! They are told apart from other addresses in [`addr`](crate::ip::addr): nothing is sent from them, no socket is bound to
//! them, nobody is asked whether others have them, and no conflict is seen where others do.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::Stack;
use super::limits::Resource;
use crate::base::id::IfId;
use crate::ip::addr::Kind;
use crate::ip::family::{Family, V6};
use crate::ip::state::Forwarding;
use crate::ip::v6;
use crate::netif::AdminError;
use crate::packet::header::zone;

/// The subnet-router anycast address of the prefix of an address (section 2.6.1), where there is one: RFC 6164 section
/// 5.1, not on links between two routers.
fn of_subnet(net: Ipv6Net) -> Option<Ipv6Addr> {
    let has_one = V6::kind(net.addr()) == Kind::Unicast && net.prefix_len() < V6::BITS - 1;
    has_one.then(|| net.network())
}

impl Stack {
    /// An interface has an address with this prefix: a router has that of the subnet as well.
    pub(super) fn joins_subnet(&mut self, ifid: IfId, net: IpNet) {
        let routes = self.ip.v6().tunables.forwarding == Forwarding::Enabled;
        let IpNet::V6(net) = net else { return };
        let is_wire = self.ifs.get(ifid).is_some_and(|i| i.can().needs_neighbours);
        if let (true, true, Some(addr)) = (routes, is_wire, of_subnet(net)) {
            self.put_anycast(ifid, addr);
        }
    }

    /// An interface has an address less.
    pub(super) fn leaves_subnet(&mut self, ifid: IfId, net: IpNet) {
        let IpNet::V6(net) = net else { return };
        let addrs = &self.ip.v6().addrs;
        let stays = |addr| {
            self.ip.anycast.given.contains(&(ifid, addr))
                || addrs
                    .on_interface(ifid)
                    .any(|a| a.net.trunc() == net.trunc())
        };
        if let Some(addr) = of_subnet(net).filter(|addr| addrs.is_anycast_on(ifid, *addr))
            && !stays(addr)
        {
            self.take_anycast(ifid, addr);
        }
    }

    /// Gives an interface an anycast address. What this vnet itself sends there comes to it: it is the nearest that has
    /// the address.
    ///
    /// # Errors
    /// A member of a bridge or a lagg; an address that no host can have, or one that the vnet has by itself or that the
    /// interface has; a full table of routes.
    pub(crate) fn add_anycast(&mut self, ifid: IfId, addr: Ipv6Addr) -> Result<(), AdminError> {
        self.refuse_member(ifid)?;
        let bad = AdminError::BadAddress(IpAddr::from(addr).into());
        let is_host = matches!(V6::kind(addr), Kind::Unicast | Kind::LinkLocal);
        if !is_host || zone::split(addr).1 != 0 {
            return Err(bad);
        }
        let IpAddr::V6(inside) = self.addr_on_link(ifid, addr.into()) else {
            return Err(bad);
        };
        if self.ip.contains(inside.into())
            || self.ip.dad.holds(inside.into())
            || self.ip.anycast.given.contains(&(ifid, inside))
        {
            return Err(AdminError::AddressInUse(addr.into()));
        }
        if let Some(loopback) = self.loopback()
            && self.add_host_route(inside.into(), loopback).is_err()
        {
            return Err(AdminError::Limit(Resource::Routes.as_str()));
        }
        self.ip.anycast.given.insert((ifid, inside));
        self.put_anycast(ifid, inside);
        self.keep_own_addresses(ifid);
        self.configured();
        Ok(())
    }

    /// Takes an anycast address that it was given from an interface. False when it was not.
    pub(super) fn remove_anycast(&mut self, ifid: IfId, addr: Ipv6Addr) -> bool {
        let was_given = self.ungive_anycast(ifid, addr);
        if was_given {
            // It may be that of a subnet as well.
            let routes = self.ip.v6().tunables.forwarding == Forwarding::Enabled;
            let is_of_subnet = |net| of_subnet(net) == Some(addr);
            let addrs = &self.ip.v6().addrs;
            if !routes || !addrs.on_interface(ifid).any(|a| is_of_subnet(a.net)) {
                self.take_anycast(ifid, addr);
            }
            self.keep_own_addresses(ifid);
            self.configured();
        }
        was_given
    }

    fn ungive_anycast(&mut self, ifid: IfId, addr: Ipv6Addr) -> bool {
        let anycast = self.ip.anycast.made();
        let was_given = anycast.is_some_and(|a| a.given.remove(&(ifid, addr)));
        if was_given && !self.ip.anycast.is_given(addr) {
            self.remove_host_route(addr.into());
        }
        was_given
    }

    /// This is a router now.
    pub(super) fn joins_subnets(&mut self) {
        for ifid in self.ifs.ids() {
            let nets = self.ip.v6().addrs.on_interface(ifid).map(|a| a.net);
            for net in nets.collect::<Vec<_>>() {
                self.joins_subnet(ifid, net.into());
            }
        }
    }

    /// This is a router no more.
    pub(super) fn leaves_subnets(&mut self, ifid: IfId) {
        for addr in self.ip.v6().addrs.anycast_on(ifid).collect::<Vec<_>>() {
            if !self.ip.anycast.given.contains(&(ifid, addr)) {
                self.take_anycast(ifid, addr);
            }
        }
    }

    /// An interface goes away.
    pub(super) fn forget_anycast(&mut self, ifid: IfId) {
        for addr in self.ip.v6().addrs.anycast_on(ifid).collect::<Vec<_>>() {
            self.ungive_anycast(ifid, addr);
            self.take_anycast(ifid, addr);
        }
    }

    fn put_anycast(&mut self, ifid: IfId, addr: Ipv6Addr) {
        if self.ip.v6_mut().addrs.add_anycast(ifid, addr) {
            self.ip.v6_mut().groups.join(v6::solicited_node(addr), ifid);
            self.ip.note_deadlines();
        }
    }

    fn take_anycast(&mut self, ifid: IfId, addr: Ipv6Addr) {
        if self.ip.v6_mut().addrs.remove_anycast(ifid, addr) {
            self.ip
                .v6_mut()
                .groups
                .leave(v6::solicited_node(addr), ifid);
            self.ip.anycast.forget(ifid, addr);
            self.ip.note_deadlines();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::stats::DropReason;
    use crate::base::time::{Duration, Instant};
    use crate::instance::{OwnedVnet, System};
    use crate::net::{EchoEvent, EchoSocket, RawSocket, UdpSocket};
    use std::io::ErrorKind;

    const SUBNET: &str = "2001:db8:1::";

    /// A host and two routers on one link, 2001:db8:1::/64.
    fn link(system: &System) -> [OwnedVnet; 4] {
        let all = ["host", "first", "second", "switch"].map(|name| system.create(name));
        let all = all.map(|made| made.expect("a free name"));
        let [host, first, second, switch] = &all;
        switch.bridge("bridge0").expect("a free name");
        for (n, station) in [host, first, second].into_iter().enumerate() {
            let port = format!("p{n}");
            station.epair("eth0", switch, &port).expect("a free name");
            switch.add_member("bridge0", &port).expect("it is there");
            let net = format!("{SUBNET}{}/64", n + 1);
            let net = net.parse().expect("a prefix");
            station.add_address("eth0", net).expect("it is new");
        }
        for router in [first, second] {
            let routes = router.set_forwarding(Forwarding::Enabled);
            routes.expect("it may");
        }
        all
    }

    fn anycast(vnet: &OwnedVnet) -> Vec<String> {
        let all = vnet.core.with(|stack, _| {
            let on = |ifid| stack.ip.v6().addrs.anycast_on(ifid).collect::<Vec<_>>();
            let all: Vec<_> = stack.ifs.ids().into_iter().flat_map(on).collect();
            all.iter().map(ToString::to_string).collect()
        });
        all.expect("alive")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn ping(from: &OwnedVnet, to: &str) -> Option<(EchoEvent, Instant)> {
        let socket = EchoSocket::bind_in(from).expect("room for one");
        let patience = Some(Duration::from_secs(9));
        socket.set_read_timeout(patience).expect("a time");
        socket.send_to(1, b"data", ip(to)).ok()?;
        socket.recv().ok()
    }

    #[test]
    fn routers_have_the_address_of_each_subnet_and_hosts_do_not() {
        let system = System::virtual_time(1);
        let [host, first, _second, _switch] = &link(&system);
        let net = |text: &str| text.parse().expect("a prefix");
        assert!(anycast(host).is_empty());
        assert_eq!(anycast(first), [SUBNET]);
        for text in ["2001:db8:1::8/64", "2001:db8:2::1/64", "2001:db8:3::1/127"] {
            first.add_address("eth0", net(text)).expect("it is new");
        }
        first
            .add_address("lo0", net("2001:db8:4::1/64"))
            .expect("it is new");
        assert_eq!(anycast(first), [SUBNET, "2001:db8:2::"]);
        for (gone, left) in [("::8", 2), ("::1", 2), ("::2", 1)] {
            let gone = match gone {
                "::1" => ip("2001:db8:4::1"),
                _ => ip(&format!("2001:db8:1{gone}")),
            };
            let on = if left == 2 && gone == ip("2001:db8:4::1") {
                "lo0"
            } else {
                "eth0"
            };
            first.remove_address(on, gone).expect("it is there");
            assert_eq!(anycast(first).len(), left, "{gone}");
        }
        let set = |forwarding| first.set_forwarding(forwarding).expect("it may");
        set(Forwarding::Disabled);
        assert!(anycast(first).is_empty());
        set(Forwarding::Enabled);
        assert_eq!(anycast(first), ["2001:db8:2::"]);
        first.remove_interface("eth0").expect("it is there");
        assert!(anycast(first).is_empty());
    }

    const SERVICE: &str = "2001:db8:1::53";

    fn service(vnet: &OwnedVnet) -> Result<(), AdminError> {
        vnet.add_anycast("eth0", SERVICE.parse().expect("an address"))
    }

    fn configured(vnet: &OwnedVnet) -> Vec<String> {
        let all = vnet.inspect().expect("alive").interfaces;
        let all = all.iter().flat_map(|i| &i.anycast);
        all.map(ToString::to_string).collect()
    }

    #[test]
    fn several_stations_are_given_an_address_and_one_that_has_it_answers() {
        let system = System::virtual_time(1);
        let all = link(&system);
        let [host, first, second, _switch] = &all;
        system.sleep(Duration::from_secs(3)).expect("it may wait");
        let sent = |vnet: &OwnedVnet| {
            let interfaces = vnet.interfaces().expect("alive");
            interfaces.iter().map(|i| i.counters.tx_frames).sum::<u64>()
        };
        let before = [first, second].map(sent);
        for vnet in [first, second] {
            vnet.set_forwarding(Forwarding::Disabled).expect("it may");
            service(vnet).expect("it is new");
        }
        system.sleep(Duration::from_secs(3)).expect("it may wait");
        // Nobody is asked whether others have it, and it is not announced.
        assert_eq!([first, second].map(sent), before);
        let heard = RawSocket::open_in(host, 58).expect("room for one");
        let patience = Some(Duration::from_secs(3));
        heard.set_read_timeout(patience).expect("a time");
        let asked = system.now();
        let (reply, at) = ping(host, SERVICE).expect("an answer");
        let EchoEvent::Reply { from, .. } = reply else {
            panic!("{reply:?}");
        };
        assert!([ip("2001:db8:1::2"), ip("2001:db8:1::3")].contains(&from));
        assert!(at > asked && at <= asked + Duration::from_secs(1));
        let (mut answers, mut bytes) = (0, [0; 256]);
        while let Ok((len, meta)) = heard.recv_from(&mut bytes) {
            let target = SERVICE.parse::<Ipv6Addr>().expect("an address");
            assert_ne!(meta.src, ip(SERVICE));
            if bytes[0] == 136 && bytes[8..24] == target.octets() && len > 24 {
                assert_eq!(bytes[4], 0x40, "solicited, and not override");
                answers += 1;
            }
        }
        assert_eq!(answers, 2, "each answers once");
        // Who has it is the nearest that has it.
        let near = ping(first, SERVICE).expect("an answer");
        assert!(matches!(near.0, EchoEvent::Reply { from, .. } if from == ip("2001:db8:1::2")));
        for vnet in [first, second] {
            let conflicts = vnet.core.with(|stack, _| stack.neigh.stats().conflicts);
            assert_eq!(conflicts, Ok(0));
            let bound = UdpSocket::bind_in(vnet, (SERVICE, 9)).map(drop);
            let bound = bound.map_err(|error| error.kind());
            assert_eq!(bound, Err(ErrorKind::AddrNotAvailable));
        }
        first
            .remove_address("eth0", ip(SERVICE))
            .expect("it is there");
        second.remove_interface("eth0").expect("it is there");
        assert!(configured(first).is_empty() && configured(second).is_empty());
        assert!(ping(host, SERVICE).is_none());
        for vnet in all {
            let routes = vnet.routes().expect("alive");
            assert!(routes.iter().all(|r| r.dst.addr() != ip(SERVICE)));
            assert!(vnet.destroy().leaked.is_zero());
        }
    }

    #[test]
    fn an_anycast_address_is_given_once_and_to_whom_it_can_belong() {
        let system = System::virtual_time(1);
        let all = link(&system);
        let [host, first, _second, switch] = &all;
        let give = |vnet: &OwnedVnet, on: &str, text: &str| {
            vnet.add_anycast(on, text.parse().expect("an address"))
        };
        assert_eq!(give(host, "eth0", SERVICE), Ok(()));
        let taken = Err(AdminError::AddressInUse(ip(SERVICE)));
        assert_eq!(give(host, "eth0", SERVICE), taken);
        assert_eq!(
            host.add_address("eth0", "2001:db8:1::53/64".parse().expect("a prefix")),
            taken
        );
        let own = "2001:db8:1::1";
        assert_eq!(
            give(host, "eth0", own),
            Err(AdminError::AddressInUse(ip(own)))
        );
        for wrong in ["::", "::1", "ff02::1", "fe80:1::5", "::ffff:192.0.2.1"] {
            let net = ip(wrong).into();
            assert_eq!(
                give(host, "eth0", wrong),
                Err(AdminError::BadAddress(net)),
                "{wrong}"
            );
        }
        let missing = give(host, "eth9", SERVICE);
        assert!(
            matches!(missing, Err(AdminError::NotFound(_))),
            "{missing:?}"
        );
        let member = give(switch, "p0", SERVICE);
        assert!(
            matches!(member, Err(AdminError::BridgeMember(_))),
            "{member:?}"
        );
        // Each link has its own, and a vnet may have one on several.
        assert_eq!(give(host, "lo0", SERVICE), Ok(()));
        assert_eq!(give(host, "eth0", "fe80::53"), Ok(()));
        assert_eq!(configured(host), [SERVICE, "2001:db8:1::53", "fe80::53"]);
        let has_route = |vnet: &OwnedVnet| {
            let routes = vnet.routes().expect("alive");
            routes.iter().any(|r| r.dst.addr() == ip(SERVICE))
        };
        host.remove_address("lo0", ip(SERVICE))
            .expect("it is there");
        assert!(has_route(host));
        host.remove_address("eth0", ip(SERVICE))
            .expect("it is there");
        assert!(!has_route(host));
        assert_eq!(
            host.remove_address("eth0", ip(SERVICE)),
            Err(AdminError::NoSuchAddress(ip(SERVICE)))
        );
        // That of a subnet stays when it is given to a router and taken away, or the router becomes a host.
        assert_eq!(give(first, "eth0", SUBNET), Ok(()));
        first
            .remove_address("eth0", ip(SUBNET))
            .expect("it is there");
        assert_eq!(anycast(first), [SUBNET]);
        assert_eq!(give(first, "eth0", SUBNET), Ok(()));
        first.set_forwarding(Forwarding::Disabled).expect("it may");
        assert_eq!(anycast(first), [SUBNET]);
        first
            .remove_address("eth0", ip(SUBNET))
            .expect("it is there");
        assert!(anycast(first).is_empty());
        // An interface that has no other speaks IPv6 by its link-local address.
        switch.port("port", None).expect("a free name");
        assert_eq!(give(switch, "port", SERVICE), Ok(()));
        let port = switch.interfaces().expect("alive");
        let port = port.iter().find(|i| i.name == "port").expect("it is there");
        assert!(
            matches!(&port.addresses[..], [IpNet::V6(own)] if own.addr().is_unicast_link_local())
        );
        // It is configuration.
        let record = switch
            .record()
            .expect("alive")
            .to_toml()
            .expect("it can be written");
        assert!(record.contains("add_anycast"), "{record}");
        for vnet in [host, switch] {
            let twin = vnet
                .clone_as(&format!("{}-twin", vnet.name()))
                .expect("possible");
            let [twin, vnet] = [&twin, vnet].map(|v| v.inspect().expect("alive").normalised());
            assert_eq!(twin, vnet);
        }
        let seen = switch.inspect().expect("alive").to_string();
        assert!(seen.contains("inet6 2001:db8:1::53 anycast"), "{seen}");
    }

    #[test]
    fn whoever_answers_first_is_taken_and_nothing_is_sent_from_such_an_address() {
        let system = System::virtual_time(1);
        let all = link(&system);
        let [host, first, second, _switch] = &all;
        // The questions whether others have the addresses of the host are over.
        system.sleep(Duration::from_secs(3)).expect("it may wait");
        let heard = RawSocket::open_in(host, 58).expect("room for one");
        let patience = Some(Duration::from_secs(3));
        heard.set_read_timeout(patience).expect("a time");
        let asked = system.now();
        let (reply, at) = ping(host, SUBNET).expect("an answer");
        let by = match reply {
            EchoEvent::Reply { from, .. } => from,
            other => panic!("{other:?}"),
        };
        assert!([ip("2001:db8:1::2"), ip("2001:db8:1::3")].contains(&by));
        assert!(at > asked && at <= asked + Duration::from_secs(1));
        // Both answered, one later than the other, and neither says that it alone has the address.
        let mut answers = 0;
        let mut bytes = [0; 256];
        while let Ok((len, meta)) = heard.recv_from(&mut bytes) {
            let message = &bytes[..len];
            let target = match ip(SUBNET) {
                IpAddr::V6(addr) => addr.octets(),
                IpAddr::V4(_) => unreachable!("it is none"),
            };
            assert_ne!(meta.src, ip(SUBNET));
            if message[0] == 136 && message[8..24] == target {
                assert!(meta.src.to_string().starts_with("fe80::"), "{}", meta.src);
                assert_eq!(message[4], 0xc0, "router and solicited, and not override");
                answers += 1;
            }
        }
        assert_eq!(answers, 2);
        // Datagrams come to sockets that are bound to all addresses; to this one none is bound.
        let refused = UdpSocket::bind_in(first, (SUBNET, 9)).map(drop);
        let refused = refused.map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::AddrNotAvailable));
        let there = [first, second].map(|vnet| UdpSocket::bind_in(vnet, "[::]:9"));
        let there = there.map(|socket| socket.expect("a free port"));
        let here = UdpSocket::bind_in(host, "[::]:0").expect("a free port");
        here.send_to(b"x", (SUBNET, 9)).expect("there is a way");
        system.sleep(Duration::from_secs(1)).expect("it may wait");
        let came = there.iter().filter(|socket| {
            socket.set_nonblocking(true).expect("it may");
            socket.recv_from(&mut bytes).is_ok()
        });
        assert_eq!(came.count(), 1);
        // Who has no socket for it says so, from an address of its own.
        let here = UdpSocket::bind_in(host, "[::]:0").expect("a free port");
        here.connect((SUBNET, 77)).expect("there is a way");
        here.send(b"x").expect("there is a way");
        here.set_read_timeout(patience).expect("a time");
        let refused = here.recv(&mut [0]).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        for router in [first, second] {
            let conflicts = router.core.with(|stack, _| stack.neigh.stats().conflicts);
            assert_eq!(conflicts, Ok(0));
            router.set_forwarding(Forwarding::Disabled).expect("it may");
        }
        assert!(ping(host, SUBNET).is_none());
        let ignored = [first, second].map(|vnet| {
            let stats = vnet.stats().expect("alive");
            stats.rx_drops(DropReason::NotForwarding)
        });
        // What was sent, and the questions whether the router is still there.
        assert_eq!(ignored.iter().sum::<u64>(), 1 + 3);
        for vnet in all {
            assert!(vnet.destroy().leaked.is_zero());
        }
    }
}
