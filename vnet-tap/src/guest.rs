//! Sockets of emulators as ports of a vnet.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use vnet::{AdminError, Vnet};

use crate::pump::{self, Pump};
use crate::report::PumpReport;
use crate::socket;
use crate::sys::{Bell, Interest, wait};

/// How long no connection is accepted when one could not be for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How frames follow each other in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each behind its length in four bytes, the most significant first, in a stream socket: QEMU's
    /// `-netdev stream`, passt, socket_vmnet, libkrun's `unixstream`.
    Length32,
    /// Each behind its length in two bytes, the least significant first, in a stream socket: hyperkit.
    Length16,
    /// Each in a datagram, or in a packet of a `SOCK_SEQPACKET` socket: QEMU's `-netdev dgram`,
    /// vfkit, libkrun's `unixgram`, User Mode Linux' `bess`.
    ///
    /// A socket that is bound and not connected answers whoever sends first. When that peer has gone,
    /// it answers the next. The `VFKT` that a vfkit client sends to make itself known is no frame.
    Datagrams,
}

/// Why an emulator's socket could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The socket is not of the kind that the framing needs ([`io::ErrorKind::InvalidInput`]), or is
    /// none.
    #[error("cannot use the socket: {0}")]
    Socket(io::Error),
    /// The vnet could not make the port.
    #[error("cannot create the vnet's end: {0}")]
    Port(#[from] AdminError),
    /// The pump's thread or its event descriptor could not be created.
    #[error("cannot start the pump")]
    Pump(#[source] io::Error),
}

/// An emulator's socket that is a port of a vnet. Dropping it closes the socket.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use vnet::System;
/// use vnet_tap::{Framing, Guest};
///
/// let system = System::threads();
/// let lan = system.create("lan")?;
/// // The other end is given to the emulator: `-netdev stream,id=n0,addr.type=fd,addr.str=3`.
/// let (ours, theirs) = UnixStream::pair()?;
/// let guest = Guest::attach(&lan, "guest0", ours, Framing::Length32)?;
/// lan.add_address("guest0", "192.0.2.1/24".parse()?)?;
/// # drop(theirs);
/// println!("{}", guest.detach());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guest {
    pump: Pump,
}

impl Guest {
    /// Makes a port `ifname` in `vnet` and carries frames between it and `socket` until it is detached.
    /// A port of that name with nothing plugged in, of a replayed record or of a guest that has gone,
    /// is used as it is.
    ///
    /// Frames have at most 65535 bytes of IP, and no guest gets more than the interface's MTU; see
    /// [`Vnet::set_ip_mtu`].
    ///
    /// # Errors
    /// See [`GuestError`].
    pub fn attach(
        vnet: &Vnet,
        ifname: &str,
        socket: impl Into<OwnedFd>,
        framing: Framing,
    ) -> Result<Guest, GuestError> {
        let halves = socket::line(socket.into(), framing).map_err(GuestError::Socket)?;
        let port = pump::port(vnet, ifname, None)?;
        let pump =
            Pump::start("vnet-guest", halves, port, vnet.system()).map_err(GuestError::Pump)?;
        tracing::debug!(vnet = vnet.name(), ifname, ?framing, "guest attached");
        Ok(Guest { pump })
    }

    /// True while frames are carried; false after the guest has closed its end, has sent what no guest
    /// sends, or the vnet went away.
    pub fn is_running(&self) -> bool {
        self.pump.is_running()
    }

    /// What has been carried so far.
    pub fn report(&self) -> PumpReport {
        self.pump.report()
    }

    /// Detaches the guest: the socket is closed. The vnet's port stays, with its carrier down.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        self.pump.detach()
    }
}

/// A listening socket whose guests become ports, each its own. Dropping it closes the socket and
/// detaches all guests.
///
/// ```
/// use std::net::TcpListener;
/// use vnet::System;
/// use vnet_tap::{Framing, Guest, Guests};
///
/// let system = System::threads();
/// let lan = system.create("lan")?;
/// lan.bridge("br0")?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// // For QEMU: `-netdev stream,id=n0,addr.type=inet,addr.host=127.0.0.1,addr.port=...`.
/// let guests = Guests::listen(listener, 64, move |number, socket| {
///     let name = format!("guest{number}");
///     let guest = Guest::attach(&lan, &name, socket, Framing::Length32)?;
///     // A guest that comes back finds its port where it was.
///     let _ = lan.add_member("br0", &name);
///     Ok(guest)
/// })?;
/// println!("{} guests", guests.counts().connected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guests {
    shared: Arc<Listening>,
    thread: Option<JoinHandle<()>>,
}

/// What a listener has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestCounts {
    /// Guests that are connected.
    pub connected: usize,
    /// Connections that became guests.
    pub accepted: u64,
    /// Connections that were closed at once: there were as many guests as are allowed, or no port
    /// could be made for it.
    pub refused: u64,
}

struct Listening {
    socket: OwnedFd,
    bell: Bell,
    stop: AtomicBool,
    /// By number; `None` where there is no guest of that number.
    guests: Mutex<Vec<Option<Guest>>>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Guests {
    /// Accepts connections to `socket`, at most `most` at a time, and gives each to `welcome` with the
    /// lowest number that no connected guest has, from 0. What `welcome` does not attach is closed.
    ///
    /// # Errors
    /// `socket` does not listen ([`io::ErrorKind::InvalidInput`]), or the thread cannot be started.
    pub fn listen(
        socket: impl Into<OwnedFd>,
        most: usize,
        mut welcome: impl FnMut(usize, OwnedFd) -> Result<Guest, GuestError> + Send + 'static,
    ) -> io::Result<Guests> {
        let socket = socket.into();
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket does not listen",
            ));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        let shared = Arc::new(Listening {
            socket,
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            guests: Mutex::new(std::iter::repeat_with(|| None).take(most).collect()),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let listening = Arc::clone(&shared);
        let thread = Builder::new()
            .name("vnet-guests".into())
            .spawn(move || listening.run(&mut welcome))?;
        Ok(Guests {
            shared,
            thread: Some(thread),
        })
    }

    /// What has been done so far.
    pub fn counts(&self) -> GuestCounts {
        let guests = self.shared.guests.lock();
        GuestCounts {
            connected: guests.iter().flatten().filter(|g| g.is_running()).count(),
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of `welcome` has been printed by its own thread.
            let _ = thread.join();
        }
    }
}

impl Listening {
    fn run(&self, welcome: &mut dyn FnMut(usize, OwnedFd) -> Result<Guest, GuestError>) {
        while !self.stop.load(Ordering::SeqCst) {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(socket) => self.seat(socket, welcome),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    let waited = wait(self.socket.as_fd(), &self.bell, Interest::Read, None);
                    if let Err(e) = waited {
                        tracing::warn!(error = %e, "no longer listening for guests");
                        return;
                    }
                }
                // Descriptors or memory are short: guests that leave give some back.
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a guest");
                    self.bell.wait(PAUSE);
                }
            }
        }
        self.guests.lock().clear();
    }

    /// Gives a connection a number and makes it a guest.
    fn seat(
        &self,
        socket: OwnedFd,
        welcome: &mut dyn FnMut(usize, OwnedFd) -> Result<Guest, GuestError>,
    ) {
        let free = {
            let mut guests = self.guests.lock();
            let is_free = |guest: &Option<Guest>| !guest.as_ref().is_some_and(Guest::is_running);
            let free = guests.iter().position(is_free);
            // The guest that has gone is gone before another one has its port.
            free.map(|number| (number, guests[number].take()))
        };
        let Some((number, gone)) = free else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        drop(gone);
        match welcome(number, socket) {
            Ok(guest) => {
                self.guests.lock()[number] = Some(guest);
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) => {
                tracing::warn!(number, error = %e, "a guest was refused");
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
