//! Arrivals in order of time, from several senders each of which is in order mostly.
//!
//! They are kept in runs, each of them in order: an arrival goes to the end of the first run that it may follow. So there
//! are hardly more runs than senders, one sender has one run, and no arrival is moved to make room for another.

use std::collections::VecDeque;

use super::item::{Arrival, Place, place};
use crate::base::time::Instant;

/// Runs besides the first one at most. What fits behind none of them is not in order by far.
const MAX_MORE: usize = 7;

/// Arrivals in order.
#[derive(Default)]
pub(super) struct Runs {
    first: VecDeque<Arrival>,
    /// Those that have been needed; some may be empty.
    more: Vec<Run>,
    /// Arrivals in them.
    in_more: usize,
    /// In which run the next arrival is, counted from one; zero for the first run, and if there is none.
    next: usize,
}

/// A run, and the times of its ends, which are asked for more often than what is there.
struct Run {
    begin: Instant,
    end: Instant,
    arrivals: VecDeque<Arrival>,
}

impl Run {
    fn pop_front(&mut self) -> Option<Arrival> {
        let arrival = self.arrivals.pop_front();
        if let Some((at, ..)) = self.arrivals.front() {
            self.begin = *at;
        }
        arrival
    }
}

/// Whether the last of a run is not behind an arrival that is pushed later.
#[inline]
fn may_follow((at, _, item): &Arrival, (last_at, _, last): &Arrival) -> bool {
    last_at < at || (last_at == at && last.ifid() <= item.ifid())
}

impl Runs {
    /// Adds an arrival whose number is above those of all others. One that would need yet another run is returned.
    #[inline]
    pub(super) fn push(&mut self, arrival: Arrival) -> Result<(), Arrival> {
        let may_be_next = match self.first.back() {
            Some(last) if !may_follow(&arrival, last) => return self.push_to_more(arrival),
            Some(_) => false,
            None => self.in_more > 0,
        };
        self.first.push_back(arrival);
        if may_be_next {
            self.find_next();
        }
        Ok(())
    }

    #[inline(never)]
    fn push_to_more(&mut self, arrival: Arrival) -> Result<(), Arrival> {
        let at = arrival.0;
        let fits = |run: &Run| {
            run.end < at
                || match run.arrivals.back() {
                    Some(last) => run.end == at && may_follow(&arrival, last),
                    None => true,
                }
        };
        let n = match self.more.iter().position(fits) {
            Some(n) => n,
            None if self.more.len() == MAX_MORE => return Err(arrival),
            None => {
                self.more.reserve_exact(1);
                self.more.push(Run {
                    begin: at,
                    end: at,
                    arrivals: VecDeque::new(),
                });
                self.more.len() - 1
            }
        };
        let run = &mut self.more[n];
        run.end = at;
        run.arrivals.push_back(arrival);
        self.in_more += 1;
        if run.arrivals.len() == 1 {
            run.begin = at;
            self.find_next();
        }
        Ok(())
    }

    /// Finds where the next arrival is.
    fn find_next(&mut self) {
        let mut next: Option<(Instant, usize)> = self.first.front().map(|(at, ..)| (*at, 0));
        for (n, run) in (1..).zip(&self.more) {
            let is_next = !run.arrivals.is_empty()
                && next.is_none_or(|(at, other)| {
                    run.begin < at || (run.begin == at && self.place_of(n) < self.place_of(other))
                });
            if is_next {
                next = Some((run.begin, n));
            }
        }
        self.next = next.map_or(0, |(_, n)| n);
    }

    #[cold]
    fn place_of(&self, run: usize) -> Option<Place> {
        self.of(run).front().map(place)
    }

    fn of(&self, run: usize) -> &VecDeque<Arrival> {
        match run.checked_sub(1) {
            None => &self.first,
            Some(n) => &self.more[n].arrivals,
        }
    }

    /// The time of the next arrival.
    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self.next.checked_sub(1) {
            None => self.first.front().map(|(at, ..)| *at),
            Some(n) => Some(self.more[n].begin),
        }
    }

    /// The next arrival.
    pub(super) fn front(&self) -> Option<&Arrival> {
        self.of(self.next).front()
    }

    /// Takes the next arrival out.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Arrival> {
        if self.in_more == 0 {
            return self.first.pop_front();
        }
        self.pop_next()
    }

    #[inline(never)]
    fn pop_next(&mut self) -> Option<Arrival> {
        let arrival = match self.next.checked_sub(1) {
            None => self.first.pop_front(),
            Some(n) => {
                self.in_more -= 1;
                self.more[n].pop_front()
            }
        };
        self.find_next();
        arrival
    }

    /// The time of the last arrival.
    pub(super) fn last_at(&self) -> Option<Instant> {
        let first = self.first.back().map(|(at, ..)| *at);
        let more = self.more.iter().filter(|run| !run.arrivals.is_empty());
        more.map(|run| run.end).chain(first).max()
    }

    /// True when there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.in_more == 0 && self.first.is_empty()
    }

    /// All of them, if they are one run, not more than `limit`, and due at `now`.
    #[inline]
    pub(super) fn if_all_due(
        &mut self,
        now: Instant,
        limit: usize,
    ) -> Option<&mut VecDeque<Arrival>> {
        let is_due = self.first.back().is_some_and(|(at, ..)| *at <= now);
        let all = is_due && self.in_more == 0 && self.first.len() <= limit;
        all.then_some(&mut self.first)
    }

    /// For how many arrivals there is room, in all runs.
    pub(super) fn room(&self) -> usize {
        let more = self.more.iter().map(|run| run.arrivals.capacity());
        self.first.capacity() + more.sum::<usize>()
    }

    /// Gives room back, but for so many; only when there is no arrival.
    pub(super) fn shrink_to(&mut self, room: usize) {
        debug_assert!(self.is_empty(), "runs that are given back are empty");
        self.first.shrink_to(room);
        self.more = Vec::new();
    }
}
