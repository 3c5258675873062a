//! AF_XDP: frames in memory that a queue of a card and this process have together, by the crate `xdp`, and the program
//! that has a card put its frames there. What needs `unsafe` for them, and what goes with it.
//!
//! No crate loads such a program without bringing a compiler's output along: it is six instructions, and three calls of
//! bpf(2). It is attached by a link, which is gone with its last descriptor, however the process ends.

use std::collections::VecDeque;
use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::SendFlags;
use vnet::packet::Packet;
use xdp::nic::NicIndex;
use xdp::slab::{Slab, StackSlab};
use xdp::socket::{BindFlags, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{CompletionRing, FillRing, RingConfigBuilder, RxRing, TxRing, Umem};

use crate::sys::Bell;

/// Frames that may wait to be read, and to be sent, in memory that they have in common.
const TO_READ: u32 = 2048;
const TO_SEND: u32 = 1024;
/// Frames taken from the ring at a time.
const BATCH: usize = 64;
/// Bytes of each piece of that memory that are the kernel's.
const KERNELS: usize = xdp::libc::xdp::XDP_PACKET_HEADROOM as usize;
/// Bytes of frames of Ethernet with two tags, without what they carry.
const AROUND: usize = 14 + 8;
/// A queue that was let go may be in use a little longer, and is tried again so often, after so long.
const TRIES: u32 = 100;
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// How often the kernel is told at a time that there is something to send: it sends a part of it for each.
const KICKS: u32 = TO_SEND / 16;
/// How often a card that has a program is tried again, in the hope that the program goes.
const HOPES: u32 = 30;

/// How a card runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In its driver; without copying frames, if the driver can.
    Native,
    /// After the driver, which every card allows. Frames are copied.
    Generic,
}

impl Mode {
    /// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE` of `linux/if_link.h`.
    fn flags(self) -> u32 {
        match self {
            Mode::Native => 1 << 2,
            Mode::Generic => 1 << 1,
        }
    }
}

type Failure = crate::failure::Failure<Step>;

/// The steps on the way to a card's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Creating a socket.
    Socket,
    /// Giving it memory.
    Memory,
    /// Loading the program.
    Program,
    /// Having the card run it.
    Attach,
    /// Binding the socket to a queue of the card.
    Bind,
}

impl Step {
    fn failed(self, error: impl Into<io::Error>) -> Failure {
        Failure::of(self, error)
    }

    fn of(self, error: xdp::error::SocketError) -> Failure {
        use xdp::error::SocketError::*;
        match error {
            SocketCreation(error) | Bind(error) => self.failed(error),
            SetSockOpt { inner, .. } | GetSockOpt { inner, .. } | RingMap { inner, .. } => {
                self.failed(inner)
            }
        }
    }
}

/// The longest MTU whose frames have room.
pub(crate) fn longest_ip_mtu() -> usize {
    4096 - KERNELS - AROUND
}

/// How many queues a card gets frames by.
pub(crate) fn queues_of(index: u32) -> u32 {
    let counts = NicIndex::new(index).queue_counts();
    // A driver that does not say has one.
    counts.map_or(1, |counts| counts.rx_count()).max(1)
}

/// A program that a card runs: each queue's frames go to the socket that is in its place, if there is one, and to the host
/// otherwise.
pub(crate) struct Program {
    sockets: OwnedFd,
    /// Without it, the card does not run it any more.
    _link: OwnedFd,
}

impl Program {
    /// Has a card run it, in the first of these ways that it has.
    pub(crate) fn attach(
        index: u32,
        queues: u32,
        modes: &[Mode],
    ) -> Result<(Program, Mode), Failure> {
        let sockets = new_map(queues).map_err(|errno| Step::Program.failed(errno))?;
        let program = load(&sockets).map_err(|errno| Step::Program.failed(errno))?;
        let mut refused = Errno::OPNOTSUPP;
        for mode in modes {
            match link_soon(&program, index, mode.flags()) {
                Ok(link) => {
                    let program = Program {
                        sockets,
                        _link: link,
                    };
                    return Ok((program, *mode));
                }
                Err(errno) => refused = errno,
            }
        }
        Err(Step::Attach.failed(refused))
    }

    /// Gives a queue's frames to a socket.
    pub(crate) fn steer(&self, queue: u32, socket: &Socket) -> Result<(), Failure> {
        let put = put(&self.sockets, queue, socket.fd().as_raw_fd());
        put.map_err(|errno| Step::Bind.failed(errno))
    }
}

/// Attaches a program, as soon as the last one is gone: a process that was just started by one that had a card has a copy
/// of what held its program, until it executes its own. Where somebody else's stays, this takes a third of a second.
fn link_soon(program: &OwnedFd, index: u32, flags: u32) -> Result<OwnedFd, Errno> {
    let is_taken = |errno: &Errno| matches!(*errno, Errno::BUSY | Errno::EXIST);
    soon(HOPES, is_taken, || link(program, index, flags))
}

/// Does what fails while something is held by somebody who is about to let it go, at most so many times more.
fn soon<T, E>(
    most: u32,
    is_held: impl Fn(&E) -> bool,
    mut act: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..most {
        match act() {
            Err(error) if is_held(&error) => {}
            done => return done,
        }
        // Without descriptors for a bell, it is tried again at once.
        if let Ok(bell) = Bell::new() {
            bell.wait(TRY_AGAIN);
        }
    }
    act()
}

/// `bpf(2)`, and of its attributes what is used here (`linux/bpf.h`). What is behind it is zero for the kernel.
trait Attributes {
    const COMMAND: c_int;
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl Attributes for MapCreate {
    const COMMAND: c_int = 0;
}

#[repr(C, align(8))]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Attributes for MapUpdate {
    const COMMAND: c_int = 2;
}

#[repr(C, align(8))]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    versions: [u32; 2],
}

impl Attributes for ProgramLoad {
    const COMMAND: c_int = 5;
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

impl Attributes for LinkCreate {
    const COMMAND: c_int = 28;
}

fn bpf<A: Attributes>(attributes: &A) -> rustix::io::Result<c_int> {
    // SAFETY: the kernel reads as many bytes as there are, and, of a map's update and a program, what is at the addresses
    // there: what `put` and `load` have until this returns, as long as the map and the attributes say.
    let said: c_long = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            A::COMMAND,
            std::ptr::from_ref(attributes),
            size_of::<A>(),
        )
    };
    let descriptor = c_int::try_from(said).ok();
    descriptor.filter(|said| *said >= 0).ok_or_else(|| {
        let errno = io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))
    })
}

fn address_of<T>(value: *const T) -> u64 {
    value.expose_provenance() as u64
}

/// A descriptor that the kernel has just made.
fn new_descriptor<A: Attributes>(attributes: &A) -> rustix::io::Result<OwnedFd> {
    let fd = bpf(attributes)?;
    // SAFETY: it is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A map of sockets by the numbers of queues.
fn new_map(queues: u32) -> rustix::io::Result<OwnedFd> {
    const XSKMAP: u32 = 17;
    new_descriptor(&MapCreate {
        map_type: XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        flags: 0,
    })
}

/// Puts a socket into the map.
fn put(map: &OwnedFd, queue: u32, socket: c_int) -> rustix::io::Result<()> {
    bpf(&MapUpdate {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: address_of(&queue),
        value: address_of(&socket),
        flags: 0,
    })
    .map(drop)
}

/// An instruction: what it does, the registers that it writes and reads, an offset and a number (RFC 9669, section 3).
const fn instruction(opcode: u8, (to, from): (u8, u8), offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = number.to_ne_bytes();
    let registers = match cfg!(target_endian = "little") {
        true => from << 4 | to,
        false => to << 4 | from,
    };
    u64::from_ne_bytes([opcode, registers, low, high, a, b, c, d])
}

/// Loads the program.
fn load(map: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    const XDP: u32 = 6;
    /// The place of `rx_queue_index` in `struct xdp_md`.
    const QUEUE: i16 = 16;
    /// That a number is the descriptor of a map.
    const MAP: u8 = 1;
    /// `bpf_redirect_map`.
    const REDIRECT: i32 = 51;
    /// `XDP_PASS`: what becomes of frames for which there is no socket.
    const PASS: i32 = 2;
    let instructions = [
        instruction(0x61, (2, 1), QUEUE, 0),
        instruction(0x18, (1, MAP), 0, map.as_raw_fd()),
        0,
        instruction(0xb7, (3, 0), 0, PASS),
        instruction(0x85, (0, 0), 0, REDIRECT),
        instruction(0x95, (0, 0), 0, 0),
    ];
    new_descriptor(&ProgramLoad {
        program_type: XDP,
        instruction_count: instructions.len() as u32,
        instructions: address_of(instructions.as_ptr()),
        license: address_of(c"Dual MIT/GPL".as_ptr()),
        log: [0; 2],
        versions: [0; 2],
    })
}

/// Has an interface run a program for as long as the link is there.
fn link(program: &OwnedFd, index: u32, flags: u32) -> rustix::io::Result<OwnedFd> {
    const XDP: u32 = 37;
    new_descriptor(&LinkCreate {
        program: program.as_raw_fd() as u32,
        interface: index,
        attach_type: XDP,
        flags,
    })
}

/// A socket of a queue, and the memory that frames are in.
pub(crate) struct Socket {
    socket: XdpSocket,
    memory: Mutex<Memory>,
}

struct Memory {
    umem: Umem,
    sent: CompletionRing,
}

/// The way in of a queue.
pub(crate) struct Incoming {
    rx: RxRing,
    fill: FillRing,
}

/// The way out of a queue.
pub(crate) struct Outgoing {
    tx: TxRing,
    /// Frames that the kernel has not been told of, or not all of them.
    untold: u64,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// There is no room for it now.
    Later,
    /// There is never room for it.
    TooLong,
}

/// What came of telling the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has sent everything, or will.
    Yes,
    /// It has no room now.
    Later,
    /// The card is down: it sends when it is up again.
    Down,
}

impl Socket {
    /// The socket of a queue, and its ways in and out. A queue that is in use is waited for, for a second.
    pub(crate) fn open(
        index: u32,
        queue: u32,
        mode: Mode,
        ip_mtu: usize,
    ) -> Result<(Socket, Incoming, Outgoing), Failure> {
        let is_held = |failure: &Failure| {
            failure.step == Step::Bind && failure.error.kind() == io::ErrorKind::ResourceBusy
        };
        soon(TRIES, is_held, || {
            Socket::try_open(index, queue, mode, ip_mtu)
        })
    }

    fn try_open(
        index: u32,
        queue: u32,
        mode: Mode,
        ip_mtu: usize,
    ) -> Result<(Socket, Incoming, Outgoing), Failure> {
        let mut builder = XdpSocketBuilder::new().map_err(|error| Step::Socket.of(error))?;
        let invalid = |_| Step::Memory.failed(Errno::INVAL);
        let config = UmemCfgBuilder {
            frame_size: match ip_mtu + AROUND + KERNELS <= 2048 {
                true => FrameSize::TwoK,
                false => FrameSize::FourK,
            },
            frame_count: TO_READ + TO_SEND,
            ..UmemCfgBuilder::default()
        };
        let config = config.build().map_err(invalid)?;
        let mut umem = Umem::map(config).map_err(|error| Step::Memory.failed(error))?;
        let config = RingConfigBuilder {
            rx_count: TO_READ,
            fill_count: TO_READ,
            tx_count: TO_SEND,
            completion_count: TO_SEND,
        };
        let config = config.build().map_err(invalid)?;
        let (rings, mut flags): (_, BindFlags) = builder
            .build_rings(&umem, config)
            .map_err(|error| Step::Memory.of(error))?;
        let mut fill = rings.fill_ring;
        let (Some(rx), Some(tx)) = (rings.rx_ring, rings.tx_ring) else {
            return Err(Step::Memory.failed(Errno::INVAL));
        };
        // SAFETY: the memory is there as long as the socket, with which it is dropped.
        unsafe { fill.enqueue(&mut umem, TO_READ as usize) };
        if mode == Mode::Generic {
            flags.force_copy();
        }
        let socket = builder
            .bind(NicIndex::new(index), queue, flags)
            .map_err(|error| Step::Bind.of(error))?;
        let memory = Memory {
            umem,
            sent: rings.completion_ring,
        };
        let socket = Socket {
            socket,
            memory: Mutex::new(memory),
        };
        Ok((socket, Incoming { rx, fill }, Outgoing { tx, untold: 0 }))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as the socket is there.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Frames for which there was no room: that were longer than a piece of memory, or for which none was free.
    pub(crate) fn dropped(&self) -> Option<u64> {
        let all = self.socket.statistics().ok()?;
        Some(all.rx_dropped + all.rx_ring_full)
    }

    /// Reads the next frames, if there are any. Their memory is the card's again.
    pub(crate) fn receive(&self, incoming: &mut Incoming, frames: &mut VecDeque<Bytes>) {
        let mut memory = self.memory.lock();
        let mut packets = StackSlab::<BATCH>::new();
        // SAFETY: the packets do not leave this function, in which the memory is locked.
        let received = unsafe { incoming.rx.recv(&memory.umem, &mut packets) };
        while let Some(packet) = packets.pop_back() {
            frames.push_back(Bytes::copy_from_slice(&packet));
            memory.umem.free_packet(packet);
        }
        // As many as have been taken from there: those to send are not touched.
        // SAFETY: the memory is there as long as the socket, with which it is dropped.
        unsafe { incoming.fill.enqueue(&mut memory.umem, received) };
    }

    /// Puts a frame where the kernel finds it once it is told.
    pub(crate) fn send(&self, outgoing: &mut Outgoing, frame: &Packet) -> Sent {
        let mut memory = self.memory.lock();
        let Memory { umem, sent } = &mut *memory;
        sent.dequeue(umem, BATCH);
        // SAFETY: the packet does not leave this function, but for the ring.
        let Some(mut packet) = (unsafe { umem.alloc() }) else {
            return Sent::Later;
        };
        let is_there = frame
            .io_slices()
            .try_for_each(|piece| packet.append(&piece));
        if is_there.is_err() {
            umem.free_packet(packet);
            return Sent::TooLong;
        }
        let mut packets = StackSlab::<1>::new();
        packets.push_front(packet);
        // SAFETY: the packet is of this memory, which is there as long as the socket.
        if unsafe { outgoing.tx.send(&mut packets) } == 0 {
            if let Some(packet) = packets.pop_back() {
                umem.free_packet(packet);
            }
            return Sent::Later;
        }
        outgoing.untold += 1;
        Sent::Yes
    }

    /// Tells the kernel that there is something to send.
    pub(crate) fn tell(&self, outgoing: &mut Outgoing) -> io::Result<Told> {
        if outgoing.untold == 0 {
            return Ok(Told::Yes);
        }
        for _ in 0..KICKS {
            match rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT) {
                Ok(_) => {
                    outgoing.untold = 0;
                    return Ok(Told::Yes);
                }
                // It has sent a part, and there may be more.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::BUSY | Errno::NOBUFS | Errno::NOMEM) => return Ok(Told::Later),
                Err(Errno::NETDOWN) => return Ok(Told::Down),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Told::Later)
    }
}

impl Outgoing {
    /// Frames that were taken, and of which the kernel does not know.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
    }
}
