//! Threads of a system: starting them, and waiting on them in the system's time.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::completion::Completion;
use super::pending::Deadlock;
use crate::base::time::Duration;
use crate::instance::driver::{Driver, Waited};
use crate::instance::site::here;
use crate::instance::system::System;
use crate::instance::vnet::Vnet;

impl System {
    /// Blocks the calling thread for `duration` of the system's time. Under virtual time the
    /// simulation runs meanwhile.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] under the manual driver, where the embedder owns the loop, and
    /// in a task, which awaits [`System::sleep_async`] instead. [`io::ErrorKind::TimedOut`] in a
    /// simulation [without costs](System::virtual_time_with) that loops without taking any time.
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> io::Result<()> {
        let site = here();
        let now = || self.core.driver.now();
        let until = now() + duration;
        while now() < until {
            match self.core.driver.wait(Some(until), site) {
                Waited::WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
                Waited::InTask => return Err(in_task()),
                Waited::InVain(why) => return Err(Deadlock::new(self, why, site).into()),
                Waited::Woken | Waited::TimedOut => {}
            }
        }
        Ok(())
    }

    /// Runs a future to its end on the calling thread, in the system's time.
    ///
    /// # Errors
    /// [`io::ErrorKind::Deadlock`] when nothing is left that could wake the future, and
    /// [`io::ErrorKind::TimedOut`] when events go on without ever waking it
    /// ([`Deadlock::of`]), [`io::ErrorKind::WouldBlock`] under the manual
    /// driver, and in a task, when it is not ready at once.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let site = here();
        let mut future = pin!(future);
        let driver = &self.core.driver;
        let waker = driver.waker();
        // What it waits for is most likely in the vnet that it is in.
        let vnet = Vnet::current().filter(|vnet| Arc::ptr_eq(&vnet.core.system, &self.core));
        loop {
            if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(out);
            }
            let waited = match &vnet {
                Some(vnet) => driver.wait_in(&vnet.core, None, site),
                None => driver.wait(None, site),
            };
            match waited {
                Waited::Woken | Waited::TimedOut => {}
                Waited::InVain(why) => return Err(Deadlock::new(self, why, site).into()),
                Waited::WouldBlock => return Err(io::ErrorKind::WouldBlock.into()),
                Waited::InTask => return Err(in_task()),
            }
        }
    }

    /// Starts a thread that belongs to the system. Under virtual time such threads take turns:
    /// one runs at a time, another one when it blocks in a call of this library, in an order that
    /// depends on the seed and the program only.
    ///
    /// The thread starts with no current vnet; see [`Vnet::spawn`].
    ///
    /// # Errors
    /// The operating system's error.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.spawn_named("vnet-task".to_owned(), f)
    }

    fn spawn_named<T: Send + 'static>(
        &self,
        name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let completion = Arc::new(Completion::new());
        let theirs = Arc::clone(&completion);
        self.core.driver.spawn(
            name,
            Box::new(move || {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
                theirs.end(result);
            }),
        )?;
        Ok(JoinHandle {
            completion,
            driver: Arc::clone(&self.core.driver),
        })
    }
}

impl Vnet {
    /// Starts a thread in which this vnet is current; see [`System::spawn`].
    ///
    /// # Errors
    /// The operating system's error.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let vnet = self.clone();
        let from = Location::caller();
        self.system()
            .spawn_named(format!("vnet-{}", self.name()), move || {
                let _entered = vnet.enter_from(from);
                f()
            })
    }
}

/// Starts a thread in the current vnet, like [`std::thread::spawn`]; see [`Vnet::spawn`].
///
/// # Panics
/// No vnet is current, or the operating system cannot start a thread.
#[track_caller]
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let spawned = current("spawn").spawn(f);
    spawned.unwrap_or_else(|error| panic!("the operating system cannot start a thread: {error}"))
}

/// Blocks the calling thread for `duration` of the current vnet's time, like [`std::thread::sleep`]; see
/// [`System::sleep`].
///
/// # Panics
/// No vnet is current, or [`System::sleep`] fails.
#[track_caller]
pub fn sleep(duration: Duration) {
    let slept = current("sleep").system().sleep(duration);
    slept.unwrap_or_else(|error| panic!("{error}"));
}

#[track_caller]
fn current(what: &str) -> Vnet {
    Vnet::current().unwrap_or_else(|| {
        panic!(
            "`vnet::thread::{what}` needs to know whose thread or time is meant: call `vnet.enter()` first, \
             or use `Vnet::spawn` and `System::sleep`"
        )
    })
}

/// Waits for a thread started by [`System::spawn`] or [`Vnet::spawn`].
pub struct JoinHandle<T> {
    completion: Arc<Completion<std::thread::Result<T>>>,
    driver: Arc<dyn Driver>,
}

impl<T> JoinHandle<T> {
    /// Waits for the thread to end and returns its result. Under virtual time the simulation runs
    /// meanwhile.
    ///
    /// # Errors
    /// The thread's panic, as in [`std::thread::JoinHandle::join`]. In a task, which must not
    /// block, a message that says so.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        loop {
            match self.completion.wait(&*self.driver, here()) {
                Ok(result) => return result,
                // The embedder drives the world from another thread: an ordinary wait will do.
                Err(Waited::WouldBlock) => return self.completion.wait_outside(),
                Err(Waited::InTask) => return Err(Box::new(IN_TASK)),
                Err(_) => {}
            }
        }
    }

    /// True when the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.driver.called();
        self.completion.is_ended()
    }
}

/// What a blocking call says in a task.
pub(crate) const IN_TASK: &str =
    "this call would block, which a task must not: use the socket's poll_* methods and sleep_async";

/// The error of a blocking call in a task.
pub(crate) fn in_task() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, IN_TASK)
}
