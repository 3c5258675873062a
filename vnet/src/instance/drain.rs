//! What an instance notes while it shuts down gracefully.

use std::task::Waker;

use super::report::Graceful;
use crate::base::time::Instant;
use crate::packet::{Cx, Out};
use crate::stack::Stack;

/// An instance that ends by itself.
pub(crate) struct Drain {
    pub(super) since: Instant,
    /// Connections at the beginning.
    pub(super) open: usize,
    /// Each once. There may be several: an ancestor's owner waits as well as the instance's own.
    pub(super) waiters: Vec<Waker>,
}

impl Drain {
    /// Wakes those who wait for the last connection to end, when it has. Called at the end of every
    /// entry.
    pub(crate) fn look(&mut self, stack: &Stack, cx: &mut Cx) {
        if stack.tcp.open_connections() == 0 {
            self.end(cx.out);
        }
    }

    /// Wakes those who wait for the last connection to end: nothing more ends.
    pub(crate) fn end(&mut self, out: &mut Out) {
        out.wakes.append(&mut self.waiters);
    }

    /// What has come of it by `now`.
    pub(super) fn so_far(&self, stack: &Stack, now: Instant) -> Graceful {
        let revoked = stack.tcp.open_connections();
        Graceful {
            waited: now - self.since,
            closed: self.open.saturating_sub(revoked),
            revoked,
        }
    }
}
