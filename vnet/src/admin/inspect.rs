//! Seeing what an instance consists of: neighbours, sockets, links; and, in [`Inspection`],
//! everything at once.

mod display;
mod inspection;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use inspection::{Inspection, InterfaceView};

use crate::base::time::{Duration, Instant};
use crate::instance::phase::Gone;
use crate::instance::vnet::Vnet;
use crate::link::{LinkConfig, LinkStats};
use crate::neigh::state::StateName;
use crate::netif::AdminError;
use crate::packet::MacAddr;
use crate::packet::header::zone;
use crate::stack::Stack;
use crate::transport::tcp::{TcpInfo, TcpState};

/// A neighbour, as listed by `arp -an`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NeighbourInfo {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its Ethernet address, when known.
    pub mac: Option<MacAddr>,
    /// The interface it is on.
    pub interface: String,
    /// How certain its address is (RFC 4861, section 7.3.2).
    pub state: StateName,
    /// Packets that wait for its address.
    pub held_packets: usize,
    /// How long ago a packet was last sent to it.
    pub idle: Duration,
}

/// What kind of socket, and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// A TCP socket or connection in this state.
    Tcp(TcpState),
    /// A UDP socket.
    Udp,
    /// A raw socket of this protocol number.
    Raw(u8),
    /// An echo socket with this identifier.
    Echo(u16),
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketKind::Tcp(state) => write!(f, "tcp4 {state:?}"),
            SocketKind::Udp => f.write_str("udp4"),
            SocketKind::Raw(proto) => write!(f, "raw proto {proto}"),
            SocketKind::Echo(ident) => write!(f, "echo ident {ident}"),
        }
    }
}

/// A socket, or a TCP connection that has outlived its socket, as listed by `netstat -an`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SocketInfo {
    /// What it is.
    pub kind: SocketKind,
    /// Its address, when it has one.
    pub local: Option<SocketAddr>,
    /// Its peer's address, when it has one.
    pub peer: Option<SocketAddr>,
    /// What is waiting to be read: bytes for TCP, connections for a listener, datagrams for others.
    pub recv_queue: usize,
    /// Bytes written and not acknowledged; the backlog of a listener.
    pub send_queue: usize,
    /// The inner life of a connection, unless its handshake is not complete or it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Box<TcpInfo>>,
}

impl Vnet {
    /// The neighbours, in the order of their table.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn neighbours(&self) -> Result<Vec<NeighbourInfo>, Gone> {
        self.core.with(|stack, cx| neighbours(stack, cx.now))
    }

    /// The sockets and connections.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn sockets(&self) -> Result<Vec<SocketInfo>, Gone> {
        self.core.with(|stack, cx| sockets(stack, Some(cx.now)))
    }

    /// The configuration of the outgoing direction of an interface's link; the default, without
    /// impairments, if [`Vnet::set_link`] was never called.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn link(&self, interface: &str) -> Result<LinkConfig, AdminError> {
        self.with_netif(interface, |netif, _| {
            let link = netif.link.as_deref();
            link.map(|l| l.config().clone()).unwrap_or_default()
        })
    }

    /// What an interface's outgoing link has done so far; all zero without one.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn link_stats(&self, interface: &str) -> Result<LinkStats, AdminError> {
        self.with_netif(interface, |netif, cx| {
            let link = netif.link.as_deref();
            link.map(|l| l.stats(cx.now)).unwrap_or_default()
        })
    }
}

fn neighbours(stack: &Stack, now: Instant) -> Vec<NeighbourInfo> {
    let name = |id| stack.ifs.get(id).map_or("", |i| &*i.name).to_owned();
    let list = stack.neigh.list(now).map(|n| NeighbourInfo {
        ip: zone::wire_ip(n.ip),
        mac: n.mac,
        interface: name(n.ifid),
        state: n.state,
        held_packets: n.held,
        idle: now - n.used,
    });
    list.collect()
}

/// The sockets and connections of a stack; with the inner life of connections, if it is told the time.
pub(super) fn sockets(stack: &Stack, now: Option<Instant>) -> Vec<SocketInfo> {
    let info = |id| stack.tcp.info(now?, id).ok().map(Box::new);
    let tcp = stack.tcp.sockets().into_iter().map(|t| SocketInfo {
        kind: SocketKind::Tcp(t.state),
        local: Some(zone::outside(t.local)),
        peer: t.remote.map(zone::outside),
        recv_queue: t.recv_queue,
        send_queue: t.send_queue,
        tcp: t.id.and_then(info),
    });
    let udp = stack.datagrams.udp.sockets.iter().map(|u| SocketInfo {
        kind: SocketKind::Udp,
        local: u.own.local().map(zone::outside),
        peer: u.own.peer().map(zone::outside),
        recv_queue: u.queued(),
        send_queue: 0,
        tcp: None,
    });
    let unbound = |kind, recv_queue| SocketInfo {
        kind,
        local: None,
        peer: None,
        recv_queue,
        send_queue: 0,
        tcp: None,
    };
    let raw = stack.datagrams.raw.sockets.iter();
    let raw = raw.map(|r| unbound(SocketKind::Raw(r.own), r.queued()));
    let echo = stack.datagrams.echo.sockets.iter();
    let echo = echo.map(|e| unbound(SocketKind::Echo(e.own), e.queued()));
    tcp.chain(udp).chain(raw).chain(echo).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;
    use crate::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};

    #[test]
    fn everything_made_is_listed() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a fresh name");
        let b = system.create("b").expect("a fresh name");
        a.epair("eth0", &b, "eth0").expect("both exist");
        let net = |n| format!("192.0.2.{n}/24").parse().expect("a prefix");
        a.add_address("eth0", net(1)).expect("a host address");
        b.add_address("eth0", net(2)).expect("a host address");
        let _listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("a free port");
        let _udp = UdpSocket::bind_in(&a, "0.0.0.0:53").expect("a free port");
        let _echo = EchoSocket::bind_in(&a).expect("room for a socket");
        let _stream = TcpStream::connect_in(&a, "192.0.2.2:80").expect("somebody listens");

        let kinds: Vec<SocketKind> = a.sockets().expect("alive").iter().map(|s| s.kind).collect();
        assert!(matches!(
            kinds[..],
            [
                SocketKind::Tcp(TcpState::Established),
                SocketKind::Udp,
                SocketKind::Echo(_)
            ]
        ));
        let listening = b.sockets().expect("alive");
        assert_eq!(listening[0].kind, SocketKind::Tcp(TcpState::Listen));
        let neighbours = a.neighbours().expect("alive");
        assert_eq!(neighbours.len(), 1);
        assert_eq!(neighbours[0].ip.to_string(), "192.0.2.2");
        assert_eq!(
            neighbours[0].mac,
            Some(b.interfaces().expect("alive")[1].mac)
        );
        assert_eq!(a.link_stats("eth0"), Ok(LinkStats::default()));
    }
}
