//! How much of an inbox each wire uses, and how much more it may.
//!
//! A wire may use up to [`GREED`] times as much as is left free (the dynamic thresholds of Choudhury
//! and Hahne, 1998). So a wire that is alone has four fifths of the inbox, two that are both greedy
//! have four ninths each, and however many take what they can, something stays free for one that has
//! been silent so far. Nothing depends on how many wires there are, and nothing has to be told when
//! one comes or goes.

use slotmap::SecondaryMap;

use crate::base::id::IfId;

/// How many times what is left free a wire may use. It is also how small a limit has to be for a wire
/// that is alone to reach it.
const GREED: usize = 4;

/// Frames, and what they cost in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) frames: usize,
    pub(super) bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.frames -= 1;
        self.bytes -= bytes;
    }
}

/// What is used of an inbox: in all, and by each wire.
#[derive(Debug)]
pub(super) struct Shares {
    limit: Load,
    used: Load,
    /// By the interface at which a wire ends.
    wires: Option<SecondaryMap<IfId, Share>>,
    /// Of frames for no interface: those in a port's outside end.
    other: Share,
    /// How often the inbox was emptied at one stroke.
    emptied: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    used: Load,
    /// The emptying since which that has been counted.
    emptied: u64,
}

impl Shares {
    /// Nothing is used of `limit`.
    pub(super) fn new(limit: Load) -> Shares {
        Shares {
            limit,
            used: Load::default(),
            wires: None,
            other: Share::default(),
            emptied: 0,
        }
    }

    /// What is used in all.
    #[inline]
    pub(super) fn used(&self) -> Load {
        self.used
    }

    /// What the wire that ends at `ifid` uses.
    pub(super) fn of(&mut self, ifid: Option<IfId>) -> Load {
        self.share(ifid).used
    }

    /// How many frames there may be.
    pub(super) fn max_frames(&self) -> usize {
        self.limit.frames
    }

    /// Changes how many frames there may be. What is there stays.
    pub(super) fn set_max_frames(&mut self, frames: usize) {
        self.limit.frames = frames;
    }

    /// Counts a frame that costs so many bytes, if the wire that ends at `ifid` may have it, and
    /// says how much the wire uses now.
    #[inline]
    pub(super) fn take(&mut self, ifid: Option<IfId>, bytes: usize) -> Option<Load> {
        let frames_left = self.limit.frames.saturating_sub(self.used.frames);
        let bytes_left = self.limit.bytes.saturating_sub(self.used.bytes);
        let share = self.share(ifid);
        let fits = share.used.frames < frames_left.saturating_mul(GREED)
            && share.used.bytes < bytes_left.saturating_mul(GREED)
            && bytes <= bytes_left;
        if !fits {
            return None;
        }
        share.used.add(bytes);
        let used = share.used;
        self.used.add(bytes);
        Some(used)
    }

    /// Counts a frame off that was taken out.
    pub(super) fn give(&mut self, ifid: Option<IfId>, bytes: usize) {
        self.used.remove(bytes);
        let emptied = self.emptied;
        // Of an interface that is gone nothing is known any more.
        let share = match (ifid, &mut self.wires) {
            (Some(ifid), Some(wires)) => wires.get_mut(ifid),
            _ => None,
        };
        let share = share.unwrap_or(&mut self.other);
        if share.emptied == emptied && share.used.frames > 0 {
            share.used.remove(bytes.min(share.used.bytes));
        }
    }

    /// Everything was taken out.
    #[inline]
    pub(super) fn give_all(&mut self) {
        self.used = Load::default();
        self.emptied += 1;
    }

    /// What a wire uses.
    #[inline]
    fn share(&mut self, ifid: Option<IfId>) -> &mut Share {
        let known = match (ifid, &mut self.wires) {
            (Some(ifid), Some(wires)) => wires.contains_key(ifid),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if !known && let Some(ifid) = ifid {
            let wires = self.wires.get_or_insert_with(SecondaryMap::new);
            // An interface that is gone already, and whose place is another's, gets none.
            wires.insert(ifid, Share::default());
        }
        let share = match (ifid, &mut self.wires) {
            (Some(ifid), Some(wires)) => wires.get_mut(ifid),
            _ => None,
        };
        let share = share.unwrap_or(&mut self.other);
        if share.emptied != self.emptied {
            *share = Share {
                used: Load::default(),
                emptied: self.emptied,
            };
        }
        share
    }
}
