//! The reassembly of fragments (RFC 791 section 3.2, RFC 815).
//!
//! Fragments are kept by reference, in the order of their offsets. A datagram is complete when its last fragment has
//! arrived and the lengths add up, which is sufficient because overlaps are never kept. If two fragments of a datagram
//! overlap or contradict each other, the datagram is refused until its time is over, as RFC 5722 requires for IPv6: such
//! fragments are sent only to evade filters. A fragment that is an exact duplicate is dropped alone.
//!
//! **Time.** RFC 1122 section 3.3.2 asks for 60 to 120 seconds, RFC 791 for 15. Like current kernels, this uses 30: at
//! today's rates the 16-bit identification wraps faster than that (RFC 4963), and then a stale fragment is worse than a
//! lost one.
//!
//! **Counting.** A fragment counts as any frame. While it is held it is *pending*
//! ([`Reassembly::fragments`]); when its datagram is complete, all fragments but the one that
//! completed it count as delivered here, and that one as whatever becomes of the datagram; when
//! the datagram is dropped, each held fragment counts as a drop.

use std::collections::BTreeMap;

use super::family::Family;
use crate::base::map::Map;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::{Duration, Instant};
use crate::ip::addr::Cast;
use crate::packet::header::IpProto;
use crate::packet::{Csum, Cx, Meta, Packet, Payload};

/// How much may wait, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of payload that wait, with [`FRAGMENT_OVERHEAD`] for each fragment. The oldest
    /// datagrams make room for new fragments.
    pub max_bytes: usize,
    /// Datagrams that wait. The oldest makes room for a new one.
    pub max_datagrams: usize,
    /// The same for one datagram. One that costs more is dropped: it is in more pieces than links
    /// have reason to cut it into.
    pub max_datagram_bytes: usize,
    /// How long a datagram waits, counted from its first fragment to arrive.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_bytes: 4 << 20,
            max_datagrams: 4096,
            // The longest datagram in fragments of the least MTU is 235 KiB.
            max_datagram_bytes: 256 << 10,
            timeout: Duration::from_secs(30),
        }
    }
}

/// What a fragment costs besides its payload.
pub(crate) const FRAGMENT_OVERHEAD: usize = 128;
/// Bytes that wait, above which fragments are copied out of the memory that they share with others of
/// their datagram, which may have been lost.
const MUCH: usize = 256 << 10;

/// What a fragment's header says that has to do with its datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<F: Family> {
    /// What all fragments of a datagram have in common.
    pub of: Key<F>,
    /// Where its payload belongs in the datagram's, in bytes.
    pub offset: usize,
    /// Whether it is the one at the end.
    pub last: Last,
    /// The traffic class octet: DSCP and ECN.
    pub traffic_class: u8,
    /// The header, to be given back with the datagram.
    pub header: F::Header,
}

/// Is a fragment the one at the end of its datagram?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// Yes: it says how long the datagram is.
    Yes,
    /// More follow.
    No,
}

/// What is known of a datagram that is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<F: Family> {
    /// The header of its first fragment.
    pub header: F::Header,
    /// The traffic class octet, with the congestion that any of the fragments met.
    pub traffic_class: u8,
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Verdict<F: Family> {
    /// It waits for the others.
    Held,
    /// It was the last that was missing: the datagram, at its transport header.
    Complete(Whole<F>, Packet),
    /// It is of no use. To be counted by the caller.
    Drop(DropReason),
}

/// A datagram that was given up, of which the first fragment is there to be quoted in an ICMP
/// "time exceeded" (RFC 792, RFC 1122 section 3.3.2).
#[derive(Debug)]
pub(crate) struct Expired<F: Family> {
    /// The first fragment's header, as it came.
    pub header: F::Header,
    /// The first fragment, stripped of its headers.
    pub packet: Packet,
}

/// The datagrams of one vnet that lack fragments. Empty, it holds no memory.
#[derive(Debug)]
pub(crate) struct Reassembly<F: Family> {
    limits: Limits,
    /// By age: the number says how many were begun before.
    datagrams: BTreeMap<u64, Datagram<F>>,
    index: Map<Key<F>, u64>,
    begun: u64,
    bytes: usize,
    fragments: usize,
}

/// What the fragments of one datagram have in common (RFC 791 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key<F: Family> {
    /// The sender.
    pub src: F::Addr,
    /// The receiver.
    pub dst: F::Addr,
    /// What it carries; zero where that is no part of it (RFC 8200 section 4.5).
    pub proto: IpProto,
    /// The sender's number for it.
    pub ident: u32,
}

#[derive(Debug)]
struct Datagram<F: Family> {
    key: Key<F>,
    deadline: Instant,
    state: State<F>,
}

#[derive(Debug)]
enum State<F: Family> {
    Collecting(Collecting<F>),
    /// Its fragments overlapped: those that are still to come are dropped as well.
    Refused,
}

#[derive(Debug)]
struct Collecting<F: Family> {
    /// By offset, without overlaps.
    pieces: Vec<Piece>,
    /// Bytes of payload of the whole datagram, once its last fragment is there.
    total: Option<usize>,
    /// The fragment at offset zero.
    first: Option<First<F>>,
    /// One bit for each ECN codepoint seen.
    ecn: u8,
    /// Bytes of payload in `pieces`.
    present: usize,
    /// What `pieces` cost.
    held: usize,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    payload: Payload,
    csum: Csum,
}

#[derive(Clone, Copy, Debug)]
struct First<F: Family> {
    header: F::Header,
    traffic_class: u8,
    cast: Cast,
    meta: Meta,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.payload.len()
    }

    fn cost(&self) -> usize {
        self.payload.len() + FRAGMENT_OVERHEAD
    }
}

/// How a fragment goes with those that are there.
enum Placed {
    Held,
    Duplicate,
    Overlap,
    TooMuch,
}

impl<F: Family> Reassembly<F> {
    /// Nothing waits. `seed` keeps outsiders from choosing keys that collide.
    pub(crate) fn new(seed: u64) -> Reassembly<F> {
        Reassembly {
            limits: Limits::default(),
            datagrams: BTreeMap::new(),
            index: Map::seeded(seed),
            begun: 0,
            bytes: 0,
            fragments: 0,
        }
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Sets how many bytes may wait.
    pub(crate) fn set_max_bytes(&mut self, max_bytes: usize) {
        self.limits.max_bytes = max_bytes;
    }

    /// Sets the limits. What waits already keeps its deadline, and the space limits are applied
    /// when the next fragment comes.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes a fragment, stripped to what it carries. `cast` is whom its frame was addressed to.
    pub(crate) fn insert(
        &mut self,
        cx: &mut Cx<'_>,
        fragment: &Fragment<F>,
        cast: Cast,
        packet: Packet,
    ) -> Verdict<F> {
        let (offset, len) = (fragment.offset, packet.len());
        let ends_badly = fragment.last == Last::No && len % 8 != 0;
        if len == 0 || ends_badly || offset + len > F::MAX_PAYLOAD {
            return Verdict::Drop(DropReason::Malformed);
        }
        let number = match self.index.get(&fragment.of) {
            Some(number) => *number,
            None => self.begin(cx, fragment.of),
        };
        let datagram = self
            .datagrams
            .get_mut(&number)
            .expect("the index holds live datagrams only");
        let State::Collecting(collecting) = &mut datagram.state else {
            return Verdict::Drop(DropReason::FragmentOverlap);
        };
        let meta = packet.meta;
        let mut payload = packet.into_payload();
        if self.bytes > MUCH {
            payload.compact();
        }
        let piece = Piece {
            offset,
            csum: meta.csum,
            payload,
        };
        let cost = piece.cost();
        match collecting.place(piece, fragment.last, self.limits.max_datagram_bytes) {
            Placed::Duplicate => return Verdict::Drop(DropReason::FragmentDuplicate),
            Placed::Overlap => {
                self.refuse(cx.stats, number);
                return Verdict::Drop(DropReason::FragmentOverlap);
            }
            Placed::TooMuch => {
                self.give_up(cx.stats, number, DropReason::FragmentLimit);
                return Verdict::Drop(DropReason::FragmentLimit);
            }
            Placed::Held if offset == 0 => {
                collecting.first = Some(First {
                    header: fragment.header,
                    traffic_class: fragment.traffic_class,
                    cast,
                    meta,
                });
            }
            Placed::Held => {}
        }
        collecting.ecn |= 1 << (fragment.traffic_class & 3);
        let complete = collecting.is_complete();
        self.bytes += cost;
        self.fragments += 1;
        if complete {
            return self.complete(cx.stats, number, meta);
        }
        self.make_room(cx.stats, number)
    }

    /// Drops the oldest datagrams until the rest is within its limit, which others may have lowered.
    #[inline]
    pub(crate) fn give_way(&mut self, stats: &mut Stats) {
        while self.bytes > self.limits.max_bytes {
            self.give_up_oldest(stats);
        }
    }

    /// When the oldest datagram's time is up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.datagrams.first_key_value()?;
        Some(oldest.deadline)
    }

    /// Gives up the datagrams whose time is up and counts their fragments as dropped. Returns
    /// those about which the sender may be told.
    pub(crate) fn on_deadline(&mut self, cx: &mut Cx<'_>) -> Vec<Expired<F>> {
        let mut expired = Vec::new();
        while let Some((number, oldest)) = self.datagrams.first_key_value()
            && oldest.deadline <= cx.now
        {
            let number = *number;
            if let State::Collecting(collecting) = &oldest.state {
                expired.extend(collecting.quotable());
            }
            self.give_up(cx.stats, number, DropReason::FragmentTimeout);
        }
        expired
    }

    /// Fragments that wait.
    pub(crate) fn fragments(&self) -> usize {
        self.fragments
    }

    /// Bytes that wait, as [`Limits::max_bytes`] counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Datagrams that wait, or are refused.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// True when nothing waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Releases everything, and counts each fragment as dropped.
    pub(crate) fn teardown(&mut self, stats: &mut Stats) {
        for _ in 0..self.fragments {
            stats.drop_waiting_rx(DropReason::Teardown);
        }
        self.datagrams = BTreeMap::new();
        self.index.reset();
        self.bytes = 0;
        self.fragments = 0;
    }

    fn begin(&mut self, cx: &mut Cx<'_>, key: Key<F>) -> u64 {
        while self.datagrams.len() >= self.limits.max_datagrams.max(1) {
            self.give_up_oldest(cx.stats);
        }
        let number = self.begun;
        self.begun += 1;
        self.index.insert(key, number);
        let datagram = Datagram {
            key,
            deadline: cx.now + self.limits.timeout,
            state: State::Collecting(Collecting::new()),
        };
        self.datagrams.insert(number, datagram);
        number
    }

    /// Drops the oldest datagrams until the rest is within its limit. When not even the newest
    /// one is, its last fragment is the caller's to count.
    fn make_room(&mut self, stats: &mut Stats, newest: u64) -> Verdict<F> {
        while self.bytes > self.limits.max_bytes {
            let oldest = self.datagrams.first_key_value().map(|(n, _)| *n);
            if oldest != Some(newest) {
                self.give_up_oldest(stats);
                continue;
            }
            self.fragments -= 1;
            self.give_up_but(stats, newest, DropReason::FragmentLimit, 1);
            return Verdict::Drop(DropReason::FragmentLimit);
        }
        Verdict::Held
    }

    fn complete(&mut self, stats: &mut Stats, number: u64, meta: Meta) -> Verdict<F> {
        let datagram = self.remove(number);
        let State::Collecting(collecting) = datagram.state else {
            unreachable!("only a datagram that collects becomes complete");
        };
        let count = collecting.pieces.len();
        self.fragments -= count;
        self.bytes -= collecting.held;
        let Some((whole, mut packet)) = collecting.join() else {
            // The fragment that would have completed it is the caller's to count.
            for _ in 1..count {
                stats.drop_waiting_rx(DropReason::Malformed);
            }
            return Verdict::Drop(DropReason::Malformed);
        };
        stats.delivered += count as u64 - 1;
        packet.meta = Meta {
            csum: packet.meta.csum,
            gso: None,
            // It was computed without knowing the ports.
            ..meta
        };
        Verdict::Complete(whole, packet)
    }

    /// Drops what there is of a datagram and remembers to drop the rest.
    fn refuse(&mut self, stats: &mut Stats, number: u64) {
        let Some(datagram) = self.datagrams.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut datagram.state, State::Refused);
        self.release(stats, before, DropReason::FragmentOverlap, 0);
    }

    fn give_up_oldest(&mut self, stats: &mut Stats) {
        if let Some((oldest, _)) = self.datagrams.first_key_value() {
            self.give_up(stats, *oldest, DropReason::FragmentLimit);
        }
    }

    fn give_up(&mut self, stats: &mut Stats, number: u64, reason: DropReason) {
        self.give_up_but(stats, number, reason, 0);
    }

    /// Drops a datagram, all but `but` of its fragments to be counted here.
    fn give_up_but(&mut self, stats: &mut Stats, number: u64, reason: DropReason, but: usize) {
        let datagram = self.remove(number);
        self.release(stats, datagram.state, reason, but);
    }

    fn release(&mut self, stats: &mut Stats, state: State<F>, reason: DropReason, but: usize) {
        let State::Collecting(collecting) = state else {
            return;
        };
        let count = collecting.pieces.len() - but;
        self.bytes -= collecting.held;
        self.fragments -= count;
        for _ in 0..count {
            stats.drop_waiting_rx(reason);
        }
    }

    fn remove(&mut self, number: u64) -> Datagram<F> {
        let datagram = self
            .datagrams
            .remove(&number)
            .expect("the number was just looked up");
        self.index.remove(&datagram.key);
        datagram
    }
}

impl<F: Family> Collecting<F> {
    fn new() -> Collecting<F> {
        Collecting {
            pieces: Vec::new(),
            total: None,
            first: None,
            ecn: 0,
            present: 0,
            held: 0,
        }
    }

    fn place(&mut self, piece: Piece, last: Last, max_bytes: usize) -> Placed {
        let (start, end) = (piece.offset, piece.end());
        let at = self.pieces.partition_point(|p| p.offset < start);
        if let Some(same) = self.pieces.get(at)
            && (same.offset, same.end()) == (start, end)
            && (last == Last::Yes) == (self.total == Some(end))
            && same_bytes(&same.payload, &piece.payload)
        {
            return Placed::Duplicate;
        }
        let meets_next = self.pieces.get(at).is_some_and(|next| next.offset < end);
        let meets_previous = at > 0 && self.pieces[at - 1].end() > start;
        if meets_next || meets_previous || self.contradicts(end, last) {
            return Placed::Overlap;
        }
        if self.held + piece.cost() > max_bytes {
            return Placed::TooMuch;
        }
        if last == Last::Yes {
            self.total = Some(end);
        }
        self.present += piece.payload.len();
        self.held += piece.cost();
        self.pieces.insert(at, piece);
        Placed::Held
    }

    /// True when a fragment that ends at `end` disagrees with the others on the datagram's length.
    fn contradicts(&self, end: usize, last: Last) -> bool {
        match self.total {
            Some(total) => end > total || last == Last::Yes,
            None => last == Last::Yes && self.pieces.last().is_some_and(|p| p.end() > end),
        }
    }

    fn is_complete(&self) -> bool {
        // Without overlaps, lengths that add up to the whole leave no hole.
        self.total == Some(self.present)
    }

    /// The whole datagram; `None` when its fragments disagree on congestion.
    fn join(self) -> Option<(Whole<F>, Packet)> {
        let first = self.first.expect("a datagram without holes has a start");
        let mut traffic_class = first.traffic_class;
        if self.ecn & 1 << ECN_CE != 0 {
            // RFC 3168 section 5.3: one mark marks the whole, but not if the sender of another
            // fragment would not understand it.
            if self.ecn & 1 << ECN_NOT_ECT != 0 {
                return None;
            }
            traffic_class |= ECN_CE;
        }
        let mut csum = Csum::Verified;
        let mut payload = Payload::new();
        for piece in self.pieces {
            if piece.csum != Csum::Verified {
                csum = Csum::Unknown;
            }
            payload.append(piece.payload);
        }
        let mut packet = Packet::incoming(payload);
        packet.meta.csum = csum;
        Some((
            Whole {
                header: first.header,
                traffic_class,
            },
            packet,
        ))
    }

    /// The first fragment, when an error about it may be sent at all.
    fn quotable(&self) -> Option<Expired<F>> {
        let first = self.first.filter(|f| f.cast == Cast::Unicast)?;
        let piece = self.pieces.first()?;
        let mut packet = Packet::incoming(piece.payload.clone());
        packet.meta = first.meta;
        Some(Expired {
            header: first.header,
            packet,
        })
    }
}

fn same_bytes(a: &Payload, b: &Payload) -> bool {
    let bytes = |p: &Payload| p.to_bytes();
    a.len() == b.len() && bytes(a) == bytes(b)
}

const ECN_NOT_ECT: u8 = 0;
const ECN_CE: u8 = 3;

#[cfg(test)]
mod tests;
