//! What is left of a stack that has panicked.
//!
//! Such a panic is a defect of the library's. It came in the middle of something, so nothing that a
//! protocol keeps can be trusted any more: nothing of it is asked to do anything, and what it holds
//! is only moved and dropped.

use super::Stack;
use crate::base::callback;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::link::Link;
use crate::netif::Netif;
use crate::netif::capture::Taps;
use crate::netif::member::Member;
use crate::netif::vlan::Above;
use crate::packet::Out;
use crate::packet::cx::{Carrier, Extent};

/// The parts of a stack that has failed. Dropping it wakes everybody who waits for a socket; it
/// must be dropped without the vnet's lock.
pub(crate) struct Wreck {
    /// Its interfaces.
    netifs: Vec<Netif>,
    /// Who watched those that it had borrowed, and what their links held.
    borrowed: Vec<(Taps, Option<Box<Link>>)>,
    /// Everything else.
    rest: Stack,
}

impl Wreck {
    /// Drops the parts one by one. What the program has put in may panic when it is dropped.
    pub(crate) fn clear_away(self) {
        let Wreck {
            netifs,
            borrowed,
            rest,
        } = self;
        for netif in netifs {
            callback::contained("the destructor of a capture or of a payload", || {
                drop(netif)
            });
        }
        for parts in borrowed {
            callback::contained("the destructor of a capture or of a payload", || {
                drop(parts)
            });
        }
        callback::contained("a waker or the destructor of a payload", || drop(rest));
    }
}

impl Stack {
    /// Takes everything out of a stack that has failed. What is left has no sockets, addresses and
    /// routes, and of the interfaces the borrowed ones, which belong to others, with fresh links.
    /// All wires are pulled, and their far ends will hear of it. Returns the wreck, and how many
    /// frames its links held.
    #[cold]
    pub(crate) fn give_up(&mut self, now: Instant, rng: &mut Rng, out: &mut Out) -> (Wreck, u64) {
        let mut rest = std::mem::replace(self, Stack::new(rng, ""));
        self.limits = std::mem::take(&mut rest.limits);
        // With it the fingerprints of what has passed.
        self.ifs = std::mem::take(&mut rest.ifs);
        out.link_deadlines.clear();
        // What the call would have left to do is nobody's, least of all that of the vnet that is given this next.
        out.extent = Extent::default();
        let mut wreck = Wreck {
            netifs: Vec::new(),
            borrowed: Vec::new(),
            rest,
        };
        let mut held = 0;
        for id in self.ifs.ids() {
            let Some(netif) = self.ifs.get_mut(id) else {
                continue;
            };
            held += netif.link.as_ref().map_or(0, |l| l.held_frames() as u64);
            if let Some(end) = netif.kind.wire() {
                let (wire, near) = end.near();
                wire.unplug(near);
                out.carrier.push((end.clone(), Carrier::Down));
            }
            if let Some(passage) = netif.kind.vlan().and_then(|v| v.away.as_ref()) {
                passage.close();
            }
            for above in std::mem::take(&mut netif.vlans).iter() {
                if let Above::Away(_, to) = above {
                    out.carrier.push((to.clone(), Carrier::Down));
                }
            }
            if netif.loan.is_none() {
                wreck.netifs.extend(self.ifs.remove(id));
                continue;
            }
            if let Some(Member::Lagg(member)) = netif.member {
                (netif.mac, netif.ip_mtu) = (member.mac, member.ip_mtu);
            }
            netif.member = None;
            let old = netif.link.take();
            let config = old.as_ref().map(|link| link.config().clone());
            let link = config.and_then(|c| Link::new(c, now, rng.split(LINK_STREAM)).ok());
            netif.link = link.map(Box::new);
            wreck.borrowed.push((std::mem::take(&mut netif.taps), old));
            self.ifs.disarm_link(id);
        }
        (wreck, held)
    }
}

/// Label of the random stream of a fresh link.
const LINK_STREAM: u64 = 0x6672_6573_686c;

/// Where a test lets a stack panic.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With a frame in hand that has come in.
    Frame,
    /// With a frame in hand that goes out.
    Output,
    /// Before what is due is done.
    Deadline,
    /// In the teardown of TCP.
    Teardown,
}

#[cfg(test)]
impl Stack {
    /// Panics if that was planted here.
    #[track_caller]
    pub(crate) fn pass(&self, place: Place) {
        assert!(self.planted != Some(place), "planted: {place:?}");
    }
}
