//! Congestion control: how much may be on its way. Which segment goes next is
//! [`recovery`](super::recovery)'s business.
//!
//! Everything is counted in bytes, so a large segment weighs as much as its pieces.

mod ack;
mod bbr;
mod cubic;
mod dctcp;
mod hystart;
mod phases;
mod rate;
mod reno;

pub(super) use ack::{Ack, Limited, Mark};
use bbr::Bbr;
pub(super) use bbr::Delivery;
use cubic::Cubic;
use dctcp::Dctcp;
use rate::per_second;
use reno::Reno;

use super::ecn::Feedback;

/// A congestion control algorithm: how fast a connection sends, and how it answers losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Congestion {
    /// Slow start and congestion avoidance of RFC 5681: after a loss the window is halved, and then grows by a
    /// segment each round trip.
    Reno,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406): after a loss the window shrinks by 30 %, and then grows by the
    /// time since, whatever the round trip.
    #[default]
    Cubic,
    /// BBR version 3 (draft-ietf-ccwg-bbr): a model of the path's rate and least round trip says how fast to send. A few
    /// losses do not slow it down.
    Bbr,
    /// DCTCP (RFC 8257), for data centres where every switch marks packets: the window shrinks by the share of packets
    /// that were marked. A connection that begins with it asks for accurate feedback (RFC 9768).
    Dctcp,
}

impl Congestion {
    /// The names of the algorithms, in the order of their numbers as a tunable.
    pub(crate) const NAMES: &'static [&'static str] = &["reno", "cubic", "bbr", "dctcp"];
}

/// The controller of one connection.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    Reno(Reno),
    Cubic(Cubic),
    Bbr(Box<Bbr>),
    Dctcp(Dctcp),
}

/// What every controller can do, done by the one there is. A new controller is a variant, a line
/// here, and its module.
macro_rules! each {
    ($of:expr, $c:ident => $do:expr) => {
        match $of {
            Controller::Reno($c) => $do,
            Controller::Cubic($c) => $do,
            Controller::Bbr($c) => $do,
            Controller::Dctcp($c) => $do,
        }
    };
}

impl Controller {
    pub(super) fn new(algorithm: Congestion, mss: u32, segments: u32) -> Controller {
        Controller::with(algorithm, mss.saturating_mul(segments).max(1), u32::MAX)
    }

    /// One that takes over from another.
    fn with(algorithm: Congestion, cwnd: u32, ssthresh: u32) -> Controller {
        match algorithm {
            Congestion::Reno => Controller::Reno(Reno::new(cwnd, ssthresh)),
            Congestion::Cubic => Controller::Cubic(Cubic::new(cwnd, ssthresh)),
            Congestion::Bbr => Controller::Bbr(Box::new(Bbr::new(cwnd))),
            Congestion::Dctcp => Controller::Dctcp(Dctcp::new(cwnd, ssthresh)),
        }
    }

    /// Goes on with another algorithm, from the window that was found.
    pub(super) fn change(&mut self, algorithm: Congestion) {
        *self = Controller::with(algorithm, self.cwnd(), self.ssthresh());
    }

    /// What there is to return to should a loss turn out to be none.
    pub(super) fn saved(&self) -> Controller {
        match self {
            Controller::Bbr(c) => Controller::Bbr(Box::new(c.saved())),
            other => other.clone(),
        }
    }

    /// Returns to what `saved` was before a loss that was none.
    // RFC 4015 3.2 and RFC 9438 4.9.2.
    pub(super) fn restore(&mut self, saved: Controller) {
        if let (Controller::Bbr(c), Controller::Bbr(saved)) = (&mut *self, &saved) {
            c.undo(saved);
            return;
        }
        let cwnd = self.cwnd().max(saved.cwnd());
        *self = saved;
        each!(self, c => c.cwnd = cwnd);
    }

    /// Whether a model of the path, and not the losses, says how much may be on its way.
    #[inline]
    pub(super) fn has_model(&self) -> bool {
        matches!(self, Controller::Bbr(_))
    }

    /// Whether marks that are reported like this say anything to it, and so whether what is sent may be marked.
    // With the feedback of RFC 3168, one mark looks like a round trip of marks. A model asks how many there are.
    pub(super) fn heeds_marks(&self, feedback: Feedback) -> bool {
        match self {
            Controller::Bbr(c) => feedback == Feedback::Accurate && c.heeds_marks(),
            _ => true,
        }
    }

    /// The model.
    #[inline]
    pub(super) fn model(&mut self) -> Option<&mut Bbr> {
        match self {
            Controller::Bbr(c) => Some(c),
            _ => None,
        }
    }

    /// Bytes per second at which to send. Without a model that is what `gain` says of the window in a round trip of
    /// `srtt` nanoseconds; unknown before the first measurement.
    // As in Linux: twice the window in slow start, so that it can double, and a fifth more than it otherwise.
    pub(super) fn pacing(&self, srtt: u64) -> Option<u64> {
        if let Controller::Bbr(c) = self {
            return Some(c.pacing());
        }
        let tenths = match self.cwnd() < self.ssthresh() {
            true => 20,
            false => 12,
        };
        let cwnd = u64::from(self.cwnd());
        (srtt > 0).then(|| per_second(cwnd * tenths / 10, srtt))
    }

    #[inline]
    pub(super) fn cwnd(&self) -> u32 {
        each!(self, c => c.cwnd)
    }

    pub(super) fn ssthresh(&self) -> u32 {
        match self {
            Controller::Reno(c) => c.ssthresh,
            Controller::Cubic(c) => c.ssthresh,
            Controller::Bbr(c) => c.ssthresh(),
            Controller::Dctcp(c) => c.ssthresh,
        }
    }

    /// Whether an acknowledgement, outside fast recovery, may change anything.
    #[inline]
    pub(super) fn wants(&self, limited: Limited) -> bool {
        limited == Limited::ByCwnd
            || match self {
                // RFC 7661 in spirit: a window that was not used is not known to be safe to enlarge.
                Controller::Reno(_) => false,
                // RFC 9438 5.8: congestion avoidance hears of time in which the window is not used.
                Controller::Cubic(c) => c.cwnd >= c.ssthresh,
                // It hears of deliveries.
                Controller::Bbr(_) => false,
                Controller::Dctcp(_) => false,
            }
    }

    /// New bytes were acknowledged, outside fast recovery.
    #[inline]
    pub(super) fn on_ack(&mut self, ack: &Ack) {
        each!(self, c => c.on_ack(ack))
    }

    /// The first loss of a window was noticed, with `flight` bytes outstanding.
    pub(super) fn on_loss(&mut self, flight: u32, mss: u32) {
        each!(self, c => c.on_loss(flight, mss))
    }

    /// The first mark in a window was reported, with `flight` bytes outstanding.
    // RFC 3168 6.1.2: as a loss does. RFC 8511 3.1: less, in congestion avoidance.
    pub(super) fn on_mark(&mut self, flight: u32, mss: u32, mark: Mark) {
        let slow_start = self.cwnd() < self.ssthresh();
        match self {
            Controller::Dctcp(c) => c.on_mark(mss),
            Controller::Cubic(c) => {
                let less = c.marks().is_light(mark, slow_start);
                c.on_mark(flight, mss, less);
            }
            Controller::Reno(c) => {
                let less = c.marks.is_light(mark, slow_start);
                c.on_mark(flight, mss, less);
            }
            // It has heard how many there are.
            Controller::Bbr(_) => {}
        }
    }

    /// The retransmission timer went off for data that it had not gone off for before. `pipe` bytes may still arrive: with
    /// them on their way, a segment may leave.
    pub(super) fn on_timeout(&mut self, flight: u32, mss: u32, pipe: u32) {
        each!(self, c => {
            c.on_timeout(flight, mss);
            c.cwnd += pipe;
        })
    }

    /// So many of the bytes that a timeout had left room for are lost after all, or have arrived: the room is taken back,
    /// down to a window of `least` bytes.
    pub(super) fn take_back(&mut self, bytes: u32, least: u32) {
        let before = self.cwnd();
        let left = before.saturating_sub(bytes).max(before.min(least));
        if left == before {
            return;
        }
        match self {
            Controller::Cubic(c) => c.restart(left),
            other => each!(other, c => c.cwnd = left),
        }
    }

    /// It went off again for the same data.
    pub(super) fn on_repeated_timeout(&mut self, mss: u32, pipe: u32) {
        each!(self, c => {
            c.on_repeated_timeout(mss);
            c.cwnd += pipe;
        })
    }

    /// Nothing was sent for longer than a retransmission timeout.
    // RFC 5681 4.1: the restart window is min(IW, cwnd).
    pub(super) fn on_idle(&mut self, mss: u32, segments: u32) {
        let restart = mss.saturating_mul(segments);
        each!(self, c => c.on_idle(restart))
    }
}

/// Bytes of the largest packet, which leaves as one. A window that is no larger need not be spread over time.
pub(super) const LARGE: u32 = 65_535;

/// Bytes that leave at once at a rate (in bytes per second): what it sends in a millisecond, but no less than two
/// segments and no more than a large one.
// draft-ietf-ccwg-bbr, section 5.6.3.
pub(super) fn quantum(rate: u64, mss: u32) -> u32 {
    let in_a_millisecond = u32::try_from(rate / 1000).unwrap_or(u32::MAX);
    in_a_millisecond.min(LARGE).max(2 * mss)
}
