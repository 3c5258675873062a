//! What has to be known of a vnet to carry it out on a thread of its own in a simulation.

use std::sync::Arc;

use super::cores::VnetCore;
use super::parallel::Feature;
use super::phase::Phase;
use crate::base::part;
use crate::base::time::Duration;
use crate::link::Link;
use crate::link::config::Jitter;
use crate::netif::Inbox;
use crate::netif::Netif;
pub(crate) use crate::netif::inbox::crossing;
use crate::netif::kind::Kind;

/// Frames that may wait in a link between two parts: so many one event may send.
const MAX_QUEUE: usize = 1024;
/// The largest MTU of such a link.
const MAX_MTU: u16 = 9216;

/// A vnet, as a simulation sees it that is to be divided.
pub(crate) struct Seen {
    /// How often it has been serviced.
    pub(crate) services: u64,
    /// The inbox at the other end of each of its wires, and the least time that a frame takes there; zero, if both
    /// ends have to be in one part.
    pub(crate) wires: Vec<(Arc<Inbox>, Duration)>,
}

/// What there is to know of a vnet.
///
/// # Errors
/// By what something outside of all parts can see what it does, or change how long frames take.
pub(crate) fn look_at(vnet: &VnetCore) -> Result<Seen, Feature> {
    if vnet.sched.is_scripted() {
        return Err(Feature::Script);
    }
    if !vnet.inbox.has_room() {
        return Err(Feature::Inbox);
    }
    let mut seen = Err(Feature::Phase);
    vnet.alive(|live| {
        let stack = &live.inside.stack;
        if live.inside.phase != Phase::Up || live.inside.drain.is_some() {
            return;
        }
        let wires: Result<Vec<_>, Feature> = stack
            .ifs
            .iter()
            .filter_map(|netif| wire(netif).transpose())
            .collect();
        seen = wires.map(|wires| Seen {
            services: live.services(),
            wires,
        });
    });
    seen
}

/// The inbox at the other end of an interface, if it has one, and the least time that a frame takes there.
fn wire(netif: &Netif) -> Result<Option<(Arc<Inbox>, Duration)>, Feature> {
    if !netif.taps.is_empty() {
        return Err(Feature::Capture);
    }
    if netif.loan.is_some() {
        return Err(Feature::Loan);
    }
    if netif.vlans.has_away() {
        return Err(Feature::VlanAway);
    }
    let far = match &netif.kind {
        Kind::Epair(end) => end.far_inbox(),
        Kind::Loopback(_) | Kind::Bridge(_) => None,
        Kind::Vlan(vlan) if vlan.away.is_none() => None,
        Kind::Vlan(_) => return Err(Feature::VlanAway),
        Kind::Port(_) => return Err(Feature::Port),
        Kind::Lagg(_) => return Err(Feature::Lagg),
    };
    let is_small = netif.ip_mtu <= MAX_MTU;
    let link = netif.link.as_deref().filter(|_| is_small);
    Ok(far.map(|far| (far, link.map(least_delay).unwrap_or_default())))
}

/// The least time that a frame takes; zero as well where nothing bounds what is sent at a time.
fn least_delay(link: &Link) -> Duration {
    let config = link.config();
    let is_fixed = config.jitter == Jitter::None && config.reorder.probability <= 0.0;
    let is_bounded = config.rate_bps.is_some()
        && config.queue.limit_frames <= MAX_QUEUE
        && config.duplicate <= 0.0;
    match is_fixed && is_bounded {
        true => config.delay,
        false => Duration::ZERO,
    }
}

impl VnetCore {
    /// Checks that what this thread does is none of another part's business.
    ///
    /// # Panics
    /// When it carries out a part of a simulation, and the vnet is in another one.
    #[inline]
    pub(crate) fn check_part(&self) {
        if part::is_elsewhere(self.inbox.part()) {
            self.is_apart();
        }
    }

    #[cold]
    fn is_apart(&self) {
        // A socket that is dropped in a panic must not end the process.
        if !std::thread::panicking() {
            panic!(
                "vnet {:?} is used by a task of another one: `VirtualConfig::threads` promises that there is none",
                self.name
            );
        }
    }
}

/// Checks that no task changes what vnets consist of while parts are carried out.
///
/// # Panics
/// When this thread carries out a part of a simulation.
pub(crate) fn check_no_part() {
    if part::is_any() && !std::thread::panicking() {
        panic!("a task changes its network: `VirtualConfig::threads` promises that there is none");
    }
}
