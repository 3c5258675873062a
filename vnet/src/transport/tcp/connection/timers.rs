//! What is due when, and what happens then.

use super::{Connection, Env, Owner, Probe, Turns};
use crate::base::time::{Duration, Instant, nanos};
use crate::transport::error::SocketError;
use crate::transport::tcp::congestion::Limited;
use crate::transport::tcp::recovery::{Echoes, SackUse};
use crate::transport::tcp::state::{Due, Sends, State};

/// The deadlines of a connection; [`Instant::MAX`] is "not set".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport::tcp) struct Timers {
    pub(super) retransmit: Instant,
    pub(super) delayed_ack: Instant,
    pub(super) persist: Instant,
    pub(super) keepalive: Instant,
    /// When a segment that has to wait for its turn may leave.
    pub(super) pace: Instant,
    /// When a connection without a socket ends, whatever the peer does: its linger time is over, or it
    /// has been in FIN-WAIT-2 for long.
    pub(super) orphan: Instant,
    /// When something is due of what few connections use: `held.release_at` or `held.fail_at`.
    pub(super) held: Instant,
}

/// What happens when no acknowledgement comes in time. The first of them that is due stands for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// The retransmission timeout (RFC 6298).
    Timeout,
    /// A tail loss probe (RFC 8985 7).
    Probe,
    /// What was overtaken is taken for lost (RFC 8985 6.2, step 5).
    Reordering,
}

/// Why the timer is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something was acknowledged.
    Acknowledged,
    /// Something was sent, or taken for lost.
    Sent,
}

/// RFC 7765 4: rrthresh, in segments.
const RESTART_THRESHOLD: u32 = 4;

impl Default for Timers {
    fn default() -> Timers {
        Timers {
            retransmit: Instant::MAX,
            delayed_ack: Instant::MAX,
            persist: Instant::MAX,
            keepalive: Instant::MAX,
            pace: Instant::MAX,
            orphan: Instant::MAX,
            held: Instant::MAX,
        }
    }
}

impl Timers {
    /// The earliest of them.
    #[inline]
    pub(in crate::transport::tcp) fn next(&self) -> Instant {
        self.retransmit
            .min(self.delayed_ack)
            .min(self.persist)
            .min(self.keepalive)
            .min(self.pace)
            .min(self.orphan)
            .min(self.held)
    }
}

impl Connection {
    /// True when its socket was closed with a linger time, and that is over before all was acknowledged.
    pub(in crate::transport::tcp) fn has_lingered(&self, now: Instant) -> bool {
        self.timers.orphan <= now && self.state != State::FinWait2
    }

    /// Handles what is due.
    pub(in crate::transport::tcp) fn on_deadline(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        if self.timers.delayed_ack <= now {
            self.timers.delayed_ack = Instant::MAX;
            self.rcv.acks_due = self.rcv.acks_due.max(1);
            self.rcv.turns = Turns::OneWay;
        }
        if self.timers.pace <= now {
            self.note_lateness(now);
            self.timers.pace = Instant::MAX;
        }
        if self.timers.retransmit <= now {
            self.timers.retransmit = Instant::MAX;
            match self.pending {
                Pending::Timeout => self.on_retransmission_timeout(env),
                Pending::Probe => {
                    self.recovery.probe();
                    self.restart_retransmit(env, Cause::Sent);
                }
                Pending::Reordering => self.on_reordering(env),
            }
        }
        if self.timers.persist <= now {
            self.timers.persist = Instant::MAX;
            self.on_persist(env);
        }
        if self.timers.keepalive <= now {
            self.on_keepalive(env);
        }
        if self.timers.held <= now {
            self.on_held(env);
        }
        if self.timers.orphan <= now {
            self.finish(env, None);
        }
    }

    /// A segment that has waited for its turn may leave: if it has, this is when it should have.
    #[inline]
    pub(super) fn note_lateness(&mut self, now: Instant) {
        if self.timers.pace <= now {
            self.lateness = nanos(now.since(self.timers.pace));
        }
    }

    // RFC 6298 5.4 to 5.7.
    fn on_retransmission_timeout(&mut self, env: &mut Env<'_>) {
        if self.flight() == 0 {
            self.release_syn();
            return;
        }
        env.stats.timeouts += 1;
        if !self.count_retry(env) {
            return;
        }
        self.rtt.back_off(env.config);
        self.snd.timed_out = env.now;
        match &mut self.state {
            State::SynSent(s) => s.syn = Due::Now,
            State::SynReceived(s) => s.syn_ack = Due::Now,
            _ => {
                let echoes = match self.negotiated.ts {
                    Some(_) => Echoes::Yes,
                    None => Echoes::No,
                };
                // Where it turns out to be narrow, nothing is spared.
                self.suspect_path(env);
                let una = self.snd.una;
                let heard = self.heard(env, una, una, Limited::Elsewhere);
                self.recovery.on_timeout(&mut self.cc, &heard, echoes);
                self.forget_probe(env.now);
            }
        }
    }

    /// Counts an attempt that was not answered; false when it was the last and the connection
    /// is over (RFC 9293 3.8.3).
    fn count_retry(&mut self, env: &mut Env<'_>) -> bool {
        self.retries = self.retries.saturating_add(1);
        let limit = match (self.state, self.owner) {
            (State::SynReceived(s), _) if s.sends == Sends::Yes => env.config.syn_ack_retries,
            (State::SynSent(_) | State::SynReceived(_), _) => env.config.syn_retries,
            (_, Owner::Nobody) => env.config.orphan_retries,
            _ => env.config.data_retries,
        };
        if self.retries <= limit || self.held_to_timeout() {
            return true;
        }
        self.time_out(env);
        false
    }

    pub(super) fn time_out(&mut self, env: &mut Env<'_>) {
        env.stats.timed_out += 1;
        if matches!(self.state, State::SynSent(_) | State::SynReceived(_)) {
            env.stats.failed_opens += 1;
        }
        let error = self.trouble.as_ref().and_then(|t| t.soft_error);
        let error = error.unwrap_or(SocketError::TimedOut);
        self.finish(env, Some(error));
    }

    /// RFC 9293 3.8.6.1: the window was closed, or too small to be worth it, for a while.
    fn on_persist(&mut self, env: &mut Env<'_>) {
        if self.count_retry(env) {
            self.snd.probes = self.snd.probes.saturating_add(1);
            self.snd.probe = Probe::Window;
        }
    }

    /// Arms the persist timer, unless it runs.
    pub(super) fn arm_persist(&mut self, env: &Env<'_>) {
        if self.timers.persist == Instant::MAX {
            // Counted apart from retransmissions: an unanswered probe says nothing of the path,
            // and an open window nothing of the timeout.
            self.timers.persist = env.now + self.rtt.doubled(env.config, self.snd.probes);
            self.arm_user_timeout(env.now);
        }
    }

    /// RFC 6298 5.1 to 5.3: (re)starts the retransmission timer, or stops it when nothing is
    /// outstanding. A tail loss probe comes first where one helps.
    #[inline]
    pub(super) fn restart_retransmit(&mut self, env: &Env<'_>, cause: Cause) {
        self.pending = Pending::Timeout;
        let flight = self.flight();
        if flight == 0 {
            self.timers.retransmit = Instant::MAX;
            return;
        }
        self.arm_user_timeout(env.now);
        let (now, rto) = (env.now.as_nanos(), self.rtt.rto_nanos());
        self.timers.retransmit = Instant::from_nanos(now.saturating_add(rto));
        // RFC 8985 7.3: after a probe the timeout is the whole one.
        if !self.recovery.may_probe() {
            return;
        }
        let mss = self.data_mss();
        if self.negotiated.sack == SackUse::Yes
            && let Some(patience) = self.rtt.patience(env.config, flight <= mss)
            && patience < rto
        {
            self.timers.retransmit = Instant::from_nanos(now.saturating_add(patience));
            self.pending = Pending::Probe;
            return;
        }
        if cause == Cause::Acknowledged && flight < RESTART_THRESHOLD * mss {
            self.count_from_oldest(now, rto);
        }
    }

    // RFC 7765 4: where there is too little for a fast retransmission, the timeout counts from when the oldest segment
    // left.
    #[inline(never)]
    fn count_from_oldest(&mut self, now: u64, rto: u64) {
        if self.snd.nxt == self.write_end()
            && let Some(oldest) = self.recovery.sent.oldest()
        {
            let at = oldest.as_nanos().saturating_add(rto);
            if at > now {
                self.timers.retransmit = Instant::from_nanos(at);
            }
        }
    }

    // RFC 9293 3.8.4. The timer is not moved by each segment: when it comes up, it looks at when
    // the peer was last heard.
    fn on_keepalive(&mut self, env: &mut Env<'_>) {
        self.timers.keepalive = Instant::MAX;
        if !self.options.keepalive || !self.state.is_synchronized() {
            return;
        }
        let (config, options) = (env.config, &self.options);
        let idle = options.idle(config);
        let interval = options
            .keepalive_interval
            .unwrap_or(config.keepalive_interval)
            .max(Duration::from_millis(1));
        let silent = env.now.since(self.last_rx);
        if silent < idle {
            self.timers.keepalive = self.last_rx + idle;
            return;
        }
        // Data that waits for its acknowledgement probes by itself.
        if self.flight() > 0 || self.timers.persist != Instant::MAX {
            self.timers.keepalive = env.now + interval;
            return;
        }
        let probes = (silent - idle).as_nanos() / interval.as_nanos();
        let limit = options.keepalive_probes.unwrap_or(config.keepalive_probes);
        let given_up = match options.user_timeout {
            Some(timeout) => probes > 0 && silent >= timeout,
            None => probes >= u128::from(limit),
        };
        if given_up {
            self.time_out(env);
            return;
        }
        self.snd.probe = Probe::Keepalive;
        self.timers.keepalive = env.now + interval;
    }
}
