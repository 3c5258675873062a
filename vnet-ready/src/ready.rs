//! A descriptor behind which sockets and ports stand.
//!
//! Each has a waker of its own, which the vnet is given while it is not ready. The waker puts it in the queue of those to look
//! at, and makes the descriptor readable when the queue was empty. [`Ready::events`] takes the queue, looks at each, and
//! puts those that are ready in the next queue. So one that is in no queue has its waker in the vnet, and no wake-up is lost.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};
use vnet::net::{Interest, Readiness};

use crate::source::Source;

/// Something that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it was watched with.
    pub token: usize,
    /// Everything that it is ready for. When its vnet is gone, all of it, with the error.
    pub readiness: Readiness,
}

/// A descriptor that is readable while one of the sockets and ports behind it has something to do; see the
/// [crate](crate#what-the-descriptor-says).
pub struct Ready(Arc<Shared>);

struct Shared {
    /// Readable while `rung`.
    bell: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    watched: BTreeMap<u64, Entry>,
    /// Those to look at.
    queue: Vec<u64>,
    rung: bool,
}

struct Entry {
    watch: Watch,
    queued: bool,
}

/// What is looked at, and how.
#[derive(Clone)]
struct Watch {
    source: Arc<dyn Source>,
    token: usize,
    read: bool,
    write: bool,
    waker: Waker,
}

impl Watch {
    /// Says whether that is a change.
    fn set_interests(&mut self, interests: &[Interest]) -> bool {
        let before = (self.read, self.write);
        self.read = interests.contains(&Interest::Read);
        self.write = interests.contains(&Interest::Write);
        before != (self.read, self.write)
    }

    /// What it is ready for, if that is what is asked for. Else its waker will be called.
    fn look(&self) -> Option<Readiness> {
        let asked = [(self.read, Interest::Read), (self.write, Interest::Write)];
        let mut asked = asked.into_iter().filter(|(asked, _)| *asked);
        asked.find_map(|(_, interest)| {
            let mut task = Context::from_waker(&self.waker);
            match self.source.poll(&mut task, interest) {
                Poll::Ready(readiness) => Some(readiness),
                Poll::Pending => None,
            }
        })
    }
}

/// The waker of one. It keeps neither the socket nor the descriptor.
struct Signal {
    shared: Weak<Shared>,
    key: u64,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.look_at(self.key);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has one looked at by the next [`Ready::events`].
    fn look_at(&self, key: u64) {
        let mut state = self.lock();
        let State { watched, queue, .. } = &mut *state;
        let Some(entry) = watched.get_mut(&key) else {
            return;
        };
        if !std::mem::replace(&mut entry.queued, true) {
            queue.push(key);
            self.ring(&mut state);
        }
    }

    /// Makes the descriptor readable. It is done under the lock, so that what it says is what is in the queue; it does
    /// not wait for anything.
    fn ring(&self, state: &mut State) {
        if !std::mem::replace(&mut state.rung, true) {
            // It would fail only after having been rung 2^64 - 2 times.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Those to look at. The descriptor is no longer readable.
    fn take_queue(&self) -> Vec<u64> {
        let mut state = self.lock();
        let State {
            watched,
            queue,
            rung,
            ..
        } = &mut *state;
        if std::mem::take(rung) {
            let _ = rustix::io::read(&self.bell, &mut [0; 8][..]);
        }
        for key in queue.iter() {
            if let Some(entry) = watched.get_mut(key) {
                entry.queued = false;
            }
        }
        std::mem::take(queue)
    }
}

impl Ready {
    /// A descriptor with nothing behind it.
    ///
    /// # Errors
    /// The system's error: too many descriptors are open.
    pub fn new() -> io::Result<Ready> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Ready(Arc::new(Shared {
            bell,
            state: Mutex::default(),
        })))
    }

    /// Watches a socket or a port, of any vnet and system, for what `interests` names; none is nothing. Its calls no longer wait.
    /// Events name it by `token`, which is for the program to choose.
    ///
    /// A port is always ready for [`Interest::Write`]. Of clones of one socket each can be watched; of a port, only what
    /// polled last is woken.
    pub fn watch<S: Source>(&self, source: S, token: usize, interests: &[Interest]) -> Watched<S> {
        source.wait_for_nothing();
        let source = Arc::new(source);
        let key = {
            let mut state = self.0.lock();
            state.next += 1;
            let key = state.next;
            let signal = Signal {
                shared: Arc::downgrade(&self.0),
                key,
            };
            let watched: Arc<dyn Source> = source.clone();
            let mut watch = Watch {
                source: watched,
                token,
                read: false,
                write: false,
                waker: Waker::from(Arc::new(signal)),
            };
            watch.set_interests(interests);
            let entry = Entry {
                watch,
                queued: false,
            };
            state.watched.insert(key, entry);
            key
        };
        self.0.look_at(key);
        Watched {
            source,
            shared: Arc::downgrade(&self.0),
            key,
        }
    }

    /// Lists what is ready now, in place of what `events` holds, in the order in which it became so. What is listed is
    /// looked at again by the next call.
    ///
    /// Only what was woken, or was ready the last time, costs anything, however many are watched.
    pub fn events(&self, events: &mut Vec<Event>) {
        events.clear();
        for key in self.0.take_queue() {
            // The vnet is asked without the lock, because it calls wakers.
            let watch = self.0.lock().watched.get(&key).map(|e| e.watch.clone());
            let Some(watch) = watch else {
                continue;
            };
            if let Some(readiness) = watch.look() {
                let token = watch.token;
                events.push(Event { token, readiness });
                self.0.look_at(key);
            }
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}

impl AsRawFd for Ready {
    fn as_raw_fd(&self) -> RawFd {
        self.0.bell.as_raw_fd()
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Ready")
            .field("bell", &self.0.bell)
            .field("watched", &state.watched.len())
            .field("queue", &state.queue.len())
            .finish()
    }
}

/// A socket or a port that is watched. It is used as what it is; dropping it closes it, and ends the watch.
pub struct Watched<S> {
    source: Arc<S>,
    shared: Weak<Shared>,
    key: u64,
}

impl<S> Watched<S> {
    /// Changes what it is watched for. Costs next to nothing when it is the same.
    pub fn set_interests(&self, interests: &[Interest]) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        let entry = state.watched.get_mut(&self.key);
        let changed = entry.is_some_and(|entry| entry.watch.set_interests(interests));
        drop(state);
        if changed {
            shared.look_at(self.key);
        }
    }
}

impl<S> Deref for Watched<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.source
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            // Its end may wake others: it comes without the lock.
            let entry = shared.lock().watched.remove(&self.key);
            drop(entry);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.source).finish()
    }
}
