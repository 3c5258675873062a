//! What an instance asks of whoever drives it. The drivers are in `runtime/`; nothing in an
//! instance knows which one it has.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use super::vnet::VnetCore;
use crate::base::time::Instant;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The waker was called, or may have been.
    Woken,
    /// The time given has come.
    TimedOut,
    /// Nothing is left that could ever wake the caller.
    Deadlock,
    /// This driver does not wait: the embedder owns the loop.
    WouldBlock,
}

/// A clock, and a promise to call [`VnetCore::service`] in time.
pub trait Driver: Send + Sync {
    /// The time.
    fn now(&self) -> Instant;

    /// The time of the world outside, which passes while a simulated clock stands still: for
    /// durations in reports, and for waits of threads that the system does not know of. Nothing
    /// that a vnet does may depend on it.
    fn wall(&self) -> Instant;

    /// `vnet` wants service at `at`, which may be now.
    fn ready(&self, vnet: &Arc<VnetCore>, at: Instant);

    /// An entry into a vnet has ended and its effects are out: what became ready may be serviced
    /// on this thread.
    fn dispatch(&self);

    /// Takes over a vnet that a thread has made ready and will not service itself. Only the driver
    /// that lets threads do so has any.
    fn delegate(&self, _vnet: Arc<VnetCore>) {}

    /// The waker of the calling thread, for [`Driver::wait`].
    fn waker(&self) -> Waker;

    /// Blocks the calling thread until its waker is called, or until `until`.
    fn wait(&self, until: Option<Instant>) -> Waited;

    /// Starts a thread that the driver knows of.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn spawn(&self, name: String, f: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// For drivers whose clock the embedder owns: moves it to `now`, does what is due, and says
    /// when there will be more to do.
    fn poll(&self, now: Instant) -> Option<Instant>;

    /// The system is gone: stop every thread.
    fn shutdown(&self);
}
