//! Watching frames as they pass an interface, and recording them.
//!
//! | part | what it is |
//! |---|---|
//! | [`FrameTap`] | a program's observer of frames |
//! | [`recorder`] | a tap that writes pcapng, with rotation, snap length and the fate of dropped frames |
//! | [`output`] | where a recorder's bytes go: at once, or through a bounded queue |

pub(crate) mod output;
pub(crate) mod recorder;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::table::Netif;
use crate::base::callback;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::{Cx, Direction, Packet};

/// An observer of all frames of an interface, like tcpdump: it sees outgoing frames before the link's impairments, and
/// incoming frames before any check.
///
/// It is called with the vnet's lock held, so it must be quick and must not call the vnet. The packet is borrowed;
/// cloning keeps its payload without copying it.
///
/// A tap that panics is not called again, and its capture ends. The frame is processed as if there were no capture. If
/// a call of the program sent the frame, that call passes the panic on after completing its other work. If the library
/// was processing arrived frames, the panic is logged and counted by
/// [`Vnet::callback_panics`](crate::Vnet::callback_panics).
pub trait FrameTap: Send + Sync {
    /// A frame passed at `at`. Its transport checksum may still be partial, and it may be larger than the MTU if it has
    /// not been segmented yet.
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet);

    /// The link dropped an outgoing frame. This is called instead of [`FrameTap::frame`]; the default implementation
    /// calls that.
    fn lost(&self, at: Instant, packet: &Packet, reason: DropReason) {
        let _ = reason;
        self.frame(at, Direction::Out, packet);
    }

    /// The vnet has processed the incoming frame of the last [`FrameTap::frame`]. `refused` is the reason if the frame
    /// was dropped. Frames that the vnet sent in response have been shown in between. A frame that waits (for more
    /// fragments, for a neighbour) does not count as dropped, and is not reported again.
    fn taken_in(&self, at: Instant, refused: Option<DropReason>) {
        let _ = (at, refused);
    }

    /// A one-line description for lists of an interface's captures.
    fn describe(&self) -> String {
        "tap".to_owned()
    }
}

/// Identifies a capture among those of its interface. Identifiers are not reused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CaptureId(u64);

/// Who watches an interface, in the order in which they began.
#[derive(Default)]
pub(crate) struct Taps {
    list: Vec<Watcher>,
    started: u64,
}

struct Watcher {
    id: CaptureId,
    /// There until it is dropped or stopped.
    tap: Option<Arc<dyn FrameTap>>,
    /// It has panicked.
    failed: bool,
}

impl Watcher {
    /// Lets it see something. A panic of it is not one of the stack's, which is half-way through a
    /// packet; the first one of an entry is kept for whoever made that.
    fn show(&mut self, panic: &mut Option<callback::Payload>, f: impl FnOnce(&dyn FrameTap)) {
        if let (false, Some(tap)) = (self.failed, &self.tap)
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(&**tap)))
        {
            self.failed = true;
            match panic {
                None => *panic = Some(payload),
                Some(_) => callback::discard(payload),
            }
        }
    }
}

impl Drop for Watcher {
    /// An interface that goes takes its captures along, with the vnet's lock held: the destructor
    /// of a tap must not fail the stack either.
    fn drop(&mut self) {
        let tap = self.tap.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(tap))) {
            callback::discard(panic);
        }
    }
}

impl Taps {
    pub(crate) fn add(&mut self, tap: Arc<dyn FrameTap>) -> CaptureId {
        self.started += 1;
        let id = CaptureId(self.started);
        self.list.push(Watcher {
            id,
            tap: Some(tap),
            failed: false,
        });
        id
    }

    /// Takes a capture off. What it held is the caller's to drop, without the vnet's lock.
    pub(crate) fn remove(&mut self, id: CaptureId) -> Option<Arc<dyn FrameTap>> {
        let at = self.list.iter().position(|w| w.id == id)?;
        self.list.remove(at).tap.take()
    }

    pub(crate) fn list(&self) -> Vec<String> {
        let describe = |tap: &Arc<dyn FrameTap>| {
            let described = catch_unwind(AssertUnwindSafe(|| tap.describe()));
            described.unwrap_or_else(|panic| {
                callback::discard(panic);
                "a tap that cannot say what it is".to_owned()
            })
        };
        let info = |w: &Watcher| {
            let description = w.tap.as_ref().map(describe).unwrap_or_default();
            match w.failed {
                true => format!("{description} (panicked)"),
                false => description,
            }
        };
        self.list.iter().map(info).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Netif {
    /// Shows a frame that passes.
    #[inline]
    pub(super) fn show(&mut self, cx: &mut Cx, direction: Direction, packet: &Packet) {
        if !self.taps.is_empty() {
            self.show_all(cx, direction, packet);
        }
    }

    #[inline(never)]
    fn show_all(&mut self, cx: &mut Cx, direction: Direction, packet: &Packet) {
        if !packet.meta.tags.is_empty() {
            return self.show_all(cx, direction, &packet.with_tags());
        }
        for watcher in &mut self.taps.list {
            watcher.show(&mut cx.out.panic, |t| t.frame(cx.now, direction, packet));
        }
    }

    /// Shows an outgoing frame that its link dropped.
    pub(super) fn show_lost(&mut self, cx: &mut Cx, packet: &Packet, reason: DropReason) {
        if !packet.meta.tags.is_empty() {
            return self.show_lost(cx, &packet.with_tags(), reason);
        }
        for watcher in &mut self.taps.list {
            watcher.show(&mut cx.out.panic, |t| t.lost(cx.now, packet, reason));
        }
    }

    /// Says what became of the frame that came in last.
    pub(crate) fn show_taken_in(&mut self, cx: &mut Cx, refused: Option<DropReason>) {
        for watcher in &mut self.taps.list {
            watcher.show(&mut cx.out.panic, |t| t.taken_in(cx.now, refused));
        }
    }
}
