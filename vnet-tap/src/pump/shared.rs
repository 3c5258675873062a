//! What a pump's thread, those who send and the pump's owner share: what it is doing, and the way out, which whoever
//! has something to send may go.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use vnet::Port;
use vnet::packet::Packet;

use super::lanes::Lane;
use crate::line::{Outward, Written};
use crate::sys::Bell;

/// Frames carried in one direction before the other gets its turn.
pub(super) const BATCH: usize = 64;
/// Frames that a sender writes itself before it leaves the rest to the pump.
pub(super) const BATCH_OF_SENDER: usize = 4;
/// How often the processor is left to others while the vnet does not take what came, before it is waited for.
pub(super) const PATIENCE: u32 = 64;
/// How long it is waited for then.
pub(super) const PAUSE: Duration = Duration::from_micros(500);
/// Bytes in a frame from which on it is left to the pump.
pub(super) const LARGE: usize = 4096;

/// What the pump's thread shares with those who talk to it.
pub(super) struct Shared {
    pub(super) bell: Bell,
    /// What its owner asks for: [`GO_ON`], [`STOP`] or [`HAND_OVER`]; or, of those who have queues of the same line,
    /// another one: [`FOLLOW`].
    pub(super) asked: AtomicU8,
    /// The number of the thread that carries this and others; [`OWN`] while it has one of its own.
    pub(super) carried_by: AtomicUsize,
    /// Set once both ends have been let go.
    pub(super) ended: AtomicBool,
    /// Rung then.
    pub(super) on_end: OnceLock<Arc<Bell>>,
    /// What the thread is doing: [`BUSY`], [`ASLEEP`] or [`FULL`].
    pub(super) state: AtomicU8,
    /// The way out, for one thread at a time: frames keep their order. `None` once the pump
    /// has ended.
    pub(super) outward: Mutex<Option<Way>>,
    pub(super) counters: Counters,
}

pub(super) const GO_ON: u8 = 0;
pub(super) const STOP: u8 = 1;
/// That another thread is to go on.
pub(super) const HAND_OVER: u8 = 2;
/// That it carries out what is there, and ends.
pub(super) const FOLLOW: u8 = 3;

/// It carries frames, and looks for more before it sleeps.
pub(super) const BUSY: u8 = 0;
/// It sleeps or is about to, with nothing to carry out: there is something to do for a sender.
pub(super) const ASLEEP: u8 = 1;
/// It sleeps or is about to until there is room for what it has: only the end of the port is news.
pub(super) const FULL: u8 = 2;

thread_local! {
    /// Whether this is the thread of a pump ([`OWN`]) or of many (their number), or none.
    pub(super) static CARRIES: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of a thread that carries for one pump only. No other has it: the others' are addresses.
pub(super) const OWN: usize = 0;

/// Whether the calling thread may wait for a pump's thread to end: a pump's own may not, because two
/// could wait for each other, and one for itself.
pub(crate) fn may_wait() -> bool {
    CARRIES.get().is_none()
}

/// Frames by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) frames_in: AtomicU64,
    pub(super) frames_out: AtomicU64,
    /// By either side.
    pub(super) refused: AtomicU64,
    pub(super) wakeups: AtomicU64,
    /// By which frames came, and went, if any did.
    pub(super) queues_in: AtomicU32,
    pub(super) queues_out: AtomicU32,
}

impl Shared {
    /// Of a pump that carries frames to here, from a port or a lane of it.
    pub(super) fn of(
        to: Box<dyn Outward>,
        port: &Arc<Port>,
        lane: Option<Lane>,
    ) -> io::Result<Arc<Shared>> {
        Ok(Arc::new(Shared {
            bell: Bell::new()?,
            asked: AtomicU8::new(GO_ON),
            carried_by: AtomicUsize::new(OWN),
            ended: AtomicBool::new(false),
            on_end: OnceLock::new(),
            state: AtomicU8::new(BUSY),
            outward: Mutex::new(Some(Way {
                to,
                port: Arc::clone(port),
                lane,
                unwritten: None,
                ahead: None,
                answers: Vec::new(),
                failed: None,
            })),
            counters: Counters::default(),
        }))
    }

    /// The vnet has sent something, or is gone: called by the port, from any thread.
    pub(super) fn sent(&self, port: &Weak<Port>) {
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
    pub(super) fn end_the_wait(&self, port: &Weak<Port>) {
        if port.upgrade().is_none_or(|port| port.is_gone()) {
            self.wake(FULL);
        }
    }

    pub(super) fn wake(&self, from: u8) {
        let (to, order) = (BUSY, Ordering::SeqCst);
        if self.state.compare_exchange(from, to, order, order).is_ok() {
            self.bell.ring();
        }
    }

    pub(super) fn ring_for_the_end(&self) {
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
pub(super) enum Progress {
    /// A batch was carried, and more may be waiting.
    More,
    /// Nothing is waiting.
    Idle,
    /// Something is waiting, but there is no room for it now.
    Full,
}

/// From the vnet to the outside.
pub(super) struct Way {
    pub(super) to: Box<dyn Outward>,
    pub(super) port: Arc<Port>,
    /// Where its frames come from, if there are several queues. The port's are all its own otherwise.
    pub(super) lane: Option<Lane>,
    /// A frame that is next: there was no room for it, or it was left to the pump.
    pub(super) unwritten: Option<Packet>,
    /// The frame behind it, which could not be joined to it.
    pub(super) ahead: Option<Packet>,
    /// What the line answers itself, for the pump to send when it does not hold this.
    pub(super) answers: Vec<Bytes>,
    /// An error that a sender met, for the pump to end with.
    pub(super) failed: Option<io::Error>,
}

impl Way {
    /// The next frame, with the datagrams that follow it where the other side cuts them itself.
    pub(super) fn next(&mut self) -> Option<Packet> {
        let mut frame = self.unwritten.take().or_else(|| self.take())?;
        if frame.may_be_joined() && self.to.cuts_datagrams() {
            while let Some(next) = self.take() {
                if let Err(other) = frame.join(next) {
                    self.ahead = Some(other);
                    break;
                }
            }
        }
        Some(frame)
    }

    /// Takes a frame from where they wait.
    fn take(&mut self) -> Option<Packet> {
        self.ahead.take().or_else(|| match &self.lane {
            None => self.port.recv(),
            Some(lane) => lane.next(),
        })
    }

    /// Carries a batch.
    pub(super) fn carry(&mut self, counters: &Counters) -> io::Result<Progress> {
        // What has waited for room in vain is gone from the port's queue.
        let overflowed = self.port.take_overflowed();
        counters.refused.fetch_add(overflowed, Ordering::Relaxed);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for _ in 0..BATCH {
            let Some(packet) = self.next() else {
                return Ok(match self.flush(counters)? {
                    true => Progress::Idle,
                    false => Progress::Full,
                });
            };
            if !self.write(packet, counters)? {
                return Ok(Progress::Full);
            }
        }
        // A vnet that always has more may not keep what is written from being told.
        Ok(match self.flush(counters)? {
            true => Progress::More,
            false => Progress::Full,
        })
    }

    /// Writes what is left, and counts what was given up.
    fn flush(&mut self, counters: &Counters) -> io::Result<bool> {
        let flushed = self.to.flush();
        let lost = self.to.take_lost();
        counters
            .queues_out
            .store(self.to.queues(), Ordering::Relaxed);
        counters.frames_out.fetch_sub(lost, Ordering::Relaxed);
        counters.refused.fetch_add(lost, Ordering::Relaxed);
        flushed
    }

    /// Carries what is small, for the thread that has sent it. False when something is left, be it now
    /// or later.
    pub(super) fn carry_small(&mut self, counters: &Counters) -> bool {
        for _ in 0..BATCH_OF_SENDER {
            let Some(packet) = self.next() else {
                let flushed = self.flush(counters);
                return self.keep(flushed)
                    && self.answers.is_empty()
                    // What is on its way is nobody's lane yet.
                    && (self.lane.is_some() || self.port.next_arrival().is_none())
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
    pub(super) fn keep(&mut self, written: io::Result<bool>) -> bool {
        written.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            false
        })
    }

    /// Counts what is left when nothing more is carried.
    pub(super) fn give_up(&mut self, counters: &Counters) {
        // What can still be written is; the error that it ends with has been said.
        let _ = self.flush(counters);
        let unsent = self.to.unsent();
        counters.frames_out.fetch_sub(unsent, Ordering::Relaxed);
        let left = match &self.lane {
            None => self.port.close(),
            Some(lane) => lane.leave(),
        };
        let kept = [self.unwritten.take(), self.ahead.take()];
        let lost = unsent + kept.iter().flatten().count() as u64 + left;
        counters.refused.fetch_add(lost, Ordering::Relaxed);
    }

    /// Hands over a frame. False when there is no room, and the frame is kept.
    pub(super) fn write(&mut self, packet: Packet, counters: &Counters) -> io::Result<bool> {
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
