//! The least round trip, and the time in which little is sent so that it can be seen.

use super::super::ack::MOST;
use super::super::phases::{
    AckPhase, MIN_PIPE, MIN_RTT_FILTER, PROBE_RTT_INTERVAL, PROBE_RTT_TIME, STARTUP_PACING, Starts,
    State,
};
use super::super::rate::{Sample, per_second};
use super::{Bbr, Delivery};
use crate::base::time::Instant;
use crate::transport::tcp::seq::SeqNum;

impl Bbr {
    // Section 5.3.4.3
    pub(super) fn update_min_rtt(&mut self, d: &Delivery) {
        let Some(rtt) = d.rtt else { return };
        let age = |stamp: Instant| d.now.as_nanos().saturating_sub(stamp.as_nanos());
        if self.min_rtt == u64::MAX {
            // Section 5.6.2
            self.pacing = per_second(self.cwnd.into(), rtt) * STARTUP_PACING / 100;
        }
        if rtt < self.probe_rtt_min || age(self.probe_rtt_stamp) > PROBE_RTT_INTERVAL {
            self.probe_rtt_min = rtt;
            // In ProbeRTT the stamp is that of its end.
            if self.state != State::ProbeRtt {
                self.probe_rtt_due(d);
            }
            self.probe_rtt_stamp = d.now;
        }
        if self.probe_rtt_min < self.min_rtt || age(self.min_rtt_stamp) > MIN_RTT_FILTER {
            self.min_rtt = self.probe_rtt_min;
            self.marks.on_min_rtt(self.min_rtt);
            self.min_rtt_stamp = self.probe_rtt_stamp;
        }
    }

    /// Enters ProbeRTT if no round trip as short as the least was measured for long.
    // Section 5.3.4.4
    fn probe_rtt_due(&mut self, d: &Delivery) {
        let age = d
            .now
            .as_nanos()
            .saturating_sub(self.probe_rtt_stamp.as_nanos());
        let measured = self.min_rtt != u64::MAX;
        if measured && age > PROBE_RTT_INTERVAL && self.idle_restart == Starts::No {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe_rtt_done = None;
            self.ack_phase = AckPhase::Stopping;
            self.start_round();
        }
    }

    // Section 5.3.4.4
    pub(super) fn check_probe_rtt(&mut self, d: &Delivery, rs: &Sample) {
        if self.state == State::ProbeRtt {
            self.sampler.on_starved(d.pipe);
            match self.probe_rtt_done {
                None if d.pipe <= self.probe_rtt_cwnd(d.mss) => {
                    let done = d.now.as_nanos() + PROBE_RTT_TIME;
                    self.probe_rtt_done = Some(Instant::from_nanos(done));
                    self.probe_rtt_round = Starts::No;
                    self.start_round();
                }
                None => {}
                Some(_) => {
                    if self.round_starts == Starts::Yes {
                        self.probe_rtt_round = Starts::Yes;
                    }
                    if self.probe_rtt_round == Starts::Yes {
                        self.leave_probe_rtt_if_done(d.now, d.una);
                    }
                }
            }
        }
        if rs.delivered > 0 {
            self.idle_restart = Starts::No;
        }
    }

    pub(super) fn leave_probe_rtt_if_done(&mut self, now: Instant, salt: SeqNum) {
        if self.probe_rtt_done.is_none_or(|done| now <= done) {
            return;
        }
        self.probe_rtt_stamp = now;
        self.cwnd = self.cwnd.max(self.prior_cwnd);
        self.bw_short = u64::MAX;
        self.inflight_short = u64::MAX;
        if self.full_bw_reached {
            self.start_down(now, salt);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    pub(super) fn probe_rtt_cwnd(&self, mss: u32) -> u32 {
        let half = u32::try_from(self.volume(50)).unwrap_or(MOST);
        half.max(MIN_PIPE * mss)
    }
}
