//! The constants of BBR, its states with their gains, and what its acknowledgements are of. Section numbers are those of
//! draft-ietf-ccwg-bbr. Times are in nanoseconds.

pub(super) const MS: u64 = 1_000_000;
/// Section 2.8: the window that keeps a connection going, in segments.
pub(super) const MIN_PIPE: u32 = 4;
// Section 5.6.1 and figure 1 of section 2.5: gains in hundredths.
pub(super) const STARTUP_PACING: u64 = 277;
pub(super) const DRAIN_PACING: u64 = 50;
/// Section 2.6: how much of the rate is left unused, in percent, so that a queue does not grow.
pub(super) const MARGIN: u64 = 1;
/// Section 2.7: losses beyond this part of the flight say that it was too large, in percent.
pub(super) const LOSS_THRESH: u64 = 2;
/// Section 2.7: what remains of a bound after losses, and what is left to others, in percent.
pub(super) const BETA: u64 = 70;
pub(super) const HEADROOM: u64 = 15;
/// Section 5.3.1.3: acknowledgements with losses in a round trip that end the startup.
pub(super) const STARTUP_LOSSES: u32 = 6;
/// Section 2.13
pub(super) const MIN_RTT_FILTER: u64 = 10_000 * MS;
pub(super) const PROBE_RTT_INTERVAL: u64 = 5_000 * MS;
pub(super) const PROBE_RTT_TIME: u64 = 200 * MS;
/// Section 2.11: in rounds.
pub(super) const EXTRA_ACKED_FILTER: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// Hundredths by which the rate is multiplied for pacing, and the volume for the window.
    // Section 5.6, table of gains.
    pub(super) fn gains(self) -> (u64, u64) {
        match self {
            State::Startup => (STARTUP_PACING, 200),
            State::Drain => (DRAIN_PACING, 200),
            State::Down => (90, 200),
            State::Cruise | State::Refill => (100, 200),
            State::Up => (125, 225),
            State::ProbeRtt => (100, 50),
        }
    }

    pub(super) fn is_probe_bw(self) -> bool {
        matches!(
            self,
            State::Down | State::Cruise | State::Refill | State::Up
        )
    }

    /// More than the model says is sent, to see whether it arrives.
    pub(super) fn is_probing(self) -> bool {
        matches!(self, State::Startup | State::Refill | State::Up)
    }
}

/// Section 5.3.3: which of what was sent the acknowledgements are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    Starting,
    Feedback,
    Stopping,
}

/// How the last probe for more ended, and so how far the next one goes. This is not in the draft; Google's BBRv3 for Linux
/// has it, so that not each probe overflows a queue in which others are that heed losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastProbe {
    /// Nothing speaks against going beyond the bound.
    Open,
    /// It lost too much: the next one ends at the bound that this has left.
    TooHigh,
    /// It ended at the bound. If it does not turn out to have lost too much, one that goes beyond follows at once.
    AtBound,
}

/// Whether something happened with this acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    Yes,
    No,
}
