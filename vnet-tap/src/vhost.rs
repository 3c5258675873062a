//! A guest's virtio-net device as a line: its frames are in its memory, which the emulator shares over a
//! vhost-user socket, and neither side makes a system call for each of them.
//!
//! ```text
//!   emulator ── requests ──► control (a thread) ──► rings ◄── pump, and who sends to the guest
//!   guest    ── kicks ─────► epoll ──► pump              ──► calls ──► guest
//! ```
//!
//! The requests are in `control`, a ring and the frames in it in `ring`. Here both directions come
//! together. Offered are checksums and the segmentation of TCP both ways, buffers that are merged, and up
//! to [`PAIRS`] pairs of queues, all of which one thread serves.

mod control;
mod ring;
mod to_guest;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Buf;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use vnet::Offload;
use vnet::packet::Packet;

use crate::buffers::Buffers;
use crate::flow::flow;
use crate::line::{Agreed, Frame, HEADER_LEN, Halves, Inward};
use crate::sys::Bell;
use ring::{Ring, Taken};
use to_guest::ToGuest;

/// Pairs of queues that a guest may use.
const PAIRS: usize = 8;
/// Buffers that are given back before the guest is told. It may be waiting for them.
const TOLD_AFTER: u32 = 16;
/// How long after nothing was there it is looked once more. A guest that does not keep the order of what it writes and
/// then reads does not kick for what it made available while it was being asked to, and misses that it was not called;
/// by then, it can be seen. What was observed: a guest of QEMU 7.2 without KVM and with one processor went silent with
/// buffers in its rings, and goes on since they are looked at again. That its writes and reads changed places is a guess.
const SECOND_LOOK: Duration = Duration::from_millis(1);
/// Events taken from the kernel at once: there may be more, and they come with the next look.
const EVENTS: usize = 2 * PAIRS + 1;

/// Features of virtio-net and its rings, by the number of their bit (virtio 1.2, sections 5.1.3 and 6).
mod feature {
    pub(super) const CSUM: u64 = 1 << 0;
    pub(super) const GUEST_CSUM: u64 = 1 << 1;
    pub(super) const GUEST_TSO4: u64 = 1 << 7;
    pub(super) const GUEST_TSO6: u64 = 1 << 8;
    pub(super) const GUEST_ECN: u64 = 1 << 9;
    pub(super) const HOST_TSO4: u64 = 1 << 11;
    pub(super) const HOST_TSO6: u64 = 1 << 12;
    pub(super) const HOST_ECN: u64 = 1 << 13;
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    pub(super) const STATUS: u64 = 1 << 16;
    pub(super) const CTRL_VQ: u64 = 1 << 17;
    pub(super) const CTRL_RX: u64 = 1 << 18;
    pub(super) const MQ: u64 = 1 << 22;
    pub(super) const INDIRECT_DESC: u64 = 1 << 28;
    pub(super) const EVENT_IDX: u64 = 1 << 29;
    /// Not the guest's: that the emulator may ask which features its protocol has.
    pub(super) const PROTOCOL: u64 = 1 << 30;
    pub(super) const VERSION_1: u64 = 1 << 32;
    pub(super) const HOST_USO: u64 = 1 << 56;

    /// What is offered. The emulator serves the control queue itself.
    pub(super) const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | HOST_USO
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | CTRL_RX
        | MQ
        | INDIRECT_DESC
        | EVENT_IDX
        | PROTOCOL
        | VERSION_1;
}

/// What may be left undone in frames for a guest that has agreed to these features.
fn offload(features: u64) -> Offload {
    let segments = feature::GUEST_TSO4 | feature::GUEST_TSO6 | feature::GUEST_ECN;
    if features & feature::GUEST_CSUM == 0 {
        Offload::None
    } else if features & segments != segments {
        Offload::Checksum
    } else {
        Offload::Full
    }
}

/// The device, as the pump, those who send to the guest and the emulator's requests share it.
struct Device {
    /// Two to a pair: what the guest receives, and what it sends.
    rings: Vec<Mutex<Ring>>,
    /// What the guest has agreed to.
    features: AtomicU64,
    /// Of kicks, and of the end.
    events: OwnedFd,
    /// Something was carried since it was looked for more in vain, twice.
    is_fresh: AtomicBool,
    /// Set, and rung, when the emulator's requests have ended.
    has_ended: AtomicBool,
    end: Mutex<Option<io::Error>>,
    bell: Bell,
}

impl Device {
    fn new() -> io::Result<Device> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = Bell::new()?;
        let whatever = epoll::EventData::new_u64(0);
        // Each ring of it counts once, without being heard.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&events, &bell, whatever, flags)?;
        let rings: Result<_, _> = (0..2 * PAIRS)
            .map(|_| Ring::new().map(Mutex::new))
            .collect();
        Ok(Device {
            rings: rings?,
            features: AtomicU64::new(0),
            events,
            is_fresh: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            end: Mutex::new(None),
            bell,
        })
    }

    /// The ring with this number, if there is one.
    fn ring(&self, number: usize) -> Option<&Mutex<Ring>> {
        self.rings.get(number)
    }

    /// Those in which the guest receives.
    fn received_by_guest(&self) -> impl Iterator<Item = &Mutex<Ring>> {
        self.rings.iter().step_by(2)
    }

    /// Those in which it sends.
    fn sent_by_guest(&self) -> impl Iterator<Item = &Mutex<Ring>> {
        self.rings.iter().skip(1).step_by(2)
    }

    /// Nothing more is asked. The first reason counts.
    fn end(&self, why: io::Error) {
        if !self.has_ended.load(Ordering::SeqCst) {
            *self.end.lock() = Some(why);
            self.has_ended.store(true, Ordering::SeqCst);
            self.bell.ring();
        }
    }

    /// The pair for a frame to the guest: one flow stays in one.
    fn pair_for(&self, packet: &Packet) -> Option<usize> {
        if self.features.load(Ordering::Relaxed) & feature::MQ == 0 {
            return Some(0);
        }
        let running = || {
            let rings = self.received_by_guest().enumerate();
            let running = rings.filter(|(_, ring)| ring.lock().is_running());
            running.map(|(pair, _)| pair)
        };
        let several = running().count();
        match several {
            0 | 1 => running().next(),
            several => running().nth(flow(packet) as usize % several),
        }
    }
}

/// Makes a line of a connection to an emulator, which is answered from when the pump's side begins.
pub(crate) fn line(socket: OwnedFd) -> io::Result<Halves> {
    let socket = UnixStream::from(socket);
    // Half a request holds up nobody but its own thread, which the socket's end ends.
    socket.set_nonblocking(false)?;
    let device = Arc::new(Device::new()?);
    let incoming = FromGuest {
        device: Arc::clone(&device),
        buffers: Buffers::new(),
        turn: 0,
        given_back: 0,
        was_idle: true,
        socket,
        thread: None,
    };
    let outgoing = ToGuest::new(device);
    Ok((Box::new(incoming), Box::new(outgoing)))
}

struct FromGuest {
    device: Arc<Device>,
    buffers: Buffers,
    /// The pair whose turn it is.
    turn: usize,
    /// Buffers given back since the guest was told.
    given_back: u32,
    /// Nothing was there at the last look: whoever has something since then kicks.
    was_idle: bool,
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Drop for FromGuest {
    fn drop(&mut self) {
        // The emulator may have been first.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed, and has ended the device.
            let _ = thread.join();
        }
    }
}

impl FromGuest {
    /// Takes note of kicks. What comes after this makes the descriptor ready again.
    fn hear(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let at_once = Timespec::default();
        epoll::wait(
            &self.device.events,
            spare_capacity(&mut events),
            Some(&at_once),
        )?;
        if self.device.has_ended.load(Ordering::SeqCst) {
            let why = self.device.end.lock().take();
            return Err(why.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Tells the guest what it has got back.
    fn tell(&mut self) -> io::Result<()> {
        self.given_back = 0;
        self.device
            .sent_by_guest()
            .try_for_each(|ring| ring.lock().tell())
    }

    /// The next frame of the ring whose turn it is, or of another one.
    fn take(&mut self) -> io::Result<Option<Frame>> {
        for turn in (0..PAIRS).map(|n| (self.turn + n) % PAIRS) {
            let Some(ring) = self.device.ring(2 * turn + 1) else {
                continue;
            };
            let mut ring = ring.lock();
            let header_len = ring.header_len();
            let mut taken = Taken::Nothing;
            let bytes = self.buffers.read(|buf| {
                taken = ring.take(buf)?;
                Ok(taken == Taken::Frame)
            })?;
            drop(ring);
            // No port takes a frame of no bytes: it is refused, and counted.
            let mut frame = Frame {
                header: None,
                bytes: bytes::Bytes::new(),
            };
            match (taken, bytes) {
                (Taken::Nothing, _) => continue,
                (Taken::Frame, Some(mut bytes)) => {
                    let mut header = [0; HEADER_LEN];
                    bytes.copy_to_slice(&mut header[..header_len]);
                    frame.header = Some(header);
                    frame.bytes = bytes;
                }
                _ => {}
            }
            self.turn = (turn + 1) % PAIRS;
            return Ok(Some(frame));
        }
        Ok(None)
    }
}

impl Inward for FromGuest {
    fn begin(&mut self, agreed: Agreed) -> io::Result<()> {
        let (socket, device) = (self.socket.try_clone()?, Arc::clone(&self.device));
        let thread = Builder::new().name("vnet-vhost".into());
        self.thread = Some(thread.spawn(move || control::answer(socket, &device, agreed))?);
        Ok(())
    }

    /// Frames that cost no system call are many.
    fn needs_a_thread(&self) -> bool {
        true
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.device.events.as_fd()
    }

    fn look_again(&self) -> Option<Duration> {
        let is_fresh = self.device.is_fresh.load(Ordering::Relaxed);
        is_fresh.then_some(SECOND_LOOK)
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let was_idle = self.was_idle;
        // A guest that always has more does not outlive its emulator.
        if was_idle || self.device.has_ended.load(Ordering::Relaxed) {
            self.was_idle = false;
            self.hear()?;
        }
        let mut was_promised = false;
        loop {
            if let Some(frame) = self.take()? {
                self.device.is_fresh.store(true, Ordering::Relaxed);
                self.given_back += 1;
                if self.given_back >= TOLD_AFTER {
                    self.tell()?;
                }
                return Ok(Some(frame));
            }
            self.tell()?;
            let mut has_more = false;
            for ring in self.device.sent_by_guest() {
                has_more |= ring.lock().listen()?;
            }
            if !has_more {
                if was_idle && self.device.is_fresh.swap(false, Ordering::Relaxed) {
                    let mut rings = self.device.rings.iter();
                    rings.try_for_each(|ring| ring.lock().tell_again())?;
                }
                self.was_idle = true;
                return Ok(None);
            }
            if std::mem::replace(&mut was_promised, true) {
                return Err(ring::wrong(ring::UNREADABLE));
            }
        }
    }
}

#[cfg(test)]
mod tests;
