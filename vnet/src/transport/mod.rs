//! Transports: what sockets are made of. Each is sans-IO: it is given packets and the time, and
//! returns verdicts and packets; it never sends, waits, or reads a clock.
//!
//! | part | what it is |
//! |---|---|
//! | [`ports`] | which local ports are taken, ephemeral ports |
//! | [`wait`] | who waits for a socket |
//! | [`error`] | what can be wrong with a socket |
//! | [`edge`] | what every kind of socket shows to the layers above |
//! | [`datagram`] | what UDP, raw and echo sockets are made of |
//! | [`udp`] | UDP (RFC 768) |
//! | [`raw`] | raw IP sockets |
//! | [`echo`] | echo sockets: ping and traceroute |
//! | [`tcp`] | TCP (RFC 9293 and those it refers to) |

pub(crate) mod datagram;
pub(crate) mod echo;
pub(crate) mod edge;
pub(crate) mod error;
pub(crate) mod ports;
pub(crate) mod raw;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod wait;
