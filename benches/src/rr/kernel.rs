//! The peer: the kernel's sockets, in two network namespaces joined by a veth pair, or on the
//! loopback interface where that is not permitted.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};

use vnet_tap::NetNs;

use super::Joined;
use super::link::Link;
use crate::compare::SideError;
use crate::kernel::namespace;

/// Client and server addresses on the veth pair (RFC 2544, benchmarking).
const CLIENT: &str = "198.18.0.1";
const SERVER: &str = "198.18.0.2";

/// What the packets travel over.
pub(super) enum Path {
    /// Two namespaces, client and server, and a veth pair.
    Veth { client: NetNs, server: NetNs },
    /// The loopback interface of the namespace we are in, and why.
    Loopback { reason: io::Error },
}

/// A connected pair of TCP sockets.
pub(super) fn tcp() -> Result<Joined<TcpStream, Path>, SideError> {
    let path = Path::make();
    let listener = path.at_server(|ip| TcpListener::bind((ip, 0)))?;
    let address = listener.local_addr()?;
    let client = path.at_client(move |_| TcpStream::connect(address))?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    patient(Joined {
        client,
        server,
        keep: path,
    })
}

/// A connected pair of UDP sockets.
pub(super) fn udp() -> Result<Joined<UdpSocket, Path>, SideError> {
    let path = Path::make();
    let server = path.at_server(|ip| UdpSocket::bind((ip, 0)))?;
    let client = path.at_client(|ip| UdpSocket::bind((ip, 0)))?;
    client.connect(server.local_addr()?)?;
    server.connect(client.local_addr()?)?;
    patient(Joined {
        client,
        server,
        keep: path,
    })
}

fn patient<L: Link>(mut ends: Joined<L, Path>) -> Result<Joined<L, Path>, SideError> {
    ends.client.be_patient()?;
    ends.server.be_patient()?;
    Ok(ends)
}

impl<L> Joined<L, Path> {
    pub(super) fn path(&self) -> &Path {
        &self.keep
    }
}

impl Path {
    fn make() -> Path {
        match veth() {
            Ok(path) => path,
            Err(reason) => {
                eprintln!("compare: the kernel's sockets are on loopback, not veth: {reason}");
                Path::Loopback { reason }
            }
        }
    }

    fn at_client<T: Send + 'static>(
        &self,
        f: impl FnOnce(&'static str) -> T + Send + 'static,
    ) -> T {
        match self {
            Path::Veth { client, .. } => client.run(move || f(CLIENT)),
            Path::Loopback { .. } => f("127.0.0.1"),
        }
    }

    fn at_server<T: Send + 'static>(
        &self,
        f: impl FnOnce(&'static str) -> T + Send + 'static,
    ) -> T {
        match self {
            Path::Veth { server, .. } => server.run(move || f(SERVER)),
            Path::Loopback { .. } => f("127.0.0.1"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Veth { .. } => f.write_str("veth"),
            Path::Loopback { reason } => write!(f, "loopback (no veth: {reason})"),
        }
    }
}

fn veth() -> io::Result<Path> {
    let (client, server) = (namespace()?, namespace()?);
    client.ip(&format!(
        "link add veth0 type veth peer name veth0 netns {}",
        server.thread_id()
    ))?;
    for (ns, address) in [(&client, CLIENT), (&server, SERVER)] {
        ns.ip(&format!("addr add {address}/24 dev veth0"))?;
        ns.ip("link set veth0 up")?;
    }
    Ok(Path::Veth { client, server })
}
