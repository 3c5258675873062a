//! What a pump carries frames to and from: both directions of a TAP or of an emulator's socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use vnet::Offload;
use vnet::packet::Packet;

/// The largest frame there is: 65535 bytes of IP behind an Ethernet header, and two VLAN tags.
pub(crate) const MAX_FRAME_LEN: usize = 65_535 + 14 + 8;
/// Bytes in the virtio-net header, which is in front of each frame of an offloading device.
pub(crate) const HEADER_LEN: usize = 12;

/// A frame for the vnet.
pub(crate) struct Frame {
    /// The virtio-net header that it came with.
    pub(crate) header: Option<[u8; HEADER_LEN]>,
    pub(crate) bytes: Bytes,
}

/// Told what frames to the outside may leave undone, where that is agreed to while they are carried.
pub(crate) type Agreed = Box<dyn Fn(Offload) + Send>;

/// From outside to the vnet. Nothing waits.
pub(crate) trait Inward: Send {
    /// Called once the port is there, and before the first frame is read.
    fn begin(&mut self, _agreed: Agreed) -> io::Result<()> {
        Ok(())
    }

    /// Whether it is not to share a thread with others.
    fn needs_a_thread(&self) -> bool {
        false
    }

    /// What to poll for reading.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Queues by which frames have come, if any have.
    fn queues(&self) -> u32 {
        1
    }

    /// The next frame, if there is one. An error ends the pump; [`io::ErrorKind::UnexpectedEof`] says
    /// that the other side has closed.
    fn read(&mut self) -> io::Result<Option<Frame>>;

    /// After how long it is to be read again though polling says nothing.
    fn look_again(&self) -> Option<Duration> {
        None
    }

    /// Frames that were lost on their way here since the last call.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// The same at the end, when there is time to ask.
    fn take_last_lost(&mut self) -> u64 {
        self.take_lost()
    }
}

/// From the vnet to outside. Nothing waits.
pub(crate) trait Outward: Send {
    /// Of so many bytes of frames that may wait, how many it holds itself. It is told before the first frame.
    fn keep(&mut self, _bytes: usize) -> usize {
        0
    }

    /// Queues that frames have gone to, if any have.
    fn queues(&self) -> u32 {
        1
    }

    /// Whether the other side cuts datagrams that come in one frame.
    fn cuts_datagrams(&self) -> bool {
        false
    }

    /// Hands over a frame. An error ends the pump.
    fn write(&mut self, packet: Packet) -> io::Result<Written>;

    /// How long to wait before a frame is tried again for which there was no room. `None` where polling
    /// says when there is.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Writes what is left of the frames taken so far. False when there is no room for it now.
    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Frames that were taken and then given up, since the last call.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// Frames that were taken and are not written, or not all of them: what is lost at the end.
    fn unsent(&self) -> u64 {
        0
    }
}

/// Both directions of a line.
pub(crate) type Halves = (Box<dyn Inward>, Box<dyn Outward>);

/// What it costs to hold a frame besides its bytes, about.
const HOLDING: usize = 512;

/// Room for frames that wait for several queues, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Room {
    limit: usize,
    taken: usize,
}

impl Room {
    pub(crate) fn of(limit: usize) -> Room {
        Room { limit, taken: 0 }
    }
}

/// Frames that wait for one of several queues, which have their room together.
#[derive(Default)]
pub(crate) struct Waiting {
    frames: VecDeque<Packet>,
    bytes: usize,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Has a frame wait behind the others. False when there is no room for it: a queue may hold four times what is
    /// free then, as a wire may in an inbox, so that one alone can fill four fifths, and another finds room still.
    pub(crate) fn push(&mut self, room: &mut Room, packet: Packet) -> bool {
        let cost = packet.len() + HOLDING;
        let free = room.limit.saturating_sub(room.taken);
        if cost > free || self.bytes + cost > free.saturating_mul(4) {
            return false;
        }
        room.taken += cost;
        self.bytes += cost;
        self.frames.push_back(packet);
        true
    }

    /// The next frame.
    pub(crate) fn pop(&mut self, room: &mut Room) -> Option<Packet> {
        let packet = self.frames.pop_front()?;
        let cost = packet.len() + HOLDING;
        room.taken = room.taken.saturating_sub(cost);
        self.bytes = self.bytes.saturating_sub(cost);
        Some(packet)
    }

    /// Has a frame wait that has just been the next.
    pub(crate) fn push_front(&mut self, room: &mut Room, packet: Packet) {
        let cost = packet.len() + HOLDING;
        room.taken += cost;
        self.bytes += cost;
        self.frames.push_front(packet);
    }
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) enum Written {
    /// It was taken.
    Yes,
    /// There is no room for it now: it is to be tried again when there is.
    Later(Packet),
    /// It was refused; the next one may be taken.
    Refused,
    /// It goes no further, and this is the answer to it, for the vnet.
    Answered(Bytes),
}
