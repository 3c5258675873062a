//! Sockets with options that they have before they are bound.

use std::io;
use std::net::SocketAddr;

use vnet::Vnet;
use vnet::net::{Domain, Socket, TcpListener, Type, UdpSocket};

/// What is set of a socket before it is bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound {
    /// `SO_REUSEADDR`.
    pub reuse: bool,
    /// `IPV6_V6ONLY`, where it is set.
    pub only_v6: Option<bool>,
}

impl Bound {
    fn socket(self, vnet: &Vnet, kind: Type, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new_in(vnet, Domain::for_address(addr), kind, None)?;
        socket.set_reuse_address(self.reuse)?;
        if let Some(only_v6) = self.only_v6 {
            socket.set_only_v6(only_v6)?;
        }
        socket.bind(&addr)?;
        Ok(socket)
    }

    /// A UDP socket.
    ///
    /// # Errors
    /// Those of [`Socket::bind`].
    pub fn udp(self, vnet: &Vnet, addr: &str) -> io::Result<UdpSocket> {
        let addr = addr.parse().expect("a socket address");
        Ok(self.socket(vnet, Type::DGRAM, addr)?.into())
    }

    /// A listener with room for so many connections that wait.
    ///
    /// # Errors
    /// Those of [`Socket::bind`] and [`Socket::listen`].
    pub fn listener(self, vnet: &Vnet, addr: &str, backlog: i32) -> io::Result<TcpListener> {
        let addr = addr.parse().expect("a socket address");
        let socket = self.socket(vnet, Type::STREAM, addr)?;
        socket.listen(backlog)?;
        Ok(socket.into())
    }
}
