//! A guest's virtio-net device as a line: its frames are in its memory, which the emulator shares over a
//! vhost-user socket, and neither side makes a system call for each of them.
//!
//! ```text
//!   emulator ── requests ──► control (a thread) ──► rings ◄── pump, and who sends to the guest
//!   guest    ── kicks ─────► epoll ──► pump              ──► calls ──► guest
//! ```
//!
//! The requests are in `control`, what all share in `device`, a ring and the frames in it in `ring`, the way to the
//! guest in `to_guest`. Here both directions come together. Offered are checksums and the segmentation of TCP both ways, buffers that are merged, and up
//! to [`PAIRS`] pairs of queues, all of which one thread serves.

mod control;
mod device;
mod ring;
mod to_guest;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Buf;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::buffers::Buffers;
use crate::line::{Agreed, Frame, HEADER_LEN, Halves, Inward};
use device::{Device, PAIRS, TOLD_AFTER};
use ring::Taken;
use to_guest::ToGuest;

/// How long after nothing was there it is looked once more. QEMU before 8.1 leaves out the memory barriers of a guest that
/// it emulates with one processor (its commit c914d46d0a64 ends that): what the guest's driver wrote, and what it read next,
/// may then be seen here in the other order. It does not kick for what it made available while it was being asked to, or is
/// not called for what it waits for, and both sides would wait for ever. By the second look, what it wrote can be seen.
const SECOND_LOOK: Duration = Duration::from_millis(1);
/// Events taken from the kernel at once: there may be more, and they come with the next look.
const EVENTS: usize = 2 * PAIRS + 1;

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
        has_sent: [false; PAIRS],
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
    /// Of each pair, whether a frame came by it.
    has_sent: [bool; PAIRS],
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
            self.has_sent[turn] = true;
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

    fn queues(&self) -> u32 {
        self.has_sent.iter().map(|has| u32::from(*has)).sum()
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
