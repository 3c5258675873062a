//! Ending a run early.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Ends a run from another thread: its network is taken down, jobs that are still running are cut off,
/// and the report says what they did until then. Clones refer to the same run.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

type Act = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    act: Mutex<Option<Act>>,
}

impl Stop {
    /// Ends the run; one that has not begun ends when it begins. False if it was ended before.
    pub fn stop(&self) -> bool {
        let is_first = !self.0.stopped.swap(true, Ordering::SeqCst);
        self.act();
        is_first
    }

    /// True once the run has been ended.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Sets what to do when the run is ended; it is done at once if that has happened.
    pub(crate) fn on_stop(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.act.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
        if self.is_stopped() {
            self.act();
        }
    }

    /// Does what there is to do, once.
    fn act(&self) {
        let mut place = self.0.act.lock().unwrap_or_else(PoisonError::into_inner);
        let act = place.take();
        drop(place);
        if let Some(act) = act {
            act();
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = self.is_stopped();
        f.debug_struct("Stop")
            .field("stopped", &stopped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn what_is_to_be_done_is_done_once_whoever_comes_first() {
        for stop_first in [false, true] {
            let (stop, done) = (Stop::default(), Arc::new(AtomicUsize::new(0)));
            let theirs = Arc::clone(&done);
            let act = move || {
                theirs.fetch_add(1, Ordering::SeqCst);
            };
            if stop_first {
                assert!(stop.stop());
                stop.on_stop(act);
            } else {
                stop.on_stop(act);
                assert!(stop.stop());
            }
            assert!(!stop.clone().stop(), "it was stopped before");
            assert_eq!(done.load(Ordering::SeqCst), 1);
        }
    }
}
