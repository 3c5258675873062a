//! How much of each resource a stack may hold. Reaching a limit affects this stack alone: a call that would exceed it
//! fails with a typed error, and a packet is dropped and counted.
//!
//! What is in effect is the least of an instance's own limit and of those of the instances above it,
//! its *ceiling*. A layer that refuses by itself is told what is in effect, and keeps no limit
//! of its own beside it.

use std::fmt;

use super::Stack;
use crate::base::id::IfId;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::ip::{fib, reassembly};
use crate::neigh::NeighConfig;
use crate::netif::bridge::members::DEFAULT_STATIONS;
use crate::netif::table::DEFAULT_LINK_BYTES;
use crate::netif::{AdminError, inbox};
use crate::transport::datagrams::Datagrams;
use crate::transport::error::SocketError;
use crate::transport::tcp::TcpConfig;

macro_rules! resources {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A resource, of which an instance may hold a limited amount.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Resource { $($(#[doc = $doc])+ $name,)+ }

        impl Resource {
            /// The value that stands for no limit.
            pub const UNLIMITED: u64 = u64::MAX;

            /// Every resource, in the order of declaration.
            pub const ALL: &[Resource] = &[$(Resource::$name,)+];

            /// Its stable kebab-case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Resource::$name => $text,)+ }
            }
        }
    };
}

resources! {
    /// Sockets of all kinds, including connections that have not been accepted yet. At the limit, creating a socket fails,
    /// and connection requests are ignored.
    Sockets = "sockets",
    /// Interfaces, including the loopback interface. At the limit, creating one fails.
    Interfaces = "interfaces",
    /// Instances below this one: its children, their children, and so on. At the limit, creating one fails.
    Children = "children",
    /// Bytes of memory in the buffers of sockets of all kinds. At the limit, sending on a connection and creating one
    /// fail, and data that arrives for a socket is dropped ([`DropReason::SocketBufferFull`]). The buffers of TCP are
    /// counted from time to time, so the limit may be exceeded in between.
    BufferedBytes = "buffered-bytes",
    /// Frames on their way to the instance; each wire has its share. At the limit they are dropped
    /// ([`DropReason::InboxFull`]).
    QueuedPackets = "queued-packets",
    /// Bytes of memory in the queues of links that hold frames. At the limit, frames are dropped
    /// ([`DropReason::LinkQueueFull`]). Frames in a FIFO discipline wait at their receiver; the memory in which each such
    /// link keeps track of them has the same limit, but is not counted.
    LinkBytes = "link-bytes",
    /// Routes, including connected ones. At the limit, adding one fails.
    Routes = "routes",
    /// Neighbours. At the limit, an old entry is replaced, or the packet is dropped ([`DropReason::NeighbourLimit`]).
    Neighbours = "neighbours",
    /// Stations that bridges know, learned or static, and members of groups and routers that snooping bridges know. At the
    /// limit, adding a station fails, and no more are learned: frames for others are flooded, and groups of which there is
    /// no room to know are treated as those in which nobody is.
    Stations = "stations",
    /// Bytes of fragments that wait for the rest of their datagram. At the limit, the oldest datagram is dropped
    /// ([`DropReason::FragmentLimit`]).
    ReassemblyBytes = "reassembly-bytes",
    /// Connections that wait at one listener. A listener's backlog is reduced to the limit; beyond it, connection requests
    /// are dropped ([`DropReason::TcpBacklogFull`]). A change applies to listeners that are created later.
    Backlog = "backlog",
    /// Tasks of the instance that have not ended. At the limit, a new task ends at once, and its handle reports it.
    Tasks = "tasks",
    /// Microseconds of processor time a second, under the threads driver: the time that threads spend in the instance, in
    /// services and in calls, measured by samples. The use is that of the last second. At the limit, what has arrived and
    /// what is due waits, for at most 100 ms at a time. Calls count, but do not wait. Where time is simulated, nothing is
    /// measured and nothing waits.
    Processor = "processor",
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The usage of a resource by an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// The resource.
    pub resource: Resource,
    /// What is held now; for the backlog, at the fullest listener.
    pub current: u64,
    /// The most that was held at the end of any entry into the instance; for the backlog and for buffered bytes, at the
    /// times when they were counted.
    pub high_water: u64,
    /// The limit; [`Resource::UNLIMITED`] means none.
    pub limit: u64,
    /// How often something was refused or dropped because of the limit.
    pub refused: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage {
            resource,
            current,
            high_water,
            limit,
            refused,
        } = self;
        write!(f, "{resource}: {current} (most {high_water}) of ")?;
        match *limit {
            u64::MAX => f.write_str("unlimited")?,
            limit => write!(f, "{limit}")?,
        }
        write!(f, ", {refused} refused")
    }
}

/// The weight of an instance in the turns of a driver, where none is set.
pub(crate) const DEFAULT_WEIGHT: u32 = 100;

/// Connections that a recount of the buffered bytes may visit without being spread over entries.
const CHEAP_RECOUNT: u32 = 16;

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this vnet has reached its limit of {0}")]
pub struct LimitReached(pub Resource);

impl From<LimitReached> for SocketError {
    fn from(reached: LimitReached) -> SocketError {
        SocketError::Limit(reached.0.as_str())
    }
}

impl From<LimitReached> for AdminError {
    fn from(reached: LimitReached) -> AdminError {
        AdminError::Limit(reached.0.as_str())
    }
}

/// The limits, and what was seen of everything.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Its own, in the order of [`Resource::ALL`], if any of them was set.
    own: Option<Box<[u64; Resource::ALL.len()]>>,
    /// The least that is in effect in the instances above, if there are any.
    ceiling: Option<Box<[u64; Resource::ALL.len()]>>,
    /// The weight that was set, and the least in effect in the instances above.
    own_weight: u32,
    weight_ceiling: u32,
    /// Instances below this one; kept here by the instance.
    pub(crate) children_now: u64,
    /// Whether new sockets can be made.
    pub(crate) admission: Admission,
    /// Bytes in buffers of TCP when they were last counted.
    tcp_bytes_seen: u64,
    /// There are more bytes in buffers than there may be.
    pub(crate) buffers_are_full: bool,
    /// There is a limit on sockets or on their buffers, of which each kind of socket is told its part at the end of every
    /// entry.
    divides: bool,
    /// Entries until they are counted again.
    recount_in: u32,
    /// The most of each resource, up to the last one that is noted here.
    high: [u64; Resource::ReassemblyBytes as usize + 1],
    /// How often something was refused, if anything was.
    refused: Option<Box<[u64; Resource::ALL.len()]>>,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter {
            own: None,
            ceiling: None,
            own_weight: DEFAULT_WEIGHT,
            weight_ceiling: u32::MAX,
            children_now: 0,
            admission: Admission::Open,
            tcp_bytes_seen: 0,
            buffers_are_full: false,
            divides: false,
            recount_in: 0,
            high: Default::default(),
            refused: None,
        }
    }
}

/// The limits of a new instance without a parent, in the order of [`Resource::ALL`].
pub(crate) fn defaults() -> [u64; Resource::ALL.len()] {
    std::array::from_fn(|index| Resource::ALL[index].default_limit())
}

impl Resource {
    /// The limit of a new instance without a parent.
    #[inline]
    fn default_limit(self) -> u64 {
        match self {
            Resource::QueuedPackets => inbox::MAX_FRAMES as u64,
            Resource::LinkBytes => DEFAULT_LINK_BYTES,
            Resource::Routes => fib::DEFAULT_MAX_ROUTES as u64,
            Resource::Neighbours => NeighConfig::default().limit as u64,
            Resource::Stations => DEFAULT_STATIONS,
            Resource::ReassemblyBytes => reassembly::Limits::default().max_bytes as u64,
            Resource::Backlog => TcpConfig::default().max_backlog as u64,
            Resource::Sockets
            | Resource::Interfaces
            | Resource::Children
            | Resource::BufferedBytes
            | Resource::Tasks
            | Resource::Processor => Resource::UNLIMITED,
        }
    }
}

impl Limiter {
    /// The limit in effect.
    #[inline]
    pub(crate) fn of(&self, resource: Resource) -> u64 {
        let own = self.own.as_ref().map(|own| own[resource as usize]);
        let ceiling = self
            .ceiling
            .as_ref()
            .map(|ceiling| ceiling[resource as usize]);
        let own = own.unwrap_or_else(|| resource.default_limit());
        own.min(ceiling.unwrap_or(Resource::UNLIMITED))
    }

    fn is_to_divide(&self) -> bool {
        let is_bounded = |resource| self.of(resource) != Resource::UNLIMITED;
        is_bounded(Resource::Sockets) || is_bounded(Resource::BufferedBytes)
    }

    /// All limits in effect, in the order of [`Resource::ALL`].
    pub(crate) fn in_effect(&self) -> [u64; Resource::ALL.len()] {
        std::array::from_fn(|index| self.of(Resource::ALL[index]))
    }

    /// The weight in effect: how much processor time is due to the instance, compared with others that want it.
    pub(crate) fn weight(&self) -> u32 {
        self.own_weight.min(self.weight_ceiling)
    }

    /// Sets the weight. The instance is still to be told.
    pub(crate) fn set_weight(&mut self, weight: u32) {
        self.own_weight = weight;
    }

    /// Notes that something was refused.
    pub(crate) fn refuse(&mut self, resource: Resource) -> LimitReached {
        self.refused.get_or_insert_default()[resource as usize] += 1;
        LimitReached(resource)
    }

    fn refused(&self, resource: Resource) -> u64 {
        let refused = self.refused.as_ref();
        refused.map_or(0, |refused| refused[resource as usize])
    }

    /// True when what there may be of something is divided among those who have it, so that each entry has to count it.
    #[inline]
    pub(super) fn divides(&self) -> bool {
        self.divides
    }

    /// The most that was noted of a resource.
    fn high_water(&self, resource: Resource) -> u64 {
        self.high.get(resource as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn note(&mut self, resource: Resource, current: u64) {
        let high = &mut self.high[resource as usize];
        if current > *high {
            *high = current;
        }
    }
}

/// Whether new sockets can be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They can.
    #[default]
    Open,
    /// The instance is on its way out.
    Closed,
}

impl Stack {
    /// Asks for one more socket.
    ///
    /// # Errors
    /// [`SocketError::Gone`] when the instance is being shut down; the limit, which is counted.
    pub(crate) fn admit_socket(&mut self) -> Result<(), SocketError> {
        match self.limits.admission {
            Admission::Closed => Err(SocketError::Gone),
            Admission::Open => Ok(self.admit(Resource::Sockets)?),
        }
    }

    /// Asks for a place for an interface of this name.
    ///
    /// # Errors
    /// The name is none or is taken, or there are as many interfaces as there may be.
    pub(crate) fn admit_interface(&mut self, name: &str) -> Result<(), AdminError> {
        self.ifs.check_name(name)?;
        Ok(self.admit(Resource::Interfaces)?)
    }

    /// Asks for one more of a resource.
    ///
    /// # Errors
    /// [`LimitReached`], which is counted.
    pub(crate) fn admit(&mut self, resource: Resource) -> Result<(), LimitReached> {
        let limit = self.limits.of(resource);
        if limit == Resource::UNLIMITED {
            return Ok(());
        }
        let current = match resource {
            Resource::Sockets => self.socket_count(),
            Resource::Interfaces => self.ifs.len() as u64,
            Resource::Children => self.limits.children_now,
            Resource::BufferedBytes => self.limits.tcp_bytes_seen + self.datagram_bytes(),
            // The layers ask for themselves.
            Resource::QueuedPackets
            | Resource::LinkBytes
            | Resource::Routes
            | Resource::Neighbours
            | Resource::Stations
            | Resource::ReassemblyBytes
            | Resource::Backlog
            | Resource::Tasks
            | Resource::Processor => return Ok(()),
        };
        match current < limit {
            true => Ok(()),
            false => Err(self.limits.refuse(resource)),
        }
    }

    /// Sets a limit, from now on; what there is stays. Of [`Resource::QueuedPackets`],
    /// [`Resource::Tasks`] and [`Resource::Processor`] those who have them are still to be told.
    pub(crate) fn set_limit(&mut self, resource: Resource, limit: u64) {
        let own = self.limits.own.get_or_insert_with(|| Box::new(defaults()));
        own[resource as usize] = limit;
        self.pass_on(resource);
    }

    /// Sets the limits and the weight in effect in the instance above, as [`Stack::set_limit`].
    pub(crate) fn set_ceiling(&mut self, ceiling: [u64; Resource::ALL.len()], weight: u32) {
        let is_open = ceiling.iter().all(|limit| *limit == Resource::UNLIMITED);
        self.limits.ceiling = (!is_open).then(|| Box::new(ceiling));
        self.limits.weight_ceiling = weight;
        for resource in Resource::ALL {
            self.pass_on(*resource);
        }
    }

    /// Tells a layer the limit in effect.
    fn pass_on(&mut self, resource: Resource) {
        let limit = self.limits.of(resource);
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        match resource {
            Resource::Interfaces
            | Resource::Children
            | Resource::QueuedPackets
            | Resource::Tasks
            | Resource::Processor => {}
            Resource::Sockets => {
                self.limits.divides = self.limits.is_to_divide();
                self.share_sockets();
            }
            Resource::BufferedBytes => {
                self.limits.divides = self.limits.is_to_divide();
                self.limits.recount_in = 0;
                self.recount();
                self.share_buffers();
            }
            Resource::LinkBytes => self.ifs.link_account.set_limit(limit),
            Resource::Routes => self.ip.set_max_routes(size),
            Resource::Neighbours => {
                let mut config = self.neigh.config().clone();
                if config.limit != size {
                    config.limit = size;
                    self.neigh.set_config(config);
                }
            }
            Resource::Stations => {
                if self.bridges.account().limit() != limit {
                    self.bridges.limit_stations(limit);
                }
            }
            Resource::ReassemblyBytes => self.ip.set_max_fragment_bytes(size),
            Resource::Backlog => {
                if self.tcp.config().max_backlog != size {
                    self.tcp.config_mut().max_backlog = size;
                }
            }
        }
    }

    /// What there is of a resource; [`Resource::QueuedPackets`], [`Resource::Tasks`] and
    /// [`Resource::Processor`] are not the stack's.
    pub(crate) fn usage(&self, stats: &Stats, resource: Resource) -> Usage {
        let dropped = |reason| stats.rx_drops(reason) + stats.tx_drops(reason);
        let limits = &self.limits;
        let (current, dropped) = match resource {
            Resource::Sockets => (self.socket_count(), 0),
            Resource::Interfaces => (self.ifs.len() as u64, 0),
            Resource::Children => (limits.children_now, 0),
            Resource::BufferedBytes => (
                self.tcp.held_bytes() as u64 + self.datagram_bytes(),
                self.datagrams.accounts().iter().map(|a| a.refused()).sum(),
            ),
            Resource::QueuedPackets => (0, dropped(DropReason::InboxFull)),
            Resource::LinkBytes => {
                let account = &self.ifs.link_account;
                (account.held(), account.refused())
            }
            Resource::Routes => (self.ip.route_count() as u64, 0),
            Resource::Neighbours => (self.neigh.len() as u64, dropped(DropReason::NeighbourLimit)),
            Resource::Stations => {
                let account = self.bridges.account();
                (account.held(), account.refused())
            }
            Resource::ReassemblyBytes => (
                self.ip.fragment_bytes() as u64,
                dropped(DropReason::FragmentLimit),
            ),
            Resource::Tasks | Resource::Processor => (0, 0),
            Resource::Backlog => (self.fullest_backlog(), dropped(DropReason::TcpBacklogFull)),
        };
        Usage {
            resource,
            current,
            high_water: limits.high_water(resource).max(current),
            limit: limits.of(resource),
            refused: limits.refused(resource) + dropped,
        }
    }

    /// Notes how much there is of what the [rest](super::rest) of the stack consists of, and of sockets, at the end of an
    /// entry.
    pub(super) fn observe(&mut self) {
        let sockets = self.socket_count();
        let limits = &mut self.limits;
        limits.note(Resource::Sockets, sockets);
        limits.note(Resource::Interfaces, self.ifs.len() as u64);
        limits.note(Resource::Children, limits.children_now);
        limits.note(Resource::LinkBytes, self.ifs.link_account.held());
        limits.note(Resource::Routes, self.ip.route_count() as u64);
        limits.note(Resource::Neighbours, self.neigh.len() as u64);
        limits.note(Resource::Stations, self.bridges.account().held());
        limits.note(Resource::ReassemblyBytes, self.ip.fragment_bytes() as u64);
        if self.limits.of(Resource::Sockets) != Resource::UNLIMITED {
            self.share_sockets();
        }
        if self.limits.of(Resource::BufferedBytes) != Resource::UNLIMITED {
            self.recount();
            self.share_buffers();
        }
    }

    /// Notes when links want to be looked at that hold frames, as an entry has found, and how much they hold.
    #[inline(never)]
    pub(crate) fn note_links(&mut self, at: &mut Vec<(IfId, Instant)>) {
        for (id, at) in at.drain(..) {
            self.ifs.arm_link(id, at);
        }
        let held = self.ifs.link_account.held();
        self.limits.note(Resource::LinkBytes, held);
    }

    /// True when [`Stack::observe`] would find no more of anything than it has seen.
    pub(super) fn is_observed(&self) -> bool {
        let seen = |resource, current| current <= self.limits.high_water(resource);
        seen(Resource::Sockets, self.socket_count())
            && seen(Resource::Interfaces, self.ifs.len() as u64)
            && seen(Resource::Children, self.limits.children_now)
            && seen(Resource::LinkBytes, self.ifs.link_account.held())
            && seen(Resource::Routes, self.ip.route_count() as u64)
            && seen(Resource::Neighbours, self.neigh.len() as u64)
            && seen(Resource::Stations, self.bridges.account().held())
            && seen(Resource::ReassemblyBytes, self.ip.fragment_bytes() as u64)
    }

    /// Tells TCP how many sockets it may have: peers make connections without asking `admit`.
    fn share_sockets(&mut self) {
        let others = self.datagram_sockets();
        let left = match self.limits.of(Resource::Sockets) {
            Resource::UNLIMITED => usize::MAX,
            limit => usize::try_from(limit.saturating_sub(others as u64)).unwrap_or(usize::MAX),
        };
        self.tcp.set_socket_limit(left);
    }

    /// Tells each kind of sockets what the others leave of the bytes that may be in buffers.
    fn share_buffers(&mut self) {
        let limit = self.limits.of(Resource::BufferedBytes);
        let held = self.limits.tcp_bytes_seen + self.datagram_bytes();
        self.limits.buffers_are_full = held >= limit;
        let Some(datagrams) = self.datagrams.made() else {
            return;
        };
        for account in datagrams.accounts_mut() {
            let others = held - account.bytes() as u64;
            let left = match limit {
                Resource::UNLIMITED => usize::MAX,
                limit => usize::try_from(limit.saturating_sub(others)).unwrap_or(usize::MAX),
            };
            account.set_limit(left);
        }
    }

    /// Counts the bytes in TCP's buffers, every so many entries that it costs each next to nothing.
    fn recount(&mut self) {
        if let Some(later) = self.limits.recount_in.checked_sub(1) {
            self.limits.recount_in = later;
        } else {
            let connections = u32::try_from(self.tcp.counts().connections).unwrap_or(u32::MAX);
            self.limits.recount_in = connections.saturating_sub(CHEAP_RECOUNT);
            self.limits.tcp_bytes_seen = self.tcp.held_bytes() as u64;
        }
        let seen = self.limits.tcp_bytes_seen + self.datagram_bytes();
        self.limits.note(Resource::BufferedBytes, seen);
    }

    /// Bytes in the buffers of sockets other than TCP's.
    fn datagram_bytes(&self) -> u64 {
        let accounts = self.datagrams.used().map(Datagrams::accounts);
        accounts.map_or(0, |all| all.iter().map(|a| a.bytes() as u64).sum())
    }

    fn socket_count(&self) -> u64 {
        let tcp = self.tcp.counts();
        let sockets = tcp.connections + tcp.half_open + tcp.listeners;
        (sockets + self.datagram_sockets()) as u64
    }

    fn fullest_backlog(&self) -> u64 {
        let sockets = self.tcp.sockets();
        let listeners = sockets.iter().filter(|s| s.remote.is_none());
        listeners.map(|s| s.recv_queue as u64).max().unwrap_or(0)
    }
}
