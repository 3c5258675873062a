//! An allocator that counts what is allocated, when it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The system's allocator. As long as nobody asks, a call costs it one read of a word that does not change.
#[derive(Debug)]
pub struct Counted {
    is_counting: AtomicBool,
    bytes: AtomicI64,
}

impl Counted {
    /// One that does not count yet.
    pub const fn new() -> Counted {
        Counted {
            is_counting: AtomicBool::new(false),
            bytes: AtomicI64::new(0),
        }
    }

    /// Counts from now on, or stops. What is freed while it counts is taken off, whenever it was allocated.
    pub fn count(&self, on: bool) {
        self.is_counting.store(on, Ordering::Relaxed);
    }

    /// Bytes that were asked for while it counted, less those that were freed meanwhile.
    pub fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize, sign: i64) {
        if self.is_counting.load(Ordering::Relaxed) {
            self.bytes.fetch_add(sign * bytes as i64, Ordering::Relaxed);
        }
    }
}

impl Default for Counted {
    fn default() -> Counted {
        Counted::new()
    }
}

// SAFETY: each method hands its arguments on to the same method of the system's allocator, and returns what that
// returns; counting touches nothing but two atomics, and allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size(), 1);
        // SAFETY: the caller keeps to the contract of `alloc`, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.add(layout.size(), -1);
        // SAFETY: the block is one of `System`'s, as all are; the layout is the caller's duty.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size(), 1);
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.add(size, 1);
        self.add(layout.size(), -1);
        // SAFETY: as for `dealloc`; the new size is the caller's duty.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_is_held_and_only_when_told_to() {
        let counted = Counted::new();
        let of = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layouts are those of the blocks, no size is zero, and no block is used after it is freed.
        unsafe {
            let before = counted.alloc(of(100));
            assert_eq!(counted.bytes(), 0);
            counted.count(true);
            let block = counted.alloc(of(40));
            let zeroed = counted.alloc_zeroed(of(8));
            let block = counted.realloc(block, of(40), 4000);
            assert_eq!(counted.bytes(), 4008);
            counted.dealloc(block, of(4000));
            counted.dealloc(zeroed, of(8));
            assert_eq!(counted.bytes(), 0);
            counted.dealloc(before, of(100));
            assert_eq!(counted.bytes(), -100);
        }
    }
}
