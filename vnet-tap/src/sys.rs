//! TAP devices, waiting and network namespaces: what needs `unsafe` in this crate, and what goes with it.

use std::ffi::{c_int, c_uint};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl};
use rustix::thread::UnshareFlags;
use tun_tap::{Iface, Mode};
use vnet::Offload;
use vnet::packet::Packet;

use crate::buffers::Buffers;
use crate::line::{Frame, HEADER_LEN, Inward, Outward, Written};

/// Slices handed to one `writev`; a packet in more pieces than this is copied into one.
const MAX_SLICES: usize = 20;

/// The process's end of a TAP, non-blocking.
pub(crate) enum Device {
    /// One that carries complete frames.
    Plain(Iface),
    /// One that carries a virtio-net header in front of each frame.
    Offloading(Queue),
}

/// The descriptor of an offloading TAP.
pub(crate) struct Queue {
    fd: OwnedFd,
    name: String,
}

/// `struct ifreq` of `linux/if.h`, as `TUNSETIFF` reads and writes it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    unused: [u8; 22],
}

const TUNSETIFF: Opcode = libc::TUNSETIFF as Opcode;
const TUNSETOFFLOAD: Opcode = libc::TUNSETOFFLOAD as Opcode;
const TUNSETVNETHDRSZ: Opcode = libc::TUNSETVNETHDRSZ as Opcode;
const TUNSETVNETLE: Opcode = libc::TUNSETVNETLE as Opcode;

impl Device {
    /// Makes the TAP `name` in the calling thread's network namespace.
    pub(crate) fn create(name: &str, offload: Offload) -> io::Result<Device> {
        let offered = match offload {
            Offload::Full => TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
            Offload::Checksum => TUN_F_CSUM,
            Offload::None => {
                let iface = Iface::without_packet_info(name, Mode::Tap)?;
                rustix::io::ioctl_fionbio(borrow(&iface), true)?;
                return Ok(Device::Plain(iface));
            }
        };
        Ok(Device::Offloading(Queue::create(name, offered)?))
    }

    /// The name the kernel gave it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Device::Plain(iface) => iface.name(),
            Device::Offloading(queue) => &queue.name,
        }
    }

    /// Both directions.
    pub(crate) fn halves(self) -> (Box<dyn Inward>, Box<dyn Outward>) {
        let device = Arc::new(self);
        let inward = FromHost {
            device: Arc::clone(&device),
            buffers: Buffers::new(),
        };
        (Box::new(inward), Box::new(ToHost { device }))
    }

    fn has_headers(&self) -> bool {
        matches!(self, Device::Offloading(_))
    }

    /// Reads the next frame from the host, with its header if it has one, into the free part of `buf`.
    /// False when there is none.
    pub(crate) fn read(&self, buf: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match rustix::io::read(self.as_fd(), spare_capacity(buf)) {
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

struct FromHost {
    device: Arc<Device>,
    buffers: Buffers,
}

impl Inward for FromHost {
    fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let Some(mut bytes) = self.buffers.read(|buf| self.device.read(buf))? else {
            return Ok(None);
        };
        let mut header = None;
        if self.device.has_headers() {
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
    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let header = match self.device.has_headers() {
            true => match packet.virtio_header() {
                Some(header) => Some(header),
                None => return Ok(Written::Refused),
            },
            false => None,
        };
        let header = header.as_ref().map_or(&[][..], |header| &header[..]);
        loop {
            let written = with_slices(header, &packet, |slices| {
                rustix::io::writev(self.device.as_fd(), slices)
            });
            return match written {
                Ok(_) => Ok(Written::Yes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Written::Later(packet)),
                // EIO: the host's interface is down. EINVAL: not a frame to its taste.
                // ENOBUFS, ENOMEM: the host is out of memory for the moment.
                Err(Errno::IO | Errno::INVAL | Errno::NOBUFS | Errno::NOMEM) => {
                    Ok(Written::Refused)
                }
                Err(e) => Err(e.into()),
            };
        }
    }
}

/// Calls `f` with a packet's pieces, where they are, behind `prefix`.
pub(crate) fn with_slices<R>(
    prefix: &[u8],
    packet: &Packet,
    f: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> R {
    let slices = packet.slices();
    let copy;
    let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
    pieces[0] = IoSlice::new(prefix);
    let used = if slices.len() + 2 <= MAX_SLICES {
        pieces[1] = IoSlice::new(packet.head());
        for (piece, slice) in pieces[2..].iter_mut().zip(slices) {
            *piece = IoSlice::new(slice);
        }
        slices.len() + 2
    } else {
        copy = packet.to_vec();
        pieces[1] = IoSlice::new(&copy);
        2
    };
    f(&pieces[..used])
}

impl Queue {
    /// `offered`: what this process takes from the host, and the host from it.
    fn create(name: &str, offered: c_uint) -> io::Result<Queue> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open("/dev/net/tun", flags, FileMode::empty())?;
        let mut request = InterfaceRequest {
            name: [0; 16],
            flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16,
            unused: [0; 22],
        };
        // The last byte stays zero; a longer name has been refused by then.
        for (byte, char) in request.name[..15].iter_mut().zip(name.bytes()) {
            *byte = char;
        }
        let len = HEADER_LEN as c_int;
        let little_endian: c_int = 1;
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, whose size and layout
        // `InterfaceRequest` has; the next two read an `int`; the last takes its argument by value.
        unsafe {
            ioctl(&fd, Updater::<TUNSETIFF, _>::new(&mut request))?;
            ioctl(&fd, Setter::<TUNSETVNETHDRSZ, c_int>::new(len))?;
            ioctl(&fd, Setter::<TUNSETVNETLE, c_int>::new(little_endian))?;
            ioctl(
                &fd,
                IntegerSetter::<TUNSETOFFLOAD>::new_usize(offered as usize),
            )?;
        }
        let name = request.name.split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        Ok(Queue { fd, name })
    }
}

fn borrow(iface: &Iface) -> BorrowedFd<'_> {
    // SAFETY: `iface` owns the descriptor and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Device::Plain(iface) => borrow(iface),
            Device::Offloading(queue) => queue.fd.as_fd(),
        }
    }
}

/// A bell: rung from any thread, heard by [`wait`].
pub(crate) struct Bell {
    fd: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { fd })
    }

    /// Rings. Ringing twice before it is heard is the same as ringing once.
    pub(crate) fn ring(&self) {
        // The only failure is EAGAIN, when it has been rung 2^64 - 2 times already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Sleeps until it rings, for at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let timeout = Timespec::try_from(timeout).ok();
        // Whatever goes wrong, the caller looks again.
        let _ = poll(
            &mut [PollFd::new(&self.fd, PollFlags::IN)],
            timeout.as_ref(),
        );
    }

    fn silence(&self) {
        let mut count = [0; 8];
        // EAGAIN means that it was silent.
        let _ = rustix::io::read(&self.fd, &mut count[..]);
    }
}

/// What to wait for in addition to the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// A frame from the host.
    Read,
    /// A frame from the host, or room for one to it.
    ReadWrite,
}

/// Sleeps until the bell rings, the line is ready, or `timeout` has passed. A line that has failed is
/// ready: reading it says why.
pub(crate) fn wait(
    line: BorrowedFd<'_>,
    bell: &Bell,
    interest: Interest,
    timeout: Option<Duration>,
) -> io::Result<()> {
    // A time that has no `Timespec` is 292 billion years away.
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    let flags = match interest {
        Interest::Read => PollFlags::IN,
        Interest::ReadWrite => PollFlags::IN | PollFlags::OUT,
    };
    let mut fds = [
        PollFd::new(&line, flags),
        PollFd::new(&bell.fd, PollFlags::IN),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    if fds[1].revents().contains(PollFlags::IN) {
        bell.silence();
    }
    Ok(())
}

/// Moves the calling thread into a new, empty network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: the call is unsafe because of `UnshareFlags::FILES`, which is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// The calling thread's identifier, under which the kernel shows its namespaces.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}
