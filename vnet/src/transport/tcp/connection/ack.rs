//! What an acknowledgement says: progress, round-trip time, window, and what was lost.

use super::{Connection, Env, Probe};
use crate::base::time::{Duration, Instant};
use crate::packet::header::TcpHeader;
use crate::transport::tcp::congestion::{Ack, Limited};
use crate::transport::tcp::recovery::{SackUse, Signal};
use crate::transport::tcp::seq::SeqNum;

/// Whether the segment that carried the acknowledgement had anything else in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Nothing,
    DataOrFin,
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
        let sacked = self.take_sack(ack, h);
        if ack != una {
            self.on_progress(env, ack, h);
            if sacked > 0 {
                self.notice_loss(env);
            }
        } else if sacked > 0 {
            env.stats.dup_acks_in += 1;
            self.notice_loss(env);
        } else if self.flight() > 0 && carries == Carries::Nothing && self.snd.edge == before {
            // RFC 5681 2: a duplicate acknowledgement.
            env.stats.dup_acks_in += 1;
            if self.negotiated.sack == SackUse::No {
                self.notice_loss(env);
            }
        }
        if opened {
            self.on_window_opened();
        }
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

    fn on_window_opened(&mut self) {
        self.timers.persist = Instant::MAX;
        self.snd.probes = 0;
        if self.snd.probe == Probe::Window {
            self.snd.probe = Probe::None;
        }
    }

    fn on_progress(&mut self, env: &mut Env<'_>, ack: SeqNum, h: &TcpHeader) {
        let before = self.snd.una;
        let acked = ack.since(before);
        let mss = self.data_mss();
        let limited = if self.flight() + mss > self.cc.cwnd() {
            Limited::ByCwnd
        } else {
            Limited::Elsewhere
        };
        let rtt = self.measure(env, ack, h);
        self.hint.on_progress(env.now);
        self.snd.una = ack;
        // The other marks are seen from here, so none may fall behind.
        self.snd.small_end = before.later(self.snd.small_end, ack);
        self.snd.edge = before.later(self.snd.edge, ack);
        if self.state.fin().is_some_and(|fin| ack == fin + 1) {
            self.snd.queue.release_to(ack - 1);
            self.state = self.state.on_fin_acked();
            // Nothing is left to linger for.
            self.timers.orphan = Instant::MAX;
        } else {
            self.snd.queue.release_to(ack);
        }
        self.retries = 0;
        self.soft_error = None;
        let heard = Ack {
            now: env.now,
            acked,
            rtt,
            srtt: self.rtt.srtt().unwrap_or(Duration::ZERO),
            una: ack,
            nxt: self.snd.nxt,
            mss,
            most: (2 * mss).max(self.path.gso_max),
            limited,
        };
        if self.recovery.is_open() {
            self.cc.on_ack(&heard);
        } else if self.recovery.is_loss() {
            // RFC 3465 2.3: after a timeout an acknowledgement may cover much that arrived long
            // before, which says nothing about the path now.
            self.cc.on_ack(&Ack {
                acked: acked.min(2 * mss),
                limited: Limited::ByCwnd,
                ..heard
            });
        }
        self.recovery
            .on_progress(ack, acked, mss, self.negotiated.sack);
        self.restart_retransmit(env);
        self.timers.persist = Instant::MAX;
        self.snd.probes = 0;
        if !self.waiters.writers.is_empty() && self.write_space() >= self.write_low_water() {
            self.waiters.writers.wake(env.out);
        }
    }

    /// RFC 6298 3: Karn's algorithm by timing one segment at a time; while something is sent
    /// again, by timestamps as well.
    #[inline]
    fn measure(&mut self, env: &Env<'_>, ack: SeqNum, h: &TcpHeader) -> Option<Duration> {
        if let Some((end, sent)) = self.snd.timed
            && !self.snd.una.precedes(ack, end)
        {
            self.snd.timed = None;
            let rtt = env.now.since(sent);
            self.rtt.sample(env.config, rtt);
            return Some(rtt);
        }
        if !self.recovery.is_open() {
            self.measure_by_echo(env, h, env.config.max_rto);
        }
        None
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
            self.rtt.sample(env.config, age.max(TICK));
        }
    }

    /// Records the blocks of a selective acknowledgement and returns how many bytes are new.
    #[inline]
    fn take_sack(&mut self, ack: SeqNum, h: &TcpHeader) -> u32 {
        if h.options.sack.is_empty() || self.negotiated.sack == SackUse::No {
            return 0;
        }
        let mut new = 0;
        for &(start, end) in h.options.sack.as_slice() {
            new += self
                .recovery
                .board
                .add((SeqNum(start), SeqNum(end)), ack, self.snd.nxt);
        }
        new
    }

    fn notice_loss(&mut self, env: &mut Env<'_>) {
        let (una, nxt, mss) = (self.snd.una, self.snd.nxt, self.data_mss());
        let signal = self
            .recovery
            .on_duplicate(una, nxt, mss, self.negotiated.sack);
        if signal == Signal::Enter {
            env.stats.fast_recoveries += 1;
            self.cc.on_loss(nxt.since(una), mss);
        }
    }
}
