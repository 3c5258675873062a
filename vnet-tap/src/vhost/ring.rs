//! One ring of a guest's virtio-net device: buffers that the guest makes available, and that are given back
//! to it with frames in them, or when the frames in them have been taken.
//!
//! Everything in the guest's memory is what a guest says. It is read once, lengths and addresses are
//! checked, and a frame costs a bounded number of buffers. A ring that makes no sense ends the device;
//! a frame that makes none is refused.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rustix::event::epoll;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};
use vnet::packet::Packet;

use crate::line::{HEADER_LEN, MAX_FRAME_LEN};

/// A guest's memory.
pub(super) type Memory = GuestMemoryMmap<()>;

/// The largest ring offered: what QEMU allows.
const MAX_SIZE: u16 = 1024;
/// Chains of buffers that one frame may be spread over: 64 KiB in the smallest buffers that drivers use.
const MAX_CHAINS: usize = 128;
/// What is wrong with a ring that says that there is more, and there is nothing.
pub(super) const UNREADABLE: &str = "entries of a ring that cannot be read";
/// Buffers in the chains of one frame.
const MAX_BUFFERS: usize = 1024;
/// Bytes in the header without the number of merged buffers, of a guest from before virtio 1.
const LEGACY_HEADER_LEN: usize = 10;

/// What was in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A frame, with its header in front.
    Frame,
    /// Something else, which the guest has got back.
    Refused,
    /// Nothing.
    Nothing,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Yes,
    /// The guest does not listen, or has no buffer that is large enough, or none where it says.
    Refused,
    /// There will be room when the guest kicks.
    NoRoom,
}

pub(super) struct Ring {
    queue: Queue,
    memory: Option<Arc<Memory>>,
    is_enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    has_merging: bool,
    header_len: usize,
    /// The used index when it was last asked whether the guest wants to know.
    told: u16,
    /// Buffers given back since the guest was called, at most as many as the ring has.
    uncalled: u16,
    /// The guest has been asked to kick.
    is_listening: bool,
    /// Of the frame that is being put: buffers, and chains with what is in them.
    places: Vec<(GuestAddress, usize)>,
    chains: Vec<(u16, u32)>,
}

/// What no guest does.
pub(super) fn wrong(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        Ok(Ring {
            queue: Queue::new(MAX_SIZE).map_err(io::Error::other)?,
            memory: None,
            is_enabled: false,
            kick: None,
            call: None,
            has_merging: false,
            header_len: HEADER_LEN,
            told: 0,
            uncalled: 0,
            is_listening: false,
            places: Vec::new(),
            chains: Vec::new(),
        })
    }

    pub(super) fn header_len(&self) -> usize {
        self.header_len
    }

    /// Whether frames are in it.
    pub(super) fn is_running(&self) -> bool {
        self.is_enabled && self.queue.ready()
    }

    pub(super) fn set_memory(&mut self, memory: Option<Arc<Memory>>) -> io::Result<()> {
        self.memory = memory;
        self.check_if_ready()
    }

    /// What has changed under a ring that has been started leaves it in order.
    fn check_if_ready(&mut self) -> io::Result<()> {
        match self.queue.ready() {
            true => self.check(),
            false => Ok(()),
        }
    }

    pub(super) fn enable(&mut self, is_enabled: bool) {
        self.is_enabled = is_enabled;
    }

    /// What the guest has agreed to.
    pub(super) fn agree(&mut self, is_modern: bool, has_merging: bool, has_event_idx: bool) {
        // Virtio 1.2, section 5.1.6.1: the number of buffers is in the header of old guests only if
        // there may be several.
        self.header_len = match is_modern || has_merging {
            true => HEADER_LEN,
            false => LEGACY_HEADER_LEN,
        };
        self.has_merging = has_merging;
        self.queue.set_event_idx(has_event_idx);
    }

    pub(super) fn set_size(&mut self, size: u16) -> io::Result<()> {
        self.queue.try_set_size(size).map_err(wrong)?;
        self.check_if_ready()
    }

    pub(super) fn set_places(&mut self, [table, available, used]: [u64; 3]) -> io::Result<()> {
        let set = |queue: &mut Queue| {
            queue.try_set_desc_table_address(GuestAddress(table))?;
            queue.try_set_avail_ring_address(GuestAddress(available))?;
            queue.try_set_used_ring_address(GuestAddress(used))
        };
        set(&mut self.queue).map_err(wrong)?;
        self.check_if_ready()
    }

    /// Where the next buffer is.
    pub(super) fn set_next(&mut self, next: u16) {
        self.queue.set_next_avail(next);
    }

    pub(super) fn set_call(&mut self, call: Option<File>) -> io::Result<()> {
        if let Some(call) = &call {
            // Whoever tells the guest may not be held up by it.
            rustix::io::ioctl_fionbio(call, true)?;
        }
        self.call = call;
        // What the old one was told last may have been heard by nobody.
        if self.queue.ready() {
            self.call();
        }
        Ok(())
    }

    /// Starts: kicks come from here, and are events of `events`.
    pub(super) fn start(&mut self, kick: Option<File>, events: impl AsFd) -> io::Result<()> {
        self.silence(&events);
        if let Some(kick) = &kick {
            let whatever = epoll::EventData::new_u64(1);
            // Nobody reads what is counted there.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(events, kick, whatever, flags)?;
        }
        self.kick = kick;
        self.queue.set_ready(true);
        self.check()?;
        let memory = self.memory.as_deref();
        let used = memory.map(|memory| self.queue.used_idx(memory, Ordering::Acquire));
        // It goes on where the guest has got to.
        if let Some(used) = used {
            self.told = used.map_err(wrong)?.0;
            self.uncalled = 0;
            self.queue.set_next_used(self.told);
        }
        Ok(())
    }

    /// Stops, and says which buffer would have been next.
    pub(super) fn stop(&mut self, events: impl AsFd) -> u16 {
        self.silence(events);
        self.queue.set_ready(false);
        self.call = None;
        self.queue.next_avail()
    }

    fn silence(&mut self, events: impl AsFd) {
        if let Some(kick) = self.kick.take() {
            // The emulator has it, too: closing it here would leave it in the set.
            let _ = epoll::delete(events, kick);
        }
    }

    /// Whether a ring that runs is in the guest's memory.
    fn check(&mut self) -> io::Result<()> {
        let memory = self.memory.as_deref();
        let memory = memory.ok_or_else(|| wrong("a ring without memory"))?;
        if !self.queue.is_valid(memory) {
            self.queue.set_ready(false);
            return Err(wrong("a ring outside the guest's memory"));
        }
        Ok(())
    }

    /// Takes the next frame that the guest sends, with its header, into the free part of `into`.
    pub(super) fn take(&mut self, into: &mut Vec<u8>) -> io::Result<Taken> {
        let (true, Some(memory)) = (self.is_running(), &self.memory) else {
            return Ok(Taken::Nothing);
        };
        let memory = &**memory;
        let next = self.queue.iter(memory).map_err(wrong)?.next();
        let Some(chain) = next else {
            return Ok(Taken::Nothing);
        };
        let most = self.header_len + MAX_FRAME_LEN;
        let head = chain.head_index();
        let mut is_good = true;
        for (number, buffer) in chain.enumerate() {
            let len = buffer.len() as usize;
            is_good = number < MAX_BUFFERS
                && !buffer.is_write_only()
                && len <= most - into.len()
                && memory
                    .write_all_volatile_to(buffer.addr(), into, len)
                    .is_ok();
            if !is_good {
                break;
            }
        }
        is_good &= into.len() >= self.header_len;
        self.not_listening()?;
        self.chains.clear();
        self.chains.push((head, 0));
        self.give_back()?;
        Ok(match is_good {
            true => Taken::Frame,
            false => Taken::Refused,
        })
    }

    /// Puts a frame into the next buffers.
    pub(super) fn put(&mut self, mut header: [u8; HEADER_LEN], packet: &Packet) -> io::Result<Put> {
        let (true, Some(memory)) = (self.is_running(), &self.memory) else {
            return Ok(Put::Refused);
        };
        let memory = &**memory;
        let needed = self.header_len + packet.len();
        let first = self.queue.next_avail();
        self.places.clear();
        self.chains.clear();
        let mut room = 0;
        let mut was_promised = false;
        while room < needed {
            let next = self.queue.iter(memory).map_err(wrong)?.next();
            let Some(chain) = next else {
                // What comes from now on kicks.
                self.is_listening = true;
                if self.queue.enable_notification(memory).map_err(wrong)? {
                    if std::mem::replace(&mut was_promised, true) {
                        return Err(wrong(UNREADABLE));
                    }
                    continue;
                }
                self.queue.set_next_avail(first);
                return Ok(Put::NoRoom);
            };
            was_promised = false;
            if self.chains.len() == MAX_CHAINS {
                return Err(wrong("buffers that are too small"));
            }
            let (head, before) = (chain.head_index(), room);
            for buffer in chain {
                if self.places.len() == MAX_BUFFERS {
                    return Err(wrong("too many buffers"));
                }
                let len = match buffer.is_write_only() {
                    true => (buffer.len() as usize).min(needed - room),
                    false => 0,
                };
                self.places.push((buffer.addr(), len));
                room += len;
                if room == needed {
                    break;
                }
            }
            // At most `needed`, which is less than 70000.
            self.chains.push((head, (room - before) as u32));
            if room < needed && !self.has_merging {
                self.queue.set_next_avail(first);
                return Ok(Put::Refused);
            }
        }
        // At most `MAX_CHAINS`.
        header[10..].copy_from_slice(&(self.chains.len() as u16).to_le_bytes());
        let pieces = [&header[..self.header_len], packet.head()].into_iter();
        let pieces = pieces.chain(packet.slices());
        let is_written = write(memory, &self.places, pieces);
        if !is_written {
            self.chains.iter_mut().for_each(|(_, len)| *len = 0);
        }
        self.not_listening()?;
        self.give_back()?;
        Ok(match is_written {
            true => Put::Yes,
            false => Put::Refused,
        })
    }

    /// Asks the guest to kick when there is something. True when there is already.
    pub(super) fn listen(&mut self) -> io::Result<bool> {
        let (true, Some(memory)) = (self.is_running(), &self.memory) else {
            return Ok(false);
        };
        self.is_listening = true;
        self.queue.enable_notification(&**memory).map_err(wrong)
    }

    /// It is looked at anyway: kicks are not needed.
    fn not_listening(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_listening) {
            return Ok(());
        }
        let memory = self.memory.as_deref();
        memory.map_or(Ok(()), |memory| {
            self.queue.disable_notification(memory).map_err(wrong)
        })
    }

    /// Gives the guest the chains back, all at once: a frame in several is there as a whole or not at all.
    fn give_back(&mut self) -> io::Result<()> {
        let Some(memory) = self.memory.as_deref() else {
            return Ok(());
        };
        let (size, mut used) = (self.queue.size(), self.queue.next_used());
        let ring = GuestAddress(self.queue.used_ring());
        let outside = || wrong("a ring outside the guest's memory");
        // Virtio 1.2, section 2.7.8: flags and an index of two bytes each, and pairs of four.
        let at = |offset: u64| ring.checked_add(offset).ok_or_else(outside);
        for (head, len) in &self.chains {
            if *head >= size {
                return Err(wrong(format!("buffer {head} in a ring of {size}")));
            }
            let mut element = [0; 8];
            element[..4].copy_from_slice(&u32::from(*head).to_le_bytes());
            element[4..].copy_from_slice(&len.to_le_bytes());
            let slot = at(4 + 8 * u64::from(used % size))?;
            memory.write_slice(&element, slot).map_err(wrong)?;
            used = used.wrapping_add(1);
        }
        self.queue.set_next_used(used);
        memory
            .store(used.to_le(), at(2)?, Ordering::Release)
            .map_err(wrong)
    }

    /// Calls the guest if something was given back since the last time, and it wants to know.
    pub(super) fn tell(&mut self) -> io::Result<()> {
        if !self.queue.ready() {
            return Ok(());
        }
        let used = self.queue.next_used();
        let new = used.wrapping_sub(std::mem::replace(&mut self.told, used));
        if new == 0 {
            return Ok(());
        }
        self.uncalled = self.uncalled.saturating_add(new).min(self.queue.size());
        self.call_if_wanted()
    }

    /// Looks once more whether the guest wants to know of what it was not called for: it may have said so just then.
    pub(super) fn tell_again(&mut self) -> io::Result<()> {
        // Without the index of what it waits for, nobody can tell whether it has seen everything by itself.
        match self.queue.ready() && self.uncalled > 0 && self.queue.event_idx_enabled() {
            true => self.call_if_wanted(),
            false => Ok(()),
        }
    }

    fn call_if_wanted(&mut self) -> io::Result<()> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        // What was given back is there before the guest's wish is read: virtio 1.2, section 2.7.7.2.
        fence(Ordering::SeqCst);
        let ring = GuestAddress(self.queue.avail_ring());
        let wish = |offset: u64| {
            let at = ring.checked_add(offset);
            let at = at.ok_or_else(|| wrong("a ring outside the guest's memory"))?;
            let read = memory.load::<u16>(at, Ordering::Relaxed);
            read.map(u16::from_le).map_err(wrong)
        };
        let wants_to_know = match self.queue.event_idx_enabled() {
            // The buffer that it waits for is among those that it was not called for. Those of which it did not want to
            // know then count, too: a wish that came too late is not lost for ever.
            true => {
                let event = wish(4 + 2 * u64::from(self.queue.size()))?;
                let used = self.queue.next_used();
                used.wrapping_sub(event).wrapping_sub(1) < self.uncalled
            }
            // VIRTQ_AVAIL_F_NO_INTERRUPT.
            false => wish(0)? & 1 == 0,
        };
        if wants_to_know {
            self.call();
        }
        Ok(())
    }

    fn call(&mut self) {
        if let Some(call) = &self.call {
            self.uncalled = 0;
            // When it cannot be counted, it has been told often enough.
            let _ = rustix::io::write(call, &1u64.to_ne_bytes());
        }
    }
}

/// Writes pieces into places that have room for them. False when a place is not in the guest's memory.
fn write<'a>(
    memory: &Memory,
    places: &[(GuestAddress, usize)],
    pieces: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let mut places = places.iter().copied();
    let (mut at, mut room) = (GuestAddress(0), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            if room == 0 {
                match places.next() {
                    Some(place) => (at, room) = place,
                    None => return false,
                }
                continue;
            }
            let (now, rest) = piece.split_at(room.min(piece.len()));
            if memory.write_slice(now, at).is_err() {
                return false;
            }
            let Some(behind) = at.checked_add(now.len() as u64) else {
                return false;
            };
            (at, room, piece) = (behind, room - now.len(), rest);
        }
    }
    true
}

#[cfg(test)]
pub(super) mod tests;
