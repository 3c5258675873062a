//! One direction of an emulated link: a pipeline of stages that decide whether, when and in what condition a
//! frame arrives.
//!
//! | stage | what it does to a frame |
//! |---|---|
//! | state | drops it while the link is down |
//! | `queue`, `red`, `bucket`, `qdisc` | queues it for the transmitter, marks it, or drops it |
//! | `rate` | sends its bits at the rate of the link |
//! | `loss` | loses it on the wire, after it has used its share of the rate |
//! | duplication | delivers it twice |
//! | `corrupt` | flips some of its bits: its frame check sequence shows that, and it is lost, or nothing shows it, and it arrives |
//! | `delay` | delays it by a fixed and a varying time, and may let it overtake others |
//!
//! Each stage takes the time at which a frame reaches it and returns the time at which the frame
//! leaves it, or drops it. A stage that needs random numbers has its own stream, derived from the link's seed
//! and the stage's label. Switching one stage on does not change the draws of the others, and a stage that is off
//! draws nothing.
//!
//! There are two kinds of queue disciplines. Drop-tail, RED and the token bucket keep the order of frames and
//! decide on arrival, so a frame's departure is known at once: the link is only arithmetic, and the frame waits in
//! its receiver's inbox. The others decide when the transmitter becomes free. They hold the frames themselves, in a
//! `qdisc::Held`, and the link then has a deadline.
//!
//! `script` changes the configuration over time. `docs/links.md` describes what each parameter means and what a
//! change does to waiting frames.

pub(crate) mod account;
pub(crate) mod bucket;
pub(crate) mod config;
pub(crate) mod corrupt;
pub(crate) mod delay;
mod display;
pub(crate) mod ecn;
mod impairments;
pub(crate) mod loss;
pub(crate) mod qdisc;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod red;
pub(crate) mod script;
mod sojourns;
pub(crate) mod stats;

use std::collections::VecDeque;
use std::fmt;

pub(crate) use account::Account;
pub use config::{
    Codel, Discipline, Ecn, FqCodel, Jitter, LinkConfig, Loss, Order, QueueConfig, Red, Reorder,
};
pub use script::{Change, Shape};
pub use stats::{LinkStats, Sojourn};

use crate::base::config::ConfigError;
use crate::base::rng::Rng;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::Packet;
use crate::packet::cx::Carrier;

use delay::Delay;
use impairments::Impairments;
use qdisc::{Discipline as _, Dropped};
use queue::Queue;
use rate::Rate;
use sojourns::Sojourns;

/// What a frame costs that a link holds, besides its bytes.
const FRAME_COST: usize = size_of::<qdisc::Queued>() + Packet::COST;
/// Bytes that wait, above which frames are copied out of the memory that they share with others: of
/// those that they were cut from together, they may be the only ones that are left.
const MUCH: usize = 1 << 20;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It arrives at the far end at this time.
    DeliverAt(Instant),
    /// It arrives twice.
    Twice(Instant, Instant),
    /// It does not arrive.
    Drop(DropReason),
}

/// What comes out of a link that holds frames.
#[derive(Debug)]
pub(crate) struct Released {
    /// The frame.
    pub(crate) packet: Packet,
    /// What becomes of it.
    pub(crate) verdict: Verdict,
}

/// One direction of a link. See the [module](self).
pub(crate) struct Link {
    config: LinkConfig,
    queue: Queue,
    rate: Rate,
    delay: Delay,
    /// The stages that most links do not have. Once there was one, they stay, for their random streams.
    impairments: Option<Box<Impairments>>,
    /// A discipline that holds frames, instead of those that decide on arrival.
    held: Option<Box<qdisc::Held>>,
    /// Frames that it gave up and that were not told of yet, the next one last.
    dropped: Vec<Dropped>,
    /// Since when somebody waits in it.
    waiting_since: Instant,
    /// Frames of a discipline that was replaced, for the one in its place.
    displaced: VecDeque<Packet>,
    /// How long the transmitter has been busy, in nanoseconds.
    busy_ns: u64,
    seed: u64,
    stats: LinkStats,
    sojourns: Sojourns,
}

impl Link {
    /// An idle link that begins at `now`, with random streams derived from `rng`.
    ///
    /// # Errors
    /// See [`LinkConfig::validate`].
    pub(crate) fn new(config: LinkConfig, now: Instant, mut rng: Rng) -> Result<Link, ConfigError> {
        config.validate()?;
        let mut link = Link {
            config: LinkConfig::default(),
            queue: Queue::default(),
            rate: Rate::default(),
            delay: Delay::default(),
            impairments: None,
            held: None,
            dropped: Vec::new(),
            waiting_since: now,
            displaced: VecDeque::new(),
            busy_ns: 0,
            seed: rng.u64(),
            stats: LinkStats {
                since: now,
                ..LinkStats::default()
            },
            sojourns: Sojourns::default(),
        };
        link.apply(now, config);
        Ok(link)
    }

    /// True when frames go to [`Link::hold`], false when they go to [`Link::offer`].
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Takes a frame at `now` and says what becomes of it. It may be marked. `now` must not run
    /// backwards. For a link that does not [hold](Link::holds) frames.
    pub(crate) fn offer(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        self.note_offer(packet.frame_len());
        self.pass(now, packet)
    }

    fn pass(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let len = packet.frame_len();
        if self.config.state == Carrier::Down {
            return self.drops(DropReason::LinkDown);
        }
        let empty_since = self.queue.last_departure();
        if !self.queue.has_room(now, len) {
            return self.drops(DropReason::LinkQueueFull);
        }
        let wire_len = len.saturating_add(self.config.overhead_bytes);
        let mut begin = now;
        if let Some(impairments) = &mut self.impairments {
            if let Discipline::Red(red) = &self.config.queue.discipline {
                let (_, bytes) = self.queue.held();
                let rate_bps = self.config.rate_bps;
                let before = &mut impairments.red;
                let picked = before.picks(red, now, bytes, empty_since, rate_bps);
                if picked && !(red.ecn == Ecn::Mark && ecn::mark(packet)) {
                    return self.drops(DropReason::LinkAqm);
                }
                self.stats.marked += u64::from(picked);
            }
            begin = impairments.bucket.pass(now, wire_len);
        }
        let departure = self.clock_out(begin, wire_len);
        self.queue.enter(now, departure, len);
        let (frames, bytes) = self.queue.held();
        self.note_waiting(frames, bytes);
        if departure > now || self.config.rate_bps.is_some() {
            self.sojourns.note(departure.as_nanos() - now.as_nanos());
        }
        self.travel(departure, len)
    }

    /// Bytes of memory that the frames cost that the link holds.
    pub(crate) fn held_cost(&self) -> u64 {
        let held = self.held.as_ref();
        let (frames, bytes) = held.map_or((0, 0), |held| (held.frames(), held.bytes()));
        let displaced = self.displaced.iter().map(Packet::len).sum::<usize>();
        let frames = frames + self.displaced.len();
        (frames * FRAME_COST + bytes + displaced) as u64
    }

    /// Bytes of memory that a frame costs while the link holds it.
    pub(crate) fn cost(packet: &Packet) -> u64 {
        (packet.frame_len() + FRAME_COST) as u64
    }

    /// Changes how many bytes of memory the link may take to know the frames that wait, for a link that
    /// does not [hold](Link::holds) them.
    #[inline]
    pub(crate) fn set_memory(&mut self, bytes: u64) {
        self.queue.set_memory(bytes);
    }

    /// Takes a frame for which its vnet has no room, and says so.
    pub(crate) fn refuse(&mut self, packet: &Packet) -> Verdict {
        self.note_offer(packet.frame_len());
        self.drops(DropReason::LinkQueueFull)
    }

    /// Takes a frame at `now` into the discipline that holds frames. What comes out is told by
    /// [`Link::release`], which is to be called before, and after, until it says `None`.
    pub(crate) fn hold(&mut self, now: Instant, mut packet: Packet) {
        self.note_offer(packet.frame_len());
        if self.held.as_ref().is_some_and(|held| held.bytes() > MUCH) {
            packet.payload.compact();
        }
        self.enqueue(now, packet);
    }

    fn enqueue(&mut self, now: Instant, packet: Packet) {
        if self.config.state == Carrier::Down {
            let reason = DropReason::LinkDown;
            self.dropped.push(Dropped { packet, reason });
            return;
        }
        let Some(held) = &mut self.held else {
            debug_assert!(false, "whether frames are held is asked before");
            return;
        };
        if held.frames() == 0 {
            self.waiting_since = now;
        }
        held.enqueue(now, packet, &mut self.dropped);
        let (frames, bytes) = (held.frames(), held.bytes());
        self.note_waiting(frames, bytes);
    }

    /// What comes out of the queue by `now`: a frame that was given up, or one that the transmitter
    /// has taken.
    pub(crate) fn release(&mut self, now: Instant) -> Option<Released> {
        loop {
            if let Some(Dropped { packet, reason }) = self.dropped.pop() {
                let verdict = self.drops(reason);
                return Some(Released { packet, verdict });
            }
            if let Some(mut packet) = self.displaced.pop_front() {
                if self.holds() {
                    self.enqueue(now, packet);
                    continue;
                }
                let verdict = self.pass(now, &mut packet);
                return Some(Released { packet, verdict });
            }
            let free = self.rate.free_at();
            let held = self.held.as_mut()?;
            if free > now || held.frames() == 0 {
                return None;
            }
            // At the moment at which the transmitter was free, even if we are told of it later.
            // One that was idle takes the frame that has come.
            let at = free.max(self.waiting_since);
            let Some(queued) = held.dequeue(at, &mut self.dropped) else {
                continue;
            };
            let len = queued.packet.frame_len();
            let wire_len = len.saturating_add(self.config.overhead_bytes);
            let departure = self.clock_out(at, wire_len);
            let waited = departure.as_nanos().saturating_sub(queued.since.as_nanos());
            self.sojourns.note(waited);
            let verdict = match self.config.state {
                Carrier::Up => self.travel(departure, len),
                Carrier::Down => self.drops(DropReason::LinkDown),
            };
            return Some(Released {
                packet: queued.packet,
                verdict,
            });
        }
    }

    /// When [`Link::release`] has something to tell.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if !self.dropped.is_empty() || !self.displaced.is_empty() {
            return Some(self.waiting_since);
        }
        let held = self.held.as_deref()?;
        (held.frames() > 0).then(|| self.rate.free_at().max(self.waiting_since))
    }

    /// A frame that had passed found nothing at the other end.
    #[cold]
    pub(crate) fn found_nothing(&mut self, len: usize) {
        self.stats.unplugged += 1;
        self.take_back(len);
    }

    /// A frame that counted as delivered when it left the stages before is not.
    fn take_back(&mut self, len: usize) {
        let stats = &mut self.stats;
        stats.delivered = stats.delivered.saturating_sub(1);
        stats.delivered_bytes = stats.delivered_bytes.saturating_sub(len as u64);
    }

    /// Takes all frames out that wait: the interface goes, or is out of use.
    pub(crate) fn tear_down(&mut self) -> Vec<Packet> {
        let mut frames: Vec<Packet> = self.displaced.drain(..).collect();
        if let Some(held) = &mut self.held {
            while held.frames() > 0 {
                let taken = held.dequeue(Instant::MAX, &mut self.dropped);
                frames.extend(taken.map(|queued| queued.packet));
            }
        }
        frames.extend(self.dropped.drain(..).map(|dropped| dropped.packet));
        self.stats.torn_down += frames.len() as u64;
        frames
    }

    /// True when bits of the next frame to be delivered, of `len` bytes, are flipped so that its
    /// frame check sequence shows it: it does not arrive.
    #[inline]
    pub(crate) fn breaks(&mut self, len: usize) -> bool {
        let Some(Impairments { corrupt, .. }) = self.impairments.as_deref_mut() else {
            return false;
        };
        if !corrupt.hits(len) {
            return false;
        }
        corrupt.skip(len);
        self.stats.corrupted += 1;
        self.take_back(len);
        true
    }

    /// The next frame that [does not break](Link::breaks), `packet`, as it arrives, if bits of it are flipped without
    /// anybody seeing it.
    #[inline]
    pub(crate) fn corrupts(&mut self, packet: &Packet) -> Option<Packet> {
        let corrupt = &mut self.impairments.as_mut()?.corrupt_undetected;
        if !corrupt.hits(packet.frame_len()) {
            return None;
        }
        self.stats.corrupted_undetected += 1;
        Some(corrupt.apply(packet))
    }

    fn clock_out(&mut self, at: Instant, wire_len: usize) -> Instant {
        let begin = self.rate.free_at().max(at);
        let departure = self.rate.depart(at, wire_len);
        self.busy_ns += departure.as_nanos() - begin.as_nanos();
        departure
    }

    /// From the last bit's departure on.
    fn travel(&mut self, departure: Instant, len: usize) -> Verdict {
        let Some(impairments) = &mut self.impairments else {
            self.note_delivery(len);
            return Verdict::DeliverAt(self.delay.arrive(departure));
        };
        if impairments.loss.loses() {
            return self.drops(DropReason::LinkLoss);
        }
        let twice = impairments.duplicate.chance(self.config.duplicate);
        self.note_delivery(len);
        let at = self.arrive(departure);
        if !twice {
            return Verdict::DeliverAt(at);
        }
        self.stats.duplicated += 1;
        self.note_delivery(len);
        Verdict::Twice(at, self.arrive(departure))
    }

    fn arrive(&mut self, departure: Instant) -> Instant {
        let Some(impairments) = &mut self.impairments else {
            return self.delay.arrive(departure);
        };
        if impairments.overtake.overtakes() {
            self.stats.reordered += 1;
            return departure;
        }
        self.delay.arrive_varied(departure, &mut impairments.vary)
    }

    /// Changes how the link behaves from `now` on. Frames that travel, or that wait in a FIFO
    /// discipline, keep the times they were promised, and frames to come queue up behind them. Frames
    /// that a discipline holds go on under the new rate; a new discipline takes them over, in the
    /// order in which the old one gives them.
    ///
    /// # Errors
    /// See [`LinkConfig::validate`]; the link stays as it was.
    pub(crate) fn set_config(
        &mut self,
        now: Instant,
        config: LinkConfig,
    ) -> Result<(), ConfigError> {
        config.validate()?;
        self.apply(now, config);
        Ok(())
    }

    /// How the link behaves.
    pub(crate) fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// The counters at `now`.
    pub(crate) fn stats(&self, now: Instant) -> LinkStats {
        let (frames, bytes) = self.queued(now);
        LinkStats {
            marked: self.stats.marked + self.held.as_ref().map_or(0, |held| held.marked()),
            queued: frames as u64,
            queued_bytes: bytes as u64,
            sojourn: self.sojourns.percentiles(),
            busy: Duration::from_nanos(self.busy_ns),
            ..self.stats
        }
    }

    /// Frames that wait for the transmitter at `now`, and their bytes. The one that is being clocked
    /// out is included for a FIFO discipline.
    pub(crate) fn queued(&self, now: Instant) -> (usize, usize) {
        let displaced = self.displaced.iter().map(Packet::len).sum::<usize>();
        let (frames, bytes) = match &self.held {
            Some(held) => (held.frames(), held.bytes()),
            None => self.queue.waiting(now),
        };
        (frames + self.displaced.len(), bytes + displaced)
    }

    /// Frames that the link itself holds.
    pub(crate) fn held_frames(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.frames());
        held + self.displaced.len() + self.dropped.len()
    }

    fn apply(&mut self, now: Instant, config: LinkConfig) {
        if self.impairments.is_none() && Impairments::are_in(&config) {
            self.impairments = Some(Box::new(Impairments::new(self.seed)));
        }
        if let Some(impairments) = &mut self.impairments {
            impairments.set(&config);
        }
        let queue = &config.queue;
        self.rate.set(config.rate_bps);
        self.delay.set(config.delay);
        self.queue.set_limits(queue.limit_frames, queue.limit_bytes);
        if *queue != self.config.queue {
            self.replace_discipline(now, queue);
        }
        self.config = config;
    }

    fn replace_discipline(&mut self, now: Instant, queue: &QueueConfig) {
        if let Some(mut old) = self.held.take() {
            while old.frames() > 0 {
                let taken = old.dequeue(now, &mut self.dropped);
                self.displaced.extend(taken.map(|queued| queued.packet));
            }
            self.stats.marked += old.marked();
        }
        self.held = qdisc::make(queue, impairments::flow_seed(self.seed)).map(Box::new);
    }

    fn note_offer(&mut self, len: usize) {
        self.stats.offered += 1;
        self.stats.offered_bytes = self.stats.offered_bytes.saturating_add(len as u64);
    }

    fn note_delivery(&mut self, len: usize) {
        self.stats.delivered += 1;
        self.stats.delivered_bytes = self.stats.delivered_bytes.saturating_add(len as u64);
    }

    /// Counts a frame that does not arrive.
    fn drops(&mut self, reason: DropReason) -> Verdict {
        match reason {
            DropReason::LinkLoss => self.stats.lost += 1,
            DropReason::LinkDown => self.stats.down += 1,
            DropReason::LinkAqm => self.stats.aqm += 1,
            _ => self.stats.queue_full += 1,
        }
        Verdict::Drop(reason)
    }

    fn note_waiting(&mut self, frames: usize, bytes: usize) {
        self.stats.queue_high_water = self.stats.queue_high_water.max(frames);
        self.stats.queue_high_water_bytes = self.stats.queue_high_water_bytes.max(bytes);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod chance;
#[cfg(test)]
mod tests;
