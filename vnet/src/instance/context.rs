//! The current vnet of a thread: FreeBSD's `curvnet` with the rules enforced.
//!
//! Entering costs no atomic operation: the guard borrows the handle, so the vnet outlives the
//! guard. A guard that is *forgotten* (`mem::forget`) ends its borrow without restoring anything;
//! for that case the thread keeps a reference to each vnet it has entered, taken on the first
//! entry only. They are released when the thread, in no vnet, enters a further one or destroys one
//! of them; but no longer once a guard was dropped out of order or outlived the call of the library
//! in which it was made, because such a guard may bring back what was current long ago.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::vnet::{Vnet, VnetCore};

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
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            core: Cell::new(ptr::null()),
            depth: Cell::new(0),
            last: Cell::new(ptr::null()),
            disordered: Cell::new(false),
        }
    };
    static KEPT: Kept = const { Kept(RefCell::new(Vec::new())) };
}

struct Kept(RefCell<Vec<Arc<VnetCore>>>);

impl Drop for Kept {
    fn drop(&mut self) {
        CURRENT.with(|c| {
            c.core.set(ptr::null());
            c.last.set(ptr::null());
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
    pub fn enter(&self) -> Entered<'_> {
        let core = Arc::as_ptr(&self.core);
        CURRENT.with(|c| {
            if c.last.get() != core {
                keep(c, &self.core);
            }
            let depth = c.depth.get() + 1;
            c.depth.set(depth);
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
    pub fn scope<F: Future>(&self, future: F) -> Scope<F> {
        Scope {
            vnet: self.clone(),
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
        let mut kept = kept.0.borrow_mut();
        if c.is_unused() && kept.len() >= KEPT_MAX {
            old = std::mem::take(&mut *kept);
        }
        for core in before.iter().map(|v| &v.core).chain([core]) {
            if !kept.iter().any(|k| Arc::ptr_eq(k, core)) {
                kept.push(Arc::clone(core));
            }
        }
        c.last.set(Arc::as_ptr(core));
    });
    // A system may end with the last of its vnets: not while the list is borrowed.
    drop(old);
}

/// Releases this thread's reference to a vnet that is gone, unless the thread is in some vnet.
pub(crate) fn let_go(core: &Arc<VnetCore>) {
    let _ = KEPT.try_with(|kept| {
        CURRENT.with(|c| {
            if c.is_unused() {
                c.last.set(ptr::null());
                kept.0.borrow_mut().retain(|k| !Arc::ptr_eq(k, core));
            }
        });
    });
}

impl Current {
    /// True when no vnet is current and no guard is left that could make one current.
    fn is_unused(&self) -> bool {
        self.depth.get() == 0 && self.core.get().is_null() && !self.disordered.get()
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
            if depth > self.depth {
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

/// A future that runs in a vnet; see [`Vnet::scope`].
pub struct Scope<F> {
    vnet: Vnet,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _entered = this.vnet.enter();
        this.future.as_mut().poll(cx)
    }
}
