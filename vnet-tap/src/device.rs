//! The process's end of a host TAP: making one, or opening one that is there, and its frames.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;

use bytes::{Buf, Bytes};
use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_tap::{Iface, Mode};
use vnet::Offload;
use vnet::packet::Packet;

use crate::buffers::Buffers;
use crate::config::{HostState, Layer, Lifetime, TapConfig};
use crate::line::{Frame, HEADER_LEN, Halves, Inward, Outward, Written};
use crate::sys::{self, InterfaceRequest, ask, set_integer, set_number};
use crate::tun::{self, ETHER_LEN, Neighbours, Outgoing};

/// Datagrams of UDP over IPv4 and IPv6 are taken uncut (`TUN_F_USO4`, `TUN_F_USO6` of `linux/if_tun.h`).
const TUN_F_USO: libc::c_uint = 0x20 | 0x40;

/// The character device through which TAPs are made.
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";
/// The name requested when the configuration has none.
pub(crate) const DEFAULT_NAME: &str = "vnt%d";
/// Slices handed to one `writev`; a packet in more pieces than this is copied into one.
const MAX_SLICES: usize = 20;
/// An Ethernet address, in `sa_family` of a link-layer address (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;

/// The process's end of a TAP, non-blocking.
pub(crate) struct Device {
    fd: OwnedFd,
    name: String,
    /// A virtio-net header is in front of each frame.
    has_headers: bool,
    /// The host takes datagrams that it cuts itself.
    cuts_datagrams: bool,
    layer: Layer,
}

type Failure = crate::failure::Failure<Step>;

/// The steps on the way to a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Going to its network namespace.
    Enter,
    /// Opening [`TUN_DEVICE`].
    Open,
    /// Making the device, or taking one that is there.
    Make,
    /// Adding the other queues to it.
    Queues,
    /// Changing something of it.
    Set(&'static str),
}

impl Step {
    fn failed(self) -> impl Fn(Errno) -> Failure {
        move |errno| Failure::of(self, errno)
    }
}

impl Device {
    /// Makes the TAP of a configuration, in its network namespace or that of the calling thread: as many ends of it as
    /// it has queues.
    pub(crate) fn create(config: &TapConfig) -> Result<Vec<Device>, Failure> {
        let Some(netns) = &config.netns else {
            return Device::create_here(config);
        };
        // A thread of its own: this one stays where it is, and so do those that it will start.
        let (netns, config) = (netns.clone(), config.clone());
        let there = move || {
            enter(&netns)?;
            Device::create_here(&config)
        };
        let failed = |error| Failure::of(Step::Enter, error);
        let thread = Builder::new().name("vnet-tap-netns".into()).spawn(there);
        let ended = thread.map_err(failed)?.join();
        ended.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }

    fn create_here(config: &TapConfig) -> Result<Vec<Device>, Failure> {
        let name = config.host_name.as_deref().unwrap_or(DEFAULT_NAME);
        let has_headers = config.offload != Offload::None;
        let queues = config.queues.get();
        let flags = match has_headers {
            true => libc::IFF_VNET_HDR,
            false => 0,
        };
        let (fd, name) = match queues {
            1 if !has_headers => plain(name, config.layer)?,
            1 => make(name, config.layer, flags)?,
            _ => make(name, config.layer, flags | libc::IFF_MULTI_QUEUE)?,
        };
        let of_queue = |fd, name| Device {
            fd,
            name,
            has_headers,
            cuts_datagrams: false,
            layer: config.layer,
        };
        let mut devices = vec![of_queue(fd, name)];
        for _ in 1..queues {
            let failed = |failure: Failure| Failure {
                step: match failure.step {
                    Step::Make => Step::Queues,
                    step => step,
                },
                ..failure
            };
            let flags = flags | libc::IFF_MULTI_QUEUE;
            let (fd, name) = make(&devices[0].name, config.layer, flags).map_err(failed)?;
            devices.push(of_queue(fd, name));
        }
        // Of the device, not of one end.
        let cuts_datagrams = devices[0].agree(config.offload)?;
        devices[0].set_up(config)?;
        for device in &mut devices {
            device.cuts_datagrams = cuts_datagrams;
        }
        Ok(devices)
    }

    /// A TAP that somebody else has opened.
    pub(crate) fn from_fd(fd: OwnedFd, config: &TapConfig) -> Result<Device, Failure> {
        let mut request = InterfaceRequest::about("");
        ask::<{ sys::TUNGETIFF }>(&fd, &mut request).map_err(Step::Make.failed())?;
        let has = |flag: i32| i32::from(request.flags()) & flag != 0;
        let layer = match (has(libc::IFF_TAP), has(libc::IFF_TUN)) {
            (true, false) if has(libc::IFF_NO_PI) => Layer::Link,
            (false, true) if has(libc::IFF_NO_PI) => Layer::Network,
            _ => return Err(Step::Make.failed()(Errno::INVAL)),
        };
        rustix::io::ioctl_fionbio(&fd, true).map_err(Step::Set("non-blocking").failed())?;
        let mut device = Device {
            has_headers: has(libc::IFF_VNET_HDR),
            cuts_datagrams: false,
            layer,
            name: request.name(),
            fd,
        };
        device.cuts_datagrams = device.agree(match device.has_headers {
            true => config.offload,
            false => Offload::None,
        })?;
        device.set_up(config)?;
        Ok(device)
    }

    /// Says what this process takes from the host, and the host from it. A device that was there may
    /// still have what its last user said. Returns whether the host cuts datagrams as well as segments.
    fn agree(&self, offload: Offload) -> Result<bool, Failure> {
        let offered = match offload {
            Offload::Full => TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
            Offload::Checksum => TUN_F_CSUM,
            Offload::None => 0,
        };
        let failed = Step::Set("offload").failed();
        if self.has_headers {
            set_integer::<{ sys::TUNSETVNETHDRSZ }>(&self.fd, HEADER_LEN as i32)
                .map_err(&failed)?;
            set_integer::<{ sys::TUNSETVNETLE }>(&self.fd, 1).map_err(&failed)?;
        }
        let agree = |offered| set_number::<{ sys::TUNSETOFFLOAD }>(&self.fd, offered);
        // Linux has both directions since 6.2.
        if offload == Offload::Full && agree(offered | TUN_F_USO).is_ok() {
            return Ok(true);
        }
        agree(offered).map_err(failed)?;
        Ok(false)
    }

    /// Makes the host's interface what the configuration says.
    fn set_up(&self, config: &TapConfig) -> Result<(), Failure> {
        if let Some(owner) = config.owner {
            set_number::<{ sys::TUNSETOWNER }>(&self.fd, owner)
                .map_err(Step::Set("owner").failed())?;
        }
        self.set_interface(config)?;
        // Last: of a device that could not be set up nothing stays.
        match config.lifetime {
            Lifetime::AsItIs => Ok(()),
            Lifetime::WithTap => self.persist(0),
            Lifetime::Persistent => self.persist(1),
        }
    }

    fn set_interface(&self, config: &TapConfig) -> Result<(), Failure> {
        let is_left_alone = config.host_mac.is_none()
            && config.host_ip_mtu.is_none()
            && config.host_bridge.is_none()
            && config.host_state == HostState::AsItIs;
        if is_left_alone {
            return Ok(());
        }
        let control = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .map_err(Step::Set("properties").failed())?;
        let about = || InterfaceRequest::about(&self.name);
        if let Some(mac) = config.host_mac {
            let mut address = ARPHRD_ETHER.to_ne_bytes().to_vec();
            address.extend(mac.0);
            ask::<{ sys::SIOCSIFHWADDR }>(&control, &mut about().with(&address))
                .map_err(Step::Set("MAC address").failed())?;
        }
        if let Some(ip_mtu) = config.host_ip_mtu {
            let ip_mtu = i32::from(ip_mtu).to_ne_bytes();
            ask::<{ sys::SIOCSIFMTU }>(&control, &mut about().with(&ip_mtu))
                .map_err(Step::Set("MTU").failed())?;
        }
        if let Some(bridge) = &config.host_bridge {
            let failed = Step::Set("bridge").failed();
            let index = rustix::net::netdevice::name_to_index(&control, &self.name);
            let index = index.map_err(&failed)?.to_ne_bytes();
            let request = || InterfaceRequest::about(bridge).with(&index);
            let add = || ask::<{ sys::SIOCBRADDIF }>(&control, &mut request());
            add()
                .or_else(|errno| {
                    // The kernel says this of an interface in any bridge, this one included.
                    let is_there = errno == Errno::BUSY
                        && ask::<{ sys::SIOCBRDELIF }>(&control, &mut request()).is_ok();
                    if is_there { add() } else { Err(errno) }
                })
                .map_err(failed)?;
        }
        let up = libc::IFF_UP as u16;
        let change = |change: &dyn Fn(u16) -> u16| {
            let mut request = about();
            ask::<{ sys::SIOCGIFFLAGS }>(&control, &mut request)?;
            let flags = change(request.flags()).to_ne_bytes();
            ask::<{ sys::SIOCSIFFLAGS }>(&control, &mut about().with(&flags))
        };
        match config.host_state {
            HostState::AsItIs => Ok(()),
            HostState::Up => change(&|flags| flags | up),
            HostState::Down => change(&|flags| flags & !up),
        }
        .map_err(Step::Set("state").failed())
    }

    fn persist(&self, value: u32) -> Result<(), Failure> {
        set_number::<{ sys::TUNSETPERSIST }>(&self.fd, value)
            .map_err(Step::Set("persistence").failed())
    }

    /// Its descriptor alone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The name the kernel gave it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What its frames may leave undone.
    pub(crate) fn offload(&self, wanted: Offload) -> Offload {
        match self.has_headers {
            true => wanted,
            false => Offload::None,
        }
    }

    /// Both directions, where these are both stations of the link.
    pub(crate) fn halves(self, link: &Arc<Neighbours>) -> Halves {
        let device = Arc::new(self);
        if device.layer == Layer::Network {
            let link = Arc::clone(link);
            let inward = PacketsFromHost {
                link: Arc::clone(&link),
                frames: FromHost {
                    device: Arc::clone(&device),
                    buffers: Buffers::new(),
                },
            };
            return (Box::new(inward), Box::new(PacketsToHost { device, link }));
        }
        let inward = FromHost {
            device: Arc::clone(&device),
            buffers: Buffers::new(),
        };
        (Box::new(inward), Box::new(ToHost { device }))
    }

    /// Reads the next frame from the host, with its header if it has one, into the free part of `buf`.
    /// False when there is none.
    fn read(&self, buf: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match rustix::io::read(&self.fd, spare_capacity(buf)) {
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn open() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(TUN_DEVICE, flags, FileMode::empty()).map_err(Step::Open.failed())
}

/// A device with these flags, and its name.
fn make(name: &str, layer: Layer, flags: libc::c_int) -> Result<(OwnedFd, String), Failure> {
    let fd = open()?;
    let layer = match layer {
        Layer::Link => libc::IFF_TAP,
        Layer::Network => libc::IFF_TUN,
    };
    let kind = (layer | libc::IFF_NO_PI | flags) as u16;
    let mut request = InterfaceRequest::about(name).with(&kind.to_ne_bytes());
    ask::<{ sys::TUNSETIFF }>(&fd, &mut request).map_err(Step::Make.failed())?;
    Ok((fd, request.name()))
}

/// A device of frames alone with a single queue, and its name.
fn plain(name: &str, layer: Layer) -> Result<(OwnedFd, String), Failure> {
    let mode = match layer {
        Layer::Link => Mode::Tap,
        Layer::Network => Mode::Tun,
    };
    let iface = Iface::without_packet_info(name, mode).map_err(|error| {
        // It does both steps, and does not say which has failed.
        let step = open().map_or_else(|failure| failure.step, |_| Step::Make);
        Failure::of(step, error)
    })?;
    let name = iface.name().to_owned();
    let fd = sys::descriptor_of(iface);
    rustix::io::ioctl_fionbio(&fd, true).map_err(Step::Set("non-blocking").failed())?;
    Ok((fd, name))
}

/// Moves the calling thread into a network namespace.
fn enter(netns: &Path) -> Result<(), Failure> {
    let namespace = File::open(netns).map_err(|error| Failure::of(Step::Enter, error))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(Step::Enter.failed())
}

struct FromHost {
    device: Arc<Device>,
    buffers: Buffers,
}

impl Inward for FromHost {
    fn fd(&self) -> BorrowedFd<'_> {
        self.device.fd.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let Some(mut bytes) = self.buffers.read(|buf| self.device.read(buf))? else {
            return Ok(None);
        };
        let mut header = None;
        if self.device.has_headers {
            header = bytes.first_chunk().copied();
            bytes.advance(HEADER_LEN.min(bytes.len()));
        }
        Ok(Some(Frame { header, bytes }))
    }
}

struct ToHost {
    device: Arc<Device>,
}

impl Outward for ToHost {
    fn cuts_datagrams(&self) -> bool {
        self.device.cuts_datagrams
    }

    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let Some(header) = packet.virtio_header() else {
            return Ok(Written::Refused);
        };
        let header = match self.device.has_headers {
            true => &header[..],
            false if is_complete(&header) => &[],
            false => return Ok(Written::Refused),
        };
        let written = with_slices(header, &packet, |slices| self.device.write(slices))?;
        Ok(match written {
            Taken::Yes => Written::Yes,
            Taken::Refused => Written::Refused,
            Taken::Later => Written::Later(packet),
        })
    }
}

/// What the host did with a frame.
enum Taken {
    Yes,
    Refused,
    Later,
}

impl Device {
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<Taken> {
        loop {
            return match rustix::io::writev(&self.fd, slices) {
                Ok(_) => Ok(Taken::Yes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Taken::Later),
                // EIO: the host's interface is down. EINVAL: not a valid frame.
                // ENOBUFS, ENOMEM: the host is out of memory for the moment.
                Err(Errno::IO | Errno::INVAL | Errno::NOBUFS | Errno::NOMEM) => Ok(Taken::Refused),
                Err(e) => Err(e.into()),
            };
        }
    }
}

/// From a TUN: each packet gets a link header.
struct PacketsFromHost {
    link: Arc<Neighbours>,
    frames: FromHost,
}

impl Inward for PacketsFromHost {
    fn fd(&self) -> BorrowedFd<'_> {
        self.frames.fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let Some(Frame { header, bytes }) = self.frames.read()? else {
            return Ok(None);
        };
        // What is no IP, or has a header that lies, becomes a frame that no port takes, and is counted.
        let bytes = match self.link.header(&bytes) {
            Some(header) => Bytes::from([&header[..], &bytes].concat()),
            None => Bytes::new(),
        };
        let added = |place: u16| place.checked_add(ETHER_LEN as u16);
        let moved = header.map(|header| tun::moved(header, added));
        Ok(Some(match moved {
            Some(None) => Frame {
                header: None,
                bytes: Bytes::new(),
            },
            header => Frame {
                header: header.flatten(),
                bytes,
            },
        }))
    }
}

/// To a TUN: what is about the link stays here.
struct PacketsToHost {
    device: Arc<Device>,
    link: Arc<Neighbours>,
}

impl Outward for PacketsToHost {
    fn cuts_datagrams(&self) -> bool {
        self.device.cuts_datagrams
    }

    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let Some(header) = packet.virtio_header() else {
            return Ok(Written::Refused);
        };
        let frame = packet.to_vec();
        match self.link.look(&frame) {
            Outgoing::Packet => {}
            Outgoing::Question(answer) => return Ok(Written::Answered(answer)),
            Outgoing::Talk => return Ok(Written::Yes),
            Outgoing::Other => return Ok(Written::Refused),
        }
        let removed = |place: u16| place.checked_sub(ETHER_LEN as u16);
        let header = match self.device.has_headers {
            true => tun::moved(header, removed),
            false => is_complete(&header).then_some(header),
        };
        let Some(header) = header else {
            return Ok(Written::Refused);
        };
        let in_front = match self.device.has_headers {
            true => &header[..],
            false => &[],
        };
        let slices = [IoSlice::new(in_front), IoSlice::new(&frame[ETHER_LEN..])];
        Ok(match self.device.write(&slices)? {
            Taken::Yes => Written::Yes,
            Taken::Refused => Written::Refused,
            Taken::Later => Written::Later(packet),
        })
    }
}

/// Whether a frame of which this header speaks can be handed over without it: no checksum is left open,
/// and it stands for itself.
pub(crate) fn is_complete(header: &[u8; HEADER_LEN]) -> bool {
    // Virtio 1.2, section 5.1.6: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE.
    header[0] & 1 == 0 && header[1] == 0
}

/// Calls `f` with a packet's pieces, where they are, behind `prefix`.
pub(crate) fn with_slices<R>(
    prefix: &[u8],
    packet: &Packet,
    f: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> R {
    let copy;
    let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
    pieces[0] = IoSlice::new(prefix);
    let used = if packet.slices().len() + 2 <= MAX_SLICES {
        let mut used = 1;
        for (piece, slice) in pieces[1..].iter_mut().zip(packet.io_slices()) {
            *piece = slice;
            used += 1;
        }
        used
    } else {
        copy = packet.to_vec();
        pieces[1] = IoSlice::new(&copy);
        2
    };
    f(&pieces[..used])
}
