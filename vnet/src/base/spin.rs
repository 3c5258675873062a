//! Whether it pays to spin before a sleep. Spinning saves the tens of microseconds that a sleeping thread takes to resume, if
//! what it waits for comes soon; and keeps a processor busy, if not.

use std::cell::Cell;

use super::time::{Duration, Instant};

/// The number of waits in vain after which a thread sleeps at once.
pub(crate) const PATIENCE: u32 = 4;
/// One wait out of this many spins nevertheless.
const RETRY: u32 = 64;

/// What came of a thread's spinning lately.
#[derive(Debug, Default)]
pub struct Spins {
    /// The number of consecutive waits in which it was in vain.
    vain: Cell<u32>,
}

impl Spins {
    /// None so far.
    pub const fn new() -> Spins {
        Spins { vain: Cell::new(0) }
    }

    /// Until when a wait spins that begins now and may do so for `spin`; `None` if it does not, because that has been in
    /// vain several times running. [`Spins::note`] is to be told how a wait that spins ends.
    pub fn until(&self, now: Instant, spin: Duration) -> Option<Instant> {
        let vain = self.vain.get();
        if spin.is_zero() {
            return None;
        }
        if vain >= PATIENCE && !vain.is_multiple_of(RETRY) {
            self.vain.set(vain.wrapping_add(1));
            return None;
        }
        Some(now + spin)
    }

    /// A wait has spun, in vain or not.
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
    fn a_wait_spins_as_long_as_that_pays_and_now_and_then() {
        let (spins, now) = (Spins::new(), Instant::ZERO);
        let spin = Duration::from_micros(7);
        let waits = |outcome: bool, n: u32| -> u32 {
            (0..n)
                .filter(|_| match spins.until(now, spin) {
                    Some(end) => {
                        assert_eq!(end, now + spin);
                        spins.note(outcome);
                        true
                    }
                    None => false,
                })
                .count() as u32
        };
        assert_eq!(waits(false, 100), 100);
        // Four times running, and once more of 64.
        assert_eq!(waits(true, 4 * RETRY), PATIENCE + 3);
        assert_eq!(waits(false, RETRY), RETRY);
        assert_eq!(spins.until(now, Duration::ZERO), None);
    }
}
