//! Host TAP devices, network cards and emulators' sockets as ports of a vnet.
//!
//! A TAP is a network interface of the host whose other end is in this process: a frame that the
//! host sends can be read from a file descriptor, and a frame written there is received by the
//! host. [`Tap`] connects that end to a [`Port`](vnet::Port) of a vnet, so that the host's kernel,
//! and whatever it bridges or routes to, becomes a neighbour of the vnet:
//!
//! ```no_run
//! use vnet::System;
//! use vnet_tap::{Tap, TapConfig};
//!
//! let system = System::threads();
//! let guest = system.create("guest")?;
//! let tap = Tap::attach(&guest, "tap0", TapConfig::default())?;
//! guest.add_address("tap0", "192.0.2.2/24".parse()?)?;
//! println!("now run: ip addr add 192.0.2.1/24 dev {0}; ip link set {0} up", tap.host_name());
//! // ... and `ping 192.0.2.2` from the host.
//! println!("{}", tap.detach());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`tap`] | attaching a TAP, detaching it |
//! | [`guest`] | the same for an emulator's socket; a listener for many of them |
//! | `nic` | a network card of the host's, by a packet socket or by AF_XDP |
//! | `server` | server sockets, at a path or an address |
//! | `report` | what was carried, and how it ended |
//! | [`mod@probe`] | whether TAPs can be created here, and if not, why |
//! | [`netns`] | a private network namespace, for tests that must not affect the host |
//! | `config` | how a TAP is to be made |
//! | `tun` | link headers for a device without them |
//! | `failure` | at which step one could not be had |
//! | `device` | the process's end of a TAP |
//! | `buffers` | memory for frames, used again |
//! | `pump` | the thread that carries frames between a line and a port, or many of them in turn |
//! | `line` | what a line is: a TAP, or a socket |
//! | `flow` | which of several queues a frame takes |
//! | `socket` | frames in streams and datagrams |
//! | `vhost` | frames in a guest's memory: vhost-user |
//! | `packet` | packet sockets, and the ring that one has together with the kernel: with `unsafe` |
//! | `xsk` | AF_XDP, and the program that has a card use it: with `unsafe` |
//! | `sys` | requests to the kernel, waiting, namespaces: with `unsafe` |
//!
//! Unless [`TapConfig::offload`] says otherwise, TCP segments of up to 64 KiB pass uncut and checksums
//! are left to whoever needs them, in both directions, by the virtio-net header in front of each frame. Datagrams of UDP
//! that the host or a guest sends at once (`UDP_SEGMENT`) come in as one frame as well, and are cut at the vnet's port;
//! those that leave a vnet together are joined where the other side cuts them.
//!
//! Where a line has no offload, the vnet joins the segments that come in one after another. Linux only.

mod buffers;
mod config;
mod device;
mod failure;
mod flow;
pub mod guest;
mod line;
pub mod netns;
mod nic;
mod packet;
pub mod probe;
mod pump;
mod report;
mod server;
mod socket;
mod sys;
pub mod tap;
mod tun;
mod vhost;
mod xsk;

pub use config::{HostState, Layer, Lifetime, TapConfig};
pub use guest::{Framing, Guest, GuestConfig, GuestCounts, GuestError, Guests};
pub use netns::NetNs;
pub use nic::{Nic, NicConfig, NicError, Xdp};
pub use probe::{Unavailable, probe};
pub use report::{PumpEnd, PumpReport};
pub use server::{SocketFile, SocketKind, serve};
pub use tap::{Tap, TapError, check_host_name};

/// The examples in the documents.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../docs/emulators.md")]
    mod emulators {}
    #[doc = include_str!("../../docs/tap.md")]
    mod tap {}
}
