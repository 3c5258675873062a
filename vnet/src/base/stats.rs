//! Counters of one vnet, and the reasons for which a packet may be dropped.
//!
//! Every received frame is accounted for exactly once: `received` is the sum of `delivered`,
//! `forwarded`, `dropped` and `pending`, where *pending* is what waits for reassembly or for a neighbour's address. Tests
//! check this for every vnet.
//!
//! A frame that a bridge forwards counts as *forwarded* once, however many members it leaves by. A
//! frame that a bridge both forwards and delivers to its own vnet counts as received twice: once as
//! the forwarded frame, and once at the bridge's interface.

use std::fmt;

use super::sorted::Sorted;
use super::time::Duration;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was dropped. Each drop is counted under exactly one reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// Every reason, in the order of declaration.
            pub const ALL: &[DropReason] = &[$(DropReason::$name,)+];

            /// The reason as a stable kebab-case word, for reports and captures.
            pub const fn as_str(self) -> &'static str {
                match self { $(DropReason::$name => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    /// A frame for an interface that has been removed or is down.
    InterfaceDown = "interface-down",
    /// The destination MAC address is neither ours, broadcast nor a joined group.
    NotForUs = "not-for-us",
    /// Tagged for a VLAN that has no interface where the frame arrived.
    UnknownVlan = "unknown-vlan",
    /// An EtherType or IP protocol that is not implemented.
    UnknownProtocol = "unknown-protocol",
    /// A header shorter than its fixed part, or an inconsistent length field.
    Malformed = "malformed",
    /// A checksum that does not match.
    BadChecksum = "bad-checksum",
    /// An impossible source or destination address (martian).
    Martian = "martian",
    /// The packet has a source route.
    SourceRoute = "source-route",
    /// The packet failed the reverse path check (RFC 3704).
    ReversePath = "reverse-path",
    /// No route to the destination.
    NoRoute = "no-route",
    /// A route says that packets to the destination are dropped silently.
    Blackhole = "blackhole",
    /// A route says that the destination is unreachable.
    UnreachableRoute = "unreachable-route",
    /// A route says that communication with the destination is prohibited.
    Prohibited = "prohibited",
    /// The time to live expired in transit.
    TtlExceeded = "ttl-exceeded",
    /// Addressed to another host, and this vnet does not forward.
    NotForwarding = "not-forwarding",
    /// Larger than the next hop's MTU, with fragmentation forbidden.
    TooBig = "too-big",
    /// A fragment that overlaps another one (RFC 5722, applied to IPv4 as well).
    FragmentOverlap = "fragment-overlap",
    /// A duplicate of a fragment.
    FragmentDuplicate = "fragment-duplicate",
    /// Reassembly ran out of time.
    FragmentTimeout = "fragment-timeout",
    /// Reassembly ran out of space.
    FragmentLimit = "fragment-limit",
    /// The neighbour did not answer.
    NeighbourUnreachable = "neighbour-unreachable",
    /// Too many packets are waiting for one neighbour.
    NeighbourQueueFull = "neighbour-queue-full",
    /// The neighbour table is full.
    NeighbourLimit = "neighbour-limit",
    /// No socket at the destination port.
    NoSocket = "no-socket",
    /// The socket's receive buffer is full.
    SocketBufferFull = "socket-buffer-full",
    /// A TCP segment that its connection refused.
    TcpUnacceptable = "tcp-unacceptable",
    /// A connection request that found the backlog full.
    TcpBacklogFull = "tcp-backlog-full",
    /// An ICMP message that concerns no socket here.
    IcmpIgnored = "icmp-ignored",
    /// Lost by the link's loss model.
    LinkLoss = "link-loss",
    /// Bits were flipped on the link, and the frame check sequence detected it.
    LinkCorrupt = "link-corrupt",
    /// The link's queue was full.
    LinkQueueFull = "link-queue-full",
    /// A queue discipline dropped it to make its sender slow down.
    LinkAqm = "link-aqm",
    /// The link was down.
    LinkDown = "link-down",
    /// Nothing is connected at the other end.
    LinkUnplugged = "link-unplugged",
    /// The receiver's inbox was full, or more arrived over a long time than the receiver could process.
    InboxFull = "inbox-full",
    /// A bridge had nowhere to send it: its destination is on the side that it came from, no other
    /// member takes it, or it is addressed to a group that bridges do not forward.
    BridgeFiltered = "bridge-filtered",
    /// Arrived at a VLAN-aware bridge and was in no VLAN, or in one to which the member by which it arrived, or
    /// for which it was, does not belong.
    VlanFiltered = "vlan-filtered",
    /// Arrived at a bridge by a member behind which the maximum number of stations is already known.
    BridgeStations = "bridge-stations",
    /// Returned to a bridge that it had already crossed, or crossed too many bridges.
    BridgeLoop = "bridge-loop",
    /// Arrived by, or was for, a member of a bridge that the spanning tree keeps from forwarding.
    StpDiscarding = "stp-discarding",
    /// Arrived by, or was for, a member of a bridge that a guard of the spanning tree has closed.
    StpGuard = "stp-guard",
    /// Arrived by a member of a lagg that is not in use.
    LaggInactive = "lagg-inactive",
    /// Of a kind that an interface accepts only at a limited rate: frames that a bridge would flood, or marker
    /// requests from the other end of a lagg's link.
    RateLimited = "rate-limited",
    /// Passed from interface to interface more often than any sensible configuration needs.
    NestedTooDeep = "nested-too-deep",
    /// One copy too many: bridges stacked on bridges by means of VLAN interfaces multiply a frame.
    TooManyCopies = "too-many-copies",
    /// Released because its vnet or interface was removed.
    Teardown = "teardown",
    /// Being processed, or waiting, when its vnet's stack failed.
    VnetFailed = "vnet-failed",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Packet counters of one vnet. Counts are frames as they crossed the interface, so a large
/// segment that stayed whole counts once.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Frames taken from the inbox, and those that found no room in it.
    pub received: u64,
    /// Received frames that a protocol of this vnet consumed.
    pub delivered: u64,
    /// Received packets sent on towards another host.
    pub forwarded: u64,
    /// Frames handed to a wire, before its impairments.
    pub sent: u64,
    /// ICMP errors not sent because of the rate limit.
    pub icmp_rate_limited: u64,
    /// How often the driver let the vnet process what had arrived and what was due: the events of a
    /// simulation. Under the threads driver the number depends on scheduling.
    pub services: u64,
    /// Processor time that threads have spent in the vnet, in services and in calls: an estimate from samples, under the
    /// threads driver. Nothing where time is simulated.
    pub processor: Duration,
    rx_drops: Drops,
    tx_drops: Drops,
    /// Why the frame that is being taken in was dropped, if it was.
    refused: Option<DropReason>,
}

/// Packets that were dropped, by the number of the reason: of nearly all reasons there is none.
type Drops = Sorted<u8, u64>;

// A reason has a number of eight bits.
const _: () = assert!(DropReason::ALL.len() <= 1 << u8::BITS);

fn count(drops: &mut Drops, reason: DropReason, frames: u64) {
    match drops.get_mut(&(reason as u8)) {
        Some(count) => *count += frames,
        None if frames > 0 => drops.insert(reason as u8, frames),
        None => {}
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            received: 0,
            delivered: 0,
            forwarded: 0,
            sent: 0,
            icmp_rate_limited: 0,
            services: 0,
            processor: Duration::ZERO,
            rx_drops: Drops::default(),
            tx_drops: Drops::default(),
            refused: None,
        }
    }
}

impl Stats {
    /// Counts that the frame that is being taken in was dropped.
    pub(crate) fn drop_rx(&mut self, reason: DropReason) {
        self.count_rx(reason, 1);
        self.refused = Some(reason);
    }

    /// Counts frames that were sent to this vnet and found its inbox full.
    pub(crate) fn overflowed(&mut self, frames: u64) {
        if frames > 0 {
            self.received += frames;
            self.count_rx(DropReason::InboxFull, frames);
        }
    }

    /// Counts `others` more received packets that were dropped as the last one was.
    pub(crate) fn drop_more_rx(&mut self, reason: DropReason, others: u64) {
        self.count_rx(reason, others);
    }

    /// Counts a packet that came in earlier, waited, and was dropped.
    pub(crate) fn drop_waiting_rx(&mut self, reason: DropReason) {
        self.count_rx(reason, 1);
    }

    fn count_rx(&mut self, reason: DropReason, frames: u64) {
        count(&mut self.rx_drops, reason, frames);
    }

    fn count_tx(&mut self, reason: DropReason, frames: u64) {
        count(&mut self.tx_drops, reason, frames);
    }

    /// Counts what was under way when the stack failed: `untaken` frames that had come in and
    /// nobody had looked at yet, whatever has been looked at and is not accounted for, and `held`
    /// frames on their way out.
    pub(crate) fn fail(&mut self, untaken: u64, held: u64) {
        self.received += untaken;
        let accounted = self.delivered + self.forwarded + self.rx_dropped();
        let under_way = self.received.saturating_sub(accounted);
        self.count_rx(DropReason::VnetFailed, under_way);
        self.count_tx(DropReason::VnetFailed, held);
        self.refused = None;
    }

    /// Why the frame that was taken in last was dropped, if it was; forgets it.
    pub(crate) fn take_refused(&mut self) -> Option<DropReason> {
        self.refused.take()
    }

    /// Counts a packet of our own, or on its way out, that was dropped.
    pub(crate) fn drop_tx(&mut self, reason: DropReason) {
        self.count_tx(reason, 1);
    }

    /// Received packets dropped for `reason`.
    pub fn rx_drops(&self, reason: DropReason) -> u64 {
        let count = self.rx_drops.get(&(reason as u8));
        count.copied().unwrap_or(0)
    }

    /// Outgoing packets dropped for `reason`.
    pub fn tx_drops(&self, reason: DropReason) -> u64 {
        let count = self.tx_drops.get(&(reason as u8));
        count.copied().unwrap_or(0)
    }

    /// Received packets dropped for any reason.
    pub fn rx_dropped(&self) -> u64 {
        self.rx_drops.values().sum()
    }

    /// Outgoing packets dropped for any reason.
    pub fn tx_dropped(&self) -> u64 {
        self.tx_drops.values().sum()
    }
}
