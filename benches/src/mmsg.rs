//! Many datagrams by one call of the kernel's: `sendmmsg(2)` and `recvmmsg(2)`.

use std::io::{self, IoSlice};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags};

/// Sends datagrams to the peer of a connected socket, and returns how many were sent.
pub(crate) fn send(socket: &UdpSocket, datagrams: &[impl AsRef<[u8]>]) -> io::Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> = datagrams
        .iter()
        .map(|d| [IoSlice::new(d.as_ref())])
        .collect();
    let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> = datagrams
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<MMsgHdr<'_>> = slices
        .iter()
        .zip(&mut nothing)
        .map(|(slice, nothing)| MMsgHdr::new(slice, nothing))
        .collect();
    Ok(rustix::net::sendmmsg(
        socket,
        &mut messages,
        SendFlags::empty(),
    )?)
}

/// Room for datagrams, which is used again and again.
pub(crate) struct Room {
    len: usize,
    bytes: Vec<u8>,
    lens: Vec<usize>,
    headers: Vec<libc::mmsghdr>,
    slices: Vec<libc::iovec>,
}

impl Room {
    /// Room for `count` datagrams of at most `len` bytes.
    pub(crate) fn new(count: usize, len: usize) -> Room {
        Room {
            len,
            bytes: vec![0; count * len],
            lens: Vec::with_capacity(count),
            headers: Vec::with_capacity(count),
            slices: Vec::with_capacity(count),
        }
    }

    /// Waits for a datagram, and takes as many as there are and have room; returns them.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
    ) -> io::Result<impl Iterator<Item = &[u8]>> {
        self.slices.clear();
        self.headers.clear();
        for room in self.bytes.chunks_mut(self.len) {
            self.slices.push(libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            });
        }
        for slice in &mut self.slices {
            self.headers.push(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: ptr::null_mut(),
                    msg_namelen: 0,
                    msg_iov: slice,
                    msg_iovlen: 1,
                    msg_control: ptr::null_mut(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        let count = libc::c_uint::try_from(self.headers.len()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open as long as `socket` is borrowed. There are `count` headers, each with one slice
        // of `self.slices`, which points to bytes of its own in `self.bytes`; nothing of these moves or is used
        // otherwise during the call, and the other pointers are null with a length of zero. No time limit is given.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.lens.clear();
        let lens = self.headers[..received].iter().map(|h| h.msg_len as usize);
        self.lens.extend(lens);
        Ok(self
            .bytes
            .chunks(self.len)
            .zip(&self.lens)
            .map(|(bytes, len)| &bytes[..*len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_datagrams_arrive_as_they_were_sent() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (near, far) = (bind(), bind());
        near.connect(far.local_addr().unwrap()).unwrap();
        assert_eq!(send(&near, &[&b"one"[..], b"", b"three"]).unwrap(), 3);
        let mut room = Room::new(2, 4);
        let mut came: Vec<Vec<u8>> = Vec::new();
        while came.len() < 3 {
            came.extend(room.receive(&far).unwrap().map(<[u8]>::to_vec));
        }
        assert_eq!(came, [&b"one"[..], b"", b"thre"]);
    }
}
