//! BBR version 3 (draft-ietf-ccwg-bbr): a model of the path (its rate and its least round trip) says how fast to send
//! and how much may be on its way. Losses bound the model where there are many of them; a few do not.
//!
//! Section numbers are those of the draft. Rates are in bytes per second, times in nanoseconds, volumes in bytes.

mod marks;
mod probe_rtt;

use marks::{Marks, are_too_many};

use super::ack::{Ack, Limited, MOST};
use super::phases::{
    AckPhase, BETA, EXTRA_ACKED_FILTER, HEADROOM, LOSS_THRESH, LastProbe, MARGIN, MIN_PIPE, MS,
    STARTUP_LOSSES, STARTUP_PACING, Starts, State,
};
use super::rate::{Demand, Sample, Sampler, per_second};
use crate::base::time::Instant;
use crate::transport::tcp::seq::SeqNum;

/// What an acknowledgement says of deliveries and losses.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::tcp) struct Delivery {
    pub(in crate::transport::tcp) now: Instant,
    /// Bytes that arrived.
    pub(in crate::transport::tcp) acked: u32,
    /// When those of them that were sent last had left.
    pub(in crate::transport::tcp) sent_at: Option<Instant>,
    /// Bytes newly taken for lost, and when the last of them had left.
    pub(in crate::transport::tcp) lost: u32,
    pub(in crate::transport::tcp) lost_at: Option<Instant>,
    /// The round trip, if it was measured, in nanoseconds.
    pub(in crate::transport::tcp) rtt: Option<u64>,
    pub(in crate::transport::tcp) una: SeqNum,
    /// What is on its way now.
    pub(in crate::transport::tcp) pipe: u32,
    pub(in crate::transport::tcp) mss: u32,
    pub(in crate::transport::tcp) limited: Limited,
}

#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Bbr {
    pub(super) cwnd: u32,
    initial_cwnd: u32,
    /// Bytes per second at which to send.
    pacing: u64,
    state: State,
    sampler: Sampler,
    /// The largest rates of this cycle of probing and the one before.
    max_bw: [u64; 2],
    bw: u64,
    min_rtt: u64,
    min_rtt_stamp: Instant,
    probe_rtt_min: u64,
    probe_rtt_stamp: Instant,
    /// When enough time at a small flight has passed.
    probe_rtt_done: Option<Instant>,
    probe_rtt_round: Starts,
    /// The window before it was made small for a while.
    prior_cwnd: u32,
    idle_restart: Starts,
    /// Rounds: a round trip each.
    rounds: u64,
    next_round: u64,
    round_starts: Starts,
    /// Whether the rate still grows.
    full_bw: u64,
    full_bw_count: u8,
    full_bw_now: bool,
    full_bw_reached: bool,
    /// Losses by rounds.
    loss_round: u64,
    loss_round_starts: Starts,
    loss_in_round: bool,
    loss_events: u32,
    /// What was lost and delivered before this round of losses.
    round_lost: u64,
    round_delivered: u64,
    bw_latest: u64,
    inflight_latest: u64,
    /// Bounds by losses: for a few round trips, and until the next probe. The largest value for none.
    bw_short: u64,
    inflight_short: u64,
    inflight_long: u64,
    /// More than the rate explains arrived at once.
    extra_since: Instant,
    extra_delivered: u64,
    /// The most of it in this span of rounds and in the one before, and when this one began.
    extra_acked: [u64; 2],
    extra_round: u64,
    ack_phase: AckPhase,
    cycle_stamp: Instant,
    probe_wait: u64,
    rounds_since_probe: u64,
    probe_samples: bool,
    last_probe: LastProbe,
    marks: Marks,
    up_rounds: u32,
    up_acked: u64,
    /// Segments acknowledged for each that the bound grows by.
    up_every: u64,
}

impl Bbr {
    pub(super) fn new(cwnd: u32) -> Bbr {
        Bbr {
            cwnd,
            initial_cwnd: cwnd,
            // Section 5.6.2: a round trip of a millisecond until one is measured.
            pacing: per_second(u64::from(cwnd), MS) * STARTUP_PACING / 100,
            state: State::Startup,
            sampler: Sampler::new(),
            max_bw: [0; 2],
            bw: 0,
            min_rtt: u64::MAX,
            min_rtt_stamp: Instant::ZERO,
            probe_rtt_min: u64::MAX,
            probe_rtt_stamp: Instant::ZERO,
            probe_rtt_done: None,
            probe_rtt_round: Starts::No,
            prior_cwnd: 0,
            idle_restart: Starts::No,
            rounds: 0,
            next_round: 0,
            round_starts: Starts::No,
            full_bw: 0,
            full_bw_count: 0,
            full_bw_now: false,
            full_bw_reached: false,
            loss_round: 0,
            loss_round_starts: Starts::No,
            loss_in_round: false,
            loss_events: 0,
            round_lost: 0,
            round_delivered: 0,
            bw_latest: 0,
            inflight_latest: 0,
            bw_short: u64::MAX,
            inflight_short: u64::MAX,
            inflight_long: u64::MAX,
            extra_since: Instant::ZERO,
            extra_delivered: 0,
            extra_acked: [0; 2],
            extra_round: 0,
            ack_phase: AckPhase::Init,
            cycle_stamp: Instant::ZERO,
            probe_wait: 0,
            rounds_since_probe: 0,
            probe_samples: false,
            last_probe: LastProbe::Open,
            marks: Marks::new(),
            up_rounds: 0,
            up_acked: 0,
            up_every: u64::MAX,
        }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, _: &Ack) {}

    pub(super) fn on_loss(&mut self, _: u32, _: u32) {}

    pub(super) fn on_repeated_timeout(&mut self, mss: u32) {
        self.cwnd = mss;
    }

    pub(super) fn on_idle(&mut self, _: u32) {}

    /// The threshold for another algorithm that takes over.
    pub(super) fn ssthresh(&self) -> u32 {
        match self.full_bw_reached {
            true => self.cwnd,
            false => u32::MAX,
        }
    }

    /// Bytes per second at which to send.
    pub(super) fn pacing(&self) -> u64 {
        self.pacing
    }

    /// What there is to return to, without what is on its way.
    pub(super) fn saved(&self) -> Bbr {
        Bbr {
            sampler: self.sampler.bare(),
            marks: self.marks.clone(),
            ..*self
        }
    }

    // Section 5.5.11: the losses were none.
    pub(super) fn undo(&mut self, saved: &Bbr) {
        self.loss_in_round = false;
        self.reset_full_bw();
        self.bw_short = self.bw_short.max(saved.bw_short);
        self.inflight_short = self.inflight_short.max(saved.inflight_short);
        self.inflight_long = self.inflight_long.max(saved.inflight_long);
        self.cwnd = self.cwnd.max(saved.cwnd);
        if self.state == State::Drain && saved.state == State::Startup {
            self.state = State::Startup;
            self.full_bw_reached = false;
        }
    }

    /// Something leaves, of `flight` bytes with it; `nxt` is the end of all that was sent.
    // Section 5.4.1: restart from idle.
    pub(in crate::transport::tcp) fn on_sent(
        &mut self,
        now: Instant,
        bytes: u32,
        flight: u32,
        nxt: SeqNum,
    ) {
        if flight <= bytes && self.sampler.is_limited() {
            self.idle_restart = Starts::Yes;
            self.extra_since = now;
            if self.state.is_probe_bw() {
                self.set_pacing(100);
            } else if self.state == State::ProbeRtt {
                self.leave_probe_rtt_if_done(now, nxt);
            }
        }
        self.sampler.on_sent(now, bytes, flight, nxt);
    }

    /// The application has nothing more to send, although the window has room.
    pub(in crate::transport::tcp) fn on_starved(&mut self, flight: u32) {
        self.sampler.on_starved(flight);
    }

    // Section 5.6.4.4
    pub(super) fn on_timeout(&mut self, _: u32, mss: u32) {
        self.save_cwnd();
        self.cwnd = mss;
    }

    /// Whether marks say anything here, and so whether what is sent may be marked.
    pub(super) fn heeds_marks(&self) -> bool {
        self.marks.are_heeded()
    }

    /// The acknowledgement that is heard next reports so many bytes as marked.
    pub(in crate::transport::tcp) fn on_marked(&mut self, bytes: u32) {
        self.marks.report(bytes);
    }

    fn save_cwnd(&mut self) {
        self.prior_cwnd = match self.state {
            State::ProbeRtt => self.prior_cwnd.max(self.cwnd),
            _ => self.cwnd,
        };
    }

    /// Hears an acknowledgement.
    // Section 5.2.3
    pub(in crate::transport::tcp) fn on_delivery(&mut self, d: &Delivery) {
        if d.lost > 0 {
            self.on_lost(d);
        }
        let min_rtt = match self.min_rtt {
            u64::MAX => 0,
            known => known,
        };
        self.sampler.on_marked(self.marks.take(d.acked));
        let sample = d.sent_at.and_then(|at| {
            self.sampler
                .on_delivered(d.now, d.acked, at, d.una, min_rtt)
        });
        if let Some(rs) = sample {
            self.update_model(d, &rs);
        }
        self.set_pacing(self.state.gains().0);
        self.set_cwnd(d);
    }

    fn update_model(&mut self, d: &Delivery, rs: &Sample) {
        self.loss_round_starts = Starts::No;
        self.bw_latest = self.bw_latest.max(rs.rate);
        self.inflight_latest = self.inflight_latest.max(rs.delivered);
        if rs.prior_delivered >= self.loss_round {
            self.loss_round = self.sampler.delivered();
            self.loss_round_starts = Starts::Yes;
        }
        self.update_round(rs);
        if rs.rate > 0 && (rs.rate >= self.most() || rs.demand == Demand::Enough) {
            self.max_bw[1] = self.max_bw[1].max(rs.rate);
        }
        if self.loss_round_starts == Starts::Yes {
            // The draft lowers these bounds for a single loss, which on a path that loses 1 % at random costs a percent of
            // the rate each round trip. Here it takes the share of losses that it bounds the flight for.
            let lost = self.sampler.lost() - self.round_lost;
            let all = self.sampler.delivered() - self.round_delivered + lost;
            if !self.state.is_probing() {
                let marked = self.bound_by_marks();
                if lost * 100 > all * LOSS_THRESH {
                    self.lower_bounds();
                }
                self.inflight_short = self.inflight_short.min(marked);
            }
            self.check_startup_losses(rs);
            self.loss_in_round = false;
            self.marks.are_new = false;
            self.loss_events = 0;
            self.round_lost = self.sampler.lost();
            self.round_delivered = self.sampler.delivered();
        }
        self.update_extra_acked(d);
        self.check_full_bw(rs);
        if self.state == State::Startup && self.full_bw_reached {
            self.state = State::Drain;
            self.marks.are_new = false;
        }
        if self.state == State::Drain && u64::from(d.pipe) <= self.inflight(100, d.mss) {
            self.start_down(d.now, d.una);
        }
        self.update_cycle(d, rs);
        self.update_min_rtt(d);
        self.check_probe_rtt(d, rs);
        if self.loss_round_starts == Starts::Yes {
            self.bw_latest = rs.rate;
            self.inflight_latest = rs.delivered;
        }
        self.bw = self.most().min(self.bw_short);
    }

    /// The largest rate of late.
    fn most(&self) -> u64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    // Section 5.5.1
    fn update_round(&mut self, rs: &Sample) {
        self.round_starts = Starts::No;
        if rs.prior_delivered >= self.next_round {
            self.start_round();
            self.rounds += 1;
            self.rounds_since_probe += 1;
            self.round_starts = Starts::Yes;
            self.marks
                .on_round(self.sampler.marked(), self.sampler.delivered());
            if self.marks.end_startup() {
                self.end_startup();
            }
        }
    }

    fn start_round(&mut self) {
        self.next_round = self.sampler.delivered();
    }

    /// The short bound of the flight by what was marked.
    fn bound_by_marks(&self) -> u64 {
        match (self.marks.are_new, self.inflight_short) {
            (false, _) => u64::MAX,
            (true, u64::MAX) => self.marks.lower(self.cwnd.into()),
            (true, bound) => self.marks.lower(bound),
        }
    }

    // Section 5.5.10.3
    fn lower_bounds(&mut self) {
        if self.bw_short == u64::MAX {
            self.bw_short = self.most();
        }
        if self.inflight_short == u64::MAX {
            self.inflight_short = self.cwnd.into();
        }
        self.bw_short = self.bw_latest.max(self.bw_short * BETA / 100);
        self.inflight_short = self.inflight_latest.max(self.inflight_short * BETA / 100);
    }

    // Section 5.3.1.3
    fn check_startup_losses(&mut self, rs: &Sample) {
        if self.loss_in_round && self.loss_events >= STARTUP_LOSSES && is_too_high(rs) {
            self.end_startup();
        }
    }

    /// The startup has filled the path, and more.
    fn end_startup(&mut self) {
        if self.state == State::Startup {
            self.full_bw_reached = true;
            self.inflight_long = self.volume(100).max(self.inflight_latest);
        }
    }

    // Section 5.5.9
    fn update_extra_acked(&mut self, d: &Delivery) {
        let span = d.now.as_nanos() - self.extra_since.as_nanos().min(d.now.as_nanos());
        let mut expected = volume(self.bw, span);
        if self.extra_delivered <= expected {
            self.extra_delivered = 0;
            self.extra_since = d.now;
            expected = 0;
        }
        self.extra_delivered += u64::from(d.acked);
        let extra = (self.extra_delivered - expected).min(self.cwnd.into());
        let length = match self.full_bw_reached {
            true => EXTRA_ACKED_FILTER,
            false => 1,
        };
        if self.rounds - self.extra_round >= length {
            self.extra_acked = [self.extra_acked[1], 0];
            self.extra_round = self.rounds;
        }
        self.extra_acked[1] = self.extra_acked[1].max(extra);
    }

    // Section 5.3.1.2
    fn check_full_bw(&mut self, rs: &Sample) {
        if self.full_bw_now || rs.demand == Demand::TooLittle {
            return;
        }
        if rs.rate >= self.full_bw + self.full_bw / 4 {
            self.reset_full_bw();
            self.full_bw = rs.rate;
            return;
        }
        if self.round_starts == Starts::No {
            return;
        }
        self.full_bw_count += 1;
        self.full_bw_now = self.full_bw_count >= 3;
        self.full_bw_reached |= self.full_bw_now;
    }

    fn reset_full_bw(&mut self) {
        self.full_bw = 0;
        self.full_bw_count = 0;
        self.full_bw_now = false;
    }

    // Section 5.3.3.6
    fn update_cycle(&mut self, d: &Delivery, rs: &Sample) {
        if !self.full_bw_reached {
            return;
        }
        self.adapt_long_bound(d, rs);
        match self.state {
            State::Down => {
                let refills = self.refill_if_due(d);
                let most = self.inflight(100, d.mss).min(self.with_headroom(d.mss));
                if !refills && u64::from(d.pipe) <= most {
                    self.state = State::Cruise;
                }
            }
            State::Cruise => {
                self.refill_if_due(d);
            }
            State::Refill if self.round_starts == Starts::Yes => {
                self.probe_samples = true;
                self.start_up(rs.rate, d.mss);
                self.cycle_stamp = d.now;
            }
            State::Up => {
                if let Some(ended) = self.probe_ended(d, rs) {
                    self.last_probe = ended;
                    self.start_down(d.now, d.una);
                }
            }
            _ => {}
        }
    }

    /// How the probe ends with this acknowledgement, if it does.
    fn probe_ended(&mut self, d: &Delivery, rs: &Sample) -> Option<LastProbe> {
        let flight = u64::from(d.pipe) + u64::from(d.acked) + u64::from(d.lost);
        if self.last_probe == LastProbe::TooHigh && flight >= self.inflight_long {
            return Some(LastProbe::AtBound);
        }
        if d.limited == Limited::ByCwnd && u64::from(self.cwnd) >= self.inflight_long {
            self.reset_full_bw();
            self.full_bw = rs.rate;
            return None;
        }
        self.full_bw_now.then_some(LastProbe::Open)
    }

    /// Begins to probe when it has been long enough, when a Reno flow would have grown by much, or when the last probe was
    /// cautious and did not lose too much.
    // Section 5.3.3.5
    fn refill_if_due(&mut self, d: &Delivery) -> bool {
        let waited = d.now.as_nanos().saturating_sub(self.cycle_stamp.as_nanos());
        let reno = (self.target() / u64::from(d.mss)).min(63);
        let was_safe = self.last_probe == LastProbe::AtBound && self.ack_phase == AckPhase::Init;
        if waited <= self.probe_wait && self.rounds_since_probe < reno && !was_safe {
            return false;
        }
        self.bw_short = u64::MAX;
        self.inflight_short = u64::MAX;
        self.up_rounds = 0;
        self.up_acked = 0;
        if self.last_probe == LastProbe::AtBound {
            self.last_probe = LastProbe::Open;
        }
        self.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
        true
    }

    fn start_up(&mut self, rate: u64, mss: u32) {
        self.ack_phase = AckPhase::Starting;
        self.start_round();
        self.reset_full_bw();
        self.full_bw = rate;
        self.state = State::Up;
        self.raise_slope(mss);
    }

    fn start_down(&mut self, now: Instant, salt: SeqNum) {
        self.loss_in_round = false;
        self.marks.are_new = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
        self.up_every = u64::MAX;
        // Section 5.3.3.5: the wait differs, so that flows do not probe in step. Initial sequence numbers are random.
        let dice = u64::from(salt.0 ^ self.rounds as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.rounds_since_probe = dice & 1;
        self.probe_wait = 2_000 * MS + (dice >> 1) % (1_000 * MS);
        self.cycle_stamp = now;
        self.ack_phase = AckPhase::Stopping;
        self.start_round();
        self.state = State::Down;
    }

    /// The bound grows by more with each round in which nothing speaks against it.
    fn raise_slope(&mut self, mss: u32) {
        let growth = u64::from(mss) << self.up_rounds;
        self.up_rounds = (self.up_rounds + 1).min(30);
        self.up_every = (u64::from(self.cwnd) / growth).max(1);
    }

    // Section 5.5.10.2
    fn adapt_long_bound(&mut self, d: &Delivery, rs: &Sample) {
        if self.round_starts == Starts::Yes {
            match self.ack_phase {
                AckPhase::Starting => self.ack_phase = AckPhase::Feedback,
                AckPhase::Stopping => {
                    self.ack_phase = AckPhase::Init;
                    self.probe_samples = false;
                    // A cycle in which no rate was seen does not make room for another one.
                    let known = rs.demand == Demand::Enough && self.max_bw[1] > 0;
                    if known && self.state.is_probe_bw() {
                        self.max_bw = [self.max_bw[1], 0];
                    }
                }
                _ => {}
            }
        }
        if is_too_high(rs) {
            if self.probe_samples {
                self.on_too_high(rs, rs.flight.into(), d);
            }
            return;
        }
        if self.inflight_long == u64::MAX {
            return;
        }
        self.inflight_long = self.inflight_long.max(rs.flight.into());
        if self.state == State::Up {
            self.probe_long_bound(d);
        }
    }

    fn probe_long_bound(&mut self, d: &Delivery) {
        if d.limited == Limited::Elsewhere || u64::from(self.cwnd) < self.inflight_long {
            return;
        }
        let mss = u64::from(d.mss);
        self.up_acked += u64::from(d.acked);
        let every = self.up_every.saturating_mul(mss);
        let grow = self.up_acked / every;
        self.up_acked -= grow * every;
        self.inflight_long = self.inflight_long.saturating_add(grow * mss);
        if self.round_starts == Starts::Yes {
            self.raise_slope(d.mss);
        }
    }

    /// A flight of so much was too large.
    // Section 5.5.10.2
    fn on_too_high(&mut self, rs: &Sample, flight: u64, d: &Delivery) {
        self.probe_samples = false;
        self.last_probe = LastProbe::TooHigh;
        // The draft's bound is a flight that has lost 2 %. Here it is one that has not, or each probe would begin with losing
        // as much for as many round trips as it lasts. And where the sender was limited otherwise, the draft leaves the bound
        // alone. A send buffer that is full of what waits behind a hole limits the sender while the bound is being tried:
        // then that was too large.
        let less = |flight: u64| flight * (100 - 2 * LOSS_THRESH) / 100;
        let tried = self.state == State::Up && self.inflight_long != u64::MAX;
        let bound = match rs.demand {
            Demand::Enough => less(flight),
            Demand::TooLittle if tried => less(self.inflight_long).max(self.target()),
            Demand::TooLittle => self.inflight_long,
        };
        self.inflight_long = bound.max(self.target() * BETA / 100);
        if self.state == State::Up {
            self.start_down(d.now, d.una);
        }
    }

    // Section 5.5.10.2: BBRHandleLostPacket, once for what one acknowledgement shows.
    fn on_lost(&mut self, d: &Delivery) {
        if !self.loss_in_round {
            self.loss_round = self.sampler.delivered();
            self.loss_in_round = true;
        }
        self.loss_events += 1;
        self.sampler.on_lost(d.lost.into());
        if !self.probe_samples {
            return;
        }
        let Some(rs) = d.lost_at.and_then(|at| self.sampler.of_lost(at)) else {
            return;
        };
        // What was marked is judged with what was delivered.
        if loses_too_much(&rs) {
            // BBRInflightAtLoss: how much of the flight had left when the losses came to be too many.
            let size = u64::from(d.lost);
            let flight = u64::from(rs.flight).saturating_sub(size);
            let lost = rs.lost.saturating_sub(size);
            let prefix = (flight * LOSS_THRESH).saturating_sub(lost * 100) / (100 - LOSS_THRESH);
            self.on_too_high(&rs, flight + prefix, d);
        }
    }

    // Section 5.6.2
    fn set_pacing(&mut self, gain: u64) {
        if self.bw == 0 {
            return;
        }
        let rate = u128::from(self.bw) * u128::from(gain * (100 - MARGIN)) / 10_000;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
        if self.full_bw_reached || rate > self.pacing {
            self.pacing = rate;
        }
    }

    /// What the path holds, times a gain in hundredths.
    // Section 5.6.4.2
    fn volume(&self, gain: u64) -> u64 {
        match self.min_rtt {
            u64::MAX => self.initial_cwnd.into(),
            rtt => volume(self.bw, rtt).saturating_mul(gain) / 100,
        }
    }

    /// The same, with what lets offloads work.
    fn inflight(&self, gain: u64, mss: u32) -> u64 {
        self.with_budget(self.volume(gain), mss)
    }

    fn with_budget(&self, inflight: u64, mss: u32) -> u64 {
        let quantum = super::quantum(self.pacing, mss);
        let floor = (3 * u64::from(quantum)).max((MIN_PIPE * mss).into());
        let more = match self.state {
            State::Up => 2 * u64::from(mss),
            _ => 0,
        };
        inflight.max(floor) + more
    }

    fn target(&self) -> u64 {
        self.volume(100).min(self.cwnd.into())
    }

    fn with_headroom(&self, mss: u32) -> u64 {
        if self.inflight_long == u64::MAX {
            return u64::MAX;
        }
        let headroom = (self.inflight_long * HEADROOM / 100).max(mss.into());
        // Where a queue is shallow beside the path, less than the headroom lies between what the path holds and the bound.
        // What is left to others is then what the rate leaves to them.
        self.inflight_long
            .saturating_sub(headroom)
            .max((MIN_PIPE * mss).into())
            .max(self.volume(100).min(self.inflight_long))
    }

    // Section 5.6.4
    fn set_cwnd(&mut self, d: &Delivery) {
        let extra = self.extra_acked[0].max(self.extra_acked[1]);
        let gain = self.state.gains().1;
        let most = self.with_budget(self.volume(gain).saturating_add(extra), d.mss);
        let (cwnd, acked) = (u64::from(self.cwnd), u64::from(d.acked));
        let floor = u64::from(MIN_PIPE * d.mss);
        let mut next = if self.full_bw_reached {
            (cwnd + acked).min(most)
        } else if cwnd < most || self.sampler.delivered() < self.initial_cwnd.into() {
            cwnd + acked
        } else {
            cwnd
        };
        next = next.max(floor);
        if self.state == State::ProbeRtt {
            next = next.min(self.probe_rtt_cwnd(d.mss).into());
        }
        // Section 5.6.4.7: bounds of the model.
        let cap = match self.state {
            State::ProbeRtt | State::Cruise => self.with_headroom(d.mss),
            state if state.is_probe_bw() => self.inflight_long,
            _ => u64::MAX,
        };
        next = next.min(cap.min(self.inflight_short).max(floor));
        self.cwnd = next.min(MOST.into()) as u32;
    }
}

/// More than 2 % of the flight were lost, or too many were marked.
fn is_too_high(rs: &Sample) -> bool {
    loses_too_much(rs) || are_too_many(rs.marked, rs.delivered)
}

// Section 5.5.10.2
fn loses_too_much(rs: &Sample) -> bool {
    rs.lost * 100 > u64::from(rs.flight) * LOSS_THRESH
}

/// What passes at a rate in so many nanoseconds.
fn volume(rate: u64, nanos: u64) -> u64 {
    let bytes = u128::from(rate) * u128::from(nanos) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
