//! Packet sockets (packet(7)): their options, their messages, and the ring that one has together with the kernel. What
//! needs `unsafe` for them, and what goes with it.
//!
//! The ring is of the second kind (`TPACKET_V2`): a frame can be taken as soon as it is there. Of the third kind, a frame
//! can be taken once its block is full or a timer of at least a millisecond has run out, which each quiet request and
//! each quiet reply would wait for.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of the virtio-net header in front of the frames of a packet socket (`struct virtio_net_hdr`).
pub(crate) const PACKET_HEADER_LEN: usize = 10;
/// That what this host sends is not received as well (`linux/if_packet.h`).
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// What came of a system call that says -1.
fn outcome(said: isize) -> rustix::io::Result<usize> {
    usize::try_from(said).map_err(|_| {
        let errno = io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))
    })
}

/// Sets an option of a socket. `T` is what the kernel reads there.
fn set_option<T: Copy>(
    socket: &OwnedFd,
    (level, option): (c_int, c_int),
    value: &T,
) -> rustix::io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which has as many.
    let said = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(value).cast(),
            len,
        )
    };
    outcome(said as isize).map(drop)
}

/// Has a packet socket say what a frame leaves undone and which tag it had, and not receive what this host sends.
pub(crate) fn set_packet_options(socket: &OwnedFd) -> rustix::io::Result<()> {
    let on: c_int = 1;
    set_option(socket, (libc::SOL_PACKET, libc::PACKET_VNET_HDR), &on)?;
    set_option(socket, (libc::SOL_PACKET, libc::PACKET_AUXDATA), &on)?;
    set_option(socket, (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING), &on)
}

/// Has an interface receive what is for others, too, for as long as the socket is there.
pub(crate) fn receive_everything(socket: &OwnedFd, index: u32) -> rustix::io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: index as c_int,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(
        socket,
        (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP),
        &membership,
    )
}

/// Binds a packet socket to all frames of an interface.
pub(crate) fn bind_to_interface(socket: &OwnedFd, index: u32) -> rustix::io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `address`, which has as many.
    let said = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
    outcome(said as isize).map(drop)
}

/// What a packet socket says of a frame.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) header: [u8; PACKET_HEADER_LEN],
    /// The VLAN tag that was taken off it, as it was in the frame.
    pub(crate) tag: Option<[u8; 4]>,
    /// All of it is there.
    pub(crate) is_whole: bool,
}

/// Reads the next frame of a packet socket into the free part of `buf`.
pub(crate) fn receive_packet(socket: &OwnedFd, buf: &mut Vec<u8>) -> rustix::io::Result<Received> {
    let mut received = Received::default();
    // In units of its alignment; the message needs 40 bytes.
    let mut control = [0u64; 8];
    let spare = buf.spare_capacity_mut();
    let mut slices = [
        libc::iovec {
            iov_base: received.header.as_mut_ptr().cast(),
            iov_len: PACKET_HEADER_LEN,
        },
        libc::iovec {
            iov_base: spare.as_mut_ptr().cast(),
            iov_len: spare.len(),
        },
    ];
    // SAFETY: of this structure of numbers and pointers, zeros are a value: that there is nothing.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = slices.as_mut_ptr();
    message.msg_iovlen = slices.len() as _;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message has the addresses and lengths of two buffers and of `control`, which are there
    // until this returns, and which nobody else has.
    let said = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, 0) };
    let read = outcome(said)?.saturating_sub(PACKET_HEADER_LEN);
    // SAFETY: the kernel has written that many bytes there, of at most as many as are free.
    unsafe { buf.set_len(buf.len() + read) };
    received.is_whole = message.msg_flags & libc::MSG_TRUNC == 0;
    // SAFETY: the kernel has filled `control`, and said in `message` how far.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !next.is_null() {
        // SAFETY: it points to a header in `control`, behind which is as much as its length says. What is
        // there may be less aligned than its type, and is copied.
        unsafe {
            let data = libc::CMSG_DATA(next);
            if ((*next).cmsg_level, (*next).cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                let about = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                received.tag = tag_of(about.tp_status, about.tp_vlan_tpid, about.tp_vlan_tci);
            }
            next = libc::CMSG_NXTHDR(&message, next);
        }
    }
    Ok(received)
}

/// The VLAN tag that the kernel has taken off.
fn tag_of(status: u32, tpid: u16, tci: u16) -> Option<[u8; 4]> {
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let kind = match status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => tpid,
    };
    let [[a, b], [c, d]] = [kind.to_be_bytes(), tci.to_be_bytes()];
    Some([a, b, c, d])
}

/// Reads an option of a socket. `T` is what the kernel writes there, for which all bytes are values.
fn option<T: Copy + Default>(
    socket: &OwnedFd,
    (level, option): (c_int, c_int),
) -> rustix::io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes of `value`, which has as many.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_mut(&mut value).cast(),
            &mut len,
        )
    };
    outcome(said as isize).map(|_| value)
}

/// Frames that were not received for want of room, since the last call.
pub(crate) fn take_dropped(socket: &OwnedFd) -> rustix::io::Result<u32> {
    // `struct tpacket_stats`: frames, and those that were dropped.
    let [_, dropped]: [u32; 2] = option(socket, (libc::SOL_PACKET, libc::PACKET_STATISTICS))?;
    Ok(dropped)
}

/// Has sockets share what comes in, each flow at one of them. They are bound to the same interface.
pub(crate) fn share_flows(sockets: &[&OwnedFd]) -> rustix::io::Result<()> {
    const FANOUT: (c_int, c_int) = (libc::SOL_PACKET, libc::PACKET_FANOUT);
    let Some((first, others)) = sockets.split_first() else {
        return Ok(());
    };
    let kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    let new = kind | libc::PACKET_FANOUT_FLAG_UNIQUEID;
    set_option(first, FANOUT, &(new << 16))?;
    let group = option::<u32>(first, FANOUT)? & 0xffff;
    for other in others {
        set_option(other, FANOUT, &(kind << 16 | group))?;
    }
    Ok(())
}

/// Has a socket receive nothing.
pub(crate) fn be_deaf(socket: &OwnedFd) -> rustix::io::Result<()> {
    let mut nothing = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    // The kernel makes a copy of the program.
    let program = libc::sock_fprog {
        len: 1,
        filter: &mut nothing,
    };
    set_option(socket, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &program)
}

/// Has it receive again.
pub(crate) fn hear(socket: &OwnedFd) -> rustix::io::Result<()> {
    let whatever: c_int = 0;
    set_option(
        socket,
        (libc::SOL_SOCKET, libc::SO_DETACH_FILTER),
        &whatever,
    )
}

/// Bytes of frames in a ring, with what is said of them.
const RING_LEN: usize = 4 << 20;
/// What the kernel allocates a ring in.
const BLOCK_LEN: usize = 64 << 10;
/// What is in front of a frame in its slot, at most: what is said of it, the virtio-net header, and what aligns them.
const IN_FRONT: usize = 128;
/// A slot's length is a power of two from here to here.
const SLOT_LENS: (usize, usize) = (2048, 16_384);

/// Frames that the kernel has put where this process can read them without a call.
pub(crate) struct Ring {
    slots: *mut u8,
    slot_len: usize,
    /// The slot that is looked at next.
    next: usize,
}

// SAFETY: the memory is this value's alone, but for the kernel.
unsafe impl Send for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and slots do not outlive the borrow that they are.
        let _ = unsafe { munmap(self.slots.cast(), RING_LEN) };
    }
}

impl Ring {
    /// The ring of a socket that is not bound yet, for frames of up to so many bytes. Longer ones are received by
    /// [`receive_packet`] in their turn.
    pub(crate) fn new(socket: &OwnedFd, frame_len: usize) -> rustix::io::Result<Ring> {
        let (least, most) = SLOT_LENS;
        let slot_len = (frame_len + IN_FRONT)
            .next_power_of_two()
            .clamp(least, most);
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        set_option(socket, (libc::SOL_PACKET, libc::PACKET_VERSION), &version)?;
        let keep_longer: c_int = 1;
        let option = (libc::SOL_PACKET, libc::PACKET_COPY_THRESH);
        set_option(socket, option, &keep_longer)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_LEN as u32,
            tp_block_nr: (RING_LEN / BLOCK_LEN) as u32,
            tp_frame_size: slot_len as u32,
            tp_frame_nr: (RING_LEN / slot_len) as u32,
        };
        set_option(socket, (libc::SOL_PACKET, libc::PACKET_RX_RING), &request)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: it is new memory, at a place that the kernel chooses.
        let slots = unsafe {
            mmap(
                ptr::null_mut(),
                RING_LEN,
                access,
                MapFlags::SHARED,
                socket.as_fd(),
                0,
            )
        }?;
        Ok(Ring {
            slots: slots.cast(),
            slot_len,
            next: 0,
        })
    }

    /// The next frame, if there is one.
    pub(crate) fn next(&mut self) -> Option<Slot<'_>> {
        let slot = Slot { ring: self };
        match slot.status().load(Ordering::Acquire) & libc::TP_STATUS_USER {
            0 => {
                // It stays the kernel's.
                mem::forget(slot);
                None
            }
            _ => Some(slot),
        }
    }
}

/// A slot with a frame in it. Dropping it gives it back.
pub(crate) struct Slot<'a> {
    ring: &'a mut Ring,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.next = (self.ring.next + 1) % (RING_LEN / self.ring.slot_len);
    }
}

impl Slot<'_> {
    fn start(&self) -> *mut u8 {
        // SAFETY: the ring has that slot: blocks are as long as a number of slots, and follow each other.
        unsafe { self.ring.slots.add(self.ring.next * self.ring.slot_len) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot begins with its status, aligned, which the kernel writes, too: as one number.
        unsafe { AtomicU32::from_ptr(self.start().cast()) }
    }

    fn about(&self) -> libc::tpacket2_hdr {
        // SAFETY: the slot begins with this. The kernel does not write there before it has it back.
        unsafe { self.start().cast::<libc::tpacket2_hdr>().read() }
    }

    /// The frame is too long for the slot, and is received by [`receive_packet`] next.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.about().tp_status & libc::TP_STATUS_COPY != 0
    }

    /// Frames were dropped since it was last asked for how many ([`take_dropped`]).
    pub(crate) fn is_losing(&self) -> bool {
        self.about().tp_status & libc::TP_STATUS_LOSING != 0
    }

    /// What is said of the frame, and the frame; `None` when it is not there as a whole.
    pub(crate) fn frame(&self) -> Option<(Received, &[u8])> {
        let about = self.about();
        let (at, len) = (usize::from(about.tp_mac), about.tp_snaplen as usize);
        let header_at = at.checked_sub(PACKET_HEADER_LEN)?;
        let is_there = header_at >= size_of_val(&about)
            && len <= self.ring.slot_len - at.min(self.ring.slot_len);
        if !is_there || about.tp_len != about.tp_snaplen {
            return None;
        }
        // SAFETY: these bytes are in the slot, which the kernel does not write to before it has it back.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.start().add(header_at), PACKET_HEADER_LEN + len)
        };
        let (header, frame) = bytes.split_first_chunk()?;
        let received = Received {
            header: *header,
            tag: tag_of(about.tp_status, about.tp_vlan_tpid, about.tp_vlan_tci),
            is_whole: true,
        };
        Some((received, frame))
    }
}
