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

mod turns;

use std::cell::Cell;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, bounded};
use parking_lot::Mutex;
use vnet::packet::Packet;
use vnet::time::Instant;
use vnet::{AdminError, MacAddr, Offload, Port, System, Vnet};

use crate::line::{Frame, HEADER_LEN, Halves, Inward, Outward, Written};
use crate::report::{PumpEnd, PumpReport};
use crate::sys::{Bell, Interest, wait};

pub(crate) use turns::Turns;

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

/// The port of that name with nothing plugged in, or a new one, from which frames leave as the line takes
/// them. Frames that leave in the meantime have the old line's offload; a line that cannot take them
/// refuses them.
pub(crate) fn port(
    vnet: &Vnet,
    name: &str,
    mac: Option<MacAddr>,
    offload: Offload,
) -> Result<Port, AdminError> {
    let port = match vnet.plug_port(name) {
        Err(AdminError::NotFound(_)) => vnet.port(name, mac)?,
        plugged => plugged?,
    };
    vnet.set_offload(name, offload)?;
    Ok(port)
}

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
        port: Port,
        queue_bytes: usize,
        busy_poll: Duration,
        system: System,
    ) -> io::Result<Pump> {
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

/// What is carried next for a pump.
enum Next {
    /// There is more to carry.
    Turn,
    /// There is more, but the vnet has not taken what came before.
    Pause,
    /// Nothing until the line is ready, the bell rings, or so much time has passed.
    Sleep(Interest, Option<Duration>),
    End(PumpEnd),
}

struct Worker {
    /// What its thread is called.
    name: String,
    shared: Arc<Shared>,
    inward: Box<dyn Inward>,
    port: Arc<Port>,
    system: System,
    /// Of the way out.
    retry_after: Option<Duration>,
    /// Frames on their way in.
    batch: Vec<(Option<[u8; HEADER_LEN]>, Bytes)>,
    /// Bytes that are read in a turn: the frame with which they are reached is the last one.
    quantum: usize,
    /// By how much the last turn went beyond that.
    debt: usize,
    /// How long it looks for more before it sleeps.
    busy_poll: Duration,
    /// Since when it has found nothing, where it looks on.
    idle_since: Option<Instant>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The port knows `shared`, which must not keep the port.
        let way = self.shared.outward.lock().take();
        if let Some(mut way) = way {
            way.give_up(&self.shared.counters);
        }
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.ring_for_the_end();
    }
}

impl Worker {
    /// On a thread of its own.
    fn carry_until_the_end(mut self) -> Left {
        let mut pauses = 0;
        loop {
            if self.shared.asked.load(Ordering::SeqCst) == HAND_OVER {
                return Left::HandedOver(Box::new(self));
            }
            let next = self.turn();
            pauses = match next {
                Next::Pause => pauses + 1,
                _ => 0,
            };
            match next {
                Next::Turn => {}
                Next::Pause if pauses < PATIENCE => thread::yield_now(),
                Next::Pause => self.shared.bell.wait(PAUSE),
                Next::Sleep(interest, timeout) => {
                    let woken = wait(self.inward.fd(), &self.shared.bell, interest, timeout);
                    self.wake_up();
                    if let Err(error) = woken {
                        return Left::Ended(self.end_by(error));
                    }
                }
                Next::End(end) => return Left::Ended(end),
            }
        }
    }

    /// Carries a batch each way, and says what is to be done then.
    fn turn(&mut self) -> Next {
        if self.shared.asked.load(Ordering::SeqCst) == STOP {
            return Next::End(PumpEnd::Detached);
        }
        if self.port.is_gone() {
            // What the vnet has sent last may end connections of the other side's.
            while let Ok(Progress::More) = self.carry_out() {}
            return Next::End(PumpEnd::PortGone);
        }
        match self.carry() {
            Ok(next) => next,
            Err(error) => Next::End(self.end_by(error)),
        }
    }

    /// A socket that failed tells why once, to whoever comes first, and then only that it has ended.
    fn end_by(&self, error: io::Error) -> PumpEnd {
        let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        let kept = |way: &mut Way| way.failed.take().filter(|error| !is_end(error));
        let error = match is_end(&error) {
            false => error,
            true => match self.shared.outward.lock().as_mut().and_then(kept) {
                Some(error) => error,
                None => return PumpEnd::Closed,
            },
        };
        // Nobody may ask for a report.
        tracing::warn!(pump = self.name, %error, "what was attached has failed");
        PumpEnd::Device(error)
    }

    /// Carries a batch each way. It is asleep if there was nothing more to carry.
    fn carry(&mut self) -> io::Result<Next> {
        let inward = self.carry_in()?;
        let outward = self.carry_out()?;
        let idle_since = self.idle_since.take();
        match (inward, outward) {
            (Progress::More, _) | (_, Progress::More) => return Ok(Next::Turn),
            (Progress::Full, _) => return Ok(Next::Pause),
            (Progress::Idle, Progress::Idle) if !self.busy_poll.is_zero() => {
                let now = self.system.now();
                let since = idle_since.unwrap_or(now);
                if now.since(since) < self.busy_poll {
                    self.idle_since = Some(since);
                    return Ok(Next::Turn);
                }
            }
            (Progress::Idle, _) => {}
        }
        let (interest, timeout) = if outward == Progress::Full {
            // Frames that come now wait behind those that do; the end of the interface does not.
            self.shared.state.store(FULL, Ordering::SeqCst);
            if self.port.is_gone() {
                self.shared.state.store(BUSY, Ordering::SeqCst);
                return Ok(Next::Turn);
            }
            match self.retry_after {
                None => (Interest::ReadWrite, None),
                later => (Interest::Read, later),
            }
        } else {
            // What comes after the flag is set wakes the pump, or is written by who sent it; what came
            // before it, a frame or the end of the interface, is found by this look.
            self.shared.state.store(ASLEEP, Ordering::SeqCst);
            let last = self.carry_out();
            if !matches!(last, Ok(Progress::Idle)) || self.port.is_gone() {
                self.shared.state.store(BUSY, Ordering::SeqCst);
                return last.map(|_| Next::Turn);
            }
            let arrival = self.port.next_arrival();
            let timeout = arrival.map(|at| at.since(self.system.now()));
            (Interest::Read, timeout)
        };
        let look = self.inward.look_again();
        let timeout = timeout.into_iter().chain(look).min();
        Ok(Next::Sleep(interest, timeout))
    }

    /// It carries again after it has slept.
    fn wake_up(&self) {
        self.shared.state.store(BUSY, Ordering::SeqCst);
        self.shared.counters.wakeups.fetch_add(1, Ordering::Relaxed);
    }

    /// From outside into the vnet. There is no room while it has not taken what came before.
    fn carry_in(&mut self) -> io::Result<Progress> {
        // Whoever sends more than the vnet takes waits for it outside, where the sender notices, and takes no
        // room from others.
        if self.port.backlog() >= BATCH || self.port.backlog_bytes() >= self.quantum {
            return Ok(Progress::Full);
        }
        let allowed = self.quantum - self.debt;
        let mut read = 0;
        let mut outcome = Ok(Progress::More);
        while self.batch.len() < BATCH && read < allowed {
            match self.inward.read() {
                Ok(Some(Frame { header, bytes })) => {
                    read += bytes.len();
                    self.batch.push((header, bytes));
                }
                other => {
                    outcome = other.map(|_| Progress::Idle);
                    break;
                }
            }
        }
        self.debt = read.saturating_sub(allowed);
        let counters = &self.shared.counters;
        let lost = self.inward.take_lost();
        counters.refused.fetch_add(lost, Ordering::Relaxed);
        if !self.batch.is_empty() {
            let frames = self.batch.len() as u64;
            counters.frames_in.fetch_add(frames, Ordering::Relaxed);
            let refused = self.port.send_all(self.batch.drain(..)) as u64;
            counters.refused.fetch_add(refused, Ordering::Relaxed);
        }
        outcome
    }

    /// From the vnet to the outside.
    fn carry_out(&mut self) -> io::Result<Progress> {
        let (carried, answers) = match self.shared.outward.lock().as_mut() {
            Some(outward) => {
                let carried = outward.carry(&self.shared.counters);
                (carried, mem::take(&mut outward.answers))
            }
            None => return Ok(Progress::Idle),
        };
        for answer in answers {
            self.shared
                .counters
                .frames_in
                .fetch_add(1, Ordering::Relaxed);
            // A port that is gone has nobody who wants to know.
            if self.port.send(answer).is_err() {
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        carried
    }
}

#[cfg(test)]
mod tests;
