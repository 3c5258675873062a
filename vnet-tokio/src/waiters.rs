//! Who waits for a socket: the tasks of one handle, in front of the vnet's own queue.
//!
//! A vnet keeps the wakers that it is given until the socket is ready, however long that takes. A future that is
//! dropped must leave nothing behind. So the vnet is given one waker for each direction, which belongs to the handle,
//! and the handle keeps the wakers of its tasks where a future can take its own back.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
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
struct Shared(Mutex<List>);

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (polled, futures) = {
            let mut list = self.lock();
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

    fn take(&mut self, waker: &Waker) {
        let mut list = self.side.shared.lock();
        let key = *self.key.get_or_insert_with(|| {
            list.next += 1;
            list.next
        });
        let old = list.futures.insert(key, Waiter::new(waker));
        drop(list);
        drop(old);
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

    fn set_polled(&self, waker: &Waker) {
        let waiter = Waiter::new(waker);
        let old = self.shared.lock().polled.replace(waiter);
        drop(old);
    }

    /// Has the vnet wake the handle, unless `attempt` succeeds.
    fn register<R>(&self, attempt: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
        attempt(&mut Context::from_waker(&self.waker))
    }
}

/// How an operation is tried.
pub(crate) enum Try<'a, 'b> {
    /// Without waiting: `WouldBlock` says that it cannot be done now.
    Now,
    /// The waker is called when it is worth to try again.
    Polled(&'a mut Context<'b>),
}

impl Try<'_, '_> {
    /// Tries what the vnet's socket cannot poll for: `attempt`, once the socket is ready for it.
    pub(crate) fn once_ready<R>(
        self,
        mut ready: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Readiness>>,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let Try::Polled(cx) = self else {
            return polled(attempt());
        };
        loop {
            ready!(ready(cx))?;
            // Somebody else may have been faster; then the socket is asked anew, so that it wakes this task.
            if let Poll::Ready(done) = polled(attempt()) {
                return Poll::Ready(done);
            }
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

    /// Polls an operation, for the `poll_*` methods: the task polled last is woken.
    pub(crate) fn poll<R>(
        &self,
        direction: Direction,
        task: &mut Context<'_>,
        mut attempt: impl FnMut(Try<'_, '_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let budget = ready!(coop::poll_proceed(task));
        if let Poll::Ready(done) = attempt(Try::Now) {
            budget.made_progress();
            return Poll::Ready(done);
        }
        admit(&self.clock, task)?;
        let side = self.side(direction);
        // It stays when the attempt succeeds: by then it may be another task's.
        side.set_polled(task.waker());
        let tried = side.register(|cx| attempt(Try::Polled(cx)));
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
        mut attempt: impl FnMut(Try<'_, '_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        let side = self.side(direction);
        let mut place = Place::at(side);
        poll_fn(|task| {
            let budget = ready!(coop::poll_proceed(task));
            let mut tried = attempt(Try::Now);
            if tried.is_pending() {
                admit(&self.clock, task)?;
                place.take(task.waker());
                tried = side.register(|cx| attempt(Try::Polled(cx)));
            }
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
        let attempt = |direction, how: Try<'_, '_>| match how {
            // Asking both ways without a waker would leave a waker that does nothing.
            Try::Now => Poll::Pending,
            Try::Polled(cx) => poll(cx, direction),
        };
        let mut read = pin!(self.wait(Direction::Read, |how| attempt(Direction::Read, how)));
        let mut write = pin!(self.wait(Direction::Write, |how| attempt(Direction::Write, how)));
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
