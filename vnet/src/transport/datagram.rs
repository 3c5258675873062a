//! What UDP, raw and echo sockets share: a bounded receive queue, readiness, and the verdict on
//! what comes in.

use std::collections::VecDeque;
use std::task::Waker;

use super::error::SocketError;
use super::wait::WaitQueue;
use crate::base::stats::DropReason;
use crate::packet::Out;

/// What a queued item costs besides its bytes, so that a flood of empty datagrams is bounded.
pub(crate) const ITEM_OVERHEAD: usize = 256;

/// What became of something that came in for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// At least one socket took it.
    Delivered,
    /// Nobody is there. The stack answers a unicast datagram with ICMP port unreachable
    /// (RFC 1122 section 4.1.3.1) and counts [`DropReason::NoSocket`].
    NoSocket,
    /// Somebody is there who could not take it.
    Drop(DropReason),
}

/// Whether a read leaves what it reads in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recv {
    /// It is gone afterwards.
    Consume,
    /// It can be read again (`MSG_PEEK`).
    Peek,
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That reading does not block.
    Read,
    /// That writing does not block.
    Write,
}

/// Which direction of a socket is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// No more reading.
    Read,
    /// No more writing.
    Write,
    /// Neither.
    Both,
}

/// What can be done with a socket now without blocking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Reading gives data, an error, or the end.
    pub readable: bool,
    /// Writing does not block, or gives an error.
    pub writable: bool,
    /// The read side is shut down.
    pub read_closed: bool,
    /// The write side is shut down.
    pub write_closed: bool,
    /// An error waits to be taken.
    pub error: bool,
}

/// The receiving side of a datagram socket, with everything that waits on the socket.
#[derive(Debug)]
pub(crate) struct Endpoint<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    readers: WaitQueue,
    writers: WaitQueue,
    error: Option<SocketError>,
    read_shut: bool,
    write_shut: bool,
    overflows: u64,
}

/// What the receive queues of all sockets of a kind hold, and how much that may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    bytes: usize,
    limit: usize,
    refused: u64,
}

impl Default for Account {
    fn default() -> Account {
        Account {
            bytes: 0,
            limit: usize::MAX,
            refused: 0,
        }
    }
}

impl Account {
    /// Bytes queued, overhead included.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Items that found no room because of the limit.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Changes how many bytes may be queued. What is queued stays.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }
}

impl<T> Default for Endpoint<T> {
    fn default() -> Endpoint<T> {
        Endpoint {
            items: VecDeque::new(),
            bytes: 0,
            readers: WaitQueue::default(),
            writers: WaitQueue::default(),
            error: None,
            read_shut: false,
            write_shut: false,
            overflows: 0,
        }
    }
}

impl<T> Endpoint<T> {
    /// Queues an item of `len` bytes and wakes the readers. A buffer of `limit` bytes takes at
    /// least one item, whatever its size, if the account of all sockets does.
    pub(crate) fn push(
        &mut self,
        out: &mut Out,
        account: &mut Account,
        item: T,
        len: usize,
        limit: usize,
    ) -> Verdict {
        let cost = len.saturating_add(ITEM_OVERHEAD);
        let fits = self.items.is_empty() || self.bytes.saturating_add(cost) <= limit;
        let all = account.bytes.saturating_add(cost);
        let admitted = all <= account.limit;
        if !fits || self.read_shut || !admitted {
            account.refused += u64::from(!admitted);
            self.overflows += 1;
            return Verdict::Drop(DropReason::SocketBufferFull);
        }
        self.bytes += cost;
        account.bytes = all;
        self.items.push_back((item, cost));
        self.readers.wake(out);
        Verdict::Delivered
    }

    /// The oldest item. `Ok(None)` at the end of a read side that was shut down.
    ///
    /// # Errors
    /// The pending error, which is thereby taken; [`SocketError::WouldBlock`] when nothing is
    /// queued.
    pub(crate) fn recv(
        &mut self,
        account: &mut Account,
        how: Recv,
    ) -> Result<Option<T>, SocketError>
    where
        T: Clone,
    {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let item = match how {
            Recv::Peek => self.items.front().map(|(item, _)| item.clone()),
            Recv::Consume => self.pop(account),
        };
        match item {
            Some(item) => Ok(Some(item)),
            None if self.read_shut => Ok(None),
            None => Err(SocketError::WouldBlock),
        }
    }

    /// Whether something may be sent.
    ///
    /// # Errors
    /// The pending error, which is thereby taken; [`SocketError::BrokenPipe`] after a shutdown.
    pub(crate) fn check_send(&mut self) -> Result<(), SocketError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.write_shut {
            true => Err(SocketError::BrokenPipe),
            false => Ok(()),
        }
    }

    /// Notes an error for the next operation and wakes everyone.
    pub(crate) fn fail(&mut self, out: &mut Out, error: SocketError) {
        self.error = Some(error);
        self.wake_all(out);
    }

    /// The pending error, which is thereby taken (`SO_ERROR`).
    pub(crate) fn take_error(&mut self) -> Option<SocketError> {
        self.error.take()
    }

    /// Shuts a direction down and wakes everyone. What is queued can still be read.
    pub(crate) fn shutdown(&mut self, out: &mut Out, how: Shutdown) {
        self.read_shut |= how != Shutdown::Write;
        self.write_shut |= how != Shutdown::Read;
        self.wake_all(out);
    }

    /// Adds a waiter.
    pub(crate) fn register(&mut self, out: &mut Out, interest: Interest, waker: &Waker) {
        match interest {
            Interest::Read => self.readers.register(out, waker),
            Interest::Write => self.writers.register(out, waker),
        }
    }

    /// What can be done now.
    pub(crate) fn readiness(&self) -> Readiness {
        let error = self.error.is_some();
        Readiness {
            readable: !self.items.is_empty() || self.read_shut || error,
            writable: true,
            read_closed: self.read_shut,
            write_closed: self.write_shut,
            error,
        }
    }

    /// Takes what is queued off the account, and says how many items that were: the socket is at
    /// its end.
    pub(crate) fn release(&mut self, account: &mut Account) -> usize {
        account.bytes -= std::mem::take(&mut self.bytes);
        std::mem::take(&mut self.items).len()
    }

    /// Wakes everyone; for the end of the socket.
    pub(crate) fn wake_all(&mut self, out: &mut Out) {
        self.readers.wake(out);
        self.writers.wake(out);
    }

    /// Items queued.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// True when nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes queued, overhead included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Items that found no room.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    fn pop(&mut self, account: &mut Account) -> Option<T> {
        let (item, cost) = self.items.pop_front()?;
        self.bytes -= cost;
        account.bytes -= cost;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_by_bytes_and_items_cost_something() {
        let (mut out, mut account) = (Out::default(), Account::default());
        let mut e = Endpoint::default();
        let limit = 2 * ITEM_OVERHEAD + 10;
        let full = Verdict::Drop(DropReason::SocketBufferFull);
        assert_eq!(
            e.push(&mut out, &mut account, 'a', 10, limit),
            Verdict::Delivered
        );
        assert_eq!(e.push(&mut out, &mut account, 'b', 1, limit), full);
        assert_eq!(
            e.push(&mut out, &mut account, 'c', 0, limit),
            Verdict::Delivered
        );
        assert_eq!(e.push(&mut out, &mut account, 'd', 0, limit), full);
        assert_eq!(e.overflows(), 2);
        assert_eq!(e.recv(&mut account, Recv::Peek), Ok(Some('a')));
        assert_eq!(e.recv(&mut account, Recv::Consume), Ok(Some('a')));
        assert_eq!(e.recv(&mut account, Recv::Consume), Ok(Some('c')));
        assert_eq!((e.bytes(), e.len()), (0, 0));
        assert_eq!(
            e.recv(&mut account, Recv::Consume),
            Err(SocketError::WouldBlock)
        );
        // An item larger than the buffer is taken when it is alone.
        assert_eq!(
            e.push(&mut out, &mut account, 'e', 1 << 20, limit),
            Verdict::Delivered
        );
        assert_eq!(e.push(&mut out, &mut account, 'f', 0, limit), full);
    }

    #[test]
    fn shutdown_ends_reading_after_what_is_queued() {
        let (mut out, mut account) = (Out::default(), Account::default());
        let mut e = Endpoint::default();
        e.push(&mut out, &mut account, 'a', 1, 1000);
        e.shutdown(&mut out, Shutdown::Read);
        assert_eq!(e.check_send(), Ok(()));
        assert_ne!(
            e.push(&mut out, &mut account, 'b', 1, 1000),
            Verdict::Delivered
        );
        assert_eq!(e.recv(&mut account, Recv::Consume), Ok(Some('a')));
        assert_eq!(e.recv(&mut account, Recv::Consume), Ok(None));
        e.shutdown(&mut out, Shutdown::Write);
        assert_eq!(e.check_send(), Err(SocketError::BrokenPipe));
        assert!(e.readiness().read_closed && e.readiness().write_closed);
    }

    #[test]
    fn an_error_is_reported_once_and_wakes_all() {
        let (mut out, mut account) = (Out::default(), Account::default());
        let mut e: Endpoint<()> = Endpoint::default();
        e.register(&mut out, Interest::Read, Waker::noop());
        e.register(&mut out, Interest::Write, Waker::noop());
        e.fail(&mut out, SocketError::ConnectionRefused);
        assert_eq!(out.wakes.len(), 2);
        assert!(e.readiness().error && e.readiness().readable);
        assert_eq!(
            e.recv(&mut account, Recv::Peek),
            Err(SocketError::ConnectionRefused)
        );
        assert_eq!(
            e.recv(&mut account, Recv::Peek),
            Err(SocketError::WouldBlock)
        );
        assert_eq!(e.take_error(), None);
    }
}
