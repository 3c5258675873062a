//! Congestion control: how much may be on its way. Which segment goes next is
//! [`recovery`](super::recovery)'s business.
//!
//! Everything is counted in bytes, so a large segment weighs as much as its pieces.

mod reno;

pub(super) use reno::Reno;

/// The controller of one connection.
#[derive(Clone, Debug)]
pub(super) enum Controller {
    Reno(Reno),
}

/// Whether the window was what limited the sender when the acknowledged data was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    ByCwnd,
    /// By the application or by the peer's window: the congestion window has not been tried.
    Elsewhere,
}

/// What every controller can do, done by the one there is. A new controller is a variant, a line
/// here, and its module.
macro_rules! each {
    ($of:expr, $c:ident => $do:expr) => {
        match $of {
            Controller::Reno($c) => $do,
        }
    };
}

impl Controller {
    pub(super) fn new(mss: u32, segments: u32) -> Controller {
        Controller::Reno(Reno::new(mss, segments))
    }

    #[inline]
    pub(super) fn cwnd(&self) -> u32 {
        each!(self, c => c.cwnd)
    }

    pub(super) fn ssthresh(&self) -> u32 {
        each!(self, c => c.ssthresh)
    }

    /// `acked` new bytes were acknowledged, outside fast recovery.
    #[inline]
    pub(super) fn on_ack(&mut self, acked: u32, mss: u32, limited: Limited) {
        each!(self, c => c.on_ack(acked, mss, limited))
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
        each!(self, c => c.cwnd = mss)
    }

    /// Nothing was sent for longer than a retransmission timeout.
    // RFC 5681 4.1: the restart window is min(IW, cwnd).
    pub(super) fn on_idle(&mut self, mss: u32, segments: u32) {
        each!(self, c => c.cwnd = c.cwnd.min(mss.saturating_mul(segments)))
    }
}
