//! What many things of one vnet hold together, and how much that may be: links, bytes of frames; bridges,
//! stations.

use std::sync::atomic::{AtomicU64, Ordering};

/// An account that they share. All that change it hold the vnet's lock; it is made of
/// atomics so that they can share it.
#[derive(Debug)]
pub(crate) struct Account {
    held: AtomicU64,
    limit: AtomicU64,
    refused: AtomicU64,
}

impl Account {
    /// Nothing is held of `limit`.
    pub(crate) fn new(limit: u64) -> Account {
        Account {
            held: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            refused: AtomicU64::new(0),
        }
    }

    /// How much is held; of bytes, with what it costs to hold them.
    #[inline]
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How often something was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How much may be held.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes how much may be held. What is held stays.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether so much more may be held; if not, that counts as a refusal.
    pub(crate) fn admits(&self, more: u64) -> bool {
        let all = self.held().saturating_add(more);
        let admits = all <= self.limit();
        if !admits {
            let refused = self.refused() + 1;
            self.refused.store(refused, Ordering::Relaxed);
        }
        admits
    }

    /// Notes that somebody who held `before` bytes holds `now`.
    pub(crate) fn change(&self, before: u64, now: u64) {
        let all = self.held() - before + now;
        self.held.store(all, Ordering::Relaxed);
    }
}
