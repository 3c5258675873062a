//! Creating and changing interfaces and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::moves::leave_vnet;
use super::record::{IfOp, Op};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::instance::phase::{Entry, Gone};
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::link::{Link, LinkConfig};
use crate::netif::vlan::classes::ClassMaps;
use crate::netif::wire::{End, Loop, WireEnd};
use crate::netif::{
    AdminError, AdminState, IfCounters, IfKind, Kind, Netif, Offload, OffloadSetting, Plug, Wire,
};
use crate::packet::cx::Carrier;
use crate::packet::header::ipv4::MIN_IP_MTU;
use crate::packet::header::zone;
use crate::packet::tag::Tpid;
use crate::packet::{Cx, MacAddr};
use crate::stack::Stack;

/// The IP MTU of the loopback interface.
const LOOPBACK_IP_MTU: u16 = 65_535;

/// An interface, its addresses and its counters.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IfInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: IfKind,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IP packet it carries, in bytes.
    pub ip_mtu: u16,
    /// Whether the administrator has set it up or down.
    pub admin: AdminState,
    /// Whether something is connected at the other end.
    pub carrier: Carrier,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// The bridge or lagg that it is a member of.
    pub member_of: Option<String>,
    /// Its members, when it is a bridge or a lagg, in the order in which they joined.
    pub members: Vec<String>,
    /// Its parent and its tag, if it is a VLAN interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanInfo>,
    /// Counters of its frames and bytes.
    pub counters: IfCounters,
    /// The vnet that it belongs to, which is where it was made.
    pub home: String,
    /// The vnet that it is in, which is another one while it is lent.
    pub current: String,
}

/// The parent and the tag of a VLAN interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VlanInfo {
    /// The interface that it stands on, in its home.
    pub parent: String,
    /// The protocol of its tags.
    pub tpid: Tpid,
    /// The VLAN.
    pub vid: u16,
    /// Its own mapping between priorities and traffic classes, if it does not use the vnet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassMaps>,
}

impl From<Gone> for AdminError {
    fn from(_: Gone) -> AdminError {
        AdminError::Gone
    }
}

impl Vnet {
    /// Creates a pair of interfaces joined by a wire, one in this vnet and one in `peer` (which may
    /// be this one), both up, with an IP MTU of 1500.
    ///
    /// # Errors
    /// A name is invalid or taken, or a vnet is gone; nothing is created then.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn epair(&self, name: &str, peer: &Vnet, peer_name: &str) -> Result<(), AdminError> {
        if !Arc::ptr_eq(&self.core.system, &peer.core.system) {
            return Err(AdminError::OtherSystem);
        }
        let wire = Wire::new();
        let number = self.core.system.next_wire();
        let op = |interface: &str, peer: &Vnet, peer_interface: &str| {
            Op::Interface(
                interface.to_owned(),
                IfOp::Epair {
                    peer: peer.name().to_owned(),
                    peer_interface: peer_interface.to_owned(),
                    wire: Some(number),
                },
            )
        };
        let near = op(name, peer, peer_name);
        self.attach(name, Kind::Epair, None, &wire, End::A, near)?;
        let far = op(peer_name, self, name);
        if let Err(e) = peer.attach(peer_name, Kind::Epair, None, &wire, End::B, far) {
            // The near end alone is no pair.
            let _ = self.remove_interface(name);
            return Err(e);
        }
        self.core.with(|stack, cx| {
            let id = stack.ifs.id_of(name)?;
            // The peer may be down, or gone again, and may have said so before this.
            let news = wire.known(End::B);
            if let Some(netif) = stack.ifs.get_mut(id)
                && news.number >= netif.heard
            {
                netif.heard = news.number;
                stack.set_carrier(cx, id, news.carrier);
            }
            Ok(())
        })?
    }

    /// Adds an interface at one end of a wire.
    pub(crate) fn attach(
        &self,
        name: &str,
        kind: fn(Arc<WireEnd>) -> Kind,
        mac: Option<MacAddr>,
        wire: &Arc<Wire>,
        end: End,
        op: Op,
    ) -> Result<MacAddr, AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        if let Some(mac) = mac
            && !mac.is_station()
        {
            return Err(AdminError::BadMac(mac));
        }
        let by_hand = mac;
        let mac = mac.unwrap_or_else(|| self.core.system.next_mac());
        let inbox = Arc::clone(&self.core.inbox);
        self.configure(|stack, _| {
            stack.admit_interface(name)?;
            if let Some(mac) = by_hand {
                self.core.system.mac_by_hand(self.core.number, mac)?;
            }
            let id = stack.ifs.insert(name, |id| {
                let ifid = Some(id);
                let news = wire.plug(end, Plug { inbox, ifid });
                Netif {
                    carrier: news.carrier,
                    heard: news.number,
                    ..Netif::new(id, name, kind(wire.sender(end)), mac)
                }
            })?;
            stack.appeared(id);
            Ok::<_, AdminError>(op)
        })?;
        Ok(mac)
    }

    /// Removes an interface with its addresses, routes and neighbours, and the VLAN interfaces that
    /// stand on it, in whatever vnet they are. The other end of its wire sees the wire go down.
    ///
    /// # Errors
    /// There is no interface of that name, it is the loopback interface, which cannot be removed,
    /// or it is borrowed and can only be [returned](Vnet::return_interface).
    pub fn remove_interface(&self, name: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        let mut has_orphans = false;
        self.configure(|stack, cx| {
            let id = stack.ifs.id_of(name)?;
            super::moves::refuse_borrowed(stack, id)?;
            if let Some(netif) = stack.ifs.get(id) {
                netif.require(netif.can().removable, "cannot be removed")?;
            }
            // A twin has none on what is borrowed.
            let is_noted = !stack.ifs.is_on_borrowed(id);
            remove_interface(stack, cx, id);
            has_orphans = stack.ifs.has_orphans();
            let interface = name.to_owned();
            Ok::<_, AdminError>(
                is_noted.then_some(Op::Interface(interface, IfOp::RemoveInterface {})),
            )
        })?;
        if has_orphans {
            self.core.end_orphans();
            self.core.driver.dispatch();
        }
        Ok(())
    }

    /// Gives an interface another name. Nothing else changes, for it or for its peer. A borrowed
    /// interface gets its original name back when it returns home.
    ///
    /// # Errors
    /// There is no interface of that name, the new name is invalid or taken, or it is the loopback
    /// interface, which cannot be renamed.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// a.rename_interface("eth0", "lan0")?;
    /// assert_eq!(a.interfaces()?[1].name, "lan0");
    /// assert_eq!(a.routes()?[2].interface, "lan0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rename_interface(&self, name: &str, new_name: &str) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            let netif = stack.ifs.by_name(name)?;
            netif.require(netif.can().removable, "cannot be renamed")?;
            let id = netif.id;
            stack.ifs.check_name(new_name)?;
            stack.take_leave(cx, id);
            stack.ifs.rename(id, new_name)?;
            stack.tell_lldp(cx, id);
            Ok(Op::Interface(
                name.to_owned(),
                IfOp::RenameInterface {
                    name: new_name.to_owned(),
                },
            ))
        })
    }

    /// Sets an interface up or down. An interface that is down attracts no traffic: the routes
    /// through it stay, and others are used in their place until it is up again; where there is
    /// none, sending fails with "network unreachable", and a router says so by ICMP. Its addresses
    /// remain the vnet's, as on Linux: they can be reached through other interfaces, and by the
    /// vnet itself.
    ///
    /// Frames that its link holds are dropped and counted; those that its link has let pass are on the
    /// wire, even those waiting for the transmitter in a FIFO discipline: as on Linux, they arrive if
    /// the interface at the far end is up by then, and are dropped there, and counted, if it is not.
    ///
    /// A wire that goes down changes no routes, as on Linux: frames are lost until it is up again.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn set_up(&self, name: &str, state: AdminState) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            if state == AdminState::Down {
                let id = stack.ifs.id_of(name)?;
                stack.take_leave(cx, id);
                stack.routes_no_more(cx, id);
            }
            let netif = stack.ifs.by_name_mut(name)?;
            let id = netif.id;
            let before = std::mem::replace(&mut netif.admin, state);
            if state == AdminState::Down {
                netif.drop_held(cx, DropReason::InterfaceDown);
            }
            if let Some(end) = netif.kind.wire() {
                let carrier = match state {
                    AdminState::Up => Carrier::Up,
                    AdminState::Down => Carrier::Down,
                };
                cx.out.carrier.push((end.clone(), carrier));
            }
            match state {
                AdminState::Up => stack.ip.interface_up(id),
                AdminState::Down => stack.ip.interface_down(id),
            }
            if (before, state) == (AdminState::Down, AdminState::Up) {
                stack.detect_again(id);
            }
            stack.state_changed(cx, id);
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::SetUp { state }))
        })
    }

    /// Sets the largest IP packet an interface carries, in bytes. A VLAN interface carries no more than its parent does.
    /// A larger value that is set for it takes effect when its parent carries as much.
    ///
    /// # Errors
    /// No interface of that name, or an MTU below 68 (RFC 791). A member of a lagg has the MTU of that.
    pub fn set_ip_mtu(&self, name: &str, ip_mtu: u16) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if ip_mtu < MIN_IP_MTU {
            return Err(AdminError::BadMtu(ip_mtu));
        }
        self.configure(|stack, _| {
            let id = of_its_own(stack, name)?;
            stack.ifs.set_ip_mtu(id, ip_mtu);
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::SetIpMtu { ip_mtu }))
        })
    }

    /// Sets an interface's Ethernet address. No interface that is created later in this system gets
    /// it. Whether another already has it is not checked: on different links that does no harm; on
    /// the same link the two cannot reach each other.
    ///
    /// # Errors
    /// There is no interface of that name, it is a member of a lagg and has the address of that, the
    /// address is not a unicast address, or
    /// [`AdminError::Limit`] after very many of those that the system would have given out itself.
    pub fn set_mac(&self, name: &str, mac: MacAddr) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if !mac.is_station() {
            return Err(AdminError::BadMac(mac));
        }
        self.configure(|stack, cx| {
            let id = of_its_own(stack, name)?;
            self.core.system.mac_by_hand(self.core.number, mac)?;
            let had = stack.ifs.set_mac(id, mac);
            stack.readdressed(cx, had);
            if stack.ifs.lagg(id).is_some() {
                stack.change_lagg(cx, id, |lagg| lagg.set_mac(mac));
            }
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::SetMac { mac }))
        })
    }

    /// Sets whether an interface may carry large segments and unfinished checksums to its far end,
    /// as a device with segmentation offload does. By default this is on for everything that stays
    /// in the process; with [`Offload::None`] only complete frames of at most the MTU are sent.
    ///
    /// # Errors
    /// There is no interface of that name, or it is a bridge or a lagg, for which the setting of its
    /// members applies.
    pub fn set_offload(&self, name: &str, offload: Offload) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure_netif(name, |netif, _| {
            let has_one = netif.can().offload != OffloadSetting::OfEachBelow;
            netif.require(has_one, "has no offload")?;
            netif.offload = offload;
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::SetOffload { offload }))
        })
    }

    /// Sets the impairments of an interface's outgoing direction, from the next frame on.
    ///
    /// # Errors
    /// No interface of that name, or parameters out of range.
    pub fn set_link(&self, name: &str, config: LinkConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        config.validate()?;
        self.configure(|stack, cx| {
            let id = stack.ifs.id_of(name)?;
            let op = set_link(stack, cx, id, config)?;
            if let Some(bridges) = stack.bridges.made() {
                bridges.link_changed(&mut stack.ifs, cx.now, id);
            }
            Ok(op)
        })
    }

    /// Like [`Vnet::set_link`], but changes the present parameters. `change` is given the time. The
    /// interface is found by its identifier, which it keeps when it is renamed. What the way by it costs
    /// in a spanning tree stays as it is: a rate that goes up and down is no reason to change the tree.
    pub(super) fn change_link(
        &self,
        id: IfId,
        change: impl FnOnce(Instant, &mut LinkConfig),
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            let netif = stack.ifs.get(id).ok_or(AdminError::Gone)?;
            let link = netif.link.as_deref();
            let mut config = link.map(|l| l.config().clone()).unwrap_or_default();
            change(cx.now, &mut config);
            config.validate()?;
            set_link(stack, cx, id, config)
        })
    }

    /// Gives an interface an address, and the vnet a route to its prefix. The address is
    /// announced on the wire (gratuitous ARP, or an unsolicited neighbour advertisement). With its
    /// first IPv6 address the interface begins to speak IPv6, and gets a link-local address too; see
    /// `docs/ipv6.md`.
    ///
    /// # Errors
    /// No interface of that name, or a member of a bridge; an address that no host can have, or one
    /// that the vnet has.
    pub fn add_address(&self, name: &str, address: IpNet) -> Result<(), AdminError> {
        self.add_address_at(name, address, 0)
    }

    /// The same, with the route at `metric` where that is free and above what it would have.
    pub(super) fn add_address_at(
        &self,
        name: &str,
        address: IpNet,
        metric: u32,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, _| {
            let id = stack.ifs.id_of(name)?;
            stack.add_address(id, address)?;
            Ok(Op::Interface(
                name.to_owned(),
                IfOp::AddAddress {
                    address,
                    metric: stack.ip.raise_connected(address, id, metric),
                },
            ))
        })
    }

    /// Gives an interface an anycast address (RFC 4291, section 2.6), which other stations may have as well: packets to it
    /// come to the nearest. Nobody is asked whether others have it, nothing is sent from it, no socket can be bound to
    /// it, and segments of TCP to it are dropped. On its link, the vnet answers for it after up to a second
    /// (RFC 4861, section 7.2.7).
    /// It has no prefix, and no route but that to itself. [`Vnet::remove_address`] takes it away.
    ///
    /// # Errors
    /// No interface of that name, or a member of a bridge or a lagg; an address that no host can have, or one that the
    /// interface has, or that is one of the vnet's own.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let server = System::virtual_time(1).create("server")?;
    /// server.port("eth0", None)?;
    /// server.add_anycast("eth0", "2001:db8::53".parse()?)?;
    /// assert_eq!(server.inspect()?.interfaces[1].anycast.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_anycast(&self, name: &str, address: Ipv6Addr) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, _| {
            let id = stack.ifs.id_of(name)?;
            stack.add_anycast(id, address)?;
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::AddAnycast { address }))
        })
    }

    /// Removes an address from an interface, with the route to its prefix.
    ///
    /// # Errors
    /// No interface of that name, or no such address on it.
    pub fn remove_address(&self, name: &str, address: IpAddr) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, _| {
            let id = stack.ifs.id_of(name)?;
            stack.remove_address(id, address)?;
            let interface = name.to_owned();
            Ok(Op::Interface(interface, IfOp::RemoveAddress { address }))
        })
    }

    /// The interfaces, in the order of their creation.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn interfaces(&self) -> Result<Vec<IfInfo>, Gone> {
        self.core.with(|stack, _| {
            stack
                .ifs
                .iter()
                .map(|i| info(stack, i, self.name()))
                .collect()
        })
    }

    /// Changes an interface, and notes the operation that `change` returns.
    pub(super) fn configure_netif(
        &self,
        name: &str,
        change: impl FnOnce(&mut Netif, &mut Cx) -> Result<Op, AdminError>,
    ) -> Result<(), AdminError> {
        self.configure(|stack, cx| change(stack.ifs.by_name_mut(name)?, cx))
    }

    /// Does something with an interface that does not configure it.
    pub(super) fn with_netif<R>(
        &self,
        name: &str,
        f: impl FnOnce(&mut Netif, &mut Cx) -> R,
    ) -> Result<R, AdminError> {
        self.core
            .with(|stack, cx| Ok(f(stack.ifs.by_name_mut(name)?, cx)))?
    }
}

/// An interface that has a MAC address and an MTU of its own.
fn of_its_own(stack: &Stack, name: &str) -> Result<IfId, AdminError> {
    let netif = stack.ifs.by_name(name)?;
    match netif.on_lagg() {
        None => Ok(netif.id),
        Some(_) => Err(AdminError::LaggMember(name.to_owned())),
    }
}

/// Sets the parameters of an interface's link, which are valid.
fn set_link(
    stack: &mut Stack,
    cx: &mut Cx,
    id: IfId,
    config: LinkConfig,
) -> Result<Op, AdminError> {
    let netif = stack.ifs.get_mut(id).ok_or(AdminError::Gone)?;
    netif.require(netif.can().has_link, "has no link")?;
    let link = Box::new(config.clone());
    match &mut netif.link {
        Some(link) => link.set_config(cx.now, config)?,
        none => {
            *none = Some(Box::new(Link::new(
                config,
                cx.now,
                cx.rng.split(LINK_STREAM),
            )?))
        }
    }
    // What waits in another discipline than before, or for another rate.
    netif.drain_link(cx);
    let interface = netif.name.to_string();
    Ok(Op::Interface(interface, IfOp::SetLink { link }))
}

/// What there is to know of an interface that is in the vnet of name `current`.
pub(super) fn info(stack: &Stack, netif: &Netif, current: &str) -> IfInfo {
    IfInfo {
        name: netif.name.to_string(),
        kind: netif.kind.name(),
        mac: netif.mac,
        ip_mtu: netif.ip_mtu,
        admin: netif.admin,
        carrier: netif.carrier,
        addresses: stack
            .ip
            .addresses_on(netif.id)
            .map(zone::wire_net)
            .collect(),
        member_of: super::bridges::has_member(stack, netif),
        members: super::bridges::members_of(stack, netif),
        vlan: vlan_info(stack, netif),
        counters: netif.counters,
        home: netif
            .loan
            .as_ref()
            .map_or(current, |l| &l.home_name)
            .to_owned(),
        current: current.to_owned(),
    }
}

fn vlan_info(stack: &Stack, netif: &Netif) -> Option<VlanInfo> {
    let vlan = netif.kind.vlan()?;
    let here = netif.kind.parent().and_then(|id| stack.ifs.get(id));
    let parent = here.map_or(&vlan.parent_name, |parent| &parent.name);
    Some(VlanInfo {
        parent: parent.to_string(),
        tpid: vlan.config.tpid,
        vid: vlan.config.vid,
        classes: vlan.classes.as_ref().map(|classes| classes.maps.clone()),
    })
}

/// Label of the random stream of a link's impairments.
const LINK_STREAM: u64 = 0x6c69_6e6b;

/// Adds `lo0` with 127.0.0.1/8: part of every instance's init.
pub(crate) fn add_loopback(vnet: &Vnet) -> Result<(), AdminError> {
    let inbox = Arc::clone(&vnet.core.inbox);
    vnet.core.enter_as(Entry::Lifecycle, |inside, _| {
        let stack = &mut inside.stack;
        let id = stack.ifs.insert("lo0", |id| Netif {
            ip_mtu: LOOPBACK_IP_MTU,
            carrier: Carrier::Up,
            ..Netif::new(
                id,
                "lo0",
                Kind::Loopback(Arc::new(Loop { inbox, ifid: id })),
                MacAddr::ZERO,
            )
        })?;
        let address = IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8);
        stack.add_address(id, address)?;
        stack.add_host_routes();
        Ok(())
    })?
}

/// Removes an interface and everything that refers to it.
pub(crate) fn remove_interface(stack: &mut Stack, cx: &mut Cx, id: IfId) {
    let Some(netif) = leave_vnet(stack, cx, id) else {
        return;
    };
    if let Some(end) = netif.kind.wire() {
        let (wire, near) = end.near();
        wire.unplug(near);
        cx.out.carrier.push((end.clone(), Carrier::Down));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{OwnedVnet, System};

    /// Entries of the tables of a vnet that were looked at one after the other.
    fn walked(vnet: &Vnet) -> u64 {
        let steps = vnet.core.with(|stack, _| {
            let (addrs, fib) = (&stack.ip.v4.addrs.walked, &stack.ip.v4.fib.walked);
            stack.ifs.walked.steps() + addrs.steps() + fib.steps()
        });
        steps.expect("alive")
    }

    /// Makes so many pairs with an address at each end, the first one with the number `from`.
    fn join([a, b]: [&Vnet; 2], from: u16, count: u16) {
        for n in from..from + count {
            let name = format!("eth{n}");
            a.epair(&name, b, &name).expect("free names");
            for (vnet, host) in [(a, 1), (b, 2)] {
                let [high, low] = n.to_be_bytes();
                let address = IpNet::new_assert([10, high, low, host].into(), 24);
                vnet.add_address(&name, address).expect("a free address");
            }
        }
    }

    fn two(system: &System) -> [OwnedVnet; 2] {
        ["a", "b"].map(|name| system.create(name).expect("a free name"))
    }

    #[test]
    fn an_interface_costs_the_same_however_many_there_are() {
        let system = System::manual(1);
        let [a, b] = two(&system);
        let mut before = walked(&a) + walked(&b);
        let mut costs = Vec::new();
        for round in 0..4 {
            join([&a, &b], 100 * round, 100);
            // The announcements of addresses are taken in as well.
            system.poll(system.now());
            let now = walked(&a) + walked(&b);
            costs.push(now - before);
            before = now;
        }
        assert_eq!(costs[1..], [costs[0]; 3], "{costs:?}");
    }

    #[test]
    fn who_gives_very_many_addresses_by_hand_is_refused_and_nobody_else() {
        let system = System::manual(1);
        let [a, b] = two(&system);
        a.epair("eth0", &b, "eth0").expect("free names");
        let first = b
            .core
            .with(|stack, _| stack.ifs.by_name("eth0").map(|n| n.mac));
        let first = first.expect("alive").expect("just made").number();
        let first = first.expect("given out by the system");
        let coming = |n: u64| MacAddr::from_number(first + 1 + n);
        // What is given to nobody is not remembered.
        for n in 0..10_000 {
            let nobody = a.set_mac("eth9", coming(n));
            assert!(matches!(nobody, Err(AdminError::NotFound(_))), "{nobody:?}");
        }
        let refused = (0..10_000).find(|n| a.set_mac("eth0", coming(*n)).is_err());
        let refused = refused.expect("bounded");
        let again = a.set_mac("eth0", coming(refused));
        assert!(matches!(again, Err(AdminError::Limit(_))), "{again:?}");
        b.set_mac("eth0", coming(refused))
            .expect("it has given few");
        a.set_mac("eth0", MacAddr([2, 0, 0, 0, 0, 1]))
            .expect("one of another range");
    }

    #[test]
    fn a_record_is_replayed_in_time_that_grows_with_its_length() {
        let system = System::manual(1);
        let [a, b] = two(&system);
        let mut costs = Vec::new();
        for round in 0..4 {
            join([&a, &b], 100 * round, 100);
            let record = a.record().expect("alive");
            let twin = system.replay(&record, &format!("twin{round}"));
            costs.push(walked(&twin.expect("possible")));
        }
        let more: Vec<_> = costs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(more, [more[0]; 3], "{costs:?}");
    }
}
