//! Who waits for a socket: the tasks of one handle, in front of the vnet's own queue.
//!
//! A vnet keeps the wakers that it is given until the socket is ready, however long that takes. A future that is
//! dropped must leave nothing behind. So the vnet is given one waker for each direction, which belongs to the handle,
//! and the handle keeps the wakers of its tasks where a future can take its own back.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{Interest, Ready};
use tokio::runtime::Handle;
use tokio::task::coop;
use vnet::beside::{self, Clock};
use vnet::net::{Interest as Direction, Readiness};

use crate::host::{self, Host};

/// What is said to a task that would wait in vain.
const OF_ANOTHER_TIME: &str = "the socket's vnet has simulated time, and the tokio runtime that polls it has not: the \
    one would wait for the other for ever. Run the program on a vnet_tokio::Runtime of its vnet, or use \
    System::threads()";
const OF_ANOTHER_SYSTEM: &str = "the socket's vnet belongs to another System than the vnet_tokio::Runtime that polls \
    it, and lives in another time: run the program on a Runtime of a vnet of the socket's own System";

/// Copying so many bytes counts against a task's budget as an operation does, besides the operation itself: half a
/// mebibyte is all of it. So who reads has its turn while what was written is still in a processor's cache.
const BYTES_OF_AN_OPERATION: usize = 4096;

/// Checks that a task may wait for a socket that lives in the time of `clock`.
///
/// # Errors
/// The task belongs to a tokio runtime that does not know of that time.
fn admit(clock: &Clock, task: &Context<'_>) -> io::Result<()> {
    if let Some(host) = host::running() {
        return match host.clock() == clock {
            true => Ok(()),
            false => Err(io::Error::other(OF_ANOTHER_SYSTEM)),
        };
    }
    let waits_in_vain = clock.is_simulated()
        && Handle::try_current().is_ok()
        && !beside::is_polling()
        && !clock.wakes(task.waker());
    match waits_in_vain {
        true => Err(io::Error::other(OF_ANOTHER_TIME)),
        false => Ok(()),
    }
}

/// The tasks that wait for a socket, by direction.
pub(crate) struct Waiters {
    clock: Clock,
    read: Side,
    write: Side,
}

/// The tasks that wait for one direction.
struct Side {
    shared: Arc<Shared>,
    /// What the vnet is given.
    waker: Waker,
}

#[derive(Default)]
struct Shared {
    /// How often those who wait have been woken. It is moved under the list's lock.
    wakes: AtomicU64,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// The task that a `poll_*` method was called with last. As with tokio, there is one.
    polled: Option<Waiter>,
    /// Futures of `async` methods, of which there may be many, in the order in which they began to wait.
    futures: BTreeMap<u64, Waiter>,
    next: u64,
}

/// A task that waits, and what runs it, if it has to be told.
struct Waiter {
    task: Waker,
    host: Option<Arc<Host>>,
}

impl Waiter {
    fn new(task: &Waker) -> Waiter {
        Waiter {
            task: task.clone(),
            host: host::running(),
        }
    }

    fn wake(self) {
        self.task.wake();
        if let Some(host) = self.host {
            host.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (polled, futures) = {
            let mut list = self.lock();
            self.wakes.fetch_add(1, Ordering::Relaxed);
            (list.polled.take(), std::mem::take(&mut list.futures))
        };
        polled
            .into_iter()
            .chain(futures.into_values())
            .for_each(Waiter::wake);
    }
}

/// A future's place in the list; given back when the future is done, or dropped.
struct Place<'a> {
    side: &'a Side,
    key: Option<u64>,
}

impl<'a> Place<'a> {
    fn at(side: &'a Side) -> Place<'a> {
        Place { side, key: None }
    }

    /// Puts `waiter` there, and returns the one that was there.
    fn take(key: &mut Option<u64>, list: &mut List, waiter: Waiter) -> Option<Waiter> {
        let key = *key.get_or_insert_with(|| {
            list.next += 1;
            list.next
        });
        list.futures.insert(key, waiter)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.side.shared.lock().futures.remove(&key);
            drop(waker);
        }
    }
}

impl Side {
    fn new() -> Side {
        let shared = Arc::new(Shared::default());
        Side {
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }

    /// Makes an attempt that has the vnet wake the handle when it cannot be done now; `note` then puts the task in the
    /// list.
    ///
    /// An attempt that succeeds, as most do, touches nothing of this. The handle may be woken before the task is in
    /// the list; then another attempt is made, since that wake was for it.
    fn attempt<R>(
        &self,
        clock: &Clock,
        task: &Context<'_>,
        mut attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<R>>,
        mut note: impl FnMut(&mut List, Waiter) -> Option<Waiter>,
    ) -> Poll<io::Result<R>> {
        loop {
            // The vnet's lock is between this and the wake that belongs to this attempt.
            let wakes = self.shared.wakes.load(Ordering::Relaxed);
            if let Poll::Ready(done) = attempt(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(done);
            }
            admit(clock, task)?;
            let waiter = Waiter::new(task.waker());
            let mut list = self.shared.lock();
            if self.shared.wakes.load(Ordering::Relaxed) == wakes {
                let old = note(&mut list, waiter);
                drop(list);
                drop(old);
                return Poll::Pending;
            }
        }
    }
}

/// Tries what the vnet's socket cannot poll for: `attempt`, and `ready` when that has to wait.
pub(crate) fn once_ready<R>(
    task: &mut Context<'_>,
    mut attempt: impl FnMut() -> io::Result<R>,
    mut ready: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Readiness>>,
) -> Poll<io::Result<R>> {
    loop {
        if let Poll::Ready(done) = polled(attempt()) {
            return Poll::Ready(done);
        }
        // Somebody else may be faster once it is ready; then the socket is asked anew, so that it wakes this task.
        ready!(ready(task))?;
    }
}

/// Counts the copy of `bytes` bytes against the task's budget.
pub(crate) fn copied(task: &mut Context<'_>, bytes: usize) {
    for _ in 0..bytes / BYTES_OF_AN_OPERATION {
        if !coop::has_budget_remaining() {
            return;
        }
        if let Poll::Ready(budget) = coop::poll_proceed(task) {
            budget.made_progress();
        }
    }
}

/// What a nonblocking call says to one that polls.
pub(crate) fn polled<R>(result: io::Result<R>) -> Poll<io::Result<R>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl Waiters {
    pub(crate) fn new(clock: Clock) -> Waiters {
        Waiters {
            clock,
            read: Side::new(),
            write: Side::new(),
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Polls an operation, for the `poll_*` methods: the task polled last is woken. The waker that `attempt` is given
    /// is to be called when it is worth to try again.
    pub(crate) fn poll<R>(
        &self,
        direction: Direction,
        task: &mut Context<'_>,
        attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let budget = ready!(coop::poll_proceed(task));
        let note = |list: &mut List, waiter| list.polled.replace(waiter);
        let tried = self
            .side(direction)
            .attempt(&self.clock, task, attempt, note);
        if tried.is_ready() {
            budget.made_progress();
        }
        tried
    }

    /// Awaits an operation, for the `async` methods. When the future is dropped, nothing has happened, and nothing is
    /// left behind.
    pub(crate) async fn wait<R>(
        &self,
        direction: Direction,
        mut attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        let mut place = Place::at(self.side(direction));
        poll_fn(|task| {
            let budget = ready!(coop::poll_proceed(task));
            let Place { side, key } = &mut place;
            let note = |list: &mut List, waiter| Place::take(key, list, waiter);
            let tried = side.attempt(&self.clock, task, &mut attempt, note);
            if tried.is_ready() {
                budget.made_progress();
            }
            tried
        })
        .await
    }

    /// What never waits, but counts against the task's budget all the same, so that a loop of it lets others run.
    pub(crate) fn at_once<R>(
        task: &mut Context<'_>,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let budget = ready!(coop::poll_proceed(task));
        budget.made_progress();
        Poll::Ready(operation())
    }

    /// Awaits any of the states that `interest` names.
    pub(crate) async fn ready(
        &self,
        interest: Interest,
        poll: impl Fn(&mut Context<'_>, Direction) -> Poll<io::Result<Readiness>>,
    ) -> io::Result<Ready> {
        let mut read = pin!(self.wait(Direction::Read, |cx| poll(cx, Direction::Read)));
        let mut write = pin!(self.wait(Direction::Write, |cx| poll(cx, Direction::Write)));
        let readiness = poll_fn(|task| {
            // An error is found by who reads.
            if (interest.is_readable() || !interest.is_writable())
                && let Poll::Ready(readiness) = read.as_mut().poll(task)
            {
                return Poll::Ready(readiness);
            }
            match interest.is_writable() {
                true => write.as_mut().poll(task),
                false => Poll::Pending,
            }
        });
        Ok(in_tokios_words(readiness.await?, interest))
    }
}

/// The states of `readiness` that `interest` asks for.
fn in_tokios_words(readiness: Readiness, interest: Interest) -> Ready {
    let states = [
        (
            interest.is_readable() && readiness.readable,
            Ready::READABLE,
        ),
        (
            interest.is_readable() && readiness.read_closed,
            Ready::READ_CLOSED,
        ),
        (
            interest.is_writable() && readiness.writable,
            Ready::WRITABLE,
        ),
        (
            interest.is_writable() && readiness.write_closed,
            Ready::WRITE_CLOSED,
        ),
        (readiness.error.is_some(), Ready::ERROR),
    ];
    let holds = states.into_iter().filter(|(holds, _)| *holds);
    holds.fold(Ready::EMPTY, |all, (_, state)| all | state)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use vnet::System;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiters() -> Waiters {
        Waiters::new(Clock::of(&System::threads()))
    }

    /// What an attempt waits for may come before its task is in the list.
    #[test]
    fn a_wake_that_comes_early_is_not_lost() {
        let (waiters, mut attempts) = (waiters(), 0);
        let mut task = Context::from_waker(Waker::noop());
        let polled = waiters.poll(Direction::Read, &mut task, |cx| {
            attempts += 1;
            if attempts == 1 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(attempts))
        });
        assert!(matches!(polled, Poll::Ready(Ok(2))));
    }

    #[test]
    fn a_task_is_in_the_list_only_while_it_waits() {
        let (waiters, counts) = (waiters(), Arc::new(Counts::default()));
        let waker = Waker::from(Arc::clone(&counts));
        let mut task = Context::from_waker(&waker);
        let held = || Arc::strong_count(&counts) - 2;
        let done = waiters.poll(Direction::Write, &mut task, |_| Poll::Ready(Ok(())));
        assert!(done.is_ready());
        assert_eq!(held(), 0);
        let mut theirs = None;
        let waits = waiters.poll(Direction::Write, &mut task, |cx| {
            theirs = Some(cx.waker().clone());
            Poll::<io::Result<()>>::Pending
        });
        assert!(waits.is_pending());
        assert_eq!(held(), 1);
        theirs.unwrap().wake();
        assert_eq!((held(), counts.0.load(Ordering::Relaxed)), (0, 1));
    }
}
