//! What a connection counts of itself, for [`TcpInfo`](super::TcpInfo): fields that are added to where the thing happens, under
//! the lock that is held anyway. What can be worked out when somebody asks is not counted.

use super::seq::SeqNum;
use crate::base::time::{Duration, Instant, nanos};

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) totals: Totals,
    /// When data last arrived.
    pub(super) last_data_in: Instant,
    pub(super) round: Round,
    pub(super) limits: Limits,
}

/// What there was since the connection was opened. A large segment counts as those that it stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// Payload bytes sent, whether for the first time or again.
    pub(super) bytes_out: u64,
    /// Payload bytes that the peer has acknowledged, and of those that arrived, those in order.
    pub(super) bytes_acked: u64,
    pub(super) bytes_in: u64,
    pub(super) segments_out: u64,
    pub(super) segments_in: u64,
    pub(super) data_out: u64,
    pub(super) data_in: u64,
}

/// How fast data is acknowledged, from round trip to round trip.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// Acknowledged, it ends the round.
    end: SeqNum,
    began: Instant,
    /// The lower half of `bytes_acked` when it began: a window is smaller.
    acked: u32,
    /// What was acknowledged in the round before, and how long that took, in nanoseconds.
    sample: u32,
    took: u64,
    /// There was less to send in it than the window had room for.
    limited: bool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The network: what was sent is on its way.
    Network,
    /// The peer's window.
    Window,
    /// The send buffer: all of it is on its way, and the application waits to write more.
    Buffer,
    /// There is nothing to send, or on its way. How long is not counted.
    Idle,
}

/// How long a connection has waited for what.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    now: Limit,
    since: Instant,
    /// In nanoseconds, by the number of the limit; the current one apart.
    spent: [u64; Limit::Idle as usize],
}

/// The counters of a connection that waits for nothing: when a round or a wait began is set when there is another.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuietCounts {
    totals: Totals,
    last_data_in: Instant,
    spent: [u64; Limit::Idle as usize],
    took: u64,
    sample: u32,
    limited: bool,
}

impl Counts {
    /// False when the connection waits for something. Otherwise what is set when it does is as in new ones.
    pub(super) fn settle(&mut self) -> bool {
        let is_idle = self.limits.now == Limit::Idle;
        if is_idle {
            self.limits.since = Instant::ZERO;
            let round = &mut self.round;
            (round.end, round.began, round.acked) = (SeqNum(0), Instant::ZERO, 0);
        }
        is_idle
    }

    /// What there is to keep of those that are settled.
    pub(super) fn quiet(&self) -> QuietCounts {
        let Counts {
            totals,
            last_data_in,
            round,
            limits,
        } = self;
        QuietCounts {
            totals: *totals,
            last_data_in: *last_data_in,
            spent: limits.spent,
            took: round.took,
            sample: round.sample,
            limited: round.limited,
        }
    }

    /// Counters that were quiet.
    pub(super) fn rested(quiet: &QuietCounts) -> Counts {
        let new = Counts::new(Instant::ZERO);
        Counts {
            totals: quiet.totals,
            last_data_in: quiet.last_data_in,
            round: Round {
                sample: quiet.sample,
                took: quiet.took,
                limited: quiet.limited,
                ..new.round
            },
            limits: Limits {
                spent: quiet.spent,
                ..new.limits
            },
        }
    }

    pub(super) fn new(now: Instant) -> Counts {
        Counts {
            totals: Totals::default(),
            last_data_in: now,
            round: Round {
                end: SeqNum(0),
                began: now,
                acked: 0,
                sample: 0,
                took: 0,
                limited: false,
            },
            limits: Limits {
                now: Limit::Idle,
                since: now,
                spent: [0; Limit::Idle as usize],
            },
        }
    }

    /// A segment arrived with so many bytes of data, in pieces of this size if it stands for several.
    #[inline]
    pub(super) fn on_arrival(&mut self, now: Instant, len: usize, gso: Option<u16>) {
        let segments = pieces(len, gso);
        self.totals.segments_in += segments;
        if len > 0 {
            self.totals.data_in += segments;
            self.last_data_in = now;
        }
    }

    /// One leaves.
    #[inline]
    pub(super) fn on_departure(&mut self, len: u32, gso: Option<u16>) {
        let segments = pieces(len as usize, gso);
        self.totals.segments_out += segments;
        if len > 0 {
            self.totals.bytes_out += u64::from(len);
            self.totals.data_out += segments;
        }
    }

    /// New data leaves, up to `nxt`.
    #[inline]
    pub(super) fn on_new_data(&mut self, now: Instant, nxt: SeqNum) {
        if self.limits.now == Limit::Idle {
            self.limits.turn(now, Limit::Network);
            let round = &mut self.round;
            (round.end, round.began, round.acked) = (nxt, now, self.totals.bytes_acked as u32);
        }
    }

    /// What was sent from `before` to `ack` is acknowledged and counted, up to `nxt` is sent, and this is what the connection
    /// waits for.
    #[inline]
    pub(super) fn on_acked(&mut self, now: Instant, [before, ack, nxt]: [SeqNum; 3], limit: Limit) {
        let round = &mut self.round;
        if !before.precedes(ack, round.end) {
            round.sample = (self.totals.bytes_acked as u32).wrapping_sub(round.acked);
            round.took = now.as_nanos() - round.began.as_nanos();
            round.limited = matches!(limit, Limit::Idle | Limit::Buffer);
            (round.end, round.began, round.acked) = (nxt, now, self.totals.bytes_acked as u32);
        }
        self.limits.turn(now, limit);
    }
}

/// How many segments one stands for.
#[inline]
fn pieces(len: usize, gso: Option<u16>) -> u64 {
    match gso {
        None => 1,
        Some(size) => len.div_ceil(size.into()) as u64,
    }
}

impl Round {
    /// Bytes per second that were acknowledged in the last whole round trip.
    pub(super) fn rate(&self) -> Option<u64> {
        let rate = (u128::from(self.sample) * 1_000_000_000).checked_div(self.took.into())?;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Whether that says less of the path than of the application.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }
}

impl Limits {
    /// From now on the connection waits for this.
    #[inline]
    pub(super) fn turn(&mut self, now: Instant, limit: Limit) {
        if self.now != limit {
            if let Some(spent) = self.spent.get_mut(self.now as usize) {
                *spent += now.as_nanos() - self.since.as_nanos();
            }
            (self.now, self.since) = (limit, now);
        }
    }

    fn spent(&self, now: Instant, limit: Limit) -> Duration {
        let current = match self.now == limit {
            true => nanos(now.since(self.since)),
            false => 0,
        };
        Duration::from_nanos(self.spent[limit as usize] + current)
    }

    /// How long there was something to send or on its way; of that, how long the peer's window was in the way, and the send
    /// buffer.
    pub(super) fn times(&self, now: Instant) -> [Duration; 3] {
        let [network, window, buffer] =
            [Limit::Network, Limit::Window, Limit::Buffer].map(|limit| self.spent(now, limit));
        [network + window + buffer, window, buffer]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn time_is_spent_on_one_thing_at_a_time() {
        let mut now = Instant::ZERO;
        let mut limits = Counts::new(now).limits;
        for (ms, next) in [
            (1, Limit::Network),
            (2, Limit::Window),
            (4, Limit::Network),
            (8, Limit::Buffer),
            (16, Limit::Idle),
            (32, Limit::Network),
        ] {
            now += MS * ms;
            limits.turn(now, next);
        }
        now += MS * 64;
        let times = limits.times(now);
        assert_eq!(times, [MS * (2 + 4 + 8 + 16 + 64), MS * 4, MS * 16]);
    }

    #[test]
    fn a_rate_is_that_of_the_last_round_trip() {
        let mut now = Instant::ZERO;
        let mut counts = Counts::new(now);
        assert_eq!(counts.round.rate(), None);
        now += MS * 1000;
        // A window of 1000 bytes leaves, and its halves arrive.
        counts.on_new_data(now, SeqNum(1000));
        now += MS * 10;
        let acked = |counts: &mut Counts, now, marks: [u32; 3], limit| {
            counts.totals.bytes_acked += u64::from(marks[1] - marks[0]);
            counts.on_acked(now, marks.map(SeqNum), limit);
        };
        acked(&mut counts, now, [0, 500, 1500], Limit::Network);
        assert_eq!(counts.round.rate(), None);
        acked(&mut counts, now, [500, 1000, 2000], Limit::Network);
        assert_eq!(counts.round.rate(), Some(100_000));
        assert!(!counts.round.is_limited());
        now += MS * 5;
        acked(&mut counts, now, [1000, 2000, 2000], Limit::Idle);
        assert_eq!(counts.round.rate(), Some(200_000));
        assert!(counts.round.is_limited());
        // Silence is no part of the next round.
        now += MS * 1000;
        counts.on_new_data(now, SeqNum(2100));
        now += MS * 10;
        acked(&mut counts, now, [2000, 2100, 2100], Limit::Idle);
        assert_eq!(counts.round.rate(), Some(10_000));
    }
}
