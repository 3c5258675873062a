//! Every system call of this crate, and its only `unsafe`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use tun_tap::{Iface, Mode};
use vnet::packet::Packet;

/// The largest frame a TAP carries: Linux limits the device's IP MTU to 65521, and two VLAN tags
/// may be in the bytes.
pub(crate) const MAX_FRAME_LEN: usize = 65_535 + 8;

/// Slices handed to one `writev`; a packet in more pieces than this is copied into one.
const MAX_SLICES: usize = 16;

/// The process's end of a TAP, non-blocking.
pub(crate) struct Device {
    iface: Iface,
}

/// What became of a frame written to the device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The host has taken it.
    Yes,
    /// The device's queue is full: try again when it is writable.
    Later,
    /// The host refused this frame; it may accept the next.
    Refused,
}

impl Device {
    /// Makes the TAP `name` in the calling thread's network namespace.
    pub(crate) fn create(name: &str) -> io::Result<Device> {
        let iface = Iface::without_packet_info(name, Mode::Tap)?;
        let device = Device { iface };
        rustix::io::ioctl_fionbio(device.as_fd(), true)?;
        Ok(device)
    }

    /// The name the kernel gave it.
    pub(crate) fn name(&self) -> &str {
        self.iface.name()
    }

    /// The next frame from the host; `None` when there is none.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match rustix::io::read(self.as_fd(), &mut *buf) {
                Ok(n) => return Ok(Some(n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Hands the host a frame, from where its pieces are.
    pub(crate) fn write(&self, packet: &Packet) -> io::Result<Written> {
        let slices = packet.slices();
        let copy;
        let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
        let used = if slices.len() < MAX_SLICES {
            pieces[0] = IoSlice::new(packet.head());
            for (piece, slice) in pieces[1..].iter_mut().zip(slices) {
                *piece = IoSlice::new(slice);
            }
            slices.len() + 1
        } else {
            copy = packet.to_vec();
            pieces[0] = IoSlice::new(&copy);
            1
        };
        loop {
            return match rustix::io::writev(self.as_fd(), &pieces[..used]) {
                Ok(_) => Ok(Written::Yes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Written::Later),
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

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `iface` owns the descriptor and is borrowed for as long as the result.
        unsafe { BorrowedFd::borrow_raw(self.iface.as_raw_fd()) }
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

/// Sleeps until the bell rings, the device is ready, or `timeout` has passed.
pub(crate) fn wait(
    device: &Device,
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
        PollFd::new(device, flags),
        PollFd::new(&bell.fd, PollFlags::IN),
    ];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let failed = fds[0]
        .revents()
        .intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    if fds[1].revents().contains(PollFlags::IN) {
        bell.silence();
    }
    if failed {
        // What the kernel reports once the device was deleted under us.
        return Err(Errno::BADFD.into());
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
