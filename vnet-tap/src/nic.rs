//! A network card of the host's as a port of a vnet.

use std::fs::File;
use std::io;
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
use crate::line::{Frame, HEADER_LEN, Inward, Outward, Written};
use crate::pump::{self, Pump};
use crate::report::PumpReport;
use crate::sys::{self, InterfaceRequest, Received, ask};
use crate::tun;

/// Bytes of the virtio-net header that packet sockets have in front of frames.
const SHORT_HEADER_LEN: usize = sys::PACKET_HEADER_LEN;
/// Bytes of a VLAN tag, for which there is room in front of a frame.
const TAG_LEN: usize = 4;
/// Room in the socket's queues, as far as the system's limits allow it.
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
    /// Bytes of frames, what it costs to hold them included, that wait for the card to take them.
    /// Initially 16 MiB. What finds no room is dropped and counted.
    pub queue_bytes: usize,
}

impl From<&str> for NicConfig {
    fn from(host_name: &str) -> NicConfig {
        NicConfig {
            host_name: host_name.to_owned(),
            netns: None,
            queue_bytes: 16 << 20,
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
    pump: Pump,
    host_name: String,
}

impl Nic {
    /// Makes a port `ifname` in `vnet` with the MAC address and the MTU of the card, and carries frames
    /// between the two until it is detached. A port of that name with nothing plugged in is used with the
    /// MAC address that it has.
    ///
    /// The card receives what is for others, too, for as long as it is attached. Nothing else of it
    /// changes, and the kernel undoes that however the process ends. It has to be up, by whoever
    /// administers the host; while it is down, nothing is carried. The host sees what comes in as well:
    /// so that it does not answer, it has no address there.
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
        let card = Arc::new(Card::open(&config)?);
        let plug = pump::plug(vnet, ifname, Some(card.mac), Offload::Full)?;
        vnet.set_ip_mtu(ifname, card.ip_mtu)?;
        let inward = FromCard {
            card: Arc::clone(&card),
            buffers: Buffers::new(),
            lost_before: 0,
            lost: 0,
            is_down: false,
        };
        let halves = (
            Box::new(inward) as Box<dyn Inward>,
            Box::new(ToCard { card }) as _,
        );
        let pump = Pump::start("vnet-nic", halves, plug, config.queue_bytes, Duration::ZERO)
            .map_err(NicError::Pump)?;
        tracing::debug!(
            vnet = vnet.name(),
            ifname,
            host = config.host_name,
            "NIC attached"
        );
        Ok(Nic {
            pump,
            host_name: config.host_name,
        })
    }

    /// The name of the host's interface.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// True while frames are carried; false after the card or the vnet went away.
    pub fn is_running(&self) -> bool {
        self.pump.is_running()
    }

    /// What has been carried so far.
    pub fn report(&self) -> PumpReport {
        self.pump.report()
    }

    /// Gives the card back. The vnet's port stays, with its carrier down.
    ///
    /// Called on a pump's own thread, it does not wait for the end, and the report does not say how it was.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        self.pump.detach()
    }
}

/// A packet socket of an interface of the host's.
struct Card {
    socket: OwnedFd,
    index: u32,
    mac: MacAddr,
    ip_mtu: u16,
}

impl Card {
    /// Opens it in its network namespace or that of the calling thread.
    fn open(config: &NicConfig) -> Result<Card, NicError> {
        let Some(netns) = &config.netns else {
            return Card::open_here(&config.host_name);
        };
        let (netns, name) = (netns.clone(), config.host_name.clone());
        let failed = |error| NicError::NetNs {
            netns: netns.clone(),
            error,
        };
        let namespace = File::open(&netns).map_err(failed)?;
        // A thread of its own: this one stays where it is.
        let there = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(Card::open_here(&name))
        };
        let thread = Builder::new().name("vnet-nic-netns".into()).spawn(there);
        let ended = thread.map_err(failed)?.join();
        let opened: Result<_, Errno> =
            ended.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
        opened.map_err(|errno| failed(errno.into()))?
    }

    fn open_here(name: &str) -> Result<Card, NicError> {
        let failed = |errno: Errno| match errno {
            Errno::PERM | Errno::ACCESS => NicError::NotPermitted(errno.into()),
            Errno::NODEV | Errno::NXIO => NicError::NotEthernet(name.to_owned()),
            errno => NicError::Host(errno.into()),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol, nothing comes in before it is bound.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        let socket = socket.map_err(failed)?;
        let index = netdevice::name_to_index(&socket, name).map_err(failed)?;
        let mut about = InterfaceRequest::about(name);
        ask::<{ sys::SIOCGIFHWADDR }>(&socket, &mut about).map_err(failed)?;
        let (kind, mac) = about.address();
        if kind != ARPHRD_ETHER {
            return Err(NicError::NotEthernet(name.to_owned()));
        }
        let mut about = InterfaceRequest::about(name);
        ask::<{ sys::SIOCGIFMTU }>(&socket, &mut about).map_err(failed)?;
        let ip_mtu = u16::try_from(about.number()).unwrap_or(u16::MAX);
        // Tags that the kernel has taken off, frames that are lost, and what the card is spared.
        sys::set_packet_options(&socket).map_err(failed)?;
        let _ = sockopt::set_socket_recv_buffer_size(&socket, QUEUE);
        let _ = sockopt::set_socket_send_buffer_size(&socket, QUEUE);
        sys::bind_to_interface(&socket, index).map_err(failed)?;
        sys::receive_everything(&socket, index).map_err(failed)?;
        Ok(Card {
            socket,
            index,
            mac: MacAddr(mac),
            ip_mtu,
        })
    }

    /// Whether the host still has it.
    fn is_there(&self) -> bool {
        netdevice::index_to_name(&self.socket, self.index).is_ok()
    }
}

struct FromCard {
    card: Arc<Card>,
    buffers: Buffers,
    /// Frames that the socket had no room for, as it counts them, at the last look and since.
    lost_before: u32,
    lost: u64,
    /// It has gone down, and no frame has come since. One that is deleted is down first.
    is_down: bool,
}

impl FromCard {
    /// Reads the next frame behind room for a tag. `None` when there is none, or none now.
    fn receive(&mut self) -> io::Result<Option<(Received, Bytes)>> {
        let mut received = None;
        let (card, lost, is_down) = (&*self.card, &mut self.lost, &mut self.is_down);
        let mut refused = 0;
        let bytes = self.buffers.read(|buf| {
            buf.extend([0; TAG_LEN]);
            loop {
                match sys::receive_packet(&card.socket, buf) {
                    Ok(frame) => {
                        *is_down = false;
                        if let Some(tag) = frame.tag {
                            // Between the addresses and the type.
                            buf.copy_within(TAG_LEN..TAG_LEN + 12, 0);
                            buf[12..12 + TAG_LEN].copy_from_slice(&tag);
                        }
                        received = Some(frame);
                        return Ok(true);
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) if *is_down && !card.is_there() => {
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
        Ok(received.zip(bytes))
    }
}

impl Inward for FromCard {
    fn fd(&self) -> BorrowedFd<'_> {
        self.card.socket.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let Some((received, mut bytes)) = self.receive()? else {
            return Ok(None);
        };
        self.lost += u64::from(received.lost.wrapping_sub(self.lost_before));
        self.lost_before = received.lost;
        let mut header = [0; HEADER_LEN];
        header[..SHORT_HEADER_LEN].copy_from_slice(&received.header);
        let header = match received.tag {
            // The kernel says where things are in the frame without the tag.
            Some(_) => tun::moved(header, |place| place.checked_add(TAG_LEN as u16)),
            None => {
                bytes.advance(TAG_LEN.min(bytes.len()));
                Some(header)
            }
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
        std::mem::take(&mut self.lost)
    }
}

struct ToCard {
    card: Arc<Card>,
}

impl Outward for ToCard {
    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let Some(header) = packet.virtio_header() else {
            return Ok(Written::Refused);
        };
        loop {
            let written = with_slices(&header[..SHORT_HEADER_LEN], &packet, |slices| {
                rustix::io::writev(&self.card.socket, slices)
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
