//! What fails on the way to a device of the host's, and at which step.

use std::io;

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failure<S> {
    pub(crate) step: S,
    pub(crate) error: io::Error,
}

impl<S> Failure<S> {
    pub(crate) fn of(step: S, error: impl Into<io::Error>) -> Failure<S> {
        Failure {
            step,
            error: error.into(),
        }
    }
}
