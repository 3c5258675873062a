//! Making and changing VLAN interfaces.

use super::moves::{free_name, refuse_borrowed};
use super::record::{IfOp, Op};
use crate::base::id::IfId;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::netif::vlan::classes::{ClassMaps, Classes};
use crate::netif::vlan::{Above, Origin, Vlan, VlanConfig};
use crate::netif::{AdminError, Kind, Netif};
use crate::packet::tag::MAX_VID;
use crate::stack::Stack;
use crate::stack::limits::Resource;

impl Vnet {
    /// Creates a VLAN interface on `parent`: what comes in there with this tag is received by it,
    /// without the tag, and what it sends leaves by `parent`, with the tag. It is up, has its parent's
    /// MAC address and IP MTU until others are set (less 4 bytes from the third on that stand on each other), and its carrier is up while the parent is running.
    ///
    /// The parent may be a VLAN interface itself, or a bridge. The same VLAN of two parents is two
    /// VLANs. The interface goes when its parent leaves this vnet, however it does.
    ///
    /// # Errors
    /// There is no such parent, it is the loopback interface, or it has that VLAN already; a VID above
    /// 4094; VLAN interfaces nested more than 8 deep; a name that is invalid or taken; a limit is
    /// reached, or a privilege is missing.
    ///
    /// ```
    /// use vnet::{System, VlanConfig};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// for (vnet, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
    ///     vnet.vlan("eth0", "eth0.5", VlanConfig::dot1q(5))?;
    ///     vnet.add_address("eth0.5", address.parse()?)?;
    /// }
    /// let ping = vnet::net::EchoSocket::bind_in(&a)?;
    /// ping.send_to(1, b"hello", "192.0.2.2".parse()?)?;
    /// ping.recv()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vlan(&self, parent: &str, name: &str, config: VlanConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        check(config)?;
        self.configure(|stack, _| {
            make(stack, parent, name, config)?;
            Ok::<_, AdminError>(made(parent, name.to_owned(), config))
        })
    }

    /// Creates a VLAN interface on `parent` of this vnet in the vnet `other`. This vnet is its home: it
    /// is lent as by [`Vnet::move_interface_as`], and comes here when `other` goes.
    ///
    /// # Errors
    /// As [`Vnet::vlan`] and [`Vnet::move_interface_as`]; nothing is left then.
    ///
    /// ```
    /// use vnet::{System, VlanConfig};
    ///
    /// let system = System::virtual_time(1);
    /// let (host, guest) = (system.create("host")?, system.create("guest")?);
    /// let _port = host.port("eth0", None)?;
    /// host.vlan_in("eth0", &guest, "lan0", VlanConfig::dot1q(5))?;
    /// assert_eq!(guest.interfaces()?[1].name, "lan0");
    /// host.remove_interface("eth0")?;
    /// assert_eq!(guest.interfaces()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn vlan_in(
        &self,
        parent: &str,
        other: &Vnet,
        name: &str,
        config: VlanConfig,
    ) -> Result<(), AdminError> {
        if self.is(other) {
            return self.vlan(parent, name, config);
        }
        self.require(Privilege::InterfaceCreate)?;
        check(config)?;
        self.lend_new(other, name, |inside| {
            let stack = &mut inside.stack;
            if stack.ifs.is_on_borrowed(stack.ifs.id_of(parent)?) {
                return Err(AdminError::OnBorrowed(name.to_owned()));
            }
            let at_home = free_name(&stack.ifs, name);
            let id = make(stack, parent, &at_home, config)?;
            self.note(inside, made(parent, at_home, config));
            Ok(id)
        })
    }

    /// Gives a VLAN interface another VLAN of its parent. Its configuration stays; what it has learned of
    /// stations in the old VLAN is forgotten, as when its carrier goes and comes back. A borrowed
    /// one keeps the VLAN that its home has given it. Needs [`Privilege::InterfaceCreate`], as making it
    /// does: it decides whose frames the interface has.
    ///
    /// # Errors
    /// There is no interface of that name, it is not a VLAN interface, or it is borrowed; a VID above
    /// 4094; the parent has that VLAN already.
    pub fn set_vlan(&self, name: &str, config: VlanConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        check(config)?;
        self.configure(|stack, cx| {
            let netif = stack.ifs.by_name(name)?;
            let (id, vlan) = (netif.id, netif.kind.vlan());
            let vlan = vlan.ok_or_else(|| AdminError::Unsupported {
                kind: netif.kind.name(),
                what: "is not a VLAN interface",
            })?;
            refuse_borrowed(stack, id)?;
            let parent = stack.ifs.get(vlan.parent).ok_or(AdminError::Gone)?;
            if !matches!(parent.vlans.get(config), Some(Above::Here(has)) if *has == id) {
                refuse_taken(parent, config)?;
                stack.ifs.retag(id, config);
                stack.moved(cx, id);
            }
            let op = IfOp::SetVlan {
                tpid: config.tpid,
                vid: config.vid,
            };
            Ok(Op::Interface(name.to_owned(), op))
        })
    }

    /// Sets how a VLAN interface maps between the priority of its tags and the traffic class of its packets; with
    /// `None`, it does as the tunable `net.link.vlan.classes` says.
    ///
    /// # Errors
    /// There is no interface of that name, or it is not a VLAN interface; a PCP above 7 or a DSCP above 63, or one that
    /// is mapped twice.
    ///
    /// ```
    /// use vnet::{ClassMaps, ClassRule, System, VlanConfig};
    ///
    /// let a = System::virtual_time(1).create("a")?;
    /// a.port("eth0", None)?;
    /// a.vlan("eth0", "voice", VlanConfig::dot1q(5))?;
    /// // Expedited forwarding (RFC 3246) has priority 5, both ways.
    /// let rules = vec![ClassRule { pcp: 5, dei: false, dscp: 46 }];
    /// a.set_vlan_classes("voice", Some(ClassMaps { ingress: rules.clone(), egress: rules }))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_vlan_classes(
        &self,
        name: &str,
        classes: Option<ClassMaps>,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if let Some(maps) = &classes {
            maps.check()?;
        }
        self.configure(|stack, _| {
            let id = stack.ifs.id_of(name)?;
            stack.ifs.has_class_maps |= classes.is_some();
            let netif = stack.ifs.get_mut(id).ok_or(AdminError::Gone)?;
            let Kind::Vlan(vlan) = &mut netif.kind else {
                return Err(AdminError::Unsupported {
                    kind: netif.kind.name(),
                    what: "is not a VLAN interface",
                });
            };
            vlan.classes = classes.clone().map(|maps| Box::new(Classes::new(maps)));
            let op = IfOp::SetVlanClasses { classes };
            Ok(Op::Interface(name.to_owned(), op))
        })
    }
}

fn check(config: VlanConfig) -> Result<(), AdminError> {
    // IEEE 802.1Q-2018, table 9-2: 4095 is reserved.
    (config.vid <= MAX_VID)
        .then_some(())
        .ok_or(AdminError::BadVid(config.vid))
}

fn refuse_taken(parent: &Netif, config: VlanConfig) -> Result<(), AdminError> {
    match parent.vlans.get(config) {
        None => Ok(()),
        Some(_) => Err(AdminError::VlanTaken {
            parent: parent.name.to_string(),
            tpid: config.tpid,
            vid: config.vid,
        }),
    }
}

/// The operation that has made a VLAN interface.
fn made(parent: &str, name: String, config: VlanConfig) -> Op {
    let op = IfOp::Vlan {
        parent: parent.to_owned(),
        tpid: config.tpid,
        vid: config.vid,
    };
    Op::Interface(name, op)
}

fn make(
    stack: &mut Stack,
    parent: &str,
    name: &str,
    config: VlanConfig,
) -> Result<IfId, AdminError> {
    stack.ifs.check_name(name)?;
    let below = stack.ifs.by_name(parent)?;
    if !below.can().carries_tags {
        return Err(AdminError::Unsupported {
            kind: below.kind.name(),
            what: "carries no VLANs",
        });
    }
    refuse_taken(below, config)?;
    let depth = below.kind.vlan().map_or(0, |vlan| vlan.depth) + 1;
    if depth > VlanConfig::MAX_DEPTH {
        return Err(AdminError::TooDeep(parent.to_owned()));
    }
    let (parent_id, mac) = (below.id, below.mac);
    let ip_mtu = Vlan::room_on(depth, below.ip_mtu);
    let carrier = below.carrier_above();
    let vlan = Vlan {
        config,
        parent: parent_id,
        parent_name: parent.into(),
        depth,
        mac: Origin::Parent,
        ip_mtu: None,
        room: ip_mtu,
        classes: None,
        away: None,
    };
    stack.admit(Resource::Interfaces)?;
    let id = stack.ifs.insert(name, |id| Netif {
        ip_mtu,
        carrier,
        ..Netif::new(id, name, Kind::Vlan(Box::new(vlan)), mac)
    })?;
    if let Some(below) = stack.ifs.get_mut(parent_id) {
        below.vlans.set(config, Above::Here(id));
    }
    stack.appeared(id);
    Ok(id)
}
