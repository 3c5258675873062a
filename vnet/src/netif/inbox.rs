//! The queue at which vnets meet. A sender pushes a frame with the time of its arrival; the
//! receiver takes what is due. It is the only thing that two vnets share.
//!
//! Frames on the wire are in it as well as those that have arrived. Each wire has a share of it
//! (`shares`), so that one neighbour cannot take the room of all others. Nor can it take their time:
//! see [`Inbox::take_or_shed`].

pub(crate) mod crossing;
mod fair;
mod item;
mod runs;
mod shares;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use smallvec::SmallVec;

use crate::base::id::IfId;
use crate::base::lock::{Mutex, MutexGuard, Rank};
use crate::base::part;
use crate::base::time::{Duration, Instant};
use crate::packet::cx::{Arrivals, Bell, Pushed, PushedMany};
use crate::packet::{Packet, Payload};

use fair::Fair;
use item::{Arrival, Place, place};
pub(crate) use item::{Item, News};
use runs::Runs;
pub(crate) use shares::Load;
use shares::{Payer, Shares};

/// Frames an inbox holds at most, those still on the wire included. What a wire that is alone may use
/// of it is more than the frames of 1500 bytes on a path of 10 Gbit/s and 200 ms.
pub(crate) const MAX_FRAMES: usize = 262_144;
/// Bytes an inbox holds at most, those still on the wire and what it costs to hold them included.
pub(crate) const MAX_BYTES: usize = 512 << 20;
/// What a frame costs besides its bytes.
const FRAME_COST: usize = size_of::<Arrival>() + Packet::COST;
/// Bytes of one wire, above which frames are copied out of the memory that they share with others: of
/// those that they were cut from together, they may be the only ones that are left.
const MUCH: usize = 4 << 20;
/// How long a queue has to stand, and how often it has to be taken from without running empty, before
/// it has lanes. A burst ends before that.
const STANDING: Duration = Duration::from_millis(1);
const STANDING_TAKES: u32 = 4;
/// Frames that are put into lanes at once at most.
const SORTED_AT_ONCE: usize = 4096;
/// Items for which a queue keeps room whatever it is used for.
const ROOM_KEPT: usize = 64;
/// Times in a row that a queue is emptied with most of its room unused before it gives some back.
const QUIET_DRAINS: u8 = 8;

/// Tells the owner of an inbox that there will be something to take at a certain time.
pub(crate) trait Doorbell: Send + Sync {
    /// Something is due at `at`. Called without any lock of the inbox.
    fn ring(self: Arc<Self>, at: Instant);
}

/// A queue of [`Item`]s ordered by time of arrival. Of those that arrive at one time, the ones that come in by one
/// interface keep the order of sending, and the interfaces have an order: so it does not matter which of several
/// senders has put its frames in first.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    doorbell: OnceLock<Owner>,
    /// When its owner is to come up.
    pub(crate) armed: Armed,
    /// The part of a simulation that its vnet is in, while parts are carried out apart; zero otherwise.
    part: AtomicU32,
}

/// Who is to be told of new items.
struct Owner {
    doorbell: Weak<dyn Doorbell>,
    /// It comes up as soon as the time has come for which it is armed.
    is_punctual: bool,
}

/// When somebody is to come up, as the driver has it noted. It is beside what there will be to take then, so that nobody
/// is rung who comes up anyway.
#[derive(Debug)]
pub(crate) struct Armed(AtomicU64);

impl Armed {
    const fn new() -> Armed {
        Armed(AtomicU64::new(u64::MAX))
    }

    /// True for who comes up by then anyway. Whoever asks has left before what is to be found then.
    #[inline]
    pub(crate) fn by(&self, at: Instant) -> bool {
        self.0.load(Ordering::Acquire) <= at.as_nanos()
    }

    /// Says that it is to come up at `at`; false when it does so by then anyway.
    #[inline]
    pub(crate) fn arm(&self, at: Instant) -> bool {
        at.as_nanos() < self.0.fetch_min(at.as_nanos(), Ordering::AcqRel)
    }

    /// Notes that it comes up, if it was to do so at `at`.
    #[inline]
    pub(crate) fn disarm(&self, at: Instant) -> bool {
        let (here, never) = (at.as_nanos(), u64::MAX);
        self.0
            .compare_exchange(here, never, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// It comes up no more.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// As if it had never been armed.
    #[cfg(test)]
    pub(crate) fn reset(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }
}

/// An item for an inbox of another part of a simulation.
pub(crate) struct Crossing {
    to: Arc<Inbox>,
    at: Instant,
    item: Item,
}

/// Items taken out of an inbox, in order of arrival. Kept by the taker, for its memory.
#[derive(Default)]
pub(crate) struct Batch(VecDeque<Arrival>);

impl Batch {
    /// Takes the items out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Item> {
        self.0.drain(..).map(|(.., item)| item)
    }

    /// Takes the next item out. What is left of the batch stays in it, whatever becomes of this one.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Item> {
        self.0.pop_front().map(|(.., item)| item)
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of the items are frames.
    pub(crate) fn frames(&self) -> u64 {
        let is_frame = |arrival: &&Arrival| matches!(arrival.2, Item::Frame(_) | Item::Leaving(_));
        self.0.iter().filter(is_frame).count() as u64
    }
}

/// What [`Inbox::take_due`] tells besides the items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// When the next item is due, which may be now.
    pub next: Option<Instant>,
    /// Frames dropped because there was no room, since they were last told of.
    pub overflowed: u64,
    /// More comes in than can be taken in, and it was shared out what was.
    pub shared: bool,
}

/// What was taken out of an inbox that closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Frames that were due or still on the wire.
    pub frames: u64,
    /// Frames that had found no room since that was last asked.
    pub overflowed: u64,
}

struct Queue {
    /// Frames of senders that are in order, as most are.
    runs: Runs,
    /// Frames that are in no order.
    early: BinaryHeap<Reverse<Early>>,
    /// News in order of time: of each wire the last that is good and the last that is bad. So a wire
    /// that went down and is up again is seen to have done so, however often it did.
    news: VecDeque<(Instant, u64, IfId, News)>,
    /// Times in a row that it was emptied of few items for the room that it has.
    quiet: u8,
    pushed: u64,
    shares: Shares,
    overflowed: u64,
    /// The most frames that it held.
    peak: usize,
    closed: bool,
    behind: Option<Behind>,
    /// The lanes of a queue that stands. What is in them is counted in `shares` still.
    fair: Option<Box<Fair>>,
}

/// Items that were due have been left in a queue.
#[derive(Clone, Copy, Debug)]
struct Behind {
    since: Instant,
    takes: u32,
}

/// What became of an item, and what is to be dropped without the queue's lock.
enum Put {
    Queued(#[allow(dead_code)] Option<Payload>),
    Refused(#[allow(dead_code)] Item),
}

/// An item in a box: a heap moves its entries about, and an item is some hundred bytes.
struct Early(Place, Box<Item>);

impl Inbox {
    /// An empty inbox that nobody listens to yet.
    pub(crate) fn new() -> Inbox {
        Inbox {
            queue: Mutex::new(Rank::Inbox, Queue::default()),
            doorbell: OnceLock::new(),
            armed: Armed::new(),
            part: AtomicU32::new(0),
        }
    }

    /// Says who is to be told of new items, as long as it is there, and whether it comes up as soon as the time has come for
    /// which it is armed: it need not be told then what it will find. The first call counts.
    pub(crate) fn set_doorbell(&self, doorbell: Weak<dyn Doorbell>, is_punctual: bool) {
        let _ = self.doorbell.set(Owner {
            doorbell,
            is_punctual,
        });
    }

    /// Queues an item that arrives at `at`. A frame for which its wire has no room is counted and
    /// dropped.
    #[cfg(test)]
    pub(crate) fn push(&self, at: Instant, item: Item) {
        // What it gives back is dropped after the lock is released.
        let put = self.queue.lock().push(at, item);
        if let Put::Queued(_) = put {
            self.ring(at);
        }
    }

    /// Queues an item as [`Inbox::push`] does, and leaves it to the caller to ring.
    pub(crate) fn put(self: Arc<Inbox>, at: Instant, item: Item) -> Pushed {
        if part::is_elsewhere(self.part()) {
            self.keep(at, item);
            return Pushed::Refused;
        }
        let put = self.queue.lock().push(at, item);
        match put {
            Put::Queued(_) => Pushed::Queued(self),
            Put::Refused(_) => Pushed::Refused,
        }
    }

    /// Keeps an item until this thread meets the one that carries out the part of this inbox.
    #[cold]
    fn keep(self: Arc<Inbox>, at: Instant, item: Item) {
        let bytes = item.frame().map_or(0, |(packet, _)| packet.len());
        let to = self;
        part::keep(to.part(), bytes, Crossing { to, at, item });
    }

    /// Says in which part its vnet is.
    pub(crate) fn set_part(&self, part: u32) {
        self.part.store(part, Ordering::Relaxed);
    }

    /// In which part its vnet is.
    pub(crate) fn part(&self) -> u32 {
        self.part.load(Ordering::Relaxed)
    }

    /// Queues frames that come in by `ifid`, as [`Inbox::put`] does one after the other, and locks the
    /// queue once.
    pub(crate) fn put_many(
        self: Arc<Inbox>,
        frames: &mut dyn Iterator<Item = (Instant, Packet)>,
        ifid: Option<IfId>,
        item: fn(Packet) -> Item,
    ) -> PushedMany {
        let mut arrivals = Arrivals::new();
        if part::is_elsewhere(self.part()) {
            for (at, mut packet) in frames {
                packet.meta.rcvif = ifid;
                packet.meta.arrived = at;
                Arc::clone(&self).keep(at, item(packet));
            }
            return PushedMany::Queued(self, arrivals);
        }
        // What is refused and what is let go of is dropped after the lock is released.
        let mut left: SmallVec<[Put; 1]> = SmallVec::new();
        let mut queue = self.queue.lock();
        for (at, mut packet) in frames {
            packet.meta.rcvif = ifid;
            packet.meta.arrived = at;
            match queue.push(at, item(packet)) {
                put @ Put::Refused(_) => {
                    left.push(put);
                    continue;
                }
                Put::Queued(None) => {}
                put @ Put::Queued(Some(_)) => left.push(put),
            }
            if arrivals.last().is_none_or(|first| at < *first) {
                arrivals.push(at);
            }
        }
        drop(queue);
        drop(left);
        PushedMany::Queued(self, arrivals)
    }

    /// Moves up to `limit` items that are due at `now` to the end of `into`.
    pub(crate) fn take_due(&self, now: Instant, limit: usize, into: &mut Batch) -> Taken {
        self.queue.lock().take_due(now, limit, into)
    }

    /// As [`Inbox::take_due`], for whoever takes all the time. Where more comes in than can be taken
    /// in, the queue stands, and all would wait for what the greediest have in it. Then those who
    /// send take turns, and what they have in it beyond what a network card's ring holds is
    /// dropped unseen, and counted as frames that found no room ([`fair`]). What stands at one
    /// instant of simulated time takes no time, so its order is that of arrival there.
    pub(crate) fn take_or_shed(&self, now: Instant, limit: usize, into: &mut Batch) -> Taken {
        let mut queue = self.queue.lock();
        if queue.behind.is_some() {
            return self.take_behind(queue, now, limit, into);
        }
        let taken = queue.take_due(now, limit, into);
        if taken.next.is_some_and(|next| next <= now) {
            queue.behind = Some(Behind {
                since: now,
                takes: 1,
            });
        }
        taken
    }

    /// As [`Inbox::take_or_shed`], from a queue in which items that were due have been left.
    #[cold]
    fn take_behind(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        now: Instant,
        limit: usize,
        into: &mut Batch,
    ) -> Taken {
        // Dropped after the lock is released.
        let mut shed = Vec::new();
        let lanes = match queue.fair.take() {
            None if queue.stands(now) => Some(Box::default()),
            lanes => lanes,
        };
        let taken = match lanes {
            None => queue.take_due(now, limit, into),
            Some(mut lanes) => {
                let taken = queue.take_in_turns(&mut lanes, now, limit, into, &mut shed);
                queue.fair = Some(lanes);
                taken
            }
        };
        queue.note_behind(now, taken.next);
        drop(queue);
        taken
    }

    /// When the next item is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.lock().next()
    }

    /// When the last item of those there are is due.
    pub(crate) fn last(&self) -> Option<Instant> {
        let queue = self.queue.lock();
        let early = queue.early.iter().map(|Reverse(e)| e.0.0);
        let news = queue.news.back().map(|(at, ..)| *at);
        let lanes = queue.fair.as_ref().and_then(|lanes| lanes.next());
        early
            .chain(queue.runs.last_at())
            .chain(news)
            .chain(lanes)
            .max()
    }

    /// Frames dropped because there was no room, since the last call.
    pub(crate) fn take_overflowed(&self) -> u64 {
        std::mem::take(&mut self.queue.lock().overflowed)
    }

    /// Frames of the wire that ends at this interface.
    pub(crate) fn waiting_from(&self, ifid: Option<IfId>) -> Load {
        self.queue.lock().shares.of(Payer::Wire(ifid))
    }

    /// Frames queued or on the wire.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().shares.used().frames
    }

    /// The most frames that it held at once.
    pub(crate) fn peak(&self) -> usize {
        self.queue.lock().peak
    }

    /// How many frames it takes.
    pub(crate) fn max_frames(&self) -> usize {
        self.queue.lock().shares.max_frames()
    }

    /// Sets how many frames it takes, at most [`MAX_FRAMES`]. What it has stays.
    pub(crate) fn set_max_frames(&self, frames: usize) {
        let mut queue = self.queue.lock();
        queue.shares.set_max_frames(frames.min(MAX_FRAMES));
    }

    /// Sets how many bytes of frames it takes from one wire, what it costs to hold them included, at
    /// most [`MAX_BYTES`] in all. What it has stays.
    pub(crate) fn set_max_bytes_of_one(&self, bytes: usize) {
        let bytes = Shares::of_one(bytes).min(MAX_BYTES);
        self.queue.lock().shares.set_max_bytes(bytes);
    }

    /// True when no frame is queued or on the wire.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Releases everything and refuses what comes later.
    pub(crate) fn close(&self) -> Closed {
        // The packets are dropped after the lock is released.
        let old = {
            let mut queue = self.queue.lock();
            let old = std::mem::take(&mut *queue);
            queue.closed = true;
            old
        };
        Closed {
            frames: old.shares.used().frames as u64,
            overflowed: old.overflowed,
        }
    }
}

impl Bell for Inbox {
    #[inline]
    fn ring(&self, at: Instant) {
        let Some(owner) = self.doorbell.get() else {
            return;
        };
        if owner.is_punctual && self.armed.by(at) {
            return;
        }
        if let Some(doorbell) = owner.doorbell.upgrade() {
            doorbell.ring(at);
        }
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            runs: Runs::default(),
            early: BinaryHeap::new(),
            news: VecDeque::new(),
            quiet: 0,
            pushed: 0,
            shares: Shares::new(Load {
                frames: MAX_FRAMES,
                bytes: MAX_BYTES,
            }),
            overflowed: 0,
            peak: 0,
            closed: false,
            behind: None,
            fair: None,
        }
    }
}

impl Queue {
    #[inline]
    fn push(&mut self, at: Instant, mut item: Item) -> Put {
        if self.closed {
            return Put::Refused(item);
        }
        let mut let_go = None;
        self.pushed += 1;
        if let Item::Carrier(ifid, news) = &item {
            self.push_news(at, *ifid, *news);
            return Put::Queued(None);
        }
        if self.fair.is_some() && !self.expects(at, &item) {
            self.overflowed += 1;
            return Put::Refused(item);
        }
        let taken = item
            .frame()
            .and_then(|(packet, payer)| self.shares.take(payer, cost(packet)));
        match taken {
            Some(used) if used.bytes <= MUCH => {}
            Some(_) => {
                if let Item::Frame(packet) | Item::Leaving(packet) = &mut item {
                    let_go = packet.payload.compact();
                }
            }
            None => {
                self.overflowed += 1;
                return Put::Refused(item);
            }
        }
        self.peak = self.peak.max(self.shares.used().frames);
        if let Err((at, seq, item)) = self.runs.push((at, self.pushed, item)) {
            let early = Early((at, item.ifid(), seq), Box::new(item));
            self.early.push(Reverse(early));
        }
        Put::Queued(let_go)
    }

    fn take_due(&mut self, now: Instant, limit: usize, into: &mut Batch) -> Taken {
        debug_assert!(self.fair.is_none(), "lanes are taken from in turns");
        let before = into.0.len();
        let in_order = self.early.is_empty() && self.news.is_empty();
        let all = match in_order && into.0.is_empty() {
            true => self.runs.if_all_due(now, limit),
            false => None,
        };
        if let Some(all) = all {
            // The usual case: nothing is moved but the queue itself.
            std::mem::swap(all, &mut into.0);
            self.shares.give_all();
        } else {
            for _ in 0..limit {
                match self.pop_due(now) {
                    Some(arrival) => into.0.push_back(arrival),
                    None => break,
                }
            }
        }
        self.give_back(into.0.len() - before, into);
        Taken {
            next: self.next(),
            overflowed: std::mem::take(&mut self.overflowed),
            shared: false,
        }
    }

    /// Puts what is due into lanes, and takes what is worth a service out of them. What finds no
    /// room goes to `shed`.
    fn take_in_turns(
        &mut self,
        lanes: &mut Fair,
        now: Instant,
        limit: usize,
        into: &mut Batch,
        shed: &mut Vec<Arrival>,
    ) -> Taken {
        for _ in 0..SORTED_AT_ONCE {
            let Some(arrival) = self.next_due(now) else {
                break;
            };
            if let Item::Carrier(..) = arrival.2 {
                into.0.push_back(arrival);
            } else if let Err(arrival) = lanes.put(arrival) {
                self.give(&arrival);
                self.overflowed += 1;
                shed.push(arrival);
            }
        }
        lanes.sorted_to(now);
        let mut left = fair::SERVICE;
        while left > 0
            && into.0.len() < limit
            && let Some((cost, arrival)) = lanes.take()
        {
            left -= cost;
            self.give(&arrival);
            into.0.push_back(arrival);
        }
        Taken {
            next: lanes.next().or_else(|| self.next()),
            overflowed: std::mem::take(&mut self.overflowed),
            shared: true,
        }
    }

    /// Whether there will be room for a frame in its lane.
    #[cold]
    fn expects(&mut self, at: Instant, item: &Item) -> bool {
        let lanes = self.fair.as_mut().zip(item.frame());
        lanes.is_none_or(|(lanes, (packet, payer))| lanes.expects(at, payer, packet))
    }

    /// True when it has been left with what was due for long.
    fn stands(&self, now: Instant) -> bool {
        let is_long = |b: &Behind| b.takes >= STANDING_TAKES && now - b.since >= STANDING;
        self.behind.as_ref().is_some_and(is_long)
    }

    /// Something was taken again, and the next item is due at `next`.
    fn note_behind(&mut self, now: Instant, next: Option<Instant>) {
        let still = next.is_some_and(|next| next <= now);
        self.behind = self.behind.filter(|_| still).map(|behind| Behind {
            takes: behind.takes.saturating_add(1),
            ..behind
        });
        if self.behind.is_none() {
            self.fair = None;
        }
    }

    /// Queues news behind what arrives at the same time, in place of the last of the same sort.
    #[cold]
    fn push_news(&mut self, at: Instant, ifid: IfId, news: News) {
        let is_old =
            |(_, _, of, old): &(_, _, IfId, News)| *of == ifid && old.carrier == news.carrier;
        self.news.retain(|entry| !is_old(entry));
        let place = self
            .news
            .partition_point(|(earlier, _, of, _)| (*earlier, *of) <= (at, ifid));
        self.news.insert(place, (at, self.pushed, ifid, news));
    }

    #[inline]
    fn next(&self) -> Option<Instant> {
        let runs = self.runs.next_at();
        // The usual case, asked for every frame.
        if self.early.is_empty() && self.news.is_empty() && self.fair.is_none() {
            return runs;
        }
        let early = self.early.peek().map(|Reverse(e)| e.0.0);
        let news = self.news.front().map(|(at, ..)| *at);
        let lanes = self.fair.as_ref().and_then(|lanes| lanes.next());
        [runs, early, news, lanes].into_iter().flatten().min()
    }

    /// Gives half of the room for items back when it was left unused, time after time, by those
    /// that were `taken`: a burst is not to be paid for in memory for ever. What it is used for
    /// regularly it keeps, and nothing is allocated anew.
    fn give_back(&mut self, taken: usize, batch: &mut Batch) {
        let room = self.runs.room().max(batch.0.capacity());
        let is_empty = self.runs.is_empty() && self.early.is_empty();
        if room <= ROOM_KEPT || !is_empty {
            return;
        }
        if taken > room / 4 {
            self.quiet = 0;
        } else if self.quiet < QUIET_DRAINS {
            self.quiet += 1;
        } else {
            let half = (room / 2).max(ROOM_KEPT);
            self.runs.shrink_to(half);
            self.early.shrink_to(half);
            batch.0.shrink_to(half);
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<Arrival> {
        let arrival = self.next_due(now)?;
        self.give(&arrival);
        Some(arrival)
    }

    /// Counts a frame off.
    fn give(&mut self, arrival: &Arrival) {
        if let Some((packet, payer)) = arrival.2.frame() {
            self.shares.give(payer, cost(packet));
        }
    }

    /// Takes the next item out that is due, which is not counted off yet.
    fn next_due(&mut self, now: Instant) -> Option<Arrival> {
        if self.early.is_empty() && self.news.is_empty() {
            let is_due = self.runs.next_at().is_some_and(|at| at <= now);
            return is_due.then(|| self.runs.pop_front()).flatten();
        }
        let runs = self.runs.front().map(place);
        let early = self.early.peek().map(|Reverse(e)| e.0);
        let news = self.news.front();
        let news = news.map(|(at, seq, ifid, _)| (*at, Some(*ifid), *seq));
        let first = [runs, early, news].into_iter().flatten().min();
        if first.is_none_or(|(at, ..)| at > now) {
            return None;
        }
        if first == runs {
            return self.runs.pop_front();
        }
        if first == early {
            let early = self.early.pop();
            return early.map(|Reverse(Early((at, _, seq), item))| (at, seq, *item));
        }
        let news = self.news.pop_front();
        news.map(|(at, seq, ifid, news)| (at, seq, Item::Carrier(ifid, news)))
    }
}

fn cost(packet: &Packet) -> usize {
    packet.len() + FRAME_COST
}

impl PartialEq for Early {
    fn eq(&self, other: &Early) -> bool {
        self.0 == other.0
    }
}
impl Eq for Early {}
impl PartialOrd for Early {
    fn partial_cmp(&self, other: &Early) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Early {
    fn cmp(&self, other: &Early) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests;
