//! The calls of the socket layer. None of them waits: where a BSD socket would block, they return
//! [`SocketError::WouldBlock`], and a waker can be registered.

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::connection::{CloseAction, Connection, Env, OpenParams, Opening, Owner};
use super::connections::Seen;
use super::ids::{ConnId, FourTuple, ListenerId, Slot};
use super::info::TcpInfo;
use super::listener::Listener;
use super::options::{Options, Path, SocketOptions};
use super::requests::{Of, Requests};
use super::segment::SendFlags;
use super::{Tcp, list};
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::packet::Cx;
use crate::packet::payload::Taker;
use crate::transport::domain::Domain;
use crate::transport::edge::{ReadMode, Readiness, Waiters};
use crate::transport::error::SocketError;
use crate::transport::ports::{Reuse, ephemeral};

impl Tcp {
    /// Begins to open a connection from `local` (port 0: an ephemeral one, free for this peer)
    /// to `remote`. Wait for room to write; [`Tcp::take_error`] then says how it ended.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for a peer that cannot be, [`SocketError::AddrInUse`] when
    /// the connection exists or the port is taken, [`SocketError::PortsExhausted`],
    /// [`SocketError::Limit`].
    pub(crate) fn connect(
        &mut self,
        cx: &mut Cx<'_>,
        local: SocketAddr,
        remote: SocketAddr,
        path: Path,
        options: Options,
        reuse: Reuse,
    ) -> Result<ConnId, SocketError> {
        if remote.port() == 0
            || remote.ip().is_unspecified()
            || remote.ip().is_multicast()
            || local.ip().is_unspecified()
            || local.is_ipv4() != remote.is_ipv4()
        {
            return Err(SocketError::InvalidInput);
        }
        if !self.has_room() {
            return Err(SocketError::Limit("tcp sockets"));
        }
        let local = if local.port() == 0 {
            self.ephemeral_for(cx, local, remote)?
        } else {
            let key = FourTuple::new(local, remote);
            let taken = self.holder(&key).is_some()
                || self.ports.conflicts(local, options.domain, reuse)
                || (reuse == Reuse::Exclusive && self.uses_of(local) > 0);
            if taken {
                return Err(SocketError::AddrInUse);
            }
            local
        };
        let key = FourTuple::new(local, remote);
        let iss = self.secret.isn(cx.now, &key);
        let ts_offset = self.secret.timestamp_offset(&key);
        let opening = match options.fast_open {
            true => match &self.fast_open {
                Some(cookies) => cookies.opening(&key, cx.now),
                None => Opening::Asks,
            },
            false => Opening::Plain,
        };
        let env = Env::new(&self.config, &mut self.stats, cx);
        let params = OpenParams {
            local,
            remote,
            path,
            options: self.shared_options.share(options),
            iss,
            ts_offset,
        };
        let mut c = Connection::connecting(&env, params);
        c.open_as(cx.now, opening);
        let id = self.connections.insert(c);
        self.enter_tuple(&key, local, Slot::Connection(id));
        self.stats.active_opens += 1;
        self.settle(cx, id);
        Ok(id)
    }

    // RFC 6056: a port is taken for one peer only, so that the ephemeral range limits the
    // connections to one service, not all of them.
    fn ephemeral_for(
        &mut self,
        cx: &mut Cx<'_>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        let at = |port| SocketAddr::new(local.ip(), port);
        let port = ephemeral(cx.rng, |port| {
            at(port) != remote
                && self.holder(&FourTuple::new(at(port), remote)).is_none()
                && !self.ports.conflicts(at(port), Domain::V4, Reuse::Exclusive)
        });
        port.map(at).ok_or(SocketError::PortsExhausted)
    }

    /// Binds a socket to `local` and listens there: [`Tcp::bind`], then [`Tcp::start_listening`].
    ///
    /// # Errors
    /// Those of both.
    pub(crate) fn listen(
        &mut self,
        cx: &mut Cx<'_>,
        local: SocketAddr,
        backlog: usize,
        options: Options,
        reuse: Reuse,
    ) -> Result<(ListenerId, SocketAddr), SocketError> {
        let (id, local) = self.bind(cx, local, options, reuse)?;
        match self.start_listening(id, backlog) {
            Ok(()) => Ok((id, local)),
            Err(error) => {
                self.close_listener(cx, id);
                Err(error)
            }
        }
    }

    /// Listens with a socket that is bound. At most `backlog` connections wait to be accepted. One that listens already
    /// gets another backlog.
    ///
    /// # Errors
    /// [`SocketError::AddrInUse`] when another listener has the address, and they are not of one group;
    /// [`SocketError::Gone`].
    pub(crate) fn start_listening(
        &mut self,
        id: ListenerId,
        backlog: usize,
    ) -> Result<(), SocketError> {
        let l = self.listeners.get(id).ok_or(SocketError::Gone)?;
        // Two listeners at one address would steal each other's connections, whatever they say.
        let listens = |other| other != id && self.listeners.get(other).is_some_and(|l| l.listens());
        if self
            .ports
            .is_held(l.local, l.options.domain, l.reuse, listens)
        {
            return Err(SocketError::AddrInUse);
        }
        let backlog = backlog.clamp(1, self.config.max_backlog.max(1));
        if let Some(l) = self.listeners.get_mut(id) {
            l.backlog = backlog;
        }
        Ok(())
    }

    /// What a connection is made with from a socket that is bound and does not listen.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] when it listens; [`SocketError::Gone`].
    pub(crate) fn bound(
        &self,
        id: ListenerId,
    ) -> Result<(SocketAddr, Options, Reuse), SocketError> {
        let l = self.listeners.get(id).ok_or(SocketError::Gone)?;
        match l.listens() {
            true => Err(SocketError::InvalidInput),
            false => Ok((l.local, *l.options, l.reuse)),
        }
    }

    /// Makes a connection of a socket that is bound, from its port. If that fails, it stays bound.
    ///
    /// # Errors
    /// Those of [`Tcp::bound`] and [`Tcp::connect`].
    pub(crate) fn connect_bound(
        &mut self,
        cx: &mut Cx<'_>,
        id: ListenerId,
        from: IpAddr,
        remote: SocketAddr,
        path: Path,
    ) -> Result<ConnId, SocketError> {
        let (local, options, reuse) = self.bound(id)?;
        let domain = options.domain;
        self.ports.release(local, domain, id);
        let from = SocketAddr::new(from, local.port());
        let connected = self.connect(cx, from, remote, path, options, reuse);
        match connected {
            Ok(_) => drop(self.listeners.remove(id)),
            Err(_) => {
                // It was its own a moment ago.
                let _ = self.ports.bind(cx.rng, local, domain, reuse, id);
            }
        }
        connected
    }

    /// Binds a socket to `local` (address may be unspecified; port 0: an ephemeral one) and returns the
    /// address taken, as its program sees it.
    ///
    /// # Errors
    /// [`SocketError::AddrInUse`] when another socket is in the way; or, without
    /// [`Reuse::Shared`], when connections from that port are still there, in TIME-WAIT for
    /// instance. [`SocketError::PortsExhausted`], [`SocketError::Limit`].
    pub(crate) fn bind(
        &mut self,
        cx: &mut Cx<'_>,
        local: SocketAddr,
        options: Options,
        reuse: Reuse,
    ) -> Result<(ListenerId, SocketAddr), SocketError> {
        if !self.has_room() {
            return Err(SocketError::Limit("tcp sockets"));
        }
        let domain = options.domain;
        let mut local = local;
        if local.port() == 0 {
            let port = ephemeral(cx.rng, |port| {
                let at = SocketAddr::new(local.ip(), port);
                self.uses_at(at, domain) == 0 && !self.ports.conflicts(at, domain, Reuse::Exclusive)
            });
            local.set_port(port.ok_or(SocketError::PortsExhausted)?);
        } else {
            let in_use = reuse == Reuse::Exclusive && self.uses_at(local, domain) > 0;
            let listens = |id| self.listeners.get(id).is_some_and(|l| l.listens());
            let held = self.ports.is_held(local, domain, reuse, listens);
            if in_use || held || self.ports.conflicts(local, domain, reuse) {
                return Err(SocketError::AddrInUse);
            }
        }
        let id = self.listeners.insert(Box::new(Listener {
            local,
            backlog: 0,
            reuse,
            options: self.shared_options.share(options),
            requests: Requests::new(Of::OneListener),
            ready: Default::default(),
            pending: Vec::new(),
            waiters: Waiters::default(),
        }));
        match self.ports.bind(cx.rng, local, domain, reuse, id) {
            Ok(local) => {
                if let Some(l) = self.listeners.get_mut(id) {
                    l.local = local;
                }
                Ok((id, domain.outside(local)))
            }
            Err(error) => {
                self.listeners.remove(id);
                Err(error)
            }
        }
    }

    /// The next connection that is established, and its peer as the program sees it.
    ///
    /// # Errors
    /// [`SocketError::WouldBlock`] when none is; [`SocketError::Gone`].
    pub(crate) fn accept(
        &mut self,
        cx: &mut Cx<'_>,
        id: ListenerId,
    ) -> Result<(ConnId, SocketAddr), SocketError> {
        let l = self.listeners.get_mut(id).ok_or(SocketError::Gone)?;
        if !l.listens() {
            return Err(SocketError::InvalidInput);
        }
        while let Some(conn) = l.ready.pop_front() {
            let Some(c) = self.connections.get_mut(conn) else {
                continue;
            };
            c.owner = Owner::Socket;
            let peer = c.options.domain.outside(c.remote);
            self.settle(cx, conn);
            return Ok((conn, peer));
        }
        Err(SocketError::WouldBlock)
    }

    /// What can be done with a listener without waiting: whether a connection can be accepted.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn listener_readiness(&self, id: ListenerId) -> Result<Readiness, SocketError> {
        let l = self.listeners.get(id).ok_or(SocketError::Gone)?;
        Ok(Readiness {
            readable: !l.ready.is_empty(),
            ..Readiness::default()
        })
    }

    /// Who waits for connections.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn listener_waiters(&mut self, id: ListenerId) -> Result<&mut Waiters, SocketError> {
        let l = self.listeners.get_mut(id).ok_or(SocketError::Gone)?;
        Ok(&mut l.waiters)
    }

    /// Stops listening. Connections that nobody accepted are reset.
    pub(crate) fn close_listener(&mut self, cx: &mut Cx<'_>, id: ListenerId) {
        while let Some(oldest) = self.listeners.get(id).and_then(|l| l.requests.oldest()) {
            self.remove_half_open(oldest);
        }
        let Some(mut l) = self.listeners.remove(id) else {
            return;
        };
        self.ports.release(l.local, l.options.domain, id);
        l.waiters.wake_all(cx.out);
        for conn in l.ready {
            self.abort(cx, conn);
        }
    }

    /// Bytes that may be written now; zero means that the caller would block.
    ///
    /// # Errors
    /// A pending error, thereby reported; [`SocketError::BrokenPipe`] after the write side was
    /// closed; [`SocketError::NotConnected`]; [`SocketError::Gone`].
    #[inline]
    pub(crate) fn send_space(&mut self, id: ConnId) -> Result<usize, SocketError> {
        self.connection_mut(id)?.send_space()
    }

    /// Sets `n` bytes of the send buffer aside for a writer who copies outside the lock. They
    /// come back with [`Tcp::send_bytes`].
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn reserve(&mut self, id: ConnId, n: usize) -> Result<(), SocketError> {
        let c = self.connection_mut(id)?;
        c.snd.reserved = c.snd.reserved.saturating_add(n);
        Ok(())
    }

    /// Appends `data` by reference and gives its reservation back. The caller keeps to the
    /// space it was told of.
    ///
    /// # Errors
    /// As [`Tcp::send_space`]; the data is not taken then.
    pub(crate) fn send_bytes(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        data: Bytes,
    ) -> Result<(), SocketError> {
        let (c, ready) = self.connections.with_ready(id).ok_or(SocketError::Gone)?;
        c.send_bytes(data)?;
        if list(c, ready, &mut self.deadlines, id) {
            self.conclude(cx, id);
        }
        Ok(())
    }

    /// Appends a copy of as much of `data` as there is space for, and returns how much. For
    /// small writes, which end up side by side.
    ///
    /// # Errors
    /// As [`Tcp::send_space`]; [`SocketError::WouldBlock`] when there is no space.
    pub(crate) fn send_copy(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        let (c, ready) = self.connections.with_ready(id).ok_or(SocketError::Gone)?;
        let n = c.send_copy(data)?;
        if list(c, ready, &mut self.deadlines, id) {
            self.conclude(cx, id);
        }
        Ok(n)
    }

    /// Hands out up to `max` received bytes, by reference, and returns how many. `Ok(0)` for a
    /// `max` above zero is the end of the stream.
    ///
    /// # Errors
    /// [`SocketError::WouldBlock`] when nothing has arrived; a pending error, once everything
    /// that arrived before it was read; [`SocketError::NotConnected`]; [`SocketError::Gone`].
    pub(crate) fn recv(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        max: usize,
        into: &mut impl Taker,
        mode: ReadMode,
    ) -> Result<usize, SocketError> {
        let c = self.connections.get_mut(id).ok_or(SocketError::Gone)?;
        let env = Env::new(&self.config, &mut self.stats, cx);
        let read = c.recv(&env, max, into, mode);
        let has_consequences = match read {
            // No deadline is set by reading, but the peer may have to be told of the room.
            Ok(_) => c.may_transmit(),
            // Who waits for the peer to speak first has nothing for the SYN to carry.
            Err(SocketError::WouldBlock) => c.release_syn(),
            Err(_) => false,
        };
        if has_consequences {
            self.settle(cx, id);
        }
        read
    }

    /// Who waits for the connection.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    #[inline]
    pub(crate) fn waiters(&mut self, id: ConnId) -> Result<&mut Waiters, SocketError> {
        Ok(&mut self.connection_mut(id)?.waiters)
    }

    /// What can be done without blocking.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn readiness(&self, id: ConnId) -> Result<Readiness, SocketError> {
        Ok(self.connection(id)?.readiness())
    }

    /// Closes one direction or both; the socket stays.
    ///
    /// # Errors
    /// [`SocketError::NotConnected`] when the connection is over; [`SocketError::Gone`].
    pub(crate) fn shutdown(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        let c = self.connections.get_mut(id).ok_or(SocketError::Gone)?;
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        c.shutdown(&mut env, how)?;
        self.settle(cx, id);
        Ok(())
    }

    /// The socket lets go of its connection, which goes on by itself: what was written is sent,
    /// then a FIN. With data that was not read, or with a linger time of zero, it is reset; with
    /// another linger time, when that is over before all was acknowledged.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        match c.close(&mut env) {
            // As on Linux: what nobody waits for must not take all there is.
            CloseAction::GoesOn if self.orphans >= self.config.max_orphans => {
                self.stats.orphans_reset += 1;
                return self.abort(cx, id);
            }
            CloseAction::GoesOn => {
                c.is_orphan = true;
                self.orphans += 1;
            }
            CloseAction::Over => c.end_quietly(&mut env),
            CloseAction::Abort => return self.abort(cx, id),
        }
        self.settle(cx, id);
    }

    /// Ends a connection at once; the peer is told with a reset.
    pub(crate) fn abort(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        let tell = c.is_known_to_peer();
        let reset = c.reset(env.now);
        c.owner = Owner::Nobody;
        c.finish(&mut env, Some(SocketError::ConnectionAborted));
        if tell {
            // Not limited, as replies to strangers are: it belongs to a connection.
            self.stats.resets_out += 1;
            self.replies.push_back(reset);
        }
        self.settle(cx, id);
    }

    /// The pending error, which is thereby reported (`SO_ERROR`).
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn take_error(&mut self, id: ConnId) -> Result<Option<SocketError>, SocketError> {
        let error = self.connection_mut(id)?.error.take();
        Ok(error.map(|error| *error))
    }

    /// This end's address, as its program sees it.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn local_addr(&self, id: ConnId) -> Result<SocketAddr, SocketError> {
        let c = self.connection(id)?;
        Ok(c.options.domain.outside(c.local))
    }

    /// The peer's address, as the program sees it.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn peer_addr(&self, id: ConnId) -> Result<SocketAddr, SocketError> {
        let c = self.connection(id)?;
        Ok(c.options.domain.outside(c.remote))
    }

    /// The connection's inner life.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn info(&self, now: Instant, id: ConnId) -> Result<TcpInfo, SocketError> {
        Ok(self.connection(id)?.info(now, &self.config))
    }

    /// The socket's options.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn options(&self, id: ConnId) -> Result<&Options, SocketError> {
        self.connections.options(id).ok_or(SocketError::Gone)
    }

    /// Changes options, with what follows from it: data that waited for company leaves, probes
    /// begin or end.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for what cannot be; [`SocketError::Gone`].
    pub(crate) fn set_options(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), SocketError> {
        let c = self.connections.get_mut(id).ok_or(SocketError::Gone)?;
        let before = *c.options;
        let mut wanted = before;
        change(&mut wanted);
        let wanted = before.adopt(&self.config, &wanted)?;
        c.options = self.shared_options.share(wanted);
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        c.options_changed(&mut env, &before);
        self.settle(cx, id);
        Ok(())
    }

    /// The options of a listener.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn listener_options(&self, id: ListenerId) -> Result<&Options, SocketError> {
        Ok(&self.listeners.get(id).ok_or(SocketError::Gone)?.options)
    }

    /// Changes the options of a listener, for connections that it accepts from now on.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`], [`SocketError::Gone`].
    pub(crate) fn set_listener_options(
        &mut self,
        id: ListenerId,
        options: &SocketOptions,
    ) -> Result<(), SocketError> {
        let l = self.listeners.get_mut(id).ok_or(SocketError::Gone)?;
        let wanted = l.options.adopt(&self.config, options)?;
        l.options = self.shared_options.share(wanted);
        Ok(())
    }

    /// Says how the next write belongs to what follows it.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn flag_write(&mut self, id: ConnId, flags: SendFlags) -> Result<(), SocketError> {
        self.connection_mut(id)?.flag_write(flags);
        Ok(())
    }

    /// The time to live of a connection's packets; zero means the vnet's default.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn ttl(&mut self, id: ConnId) -> Result<&mut u8, SocketError> {
        Ok(&mut Arc::make_mut(&mut self.connection_mut(id)?.options).ttl)
    }

    /// The interface that a connection is bound to.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn interface(&mut self, id: ConnId) -> Result<&mut Option<IfId>, SocketError> {
        Ok(&mut Arc::make_mut(&mut self.connection_mut(id)?.options).interface)
    }

    /// The same of a listener, which the connections it accepts inherit.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn listener_interface(
        &mut self,
        id: ListenerId,
    ) -> Result<&mut Option<IfId>, SocketError> {
        let l = self.listeners.get_mut(id).ok_or(SocketError::Gone)?;
        Ok(&mut Arc::make_mut(&mut l.options).interface)
    }

    /// The time to live of a listener, which the connections it accepts inherit.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    pub(crate) fn listener_ttl(&mut self, id: ListenerId) -> Result<&mut u8, SocketError> {
        let l = self.listeners.get_mut(id).ok_or(SocketError::Gone)?;
        Ok(&mut Arc::make_mut(&mut l.options).ttl)
    }

    pub(super) fn is_full(&self) -> bool {
        let sockets = self.connections.len() + self.half_open.len() + self.listeners.len();
        sockets >= self.config.max_sockets.min(self.socket_limit)
    }

    #[inline]
    fn connection(&self, id: ConnId) -> Result<Seen<'_>, SocketError> {
        self.connections.get(id).ok_or(SocketError::Gone)
    }

    #[inline]
    fn connection_mut(&mut self, id: ConnId) -> Result<&mut Connection, SocketError> {
        self.connections.get_mut(id).ok_or(SocketError::Gone)
    }
}
