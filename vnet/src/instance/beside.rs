//! What a crate beside the library needs of a system so that another scheduler can live in its time, as tokio does
//! by `vnet-tokio`: to run as a task does, and to be asked before each event whether it was given something to do. And
//! what a resolver of names needs to know of a vnet, for `vnet-dns`. And what carries frames for a port has to offer so that
//! a thread which waits in the port's vnet does so meanwhile, for `vnet-tap`.
//! Programs have no use for it; it is no part of the stable interface.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::task::Waker;

use super::Gone;
use super::cores::VnetCore;
use super::driver::Driver;
use super::system::System;
use super::task::PollMark;
use super::vnet::Vnet;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::packet::header::zone;

pub use super::attendance::{Attendance, Carried, Line};
pub use super::driver::Beside;
pub use super::task::is_polling;
pub use crate::base::trials::Trials;

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

    /// How long a thread that carries frames from outside looks for more before it sleeps.
    pub fn spin_at_a_line(&self) -> Duration {
        self.0.spin_at_a_line()
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

/// A random stream for a program in a vnet, which depends on the vnet's and the label.
///
/// # Errors
/// The vnet is gone.
pub fn random_stream(vnet: &Vnet, label: u64) -> Result<Rng, Gone> {
    vnet.core.with(|_, cx| cx.rng.split(label))
}

/// What routers on the links of a vnet say of names (RFC 8106).
#[derive(Clone, Debug, Default)]
pub struct HeardNames {
    /// The DNS servers. A link-local one has the number of its interface.
    pub servers: Vec<(Ipv6Addr, u32)>,
    /// The domains in which names are looked up.
    pub search: Vec<String>,
}

/// What routers on the links of a vnet say of names at present, in the order of its interfaces.
///
/// # Errors
/// The vnet is gone.
pub fn heard_names(vnet: &Vnet) -> Result<HeardNames, Gone> {
    vnet.core.with(|stack, _| {
        let mut heard = HeardNames::default();
        let names = &stack.ip.autoconf.names;
        for id in stack.ifs.iter().map(|netif| netif.id) {
            let scope = |addr: Ipv6Addr| match addr.is_unicast_link_local() {
                true => zone::number(id).map_or(0, u32::from),
                false => 0,
            };
            let servers = names.servers(id).map(|addr| (addr, scope(addr)));
            heard.servers.extend(servers);
            heard.search.extend(names.search(id).map(String::from));
        }
        heard
    })
}

/// Runs `f` as if this thread polled a task: a call that would wait fails, and time does not pass by what calls cost
/// until it is over.
pub fn as_task<R>(f: impl FnOnce() -> R) -> R {
    let _mark = PollMark::set();
    f()
}
