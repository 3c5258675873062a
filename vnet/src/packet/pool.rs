//! Where bytes copied at the socket edge live.
//!
//! A copy goes into a chunk of up to 64 KiB; the payload refers to it and the chunk returns to its
//! pool when the last reference is gone. Without the pool a bulk transfer would have the allocator
//! map and unmap memory all the time, and a page fault costs more than the copy.
//!
//! Buffers are limited by the bytes that are written into them, so a chunk must not be much larger
//! than what it is for: there are four sizes to each doubling, and no copy holds more than a quarter
//! of its bytes besides.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

/// Bytes in the largest chunk.
pub(crate) const CHUNK: usize = 64 * 1024;
/// Up to this an exact allocation is cheaper than a chunk and wastes nothing.
const SMALL: usize = 4 * 1024;
/// Sizes of chunks to each doubling from [`SMALL`] on.
const STEPS: usize = 4;
/// Sizes of chunks.
const SIZES: usize = STEPS * (CHUNK / SMALL).ilog2() as usize;
/// Idle chunks that are kept of each size but the largest, which is that of bulk transfers.
const IDLE_ODD: usize = 4;

/// A bounded store of idle chunks. Cheap to clone; clones share the store.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    idle: Arc<[Store; SIZES]>,
}

/// Idle chunks of one size.
type Store = ArrayQueue<Box<[u8]>>;

impl Pool {
    /// A pool that keeps at most `idle_bytes` of memory in its largest chunks, and some smaller ones,
    /// that nobody uses.
    pub(crate) fn new(idle_bytes: usize) -> Pool {
        let store = |index| match index + 1 {
            SIZES => ArrayQueue::new((idle_bytes / CHUNK).max(1)),
            _ => ArrayQueue::new(IDLE_ODD),
        };
        Pool {
            idle: Arc::new(std::array::from_fn(store)),
        }
    }

    /// Copies `data`, at most [`CHUNK`] bytes of it, and returns the copy.
    pub(crate) fn copy(&self, data: &[u8]) -> Bytes {
        let data = &data[..data.len().min(CHUNK)];
        if data.len() <= SMALL {
            return Bytes::copy_from_slice(data);
        }
        let (index, size) = class(data.len());
        let mut chunk = self.idle[index]
            .pop()
            .unwrap_or_else(|| vec![0; size].into_boxed_slice());
        chunk[..data.len()].copy_from_slice(data);
        Bytes::from_owner(Lent {
            chunk,
            len: data.len(),
            index,
            home: self.clone(),
        })
    }

    /// Chunks that nobody uses at the moment.
    #[cfg(test)]
    pub(crate) fn idle_chunks(&self) -> usize {
        self.idle.iter().map(ArrayQueue::len).sum()
    }
}

/// The number and the size of the smallest chunk for `len` bytes, more than [`SMALL`] and at most
/// [`CHUNK`].
fn class(len: usize) -> (usize, usize) {
    let doubling = ((len - 1) / SMALL).ilog2() as usize;
    let (base, step) = (SMALL << doubling, (SMALL << doubling) / STEPS);
    let steps = (len - base).div_ceil(step);
    (doubling * STEPS + steps - 1, base + steps * step)
}

struct Lent {
    chunk: Box<[u8]>,
    len: usize,
    index: usize,
    home: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.chunk[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A full store means enough memory is idle already: this chunk is freed.
        let _ = self.home.idle[self.index].push(std::mem::take(&mut self.chunk));
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

    #[test]
    fn a_chunk_is_no_more_than_a_quarter_larger_than_what_is_in_it() {
        let mut seen = std::collections::BTreeMap::new();
        for len in SMALL + 1..=CHUNK {
            let (index, size) = class(len);
            assert!(len <= size && size <= len + len / 4 + 1, "{len} in {size}");
            assert_eq!(*seen.entry(index).or_insert(size), size);
        }
        assert_eq!(
            seen.keys().copied().collect::<Vec<_>>(),
            Vec::from_iter(0..SIZES)
        );
        assert_eq!(seen[&(SIZES - 1)], CHUNK);
        // A chunk goes back to those of its size.
        let pool = Pool::new(4 * CHUNK);
        for len in [5_000, 50_000, 5_000, 50_000] {
            assert_eq!(&pool.copy(&vec![1; len])[..], &vec![1; len]);
        }
        assert_eq!(pool.idle_chunks(), 2);
    }
}
