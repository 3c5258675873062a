//! The ports of a bridge, and what goes into and comes out of its spanning tree.

use super::bpdu::{Bpdu, BpduError};
use super::config::{RstpConfig, RstpPort};
use super::port::Port;
use super::state::{PortState, Role, StpCounters};
use super::vector::{BridgeIdentifier, PortIdentifier, PortNumber, Times, Vector};
use crate::base::switch::Switch as Switchable;
use crate::base::time::Instant;
use crate::base::walked::Walked;

/// Rounds of the machines after which they must have come to rest. Each goes through all ports, and
/// what one has changed the others see in the next; a dozen is what the longest chain takes.
const MAX_ROUNDS: usize = 64;

/// Why a BPDU does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is none.
    Bad(BpduError),
    /// It is the port's own, come back.
    Own,
    /// None must come in on this port, which is closed now.
    Guarded,
    /// The port is down, or is none of this bridge's.
    Down,
}

/// What the bridge has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The port does this with frames from now on.
    State(PortNumber, PortState),
    /// What was learned behind the port may not be there any more.
    Flush(PortNumber),
}

/// What can be said of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortView {
    pub role: Role,
    pub state: PortState,
    pub cost: u32,
    pub is_edge: bool,
    pub speaks_rstp: bool,
    pub counters: StpCounters,
}

/// One bridge's part in a spanning tree.
pub(crate) struct Rstp {
    pub(super) id: BridgeIdentifier,
    pub(super) config: RstpConfig,
    /// In the order of their numbers.
    pub(super) ports: Vec<Port>,
    pub(super) root: Vector,
    pub(super) root_port: Option<PortNumber>,
    pub(super) root_times: Times,
    /// Changes of the topology that it has seen or heard of.
    pub(super) changes: u64,
    next: Instant,
    /// The first port, by its place, that may have something to send; past the last one when none has.
    sends: usize,
    /// The same of something that has to be done.
    acts: usize,
    /// The deadline is older than what was sent.
    has_sent: bool,
    pub(super) walked: Walked,
}

impl Rstp {
    /// A bridge without ports: the root of a tree of its own. The configuration has been checked.
    pub(crate) fn new(id: BridgeIdentifier, config: RstpConfig) -> Rstp {
        Rstp {
            id,
            config,
            ports: Vec::new(),
            root: own_vector(id),
            root_port: None,
            root_times: config.times(),
            changes: 0,
            next: Instant::MAX,
            sends: 0,
            acts: 0,
            has_sent: false,
            walked: Walked::default(),
        }
    }

    /// Changes how the bridge works, and who it is.
    pub(crate) fn set_config(&mut self, now: Instant, id: BridgeIdentifier, config: RstpConfig) {
        (self.id, self.config) = (id, config);
        self.reselect(now);
    }

    /// Adds a port, which is down.
    pub(crate) fn add_port(&mut self, number: PortNumber, config: RstpPort, cost: u32) {
        let at = self.ports.partition_point(|p| p.number < number);
        let port = Port::new(number, config, cost, self.own_vector(), self.config.times());
        self.ports.insert(at, port);
    }

    /// Removes a port.
    pub(crate) fn remove_port(&mut self, now: Instant, number: PortNumber) {
        self.ports.retain(|p| p.number != number);
        self.reselect(now);
    }

    /// Changes how a port takes part, and what it costs. A port that a guard has closed opens
    /// again.
    pub(crate) fn set_port(
        &mut self,
        now: Instant,
        number: PortNumber,
        config: RstpPort,
        cost: u32,
    ) {
        let Some(port) = self.port_mut(number) else {
            return;
        };
        let is_same = port.config == config && port.cost == cost && !port.is_guarded;
        if is_same {
            return;
        }
        port.configure(config, cost);
        if std::mem::take(&mut port.is_guarded) && port.is_up {
            port.start(now);
        }
        self.reselect(now);
    }

    /// The way by a port costs something else.
    pub(crate) fn set_cost(&mut self, now: Instant, number: PortNumber, cost: u32) {
        if let Some(port) = self.port_mut(number)
            && port.cost != cost
        {
            port.cost = cost;
            self.reselect(now);
        }
    }

    /// The link at a port is there.
    pub(crate) fn port_up(&mut self, now: Instant, number: PortNumber) {
        if let Some(port) = self.port_mut(number)
            && !port.is_up
        {
            port.is_up = true;
            port.stop();
            port.start(now);
            self.run(now);
        }
    }

    /// The link at a port is gone.
    pub(crate) fn port_down(&mut self, now: Instant, number: PortNumber) {
        if let Some(port) = self.port_mut(number)
            && port.is_up
        {
            (port.is_up, port.is_guarded) = (false, false);
            port.stop();
            self.run(now);
        }
    }

    /// A frame with a BPDU has come in by a port.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn input(
        &mut self,
        now: Instant,
        number: PortNumber,
        bpdu: Result<&[u8], BpduError>,
    ) -> Result<(), Refusal> {
        let own = self.id.mac;
        let port = self.port_mut(number).ok_or(Refusal::Down)?;
        port.counters.received += 1;
        if !port.is_enabled() {
            port.counters.guarded += u64::from(port.is_guarded);
            return Err(match port.is_guarded {
                true => Refusal::Guarded,
                false => Refusal::Down,
            });
        }
        let bpdu = bpdu.and_then(Bpdu::parse).map_err(|error| {
            port.counters.refused += 1;
            Refusal::Bad(error)
        })?;
        if port.config.bpdu_guard == Switchable::On {
            port.is_guarded = true;
            port.counters.guarded += 1;
            port.stop();
            self.run(now);
            return Err(Refusal::Guarded);
        }
        // Clause 14.4: what a port itself would say tells it nothing.
        let said_by = match &bpdu {
            Bpdu::Config(config) => Some(&config.vector),
            Bpdu::Rst(rst) => Some(&rst.vector),
            Bpdu::TopologyChange => None,
        };
        if said_by.is_some_and(|v| v.bridge.mac == own && v.port.number() == port.id().number()) {
            port.counters.refused += 1;
            return Err(Refusal::Own);
        }
        port.receive(now, &bpdu);
        self.run(now);
        let port = self.port_mut(number).ok_or(Refusal::Down)?;
        port.counters.guarded += u64::from(port.is_held_back());
        Ok(())
    }

    /// The next BPDU to send, and the port to send it by.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(PortNumber, Bpdu)> {
        let hold = self.config.tx_hold_count;
        while let Some(port) = self.ports.get_mut(self.sends) {
            self.walked.step();
            self.sends += 1;
            if let Some(bpdu) = port.poll_transmit(now, hold) {
                return Some((port.number, bpdu));
            }
        }
        if std::mem::take(&mut self.has_sent) {
            self.set_deadline(now);
        }
        None
    }

    /// The next thing to do. To be asked after each call that may have changed something.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        while let Some(port) = self.ports.get_mut(self.acts) {
            self.walked.step();
            if std::mem::take(&mut port.flush) {
                port.counters.flushed += 1;
                return Some(Event::Flush(port.number));
            }
            let state = port.state();
            if std::mem::replace(&mut port.told, state) != state {
                port.counters.forwarded += u64::from(state.forwards());
                return Some(Event::State(port.number, state));
            }
            self.acts += 1;
        }
        None
    }

    /// When [`Rstp::on_deadline`] has something to do.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (self.next != Instant::MAX).then_some(self.next)
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if self.next <= now {
            self.run(now);
        }
    }

    /// Who the bridge is.
    pub(crate) fn id(&self) -> BridgeIdentifier {
        self.id
    }

    /// Who the root is, and what it costs to get there.
    pub(crate) fn root(&self) -> (BridgeIdentifier, u32) {
        (self.root.root, self.root.cost)
    }

    /// The port that leads to the root; the root itself has none.
    pub(crate) fn root_port(&self) -> Option<PortNumber> {
        self.root_port
    }

    /// Changes of the topology that it has seen or heard of.
    pub(crate) fn topology_changes(&self) -> u64 {
        self.changes
    }

    /// What can be said of a port.
    pub(crate) fn port(&self, number: PortNumber) -> Option<PortView> {
        let index = self.ports.binary_search_by_key(&number, |p| p.number);
        let port = &self.ports[index.ok()?];
        Some(PortView {
            role: port.role,
            state: port.state(),
            cost: port.cost,
            is_edge: port.oper_edge,
            speaks_rstp: port.send_rstp,
            counters: port.counters,
        })
    }

    pub(super) fn own_vector(&self) -> Vector {
        own_vector(self.id)
    }

    fn port_mut(&mut self, number: PortNumber) -> Option<&mut Port> {
        let index = self.ports.binary_search_by_key(&number, |p| p.number);
        self.ports.get_mut(index.ok()?)
    }

    fn reselect(&mut self, now: Instant) {
        for port in &mut self.ports {
            (port.reselect, port.selected) = (true, false);
        }
        if self.ports.is_empty() {
            (self.root, self.root_port) = (self.own_vector(), None);
        }
        self.run(now);
    }

    /// Lets the machines run until none of them has anything to do.
    fn run(&mut self, now: Instant) {
        let mut rounds = 0;
        while self.round(now) {
            rounds += 1;
            if rounds == MAX_ROUNDS {
                debug_assert!(false, "the machines come to rest");
                break;
            }
        }
        for port in &mut self.ports {
            port.say_hello(now);
        }
        (self.sends, self.acts, self.has_sent) = (0, 0, true);
        self.set_deadline(now);
    }

    fn round(&mut self, now: Instant) -> bool {
        let mut again = false;
        for port in &mut self.ports {
            again |= port.step(now);
        }
        if self.ports.iter().any(|p| p.reselect) {
            self.select_roles();
            again = true;
        }
        let all = self.survey(now);
        for index in 0..self.ports.len() {
            again |= self.transition(index, now, &all);
            again |= self.topology_change(index, now);
        }
        again
    }

    fn set_deadline(&mut self, now: Instant) {
        let hold = self.config.tx_hold_count;
        let ports = self.ports.iter().map(|p| p.next_deadline(now, hold));
        self.next = ports.min().unwrap_or(Instant::MAX);
    }
}

/// What a bridge that knows no other says.
fn own_vector(id: BridgeIdentifier) -> Vector {
    Vector {
        root: id,
        cost: 0,
        bridge: id,
        port: PortIdentifier(0),
    }
}
