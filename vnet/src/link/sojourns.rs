//! How long frames took, for percentiles.
//!
//! Each time is counted in one of 64 steps between a power of two and the next, in the manner of HDR histograms, and is
//! told as the middle of its step, which is at most 1/128 of it away. Counters are kept sixteen together, in a line
//! of a processor's cache, and only where there is something to count: the frames of most links take a few different
//! times, and a network has thousands of links.

use super::stats::Sojourn;
use crate::base::time::Duration;

/// Steps from a power of two to the next, as a power of two.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// Counters that are kept together.
const TOGETHER: usize = 16;

/// Times that frames took. Without a frame it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Sojourns {
    /// In order of what they count.
    pages: Vec<Page>,
    /// Which one counted last.
    last: usize,
    max_ns: u64,
}

#[derive(Debug)]
struct Page {
    number: u16,
    counts: [u32; TOGETHER],
}

impl Sojourns {
    /// Counts a frame.
    #[inline]
    pub(super) fn note(&mut self, took_ns: u64) {
        self.max_ns = self.max_ns.max(took_ns);
        let step = step(took_ns);
        let number = (step / TOGETHER) as u16;
        if self.pages.get(self.last).is_none_or(|p| p.number != number) {
            self.turn_to(number);
        }
        let count = &mut self.pages[self.last].counts[step % TOGETHER];
        *count = count.saturating_add(1);
    }

    #[inline(never)]
    fn turn_to(&mut self, number: u16) {
        self.last = match self.pages.binary_search_by_key(&number, |page| page.number) {
            Ok(at) => at,
            Err(at) => {
                let counts = [0; TOGETHER];
                self.pages.reserve_exact(1);
                self.pages.insert(at, Page { number, counts });
                at
            }
        };
    }

    pub(super) fn percentiles(&self) -> Sojourn {
        let at = |share: f64| Duration::from_nanos(self.at(share));
        Sojourn {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Duration::from_nanos(self.max_ns),
        }
    }

    /// The time than which this share of the frames took no longer; zero if there was none.
    fn at(&self, share: f64) -> u64 {
        let counts = || {
            self.pages.iter().flat_map(|page| {
                let first = usize::from(page.number) * TOGETHER;
                let counts = page.counts.iter().enumerate();
                counts.map(move |(n, count)| (first + n, u64::from(*count)))
            })
        };
        let all: u64 = counts().map(|(_, count)| count).sum();
        let mut left = ((all as f64 * share).ceil() as u64).max(1);
        for (step, count) in counts() {
            if left <= count {
                return middle(step).min(self.max_ns);
            }
            left -= count;
        }
        0
    }
}

/// The step that a time is in: below [`STEPS`] each number has one of its own.
#[inline]
fn step(time: u64) -> usize {
    let shift = (u64::BITS - (time | (STEPS - 1)).leading_zeros()) - STEP_BITS;
    match shift {
        0 => time as usize,
        _ => {
            let shift = shift - 1;
            (u64::from(shift) * STEPS + (time >> shift)) as usize
        }
    }
}

/// The middle of a step.
fn middle(step: usize) -> u64 {
    let step = step as u64;
    match (step / STEPS).checked_sub(1) {
        None => step,
        Some(shift) => ((step - shift * STEPS) << shift) + (1 << shift >> 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Percentiles are those of a sorted list, to 1 %; the greatest time is exact.
        #[test]
        fn percentiles_are_those_of_a_list(
            times in prop::collection::vec((0u32..64, any::<u64>()), 1..300),
        ) {
            let mut times: Vec<u64> = times.iter().map(|(shift, bits)| bits >> shift).collect();
            let mut sojourns = Sojourns::default();
            for time in &times {
                sojourns.note(*time);
            }
            times.sort_unstable();
            for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
                let rank = (times.len() as f64 * share).ceil() as usize;
                let exact = times[rank - 1];
                let told = sojourns.at(share);
                prop_assert!(told.abs_diff(exact) <= exact / 100, "{told} for {exact}");
            }
            let max = times[times.len() - 1];
            prop_assert_eq!(sojourns.percentiles().max, Duration::from_nanos(max));
        }
    }

    #[test]
    fn steps_are_in_order_and_without_a_gap() {
        let mut last = 0;
        for time in 0..100_000 {
            let step = step(time);
            assert!(step == last || step == last + 1, "{time}");
            last = step;
        }
        assert!(step(u64::MAX) < usize::from(u16::MAX) * TOGETHER);
        assert_eq!(Sojourns::default().percentiles(), Sojourn::default());
    }

    /// What a link takes whose frames wait for few others.
    #[test]
    fn frames_of_few_lengths_take_a_few_lines() {
        let mut sojourns = Sojourns::default();
        for n in 0..1000 {
            sojourns.note([528, 12_112, 24_224, 36_336][n % 4]);
        }
        assert!(size_of::<Page>() <= 68);
        assert_eq!((sojourns.pages.len(), sojourns.pages.capacity()), (4, 4));
    }
}
