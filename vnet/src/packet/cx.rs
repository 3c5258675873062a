//! What a layer is given besides its own state: the time, randomness, counters and a place for
//! what should happen outside the vnet. Nothing here is reached in any other way.

use std::sync::Arc;
use std::task::Waker;

use super::buf::Packet;
use crate::base::callback;
use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::time::Instant;

/// The context of one entry into a stack.
pub struct Cx<'a> {
    /// The time of this entry; it does not move while the entry lasts.
    pub now: Instant,
    /// The vnet's random stream.
    pub rng: &'a mut Rng,
    /// The vnet's counters.
    pub stats: &'a mut Stats,
    /// Effects on others, carried out after the vnet's lock is released.
    pub out: &'a mut Out,
}

/// Effects collected under a vnet's lock and carried out after it is released.
#[derive(Default)]
pub struct Out {
    /// Frames for the other end of a wire.
    pub frames: Vec<OutFrame>,
    /// Waiters to wake.
    pub wakes: Vec<Waker>,
    /// Wires whose state the far end should hear of.
    pub carrier: Vec<(Arc<dyn Sink>, Carrier)>,
    /// When links that hold frames want to be looked at, by interface. Not an effect on others: it is
    /// for the vnet's own table of interfaces, which no interface can reach.
    pub link_deadlines: Vec<(IfId, Instant)>,
    /// The panic of a callback that was called under the lock, for whoever made the entry.
    pub panic: Option<callback::Payload>,
}

/// A frame on its way to another vnet or to a port.
pub struct OutFrame {
    /// Where it goes.
    pub to: Arc<dyn Sink>,
    /// When it arrives there.
    pub at: Instant,
    /// The frame.
    pub packet: Packet,
}

/// Whether a wire can carry frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// Both ends are there.
    #[default]
    Up,
    /// The far end is gone or down.
    Down,
}

/// The far end of a wire, as seen by the sender: vnets meet only here.
pub trait Sink: Send + Sync {
    /// Queues `packet` for delivery at `at`. The receiver counts what it cannot take.
    fn push(&self, at: Instant, packet: Packet);

    /// Tells the far end at `at` that the near end came or went.
    fn carrier(&self, at: Instant, carrier: Carrier);
}

impl Out {
    /// True when there is nothing to carry out.
    pub fn is_empty(&self) -> bool {
        let is_quiet = self.carrier.is_empty() && self.panic.is_none();
        self.frames.is_empty() && self.wakes.is_empty() && is_quiet
    }
}
