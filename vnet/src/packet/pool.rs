//! Where bytes copied at the socket edge live.
//!
//! A copy goes into a 64 KiB chunk; the payload refers to it and the chunk returns to its pool
//! when the last reference is gone. Without the pool a bulk transfer would have the allocator
//! map and unmap memory all the time, and a page fault costs more than the copy.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

/// Bytes in one chunk.
pub const CHUNK: usize = 64 * 1024;
/// Below this an exact allocation is cheaper than a chunk and wastes nothing.
const SMALL: usize = 4 * 1024;

/// A bounded store of idle chunks. Cheap to clone; clones share the store.
#[derive(Clone, Debug)]
pub struct Pool {
    idle: Arc<ArrayQueue<Box<[u8]>>>,
}

impl Pool {
    /// A pool that keeps at most `idle_bytes` of memory that nobody uses.
    pub fn new(idle_bytes: usize) -> Pool {
        Pool {
            idle: Arc::new(ArrayQueue::new((idle_bytes / CHUNK).max(1))),
        }
    }

    /// Copies `data`, at most [`CHUNK`] bytes of it, and returns the copy.
    pub fn copy(&self, data: &[u8]) -> Bytes {
        let data = &data[..data.len().min(CHUNK)];
        if data.len() <= SMALL {
            return Bytes::copy_from_slice(data);
        }
        let mut chunk = self
            .idle
            .pop()
            .unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        chunk[..data.len()].copy_from_slice(data);
        Bytes::from_owner(Lent {
            chunk,
            len: data.len(),
            home: Arc::clone(&self.idle),
        })
    }

    /// Chunks that nobody uses at the moment.
    pub fn idle_chunks(&self) -> usize {
        self.idle.len()
    }
}

struct Lent {
    chunk: Box<[u8]>,
    len: usize,
    home: Arc<ArrayQueue<Box<[u8]>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.chunk[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A full store means enough memory is idle already: this chunk is freed.
        let _ = self.home.push(std::mem::take(&mut self.chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_when_the_last_slice_is_gone() {
        let pool = Pool::new(4 * CHUNK);
        let copy = pool.copy(&[9; 100_000]);
        assert_eq!(copy.len(), CHUNK);
        let part = copy.slice(10..20);
        drop(copy);
        assert_eq!(pool.idle_chunks(), 0);
        assert_eq!(&part[..], &[9; 10]);
        drop(part);
        assert_eq!(pool.idle_chunks(), 1);
    }
}
