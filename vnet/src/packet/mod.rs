//! The packet, its metadata, and the wire formats.
//!
//! | part | what it is |
//! |---|---|
//! | `buf` | [`Packet`]: headers in place, payload by reference |
//! | `payload` | refcounted slices that are never copied inside the stack |
//! | `pool` | where the copies made at the socket edge live |
//! | `meta` | what a NIC descriptor would say: VLAN tags, checksum state, segmentation |
//! | `tag`, `tagged` | VLAN tags; taking them off a frame and putting them back |
//! | `addr` | MAC addresses |
//! | `header` | Ethernet, ARP, IPv4, ICMP, UDP and TCP headers (smoltcp reads and writes them) |
//! | `checksum` | the Internet checksum over a packet's pieces |
//! | `gso` | cutting a large segment into frames |
//! | `pcapng` | writing captures |
//! | `witness` | recording what is sent, for those who judge it after the tests |
//! | `virtio` | the virtio-net header, as devices and guests exchange it |
//! | `cx` | what a layer is given: time, randomness, counters, a place for output |

pub(crate) mod addr;
pub(crate) mod buf;
pub(crate) mod checksum;
pub(crate) mod cx;
pub(crate) mod gso;
pub(crate) mod header;
pub(crate) mod meta;
pub(crate) mod payload;
pub(crate) mod pcapng;
pub(crate) mod pool;
pub(crate) mod tag;
pub(crate) mod tagged;
pub(crate) mod virtio;
pub(crate) mod witness;

pub use addr::MacAddr;
pub use buf::Packet;
pub(crate) use cx::{Cx, Out};
pub use meta::Direction;
pub(crate) use meta::{Csum, Gso, GsoKind, Meta};
pub use payload::Payload;
