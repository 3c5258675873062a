//! The thread that carries frames between a port and a line: a TAP or an emulator's socket.
//!
//! One thread serves both directions: a request from outside, its service by the vnet and the reply
//! can then happen without a thread switch. It sleeps in `poll(2)` on the line and on a bell, with a
//! timeout only while a frame is on an emulated link towards the outside.
//! [`Pump::stop`] rings the bell to end the thread. The guests of a listener have one thread together, which
//! carries for each in its turn (`turns`). A line with several queues has a thread for each (`lanes`).
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

mod lanes;
mod plug;
mod several;
mod shared;
mod stand;
mod turns;
mod worker;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};

use crate::line::Halves;
use crate::report::{PumpEnd, PumpReport};
use crate::sys::Bell;

pub(crate) use lanes::MOST_QUEUES;
pub(crate) use plug::{Plug, plug};
pub(crate) use several::Pumps;
pub(crate) use turns::Turns;

pub(crate) use shared::may_wait;
use shared::{CARRIES, Counters, GO_ON, HAND_OVER, OWN, STOP, Shared};
use stand::Stand;
use worker::{Left, Worker};

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

impl Pump {
    /// Starts the thread, under this name. At most so many bytes of frames wait for room on the line. It looks for more
    /// for so long before it sleeps, as long as it has the thread alone.
    pub(crate) fn start(
        name: &str,
        (inward, mut outward): Halves,
        mut plug: Plug<'_>,
        queue_bytes: usize,
        busy_poll: Duration,
    ) -> io::Result<Pump> {
        let port = plug.port()?;
        port.set_queue_limit(queue_bytes - outward.keep(queue_bytes).min(queue_bytes));
        let port = Arc::new(port);
        let retry_after = outward.retry_after();
        let shared = Shared::of(outward, &port, None)?;
        // Before the port knows of all this, which would keep it if this failed. What has to be looked at again, whatever
        // polling says, is left to one thread, and so is what never sleeps.
        let is_lent = !inward.needs_a_thread() && inward.look_again().is_none();
        let stand = match is_lent && busy_poll.is_zero() {
            true => Some(Stand::new(&shared, &*inward)?),
            false => None,
        };
        let told = Arc::clone(&shared);
        let about = Arc::downgrade(&port);
        port.on_ready(Arc::new(move || told.sent(&about)));
        let system = plug.system();
        let to_port = Arc::clone(&port);
        let mut worker = Worker::new(name, shared, inward, port, system, retry_after, busy_poll);
        worker.stand = stand.clone();
        let pump = Pump::of(worker)?;
        if let Some(stand) = stand {
            let line: Weak<Stand> = Arc::downgrade(&stand);
            to_port.attended_through(line);
        }
        plug.keep();
        Ok(pump)
    }

    /// Starts the thread of a worker.
    fn of(worker: Worker) -> io::Result<Pump> {
        let shared = Arc::clone(&worker.shared);
        let is_alone = worker.inward.needs_a_thread();
        let builder = Builder::new().name(worker.name.clone());
        let worker = Box::new(worker);
        let thread = builder.spawn(move || {
            CARRIES.set(Some(OWN));
            worker.carry_until_the_end()
        })?;
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
            queues_in,
            queues_out,
        } = &self.shared.counters;
        let [frames_in, frames_out] = [frames_in, frames_out].map(|n| n.load(Ordering::Relaxed));
        let of = |frames, queues: &AtomicU32| match frames {
            0 => 0,
            _ => queues.load(Ordering::Relaxed),
        };
        PumpReport {
            frames_in,
            frames_out,
            queues_in: of(frames_in, queues_in),
            queues_out: of(frames_out, queues_out),
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

#[cfg(test)]
mod tests;
