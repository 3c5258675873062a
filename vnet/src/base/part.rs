//! Which part of a simulation this thread carries out by itself, what time it is there, and what the thread keeps for
//! other parts.

use std::any::Any;
use std::cell::{Cell, RefCell};

use super::time::Instant;

thread_local! {
    /// The number of the part, from 1 on.
    static PART: Cell<u32> = const { Cell::new(0) };
    /// The address of the driver whose part it is.
    static OF: Cell<usize> = const { Cell::new(0) };
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// Of what type is decided by those who know what goes from part to part.
    static KEPT: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// This thread carries out this part of the world of `driver` from now on; none, if it is zero.
pub(crate) fn set<D>(driver: &D, part: u32) {
    OF.set(std::ptr::from_ref(driver).addr());
    PART.set(part);
}

/// True when it carries out a part of the world of `driver`.
#[cold]
pub(crate) fn is_of<D>(driver: &D) -> bool {
    PART.get() != 0 && OF.get() == std::ptr::from_ref(driver).addr()
}

/// True when it carries out a part, but not `part`, which is zero of whatever is in no part.
#[inline(always)]
pub(crate) fn is_elsewhere(part: u32) -> bool {
    part != 0 && is_in_another(part)
}

#[cold]
fn is_in_another(part: u32) -> bool {
    let here = PART.get();
    here != 0 && here != part
}

/// True when it carries out a part of any world.
pub(crate) fn is_any() -> bool {
    PART.get() != 0
}

/// The time of the part.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(NOW.get())
}

/// Sets the clock of the part.
pub(crate) fn set_now(at: Instant) {
    NOW.set(at.as_nanos());
}

/// Moves the clock of the part to `at`, unless it is later there.
pub(crate) fn reach(at: Instant) {
    NOW.set(NOW.get().max(at.as_nanos()));
}

/// What a thread keeps for other parts, by the number of the part.
struct Kept<T> {
    parts: Vec<Vec<T>>,
    count: usize,
    bytes: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept {
            parts: Vec::new(),
            count: 0,
            bytes: 0,
        }
    }
}

/// What this thread keeps; nothing at first. There is one type of it in the library.
fn with_kept<T: 'static, R>(f: impl FnOnce(&mut Kept<T>) -> R) -> R {
    KEPT.with_borrow_mut(|kept| {
        let kept = kept.get_or_insert_with(|| Box::new(Kept::<T>::default()));
        f(kept.downcast_mut().expect("all keep the same type"))
    })
}

/// Keeps something of so many bytes for another part.
pub(crate) fn keep<T: 'static>(part: u32, bytes: usize, what: T) {
    let part = part as usize;
    with_kept(|kept: &mut Kept<T>| {
        if kept.parts.len() <= part {
            kept.parts.resize_with(part + 1, Vec::new);
        }
        kept.count += 1;
        kept.bytes += bytes;
        kept.parts[part].push(what);
    });
}

/// Takes what this thread has for a part, and leaves `room` in its place.
pub(crate) fn take<T: 'static>(part: u32, room: Vec<T>) -> Vec<T> {
    with_kept(|kept: &mut Kept<T>| {
        (kept.count, kept.bytes) = (0, 0);
        match kept.parts.get_mut(part as usize) {
            Some(those) => std::mem::replace(those, room),
            None => room,
        }
    })
}

/// How much this thread keeps for all other parts: how many things, and how many bytes.
pub(crate) fn kept<T: 'static>() -> (usize, usize) {
    with_kept(|kept: &mut Kept<T>| (kept.count, kept.bytes))
}
