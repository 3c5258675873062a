//! What goes from one part of a simulation to another, while threads carry out parts by themselves: it is kept by the
//! thread that sends it, and put into its inbox when the threads meet.

use std::sync::Arc;

pub(crate) use super::Crossing;
use super::{Inbox, MAX_BYTES, MAX_FRAMES};
use crate::base::part;
use crate::base::time::Instant;

/// True when this thread has kept as much as it is to send at a time. With what a single event may send besides, it fits
/// in an inbox with [room](Inbox::has_room) for all parts.
pub(crate) fn is_much() -> bool {
    let (items, bytes) = part::kept::<Crossing>();
    items >= 4096 || bytes >= 2 << 20
}

/// When the first of it arrives.
pub(crate) fn first(crossings: &[Crossing]) -> Option<Instant> {
    crossings.iter().map(|crossing| crossing.at).min()
}

/// Puts it into the inboxes, and tells their owners. False when one of them fills.
pub(crate) fn put(crossings: &mut Vec<Crossing>) -> bool {
    let mut has_room = true;
    let mut last: Option<Arc<Inbox>> = None;
    for Crossing { to, at, item } in crossings.drain(..) {
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &to)) {
            has_room &= last.as_ref().is_none_or(|last| last.has_room());
            last = Some(Arc::clone(&to));
        }
        to.put(at, item).ring(at);
    }
    has_room && last.is_none_or(|last| last.has_room())
}

impl Inbox {
    /// True when it is far from refusing anything: a wire has four times what is left free, so whoever has less than a
    /// fifth of the inbox is refused nothing, in whichever order it comes.
    pub(crate) fn has_room(&self) -> bool {
        let queue = self.queue.lock();
        let used = queue.shares.used();
        !queue.shares.is_narrow(MAX_FRAMES, MAX_BYTES)
            && used.frames <= MAX_FRAMES / 16
            && used.bytes <= MAX_BYTES / 32
    }
}
