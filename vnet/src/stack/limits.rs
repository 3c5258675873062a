//! How much of everything a stack may hold. A limit that is reached concerns this stack alone:
//! what would exceed it is refused with a typed error, or is a packet that is dropped and counted.

use std::fmt;

use super::Stack;
use crate::base::stats::{DropReason, Stats};
use crate::netif::NetifError;
use crate::transport::error::SocketError;

macro_rules! resources {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Something of which an instance may hold so much.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Resource { $($(#[doc = $doc])+ $name,)+ }

        impl Resource {
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
    /// Sockets of all kinds, connections that nobody has accepted yet included.
    /// Beyond the limit, making one fails, and connection requests are ignored.
    Sockets = "sockets",
    /// Interfaces, the loopback interface included. Beyond the limit, making one fails.
    Interfaces = "interfaces",
    /// Instances made by this one. Beyond the limit, making one fails.
    Children = "children",
    /// Bytes in the buffers of TCP connections. Beyond the limit, sending fails, and so does making
    /// a connection. Counted now and then, not at every byte: it may be overshot in between.
    BufferedBytes = "buffered-bytes",
    /// Frames on their way to the instance. Beyond the limit they are dropped
    /// ([`DropReason::InboxFull`]).
    QueuedPackets = "queued-packets",
    /// Routes, connected ones included. Beyond the limit, adding one fails.
    Routes = "routes",
    /// Neighbours. Beyond the limit, others make room, or the packet is dropped
    /// ([`DropReason::NeighbourLimit`]).
    Neighbours = "neighbours",
    /// Bytes of fragments that wait for the rest of their datagram. Beyond the limit the oldest
    /// are dropped ([`DropReason::FragmentLimit`]).
    ReassemblyBytes = "reassembly-bytes",
    /// Connections that wait at one listener. What a listener asks for is cut to the limit; beyond
    /// it connection requests are dropped ([`DropReason::TcpBacklogFull`]). Concerns listeners
    /// made from then on.
    Backlog = "backlog",
    /// Tasks of the instance that have not ended. Beyond the limit a new one ends at once, and its
    /// handle says so.
    Tasks = "tasks",
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a resource an instance holds and has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// What it is about.
    pub resource: Resource,
    /// What is held now. Of the backlog: at the fullest listener.
    pub current: u64,
    /// The most that was held at the end of any entry into the instance; of the backlog and of
    /// buffered bytes, as far as they were counted.
    pub high_water: u64,
    /// The limit; `u64::MAX` is none.
    pub limit: u64,
    /// What was refused or dropped because of the limit.
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

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

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

impl From<LimitReached> for NetifError {
    fn from(reached: LimitReached) -> NetifError {
        NetifError::Limit(reached.0.as_str())
    }
}

/// The limits that belong to no single layer, and what was seen of all.
#[derive(Debug)]
pub struct Limiter {
    sockets: u64,
    interfaces: u64,
    children: u64,
    buffered_bytes: u64,
    /// Children there are; kept here by the instance.
    pub(crate) children_now: u64,
    /// Whether new sockets can be made.
    pub(crate) admission: Admission,
    /// Buffered bytes when they were last counted.
    buffered_seen: u64,
    /// Entries until they are counted again.
    recount_in: u32,
    high: [u64; Resource::ALL.len()],
    refused: [u64; Resource::ALL.len()],
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter {
            sockets: UNLIMITED,
            interfaces: UNLIMITED,
            children: UNLIMITED,
            buffered_bytes: UNLIMITED,
            children_now: 0,
            admission: Admission::Open,
            buffered_seen: 0,
            recount_in: 0,
            high: [0; Resource::ALL.len()],
            refused: [0; Resource::ALL.len()],
        }
    }
}

impl Limiter {
    /// Notes that something was refused.
    pub(crate) fn refuse(&mut self, resource: Resource) -> LimitReached {
        self.refused[resource as usize] += 1;
        LimitReached(resource)
    }

    #[inline]
    fn note(&mut self, resource: Resource, current: u64) {
        let high = &mut self.high[resource as usize];
        *high = current.max(*high);
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

    /// Asks for one more of a resource.
    ///
    /// # Errors
    /// [`LimitReached`], which is counted.
    pub(crate) fn admit(&mut self, resource: Resource) -> Result<(), LimitReached> {
        let (current, limit) = match resource {
            Resource::Sockets => (self.socket_count(), self.limits.sockets),
            Resource::Interfaces => (self.ifs.len() as u64, self.limits.interfaces),
            Resource::Children => (self.limits.children_now, self.limits.children),
            Resource::BufferedBytes => (self.limits.buffered_seen, self.limits.buffered_bytes),
            // The layers ask for themselves.
            Resource::QueuedPackets
            | Resource::Routes
            | Resource::Neighbours
            | Resource::ReassemblyBytes
            | Resource::Backlog
            | Resource::Tasks => return Ok(()),
        };
        match current < limit {
            true => Ok(()),
            false => Err(self.limits.refuse(resource)),
        }
    }

    /// Sets a limit, from now on; what there is stays. [`Resource::QueuedPackets`] and
    /// [`Resource::Tasks`] are not the stack's.
    pub(crate) fn set_limit(&mut self, resource: Resource, limit: u64) {
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        match resource {
            Resource::Sockets => self.limits.sockets = limit,
            Resource::Interfaces => self.limits.interfaces = limit,
            Resource::Children => self.limits.children = limit,
            Resource::BufferedBytes => self.limits.buffered_bytes = limit,
            Resource::QueuedPackets => {}
            Resource::Routes => self.ip.fib.set_max_routes(size),
            Resource::Neighbours => {
                let mut config = self.neigh.config().clone();
                config.limit = size;
                self.neigh.set_config(config);
            }
            Resource::ReassemblyBytes => {
                let mut limits = self.ip.reassembly.limits();
                limits.max_bytes = size;
                self.ip.reassembly.set_limits(limits);
            }
            Resource::Backlog => self.tcp.config_mut().max_backlog = size,
            Resource::Tasks => {}
        }
    }

    /// What there is of a resource; [`Resource::QueuedPackets`] and [`Resource::Tasks`] are not the
    /// stack's.
    pub(crate) fn usage(&self, stats: &Stats, resource: Resource) -> Usage {
        let dropped = |reason| stats.rx_drops(reason) + stats.tx_drops(reason);
        let limits = &self.limits;
        let (current, limit, dropped) = match resource {
            Resource::Sockets => (self.socket_count(), limits.sockets, 0),
            Resource::Interfaces => (self.ifs.len() as u64, limits.interfaces, 0),
            Resource::Children => (limits.children_now, limits.children, 0),
            Resource::BufferedBytes => (self.tcp.buffered_bytes() as u64, limits.buffered_bytes, 0),
            Resource::QueuedPackets => (0, UNLIMITED, dropped(DropReason::InboxFull)),
            Resource::Routes => (self.ip.fib.len() as u64, self.ip.fib.max_routes() as u64, 0),
            Resource::Neighbours => (
                self.neigh.len() as u64,
                self.neigh.config().limit as u64,
                dropped(DropReason::NeighbourLimit),
            ),
            Resource::ReassemblyBytes => (
                self.ip.reassembly.bytes() as u64,
                self.ip.reassembly.limits().max_bytes as u64,
                dropped(DropReason::FragmentLimit),
            ),
            Resource::Tasks => (0, UNLIMITED, 0),
            Resource::Backlog => (
                self.fullest_backlog(),
                self.tcp.config().max_backlog as u64,
                dropped(DropReason::TcpBacklogFull),
            ),
        };
        Usage {
            resource,
            current,
            high_water: limits.high[resource as usize].max(current),
            limit,
            refused: limits.refused[resource as usize] + dropped,
        }
    }

    /// Notes how much there is, at the end of an entry.
    #[inline]
    pub(crate) fn observe(&mut self) {
        let sockets = self.socket_count();
        let limits = &mut self.limits;
        limits.note(Resource::Sockets, sockets);
        limits.note(Resource::Interfaces, self.ifs.len() as u64);
        limits.note(Resource::Children, limits.children_now);
        limits.note(Resource::Routes, self.ip.fib.len() as u64);
        limits.note(Resource::Neighbours, self.neigh.len() as u64);
        limits.note(Resource::ReassemblyBytes, self.ip.reassembly.bytes() as u64);
        if limits.sockets != UNLIMITED {
            // Peers make connections without asking `admit`: TCP refuses them by itself.
            let others = self.udp.len() + self.raw.len() + self.echo.len();
            let left = limits.sockets.saturating_sub(others as u64);
            self.tcp.config_mut().max_sockets = usize::try_from(left).unwrap_or(usize::MAX);
        }
        if self.limits.buffered_bytes != UNLIMITED {
            self.recount();
        }
    }

    /// Counts the buffered bytes, every so many entries that it costs each next to nothing.
    fn recount(&mut self) {
        if let Some(later) = self.limits.recount_in.checked_sub(1) {
            self.limits.recount_in = later;
            return;
        }
        let connections = u32::try_from(self.tcp.counts().connections).unwrap_or(u32::MAX);
        self.limits.recount_in = connections.saturating_sub(CHEAP_RECOUNT);
        self.limits.buffered_seen = self.tcp.buffered_bytes() as u64;
        let seen = self.limits.buffered_seen;
        self.limits.note(Resource::BufferedBytes, seen);
    }

    fn socket_count(&self) -> u64 {
        let tcp = self.tcp.counts();
        let sockets = tcp.connections + tcp.half_open + tcp.listeners;
        (sockets + self.udp.len() + self.raw.len() + self.echo.len()) as u64
    }

    fn fullest_backlog(&self) -> u64 {
        let sockets = self.tcp.sockets();
        let listeners = sockets.iter().filter(|s| s.remote.is_none());
        listeners.map(|s| s.recv_queue as u64).max().unwrap_or(0)
    }
}
