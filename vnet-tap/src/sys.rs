//! Requests to the kernel about interfaces, waiting and network namespaces: what needs `unsafe` for them, and what
//! goes with it.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl};
use rustix::thread::UnshareFlags;
use tun_tap::Iface;

/// Makes a device, or opens one that is there.
pub(crate) const TUNSETIFF: Opcode = libc::TUNSETIFF as Opcode;
/// Which device a descriptor is of.
pub(crate) const TUNGETIFF: Opcode = libc::TUNGETIFF as Opcode;
pub(crate) const SIOCGIFFLAGS: Opcode = libc::SIOCGIFFLAGS as Opcode;
pub(crate) const SIOCSIFFLAGS: Opcode = libc::SIOCSIFFLAGS as Opcode;
pub(crate) const SIOCSIFMTU: Opcode = libc::SIOCSIFMTU as Opcode;
pub(crate) const SIOCSIFHWADDR: Opcode = libc::SIOCSIFHWADDR as Opcode;
pub(crate) const SIOCGIFHWADDR: Opcode = libc::SIOCGIFHWADDR as Opcode;
pub(crate) const SIOCGIFMTU: Opcode = libc::SIOCGIFMTU as Opcode;
/// Adds an interface to a bridge (`linux/sockios.h`).
pub(crate) const SIOCBRADDIF: Opcode = 0x89a2;
/// Removes an interface from a bridge.
pub(crate) const SIOCBRDELIF: Opcode = 0x89a3;

/// The requests that read and write a `struct ifreq`.
const OF_INTERFACES: [Opcode; 10] = [
    TUNSETIFF,
    TUNGETIFF,
    SIOCGIFFLAGS,
    SIOCSIFFLAGS,
    SIOCSIFMTU,
    SIOCSIFHWADDR,
    SIOCGIFHWADDR,
    SIOCGIFMTU,
    SIOCBRADDIF,
    SIOCBRDELIF,
];

pub(crate) const TUNSETOFFLOAD: Opcode = libc::TUNSETOFFLOAD as Opcode;
pub(crate) const TUNSETPERSIST: Opcode = libc::TUNSETPERSIST as Opcode;
pub(crate) const TUNSETOWNER: Opcode = libc::TUNSETOWNER as Opcode;

/// The requests whose argument is a number.
const OF_NUMBERS: [Opcode; 3] = [TUNSETOFFLOAD, TUNSETPERSIST, TUNSETOWNER];

pub(crate) const TUNSETVNETHDRSZ: Opcode = libc::TUNSETVNETHDRSZ as Opcode;
pub(crate) const TUNSETVNETLE: Opcode = libc::TUNSETVNETLE as Opcode;

/// The requests that read an `int`.
const OF_INTEGERS: [Opcode; 2] = [TUNSETVNETHDRSZ, TUNSETVNETLE];

/// `struct ifreq` of `linux/if.h`: a name, and what is asked or said of it.
#[repr(C)]
pub(crate) struct InterfaceRequest {
    name: [u8; 16],
    value: [u8; 24],
}

impl InterfaceRequest {
    /// A request about `name`, of which the kernel takes 15 bytes.
    pub(crate) fn about(name: &str) -> InterfaceRequest {
        let mut request = InterfaceRequest {
            name: [0; 16],
            value: [0; 24],
        };
        for (byte, char) in request.name[..15].iter_mut().zip(name.bytes()) {
            *byte = char;
        }
        request
    }

    /// With this value, in the byte order of this machine.
    pub(crate) fn with(mut self, value: &[u8]) -> InterfaceRequest {
        self.value[..value.len()].copy_from_slice(value);
        self
    }

    pub(crate) fn name(&self) -> String {
        let name = self.name.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// The kind of link and the address there, where the request is about these.
    pub(crate) fn address(&self) -> (u16, [u8; 6]) {
        let [
            a,
            b,
            mac @ ..,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = self.value;
        (u16::from_ne_bytes([a, b]), mac)
    }

    /// The number, where the request is about one.
    pub(crate) fn number(&self) -> i32 {
        let [a, b, c, d, ..] = self.value;
        i32::from_ne_bytes([a, b, c, d])
    }

    /// The flags, where the request is about these.
    pub(crate) fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }
}

/// `struct ethtool_value` of `linux/ethtool.h`: what is asked, and a number.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    value: u32,
}

/// `struct ifreq` that points to one.
#[repr(C)]
struct EthtoolRequest<'a> {
    name: [u8; 16],
    about: &'a mut EthtoolValue,
    rest: [u64; 2],
}

/// `ETHTOOL_GFLAGS`: what an interface does by itself.
const FLAGS_OF: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`: VLAN tags are taken off what comes in.
const TAKES_TAGS_OFF: u32 = 1 << 8;
/// Sets these flags, and whether checksums are filled in by the interface and not before it (`linux/ethtool.h`).
pub(crate) const ETHTOOL_SFLAGS: u32 = 0x26;
pub(crate) const ETHTOOL_STXCSUM: u32 = 0x17;

/// Asks an interface about something that has a number for an answer, or sets it.
pub(crate) fn ethtool(
    fd: impl AsFd,
    name: &str,
    command: u32,
    value: u32,
) -> rustix::io::Result<u32> {
    const SIOCETHTOOL: Opcode = 0x8946;
    let mut about = EthtoolValue { command, value };
    let mut request = EthtoolRequest {
        name: InterfaceRequest::about(name).name,
        about: &mut about,
        rest: [0; 2],
    };
    // SAFETY: the request reads a `struct ifreq`, which this is as long as, or longer than, and reads and writes what that
    // points to: the callers' commands are those of a `struct ethtool_value`.
    unsafe { ioctl(fd, Updater::<SIOCETHTOOL, _>::new(&mut request)) }?;
    Ok(about.value)
}

/// Whether an interface takes VLAN tags off what comes in.
pub(crate) fn takes_tags_off(fd: impl AsFd, name: &str) -> rustix::io::Result<bool> {
    Ok(ethtool(fd, name, FLAGS_OF, 0)? & TAKES_TAGS_OFF != 0)
}

const fn is_among(request: Opcode, mut list: &[Opcode]) -> bool {
    while let [first, rest @ ..] = list {
        if *first == request {
            return true;
        }
        list = rest;
    }
    false
}

/// The descriptor of a device that `tun-tap` has made.
pub(crate) fn descriptor_of(iface: Iface) -> OwnedFd {
    // SAFETY: the descriptor is open, and nobody else has it any more.
    unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) }
}

/// Makes a request about an interface.
pub(crate) fn ask<const REQUEST: Opcode>(
    fd: impl AsFd,
    about: &mut InterfaceRequest,
) -> rustix::io::Result<()> {
    const { assert!(is_among(REQUEST, &OF_INTERFACES)) };
    // SAFETY: the request reads and writes a `struct ifreq`, which `InterfaceRequest` is as long as, or
    // longer than, and whose layout it has.
    unsafe { ioctl(fd, Updater::<REQUEST, _>::new(about)) }
}

/// Makes a request whose argument is a number.
pub(crate) fn set_number<const REQUEST: Opcode>(
    fd: impl AsFd,
    number: u32,
) -> rustix::io::Result<()> {
    const { assert!(is_among(REQUEST, &OF_NUMBERS)) };
    // SAFETY: the request takes its argument by value.
    unsafe { ioctl(fd, IntegerSetter::<REQUEST>::new_usize(number as usize)) }
}

/// Makes a request that reads an `int`.
pub(crate) fn set_integer<const REQUEST: Opcode>(
    fd: impl AsFd,
    value: c_int,
) -> rustix::io::Result<()> {
    const { assert!(is_among(REQUEST, &OF_INTEGERS)) };
    // SAFETY: the request reads an `int`.
    unsafe { ioctl(fd, Setter::<REQUEST, c_int>::new(value)) }
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

    /// Sleeps until it rings, for at most `timeout`, and hears what has been rung.
    pub(crate) fn wait(&self, timeout: Duration) {
        let timeout = Timespec::try_from(timeout).ok();
        // Whatever goes wrong, the caller looks again.
        let _ = poll(
            &mut [PollFd::new(&self.fd, PollFlags::IN)],
            timeout.as_ref(),
        );
        self.silence();
    }

    /// Hears what has been rung.
    pub(crate) fn silence(&self) {
        let mut count = [0; 8];
        // EAGAIN means that it was silent.
        let _ = rustix::io::read(&self.fd, &mut count[..]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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

/// Sleeps until the bell rings, the line is ready, or `timeout` has passed: then, or after a signal, it returns false. A
/// line that has failed is ready: reading it says why.
pub(crate) fn wait(
    line: BorrowedFd<'_>,
    bell: &Bell,
    interest: Interest,
    timeout: Option<Duration>,
) -> io::Result<bool> {
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
    let ready = match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => ready,
        Err(Errno::INTR) => 0,
        Err(e) => return Err(e.into()),
    };
    if fds[1].revents().contains(PollFlags::IN) {
        bell.silence();
    }
    Ok(ready > 0)
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
