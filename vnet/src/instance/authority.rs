//! What a handle may do: checks against the instance's mask, and changes of the mask.

use super::cores::VnetCore;
use super::journal::{Op, VnetOp};
use super::privilege::{Authority, Denied, Privilege, Privileges};
use super::vnet::{OwnedVnet, Vnet};
use crate::netif::AdminError;

/// The first port that needs no privilege.
const FIRST_FREE_PORT: u16 = 1024;

impl Vnet {
    /// What this instance's tenants may do: by default everything; for a child, what its parent
    /// has, without [`Privilege::System`].
    pub fn privileges(&self) -> Privileges {
        self.core.privileges.get()
    }

    /// Checks that this handle has `privilege`, and counts a denial if not. The library's
    /// operations check by themselves; this is for modules with operations of their own.
    ///
    /// # Errors
    /// [`Denied`] when the handle is a tenant's and the instance's mask lacks the privilege, or when
    /// it is the owner's of a child and the parent's does.
    pub fn require(&self, privilege: Privilege) -> Result<(), Denied> {
        if self.may(privilege) {
            return Ok(());
        }
        Err(self.core.privileges.deny(privilege))
    }

    /// The same, without counting a denial.
    pub(crate) fn may(&self, privilege: Privilege) -> bool {
        let allowed = match self.authority {
            Authority::System => Privileges::WITH_SYSTEM,
            Authority::Owner => most(&self.core),
            Authority::Tenant => self.core.privileges.get(),
        };
        allowed.contains(privilege)
    }

    /// Checks that a socket may be bound to `port`.
    pub(crate) fn require_port(&self, port: u16) -> Result<(), Denied> {
        if port == 0 || port >= FIRST_FREE_PORT {
            return Ok(());
        }
        self.require(Privilege::ReservedPorts)
    }

    /// How often an operation was denied for lack of `privilege`.
    pub fn denials(&self, privilege: Privilege) -> u64 {
        self.core.privileges.denials(privilege)
    }
}

/// What the owner of an instance may do, and give to its tenants.
fn most(core: &VnetCore) -> Privileges {
    match &core.parent {
        Some(parent) => parent.privileges.get(),
        None => Privileges::WITH_SYSTEM,
    }
}

impl OwnedVnet {
    /// Sets what tenants may do from now on. What they made before stays. Descendants lose what
    /// this instance loses, and do not regain it by themselves.
    ///
    /// # Errors
    /// The vnet is gone, or its parent lacks some of the privileges.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use vnet::net::UdpSocket;
    /// use vnet::{Privilege, Privileges, System};
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let tenant = a.clone();
    /// a.set_privileges(Privileges::ALL & !Privileges::from(Privilege::ReservedPorts))?;
    /// let denied = UdpSocket::bind_in(&tenant, "127.0.0.1:53").unwrap_err();
    /// assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    /// assert!(denied.to_string().contains("reserved-ports"));
    /// assert_eq!(a.denials(Privilege::ReservedPorts), 1);
    /// // The owner may, as ever; and so may the tenant, from port 1024 on.
    /// UdpSocket::bind_in(&a, "127.0.0.1:53")?;
    /// UdpSocket::bind_in(&tenant, "127.0.0.1:5353")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_privileges(&self, privileges: Privileges) -> Result<(), AdminError> {
        self.mask_to(privileges)
    }
}

impl Vnet {
    /// What [`OwnedVnet::set_privileges`] does; the caller is the owner.
    pub(crate) fn mask_to(&self, privileges: Privileges) -> Result<(), AdminError> {
        self.core.with(|_, _| ())?;
        // One mask is changed at a time, so that a child's never exceeds its parent's.
        let registry = self.core.system.registry();
        let most = most(&self.core);
        if !privileges.is_subset(most) {
            return Err(AdminError::BeyondParent((privileges & !most).to_string()));
        }
        self.core.privileges.set(privileges);
        self.core
            .note(Op::Vnet(VnetOp::SetPrivileges { privileges }));
        for core in registry.vnets() {
            let narrowed = core.privileges.get() & privileges;
            if core.is_below(&self.core) && narrowed != core.privileges.get() {
                core.privileges.set(narrowed);
                let privileges = narrowed;
                core.note(Op::Vnet(VnetOp::SetPrivileges { privileges }));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::*;
    use crate::Direction;
    use crate::instance::System;
    use crate::ip::state::Forwarding;
    use crate::link::LinkConfig;
    use crate::net::{RawSocket, TcpListener, UdpSocket};
    use crate::netif::{AdminState, FrameTap};
    use crate::packet::{MacAddr, Packet};
    use crate::transport::error::SocketError;

    struct NoTap;
    impl FrameTap for NoTap {
        fn frame(&self, _: crate::time::Instant, _: Direction, _: &Packet) {}
    }

    fn tenant_with(privileges: Privileges) -> ([OwnedVnet; 2], Vnet) {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        let peer = system.create("peer").expect("a free name");
        a.epair("eth0", &peer, "eth0").expect("the owner may");
        a.set_privileges(privileges).expect("alive");
        let tenant = a.clone();
        ([a, peer], tenant)
    }

    /// Every act that is checked, and the privilege it needs. Each returns the privilege's name
    /// when it was denied for want of it.
    type Act = fn(&Vnet) -> Option<&'static str>;

    fn netif(result: Result<(), AdminError>) -> Option<&'static str> {
        match result {
            Err(AdminError::Denied(name)) => Some(name),
            _ => None,
        }
    }

    fn socket<T>(result: std::io::Result<T>) -> Option<&'static str> {
        let error = result.err()?;
        let Some(SocketError::Denied(name)) = crate::SocketError::of(&error) else {
            return None;
        };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        Some(name)
    }

    const ACTS: &[(Privilege, Act)] = &[
        (Privilege::RawSockets, |v| socket(RawSocket::open_in(v, 89))),
        (Privilege::ReservedPorts, |v| {
            socket(UdpSocket::bind_in(v, "127.0.0.1:1023"))
        }),
        (Privilege::ReservedPorts, |v| {
            socket(TcpListener::bind_in(v, "127.0.0.1:1"))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_up("eth0", AdminState::Up))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_ip_mtu("eth0", 1400))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.rename_interface("none", "e9"))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_mac("eth0", MacAddr::from_number(77)))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_offload("eth0", crate::netif::Offload::None))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_vlan_classes("eth0", None))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_router("eth0", None))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.set_link("eth0", LinkConfig::default()))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix")))
        }),
        (Privilege::InterfaceConfig, |v| {
            netif(v.remove_address("eth0", "192.0.2.1".parse().expect("an address")))
        }),
        (Privilege::InterfaceCreate, |v| {
            netif(v.port("port0", None).map(drop))
        }),
        (Privilege::InterfaceCreate, |v| {
            netif(v.epair("e0", v, "e1"))
        }),
        (Privilege::InterfaceCreate, |v| {
            netif(v.remove_interface("e0"))
        }),
        (Privilege::Routes, |v| {
            let dst = "198.51.100.0/24".parse().expect("a prefix");
            netif(v.add_route(dst, crate::NextHop::Interface("eth0".into())))
        }),
        (Privilege::Routes, |v| {
            netif(v.remove_route("198.51.100.0/24".parse().expect("a prefix")))
        }),
        (Privilege::Capture, |v| {
            netif(v.capture("eth0", Arc::new(NoTap)))
        }),
        (Privilege::Forwarding, |v| {
            netif(v.set_forwarding(Forwarding::Enabled))
        }),
    ];

    #[test]
    fn each_act_needs_its_privilege_and_no_other() {
        for privilege in Privilege::ALL {
            let ([a, _peer], tenant) = tenant_with(!Privileges::from(*privilege));
            for (at, (needed, act)) in ACTS.iter().enumerate() {
                let expected = (needed == privilege).then(|| privilege.as_str());
                assert_eq!(act(&tenant), expected, "act {at} without {privilege}");
            }
            let denied = ACTS.iter().filter(|(p, _)| p == privilege).count() as u64;
            assert_eq!(a.denials(*privilege), denied);
            let others = Privilege::ALL.iter().filter(|p| *p != privilege);
            assert_eq!(others.map(|p| a.denials(*p)).sum::<u64>(), 0);
        }
    }

    #[test]
    fn the_owner_is_not_limited_and_a_clone_is_a_tenant() {
        let ([a, _peer], tenant) = tenant_with(Privileges::NONE);
        for (at, (_, act)) in ACTS.iter().enumerate() {
            assert_eq!(act(&a), None, "act {at}");
        }
        let found = a.system().vnet("a").expect("it is there");
        let current = {
            let _entered = a.enter();
            Vnet::current().expect("entered")
        };
        for handle in [tenant.clone(), found, current] {
            assert_eq!(
                handle.require(Privilege::Routes),
                Err(Denied(Privilege::Routes))
            );
        }
        assert_eq!(a.denials(Privilege::Routes), 3);
    }

    #[test]
    fn a_pair_needs_the_privilege_at_both_ends() {
        let ([_a, b], tenant) = tenant_with(Privileges::NONE);
        assert_eq!(netif(b.epair("x", &tenant, "x")), Some("interface-create"));
        assert_eq!(
            b.interfaces().map(|i| i.len()),
            Ok(2),
            "half a pair is none"
        );
    }

    #[test]
    fn narrowing_takes_nothing_away_that_was_made() {
        let ([a, _peer], tenant) = tenant_with(Privileges::ALL);
        let socket = UdpSocket::bind_in(&tenant, "127.0.0.1:53").expect("allowed");
        a.set_privileges(Privileges::NONE).expect("alive");
        socket
            .send_to(b"x", "127.0.0.1:53")
            .expect("it was made before");
        assert!(UdpSocket::bind_in(&tenant, "127.0.0.1:54").is_err());
    }

    #[test]
    fn sets_are_sets() {
        let none = Privileges::NONE;
        assert_eq!(none.to_string(), "none");
        assert_eq!(!none, Privileges::ALL);
        assert_eq!(Privileges::WITH_SYSTEM.iter().count(), Privilege::ALL.len());
        assert_eq!(Privileges::ALL | Privilege::System, Privileges::WITH_SYSTEM);
        assert!(!Privileges::ALL.contains(Privilege::System));
        assert!(none.is_subset(Privileges::ALL) && !Privileges::ALL.is_subset(none));
        for text in ["all", "none", "routes,forwarding", "system"] {
            let parsed: Privileges = text.parse().expect("names");
            let again: Privileges = parsed.to_string().parse().expect("names");
            assert_eq!(parsed, again);
        }
        assert!("routes,fly".parse::<Privileges>().is_err());
    }
}
