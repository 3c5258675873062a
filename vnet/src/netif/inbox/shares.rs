//! How much of an inbox each wire uses, and how much more it may.
//!
//! A wire may use up to [`GREED`] times as much as is left free (the dynamic thresholds of Choudhury
//! and Hahne, 1998). So a wire that is alone has four fifths of the inbox, two that are both greedy
//! have four ninths each, and however many take what they can, something stays free for one that has
//! been silent so far. Nothing depends on how many wires there are, and nothing has to be told when
//! one comes or goes.
//!
//! What VLAN interfaces in other vnets send comes into the inbox of their parent's vnet, each on an
//! account of its own ([`Payer`]): neither the parent's wire pays for it, nor one guest for another.

use std::collections::BTreeMap;

use slotmap::SecondaryMap;

use crate::base::id::IfId;
use crate::packet::tag::Tpid;

/// How many times what is left free a wire may use. It is also how small a limit has to be for a wire
/// that is alone to reach it.
pub(super) const GREED: usize = 4;

/// Frames, and what they cost in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
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

/// Whose share a frame takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    /// That of the wire that ends at an interface; of none, at a port's outside end.
    Wire(Option<IfId>),
    /// That of a VLAN interface in another vnet: its parent, and which of the parent's VLANs it is.
    Lent(Option<IfId>, Lent),
}

/// The protocol and the VID of a VLAN; `None` is one without a tag.
type Lent = Option<(Tpid, u16)>;

/// Accounts of VLAN interfaces that are kept at least before those without frames are closed.
const LENT_KEPT: usize = 16;

/// What is used of an inbox: in all, and by each wire.
#[derive(Debug)]
pub(super) struct Shares {
    limit: Load,
    used: Load,
    /// By the interface at which a wire ends.
    wires: Option<SecondaryMap<IfId, Share>>,
    /// By the VLAN interface in another vnet that sent it.
    lent: BTreeMap<(Option<IfId>, Lent), Share>,
    /// How many of these there may be before those without frames are closed.
    lent_room: usize,
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

impl Share {
    /// This share, from which all is gone that was there before the emptying of that number.
    #[inline]
    fn since(&mut self, emptied: u64) -> &mut Share {
        if self.emptied != emptied {
            *self = Share {
                used: Load::default(),
                emptied,
            };
        }
        self
    }
}

impl Shares {
    /// Nothing is used of `limit`.
    pub(super) fn new(limit: Load) -> Shares {
        Shares {
            limit,
            used: Load::default(),
            wires: None,
            lent: BTreeMap::new(),
            lent_room: LENT_KEPT,
            other: Share::default(),
            emptied: 0,
        }
    }

    /// What is used in all.
    #[inline]
    pub(super) fn used(&self) -> Load {
        self.used
    }

    /// What `payer` uses.
    pub(super) fn of(&mut self, payer: Payer) -> Load {
        self.share(payer).used
    }

    /// Accounts of VLAN interfaces in other vnets.
    #[cfg(test)]
    pub(super) fn lent_accounts(&self) -> usize {
        self.lent.len()
    }

    /// How many frames there may be.
    pub(super) fn max_frames(&self) -> usize {
        self.limit.frames
    }

    /// True when less is allowed than this.
    pub(super) fn is_narrow(&self, frames: usize, bytes: usize) -> bool {
        self.limit.frames < frames || self.limit.bytes < bytes
    }

    /// Changes how many frames there may be. What is there stays.
    pub(super) fn set_max_frames(&mut self, frames: usize) {
        self.limit.frames = frames;
    }

    /// Changes how many bytes there may be. What is there stays.
    pub(super) fn set_max_bytes(&mut self, bytes: usize) {
        self.limit.bytes = bytes;
    }

    /// The limit of which a payer that is alone may use `bytes`.
    pub(super) fn of_one(bytes: usize) -> usize {
        bytes.saturating_add(bytes.div_ceil(GREED))
    }

    /// Counts a frame that costs so many bytes, if `payer` may have it, and says how much it uses now.
    #[inline]
    pub(super) fn take(&mut self, payer: Payer, bytes: usize) -> Option<Load> {
        let frames_left = self.limit.frames.saturating_sub(self.used.frames);
        let bytes_left = self.limit.bytes.saturating_sub(self.used.bytes);
        let emptied = self.emptied;
        let known = match (payer, &mut self.wires) {
            (Payer::Wire(Some(ifid)), Some(wires)) => wires.get_mut(ifid),
            _ => None,
        };
        let share = match known {
            Some(share) => share.since(emptied),
            None => self.share(payer),
        };
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
    pub(super) fn give(&mut self, payer: Payer, bytes: usize) {
        self.used.remove(bytes);
        let emptied = self.emptied;
        // Of an interface that is gone nothing is known any more.
        let share = match (payer, &mut self.wires) {
            (Payer::Wire(Some(ifid)), Some(wires)) => wires.get_mut(ifid),
            (Payer::Lent(parent, vlan), _) => self.lent.get_mut(&(parent, vlan)),
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

    /// What `payer` uses.
    fn share(&mut self, payer: Payer) -> &mut Share {
        let emptied = self.emptied;
        let share = match payer {
            Payer::Wire(ifid) => self.share_of_wire(ifid),
            Payer::Lent(parent, vlan) => self.share_of_lent(parent, vlan),
        };
        share.since(emptied)
    }

    #[cold]
    fn share_of_lent(&mut self, parent: Option<IfId>, vlan: Lent) -> &mut Share {
        if self.lent.len() >= self.lent_room && !self.lent.contains_key(&(parent, vlan)) {
            let emptied = self.emptied;
            self.lent
                .retain(|_, share| share.emptied == emptied && share.used.frames > 0);
            self.lent_room = 2 * self.lent.len() + LENT_KEPT;
        }
        self.lent.entry((parent, vlan)).or_default()
    }

    #[inline]
    fn share_of_wire(&mut self, ifid: Option<IfId>) -> &mut Share {
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
        share.unwrap_or(&mut self.other)
    }
}
