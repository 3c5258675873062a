//! Memory for frames from the host, used again once nobody refers to it.
//!
//! A large frame is handed on in the buffer that it was read into. Fresh memory for each costs more
//! than the frame: the allocator gives it back to the kernel, which zeroes it for the next one.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

use crate::line::{HEADER_LEN, MAX_FRAME_LEN};

/// Buffers kept for later: as many as may well be on their way through a vnet, 4 MiB.
const KEPT: usize = 64;

/// Bytes in a frame up to which it is copied out of its buffer. A larger one refers to at most four
/// times the memory that it needs.
const COPIED: usize = MAX_FRAME_LEN / 4;

pub(crate) struct Buffers {
    free: Arc<ArrayQueue<Vec<u8>>>,
    /// For the next frame.
    next: Vec<u8>,
}

/// A buffer with a frame in it, which goes back when the last reference is gone.
struct Lent {
    bytes: Vec<u8>,
    home: Weak<ArrayQueue<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            // One more than are kept is freed.
            let _ = home.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers {
            free: Arc::new(ArrayQueue::new(KEPT)),
            next: Vec::new(),
        }
    }

    /// The next frame, as `read` puts it into the free part of what it is given; `None` when it says
    /// that there is none.
    pub(crate) fn read(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<bool>,
    ) -> io::Result<Option<Bytes>> {
        if self.next.capacity() == 0 {
            self.next = self.free.pop().unwrap_or_default();
        }
        self.next.clear();
        self.next.reserve_exact(HEADER_LEN + MAX_FRAME_LEN);
        if !read(&mut self.next)? {
            return Ok(None);
        }
        if self.next.len() <= COPIED {
            return Ok(Some(Bytes::copy_from_slice(&self.next)));
        }
        Ok(Some(Bytes::from_owner(Lent {
            bytes: std::mem::take(&mut self.next),
            home: Arc::downgrade(&self.free),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_as_long_as_there_is_room_for_it() {
        let buffers = Buffers::new();
        let lend = || {
            Bytes::from_owner(Lent {
                bytes: vec![7; 100],
                home: Arc::downgrade(&buffers.free),
            })
        };
        let frame = lend();
        let part = frame.slice(5..9);
        drop(frame);
        assert_eq!((buffers.free.len(), &part[..]), (0, &[7; 4][..]));
        drop(part);
        assert_eq!(buffers.free.len(), 1);
        let many: Vec<_> = (0..2 * KEPT).map(|_| lend()).collect();
        drop(many);
        assert_eq!(buffers.free.len(), KEPT);
        let last = lend();
        drop(buffers);
        drop(last);
    }
}
