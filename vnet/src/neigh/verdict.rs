//! What the neighbour cache says: verdicts, requests, listings, counts.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::state::{StateName, cost};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::{MacAddr, Packet};

/// What becomes of a packet that needs a neighbour's address.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Send it to this address.
    Resolved(MacAddr, Packet),
    /// It waits here. It comes back in a [`Release`] or an [`Unreachable`].
    Held,
    /// It cannot be sent. The caller counts it, and answers
    /// [`DropReason::NeighbourUnreachable`] with ICMP host unreachable.
    Drop(DropReason, Packet),
}

/// A request to send: ask for `ip` on `ifid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeOut {
    /// The interface to ask on.
    pub ifid: IfId,
    /// The address to ask for.
    pub ip: IpAddr,
    /// The station to ask, when it is known; otherwise everyone on the link.
    pub unicast_to: Option<MacAddr>,
}

/// Packets that waited for a neighbour whose address is now known.
#[derive(Debug)]
pub(crate) struct Release {
    /// Where to send them.
    pub mac: MacAddr,
    /// The packets, in the order in which they came.
    pub packets: VecDeque<Packet>,
}

/// Packets that waited for a neighbour that did not answer. The caller counts each under
/// [`DropReason::NeighbourUnreachable`] and answers with ICMP host unreachable.
#[derive(Debug)]
pub(crate) struct Unreachable {
    /// The interface that it was on.
    pub ifid: IfId,
    /// The neighbour.
    pub ip: IpAddr,
    /// The packets, in the order in which they came.
    pub packets: VecDeque<Packet>,
}

/// One neighbour, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighInfo {
    /// The interface it is on.
    pub ifid: IfId,
    /// Its protocol address.
    pub ip: IpAddr,
    /// Its link-layer address, when known.
    pub mac: Option<MacAddr>,
    /// Its state now.
    pub state: StateName,
    /// Packets that wait for it.
    pub held: usize,
    /// When a packet was last sent to it, or, when none was yet, when it was heard of.
    pub used: Instant,
}

/// What the resolution of neighbours has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NeighStats {
    /// Requests asked for, broadcast and unicast.
    pub requests: u64,
    /// Resolutions that got no answer.
    pub failures: u64,
    /// Neighbours forgotten to make room.
    pub evicted: u64,
    /// Stations that claimed an address of ours (RFC 5227 section 2.4).
    pub conflicts: u64,
}

/// No neighbour can be added: the table is full of entries that cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the neighbour table is full")]
pub(crate) struct NeighLimit;

/// Packets that wait in a [`NeighCache`](super::NeighCache).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldCount {
    /// All of them.
    pub packets: usize,
    /// Those that came in on an interface and wait to be forwarded.
    pub received: usize,
    /// Their bytes, with [`HELD_OVERHEAD`](super::HELD_OVERHEAD) for each.
    pub bytes: usize,
}

/// What an address is, seen from the interface a packet came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It is an address of ours, for which this interface answers.
    Ours,
    /// A packet for it would go out on this interface, straight to it.
    Neighbour,
    /// Some station may have it, but no packet of ours goes to it on this interface.
    Stranger,
    /// No other station on this link can have it: a group, a broadcast, or one of ours elsewhere.
    Impossible,
}

/// How a packet of ARP or neighbour discovery came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeighIngress {
    /// The interface.
    pub ifid: IfId,
    /// The interface's own address.
    pub mac: MacAddr,
    /// How long a question and its answer take on the interface's link, as far as it is known.
    pub round_trip: Duration,
    /// What the sender's IP address is.
    pub sender: Scope,
    /// What the target's IP address is.
    pub target: Scope,
}

/// How sure it is that a neighbour can be reached at the address it was heard with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It answered us: packets go both ways.
    Answer,
    /// It spoke: packets come from it.
    Hint,
}

impl HeldCount {
    pub(super) fn add(&mut self, packet: &Packet) {
        self.packets += 1;
        self.received += usize::from(packet.meta.rcvif.is_some());
        self.bytes += cost(packet);
    }

    pub(super) fn remove(&mut self, packet: &Packet) {
        self.packets -= 1;
        self.received -= usize::from(packet.meta.rcvif.is_some());
        self.bytes -= cost(packet);
    }

    pub(super) fn remove_all(&mut self, packets: &VecDeque<Packet>) {
        for packet in packets {
            self.remove(packet);
        }
    }
}
