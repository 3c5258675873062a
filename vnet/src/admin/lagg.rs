//! Creating and changing laggs, which aggregate links.

use serde::{Deserialize, Serialize};

use super::record::{BridgeOp, IfOp, Op};
use crate::base::id::IfId;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::netif::lagg::config::LaggConfig;
use crate::netif::lagg::lacp::LacpState;
use crate::netif::lagg::pdu::PortInfo;
use crate::netif::lagg::{Lagg, MAX_MEMBERS};
use crate::netif::{AdminError, Kind, Netif};
use crate::packet::{Cx, MacAddr};
use crate::stack::Stack;

/// Label of the random stream of a lagg's hash.
const HASH_STREAM: u64 = 0x6c61_6767;

/// A lagg's configuration, its members, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggInfo {
    /// Its configuration.
    pub config: LaggConfig,
    /// Its members, in the order in which they joined.
    pub members: Vec<LaggMember>,
    /// LACPDUs and markers that could not be read. They are dropped, and counted as `malformed` as well.
    pub bad_pdus: u64,
}

/// A member of a lagg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggMember {
    /// The interface's name.
    pub name: String,
    /// True if flows may be sent by it.
    pub sends: bool,
    /// True if frames received by it are accepted; otherwise they are dropped as `lagg-inactive`.
    pub receives: bool,
    /// How far LACP has come with it, or what prevents it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp: Option<LacpState>,
    /// This end, as the LACPDUs that it sends describe it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<LacpPort>,
    /// The other end, as its LACPDUs describe it; nothing if it has not been heard, or is not heard any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<LacpPort>,
    /// LACPDUs taken in since it became a member.
    pub pdus_in: u64,
    /// LACPDUs sent since then.
    pub pdus_out: u64,
}

/// One end of a member's link, as its LACPDUs describe it (IEEE 802.1AX-2020, clause 6.4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LacpPort {
    /// The priority of its system; lower values are preferred.
    pub system_priority: u16,
    /// The address of its system.
    pub system: MacAddr,
    /// Its key: ports of one system with equal keys can be aggregated.
    pub key: u16,
    /// The number of its port.
    pub port: u16,
    /// The bits of its state: activity 1, short timeout 2, aggregation 4, synchronization 8,
    /// collecting 16, distributing 32, defaulted 64, expired 128.
    pub state: u8,
}

impl Vnet {
    /// Creates a lagg without members: an interface of this vnet, up, which has several links used as
    /// one. [`Vnet::add_member`] gives it members, which have its MAC address and IP MTU from then on;
    /// [`Vnet::remove_member`] takes them back. [`Vnet::remove_interface`] removes the lagg and releases
    /// its members. Its carrier is up while it can send by one of them.
    ///
    /// Members are epairs and ports. VLAN interfaces may stand on a lagg, and it may be a member of a
    /// bridge.
    ///
    /// # Errors
    /// The name is invalid or taken, a limit is reached, a privilege is missing, or
    /// [`LaggConfig::system`] is no station's address.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::{LaggConfig, System};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// for name in ["eth0", "eth1"] {
    ///     a.epair(name, &b, name)?;
    /// }
    /// for (vnet, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
    ///     vnet.lagg("lagg0", LaggConfig::default())?;
    ///     vnet.add_member("lagg0", "eth0")?;
    ///     vnet.add_member("lagg0", "eth1")?;
    ///     vnet.add_address("lagg0", address.parse()?)?;
    /// }
    /// // LACP agrees on the links.
    /// system.run_for(Duration::from_secs(5))?;
    /// let ping = vnet::net::EchoSocket::bind_in(&a)?;
    /// ping.send_to(1, b"hello", "192.0.2.2".parse()?)?;
    /// ping.recv()?;
    /// assert!(a.lagg_info("lagg0")?.members.iter().all(|m| m.sends));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lagg(&self, name: &str, config: LaggConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        config.check()?;
        let mac = self.core.system.next_mac();
        self.configure(|stack, cx| {
            stack.admit_interface(name)?;
            let seed = cx.rng.split(HASH_STREAM).u64();
            let key = stack.ifs.next_place() as u16;
            let id = stack.ifs.insert(name, |id| {
                // IEEE 802.1AX-2020, clause 6.3.5: zero is no key.
                let lagg = Lagg::new(config, mac, key.max(1), seed);
                Netif::new(id, name, Kind::Lagg(Box::new(lagg)), mac)
            })?;
            stack.appeared(id);
            Ok(Op::Interface(name.to_owned(), IfOp::Lagg { config }))
        })
    }

    /// Changes how a lagg works. With LACP, the links are negotiated again if something changes that LACPDUs contain;
    /// the hash is not part of them.
    ///
    /// # Errors
    /// There is no lagg of that name, a privilege is missing, or [`LaggConfig::system`] is no station's
    /// address.
    pub fn set_lagg(&self, name: &str, config: LaggConfig) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        config.check()?;
        self.configure(|stack, cx| {
            let id = lagg_id(stack, name)?;
            stack.change_lagg(cx, id, |lagg| lagg.set_config(config));
            Ok(Op::Interface(name.to_owned(), IfOp::SetLagg { config }))
        })
    }

    /// A lagg's configuration, its members and their partners, and its counters.
    ///
    /// # Errors
    /// No lagg of that name.
    pub fn lagg_info(&self, name: &str) -> Result<LaggInfo, AdminError> {
        self.core.with(|stack, _| {
            let netif = stack.ifs.by_name(name)?;
            let info = info(stack, netif);
            info.ok_or_else(|| not_a_lagg(netif))
        })?
    }
}

fn lagg_id(stack: &Stack, name: &str) -> Result<IfId, AdminError> {
    let netif = stack.ifs.by_name(name)?;
    match netif.kind.lagg() {
        Some(_) => Ok(netif.id),
        None => Err(not_a_lagg(netif)),
    }
}

fn not_a_lagg(netif: &Netif) -> AdminError {
    AdminError::Unsupported {
        kind: netif.kind.name(),
        what: "is not a lagg",
    }
}

/// Makes an interface, which is a member of nothing and has no addresses, a member of the lagg `id`.
pub(super) fn add_member(
    stack: &mut Stack,
    cx: &mut Cx,
    id: IfId,
    member: IfId,
) -> Result<(), AdminError> {
    if let Some(netif) = stack.ifs.get(member)
        && !netif.can().aggregable
    {
        let kind = netif.kind.name();
        let what = "cannot be a member of a lagg: only epairs and ports can";
        return Err(AdminError::Unsupported { kind, what });
    }
    if stack.ifs.lagg(id).is_some_and(Lagg::is_full) {
        return Err(AdminError::TooManyMembers(MAX_MEMBERS));
    }
    stack.join_lagg(cx, id, member);
    Ok(())
}

/// The operation that removed a member.
pub(super) fn removal(lagg: &str, member: &str) -> Op {
    let member = member.to_owned();
    Op::Bridge(lagg.to_owned(), BridgeOp::RemoveMember { member })
}

/// What there is to know of a lagg; nothing for other interfaces.
pub(super) fn info(stack: &Stack, netif: &Netif) -> Option<LaggInfo> {
    let lagg = netif.kind.lagg()?;
    let member = |id: IfId| {
        let netif = stack.ifs.get(id)?;
        let counted = lagg.port(id)?;
        let lacp = lagg.lacp();
        let port = lacp.and_then(|lacp| Some((lacp.port(id)?, lacp.params())));
        let end = |info: &PortInfo| LacpPort {
            system_priority: info.system.priority,
            system: info.system.mac,
            key: info.key,
            port: info.port,
            state: info.state.0,
        };
        let takes = netif.on_lagg().is_some_and(|m| m.takes);
        Some(LaggMember {
            name: netif.name.to_string(),
            sends: lagg.sends_by(id),
            receives: takes,
            lacp: port.map(|(port, params)| port.progress(params)),
            actor: port.map(|(port, params)| end(&port.actor(params))),
            partner: port.and_then(|(port, _)| port.heard_partner()).map(end),
            pdus_in: counted.pdus_in,
            pdus_out: counted.pdus_out,
        })
    };
    Some(LaggInfo {
        config: *lagg.config(),
        members: lagg.members().filter_map(member).collect(),
        bad_pdus: lagg.bad_pdus(),
    })
}
