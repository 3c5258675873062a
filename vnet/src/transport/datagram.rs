//! What UDP, raw and echo sockets have in common: a table of sockets, each with a bounded receive queue, options, a
//! pending error and the wakers of those who wait.
//!
//! Each kind adds its own part of a socket (`S`), the type of the entries in its queue (`T`), and the indexes by which an
//! arriving packet finds its socket.

use std::collections::VecDeque;

use slotmap::Key;

use super::edge::{ReadMode, Readiness, Waiters};
use super::error::SocketError;
use crate::base::slab::Slab;
use crate::base::stats::DropReason;
use crate::packet::Out;
use crate::packet::header::Fragmentation;

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

/// What new sockets of a kind start with, and the limits of their table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Receive buffer in bytes; each item costs [`ITEM_OVERHEAD`] besides its own.
    pub recv_buffer: usize,
    /// Sockets the vnet may have.
    pub max_sockets: usize,
}

/// The options that every kind of socket has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Time to live of packets sent; 0 for the vnet's.
    pub ttl: u8,
    /// Type of service of packets sent.
    pub tos: u8,
    /// Whether packets sent may be cut, on their way or before.
    pub fragmentation: Fragmentation,
    /// Receive buffer in bytes.
    pub recv_buffer: usize,
}

/// The sockets of one kind in one vnet.
#[derive(Debug)]
pub(crate) struct Sockets<K: Key, S, T> {
    /// What new ones start with.
    pub config: Config,
    what: &'static str,
    slab: Slab<K, Socket<S, T>>,
    account: Account,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket<S, T> {
    /// What its kind adds.
    pub own: S,
    /// Its options.
    pub options: Options,
    /// Who waits for it.
    pub waiters: Waiters,
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    error: Option<SocketError>,
}

impl<S, T> Socket<S, T> {
    /// Takes the oldest item out, and off the account.
    #[inline]
    fn take_oldest(&mut self, account: &mut Account) -> Option<T> {
        let (item, cost) = self.queue.pop_front()?;
        self.bytes -= cost;
        account.bytes -= cost;
        Some(item)
    }
}

/// What the receive queues of all sockets of a kind hold, and how much that may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    bytes: usize,
    limit: usize,
    refused: u64,
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

impl<K: Key, S, T> Sockets<K, S, T> {
    /// No sockets; allocates nothing. `what` names them where their number is limited.
    pub(crate) fn new(what: &'static str, config: Config) -> Sockets<K, S, T> {
        Sockets {
            config,
            what,
            slab: Slab::default(),
            account: Account {
                bytes: 0,
                limit: usize::MAX,
                refused: 0,
            },
        }
    }

    /// Whether there may be one more.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn check_room(&self) -> Result<(), SocketError> {
        match self.slab.len() >= self.config.max_sockets {
            true => Err(SocketError::Limit(self.what)),
            false => Ok(()),
        }
    }

    /// A new socket.
    ///
    /// # Errors
    /// [`SocketError::Limit`] when the vnet has as many as it may.
    pub(crate) fn open(&mut self, own: S) -> Result<K, SocketError> {
        self.check_room()?;
        Ok(self.slab.insert(Socket {
            own,
            options: Options {
                ttl: 0,
                tos: 0,
                fragmentation: Fragmentation::Allowed,
                recv_buffer: self.config.recv_buffer,
            },
            waiters: Waiters::default(),
            queue: VecDeque::new(),
            bytes: 0,
            error: None,
        }))
    }

    /// A socket.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    #[inline]
    pub(crate) fn get(&self, id: K) -> Result<&Socket<S, T>, SocketError> {
        self.slab.get(id).ok_or(SocketError::Gone)
    }

    /// A socket, to be changed.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    #[inline]
    pub(crate) fn get_mut(&mut self, id: K) -> Result<&mut Socket<S, T>, SocketError> {
        self.slab.get_mut(id).ok_or(SocketError::Gone)
    }

    /// Queues an item of `len` bytes and wakes the readers. A buffer takes at least one item,
    /// whatever its size, if the account of all sockets does.
    pub(crate) fn push(&mut self, out: &mut Out, id: K, item: T, len: usize) -> Verdict {
        let Some(socket) = self.slab.get_mut(id) else {
            return Verdict::NoSocket;
        };
        let cost = len.saturating_add(ITEM_OVERHEAD);
        let limit = socket.options.recv_buffer;
        let fits = socket.queue.is_empty() || socket.bytes.saturating_add(cost) <= limit;
        let all = self.account.bytes.saturating_add(cost);
        let admitted = all <= self.account.limit;
        if !fits || !admitted {
            self.account.refused += u64::from(!admitted);
            return Verdict::Drop(DropReason::SocketBufferFull);
        }
        socket.bytes += cost;
        self.account.bytes = all;
        socket.queue.push_back((item, cost));
        socket.waiters.readers.wake(out);
        Verdict::Delivered
    }

    /// The oldest item.
    ///
    /// # Errors
    /// The pending error, which is thereby taken; [`SocketError::WouldBlock`] when nothing is
    /// queued; [`SocketError::Gone`].
    pub(crate) fn recv(&mut self, id: K, mode: ReadMode) -> Result<T, SocketError>
    where
        T: Clone,
    {
        if mode == ReadMode::Peek {
            return Ok(self.oldest(id)?.clone());
        }
        let socket = Self::without_error(&mut self.slab, id)?;
        let item = socket.take_oldest(&mut self.account);
        item.ok_or(SocketError::WouldBlock)
    }

    /// The oldest item, which stays.
    ///
    /// # Errors
    /// As [`Sockets::recv`].
    #[inline]
    pub(crate) fn oldest(&mut self, id: K) -> Result<&T, SocketError> {
        let socket = Self::without_error(&mut self.slab, id)?;
        let oldest = socket.queue.front().ok_or(SocketError::WouldBlock)?;
        Ok(&oldest.0)
    }

    /// Drops the oldest item.
    pub(crate) fn drop_oldest(&mut self, id: K) {
        if let Some(socket) = self.slab.get_mut(id) {
            drop(socket.take_oldest(&mut self.account));
        }
    }

    /// A socket to receive from.
    ///
    /// # Errors
    /// Its pending error, which is thereby taken; [`SocketError::Gone`].
    #[inline]
    fn without_error(
        slab: &mut Slab<K, Socket<S, T>>,
        id: K,
    ) -> Result<&mut Socket<S, T>, SocketError> {
        let socket = slab.get_mut(id).ok_or(SocketError::Gone)?;
        match socket.error.take() {
            Some(error) => Err(error),
            None => Ok(socket),
        }
    }

    /// Takes a socket out and wakes everyone who waits for it. What is queued goes unread. One that
    /// is gone already gives nothing.
    pub(crate) fn close(&mut self, out: &mut Out, id: K) -> Option<S> {
        let mut socket = self.slab.remove(id)?;
        self.account.bytes -= socket.bytes;
        socket.waiters.wake_all(out);
        Some(socket.own)
    }

    /// Takes every socket out and gives the memory back.
    pub(crate) fn teardown(&mut self, out: &mut Out) {
        for (_, mut socket) in self.slab.drain() {
            self.account.bytes -= socket.bytes;
            socket.waiters.wake_all(out);
        }
        self.slab.reset();
    }

    /// What the receive queues of all sockets hold.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// What they hold, for its limit to be changed.
    pub(crate) fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// The number of sockets.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Items queued at all of them.
    pub(crate) fn queued(&self) -> usize {
        self.slab.iter().map(|(_, s)| s.queued()).sum()
    }

    /// Every socket, in table order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Socket<S, T>> {
        self.slab.iter().map(|(_, socket)| socket)
    }
}

impl<S, T> Socket<S, T> {
    /// Whether something may be sent.
    ///
    /// # Errors
    /// The pending error, which is thereby taken.
    pub(crate) fn check_send(&mut self) -> Result<(), SocketError> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Notes an error for the next operation and wakes everyone.
    pub(crate) fn fail(&mut self, out: &mut Out, error: SocketError) {
        self.error = Some(error);
        self.waiters.wake_all(out);
    }

    /// The pending error, which is thereby taken (`SO_ERROR`).
    pub(crate) fn take_error(&mut self) -> Option<SocketError> {
        self.error.take()
    }

    /// What can be done now. Sending never waits.
    pub(crate) fn readiness(&self) -> Readiness {
        Readiness {
            readable: !self.queue.is_empty() || self.error.is_some(),
            writable: true,
            error: self.error,
            ..Readiness::default()
        }
    }

    /// Items in the receive queue.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use slotmap::DefaultKey;

    use super::*;
    use crate::transport::edge::Interest;

    fn table(recv_buffer: usize) -> Sockets<DefaultKey, (), char> {
        Sockets::new(
            "things",
            Config {
                recv_buffer,
                max_sockets: 2,
            },
        )
    }

    #[test]
    fn the_queue_is_bounded_by_bytes_and_items_cost_something() {
        let mut out = Out::default();
        let mut t = table(2 * ITEM_OVERHEAD + 10);
        let id = t.open(()).unwrap();
        let full = Verdict::Drop(DropReason::SocketBufferFull);
        assert_eq!(t.push(&mut out, id, 'a', 10), Verdict::Delivered);
        assert_eq!(t.push(&mut out, id, 'b', 1), full);
        assert_eq!(t.push(&mut out, id, 'c', 0), Verdict::Delivered);
        assert_eq!(t.push(&mut out, id, 'd', 0), full);
        assert_eq!(t.recv(id, ReadMode::Peek), Ok('a'));
        assert_eq!(t.recv(id, ReadMode::Consume), Ok('a'));
        assert_eq!(t.recv(id, ReadMode::Consume), Ok('c'));
        assert_eq!((t.account().bytes(), t.queued()), (0, 0));
        assert_eq!(t.recv(id, ReadMode::Consume), Err(SocketError::WouldBlock));
        // An item larger than the buffer is taken when it is alone.
        assert_eq!(t.push(&mut out, id, 'e', 1 << 20), Verdict::Delivered);
        assert_eq!(t.push(&mut out, id, 'f', 0), full);
        // All sockets share one account.
        t.account_mut().set_limit(1 << 20);
        let other = t.open(()).unwrap();
        assert_eq!(t.push(&mut out, other, 'g', 0), full);
        assert_eq!(t.account().refused(), 1);
        t.close(&mut out, id);
        assert_eq!(t.push(&mut out, other, 'g', 0), Verdict::Delivered);
        t.teardown(&mut out);
        assert_eq!((t.account().bytes(), t.len()), (0, 0));
    }

    #[test]
    fn the_number_of_sockets_is_limited_and_a_closed_one_is_gone() {
        let mut out = Out::default();
        let mut t = table(1000);
        let id = t.open(()).unwrap();
        t.open(()).unwrap();
        assert_eq!(t.open(()), Err(SocketError::Limit("things")));
        assert_eq!(
            (t.close(&mut out, id), t.close(&mut out, id)),
            (Some(()), None)
        );
        assert_eq!(t.recv(id, ReadMode::Peek), Err(SocketError::Gone));
        assert_eq!(t.push(&mut out, id, 'a', 0), Verdict::NoSocket);
        assert!(t.open(()).is_ok());
    }

    #[test]
    fn an_error_is_reported_once_and_wakes_all() {
        let mut out = Out::default();
        let mut t = table(1000);
        let id = t.open(()).unwrap();
        let s = t.get_mut(id).unwrap();
        s.waiters.register(&mut out, Interest::Read, Waker::noop());
        s.waiters.register(&mut out, Interest::Write, Waker::noop());
        s.fail(&mut out, SocketError::ConnectionRefused);
        assert_eq!(out.wakes.len(), 2);
        assert_eq!(s.readiness().error, Some(SocketError::ConnectionRefused));
        assert!(s.readiness().readable);
        assert_eq!(
            t.recv(id, ReadMode::Peek),
            Err(SocketError::ConnectionRefused)
        );
        assert_eq!(t.recv(id, ReadMode::Peek), Err(SocketError::WouldBlock));
        let s = t.get_mut(id).unwrap();
        assert_eq!((s.take_error(), s.check_send()), (None, Ok(())));
    }
}
