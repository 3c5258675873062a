//! The current vnet of a thread: FreeBSD's `curvnet` with the rules enforced.
//!
//! Entering costs no atomic operation: the guard borrows the handle, so the vnet outlives the
//! guard. A guard that is *forgotten* (`mem::forget`) ends its borrow without restoring anything;
//! for that case the thread keeps a reference to each vnet it has entered, taken on the first
//! entry only. They are released when the thread, in no vnet, enters a further one or destroys one
//! of them; but no longer once a guard was dropped out of order or outlived the call of the library
//! in which it was made, because such a guard may bring back what was current long ago.
//!
//! Where a thread entered is kept in its *trail*, which other threads can read: a slot for each
//! guard that stands, two plain stores on the way in and one on the way out.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use super::cores::{SystemCore, VnetCore};
use super::trail::{Slot, TRAIL_LEN, Trail};
use super::vnet::Vnet;

/// References kept by a thread that is in no vnet before it lets all of them go.
const KEPT_MAX: usize = 8;

struct Current {
    /// The current vnet, or null. Points into an `Arc` that `KEPT` holds, or that the caller of
    /// [`within`] borrows for as long as the pointer stands here.
    core: Cell<*const VnetCore>,
    /// Guards that stand.
    depth: Cell<u32>,
    /// The vnet entered last; it is in `KEPT`. Null inside [`within`], whose vnet need not be there.
    last: Cell<*const VnetCore>,
    /// Some guard did not keep to the order: what it remembers must stay.
    disordered: Cell<bool>,
    /// The trail in `KEPT`, once there is one; null again when `KEPT` is gone.
    trail: Cell<*const Trail>,
    /// Which vnets this thread may enter.
    locked: Cell<Hold>,
    /// This thread carries out the effects of an entry: it is in somebody's callback.
    in_effects: Cell<bool>,
    /// There is something in `DEFERRED`.
    deferred: Cell<bool>,
}

/// What keeps a thread from entering a vnet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing.
    Free,
    /// It carries out a part of a simulation, and the vnet may be in another one.
    Part,
    /// It holds the lock of a vnet.
    Locked,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            core: Cell::new(ptr::null()),
            depth: Cell::new(0),
            last: Cell::new(ptr::null()),
            disordered: Cell::new(false),
            trail: Cell::new(ptr::null()),
            locked: Cell::new(Hold::Free),
            in_effects: Cell::new(false),
            deferred: Cell::new(false),
        }
    };
    static KEPT: Kept = const {
        Kept {
            cores: RefCell::new(Vec::new()),
            trail: RefCell::new(None),
            systems: RefCell::new(Vec::new()),
        }
    };
}

thread_local! {
    /// Vnets to be destroyed once this thread holds no lock.
    static DEFERRED: Deferred = const { Deferred(RefCell::new(Vec::new())) };
}

/// What is to be done when this thread has left the vnets that it is in.
type Afterwards = fn(&Arc<VnetCore>);

struct Deferred(RefCell<Vec<(Arc<VnetCore>, Afterwards)>>);

impl Drop for Deferred {
    fn drop(&mut self) {
        for (core, then) in self.0.take() {
            then(&core);
        }
    }
}

struct Kept {
    cores: RefCell<Vec<Arc<VnetCore>>>,
    /// Made by the first entry, and never replaced.
    trail: RefCell<Option<Arc<Trail>>>,
    /// The systems that know of the trail. A weak reference keeps the address from being reused.
    systems: RefCell<Vec<Weak<SystemCore>>>,
}

/// A thread's name, and where it entered a vnet in which it still is.
pub(crate) type Visit = (String, &'static Location<'static>);

/// The guards that stand in a vnet, in all threads, as far as can be seen from this one.
pub(crate) fn visits(core: &Arc<VnetCore>) -> Vec<Visit> {
    let trails: Vec<Arc<Trail>> = {
        let visitors = core.system.visitors.lock();
        visitors.iter().filter_map(Weak::upgrade).collect()
    };
    let mut visits = Vec::new();
    for trail in trails {
        for slot in &trail.slots {
            // The guard borrows the handle, so an address that stands here is not another's.
            if !ptr::eq(slot.core.load(Ordering::Acquire), Arc::as_ptr(core).cast()) {
                continue;
            }
            // SAFETY: `at` was stored, from a `&'static` reference, before `core` was, which has
            // been seen; whatever it was overwritten with since is such a reference as well.
            let at = unsafe { &*slot.at.load(Ordering::Relaxed) };
            visits.push((trail.thread.clone(), at));
        }
    }
    visits
}

impl Drop for Kept {
    fn drop(&mut self) {
        CURRENT.with(|c| {
            c.core.set(ptr::null());
            c.last.set(ptr::null());
            c.trail.set(ptr::null());
            // A guard that some other thread-local holds is not to restore anything.
            c.depth.set(0);
        });
    }
}

/// Keeps the entered vnet current until dropped; see [`Vnet::enter`].
#[must_use = "the vnet is current only while the guard lives"]
pub struct Entered<'a> {
    before: *const VnetCore,
    depth: u32,
    /// Borrows the handle; the raw pointer keeps the guard on its thread.
    handle: PhantomData<(&'a Vnet, *const ())>,
}

impl Vnet {
    /// Makes this vnet the current one of this thread until the guard is dropped.
    ///
    /// Guards nest, and are dropped in the opposite order of their making. What was current
    /// before is current again afterwards. Entering a vnet that is gone is allowed; operations in
    /// it fail with *gone*.
    ///
    /// # Panics
    /// The guard panics when it is dropped while one made after it still stands.
    ///
    /// ```
    /// use vnet::{System, Vnet};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// assert!(Vnet::current().is_none());
    /// {
    ///     let _a = a.enter();
    ///     {
    ///         let _b = b.enter();
    ///         assert_eq!(Vnet::current().unwrap().name(), "b");
    ///     }
    ///     assert_eq!(Vnet::current().unwrap().name(), "a");
    /// }
    /// assert!(Vnet::current().is_none());
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn enter(&self) -> Entered<'_> {
        self.enter_from(Location::caller())
    }

    /// Enters on behalf of whoever called from `at`.
    #[inline]
    pub(crate) fn enter_from(&self, at: &'static Location<'static>) -> Entered<'_> {
        let core = Arc::as_ptr(&self.core);
        CURRENT.with(|c| {
            if c.last.get() != core {
                keep(c, &self.core);
            }
            let depth = c.depth.get() + 1;
            c.depth.set(depth);
            if let Some(slot) = c.slot(depth) {
                slot.at
                    .store(ptr::from_ref(at).cast_mut(), Ordering::Relaxed);
                slot.core.store(core.cast_mut().cast(), Ordering::Release);
            }
            Entered {
                before: c.core.replace(core),
                depth,
                handle: PhantomData,
            }
        })
    }

    /// The current vnet of this thread, if there is one.
    pub fn current() -> Option<Vnet> {
        CURRENT.with(|c| {
            let core = c.core.get();
            if core.is_null() {
                return None;
            }
            // SAFETY: a non-null `core` points into an `Arc<VnetCore>` that is alive: either
            // `KEPT` holds it (by `keep`; emptied only when no guard is left that could set
            // `core` to it), or a caller of `within` further up this very stack borrows it. The
            // count is raised before `from_raw` takes one over.
            let core = unsafe {
                Arc::increment_strong_count(core);
                Arc::from_raw(core)
            };
            Some(Vnet::tenant(core))
        })
    }

    /// Makes this vnet the current one for every poll of `future`, wherever it is polled.
    ///
    /// ```
    /// use vnet::{System, Vnet};
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let name = system.block_on(a.scope(async { Vnet::current().unwrap().name().to_owned() }));
    /// assert_eq!(name.unwrap(), "a");
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    #[track_caller]
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + Unpin + use<F> {
        Scope {
            vnet: self.clone(),
            at: Location::caller(),
            future: Box::pin(future),
        }
    }
}

/// Runs `f` on the core of the current vnet without taking a reference. `f` runs no user code: it
/// must not enter or leave a vnet.
#[inline]
pub(crate) fn peek_current<R>(f: impl FnOnce(&VnetCore) -> R) -> Option<R> {
    CURRENT.with(|c| {
        let core = c.core.get();
        if core.is_null() {
            return None;
        }
        // SAFETY: as in `Vnet::current`: a non-null `core` is alive, and stays so while `f` runs,
        // which neither enters nor leaves a vnet.
        Some(f(unsafe { &*core }))
    })
}

/// Takes a reference for the thread, the first time it enters a vnet; and one to the vnet that the
/// guard will restore, if only a caller of [`within`] has that.
#[cold]
fn keep(c: &Current, core: &Arc<VnetCore>) {
    let before = Vnet::current();
    let mut old = Vec::new();
    KEPT.with(|kept| {
        let mut cores = kept.cores.borrow_mut();
        if c.is_unused() && cores.len() >= KEPT_MAX {
            old = std::mem::take(&mut *cores);
        }
        for core in before.iter().map(|v| &v.core).chain([core]) {
            if !cores.iter().any(|k| Arc::ptr_eq(k, core)) {
                cores.push(Arc::clone(core));
                kept.show_to(&core.system);
            }
        }
        c.trail.set(
            kept.trail
                .borrow()
                .as_ref()
                .map_or(ptr::null(), Arc::as_ptr),
        );
        c.last.set(Arc::as_ptr(core));
    });
    // A system may end with the last of its vnets: not while the list is borrowed.
    drop(old);
}

impl Kept {
    /// Makes this thread's trail known to a system, once.
    fn show_to(&self, system: &Arc<SystemCore>) {
        let mut systems = self.systems.borrow_mut();
        if systems
            .iter()
            .any(|s| ptr::eq(s.as_ptr(), Arc::as_ptr(system)))
        {
            return;
        }
        systems.retain(|s| s.strong_count() > 0);
        systems.push(Arc::downgrade(system));
        let mut trail = self.trail.borrow_mut();
        let trail = trail.get_or_insert_with(|| Arc::new(Trail::of_this_thread()));
        let mut visitors = system.visitors.lock();
        visitors.retain(|v| v.strong_count() > 0);
        visitors.push(Arc::downgrade(trail));
    }
}

/// Releases this thread's reference to a vnet that is gone, unless the thread is in some vnet.
pub(crate) fn let_go(core: &Arc<VnetCore>) {
    let _ = KEPT.try_with(|kept| {
        CURRENT.with(|c| {
            if c.is_unused() {
                c.last.set(ptr::null());
                kept.cores.borrow_mut().retain(|k| !Arc::ptr_eq(k, core));
            }
        });
    });
}

impl Current {
    /// True when no vnet is current and no guard is left that could make one current.
    fn is_unused(&self) -> bool {
        self.depth.get() == 0 && self.core.get().is_null() && !self.disordered.get()
    }

    /// Where others see the guard of that depth.
    #[inline]
    fn slot(&self, depth: u32) -> Option<&Slot> {
        // SAFETY: `trail` is null, or points to what `KEPT` of this thread holds, which nulls it
        // when it goes and never replaces what it holds.
        let trail = unsafe { self.trail.get().as_ref() }?;
        trail.slots.get((depth as usize).wrapping_sub(1))
    }

    /// Guards above `depth` do not stand any more.
    #[cold]
    fn forget_above(&self, depth: u32) {
        for above in depth + 1..=TRAIL_LEN as u32 {
            if let Some(slot) = self.slot(above) {
                slot.core.store(ptr::null_mut(), Ordering::Release);
            }
        }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|c| {
            let depth = c.depth.get();
            if depth < self.depth {
                // One made before this one is gone already, and has said so.
                return;
            }
            c.depth.set(self.depth - 1);
            c.core.set(self.before);
            if let Some(slot) = c.slot(self.depth) {
                slot.core.store(ptr::null_mut(), Ordering::Release);
            }
            if depth > self.depth {
                c.forget_above(self.depth);
                c.disordered.set(true);
                misuse();
            }
        });
    }
}

#[cold]
fn misuse() {
    if !std::thread::panicking() {
        panic!(
            "a vnet guard was dropped while one made after it still stands: \
             keep each `enter()` guard in its own block, so that they drop in reverse order"
        );
    }
}

/// Runs `f` with `core` current: for socket calls, deadlines and queued packets, each of which
/// runs in its own vnet whatever the caller's is.
#[inline]
pub(crate) fn within<R>(core: &Arc<VnetCore>, f: impl FnOnce() -> R) -> R {
    with_current(Arc::as_ptr(core), f)
}

/// Runs `f` with no vnet current, whatever the caller's is.
pub(crate) fn outside<R>(f: impl FnOnce() -> R) -> R {
    with_current(ptr::null(), f)
}

/// Runs `f` with `core` current, which is null or alive for as long as that takes.
#[inline]
fn with_current<R>(core: *const VnetCore, f: impl FnOnce() -> R) -> R {
    struct Restore {
        core: *const VnetCore,
        last: *const VnetCore,
        depth: u32,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|c| {
                c.core.set(self.core);
                c.last.set(self.last);
                if c.depth.replace(self.depth) != self.depth {
                    c.forget_above(self.depth);
                    c.disordered.set(true);
                }
            });
        }
    }
    let _restore = CURRENT.with(|c| Restore {
        core: c.core.replace(core),
        last: c.last.replace(ptr::null()),
        depth: c.depth.get(),
    });
    f()
}

/// As [`within`], and `f` takes the vnet's lock. `None` when this thread holds a vnet's lock
/// already and a panic is under way: whoever calls is a destructor, and the lock would never come.
///
/// # Panics
/// When this thread holds a vnet's lock already: it was called back with it, and calls a vnet.
#[inline]
pub(crate) fn within_lock<R>(core: &Arc<VnetCore>, f: impl FnOnce() -> R) -> Option<R> {
    struct Unlock(Hold);
    impl Drop for Unlock {
        fn drop(&mut self) {
            CURRENT.with(|c| c.locked.set(self.0));
        }
    }
    let before = CURRENT.with(|c| c.locked.get());
    if before != Hold::Free && !may_enter(core, before) {
        return None;
    }
    CURRENT.with(|c| c.locked.set(Hold::Locked));
    let _unlock = Unlock(before);
    Some(within(core, f))
}

/// Whether this thread may enter `core` though it is not free.
#[cold]
fn may_enter(core: &VnetCore, hold: Hold) -> bool {
    match hold {
        Hold::Free => {}
        Hold::Part => core.check_part(),
        Hold::Locked => {
            refuse_reentry();
            return false;
        }
    }
    true
}

/// From now on, this thread carries out a part of a simulation, or no longer.
pub(crate) fn set_in_part(is_in_part: bool) {
    let hold = match is_in_part {
        true => Hold::Part,
        false => Hold::Free,
    };
    CURRENT.with(|c| c.locked.set(hold));
}

/// True when this thread may take a vnet's lock, which it does without entering. False when it
/// holds one and a panic is under way, as for [`within_lock`].
///
/// # Panics
/// When this thread holds a vnet's lock already.
pub(crate) fn may_lock() -> bool {
    if is_locked() {
        refuse_reentry();
        return false;
    }
    true
}

#[cold]
fn refuse_reentry() {
    if !std::thread::panicking() {
        panic!(
            "a vnet was called from inside a vnet: a `FrameTap`, and the destructor of one, run \
             with the vnet's lock held and must not call any vnet"
        );
    }
}

/// Notes a vnet that is to be destroyed when this thread has left the one it is inside of.
pub(crate) fn defer(core: &Arc<VnetCore>, then: Afterwards) {
    DEFERRED.with(|deferred| deferred.0.borrow_mut().push((Arc::clone(core), then)));
    CURRENT.with(|c| c.deferred.set(true));
}

/// True when [`run_deferred`] has something to do.
#[inline]
pub(crate) fn has_deferred() -> bool {
    CURRENT.with(|c| c.deferred.get())
}

/// The vnets that are to be destroyed now.
#[cold]
pub(crate) fn run_deferred() {
    CURRENT.with(|c| c.deferred.set(false));
    for (core, then) in DEFERRED.with(|deferred| deferred.0.take()) {
        then(&core);
    }
}

/// True when this thread holds the lock of a vnet: it is inside a callback that has it.
pub(crate) fn is_locked() -> bool {
    CURRENT.with(|c| c.locked.get() == Hold::Locked)
}

/// True when this thread is in a waker or a port's callback, called on behalf of a vnet. What runs
/// the world may be waiting for it to return.
pub(crate) fn is_in_effects() -> bool {
    CURRENT.with(|c| c.in_effects.get())
}

/// Runs `f`, which carries out the effects of an entry. They are other people's callbacks: the
/// caller's current vnet is none of their business, and none is current in them.
#[inline]
pub(crate) fn in_effects<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|c| c.in_effects.set(self.0));
        }
    }
    let _restore = Restore(CURRENT.with(|c| c.in_effects.replace(true)));
    outside(f)
}

/// A future that runs in a vnet.
struct Scope<F> {
    vnet: Vnet,
    at: &'static Location<'static>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _entered = this.vnet.enter_from(this.at);
        this.future.as_mut().poll(cx)
    }
}
