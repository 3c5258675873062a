//! The Link Aggregation Control Protocol (IEEE 802.1AX-2020, clause 6.4) for one aggregate: it is
//! told what comes in and what the time is, and says what to send and which ports may be used.
//!
//! Each port has the standard's machines: the receive machine (clause 6.4.12), the periodic
//! transmission machine (6.4.13), the mux machine with independent control (6.4.15) and the transmit
//! machine (6.4.16). Selection (6.4.14) is simpler, since an aggregate here is one aggregator: the
//! ports that lead to one and the same system with one key are in it, the others stand by.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

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

/// How far a port has come, or what prevents it from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LacpState {
    /// Its link is down.
    Down,
    /// Nothing has been heard from the other end, or not for too long.
    Silent,
    /// The other end does not use LACP.
    Defaulted,
    /// The other end claims to belong to this very system: the link leads back here, or two systems have the same
    /// address.
    Loop,
    /// The link leads to another system, or to another aggregate of it, than those in use; or the lagg is
    /// down.
    Standby,
    /// It waits for other links that may come up at the same time.
    Waiting,
    /// It is ready, and waits until the other end is.
    Attached,
    /// It accepts frames.
    Collecting,
    /// It accepts frames and sends them.
    Distributing,
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

impl fmt::Display for LacpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LacpState::Down => "link is down",
            LacpState::Silent => "partner is silent",
            LacpState::Defaulted => "no partner",
            LacpState::Loop => "partner has the same system",
            LacpState::Standby => "standby",
            LacpState::Waiting => "waiting for others",
            LacpState::Attached => "waiting for the partner",
            LacpState::Collecting => "collecting",
            LacpState::Distributing => "distributing",
        })
    }
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
    /// The other end, as it describes itself.
    partner: PortInfo,
    /// The other end is in step with this one.
    in_sync: bool,
    pub(crate) rx: Rx,
    pub(crate) mux: Mux,
    /// In the aggregate, as selection has it.
    selected: bool,
    /// When the partner is no longer believed.
    current_while: Option<Instant>,
    /// When the next LACPDU is sent anyway, and what was between it and the last one.
    periodic: Option<(Instant, Duration)>,
    /// Until when it waits for others that may join.
    wait_while: Option<Instant>,
    /// Having waited for that, until when it waits for those that still do.
    ready_while: Option<Instant>,
    /// There is something to tell the partner.
    need_to_transmit: bool,
    /// When it sent the last few LACPDUs, the oldest first.
    sent_at: [Option<Instant>; MAX_IN_PERIOD],
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
    /// True while ports may be in the aggregate at all.
    is_open: bool,
    /// What is said by ports that leave.
    farewells: VecDeque<(IfId, LacpDu)>,
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
            in_sync: false,
            rx: Rx::PortDisabled,
            mux: Mux::Detached,
            selected: false,
            current_while: None,
            periodic: None,
            wait_while: None,
            ready_while: None,
            need_to_transmit: false,
            sent_at: [None; MAX_IN_PERIOD],
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

    /// The other end as it describes itself, while it is heard.
    pub(crate) fn heard_partner(&self) -> Option<&PortInfo> {
        (self.rx == Rx::Current).then_some(&self.partner)
    }

    /// The other end as it is told that it is known here (clause 6.4.12).
    fn told_partner(&self) -> PortInfo {
        let hurries = self.rx == Rx::Expired || self.partner.state.has(PortState::SHORT_TIMEOUT);
        let state = self
            .partner
            .state
            .with(PortState::SYNCHRONIZATION, self.in_sync)
            .with(PortState::SHORT_TIMEOUT, hurries);
        PortInfo {
            state,
            ..self.partner
        }
    }

    /// How far it has come in an aggregate.
    pub(crate) fn progress(&self, params: &Params) -> LacpState {
        match (self.rx, self.mux) {
            (Rx::PortDisabled, _) => LacpState::Down,
            (Rx::Defaulted, _) => LacpState::Defaulted,
            (_, Mux::Distributing) => LacpState::Distributing,
            (_, Mux::Collecting) => LacpState::Collecting,
            (_, Mux::Attached) => LacpState::Attached,
            (_, Mux::Waiting) => LacpState::Waiting,
            (Rx::Expired, Mux::Detached) => LacpState::Silent,
            (Rx::Current, Mux::Detached) if self.partner.system == params.system => LacpState::Loop,
            (Rx::Current, Mux::Detached) => LacpState::Standby,
        }
    }

    fn is_enabled(&self) -> bool {
        self.rx != Rx::PortDisabled
    }

    /// True when the other end has been told that this one is in the aggregate.
    const fn is_attached(&self) -> bool {
        !matches!(self.mux, Mux::Detached | Mux::Waiting)
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

    /// Leaves the aggregate. Clause 6.4.15, DETACHED: the other end is told, if it believes otherwise.
    fn detach(&mut self) {
        self.need_to_transmit |= self.is_attached();
        self.mux = Mux::Detached;
        (self.wait_while, self.ready_while) = (None, None);
    }

    /// What it says last, if it has said anything: that it is in no aggregate.
    fn farewell(&mut self, params: &Params) -> Option<(IfId, LacpDu)> {
        self.detach();
        let du = LacpDu {
            actor: self.actor(params),
            partner: self.told_partner(),
        };
        self.periodic.is_some().then_some((self.ifid, du))
    }

    /// Clause 6.4.13.
    fn update_periodic(&mut self, now: Instant) {
        let speaks =
            self.state.has(PortState::ACTIVITY) || self.partner.state.has(PortState::ACTIVITY);
        if !self.is_enabled() || !speaks {
            self.periodic = None;
            return;
        }
        let period = match self.told_partner().state.has(PortState::SHORT_TIMEOUT) {
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

    /// True when others need not wait for it any more (clause 6.4.14, Ready_N).
    const fn is_ready(&self) -> bool {
        match self.mux {
            _ if !self.selected => true,
            Mux::Detached => false,
            Mux::Waiting => self.wait_while.is_none(),
            Mux::Attached | Mux::Collecting | Mux::Distributing => true,
        }
    }

    /// Clause 6.4.15, independent control. `all_ready` says that no port keeps the others waiting. True when
    /// something has changed.
    fn step_mux(&mut self, now: Instant, all_ready: bool) -> bool {
        let in_sync = self.in_sync;
        let collects = self.partner.state.has(PortState::COLLECTING);
        if self.mux == Mux::Waiting && self.wait_while.is_some_and(|at| at <= now) {
            // A port that begins to wait again and again does not keep the others waiting for ever.
            (self.wait_while, self.ready_while) = (None, Some(now + AGGREGATE_WAIT));
            return true;
        }
        let is_over = self.ready_while.is_some_and(|at| at <= now);
        let next = match self.mux {
            _ if !self.selected => Mux::Detached,
            Mux::Detached => Mux::Waiting,
            Mux::Waiting if self.wait_while.is_none() && (all_ready || is_over) => Mux::Attached,
            Mux::Attached if in_sync => Mux::Collecting,
            Mux::Collecting if !in_sync => Mux::Attached,
            Mux::Collecting if collects => Mux::Distributing,
            Mux::Distributing if !in_sync || !collects => Mux::Collecting,
            same => same,
        };
        if next == self.mux {
            return false;
        }
        match next {
            Mux::Detached => self.detach(),
            Mux::Waiting => {
                self.mux = next;
                self.wait_while = Some(now + AGGREGATE_WAIT);
            }
            Mux::Attached | Mux::Collecting | Mux::Distributing => {
                self.mux = next;
                self.ready_while = None;
                self.need_to_transmit = true;
            }
        }
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
        let waits = [self.wait_while, self.ready_while];
        let all = [self.current_while, periodic, waits[0], waits[1], send];
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
            is_open: true,
            farewells: VecDeque::new(),
        }
    }

    /// What its administrator says.
    pub(crate) const fn params(&self) -> &Params {
        &self.params
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

    /// Removes a port, which takes leave.
    pub(crate) fn remove_port(&mut self, now: Instant, ifid: IfId) {
        if let Some(at) = self.ports.iter().position(|p| p.ifid == ifid) {
            let mut port = self.ports.remove(at);
            self.farewells.extend(port.farewell(&self.params));
        }
        self.update(now);
    }

    /// Begins anew with other parameters: all links are down so far. The other ends are told that they are
    /// in no aggregate any more.
    pub(crate) fn restart(&mut self, params: Params) {
        for port in &mut self.ports {
            self.farewells.extend(port.farewell(&self.params));
            *port = Port {
                sent_at: port.sent_at,
                ..Port::new(port.ifid, port.number, &params)
            };
        }
        (self.params, self.partner) = (params, None);
    }

    /// Ends it, and returns what is to be said last.
    pub(crate) fn end(mut self) -> VecDeque<(IfId, LacpDu)> {
        let params = self.params;
        let last = self.ports.iter_mut().filter_map(|p| p.farewell(&params));
        self.farewells.extend(last);
        self.farewells
    }

    /// The aggregate may be used from now on, or not any more. The other ends are told, as their links stay
    /// up.
    pub(crate) fn set_open(&mut self, now: Instant, is_open: bool) {
        if std::mem::replace(&mut self.is_open, is_open) != is_open {
            self.update(now);
        }
    }

    /// The link of a port came up or went down.
    pub(crate) fn set_link(&mut self, now: Instant, ifid: IfId, up: bool) {
        let Some(port) = self.ports.iter_mut().find(|p| p.ifid == ifid) else {
            return;
        };
        if port.is_enabled() == up {
            return;
        }
        port.in_sync = false;
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
    pub(crate) fn input(&mut self, now: Instant, ifid: IfId, du: &LacpDu) -> bool {
        let params = self.params;
        let Some(port) = self.ports.iter_mut().find(|p| p.ifid == ifid) else {
            return false;
        };
        if !port.is_enabled() {
            return false;
        }
        if !same_port(&du.actor, &port.partner) {
            port.detach();
        }
        let actor = port.actor(&params);
        let told_right =
            same_port(&du.partner, &actor) && du.partner.state.0 & TOLD == actor.state.0 & TOLD;
        port.need_to_transmit |= !told_right;
        // Clause 6.4.9, recordPDU: in step only if it knows us, and somebody keeps the link alive.
        let knows_us =
            same_port(&du.partner, &actor) || !du.actor.state.has(PortState::AGGREGATION);
        let kept_alive = du.actor.state.has(PortState::ACTIVITY)
            || (actor.state.has(PortState::ACTIVITY) && du.partner.state.has(PortState::ACTIVITY));
        port.in_sync = du.actor.state.has(PortState::SYNCHRONIZATION) && knows_us && kept_alive;
        port.partner = du.actor;
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
        true
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
                    (port.partner, port.in_sync) = (PortInfo::default(), false);
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
        if let Some(last) = self.farewells.pop_front() {
            return Some(last);
        }
        let params = self.params;
        let ready = |p: &&mut Port| p.wants_to_send() && p.may_send_at() <= now;
        let port = self.ports.iter_mut().find(ready)?;
        port.need_to_transmit = false;
        port.sent_at.rotate_left(1);
        port.sent_at[MAX_IN_PERIOD - 1] = Some(now);
        let du = LacpDu {
            actor: port.actor(&params),
            partner: port.told_partner(),
        };
        Some((port.ifid, du))
    }

    fn update(&mut self, now: Instant) {
        self.select();
        for port in &mut self.ports {
            port.update_periodic(now);
        }
        // A state leads to the next at most a few times.
        loop {
            let all_ready = self.ports.iter().all(Port::is_ready);
            let mut has_changed = false;
            for port in &mut self.ports {
                has_changed |= port.step_mux(now, all_ready);
            }
            if !has_changed {
                return;
            }
        }
    }

    /// Clause 6.4.14 for one aggregator. It stays with its partner while a link to that is in use. Before, and
    /// when there is none any more, it goes to the one who is ready for it, or of several to the one to whom
    /// most ports lead, or of these to the best: whoever spoke first has no advantage.
    fn select(&mut self) {
        let params = &self.params;
        let leads_to = |p: &Port| p.leads_to(params);
        let to = |to: Partner| self.ports.iter().filter(move |p| leads_to(p) == Some(to));
        let in_use = |p: &Port| p.is_attached() && p.in_sync;
        let settled = self.partner.filter(|partner| to(*partner).any(in_use));
        let partner = settled.or_else(|| {
            let all = self.ports.iter().filter_map(leads_to);
            all.min_by_key(|partner| {
                let is_ready = to(*partner).any(|p| p.in_sync);
                (!is_ready, usize::MAX - to(*partner).count(), *partner)
            })
        });
        for port in &mut self.ports {
            let leads_to = port.leads_to(&self.params);
            port.selected = self.is_open && leads_to.is_some() && leads_to == partner;
        }
        self.partner = partner;
    }
}

/// Clause 6.4.12, EXPIRED.
fn expire(port: &mut Port, now: Instant) {
    port.rx = Rx::Expired;
    port.in_sync = false;
    port.current_while = Some(now + SHORT_TIMEOUT);
    port.state = port.state.with(PortState::EXPIRED, true);
}

#[cfg(test)]
mod tests;
