//! [`Packet`]: what BSD calls an mbuf chain.
//!
//! Headers live in a small area inside the packet, written back to front, so that each layer on
//! the way down prepends in place. What an application wrote stays where it is and is referred
//! to. A frame from outside arrives as payload only; [`Packet::pull_up`] brings the next header
//! into the area as layers on the way up ask for it.

use std::cell::RefCell;
use std::fmt;
use std::io::IoSlice;
use std::ops::{Deref, DerefMut};

use super::meta::Meta;
use super::payload::Payload;

/// Room for headers: Ethernet with two tags (22), IPv4 with all options (60) or IPv6 with some extension
/// headers, and TCP with all options (60).
pub(crate) const HEAD_CAPACITY: usize = 144;
/// Where pulled-up headers start, so that a forwarder can prepend its own link header.
const PULL_START: usize = 32;
/// A packet may refer to this many times the memory of what it holds, and of [`SMALL`] more.
const WASTE: usize = 4;
/// The least that queues charge for an item besides its bytes.
const SMALL: usize = 128;

/// Packets that a thread keeps for the next ones: as many as a megabyte of a stream is on a wire of Ethernet's.
const SPARE: usize = 1024;

/// A frame, packet or segment, depending on the layer that holds it. It is one pointer to move.
pub struct Packet(Box<Body>);

/// What a packet consists of.
#[doc(hidden)]
pub struct Body {
    area: [u8; HEAD_CAPACITY],
    start: u8,
    end: u8,
    /// The bytes after the header area.
    pub(crate) payload: Payload,
    /// What travels outside the bytes.
    pub(crate) meta: Meta,
}

impl Packet {
    /// Bytes of memory that a packet takes besides its payload.
    pub(crate) const COST: usize = size_of::<Body>();

    /// A packet to which headers will be prepended.
    #[inline]
    pub(crate) fn outgoing(payload: Payload) -> Packet {
        let mut packet = take_spare().unwrap_or_else(Packet::allocated);
        packet.start = HEAD_CAPACITY as u8;
        packet.end = HEAD_CAPACITY as u8;
        packet.payload = payload;
        packet.meta = Meta::default();
        packet
    }

    #[cold]
    fn allocated() -> Packet {
        Packet(Box::new(Body {
            area: [UNWRITTEN; HEAD_CAPACITY],
            start: 0,
            end: 0,
            payload: Payload::new(),
            meta: Meta::default(),
        }))
    }

    /// A frame as it came from outside, with nothing known about it.
    pub(crate) fn incoming(frame: impl Into<Payload>) -> Packet {
        let mut packet = Packet::outgoing(frame.into());
        packet.start = PULL_START as u8;
        packet.end = PULL_START as u8;
        packet.meta.bridges.mark_foreign();
        packet
    }

    /// All bytes, headers and payload.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start) + self.payload.len()
    }

    /// True when there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes behind the header area, in order.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.payload.slices()
    }

    /// The bytes in the header area.
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.area[usize::from(self.start)..usize::from(self.end)]
    }

    /// All bytes where they are, in order, for a vectored write.
    ///
    /// ```
    /// use std::io::IoSlice;
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let port = a.port("eth0", None)?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// let frame = port.recv().expect("the address is announced");
    /// let slices: Vec<IoSlice<'_>> = frame.io_slices().collect();
    /// let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    /// assert_eq!(bytes, frame.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn io_slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let head = std::iter::once(self.head()).filter(|head| !head.is_empty());
        head.chain(self.slices()).map(IoSlice::new)
    }

    /// The bytes in the header area, to be changed in place.
    #[inline]
    pub(crate) fn head_mut(&mut self) -> &mut [u8] {
        let body = &mut *self.0;
        &mut body.area[usize::from(body.start)..usize::from(body.end)]
    }

    /// Makes room for `n` more header bytes in front and returns them, zeroed or not. Where they do not
    /// fit together with those that are there, these become payload.
    ///
    /// # Panics
    /// When `n` is more than the header area: the headers that are prepended at once are bounded by
    /// their formats, so that is a defect of the caller.
    #[inline]
    pub(crate) fn prepend(&mut self, n: usize) -> &mut [u8] {
        if n > usize::from(self.start) {
            self.move_to_end(n);
        }
        self.start -= n as u8;
        let start = usize::from(self.start);
        &mut self.area[start..start + n]
    }

    /// Moves the header bytes to the end of the area, to make room in front.
    #[cold]
    fn move_to_end(&mut self, n: usize) {
        assert!(n <= HEAD_CAPACITY, "headers larger than the header area");
        if n + self.head().len() > HEAD_CAPACITY {
            self.push_down(0);
        }
        let len = usize::from(self.end - self.start);
        let header = usize::from(self.start)..usize::from(self.end);
        self.area.copy_within(header, HEAD_CAPACITY - len);
        self.start = (HEAD_CAPACITY - len) as u8;
        self.end = HEAD_CAPACITY as u8;
    }

    /// Brings the first `n` bytes into the header area and returns them; `None` when the packet
    /// is shorter, or `n` larger than any header can be.
    // Each header that is read asks for a number of bytes known beforehand.
    #[inline(always)]
    pub(crate) fn pull_up(&mut self, n: usize) -> Option<&mut [u8]> {
        let have = usize::from(self.end - self.start);
        if n > have {
            self.pull_missing(n, n - have)?;
        }
        let start = usize::from(self.start);
        Some(&mut self.area[start..start + n])
    }

    fn pull_missing(&mut self, n: usize, missing: usize) -> Option<()> {
        if missing > self.payload.len() || n > HEAD_CAPACITY {
            return None;
        }
        if usize::from(self.end) + missing > HEAD_CAPACITY {
            let (start, end) = (usize::from(self.start), usize::from(self.end));
            let to = HEAD_CAPACITY - (end - start) - missing;
            self.area.copy_within(start..end, to);
            self.start = to as u8;
            self.end = (to + end - start) as u8;
        }
        let body = &mut *self.0;
        let end = usize::from(body.end);
        body.payload.copy_to(0, &mut body.area[end..end + missing]);
        body.payload.advance(missing);
        body.end += missing as u8;
        Some(())
    }

    /// Removes the first `n` bytes; the caller has pulled them up.
    ///
    /// # Panics
    /// When fewer than `n` bytes are in the header area.
    #[inline]
    pub(crate) fn strip(&mut self, n: usize) {
        assert!(
            n <= usize::from(self.end - self.start),
            "strip without pull_up"
        );
        self.start += n as u8;
        if self.start == self.end {
            self.start = PULL_START as u8;
            self.end = PULL_START as u8;
        }
    }

    /// Removes the first `n` bytes, pulled up or not.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn cut_front(&mut self, n: usize) {
        let in_head = n.min(self.head().len());
        self.strip(in_head);
        self.payload.advance(n - in_head);
    }

    /// Cuts the packet to `n` bytes, for padding behind an IP packet. Does nothing when it is
    /// no longer than that.
    ///
    /// When little is left of much, it is copied: a queue that is bounded by the bytes it holds
    /// must not hold the memory of what was cut off as well.
    pub(crate) fn truncate(&mut self, n: usize) {
        let head = usize::from(self.end - self.start);
        if n >= head {
            let (before, kept) = (self.payload.len(), n - head);
            self.payload.truncate(kept);
            if before > WASTE * (kept + SMALL) {
                self.payload.compact();
            }
        } else {
            self.end = self.start + n as u8;
            self.payload = Payload::new();
        }
    }

    /// Turns everything that is left into a payload: what a transport delivers.
    #[inline]
    pub(crate) fn into_payload(mut self) -> Payload {
        let mut payload = std::mem::take(&mut self.payload);
        if !self.head().is_empty() {
            payload = self.head_and(payload);
        }
        keep_spare(self);
        payload
    }

    /// What is in the header area, and `rest` behind it.
    #[cold]
    fn head_and(&self, rest: Payload) -> Payload {
        let mut all = Payload::copied(self.head());
        all.append(rest);
        all
    }

    /// Copies the bytes from `offset` on into `to`, wherever they are, and returns how many there were.
    pub(crate) fn copy_to(&self, offset: usize, to: &mut [u8]) -> usize {
        let head = self.head();
        let in_head = head.get(offset..).unwrap_or_default();
        let done = in_head.len().min(to.len());
        to[..done].copy_from_slice(&in_head[..done]);
        let behind = (offset + done).saturating_sub(head.len());
        match done < to.len() {
            true => done + self.payload.copy_to(behind, &mut to[done..]),
            false => done,
        }
    }

    /// Moves what is in the header area behind the first `n` bytes to the front of the payload.
    ///
    /// # Panics
    /// When fewer than `n` bytes are in the header area.
    #[cold]
    pub(crate) fn push_down(&mut self, n: usize) {
        let mut payload = Payload::copied(&self.head()[n..]);
        payload.append(std::mem::take(&mut self.payload));
        self.payload = payload;
        self.end = self.start + n as u8;
    }

    /// Copies all bytes into one vector: for a capture, or a device that wants one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        all.extend_from_slice(self.head());
        for s in self.payload.slices() {
            all.extend_from_slice(s);
        }
        all
    }
}

// What is around the headers in their area may be of another packet.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("head", &self.head())
            .field("payload", &self.payload)
            .field("meta", &self.meta)
            .finish()
    }
}

impl Clone for Packet {
    fn clone(&self) -> Packet {
        let mut clone = Packet::outgoing(self.payload.clone());
        clone.area = self.area;
        clone.start = self.start;
        clone.end = self.end;
        clone.meta = self.meta;
        clone
    }
}

impl Deref for Packet {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        &self.0
    }
}

impl DerefMut for Packet {
    #[inline]
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.0
    }
}

/// What a header area holds before it is written to. Whoever prepends writes every byte; where
/// assertions are checked, what they leave out is seen.
const UNWRITTEN: u8 = match cfg!(debug_assertions) {
    true => 0xa5,
    false => 0,
};

thread_local! {
    /// Packets whose payload was taken, for the next ones.
    static SPARES: RefCell<Vec<Packet>> = const { RefCell::new(Vec::new()) };
}

#[inline]
fn take_spare() -> Option<Packet> {
    // A packet may be made by the destructor of a thread-local, after this one is gone.
    let taken = SPARES.try_with(|spares| spares.try_borrow_mut().ok()?.pop());
    taken.ok().flatten()
}

/// Keeps a packet that has no payload any more.
#[inline]
fn keep_spare(mut packet: Packet) {
    if cfg!(debug_assertions) {
        packet.area = [UNWRITTEN; HEAD_CAPACITY];
    }
    let _ = SPARES.try_with(|spares| {
        if let Ok(mut spares) = spares.try_borrow_mut()
            && spares.len() < SPARE
        {
            spares.push(packet);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_shown_what_another_packet_has_left() {
        let mut old = Packet::outgoing(Payload::new());
        old.prepend(100).fill(0xee);
        let mut packet = old.clone();
        drop(old);
        packet.strip(99);
        let mut copy = packet.clone();
        copy.prepend(1).fill(7);
        assert_eq!(format!("{packet:?}").matches("238").count(), 1);
        assert!(format!("{copy:?}").contains("[7, 238]"));
    }

    #[test]
    fn headers_go_on_in_front_and_come_off_in_order() {
        let mut p = Packet::outgoing(Payload::from(b"data".to_vec()));
        p.prepend(3).copy_from_slice(b"tcp");
        p.prepend(2).copy_from_slice(b"ip");
        assert_eq!(p.to_vec(), b"iptcpdata");
        assert_eq!(p.pull_up(2).map(|h| h.to_vec()), Some(b"ip".to_vec()));
        p.strip(2);
        p.strip(3);
        assert_eq!(p.into_payload().to_bytes(), "data");
    }

    #[test]
    fn a_frame_from_outside_is_pulled_up_header_by_header() {
        let mut p = Packet::incoming(b"ethernetIPtcpdata".to_vec());
        assert_eq!(p.pull_up(8).map(|h| h.to_vec()), Some(b"ethernet".to_vec()));
        p.strip(8);
        assert_eq!(p.pull_up(2).map(|h| h.to_vec()), Some(b"IP".to_vec()));
        // A forwarder puts a new link header in front of what it has parsed.
        p.prepend(14).fill(b'-');
        assert_eq!(p.to_vec(), b"--------------IPtcpdata");
        assert_eq!(p.pull_up(1000), None);
        assert_eq!(p.pull_up(24), None);
        p.truncate(18);
        assert_eq!(p.to_vec(), b"--------------IPtc");
    }

    #[test]
    fn a_little_of_a_large_frame_does_not_hold_all_of_it() {
        let frame = bytes::Bytes::from(vec![7; 60_000]);
        let mut p = Packet::incoming(frame.clone());
        assert!(p.pull_up(20).is_some());
        p.truncate(50_000);
        assert!(!frame.is_unique(), "most of it: by reference");
        p.truncate(30);
        assert!(frame.is_unique(), "ten bytes and headers: a copy");
        assert_eq!(p.to_vec(), vec![7; 30]);
    }

    #[test]
    fn headers_that_do_not_fit_in_place_are_moved() {
        let mut p = Packet::incoming(vec![7; 200]);
        assert!(p.pull_up(96).is_some());
        p.prepend(32).fill(1);
        assert_eq!(p.len(), 232);
        assert!(p.pull_up(60).is_some());
        p.strip(128);
        assert_eq!(p.to_vec(), vec![7; 104]);
    }

    #[test]
    fn headers_that_fill_the_area_make_way_for_others() {
        for more in [1, 14, 22, HEAD_CAPACITY] {
            let mut p = Packet::incoming(vec![7; 200]);
            assert!(p.pull_up(HEAD_CAPACITY).is_some());
            assert!(p.pull_up(HEAD_CAPACITY + 1).is_none());
            p.prepend(more).fill(1);
            assert_eq!(p.to_vec(), [vec![1; more], vec![7; 200]].concat());
            assert!(p.pull_up(more + 20.min(HEAD_CAPACITY - more)).is_some());
        }
    }
}
