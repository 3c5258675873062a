//! [`Inspection`]: one consistent look at a whole instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{NeighbourInfo, SocketInfo};
use crate::admin::bridges::{self, BridgeInfo};
use crate::admin::interfaces::{self, IfInfo};
use crate::admin::lagg::{self, LaggInfo};
use crate::admin::moves::LentInterface;
use crate::admin::pins::{self, Pins};
use crate::admin::record::{self, IfOp, InitStep, Op};
use crate::admin::routes::{self, RouteInfo};
use crate::admin::sysctl;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::{Duration, Instant};
use crate::instance::cores::{Inside, VnetCore};
use crate::instance::limits::{self, Resource, Usage};
use crate::instance::phase::{Entry, Gone, PhaseName};
use crate::instance::privilege::{Privilege, Privileges};
use crate::instance::vnet::Vnet;
use crate::ip::dad::Phase;
use crate::ip::fib::Origin;
use crate::ip::state::Forwarding;
use crate::ip::v6;
use crate::ip::v6::policy::AddressPolicy;
use crate::ip::v6::router::RouterConfig;
use crate::link::{LinkConfig, LinkStats};
use crate::neigh::state::StateName;
use crate::netif::bridge::BridgeCounters;
use crate::netif::{IfCounters, LldpNeighbour, Netif, Offload};
use crate::packet::cx::Carrier;
use crate::packet::header::zone;
use crate::packet::{Cx, MacAddr};
use crate::stack::Stack;

/// The whole observable state of an instance at one moment. As text it has what `ifconfig`,
/// `netstat -rn`, `arp -an` and `netstat -an` show, and more.
///
/// ```
/// use vnet::System;
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// let seen = a.inspect()?;
/// assert_eq!(seen.interfaces[1].peer.as_deref(), Some("b:eth0"));
/// assert!(seen.to_string().contains("inet 192.0.2.1 netmask 0xffffff00 broadcast 192.0.2.255"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The instance's full name.
    pub name: String,
    /// The name of the instance that made it.
    pub parent: Option<String>,
    /// The names of the instances it has made, in the order of their creation.
    pub children: Vec<String>,
    /// The phase of its life.
    pub phase: PhaseName,
    /// When the inspection was made, in nanoseconds of the system's clock.
    pub at: Instant,
    /// Whether it is a host or a router.
    pub forwarding: Forwarding,
    /// The policy by which addresses are selected, if it is not that of RFC 6724.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_policy: Option<Vec<AddressPolicy>>,
    /// Its interfaces, in the order of their creation.
    pub interfaces: Vec<InterfaceView>,
    /// Its routes, in the order of their prefixes.
    pub routes: Vec<RouteInfo>,
    /// Its neighbours, in the order of their table.
    pub neighbours: Vec<NeighbourInfo>,
    /// The destinations whose paths are known to take shorter packets than its own links do, and the largest packet that
    /// each takes, in bytes (RFC 1191, RFC 8201).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub path_mtus: BTreeMap<IpAddr, u32>,
    /// The neighbours at the other ends of its wires that announce themselves by LLDP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lldp: Vec<LldpNeighbour>,
    /// Its sockets and connections.
    pub sockets: Vec<SocketInfo>,
    /// Its packet counters by name. Drop reasons are included only if they have occurred:
    /// `rx_drop.` or `tx_drop.` and the reason. `processor_us` is the processor time, if it is known.
    pub counters: BTreeMap<String, u64>,
    /// The init steps that it ran.
    pub init: Vec<InitStep>,
    /// What it holds of each resource, and its limits, in the order of [`Resource::ALL`].
    pub usages: Vec<Usage>,
    /// What its tenants may do.
    pub privileges: Privileges,
    /// How often an operation was denied, by privilege.
    pub denials: BTreeMap<String, u64>,
    /// The tunables whose values differ from those of a new instance.
    pub tunables: BTreeMap<String, String>,
    /// Values of virtualized variables.
    pub locals: u64,
    /// Interfaces of its own that are in other vnets. A twin has them at home.
    pub lent: Vec<LentInterface>,
    /// What is using it.
    pub pins: Pins,
}

/// An interface with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// The same as [`Vnet::interfaces`] lists.
    #[serde(flatten)]
    pub info: IfInfo,
    /// For an epair, the other end as it was when the pair was created, `VNET:INTERFACE`.
    pub peer: Option<String>,
    /// What its far end can take.
    pub offload: Offload,
    /// The impairments of its outgoing direction, when they have been set.
    pub link: Option<LinkConfig>,
    /// The counters of that direction.
    pub link_stats: Option<LinkStats>,
    /// The captures on it.
    pub captures: usize,
    /// For a bridge, its configuration, its members, and what it has learned.
    pub bridging: Option<BridgeInfo>,
    /// For a lagg, its configuration, its members and their partners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<LaggInfo>,
    /// What is advertised on its link, if it differs from what follows from its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterConfig>,
    /// The DNS servers that routers on its link have advertised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// The search domains that routers on its link have advertised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Those of its addresses that follow from router advertisements, and the one of IPv4 that it gave itself (RFC 3927).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub autoconfigured: Vec<IpAddr>,
    /// The anycast addresses that it was given, which other stations may have as well. They are not among its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anycast: Vec<Ipv6Addr>,
    /// Those of its addresses that are not used yet, because it is still being checked whether another station has
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tentative: Vec<IpAddr>,
    /// Those that are not used, because another station has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicate: Vec<IpAddr>,
    /// The groups joined on it, except those that every interface joins because of its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<IpAddr>,
}

impl Inspection {
    /// Its configuration only, without names of vnets, MAC addresses, the addresses of IPv6 that interfaces have by
    /// themselves, carriers, counters, times, and everything that comes and goes with use. Two instances are twins when this is equal.
    /// Interfaces and init steps are in the order of their names, since a step that was registered
    /// late runs early in a twin.
    #[must_use]
    pub fn normalised(&self) -> Inspection {
        let mut plain = self.normalised_wired();
        for interface in &mut plain.interfaces {
            interface.info.carrier = Carrier::Down;
        }
        plain
    }

    /// The same with carriers: for twins that were [replayed
    /// together](crate::System::replay_all) and so have their peers. Those are left out that LACP decides
    /// about, which takes its time: of laggs, and of what stands on them.
    #[must_use]
    pub fn normalised_wired(&self) -> Inspection {
        // Without `..`: of a new field it must be said whether it is configuration.
        let Inspection {
            name: _,
            parent: _,
            children: _,
            phase,
            at: _,
            forwarding,
            address_policy,
            mut interfaces,
            mut routes,
            mut neighbours,
            path_mtus: _,
            lldp: _,
            sockets: _,
            counters: _,
            init,
            usages,
            privileges,
            denials: _,
            tunables,
            locals: _,
            lent: _,
            pins: _,
        } = self.clone();
        // What follows from a MAC address alone differs like that, and what follows from others' words is
        // theirs.
        for interface in &mut interfaces {
            let own = own_v6(&interface.info);
            let said = &interface.autoconfigured;
            let is_given = |addr| addr != own && !said.contains(&addr);
            interface.info.addresses.retain(|net| is_given(net.addr()));
        }
        // So does the route to the link-local addresses of an interface that has one by itself.
        let is_derived = |r: &RouteInfo| match (r.origin, r.dst) {
            (Origin::Advertised, _) => true,
            (Origin::Connected, IpNet::V4(net)) => net.addr().is_link_local(),
            (Origin::Connected, IpNet::V6(net)) => {
                net.addr().is_unicast_link_local() || net.addr().is_loopback()
            }
            _ => false,
        };
        routes.retain(|r| !is_derived(r));
        // Routes to addresses follow from these, and are missing for one that another station has.
        routes.retain(|r| r.origin != Origin::Host);
        let agreed = agreed(&interfaces);
        let mut interfaces: Vec<_> = interfaces.into_iter().map(configured).collect();
        for interface in &mut interfaces {
            if agreed.contains(&interface.info.name) {
                interface.info.carrier = Carrier::Down;
            }
        }
        interfaces.sort_by(|a, b| a.info.name.cmp(&b.info.name));
        neighbours.retain(|n| n.state == StateName::Permanent);
        neighbours.sort_by(|a, b| (&a.interface, a.ip).cmp(&(&b.interface, b.ip)));
        for neighbour in &mut neighbours {
            neighbour.idle = Duration::ZERO;
        }
        let step = |step| InitStep { took_ns: 0, ..step };
        let mut init: Vec<InitStep> = init.into_iter().map(step).collect();
        init.sort_by(|a, b| a.name.cmp(&b.name));
        let limit = |usage| Usage {
            current: 0,
            high_water: 0,
            refused: 0,
            ..usage
        };
        Inspection {
            name: String::new(),
            parent: None,
            children: Vec::new(),
            phase,
            at: Instant::ZERO,
            forwarding,
            address_policy,
            interfaces,
            routes,
            neighbours,
            path_mtus: BTreeMap::new(),
            lldp: Vec::new(),
            sockets: Vec::new(),
            counters: BTreeMap::new(),
            init,
            usages: usages.into_iter().map(limit).collect(),
            privileges,
            denials: BTreeMap::new(),
            tunables,
            locals: 0,
            lent: Vec::new(),
            pins: Pins::default(),
        }
    }
}

/// The address of IPv6 that an interface has by itself, unless there was no room for its routes.
fn own_v6(info: &IfInfo) -> IpAddr {
    match info.kind.can().needs_neighbours {
        true => v6::link_local(info.mac, 0).into(),
        false => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The names of those whose carriers follow from what LACP has agreed on.
fn agreed(interfaces: &[InterfaceView]) -> BTreeSet<String> {
    let speaks = |i: &InterfaceView| {
        let lagg = i.aggregation.as_ref();
        lagg.is_some_and(|lagg| lagg.config.mode.is_lacp())
    };
    // One on a lagg that is in another vnet is not told from others that are on something there.
    let is_elsewhere = |parent: &String| !interfaces.iter().any(|i| i.info.name == *parent);
    let mut agreed = BTreeSet::new();
    loop {
        let follows = |i: &&InterfaceView| {
            let vlan = i.info.vlan.as_ref().map(|vlan| &vlan.parent);
            let on = vlan.into_iter().chain(&i.info.members);
            let elsewhere = vlan.is_some_and(is_elsewhere);
            speaks(i) || elsewhere || on.into_iter().any(|name| agreed.contains(name))
        };
        let more: Vec<String> = interfaces
            .iter()
            .filter(|i| !agreed.contains(&i.info.name))
            .filter(follows)
            .map(|i| i.info.name.clone())
            .collect();
        if more.is_empty() {
            return agreed;
        }
        agreed.extend(more);
    }
}

fn configured(view: InterfaceView) -> InterfaceView {
    let InterfaceView {
        info,
        peer: _,
        offload,
        link,
        link_stats: _,
        captures: _,
        bridging,
        aggregation,
        router,
        dns: _,
        search: _,
        autoconfigured: _,
        mut anycast,
        tentative: _,
        duplicate: _,
        groups: _,
    } = view;
    let IfInfo {
        name,
        kind,
        mac: _,
        ip_mtu,
        admin,
        carrier,
        mut addresses,
        member_of,
        mut members,
        vlan,
        counters: _,
        home: _,
        current: _,
    } = info;
    // A bridge treats its members alike; with failover, a lagg prefers those that joined first.
    if aggregation.is_none() {
        members.sort();
    }
    // Those that are asked for are listed after the others, and a twin is told to ask for addresses when it has them.
    addresses.sort_unstable();
    anycast.sort_unstable();
    InterfaceView {
        info: IfInfo {
            name,
            kind,
            mac: MacAddr::ZERO,
            ip_mtu,
            admin,
            carrier,
            addresses,
            member_of,
            members,
            vlan,
            counters: IfCounters::default(),
            home: String::new(),
            current: String::new(),
        },
        peer: None,
        offload,
        link,
        link_stats: None,
        captures: 0,
        bridging: bridging.map(|bridge| BridgeInfo {
            fdb: Vec::new(),
            stp: None,
            snooping: None,
            counters: BridgeCounters::default(),
            ..bridge
        }),
        aggregation: aggregation.map(|lagg| LaggInfo {
            // They are listed by name above.
            members: Vec::new(),
            bad_pdus: 0,
            ..lagg
        }),
        router,
        dns: Vec::new(),
        search: Vec::new(),
        autoconfigured: Vec::new(),
        anycast,
        tentative: Vec::new(),
        duplicate: Vec::new(),
        groups: Vec::new(),
    }
}

impl Vnet {
    /// The whole state, read in one entry.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn inspect(&self) -> Result<Inspection, Gone> {
        // The children are listed by the registry, whose lock comes before the vnet's.
        let children = self.core.system.registry().children_of(&self.core);
        let seen = self.core.enter_as(Entry::User, |inside, cx| {
            self.core.note_overflow(cx.stats);
            self.look(inside, cx, &children)
        });
        self.core.driver.dispatch();
        seen
    }

    fn look(&self, inside: &Inside, cx: &Cx, children: &[Arc<VnetCore>]) -> Inspection {
        let core = &self.core;
        let stack = &inside.stack;
        let usage = |r: &Resource| limits::usage_in(core, stack, cx.stats, *r);
        let denied = |p: &Privilege| (p.to_string(), self.denials(*p));
        let pins = pins::held(core, inside, children);
        let tunable = |(name, value): (&'static str, String)| (name.to_owned(), value);
        Inspection {
            name: core.name.to_string(),
            parent: core.parent.as_ref().map(|p| p.name.to_string()),
            children: pins.children.clone(),
            phase: inside.phase,
            at: cx.now,
            forwarding: stack.ip.v4.tunables.forwarding,
            address_policy: stack.ip.policy.configured().map(<[_]>::to_vec),
            interfaces: interface_views(inside, cx.now, self.name()),
            routes: routes::list(stack),
            neighbours: super::neighbours(stack, cx.now),
            path_mtus: stack.ip.narrow_paths(cx.now).collect(),
            lldp: stack
                .lldp
                .neighbours(cx.now, |id| Some(&*stack.ifs.get(id)?.name)),
            sockets: super::sockets(stack, Some(cx.now)),
            counters: counters(cx.stats),
            init: record::init_steps(inside),
            usages: Resource::ALL.iter().map(usage).collect(),
            privileges: self.privileges(),
            denials: Privilege::ALL
                .iter()
                .map(denied)
                .filter(|(_, n)| *n > 0)
                .collect(),
            tunables: sysctl::changed(stack).map(tunable).collect(),
            locals: core.locals.len(),
            lent: pins.lent.clone(),
            pins,
        }
    }
}

/// The addresses of an interface that it does not use, for this reason.
fn held(stack: &Stack, netif: &Netif, why: Phase) -> Vec<IpAddr> {
    let held = stack.ip.dad.held(netif.id);
    let held = held.filter(|(_, phase)| *phase == why);
    held.map(|(net, _)| zone::wire_ip(net.addr())).collect()
}

fn interface_views(inside: &Inside, now: Instant, current: &str) -> Vec<InterfaceView> {
    let view = |netif| {
        let info = interfaces::info(&inside.stack, netif, current);
        let peer = match inside.journal.made(&info.name) {
            Some(Op::Interface(
                _,
                IfOp::Epair {
                    peer,
                    peer_interface,
                    ..
                },
            )) => Some(format!("{peer}:{peer_interface}")),
            _ => None,
        };
        let autoconf = &inside.stack.ip.autoconf;
        InterfaceView {
            info,
            peer,
            offload: netif.offload,
            link: netif.link.as_deref().map(|l| l.config().clone()),
            link_stats: netif.link.as_deref().map(|l| l.stats(now)),
            captures: netif.taps.len(),
            bridging: bridges::view(&inside.stack, netif, now),
            aggregation: lagg::info(&inside.stack, netif),
            router: autoconf.adverts.told.get(&netif.id).cloned(),
            dns: autoconf.names.servers(netif.id).collect(),
            search: autoconf.names.search(netif.id).map(String::from).collect(),
            autoconfigured: inside
                .stack
                .autoconfigured(netif.id)
                .map(IpAddr::V6)
                .chain(inside.stack.ip.link_local.of(netif.id).map(IpAddr::V4))
                .collect(),
            anycast: inside
                .stack
                .ip
                .anycast
                .given_on(netif.id)
                .map(zone::wire)
                .collect(),
            tentative: held(&inside.stack, netif, Phase::Tentative),
            duplicate: held(&inside.stack, netif, Phase::Duplicate),
            groups: inside.stack.joined_groups(netif.id),
        }
    };
    inside.stack.ifs.iter().map(view).collect()
}

fn counters(stats: &Stats) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::from(
        [
            ("received", stats.received),
            ("delivered", stats.delivered),
            ("forwarded", stats.forwarded),
            ("sent", stats.sent),
            ("icmp_rate_limited", stats.icmp_rate_limited),
        ]
        .map(|(name, n)| (name.to_owned(), n)),
    );
    let micros = stats.processor.as_micros();
    if micros > 0 {
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        counters.insert("processor_us".to_owned(), micros);
    }
    for reason in DropReason::ALL {
        for (way, n) in [
            ("rx", stats.rx_drops(*reason)),
            ("tx", stats.tx_drops(*reason)),
        ] {
            if n > 0 {
                counters.insert(format!("{way}_drop.{reason}"), n);
            }
        }
    }
    counters
}
