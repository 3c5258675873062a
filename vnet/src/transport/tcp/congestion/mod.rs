//! Congestion control: how much may be on its way. Which segment goes next is
//! [`recovery`](super::recovery)'s business.
//!
//! Everything is counted in bytes, so a large segment weighs as much as its pieces.

mod ack;
mod cubic;
mod hystart;
mod reno;

pub(super) use ack::{Ack, Limited};
use cubic::Cubic;
use reno::Reno;

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
}

impl Congestion {
    /// The names of the algorithms, in the order of their numbers as a tunable.
    pub(crate) const NAMES: &'static [&'static str] = &["reno", "cubic"];
}

/// The controller of one connection.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    Reno(Reno),
    Cubic(Cubic),
}

/// What every controller can do, done by the one there is. A new controller is a variant, a line
/// here, and its module.
macro_rules! each {
    ($of:expr, $c:ident => $do:expr) => {
        match $of {
            Controller::Reno($c) => $do,
            Controller::Cubic($c) => $do,
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
        }
    }

    /// Goes on with another algorithm, from the window that was found.
    pub(super) fn change(&mut self, algorithm: Congestion) {
        *self = Controller::with(algorithm, self.cwnd(), self.ssthresh());
    }

    /// Returns to what `saved` was before a loss that was none.
    // RFC 4015 3.2 and RFC 9438 4.9.2.
    pub(super) fn restore(&mut self, saved: Controller) {
        let cwnd = self.cwnd().max(saved.cwnd());
        *self = saved;
        each!(self, c => c.cwnd = cwnd);
    }

    #[inline]
    pub(super) fn cwnd(&self) -> u32 {
        each!(self, c => c.cwnd)
    }

    pub(super) fn ssthresh(&self) -> u32 {
        each!(self, c => c.ssthresh)
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

    /// The retransmission timer went off for data that it had not gone off for before.
    pub(super) fn on_timeout(&mut self, flight: u32, mss: u32) {
        each!(self, c => c.on_timeout(flight, mss))
    }

    /// It went off again for the same data.
    pub(super) fn on_repeated_timeout(&mut self, mss: u32) {
        each!(self, c => c.on_repeated_timeout(mss))
    }

    /// Nothing was sent for longer than a retransmission timeout.
    // RFC 5681 4.1: the restart window is min(IW, cwnd).
    pub(super) fn on_idle(&mut self, mss: u32, segments: u32) {
        let restart = mss.saturating_mul(segments);
        each!(self, c => c.on_idle(restart))
    }
}
