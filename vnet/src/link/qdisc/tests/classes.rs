//! Disciplines that tell classes by the differentiated services field.

use super::*;

/// Rows of waiting frames, by class, and their limits.
struct Rows {
    rows: Vec<Vec<Waiting>>,
    limits: Limits,
}

impl Rows {
    fn new(classes: usize, limits: Limits) -> Rows {
        Rows {
            rows: vec![Vec::new(); classes],
            limits,
        }
    }

    fn overfull(&self) -> bool {
        let frames: usize = self.rows.iter().map(Vec::len).sum();
        let bytes: u64 = self.rows.iter().flatten().map(|f| f.len).sum();
        frames > self.limits.frames || self.limits.bytes.is_some_and(|most| bytes as usize > most)
    }

    fn bytes(&self, class: usize) -> u64 {
        self.rows[class].iter().map(|f| f.len).sum()
    }
}

/// Deficit round robin as its paper describes it, with a list of classes whose turns come.
struct RoundsModel {
    waiting: Rows,
    weights: Vec<u32>,
    quantum: u64,
    turns: Vec<usize>,
    credit: Vec<u64>,
    /// The first of the list has been given its credit for this turn.
    begun: bool,
}

impl RoundsModel {
    fn new(weights: &[u32], quantum: u32, limits: Limits) -> RoundsModel {
        RoundsModel {
            waiting: Rows::new(weights.len(), limits),
            weights: weights.to_vec(),
            quantum: u64::from(quantum),
            turns: Vec::new(),
            credit: vec![0; weights.len()],
            begun: false,
        }
    }

    /// Takes a class that has nothing off the list.
    fn leave(&mut self, class: usize) {
        if self.turns[0] == class {
            self.begun = false;
        }
        self.turns.retain(|c| *c != class);
        self.credit[class] = 0;
    }
}

impl Take for RoundsModel {
    fn add(&mut self, packet: &Packet, frame: Waiting, dropped: &mut Vec<usize>) {
        let class = usize::from(packet.to_vec()[15] >> 2) % self.weights.len();
        self.waiting.rows[class].push(frame);
        if !self.turns.contains(&class) {
            self.turns.push(class);
        }
        while self.waiting.overfull() {
            let lengths = self.turns.iter().map(|c| self.waiting.bytes(*c));
            let most = lengths.max().expect("somebody waits");
            let loser = match self.waiting.bytes(class) == most {
                true => class,
                false => *self
                    .turns
                    .iter()
                    .find(|c| self.waiting.bytes(**c) == most)
                    .expect("it is somebody's"),
            };
            let last = self.waiting.rows[loser].pop().expect("the longest");
            dropped.push(last.number);
            if self.waiting.rows[loser].is_empty() {
                self.leave(loser);
            }
        }
    }

    fn take(&mut self, _now: u64, _dropped: &mut Vec<usize>) -> Option<Waiting> {
        loop {
            let class = *self.turns.first()?;
            if !self.begun {
                self.credit[class] += u64::from(self.weights[class]) * self.quantum;
                self.begun = true;
            }
            if self.waiting.rows[class][0].len <= self.credit[class] {
                let frame = self.waiting.rows[class].remove(0);
                self.credit[class] -= frame.len;
                if self.waiting.rows[class].is_empty() {
                    self.leave(class);
                }
                return Some(frame);
            }
            self.turns.remove(0);
            self.turns.push(class);
            self.begun = false;
        }
    }

    fn marked(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// Strict priority: who arrives at a full queue enters only if those below make way.
struct PrecedenceModel(Rows);

impl Take for PrecedenceModel {
    fn add(&mut self, packet: &Packet, frame: Waiting, dropped: &mut Vec<usize>) {
        let class = usize::from(packet.to_vec()[15] >> 5);
        let before = self.0.rows.clone();
        self.0.rows[class].push(frame);
        let mut pushed_out = Vec::new();
        while self.0.overfull() {
            let lowest = (0..class).find(|c| !self.0.rows[*c].is_empty());
            let Some(lowest) = lowest else {
                // They would have gone in vain.
                self.0.rows = before;
                dropped.push(frame.number);
                return;
            };
            let last = self.0.rows[lowest].pop().expect("it holds somebody");
            pushed_out.push(last.number);
        }
        dropped.extend(pushed_out);
    }

    fn take(&mut self, _now: u64, _dropped: &mut Vec<usize>) -> Option<Waiting> {
        let highest = self.0.rows.iter_mut().rev().find(|row| !row.is_empty())?;
        Some(highest.remove(0))
    }

    fn marked(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// Frames of all precedences, and of several codepoints of each.
fn classed() -> impl Strategy<Value = Vec<Coming>> {
    (comings(), prop::collection::vec(0u8..64, 400)).prop_map(|(mut frames, codepoints)| {
        for (frame, codepoint) in frames.iter_mut().zip(codepoints) {
            frame.tos |= codepoint << 2;
        }
        frames
    })
}

fn modelled<M>(model: M) -> Modelled<M> {
    Modelled {
        model,
        packets: BTreeMap::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn round_robin_does_what_its_paper_says(
        frames in classed(),
        weights in prop::collection::vec(1u32..6, 1..5),
        quantum in 100u32..3000,
        frames_limit in 1usize..60,
        bytes_limit in prop::option::of(1000usize..30_000),
    ) {
        let limits = Limits { frames: frames_limit, bytes: bytes_limit };
        let ours = run(&mut Drr::new(&weights, quantum, limits), &frames, 2000);
        let mut model = modelled(RoundsModel::new(&weights, quantum, limits));
        prop_assert_eq!(outcome(ours), outcome(run(&mut model, &frames, 2000)));
    }

    #[test]
    fn priority_does_what_it_says(
        frames in classed(),
        frames_limit in 1usize..60,
        bytes_limit in prop::option::of(1000usize..30_000),
    ) {
        let limits = Limits { frames: frames_limit, bytes: bytes_limit };
        let ours = run(&mut Priority::new(limits), &frames, 2000);
        let mut model = modelled(PrecedenceModel(Rows::new(8, limits)));
        prop_assert_eq!(outcome(ours), outcome(run(&mut model, &frames, 2000)));
    }
}

/// Bytes sent while both classes had something to send, when they send so many times what the link
/// takes, in frames of 1000 bytes.
fn shares(weights: &[u32], loads: [u64; 2], limit: usize) -> [u64; 2] {
    let mut frames: Vec<Coming> = Vec::new();
    for (class, load) in loads.into_iter().enumerate() {
        frames.extend((0..2000 * load).map(|n| Coming {
            at: n * 1_000_000 / load + class as u64,
            tos: (class as u8) << 2,
            flow: 1,
            len: 1000,
        }));
    }
    frames.sort_by_key(|frame| frame.at);
    let fates = run(&mut Drr::new(weights, 1000, limits(limit)), &frames, 1000);
    let mut sent = [0; 2];
    for (number, fate) in fates {
        if fate.is_ok_and(|(at, _)| at < 2_000_000_000) {
            sent[usize::from(frames[number].tos >> 2)] += 1000;
        }
    }
    sent
}

#[test]
fn weights_hold_in_a_full_queue_however_much_one_sends() {
    for (weights, loads) in [
        ([1, 1], [8, 1]),
        ([1, 4], [8, 1]),
        ([4, 1], [2, 8]),
        ([1, 1], [3, 3]),
    ] {
        for limit in [10, 100] {
            let sent = shares(&weights, loads, limit);
            let total = sent[0] + sent[1];
            // What comes before there is a queue, and a round.
            let slack = 20_000;
            let due = total * u64::from(weights[0]) / u64::from(weights[0] + weights[1]);
            assert!(
                sent[0].abs_diff(due) <= slack,
                "{weights:?} {loads:?} {limit}: {sent:?}"
            );
        }
    }
}
