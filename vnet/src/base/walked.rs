//! Counts, in the crate's own tests, how many entries of a table are looked at one after the other. What
//! is done to one entry must not walk through all others: a test makes more and more of them, and
//! sees that each costs the same.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

/// The count of one table. Outside of tests it is nothing, and counting costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    // Of a part that nobody uses there is one for all threads.
    #[cfg(test)]
    steps: AtomicU64,
}

impl Clone for Walked {
    fn clone(&self) -> Walked {
        Walked {
            #[cfg(test)]
            steps: AtomicU64::new(self.steps()),
        }
    }
}

impl Walked {
    /// An entry is looked at.
    #[inline]
    pub(crate) fn step(&self) {
        #[cfg(test)]
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}
