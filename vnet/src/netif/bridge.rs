//! A transparent learning bridge (IEEE 802.1D-2004, section 7) over interfaces of one vnet, after
//! FreeBSD's `if_bridge`.
//!
//! A bridge is an interface, by which the vnet itself is on it, and any number of members. It
//! decides by a frame's addresses and returns a [`Verdict`], and says of each member whether it takes
//! the frame; `stack/tx.rs` hands it over. Bridges may be connected in loops where a spanning tree runs;
//! where none does, a frame is dropped when it has crossed [`MAX_BRIDGES`]. VLAN tags pass unread, and
//! all VLANs share one filtering database.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | how it works, and how it treats its members |
//! | [`fdb`] | where each station is |
//! | [`members`] | who is on which bridge, and leaves it |
//! | [`stp`] | the rapid spanning tree protocol, without I/O |
//! | [`tree`] | the spanning tree of one bridge |
//! | `spanning` | what trees are told, and what they say is done |

pub(crate) mod config;
pub(crate) mod fdb;
pub(crate) mod members;
mod spanning;
pub(crate) mod stp;
pub(crate) mod tree;

use super::table::IfTable;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::header::{EtherHeader, ether};
use crate::packet::{MacAddr, Packet, gso};
use fdb::{Fdb, Learned, Origin};
use stp::state::PortState;
use tree::Tree;

pub(crate) use config::BridgeId;
pub use config::{BridgeConfig, BridgeMode, HostPort, MemberConfig, Stp, Switchable};
pub(crate) use members::Bridges;

/// Bridges that a frame may cross between two stations. IEEE 802.1D-2004 (section 17.14) never
/// lets a path have more than 40.
pub const MAX_BRIDGES: u8 = 64;

/// What a bridge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeCounters {
    /// Frames that members brought in.
    pub received: u64,
    /// Frames sent to the one member where their station is.
    pub forwarded: u64,
    /// Frames sent everywhere: to groups, and to stations that nobody knows.
    pub flooded: u64,
    /// Frames that were for the vnet itself; a group's count as flooded as well.
    pub delivered: u64,
    /// Stations learned.
    pub learned: u64,
    /// Stations that turned up behind another member.
    pub moved: u64,
    /// Frames whose sender was not learned because there was no room.
    pub table_full: u64,
    /// Frames dropped because nothing on another side takes them.
    pub filtered: u64,
    /// Frames dropped because they had come back, or had crossed too many bridges.
    pub looped: u64,
    /// Copies of frames that did not fit a member's MTU.
    pub too_big: u64,
    /// Copies of frames for a member that was down.
    pub member_down: u64,
    /// Frames dropped because the spanning tree, or a guard, keeps the member that brought them in
    /// from forwarding.
    pub discarded: u64,
}

/// A member that brought in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingress {
    /// The interface.
    pub ifid: IfId,
    /// How the bridge treats it.
    pub config: MemberConfig,
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

/// Where a frame of the vnet's own goes.
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
    /// It is for a group.
    Group,
    /// Nobody knows where its station is.
    Unknown,
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
    /// Its part in a spanning tree.
    pub tree: Option<Box<Tree>>,
    /// What it did.
    pub counters: BridgeCounters,
}

impl Bridge {
    fn new(ifid: IfId, seed: u64) -> Bridge {
        let config = BridgeConfig::default();
        Bridge {
            ifid,
            members: Vec::new(),
            fdb: Fdb::new(seed, config.max_age, config.max_stations),
            config,
            tree: None,
            counters: BridgeCounters::default(),
        }
    }

    /// Changes how it works. A hub forgets what it has learned.
    pub(crate) fn set_config(&mut self, now: Instant, config: BridgeConfig) {
        self.fdb
            .set_bounds(now, config.max_age, config.max_stations);
        if config.mode == BridgeMode::Hub {
            self.fdb.remove_if(|s| s.origin == Origin::Learned);
        }
        self.config = config;
    }

    /// Decides about a frame that `from` brought in after it had crossed `bridges` others.
    #[inline]
    pub(crate) fn input(
        &mut self,
        now: Instant,
        from: Ingress,
        header: &EtherHeader,
        bridges: u8,
    ) -> Verdict {
        self.counters.received += 1;
        if self.tree.is_some()
            && let Some(verdict) = self.gate(now, from, header)
        {
            return verdict;
        }
        if bridges >= MAX_BRIDGES || self.learn(now, from, header.src) == Learned::Own {
            self.counters.looped += 1;
            return Verdict::Drop(DropReason::BridgeLoop);
        }
        let host = match self.config.host_port {
            HostPort::Attached => Some(self.ifid),
            HostPort::Detached => None,
        };
        let is_group = header.dst.is_multicast();
        if is_group && self.config.mode == BridgeMode::Switch && is_reserved(header.dst) {
            return Verdict::Drop(self.filtered());
        }
        let station = match is_group {
            true => None,
            false => self.fdb.lookup(now, header.dst).copied(),
        };
        let local = station.filter(|s| s.origin == Origin::Local);
        if is_group || self.config.mode == BridgeMode::Hub {
            let up = host.filter(|_| is_group || local.is_some());
            self.counters.delivered += u64::from(up.is_some());
            return Verdict::Flood(Flood::Group, up);
        }
        match station {
            None => Verdict::Flood(Flood::Unknown, None),
            Some(local) if local.origin == Origin::Local && host.is_some() => {
                self.counters.delivered += 1;
                Verdict::Up(local.ifid)
            }
            Some(other) if other.origin != Origin::Local && other.ifid != from.ifid => {
                Verdict::Forward(other.ifid)
            }
            Some(_) => Verdict::Drop(self.filtered()),
        }
    }

    /// What the spanning tree has to say about a frame that came in, if anything.
    #[inline(never)]
    fn gate(&mut self, now: Instant, from: Ingress, header: &EtherHeader) -> Option<Verdict> {
        if header.dst == stp::bpdu::GROUP {
            return Some(Verdict::Bpdu);
        }
        let reason = kept_back(from.state)?;
        if from.state == PortState::Learning {
            self.learn(now, from, header.src);
        }
        self.counters.discarded += 1;
        Some(Verdict::Drop(reason))
    }

    /// Where a frame of the vnet's own goes.
    pub(crate) fn output(&mut self, now: Instant, dst: MacAddr) -> Output {
        if dst.is_multicast() || self.config.mode == BridgeMode::Hub {
            return Output::Flood(Flood::Group);
        }
        match self.fdb.lookup(now, dst) {
            None => Output::Flood(Flood::Unknown),
            Some(station) if station.origin == Origin::Local => Output::Drop(self.filtered()),
            Some(station) => Output::Forward(station.ifid),
        }
    }

    fn learn(&mut self, now: Instant, from: Ingress, src: MacAddr) -> Learned {
        let is_station = !src.is_multicast() && src != MacAddr::ZERO;
        let learns = from.config.learn == Switchable::On && self.config.mode == BridgeMode::Switch;
        if !is_station || !learns {
            let known = self.fdb.lookup(now, src);
            let own = known.is_some_and(|s| s.origin == Origin::Local);
            return if own { Learned::Own } else { Learned::Known };
        }
        let learned = self.fdb.learn(now, src, from.ifid);
        match learned {
            Learned::New => self.counters.learned += 1,
            Learned::Moved => self.counters.moved += 1,
            Learned::Full => self.counters.table_full += 1,
            Learned::Known | Learned::Pinned | Learned::Own => {}
        }
        learned
    }

    fn filtered(&mut self) -> DropReason {
        self.counters.filtered += 1;
        DropReason::BridgeFiltered
    }

    /// Readies a frame for one member; `from` is where it came from, unless it is the vnet's own.
    ///
    /// # Errors
    /// Why it does not go there; it is counted here, but not in the vnet's counters.
    pub(crate) fn forward(
        &mut self,
        ifs: &IfTable,
        from: Option<Ingress>,
        to: IfId,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let frame = FrameSize::of(packet)?;
        match self.admit(ifs, from, to, Flood::Group, frame) {
            Ok(()) => {
                leave(packet, from);
                self.counters.forwarded += 1;
                Ok(())
            }
            Err(reason) => {
                self.counters.filtered += u64::from(reason == DropReason::BridgeFiltered);
                Err(reason)
            }
        }
    }

    /// Begins to hand a frame to every member but the one that it came from.
    ///
    /// # Errors
    /// A frame whose headers cannot be read.
    pub(crate) fn flood(
        from: Option<Ingress>,
        why: Flood,
        packet: &mut Packet,
    ) -> Result<Flooding, DropReason> {
        Ok(Flooding {
            from,
            why,
            frame: FrameSize::of(packet)?,
            next: 0,
            outcome: Err(DropReason::BridgeFiltered),
        })
    }

    /// The next member that is to have a copy.
    pub(crate) fn next_member(&mut self, ifs: &IfTable, flooding: &mut Flooding) -> Option<IfId> {
        while let Some(to) = self.members.get(flooding.next).copied() {
            flooding.next += 1;
            let Flooding {
                from, why, frame, ..
            } = *flooding;
            match self.admit(ifs, from, to, why, frame) {
                Ok(()) => {
                    flooding.outcome = Ok(());
                    return Some(to);
                }
                // A size that does not fit says more than that there was nobody.
                Err(DropReason::TooBig) if flooding.outcome.is_err() => {
                    flooding.outcome = Err(DropReason::TooBig);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Ends it.
    ///
    /// # Errors
    /// Why the frame went to none; it is counted here, but not in the vnet's counters.
    pub(crate) fn flooded(&mut self, flooding: &Flooding) -> Result<(), DropReason> {
        match flooding.outcome {
            Ok(()) => self.counters.flooded += 1,
            Err(DropReason::BridgeFiltered) => self.counters.filtered += 1,
            Err(_) => {}
        }
        flooding.outcome
    }

    /// Whether a member takes a frame.
    fn admit(
        &mut self,
        ifs: &IfTable,
        from: Option<Ingress>,
        to: IfId,
        why: Flood,
        frame: FrameSize,
    ) -> Result<(), DropReason> {
        let netif = ifs.get(to).ok_or(DropReason::InterfaceDown)?;
        let member = netif.on_bridge().ok_or(DropReason::BridgeFiltered)?;
        let config = member.config;
        let is_private = |c: MemberConfig| c.private == Switchable::On;
        let comes_back = from.is_some_and(|f| f.ifid == to);
        let undiscovered = why == Flood::Unknown && config.discover == Switchable::Off;
        let between_private = is_private(config) && from.is_some_and(|f| is_private(f.config));
        if comes_back || undiscovered || between_private {
            return Err(DropReason::BridgeFiltered);
        }
        if let Some(reason) = kept_back(member.state) {
            return Err(reason);
        }
        if !netif.is_running() {
            self.counters.member_down += 1;
            return Err(DropReason::InterfaceDown);
        }
        if frame.longest > usize::from(netif.ip_mtu) + frame.headers {
            self.counters.too_big += 1;
            return Err(DropReason::TooBig);
        }
        Ok(())
    }
}

/// A frame that is being handed to members one after the other.
pub(crate) struct Flooding {
    from: Option<Ingress>,
    why: Flood,
    frame: FrameSize,
    next: usize,
    outcome: Result<(), DropReason>,
}

impl Flooding {
    /// A copy for one of them, which costs no more than its headers.
    pub(crate) fn copy(&self, packet: &Packet) -> Packet {
        let mut copy = packet.clone();
        leave(&mut copy, self.from);
        copy
    }
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

/// Makes a frame that came in one that goes out.
fn leave(packet: &mut Packet, from: Option<Ingress>) {
    packet.meta.rcvif = None;
    packet.meta.bridges += u8::from(from.is_some());
}

/// How long a frame is, and how much of that no MTU counts.
#[derive(Clone, Copy)]
struct FrameSize {
    longest: usize,
    headers: usize,
}

impl FrameSize {
    fn of(packet: &mut Packet) -> Result<FrameSize, DropReason> {
        // IEEE 802.3, clause 3.2.7: a tagged frame may be longer by its tags.
        let headers = ether::network_offset(packet);
        let longest = gso::longest_frame(packet, headers).map_err(|_| DropReason::Malformed)?;
        Ok(FrameSize { longest, headers })
    }
}

/// True for 01:80:c2:00:00:00 to 01:80:c2:00:00:0f, which are for the stations on one wire (IEEE
/// 802.1D-2004, section 7.12.6).
fn is_reserved(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0, 0, last] if last <= 0x0f)
}
