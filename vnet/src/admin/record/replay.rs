//! Instances made from records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BridgeOp, IfOp, Op, Operation, Record, RouteOp, VnetOp};
use crate::admin::steps;
use crate::instance::cores::{SystemCore, VnetCore};
use crate::instance::error::CreateError;
use crate::instance::lifecycle;
use crate::instance::limits::Resource;
use crate::instance::phase::Gone;
use crate::instance::privilege::{Authority, Denied, Privilege};
use crate::instance::system::System;
use crate::instance::vnet::{OwnedVnet, Vnet};
use crate::netif::vlan::VlanConfig;
use crate::netif::wire::End;
use crate::netif::{AdminError, AdminState, Kind, Wire};
use crate::packet::cx::Carrier;
use crate::stack::Stack;

/// Why records cannot be replayed. Nothing is left of the instances that were being made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The record is of another version.
    #[error(
        "the record of {vnet:?} has version {version}; this library replays version {}",
        Record::VERSION
    )]
    Version {
        /// The instance that was recorded.
        vnet: String,
        /// The version.
        version: u32,
    },
    /// The handle to the system is that of a tenant that may not act on the whole system.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Two of the records are for the same instance.
    #[error("two of the records are for {0:?}")]
    Twice(String),
    /// The recorded instance ran init steps that are not registered here.
    #[error("the recorded {vnet:?} ran init steps that this system does not have: {}", steps.join(", "))]
    MissingSteps {
        /// The instance that was recorded.
        vnet: String,
        /// The steps' names.
        steps: Vec<String>,
    },
    /// The name is that of a child, and its parent is not among the instances to be made.
    #[error("the parent of {0:?} is not among the records")]
    NoParent(String),
    /// The instance cannot be made.
    #[error("cannot make {vnet:?}")]
    Create {
        /// The instance that was to be made.
        vnet: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// The vnet to be cloned, or one being made, is gone.
    #[error("the vnet is gone")]
    Gone,
    /// An operation is impossible.
    #[error("cannot replay operation {index} of the record of {vnet:?} ({op})")]
    Op {
        /// The instance that was recorded.
        vnet: String,
        /// The operation's place in [`Record::ops`], from 0.
        index: usize,
        /// The operation.
        op: Box<Operation>,
        /// Why.
        #[source]
        source: AdminError,
    },
}

impl From<Gone> for ReplayError {
    fn from(_: Gone) -> ReplayError {
        ReplayError::Gone
    }
}

impl System {
    /// Makes a twin of a recorded instance: one whose [inspection](crate::Inspection) is equal up
    /// to names, MAC addresses and what belongs to a moment.
    ///
    /// A pair of interfaces that led to another vnet is made with a loose far end, and so is a
    /// port; their carriers are down. [`Vnet::plug_port`] gives the outside end of such a port. MAC
    /// addresses are the recorded ones where they had been set, and new ones elsewhere.
    ///
    /// The twin is visible to others while it is being created.
    ///
    /// # Errors
    /// The name is invalid or taken, init steps are not registered here, or an operation is
    /// impossible; nothing is left then, and the name is free.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, peer) = (system.create("a")?, system.create("peer")?);
    /// a.epair("eth0", &peer, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// let b = system.replay(&a.record()?, "b")?;
    /// assert_eq!(b.inspect()?.normalised(), a.inspect()?.normalised());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay(&self, record: &Record, name: &str) -> Result<OwnedVnet, ReplayError> {
        self.require_all()?;
        let made = Replay::run(&self.core, &[record], &|_| name.to_owned(), None)?;
        Ok(only(made))
    }

    /// Creates twins of several recorded instances, in the order of the records, and joins the
    /// pairs of interfaces among them. `rename` derives the name of each twin from that of the
    /// original. The twin of a child is a child, if its name says so: its parent must be among
    /// them.
    ///
    /// # Errors
    /// As for [`System::replay`]; two records of one instance; nothing is left then.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// let records = [a.record()?, b.record()?];
    /// let twins = system.replay_all(&records, |name| format!("{name}2"))?;
    /// assert_eq!(twins[1].name(), "b2");
    /// assert_eq!(twins[1].interfaces()?[1].carrier, vnet::Carrier::Up);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay_all(
        &self,
        records: &[Record],
        rename: impl Fn(&str) -> String,
    ) -> Result<Vec<OwnedVnet>, ReplayError> {
        self.require_all()?;
        let records: Vec<&Record> = records.iter().collect();
        Replay::run(&self.core, &records, &rename, None)
    }
}

impl OwnedVnet {
    /// Creates a twin of this instance: [record](Vnet::record) and [replay](System::replay) in one
    /// call. The twin of a child has the same parent; `name` is without the parent's.
    ///
    /// # Errors
    /// As for [`System::replay`]; a child whose parent's tenants lack [`Privilege::Children`], or
    /// whose parent has as many children as it may.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let child = a.create_child("x")?;
    /// child.add_address("lo0", "192.0.2.1/32".parse()?)?;
    /// let twin = child.clone_as("y")?;
    /// assert_eq!(twin.name(), "a.y");
    /// assert_eq!(twin.inspect()?.normalised(), child.inspect()?.normalised());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clone_as(&self, name: &str) -> Result<OwnedVnet, ReplayError> {
        let parent = self.core.parent.as_ref();
        if parent.is_some() {
            self.require(Privilege::Children)
                .map_err(|denied| ReplayError::Create {
                    vnet: name.to_owned(),
                    source: denied.into(),
                })?;
        }
        let record = self.record()?;
        let made = Replay::run(&self.core.system, &[&record], &|_| name.to_owned(), parent)?;
        Ok(only(made))
    }
}

fn only(mut made: Vec<OwnedVnet>) -> OwnedVnet {
    made.pop().expect("one record makes one instance")
}

/// An interface of a recorded instance.
type EndName<'a> = (&'a str, &'a str);

/// A replay under way.
struct Replay<'a> {
    records: &'a [&'a Record],
    rename: &'a dyn Fn(&str) -> String,
    /// The place of each of them, by its name.
    places: BTreeMap<&'a str, usize>,
    /// Pairs of which both ends are among the records, by the end that comes first.
    wires: BTreeMap<EndName<'a>, Arc<Wire>>,
    /// The far end of each of them.
    far: BTreeMap<EndName<'a>, EndName<'a>>,
}

impl<'a> Replay<'a> {
    fn run(
        system: &Arc<SystemCore>,
        records: &'a [&'a Record],
        rename: &'a dyn Fn(&str) -> String,
        parent: Option<&Arc<VnetCore>>,
    ) -> Result<Vec<OwnedVnet>, ReplayError> {
        check(system, records)?;
        let far = joined(records);
        let names = records.iter().map(|record| record.name.as_str());
        let replay = Replay {
            records,
            rename,
            places: names.zip(0..).collect(),
            wires: BTreeMap::new(),
            far,
        };
        let mut vnets = replay.create(system, parent)?;
        let result = replay.configure(&vnets);
        if let Err(failed) = result {
            // Children before parents, the youngest first.
            while let Some(vnet) = vnets.pop() {
                vnet.destroy();
            }
            return Err(failed);
        }
        Ok(vnets)
    }

    /// Makes the instances, parents before children, and returns them in the order of the records.
    fn create(
        &self,
        system: &Arc<SystemCore>,
        parent: Option<&Arc<VnetCore>>,
    ) -> Result<Vec<OwnedVnet>, ReplayError> {
        let mut order: Vec<(usize, String)> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            order.push((at, (self.rename)(&record.name)));
        }
        order.sort_by_key(|(at, name)| (name.matches('.').count(), *at));
        let mut made: BTreeMap<usize, OwnedVnet> = BTreeMap::new();
        for (at, name) in order {
            let (parent, own) = match (parent, name.rsplit_once('.')) {
                (None, Some((above, own))) => {
                    let found = made.values().find(|v| v.name() == above);
                    let found = found.ok_or_else(|| ReplayError::NoParent(name.clone()))?;
                    (Some(Arc::clone(&found.core)), own)
                }
                (given, _) => (given.cloned(), name.as_str()),
            };
            let core = lifecycle::create(system, own, parent.as_ref()).map_err(|source| {
                ReplayError::Create {
                    vnet: name.clone(),
                    source,
                }
            })?;
            made.insert(at, OwnedVnet::new(core));
        }
        Ok(made.into_values().collect())
    }

    fn configure(mut self, vnets: &[OwnedVnet]) -> Result<(), ReplayError> {
        for (record, vnet) in self.records.iter().zip(vnets) {
            steps::disinherit(&vnet.core)?;
            // There may be more routes than a new instance may have: the limit is lifted until
            // the record sets it.
            let routes = vnet.core.with(|stack, _| stack.limit_routes(usize::MAX))?;
            for (index, op) in record.ops.iter().enumerate() {
                if is_retag(&op.0)
                    && !index
                        .checked_sub(1)
                        .is_some_and(|n| is_retag(&record.ops[n].0))
                {
                    take_off(vnet, &record.ops[index..])?;
                }
                self.apply(record, vnet, &op.0)
                    .map_err(|source| ReplayError::Op {
                        vnet: record.name.clone(),
                        index,
                        op: Box::new(op.clone()),
                        source,
                    })?;
            }
            let limits_routes = |op: &Operation| {
                matches!(
                    op.0,
                    Op::Vnet(VnetOp::SetLimit {
                        resource: Resource::Routes,
                        ..
                    })
                )
            };
            if !record.ops.iter().any(limits_routes) {
                vnet.core.with(|stack, _| stack.limit_routes(routes))?;
            }
        }
        self.set_carriers(vnets)
    }

    fn apply(&mut self, record: &'a Record, vnet: &Vnet, op: &'a Op) -> Result<(), AdminError> {
        let Op::Interface(
            interface,
            IfOp::Epair {
                peer,
                peer_interface,
                wire: number,
            },
        ) = op
        else {
            return match op {
                // Nobody is outside yet.
                Op::Interface(interface, IfOp::Port { mac }) => {
                    Ok(vnet.loose_port(interface, *mac)?)
                }
                op => vnet.apply_op(op),
            };
        };
        let near = (record.name.as_str(), interface.as_str());
        let known = self.places.contains_key(peer.as_str());
        let op = Op::Interface(
            interface.clone(),
            IfOp::Epair {
                peer: match known {
                    true => (self.rename)(peer),
                    false => peer.clone(),
                },
                peer_interface: peer_interface.clone(),
                wire: *number,
            },
        );
        let (wire, end) = match self.far.get(&near) {
            None => (Wire::new(), End::A),
            Some(far) => {
                let wire = self.wires.entry(near.min(*far)).or_insert_with(Wire::new);
                let end = if near < *far { End::A } else { End::B };
                (Arc::clone(wire), end)
            }
        };
        vnet.attach(interface, Kind::Epair, None, &wire, end, op)?;
        Ok(())
    }

    /// Tells each end of a pair how the other one is, as it was told when that was set.
    fn set_carriers(&self, vnets: &[OwnedVnet]) -> Result<(), ReplayError> {
        let twin = |name: &str| {
            let at = self.places.get(name);
            at.map(|at| &vnets[*at])
        };
        for (near, far) in &self.far {
            let (Some(near_vnet), Some(far_vnet)) = (twin(near.0), twin(far.0)) else {
                continue;
            };
            // An interface may have been removed again by the record of it.
            let Ok(state) = far_vnet.with_netif(far.1, |netif, _| netif.admin) else {
                continue;
            };
            near_vnet.core.with(|stack, cx| {
                let Ok(netif) = stack.ifs.by_name(near.1) else {
                    return;
                };
                let Some(end) = netif.kind.wire() else { return };
                let (wire, at) = end.near();
                let carrier = match wire.is_plugged(at.far()) && state == AdminState::Up {
                    true => Carrier::Up,
                    false => Carrier::Down,
                };
                let id = netif.id;
                stack.set_carrier(cx, id, carrier);
            })?;
        }
        Ok(())
    }
}

fn is_retag(op: &Op) -> bool {
    matches!(op, Op::Interface(_, IfOp::SetVlan { .. }))
}

/// Takes the VLAN interfaces off their parents that the operations which come next put on again, so that
/// two of them can change places.
fn take_off(vnet: &Vnet, ops: &[Operation]) -> Result<(), Gone> {
    let retagged = ops.iter().map(|op| &op.0).take_while(|op| is_retag(op));
    let names = retagged.filter_map(Op::interface);
    vnet.core.with(|stack, _| {
        for name in names {
            if let Ok(id) = stack.ifs.id_of(name) {
                stack.ifs.take_off(id);
            }
        }
    })
}

/// What can be said of records before anything is made of them.
fn check(system: &Arc<SystemCore>, records: &[&Record]) -> Result<(), ReplayError> {
    let registered = system.registry().step_names();
    let mut names = BTreeSet::new();
    for record in records {
        if record.version != Record::VERSION {
            return Err(ReplayError::Version {
                vnet: record.name.clone(),
                version: record.version,
            });
        }
        if !names.insert(record.name.as_str()) {
            return Err(ReplayError::Twice(record.name.clone()));
        }
        let steps = record.init.iter().map(|s| s.name.clone());
        let missing: Vec<String> = steps.filter(|s| !registered.contains(s)).collect();
        if !missing.is_empty() {
            return Err(ReplayError::MissingSteps {
                vnet: record.name.clone(),
                steps: missing,
            });
        }
    }
    Ok(())
}

/// An end of a pair, as a record tells of it.
struct Told<'a> {
    near: EndName<'a>,
    far: EndName<'a>,
    wire: Option<u64>,
}

/// The ends that are joined to each other: each of the two names the other's vnet, and they have
/// one wire; where that has no number, each names the other. An end whose peer has since been
/// removed is loose.
fn joined<'a>(records: &[&'a Record]) -> BTreeMap<EndName<'a>, EndName<'a>> {
    let mut told: Vec<Told> = Vec::new();
    for record in records {
        for op in &record.ops {
            if let Op::Interface(
                interface,
                IfOp::Epair {
                    peer,
                    peer_interface,
                    wire,
                },
            ) = &op.0
            {
                told.push(Told {
                    near: (&record.name, interface),
                    far: (peer, peer_interface),
                    wire: *wire,
                });
            }
        }
    }
    // Both ends of a wire have one key.
    let mut wires: BTreeMap<_, Vec<&Told>> = BTreeMap::new();
    for end in &told {
        let vnets = (end.near.0.min(end.far.0), end.near.0.max(end.far.0));
        wires.entry((end.wire, vnets)).or_default().push(end);
    }
    let mut joined = BTreeMap::new();
    for ((wire, _), ends) in wires {
        if let (Some(_), [one, other]) = (wire, &ends[..])
            && one.near.0 == other.far.0
            && one.far.0 == other.near.0
        {
            joined.extend([(one.near, other.near), (other.near, one.near)]);
            continue;
        }
        // Wires without numbers; or numbers of several systems.
        let named: BTreeMap<EndName, EndName> = ends.iter().map(|e| (e.near, e.far)).collect();
        let mutual =
            |(near, far): &(&EndName, &EndName)| near != far && named.get(far) == Some(near);
        joined.extend(named.iter().filter(mutual).map(|(near, far)| (*near, *far)));
    }
    joined
}

impl Vnet {
    /// Applies one operation: does what the administrative method of its name does, with the same
    /// checks, and records it.
    ///
    /// `epair` makes both ends, and looks for the peer among the system's vnets by its name. `port` creates a port with nothing connected outside; see [`Vnet::plug_port`].
    ///
    /// # Errors
    /// As for that method.
    ///
    /// ```
    /// use vnet::System;
    /// use vnet::record::Operation;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let op: Operation = toml::from_str("op = \"set_ip_mtu\"\ninterface = \"lo0\"\nip_mtu = 9000")?;
    /// a.apply(&op)?;
    /// assert_eq!(a.interfaces()?[0].ip_mtu, 9000);
    /// assert_eq!(a.record()?.ops, [op]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(&self, op: &Operation) -> Result<(), AdminError> {
        self.apply_op(&op.0)
    }

    fn apply_op(&self, op: &Op) -> Result<(), AdminError> {
        match op {
            Op::Interface(name, op) => self.apply_to_interface(name, op),
            Op::Bridge(name, op) => self.apply_to_bridge(name, op),
            Op::Route(op) => self.apply_to_routes(op),
            Op::Vnet(op) => self.apply_to_all(op),
        }
    }

    fn apply_to_interface(&self, name: &str, op: &IfOp) -> Result<(), AdminError> {
        match op {
            IfOp::Epair {
                peer,
                peer_interface,
                wire: _,
            } => {
                let found = match peer.as_str() == self.name() {
                    true => Some(self.same()),
                    false => self.system().vnet(peer),
                };
                let found = found.ok_or_else(|| AdminError::NoSuchVnet(peer.clone()))?;
                self.epair(name, &found, peer_interface)?;
            }
            IfOp::Port { mac } => self.loose_port(name, *mac)?,
            IfOp::Bridge {} => self.bridge(name)?,
            IfOp::Vlan { parent, tpid, vid } => {
                self.vlan(parent, name, VlanConfig::new(*tpid, *vid))?;
            }
            IfOp::SetVlan { tpid, vid } => self.set_vlan(name, VlanConfig::new(*tpid, *vid))?,
            IfOp::SetVlanClasses { classes } => self.set_vlan_classes(name, classes.clone())?,
            IfOp::Lagg { config } => self.lagg(name, *config)?,
            IfOp::SetLagg { config } => self.set_lagg(name, *config)?,
            IfOp::RemoveInterface {} => self.remove_interface(name)?,
            IfOp::RenameInterface { name: new_name } => self.rename_interface(name, new_name)?,
            IfOp::SetMac { mac } => self.set_mac(name, *mac)?,
            IfOp::SetIpMtu { ip_mtu } => self.set_ip_mtu(name, *ip_mtu)?,
            IfOp::SetUp { state } => self.set_up(name, *state)?,
            IfOp::SetOffload { offload } => self.set_offload(name, *offload)?,
            IfOp::SetLink { link } => self.set_link(name, (**link).clone())?,
            IfOp::SetRouter { config } => {
                self.set_router(name, config.as_deref().cloned())?;
            }
            IfOp::AddAddress { address, metric } => self.add_address_at(name, *address, *metric)?,
            IfOp::AddAnycast { address } => self.add_anycast(name, *address)?,
            IfOp::RemoveAddress { address } => self.remove_address(name, *address)?,
            IfOp::AddNeighbour { address, mac } => self.add_neighbour(name, *address, *mac)?,
            IfOp::RemoveNeighbour { address } => self.remove_neighbour(name, *address)?,
        }
        Ok(())
    }

    fn apply_to_bridge(&self, name: &str, op: &BridgeOp) -> Result<(), AdminError> {
        match op {
            BridgeOp::SetBridge { config } => self.set_bridge(name, (**config).clone()),
            BridgeOp::AddMember { member } => self.add_member(name, member),
            BridgeOp::RemoveMember { member } => self.remove_member(name, member),
            BridgeOp::SetMember { member, config } => {
                self.set_member(name, member, (**config).clone())
            }
            BridgeOp::AddStation { member, mac, vid } => self.add_station(name, member, *mac, *vid),
            BridgeOp::RemoveStation { mac, vid } => self.remove_station(name, *mac, *vid),
        }
    }

    fn apply_to_routes(&self, op: &RouteOp) -> Result<(), AdminError> {
        match op {
            RouteOp::AddRoute {
                dst,
                gateway,
                interface,
                kind,
                metric,
            } => self.add_static(*dst, *gateway, interface.clone(), *kind, *metric),
            RouteOp::RemoveRoute { dst, metric } => self.remove_static(*dst, Some(*metric)),
        }
    }

    fn apply_to_all(&self, op: &VnetOp) -> Result<(), AdminError> {
        match op {
            VnetOp::SetForwarding { forwarding } => self.set_forwarding(*forwarding)?,
            VnetOp::SetSysctl { name, value } => self.set_sysctl(name, value)?,
            VnetOp::SetAddressPolicy { table } => self.set_address_policy(table.clone())?,
            VnetOp::SetLimit { resource, limit } => {
                self.owners_only("its limits")?;
                self.limit_to(*resource, *limit)?;
            }
            VnetOp::SetPrivileges { privileges } => {
                self.owners_only("its privileges")?;
                self.mask_to(*privileges)?;
            }
        }
        Ok(())
    }

    fn owners_only(&self, what: &'static str) -> Result<(), AdminError> {
        match self.authority {
            Authority::Tenant => Err(AdminError::OwnerOnly(what)),
            Authority::Owner | Authority::System => Ok(()),
        }
    }
}

impl Stack {
    /// Sets how many routes there may be, and returns how many there might be before.
    fn limit_routes(&mut self, routes: usize) -> usize {
        let before = self.ip.max_routes();
        self.ip.set_max_routes(routes);
        before
    }
}
