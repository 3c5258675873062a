//! What the stacks of this process send, recorded for tshark to judge when the tests are over.
//!
//! Each interface has a [`Witness`], to whom every frame is shown that goes onto its wire. In tests, and with the
//! feature `witness`, which this project's own tests are built with, it records them where `VNET_TEST_CAPTURE`, a
//! folder, is in the environment. In all other builds it takes no room and does nothing. What is in a file, and how
//! much, is said in [`recording`]; who judges it is in `tests/src/judge.rs`.

#[cfg(any(test, feature = "witness"))]
mod recording;

use super::buf::Packet;
use crate::base::time::Instant;

/// Sees the frames that an interface sends.
pub(crate) struct Witness {
    #[cfg(any(test, feature = "witness"))]
    test: Option<std::sync::Arc<recording::Test>>,
}

#[cfg(any(test, feature = "witness"))]
impl Witness {
    /// One that tells the frames to be of the test that this thread runs.
    pub(crate) fn of_this_thread() -> Witness {
        let test = recording::test();
        Witness { test }
    }

    /// A frame leaves at `at`.
    pub(crate) fn see(&self, at: Instant, frame: &Packet) {
        if let Some(test) = &self.test {
            test.see(at, frame);
        }
    }
}

#[cfg(not(any(test, feature = "witness")))]
impl Witness {
    /// One that sees nothing.
    #[inline]
    pub(crate) fn of_this_thread() -> Witness {
        Witness {}
    }

    /// Nothing is done.
    #[inline]
    pub(crate) fn see(&self, _at: Instant, _frame: &Packet) {}
}
