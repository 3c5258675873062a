//! One port: its variables, and the machines that look at nothing but it (IEEE 802.1Q-2018, clauses
//! 13.28 to 13.35): receive, protocol migration, bridge detection, information and transmit.

use super::bpdu::{Bpdu, Config, Rst};
use super::config::{Edge, RstpPort, Segment};
use super::state::{PortState, Role, StpCounters};
use super::vector::{PortIdentifier, PortNumber, Ticks, Times, Vector};
use crate::base::switch::Switch as Switchable;
use crate::base::time::{Duration, Instant};

/// How long a port waits to find out which protocol is spoken (table 13-5).
const MIGRATE_TIME: Duration = Duration::from_secs(3);
/// For how long a proposal may be on its way. A port that hears a worse one later than that after its own takes its own for
/// lost. Were it on its way all the same, the first agreement would appear faster than it was.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// A timer that stands still for as long as a port is what it is.
pub(super) const HELD: Instant = Instant::MAX;

/// Where what a port knows of the root comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Info {
    /// It is down.
    Disabled,
    /// What it knew has expired.
    Aged,
    /// It is the designated port itself.
    Mine,
    /// The designated port has told it.
    Received,
}

/// What is known of the protocol that the other bridges on a segment speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Migration {
    CheckingRstp,
    SelectingStp,
    Sensing,
}

/// The topology change machine of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopologyChange {
    Inactive,
    Learning,
    Active,
}

/// A message about a path to the root that waits to be looked at. A Config BPDU is one that an RST
/// BPDU could have said, too.
#[derive(Clone, Copy, Debug)]
struct Message {
    rst: Rst,
    acknowledgement: bool,
}

/// A port.
#[derive(Debug)]
pub(super) struct Port {
    pub number: PortNumber,
    pub config: RstpPort,
    pub cost: u32,
    /// The link is there.
    pub is_up: bool,
    /// A BPDU came in that must not.
    pub is_guarded: bool,
    message: Option<Message>,

    migration: Migration,
    heard_rstp: bool,
    heard_stp: bool,
    pub send_rstp: bool,
    migrate_until: Instant,
    pub oper_edge: bool,
    /// No BPDU has come in since it came up.
    is_silent: bool,
    edge_delay: Instant,

    pub info: Info,
    /// The best that was said on the segment, or what this port says.
    pub priority: Vector,
    pub times: Times,
    info_until: Instant,
    /// What it would say.
    pub designated: Vector,
    pub designated_times: Times,
    pub proposing: bool,
    pub proposed: bool,
    pub agree: bool,
    pub agreed: bool,
    pub disputed: bool,
    /// When an agreement can be to what the port says now.
    trust_at: Instant,
    /// When it was proposed what nobody has agreed to yet.
    asked_at: Option<Instant>,
    /// How long it takes to get an agreement, as far as is known.
    round_trip: Duration,
    /// An agreement came too early, and has to be asked for once more.
    asks_again: bool,

    pub role: Role,
    pub selected_role: Role,
    pub selected: bool,
    pub reselect: bool,
    pub update_info: bool,
    pub sync: bool,
    pub synced: bool,
    pub re_root: bool,
    pub learn: bool,
    pub forward: bool,
    /// When it may learn or forward without agreement.
    pub forward_at: Instant,
    /// Until when it was the root port a moment ago.
    pub recent_root: Instant,
    /// Until when it was a backup port a moment ago.
    pub recent_backup: Instant,

    pub change: TopologyChange,
    pub change_until: Instant,
    pub change_ack: bool,
    pub propagate_change: bool,
    pub heard_change: bool,
    pub heard_notification: bool,
    pub heard_ack: bool,

    pub new_info: bool,
    pub hello_at: Instant,
    sent: u8,
    sent_since: Instant,
    /// What it was told to do last.
    pub told: PortState,
    pub flush: bool,
    pub counters: StpCounters,
}

impl Port {
    /// A port that is down.
    pub(super) fn new(
        number: PortNumber,
        config: RstpPort,
        cost: u32,
        own: Vector,
        times: Times,
    ) -> Port {
        Port {
            number,
            config,
            cost,
            is_up: false,
            is_guarded: false,
            message: None,
            migration: Migration::CheckingRstp,
            heard_rstp: false,
            heard_stp: false,
            send_rstp: true,
            migrate_until: HELD,
            oper_edge: false,
            is_silent: true,
            edge_delay: HELD,
            info: Info::Disabled,
            priority: own,
            times,
            info_until: Instant::ZERO,
            designated: own,
            designated_times: times,
            proposing: false,
            proposed: false,
            agree: false,
            agreed: false,
            disputed: false,
            trust_at: Instant::ZERO,
            asked_at: None,
            round_trip: Duration::ZERO,
            asks_again: false,
            role: Role::Disabled,
            selected_role: Role::Disabled,
            selected: false,
            reselect: true,
            update_info: false,
            sync: false,
            synced: true,
            re_root: false,
            learn: false,
            forward: false,
            forward_at: HELD,
            recent_root: Instant::ZERO,
            recent_backup: Instant::ZERO,
            change: TopologyChange::Inactive,
            change_until: Instant::ZERO,
            change_ack: false,
            propagate_change: false,
            heard_change: false,
            heard_notification: false,
            heard_ack: false,
            new_info: false,
            hello_at: Instant::ZERO,
            sent: 0,
            sent_since: Instant::ZERO,
            told: PortState::Discarding,
            flush: false,
            counters: StpCounters::default(),
        }
    }

    /// `portEnabled`.
    pub(super) fn is_enabled(&self) -> bool {
        self.is_up && !self.is_guarded
    }

    pub(super) fn id(&self) -> PortIdentifier {
        PortIdentifier::new(self.config.priority, self.number)
    }

    /// True when the best path that was heard here must not be used.
    pub(super) fn is_held_back(&self) -> bool {
        let is_better = self.info == Info::Received && self.priority < self.designated;
        self.config.root_guard == Switchable::On && is_better
    }

    /// What it is to do with frames.
    pub(super) fn state(&self) -> PortState {
        match (self.learn, self.forward) {
            _ if self.is_guarded => PortState::Guarded,
            (_, true) => PortState::Forwarding,
            (true, false) => PortState::Learning,
            (false, false) if self.is_held_back() => PortState::Guarded,
            (false, false) => PortState::Discarding,
        }
    }

    /// The machines find out what is at a port that came up.
    pub(super) fn start(&mut self, now: Instant) {
        self.migrate_until = now + MIGRATE_TIME;
        self.edge_delay = now + MIGRATE_TIME;
        self.hello_at = now + self.hello();
    }

    /// A port that is down has forgotten what it knew of its segment.
    pub(super) fn stop(&mut self) {
        self.message = None;
        self.migration = Migration::CheckingRstp;
        self.send_rstp = true;
        (self.heard_rstp, self.heard_stp) = (false, false);
        (self.migrate_until, self.edge_delay) = (HELD, HELD);
        (self.sent, self.new_info) = (0, false);
        self.disputed = false;
        (self.trust_at, self.round_trip) = (Instant::ZERO, Duration::ZERO);
        (self.asked_at, self.asks_again) = (None, false);
        self.is_silent = true;
        self.oper_edge = self.config.edge == Edge::Yes;
    }

    /// Is configured anew. What is declared of an edge holds until a BPDU comes in.
    pub(super) fn configure(&mut self, config: RstpPort, cost: u32) {
        let redeclared = config.edge != self.config.edge;
        (self.config, self.cost) = (config, cost);
        if redeclared {
            self.oper_edge = config.edge == Edge::Yes && self.is_silent;
        }
    }

    /// Receive machine: takes a BPDU in, to be looked at by [`Port::step`].
    pub(super) fn receive(&mut self, now: Instant, bpdu: &Bpdu) {
        (self.oper_edge, self.is_silent) = (false, false);
        self.edge_delay = now + MIGRATE_TIME;
        match bpdu {
            Bpdu::TopologyChange => {
                self.heard_stp = true;
                self.heard_notification = true;
                self.counters.changes_received += 1;
            }
            Bpdu::Config(config) => {
                self.heard_stp = true;
                self.message = Some(config.into());
            }
            Bpdu::Rst(rst) => {
                self.heard_rstp = true;
                self.message = Some(Message {
                    rst: *rst,
                    acknowledgement: false,
                });
            }
        }
    }

    /// Runs the machines of the port alone; true when others have to look again.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        self.migrate(now);
        self.detect_bridge(now);
        self.information(now)
    }

    fn migrate(&mut self, now: Instant) {
        if !self.is_enabled() {
            return;
        }
        let has_waited = self.migrate_until <= now;
        if self.migration != Migration::Sensing && has_waited {
            self.migration = Migration::Sensing;
            (self.heard_rstp, self.heard_stp) = (false, false);
        }
        if self.migration == Migration::Sensing {
            if !self.send_rstp && self.heard_rstp {
                self.migration = Migration::CheckingRstp;
                self.send_rstp = true;
                self.migrate_until = now + MIGRATE_TIME;
            } else if self.send_rstp && self.heard_stp {
                self.migration = Migration::SelectingStp;
                self.send_rstp = false;
                self.migrate_until = now + MIGRATE_TIME;
            }
        }
    }

    fn detect_bridge(&mut self, now: Instant) {
        let is_silent = self.edge_delay <= now && self.config.edge != Edge::No;
        if self.is_enabled() && is_silent && self.send_rstp && self.proposing {
            self.oper_edge = true;
        }
    }

    /// The port information machine; true when anything has changed.
    fn information(&mut self, now: Instant) -> bool {
        if !self.is_enabled() {
            self.message = None;
            if self.info == Info::Disabled {
                return false;
            }
            (self.proposing, self.proposed) = (false, false);
            (self.agree, self.agreed) = (false, false);
            self.know(Info::Disabled);
            return true;
        }
        if self.info == Info::Disabled {
            self.know(Info::Aged);
            return true;
        }
        if self.selected && self.update_info {
            self.update();
            return true;
        }
        if let Some(message) = self.message
            && self.info != Info::Aged
            && !self.update_info
        {
            self.message = None;
            return self.hear(now, &message);
        }
        if self.info == Info::Received && self.info_until <= now && !self.update_info {
            self.know(Info::Aged);
            return true;
        }
        false
    }

    fn know(&mut self, info: Info) {
        self.info = info;
        self.reselect = true;
        self.selected = false;
    }

    /// It is designated, with what the bridge says now.
    fn update(&mut self) {
        (self.proposing, self.proposed) = (false, false);
        let is_no_worse = self.info == Info::Mine && self.designated <= self.priority;
        self.agreed = self.agreed && is_no_worse;
        self.synced = self.synced && self.agreed;
        if !is_no_worse {
            self.distrust();
        }
        self.priority = self.designated;
        self.times = self.designated_times;
        self.update_info = false;
        self.info = Info::Mine;
        self.new_info = true;
    }

    /// What the port says has become worse, and the other end may still stand on what it heard before: the
    /// two could forward in a circle until it hears this, and an agreement that is on its way is one
    /// to something else. The standard takes that risk. Here the port discards until the other end
    /// agrees anew, if there is a bridge that can agree, and takes no agreement for that before what
    /// it has said now can have been answered. Where no BPDU has ever come from, hosts are.
    fn distrust(&mut self) {
        let can_agree =
            self.send_rstp && !self.is_silent && self.config.segment == Segment::PointToPoint;
        self.sync |= can_agree && self.forward && self.info == Info::Mine && !self.oper_edge;
        self.trust_at = HELD;
    }

    /// Notes what another bridge has agreed to, unless that was something else.
    fn hear_agreement(&mut self, now: Instant) {
        if let Some(asked_at) = self.asked_at.take() {
            // The longest of late: one that was long once is not waited for for ever.
            let faded = self.round_trip - self.round_trip / 4;
            self.round_trip = faded.max(now - asked_at).min(self.hello());
        }
        if now < self.trust_at {
            self.asks_again = true;
            return;
        }
        self.agreed = true;
        self.proposing = false;
    }

    /// `rcvInfo` (clause 13.29.14), and what the states for its outcomes do; true when a role may
    /// change.
    fn hear(&mut self, now: Instant, message: &Message) -> bool {
        let rst = &message.rst;
        let is_known = rst.vector == self.priority && rst.times == self.times;
        match rst.role {
            Role::Designated if is_known && self.info == Info::Received => {
                self.set_changes(message);
                self.info_until = self.expiry(now);
                self.proposed |= rst.proposal;
                false
            }
            Role::Designated if self.is_superseded_by(&rst.vector) && !is_known => {
                self.set_changes(message);
                (self.agreed, self.proposing) = (false, false);
                self.proposed |= rst.proposal;
                let is_no_worse = self.info == Info::Received && rst.vector <= self.priority;
                self.agree = self.agree && is_no_worse;
                self.priority = rst.vector;
                self.times = rst.times;
                self.info_until = self.expiry(now);
                self.know(Info::Received);
                true
            }
            // Clause 13.29.18: somebody forwards who should not, and does not hear this port.
            Role::Designated => {
                if rst.learning {
                    self.disputed = true;
                    self.agreed = false;
                }
                // Whoever says that has not heard this port: it was not up yet, or has begun anew. The standard leaves that
                // to the next hello; 802.1D-1998 replies to such a BPDU at once.
                if self.info == Info::Mine {
                    self.new_info = true;
                    // What was asked so long ago was lost: how long an answer takes is counted from now on.
                    self.asked_at = self.asked_at.filter(|at| now <= *at + ON_ITS_WAY);
                }
                false
            }
            Role::Root | Role::Alternate | Role::Backup if rst.vector >= self.priority => {
                self.set_changes(message);
                self.agreed = false;
                if rst.agreement && self.config.segment == Segment::PointToPoint {
                    self.hear_agreement(now);
                }
                false
            }
            _ => false,
        }
    }

    /// Whether a vector takes the place of the port's own (clause 13.10).
    fn is_superseded_by(&self, vector: &Vector) -> bool {
        *vector <= self.priority || self.priority.is_of_the_same_port(vector)
    }

    fn set_changes(&mut self, message: &Message) {
        self.heard_change |= message.rst.topology_change;
        self.heard_ack |= message.acknowledgement;
        self.counters.changes_received += u64::from(message.rst.topology_change);
    }

    /// `updtRcvdInfoWhile`: three hello times, unless one bridge more is one too many.
    fn expiry(&self, now: Instant) -> Instant {
        match self.times.message_age.plus(Ticks::SECOND) <= self.times.max_age {
            true => now + 3 * self.times.hello.max(Ticks::SECOND).duration(),
            false => now,
        }
    }

    pub(super) fn hello(&self) -> Duration {
        self.designated_times.hello.duration()
    }

    /// `forwardDelay`: with bridges that agree, the hello time is long enough.
    pub(super) fn forward_delay(&self) -> Duration {
        match self.send_rstp {
            true => self.hello(),
            false => self.designated_times.forward_delay.duration(),
        }
    }

    /// `EdgeDelay`.
    pub(super) fn propose(&mut self, now: Instant) {
        self.proposing = true;
        self.new_info = true;
        self.edge_delay = now
            + match self.config.segment {
                Segment::PointToPoint => MIGRATE_TIME,
                Segment::Shared => self.designated_times.max_age.duration(),
            };
    }

    /// Says at regular times that it is there, and proposes once more what was agreed to too early.
    pub(super) fn say_hello(&mut self, now: Instant) {
        if self.asks_again && self.trust_at <= now {
            self.asks_again = false;
            self.new_info |= self.proposing;
        }
        if self.hello_at <= now && self.says_hello(now) {
            self.new_info = true;
            self.hello_at = now + self.hello();
        }
    }

    fn says_hello(&self, now: Instant) -> bool {
        let is_settled = self.is_enabled() && self.selected && !self.update_info;
        is_settled
            && match self.role {
                Role::Designated => true,
                Role::Root => self.change_until > now,
                Role::Disabled | Role::Alternate | Role::Backup => false,
            }
    }

    /// The transmit machine: the next BPDU, if there is one and it may be sent now.
    pub(super) fn poll_transmit(&mut self, now: Instant, hold_count: u8) -> Option<Bpdu> {
        if !(self.new_info && self.is_enabled() && self.selected) || self.update_info {
            return None;
        }
        let bpdu = self.bpdu(now);
        if bpdu.is_some() {
            if self.sent_at(now) >= hold_count {
                return None;
            }
            if self.sent == 0 {
                self.sent_since = now;
            }
            self.sent += 1;
            if self.trust_at == HELD {
                self.trust_at = now + self.round_trip;
                self.asked_at = None;
            }
            if self.proposing && self.asked_at.is_none() {
                self.asked_at = Some(now);
            }
            self.hello_at = now + self.hello();
            self.change_ack = false;
            self.counters.sent += 1;
        }
        self.new_info = false;
        bpdu
    }

    /// `txCount`, of which one is forgotten each second.
    fn sent_at(&mut self, now: Instant) -> u8 {
        let seconds = (now - self.sent_since).as_secs();
        let forgotten = u8::try_from(seconds).unwrap_or(u8::MAX).min(self.sent);
        self.sent -= forgotten;
        self.sent_since += Duration::from_secs(forgotten.into());
        self.sent
    }

    fn bpdu(&self, now: Instant) -> Option<Bpdu> {
        let (vector, times) = (self.designated, self.designated_times);
        let topology_change = self.change_until > now;
        match (self.send_rstp, self.role) {
            (_, Role::Disabled) => None,
            (true, role) => Some(Bpdu::Rst(Rst {
                vector,
                times,
                role,
                topology_change,
                proposal: self.proposing,
                agreement: self.agree,
                learning: self.learn,
                forwarding: self.forward,
            })),
            (false, Role::Designated) => Some(Bpdu::Config(Config {
                vector,
                times,
                topology_change,
                acknowledgement: self.change_ack,
            })),
            (false, Role::Root) if topology_change => Some(Bpdu::TopologyChange),
            (false, Role::Root | Role::Alternate | Role::Backup) => None,
        }
    }

    /// When the machines have to look at it again.
    pub(super) fn next_deadline(&self, now: Instant, hold_count: u8) -> Instant {
        if !self.is_enabled() {
            return Instant::MAX;
        }
        let when = |is_awaited: bool, at: Instant| match is_awaited && at > now {
            true => at,
            false => Instant::MAX,
        };
        let is_held = self.new_info && self.sent >= hold_count;
        let is_unsure = self.migration != Migration::Sensing;
        let may_be_edge = self.proposing && !self.oper_edge && self.config.edge != Edge::No;
        when(self.info == Info::Received, self.info_until)
            .min(when(!self.forward, self.forward_at))
            .min(when(true, self.recent_root))
            .min(when(true, self.recent_backup))
            .min(when(is_unsure, self.migrate_until))
            .min(when(may_be_edge, self.edge_delay))
            .min(when(self.says_hello(now), self.hello_at))
            .min(when(self.asks_again, self.trust_at))
            .min(when(is_held, self.sent_since + Duration::from_secs(1)))
    }
}

impl From<&Config> for Message {
    /// A Config BPDU conveys a designated port role (clause 13.29.14).
    fn from(config: &Config) -> Message {
        Message {
            rst: Rst {
                vector: config.vector,
                times: config.times,
                role: Role::Designated,
                topology_change: config.topology_change,
                proposal: false,
                agreement: false,
                learning: false,
                forwarding: false,
            },
            acknowledgement: config.acknowledgement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netif::bridge::stp::config::RstpConfig;
    use crate::netif::bridge::stp::vector::BridgeIdentifier;
    use crate::packet::MacAddr;

    #[test]
    fn an_agreement_that_took_long_once_is_not_waited_for_for_ever() {
        let id = BridgeIdentifier {
            priority: 0x8000,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
        };
        let own = Vector {
            root: id,
            cost: 0,
            bridge: id,
            port: PortIdentifier(0),
        };
        let number = PortNumber::new(1).expect("not zero");
        let times = RstpConfig::default().times();
        let mut port = Port::new(number, RstpPort::default(), 2_000, own, times);
        let mut now = Instant::ZERO;
        let mut agreed_after = |ms| {
            port.asked_at = Some(now);
            now += Duration::from_millis(ms);
            port.hear_agreement(now);
            port.round_trip
        };
        assert_eq!(agreed_after(1_500), Duration::from_millis(1_500));
        // One that is fast says little of the next; many do.
        assert!(agreed_after(10) > Duration::from_secs(1));
        for _ in 0..20 {
            agreed_after(10);
        }
        assert_eq!(agreed_after(10), Duration::from_millis(10));
        assert_eq!(
            agreed_after(60_000),
            Duration::from_secs(2),
            "the hello time at most"
        );
    }
}
