//! Who is served next, of those that wait for a worker: deficit round robin (Shreedhar and Varghese, 1996), by the time
//! that a turn took.
//!
//! Each that waits has a credit of time. When its turn comes, it is given a quantum, in proportion to its weight, and is
//! served while it has credit. What a service takes is known only when it is over, so a credit may become a debt: then
//! one turn or more passes without service. Whoever has nothing to do any more gives up what is left of its credit, and
//! keeps its debt.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::base::time::Duration;
use crate::instance::processor::DEFAULT_WEIGHT;

/// What a turn is worth to somebody of the default weight: some services of many frames.
const QUANTUM: Duration = Duration::from_micros(500);

/// Somebody who takes turns.
pub(super) trait Turn {
    /// How much is due to it, compared with others; at least one.
    fn weight(&self) -> u32;

    /// The time that is due to it, in nanoseconds. It is kept while it does not wait.
    fn credit(&self) -> &AtomicI64;
}

/// Those that wait.
pub(super) struct Turns<T> {
    waiting: VecDeque<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns {
            waiting: VecDeque::new(),
        }
    }
}

impl<T: Turn> Turns<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds somebody behind all others.
    pub(super) fn push(&mut self, one: T) {
        self.waiting.push_back(one);
    }

    /// Takes the one whose turn it is, which has credit.
    pub(super) fn take(&mut self) -> Option<T> {
        // In the first round somebody is found, unless all are in debt.
        for _ in 0..self.waiting.len() {
            let one = self.waiting.pop_front()?;
            if credit(&one, 1) > 0 {
                return Some(one);
            }
            self.waiting.push_back(one);
        }
        // So many rounds would pass before somebody is out of debt: they are had at once.
        let rounds = self.waiting.iter().map(rounds_in_debt).min()?;
        for one in &self.waiting {
            credit(one, rounds - 1);
        }
        loop {
            let one = self.waiting.pop_front()?;
            if credit(&one, 1) > 0 {
                return Some(one);
            }
            self.waiting.push_back(one);
        }
    }
}

/// Gives one so many quanta, and returns its credit.
fn credit(one: &impl Turn, quanta: i64) -> i64 {
    let more = quantum(one).saturating_mul(quanta);
    one.credit().fetch_add(more, Ordering::Relaxed) + more
}

/// How many quanta it takes until one has credit, which has none.
fn rounds_in_debt(one: &impl Turn) -> i64 {
    let debt = one.credit().load(Ordering::Relaxed).saturating_neg().max(0);
    debt / quantum(one) + 1
}

fn quantum(one: &impl Turn) -> i64 {
    let nanos = QUANTUM.as_nanos() as i64 * i64::from(one.weight().max(1));
    nanos / i64::from(DEFAULT_WEIGHT)
}

/// Whether one that has been served for `time` in this turn is to leave it to the next.
pub(super) fn is_over(one: &impl Turn, time: Duration) -> bool {
    nanos(time) >= one.credit().load(Ordering::Relaxed)
}

/// What is left to one after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It has more to do, and waits again.
    Waiting,
    /// It has nothing to do.
    Nothing,
}

/// Ends the turn of one, which took `time`.
pub(super) fn settle(one: &impl Turn, time: Duration, left: Left) {
    one.credit().fetch_sub(nanos(time), Ordering::Relaxed);
    // Whoever has nothing left may wait again already.
    if left == Left::Nothing {
        one.credit().fetch_min(0, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    struct One {
        name: char,
        weight: u32,
        credit: AtomicI64,
    }

    impl Turn for Arc<One> {
        fn weight(&self) -> u32 {
            self.weight
        }
        fn credit(&self) -> &AtomicI64 {
            &self.credit
        }
    }

    fn waiting(ones: &[(char, u32)]) -> Turns<Arc<One>> {
        let mut turns = Turns::default();
        for &(name, weight) in ones {
            let credit = AtomicI64::new(0);
            turns.push(Arc::new(One {
                name,
                weight,
                credit,
            }));
        }
        turns
    }

    /// Serves one as a worker does, by services that take as long as `cost` says; it always has more to do. Returns its name
    /// and how many services it had.
    fn turn(turns: &mut Turns<Arc<One>>, cost: impl Fn(char) -> u64) -> (char, u64) {
        let one = turns.take().expect("all wait");
        let (mut services, mut time) = (0, Duration::ZERO);
        loop {
            time += Duration::from_micros(cost(one.name));
            services += 1;
            if is_over(&one, time) {
                break;
            }
        }
        settle(&one, time, Left::Waiting);
        let name = one.name;
        turns.push(one);
        (name, services)
    }

    #[test]
    fn the_order_of_service_follows_what_services_cost() {
        let mut turns = waiting(&[('a', 100), ('b', 100), ('c', 100)]);
        // Of a it takes a quantum, of b a quantum and a half, of c a tenth.
        let cost = |name| match name {
            'a' => 500,
            'b' => 750,
            _ => 50,
        };
        let order: Vec<_> = (0..9).map(|_| turn(&mut turns, cost)).collect();
        let expected = [
            ('a', 1),
            ('b', 1),
            ('c', 10),
            ('a', 1),
            // b has 250 of its 500 left.
            ('b', 1),
            ('c', 10),
            ('a', 1),
            // b has none left, and passes.
            ('c', 10),
            ('a', 1),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn weights_share_the_time_out() {
        let mut turns = waiting(&[('a', 100), ('b', 300), ('c', 50)]);
        let order: Vec<_> = (0..5).map(|_| turn(&mut turns, |_| 250)).collect();
        assert_eq!(order, [('a', 2), ('b', 6), ('c', 1), ('a', 2), ('b', 6)]);
    }

    #[test]
    fn whoever_has_nothing_to_do_keeps_a_debt_and_no_credit() {
        let mut turns = waiting(&[('a', 100)]);
        let one = turns.take().expect("it waits");
        settle(&one, Duration::from_micros(100), Left::Nothing);
        assert_eq!(one.credit.load(Ordering::Relaxed), 0);
        turns.push(Arc::clone(&one));
        assert!(turns.take().is_some() && turns.take().is_none());
        settle(&one, Duration::from_micros(900), Left::Nothing);
        assert_eq!(one.credit.load(Ordering::Relaxed), -400_000);
        // Alone, it is served all the same.
        turns.push(Arc::clone(&one));
        assert!(turns.take().is_some());
        assert_eq!(one.credit.load(Ordering::Relaxed), 100_000);
    }

    #[test]
    fn those_that_are_all_deep_in_debt_do_not_go_round_for_long() {
        let mut turns = waiting(&[('a', 1), ('b', 2)]);
        for one in &turns.waiting {
            one.credit.store(-3_600_000_000_000, Ordering::Relaxed);
        }
        let first = turns.take().expect("it waits");
        assert_eq!(first.name, 'b');
    }

    proptest! {
        /// In the long run each has had its share of the time, but for a quantum and a service.
        #[test]
        fn each_has_its_share(
            ones in prop::collection::vec((1u32..1000, 1u64..2000), 2..6),
        ) {
            let names = ones.iter().enumerate();
            let named: Vec<_> = names.map(|(n, (weight, _))| (n as u8 as char, *weight)).collect();
            let mut turns = waiting(&named);
            let mut had = vec![0; ones.len()];
            for _ in 0..2000 {
                let (name, services) = turn(&mut turns, |name| ones[name as usize].1);
                had[name as usize] += services * ones[name as usize].1;
            }
            // What each has had for its weight differs by no more than the quantum of one and two services.
            for (n, (weight, cost)) in ones.iter().enumerate() {
                for (m, (others, cost_of_other)) in ones.iter().enumerate() {
                    let mine = had[n] as f64 / f64::from(*weight);
                    let theirs = had[m] as f64 / f64::from(*others);
                    let slack = 10.0 + *cost as f64 / f64::from(*weight)
                        + *cost_of_other as f64 / f64::from(*others);
                    prop_assert!((mine - theirs).abs() <= slack, "{mine} {theirs}");
                }
            }
        }
    }
}
