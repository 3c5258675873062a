//! A socket of either kind, from before it is bound, with the names of the crate `socket2`.
//!
//! It does not read and write: it becomes a [`TcpStream`], a [`TcpListener`] or a [`UdpSocket`], and can be made of one
//! of them, to reach the options that they have no calls for.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;

use super::bind::BindOptions;
use super::error::current;
use super::handle::{Handle, Wait};
use super::kinds::{Domain, Protocol, TcpKeepalive, Type};
use super::tcp::{TcpListener, TcpStream};
use super::udp::UdpSocket;
use crate::base::id::IfId;
use crate::base::lock::{Mutex, Rank};
use crate::base::time::Duration;
use crate::instance::Vnet;
use crate::stack::sockets::SocketId;
use crate::transport::domain::Domain as Speaks;
use crate::transport::error::SocketError;
use crate::transport::ports::Reuse;
use crate::transport::tcp::{Options, SocketOptions};

/// The largest receive buffer of a socket of datagrams, as of `net.inet.udp.recvspace`.
const MAX_DATAGRAMS: usize = 1 << 30;

/// A socket of either kind, with the names of `socket2`: it is made, options are set, it is bound, and then it listens or
/// connects. `From` makes a [`TcpStream`], a [`TcpListener`] or a [`UdpSocket`] of it, and it of one of these.
///
/// ```
/// use vnet::System;
/// use vnet::net::{Domain, Protocol, Socket, TcpListener, TcpStream, Type};
///
/// let system = System::virtual_time(1);
/// let a = system.create("a")?;
/// let _current = a.enter();
///
/// let server = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
/// server.set_reuse_address(true)?;
/// server.bind(&"127.0.0.1:80".parse().unwrap())?;
/// server.listen(16)?;
/// let listener = TcpListener::from(server);
///
/// let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
/// client.set_tcp_mss(500)?;
/// client.bind(&"127.0.0.1:4000".parse().unwrap())?;
/// client.connect(&listener.local_addr()?)?;
/// let client = TcpStream::from(client);
/// assert_eq!(client.local_addr()?.port(), 4000);
/// assert_eq!(listener.accept()?.1, client.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Socket {
    vnet: Vnet,
    state: Arc<Mutex<State>>,
}

/// What it is by now.
#[derive(Clone)]
enum State {
    New(Plan),
    /// A TCP socket that is bound, and does not listen yet.
    Bound(TcpListener, Plan),
    Listener(TcpListener),
    Stream(TcpStream),
    Datagram(UdpSocket),
}

/// What is known of a socket before there is one.
#[derive(Clone, Copy)]
struct Plan {
    domain: Domain,
    kind: Type,
    options: Options,
    bind: BindOptions,
    /// `SO_REUSEADDR` and `SO_REUSEPORT`, of which `bind` has what follows.
    reuse: [bool; 2],
    nonblocking: bool,
    broadcast: bool,
    timeouts: [Option<Duration>; 2],
}

impl Plan {
    fn set_reuse(&mut self, reuse: [bool; 2]) {
        self.reuse = reuse;
        self.bind.reuse = match reuse {
            [_, true] => Reuse::Balanced,
            [true, false] => Reuse::Shared,
            [false, false] => Reuse::Exclusive,
        };
    }
}

impl Socket {
    /// Makes a socket in the current vnet.
    ///
    /// # Errors
    /// [`ErrorKind::NetworkDown`] when no vnet is current; [`ErrorKind::InvalidInput`] for a protocol that is not the
    /// kind's.
    pub fn new(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
        Socket::new_in(&current()?, domain, kind, protocol)
    }

    /// Makes a socket in `vnet`.
    ///
    /// # Errors
    /// As [`Socket::new`]; the vnet is gone.
    pub fn new_in(
        vnet: &Vnet,
        domain: Domain,
        kind: Type,
        protocol: Option<Protocol>,
    ) -> io::Result<Socket> {
        match (kind, protocol) {
            (_, None)
            | (Type::STREAM, Some(Protocol::TCP))
            | (Type::DGRAM, Some(Protocol::UDP)) => {}
            _ => return Err(SocketError::InvalidInput.into()),
        }
        let unspecified = unspecified(domain);
        let options = vnet
            .core
            .with(|s, _| s.tcp_options(s.domain(unspecified, None)));
        let plan = Plan {
            domain,
            kind,
            options: options.map_err(SocketError::from)?,
            bind: BindOptions::default(),
            reuse: [false; 2],
            nonblocking: false,
            broadcast: false,
            timeouts: [None; 2],
        };
        Ok(Socket::of(vnet, State::New(plan)))
    }

    fn of(vnet: &Vnet, state: State) -> Socket {
        Socket {
            vnet: vnet.same(),
            state: Arc::new(Mutex::new(Rank::Waker, state)),
        }
    }

    fn state(&self) -> State {
        self.state.lock().clone()
    }

    fn become_(&self, state: State) {
        let before = std::mem::replace(&mut *self.state.lock(), state);
        // A socket that is closed by this enters its vnet: not while the lock is held.
        drop(before);
    }

    /// Binds the socket; port 0 asks for a free one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is bound already, or for an address of another family;
    /// [`ErrorKind::AddrInUse`]; [`ErrorKind::AddrNotAvailable`] for an address that is not the vnet's;
    /// [`ErrorKind::PermissionDenied`] for a port below 1024 without the privilege.
    pub fn bind(&self, address: &SocketAddr) -> io::Result<()> {
        let State::New(plan) = self.state() else {
            return Err(SocketError::InvalidInput.into());
        };
        if Domain::for_address(*address) != plan.domain {
            return Err(SocketError::InvalidInput.into());
        }
        let state = match plan.kind {
            Type::STREAM => State::Bound(self.bound(*address, &plan)?, plan),
            Type::DGRAM => State::Datagram(self.datagram(*address, &plan)?),
        };
        self.become_(state);
        Ok(())
    }

    fn bound(&self, address: SocketAddr, plan: &Plan) -> io::Result<TcpListener> {
        self.vnet
            .require_port(address.port())
            .map_err(SocketError::from)?;
        let mut local = address;
        let handle = Handle::open(&self.vnet.core, |s, cx| {
            let mut options = plan.options;
            options.domain = s.domain(address, plan.bind.only_v6);
            let (id, bound) = s.tcp_bind(cx, address, options, plan.bind.reuse)?;
            local = bound;
            Ok(id)
        })?;
        Ok(TcpListener(handle, local))
    }

    fn datagram(&self, address: SocketAddr, plan: &Plan) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind_with(&self.vnet, address, &plan.bind)?;
        let options = plan.options;
        socket.0.now(|s, _, id| {
            let of = &mut s.datagrams.udp.sockets.get_mut(id)?.options;
            of.tos = options.tos;
            of.recv_buffer = options.recv_buffer.unwrap_or(of.recv_buffer);
            if options.ttl > 0 {
                of.ttl = options.ttl;
            }
            Ok(())
        })?;
        bind_to(&socket.0, options.interface)?;
        socket.set_broadcast(plan.broadcast)?;
        socket.set_nonblocking(plan.nonblocking)?;
        socket.set_read_timeout(plan.timeouts[0])?;
        socket.set_write_timeout(plan.timeouts[1])?;
        Ok(socket)
    }

    /// Listens, with room for `backlog` connections that wait to be accepted (`net.inet.tcp.somaxconn` at most). A socket
    /// that is not bound gets a free port.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a socket of datagrams or one that is connected; [`ErrorKind::AddrInUse`] when
    /// another one listens at the address, and they are not a group.
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        let (listener, plan) = match self.state() {
            State::New(plan) if plan.kind == Type::STREAM => {
                (self.bound(unspecified(plan.domain), &plan)?, Some(plan))
            }
            State::Bound(listener, plan) => (listener, Some(plan)),
            State::Listener(listener) => (listener, None),
            _ => return Err(SocketError::InvalidInput.into()),
        };
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        listener
            .0
            .now(|s, _, id| s.tcp.start_listening(id, backlog))?;
        if let Some(plan) = plan {
            listener.set_nonblocking(plan.nonblocking)?;
            listener.set_accept_timeout(plan.timeouts[0])?;
        }
        self.become_(State::Listener(listener));
        Ok(())
    }

    /// Connects. For a socket of datagrams, this sets its peer. A nonblocking stream only begins to connect:
    /// [`ErrorKind::WouldBlock`] says that the attempt is in progress; the stream becomes writable when it has ended.
    ///
    /// # Errors
    /// As [`TcpStream::connect_in`]; [`ErrorKind::InvalidInput`] for a listener and for a stream.
    #[track_caller]
    pub fn connect(&self, address: &SocketAddr) -> io::Result<()> {
        self.connect_waiting(*address, Wait::Blocking(None))
    }

    /// Like [`Socket::connect`], waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`Socket::connect`]; [`ErrorKind::TimedOut`].
    #[track_caller]
    pub fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<()> {
        let result = self.connect_waiting(*address, Wait::Blocking(Some(timeout)));
        result.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => SocketError::TimedOut.into(),
            _ => e,
        })
    }

    #[track_caller]
    fn connect_waiting(&self, address: SocketAddr, wait: Wait<'_>) -> io::Result<()> {
        let (handle, plan) = match self.state() {
            State::New(plan) if plan.kind == Type::DGRAM => {
                let socket = self.datagram(unspecified(plan.domain), &plan)?;
                socket.connect(address)?;
                self.become_(State::Datagram(socket));
                return Ok(());
            }
            State::Datagram(socket) => return socket.connect(address),
            State::New(plan) => {
                let (options, reuse) = (plan.options, plan.bind.reuse);
                let handle = Handle::open(&self.vnet.core, |s, cx| {
                    s.tcp_connect(cx, None, address, reuse, Some(options))
                });
                (handle?, plan)
            }
            State::Bound(bound, plan) => {
                let id = bound
                    .0
                    .now(|s, cx, id| s.tcp_connect_bound(cx, id, address))?;
                (Handle::of(&self.vnet.core, id), plan)
            }
            State::Listener(_) => return Err(SocketError::InvalidInput.into()),
            State::Stream(_) => return Err(SocketError::AlreadyConnected.into()),
        };
        let stream = TcpStream(handle);
        stream.set_nonblocking(plan.nonblocking)?;
        stream.set_read_timeout(plan.timeouts[0])?;
        stream.set_write_timeout(plan.timeouts[1])?;
        self.become_(State::Stream(stream.clone()));
        // Who says how long to wait waits, as with std's and socket2's.
        stream.connected(match (plan.nonblocking, &wait) {
            (true, Wait::Blocking(None)) => Wait::Not,
            _ => wait,
        })
    }

    /// Waits for a connection to a listener; see [`TcpListener::accept`].
    ///
    /// # Errors
    /// As [`TcpListener::accept`]; [`ErrorKind::InvalidInput`] for a socket that does not listen.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let State::Listener(listener) = self.state() else {
            return Err(SocketError::InvalidInput.into());
        };
        let (stream, peer) = listener.accept()?;
        Ok((Socket::of(&self.vnet, State::Stream(stream)), peer))
    }

    /// The socket's own address; one that is not bound has an unspecified one.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.state() {
            State::New(plan) => Ok(unspecified(plan.domain)),
            State::Bound(listener, _) | State::Listener(listener) => listener.local_addr(),
            State::Stream(stream) => stream.local_addr(),
            State::Datagram(socket) => socket.local_addr(),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`]; the vnet is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.state() {
            State::Stream(stream) => stream.peer_addr(),
            State::Datagram(socket) => socket.peer_addr(),
            _ => Err(SocketError::NotConnected.into()),
        }
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    /// None; the signature is that of `socket2`.
    pub fn try_clone(&self) -> io::Result<Socket> {
        Ok(Socket {
            vnet: self.vnet.same(),
            state: Arc::clone(&self.state),
        })
    }

    /// Takes the pending error (`SO_ERROR`).
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self.state() {
            State::Stream(stream) => stream.take_error(),
            State::Datagram(socket) => socket.take_error(),
            _ => Ok(None),
        }
    }

    /// Shuts down reading, writing, or both.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.state() {
            State::Stream(stream) => stream.shutdown(how),
            _ => Err(SocketError::NotConnected.into()),
        }
    }

    /// Sets whether operations return [`ErrorKind::WouldBlock`] instead of waiting.
    ///
    /// # Errors
    /// None; the signature is that of `socket2`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &mut *self.state.lock() {
            State::New(plan) | State::Bound(_, plan) => plan.nonblocking = nonblocking,
            State::Listener(listener) => listener.set_nonblocking(nonblocking)?,
            State::Stream(stream) => stream.set_nonblocking(nonblocking)?,
            State::Datagram(socket) => socket.set_nonblocking(nonblocking)?,
        }
        Ok(())
    }

    /// Sets how long reading or accepting waits; without a limit by default.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(0, timeout)
    }

    /// Sets how long writing waits; without a limit by default.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(1, timeout)
    }

    fn set_timeout(&self, which: usize, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(SocketError::InvalidInput.into());
        }
        match (&mut *self.state.lock(), which) {
            (State::New(plan) | State::Bound(_, plan), _) => plan.timeouts[which] = timeout,
            (State::Listener(listener), 0) => listener.set_accept_timeout(timeout)?,
            (State::Listener(_), _) => {}
            (State::Stream(stream), 0) => stream.set_read_timeout(timeout)?,
            (State::Stream(stream), _) => stream.set_write_timeout(timeout)?,
            (State::Datagram(socket), 0) => socket.set_read_timeout(timeout)?,
            (State::Datagram(socket), _) => socket.set_write_timeout(timeout)?,
        }
        Ok(())
    }

    /// All options of a TCP socket.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a bound socket of datagrams; the vnet is gone.
    pub fn options(&self) -> io::Result<SocketOptions> {
        match self.state() {
            State::New(plan) => Ok(*plan.options),
            State::Bound(listener, _) | State::Listener(listener) => listener.options(),
            State::Stream(stream) => stream.options(),
            State::Datagram(_) => Err(SocketError::InvalidInput.into()),
        }
    }

    /// Sets all options of a TCP socket; see [`SocketOptions`].
    ///
    /// # Errors
    /// As [`TcpStream::set_options`]; [`ErrorKind::InvalidInput`] for a bound socket of datagrams.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        match self.state() {
            State::New(plan) => {
                let core = &self.vnet.core;
                let adopted = core.with(|s, _| plan.options.adopt(s.tcp.config(), options));
                let adopted = adopted.map_err(SocketError::from)??;
                self.plan(|plan| plan.options = adopted)
            }
            State::Bound(listener, _) | State::Listener(listener) => listener.set_options(options),
            State::Stream(stream) => stream.set_options(options),
            State::Datagram(_) => Err(SocketError::InvalidInput.into()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        let mut options = self.options()?;
        change(&mut options);
        self.set_options(&options)
    }

    fn plan(&self, change: impl FnOnce(&mut Plan)) -> io::Result<()> {
        match &mut *self.state.lock() {
            State::New(plan) => change(plan),
            _ => return Err(SocketError::InvalidInput.into()),
        }
        Ok(())
    }

    /// Sets whether the address may be shared with sockets that allow it too (`SO_REUSEADDR`). Before binding only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket is bound.
    pub fn set_reuse_address(&self, reuse: bool) -> io::Result<()> {
        self.plan(|plan| plan.set_reuse([reuse, plan.reuse[1]]))
    }

    /// Sets whether the socket is one of a group at its address (`SO_REUSEPORT`); those at one address share what comes. Before binding
    /// only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket is bound.
    pub fn set_reuse_port(&self, reuse: bool) -> io::Result<()> {
        self.plan(|plan| plan.set_reuse([plan.reuse[0], reuse]))
    }

    /// Sets whether a socket of IPv6 is for IPv6 alone (`IPV6_V6ONLY`). Before binding only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the socket is bound.
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        let domain = match only_v6 {
            true => Speaks::V6,
            false => Speaks::Dual,
        };
        self.plan(|plan| {
            plan.bind.only_v6 = Some(only_v6);
            if plan.domain == Domain::IPV6 {
                plan.options.domain = domain;
            }
        })
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`). A socket of TCP ignores it.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        match self.state() {
            State::New(_) => self.plan(|plan| plan.broadcast = broadcast),
            State::Datagram(socket) => socket.set_broadcast(broadcast),
            _ => Ok(()),
        }
    }

    /// Sets the size of the receive buffer, in bytes (`SO_RCVBUF`), to at most 1 GiB for datagrams and what
    /// `net.inet.tcp.maxbuf` allows for a stream.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_recv_buffer_size(&self, size: usize) -> io::Result<()> {
        match self.state() {
            State::Datagram(socket) => socket.0.now(|s, _, id| {
                s.datagrams.udp.sockets.get_mut(id)?.options.recv_buffer = size.min(MAX_DATAGRAMS);
                Ok(())
            }),
            _ => self.change(|o| o.recv_buffer = Some(size)),
        }
    }

    /// The size of the receive buffer, in bytes.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        match self.state() {
            State::Stream(stream) => Ok(stream.info()?.recv_buffer),
            State::Datagram(socket) => socket
                .0
                .now(|s, _, id| Ok(s.datagrams.udp.sockets.get(id)?.options.recv_buffer)),
            _ => {
                let chosen = self.options()?.recv_buffer;
                let default = self.vnet.core.with(|s, _| s.tcp.config().recv_buffer);
                Ok(chosen.unwrap_or(default.map_err(SocketError::from)?))
            }
        }
    }

    /// Sets the size of the send buffer, in bytes (`SO_SNDBUF`). Datagrams have none, and ignore it.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_send_buffer_size(&self, size: usize) -> io::Result<()> {
        match self.state() {
            State::Datagram(_) => Ok(()),
            _ => self.change(|o| o.send_buffer = Some(size)),
        }
    }

    /// The size of the send buffer, in bytes; zero for datagrams, which are not kept.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        match self.state() {
            State::Stream(stream) => Ok(stream.info()?.send_buffer),
            State::Datagram(_) => Ok(0),
            _ => {
                let chosen = self.options()?.send_buffer;
                let default = self.vnet.core.with(|s, _| s.tcp.config().send_buffer);
                Ok(chosen.unwrap_or(default.map_err(SocketError::from)?))
            }
        }
    }

    /// Sets the type of service of packets sent (`IP_TOS`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 255; the vnet is gone.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        let tos = u8::try_from(tos).map_err(|_| SocketError::InvalidInput)?;
        match self.state() {
            State::Datagram(socket) => socket.0.now(|s, _, id| {
                s.datagrams.udp.sockets.get_mut(id)?.options.tos = tos;
                Ok(())
            }),
            _ => self.change(|o| o.tos = tos),
        }
    }

    /// The type of service of packets sent.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn tos_v4(&self) -> io::Result<u32> {
        match self.state() {
            State::Datagram(socket) => socket
                .0
                .now(|s, _, id| Ok(s.datagrams.udp.sockets.get(id)?.options.tos.into())),
            _ => Ok(self.options()?.tos.into()),
        }
    }

    /// Sets the traffic class of packets sent (`IPV6_TCLASS`), which is the same as [`Socket::set_tos_v4`].
    ///
    /// # Errors
    /// As [`Socket::set_tos_v4`].
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        self.set_tos_v4(tclass)
    }

    /// Binds the socket to an interface (`SO_BINDTODEVICE`), or to none: by it alone connections and datagrams come in that
    /// have not been connected yet, and what is sent leaves by it, as if what no route leads to were on its link.
    ///
    /// # Errors
    /// [`ErrorKind::AddrNotAvailable`] when there is no such interface; the vnet is gone.
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let on = self.vnet.core.with(|s, _| match interface {
            None => Ok(None),
            Some(name) => {
                let name = std::str::from_utf8(name).ok();
                let on = name.and_then(|name| s.ifs.id_of(name).ok());
                on.map(Some).ok_or(SocketError::AddrNotAvailable)
            }
        });
        let on = on.map_err(SocketError::from)??;
        match self.state() {
            State::New(_) => self.plan(|plan| plan.options.interface = on),
            State::Bound(socket, _) | State::Listener(socket) => bind_to(&socket.0, on),
            State::Stream(socket) => bind_to(&socket.0, on),
            State::Datagram(socket) => bind_to(&socket.0, on),
        }
    }

    /// Sets when an idle connection is probed, and has it probed (`TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for zero, or more than 255 probes; the vnet is gone.
    pub fn set_tcp_keepalive(&self, params: &TcpKeepalive) -> io::Result<()> {
        let retries = params.retries.map(u8::try_from).transpose();
        let retries = retries.map_err(|_| SocketError::InvalidInput)?;
        self.change(|o| {
            o.keepalive = true;
            o.keepalive_idle = params.time.or(o.keepalive_idle);
            o.keepalive_interval = params.interval.or(o.keepalive_interval);
            o.keepalive_probes = retries.or(o.keepalive_probes);
        })
    }
}

/// Options of TCP that have a name of their own: the setter, the field, and how it is set.
macro_rules! named {
    ($($(#[$doc:meta])* $set:ident, $get:ident: $type:ty, |$o:ident, $value:ident| $setting:expr, $getting:expr;)*) => {
        /// Options of TCP; [`SocketOptions`] has them all.
        impl Socket {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// Those of [`Socket::set_options`].
            pub fn $set(&self, $value: $type) -> io::Result<()> {
                self.change(|$o| $setting)
            }

            /// What it is set to.
            ///
            /// # Errors
            /// Those of [`Socket::options`].
            pub fn $get(&self) -> io::Result<$type> {
                let $o = self.options()?;
                Ok($getting)
            }
        )*}
    };
}

named! {
    /// Sets whether an idle connection is probed (`SO_KEEPALIVE`).
    set_keepalive, keepalive: bool, |o, on| o.keepalive = on, o.keepalive;
    /// Sets how long written data is still delivered after the last handle is gone (`SO_LINGER`).
    set_linger, linger: Option<Duration>, |o, limit| o.linger = limit, o.linger;
    /// Sets whether small segments are sent at once (`TCP_NODELAY`).
    set_tcp_nodelay, tcp_nodelay: bool, |o, on| o.nodelay = on, o.nodelay;
    /// Sets whether only full segments leave (`TCP_CORK`).
    set_tcp_cork, tcp_cork: bool, |o, on| o.cork = on, o.cork;
    /// Sets whether each segment is acknowledged at once (`TCP_QUICKACK`).
    set_tcp_quickack, tcp_quickack: bool, |o, on| o.quickack = on, o.quickack;
    /// Sets how long something sent may go unacknowledged (`TCP_USER_TIMEOUT`).
    set_tcp_user_timeout, tcp_user_timeout: Option<Duration>, |o, limit| o.user_timeout = limit, o.user_timeout;
    /// Sets the largest segment, in bytes (`TCP_MAXSEG`). Before one is set, it is 536.
    set_tcp_mss, tcp_mss: u32, |o, mss| o.max_segment = Some(u16::try_from(mss).unwrap_or(u16::MAX)), o.max_segment.unwrap_or(536).into();
    /// Sets how many bytes may be written and not sent (`TCP_NOTSENT_LOWAT`).
    set_tcp_notsent_lowat, tcp_notsent_lowat: u32, |o, most| o.unsent_low_water = Some(most as usize), o.unsent_low_water.map_or(u32::MAX, |most| most as u32);
}

fn bind_to<I: Copy + Into<SocketId>>(socket: &Handle<I>, on: Option<IfId>) -> io::Result<()> {
    socket.now(|s, _, id| {
        *s.interface_bound(id.into())? = on;
        Ok(())
    })
}

fn unspecified(domain: Domain) -> SocketAddr {
    match domain {
        Domain::IPV4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Domain::IPV6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

macro_rules! made_of {
    ($($kind:ident => $state:ident),*) => {$(
        impl From<$kind> for Socket {
            fn from(socket: $kind) -> Socket {
                let vnet = Vnet::tenant(Arc::clone(socket.0.core()));
                Socket::of(&vnet, State::$state(socket))
            }
        }
    )*};
}
made_of!(TcpStream => Stream, TcpListener => Listener, UdpSocket => Datagram);

impl From<Socket> for TcpStream {
    /// # Panics
    /// The socket is not connected and has never been told to connect.
    #[track_caller]
    fn from(socket: Socket) -> TcpStream {
        match socket.state() {
            State::Stream(stream) => stream,
            _ => {
                panic!("a socket becomes a `TcpStream` once it is connected: call `connect` first")
            }
        }
    }
}

impl From<Socket> for TcpListener {
    /// # Panics
    /// The socket does not listen.
    #[track_caller]
    fn from(socket: Socket) -> TcpListener {
        match socket.state() {
            State::Listener(listener) => listener,
            _ => panic!("a socket becomes a `TcpListener` once it listens: call `listen` first"),
        }
    }
}

impl From<Socket> for UdpSocket {
    /// # Panics
    /// The socket is not bound, or is one of TCP.
    #[track_caller]
    fn from(socket: Socket) -> UdpSocket {
        match socket.state() {
            State::Datagram(socket) => socket,
            _ => panic!("a socket becomes a `UdpSocket` once it is bound: call `bind` first"),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.state() {
            State::New(_) => "new",
            State::Bound(..) => "bound",
            State::Listener(_) => "listening",
            State::Stream(_) => "stream",
            State::Datagram(_) => "datagrams",
        };
        f.debug_struct("Socket")
            .field("vnet", &self.vnet.name())
            .field("state", &what)
            .field("local", &self.local_addr().ok())
            .finish()
    }
}
