//! Counts, in the crate's own tests, how many entries of a table are looked at one after the other. What
//! is done to one entry must not walk through all others: a test makes more and more of them, and
//! sees that each costs the same.

#[cfg(test)]
use std::cell::Cell;

/// The count of one table. Outside of tests it is nothing, and counting costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walked(#[cfg(test)] Cell<u64>);

impl Walked {
    /// An entry is looked at.
    #[inline]
    pub(crate) fn step(&self) {
        #[cfg(test)]
        self.0.set(self.0.get() + 1);
    }

    /// How many were.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> u64 {
        self.0.get()
    }
}
