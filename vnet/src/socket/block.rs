//! How a socket call waits: it tries, registers its waker with the socket, and asks the driver
//! to wait. Futures take the same steps, with the task's waker.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use crate::base::time::{Duration, nanos};
use crate::instance::Waited;
use crate::instance::driver::here;
use crate::instance::vnet::VnetCore;
use crate::packet::Cx;
use crate::stack::Stack;
use crate::tasks::pending::Deadlock;
use crate::tasks::thread::in_task;
use crate::transport::error::SocketError;

/// How long an operation may wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Not at all.
    Nonblocking,
    /// As long as it takes, or for the given time.
    Blocking(Option<Duration>),
}

/// Settings that every kind of socket has; shared by its clones.
#[derive(Default)]
pub(super) struct Mode {
    nonblocking: AtomicBool,
    /// Nanoseconds; zero is no limit.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

impl Mode {
    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    pub(super) fn reading(&self) -> Patience {
        self.patience(&self.read_timeout)
    }

    pub(super) fn writing(&self) -> Patience {
        self.patience(&self.write_timeout)
    }

    fn patience(&self, timeout: &AtomicU64) -> Patience {
        if self.nonblocking.load(Ordering::Relaxed) {
            Patience::Nonblocking
        } else {
            Patience::Blocking(load(timeout))
        }
    }

    pub(super) fn read_timeout(&self) -> Option<Duration> {
        load(&self.read_timeout)
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        load(&self.write_timeout)
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        store(&self.read_timeout, timeout)
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        store(&self.write_timeout, timeout)
    }
}

fn load(timeout: &AtomicU64) -> Option<Duration> {
    match timeout.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(Duration::from_nanos(nanos)),
    }
}

fn store(to: &AtomicU64, timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a timeout of zero: use `None` for no limit",
        ));
    }
    let nanos = timeout.map_or(0, nanos);
    to.store(nanos, Ordering::Relaxed);
    Ok(())
}

/// Runs `attempt` until it does something else than to say [`SocketError::WouldBlock`]. When it
/// is given a waker it must register it with whatever it waits for before it says so.
#[track_caller]
pub(super) fn until_ready<R>(
    core: &Arc<VnetCore>,
    patience: Patience,
    mut attempt: impl FnMut(&mut Stack, &mut Cx, Option<&Waker>) -> Result<R, SocketError>,
) -> io::Result<R> {
    let limit = match patience {
        Patience::Nonblocking => return Ok(core.with(|s, cx| attempt(s, cx, None)).flat()?),
        Patience::Blocking(limit) => limit,
    };
    match core.with(|s, cx| attempt(s, cx, None)).flat() {
        Err(SocketError::WouldBlock) => {}
        result => return Ok(result?),
    }
    let until = limit.map(|limit| core.driver.now() + limit);
    let site = here();
    let waker = core.driver.waker();
    let mut waited = Waited::Woken;
    loop {
        #[cfg(test)]
        if crate::base::lock::explore::planted("wait without a last look") {
            core.driver.wait(until, site);
        }
        match core.with(|s, cx| attempt(s, cx, Some(&waker))).flat() {
            Err(SocketError::WouldBlock) => {}
            result => return Ok(result?),
        }
        match waited {
            Waited::Woken => waited = core.driver.wait(until, site),
            Waited::TimedOut | Waited::WouldBlock => return Err(ErrorKind::WouldBlock.into()),
            Waited::InTask => return Err(in_task()),
            Waited::InVain(why) => return Err(Deadlock::in_vnet(core, why, site).into()),
        }
    }
}

/// Joins the two ways in which an entry into a vnet can fail.
pub(super) trait Flat<R> {
    fn flat(self) -> Result<R, SocketError>;
}

impl<R> Flat<R> for Result<Result<R, SocketError>, crate::instance::Gone> {
    #[inline]
    fn flat(self) -> Result<R, SocketError> {
        match self {
            Ok(result) => result,
            Err(gone) => Err(gone.into()),
        }
    }
}
