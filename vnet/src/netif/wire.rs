//! A wire: two ends, each plugged into an interface's inbox or into the outside end of a port.
//! Ends can be plugged in and pulled at any time; what is sent towards an empty end is lost.

use std::sync::Arc;

use super::inbox::{Inbox, Item, Load, News};
use crate::base::id::IfId;
use crate::base::lock::{Mutex, Rank};
use crate::base::time::Instant;
use crate::packet::Packet;
use crate::packet::cx::{Carrier, Pushed, PushedMany, Sink};

/// Where one end of a wire is plugged in.
#[derive(Clone)]
pub(crate) struct Plug {
    /// The queue that frames for this end go to.
    pub inbox: Arc<Inbox>,
    /// The interface, when the inbox is a vnet's; `None` for the outside end of a port.
    pub ifid: Option<IfId>,
}

/// Which end of a [`Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// The first end.
    A = 0,
    /// The second end.
    B = 1,
}

impl End {
    /// The other end.
    pub(crate) const fn far(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }
}

/// Two plugs that carry frames to each other.
pub(crate) struct Wire {
    ends: Mutex<Ends>,
}

struct Ends {
    plugs: [Option<Plug>; 2],
    /// What each end has told the other of itself last. An interface that is plugged in late, or that
    /// moves while the news is in the inbox it leaves, hears it here.
    said: [News; 2],
}

impl Ends {
    /// Notes what `end` tells of itself. What is not plugged in is not up.
    fn say(&mut self, end: End, carrier: Carrier) -> News {
        let said = &mut self.said[end as usize];
        said.number += 1;
        said.carrier = match self.plugs[end as usize] {
            Some(_) => carrier,
            None => Carrier::Down,
        };
        *said
    }

    /// What there is to know of `end`.
    fn known(&self, end: End) -> News {
        let said = self.said[end as usize];
        match self.plugs[end as usize] {
            Some(_) => said,
            None => News {
                carrier: Carrier::Down,
                ..said
            },
        }
    }
}

impl Wire {
    /// A wire with both ends loose.
    pub(crate) fn new() -> Arc<Wire> {
        Arc::new(Wire {
            ends: Mutex::new(
                Rank::Wire,
                Ends {
                    plugs: [None, None],
                    said: [News {
                        carrier: Carrier::Up,
                        number: 0,
                    }; 2],
                },
            ),
        })
    }

    /// Plugs `end` in, in place of what was there, and returns what there is to know of the far end:
    /// what is on its way here and not newer is old by then. Frames that were sent before go where
    /// it was plugged in then, those sent after go where it is now.
    pub(crate) fn plug(&self, end: End, plug: Plug) -> News {
        let mut ends = self.ends.lock();
        ends.plugs[end as usize] = Some(plug);
        ends.known(end.far())
    }

    /// Plugs in something that is up from the first, and returns what the far end is to know of it.
    pub(crate) fn plug_in(&self, end: End, plug: Plug) -> News {
        let mut ends = self.ends.lock();
        ends.plugs[end as usize] = Some(plug);
        ends.say(end, Carrier::Up)
    }

    /// What there is to know of `end`.
    pub(crate) fn known(&self, end: End) -> News {
        self.ends.lock().known(end)
    }

    /// Pulls `end`. Frames on their way to it are its inbox's business.
    pub(crate) fn unplug(&self, end: End) {
        self.ends.lock().plugs[end as usize] = None;
    }

    /// Pulls `end`, and tells the far end at `at` unless it knows. Whatever is plugged in here
    /// meanwhile is told of later than this.
    pub(crate) fn pull(&self, end: End, at: Instant) {
        let (news, far) = {
            let mut ends = self.ends.lock();
            ends.plugs[end as usize] = None;
            if ends.said[end as usize].carrier == Carrier::Down {
                return;
            }
            let news = ends.say(end, Carrier::Down);
            (news, ends.plugs[end.far() as usize].clone())
        };
        tell(far, at, news).ring(at);
    }

    /// Whether something is plugged in at `end`.
    pub(crate) fn is_plugged(&self, end: End) -> bool {
        self.ends.lock().plugs[end as usize].is_some()
    }

    /// What a sender at `end` sends to.
    pub(crate) fn sender(self: &Arc<Wire>, end: End) -> Arc<WireEnd> {
        Arc::new(WireEnd {
            wire: Arc::clone(self),
            far: end.far(),
        })
    }
}

/// The far end of a wire, as seen from the near one.
pub(crate) struct WireEnd {
    wire: Arc<Wire>,
    far: End,
}

impl WireEnd {
    /// What the far end is plugged into. The wire's lock is not held when the plug is used:
    /// whoever is behind it may do anything.
    fn far(&self) -> Option<Plug> {
        self.wire.ends.lock().plugs[self.far as usize].clone()
    }

    /// The inbox at the far end.
    pub(crate) fn far_inbox(&self) -> Option<Arc<Inbox>> {
        self.far().map(|plug| plug.inbox)
    }

    /// Frames sent here that have not been taken yet.
    pub(crate) fn waiting(&self) -> Load {
        let far = self.far();
        far.map(|plug| plug.inbox.waiting_from(plug.ifid))
            .unwrap_or_default()
    }

    /// The wire and the end that the sender itself is plugged into.
    pub(crate) fn near(&self) -> (&Arc<Wire>, End) {
        (&self.wire, self.far.far())
    }
}

/// Tells whoever is plugged in.
fn tell(plug: Option<Plug>, at: Instant, news: News) -> Pushed {
    match plug {
        None => Pushed::Refused,
        Some(plug) => {
            let ifid = plug.ifid.unwrap_or_default();
            plug.inbox.put(at, Item::Carrier(ifid, news))
        }
    }
}

impl Sink for WireEnd {
    fn push(&self, at: Instant, mut packet: Packet) -> Pushed {
        let Some(plug) = self.far() else {
            return Pushed::Unplugged {
                len: packet.frame_len(),
            };
        };
        packet.meta.rcvif = plug.ifid;
        packet.meta.arrived = at;
        plug.inbox.put(at, Item::Frame(packet))
    }

    fn push_many(&self, frames: &mut dyn Iterator<Item = (Instant, Packet)>) -> PushedMany {
        match self.far() {
            Some(plug) => plug.inbox.put_many(frames, plug.ifid, Item::Frame),
            None => PushedMany::Unplugged,
        }
    }

    fn carrier(&self, at: Instant, carrier: Carrier) -> Pushed {
        let (news, far) = {
            let mut ends = self.wire.ends.lock();
            let news = ends.say(self.far.far(), carrier);
            (news, ends.plugs[self.far as usize].clone())
        };
        tell(far, at, news)
    }
}

/// The way back to the vnet's own inbox: what is at the other end of a loopback interface.
pub(crate) struct Loop {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ifid: IfId,
}

impl Sink for Loop {
    fn push(&self, at: Instant, mut packet: Packet) -> Pushed {
        packet.meta.rcvif = Some(self.ifid);
        packet.meta.arrived = at;
        Arc::clone(&self.inbox).put(at, Item::Frame(packet))
    }

    fn push_many(&self, frames: &mut dyn Iterator<Item = (Instant, Packet)>) -> PushedMany {
        Arc::clone(&self.inbox).put_many(frames, Some(self.ifid), Item::Frame)
    }

    fn carrier(&self, _at: Instant, _carrier: Carrier) -> Pushed {
        Pushed::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug() -> Plug {
        Plug {
            inbox: Arc::new(Inbox::new()),
            ifid: None,
        }
    }

    #[test]
    fn news_that_come_after_the_plug_was_pulled_are_bad() {
        let wire = Wire::new();
        wire.plug(End::A, plug());
        let from_a = wire.sender(End::A);
        from_a.carrier(Instant::ZERO, Carrier::Up);
        assert_eq!(wire.plug(End::B, plug()).carrier, Carrier::Up);
        wire.pull(End::A, Instant::ZERO);
        from_a.carrier(Instant::ZERO, Carrier::Up);
        // Another one is plugged in, and has not said anything yet.
        wire.plug(End::A, plug());
        assert_eq!(wire.plug(End::B, plug()).carrier, Carrier::Down);
    }

    #[test]
    fn news_are_numbered_and_what_is_plugged_in_knows_the_last() {
        let wire = Wire::new();
        let first = wire.plug_in(End::A, plug());
        assert_eq!(
            (first.carrier, wire.plug(End::B, plug())),
            (Carrier::Up, first)
        );
        wire.pull(End::A, Instant::ZERO);
        let gone = wire.known(End::A);
        assert_eq!(
            (gone.carrier, gone.number),
            (Carrier::Down, first.number + 1)
        );
        wire.pull(End::A, Instant::ZERO);
        assert_eq!(wire.known(End::A), gone, "it is told once");
        assert_eq!(wire.plug_in(End::A, plug()).number, gone.number + 1);
    }
}
