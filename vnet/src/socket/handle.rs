//! What a socket of any kind is to a program: a handle to it, whose last clone closes it, and the
//! one way in which its calls wait.
//!
//! A kind of socket writes each operation once, as an attempt that does not wait, and says what to
//! wait for when the attempt would. [`Handle::run`] does the rest, for a call that blocks, one
//! that does not, and a future's poll. So the three cannot differ.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::base::time::{Duration, nanos};
use crate::instance::cores::VnetCore;
use crate::instance::site::{Site, here};
use crate::instance::{Gone, Waited};
use crate::packet::Cx;
use crate::packet::cx::Extent;
use crate::packet::header::Fragmentation;
use crate::stack::Stack;
use crate::stack::sockets::SocketId;
use crate::tasks::pending::Deadlock;
use crate::tasks::thread::in_task;
use crate::transport::edge::{Interest, Readiness};
use crate::transport::error::SocketError;

/// How an operation waits.
#[derive(Clone, Copy)]
pub(super) enum Wait<'a> {
    /// Not at all.
    Not,
    /// On this thread, as long as it takes or for the given time.
    Blocking(Option<Duration>),
    /// As a future: the waker is called when it is worth to try again.
    Task(&'a Waker),
}

impl<'a> Wait<'a> {
    /// As the future does that is polled with `task`.
    pub(super) fn polled(task: &Context<'a>) -> Wait<'a> {
        Wait::Task(task.waker())
    }
}

/// What a poll says of an operation that waits as [`Wait::Task`].
pub(super) fn poll<R>(result: io::Result<R>) -> Poll<io::Result<R>> {
    match result {
        Err(e) if e.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A handle to the socket `I` names. Clones are the same socket, with the same settings.
pub(super) struct Handle<I: Copy + Into<SocketId>>(Arc<Open<I>>);

struct Open<I: Copy + Into<SocketId>> {
    core: Arc<VnetCore>,
    id: I,
    nonblocking: AtomicBool,
    read_timeout: Limit,
    write_timeout: Limit,
}

impl<I: Copy + Into<SocketId>> Drop for Open<I> {
    fn drop(&mut self) {
        let _ = self.core.with(|s, cx| s.close(cx, self.id.into()));
    }
}

impl<I: Copy + Into<SocketId>> Clone for Handle<I> {
    fn clone(&self) -> Handle<I> {
        Handle(Arc::clone(&self.0))
    }
}

impl<I: Copy + Into<SocketId>> Handle<I> {
    /// Makes a socket with `open`, in `core`.
    pub(super) fn open(
        core: &Arc<VnetCore>,
        open: impl FnOnce(&mut Stack, &mut Cx) -> Result<I, SocketError>,
    ) -> io::Result<Handle<I>> {
        Ok(Handle::of(core, core.with(open).flat()?))
    }

    /// A handle to a socket that nobody has one to.
    pub(super) fn of(core: &Arc<VnetCore>, id: I) -> Handle<I> {
        Handle(Arc::new(Open {
            core: Arc::clone(core),
            id,
            nonblocking: AtomicBool::new(false),
            read_timeout: Limit::default(),
            write_timeout: Limit::default(),
        }))
    }

    /// The socket's vnet.
    pub(super) fn core(&self) -> &Arc<VnetCore> {
        &self.0.core
    }

    /// Does what never waits. As an attempt of [`Handle::run`], it makes no socket, interface, route or anything else of
    /// which there are limits, unless what it changes is marked.
    #[inline]
    pub(super) fn now<R>(
        &self,
        f: impl FnOnce(&mut Stack, &mut Cx, I) -> Result<R, SocketError>,
    ) -> io::Result<R> {
        let id = self.0.id;
        let done = self.0.core.with(|s, cx| {
            cx.out.extent = Extent::Traffic;
            f(s, cx, id)
        });
        Ok(done.flat()?)
    }

    /// Runs `attempt` until it does something else than to say [`SocketError::WouldBlock`]; waits
    /// for `interest` in between. An attempt makes no socket, interface, route or anything else of which
    /// there are limits, unless what it changes is marked, and one that says so has changed nothing: less is looked at
    /// after it.
    #[track_caller]
    #[inline]
    pub(super) fn run<R>(
        &self,
        wait: Wait<'_>,
        interest: Interest,
        mut attempt: impl FnMut(&mut Stack, &mut Cx, I) -> Result<R, SocketError>,
    ) -> io::Result<R> {
        let (core, id) = (&self.0.core, self.0.id);
        let mut attempt = |waker: Option<&Waker>| {
            let tried = core.with(|s, cx| {
                let result = attempt(s, cx, id);
                cx.out.extent = Extent::Traffic;
                if let Err(SocketError::WouldBlock) = &result {
                    cx.out.extent = Extent::Nothing;
                    if let Some(waker) = waker {
                        register(s, cx, id.into(), interest, waker)?;
                    }
                }
                result
            });
            tried.flat()
        };
        let (waker, limit) = match wait {
            Wait::Not => (None, None),
            Wait::Task(waker) => (Some(waker), None),
            Wait::Blocking(limit) => (None, Some(limit)),
        };
        match (attempt(waker), limit) {
            (Err(SocketError::WouldBlock), Some(limit)) => self.block(limit, here(), &mut attempt),
            (result, _) => Ok(result?),
        }
    }

    /// Makes attempts until one does something else than to say [`SocketError::WouldBlock`], and
    /// blocks the calling thread in between.
    #[cold]
    fn block<R>(
        &self,
        limit: Option<Duration>,
        site: Site,
        attempt: &mut dyn FnMut(Option<&Waker>) -> Result<R, SocketError>,
    ) -> io::Result<R> {
        let core = &self.0.core;
        let until = limit.map(|limit| core.driver.now() + limit);
        let waker = core.driver.waker();
        let mut waited = Waited::Woken;
        loop {
            #[cfg(test)]
            if crate::base::lock::explore::planted("wait without a last look") {
                core.driver.wait(until, site);
            }
            match attempt(Some(&waker)) {
                Err(SocketError::WouldBlock) => {}
                result => return Ok(result?),
            }
            match waited {
                Waited::Woken => waited = core.driver.wait_in(core, until, site),
                Waited::TimedOut | Waited::WouldBlock => return Err(ErrorKind::WouldBlock.into()),
                Waited::InTask => return Err(in_task()),
                Waited::InVain(why) => return Err(Deadlock::in_vnet(core, why, site).into()),
            }
        }
    }

    /// What can be done now, once that is what `interest` asks for.
    #[track_caller]
    pub(super) fn ready(&self, wait: Wait<'_>, interest: Interest) -> io::Result<Readiness> {
        self.run(wait, interest, |s, _, id| {
            let now = s.readiness(id.into())?;
            match now.is_ready(interest) {
                true => Ok(now),
                false => Err(SocketError::WouldBlock),
            }
        })
    }

    /// How reading waits, by the socket's settings.
    pub(super) fn reading(&self) -> Wait<'static> {
        self.waiting(&self.0.read_timeout)
    }

    /// How writing waits, by the socket's settings.
    pub(super) fn writing(&self) -> Wait<'static> {
        self.waiting(&self.0.write_timeout)
    }

    fn waiting(&self, timeout: &Limit) -> Wait<'static> {
        match self.0.nonblocking.load(Ordering::Relaxed) {
            true => Wait::Not,
            false => Wait::Blocking(timeout.get()),
        }
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    pub(super) fn read_timeout(&self) -> &Limit {
        &self.0.read_timeout
    }

    pub(super) fn write_timeout(&self) -> &Limit {
        &self.0.write_timeout
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.now(|s, _, id| s.take_error(id.into()))?;
        Ok(error.map(io::Error::from))
    }

    pub(super) fn ttl(&self) -> io::Result<u32> {
        self.now(|s, _, id| match *s.ttl(id.into())? {
            0 => Ok(s.ip.default_hop_limit().into()),
            ttl => Ok(ttl.into()),
        })
    }

    pub(super) fn dont_fragment(&self) -> io::Result<bool> {
        self.now(|s, _, id| Ok(*s.fragmentation(id.into())? == Fragmentation::Forbidden))
    }

    pub(super) fn set_dont_fragment(&self, dont_fragment: bool) -> io::Result<()> {
        self.now(|s, _, id| {
            *s.fragmentation(id.into())? = match dont_fragment {
                true => Fragmentation::Forbidden,
                false => Fragmentation::Allowed,
            };
            Ok(())
        })
    }

    pub(super) fn path_mtu_to(&self, dst: IpAddr) -> io::Result<u32> {
        self.now(|s, cx, id| s.path_mtu_from(cx.now, id.into(), dst.to_canonical()))
    }

    pub(super) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        match u8::try_from(ttl) {
            Ok(ttl) if ttl > 0 => self.now(|s, _, id| {
                *s.ttl(id.into())? = ttl;
                Ok(())
            }),
            _ => Err(SocketError::InvalidInput.into()),
        }
    }
}

/// Has `waker` woken when the socket is ready for `interest`.
#[cold]
fn register(
    s: &mut Stack,
    cx: &mut Cx,
    id: SocketId,
    interest: Interest,
    waker: &Waker,
) -> Result<(), SocketError> {
    s.waiters(id)?.register(cx.out, interest, waker);
    Ok(())
}

/// How long a call may wait, in nanoseconds; zero is no limit.
#[derive(Default)]
pub(super) struct Limit(AtomicU64);

impl Limit {
    pub(super) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(super) fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "a timeout of zero: use `None` for no limit",
            ));
        }
        self.0.store(timeout.map_or(0, nanos), Ordering::Relaxed);
        Ok(())
    }
}

/// Joins the two ways in which an entry into a vnet can fail.
trait Flat<R> {
    fn flat(self) -> Result<R, SocketError>;
}

impl<R> Flat<R> for Result<Result<R, SocketError>, Gone> {
    #[inline]
    fn flat(self) -> Result<R, SocketError> {
        match self {
            Ok(result) => result,
            Err(gone) => Err(gone.into()),
        }
    }
}

/// Methods that several kinds of socket have, whose handle is in `.0`.
macro_rules! shared_methods {
    ($kind:ident:) => {};
    ($kind:ident: nonblocking $($rest:tt)*) => {
        impl $kind {
            /// Sets whether operations return [`std::io::ErrorKind::WouldBlock`] instead of waiting.
            ///
            /// # Errors
            /// None; the signature is the standard library's.
            pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
                self.0.set_nonblocking(nonblocking);
                Ok(())
            }

            /// The time in which its vnet lives.
            #[doc(hidden)]
            pub fn clock(&self) -> crate::instance::beside::Clock {
                crate::instance::beside::Clock::of_core(self.0.core())
            }

            /// A tenant's handle to its vnet.
            #[doc(hidden)]
            pub fn vnet(&self) -> crate::instance::Vnet {
                crate::instance::Vnet::tenant(std::sync::Arc::clone(self.0.core()))
            }

            /// Polls until the socket is ready for what `interest` names, for futures and event loops, and returns
            /// everything that it is ready for. Use [`Waker::noop`](std::task::Waker::noop) to ask without waiting.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn poll_ready(
                &self,
                task: &mut std::task::Context<'_>,
                interest: crate::transport::edge::Interest,
            ) -> std::task::Poll<std::io::Result<crate::transport::edge::Readiness>> {
                $crate::socket::handle::poll(self.0.ready(Wait::polled(task), interest))
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: try_clone $($rest:tt)*) => {
        impl $kind {
            /// Returns another handle to the same socket. Settings are shared.
            ///
            /// # Errors
            /// None; the signature is the standard library's.
            pub fn try_clone(&self) -> std::io::Result<$kind> {
                Ok(self.clone())
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: take_error $($rest:tt)*) => {
        impl $kind {
            /// Takes the pending error (`SO_ERROR`).
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.0.take_error()
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: ttl $($rest:tt)*) => {
        impl $kind {
            /// Sets the time to live of the socket's packets, which each router decrements.
            ///
            /// # Errors
            /// [`std::io::ErrorKind::InvalidInput`] for zero or more than 255; the vnet is gone.
            pub fn set_ttl(&self, ttl: u32) -> std::io::Result<()> {
                self.0.set_ttl(ttl)
            }

            /// The time to live of the socket's packets.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn ttl(&self) -> std::io::Result<u32> {
                self.0.ttl()
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: dont_fragment $($rest:tt)*) => {
        impl $kind {
            /// Sets whether the socket's packets must not be fragmented, neither by routers nor by this vnet
            /// (`IP_DONTFRAG` and `IPV6_DONTFRAG`, RFC 3542 section 11.2; on Linux, `IP_MTU_DISCOVER` with
            /// `IP_PMTUDISC_DO`). Those of IPv4 then carry the flag that says so. A packet that is longer than its path
            /// is known to take is not sent: sending fails with
            /// [`SocketError::MessageTooLong`](crate::SocketError::MessageTooLong). What routers say of longer ones
            /// that were sent is remembered for the next.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn set_dont_fragment(&self, dont_fragment: bool) -> std::io::Result<()> {
                self.0.set_dont_fragment(dont_fragment)
            }

            /// Whether the socket's packets must not be fragmented. They may, unless something else is set.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn dont_fragment(&self) -> std::io::Result<bool> {
                self.0.dont_fragment()
            }

            /// The largest packet that the path to `dst` is known to take, in bytes, IP header included: the MTU of the
            /// link by which it leaves, or less if a router has said so (RFC 1191, RFC 8201).
            ///
            /// # Errors
            /// There is no route to `dst`; the vnet is gone.
            pub fn path_mtu_to(&self, dst: std::net::IpAddr) -> std::io::Result<u32> {
                self.0.path_mtu_to(dst)
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: read_timeout $($rest:tt)*) => {
        impl $kind {
            /// Sets the read timeout, after which reading fails with [`std::io::ErrorKind::WouldBlock`].
            ///
            /// # Errors
            /// [`std::io::ErrorKind::InvalidInput`] for a timeout of zero.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
                self.0.read_timeout().set(timeout)
            }

            /// The read timeout.
            ///
            /// # Errors
            /// None; the signature is the standard library's.
            pub fn read_timeout(&self) -> std::io::Result<Option<Duration>> {
                Ok(self.0.read_timeout().get())
            }
        }
        shared_methods!($kind: $($rest)*);
    };
    ($kind:ident: write_timeout $($rest:tt)*) => {
        impl $kind {
            /// Sets the write timeout, after which writing fails with [`std::io::ErrorKind::WouldBlock`]. Sending a
            /// datagram never waits: there the timeout is only stored, so that the interface is that of the standard
            /// library.
            ///
            /// # Errors
            /// [`std::io::ErrorKind::InvalidInput`] for a timeout of zero.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
                self.0.write_timeout().set(timeout)
            }

            /// The write timeout.
            ///
            /// # Errors
            /// None; the signature is the standard library's.
            pub fn write_timeout(&self) -> std::io::Result<Option<Duration>> {
                Ok(self.0.write_timeout().get())
            }
        }
        shared_methods!($kind: $($rest)*);
    };
}
pub(super) use shared_methods;
