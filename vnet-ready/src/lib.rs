//! Sockets and ports of vnets in a program's own event loop.
//!
//! A [`Ready`] is an eventfd of Linux behind which any number of sockets and ports of vnets stand. An event loop waits for
//! the descriptor to be readable, as it does for its others, and then asks which of them have something to do:
//!
//! ```
//! use mio::unix::SourceFd;
//! use mio::{Events, Poll, Token};
//! use std::os::fd::AsRawFd;
//! use vnet::System;
//! use vnet::net::{Interest, TcpListener, TcpStream};
//! use vnet_ready::Ready;
//!
//! let system = System::threads();
//! let a = system.create("a")?;
//! let ready = Ready::new()?;
//! let listener = ready.watch(TcpListener::bind_in(&a, "127.0.0.1:80")?, 1, &[Interest::Read]);
//!
//! let mut poll = Poll::new()?;
//! poll.registry().register(&mut SourceFd(&ready.as_raw_fd()), Token(0), mio::Interest::READABLE)?;
//! let client = TcpStream::connect_in(&a, "127.0.0.1:80")?;
//!
//! let (mut kernels, mut ours) = (Events::with_capacity(8), Vec::new());
//! while ours.is_empty() {
//!     poll.poll(&mut kernels, None)?;
//!     ready.events(&mut ours);
//! }
//! assert_eq!(ours[0].token, 1);
//! assert_eq!(listener.accept()?.1, client.local_addr()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the descriptor says
//!
//! It is level-triggered: [`Ready::events`] lists what is ready now, and what it has listed it lists again until it is no
//! longer ready. The descriptor stays readable as long as something may have to be listed. Nobody but [`Ready::events`] reads
//! it; a program that does loses wake-ups. It may be readable for nothing: then the list is empty.
//!
//! Whether the loop waits for the descriptor edge- or level-triggered makes no difference. Each call of [`Ready::events`] that
//! lists something writes to it again, which is a new edge. So a loop may take one datagram of a socket and go back to
//! wait, or all until [`WouldBlock`](std::io::ErrorKind::WouldBlock), as it likes.
//!
//! Dropping a [`Watched`] closes the socket and takes it out; what is listed afterwards does not name it.
//!
//! # In whose time
//!
//! The loop waits in real time, so this is for systems with the [threads](vnet::System::threads) driver. With an embedder's
//! clock ([`System::manual`](vnet::System::manual)), and in virtual time, the descriptor is right as well, but waiting for it
//! makes no simulated time pass: the loop has to do that between two waits.
//!
//! `docs/loops.md` has more.
//!
//! # Elsewhere than on Linux
//!
//! The library itself makes no system calls. Where there is no eventfd, [`Port::on_ready`](vnet::Port::on_ready),
//! [`Port::poll_ready`](vnet::Port::poll_ready) and the `poll_ready` of each socket call whatever a loop is woken with.

mod ready;
mod source;

pub use ready::{Event, Ready, Watched};
pub use source::Source;

/// The project's documents, whose examples are run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/loops.md")]
    mod loops {}
}
