//! What BBR makes of marks. The draft leaves it open. This is what Google's BBRv3 for Linux does on routes that are set up for
//! it. Its numbers are those of data centres: round trips are short, and switches mark packets as soon as a queue builds up.

use super::super::phases::MS;

/// Until a least round trip is found that is not longer, marks are not heeded, and what is sent must not be marked.
const MAX_RTT: u64 = 5 * MS;
/// The weight of a round in the average share.
const GAIN: f64 = 1.0 / 16.0;
/// What of the flight's bound is given up for the average share, in each round with marks.
const FACTOR: f64 = 1.0 / 3.0;
/// A flight of which a larger share was marked was too large.
const TOO_MANY: f64 = 0.5;
/// So many rounds like that, one after the other, end the startup.
const ROUNDS: u8 = 2;

/// The marks of one connection.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    /// The share of what was delivered that was marked, averaged over rounds.
    share: f64,
    /// What had been marked and delivered when this round began.
    round_marked: u64,
    round_delivered: u64,
    /// Rounds in which too many were marked, without others between them.
    too_many: u8,
    /// The path is short, or was once.
    heeded: bool,
    /// What the acknowledgement that is being heard reports.
    reported: u32,
    /// There were some since the bounds were last looked at.
    pub(super) are_new: bool,
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks {
            // As with DCTCP (RFC 8257 4.2): marks count in full until rounds without them are seen.
            share: 1.0,
            round_marked: 0,
            round_delivered: 0,
            too_many: 0,
            heeded: false,
            reported: 0,
            are_new: false,
        }
    }

    pub(super) fn are_heeded(&self) -> bool {
        self.heeded
    }

    pub(super) fn on_min_rtt(&mut self, min_rtt: u64) {
        self.heeded |= min_rtt <= MAX_RTT;
    }

    /// So many bytes are reported as marked.
    pub(super) fn report(&mut self, bytes: u32) {
        if self.heeded {
            self.reported = self.reported.saturating_add(bytes);
        }
    }

    /// How many of so many bytes that have arrived were marked. What is guessed from a count of packets may be more than
    /// arrived; a report that comes without a delivery is for the next one.
    pub(super) fn take(&mut self, acked: u32) -> u64 {
        if acked == 0 || self.reported == 0 {
            return 0;
        }
        self.are_new = true;
        std::mem::take(&mut self.reported).min(acked).into()
    }

    /// A round has ended, with so many bytes marked and delivered since the connection began.
    pub(super) fn on_round(&mut self, marked: u64, delivered: u64) {
        let (of, all) = (marked - self.round_marked, delivered - self.round_delivered);
        (self.round_marked, self.round_delivered) = (marked, delivered);
        if all == 0 || !self.heeded {
            return;
        }
        let share = (of as f64 / all as f64).min(1.0);
        self.share += (share - self.share) * GAIN;
        self.too_many = match are_too_many(of, all) {
            true => self.too_many.saturating_add(1),
            false => 0,
        };
    }

    /// Whether a startup has gone too far.
    pub(super) fn end_startup(&self) -> bool {
        self.too_many >= ROUNDS
    }

    /// What is left of a bound after a round with marks.
    pub(super) fn lower(&self, bound: u64) -> u64 {
        (bound as f64 * (1.0 - self.share * FACTOR)) as u64
    }
}

/// Whether so many of so much say that there was too much of it.
pub(super) fn are_too_many(marked: u64, delivered: u64) -> bool {
    marked as f64 > delivered as f64 * TOO_MANY
}
