//! What all kinds of sockets show to the layers above: what can be done with a socket now, and who waits for it. The
//! identifier of a socket of any kind belongs to the stack, which knows all kinds.

use std::task::Waker;

use super::error::SocketError;
use super::wait::WaitQueue;
use crate::packet::Out;

/// What to wait for at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data to read or a connection to accept, the end of the stream, or an error.
    Read,
    /// Room to write, the completion of a handshake, or an error.
    Write,
}

/// What can be done with a socket without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reading or accepting returns at once: data, the end of the stream, or an error.
    pub readable: bool,
    /// Writing accepts data, or returns an error.
    pub writable: bool,
    /// No more data can arrive.
    pub read_closed: bool,
    /// No more data can be written.
    pub write_closed: bool,
    /// The handshake is in progress.
    pub connecting: bool,
    /// The pending error. It stays pending.
    pub error: Option<SocketError>,
}

impl Readiness {
    /// Whether waiting for `interest` is over.
    pub const fn is_ready(&self, interest: Interest) -> bool {
        match interest {
            Interest::Read => self.readable,
            Interest::Write => self.writable,
        }
    }
}

/// Whether a read leaves what it reads in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// It is gone afterwards.
    Consume,
    /// It can be read again (`MSG_PEEK`).
    Peek,
}

/// Who waits for a socket.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Those who wait for [`Interest::Read`].
    pub readers: WaitQueue,
    /// Those who wait for [`Interest::Write`].
    pub writers: WaitQueue,
}

impl Waiters {
    /// Adds a waiter. It is woken once, and perhaps for nothing.
    #[inline]
    pub(crate) fn register(&mut self, out: &mut Out, interest: Interest, waker: &Waker) {
        match interest {
            Interest::Read => self.readers.register(out, waker),
            Interest::Write => self.writers.register(out, waker),
        }
    }

    /// Wakes everyone, once the vnet's lock is released.
    pub(crate) fn wake_all(&mut self, out: &mut Out) {
        self.readers.wake(out);
        self.writers.wake(out);
    }
}
