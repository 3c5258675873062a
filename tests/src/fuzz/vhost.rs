//! What a guest has in its memory, and what its emulator asks over a vhost-user socket.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vnet_tap::Framing;

use super::Lan;

/// Bytes of the guest's memory.
const LEN: u64 = 1 << 16;
/// Where the emulator has it.
const THEIRS: u64 = 0x7f00_0000_0000;
/// Entries of a ring.
const SIZE: u16 = 16;
/// VERSION_1, the protocol's features, and merged buffers.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 15;

/// Requests of the protocol, by their number.
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ENABLE: u32 = 18;

/// An emulator and its guest.
struct Peer {
    socket: UnixStream,
    memory: File,
    kicks: [OwnedFd; 2],
    calls: [OwnedFd; 2],
    has_ended: bool,
}

impl Peer {
    fn new(socket: UnixStream) -> Peer {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let memory = File::from(memfd_create("guest", flags).expect("memory"));
        memory.set_len(LEN).expect("memory");
        let bell = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let bells = || [(); 2].map(|()| bell().expect("a descriptor"));
        Peer {
            socket,
            memory,
            kicks: bells(),
            calls: bells(),
            has_ended: false,
        }
    }

    /// Sends bytes with a descriptor or without one.
    fn send(&mut self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let flags = SendFlags::NOSIGNAL;
        let sent = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags);
        // It may have been given up before it has said everything.
        self.has_ended |= sent.is_err();
    }

    fn ask(&mut self, request: u32, about: &[u8], fd: Option<BorrowedFd<'_>>) {
        let len = about.len() as u32;
        // Version 1.
        let head = [request, 1, len].map(u32::to_le_bytes).concat();
        self.send(&[&head, about].concat(), fd);
    }

    /// What an emulator asks for one pair of rings: the guest's own is the second one.
    fn begin(&mut self) {
        self.ask(SET_OWNER, &[], None);
        self.ask(SET_FEATURES, &FEATURES.to_le_bytes(), None);
        // One region, from the beginning of the memory and of the file.
        let one = 1u64.to_le_bytes();
        let region = [0, LEN, THEIRS, 0].map(u64::to_le_bytes).concat();
        let memory = self.memory.try_clone().expect("a descriptor");
        let table = [&one[..], &region].concat();
        self.ask(SET_MEM_TABLE, &table, Some(memory.as_fd()));
        for number in 0..2u32 {
            let state = |value: u32| [number, value].map(u32::to_le_bytes).concat();
            self.ask(SET_VRING_NUM, &state(SIZE.into()), None);
            self.ask(SET_VRING_BASE, &state(0), None);
            let at = THEIRS + 0x1000 * u64::from(number);
            let [table, used, available] = [at, at + 0x800, at + 0x400].map(u64::to_le_bytes);
            let places = [&state(0), &table[..], &used, &available, &[0; 8]].concat();
            self.ask(SET_VRING_ADDR, &places, None);
            let about = u64::from(number).to_le_bytes();
            let of_ring = number as usize;
            for (request, bells) in [(SET_VRING_CALL, 0), (SET_VRING_KICK, 1)] {
                let bell = [&self.calls, &self.kicks][bells][of_ring].try_clone();
                let bell = bell.expect("a descriptor");
                self.ask(request, &about, Some(bell.as_fd()));
            }
            self.ask(SET_VRING_ENABLE, &state(1), None);
        }
    }

    /// Waits until the guest has back what it has made available, or for as long as that may take: nobody looks at the
    /// rings once the socket is closed.
    fn wait_a_moment(&self) {
        for _ in 0..20 {
            let [mut made_available, mut given_back] = [[0; 2]; 2];
            let memory = &self.memory;
            let read = memory
                .read_exact_at(&mut made_available, 0x1402)
                .and_then(|()| memory.read_exact_at(&mut given_back, 0x1802));
            if read.is_err() || made_available == given_back {
                return;
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Takes the steps.
    fn follow(&mut self, mut rest: &[u8]) {
        while let Some((&[what, number], behind)) = rest.split_first_chunk::<2>()
            && !self.has_ended
        {
            rest = behind;
            let len = usize::from(number % 64).min(rest.len());
            match (what % 4, rest) {
                (0, [request, which, behind @ ..]) => {
                    let len = len.min(behind.len());
                    let (about, behind) = behind.split_at(len);
                    rest = behind;
                    let memory = self.memory.try_clone().expect("a descriptor");
                    let bell = self.kicks[1].try_clone().expect("a descriptor");
                    let fd = [None, Some(memory.as_fd()), Some(bell.as_fd())];
                    self.ask((*request).into(), about, fd[usize::from(which % 3)]);
                }
                (1, [a, b, behind @ ..]) => {
                    let len = len.min(behind.len());
                    let (bytes, behind) = behind.split_at(len);
                    rest = behind;
                    let at = u16::from_le_bytes([*a, *b]).into();
                    // What goes beyond the end makes the file longer, as an emulator's may be.
                    let _ = self.memory.write_all_at(bytes, at);
                }
                (2, _) => self.kick(usize::from(number % 2)),
                (3, _) => {
                    let (bytes, behind) = rest.split_at(len);
                    rest = behind;
                    self.send(bytes, None);
                }
                _ => break,
            }
        }
    }

    fn kick(&self, number: usize) {
        let _ = rustix::io::write(&self.kicks[number], &1u64.to_ne_bytes());
    }
}

/// Steps of an emulator and its guest, the first byte for whether the rings have been set up before. A step is two
/// bytes, what it is and a number, and what belongs to it:
///
/// | what, of four | number | then |
/// |---|---|---|
/// | 0 | bytes to come, of 64 | which request, which descriptor comes with it, and what the request is about |
/// | 1 | bytes to come, of 64 | where, in two bytes, and what is written into the guest's memory there |
/// | 2 | which ring is kicked, of two | |
/// | 3 | bytes to come, of 64 | what is sent as it is |
pub fn vhost(input: &[u8]) {
    let Some((how, steps)) = input.split_first() else {
        return;
    };
    Lan::new().with_a_hostile_guest(Framing::VhostUser, |socket| {
        let mut peer = Peer::new(socket);
        if how % 2 == 0 {
            peer.begin();
        }
        peer.follow(steps);
        peer.wait_a_moment();
        let _ = peer.socket.shutdown(Shutdown::Write);
        // What was answered, until the device is given up.
        while let Ok(1..) = peer.socket.read(&mut [0; 4096]) {}
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The steps reach the rings: what is in the corpus as a frame is carried.
    #[test]
    fn a_frame_in_a_ring_is_carried() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/vhost");
        let input = fs::read(corpus.join("frame")).expect("an input");
        let lan = Lan::new();
        let (guest, socket) = lan.attach("guest0", Framing::VhostUser);
        let mut peer = Peer::new(socket);
        peer.begin();
        peer.follow(&input[1..]);
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while guest.report().frames_in == 0 {
            assert!(std::time::Instant::now() < give_up, "{}", guest.report());
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(guest.detach().drops, 0);
    }
}
