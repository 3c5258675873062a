//! A network card of the host's as a port of a vnet, by packet sockets or by AF_XDP (`xdp`).

mod xdp;

use std::fs::File;
use std::io;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vnet::packet::Packet;
use vnet::{AdminError, MacAddr, Offload, Vnet};

use crate::buffers::Buffers;
use crate::device::with_slices;
use crate::line::{Frame, HEADER_LEN, Halves, Inward, Outward, Written};
use crate::packet::{self, PACKET_HEADER_LEN, Received, Ring};
use crate::pump::{self, MOST_QUEUES, Pumps};
use crate::report::PumpReport;
use crate::sys::{self, InterfaceRequest, ask};
use crate::tun;

/// Bytes of a VLAN tag, for which there is room in front of a frame.
const TAG_LEN: usize = 4;
/// Bytes in front of a frame's type, or of its tag.
const ADDRESSES_LEN: usize = 12;
/// Room in a socket's queues, as far as the system's limits and the process's rights allow it. What does not wait in its
/// ring waits there: frames that are too long for a slot, or all of them where there is no ring.
const QUEUE: usize = 4 << 20;
/// An Ethernet address, in `sa_family` of a link-layer address (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;
/// Frames that the kernel refuses to hand over, one behind the other, before that is an error.
const REFUSED_AT_ONCE: u32 = 1024;
/// How often a card that is down is looked for: its socket does not say when it is deleted.
const LOOK: Duration = Duration::from_millis(500);

/// Which card, and how it is used.
///
/// ```
/// use vnet_tap::NicConfig;
///
/// let config = NicConfig { queue_bytes: 1 << 20, ..NicConfig::from("eth1") };
/// # let _ = config;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicConfig {
    /// The name of the host's interface: any that has Ethernet frames.
    pub host_name: String,
    /// The network namespace that it is in, as a file: `/run/netns/NAME`, `/proc/PID/ns/net`. `None` is
    /// that of the calling thread.
    pub netns: Option<PathBuf>,
    /// Sockets that share what comes in (`PACKET_FANOUT`), at most 256. Each has a thread, so that several processors
    /// carry frames; those of one flow stay with one. Initially one.
    pub queues: NonZeroU16,
    /// Bytes of frames, what it costs to hold them included, that wait for the card to take them.
    /// Initially 16 MiB. What finds no room is dropped and counted.
    pub queue_bytes: usize,
    /// Whether frames pass by AF_XDP instead of packet sockets. Initially never.
    pub xdp: Xdp,
}

/// Whether the frames of a card pass by AF_XDP: in memory that the card's queues and this process have together, and past
/// the host, which does not get them. They are whole frames, with nothing left undone: what a card or a cable of the
/// host's own leaves open arrives so. The document `docs/tap.md` says what to set for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    /// Packet sockets.
    #[default]
    Never,
    /// AF_XDP where the kernel, the card and the process's rights allow it, and packet sockets elsewhere. Which of them
    /// it is says [`Nic::is_by_xdp`], and why an event of `tracing`.
    WherePossible,
    /// AF_XDP, or [`NicError::Xdp`].
    Always,
}

impl From<&str> for NicConfig {
    fn from(host_name: &str) -> NicConfig {
        NicConfig {
            host_name: host_name.to_owned(),
            netns: None,
            queues: NonZeroU16::MIN,
            queue_bytes: 16 << 20,
            xdp: Xdp::Never,
        }
    }
}

/// Why a card could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NicError {
    /// The host has no interface of that name, or it has no Ethernet frames.
    #[error("the host has no Ethernet interface {0:?}")]
    NotEthernet(String),
    /// The process may not use packet sockets.
    #[error(
        "CAP_NET_RAW is missing to use the host's interface: run as root, or give it to the program \
         (setcap cap_net_raw+ep)"
    )]
    NotPermitted(#[source] io::Error),
    /// The network namespace could not be entered.
    #[error("cannot enter the network namespace {}: {error}", netns.display())]
    NetNs {
        /// Its file.
        netns: PathBuf,
        /// What the kernel said: mostly that there is none, or that `CAP_SYS_ADMIN` is missing.
        #[source]
        error: io::Error,
    },
    /// What comes in cannot be shared among as many sockets.
    #[error("the host's interface does not get {wanted} queues: {error}")]
    Queues {
        /// As many as were asked for.
        wanted: u16,
        /// What the kernel said, or [`io::ErrorKind::InvalidInput`]: there may be at most 256, and before Linux 6.13
        /// the interface has to be up.
        #[source]
        error: io::Error,
    },
    /// AF_XDP was asked for, and something for it is missing.
    #[error("the host's interface cannot be used by AF_XDP: {missing}: {error}")]
    Xdp {
        /// What it is, and how to provide it.
        missing: String,
        /// What the kernel said, or [`io::ErrorKind::InvalidInput`] for what it was not asked.
        #[source]
        error: io::Error,
    },
    /// The kernel refused something else.
    #[error("cannot use the host's interface: {0}")]
    Host(#[source] io::Error),
    /// The vnet could not create the port.
    #[error("cannot create the vnet's end: {0}")]
    Port(#[from] AdminError),
    /// The pump's thread or its event descriptor could not be created.
    #[error("cannot start the pump")]
    Pump(#[source] io::Error),
}

impl NicError {
    /// What an error of the kernel's about an interface means.
    fn of(name: &str, errno: Errno) -> NicError {
        match errno {
            Errno::PERM | Errno::ACCESS => NicError::NotPermitted(errno.into()),
            Errno::NODEV | Errno::NXIO => NicError::NotEthernet(name.to_owned()),
            errno => NicError::Host(errno.into()),
        }
    }
}

/// A network card of the host's that is a port of a vnet. Dropping it gives the card back.
///
/// ```no_run
/// use vnet::System;
/// use vnet_tap::Nic;
///
/// let system = System::threads();
/// let router = system.create("router")?;
/// let nic = Nic::attach(&router, "eth0", "eth1")?;
/// router.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// println!("{}", nic.detach());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Nic {
    pumps: Pumps,
    host_name: String,
    is_by_xdp: bool,
}

impl Nic {
    /// Makes a port `ifname` in `vnet` with the MAC address and the MTU of the card, and carries frames
    /// between the two until it is detached. A port of that name with nothing plugged in is used with the
    /// MAC address that it has.
    ///
    /// The card receives what is for others, too, for as long as it is attached. Nothing else of it
    /// changes, and the kernel undoes that however the process ends. It has to be up, by whoever
    /// administers the host; while it is down, nothing is carried. The host sees what comes in as well, unless it is by
    /// [`Xdp`]: so that it does not answer, it has no address there.
    ///
    /// The system has to run on [threads](vnet::System::threads).
    ///
    /// # Errors
    /// See [`NicError`].
    pub fn attach(
        vnet: &Vnet,
        ifname: &str,
        config: impl Into<NicConfig>,
    ) -> Result<Nic, NicError> {
        let config = config.into();
        let taken = in_its_namespace(&config, Taken::here)?;
        Nic::plug_in(vnet, ifname, config, taken)
    }

    /// Makes a card that has been taken a port.
    fn plug_in(
        vnet: &Vnet,
        ifname: &str,
        config: NicConfig,
        taken: Taken,
    ) -> Result<Nic, NicError> {
        let Taken {
            queues,
            about,
            is_by_xdp,
        } = taken;
        let offload = match is_by_xdp {
            true => Offload::None,
            false => Offload::Full,
        };
        let plug = pump::plug(vnet, ifname, Some(about.mac), offload)?;
        vnet.set_ip_mtu(ifname, about.ip_mtu)?;
        let pumps = Pumps::start("vnet-nic", queues, plug, config.queue_bytes, Duration::ZERO)
            .map_err(NicError::Pump)?;
        tracing::debug!(
            vnet = vnet.name(),
            ifname,
            host = config.host_name,
            is_by_xdp,
            "NIC attached"
        );
        Ok(Nic {
            pumps,
            host_name: config.host_name,
            is_by_xdp,
        })
    }

    /// The name of the host's interface.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Whether frames pass by AF_XDP ([`NicConfig::xdp`]).
    pub fn is_by_xdp(&self) -> bool {
        self.is_by_xdp
    }

    /// True while frames are carried; false after the card or the vnet went away.
    pub fn is_running(&self) -> bool {
        self.pumps.is_running()
    }

    /// What has been carried so far.
    pub fn report(&self) -> PumpReport {
        self.pumps.report()
    }

    /// Gives the card back. The vnet's port stays, with its carrier down.
    ///
    /// Called on a pump's own thread, it does not wait for the end, and the report does not say how it was.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        self.pumps.detach()
    }
}

/// A card that has been taken in one of the two ways.
struct Taken {
    queues: Vec<Halves>,
    about: About,
    is_by_xdp: bool,
}

impl Taken {
    /// In the network namespace of the calling thread.
    fn here(config: &NicConfig) -> Result<Taken, NicError> {
        if config.xdp != Xdp::Never {
            match xdp::open(config, &xdp::MODES) {
                Err(error) if config.xdp == Xdp::WherePossible => {
                    let host = &config.host_name;
                    tracing::info!(host, error = %error, "no AF_XDP: a packet socket is used");
                }
                taken => return taken,
            }
        }
        let Card { ends, about } = Card::open_here(config)?;
        Ok(Taken {
            queues: ends.into_iter().map(End::halves).collect(),
            about,
            is_by_xdp: false,
        })
    }
}

/// Opens something in the network namespace of a configuration, or in that of the calling thread.
fn in_its_namespace<T: Send + 'static>(
    config: &NicConfig,
    open: fn(&NicConfig) -> Result<T, NicError>,
) -> Result<T, NicError> {
    let Some(netns) = &config.netns else {
        return open(config);
    };
    let failed = |error| NicError::NetNs {
        netns: netns.clone(),
        error,
    };
    let namespace = File::open(netns).map_err(failed)?;
    let config = config.clone();
    // A thread of its own: this one stays where it is.
    let there = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(open(&config))
    };
    let thread = Builder::new().name("vnet-nic-netns".into()).spawn(there);
    let ended = thread.map_err(failed)?.join();
    let opened: Result<_, Errno> =
        ended.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    opened.map_err(|errno| failed(errno.into()))?
}

/// An interface of the host's, by as many packet sockets as it is to have queues.
struct Card {
    ends: Vec<End>,
    about: About,
}

/// What is known of an interface.
#[derive(Clone, Copy)]
struct About {
    index: u32,
    mac: MacAddr,
    ip_mtu: u16,
}

impl About {
    /// Asks about an interface by a packet socket.
    fn of(socket: &OwnedFd, name: &str) -> Result<About, NicError> {
        let failed = |errno| NicError::of(name, errno);
        let index = netdevice::name_to_index(socket, name).map_err(failed)?;
        let mut request = InterfaceRequest::about(name);
        ask::<{ sys::SIOCGIFHWADDR }>(socket, &mut request).map_err(failed)?;
        let (kind, mac) = request.address();
        if kind != ARPHRD_ETHER {
            return Err(NicError::NotEthernet(name.to_owned()));
        }
        let mut request = InterfaceRequest::about(name);
        ask::<{ sys::SIOCGIFMTU }>(socket, &mut request).map_err(failed)?;
        Ok(About {
            index,
            mac: MacAddr(mac),
            ip_mtu: u16::try_from(request.number()).unwrap_or(u16::MAX),
        })
    }
}

/// A packet socket that receives nothing before it is bound: it has no protocol.
fn unbound() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
}

/// A packet socket, and the ring in which frames come in. Without a ring they come one at a time.
struct End {
    socket: OwnedFd,
    ring: Option<Ring>,
    index: u32,
}

impl Card {
    fn open_here(config: &NicConfig) -> Result<Card, NicError> {
        let name = &config.host_name;
        let failed = |errno| NicError::of(name, errno);
        let wanted = config.queues.get();
        let refused = |error| NicError::Queues { wanted, error };
        if usize::from(wanted) > MOST_QUEUES {
            return Err(refused(io::ErrorKind::InvalidInput.into()));
        }
        let socket = unbound().map_err(failed)?;
        let about = About::of(&socket, name)?;
        let mut ends = vec![End::new(socket, about).map_err(failed)?];
        for _ in 1..wanted {
            let end = unbound().and_then(|socket| End::new(socket, about));
            ends.push(end.map_err(|errno| refused(errno.into()))?);
        }
        let sockets: Vec<_> = ends.iter().map(|end| &end.socket).collect();
        join(&sockets, about).map_err(|(step, errno)| match step {
            Step::Bind => failed(errno),
            Step::Share => refused(errno.into()),
        })?;
        // Once is enough, for as long as any of them is there.
        packet::receive_everything(&ends[0].socket, about.index).map_err(failed)?;
        Ok(Card { ends, about })
    }
}

/// The steps by which sockets come to receive.
enum Step {
    Bind,
    Share,
}

/// Binds sockets to an interface and has them share what comes in.
fn join(sockets: &[&OwnedFd], about: About) -> Result<(), (Step, Errno)> {
    let bind = |socket| packet::bind_to_interface(socket, about.index);
    if let [only] = sockets {
        return bind(*only).map_err(|errno| (Step::Bind, errno));
    }
    for socket in sockets {
        // A frame that comes in meanwhile would be everybody's.
        packet::be_deaf(socket).map_err(|errno| (Step::Share, errno))?;
        bind(*socket).map_err(|errno| (Step::Bind, errno))?;
    }
    let shared = packet::share_flows(sockets);
    shared
        .and_then(|()| sockets.iter().try_for_each(|socket| packet::hear(socket)))
        .map_err(|errno| (Step::Share, errno))
}

impl End {
    /// Of a socket that is not bound yet.
    fn new(socket: OwnedFd, about: About) -> rustix::io::Result<End> {
        // Tags that the kernel has taken off, and what the card is spared.
        packet::set_packet_options(&socket)?;
        // A kernel that has no ring with these options, or no memory for one, has the socket all the same.
        let ring = Ring::new(
            &socket,
            tun::ETHER_LEN + TAG_LEN + usize::from(about.ip_mtu),
        )
        .ok();
        // Beyond the system's limit with CAP_NET_ADMIN only.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, QUEUE));
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, QUEUE)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, QUEUE));
        Ok(End {
            socket,
            ring,
            index: about.index,
        })
    }

    /// Both directions.
    fn halves(self) -> Halves {
        let End {
            socket,
            ring,
            index,
        } = self;
        let socket = Arc::new(socket);
        let inward = FromCard {
            socket: Arc::clone(&socket),
            ring,
            index,
            buffers: Buffers::new(),
            lost: 0,
            is_losing: false,
            is_down: false,
        };
        (Box::new(inward), Box::new(ToCard { socket }))
    }
}

struct FromCard {
    socket: Arc<OwnedFd>,
    ring: Option<Ring>,
    index: u32,
    buffers: Buffers,
    /// Frames that were not received since the last look.
    lost: u64,
    /// There may be some that only the kernel knows of.
    is_losing: bool,
    /// It has gone down, and no frame has come since. One that is deleted is down first.
    is_down: bool,
}

impl FromCard {
    /// The next frame, with its tag in its place. `None` when there is none, or none now.
    fn next(&mut self) -> io::Result<Option<(Received, Bytes)>> {
        let Some(ring) = &mut self.ring else {
            let received = self.receive()?;
            // Nothing in a frame says so.
            self.is_losing |= received.is_none();
            return Ok(received);
        };
        let Some(slot) = ring.next() else {
            return self.idle().map(|()| None);
        };
        self.is_losing |= slot.is_losing();
        self.is_down = false;
        let (is_elsewhere, frame) = (slot.is_elsewhere(), slot.frame());
        let frame = frame.map(|(about, frame)| {
            let bytes = match (about.tag, frame.split_at_checked(ADDRESSES_LEN)) {
                (Some(tag), Some((addresses, rest))) => {
                    Bytes::from([addresses, &tag, rest].concat())
                }
                _ => Bytes::copy_from_slice(frame),
            };
            (about, bytes)
        });
        drop(slot);
        let frame = match is_elsewhere {
            true => self.receive()?,
            false => frame,
        };
        // One of which the kernel has kept a part only is counted as one that is refused.
        Ok(Some(frame.unwrap_or_default()))
    }

    /// Nothing is in the ring. Whoever looks there does not hear of errors.
    fn idle(&mut self) -> io::Result<()> {
        match sockopt::socket_error(&self.socket)? {
            Ok(()) if self.is_down && !self.is_there() => Err(Errno::NODEV.into()),
            Ok(()) => Ok(()),
            Err(Errno::NETDOWN) => {
                self.is_down = true;
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the host still has the card.
    fn is_there(&self) -> bool {
        netdevice::index_to_name(&self.socket, self.index).is_ok()
    }

    /// Reads the next frame from the socket. `None` when there is none, or none now.
    fn receive(&mut self) -> io::Result<Option<(Received, Bytes)>> {
        let mut received = None;
        let (socket, lost, is_down) = (&self.socket, &mut self.lost, &mut self.is_down);
        let mut refused = 0;
        let is_there = || netdevice::index_to_name(socket, self.index).is_ok();
        let bytes = self.buffers.read(|buf| {
            buf.extend([0; TAG_LEN]);
            loop {
                match packet::receive_packet(socket, buf) {
                    Ok(frame) => {
                        *is_down = false;
                        if let Some(tag) = frame.tag {
                            // Between the addresses and the type.
                            buf.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
                            buf[ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN].copy_from_slice(&tag);
                        }
                        received = Some(frame);
                        return Ok(true);
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) if *is_down && !is_there() => {
                        return Err(Errno::NODEV.into());
                    }
                    Err(Errno::AGAIN) => return Ok(false),
                    // The kernel cannot say how this frame is to be cut, and has thrown it away.
                    Err(Errno::INVAL) if refused < REFUSED_AT_ONCE => {
                        refused += 1;
                        *lost += 1;
                    }
                    // It is said once.
                    Err(Errno::NETDOWN) => *is_down = true,
                    Err(errno) => return Err(errno.into()),
                }
            }
        })?;
        Ok(received.zip(bytes).map(|(received, mut bytes)| {
            if received.tag.is_none() {
                bytes.advance(TAG_LEN.min(bytes.len()));
            }
            (received, bytes)
        }))
    }
}

impl Inward for FromCard {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let Some((received, bytes)) = self.next()? else {
            return Ok(None);
        };
        let mut header = [0; HEADER_LEN];
        header[..PACKET_HEADER_LEN].copy_from_slice(&received.header);
        let header = match received.tag {
            // The kernel says where things are in the frame without the tag.
            Some(_) => tun::moved(header, |place| place.checked_add(TAG_LEN as u16)),
            None => Some(header),
        };
        // What is longer than any frame becomes one that no port takes, and is counted.
        Ok(Some(match (header, received.is_whole) {
            (Some(header), true) => Frame {
                header: Some(header),
                bytes,
            },
            _ => Frame {
                header: None,
                bytes: Bytes::new(),
            },
        }))
    }

    fn look_again(&self) -> Option<Duration> {
        self.is_down.then_some(LOOK)
    }

    fn take_lost(&mut self) -> u64 {
        if std::mem::take(&mut self.is_losing) {
            // Of a socket that is there, it can be asked.
            self.lost += u64::from(packet::take_dropped(&self.socket).unwrap_or(0));
        }
        std::mem::take(&mut self.lost)
    }

    fn take_last_lost(&mut self) -> u64 {
        // What came last may have been dropped, and nothing has come since that says so.
        self.is_losing = true;
        self.take_lost()
    }
}

struct ToCard {
    socket: Arc<OwnedFd>,
}

impl Outward for ToCard {
    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let Some(header) = packet.virtio_header() else {
            return Ok(Written::Refused);
        };
        loop {
            let written = with_slices(&header[..PACKET_HEADER_LEN], &packet, |slices| {
                rustix::io::writev(&self.socket, slices)
            });
            return Ok(match written {
                Ok(_) => Written::Yes,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Written::Later(packet),
                Err(errno @ (Errno::NXIO | Errno::NODEV)) => return Err(errno.into()),
                // It is down, its queue is full, or the frame is longer than its MTU.
                Err(_) => Written::Refused,
            });
        }
    }
}

#[cfg(test)]
mod tests;
