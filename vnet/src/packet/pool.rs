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

use crate::base::lock::{Mutex, Rank};

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

/// Idle chunks of one size. The one that came back last is lent first: it is still in a processor's
/// cache, where a transfer that needs few of them at a time then stays.
#[derive(Debug)]
struct Store {
    chunks: Mutex<Vec<Box<[u8]>>>,
    most: usize,
}

impl Store {
    fn new(most: usize) -> Store {
        Store {
            chunks: Mutex::new(Rank::Pool, Vec::new()),
            most,
        }
    }

    fn take(&self) -> Option<Box<[u8]>> {
        self.chunks.lock().pop()
    }

    /// Keeps a chunk, or returns it to be freed: enough memory is idle already.
    fn keep(&self, chunk: Box<[u8]>) -> Option<Box<[u8]>> {
        let mut chunks = self.chunks.lock();
        if chunks.len() >= self.most {
            return Some(chunk);
        }
        chunks.push(chunk);
        None
    }
}

impl Pool {
    /// A pool that keeps at most `idle_bytes` of memory in its largest chunks, and some smaller ones,
    /// that nobody uses.
    pub(crate) fn new(idle_bytes: usize) -> Pool {
        let store = |index| match index + 1 {
            SIZES => Store::new((idle_bytes / CHUNK).max(1)),
            _ => Store::new(IDLE_ODD),
        };
        Pool {
            idle: Arc::new(std::array::from_fn(store)),
        }
    }

    /// Copies the first `len` bytes, at most [`CHUNK`], of `parts`, which are one behind the other, and
    /// returns the copy.
    pub(crate) fn copy<'a>(&self, len: usize, parts: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
        let len = len.min(CHUNK);
        let mut parts = parts.into_iter();
        if len <= SMALL {
            let mut copy = Vec::with_capacity(len);
            while copy.len() < len
                && let Some(part) = parts.next()
            {
                copy.extend_from_slice(&part[..part.len().min(len - copy.len())]);
            }
            return copy.into();
        }
        let (index, size) = class(len);
        let mut chunk = self.idle[index]
            .take()
            .unwrap_or_else(|| vec![0; size].into_boxed_slice());
        let mut done = 0;
        while done < len
            && let Some(part) = parts.next()
        {
            let take = part.len().min(len - done);
            chunk[done..done + take].copy_from_slice(&part[..take]);
            done += take;
        }
        Bytes::from_owner(Lent {
            chunk,
            len: done,
            index,
            home: self.clone(),
        })
    }

    /// Chunks that nobody uses at the moment.
    #[cfg(test)]
    pub(crate) fn idle_chunks(&self) -> usize {
        self.idle.iter().map(|s| s.chunks.lock().len()).sum()
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
        // What does not fit is freed here, without the lock.
        drop(self.home.idle[self.index].keep(std::mem::take(&mut self.chunk)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_when_the_last_slice_is_gone() {
        let pool = Pool::new(4 * CHUNK);
        let copy = pool.copy(100_000, [&[9; 100_000][..]]);
        assert_eq!(copy.len(), CHUNK);
        let part = copy.slice(10..20);
        drop(copy);
        assert_eq!(pool.idle_chunks(), 0);
        assert_eq!(&part[..], &[9; 10]);
        drop(part);
        assert_eq!(pool.idle_chunks(), 1);
    }

    #[test]
    fn the_chunk_that_came_back_last_is_lent_first_and_there_are_no_more_than_asked_for() {
        let pool = Pool::new(2 * CHUNK);
        let data = [5; CHUNK];
        let copies = [(); 3].map(|()| pool.copy(CHUNK, [&data[..]]));
        let places = copies.each_ref().map(|copy| copy.as_ptr());
        for copy in copies {
            drop(copy);
        }
        assert_eq!(pool.idle_chunks(), 2, "the third is freed");
        let again = [(); 2].map(|()| pool.copy(CHUNK, [&data[..]]));
        assert_eq!(again.each_ref().map(|c| c.as_ptr()), [places[1], places[0]]);
    }

    #[test]
    fn a_copy_of_several_parts_has_as_many_of_their_bytes_as_were_asked_for() {
        let pool = Pool::new(CHUNK);
        let data: Vec<u8> = (0..CHUNK).map(|n| n as u8).collect();
        for len in [0, 1, 9, SMALL, SMALL + 1, 40_000, CHUNK] {
            for cuts in [vec![], vec![0], vec![3, 3, 8], vec![5, SMALL, 30_000]] {
                let mut parts = Vec::new();
                let mut from = 0;
                for to in cuts.into_iter().chain([CHUNK]) {
                    parts.push(&data[from..to]);
                    from = to;
                }
                assert_eq!(&pool.copy(len, parts)[..], &data[..len]);
            }
        }
        assert_eq!(&pool.copy(10_000, [&data[..6_000]])[..], &data[..6_000]);
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
            let data = vec![1; len];
            assert_eq!(&pool.copy(len, [&data[..]])[..], &data);
        }
        assert_eq!(pool.idle_chunks(), 2);
    }
}
