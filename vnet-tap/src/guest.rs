//! Sockets of emulators as ports of a vnet.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use vnet::{AdminError, MacAddr, Offload, Vnet};

use crate::pump::{self, Pump, Turns};
use crate::report::{PumpEnd, PumpReport};
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
    /// In the guest's memory, which is shared over a Unix stream socket by the vhost-user protocol: QEMU's
    /// `-netdev vhost-user`, and others that connect to such a socket. The fastest way for guests:
    /// checksums and the segmentation of TCP are left to whoever does them best, both ways.
    ///
    /// The memory has to be in a memfd that can be sealed, as QEMU's `memory-backend-memfd` is.
    VhostUser,
}

/// How an emulator's socket is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// How frames follow each other in it.
    pub framing: Framing,
    /// The MAC address of the vnet's interface where it is made; `None` lets the vnet choose.
    pub mac: Option<MacAddr>,
    /// Bytes of frames, what it costs to hold them included, that wait for the guest to read them.
    /// Initially 4 MiB. What finds no room is dropped and counted.
    pub queue_bytes: usize,
}

impl From<Framing> for GuestConfig {
    fn from(framing: Framing) -> GuestConfig {
        GuestConfig {
            framing,
            mac: None,
            queue_bytes: 4 << 20,
        }
    }
}

/// Why an emulator's socket could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The socket is not of the kind that the framing needs ([`io::ErrorKind::InvalidInput`]), a stream
    /// socket is not connected, or it is no socket.
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
    /// is used as it is, but that frames leave it as the guest takes them: complete, unless it is attached
    /// by [`Framing::VhostUser`] and has agreed to more.
    ///
    /// The system has to run on [threads](vnet::System::threads): a guest does not wait for simulated
    /// time.
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
        config: impl Into<GuestConfig>,
    ) -> Result<Guest, GuestError> {
        let config = config.into();
        let line = socket::line(socket.into(), config.framing);
        let mut halves = line.map_err(GuestError::Socket)?;
        let plug = pump::plug(vnet, ifname, config.mac, Offload::None)?;
        let (inside, name) = (vnet.clone(), ifname.to_owned());
        let agreed = move |offload| {
            // An interface that is gone, or has another name by now, sends complete frames.
            let _ = inside.set_offload(&name, offload);
        };
        halves.0.begin(Box::new(agreed)).map_err(GuestError::Pump)?;
        let pump = Pump::start(
            "vnet-guest",
            halves,
            plug,
            config.queue_bytes,
            Duration::ZERO,
        )
        .map_err(GuestError::Pump)?;
        tracing::debug!(vnet = vnet.name(), ifname, ?config, "guest attached");
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
    /// Called on a pump's own thread, as in a waker or a callback of a port, it does not wait for the
    /// end, and the report does not say how it was. It may not be called in a
    /// [`FrameTap`](vnet::capture::FrameTap), which the pump may be waiting for.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        self.pump.detach()
    }
}

/// A listening socket whose guests become ports, each its own. Dropping it closes the socket and
/// detaches all guests; on a pump's own thread, it does not wait for that.
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
    /// Rung to stop, and when a guest has gone.
    bell: Arc<Bell>,
    stop: AtomicBool,
    /// By number; `None` where there is no guest of that number.
    guests: Mutex<Vec<Option<Guest>>>,
    /// What those that have gone carried.
    carried: Mutex<PumpReport>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Guests {
    /// Accepts connections to `socket`, at most `most` at a time, and gives each to `welcome` with the
    /// lowest number that no connected guest has, from 0. What `welcome` does not attach is closed.
    ///
    /// One thread carries the frames of all guests that `welcome` returns, each in its turn, so that those who send as
    /// much as they can share it evenly. What is called on that thread, such as a waker or a callback of a port, holds
    /// all of them up. Guests by [`Framing::VhostUser`] have a thread each.
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
            bell: Arc::new(Bell::new()?),
            stop: AtomicBool::new(false),
            guests: Mutex::new(std::iter::repeat_with(|| None).take(most).collect()),
            carried: Mutex::new(PumpReport::default()),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let turns = Turns::start("vnet-guest")?;
        let listening = Arc::clone(&shared);
        let thread = Builder::new()
            .name("vnet-guests".into())
            .spawn(move || listening.run(&mut welcome, &turns))?;
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

impl Guests {
    /// What all guests together have carried, those that have gone included.
    pub fn report(&self) -> PumpReport {
        let guests = self.shared.guests.lock();
        let carried = self.shared.carried.lock();
        let mut sum = PumpReport {
            end: None,
            ..*carried
        };
        for guest in guests.iter().flatten() {
            sum.add(guest.report());
        }
        sum
    }

    /// Closes the socket and detaches all guests, and says what they have carried together, with what was still waiting
    /// for them as drops. Its end is that of the first guest that failed, if one did, and
    /// [`PumpEnd::Detached`] otherwise. On a pump's own thread, it does not wait for that, and what they carry meanwhile is
    /// left out.
    pub fn detach(mut self) -> PumpReport {
        self.stop();
        let mut carried = std::mem::take(&mut *self.shared.carried.lock());
        carried.end.get_or_insert(PumpEnd::Detached);
        carried
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take()
            && pump::may_wait()
            && thread.thread().id() != thread::current().id()
        {
            // Nothing in it panics: `welcome` is caught.
            let _ = thread.join();
        }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.stop();
    }
}

type Welcome<'a> = &'a mut dyn FnMut(usize, OwnedFd) -> Result<Guest, GuestError>;

impl Listening {
    fn run(&self, welcome: Welcome<'_>, turns: &Turns) {
        // What is short is said once, until it is there again.
        let mut is_short = false;
        while !self.stop.load(Ordering::SeqCst) {
            self.let_go(|guest| !guest.is_running());
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    is_short = false;
                    self.seat(socket, welcome, turns);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    let waited = wait(self.socket.as_fd(), &self.bell, Interest::Read, None);
                    if let Err(e) = waited {
                        tracing::warn!(error = %e, "no longer listening for guests");
                        break;
                    }
                }
                // Somebody has shut it down.
                Err(e @ (Errno::INVAL | Errno::BADF | Errno::NOTSOCK)) => {
                    tracing::warn!(error = %e, "no longer listening for guests");
                    self.wait_for_the_stop();
                }
                // Descriptors or memory are short: guests that leave give some back.
                Err(e) => {
                    if !mem::replace(&mut is_short, true) {
                        tracing::warn!(error = %e, "cannot accept guests for now");
                    }
                    self.bell.wait(PAUSE);
                }
            }
        }
        self.let_go(|_| true);
    }

    /// Guests that are there stay, and others do not come.
    fn wait_for_the_stop(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            self.let_go(|guest| !guest.is_running());
            self.bell.wait(PAUSE.saturating_mul(100));
        }
    }

    /// Detaches guests, and gives what they had back.
    fn let_go(&self, which: impl Fn(&Guest) -> bool) {
        let gone: Vec<Guest> = {
            let mut guests = self.guests.lock();
            let gone = guests
                .iter_mut()
                .filter_map(|seat| seat.take_if(|guest| which(guest)));
            gone.collect()
        };
        // Not under the lock: their pumps may be calling somebody who wants to know the counts.
        for guest in gone {
            let report = guest.pump.carried();
            self.carried.lock().add(report);
        }
    }

    /// Gives a connection a number and makes it a guest.
    fn seat(&self, socket: OwnedFd, welcome: Welcome<'_>, turns: &Turns) {
        // The guest that has gone is gone before another one has its port.
        self.let_go(|guest| !guest.is_running());
        let free = self.guests.lock().iter().position(Option::is_none);
        let Some(number) = free else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // A panic has been printed; the next guest may fare better.
        let welcomed = panic::catch_unwind(AssertUnwindSafe(|| welcome(number, socket)));
        let refused = match welcomed {
            Ok(Ok(mut guest)) => {
                guest.pump.share(turns);
                guest.pump.ring_at_the_end(Arc::clone(&self.bell));
                self.guests.lock()[number] = Some(guest);
                self.accepted.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => "a panic".to_owned(),
        };
        tracing::warn!(number, error = refused, "a guest was refused");
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
