//! Seeing frames as they pass an interface, and recording them.
//!
//! | part | what it is |
//! |---|---|
//! | [`FrameTap`] | what is shown each frame |
//! | [`recorder`] | a tap that writes pcapng: cut, snapped, rotated, with what was dropped |
//! | [`output`] | where a recorder's bytes go: at once, or through a bounded queue |

pub mod output;
pub mod recorder;

use std::fmt;
use std::sync::Arc;

use super::table::Netif;
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::{Direction, Packet};

/// Something that wants to see every frame of an interface, as tcpdump does: outgoing frames
/// before the link's impairments, incoming ones before any check.
///
/// It is called with the vnet's lock held: it must be quick and must not call the vnet. The
/// packet is borrowed; its payload can be kept without copying by cloning it.
pub trait FrameTap: Send + Sync {
    /// A frame passed at `at`. The transport checksum may still be
    /// [partial](crate::packet::Csum::Partial), and the frame may be larger than the MTU when it
    /// has not been segmented yet.
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet);

    /// An outgoing frame that its link dropped: called instead of [`FrameTap::frame`], which it
    /// calls if it is not implemented.
    fn lost(&self, at: Instant, packet: &Packet, reason: DropReason) {
        let _ = reason;
        self.frame(at, Direction::Out, packet);
    }

    /// The vnet is done with the incoming frame that [`FrameTap::frame`] was shown last:
    /// `refused` says why it was dropped, if it was. Frames that the vnet sent because of it have
    /// been shown in between. A frame that waits (for more fragments, for a neighbour) is not
    /// dropped yet, and is not reported again.
    fn taken_in(&self, at: Instant, refused: Option<DropReason>) {
        let _ = (at, refused);
    }

    /// One line on what it is, for lists of an interface's captures.
    fn describe(&self) -> String {
        "tap".to_owned()
    }
}

/// Tells the captures of one interface apart; no two of an interface are ever equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaptureId(pub(crate) u64);

impl fmt::Display for CaptureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capture {}", self.0)
    }
}

/// A capture in the list of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureInfo {
    /// Which of the interface's.
    pub id: CaptureId,
    /// What it says of itself.
    pub description: String,
}

/// Who watches an interface, in the order in which they began.
#[derive(Default)]
pub(crate) struct Taps {
    list: Vec<(CaptureId, Arc<dyn FrameTap>)>,
    started: u64,
}

impl Taps {
    pub(crate) fn add(&mut self, tap: Arc<dyn FrameTap>) -> CaptureId {
        self.started += 1;
        let id = CaptureId(self.started);
        self.list.push((id, tap));
        id
    }

    /// Takes a capture off. What it held is the caller's to drop, without the vnet's lock.
    pub(crate) fn remove(&mut self, id: CaptureId) -> Option<Arc<dyn FrameTap>> {
        let at = self.list.iter().position(|(other, _)| *other == id)?;
        Some(self.list.remove(at).1)
    }

    pub(crate) fn list(&self) -> Vec<CaptureInfo> {
        let info = |(id, tap): &(CaptureId, Arc<dyn FrameTap>)| CaptureInfo {
            id: *id,
            description: tap.describe(),
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
    pub(super) fn show(&self, at: Instant, direction: Direction, packet: &Packet) {
        for (_, tap) in &self.taps.list {
            tap.frame(at, direction, packet);
        }
    }

    /// Shows an outgoing frame that its link dropped.
    pub(super) fn show_lost(&self, at: Instant, packet: &Packet, reason: DropReason) {
        for (_, tap) in &self.taps.list {
            tap.lost(at, packet, reason);
        }
    }

    /// Says what became of the frame that came in last.
    pub(crate) fn show_taken_in(&self, at: Instant, refused: Option<DropReason>) {
        for (_, tap) in &self.taps.list {
            tap.taken_in(at, refused);
        }
    }
}
