//! Who is taken in next from an inbox in which more waits than its vnet can take in.
//!
//! Each payer has a *lane*, and lanes take turns by deficit round robin, in which a frame costs about what it takes to
//! process (`Kind`): so a flood of expensive frames leaves others as much time as one of cheap ones. A lane in which
//! nothing has waited comes before those that have had a turn, once (the "new flows" of RFC 8290, section 4.2): whoever
//! sends a little does not wait for those who send much.
//!
//! In a lane, frames of different kinds and flows have *rows*, which take turns in the same way: on a wire that many
//! share, a flood of connection requests does not keep the connections there are from being heard. A lane holds as
//! many frames as the ring of a network card, and each row of it as many times what is left free as a wire has of an
//! inbox (`shares`); what finds no room is dropped.
//!
//! In a row, frames keep their order.

use std::collections::{BTreeMap, VecDeque};

use super::item::Arrival;
use super::shares::{GREED, Payer};
use crate::base::time::{Duration, Instant};
use crate::packet::Packet;
use crate::packet::header::{EtherType, IpProto, ip, ipv4, ipv6};

/// Frames that a lane holds.
pub(super) const RING: usize = 1024;
/// What a turn of a lane is worth, and one of a row.
const LANE_QUANTUM: i32 = 16;
const ROW_QUANTUM: i32 = 8;
/// What is taken out for one service: little, so that whoever wants to enter the vnet does not wait for long.
pub(super) const SERVICE: i32 = 32;
/// How far ahead of what has been put in a frame may be to be told that its lane is full. The lane
/// is not going to be empty before it arrives.
const AHEAD: Duration = Duration::from_millis(1);
/// Bytes of a frame of which one costs as much as a small frame more: large segments are acknowledged, and
/// their readers are woken.
const LARGE: usize = 16 << 10;
/// Rows for flows, by their hash.
const FLOWS: usize = 8;
const ROWS: usize = 3 + FLOWS;

/// What a frame is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is for everybody, or about neighbours: it may be answered, and leave an entry behind.
    Link,
    /// A request for a connection.
    Request,
    /// A fragment, which waits for others.
    Fragment,
    /// Anything else; the number is that of its row.
    Flow(usize),
}

/// Bytes at the beginning of a frame that are looked at: an Ethernet header with two tags, an IPv6 header, and what
/// is behind it up to the flags of TCP.
const LOOKED_AT: usize = 22 + ipv6::MIN_LEN + 14;

impl Kind {
    fn of(packet: &Packet) -> Kind {
        let mut bytes = [0; LOOKED_AT];
        let len = packet.copy_to(0, &mut bytes);
        Kind::of_frame(&bytes[..len]).unwrap_or(Kind::Flow(0))
    }

    /// `None` for what is too short to be anything.
    fn of_frame(bytes: &[u8]) -> Option<Kind> {
        let mut at = 12;
        while EtherType(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])).is_tag() {
            at += 4;
        }
        let ether_type = EtherType::at(bytes, at);
        let is_for_many = bytes[0] & 1 != 0;
        if is_for_many || ether_type == EtherType::ARP {
            return Some(Kind::Link);
        }
        let header = bytes.get(at + 2..)?;
        let (addresses, proto, behind) = match (ether_type, ip::version(header)) {
            (EtherType::IPV4, 4) => {
                let fixed = header.get(..ipv4::MIN_LEN)?;
                if u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0 {
                    return Some(Kind::Fragment);
                }
                (12..20, IpProto(fixed[9]), usize::from(fixed[0] & 0xf) * 4)
            }
            (EtherType::IPV6, 6) => {
                let fixed = header.get(..ipv6::MIN_LEN)?;
                (8..40, IpProto(fixed[6]), ipv6::MIN_LEN)
            }
            _ => return Some(Kind::Flow(0)),
        };
        let transport = header.get(behind..).unwrap_or_default();
        match proto {
            IpProto::FRAGMENT => return Some(Kind::Fragment),
            // Flags: SYN without ACK.
            IpProto::TCP if transport.get(13).is_some_and(|f| f & 0x12 == 0x02) => {
                return Some(Kind::Request);
            }
            // Router and neighbour discovery (RFC 4861, section 4).
            IpProto::ICMPV6 if transport.first().is_some_and(|t| (133..=137).contains(t)) => {
                return Some(Kind::Link);
            }
            _ => {}
        }
        let ports = match proto {
            IpProto::TCP | IpProto::UDP => transport.get(..4).unwrap_or_default(),
            _ => &[],
        };
        let hash = header[addresses].iter().chain(ports).fold(0, mix);
        Some(Kind::Flow((hash >> 16) as usize % FLOWS))
    }

    fn row(self) -> usize {
        match self {
            Kind::Link => 0,
            Kind::Request => 1,
            Kind::Fragment => 2,
            Kind::Flow(n) => 3 + n,
        }
    }

    /// What a frame of this kind costs, in units of a small datagram.
    fn cost(self, packet: &Packet) -> i32 {
        match self {
            Kind::Link | Kind::Request => 8,
            Kind::Fragment => 4,
            Kind::Flow(_) => 1 + (packet.len() / LARGE).min(6) as i32,
        }
    }
}

/// FNV-1a. Whoever chooses flows so that they meet chooses among those of a wire only.
fn mix(hash: u32, byte: &u8) -> u32 {
    (hash ^ 0x811c_9dc5 ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
}

/// The lanes of an inbox.
#[derive(Default)]
pub(super) struct Fair {
    lanes: BTreeMap<Payer, Lane>,
    /// Lanes that have not had a turn since something came into them, and the others, in the order
    /// of their turns.
    fresh: VecDeque<Payer>,
    turns: VecDeque<Payer>,
    /// What has arrived up to here is in the lanes.
    sorted: Instant,
    frames: usize,
}

#[derive(Default)]
struct Lane {
    rows: [Row; ROWS],
    /// The row whose turn it is.
    row: usize,
    frames: usize,
    /// Frames that have been told that there is room for them, and are not in it yet.
    coming: usize,
    credit: i32,
    /// It is in one of the lists.
    listed: bool,
}

#[derive(Default)]
struct Row {
    waiting: VecDeque<(i32, Arrival)>,
    coming: usize,
    credit: i32,
}

impl Fair {
    /// Since when something waits, at most.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.frames > 0).then_some(self.sorted)
    }

    /// Notes that all that has arrived by `now` has been put in.
    pub(super) fn sorted_to(&mut self, now: Instant) {
        self.sorted = now;
    }

    /// Puts a frame in, behind those of its row.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn put(&mut self, arrival: Arrival) -> Result<(), Arrival> {
        let Some((packet, payer)) = arrival.2.frame() else {
            return Err(arrival);
        };
        let kind = Kind::of(packet);
        let cost = kind.cost(packet);
        let lane = self.lanes.entry(payer).or_default();
        let row = &mut lane.rows[kind.row()];
        if row.coming > 0 {
            row.coming -= 1;
            lane.coming -= 1;
        }
        if !lane.has_room(kind) {
            return Err(arrival);
        }
        lane.rows[kind.row()].waiting.push_back((cost, arrival));
        lane.frames += 1;
        self.frames += 1;
        if !lane.listed {
            lane.listed = true;
            lane.credit = LANE_QUANTUM;
            self.fresh.push_back(payer);
        }
        Ok(())
    }

    /// Whether a frame that arrives at `at` is going to find room, which is kept for it then.
    pub(super) fn expects(&mut self, at: Instant, payer: Payer, packet: &Packet) -> bool {
        if at > self.sorted + AHEAD {
            return true;
        }
        let Some(lane) = self.lanes.get_mut(&payer) else {
            return true;
        };
        let kind = Kind::of(packet);
        let has_room = lane.has_room(kind);
        if has_room {
            lane.rows[kind.row()].coming += 1;
            lane.coming += 1;
        }
        has_room
    }

    /// Takes the frame whose turn it is, and what it costs.
    pub(super) fn take(&mut self) -> Option<(i32, Arrival)> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let list = match is_fresh {
                true => &mut self.fresh,
                false => &mut self.turns,
            };
            let payer = *list.front()?;
            let lane = self.lanes.get_mut(&payer)?;
            if lane.frames > 0 && lane.credit > 0 {
                let taken = lane.take();
                lane.credit -= taken.as_ref().map_or(0, |(cost, _)| *cost);
                self.frames -= usize::from(taken.is_some());
                return taken;
            }
            list.pop_front();
            if lane.frames > 0 {
                lane.credit += LANE_QUANTUM;
                self.turns.push_back(payer);
            } else if is_fresh && !self.turns.is_empty() {
                // It is no newcomer before the others have had a turn.
                self.turns.push_back(payer);
            } else {
                lane.listed = false;
            }
        }
    }
}

impl Lane {
    /// Whether a frame of that kind finds room.
    fn has_room(&self, kind: Kind) -> bool {
        let row = &self.rows[kind.row()];
        let free = RING.saturating_sub(self.frames + self.coming);
        row.waiting.len() + row.coming < GREED * free
    }

    /// Takes the frame whose turn it is. There is one.
    fn take(&mut self) -> Option<(i32, Arrival)> {
        // No frame costs more than a quantum, so nobody in debt is passed twice.
        for _ in 0..=2 * ROWS {
            let row = &mut self.rows[self.row];
            if row.credit > 0
                && let Some(taken) = row.waiting.pop_front()
            {
                row.credit -= taken.0;
                self.frames -= 1;
                return Some(taken);
            }
            if row.waiting.is_empty() {
                row.credit = row.credit.min(0);
            }
            self.row = (self.row + 1) % ROWS;
            let row = &mut self.rows[self.row];
            if row.credit <= 0 {
                row.credit += ROW_QUANTUM;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
