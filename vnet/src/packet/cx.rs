//! What a layer is given besides its own state: the time, randomness, counters and a place for
//! what should happen outside the vnet. Nothing here is reached in any other way.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use super::buf::Packet;
use crate::base::callback;
use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::base::time::Instant;

/// The context of one entry into a stack.
pub(crate) struct Cx<'a> {
    /// The time of this entry; it does not move while the entry lasts.
    pub now: Instant,
    /// The vnet's random stream.
    pub rng: &'a mut Rng,
    /// The vnet's counters.
    pub stats: &'a mut Stats,
    /// Effects on others, carried out at the end of the entry.
    pub out: &'a mut Out,
}

/// Effects on others, collected during an entry. At its end, what is sent is put into the queues of
/// its receivers, in the order of the entries: the vnet's lock is still held. They hear of it, and
/// waiters are woken, after the lock is released.
#[derive(Default)]
pub(crate) struct Out {
    /// Frames for the other end of a wire, and when each arrives there.
    frames: Vec<(Instant, Packet)>,
    /// Where they go, in order.
    runs: Vec<Run>,
    /// Wires whose state the far end should hear of.
    pub carrier: Vec<(Arc<dyn Sink>, Carrier)>,
    /// Who is to be told of what was put into queues, and when it arrives.
    rings: Vec<(Arc<dyn Bell>, Instant)>,
    /// Waiters to wake.
    pub wakes: Vec<Waker>,
    /// When links that hold frames want to be looked at, by interface. Not an effect on others: it is
    /// for the vnet's own table of interfaces, which no interface can reach.
    pub link_deadlines: Vec<(IfId, Instant)>,
    /// The panic of a callback that was called under the lock, for whoever made the entry.
    pub panic: Option<callback::Payload>,
    /// What the entry may have changed: how much there is to do at its end.
    pub extent: Extent,
}

/// What an entry may have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Anything.
    #[default]
    All,
    /// What sockets hold, and what they and the frames that have come in send. Whatever else has changed in the stack is
    /// marked.
    Traffic,
    /// Nothing: a call has found that it would have to wait.
    Nothing,
}

/// Frames in a row that go to one place.
struct Run {
    /// The interface by whose link they leave, if they leave by one.
    from: Option<IfId>,
    /// Where they go.
    to: Arc<dyn Sink>,
    /// How many.
    frames: usize,
}

/// Whether a wire, or one direction of a link, carries frames.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// It does not: the far end is gone or down, or the link drops every frame.
    Down,
    /// It does.
    #[default]
    Up,
}

/// The far end of a wire, as seen by the sender: vnets meet only here.
pub(crate) trait Sink: Send + Sync {
    /// Queues `packet` for delivery at `at`. The receiver counts what it cannot take.
    fn push(&self, at: Instant, packet: Packet) -> Pushed;

    /// Queues frames, each with the time of its arrival, as [`Sink::push`] would one after the other.
    fn push_many(&self, frames: &mut dyn Iterator<Item = (Instant, Packet)>) -> PushedMany;

    /// Tells the far end at `at` that the near end came or went.
    fn carrier(&self, at: Instant, carrier: Carrier) -> Pushed;
}

/// Tells the owner of a queue that there will be something to take at a certain time.
pub(crate) trait Bell: Send + Sync {
    /// Something is due at `at`. Called without any lock.
    fn ring(&self, at: Instant);
}

/// What became of something that was sent.
pub(crate) enum Pushed {
    /// It is in a queue, whose owner is to be told, once the sender has no lock any more.
    Queued(Arc<dyn Bell>),
    /// It is not: the receiver has no room for it and has counted that, or is going.
    Refused,
    /// Nothing is plugged in at the far end. A frame of so many bytes is lost.
    Unplugged {
        /// Its length.
        len: usize,
    },
}

/// What became of several frames.
pub(crate) enum PushedMany {
    /// Those for which there is room are in a queue, whose owner is to be told of them.
    Queued(Arc<dyn Bell>, Arrivals),
    /// Nothing is plugged in at the far end. None was taken.
    Unplugged,
}

/// When frames arrive: the first of them, and each that arrives earlier than those before it.
pub(crate) type Arrivals = SmallVec<[Instant; 1]>;

impl Pushed {
    /// Tells the owner of the queue at once: the sender has no lock.
    pub(crate) fn ring(self, at: Instant) {
        if let Pushed::Queued(bell) = self {
            bell.ring(at);
        }
    }
}

impl Out {
    /// Sends a frame, which leaves by the link of `from`, to where it arrives at `at`.
    #[inline]
    pub(crate) fn send<S: Sink + 'static>(
        &mut self,
        from: Option<IfId>,
        to: &Arc<S>,
        at: Instant,
        packet: Packet,
    ) {
        match self.runs.last_mut() {
            Some(run)
                if run.from == from && std::ptr::addr_eq(Arc::as_ptr(&run.to), Arc::as_ptr(to)) =>
            {
                run.frames += 1;
            }
            _ => self.runs.push(Run {
                from,
                to: Arc::<S>::clone(to),
                frames: 1,
            }),
        }
        self.frames.push((at, packet));
    }

    /// True when nobody is to be told of anything.
    pub(crate) fn is_empty(&self) -> bool {
        // Together: mostly there is nothing, and each would be asked.
        let effects = self.rings.len() | self.wakes.len() | self.frames.len() | self.carrier.len();
        effects == 0 && self.panic.is_none()
    }

    /// True when an entry finds it as if nobody had used it before.
    pub(crate) fn is_as_new(&self) -> bool {
        self.is_empty() && self.link_deadlines.is_empty() && self.extent == Extent::default()
    }

    /// True when [`Out::deliver`] has something to do.
    #[inline]
    pub(crate) fn has_sent(&self) -> bool {
        !(self.frames.is_empty() && self.carrier.is_empty())
    }

    /// Puts what is sent into the queues of its receivers. `lost` is told of each frame that found
    /// nothing at the other end: the interface by whose link it left, and its length.
    pub(crate) fn deliver(&mut self, now: Instant, mut lost: impl FnMut(Option<IfId>, usize)) {
        let mut frames = self.frames.drain(..);
        for Run {
            from,
            to,
            frames: count,
        } in self.runs.drain(..)
        {
            if count == 1
                && let Some((at, packet)) = frames.next()
            {
                match to.push(at, packet) {
                    Pushed::Queued(bell) => note(&mut self.rings, bell, at),
                    Pushed::Refused => {}
                    Pushed::Unplugged { len } => lost(from, len),
                }
                continue;
            }
            let mut run = frames.by_ref().take(count);
            match to.push_many(&mut run) {
                PushedMany::Queued(bell, arrivals) => {
                    for at in arrivals {
                        note(&mut self.rings, Arc::clone(&bell), at);
                    }
                }
                PushedMany::Unplugged => run.for_each(|(_, packet)| lost(from, packet.frame_len())),
            }
        }
        drop(frames);
        // Hardly ever is there any.
        if self.carrier.is_empty() {
            return;
        }
        for (to, carrier) in self.carrier.drain(..) {
            if let Pushed::Queued(bell) = to.carrier(now, carrier) {
                note(&mut self.rings, bell, now);
            }
        }
    }

    /// Who is to be told that there is something in a queue, and who is to be woken, each in order;
    /// takes them out.
    pub(crate) fn concerned(
        &mut self,
    ) -> (
        impl Iterator<Item = (Arc<dyn Bell>, Instant)>,
        impl Iterator<Item = Waker>,
    ) {
        (self.rings.drain(..), self.wakes.drain(..))
    }
}

/// Notes whom to tell. Of a row of frames to one place the first one is enough, unless a later one
/// arrives earlier.
#[inline]
fn note(rings: &mut Vec<(Arc<dyn Bell>, Instant)>, bell: Arc<dyn Bell>, at: Instant) {
    if let Some((last, first)) = rings.last()
        && std::ptr::addr_eq(Arc::as_ptr(last), Arc::as_ptr(&bell))
        && *first <= at
    {
        return;
    }
    rings.push((bell, at));
}
