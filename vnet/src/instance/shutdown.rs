//! Graceful shutdown: nothing new begins, existing connections get time to end, and then the
//! instance is destroyed.
//!
//! While it drains, an instance refuses new sockets and new children (*gone*), and borrows no
//! interface. Its listeners close, and connections that were not accepted yet are reset. Every
//! other connection sends what was written and then its FIN; what the peer sends can still be read.
//! Sockets without connections (UDP, raw, echo) keep working until the end. When the last
//! connection has ended, both ways and in TIME-WAIT at most, or when the time is up, the instance
//! is destroyed, and what is left is revoked.

use std::sync::Arc;
use std::task::Waker;

use super::context;
use super::cores::VnetCore;
use super::drain::Drain;
use super::driver::Waited;
use super::phase::{Entry, Gone, Phase};
use super::report::DestroyReport;
use super::site::here;
use super::vnet::OwnedVnet;
use crate::base::time::Duration;
use crate::stack::limits::Admission;

/// A shutdown that could not wait, with the handle of the instance, which is draining or, if the call came from
/// inside a vnet, unchanged. Dropping this destroys it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The embedder owns the loop ([`System::manual`](crate::System::manual)): poll, look at
    /// [`OwnedVnet::is_drained`], and destroy.
    #[error("this system's driver does not wait; vnet {:?} still has connections", .0.name())]
    WouldBlock(OwnedVnet),
    /// It was called by a waker, a port's callback or a `FrameTap`: what it would wait for is
    /// itself waiting for that callback to return.
    #[error("a callback of the network cannot wait for the network; vnet {:?} still has connections", .0.name())]
    InCallback(OwnedVnet),
}

impl OwnedVnet {
    /// Destroys the instance gracefully: it and its descendants refuse what is new, close their
    /// listeners, and finish their connections for at most `grace` of the system's time. Then, or
    /// earlier when all have ended, it is destroyed as with [`OwnedVnet::destroy`].
    ///
    /// Under virtual time the simulation runs meanwhile; when nothing is left in it that could end
    /// a connection, the call stops waiting.
    ///
    /// # Errors
    /// The driver or the caller cannot wait, and there is something to wait for: the handle is in
    /// the error.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::time::Duration;
    /// use vnet::System;
    /// use vnet::net::{TcpListener, TcpStream};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    /// let listener = TcpListener::bind_in(&b, "192.0.2.2:80")?;
    /// let client = TcpStream::connect_in(&a, "192.0.2.2:80")?;
    /// let (mut served, _) = listener.accept()?;
    /// let server = system.spawn(move || served.read(&mut [0; 8]))?;
    ///
    /// let report = a.shutdown(Duration::from_secs(5))?;
    /// let graceful = report.graceful.expect("it was graceful");
    /// assert_eq!((graceful.closed, graceful.revoked), (1, 0));
    /// assert!(graceful.waited < Duration::from_secs(5));
    /// // The peer saw the end of the stream, not a reset.
    /// assert_eq!(server.join().unwrap()?, 0);
    /// # drop(client);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn shutdown(self, grace: Duration) -> Result<DestroyReport, ShutdownError> {
        if context::is_locked() {
            return Err(ShutdownError::InCallback(self));
        }
        if self.begin_shutdown().is_err() {
            return Ok(self.destroy());
        }
        let site = here();
        let driver = Arc::clone(&self.core.driver);
        let until = driver.now() + grace;
        loop {
            let waker = driver.waker();
            if !self.family().iter().any(|core| core.is_open(Some(&waker))) {
                break;
            }
            if context::is_in_effects() {
                return Err(ShutdownError::InCallback(self));
            }
            match driver.wait(Some(until), site) {
                Waited::Woken => {}
                Waited::TimedOut | Waited::InVain(_) => break,
                Waited::InTask => return Err(ShutdownError::InCallback(self)),
                Waited::WouldBlock => {
                    return Err(ShutdownError::WouldBlock(self));
                }
            }
        }
        Ok(self.destroy())
    }

    /// Begins to shut down the instance and its descendants, as [`OwnedVnet::shutdown`] does, and
    /// returns at once. Calling it again changes nothing.
    ///
    /// # Errors
    /// [`Gone`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::System;
    ///
    /// let system = System::manual(1);
    /// let a = system.create("a")?;
    /// a.begin_shutdown()?;
    /// let give_up = system.now() + Duration::from_secs(5);
    /// while !a.is_drained() && system.now() < give_up {
    ///     let next = system.poll(system.now());
    ///     system.poll(next.map_or(give_up, |at| at.min(give_up)));
    /// }
    /// assert!(a.destroy().graceful.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_shutdown(&self) -> Result<(), Gone> {
        // The instance itself comes first: it has no further children then.
        let result = self.core.begin_drain();
        for core in self.family().iter().skip(1) {
            // A child that is gone has nothing to drain.
            let _ = core.begin_drain();
        }
        self.core.driver.dispatch();
        result
    }

    /// True when no connection of the instance and its descendants is left that has not ended; also
    /// when it is gone.
    pub fn is_drained(&self) -> bool {
        !self.family().iter().any(|core| core.is_open(None))
    }

    /// The instance and its descendants.
    fn family(&self) -> Vec<Arc<VnetCore>> {
        let below = self.descendants();
        let below = below.iter().map(|v| Arc::clone(&v.core));
        std::iter::once(Arc::clone(&self.core))
            .chain(below)
            .collect()
    }
}

impl VnetCore {
    fn begin_drain(self: &Arc<Self>) -> Result<(), Gone> {
        self.enter_as(Entry::User, |inside, cx| {
            if inside.phase != Phase::Up {
                return;
            }
            inside.phase = Phase::Draining;
            inside.stack.limits.admission = Admission::Closed;
            let open = inside.stack.tcp.open_connections();
            inside.stack.tcp.drain(cx);
            inside.drain = Some(Box::new(Drain {
                since: cx.now,
                open,
                waiters: Vec::new(),
            }));
        })
    }

    /// True when there are connections that have not ended; the waker is told when there are none.
    fn is_open(self: &Arc<Self>, waker: Option<&Waker>) -> bool {
        let open = self.enter_as(Entry::User, |inside, _| {
            let open = inside.stack.tcp.open_connections() > 0;
            if let (true, Some(drain), Some(waker)) = (open, &mut inside.drain, waker)
                && !drain.waiters.iter().any(|w| w.will_wake(waker))
            {
                drain.waiters.push(waker.clone());
            }
            open
        });
        open == Ok(true)
    }
}
