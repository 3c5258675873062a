//! Virtualized variables: one declaration, one value in every instance (FreeBSD's `VNET_DEFINE`).
//!
//! A variable gets a process-wide index when it is first used. An instance keeps its values in a
//! table of segments that never move, made with its first value: an instance whose code uses no
//! such variable needs two words for them. An access finds the table through a weak reference and
//! holds it for as long as the closure runs; it takes no lock once the value exists.
//!
//! Teardown gives up the only lasting reference to the table. Whoever releases it last drops the
//! values, in reverse order of their creation and with the vnet current: that is the teardown
//! itself, unless a closure is running on a value at that moment; then it is that closure's thread,
//! when it is done. Nothing waits, and no value is dropped while in use. This is plain reference
//! counting: there is no unsafe code here.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::context::{peek_current, within};
use super::cores::VnetCore;
use super::driver::Waited;
use super::locals::{Closed, FIRST_SEGMENT, Locals, Owner, Running, Table, Value, place};
use super::site::here;
use super::vnet::Vnet;
use crate::base::callback::panic_text;
#[cfg(test)]
use crate::base::lock::explore::point;

/// Declares variables of which each instance has its own.
///
/// Each is a `static` of type [`Local`]. Its initializer runs in each instance that uses the
/// variable, at the first use there, with that vnet current. A value must be `Send + Sync`: any
/// thread that enters the vnet may use it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use vnet::{System, vnet_local};
///
/// vnet_local! {
///     /// Requests served by this instance.
///     pub static HITS: AtomicU64 = AtomicU64::new(0);
/// }
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// {
///     let _in_a = a.enter();
///     HITS.with(|hits| hits.fetch_add(3, Ordering::Relaxed));
/// }
/// assert_eq!(HITS.of(&a, |hits| hits.load(Ordering::Relaxed)), Ok(3));
/// assert_eq!(HITS.of(&b, |hits| hits.load(Ordering::Relaxed)), Ok(0));
/// # Ok::<(), vnet::CreateError>(())
/// ```
#[macro_export]
macro_rules! vnet_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attr])*
        $vis static $name: $crate::Local<$type> = $crate::Local::new(|| $init);
        $($crate::vnet_local! { $($rest)* })?
    };
}

/// A variable with a separate value in each instance; made by [`vnet_local!`](crate::vnet_local).
///
/// A value is created by the first access in its instance, and dropped when the instance is torn
/// down: after every init step has been undone, in reverse order of creation, with the vnet
/// current. A value whose destructor uses another variable of the instance finds it *gone*.
pub struct Local<T: Send + Sync + 'static> {
    init: fn() -> T,
    /// One more than the variable's index; zero before its first use.
    number: AtomicU32,
}

/// Why a virtualized variable cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No vnet is current on this thread.
    #[error("no vnet is current on this thread: call `vnet.enter()` first, or use `of(&vnet, ..)`")]
    NoCurrentVnet,
    /// The instance, and its value with it, is gone.
    #[error("the vnet is gone, and its variables with it")]
    Gone,
    /// The initializer waits for its own result, by itself or through other variables.
    #[error("the initializer of a vnet variable waits for its own result")]
    Circular,
}

/// Numbers given to variables. It names them, and has no bearing on what an instance does.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

impl<T: Send + Sync + 'static> Local<T> {
    /// What [`vnet_local!`](crate::vnet_local) expands to.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Local<T> {
        Local {
            init,
            number: AtomicU32::new(0),
        }
    }

    /// Runs `f` on the current vnet's value.
    ///
    /// # Panics
    /// Where [`Local::try_with`] fails.
    #[inline]
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs `f` on the current vnet's value.
    ///
    /// # Errors
    /// No vnet is current, or it has been torn down.
    ///
    /// ```
    /// use vnet::{LocalError, System, vnet_local};
    ///
    /// vnet_local! { static GREETING: String = "hello".to_owned() }
    ///
    /// assert_eq!(GREETING.try_with(String::len), Err(LocalError::NoCurrentVnet));
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let tenant = a.clone();
    /// let _in_a = tenant.enter();
    /// assert_eq!(GREETING.try_with(String::len), Ok(5));
    /// a.destroy();
    /// assert_eq!(GREETING.try_with(String::len), Err(LocalError::Gone));
    /// # Ok::<(), vnet::CreateError>(())
    /// ```
    #[inline]
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, LocalError> {
        let table = match peek_current(|core| core.locals.open()) {
            Some(Some(table)) => table?,
            Some(None) => first(&Vnet::current().ok_or(LocalError::NoCurrentVnet)?.core)?,
            None => return Err(LocalError::NoCurrentVnet),
        };
        Ok(f(self.value(&table)?))
    }

    /// Runs `f` on the value of `vnet`, whatever vnet is current; `f` runs with that one current.
    ///
    /// # Errors
    /// The vnet has been torn down.
    #[inline]
    pub fn of<R>(&'static self, vnet: &Vnet, f: impl FnOnce(&T) -> R) -> Result<R, LocalError> {
        let table = match vnet.core.locals.open() {
            Some(table) => table?,
            None => first(&vnet.core)?,
        };
        Ok(f(self.value(&table)?))
    }

    #[inline]
    fn value<'a>(&self, table: &'a InUse) -> Result<&'a T, LocalError> {
        let table = table.get();
        #[cfg(test)]
        point();
        if table.closed.load(Ordering::Relaxed) {
            return Err(LocalError::Gone);
        }
        let index = match self.number.load(Ordering::Relaxed) {
            0 => self.take_number(),
            number => number - 1,
        };
        let value = match table.value(index) {
            Some(value) => value,
            None => table.make(index, || Box::new((self.init)()))?,
        };
        Ok(value
            .downcast_ref()
            .expect("an index belongs to one variable, so to one type"))
    }

    #[cold]
    fn take_number(&self) -> u32 {
        let mine = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
        let raced = self
            .number
            .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed);
        // A number that lost a race stays unused.
        raced.map_or_else(|theirs| theirs - 1, |_| mine - 1)
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local<{}>", std::any::type_name::<T>())
    }
}

impl Locals<VnetCore> {
    /// The table, when there is or has been one.
    #[inline]
    fn open(&self) -> Option<Result<InUse, LocalError>> {
        #[cfg(test)]
        point();
        let table = self.table.get()?.upgrade();
        Some(table.map(InUse::new).ok_or(LocalError::Gone))
    }

    /// Values that exist.
    pub(crate) fn len(&self) -> u64 {
        let table = match &*self.owner.lock() {
            Owner::Open(table) => InUse::new(Arc::clone(table)),
            Owner::Unused | Owner::Closed => return 0,
        };
        let values = table.get().making.lock().made.len();
        values as u64
    }

    /// Ends the life of every value: now, or for those in use at this moment as soon as they are
    /// no more.
    pub(crate) fn close(&self) -> Closed {
        let values = self.len();
        let old = std::mem::replace(&mut *self.owner.lock(), Owner::Closed);
        let Owner::Open(table) = old else {
            return Closed::default();
        };
        table.closed.store(true, Ordering::Relaxed);
        #[cfg(test)]
        point();
        let failure = match Arc::into_inner(table) {
            Some(table) => table.drop_values(),
            None => Some("in use by another call, which drops them when it ends".to_owned()),
        };
        Closed { values, failure }
    }
}

/// Makes the table of an instance, with the first access to any variable in it.
#[cold]
fn first(core: &Arc<VnetCore>) -> Result<InUse, LocalError> {
    let mut owner = core.locals.owner.lock();
    if matches!(*owner, Owner::Unused) {
        let table = Arc::new(Table::new(core));
        let set = core.locals.table.set(Arc::downgrade(&table));
        debug_assert!(set.is_ok(), "set once, under the owner's lock");
        *owner = Owner::Open(table);
    }
    match &*owner {
        Owner::Open(table) => Ok(InUse::new(Arc::clone(table))),
        Owner::Unused | Owner::Closed => Err(LocalError::Gone),
    }
}

/// A table that is being used. The last use of one that its instance has given up ends it.
struct InUse(Option<Arc<Table<VnetCore>>>);

impl InUse {
    #[inline]
    fn new(table: Arc<Table<VnetCore>>) -> InUse {
        InUse(Some(table))
    }

    #[inline]
    fn get(&self) -> &Table<VnetCore> {
        self.0.as_deref().expect("taken by the destructor only")
    }
}

impl Drop for InUse {
    #[inline]
    fn drop(&mut self) {
        #[cfg(test)]
        point();
        if let Some(table) = self.0.take().and_then(Arc::into_inner) {
            late(table);
        }
    }
}

/// Drops the values of an instance that was torn down while one of them was in use.
#[cold]
fn late(table: Table<VnetCore>) {
    let name = table.core.name.clone();
    if let Some(failure) = table.drop_values() {
        tracing::error!(target: "vnet::lifecycle", vnet = &*name, failure, "vnet variable");
    }
}

impl Table<VnetCore> {
    /// Creates a value, exactly once: whoever comes meanwhile waits for it.
    #[cold]
    fn make(
        &self,
        index: u32,
        init: impl FnOnce() -> Value,
    ) -> Result<&(dyn Any + Send + Sync), LocalError> {
        let me = thread::current().id();
        loop {
            let waker = self.core.driver.waker();
            {
                let mut making = self.making.lock();
                if let Some(value) = self.value(index) {
                    return Ok(value);
                }
                if making.waits_for(index, me) {
                    return Err(LocalError::Circular);
                }
                match making.running.iter_mut().find(|r| r.index == index) {
                    None => {
                        making.running.push(Running {
                            index,
                            by: me,
                            wakers: Vec::new(),
                        });
                        break;
                    }
                    Some(running) => running.wakers.push(waker),
                }
                making.waiting.push((me, index));
            }
            let waited = self.core.driver.wait(None, here());
            let mut making = self.making.lock();
            if matches!(waited, Waited::WouldBlock | Waited::InTask) {
                // The embedder drives the world from another thread, and a worker
                // may wait for another one: an ordinary wait will do.
                while making.running.iter().any(|r| r.index == index) {
                    self.over.wait(&mut making);
                }
            }
            making.waiting.retain(|(by, _)| *by != me);
            if matches!(waited, Waited::InVain(_)) {
                // The initializer waits for something that can never happen.
                return Err(LocalError::Circular);
            }
        }
        let run = Run { table: self, index };
        let value = within(&self.core, init);
        let (segment, at) = place(index);
        let slots = self.segments[segment].get_or_init(|| {
            let slots = FIRST_SEGMENT << segment;
            (0..slots).map(|_| OnceLock::new()).collect()
        });
        {
            let mut making = self.making.lock();
            let set = slots[at].set(value);
            debug_assert!(set.is_ok(), "one thread at a time creates a value");
            making.made.push(index);
        }
        drop(run);
        Ok(self.value(index).expect("it has just been set"))
    }

    /// Drops the values in reverse order of creation, with the vnet current. One that panics does
    /// not stop the others; the last panic's text is returned.
    fn drop_values(self) -> Option<String> {
        let Table {
            core,
            closed: _,
            mut segments,
            making,
            over: _,
        } = self;
        let made = std::mem::take(&mut making.lock().made);
        let mut failure = None;
        within(&core, || {
            for &index in made.iter().rev() {
                let (segment, at) = place(index);
                let value = segments[segment].get_mut().and_then(|s| s[at].take());
                let dropped = std::panic::AssertUnwindSafe(|| drop(value));
                if let Err(panic) = std::panic::catch_unwind(dropped) {
                    failure = Some(format!("panicked: {}", panic_text(&*panic)));
                }
            }
        });
        failure
    }
}

/// An initializer that runs; also when it panics, it is over when this is dropped.
struct Run<'a> {
    table: &'a Table<VnetCore>,
    index: u32,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let over = {
            let mut making = self.table.making.lock();
            let at = making.running.iter().position(|r| r.index == self.index);
            at.map(|at| making.running.swap_remove(at))
        };
        self.table.over.notify_all();
        for waker in over.into_iter().flat_map(|r| r.wakers) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
