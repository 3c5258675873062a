//! A wire: two ends, each plugged into an interface's inbox or into the outside end of a port.
//! Ends can be plugged in and pulled at any time; what is sent towards an empty end is lost.

use std::sync::Arc;

use super::inbox::{Inbox, Item};
use crate::base::id::IfId;
use crate::base::lock::{Mutex, Rank};
use crate::base::time::Instant;
use crate::packet::Packet;
use crate::packet::cx::{Carrier, Sink};

/// Where one end of a wire is plugged in.
#[derive(Clone)]
pub struct Plug {
    /// The queue that frames for this end go to.
    pub inbox: Arc<Inbox>,
    /// The interface, when the inbox is a vnet's; `None` for the outside end of a port.
    pub ifid: Option<IfId>,
}

/// Which end of a [`Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The first end.
    A = 0,
    /// The second end.
    B = 1,
}

impl End {
    /// The other end.
    pub const fn far(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }
}

/// Two plugs that carry frames to each other.
pub struct Wire {
    ends: Mutex<Ends>,
}

struct Ends {
    plugs: [Option<Plug>; 2],
    /// What each end has told the other of itself. An interface that is plugged in late, or that
    /// moves while the news is in the inbox it leaves, hears it here.
    said: [Carrier; 2],
}

impl Wire {
    /// A wire with both ends loose.
    pub fn new() -> Arc<Wire> {
        Arc::new(Wire {
            ends: Mutex::new(
                Rank::Wire,
                Ends {
                    plugs: [None, None],
                    said: [Carrier::Up; 2],
                },
            ),
        })
    }

    /// Plugs `end` in, in place of what was there, and returns whether the far end is plugged in
    /// and up. Frames that were sent before go where it was plugged in then, those sent after go
    /// where it is now.
    pub fn plug(&self, end: End, plug: Plug) -> Carrier {
        let mut ends = self.ends.lock();
        ends.plugs[end as usize] = Some(plug);
        match ends.plugs[end.far() as usize] {
            Some(_) => ends.said[end.far() as usize],
            None => Carrier::Down,
        }
    }

    /// Pulls `end`. Frames on their way to it are its inbox's business.
    pub fn unplug(&self, end: End) {
        self.ends.lock().plugs[end as usize] = None;
    }

    /// Pulls `end`, and returns what the far end was told last of it.
    pub(crate) fn pull(&self, end: End) -> Carrier {
        let mut ends = self.ends.lock();
        ends.plugs[end as usize] = None;
        ends.said[end as usize]
    }

    /// Whether something is plugged in at `end`.
    pub fn is_plugged(&self, end: End) -> bool {
        self.ends.lock().plugs[end as usize].is_some()
    }

    /// What a sender at `end` sends to.
    pub fn sender(self: &Arc<Wire>, end: End) -> Arc<WireEnd> {
        Arc::new(WireEnd {
            wire: Arc::clone(self),
            far: end.far(),
        })
    }
}

/// The far end of a wire, as seen from the near one.
pub struct WireEnd {
    wire: Arc<Wire>,
    far: End,
}

impl WireEnd {
    /// What the far end is plugged into. The wire's lock is not held when the plug is used:
    /// whoever is behind it may do anything.
    fn far(&self) -> Option<Plug> {
        self.wire.ends.lock().plugs[self.far as usize].clone()
    }

    /// The wire and the end that the sender itself is plugged into.
    pub fn near(&self) -> (&Arc<Wire>, End) {
        (&self.wire, self.far.far())
    }
}

impl Sink for WireEnd {
    fn push(&self, at: Instant, mut packet: Packet) {
        if let Some(plug) = self.far() {
            packet.meta.rcvif = plug.ifid;
            packet.meta.arrived = at;
            plug.inbox.push(at, Item::Frame(packet));
        }
    }

    fn carrier(&self, at: Instant, mut carrier: Carrier) {
        let plug = {
            let mut ends = self.wire.ends.lock();
            let near = self.far.far() as usize;
            // News are told after the vnet was unlocked. What was pulled meanwhile is not up.
            if ends.plugs[near].is_none() {
                carrier = Carrier::Down;
            }
            ends.said[near] = carrier;
            ends.plugs[self.far as usize].clone()
        };
        if let Some(plug) = plug {
            let ifid = plug.ifid.unwrap_or_default();
            plug.inbox.push(at, Item::Carrier(ifid, carrier));
        }
    }
}

/// The way back to the vnet's own inbox: what is at the other end of a loopback interface.
pub(crate) struct Loop {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ifid: IfId,
}

impl Sink for Loop {
    fn push(&self, at: Instant, mut packet: Packet) {
        packet.meta.rcvif = Some(self.ifid);
        packet.meta.arrived = at;
        self.inbox.push(at, Item::Frame(packet));
    }

    fn carrier(&self, _at: Instant, _carrier: Carrier) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_that_come_after_the_plug_was_pulled_are_bad() {
        let wire = Wire::new();
        let plug = || Plug {
            inbox: Arc::new(Inbox::new()),
            ifid: None,
        };
        wire.plug(End::A, plug());
        let from_a = wire.sender(End::A);
        from_a.carrier(Instant::ZERO, Carrier::Up);
        assert_eq!(wire.plug(End::B, plug()), Carrier::Up);
        assert_eq!(wire.pull(End::A), Carrier::Up);
        from_a.carrier(Instant::ZERO, Carrier::Up);
        // Another one is plugged in, and has not said anything yet.
        wire.plug(End::A, plug());
        assert_eq!(wire.plug(End::B, plug()), Carrier::Down);
    }
}
