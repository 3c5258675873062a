//! The Link Aggregation Control Protocol (IEEE 802.1AX-2020, clause 6.4) for one aggregate: it is
//! told what comes in and what the time is, and says what to send and which ports may be used.
//!
//! Each port has the standard's machines: the receive machine (clause 6.4.12), the periodic
//! transmission machine (6.4.13), the mux machine with independent control (6.4.15) and the transmit
//! machine (6.4.16). Selection (6.4.14) is simpler, since an aggregate here is one aggregator: the
//! ports that lead to one and the same system with one key are in it, the others stand by.

use super::pdu::{LacpDu, PortInfo, PortState, SystemId};
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};

/// Between two LACPDUs to a partner that wants to hear often (clause 6.4.4).
const FAST_PERIOD: Duration = Duration::from_secs(1);
/// Between two LACPDUs to a partner that does not.
const SLOW_PERIOD: Duration = Duration::from_secs(30);
/// How long a partner is believed that was asked to speak often.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a partner is believed otherwise.
const LONG_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a port waits for others that may join at the same time.
const AGGREGATE_WAIT: Duration = Duration::from_secs(2);
/// LACPDUs that one port sends within [`FAST_PERIOD`] at most (clause 6.4.16).
const MAX_IN_PERIOD: usize = 3;

/// What an administrator says about an aggregate's LACP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Params {
    /// Speaks without being spoken to.
    pub(crate) active: bool,
    /// Wants to hear of the partner every second, and misses it after three.
    pub(crate) fast: bool,
    /// This system.
    pub(crate) system: SystemId,
    /// The aggregate's number in its system.
    pub(crate) key: u16,
    /// The priority of its ports.
    pub(crate) port_priority: u16,
}

/// What a port did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// LACPDUs taken in.
    pub(crate) received: u64,
    /// LACPDUs sent.
    pub(crate) sent: u64,
}

/// The state of the receive machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rx {
    /// The link is down.
    PortDisabled,
    /// The partner has not been heard for too long, or not yet.
    Expired,
    /// Nobody speaks LACP at the other end.
    Defaulted,
    /// The partner is known.
    Current,
}

/// The state of the mux machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mux {
    /// Not in the aggregate.
    Detached,
    /// Waits for others.
    Waiting,
    /// In the aggregate, as far as this end is concerned.
    Attached,
    /// Takes frames in.
    Collecting,
    /// Takes frames in and sends them.
    Distributing,
}

/// A port of the aggregate.
#[derive(Debug)]
pub(crate) struct Port {
    /// The interface.
    pub(crate) ifid: IfId,
    /// Its number, which no other port of the aggregate has.
    number: u16,
    /// This end's bits, but for those that follow from the other fields.
    state: PortState,
    /// The other end.
    pub(crate) partner: PortInfo,
    pub(crate) rx: Rx,
    pub(crate) mux: Mux,
    /// In the aggregate, as selection has it.
    selected: bool,
    /// When the partner is no longer believed.
    current_while: Option<Instant>,
    /// When the next LACPDU is sent anyway, and what was between it and the last one.
    periodic: Option<(Instant, Duration)>,
    /// Until when it waits for others.
    wait_while: Option<Instant>,
    /// There is something to tell the partner.
    need_to_transmit: bool,
    /// When it sent the last few LACPDUs, the oldest first.
    sent_at: [Option<Instant>; MAX_IN_PERIOD],
    pub(crate) counters: Counters,
}

/// What the other end of a link must have in common with that of another to be in one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partner {
    /// The system.
    pub(crate) system: SystemId,
    /// Its key.
    pub(crate) key: u16,
    /// The port, when it cannot be one of several.
    individual: Option<(u16, u16)>,
}

/// The protocol for one aggregate.
#[derive(Debug)]
pub(crate) struct Lacp {
    params: Params,
    /// In the order of their numbers.
    ports: Vec<Port>,
    /// Whom the aggregate leads to.
    partner: Option<Partner>,
}

impl Port {
    fn new(ifid: IfId, number: u16, params: &Params) -> Port {
        let state = PortState::AGGREGATION
            .with(PortState::ACTIVITY, params.active)
            .with(PortState::SHORT_TIMEOUT, params.fast)
            .with(PortState::DEFAULTED, true);
        Port {
            ifid,
            number,
            state,
            partner: PortInfo::default(),
            rx: Rx::PortDisabled,
            mux: Mux::Detached,
            selected: false,
            current_while: None,
            periodic: None,
            wait_while: None,
            need_to_transmit: false,
            sent_at: [None; MAX_IN_PERIOD],
            counters: Counters::default(),
        }
    }

    /// This end, as it is told to the other.
    pub(crate) fn actor(&self, params: &Params) -> PortInfo {
        let is = |mux: &[Mux]| mux.contains(&self.mux);
        let state = self
            .state
            .with(
                PortState::SYNCHRONIZATION,
                !is(&[Mux::Detached, Mux::Waiting]),
            )
            .with(
                PortState::COLLECTING,
                is(&[Mux::Collecting, Mux::Distributing]),
            )
            .with(PortState::DISTRIBUTING, is(&[Mux::Distributing]));
        PortInfo {
            system: params.system,
            key: params.key,
            priority: params.port_priority,
            port: self.number,
            state,
        }
    }

    /// The other end, when it has been heard.
    pub(crate) fn known_partner(&self) -> Option<&PortInfo> {
        let is_known = self.partner.system != SystemId::default();
        is_known.then_some(&self.partner)
    }

    fn is_enabled(&self) -> bool {
        self.rx != Rx::PortDisabled
    }

    /// Whom it leads to, when that is known. A link back to this system leads nowhere.
    fn leads_to(&self, params: &Params) -> Option<Partner> {
        let heard = matches!(self.rx, Rx::Current | Rx::Expired);
        if !heard || [SystemId::default(), params.system].contains(&self.partner.system) {
            return None;
        }
        let individual = !self.partner.state.has(PortState::AGGREGATION);
        Some(Partner {
            system: self.partner.system,
            key: self.partner.key,
            individual: individual.then_some((self.number, self.partner.port)),
        })
    }

    /// Clause 6.4.13.
    fn update_periodic(&mut self, now: Instant) {
        let speaks =
            self.state.has(PortState::ACTIVITY) || self.partner.state.has(PortState::ACTIVITY);
        if !self.is_enabled() || !speaks {
            self.periodic = None;
            return;
        }
        let period = match self.partner.state.has(PortState::SHORT_TIMEOUT) {
            true => FAST_PERIOD,
            false => SLOW_PERIOD,
        };
        match self.periodic {
            Some((at, before)) if before == period && at > now => return,
            Some((at, before)) => self.need_to_transmit |= at <= now || before > period,
            None => {}
        }
        self.periodic = Some((now + period, period));
    }

    /// Clause 6.4.15, independent control. True when something has changed.
    fn step_mux(&mut self, now: Instant) -> bool {
        let in_sync = self.partner.state.has(PortState::SYNCHRONIZATION);
        let collects = self.partner.state.has(PortState::COLLECTING);
        let next = match self.mux {
            _ if !self.selected => Mux::Detached,
            Mux::Detached => Mux::Waiting,
            Mux::Waiting if self.wait_while.is_none_or(|at| at <= now) => Mux::Attached,
            Mux::Attached if in_sync => Mux::Collecting,
            Mux::Collecting if !in_sync => Mux::Attached,
            Mux::Collecting if collects => Mux::Distributing,
            Mux::Distributing if !in_sync || !collects => Mux::Collecting,
            same => same,
        };
        if next == self.mux {
            return false;
        }
        self.mux = next;
        self.wait_while = (next == Mux::Waiting).then_some(now + AGGREGATE_WAIT);
        self.need_to_transmit |= next != Mux::Waiting;
        true
    }

    /// When it may send, having something to send.
    fn may_send_at(&self) -> Instant {
        let oldest = self.sent_at[0].map(|at| at + FAST_PERIOD);
        oldest.unwrap_or(Instant::from_nanos(0))
    }

    fn wants_to_send(&self) -> bool {
        self.need_to_transmit && self.periodic.is_some()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let periodic = self.periodic.map(|(at, _)| at);
        let send = self.wants_to_send().then(|| self.may_send_at());
        let all = [self.current_while, periodic, self.wait_while, send];
        all.into_iter().flatten().min()
    }
}

/// The bits of an end that the other end must know (clause 6.4.9, update_NTT).
const TOLD: u8 = PortState::ACTIVITY.0
    | PortState::SHORT_TIMEOUT.0
    | PortState::AGGREGATION.0
    | PortState::SYNCHRONIZATION.0;

fn same_port(a: &PortInfo, b: &PortInfo) -> bool {
    let aggregates = |info: &PortInfo| info.state.has(PortState::AGGREGATION);
    let all = |i: &PortInfo| (i.system, i.key, i.priority, i.port);
    all(a) == all(b) && aggregates(a) == aggregates(b)
}

impl Lacp {
    /// An aggregate without ports.
    pub(crate) fn new(params: Params) -> Lacp {
        Lacp {
            params,
            ports: Vec::new(),
            partner: None,
        }
    }

    /// The ports, in the order of their numbers.
    #[cfg(test)]
    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port that an interface is.
    pub(crate) fn port(&self, ifid: IfId) -> Option<&Port> {
        self.ports.iter().find(|p| p.ifid == ifid)
    }

    /// Whom the aggregate leads to.
    #[cfg(test)]
    pub(crate) fn partner(&self) -> Option<Partner> {
        self.partner
    }

    /// Adds a port of a number that no other has, whose link is down so far.
    pub(crate) fn add_port(&mut self, ifid: IfId, number: u16) {
        let at = self.ports.partition_point(|p| p.number < number);
        self.ports.insert(at, Port::new(ifid, number, &self.params));
    }

    /// True when frames may be sent by a port.
    pub(crate) fn distributes(&self, ifid: IfId) -> bool {
        let sends = |p: &Port| p.mux == Mux::Distributing;
        self.ports.iter().any(|p| p.ifid == ifid && sends(p))
    }

    /// True when frames may be taken from a port.
    pub(crate) fn collects(&self, ifid: IfId) -> bool {
        let takes = |p: &Port| matches!(p.mux, Mux::Collecting | Mux::Distributing);
        self.ports.iter().any(|p| p.ifid == ifid && takes(p))
    }

    /// Removes a port.
    pub(crate) fn remove_port(&mut self, now: Instant, ifid: IfId) {
        self.ports.retain(|p| p.ifid != ifid);
        self.update(now);
    }

    /// The link of a port came up or went down.
    pub(crate) fn set_link(&mut self, now: Instant, ifid: IfId, up: bool) {
        let Some(port) = self.ports.iter_mut().find(|p| p.ifid == ifid) else {
            return;
        };
        if port.is_enabled() == up {
            return;
        }
        port.partner.state = port.partner.state.with(PortState::SYNCHRONIZATION, false);
        match up {
            // Clause 6.4.12, EXPIRED: whoever is there is asked to speak often.
            true => {
                expire(port, now);
                port.need_to_transmit = true;
            }
            false => {
                port.rx = Rx::PortDisabled;
                port.current_while = None;
            }
        }
        self.update(now);
    }

    /// Takes in an LACPDU that came in by the port `ifid`.
    pub(crate) fn input(&mut self, now: Instant, ifid: IfId, du: &LacpDu) {
        let params = self.params;
        let Some(port) = self.ports.iter_mut().find(|p| p.ifid == ifid) else {
            return;
        };
        if !port.is_enabled() {
            return;
        }
        port.counters.received += 1;
        let actor = port.actor(&params);
        let told_right =
            same_port(&du.partner, &actor) && du.partner.state.0 & TOLD == actor.state.0 & TOLD;
        port.need_to_transmit |= !told_right;
        if !same_port(&du.actor, &port.partner) {
            (port.mux, port.wait_while) = (Mux::Detached, None);
        }
        // Clause 6.4.9, recordPDU: in step only if it knows us, and somebody keeps the link alive.
        let knows_us =
            same_port(&du.partner, &actor) || !du.actor.state.has(PortState::AGGREGATION);
        let kept_alive = du.actor.state.has(PortState::ACTIVITY)
            || (actor.state.has(PortState::ACTIVITY) && du.partner.state.has(PortState::ACTIVITY));
        let in_sync = du.actor.state.has(PortState::SYNCHRONIZATION) && knows_us && kept_alive;
        port.partner = PortInfo {
            state: du.actor.state.with(PortState::SYNCHRONIZATION, in_sync),
            ..du.actor
        };
        port.rx = Rx::Current;
        port.state = port
            .state
            .with(PortState::DEFAULTED, false)
            .with(PortState::EXPIRED, false);
        let timeout = match params.fast {
            true => SHORT_TIMEOUT,
            false => LONG_TIMEOUT,
        };
        port.current_while = Some(now + timeout);
        self.update(now);
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        for port in &mut self.ports {
            if port.current_while.is_none_or(|at| at > now) {
                continue;
            }
            match port.rx {
                Rx::Current => expire(port, now),
                Rx::Expired => {
                    port.rx = Rx::Defaulted;
                    port.partner = PortInfo::default();
                    port.current_while = None;
                    port.state = port
                        .state
                        .with(PortState::DEFAULTED, true)
                        .with(PortState::EXPIRED, false);
                }
                Rx::PortDisabled | Rx::Defaulted => port.current_while = None,
            }
        }
        self.update(now);
    }

    /// When [`Lacp::on_deadline`] or [`Lacp::poll_transmit`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.ports.iter().filter_map(Port::next_deadline).min()
    }

    /// An LACPDU to be sent, and by which interface.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(IfId, LacpDu)> {
        let params = self.params;
        let ready = |p: &&mut Port| p.wants_to_send() && p.may_send_at() <= now;
        let port = self.ports.iter_mut().find(ready)?;
        port.need_to_transmit = false;
        port.counters.sent += 1;
        port.sent_at.rotate_left(1);
        port.sent_at[MAX_IN_PERIOD - 1] = Some(now);
        let du = LacpDu {
            actor: port.actor(&params),
            partner: port.partner,
        };
        Some((port.ifid, du))
    }

    fn update(&mut self, now: Instant) {
        self.select();
        for port in &mut self.ports {
            port.update_periodic(now);
            // A state leads to the next at most a few times.
            while port.step_mux(now) {}
        }
    }

    /// Clause 6.4.14 for one aggregator: it stays with its partner for as long as a port leads there,
    /// and then goes to the one to whom most ports lead, or of these to the best.
    fn select(&mut self) {
        let leads_to = |p: &Port| p.leads_to(&self.params);
        let count = |to: Partner| {
            self.ports
                .iter()
                .filter(|p| leads_to(p) == Some(to))
                .count()
        };
        let still = self.partner.filter(|to| count(*to) > 0);
        self.partner = still.or_else(|| {
            let all = self.ports.iter().filter_map(leads_to);
            all.min_by_key(|to| (usize::MAX - count(*to), *to))
        });
        for port in &mut self.ports {
            let leads_to = port.leads_to(&self.params);
            port.selected = leads_to.is_some() && leads_to == self.partner;
        }
    }
}

/// Clause 6.4.12, EXPIRED.
fn expire(port: &mut Port, now: Instant) {
    port.rx = Rx::Expired;
    port.partner.state = port
        .partner
        .state
        .with(PortState::SYNCHRONIZATION, false)
        .with(PortState::SHORT_TIMEOUT, true);
    port.current_while = Some(now + SHORT_TIMEOUT);
    port.state = port.state.with(PortState::EXPIRED, true);
}

#[cfg(test)]
mod tests;
