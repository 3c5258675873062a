//! Tasks: futures that a system polls until they end.
//!
//! A task is to a future what a thread is to a function, and costs no thread. Under virtual time
//! each poll is an event in the world's total order; under threads the workers poll; under the
//! manual driver [`System::poll`] does. A task that was spawned in a vnet has that vnet current at
//! each poll, and is dropped when the vnet is torn down.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::completion::Completion;
use super::pending::Deadlock;
use crate::base::callback::panic_text;
use crate::base::lock::{Mutex, Rank};
use crate::instance::context::{outside, within};
use crate::instance::cores::{SystemCore, VnetCore};
use crate::instance::driver::Waited;
use crate::instance::limits::LimitReached;
use crate::instance::privilege::Authority;
use crate::instance::system::System;
use crate::instance::task::{Body, CutShort, Task, Tasks, dropped};
use crate::instance::vnet::Vnet;

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked.
    #[error("the task panicked: {0}")]
    Panicked(Panic),
    /// It was aborted.
    #[error("the task was aborted")]
    Aborted,
    /// Its vnet, or the system, is gone.
    #[error("the task's vnet is gone")]
    Gone,
    /// Its vnet has as many tasks as it may have ([`Resource::Tasks`](crate::Resource::Tasks)): it was not started.
    #[error(transparent)]
    Limit(LimitReached),
    /// The wait for it can never end. The task itself goes on.
    #[error(transparent)]
    Deadlock(Box<Deadlock>),
    /// It has not ended, and the caller cannot wait: under the manual driver the embedder owns the
    /// loop, and a task must await instead of joining. It goes on.
    #[error("the task has not ended, and the caller may not block")]
    WouldBlock,
}

impl From<CutShort> for TaskError {
    fn from(why: CutShort) -> TaskError {
        match why {
            CutShort::Aborted => TaskError::Aborted,
            CutShort::Gone => TaskError::Gone,
            CutShort::Limit(limit) => TaskError::Limit(limit),
        }
    }
}

/// The payload of a task's panic.
pub struct Panic(Mutex<Box<dyn Any + Send>>);

impl Panic {
    fn new(payload: Box<dyn Any + Send>) -> Panic {
        Panic(Mutex::new(Rank::Waker, payload))
    }

    /// The payload, for [`std::panic::resume_unwind`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.into_inner()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(panic_text(&**self.0.lock()))
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({:?})", panic_text(&**self.0.lock()))
    }
}

struct Running<F: Future> {
    future: Option<Pin<Box<F>>>,
    vnet: Option<Vnet>,
    completion: Arc<Completion<Result<F::Output, TaskError>>>,
}

impl<F> Body for Running<F>
where
    F: Future + Send,
    F::Output: Send,
{
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let Running {
            future,
            vnet,
            completion,
        } = self;
        let polled = in_its_vnet(vnet, || {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                future.as_mut().map(|f| f.as_mut().poll(task))
            }));
            if !matches!(polled, Ok(Some(Poll::Pending))) {
                // Here, too: its destructor is the program's.
                let panic = dropped(future.take());
                return panic.map_or(polled, Err);
            }
            polled
        });
        let result = match polled {
            Ok(Some(Poll::Pending)) => return Poll::Pending,
            Ok(Some(Poll::Ready(out))) => Ok(out),
            Ok(None) => Err(TaskError::Aborted),
            Err(payload) => Err(TaskError::Panicked(Panic::new(payload))),
        };
        completion.end(result);
        Poll::Ready(())
    }

    fn give_up(mut self: Box<Self>, why: CutShort) {
        let future = self.future.take();
        let panic = in_its_vnet(&self.vnet, || dropped(future));
        let why = panic.map_or(why.into(), |payload| {
            TaskError::Panicked(Panic::new(payload))
        });
        self.completion.end(Err(why));
    }
}

/// Runs a part of a task with its vnet current, or none, whatever that of the thread is.
fn in_its_vnet<R>(vnet: &Option<Vnet>, f: impl FnOnce() -> R) -> R {
    match vnet {
        Some(vnet) => within(&vnet.core, f),
        None => outside(f),
    }
}

/// A task's handle. It is a future of the task's result. Dropping it leaves the task running.
#[must_use = "dropping the handle detaches the task: its result and its panic are lost"]
pub struct TaskHandle<T> {
    task: Arc<Task>,
    completion: Arc<Completion<Result<T, TaskError>>>,
    system: Weak<SystemCore>,
    /// The vnet that it was spawned in, with the authority of the handle.
    vnet: Option<(Weak<VnetCore>, Authority)>,
}

impl<T> TaskHandle<T> {
    /// Blocks until the task has ended and returns its result. Under virtual time the world runs
    /// meanwhile.
    ///
    /// # Errors
    /// The task panicked or was aborted, its vnet is gone, or the world is deadlocked. In a task, and
    /// under the manual driver when the task has not ended, [`TaskError::WouldBlock`].
    #[track_caller]
    pub fn join(self) -> Result<T, TaskError> {
        let site = Location::caller();
        let Some(system) = self.system.upgrade() else {
            let result = self
                .completion
                .poll(&mut Context::from_waker(Waker::noop()));
            return match result {
                Poll::Ready(result) => result,
                Poll::Pending => Err(TaskError::Gone),
            };
        };
        match self.completion.wait(&*system.driver, site) {
            Ok(result) => result,
            Err(Waited::InVain(why)) => {
                let system = match &self.vnet {
                    None => System::all(system),
                    Some((core, authority)) => {
                        let core = core.upgrade().ok_or(TaskError::Gone)?;
                        let authority = *authority;
                        Vnet { core, authority }.system()
                    }
                };
                Err(TaskError::Deadlock(Box::new(Deadlock::new(
                    &system, why, site,
                ))))
            }
            Err(_) => Err(TaskError::WouldBlock),
        }
    }

    /// Ends the task: its future is dropped, now, or by the thread that is polling it when that
    /// poll returns. Does nothing when it has ended.
    pub fn abort(&self) {
        if !self.completion.is_ended() {
            self.task.abort(CutShort::Aborted);
        }
    }

    /// True when the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        if let Some(system) = self.system.upgrade() {
            system.driver.called();
        }
        self.completion.is_ended()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.completion.poll(task)
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TaskHandle({} at {})",
            self.task.number(),
            self.task.site()
        )
    }
}

impl System {
    /// Starts a task: a future that the system polls until it ends, in its total order of events
    /// under virtual time, on worker threads under [`System::threads`], inside [`System::poll`]
    /// under [`System::manual`]. No vnet is current in it; see [`Vnet::spawn_future`].
    ///
    /// A task must not block: sockets are used through their `poll_*` methods (with
    /// [`std::future::poll_fn`]), time passes with [`System::sleep_async`]. A blocking call in a
    /// task fails with [`std::io::ErrorKind::WouldBlock`] where it would have to wait.
    ///
    /// Through a handle without [`Privilege::System`](crate::Privilege) it is a task of the handle's
    /// vnet, as [`Vnet::spawn_future`] starts one.
    ///
    /// A task that holds a [`System`] keeps the system alive until it ends, as a thread would.
    ///
    /// ```
    /// use vnet::System;
    /// use std::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let nap = system.sleep_async(Duration::from_secs(2));
    /// let task = system.spawn_future(async { nap.await; 7 });
    /// assert!(!task.is_finished(), "time stands still until somebody waits");
    /// assert_eq!(task.join()?, 7);
    /// assert_eq!(system.now().as_nanos(), 2_000_000_000);
    /// # Ok::<(), vnet::TaskError>(())
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(&self, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match self.confined_to() {
            Some(holder) => holder.spawn_future(future),
            None => spawn(&self.core, None, &self.core.tasks, future),
        }
    }
}

impl Vnet {
    /// Starts a task in which this vnet is current at each poll, and when its future is dropped;
    /// see [`System::spawn_future`].
    ///
    /// When the vnet is torn down the task is dropped, before the first step is undone; its handle
    /// then says [`TaskError::Gone`], as it does at once when the vnet is gone already.
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use vnet::net::UdpSocket;
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let echo = a.spawn_future(async {
    ///     let socket = UdpSocket::bind("127.0.0.1:7")?;
    ///     let mut buf = [0; 64];
    ///     let (n, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await?;
    ///     socket.send_to(&buf[..n], from)
    /// });
    /// let client = UdpSocket::bind_in(&a, "127.0.0.1:0")?;
    /// system.run_until_idle(vnet::RunLimit::default())?;
    /// client.send_to(b"ping", "127.0.0.1:7")?;
    /// assert_eq!(client.recv(&mut [0; 64])?, 4);
    /// assert_eq!(echo.join()??, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(&self, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn(&self.core.system, Some(self), &self.core.tasks, future)
    }
}

#[track_caller]
fn spawn<F>(
    system: &Arc<SystemCore>,
    vnet: Option<&Vnet>,
    owner: &Arc<Tasks>,
    future: F,
) -> TaskHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let completion = Arc::new(Completion::new());
    let body = Running {
        future: Some(Box::pin(future)),
        vnet: vnet.cloned(),
        completion: Arc::clone(&completion),
    };
    let task = Task::new(
        system.next_task(),
        Location::caller(),
        vnet.map(|v| (v.core.number, v.name().into())),
        Box::new(body),
        Arc::downgrade(&system.driver) as _,
        owner,
    );
    match owner.add(&task) {
        Ok(()) => task.start(),
        Err(why) => drop(task.abort(why)),
    }
    TaskHandle {
        task,
        completion,
        system: Arc::downgrade(system),
        vnet: vnet.map(|v| (Arc::downgrade(&v.core), v.authority)),
    }
}
