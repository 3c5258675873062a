//! Where a thread or a task leaves its result for whoever waits for it.

use std::task::{Context, Poll, Waker};

use crate::base::callback;
use crate::base::lock::{Condvar, Mutex, Rank};
use crate::instance::driver::{Driver, Waited};
use crate::instance::site::Site;

/// The result of something that ends once.
pub(crate) struct Completion<R> {
    state: Mutex<State<R>>,
    ended: Condvar,
}

struct State<R> {
    result: Option<R>,
    /// It has ended; the result may have been taken.
    ended: bool,
    joiner: Option<Waker>,
}

impl<R> Completion<R> {
    pub(crate) fn new() -> Completion<R> {
        Completion {
            state: Mutex::new(
                Rank::Waker,
                State {
                    result: None,
                    ended: false,
                    joiner: None,
                },
            ),
            ended: Condvar::new(),
        }
    }

    /// Leaves the result. The first one counts.
    pub(crate) fn end(&self, result: R) {
        let joiner = {
            let mut state = self.state.lock();
            if state.ended {
                return;
            }
            state.ended = true;
            state.result = Some(result);
            state.joiner.take()
        };
        self.ended.notify_all();
        if let Some(joiner) = joiner {
            // Whoever ends has nothing to do with who waits.
            callback::contained("a waker", || joiner.wake());
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// The result, or else `waker` will be called.
    fn poll_waker(&self, waker: &Waker) -> Poll<R> {
        let old = {
            let mut state = self.state.lock();
            if let Some(result) = state.result.take() {
                return Poll::Ready(result);
            }
            state.joiner.replace(waker.clone())
        };
        drop(old);
        Poll::Pending
    }

    pub(super) fn poll(&self, task: &mut Context<'_>) -> Poll<R> {
        self.poll_waker(task.waker())
    }

    /// Blocks until the result is there. When that is not possible, says how the wait ended.
    pub(crate) fn wait(&self, driver: &dyn Driver, site: Site) -> Result<R, Waited> {
        let waker = driver.waker();
        let mut waited = Waited::Woken;
        loop {
            if let Poll::Ready(result) = self.poll_waker(&waker) {
                return Ok(result);
            }
            match waited {
                Waited::Woken | Waited::TimedOut => waited = driver.wait(None, site),
                other => return Err(other),
            }
        }
    }

    /// Blocks until the result is there, whatever the driver says: somebody else brings it.
    pub(crate) fn wait_outside(&self) -> R {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            self.ended.wait(&mut state);
        }
    }
}
