//! Whether something is worth trying that pays at some times and costs at others, such as to spin before a sleep: it is
//! left alone when it has been in vain several times running, and tried again now and then.

use std::cell::Cell;

use super::time::{Duration, Instant};

/// The number of trials in vain after which there are no more.
pub(crate) const PATIENCE: u32 = 4;
/// One occasion out of this many is tried nevertheless.
pub(crate) const RETRY: u32 = 64;

/// What came of what was tried lately.
#[derive(Debug, Default)]
pub struct Trials {
    /// The number of consecutive occasions on which it was in vain, or was not tried.
    vain: Cell<u32>,
}

impl Trials {
    /// None so far.
    pub const fn new() -> Trials {
        Trials { vain: Cell::new(0) }
    }

    /// Whether it is tried on this occasion. [`Trials::note`] is to be told what comes of it.
    pub fn again(&self) -> bool {
        let vain = self.vain.get();
        let again = vain < PATIENCE || vain.is_multiple_of(RETRY);
        if !again {
            self.vain.set(vain.wrapping_add(1));
        }
        again
    }

    /// Until when a wait spins that begins now and may do so for `spin`, if it does. The time is asked for only then.
    pub fn spins_until(&self, now: impl FnOnce() -> Instant, spin: Duration) -> Option<Instant> {
        (!spin.is_zero() && self.again()).then(|| now() + spin)
    }

    /// It was tried, in vain or not.
    pub fn note(&self, is_vain: bool) {
        self.vain.set(match is_vain {
            true => self.vain.get().wrapping_add(1),
            false => 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_vain_is_tried_again_now_and_then() {
        let trials = Trials::new();
        let tried = |in_vain: bool, occasions: u32| -> u32 {
            let again = (0..occasions).filter(|_| {
                let again = trials.again();
                if again {
                    trials.note(in_vain);
                }
                again
            });
            again.count() as u32
        };
        assert_eq!(tried(false, 100), 100);
        // Four times running, and then once in 64.
        assert_eq!(tried(true, 4 * RETRY), PATIENCE + 3);
        assert_eq!(tried(false, RETRY), RETRY);
        let now = Instant::ZERO;
        let spin = Duration::from_micros(7);
        assert_eq!(trials.spins_until(|| now, spin), Some(now + spin));
        assert_eq!(trials.spins_until(|| now, Duration::ZERO), None);
    }
}
