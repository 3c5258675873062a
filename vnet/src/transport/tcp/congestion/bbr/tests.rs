use super::*;

const MSS: u32 = 1000;
/// One segment in a millisecond.
const RATE: u64 = 1_000_000;

/// A path of so long a round trip, with a bottleneck of `RATE` and an endless queue, that a sender keeps full.
struct Path {
    bbr: Bbr,
    now: u64,
    rtt: u64,
    nxt: u32,
    una: u32,
    flying: std::collections::VecDeque<Flying>,
    /// How long the link is busy with a segment.
    each: u64,
    free: u64,
    next_send: u64,
    sent: u64,
    /// One of so many segments is lost; zero for none.
    lose_one_in: u64,
    queued: u64,
    /// Acknowledgements come at multiples of this time only.
    bunches: u64,
    /// The link is four times as fast, but only so many bytes may pass at once, and then `RATE`: the rest is lost.
    policed: Option<u64>,
    tokens: u64,
    filled: u64,
    dropped: u64,
    /// How long the queue may be, as a time; the rest is lost.
    room: u64,
    /// From this length on, what may be marked is.
    marks_beyond: u64,
    marked: u64,
}

/// A segment on its way.
#[derive(Clone, Copy)]
struct Flying {
    left: u64,
    /// When its acknowledgement arrives, or is missed.
    back: u64,
    lost: bool,
    marked: bool,
}

impl Path {
    fn new(rtt_ms: u64, lose_one_in: u64) -> Path {
        Path {
            bbr: Bbr::new(10 * MSS),
            now: 0,
            rtt: rtt_ms * MS,
            nxt: 0,
            una: 0,
            flying: Default::default(),
            free: 0,
            next_send: 0,
            sent: 0,
            lose_one_in,
            queued: 0,
            bunches: 1,
            policed: None,
            tokens: 0,
            filled: 0,
            dropped: 0,
            room: u64::MAX,
            each: MS,
            marks_beyond: u64::MAX,
            marked: 0,
        }
    }

    fn pipe(&self) -> u32 {
        self.flying.len() as u32 * MSS
    }

    /// Whether a segment that leaves now is one too many.
    fn is_policed(&mut self) -> bool {
        let Some(most) = self.policed else {
            return false;
        };
        let more = (self.now - self.filled) * RATE / 1_000_000_000;
        self.tokens = (self.tokens + more).min(most);
        self.filled += more * 1_000_000_000 / RATE;
        let drops = self.tokens < u64::from(MSS);
        self.tokens -= if drops { 0 } else { u64::from(MSS) };
        self.dropped += u64::from(drops);
        drops
    }

    /// Runs for so long, and returns the bytes that arrived.
    fn run(&mut self, time: u64) -> u64 {
        let (end, mut arrived) = (self.now + time, 0);
        while self.now < end {
            let may_send = self.pipe() + MSS <= self.bbr.cwnd;
            let ack = self.flying.front().map_or(u64::MAX, |f| f.back);
            let send = if may_send {
                self.next_send.max(self.now)
            } else {
                u64::MAX
            };
            self.now = ack.min(send);
            if ack <= send {
                let segment = self.flying.pop_front().expect("there");
                let (at, lost) = (segment.left, segment.lost);
                if segment.marked {
                    self.bbr.on_marked(MSS);
                }
                self.una += MSS;
                let sent_at = Some(Instant::from_nanos(at));
                let limited = match may_send {
                    true => Limited::Elsewhere,
                    false => Limited::ByCwnd,
                };
                arrived += if lost { 0 } else { u64::from(MSS) };
                self.bbr.on_delivery(&Delivery {
                    now: Instant::from_nanos(self.now),
                    acked: if lost { 0 } else { MSS },
                    sent_at: sent_at.filter(|_| !lost),
                    lost: if lost { MSS } else { 0 },
                    lost_at: sent_at.filter(|_| lost),
                    rtt: (!lost).then_some(self.now - at),
                    una: SeqNum(self.una),
                    pipe: self.pipe(),
                    mss: MSS,
                    limited,
                });
                continue;
            }
            self.nxt += MSS;
            self.sent += 1;
            let lost = self.lose_one_in > 0 && self.sent.is_multiple_of(self.lose_one_in);
            let lost = self.is_policed() || lost;
            let overflows = self.free.saturating_sub(self.now) > self.room;
            let lost = lost || overflows;
            let marked =
                self.bbr.heeds_marks() && self.free.saturating_sub(self.now) > self.marks_beyond;
            self.marked += u64::from(marked);
            let each = match self.policed {
                _ if overflows => 0,
                Some(_) => self.each / 4,
                None => self.each,
            };
            self.free = self.free.max(self.now) + each;
            self.queued = self.queued.max(self.free - self.now);
            let back = (self.free + self.rtt).next_multiple_of(self.bunches);
            self.flying.push_back(Flying {
                left: self.now,
                back,
                lost,
                marked,
            });
            let flight = self.pipe();
            let now = Instant::from_nanos(self.now);
            self.bbr.on_sent(now, MSS, flight, SeqNum(self.nxt));
            let pause = u64::from(MSS) * 1_000_000_000 / self.bbr.pacing();
            self.next_send = self.now.max(self.next_send) + pause;
        }
        arrived
    }
}

#[test]
fn the_startup_finds_the_rate_and_drains_what_it_queued() {
    let mut path = Path::new(50, 0);
    path.run(2_000 * MS);
    let bbr = &path.bbr;
    assert!(
        bbr.full_bw_reached && bbr.state.is_probe_bw(),
        "{:?}",
        bbr.state
    );
    assert!(
        (RATE * 95 / 100..=RATE * 105 / 100).contains(&bbr.bw),
        "{}",
        bbr.bw
    );
    assert!((50 * MS..55 * MS).contains(&bbr.min_rtt), "{}", bbr.min_rtt);
}

#[test]
fn it_goes_through_the_four_phases_and_keeps_the_queue_short() {
    let mut path = Path::new(50, 0);
    path.run(2_000 * MS);
    path.queued = 0;
    let mut seen = Vec::new();
    let mut arrived = 0;
    for _ in 0..4_000 {
        arrived += path.run(MS);
        if seen.last() != Some(&path.bbr.state) {
            seen.push(path.bbr.state);
        }
    }
    for window in seen.windows(2) {
        let follows = match window[0] {
            State::Down => [State::Cruise, State::Refill],
            State::Cruise => [State::Refill, State::ProbeRtt],
            State::Refill => [State::Up, State::ProbeRtt],
            State::Up => [State::Down, State::ProbeRtt],
            State::ProbeRtt => [State::Cruise, State::Cruise],
            state => panic!("{state:?}"),
        };
        assert!(follows.contains(&window[1]), "{seen:?}");
    }
    assert!(
        seen.contains(&State::Up) && seen.contains(&State::Cruise),
        "{seen:?}"
    );
    assert!(arrived >= RATE * 4 * 95 / 100, "{arrived}");
    // Of three round trips at most.
    assert!(path.queued < 100 * MS, "{}", path.queued);
}

// Section 2.7: losses below 2 % do not lower the rate.
#[test]
fn a_loss_of_one_percent_costs_little() {
    let mut path = Path::new(200, 100);
    path.run(3_000 * MS);
    let arrived = path.run(10_000 * MS);
    assert!(arrived >= RATE * 10 * 90 / 100, "{arrived}");
}

// Section 5.3.4.4: each five seconds the flight is small for 200 ms, so that the least round trip is seen.
#[test]
fn the_least_round_trip_is_looked_for_each_five_seconds() {
    let mut path = Path::new(50, 0);
    path.run(3_000 * MS);
    path.rtt = 70 * MS;
    let mut probed = false;
    for _ in 0..15_000 {
        path.run(MS);
        probed |= path.bbr.state == State::ProbeRtt;
    }
    assert!(probed);
    assert!(
        (70 * MS..80 * MS).contains(&path.bbr.min_rtt),
        "{}",
        path.bbr.min_rtt
    );
}

// Section 5.5.9: acknowledgements of many segments at once say nothing about the rate, and what they let leave at once covers
// the time until the next ones come.
#[test]
fn acknowledgements_in_bunches_neither_inflate_the_rate_nor_starve_it() {
    for bunches in [10, 40] {
        let mut path = Path::new(20, 0);
        path.bunches = bunches * MS;
        path.run(3_000 * MS);
        let arrived = path.run(10_000 * MS);
        assert!(arrived >= RATE * 10 * 90 / 100, "{bunches} ms: {arrived}");
        let bw = path.bbr.bw;
        assert!(bw <= RATE * 140 / 100, "{bunches} ms: {bw}");
    }
}

// Section 5.3.1.3 and 5.5.10: what a policer lets pass at first is not the rate of the path; the losses that follow say so.
#[test]
fn a_policed_path_is_used_at_the_rate_that_it_lets_pass() {
    for burst in [20_000, 200_000] {
        let mut path = Path::new(40, 0);
        path.policed = Some(burst);
        path.tokens = burst;
        path.run(10_000 * MS);
        (path.sent, path.dropped) = (0, 0);
        let arrived = path.run(20_000 * MS);
        assert!(arrived >= RATE * 20 * 70 / 100, "{burst}: {arrived}");
        let lost = path.dropped * 100 / path.sent;
        assert!(lost < 10, "{burst}: {lost} % of {}", path.sent);
    }
}

/// Runs until `done` finds that it has come so far, at most for as long as four probes take.
fn run_until(path: &mut Path, mut done: impl FnMut(&Path) -> bool) {
    for _ in 0..20_000 {
        if done(path) {
            return;
        }
        path.run(MS);
    }
    panic!("for 20 s: {:?}", path.bbr);
}

fn reach(path: &mut Path, state: State) {
    run_until(path, |path| path.bbr.state == state);
}

// Beyond the draft: a probe that overflowed the queue is followed by one that ends at the bound, and that one, if it did not
// lose too much, at once by one beyond the bound.
#[test]
fn after_a_probe_that_lost_too_much_the_next_ends_at_the_bound() {
    let mut path = Path::new(200, 0);
    path.room = 100 * MS;
    let mut probes = Vec::new();
    for _ in 0..12 {
        reach(&mut path, State::Up);
        let last = path.bbr.last_probe;
        let mut flight = 0;
        run_until(&mut path, |path| {
            flight = flight.max(u64::from(path.pipe()));
            path.bbr.state != State::Up
        });
        let ended = path.now;
        probes.push((last, path.bbr.last_probe));
        if last == LastProbe::TooHigh {
            if path.bbr.last_probe == LastProbe::AtBound {
                assert!(flight <= path.bbr.inflight_long, "{flight}: {probes:?}");
            }
            // Its last segments may be lost after it has ended.
            let mut end = path.bbr.last_probe;
            run_until(&mut path, |path| {
                let over = path.bbr.ack_phase != AckPhase::Stopping;
                if !over {
                    end = path.bbr.last_probe;
                }
                over
            });
            reach(&mut path, State::Up);
            let was_safe = end == LastProbe::AtBound;
            // A few round trips, where a probe usually waits for two seconds.
            assert_eq!(path.now - ended < 1_500 * MS, was_safe, "{probes:?}");
            assert_eq!(path.bbr.last_probe == LastProbe::Open, was_safe);
        }
    }
    assert!(
        probes.contains(&(LastProbe::TooHigh, LastProbe::AtBound)),
        "{probes:?}"
    );
    assert!(probes.contains(&(LastProbe::Open, LastProbe::TooHigh)));
}

// Losses that come after the last sample of a probe say nothing of the bound that it tried.
#[test]
fn the_samples_of_a_probe_end_with_it() {
    let mut path = Path::new(50, 0);
    reach(&mut path, State::Up);
    assert!(path.bbr.probe_samples);
    run_until(&mut path, |path| path.bbr.state != State::Up);
    run_until(&mut path, |path| path.bbr.ack_phase != AckPhase::Stopping);
    assert!(!path.bbr.probe_samples);
}

#[test]
fn a_cycle_without_a_rate_leaves_the_last_one_known() {
    let mut path = Path::new(50, 0);
    path.run(2_000 * MS);
    let bbr = &mut path.bbr;
    (bbr.state, bbr.ack_phase, bbr.next_round) = (State::Down, AckPhase::Stopping, 0);
    bbr.max_bw = [RATE, 0];
    // Whatever arrives now took less than the least round trip, and is no sample of the rate.
    bbr.min_rtt = u64::MAX - 1;
    path.run(MS);
    assert_eq!(path.bbr.ack_phase, AckPhase::Init);
    assert_eq!(path.bbr.most(), RATE);
}

/// A path of a data centre: 20 MB/s, and so long a round trip, with a queue of so long that marks beyond that.
fn marking(rtt_ms: u64, beyond: u64) -> Path {
    Path {
        each: MS / 20,
        marks_beyond: beyond,
        ..Path::new(rtt_ms, 0)
    }
}

/// The longest queue from here on, in that time, and what arrived.
fn longest_queue(path: &mut Path, time: u64) -> (u64, u64) {
    path.queued = 0;
    let arrived = path.run(time);
    (path.queued, arrived)
}

#[test]
fn marks_keep_the_queue_short_where_the_round_trip_is() {
    // Several probes for more, after the startup.
    let [plain, marked] = [u64::MAX, MS / 2].map(|beyond| {
        let mut path = marking(4, beyond);
        path.run(1_000 * MS);
        let (queued, arrived) = longest_queue(&mut path, 8_000 * MS);
        (queued, arrived, path.marked)
    });
    assert!(
        plain.0 > 3 * MS && marked.0 < plain.0 / 2,
        "{plain:?} {marked:?}"
    );
    assert!(marked.1 > plain.1 * 99 / 100, "{plain:?} {marked:?}");
    assert!(plain.2 == 0 && marked.2 > 0);
}

#[test]
fn two_rounds_of_marks_end_the_startup() {
    let [plain, marked] = [u64::MAX, MS / 10].map(|beyond| {
        let mut path = marking(4, beyond);
        reach(&mut path, State::Drain);
        path.bbr.rounds
    });
    assert!(marked < plain, "{marked} {plain}");
}

#[test]
fn nothing_may_be_marked_where_the_round_trip_is_long_or_not_known() {
    assert!(!Bbr::new(10 * MSS).heeds_marks());
    let runs = [MS / 2, u64::MAX].map(|beyond| {
        let mut path = marking(6, beyond);
        let (queued, arrived) = longest_queue(&mut path, 5_000 * MS);
        assert!(!path.bbr.heeds_marks());
        // What a confused peer reports all the same.
        path.bbr.on_marked(MSS);
        (queued, arrived, path.bbr.sampler.marked())
    });
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0].2, 0);
}

#[test]
fn a_probe_of_which_more_than_half_is_marked_was_too_much() {
    let mut path = marking(4, u64::MAX);
    reach(&mut path, State::Up);
    path.marks_beyond = 0;
    reach(&mut path, State::Down);
    assert_eq!(path.bbr.last_probe, LastProbe::TooHigh);
    assert_ne!(path.bbr.inflight_long, u64::MAX);
}

#[test]
fn a_round_with_marks_takes_a_third_of_their_average_share() {
    let mut marks = Marks::new();
    let (mut marked, mut delivered) = (0, 0);
    // Rounds in which nothing could be marked say nothing.
    for _ in 0..100 {
        delivered += 100;
        marks.on_round(marked, delivered);
    }
    marks.on_min_rtt(5 * MS);
    assert_eq!(marks.lower(3000), 2000);
    for _ in 0..200 {
        marked += 30;
        delivered += 100;
        marks.on_round(marked, delivered);
    }
    assert_eq!(marks.lower(3000), 2699);
    assert!(!marks.end_startup());
    // A round in which nothing arrived says nothing.
    marks.on_round(marked, delivered);
    assert_eq!(marks.lower(3000), 2699);
    for ends in [false, true] {
        marked += 51;
        delivered += 100;
        marks.on_round(marked, delivered);
        assert_eq!(marks.end_startup(), ends);
    }
}

#[test]
fn marks_are_heeded_once_the_path_was_short() {
    let mut marks = Marks::new();
    marks.on_min_rtt(6 * MS);
    marks.report(1000);
    assert_eq!((marks.are_heeded(), marks.take(1000)), (false, 0));
    marks.on_min_rtt(4 * MS);
    marks.on_min_rtt(6 * MS);
    assert!(marks.are_heeded());
    // A report without a delivery is for the next one, and no more is marked than has arrived.
    marks.report(3000);
    assert_eq!((marks.take(0), marks.are_new), (0, false));
    assert_eq!((marks.take(2000), marks.are_new), (2000, true));
    assert_eq!(marks.take(1000), 0);
}
