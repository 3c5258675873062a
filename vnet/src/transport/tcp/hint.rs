//! Progress of a connection, as a hint that the neighbour on the way to the peer is reachable (RFC 4861
//! section 7.3.1).

use crate::base::time::{Duration, Instant};

/// Hints are not given more often. A neighbour stays reachable for longer than this after each, at the
/// smallest value of its tunable.
const PERIOD: Duration = Duration::from_millis(250);

/// Whether the way to the peer was found to work, and not yet said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    /// From when on the next one may be given.
    next: Instant,
    due: bool,
}

impl Hint {
    /// Nothing is known of the way.
    pub(super) fn new() -> Hint {
        Hint {
            next: Instant::ZERO,
            due: false,
        }
    }

    /// The peer has got what was sent: it acknowledged something new, or went on after an acknowledgement.
    #[inline]
    pub(super) fn on_progress(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + PERIOD;
            self.due = true;
        }
    }

    /// Whether the segment sent now is to say so.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }
}
