//! Disciplines against plain models of what their papers and RFCs say.

mod classes;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::stats::DropReason;
use crate::base::time::Duration;
use crate::link::config::Ecn;
use crate::link::ecn::tests::frame;

/// ECT(0): the sender takes part in ECN.
const ECT: u8 = 0b10;

fn limits(frames: usize) -> Limits {
    Limits {
        frames,
        bytes: None,
    }
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// A frame that comes.
#[derive(Clone, Copy, Debug)]
struct Coming {
    at: u64,
    tos: u8,
    flow: u16,
    len: usize,
}

/// What became of the frames, by their number: when it was sent and whether marked, or dropped.
type Fates = BTreeMap<usize, Result<(u64, bool), DropReason>>;

/// The number of a frame, in its last bytes.
fn number(packet: &Packet) -> usize {
    let bytes = packet.to_vec();
    let last: [u8; 4] = bytes[bytes.len() - 4..].try_into().expect("four bytes");
    u32::from_be_bytes(last) as usize
}

fn numbered(coming: &Coming, number: usize) -> Packet {
    let mut bytes = frame(coming.tos, coming.flow, coming.len).to_vec();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&(number as u32).to_be_bytes());
    Packet::incoming(bytes)
}

/// Sends frames through a discipline and a transmitter of `ns_per_byte`, until all are out.
fn run(discipline: &mut impl Discipline, frames: &[Coming], ns_per_byte: u64) -> Fates {
    let mut fates = Fates::new();
    let mut dropped = Vec::new();
    let mut free = 0;
    let mut waiting_since = 0;
    let mut next = 0;
    loop {
        // A departure at the very time of an arrival comes first.
        let arrival = frames.get(next).map(|f| f.at);
        let departs = free.max(waiting_since);
        let takes = discipline.frames() > 0 && arrival.is_none_or(|at| departs <= at);
        if takes {
            if let Some(queued) = discipline.dequeue(at(departs), &mut dropped) {
                let marked = queued.packet.to_vec()[15] & 3 == 3;
                fates.insert(number(&queued.packet), Ok((departs, marked)));
                free = departs + queued.packet.len() as u64 * ns_per_byte;
            }
        } else if let Some(coming) = frames.get(next) {
            if discipline.frames() == 0 {
                waiting_since = coming.at;
            }
            discipline.enqueue(at(coming.at), numbered(coming, next), &mut dropped);
            next += 1;
        } else {
            break;
        }
        for gone in dropped.drain(..) {
            fates.insert(number(&gone.packet), Err(gone.reason));
        }
    }
    assert_eq!((discipline.frames(), discipline.bytes()), (0, 0));
    assert_eq!(fates.len(), frames.len(), "each frame has one fate");
    fates
}

/// A frame in a model's queue.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: usize,
    came: u64,
    len: u64,
    ect: bool,
}

/// RFC 8289 in the order of its sentences, over plain numbers.
struct Model {
    target: u64,
    interval: u64,
    ecn: bool,
    queue: Vec<Waiting>,
    largest: u64,
    too_long_since_plus_interval: Option<u64>,
    in_drop_state: bool,
    next_drop: u64,
    drops: u64,
    drops_when_last_begun: u64,
    marked: Vec<usize>,
}

impl Model {
    fn new(config: config::Codel) -> Model {
        Model {
            target: config.target.as_nanos() as u64,
            interval: config.interval.as_nanos() as u64,
            ecn: config.ecn == Ecn::Mark,
            queue: Vec::new(),
            largest: 512,
            too_long_since_plus_interval: None,
            in_drop_state: false,
            next_drop: 0,
            drops: 0,
            drops_when_last_begun: 0,
            marked: Vec::new(),
        }
    }

    fn add(&mut self, frame: Waiting) {
        self.largest = self.largest.max(frame.len);
        self.queue.push(frame);
    }

    fn bytes(&self) -> u64 {
        self.queue.iter().map(|f| f.len).sum()
    }

    /// `interval / sqrt(drops)`: the largest number whose square times `drops` is at most the
    /// interval's, found by halving.
    fn spacing(&self) -> u64 {
        let (mut low, mut high) = (0u128, u128::from(self.interval) + 1);
        let drops = u128::from(self.drops);
        while high - low > 1 {
            let middle = (low + high) / 2;
            match middle * middle * drops <= u128::from(self.interval).pow(2) {
                true => low = middle,
                false => high = middle,
            }
        }
        low as u64
    }

    fn first(&mut self, now: u64) -> Option<(Waiting, bool)> {
        if self.queue.is_empty() {
            self.too_long_since_plus_interval = None;
            return None;
        }
        let frame = self.queue.remove(0);
        let short = now - frame.came < self.target || self.bytes() <= self.largest;
        if short {
            self.too_long_since_plus_interval = None;
            return Some((frame, false));
        }
        match self.too_long_since_plus_interval {
            None => {
                self.too_long_since_plus_interval = Some(now + self.interval);
                // An interval of zero does not exist.
                Some((frame, false))
            }
            Some(end) => Some((frame, now >= end)),
        }
    }

    /// What is sent at `now`; what is dropped is added to `dropped`.
    fn take(&mut self, now: u64, dropped: &mut Vec<usize>) -> Option<Waiting> {
        let Some((mut frame, mut may_drop)) = self.first(now) else {
            self.in_drop_state = false;
            return None;
        };
        if !self.in_drop_state {
            if !may_drop {
                return Some(frame);
            }
            let sent = if self.ecn && frame.ect {
                self.marked.push(frame.number);
                Some(frame)
            } else {
                dropped.push(frame.number);
                self.first(now).map(|(frame, _)| frame)
            };
            let more = self.drops - self.drops_when_last_begun;
            let soon = now.saturating_sub(self.next_drop) < 16 * self.interval;
            self.drops = if more > 1 && soon { more } else { 1 };
            self.drops_when_last_begun = self.drops;
            self.next_drop = now + self.spacing();
            self.in_drop_state = sent.is_some();
            return sent;
        }
        loop {
            if !may_drop {
                self.in_drop_state = false;
                return Some(frame);
            }
            if now < self.next_drop {
                return Some(frame);
            }
            self.drops += 1;
            if self.ecn && frame.ect {
                self.marked.push(frame.number);
                self.next_drop += self.spacing();
                return Some(frame);
            }
            dropped.push(frame.number);
            match self.first(now) {
                None => {
                    self.in_drop_state = false;
                    return None;
                }
                Some(next) => (frame, may_drop) = next,
            }
            if may_drop {
                self.next_drop += self.spacing();
            }
        }
    }
}

/// RFC 8290 over models of CoDel, with lists of flows.
struct FlowsModel {
    config: config::FqCodel,
    limit: usize,
    seed: u64,
    flows: BTreeMap<u32, (Model, i64)>,
    new: Vec<u32>,
    old: Vec<u32>,
}

impl FlowsModel {
    fn total(&self) -> usize {
        self.flows.values().map(|(m, _)| m.queue.len()).sum()
    }

    fn add(&mut self, packet: &Packet, frame: Waiting, dropped: &mut Vec<usize>) {
        let hash = crate::link::ecn::flow(&mut packet.clone(), self.seed);
        let flow = (hash % u64::from(self.config.flows)) as u32;
        let codel = self.config.codel;
        let entry = self.flows.entry(flow);
        let (model, credit) = entry.or_insert_with(|| (Model::new(codel), 0));
        model.add(frame);
        if !self.new.contains(&flow) && !self.old.contains(&flow) {
            *credit = i64::from(self.config.quantum);
            self.new.push(flow);
        }
        if self.total() > self.limit {
            let most = self.flows.values().map(|(m, _)| m.bytes()).max();
            let most = most.expect("there is a flow");
            let (model, _) = self
                .flows
                .values_mut()
                .find(|(m, _)| m.bytes() == most)
                .expect("it is somebody's");
            let mut gone = 0;
            for _ in 0..64 {
                let first = model.queue.remove(0);
                gone += first.len;
                dropped.push(first.number);
                if gone >= most / 2 || model.queue.is_empty() {
                    break;
                }
            }
        }
    }

    fn take(&mut self, now: u64, dropped: &mut Vec<usize>) -> Option<Waiting> {
        loop {
            let from_new = !self.new.is_empty();
            let flow = match from_new {
                true => self.new[0],
                false => *self.old.first()?,
            };
            let list = if from_new {
                &mut self.new
            } else {
                &mut self.old
            };
            let (model, credit) = self.flows.get_mut(&flow).expect("a listed flow");
            if *credit <= 0 {
                *credit += i64::from(self.config.quantum);
                list.remove(0);
                self.old.push(flow);
                continue;
            }
            if let Some(frame) = model.take(now, dropped) {
                *credit -= frame.len as i64;
                return Some(frame);
            }
            list.remove(0);
            if from_new {
                self.old.push(flow);
            }
        }
    }
}

/// The models behind the interface of a discipline, so that the same transmitter serves them. Frames
/// are kept as packets only for their numbers and marks.
struct Modelled<M> {
    model: M,
    packets: BTreeMap<usize, (Packet, Instant)>,
}

trait Take {
    fn add(&mut self, packet: &Packet, frame: Waiting, dropped: &mut Vec<usize>);
    fn take(&mut self, now: u64, dropped: &mut Vec<usize>) -> Option<Waiting>;
    fn marked(&self) -> Vec<usize>;
}

impl Take for Model {
    fn add(&mut self, _packet: &Packet, frame: Waiting, _dropped: &mut Vec<usize>) {
        Model::add(self, frame);
    }
    fn take(&mut self, now: u64, dropped: &mut Vec<usize>) -> Option<Waiting> {
        Model::take(self, now, dropped)
    }
    fn marked(&self) -> Vec<usize> {
        self.marked.clone()
    }
}

impl Take for FlowsModel {
    fn add(&mut self, packet: &Packet, frame: Waiting, dropped: &mut Vec<usize>) {
        FlowsModel::add(self, packet, frame, dropped);
    }
    fn take(&mut self, now: u64, dropped: &mut Vec<usize>) -> Option<Waiting> {
        FlowsModel::take(self, now, dropped)
    }
    fn marked(&self) -> Vec<usize> {
        self.flows
            .values()
            .flat_map(|(m, _)| m.marked.clone())
            .collect()
    }
}

impl<M: Take> Modelled<M> {
    fn drop_all(&mut self, numbers: Vec<usize>, dropped: &mut Vec<Dropped>) {
        for number in numbers {
            let (packet, _) = self.packets.remove(&number).expect("it waits");
            // The reason is not the model's business.
            let reason = DropReason::LinkAqm;
            dropped.push(Dropped { packet, reason });
        }
    }
}

impl<M: Take> Discipline for Modelled<M> {
    fn enqueue(&mut self, now: Instant, packet: Packet, dropped: &mut Vec<Dropped>) {
        let frame = Waiting {
            number: number(&packet),
            came: now.as_nanos(),
            len: packet.len() as u64,
            ect: packet.to_vec()[15] & 3 != 0,
        };
        let mut gone = Vec::new();
        self.model.add(&packet, frame, &mut gone);
        self.packets.insert(frame.number, (packet, now));
        self.drop_all(gone, dropped);
    }

    fn dequeue(&mut self, now: Instant, dropped: &mut Vec<Dropped>) -> Option<Queued> {
        let mut gone = Vec::new();
        let taken = self.model.take(now.as_nanos(), &mut gone);
        self.drop_all(gone, dropped);
        let (mut packet, since) = self.packets.remove(&taken?.number).expect("it waits");
        if self.model.marked().contains(&number(&packet)) {
            crate::link::ecn::mark(&mut packet);
        }
        Some(Queued { packet, since })
    }

    fn frames(&self) -> usize {
        self.packets.len()
    }

    fn bytes(&self) -> usize {
        self.packets.values().map(|(p, _)| p.len()).sum()
    }

    fn marked(&self) -> u64 {
        self.model.marked().len() as u64
    }
}

/// Frames in bursts, so that a queue forms, empties, and forms again.
fn comings() -> impl Strategy<Value = Vec<Coming>> {
    let one = (0u64..200_000, 0u8..2, 0u16..6, 60usize..1515);
    let burst = (0u64..400_000_000, prop::collection::vec(one, 1..80));
    prop::collection::vec(burst, 1..6).prop_map(|bursts| {
        let mut now = 0;
        let mut frames = Vec::new();
        for (pause, burst) in bursts {
            now += pause;
            for (gap, ect, flow, len) in burst {
                now += gap;
                let tos = ect * ECT;
                frames.push(Coming {
                    at: now,
                    tos,
                    flow,
                    len,
                });
            }
        }
        frames
    })
}

/// What was sent when, and what was not, whatever the reason is called.
fn outcome(fates: Fates) -> Vec<Option<(u64, bool)>> {
    fates.into_values().map(Result::ok).collect()
}

fn codel(ecn: Ecn) -> config::Codel {
    config::Codel {
        // Short, so that few frames make a long queue.
        target: Duration::from_millis(1),
        interval: Duration::from_millis(20),
        ecn,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn codel_does_what_its_rfc_says(frames in comings(), mark: bool) {
        let config = codel(if mark { Ecn::Mark } else { Ecn::Off });
        let ours = run(&mut Codel::new(config, limits(10_000)), &frames, 2000);
        let model = Model::new(config);
        let mut model = Modelled { model, packets: BTreeMap::new() };
        prop_assert_eq!(outcome(ours), outcome(run(&mut model, &frames, 2000)));
    }

    #[test]
    fn fq_codel_does_what_its_rfc_says(
        frames in comings(),
        mark: bool,
        limit in 5usize..400,
        quantum in 300u32..3000,
    ) {
        let config = config::FqCodel {
            codel: codel(if mark { Ecn::Mark } else { Ecn::Off }),
            flows: 4,
            quantum,
        };
        let ours = run(&mut FqCodel::new(config, limits(limit), 9), &frames, 2000);
        let model = FlowsModel {
            config,
            limit,
            seed: 9,
            flows: BTreeMap::new(),
            new: Vec::new(),
            old: Vec::new(),
        };
        let mut model = Modelled { model, packets: BTreeMap::new() };
        prop_assert_eq!(outcome(ours), outcome(run(&mut model, &frames, 2000)));
    }

    /// What enters leaves or is dropped, and no more waits than may.
    #[test]
    fn nothing_is_lost_and_limits_hold(
        frames in comings(),
        which in 0usize..4,
        max_frames in 1usize..50,
        max_bytes in prop::option::of(1500usize..30_000),
    ) {
        let discipline = [
            config::Discipline::Codel(codel(Ecn::Mark)),
            config::Discipline::FqCodel(config::FqCodel::default()),
            config::Discipline::Drr { weights: [1, 2, 3].into(), quantum: 500 },
            config::Discipline::StrictPriority,
        ][which].clone();
        let config = QueueConfig { discipline, limit_frames: max_frames, limit_bytes: max_bytes };
        let mut held = make(&config, 1).expect("it holds frames");
        let mut dropped = Vec::new();
        let (mut frames_in, mut bytes_in) = (0, 0);
        let (mut frames_out, mut bytes_out) = (0, 0);
        for (n, coming) in frames.iter().enumerate() {
            let tos = (n % 64) as u8 * 4;
            let packet = numbered(&Coming { tos, ..*coming }, n);
            frames_in += 1;
            bytes_in += packet.len();
            held.enqueue(at(coming.at), packet, &mut dropped);
            prop_assert!(held.frames() <= max_frames);
            prop_assert!(max_bytes.is_none_or(|limit| held.bytes() <= limit));
            if n % 3 == 0 && let Some(queued) = held.dequeue(at(coming.at), &mut dropped) {
                frames_out += 1;
                bytes_out += queued.packet.len();
            }
            let gone: usize = dropped.iter().map(|d| d.packet.len()).sum();
            prop_assert_eq!(frames_in, frames_out + dropped.len() + held.frames());
            prop_assert_eq!(bytes_in, bytes_out + gone + held.bytes());
        }
    }
}

#[test]
fn codel_keeps_a_standing_queue_near_its_target() {
    // 1000-byte frames at a rate 5 % above what the link takes, for ten seconds.
    let frames: Vec<Coming> = (0..10_500)
        .map(|n| Coming {
            at: n * 952_381,
            tos: 0,
            flow: 1,
            len: 1000,
        })
        .collect();
    let config = config::Codel::default();
    let fates = run(&mut Codel::new(config, limits(10_000)), &frames, 1000);
    let waits: Vec<u64> = fates
        .iter()
        .filter_map(|(n, fate)| Some(fate.ok()?.0 - frames[*n].at))
        .collect();
    let late = &waits[waits.len() / 2..];
    let mean = late.iter().sum::<u64>() / late.len() as u64;
    assert!(mean < 30_000_000, "{mean} ns");
    assert!(fates.len() - waits.len() > 100, "some were dropped");
    let model = Model::new(config);
    let mut model = Modelled {
        model,
        packets: BTreeMap::new(),
    };
    assert_eq!(outcome(fates), outcome(run(&mut model, &frames, 1000)));
    // A drop-tail queue would have grown to half a second.
}

#[test]
fn fq_codel_spares_the_sparse() {
    // One flow sends twice what the link takes, another one a frame every ten milliseconds.
    let mut frames: Vec<Coming> = (0..4000)
        .map(|n| Coming {
            at: n * 500_000,
            tos: 0,
            flow: 1,
            len: 1000,
        })
        .chain((0..200).map(|n| Coming {
            at: n * 10_000_000 + 1,
            tos: 0,
            flow: 2,
            len: 200,
        }))
        .collect();
    frames.sort_by_key(|f| f.at);
    let config = config::FqCodel::default();
    let fates = run(&mut FqCodel::new(config, limits(1000), 3), &frames, 1000);
    for (n, fate) in &fates {
        if frames[*n].flow == 2 {
            let (sent, _) = fate.expect("a sparse flow loses nothing");
            let wait = sent - frames[*n].at;
            assert!(
                wait <= 2_000_000,
                "{wait} ns: no more than a round of the other"
            );
        }
    }
}

#[test]
fn round_robin_shares_by_weight() {
    let weights = [1u32, 2, 5];
    let mut drr = Drr::new(&weights, 500, limits(100_000));
    let mut dropped = Vec::new();
    let lens = [1500, 64, 700];
    for n in 0..3000 {
        for class in 0..3u8 {
            let coming = Coming {
                at: 0,
                tos: class << 2,
                flow: 1,
                len: lens[class as usize],
            };
            drr.enqueue(at(0), numbered(&coming, n), &mut dropped);
        }
    }
    let mut sent = [0u64; 3];
    for _ in 0..2000 {
        let queued = drr.dequeue(at(0), &mut dropped).expect("enough waits");
        let class = queued.packet.to_vec()[15] >> 2;
        sent[class as usize] += queued.packet.len() as u64;
        // No class is ahead of its share by more than its part of a round and a frame.
        let rounds = |c: usize| sent[c] as f64 / f64::from(weights[c]);
        let slack = 500.0 + 1500.0;
        let most = (0..3).map(rounds).fold(0.0, f64::max);
        let least = (0..3).map(rounds).fold(f64::MAX, f64::min);
        assert!(most - least <= 2.0 * slack, "{sent:?}");
    }
}

#[test]
fn the_more_important_goes_first_and_pushes_others_out() {
    let mut priority = Priority::new(limits(3));
    let mut dropped = Vec::new();
    let coming = |precedence: u8| Coming {
        at: 0,
        tos: precedence << 5,
        flow: 1,
        len: 100,
    };
    for (n, precedence) in [0, 6, 0, 3, 0, 7].into_iter().enumerate() {
        priority.enqueue(at(0), numbered(&coming(precedence), n), &mut dropped);
    }
    let gone: Vec<usize> = dropped.iter().map(|d| number(&d.packet)).collect();
    // 3 pushes out the last of the lowest, which cannot enter again; 7 pushes out the first.
    assert_eq!(gone, [2, 4, 0]);
    let order: Vec<usize> = std::iter::from_fn(|| {
        priority
            .dequeue(at(0), &mut dropped)
            .map(|q| number(&q.packet))
    })
    .collect();
    assert_eq!(order, [5, 1, 3]);
}

#[test]
fn an_idle_flow_keeps_no_room() {
    let config = config::FqCodel::default();
    let mut fq = FqCodel::new(config, limits(1000), 3);
    let mut dropped = Vec::new();
    for flow in 0..50 {
        for n in 0..200 {
            let coming = Coming {
                at: 0,
                tos: 0,
                flow,
                len: 100,
            };
            fq.enqueue(at(0), numbered(&coming, n), &mut dropped);
        }
        while fq.dequeue(at(0), &mut dropped).is_some() {}
    }
    assert!(dropped.is_empty());
    assert_eq!(fq.room(), 0);
}
