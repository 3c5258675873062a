//! What carries the frames of one pump, on whichever thread that is: a batch each way, and what is to be waited for then.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use vnet::beside::{Clock, Trials};
use vnet::time::Instant;
use vnet::{Port, System};

use super::lanes::Lane;
use super::shared::{
    ASLEEP, BATCH, BUSY, FOLLOW, FULL, HAND_OVER, PATIENCE, PAUSE, Progress, STOP, Shared, Way,
};
use super::stand::{Looking, Stand};
use crate::line::{Frame, HEADER_LEN, Inward};
use crate::report::PumpEnd;
use crate::sys::{Interest, wait};

/// Why a thread of its own has left a pump.
#[derive(Debug)]
pub(super) enum Left {
    Ended(PumpEnd),
    /// Another one goes on with it.
    HandedOver(Box<Worker>),
}

/// What is carried next for a pump.
pub(super) enum Next {
    /// There is more to carry.
    Turn,
    /// There is more, but the vnet has not taken what came before.
    Pause,
    /// Nothing until the line is ready, the bell rings, or so much time has passed.
    Sleep(Interest, Option<Duration>),
    End(PumpEnd),
}

pub(super) struct Worker {
    /// What its thread is called.
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) inward: Box<dyn Inward>,
    pub(super) port: Arc<Port>,
    /// If there are several queues.
    pub(super) lane: Option<Lane>,
    pub(super) system: System,
    /// Of the way out.
    pub(super) retry_after: Option<Duration>,
    /// Frames on their way in.
    pub(super) batch: Vec<(Option<[u8; HEADER_LEN]>, Bytes)>,
    /// Bytes that are read in a turn: the frame with which they are reached is the last one.
    pub(super) quantum: usize,
    /// By how much the last turn went beyond that.
    pub(super) debt: usize,
    /// How long it looks for more before it sleeps.
    pub(super) busy_poll: Duration,
    /// Since when it has found nothing, where it looks on.
    pub(super) idle_since: Option<Instant>,
    /// How long it looks before it sleeps in any case, and what came of that.
    pub(super) spin: Duration,
    pub(super) trials: Trials,
    /// How it has ended at the hands of another thread.
    pub(super) ended: Option<PumpEnd>,
    /// Where others may take it, while its thread sleeps.
    pub(super) stand: Option<Arc<Stand>>,
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
        let lost = self.inward.take_last_lost();
        self.shared
            .counters
            .refused
            .fetch_add(lost, Ordering::Relaxed);
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.ring_for_the_end();
        if let Some(lane) = &self.lane {
            lane.end_the_others();
        }
    }
}

impl Worker {
    pub(super) fn new(
        name: &str,
        shared: Arc<Shared>,
        inward: Box<dyn Inward>,
        port: Arc<Port>,
        system: System,
        retry_after: Option<Duration>,
        busy_poll: Duration,
    ) -> Worker {
        // What has a thread of its own has ways of its own to look again.
        let spin = match busy_poll.is_zero() && !inward.needs_a_thread() {
            true => Clock::of(&system).spin_at_a_line(),
            false => Duration::ZERO,
        };
        Worker {
            name: name.to_owned(),
            shared,
            inward,
            port,
            lane: None,
            system,
            retry_after,
            batch: Vec::with_capacity(BATCH),
            quantum: usize::MAX,
            debt: 0,
            busy_poll,
            idle_since: None,
            spin,
            trials: Trials::new(),
            ended: None,
            stand: None,
        }
    }

    /// On a thread of its own.
    pub(super) fn carry_until_the_end(mut self: Box<Self>) -> Left {
        let mut pauses = 0;
        loop {
            if self.shared.asked.load(Ordering::SeqCst) == HAND_OVER {
                self.stand = None;
                return Left::HandedOver(self);
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
                    let is_quiet = interest == Interest::Read && timeout.is_none();
                    if is_quiet && self.finds_more() {
                        self.shared.state.store(BUSY, Ordering::SeqCst);
                        continue;
                    }
                    let woken = match self.stand.take_if(|stand| stand.is_wanted() && is_quiet) {
                        Some(stand) => {
                            let (worker, woken) = stand.sleep(self);
                            self = worker;
                            self.stand = Some(stand);
                            woken
                        }
                        None => {
                            wait(self.inward.fd(), &self.shared.bell, interest, timeout).map(drop)
                        }
                    };
                    self.wake_up();
                    if let Err(error) = woken {
                        return Left::Ended(self.end_by(error));
                    }
                }
                Next::End(end) => return Left::Ended(end),
            }
        }
    }

    /// Looks for more for a while before it sleeps, unless somebody who waits wants to do so. In the meantime it counts as
    /// asleep: senders write themselves.
    fn finds_more(&self) -> bool {
        let Some(end) = self.trials.spins_until(|| self.system.now(), self.spin) else {
            return false;
        };
        let asked = self.stand.as_ref().map(|stand| stand.while_it_looks());
        loop {
            let now = Some(Duration::ZERO);
            let ready = wait(self.inward.fd(), &self.shared.bell, Interest::Read, now);
            if ready.unwrap_or(false) {
                self.trials.note(self.system.now() >= end);
                return true;
            }
            if asked.as_ref().is_some_and(Looking::is_asked_for) {
                return false;
            }
            if self.system.now() >= end {
                self.trials.note(true);
                return false;
            }
        }
    }

    /// Carries a batch each way, and says what is to be done then.
    pub(super) fn turn(&mut self) -> Next {
        if let Some(end) = self.ended.take() {
            return Next::End(end);
        }
        match self.shared.asked.load(Ordering::SeqCst) {
            STOP => return Next::End(PumpEnd::Detached),
            FOLLOW => {
                while let Ok(Progress::More) = self.carry_out() {}
                return Next::End(PumpEnd::Detached);
            }
            _ => {}
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
    pub(super) fn end_by(&self, error: io::Error) -> PumpEnd {
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
            let has_more = self.lane.as_ref().is_some_and(Lane::hand_out);
            if has_more || self.port.is_gone() {
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
    pub(super) fn wake_up(&self) {
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
            let queues = self.inward.queues();
            counters.queues_in.store(queues, Ordering::Relaxed);
            let refused = self.port.send_all(self.batch.drain(..)) as u64;
            counters.refused.fetch_add(refused, Ordering::Relaxed);
        }
        outcome
    }

    /// From the vnet to the outside.
    fn carry_out(&mut self) -> io::Result<Progress> {
        let has_more = self.lane.as_ref().is_some_and(Lane::hand_out);
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
        Ok(match carried? {
            Progress::Idle if has_more => Progress::More,
            progress => progress,
        })
    }
}
