//! The questions for one neighbour that are on their way, and how long answers take.
//!
//! The time is measured as it is for TCP (RFC 6298), but for two things. ARP does not say which
//! question an answer is for (Karn's problem): when several were asked, the first of them is the
//! safe guess, up to a bound that doubles with each such answer. And there are few samples, so that
//! a longer one counts at once, and a shorter one lets the estimate fall by half at most.

use crate::base::time::{Duration, Instant};

/// What a guess may be when nothing better is known.
const FIRST_GUESS: Duration = Duration::from_secs(60);

/// What was asked of one neighbour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Questions {
    open: Option<Open>,
    round_trip: Duration,
}

/// Questions without an answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    first: Instant,
    last: Instant,
    count: u32,
}

impl Questions {
    /// Notes that an answer takes `round_trip` at least, for all that is known of the link.
    pub(super) fn expect(&mut self, round_trip: Duration) {
        self.round_trip = self.round_trip.max(round_trip);
    }

    /// How long to wait for an answer before asking again, and no less than `least`.
    pub(super) fn wait(&self, least: Duration) -> Duration {
        least.max(self.round_trip.saturating_mul(2))
    }

    /// Notes a question. Those before the last one that is older than `late` are not counted on.
    pub(super) fn asked(&mut self, now: Instant, late: Duration) {
        let before = self.open.filter(|open| now.since(open.last) <= late);
        self.open = Some(Open {
            first: before.map_or(now, |open| open.first),
            last: now,
            count: before.map_or(1, |open| open.count.saturating_add(1)),
        });
    }

    /// True when an answer may still come to what was asked no longer than `late` ago.
    pub(super) fn are_open(&self, now: Instant, late: Duration) -> bool {
        self.open.is_some_and(|open| now.since(open.last) <= late)
    }

    /// Takes an answer for a measurement, if there was a question.
    pub(super) fn answered(&mut self, now: Instant) {
        let Some(open) = self.open.take() else { return };
        let measured = now.since(open.first);
        let measured = match open.count {
            1 => measured,
            _ => measured.min(FIRST_GUESS.max(self.round_trip.saturating_mul(2))),
        };
        self.round_trip = measured.max(self.round_trip / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(1000);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// Seconds to wait after these questions, and then an answer, at these seconds.
    fn wait(questions: &mut Questions, asked: &[u64], answered: u64) -> u64 {
        asked.iter().for_each(|s| questions.asked(at(*s), LATE));
        questions.answered(at(answered));
        questions.wait(Duration::from_secs(1)).as_secs()
    }

    #[test]
    fn one_question_is_measured_and_of_several_the_first_is_meant() {
        let mut q = Questions::default();
        assert_eq!(wait(&mut q, &[0], 0), 1, "never below the least");
        assert_eq!(wait(&mut q, &[10, 11, 12], 20), 20);
        assert_eq!(wait(&mut q, &[100], 110), 20);
        // Twice what it was seen to be, however fast one answer is.
        assert_eq!(wait(&mut q, &[200], 200), 10);
        assert_eq!(wait(&mut q, &[300], 300), 5);
    }

    #[test]
    fn a_guess_is_bounded_until_it_proves_too_low() {
        let mut q = Questions::default();
        // A station that was switched on after it was asked for during ten minutes.
        assert_eq!(wait(&mut q, &[0, 300, 600], 600), 120);
        assert_eq!(wait(&mut q, &[700, 900], 1500), 240);
        assert_eq!(
            wait(&mut q, &[1600], 2400),
            1600,
            "one question says it exactly"
        );
    }

    #[test]
    fn what_was_asked_long_ago_is_not_waited_for() {
        let mut q = Questions::default();
        assert!(!q.are_open(at(0), LATE));
        q.asked(at(0), LATE);
        assert!(q.are_open(at(1000), LATE) && !q.are_open(at(1001), LATE));
        q.asked(at(2000), LATE);
        q.answered(at(2007));
        assert_eq!(q.wait(Duration::ZERO), Duration::from_secs(14));
        q.answered(at(9999));
        assert_eq!(
            q.wait(Duration::ZERO),
            Duration::from_secs(14),
            "nothing was asked"
        );
    }
}
