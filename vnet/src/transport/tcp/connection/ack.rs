//! What an acknowledgement says: progress, round-trip time, window, and what was lost.

use super::timers::{Cause, Pending};
use super::{Connection, Env, Probe};
use crate::base::time::{Duration, Instant};
use crate::packet::header::{SackBlocks, TcpHeader};
use crate::transport::tcp::congestion::{Ack, Delivery, Limited};
use crate::transport::tcp::recovery::{Heard, Outcome, SackUse};
use crate::transport::tcp::sent::Delivered;
use crate::transport::tcp::seq::SeqNum;

/// Whether the segment that carried the acknowledgement had anything else in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Nothing,
    DataOrFin,
}

/// Whether an acknowledgement that moves nothing is a duplicate one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Yes,
    No,
}

/// Timestamps count milliseconds.
const TICK: Duration = Duration::from_millis(1);

impl Connection {
    /// Takes an acknowledgement that was found to lie within `una ..= nxt`.
    pub(super) fn on_ack(
        &mut self,
        env: &mut Env<'_>,
        ack: SeqNum,
        h: &TcpHeader,
        carries: Carries,
    ) {
        let una = self.snd.una;
        let before = self.snd.edge;
        let window = u32::from(h.window) << self.negotiated.snd_shift;
        self.update_window(SeqNum(h.seq), ack, window);
        // The peer is there: silence is counted from here, even when its window stays closed.
        if self.flight() == 0 || self.snd.edge == una {
            self.retries = 0;
        }
        let opened = una.precedes(before, self.snd.edge);
        let has_blocks = !h.options.sack.is_empty() && self.negotiated.sack == SackUse::Yes;
        if ack != una || has_blocks {
            match self.recovery.is_calm() && !has_blocks {
                true => match self.recovery.sent.advance_plainly(ack) {
                    Some(sent) => self.on_plain_ack(env, una, ack, sent),
                    None => self.on_full_ack(env, una, ack, h, Repeats::No),
                },
                false => self.on_full_ack(env, una, ack, h, self.repeats(carries, before)),
            }
        } else if self.repeats(carries, before) == Repeats::Yes {
            self.on_full_ack(env, una, ack, h, Repeats::Yes);
        }
        if opened {
            self.on_window_opened(env.now);
        }
    }

    /// Whether an acknowledgement that moves nothing is a duplicate one; `edge` is where the window ended before it.
    // RFC 5681 2
    #[inline]
    fn repeats(&self, carries: Carries, edge: SeqNum) -> Repeats {
        let waits = self.flight() > 0 || self.recovery.is_probing();
        match waits && carries == Carries::Nothing && self.snd.edge == edge {
            true => Repeats::Yes,
            false => Repeats::No,
        }
    }

    /// An acknowledgement of what was sent once, at one time, while nothing else is the matter.
    #[inline]
    fn on_plain_ack(&mut self, env: &mut Env<'_>, una: SeqNum, ack: SeqNum, sent: Instant) {
        let mss = self.data_mss();
        let limited = self.limited(mss);
        let rtt = env.now.as_nanos() - sent.as_nanos();
        self.rtt.sample_nanos(env.config, rtt);
        self.on_progress(env, ack);
        if self.cc.model().is_some() {
            let acked = ack.since(una);
            self.deliver(env.now, acked, Some(sent), Some(rtt), limited);
        } else if self.cc.wants(limited) {
            let ack = Ack {
                rtt: Some(rtt),
                ..self.cc_ack(env, una, ack, mss, limited)
            };
            self.cc.on_ack(&ack);
        }
        self.restart_retransmit(env, Cause::Acknowledged);
    }

    /// Any other acknowledgement: of something, with blocks, or a duplicate.
    #[inline(never)]
    fn on_full_ack(
        &mut self,
        env: &mut Env<'_>,
        una: SeqNum,
        ack: SeqNum,
        h: &TcpHeader,
        repeats: Repeats,
    ) {
        let limited = self.limited(self.data_mss());
        let mut heard = self.heard(env, una, ack, limited);
        if ack != una {
            let sent = &mut self.recovery.sent;
            sent.advance(ack, &mut heard.delivered);
            heard.cc.rtt = self.measure(env, &heard.delivered, h);
            heard.cc.srtt = self.rtt.srtt_nanos();
            self.on_progress(env, ack);
        }
        let bytes = heard.delivered.bytes;
        if !h.options.sack.is_empty() && self.negotiated.sack == SackUse::Yes {
            heard.dsack = self.take_sack(una, ack, h, &mut heard.delivered);
        }
        if ack == una {
            if heard.delivered.bytes > bytes {
                env.stats.dup_acks_in += 1;
            } else if heard.dsack.is_none() {
                if repeats == Repeats::No {
                    return;
                }
                env.stats.dup_acks_in += 1;
                heard.is_duplicate = true;
            }
        }
        if heard.delivered.again || !self.recovery.is_open() {
            heard.echoed = self.echoed(env.now, h);
        }
        let outcome = self.recovery.on_ack(&mut self.cc, &heard);
        if self.cc.model().is_some() {
            let delivered = &heard.delivered;
            let sent = delivered.latest.map(|latest| latest.at);
            self.deliver(env.now, delivered.bytes, sent, heard.cc.rtt, limited);
        }
        self.follow(env, outcome, ack != una);
    }

    /// Tells a model of the path what arrived, when that had left, and what was lost meanwhile.
    #[inline(never)]
    fn deliver(
        &mut self,
        now: Instant,
        acked: u32,
        sent_at: Option<Instant>,
        rtt: Option<u64>,
        limited: Limited,
    ) {
        let (pipe, mss) = (self.pipe(), self.data_mss());
        let (lost, lost_at) = self.recovery.sent.take_newly_lost();
        let una = self.snd.una;
        if let Some(model) = self.cc.model() {
            model.on_delivery(&Delivery {
                now,
                acked,
                sent_at,
                lost,
                lost_at,
                rtt,
                una,
                pipe,
                mss,
                limited,
            });
        }
    }

    #[inline]
    fn limited(&self, mss: u32) -> Limited {
        // What arrives together finds what the first of it has freed: the data has left before.
        if self.snd.limited == Limited::ByCwnd {
            return Limited::ByCwnd;
        }
        let cwnd = self.cc.cwnd();
        let used = self.flight() + mss;
        // What waits for its turn has room in the window only because the window is spread over the round trip. Without room
        // in the peer's window, it waits for that.
        let waits = self.timers.pace != Instant::MAX
            && !self.cc.has_model()
            && used <= self.snd.edge.since(self.snd.una);
        // RFC 7661 4.2: slow start goes on while half of the window is in use, as it does in Linux.
        let starts = cwnd < self.cc.ssthresh() && cwnd < self.flew().saturating_mul(2);
        Limited::if_by_cwnd(used > cwnd || waits || starts)
    }

    /// What congestion control hears.
    #[inline]
    fn cc_ack(&self, env: &Env<'_>, una: SeqNum, ack: SeqNum, mss: u32, limited: Limited) -> Ack {
        Ack {
            now: env.now,
            acked: ack.since(una),
            rtt: None,
            srtt: self.rtt.srtt_nanos(),
            una: ack,
            nxt: self.snd.nxt,
            mss,
            most: match self.may_spread(env.config) {
                true => u32::MAX,
                false => (2 * mss).max(self.path.gso_max),
            },
            limited,
        }
    }

    /// What recovery hears of an acknowledgement of nothing.
    pub(super) fn heard(
        &self,
        env: &Env<'_>,
        before: SeqNum,
        ack: SeqNum,
        limited: Limited,
    ) -> Heard {
        let mss = self.data_mss();
        let usable = self.snd.edge.since(self.snd.una);
        let unsent = self.write_end().since(self.snd.nxt);
        Heard {
            before,
            delivered: Delivered::default(),
            is_duplicate: false,
            dsack: None,
            echoed: None,
            sack: self.negotiated.sack,
            tried: self.tried(),
            min_rtt: self.rtt.least().unwrap_or(Duration::ZERO),
            has_unsent: unsent >= mss && usable >= self.flight() + mss,
            cc: self.cc_ack(env, before, ack, mss, limited),
        }
    }

    /// Draws the consequences for counters and timers.
    #[inline]
    fn follow(&mut self, env: &mut Env<'_>, outcome: Outcome, progressed: bool) {
        if outcome.entered {
            env.stats.fast_recoveries += 1;
            self.forget_probe(env.now);
        }
        if outcome.undone {
            env.stats.undone_recoveries += 1;
        }
        if outcome.probe_lost {
            self.on_probe_lost(env.now);
        }
        if progressed || outcome.entered || outcome.undone {
            self.restart_retransmit(env, Cause::Acknowledged);
        }
        if let Some(wait) = outcome.wait
            && wait < self.timers.retransmit
        {
            match self.pending {
                Pending::Timeout => self.timeout_at = self.timers.retransmit,
                Pending::Probe => self.timeout_at = env.now + self.rtt.rto(),
                Pending::Reordering => {}
            }
            self.timers.retransmit = wait;
            self.pending = Pending::Reordering;
        }
    }

    /// What was overtaken has not arrived in time.
    pub(super) fn on_reordering(&mut self, env: &mut Env<'_>) {
        let una = self.snd.una;
        let limited = self.limited(self.data_mss());
        let heard = self.heard(env, una, una, limited);
        let outcome = self.recovery.on_reorder_timeout(&mut self.cc, &heard);
        if self.cc.model().is_some() {
            self.deliver(env.now, 0, None, None, Limited::Elsewhere);
        }
        // RFC 8985 8: waiting for what was overtaken does not put off the timeout.
        self.pending = Pending::Timeout;
        self.timers.retransmit = self.timeout_at;
        self.follow(env, outcome, false);
    }

    // RFC 9293 3.10.7.4: SND.WL1 < SEG.SEQ, or equal and SND.WL2 =< SEG.ACK.
    #[inline]
    fn update_window(&mut self, seq: SeqNum, ack: SeqNum, window: u32) {
        let snd = &mut self.snd;
        if seq.is_newer_than(snd.wl1) || (snd.wl1 == seq && !snd.wl2.is_newer_than(ack)) {
            snd.edge = ack + window;
            snd.wl1 = seq;
            snd.wl2 = ack;
            snd.max_wnd = snd.max_wnd.max(window);
        }
    }

    fn on_window_opened(&mut self, now: Instant) {
        if self.timers.persist != Instant::MAX {
            self.timers.persist = Instant::MAX;
            // It was the window that waited. What is on its way has its time from now on.
            self.disarm_user_timeout();
            if self.flight() > 0 {
                self.arm_user_timeout(now);
            }
        }
        self.snd.probes = 0;
        if self.snd.probe == Probe::Window {
            self.snd.probe = Probe::None;
        }
    }

    fn on_progress(&mut self, env: &mut Env<'_>, ack: SeqNum) {
        let before = self.snd.una;
        self.hint.on_progress(env.now);
        self.snd.una = ack;
        // The other marks are seen from here, so none may fall behind.
        self.snd.small_end = before.later(self.snd.small_end, ack);
        self.snd.edge = before.later(self.snd.edge, ack);
        if self.state.fin().is_some_and(|fin| ack == fin + 1) {
            self.snd.queue.release_to(ack - 1);
            self.counts.totals.bytes_acked += u64::from((ack - 1).since(before));
            self.state = self.state.on_fin_acked();
            // Nothing is left to linger for.
            self.timers.orphan = Instant::MAX;
        } else {
            self.snd.queue.release_to(ack);
            self.counts.totals.bytes_acked += u64::from(ack.since(before));
        }
        self.retries = 0;
        if let Some(trouble) = &mut self.trouble {
            trouble.soft_error = None;
        }
        if self.snd.held.is_some() {
            self.on_held_progress(env.now, before, ack);
        }
        self.timers.persist = Instant::MAX;
        self.snd.probes = 0;
        self.size_send_buffer(env.config);
        let (marks, limit) = ([before, ack, self.snd.nxt], self.limit());
        self.counts.on_acked(env.now, marks, limit);
        self.wake_writers(env);
    }

    /// RFC 6298 3, Karn's algorithm: what was sent once is timed, from the oldest of it. Otherwise, and while something
    /// is sent again, timestamps tell.
    fn measure(&mut self, env: &Env<'_>, delivered: &Delivered, h: &TcpHeader) -> Option<u64> {
        if let Some(first) = delivered.first
            && !delivered.again
        {
            let rtt = env.now.as_nanos() - first.as_nanos();
            self.rtt.sample_nanos(env.config, rtt);
            return Some(rtt);
        }
        if !self.recovery.is_open() {
            self.measure_by_echo(env, h, env.config.max_rto);
        }
        None
    }

    /// When the segment that `h` answers had left at the latest: the end of the tick that it echoes.
    fn echoed(&self, now: Instant, h: &TcpHeader) -> Option<Instant> {
        let ts = self.negotiated.ts?;
        let (_, echoed) = h.options.timestamp?;
        let age = u64::from(ts.value(now).wrapping_sub(echoed));
        let tick = (now.as_nanos() / 1_000_000).checked_sub(age)?;
        Some(Instant::from_nanos(tick * 1_000_000 + 999_999))
    }

    /// Takes the age of an echo for a round trip, if it must be one and is below `limit`.
    // RFC 7323 4.1. An acknowledgement that answers a duplicate repeats an old echo (RFC 7323
    // 5.3, R2 and R3: what lies outside the window does not move TS.Recent). If the first one was
    // lost, the age of the echo includes the wait for the retransmission timer. Taken for a round
    // trip, each such wait would make the next one longer. What was echoed after the timer went
    // off has not waited for it.
    #[cold]
    pub(super) fn measure_by_echo(&mut self, env: &Env<'_>, h: &TcpHeader, limit: Duration) {
        let (Some(ts), Some((_, echoed))) = (self.negotiated.ts, h.options.timestamp) else {
            return;
        };
        let ticks = u64::from(ts.value(env.now).wrapping_sub(echoed));
        let age = Duration::from_millis(ticks);
        if age < limit && age <= env.now.since(self.snd.timed_out) + TICK {
            self.rtt.sample_roughly(env.config, age.max(TICK));
        }
    }

    /// Records the blocks of a selective acknowledgement, and returns the one that reports a duplicate.
    fn take_sack(
        &mut self,
        before: SeqNum,
        ack: SeqNum,
        h: &TcpHeader,
        delivered: &mut Delivered,
    ) -> Option<(SeqNum, SeqNum)> {
        let blocks = h.options.sack.as_slice();
        let block = |i: usize| blocks.get(i).map(|&(l, r)| (SeqNum(l), SeqNum(r)));
        let first = block(0)?;
        // RFC 2883 4: the first block, when it is below the acknowledgement, or within the second one.
        let is_old = first.1.is_in(ack - self.snd.max_wnd..=ack)
            && first.1.since(first.0) <= self.snd.max_wnd;
        let is_inside = block(1).is_some_and(|(l, r)| first.0.is_in(l..=r) && first.1.is_in(l..=r));
        let dsack = (first.0 != first.1 && (is_old || is_inside)).then_some(first);
        // From the lowest on: what arrived together was not overtaken.
        let mut sorted = [first; SackBlocks::MAX];
        let sorted = &mut sorted[..blocks.len()];
        for (slot, &(l, r)) in sorted.iter_mut().zip(blocks) {
            *slot = (SeqNum(l), SeqNum(r));
        }
        sorted.sort_unstable_by_key(|(l, _)| l.since(before));
        let mss = self.data_mss();
        for (l, r) in sorted {
            self.recovery.sent.sack(*l, *r, mss, delivered);
        }
        dsack
    }
}
