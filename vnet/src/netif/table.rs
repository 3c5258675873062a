//! [`Netif`], an interface, and the table of a vnet's interfaces.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use super::bridge::config::Membership;
use super::capture::Taps;
use super::error::AdminError;
use super::fingerprint::{FingerprintSum, Recorder};
use super::kind::{Capabilities, Kind, Offload, OffloadSetting};
use super::lagg::config::LaggMembership;
use super::member::Member;
use super::vlan::Vlans;
use crate::base::deadline::{Armed, Deadlines};
use crate::base::id::IfId;
use crate::base::slab::Slab;
use crate::base::sorted::Sorted;
use crate::base::switch::Switch;
use crate::base::time::Instant;
use crate::base::walked::Walked;
use crate::link::{Account, Link};
use crate::packet::cx::Carrier;
use crate::packet::witness::Witness;
use crate::packet::{Cx, MacAddr};

/// Bytes that the links of a vnet may hold unless something else is said: a queue of 10 Gbit/s and
/// 100 ms in frames of 1500 bytes, and half as much again.
pub(crate) const DEFAULT_LINK_BYTES: u64 = 256 << 20;
/// The IP MTU of Ethernet.
const ETHERNET_IP_MTU: u16 = 1500;
/// Longest interface name in bytes, as `IFNAMSIZ` less its terminator.
pub(crate) const MAX_NAME: usize = 15;

/// The administrative state of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// The interface is in use.
    Up,
    /// The interface neither sends nor receives.
    Down,
}

/// Counters of the frames and bytes that passed an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IfCounters {
    /// Received frames.
    pub rx_frames: u64,
    /// Received bytes, including link headers.
    pub rx_bytes: u64,
    /// Sent frames, before the link's impairments.
    pub tx_frames: u64,
    /// Sent bytes, including link headers.
    pub tx_bytes: u64,
}

/// An interface of a vnet.
pub(crate) struct Netif {
    /// Its identifier, which no other interface of this vnet ever has.
    pub id: IfId,
    /// Its name, unique in the vnet.
    pub name: Box<str>,
    /// What it is, and where its frames go.
    pub(crate) kind: Kind,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IP packet it carries; the frame is 14 bytes longer.
    pub ip_mtu: u16,
    /// The largest packet of IPv6 that its link carries, by the word of a router.
    pub(crate) said_mtu: u16,
    /// Set by the administrator.
    pub admin: AdminState,
    /// Set by the wire.
    pub carrier: Carrier,
    /// The number of the last news of the wire's far end that it has heard.
    pub(crate) heard: u64,
    /// What the far end can take.
    pub offload: Offload,
    /// Impairments of the outgoing direction.
    pub(crate) link: Option<Box<Link>>,
    /// When that is looked at next, if it holds frames; for a lagg, when LACP has something to do.
    pub(crate) link_armed: Armed,
    /// What the links of its vnet hold together.
    pub(crate) link_account: Option<Arc<Account>>,
    /// How much of that is its own.
    pub(crate) link_charged: u64,
    /// What it is a member of, if anything: what comes in is for that.
    pub(crate) member: Option<Member>,
    /// The VLAN interfaces that stand on it.
    pub(crate) vlans: Vlans,
    /// Who watches.
    pub(crate) taps: Taps,
    /// The fingerprint of what crosses it, when that is on.
    pub(crate) fingerprint: Option<Box<Recorder>>,
    /// Who sees what it sends, in tests.
    pub(crate) witness: Witness,
    /// What crossed it.
    pub counters: IfCounters,
    /// Its place in the order in which the interfaces of its vnet were made.
    pub(crate) place: u64,
    /// Set while it is in another vnet than its home.
    pub(crate) loan: Option<Box<Loan>>,
}

/// Where an interface belongs that is in another vnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loan {
    /// Names the loan, in the whole system and for ever.
    pub(crate) serial: u64,
    /// The number of its home vnet.
    pub(crate) home: u64,
    /// The name of its home vnet.
    pub(crate) home_name: Box<str>,
    /// Its own name at home.
    pub(crate) name: Box<str>,
}

impl Netif {
    /// An interface that is up, has no carrier, and is a member of nothing.
    pub(crate) fn new(id: IfId, name: &str, kind: Kind, mac: MacAddr) -> Netif {
        let can = kind.name().can();
        Netif {
            id,
            name: name.into(),
            kind,
            mac,
            ip_mtu: ETHERNET_IP_MTU,
            said_mtu: u16::MAX,
            admin: AdminState::Up,
            carrier: Carrier::Down,
            heard: 0,
            offload: match can.offload {
                OffloadSetting::Initially(offload) => offload,
                OffloadSetting::OfEachBelow => Offload::Full,
            },
            link: None,
            link_armed: Armed::default(),
            link_account: None,
            link_charged: 0,
            place: 0,
            member: None,
            vlans: Vlans::default(),
            taps: Taps::default(),
            fingerprint: None,
            witness: Witness::of_this_thread(),
            counters: IfCounters::default(),
            loan: None,
        }
    }

    /// The largest packet to `dst` that it carries.
    #[inline]
    pub(crate) fn mtu_to(&self, dst: IpAddr) -> u16 {
        match dst {
            IpAddr::V4(_) => self.ip_mtu,
            IpAddr::V6(_) => self.ip_mtu.min(self.said_mtu),
        }
    }

    /// What can be done with it.
    #[inline]
    pub(crate) fn can(&self) -> Capabilities {
        self.kind.name().can()
    }

    /// Checks that its kind has what is asked for.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`].
    pub(crate) fn require(&self, has: bool, what: &'static str) -> Result<(), AdminError> {
        let kind = self.kind.name();
        has.then_some(())
            .ok_or(AdminError::Unsupported { kind, what })
    }

    /// Its membership of a bridge.
    #[inline]
    pub(crate) fn on_bridge(&self) -> Option<&Membership> {
        self.member.as_ref().and_then(Member::of_bridge)
    }

    /// Its membership of a lagg.
    pub(crate) fn on_lagg(&self) -> Option<&LaggMembership> {
        match &self.member {
            Some(Member::Lagg(member)) => Some(member),
            Some(Member::Bridge(_)) | None => None,
        }
    }

    /// Its membership of a bridge, to be changed.
    pub(crate) fn on_bridge_mut(&mut self) -> Option<&mut Membership> {
        match &mut self.member {
            Some(Member::Bridge(member)) => Some(member),
            Some(Member::Lagg(_)) | None => None,
        }
    }

    /// True when frames can pass: administratively up and with something at the other end.
    pub(crate) fn is_running(&self) -> bool {
        self.admin == AdminState::Up && self.carrier == Carrier::Up
    }

    /// True when a segment that stands for several crosses it whole; otherwise it is cut here,
    /// at the last moment, since everything before costs the same for one as for many.
    pub(crate) fn carries_large_segments(&self) -> bool {
        let impaired = |l: &Link| !l.config().is_transparent();
        self.offload == Offload::Full && !self.link.as_deref().is_some_and(impaired)
    }
}

/// Largest TCP payload in one packet: an IPv4 packet is at most 65 535 bytes, and both headers
/// with all their options take 120.
pub(crate) const MAX_GSO: u32 = 65_535 - 120;

/// The interfaces of one vnet, in the order of their creation.
pub(crate) struct IfTable {
    /// In boxes: a table always has one slot that is free.
    slots: Slab<IfId, Box<Netif>>,
    /// By place.
    order: Sorted<u64, IfId>,
    names: Sorted<Box<str>, IfId>,
    /// Interfaces made so far.
    made: u64,
    /// When links that hold frames want to be looked at.
    link_deadlines: Deadlines<IfId>,
    /// What links hold together.
    pub(crate) link_account: Arc<Account>,
    /// Whether the traffic class of packets and the priority of VLAN tags follow each other.
    pub(crate) vlan_classes: Switch,
    /// An interface has, or had, maps of its own between the two.
    pub(crate) has_class_maps: bool,
    fingerprint: Fingerprinting,
    pub(crate) walked: Walked,
    /// VLAN interfaces that have lost their parents, until the end of the call that took these.
    bereft: Option<Box<Bereft>>,
}

/// VLAN interfaces that have lost their parents.
#[derive(Default)]
struct Bereft {
    /// Loans of those whose parents have left this vnet: they are to end.
    loans: Vec<u64>,
    /// Names of those that have gone with their parents, for the journal.
    gone: Vec<Box<str>>,
}

impl Default for IfTable {
    fn default() -> IfTable {
        IfTable {
            slots: Slab::default(),
            order: Sorted::default(),
            names: Sorted::default(),
            made: 0,
            link_deadlines: Deadlines::default(),
            link_account: Arc::new(Account::new(DEFAULT_LINK_BYTES)),
            vlan_classes: Switch::Off,
            has_class_maps: false,
            fingerprint: Fingerprinting::Off,
            walked: Walked::default(),
            bereft: None,
        }
    }
}

/// Whether a vnet's frames are fingerprinted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fingerprinting {
    /// No.
    #[default]
    Off,
    /// Yes; with the sum of the interfaces that are gone.
    On(Box<FingerprintSum>),
}

impl IfTable {
    /// Adds an interface; `make` is given its identifier.
    ///
    /// # Errors
    /// A name that is taken or is none.
    pub(crate) fn insert(
        &mut self,
        name: &str,
        make: impl FnOnce(IfId) -> Netif,
    ) -> Result<IfId, AdminError> {
        self.check_name(name)?;
        self.made += 1;
        let id = self.slots.insert_with_key(|id| {
            Box::new(Netif {
                place: self.made,
                link_account: Some(Arc::clone(&self.link_account)),
                link_charged: 0,
                ..make(id)
            })
        });
        self.order.insert(self.made, id);
        self.names.insert(name.into(), id);
        let vlan = self.slots.get(id).and_then(|i| i.kind.vlan());
        self.has_class_maps |= vlan.is_some_and(|vlan| vlan.classes.is_some());
        if let (Fingerprinting::On(_), Some(netif)) = (&self.fingerprint, self.slots.get_mut(id)) {
            netif.fingerprint = Some(Box::new(Recorder::new(self.made)));
        }
        Ok(id)
    }

    /// Whether the traffic class of a packet and the priority of its tag may follow each other.
    #[inline]
    pub(crate) fn classifies(&self) -> bool {
        self.vlan_classes.is_on() || self.has_class_maps
    }

    /// Gives an interface another name.
    ///
    /// # Errors
    /// A name that is taken or is none, or no such interface.
    pub(crate) fn rename(&mut self, id: IfId, name: &str) -> Result<(), AdminError> {
        self.check_name(name)?;
        let netif = self.slots.get_mut(id);
        let netif = netif.ok_or_else(|| AdminError::NotFound(name.to_owned()))?;
        let old = std::mem::replace(&mut netif.name, name.into());
        self.names.remove(&old);
        self.names.insert(name.into(), id);
        Ok(())
    }

    /// Whether an interface of that name could be made.
    ///
    /// # Errors
    /// A name that is taken or is none.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), AdminError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(AdminError::BadName(name.to_owned()));
        }
        match self.names.get(name).is_some() {
            true => Err(AdminError::Exists(name.to_owned())),
            false => Ok(()),
        }
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub(crate) fn id_of(&self, name: &str) -> Result<IfId, AdminError> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| AdminError::NotFound(name.to_owned()))
    }

    /// The interface of that name, to be looked at.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub(crate) fn by_name(&self, name: &str) -> Result<&Netif, AdminError> {
        let netif = self.slots.get(self.id_of(name)?);
        Ok(netif.expect("an interface with a name is in the table"))
    }

    /// The interface of that name, to be changed.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub(crate) fn by_name_mut(&mut self, name: &str) -> Result<&mut Netif, AdminError> {
        let id = self.id_of(name)?;
        let netif = self.slots.get_mut(id);
        Ok(netif.expect("an identifier just looked up is valid"))
    }

    /// The interface, unless it is gone.
    #[inline]
    pub(crate) fn get(&self, id: IfId) -> Option<&Netif> {
        Some(self.slots.get(id)?)
    }

    /// The interface, to be changed, unless it is gone.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: IfId) -> Option<&mut Netif> {
        Some(self.slots.get_mut(id)?)
    }

    /// Removes an interface.
    pub(crate) fn remove(&mut self, id: IfId) -> Option<Netif> {
        let mut netif = self.slots.remove(id)?;
        self.order.remove(&netif.place);
        self.names.remove(&netif.name);
        self.link_deadlines.forget(&mut netif.link_armed);
        if let (Fingerprinting::On(gone), Some(recorder)) =
            (&mut self.fingerprint, &netif.fingerprint)
        {
            gone.add(recorder.sum());
        }
        Some(*netif)
    }

    /// Fingerprints every frame from now on. Interfaces that are there already are numbered in the
    /// order of their creation. Does nothing when it is on.
    pub(crate) fn start_fingerprint(&mut self) {
        if self.fingerprint != Fingerprinting::Off {
            return;
        }
        self.fingerprint = Fingerprinting::On(Box::default());
        let first = self.made + 1 - self.order.len() as u64;
        for (place, id) in (first..).zip(self.order.values()) {
            if let Some(netif) = self.slots.get_mut(*id) {
                netif.fingerprint = Some(Box::new(Recorder::new(place)));
            }
        }
    }

    /// True when frames are fingerprinted.
    pub(crate) fn is_fingerprinting(&self) -> bool {
        self.fingerprint != Fingerprinting::Off
    }

    /// The sum of the fingerprints of all interfaces, those included that are gone.
    pub(crate) fn fingerprint(&self) -> FingerprintSum {
        let Fingerprinting::On(gone) = &self.fingerprint else {
            return FingerprintSum::default();
        };
        let mut sum = **gone;
        let recorders = self.iter().filter_map(|i| i.fingerprint.as_deref());
        recorders.for_each(|recorder| sum.add(recorder.sum()));
        sum
    }

    /// The loan of a VLAN interface is to end: its parent has left this vnet.
    pub(crate) fn orphan(&mut self, loan: u64) {
        self.bereft.get_or_insert_default().loans.push(loan);
    }

    /// A VLAN interface of that name has gone with its parent.
    pub(crate) fn went_along(&mut self, name: Box<str>) {
        self.bereft.get_or_insert_default().gone.push(name);
    }

    /// True when there are loans to end.
    pub(crate) fn has_orphans(&self) -> bool {
        self.bereft.as_ref().is_some_and(|b| !b.loans.is_empty())
    }

    /// The loans that are to end.
    pub(crate) fn take_orphans(&mut self) -> Vec<u64> {
        let bereft = self.bereft.as_mut();
        bereft.map_or(Vec::new(), |b| mem::take(&mut b.loans))
    }

    /// The names of VLAN interfaces that have gone with their parents, and that the journal does not know of yet.
    pub(crate) fn take_gone(&mut self) -> Vec<Box<str>> {
        let bereft = self.bereft.as_mut();
        bereft.map_or(Vec::new(), |b| mem::take(&mut b.gone))
    }

    /// When a link that holds frames wants to be looked at; may be early.
    #[inline]
    pub(crate) fn link_deadline(&self) -> Option<Instant> {
        self.link_deadlines.next()
    }

    /// Makes sure that the link of an interface is looked at when it is `at`.
    pub(crate) fn arm_link(&mut self, id: IfId, at: Instant) {
        if let Some(netif) = self.slots.get_mut(id) {
            self.link_deadlines.arm(&mut netif.link_armed, id, at);
        }
    }

    /// Forgets when the link of an interface was to be looked at.
    pub(crate) fn disarm_link(&mut self, id: IfId) {
        if let Some(netif) = self.slots.get_mut(id) {
            self.link_deadlines.forget(&mut netif.link_armed);
        }
    }

    /// Sends what is due of what links hold. When there will be more is noted in `cx.out`, as by
    /// every transmission.
    /// Returns the laggs that have something to do.
    pub(crate) fn drain_links(&mut self, cx: &mut Cx) -> Vec<IfId> {
        let mut laggs = Vec::new();
        while let Some((at, id)) = self.link_deadlines.pop_due(cx.now) {
            if let Some(netif) = self.slots.get_mut(id)
                && Deadlines::<IfId>::disarm(&mut netif.link_armed, at)
            {
                match netif.kind {
                    Kind::Lagg(_) => laggs.push(id),
                    _ => netif.drain_link(cx),
                }
            }
        }
        laggs
    }

    /// Frames that links hold.
    pub(crate) fn held_frames(&self) -> usize {
        let links = self.iter().filter_map(|i| i.link.as_deref());
        links.map(Link::held_frames).sum()
    }

    /// The place that the next interface has in the order of their creation.
    pub(crate) fn next_place(&self) -> u64 {
        self.made + 1
    }

    /// The interfaces in the order of their creation.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Netif> {
        let ids = self.order.values();
        ids.filter_map(|id| {
            self.walked.step();
            self.get(*id)
        })
    }

    /// The number of interfaces.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// True when there are none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The identifiers in the order of creation.
    pub(crate) fn ids(&self) -> Vec<IfId> {
        self.order.values().copied().collect()
    }
}
