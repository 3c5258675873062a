//! Sockets with the names and behaviour of `std::net`.
//!
//! A socket belongs to one vnet for its whole life: the vnet that was current when the socket was created, or the
//! one passed to a `*_in` constructor. Every operation runs in the socket's vnet, whichever vnet is current, so a
//! socket can be passed to any thread.
//!
//! | part | what it is |
//! |---|---|
//! | [`tcp`] | [`TcpStream`], [`TcpListener`] |
//! | [`udp`] | [`UdpSocket`] |
//! | [`message`] | datagrams with what is known of them, many at a time, and errors about them |
//! | [`multicast`] | groups at [`UdpSocket`] |
//! | [`any`] | [`Socket`], a socket of either kind before it is one, with the names of `socket2` |
//! | [`kinds`] | what it is made of |
//! | [`echo`] | [`EchoSocket`], for ping and traceroute |
//! | [`raw`] | [`RawSocket`], IP packets of one protocol |
//! | [`bind`] | [`BindOptions`] |
//! | [`addr`] | [`ToSocketAddrs`] |
//! | [`names`] | what a name means in one instance |
//! | [`handle`] | what all kinds share: the handle, its `Drop`, and how a call waits |
//! | [`error`] | [`std::io::Error`]s with a typed cause |

pub(crate) mod addr;
pub(crate) mod any;
pub(crate) mod bind;
pub(crate) mod echo;
pub(crate) mod error;
pub(crate) mod handle;
pub(crate) mod kinds;
pub(crate) mod message;
pub(crate) mod multicast;
pub(crate) mod names;
pub(crate) mod raw;
pub(crate) mod tcp;
pub(crate) mod udp;

pub use addr::ToSocketAddrs;
pub use any::Socket;
pub use echo::{EchoEvent, EchoSocket};
pub use kinds::{Domain, Protocol, TcpKeepalive, Type};
pub use message::Message;
pub use raw::RawSocket;
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

pub use crate::packet::header::icmp_ext::IcmpObject;
pub use crate::transport::edge::{Interest, Readiness};
pub use crate::transport::tcp::{SendFlags, SocketOptions};
pub use crate::transport::udp::DatagramError;
