//! From the vnet to a guest's rings. A frame for a ring without room waits here, behind those that wait for the same
//! ring and no others: a guest that leaves one of its rings full holds up nothing but that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vnet::packet::Packet;

use super::device::{Device, PAIRS, TOLD_AFTER, feature};
use super::ring::Put;
use crate::line::{HEADER_LEN, Outward, Room, Waiting, Written};

pub(super) struct ToGuest {
    device: Arc<Device>,
    /// Buffers given back since the guest was told.
    given_back: u32,
    /// What waits for room, by the pair that it is for.
    waiting: [Waiting; PAIRS],
    /// Of each pair, whether a frame went to it.
    has_received: [bool; PAIRS],
    /// What waits in all of them.
    room: Room,
    /// Frames that were given up after they had been taken.
    lost: u64,
}

impl ToGuest {
    pub(super) fn new(device: Arc<Device>) -> ToGuest {
        ToGuest {
            device,
            given_back: 0,
            waiting: Default::default(),
            has_received: [false; PAIRS],
            room: Room::default(),
            lost: 0,
        }
    }

    /// Puts a frame into the ring of a pair.
    fn put(&mut self, pair: usize, packet: &mut Packet) -> io::Result<Put> {
        // What waits for long may be for another driver by then, who has agreed to something else.
        let features = self.device.features.load(Ordering::Relaxed);
        let header = packet.virtio_header();
        let header = header.and_then(|header| understood(header, features));
        let (Some(header), Some(ring)) = (header, self.device.ring(2 * pair)) else {
            return Ok(Put::Refused);
        };
        let put = ring.lock().put(header, packet)?;
        if put == Put::Yes {
            self.has_received[pair] = true;
            self.device.is_fresh.store(true, Ordering::Relaxed);
            self.given_back += 1;
        }
        Ok(put)
    }

    /// Puts what waits for a ring there, as far as there is room.
    fn put_waiting(&mut self, pair: usize) -> io::Result<()> {
        while let Some(mut packet) = self.waiting[pair].pop(&mut self.room) {
            match self.put(pair, &mut packet)? {
                Put::Yes => {}
                Put::Refused => self.lost += 1,
                Put::NoRoom => {
                    self.waiting[pair].push_front(&mut self.room, packet);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells the guest what it has received, in whatever ring.
    fn tell(&mut self) -> io::Result<()> {
        self.given_back = 0;
        self.device
            .received_by_guest()
            .try_for_each(|ring| ring.lock().tell())
    }
}

impl Outward for ToGuest {
    fn cuts_datagrams(&self) -> bool {
        let features = self.device.features.load(Ordering::Relaxed);
        features & feature::GUEST_USO == feature::GUEST_USO
    }

    fn keep(&mut self, bytes: usize) -> usize {
        // What the vnet has sent is here, or is on its way here.
        self.room = Room::of(bytes / 2);
        bytes / 2
    }

    fn queues(&self) -> u32 {
        self.has_received.iter().map(|has| u32::from(*has)).sum()
    }

    fn write(&mut self, mut packet: Packet) -> io::Result<Written> {
        let Some(pair) = self.device.pair_for(&packet) else {
            return Ok(Written::Refused);
        };
        let put = match self.waiting[pair].is_empty() {
            true => self.put(pair, &mut packet)?,
            false => Put::NoRoom,
        };
        let written = match put {
            Put::Yes => Written::Yes,
            Put::Refused => Written::Refused,
            Put::NoRoom => match self.waiting[pair].push(&mut self.room, packet) {
                true => Written::Yes,
                false => Written::Refused,
            },
        };
        if self.given_back >= TOLD_AFTER {
            self.flush()?;
        }
        Ok(written)
    }

    /// What waits is no reason to poll for room: a guest that has made some kicks, which is something to read.
    fn flush(&mut self) -> io::Result<bool> {
        for pair in 0..PAIRS {
            self.put_waiting(pair)?;
        }
        if self.given_back > 0 {
            self.tell()?;
        }
        Ok(true)
    }

    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn unsent(&self) -> u64 {
        self.waiting
            .iter()
            .map(|waiting| waiting.len() as u64)
            .sum()
    }
}

/// The header as a guest with these features understands it; `None` when it does not.
fn understood(mut header: [u8; HEADER_LEN], features: u64) -> Option<[u8; HEADER_LEN]> {
    // Virtio 1.2, section 5.1.6.4.1: flags and kinds that were not agreed to are not to be sent.
    let [flags, kind, ..] = &mut header;
    if features & feature::GUEST_CSUM == 0 {
        // VIRTIO_NET_HDR_F_DATA_VALID is a favour; VIRTIO_NET_HDR_F_NEEDS_CSUM is not.
        *flags &= 1;
        if *flags != 0 {
            return None;
        }
    }
    let needed = match *kind & 0x7f {
        0 => 0,
        1 => feature::GUEST_TSO4,
        4 => feature::GUEST_TSO6,
        5 => feature::GUEST_USO,
        _ => return None,
    };
    let needed = match *kind & 0x80 {
        0 => needed,
        _ => needed | feature::GUEST_ECN,
    };
    (features & needed == needed).then_some(header)
}
