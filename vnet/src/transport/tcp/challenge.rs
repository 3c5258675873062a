//! The rate limit of challenge acknowledgements (RFC 5961, section 7). Each connection and each
//! half-open record has its own, so that it tells an outsider nothing about others.

use super::config::TcpConfig;
use super::stats::TcpStats;
use crate::base::time::{Duration, Instant};

/// RFC 5961 7: five seconds.
const PERIOD: Duration = Duration::from_secs(5);

/// How many were sent lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenge {
    since: Instant,
    sent: u8,
}

impl Default for Challenge {
    fn default() -> Challenge {
        Challenge::new()
    }
}

impl Challenge {
    /// None yet.
    pub(super) fn new() -> Challenge {
        Challenge {
            since: Instant::ZERO,
            sent: 0,
        }
    }

    /// Whether one more may be sent now; it then counts as sent.
    pub(super) fn may_send(
        &mut self,
        now: Instant,
        config: &TcpConfig,
        stats: &mut TcpStats,
    ) -> bool {
        if now.since(self.since) >= PERIOD {
            *self = Challenge {
                since: now,
                sent: 0,
            };
        }
        if self.sent >= config.challenge_acks {
            stats.challenge_acks_limited += 1;
            return false;
        }
        self.sent += 1;
        true
    }
}
