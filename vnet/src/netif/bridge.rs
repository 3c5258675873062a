//! A transparent learning bridge (IEEE 802.1Q-2018, clause 8) over interfaces of one vnet, after
//! FreeBSD's `if_bridge`.
//!
//! A bridge is an interface, by which the vnet itself is on it, and any number of members. It
//! decides by a frame's addresses and returns a [`Verdict`], and says of each member whether it takes
//! the frame; `stack/tx.rs` hands it over. Bridges may be connected in loops where a spanning tree runs;
//! where none does, a frame is dropped when it has crossed [`BridgeConfig::MAX_BRIDGES`]. VLAN tags pass unread, unless
//! the bridge is told to tell VLANs apart ([`vlan`]).
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | how it works, and how it treats its members |
//! | [`egress`] | how frames leave it |
//! | [`fdb`] | where each station is |
//! | [`introduce`] | stations that others are to learn of, when a member leads another way |
//! | [`members`] | who is on which bridge, and leaves it |
//! | [`snooping`] | who is in which group |
//! | [`storm`] | how many frames that go to many come in |
//! | [`stp`] | the rapid spanning tree protocol, without I/O |
//! | [`tree`] | the spanning tree of one bridge |
//! | [`vlan`] | in which VLAN a frame is, and who is in it |
//! | `spanning` | what trees are told, and what they say is done |

pub(crate) mod config;
mod display;
mod egress;
pub(crate) mod fdb;
pub(crate) mod introduce;
pub(crate) mod members;
pub(crate) mod snooping;
pub(crate) mod spanning;
pub(crate) mod storm;
pub(crate) mod stp;
pub(crate) mod tree;
pub(crate) mod vlan;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::link::Account;
use crate::packet::header::EtherHeader;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::tag::Tpid;
use crate::packet::{MacAddr, Packet};
use fdb::{Class, Fdb, Fid, Learned, Origin, Place, Source, is_learned};
use introduce::Introductions;
use slotmap::SecondaryMap;
use snooping::read::{Says, ToGroup};
use snooping::{Audience, Snooper};
use std::sync::Arc;
use storm::{Storm, StormKind};
use stp::state::PortState;
use tree::Tree;
use vlan::Vlans;

pub use config::{BridgeConfig, BridgeMode, MemberConfig, Switchable};
pub(crate) use config::{BridgeId, Treatment};
pub(crate) use members::Bridges;
pub use snooping::SnoopingCounters;
pub use snooping::config::Snooping;
pub use storm::StormLimits;
pub use vlan::config::{BridgeVlans, MemberVlans, TagPolicy, VlanLearning};
pub use vlan::set::VidSet;

/// Counters of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BridgeCounters {
    /// Frames received by its members.
    pub received: u64,
    /// Frames sent only to the member that their destination is behind.
    pub forwarded: u64,
    /// Frames sent to all members: to groups, and to unknown stations.
    pub flooded: u64,
    /// Frames for the vnet itself; those to a group also count as flooded.
    pub delivered: u64,
    /// Stations learned.
    pub learned: u64,
    /// Stations that moved to another member.
    pub moved: u64,
    /// Frames whose sender was not learned because the table was full.
    pub table_full: u64,
    /// Frames dropped because no other member takes them.
    pub filtered: u64,
    /// Frames dropped because they had come back, or had crossed too many bridges.
    pub looped: u64,
    /// Copies of frames that did not fit a member's MTU.
    pub too_big: u64,
    /// Copies of frames for a member that was down.
    pub member_down: u64,
    /// Frames dropped because the spanning tree, or a guard, keeps the member that received them from forwarding.
    pub discarded: u64,
    /// Frames dropped because they were in no VLAN, or because a member concerned is not in theirs.
    pub vlan_filtered: u64,
    /// Frames dropped because the limit on stations behind the member that received them was reached.
    pub refused: u64,
    /// Frames dropped because their member had received more broadcasts, multicasts or frames to unknown stations
    /// than it may.
    pub storms: u64,
}

/// A member that brought in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingress {
    /// The interface.
    pub ifid: IfId,
    /// How the bridge treats it.
    pub config: Treatment,
    /// What it does with frames.
    pub state: PortState,
}

/// Where a frame that came in goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Up, as if it had come in on this interface: the bridge, or the member whose address it has.
    Up(IfId),
    /// To the member where its station is.
    Forward(IfId),
    /// To all other members, and up as well when an interface is named.
    Flood(Flood, Option<IfId>),
    /// To the bridge's spanning tree.
    Bpdu,
    /// Nowhere.
    Drop(DropReason),
}

/// Who has sent a frame that leaves by the bridge's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The interface itself.
    Itself,
    /// A station with this address, above it.
    Above(MacAddr),
}

/// Where a frame goes that leaves by the bridge's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To the member where its station is.
    Forward(IfId),
    /// To all members.
    Flood(Flood),
    /// Nowhere.
    Drop(DropReason),
}

/// Why a frame goes everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// It is for everybody.
    Broadcast,
    /// It is for a group.
    Multicast,
    /// The bridge is a hub, or knows the one member that it is for.
    Any,
    /// Nobody knows where its station is.
    Unknown,
    /// It is for this group, and is known to be wanted only behind some members, and by routers.
    Members(IpAddr),
    /// Only routers are to have it: it says who is in a group.
    Routers,
}

impl Flood {
    /// Why a frame for this address goes everywhere, but for that nobody knows where its station is.
    fn of(dst: MacAddr) -> Flood {
        match dst {
            dst if dst.is_broadcast() => Flood::Broadcast,
            dst if dst.is_multicast() => Flood::Multicast,
            _ => Flood::Any,
        }
    }
}

/// A bridge.
pub(crate) struct Bridge {
    /// Its own interface.
    pub ifid: IfId,
    /// Its members, in the order in which they joined.
    pub members: Vec<IfId>,
    /// Where stations are.
    pub fdb: Fdb,
    /// How it works.
    pub config: BridgeConfig,
    /// What is configured of its members.
    member_configs: SecondaryMap<IfId, MemberConfig>,
    /// VLANs, if it tells them apart.
    vlans: Option<Box<Vlans>>,
    /// Who is in which group, if it reads that.
    pub snooper: Option<Box<Snooper>>,
    /// What members with a storm limit may still bring in.
    storms: SecondaryMap<IfId, Storm>,
    /// Members that only watch.
    pub spans: Vec<IfId>,
    /// What it and other bridges of its vnet remember.
    account: Arc<Account>,
    /// Stations that it introduces.
    pub(super) introductions: Option<Box<Introductions>>,
    /// Its part in a spanning tree.
    pub tree: Option<Box<Tree>>,
    /// What it did.
    pub counters: BridgeCounters,
}

impl Bridge {
    fn new(ifid: IfId, seed: u64, account: Arc<Account>) -> Bridge {
        let config = BridgeConfig::default();
        Bridge {
            ifid,
            members: Vec::new(),
            fdb: Fdb::new(
                seed,
                config.max_age,
                config.max_stations,
                Arc::clone(&account),
            ),
            config,
            member_configs: SecondaryMap::new(),
            vlans: None,
            snooper: None,
            storms: SecondaryMap::new(),
            spans: Vec::new(),
            account,
            introductions: None,
            tree: None,
            counters: BridgeCounters::default(),
        }
    }

    /// Changes how it works. A hub forgets what it has learned, and so does a bridge that has other VLANs.
    pub(crate) fn set_config(&mut self, now: Instant, config: BridgeConfig) {
        self.fdb
            .set_bounds(now, config.max_age, config.max_stations);
        let most = config.vlans.as_ref().and_then(|vlans| vlans.max_stations);
        self.fdb.set_max_in_vlan(most.unwrap_or(u32::MAX));
        if config.mode == BridgeMode::Hub || config.vlans != self.config.vlans {
            self.fdb.remove_if(is_learned);
        }
        self.vlans = config.vlans.as_ref().map(|vlans| {
            let mut vlans = Box::new(Vlans::new(vlans));
            for (member, config) in &self.member_configs {
                vlans.set(member, &config.vlans);
            }
            vlans
        });
        if (config.vlans != self.config.vlans || config.mode == BridgeMode::Hub)
            && let Some(snooper) = &mut self.snooper
        {
            snooper.forget_all();
        }
        match (&config.snooping, &mut self.snooper) {
            (None, snooper) => *snooper = None,
            (Some(config), Some(snooper)) => snooper.set_config(now, *config),
            (Some(config), none) => {
                let account = Arc::clone(&self.account);
                *none = Some(Box::new(Snooper::new(*config, account)));
            }
        }
        self.config = config;
        self.ask_where_members_are(now);
    }

    /// Changes how it treats a member. What was learned of the member's stations in other VLANs is
    /// forgotten.
    pub(crate) fn set_member_config(&mut self, now: Instant, member: IfId, config: MemberConfig) {
        if let Some(vlans) = &mut self.vlans {
            vlans.set(member, &config.vlans);
        }
        if let Some(old) = self.member_configs.get(member)
            && old.vlans != config.vlans
        {
            self.fdb.remove_if(|s| s.ifid == member && is_learned(s));
            self.forget_groups(member);
        }
        match config.storm.is_default() {
            true => drop(self.storms.remove(member)),
            false => match self.storms.get_mut(member) {
                Some(storm) => storm.set(&config.storm),
                None => {
                    let mut storm = Storm::default();
                    storm.set(&config.storm);
                    self.storms.insert(member, storm);
                }
            },
        }
        self.spans.retain(|m| *m != member);
        if config.span.is_on() {
            self.spans.push(member);
            // Nobody is behind it.
            self.fdb.remove_if(|s| s.ifid == member && is_learned(s));
            self.forget_groups(member);
        }
        self.member_configs.insert(member, config);
        self.ask_where_members_are(now);
    }

    /// Groups are asked for in all VLANs in which there are members without tags.
    fn ask_where_members_are(&mut self, now: Instant) {
        let Some(snooper) = &mut self.snooper else {
            return;
        };
        let vlans = match self.config.vlans {
            // It reads no answers.
            _ if self.config.mode == BridgeMode::Hub => BTreeSet::new(),
            None => BTreeSet::from([Fid::ALL]),
            Some(_) => {
                let untagged = self.member_configs.values().map(|c| &c.vlans.untagged);
                untagged.flat_map(|set| set.iter()).map(Fid::of).collect()
            }
        };
        snooper.ask_in(now, &vlans);
    }

    /// Whoever was in a group behind a member is not known to be there any more.
    fn forget_groups(&mut self, member: IfId) {
        if let Some(snooper) = &mut self.snooper {
            snooper.forget(member);
        }
    }

    /// A member runs, or does not. Who is behind one that begins to is asked.
    pub(super) fn runs(&mut self, now: Instant, member: IfId, is_running: bool) {
        let Some(snooper) = &mut self.snooper else {
            return;
        };
        match is_running {
            true => {
                let config = self.member_configs.get(member);
                snooper.is_back(now, member, |vlan| is_in(config, vlan));
            }
            false => snooper.absent(member),
        }
    }

    /// A member is new, or in other VLANs: who is behind it is asked.
    pub(super) fn greet(&mut self, now: Instant, member: IfId) {
        if let Some(snooper) = &mut self.snooper {
            let config = self.member_configs.get(member);
            snooper.greet(now, member, |vlan| is_in(config, vlan));
        }
    }

    /// How it treats a member.
    pub(crate) fn member_config(&self, member: IfId) -> Option<&MemberConfig> {
        self.member_configs.get(member)
    }

    /// Forgets a member.
    fn remove_member(&mut self, now: Instant, member: IfId) {
        self.members.retain(|m| *m != member);
        self.fdb.remove_if(|s| s.ifid == member);
        self.member_configs.remove(member);
        self.storms.remove(member);
        if let Some(snooper) = &mut self.snooper {
            snooper.remove(member);
        }
        self.spans.retain(|m| *m != member);
        if let Some(introductions) = &mut self.introductions {
            introductions.forget(member);
        }
        if let Some(vlans) = &mut self.vlans {
            vlans.remove(member);
        }
        self.ask_where_members_are(now);
    }

    /// Decides about a frame that `from` brought in, whose tags are off. It is in its VLAN then.
    #[inline]
    pub(crate) fn input(
        &mut self,
        now: Instant,
        from: Ingress,
        header: &EtherHeader,
        packet: &mut Packet,
    ) -> Verdict {
        self.counters.received += 1;
        if from.config.span.is_on() {
            return Verdict::Drop(self.filtered());
        }
        let mut class = Class::ANY;
        if self.vlans.is_some() {
            match self.classify(from, header, packet) {
                Ok(found) => class = found,
                Err(verdict) => return verdict,
            }
        }
        if self.tree.is_some()
            && let Some(verdict) = self.gate(now, from, class, header)
        {
            return verdict;
        }
        let learned = match packet.meta.bridges.count() >= BridgeConfig::MAX_BRIDGES {
            true => Learned::Own,
            false => self.learn(now, from, class, header.src),
        };
        if matches!(learned, Learned::Own | Learned::Refused) {
            return Verdict::Drop(self.turn_away(learned));
        }
        let is_group = header.dst.is_multicast();
        if is_group && self.config.mode == BridgeMode::Switch && self.is_reserved(header.dst) {
            return Verdict::Drop(self.filtered());
        }
        let station = match is_group {
            true => None,
            false => self.fdb.lookup(now, class.vlan, header.dst),
        };
        let local = station.filter(|s| s.origin == Origin::Local);
        if is_group || self.config.mode == BridgeMode::Hub {
            let mut why = Flood::of(header.dst);
            // What is dropped says nothing.
            if from.config.is_limited && !self.admits(now, from.ifid, why) {
                return Verdict::Drop(DropReason::RateLimited);
            }
            if self.snoops(why) {
                match self.snoop(now, from.ifid, class, header, packet) {
                    Ok(found) => why = found,
                    Err(reason) => return Verdict::Drop(reason),
                }
            }
            let is_ours = is_group || local.is_some();
            let up = self.host(packet).filter(|_| is_ours);
            self.counters.delivered += u64::from(up.is_some());
            return Verdict::Flood(why, up);
        }
        match station {
            None if from.config.is_limited && !self.admits(now, from.ifid, Flood::Unknown) => {
                Verdict::Drop(DropReason::RateLimited)
            }
            None => Verdict::Flood(Flood::Unknown, None),
            Some(station) if self.takes(packet, &station) => {
                self.counters.delivered += 1;
                self.to_host(packet);
                Verdict::Up(station.ifid)
            }
            Some(other) if self.is_behind_another(from.ifid, &other) => {
                Verdict::Forward(other.ifid)
            }
            Some(_) => Verdict::Drop(self.filtered()),
        }
    }

    /// The interface by which the vnet itself receives a frame that is inside the bridge, if it does.
    #[inline]
    fn host(&self, packet: &Packet) -> Option<IfId> {
        let is_in = match &self.vlans {
            None => true,
            Some(vlans) => vlans.host_form(vlans.place(packet)).is_some(),
        };
        (is_in && self.config.host_port == Switchable::On).then_some(self.ifid)
    }

    /// Whether what is for a station comes in where it is: it is the bridge or a member, or stands on the
    /// bridge's interface. By a member it does not come in where VLANs are told apart: on its own, a member
    /// is in none.
    #[inline]
    fn takes(&self, packet: &Packet, station: &Place) -> bool {
        let by_member = station.origin == Origin::Local && self.vlans.is_none();
        (station.ifid == self.ifid || by_member) && self.host(packet).is_some()
    }

    /// Whether a station is behind another member than `from`.
    #[inline]
    fn is_behind_another(&self, from: IfId, station: &Place) -> bool {
        station.origin != Origin::Local && station.ifid != from && station.ifid != self.ifid
    }

    /// Finds the VLAN of a frame that came in, unless it is for the spanning tree, or in none.
    #[inline(never)]
    fn classify(
        &mut self,
        from: Ingress,
        header: &EtherHeader,
        packet: &mut Packet,
    ) -> Result<Class, Verdict> {
        // IEEE 802.1Q-2018, clause 8.13.9: BPDUs are in no VLAN.
        if self.tree.is_some() && header.dst == self.group() {
            return Err(match self.speaks_by(from.ifid) {
                true => Verdict::Bpdu,
                false => Verdict::Drop(self.filtered()),
            });
        }
        let vlans = self.vlans.as_ref();
        let class = vlans.and_then(|vlans| vlans.classify(Some(from.ifid), packet));
        class.ok_or_else(|| Verdict::Drop(self.not_in_vlan()))
    }

    /// What the spanning tree has to say about a frame that came in, if anything.
    #[inline(never)]
    fn gate(
        &mut self,
        now: Instant,
        from: Ingress,
        class: Class,
        header: &EtherHeader,
    ) -> Option<Verdict> {
        if header.dst == self.group() {
            return Some(Verdict::Bpdu);
        }
        let reason = kept_back(from.state)?;
        if from.state == PortState::Learning {
            self.learn(now, from, class, header.src);
        }
        self.counters.discarded += 1;
        Some(Verdict::Drop(reason))
    }

    /// Whether it reads frames that go to many for this reason. A hub sends everything to all.
    #[inline]
    fn snoops(&self, why: Flood) -> bool {
        why == Flood::Multicast && self.snooper.is_some() && self.config.mode == BridgeMode::Switch
    }

    /// Reads a frame to a group, and decides who is to have it (RFC 4541).
    ///
    /// # Errors
    /// Why it is dropped.
    #[inline(never)]
    fn snoop(
        &mut self,
        now: Instant,
        from: IfId,
        class: Class,
        header: &EtherHeader,
        packet: &mut Packet,
    ) -> Result<Flood, DropReason> {
        let tags = packet.meta.tags;
        let behind_own = match self.vlans {
            // IEEE 802.1Q-2018, clause 6.9: VID 0 says that there is only a priority.
            None => tags.iter().find(|tag| tag.vid() != 0),
            Some(_) => tags.inner(),
        };
        let Some(snooper) = self.snooper.as_mut().filter(|_| behind_own.is_none()) else {
            // It is of a VLAN of which the bridge knows nothing.
            return Ok(Flood::Multicast);
        };
        match snooping::read::read(header, packet) {
            Ok(None) => Ok(Flood::Multicast),
            Ok(Some(ToGroup::Heard(heard))) => {
                snooper.heard(now, class.vlan, from, &heard);
                let is_report = matches!(heard.says, Says::Memberships(_));
                // Section 2.1.1 (1) a: hosts are not to hear each other's.
                Ok(
                    match is_report && snooper.is_for_routers(now, class.vlan, &heard) {
                        true => Flood::Routers,
                        false => Flood::Multicast,
                    },
                )
            }
            Ok(Some(ToGroup::Data(group))) => Ok(match snooper.audience(now, class.vlan, group) {
                Audience::All => Flood::Multicast,
                Audience::Members(group) => Flood::Members(group),
            }),
            Err(_) => {
                snooper.counters.malformed += 1;
                Err(DropReason::Malformed)
            }
        }
    }

    /// The same for a frame that leaves by the bridge's interface: hosts and routers may be above that, too.
    fn snoop_above(
        &mut self,
        now: Instant,
        class: Class,
        packet: &mut Packet,
    ) -> Result<Flood, DropReason> {
        let header = packet.pull_up(ETHER_LEN).map(|b| EtherHeader::parse(b));
        match header {
            Some(Ok(header)) => self.snoop(now, self.ifid, class, &header, packet),
            _ => Ok(Flood::Multicast),
        }
    }

    /// Where a frame goes that leaves by the bridge's interface, whose tags are off. It is in its VLAN
    /// then. Its sender is learned there unless it is the interface itself: it stands on it, or is
    /// behind what does.
    pub(crate) fn output(
        &mut self,
        now: Instant,
        sender: Sender,
        dst: MacAddr,
        packet: &mut Packet,
    ) -> Output {
        let mut class = Class::ANY;
        if let Some(vlans) = &self.vlans {
            match vlans.classify(None, packet) {
                Some(found) => class = found,
                None => return Output::Drop(self.not_in_vlan()),
            }
        }
        if packet.meta.bridges.count() >= BridgeConfig::MAX_BRIDGES {
            return Output::Drop(self.turn_away(Learned::Own));
        }
        if let Sender::Above(src) = sender {
            self.learn_above(now, class, src);
        }
        let vlan = class.vlan;
        if dst.is_multicast() || self.config.mode == BridgeMode::Hub {
            let why = Flood::of(dst);
            if self.snoops(why) {
                return match self.snoop_above(now, class, packet) {
                    Ok(why) => Output::Flood(why),
                    Err(reason) => Output::Drop(reason),
                };
            }
            return Output::Flood(why);
        }
        match self.fdb.lookup(now, vlan, dst) {
            None => Output::Flood(Flood::Unknown),
            Some(station) if self.is_behind_another(self.ifid, &station) => {
                Output::Forward(station.ifid)
            }
            Some(_) => Output::Drop(self.filtered()),
        }
    }

    /// Notes that a station is above the bridge's own interface.
    #[cold]
    fn learn_above(&mut self, now: Instant, class: Class, src: MacAddr) {
        if self.config.mode == BridgeMode::Switch && src.is_station() {
            let source = Source {
                ifid: self.ifid,
                origin: Origin::Learned,
                most: u32::MAX,
                most_in_vlan: u32::MAX,
            };
            self.note(now, class, src, source);
        }
    }

    /// The group to which BPDUs are sent (IEEE 802.1Q-2018, clause 8.13.5). A provider's bridges have one of
    /// their own, so that they carry those of their customers like other frames.
    pub(crate) fn group(&self) -> MacAddr {
        match self.is_provider() {
            true => stp::bpdu::PROVIDER_GROUP,
            false => stp::bpdu::GROUP,
        }
    }

    fn is_provider(&self) -> bool {
        let tpid = self.vlans.as_ref().map(|vlans| vlans.tpid());
        tpid == Some(Tpid::Dot1ad)
    }

    /// Whether BPDUs are sent and heard by a member. They are not in a tunnel through bridges of the
    /// customers' own kind: both would take those of the others for their own; nor by one that only watches.
    pub(crate) fn speaks_by(&self, member: IfId) -> bool {
        let vlans = self.vlans.as_ref();
        let is_tunnel = vlans.is_some_and(|vlans| vlans.is_tunnel(member));
        (self.is_provider() || !is_tunnel) && !self.spans.contains(&member)
    }

    /// True for groups whose frames are for the stations on one wire (IEEE 802.1Q-2018, tables 8-1 and, for
    /// a provider's bridges, 8-2).
    fn is_reserved(&self, mac: MacAddr) -> bool {
        match mac.0 {
            [0x01, 0x80, 0xc2, 0, 0, last] if self.is_provider() => {
                matches!(last, 0x01..=0x0a | 0x0e)
            }
            [0x01, 0x80, 0xc2, 0, 0, last] => last <= 0x0f,
            _ => false,
        }
    }

    fn learn(&mut self, now: Instant, from: Ingress, class: Class, src: MacAddr) -> Learned {
        let learns = from.config.learn == Switchable::On && self.config.mode == BridgeMode::Switch;
        if !src.is_station() || !learns {
            let known = self.fdb.lookup(now, class.vlan, src);
            let own = known.is_some_and(|s| s.origin == Origin::Local);
            return if own { Learned::Own } else { Learned::Known };
        }
        let source = Source {
            ifid: from.ifid,
            origin: from.config.remembers,
            most: from.config.max_stations,
            most_in_vlan: from.config.max_in_vlan,
        };
        self.note(now, class, src, source)
    }

    fn note(&mut self, now: Instant, class: Class, src: MacAddr, source: Source) -> Learned {
        let learned = self.fdb.learn(now, class, src, source);
        match learned {
            Learned::New => self.counters.learned += 1,
            Learned::Moved => self.counters.moved += 1,
            Learned::Full => self.counters.table_full += 1,
            Learned::Known | Learned::Pinned | Learned::Own | Learned::Refused => {}
        }
        learned
    }

    /// Whether a member with a storm limit may bring in a frame that goes to many.
    #[inline(never)]
    fn admits(&mut self, now: Instant, from: IfId, why: Flood) -> bool {
        let kind = match why {
            Flood::Broadcast => StormKind::Broadcast,
            Flood::Multicast | Flood::Members(_) | Flood::Routers => StormKind::Multicast,
            Flood::Unknown => StormKind::Unknown,
            Flood::Any => return true,
        };
        let storm = self.storms.get_mut(from);
        let admits = storm.is_none_or(|storm| storm.admits(now, kind));
        self.counters.storms += u64::from(!admits);
        admits
    }

    fn filtered(&mut self) -> DropReason {
        self.counters.filtered += 1;
        DropReason::BridgeFiltered
    }

    /// Why a frame goes no further because of its sender.
    #[cold]
    fn turn_away(&mut self, learned: Learned) -> DropReason {
        if learned == Learned::Refused {
            self.counters.refused += 1;
            return DropReason::BridgeStations;
        }
        self.counters.looped += 1;
        DropReason::BridgeLoop
    }

    fn not_in_vlan(&mut self) -> DropReason {
        self.counters.vlan_filtered += 1;
        DropReason::VlanFiltered
    }
}

/// Whether a member is in a VLAN, or in none, where they are not told apart.
fn is_in(config: Option<&MemberConfig>, vlan: Fid) -> bool {
    let carries = |vid| config.is_some_and(|config| config.vlans.carries(vid));
    vlan.vid().is_none_or(carries)
}

/// Why a member does not take part in forwarding, if it does not.
#[inline]
fn kept_back(state: PortState) -> Option<DropReason> {
    match state {
        PortState::Forwarding => None,
        PortState::Discarding | PortState::Learning => Some(DropReason::StpDiscarding),
        PortState::Guarded => Some(DropReason::StpGuard),
    }
}
