//! The thread that carries frames between a port and a line: a TAP or an emulator's socket.
//!
//! One thread serves both directions: a request from outside, its service by the vnet and the reply
//! can then happen without a thread switch. It sleeps in `poll(2)` on the line and on a bell, with a
//! timeout only while a frame is on an emulated link towards the outside.
//! [`Pump::stop`] rings the bell to end the thread. The guests of a listener have one thread together, which
//! carries for each in its turn (`turns`).
//!
//! The port says when the vnet has sent a frame, on the thread that sent it. While the pump sleeps, that
//! thread writes what is small itself ([`Shared::sent`]): for a reply, two thread switches are most of
//! the time that it takes. Anything more is left to the pump, so that the sender goes on meanwhile.
//!
//! ```text
//!        line ── read ──► Port::send ──► vnet
//!         ▲                               │
//!         └──── write ◄── Port::recv ◄────┘ (by the sender, or by the pump, which is woken)
//! ```

mod plug;
mod turns;
mod worker;

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;
use vnet::Port;
use vnet::packet::Packet;

use crate::line::{Halves, Outward, Written};
use crate::report::{PumpEnd, PumpReport};
use crate::sys::Bell;

pub(crate) use plug::{Plug, plug};
pub(crate) use turns::Turns;

use worker::{Next, Worker};

/// Frames carried in one direction before the other gets its turn.
const BATCH: usize = 64;
/// Frames that a sender writes itself before it leaves the rest to the pump.
const BATCH_OF_SENDER: usize = 4;
/// How often the processor is left to others while the vnet does not take what came, before it is waited for.
const PATIENCE: u32 = 64;
/// How long it is waited for then.
const PAUSE: Duration = Duration::from_micros(500);
/// Bytes in a frame from which on it is left to the pump.
const LARGE: usize = 4096;

/// A running pump.
#[derive(Debug)]
pub(crate) struct Pump {
    shared: Arc<Shared>,
    carrier: Option<Carrier>,
    /// Its line needs a thread of its own.
    is_alone: bool,
}

/// Who carries the frames.
#[derive(Debug)]
enum Carrier {
    /// A thread of its own.
    Own(JoinHandle<Left>),
    /// One that carries for others, too, and says here how it ended.
    Shared(Receiver<thread::Result<PumpEnd>>),
}

/// Why a thread of its own has left a pump.
#[derive(Debug)]
enum Left {
    Ended(PumpEnd),
    /// Another one goes on with it.
    HandedOver(Box<Worker>),
}

/// What the pump's thread shares with those who talk to it.
struct Shared {
    bell: Bell,
    /// What its owner asks for: [`GO_ON`], [`STOP`] or [`HAND_OVER`].
    asked: AtomicU8,
    /// The number of the thread that carries this and others; [`OWN`] while it has one of its own.
    carried_by: AtomicUsize,
    /// Set once both ends have been let go.
    ended: AtomicBool,
    /// Rung then.
    on_end: OnceLock<Arc<Bell>>,
    /// What the thread is doing: [`BUSY`], [`ASLEEP`] or [`FULL`].
    state: AtomicU8,
    /// The way out, for one thread at a time: frames keep their order. `None` once the pump
    /// has ended.
    outward: Mutex<Option<Way>>,
    counters: Counters,
}

const GO_ON: u8 = 0;
const STOP: u8 = 1;
/// That another thread is to go on.
const HAND_OVER: u8 = 2;

/// It carries frames, and looks for more before it sleeps.
const BUSY: u8 = 0;
/// It sleeps or is about to, with nothing to carry out: there is something to do for a sender.
const ASLEEP: u8 = 1;
/// It sleeps or is about to until there is room for what it has: only the end of the port is news.
const FULL: u8 = 2;

thread_local! {
    /// Whether this is the thread of a pump ([`OWN`]) or of many (their number), or none.
    static CARRIES: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of a thread that carries for one pump only. No other has it: the others' are addresses.
const OWN: usize = 0;

/// Whether the calling thread may wait for a pump's thread to end: a pump's own may not, because two
/// could wait for each other, and one for itself.
pub(crate) fn may_wait() -> bool {
    CARRIES.get().is_none()
}

/// Frames by what became of them.
#[derive(Debug, Default)]
struct Counters {
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    /// By either side.
    refused: AtomicU64,
    wakeups: AtomicU64,
}

impl Pump {
    /// Starts the thread, under this name. At most so many bytes of frames wait for room on the line. It looks for more
    /// for so long before it sleeps, as long as it has the thread alone.
    pub(crate) fn start(
        name: &str,
        (inward, outward): Halves,
        mut plug: Plug<'_>,
        queue_bytes: usize,
        busy_poll: Duration,
    ) -> io::Result<Pump> {
        let port = plug.port()?;
        let system = plug.system();
        port.set_queue_limit(queue_bytes);
        let port = Arc::new(port);
        let retry_after = outward.retry_after();
        let shared = Arc::new(Shared {
            bell: Bell::new()?,
            asked: AtomicU8::new(GO_ON),
            carried_by: AtomicUsize::new(OWN),
            ended: AtomicBool::new(false),
            on_end: OnceLock::new(),
            state: AtomicU8::new(BUSY),
            outward: Mutex::new(Some(Way {
                to: outward,
                port: Arc::clone(&port),
                unwritten: None,
                answers: Vec::new(),
                failed: None,
            })),
            counters: Counters::default(),
        });
        let told = Arc::clone(&shared);
        let about = Arc::downgrade(&port);
        port.on_ready(Arc::new(move || told.sent(&about)));
        let is_alone = inward.needs_a_thread();
        let worker = Worker {
            name: name.to_owned(),
            shared: Arc::clone(&shared),
            inward,
            port,
            system,
            retry_after,
            batch: Vec::with_capacity(BATCH),
            quantum: usize::MAX,
            debt: 0,
            busy_poll,
            idle_since: None,
        };
        let thread = Builder::new().name(name.into()).spawn(move || {
            CARRIES.set(Some(OWN));
            worker.carry_until_the_end()
        })?;
        plug.keep();
        Ok(Pump {
            shared,
            carrier: Some(Carrier::Own(thread)),
            is_alone,
        })
    }

    /// Has the frames carried by a thread that carries for others, too, each in its turn. A line that needs a thread of its
    /// own keeps it.
    pub(crate) fn share(&mut self, turns: &Turns) {
        let thread = match self.carrier.take() {
            Some(Carrier::Own(thread)) if !self.is_alone => thread,
            carrier => {
                self.carrier = carrier;
                return;
            }
        };
        self.shared.asked.store(HAND_OVER, Ordering::SeqCst);
        self.shared.bell.ring();
        let ended = match thread.join() {
            Ok(Left::HandedOver(worker)) => {
                self.shared.asked.store(GO_ON, Ordering::SeqCst);
                self.carrier = Some(Carrier::Shared(turns.seat(worker)));
                return;
            }
            Ok(Left::Ended(end)) => Ok(end),
            Err(payload) => Err(payload),
        };
        let (end, how) = bounded(1);
        let _ = end.send(ended);
        self.carrier = Some(Carrier::Shared(how));
    }

    /// What has been carried so far.
    pub(crate) fn report(&self) -> PumpReport {
        let Counters {
            frames_in,
            frames_out,
            refused,
            wakeups,
        } = &self.shared.counters;
        PumpReport {
            frames_in: frames_in.load(Ordering::Relaxed),
            frames_out: frames_out.load(Ordering::Relaxed),
            drops: refused.load(Ordering::Relaxed),
            wakeups: wakeups.load(Ordering::Relaxed),
            end: None,
        }
    }

    /// True while frames are carried.
    pub(crate) fn is_running(&self) -> bool {
        !self.shared.ended.load(Ordering::SeqCst)
    }

    /// Says who is told of the end. The first call counts.
    pub(crate) fn ring_at_the_end(&self, bell: Arc<Bell>) {
        let _ = self.shared.on_end.set(bell);
        if !self.is_running() {
            self.shared.ring_for_the_end();
        }
    }

    /// Stops the thread, which takes both ends with it, and says how it ended. A pump's own thread only
    /// asks for that, and does not wait.
    ///
    /// # Panics
    /// When the thread panicked, with the same payload.
    pub(crate) fn detach(mut self) -> PumpReport {
        let end = self.stop().map(|ended| match ended {
            Ok(end) => end,
            Err(payload) => std::panic::resume_unwind(payload),
        });
        PumpReport {
            end,
            ..self.report()
        }
    }

    /// Stops the thread, and says what was carried and how it ended; a panic of it has been printed.
    pub(crate) fn carried(mut self) -> PumpReport {
        let end = self.stop().and_then(Result::ok);
        PumpReport {
            end,
            ..self.report()
        }
    }

    /// How the thread ended; `None` when it has been stopped before, or is not waited for.
    fn stop(&mut self) -> Option<thread::Result<PumpEnd>> {
        let carrier = self.carrier.take()?;
        self.shared.asked.store(STOP, Ordering::SeqCst);
        self.shared.bell.ring();
        if !may_wait() {
            return None;
        }
        match carrier {
            Carrier::Own(thread) => match thread.join() {
                Ok(Left::Ended(end)) => Some(Ok(end)),
                // Nobody has asked for that.
                Ok(Left::HandedOver(_)) => None,
                Err(payload) => Some(Err(payload)),
            },
            Carrier::Shared(how) => how.recv().ok(),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A panic in the pump has been printed by its own thread; a second one while dropping would
        // abort the process.
        let _ = self.stop();
    }
}

impl Shared {
    /// The vnet has sent something, or is gone: called by the port, from any thread.
    fn sent(&self, port: &Weak<Port>) {
        match self.state.load(Ordering::SeqCst) {
            ASLEEP => {}
            FULL => return self.end_the_wait(port),
            // It looks once more before it sleeps.
            _ => return,
        }
        let here = self.carried_by.load(Ordering::Relaxed);
        if here != OWN && CARRIES.get() == Some(here) {
            // Its turn comes on this thread, when there may be more to write at once.
            return self.wake(ASLEEP);
        }
        // Whoever has the lock is not the pump, and may have looked before this frame came.
        let all_written = self.outward.try_lock().is_some_and(|mut outward| {
            outward
                .as_mut()
                .is_some_and(|outward| outward.carry_small(&self.counters))
        });
        if !all_written {
            self.wake(ASLEEP);
        }
    }

    /// Wakes a pump that waits for room, if there is nothing to wait for any more.
    #[cold]
    fn end_the_wait(&self, port: &Weak<Port>) {
        if port.upgrade().is_none_or(|port| port.is_gone()) {
            self.wake(FULL);
        }
    }

    fn wake(&self, from: u8) {
        let (to, order) = (BUSY, Ordering::SeqCst);
        if self.state.compare_exchange(from, to, order, order).is_ok() {
            self.bell.ring();
        }
    }

    fn ring_for_the_end(&self) {
        if let Some(bell) = self.on_end.get() {
            bell.ring();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("asked", &self.asked)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Whether there may be more to carry in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// A batch was carried, and more may be waiting.
    More,
    /// Nothing is waiting.
    Idle,
    /// Something is waiting, but there is no room for it now.
    Full,
}

/// From the vnet to the outside.
struct Way {
    to: Box<dyn Outward>,
    port: Arc<Port>,
    /// A frame that is next: there was no room for it, or it was left to the pump.
    unwritten: Option<Packet>,
    /// What the line answers itself, for the pump to send when it does not hold this.
    answers: Vec<Bytes>,
    /// An error that a sender met, for the pump to end with.
    failed: Option<io::Error>,
}

impl Way {
    /// The next frame.
    fn next(&mut self) -> Option<Packet> {
        self.unwritten.take().or_else(|| self.port.recv())
    }

    /// Carries a batch.
    fn carry(&mut self, counters: &Counters) -> io::Result<Progress> {
        // What has waited for room in vain is gone from the port's queue.
        let overflowed = self.port.take_overflowed();
        counters.refused.fetch_add(overflowed, Ordering::Relaxed);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for _ in 0..BATCH {
            let Some(packet) = self.next() else {
                return Ok(match self.to.flush()? {
                    true => Progress::Idle,
                    false => Progress::Full,
                });
            };
            if !self.write(packet, counters)? {
                return Ok(Progress::Full);
            }
        }
        Ok(Progress::More)
    }

    /// Carries what is small, for the thread that has sent it. False when something is left, be it now
    /// or later.
    fn carry_small(&mut self, counters: &Counters) -> bool {
        for _ in 0..BATCH_OF_SENDER {
            let Some(packet) = self.next() else {
                let flushed = self.to.flush();
                return self.keep(flushed)
                    && self.answers.is_empty()
                    && self.port.next_arrival().is_none()
                    && !self.port.is_gone();
            };
            if packet.len() >= LARGE {
                self.unwritten = Some(packet);
                return false;
            }
            let written = self.write(packet, counters);
            if !self.keep(written) {
                return false;
            }
        }
        false
    }

    /// Whether all was written. An error is kept: a socket tells it once.
    fn keep(&mut self, written: io::Result<bool>) -> bool {
        written.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            false
        })
    }

    /// Counts what is left when nothing more is carried.
    fn give_up(&mut self, counters: &Counters) {
        // What can still be written is; the error that it ends with has been said.
        let _ = self.to.flush();
        let unsent = self.to.unsent();
        counters.frames_out.fetch_sub(unsent, Ordering::Relaxed);
        let lost = unsent + u64::from(self.unwritten.take().is_some()) + self.port.close();
        counters.refused.fetch_add(lost, Ordering::Relaxed);
    }

    /// Hands over a frame. False when there is no room, and the frame is kept.
    fn write(&mut self, packet: Packet, counters: &Counters) -> io::Result<bool> {
        match self.to.write(packet) {
            Ok(Written::Yes) => counters.frames_out.fetch_add(1, Ordering::Relaxed),
            Ok(Written::Refused) => counters.refused.fetch_add(1, Ordering::Relaxed),
            Ok(Written::Answered(answer)) => {
                self.answers.push(answer);
                counters.frames_out.fetch_add(1, Ordering::Relaxed)
            }
            Ok(Written::Later(packet)) => {
                self.unwritten = Some(packet);
                return Ok(false);
            }
            Err(error) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
