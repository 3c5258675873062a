//! The transport protocols, on which sockets are built. Each is without I/O: it is given packets and the time, and
//! returns verdicts and packets. It never sends, waits, or reads a clock.
//!
//! | part | what it is |
//! |---|---|
//! | [`domain`] | the families of addresses that a socket speaks |
//! | [`ports`] | local ports in use, and ephemeral ports |
//! | [`wait`] | wakers of those who wait for a socket |
//! | [`error`] | errors of sockets |
//! | [`edge`] | the readiness of sockets, common to all kinds |
//! | [`datagram`] | what UDP, raw and echo sockets have in common |
//! | [`udp`] | UDP (RFC 768) |
//! | [`raw`] | raw IP sockets |
//! | [`echo`] | echo sockets, for ping and traceroute |
//! | [`tcp`] | TCP (RFC 9293 and the RFCs that it refers to) |

pub(crate) mod datagram;
pub(crate) mod datagrams;
pub(crate) mod domain;
pub(crate) mod echo;
pub(crate) mod edge;
pub(crate) mod error;
pub(crate) mod ports;
pub(crate) mod raw;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod wait;
