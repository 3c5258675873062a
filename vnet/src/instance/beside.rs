//! What a crate beside the library needs of a system so that another scheduler can live in its time, as tokio does
//! by `vnet-tokio`: to run as a task does, and to be asked before each event whether it was given something to do.
//! Programs have no use for it; it is no part of the stable interface.

use std::sync::Arc;
use std::task::Waker;

use super::cores::VnetCore;
use super::driver::Driver;
use super::system::System;
use super::task::PollMark;
use super::vnet::Vnet;

pub use super::driver::Beside;
pub use super::task::is_polling;

/// The time in which a system lives. It says which one that is, and reaches nothing of it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Driver>);

impl Clock {
    /// The time of a system.
    pub fn of(system: &System) -> Clock {
        Clock(Arc::clone(&system.core.driver))
    }

    /// The time of a vnet's system.
    pub fn of_vnet(vnet: &Vnet) -> Clock {
        Clock::of_core(&vnet.core)
    }

    pub(crate) fn of_core(core: &VnetCore) -> Clock {
        Clock(Arc::clone(&core.driver))
    }

    /// True when time is simulated.
    pub fn is_simulated(&self) -> bool {
        self.0.is_simulated()
    }

    /// True when `waker` is that of a call of this thread that waits in this time, such as
    /// [`System::block_on`].
    pub fn wakes(&self, waker: &Waker) -> bool {
        self.0.waker().will_wake(waker)
    }

    /// What is kept beside the system; of the first who asks, it is what `make` returns. `None` where time is not
    /// simulated.
    pub fn beside(&self, make: impl FnOnce() -> Arc<dyn Beside>) -> Option<Arc<dyn Beside>> {
        self.0
            .beside()
            .map(|place| Arc::clone(place.get_or_init(make)))
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Clock) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Runs `f` as if this thread polled a task: a call that would wait fails, and time does not pass by what calls cost
/// until it is over.
pub fn as_task<R>(f: impl FnOnce() -> R) -> R {
    let _mark = PollMark::set();
    f()
}
