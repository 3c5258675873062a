//! One thread that carries the frames of many pumps, each in its turn.
//!
//! A turn is a batch each way, and so many bytes of what comes in: by what a frame goes beyond them, the next
//! turn is shorter (deficit round robin; Shreedhar and Varghese, 1995). Whoever is ready waits for one turn
//! of each of the others at most, so that guests that send as much as they can share evenly whatever the
//! sizes of their frames, and no scheduler has a say in it.
//!
//! ```text
//!  epoll ── a line is ready, or a bell has rung ──► queue of those who are ready ──► turn ──┐
//!    ▲                                                           ▲                          │
//!    └───────────────── nothing left to carry ──────────── more ─┴──────────────────────────┘
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::shared::{CARRIES, PATIENCE, PAUSE};
use super::worker::{Next, Worker};
use crate::line::MAX_FRAME_LEN;
use crate::report::PumpEnd;
use crate::sys::{Bell, Interest};

/// Bytes that come in by a turn. More than a frame has, so that each turn has one.
const QUANTUM: usize = 2 * MAX_FRAME_LEN;
/// Events taken from the kernel at once: there may be more, and they come with the next look.
const EVENTS: usize = 256;
/// In the data of an event: that it is the thread's own bell's.
const NEWS: u64 = u64::MAX;
/// In the data of an event: that the line is ready, and not the bell. The rest is the number of the seat.
const IS_LINE: u64 = 1;

/// The thread, and who may be given to it. Dropping it waits until all pumps there have ended.
#[derive(Debug)]
pub(crate) struct Turns {
    shared: Arc<Entrance>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with those who give it pumps.
struct Entrance {
    events: OwnedFd,
    /// Rung for new pumps, and for the end.
    bell: Bell,
    /// `None` when the thread takes nobody any more.
    arrivals: Mutex<Option<Vec<Seat>>>,
    stop: AtomicBool,
}

/// A pump that is carried here.
struct Seat {
    worker: Box<Worker>,
    end: Sender<thread::Result<PumpEnd>>,
    state: State,
    /// What the kernel has been asked to say of the line. It says it once.
    awaited: Option<Interest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is in the queue.
    Ready,
    /// It sleeps, at most until then.
    Asleep(Option<Instant>),
}

impl Turns {
    /// Starts the thread, under this name.
    pub(crate) fn start(name: &str) -> io::Result<Turns> {
        let shared = Arc::new(Entrance {
            events: epoll::create(CreateFlags::CLOEXEC)?,
            bell: Bell::new()?,
            arrivals: Mutex::new(Some(Vec::new())),
            stop: AtomicBool::new(false),
        });
        shared.listen_to(&shared.bell, NEWS)?;
        let entrance = Arc::clone(&shared);
        let thread = Builder::new().name(name.into()).spawn(move || {
            CARRIES.set(Some(entrance.number()));
            let mut room = Room {
                entrance: &entrance,
                seats: Vec::new(),
                free: Vec::new(),
                ready: VecDeque::new(),
                timed: BTreeSet::new(),
            };
            room.carry_until_the_end();
        })?;
        Ok(Turns {
            shared,
            thread: Some(thread),
        })
    }

    /// Takes a pump, and says where its end will be told.
    pub(super) fn seat(&self, mut worker: Box<Worker>) -> Receiver<thread::Result<PumpEnd>> {
        let (end, how) = bounded(1);
        worker.quantum = QUANTUM;
        worker.busy_poll = Duration::ZERO;
        let number = self.shared.number();
        worker.shared.carried_by.store(number, Ordering::Relaxed);
        let seat = Seat {
            worker,
            end,
            state: State::Asleep(None),
            awaited: None,
        };
        let refused = match self.shared.arrivals.lock().as_mut() {
            Some(arrivals) => {
                arrivals.push(seat);
                None
            }
            None => Some(seat),
        };
        // With the seat goes who would have told its end.
        drop(refused);
        self.shared.bell.ring();
        how
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // What panics in it is caught, and told to the pump's owner.
            let _ = thread.join();
        }
    }
}

impl Entrance {
    /// No two that are there at the same time have the same.
    fn number(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Each ring of a bell counts once, without being heard.
    fn listen_to(&self, bell: &Bell, data: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.events, bell, EventData::new_u64(data), flags)?;
        Ok(())
    }
}

impl std::fmt::Debug for Entrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entrance").finish_non_exhaustive()
    }
}

impl Seat {
    /// Has the kernel say when the line is ready, once.
    fn listen(&mut self, events: &OwnedFd, number: usize, interest: Interest) -> io::Result<()> {
        if self.awaited == Some(interest) {
            return Ok(());
        }
        let flags = match interest {
            Interest::Read => EventFlags::IN,
            Interest::ReadWrite => EventFlags::IN | EventFlags::OUT,
        };
        let data = EventData::new_u64((number as u64) << 1 | IS_LINE);
        let line = self.worker.inward.fd();
        epoll::modify(events, line, data, flags | EventFlags::ONESHOT)?;
        self.awaited = Some(interest);
        Ok(())
    }
}

/// What the thread has.
struct Room<'a> {
    entrance: &'a Entrance,
    seats: Vec<Option<Seat>>,
    /// Numbers of seats that nobody has.
    free: Vec<usize>,
    /// Those who have something to carry, by number. Each is there once.
    ready: VecDeque<usize>,
    /// Those who do not sleep for ever, by when they are due.
    timed: BTreeSet<(Instant, usize)>,
}

impl Room<'_> {
    fn carry_until_the_end(&mut self) {
        // Rounds in a row in which no vnet had taken what had come before.
        let mut pauses = 0;
        loop {
            let timeout = match self.ready.is_empty() {
                true => self.until_the_next_is_due(),
                false if pauses < PATIENCE => Some(Duration::ZERO),
                false => Some(PAUSE),
            };
            if let Err(errno) = self.hear(timeout) {
                // Of a set that is there, it does not say so.
                return self.give_up(errno);
            }
            self.wake_those_who_are_due();
            self.admit();
            let is_empty = self.free.len() == self.seats.len();
            if is_empty && self.entrance.stop.load(Ordering::SeqCst) {
                return;
            }
            pauses = match self.round() {
                true => 0,
                false => {
                    thread::yield_now();
                    pauses + 1
                }
            };
        }
    }

    /// One turn for each that is ready now. False when all there is to carry waits for a vnet.
    fn round(&mut self) -> bool {
        let mut has_carried = self.ready.is_empty();
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else {
                break;
            };
            has_carried |= self.turn(number);
        }
        has_carried
    }

    /// The turn of one. False when its vnet has not taken what came before.
    fn turn(&mut self, number: usize) -> bool {
        let Some(Some(seat)) = self.seats.get_mut(number) else {
            return true;
        };
        // A panic is somebody's whom the frames were for: it ends this pump and no other.
        let next = catch_unwind(AssertUnwindSafe(|| seat.worker.turn()));
        let ended = match next {
            Ok(Next::Turn) => {
                self.ready.push_back(number);
                return true;
            }
            Ok(Next::Pause) => {
                self.ready.push_back(number);
                return false;
            }
            Ok(Next::Sleep(interest, timeout)) => {
                match seat.listen(&self.entrance.events, number, interest) {
                    Ok(()) => {
                        let due = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
                        seat.state = State::Asleep(due);
                        self.timed.extend(due.map(|due| (due, number)));
                        return true;
                    }
                    Err(error) => Ok(seat.worker.end_by(error)),
                }
            }
            Ok(Next::End(end)) => Ok(end),
            Err(payload) => Err(payload),
        };
        self.leave(number, ended);
        true
    }

    /// A pump has ended.
    #[cold]
    fn leave(&mut self, number: usize, ended: thread::Result<PumpEnd>) {
        let Some(seat) = self.seats.get_mut(number).and_then(Option::take) else {
            return;
        };
        self.free.push(number);
        let Seat { worker, end, .. } = seat;
        // Somebody else may have the same socket open.
        let _ = epoll::delete(&self.entrance.events, worker.inward.fd());
        let _ = epoll::delete(&self.entrance.events, &worker.shared.bell);
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(worker)));
        // Its owner may not want to know.
        let _ = end.send(dropped.and(ended));
    }

    /// Gives those who have come a seat, and their first turn.
    fn admit(&mut self) {
        let arrivals = self.entrance.arrivals.lock().as_mut().map(mem::take);
        for mut seat in arrivals.into_iter().flatten() {
            let number = self.free.pop().unwrap_or_else(|| {
                self.seats.push(None);
                self.seats.len() - 1
            });
            let events = &self.entrance.events;
            let line = seat.worker.inward.fd();
            // Nothing is said of it before it sleeps.
            let none = EventData::new_u64((number as u64) << 1 | IS_LINE);
            let listened = epoll::add(events, line, none, EventFlags::ONESHOT)
                .map_err(io::Error::from)
                .and_then(|()| {
                    let bell = &seat.worker.shared.bell;
                    self.entrance.listen_to(bell, (number as u64) << 1)
                });
            seat.state = State::Ready;
            let failed = listened.err().map(|error| seat.worker.end_by(error));
            self.seats[number] = Some(seat);
            match failed {
                Some(end) => self.leave(number, Ok(end)),
                None => self.ready.push_back(number),
            }
        }
    }

    /// Waits for whoever becomes ready.
    fn hear(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        let heard = |result: Result<usize, Errno>| match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        };
        let set = &self.entrance.events;
        if timeout != Some(Duration::ZERO) {
            // A time that has no `Timespec` is 292 billion years away. The set's own wait counts in milliseconds,
            // which are longer than the delays of many links.
            let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
            let mut set = [PollFd::new(set, PollFlags::IN)];
            heard(poll(&mut set, timeout.as_ref()))?;
        }
        let mut events = Vec::with_capacity(EVENTS);
        let room = spare_capacity(&mut events);
        heard(epoll::wait(set, room, Some(&Timespec::default())))?;
        for event in events {
            let data = event.data.u64();
            if data == NEWS {
                continue;
            }
            let number = (data >> 1) as usize;
            // The seat may be another's by now, who has a turn more for it.
            if let Some(Some(seat)) = self.seats.get_mut(number)
                && data & IS_LINE != 0
            {
                seat.awaited = None;
            }
            self.wake(number);
        }
        Ok(())
    }

    /// Puts a pump that sleeps in the queue.
    fn wake(&mut self, number: usize) {
        if let Some(Some(seat)) = self.seats.get_mut(number)
            && let State::Asleep(due) = mem::replace(&mut seat.state, State::Ready)
        {
            if let Some(due) = due {
                self.timed.remove(&(due, number));
            }
            seat.worker.wake_up();
            self.ready.push_back(number);
        }
    }

    /// How long until somebody who sleeps is due; `None` when nobody is.
    fn until_the_next_is_due(&self) -> Option<Duration> {
        let (due, _) = self.timed.first()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn wake_those_who_are_due(&mut self) {
        if self.timed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((due, number)) = self.timed.first().copied()
            && due <= now
        {
            self.timed.pop_first();
            self.wake(number);
        }
    }

    /// Nothing can be waited for any more.
    #[cold]
    fn give_up(&mut self, errno: Errno) {
        for number in 0..self.seats.len() {
            self.leave(number, Ok(PumpEnd::Device(errno.into())));
        }
        // Whoever is given to this now is told that nobody is here.
        let refused = self.entrance.arrivals.lock().take();
        drop(refused);
    }
}

#[cfg(test)]
mod tests;
