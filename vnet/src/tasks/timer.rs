//! Waiting for time to pass, as futures: in the system's time, whatever drives it.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::base::time::{Duration, Instant};
use crate::instance::driver::{Driver, TimerKey};
use crate::instance::system::System;

/// A future that is ready when a point in the system's time has come; see
/// [`System::sleep_async`]. Dropping it cancels its timer.
#[must_use = "a future does nothing unless it is awaited or polled"]
pub struct Sleep {
    driver: Arc<dyn Driver>,
    until: Instant,
    timer: Option<(TimerKey, Waker)>,
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some((key, _)) = self.timer.take() {
            self.driver.cancel_timer(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if self.driver.now() >= self.until {
            self.cancel();
            return Poll::Ready(());
        }
        let waker = task.waker();
        if self.timer.as_ref().is_some_and(|(_, w)| w.will_wake(waker)) {
            return Poll::Pending;
        }
        self.cancel();
        let key = self.driver.set_timer(self.until, waker.clone());
        self.timer = Some((key, waker.clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleep(until {})", self.until)
    }
}

/// A future with a limit on its time.
struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = io::Result<F::Output>;

    /// What is ready in the very last moment counts.
    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(out) = self.future.as_mut().poll(task) {
            return Poll::Ready(Ok(out));
        }
        let expired = || io::Error::new(ErrorKind::TimedOut, "the timeout expired");
        Pin::new(&mut self.sleep)
            .poll(task)
            .map(|()| Err(expired()))
    }
}

impl System {
    /// A future that is ready after `duration` of the system's time. It can be awaited in a task
    /// and in [`System::block_on`], and holds no handle to the system.
    ///
    /// ```
    /// use vnet::System;
    /// use std::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let year = Duration::from_secs(365 * 24 * 3600);
    /// system.block_on(system.sleep_async(year))?;
    /// assert_eq!(system.now().since(vnet::time::Instant::ZERO), year);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sleep_async(&self, duration: Duration) -> Sleep {
        self.sleep_until_async(self.now() + duration)
    }

    /// A future that is ready when the system's time is `until` or later.
    pub fn sleep_until_async(&self, until: Instant) -> Sleep {
        Sleep {
            driver: Arc::clone(&self.core.driver),
            until,
            timer: None,
        }
    }

    /// A future that is `future`, or an error of the kind [`ErrorKind::TimedOut`] after `duration` of the system's time.
    ///
    /// ```
    /// use std::future::{pending, ready};
    /// use vnet::System;
    /// use std::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let limit = Duration::from_secs(3);
    /// assert_eq!(system.block_on(system.timeout(limit, ready(7)))??, 7);
    /// assert!(system.block_on(system.timeout(limit, pending::<()>()))?.is_err());
    /// assert_eq!(system.now().as_nanos(), 3_000_000_000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "a future does nothing unless it is awaited or polled"]
    pub fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = io::Result<F::Output>> + Unpin + use<F> {
        Timeout {
            future: Box::pin(future),
            sleep: self.sleep_async(duration),
        }
    }
}
