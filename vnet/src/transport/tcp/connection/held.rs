//! The state of what few connections use; see `holding`.

use std::collections::VecDeque;

use super::search::Search;
use crate::base::time::Instant;
use crate::transport::tcp::segment::SendFlags;
use crate::transport::tcp::seq::SeqNum;

/// What is held, and what is due.
#[derive(Debug)]
pub(in crate::transport::tcp) struct Held {
    /// What was said of the next write.
    pub(super) next: SendFlags,
    /// The last write said that more comes.
    pub(super) more: bool,
    /// Data up to here has waited for long enough.
    pub(super) released: Option<SeqNum>,
    /// Where records end that are not acknowledged.
    pub(super) records: VecDeque<SeqNum>,
    pub(super) release_at: Instant,
    pub(super) fail_at: Instant,
    pub(super) search: Option<Search>,
}

impl Default for Held {
    fn default() -> Held {
        Held {
            next: SendFlags::default(),
            more: false,
            released: None,
            records: VecDeque::new(),
            release_at: Instant::MAX,
            fail_at: Instant::MAX,
            search: None,
        }
    }
}

impl Held {
    /// When the first of it is due.
    pub(super) fn next_due(&self) -> Instant {
        self.release_at.min(self.fail_at)
    }
}
