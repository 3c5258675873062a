//! The kernel as a peer: network namespaces in a row, joined by veth pairs, with routers in between.
//!
//! Each veth pair has the kernel's defaults, which are its best: segments stay whole, and nothing is summed. A namespace
//! is new, so it has no packet filter, no connection tracking, and no reverse-path check.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::sockopt;
use vnet_tap::NetNs;

use crate::compare::SideError;

/// The kernel's congestion control, which is vnet's by default as well. A host may prefer another one: BBR waits for a timer
/// between segments even where nothing limits it, and carries less than half as much over veth.
const CONGESTION: &str = "cubic";

/// A new network namespace, whose TCP has [`CONGESTION`].
///
/// # Errors
/// Without the right to make namespaces; when the kernel does not have that.
pub(crate) fn namespace() -> io::Result<NetNs> {
    let ns = NetNs::new()?;
    set(&ns, "tcp_congestion_control", CONGESTION)?;
    Ok(ns)
}

/// Gives a socket [`CONGESTION`], and those that are accepted from it.
///
/// # Errors
/// When the kernel does not have that.
pub(crate) fn set_congestion(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_congestion(socket, CONGESTION)?)
}

/// Sets something below `/proc/sys/net/ipv4` in a namespace.
pub(crate) fn set(ns: &NetNs, key: &'static str, value: &'static str) -> io::Result<()> {
    ns.run(move || fs::write(format!("/proc/sys/net/ipv4/{key}"), value))
        .map_err(|e| io::Error::new(e.kind(), format!("{key}: {e}")))
}

/// Namespaces in a row. The `n`th wire is 198.18.`n`.0/24 (RFC 2544, benchmarking), with its left end at .1.
pub(crate) struct Row {
    nodes: Vec<NetNs>,
}

impl Row {
    /// A client, so many routers, and a server.
    ///
    /// # Errors
    /// Skipped where namespaces or veth pairs may not be made.
    pub(crate) fn new(routers: u8) -> Result<Row, SideError> {
        Row::make(routers).map_err(|e| SideError::skipped(format!("namespaces and veth: {e}")))
    }

    fn make(routers: u8) -> io::Result<Row> {
        let last = routers + 1;
        let nodes: io::Result<Vec<NetNs>> = (0..=last).map(|_| namespace()).collect();
        let nodes = nodes?;
        for wire in 0..last {
            let (left, right) = (&nodes[usize::from(wire)], &nodes[usize::from(wire) + 1]);
            left.ip(&format!(
                "link add right type veth peer name left netns {}",
                right.thread_id()
            ))?;
            for (node, end, host) in [(left, "right", 1), (right, "left", 2)] {
                node.ip(&format!("addr add 198.18.{wire}.{host}/24 dev {end}"))?;
                node.ip(&format!("link set {end} up"))?;
            }
        }
        for (n, node) in (0..=last).zip(&nodes) {
            if n < last {
                node.ip(&format!("route add default via 198.18.{n}.2"))?;
            }
            // What lies behind the neighbour on the left.
            for wire in 0..n.saturating_sub(1) {
                let gateway = n - 1;
                node.ip(&format!(
                    "route add 198.18.{wire}.0/24 via 198.18.{gateway}.1"
                ))?;
            }
            if (1..last).contains(&n) {
                set(node, "ip_forward", "1")?;
            }
        }
        Ok(Row { nodes })
    }

    /// The address of the client.
    pub(crate) fn client(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, 1)
    }

    /// The address of the server.
    pub(crate) fn server(&self) -> Ipv4Addr {
        let wire = u8::try_from(self.nodes.len() - 2).expect("a row is made with a u8 of routers");
        Ipv4Addr::new(198, 18, wire, 2)
    }

    fn at_server<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.nodes[self.nodes.len() - 1].run(f)
    }

    /// Does something in the client's namespace.
    pub(crate) fn at_client<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.nodes[0].run(f)
    }

    /// A listener at the server, and its address.
    pub(crate) fn listen(&self) -> io::Result<(TcpListener, SocketAddr)> {
        let server = self.server();
        let listener = self.at_server(move || TcpListener::bind((server, 0)))?;
        let at = listener.local_addr()?;
        Ok((listener, at))
    }

    /// A connection from the client.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.at_client(move || TcpStream::connect(to))
    }

    /// A socket at either end, connected to each other.
    pub(crate) fn datagrams(&self) -> io::Result<[UdpSocket; 2]> {
        let (client, server) = (self.client(), self.server());
        let near = self.at_client(move || UdpSocket::bind((client, 0)))?;
        let far = self.at_server(move || UdpSocket::bind((server, 0)))?;
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        Ok([near, far])
    }
}
