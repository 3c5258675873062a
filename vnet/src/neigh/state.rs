//! The states of one neighbour: those of RFC 4861 section 7.3.2, applied to ARP as well.
//!
//! ```text
//!             first packet              answer
//!   (none) ──────────────▶ Incomplete ─────────▶ Reachable ◀──────────┐
//!                           │  ▲   │                 │ reachable time  │ answer,
//!               no answer   │  │   │ their request   ▼                 │ upper-layer
//!                           ▼  │   └─────────────▶ Stale               │ confirmation
//!           next packet, ─ Failed ─── late answer ──▶│ a packet is sent│
//!           in a while         ▲                     ▼                 │
//!                              │                   Delay ──────────────┤
//!                              └──── Probe ◀─────────┘ delay time      │
//!                         no answer    └───────────────────────────────┘
//! ```
//!
//! Permanent entries are set by hand and never change. Neither Reachable nor Failed has a deadline:
//! the time is looked at when the entry is used, so an idle table wakes nobody.
//!
//! Failed follows a resolution that got no answer, and keeps packets to a dead address from asking
//! once each. It also follows probes that got none; then nothing is known of the station any more
//! (RFC 4861 section 7.3.3), but the next packet asks at once, so that one with a new address is
//! found. What Failed remembers is that there is a question on its way: on a link with a delay of
//! seconds or hours the answer is late, and still an answer.

use std::collections::VecDeque;

use crate::base::time::Instant;
use crate::packet::{MacAddr, Packet};

/// What is known about a neighbour.
#[derive(Debug)]
pub(crate) enum State {
    /// See [`Incomplete`].
    Incomplete(Incomplete),
    /// See [`Reachable`].
    Reachable(Reachable),
    /// See [`Stale`].
    Stale(Stale),
    /// See [`Delay`].
    Delay(Delay),
    /// See [`Probe`].
    Probe(Probe),
    /// See [`Failed`].
    Failed(Failed),
    /// See [`Permanent`].
    Permanent(Permanent),
}

/// The address is being asked for; packets wait for it.
#[derive(Debug)]
pub(crate) struct Incomplete {
    /// Packets that wait, oldest first.
    pub held: Held,
    /// Requests sent so far.
    pub sent: u8,
    /// When the next request is due, or the resolution fails.
    pub next: Instant,
}

/// The address was confirmed a short time ago.
#[derive(Debug)]
pub(crate) struct Reachable {
    /// The neighbour's address.
    pub mac: MacAddr,
    /// Until when the confirmation counts.
    pub until: Instant,
}

/// The address is known, but not lately confirmed.
#[derive(Debug)]
pub(crate) struct Stale {
    /// The neighbour's address.
    pub mac: MacAddr,
}

/// A packet went to a stale address; the layers above may confirm it before we ask.
#[derive(Debug)]
pub(crate) struct Delay {
    /// The neighbour's address.
    pub mac: MacAddr,
    /// When we ask.
    pub until: Instant,
}

/// The neighbour is being asked, at its known address, whether it is still there.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The neighbour's address.
    pub mac: MacAddr,
    /// Probes sent so far.
    pub sent: u8,
    /// When the next probe is due, or the neighbour is forgotten.
    pub next: Instant,
}

/// Nobody has answered so far.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Until when packets are refused at once.
    pub until: Instant,
}

/// An address set by hand.
#[derive(Debug)]
pub(crate) struct Permanent {
    /// The neighbour's address.
    pub mac: MacAddr,
}

/// The name of a [`State`], for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// See [`Incomplete`].
    Incomplete,
    /// See [`Reachable`].
    Reachable,
    /// See [`Stale`].
    Stale,
    /// See [`Delay`].
    Delay,
    /// See [`Probe`].
    Probe,
    /// See [`Failed`].
    Failed,
    /// See [`Permanent`].
    Permanent,
}

impl StateName {
    /// The name as a stable lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            StateName::Incomplete => "incomplete",
            StateName::Reachable => "reachable",
            StateName::Stale => "stale",
            StateName::Delay => "delay",
            StateName::Probe => "probe",
            StateName::Failed => "failed",
            StateName::Permanent => "permanent",
        }
    }
}

impl State {
    /// The address a packet can be sent to, when one is known.
    #[inline]
    pub(crate) fn mac(&self) -> Option<MacAddr> {
        match self {
            State::Reachable(Reachable { mac, .. })
            | State::Stale(Stale { mac })
            | State::Delay(Delay { mac, .. })
            | State::Probe(Probe { mac, .. })
            | State::Permanent(Permanent { mac }) => Some(*mac),
            State::Incomplete(_) | State::Failed(_) => None,
        }
    }

    /// When something is due even if no packet comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            State::Incomplete(Incomplete { next, .. }) | State::Probe(Probe { next, .. }) => {
                Some(*next)
            }
            State::Delay(Delay { until, .. }) => Some(*until),
            State::Reachable(_) | State::Stale(_) | State::Failed(_) | State::Permanent(_) => None,
        }
    }

    /// The state's name at `now`.
    pub(crate) fn name(&self, now: Instant) -> StateName {
        match self {
            State::Incomplete(_) => StateName::Incomplete,
            State::Reachable(r) if r.until <= now => StateName::Stale,
            State::Reachable(_) => StateName::Reachable,
            State::Stale(_) => StateName::Stale,
            State::Delay(_) => StateName::Delay,
            State::Probe(_) => StateName::Probe,
            State::Failed(_) => StateName::Failed,
            State::Permanent(_) => StateName::Permanent,
        }
    }
}

/// What a packet that waits counts for besides its bytes.
pub(crate) const HELD_OVERHEAD: usize = 256;

/// The bytes that a packet counts for while it waits.
pub(super) fn cost(packet: &Packet) -> usize {
    packet.len() + HELD_OVERHEAD
}

/// Packets that wait for one neighbour, bounded in bytes (RFC 1122 section 2.3.2.2 asks for at least
/// one; RFC 4861 section 7.2.2 lets the oldest go when there is no room). Their number is no measure:
/// a datagram in fragments is many packets, and arrives with all of them or not at all.
#[derive(Debug, Default)]
pub(crate) struct Held {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl Held {
    /// Adds a packet. The caller then takes with [`Held::pop_over`] what no longer fits.
    pub(crate) fn push(&mut self, packet: Packet) {
        self.bytes += cost(&packet);
        self.packets.push_back(packet);
    }

    /// Takes the oldest packet when there are more than `max_bytes`. The newest stays, even when it
    /// alone is too large.
    pub(crate) fn pop_over(&mut self, max_bytes: usize) -> Option<Packet> {
        if self.bytes <= max_bytes || self.packets.len() <= 1 {
            return None;
        }
        let packet = self.packets.pop_front()?;
        self.bytes -= cost(&packet);
        Some(packet)
    }

    /// Bytes that wait, as [`HELD_OVERHEAD`] counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// The packets, oldest first.
    pub(crate) fn into_packets(self) -> VecDeque<Packet> {
        self.packets
    }
}
