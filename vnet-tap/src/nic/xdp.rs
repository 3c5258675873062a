//! A card by AF_XDP: taking it, and its frames.
//!
//! Frames pass by the card's queues, each with a socket. The host does not see those that come in, and nothing is said
//! beside a frame: what its checksum leaves open, how it is to be cut and which VLAN tag was taken off it is not known. A
//! card that takes tags off is refused, because frames of a VLAN would look like those of none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::sockopt;
use vnet::packet::Packet;

use super::{About, LOOK, NicConfig, NicError, Taken, unbound};
use crate::device::is_complete;
use crate::failure::Failure;
use crate::line::{Frame, Halves, Inward, Outward, Written};
use crate::packet;
use crate::sys;
use crate::xsk::{self, Incoming, Mode, Outgoing, Program, Sent, Socket, Step, Told};

/// In which order ways to run the program are tried.
pub(super) const MODES: [Mode; 2] = [Mode::Native, Mode::Generic];
/// After how long frames are tried again for which there was no room: polling says nothing of the card's own queue.
const RETRY: Duration = Duration::from_micros(100);

/// What belongs to all queues of a card.
struct Hold {
    /// The card has it run for as long as this is there,
    _program: Program,
    /// and receives what is for others.
    _everything: OwnedFd,
}

/// Takes a card, with the first of these modes that it has.
pub(super) fn open(config: &NicConfig, modes: &[Mode]) -> Result<Taken, NicError> {
    let name = &config.host_name;
    let control = unbound().map_err(|errno| NicError::of(name, errno))?;
    let about = About::of(&control, name)?;
    let wanted = config.queues.get();
    fits(name, &control, about, wanted)?;
    packet::receive_everything(&control, about.index).map_err(|errno| NicError::of(name, errno))?;
    let (program, mode) = Program::attach(about.index, wanted.into(), modes).map_err(missing)?;
    tracing::debug!(host = name, ?mode, "AF_XDP");
    let hold = Arc::new(Hold {
        _program: program,
        _everything: control,
    });
    let mut queues = Vec::with_capacity(wanted.into());
    for queue in 0..wanted.into() {
        let ip_mtu = usize::from(about.ip_mtu);
        let (socket, incoming, outgoing) =
            Socket::open(about.index, queue, mode, ip_mtu).map_err(missing)?;
        hold._program.steer(queue, &socket).map_err(missing)?;
        queues.push(halves(&hold, socket, incoming, outgoing));
    }
    Ok(Taken {
        queues,
        about,
        is_by_xdp: true,
    })
}

/// Whether frames of a card would pass as they are.
fn fits(name: &str, control: &OwnedFd, about: About, wanted: u16) -> Result<(), NicError> {
    let lacks = |missing: String| {
        Err(NicError::Xdp {
            missing,
            error: io::ErrorKind::InvalidInput.into(),
        })
    };
    let longest = xsk::longest_ip_mtu();
    if usize::from(about.ip_mtu) > longest {
        return lacks(format!(
            "its MTU is {}, and frames of at most {longest} have room (ip link set {name} mtu {longest})",
            about.ip_mtu
        ));
    }
    // What is not asked about has no such thing.
    if sys::takes_tags_off(control, name).unwrap_or(false) {
        return lacks(format!(
            "it takes VLAN tags off its frames (ethtool -K {name} rxvlan off)"
        ));
    }
    let queues = xsk::queues_of(about.index);
    if u32::from(wanted) != queues {
        return lacks(format!(
            "it has {queues} queues, and all of them have to be taken: queues = {queues}, or change it (ethtool -L {name} combined {wanted})"
        ));
    }
    Ok(())
}

/// What an error of the kernel's says is missing.
fn missing(Failure { step, error }: Failure<Step>) -> NicError {
    let errno = Errno::from_io_error(&error);
    let is = |errnos: &[Errno]| errno.is_some_and(|errno| errnos.contains(&errno));
    let missing = match step {
        Step::Socket if is(&[Errno::AFNOSUPPORT]) => "the kernel lacks it (CONFIG_XDP_SOCKETS)",
        Step::Socket if is(&[Errno::PERM, Errno::ACCESS]) => return NicError::NotPermitted(error),
        Step::Memory if is(&[Errno::NOBUFS, Errno::NOMEM, Errno::PERM]) => {
            "the process may not lock as much memory: raise the limit (ulimit -l), or give it CAP_IPC_LOCK"
        }
        Step::Program | Step::Attach if is(&[Errno::PERM, Errno::ACCESS]) => {
            "CAP_BPF and CAP_NET_ADMIN are missing to give it a program: run as root, or give them to the program \
             (setcap cap_net_raw,cap_net_admin,cap_bpf+ep)"
        }
        Step::Program if is(&[Errno::NOSYS]) => "the kernel lacks programs (CONFIG_BPF_SYSCALL)",
        Step::Attach if is(&[Errno::BUSY, Errno::EXIST]) => {
            "it has an XDP program of somebody else's"
        }
        Step::Bind if is(&[Errno::BUSY]) => "somebody else has one of its queues",
        Step::Socket => "no socket could be created",
        Step::Memory => "no memory could be shared",
        Step::Program => "the program could not be loaded",
        Step::Attach => "the interface does not take the program",
        Step::Bind => "a queue of it could not be taken",
    };
    NicError::Xdp {
        missing: missing.to_owned(),
        error,
    }
}

/// Both directions of a queue.
fn halves(hold: &Arc<Hold>, socket: Socket, incoming: Incoming, outgoing: Outgoing) -> Halves {
    let socket = Arc::new(socket);
    let inward = FromQueue {
        _hold: Arc::clone(hold),
        socket: Arc::clone(&socket),
        incoming,
        frames: VecDeque::new(),
        dropped: 0,
        may_have_dropped: false,
    };
    let outward = ToQueue {
        _hold: Arc::clone(hold),
        socket,
        outgoing,
        is_down: false,
    };
    (Box::new(inward), Box::new(outward))
}

struct FromQueue {
    _hold: Arc<Hold>,
    socket: Arc<Socket>,
    incoming: Incoming,
    /// Those that have been taken from the ring.
    frames: VecDeque<Bytes>,
    /// As many as the kernel said, when it was last asked, that there was no room for.
    dropped: u64,
    /// Frames have come since.
    may_have_dropped: bool,
}

impl Inward for FromQueue {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        if self.frames.is_empty() {
            self.socket.receive(&mut self.incoming, &mut self.frames);
        }
        if let Some(bytes) = self.frames.pop_front() {
            return Ok(Some(Frame {
                header: None,
                bytes,
            }));
        }
        // It is said once, of a card that is gone.
        sockopt::socket_error(self.socket.fd())??;
        self.may_have_dropped = true;
        Ok(None)
    }

    /// Polling does not say when a card is deleted.
    fn look_again(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn take_lost(&mut self) -> u64 {
        if !std::mem::take(&mut self.may_have_dropped) {
            return 0;
        }
        let dropped = self.socket.dropped().unwrap_or(self.dropped);
        let before = std::mem::replace(&mut self.dropped, dropped);
        dropped.saturating_sub(before)
    }

    fn take_last_lost(&mut self) -> u64 {
        self.may_have_dropped = true;
        // What has been taken from the ring, and by nobody else, is not carried either.
        self.take_lost() + self.frames.len() as u64
    }
}

struct ToQueue {
    _hold: Arc<Hold>,
    socket: Arc<Socket>,
    outgoing: Outgoing,
    is_down: bool,
}

impl ToQueue {
    fn tell(&mut self) -> io::Result<bool> {
        let told = self.socket.tell(&mut self.outgoing)?;
        self.is_down = told == Told::Down;
        Ok(told != Told::Later)
    }
}

impl Outward for ToQueue {
    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let header = packet.virtio_header();
        if !header.is_some_and(|header| is_complete(&header)) {
            return Ok(Written::Refused);
        }
        let mut has_told = false;
        loop {
            return Ok(match self.socket.send(&mut self.outgoing, &packet) {
                Sent::Yes => Written::Yes,
                Sent::TooLong => Written::Refused,
                // Those that wait may have waited for this.
                Sent::Later if !has_told => {
                    has_told = true;
                    self.tell()?;
                    continue;
                }
                Sent::Later if self.is_down => Written::Refused,
                Sent::Later => Written::Later(packet),
            });
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(RETRY)
    }

    fn flush(&mut self) -> io::Result<bool> {
        self.tell()
    }

    fn unsent(&self) -> u64 {
        self.outgoing.untold()
    }
}

#[cfg(test)]
mod tests;
