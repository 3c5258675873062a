//! The machines that look at all ports of a bridge: role selection, role transitions and topology
//! changes (IEEE 802.1Q-2018, clauses 13.36 to 13.39).

use super::engine::Rstp;
use super::port::{HELD, Info, Port, TopologyChange};
use super::state::Role;
use super::vector::{Ticks, Times, Vector};
use crate::base::switch::Switch as Switchable;
use crate::base::time::{Duration, Instant};

/// What the ports of a bridge are to each other.
pub(super) struct Survey {
    /// `allSynced`: no port can make a loop with what this bridge agrees to.
    all_are_synced: bool,
    /// `reRooted` looks at these: ports that were root ports a moment ago, or are.
    recent_roots: usize,
}

impl Rstp {
    /// `updtRolesTree` (clause 13.29.34): which port leads to the root, and what the others are.
    pub(super) fn select_roles(&mut self) {
        let own = self.own_vector();
        let mut best = (own, None);
        for (index, port) in self.ports.iter().enumerate() {
            let is_foreign = port.priority.bridge.mac != self.id.mac;
            let is_allowed = port.config.root_guard == Switchable::Off;
            if port.info == Info::Received && is_foreign && is_allowed {
                let path = port.priority.at_cost(port.cost);
                // The port's own identifier decides between equal paths.
                let by = |index: usize| self.ports[index].id();
                let is_better = match best {
                    (vector, None) => path < vector,
                    (vector, Some(known)) => (path, port.id()) < (vector, by(known)),
                };
                if is_better {
                    best = (path, Some(index));
                }
            }
        }
        let (vector, root_port) = best;
        let times = match root_port {
            None => self.config.times(),
            Some(index) => Times {
                message_age: self.ports[index].times.message_age.plus(Ticks::SECOND),
                hello: self.config.times().hello,
                ..self.ports[index].times
            },
        };
        self.root = vector;
        self.root_port = root_port.map(|index| self.ports[index].number);
        self.root_times = times;
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.designated = Vector {
                bridge: self.id,
                port: port.id(),
                ..vector
            };
            port.designated_times = times;
            port.update_info = false;
            port.selected_role = match port.info {
                Info::Disabled => Role::Disabled,
                Info::Aged => {
                    port.update_info = true;
                    Role::Designated
                }
                Info::Mine => {
                    port.update_info =
                        port.priority != port.designated || port.times != port.designated_times;
                    Role::Designated
                }
                Info::Received if root_port == Some(index) => Role::Root,
                Info::Received if port.designated < port.priority => {
                    port.update_info = true;
                    Role::Designated
                }
                Info::Received if port.priority.bridge.mac == self.id.mac => Role::Backup,
                Info::Received => Role::Alternate,
            };
            port.reselect = false;
            port.selected = true;
        }
    }

    /// What the ports are to each other, before any of them has its turn. In a round a port only
    /// becomes synced, and none but the new root port becomes a recent root: what is a turn
    /// old is on the safe side.
    pub(super) fn survey(&self, now: Instant) -> Survey {
        Survey {
            all_are_synced: self.ports.iter().all(|p| {
                let is_settled = p.selected && !p.update_info && p.role == p.selected_role;
                is_settled && (p.synced || p.role == Role::Root)
            }),
            recent_roots: self.ports.iter().filter(|p| p.recent_root > now).count(),
        }
    }

    /// The port role transitions machine of one port; true when anything has changed.
    pub(super) fn transition(&mut self, index: usize, now: Instant, all: &Survey) -> bool {
        let is_synced = all.all_are_synced;
        let port = &mut self.ports[index];
        let no_other_root = all.recent_roots == usize::from(port.recent_root > now);
        if !port.selected || port.update_info {
            return false;
        }
        if port.role != port.selected_role {
            enter(port, now);
            return true;
        }
        match port.role {
            Role::Disabled => settle(port),
            Role::Designated => designated(port, now),
            Role::Alternate | Role::Backup => {
                let agreed = agree(port, is_synced);
                let settled = settle(port);
                match agreed {
                    Agreement::Sync => self.sync_all(),
                    Agreement::Given => {}
                    Agreement::None => return settled,
                }
                true
            }
            Role::Root => {
                let agreed = agree(port, is_synced);
                if agreed == Agreement::Given {
                    port.sync = false;
                }
                let asks_others = !port.forward && !port.re_root;
                let forwarded = root(port, now, no_other_root);
                if agreed == Agreement::Sync {
                    self.sync_all();
                }
                if asks_others {
                    self.ports.iter_mut().for_each(|p| p.re_root = true);
                }
                agreed != Agreement::None || asks_others || forwarded
            }
        }
    }

    /// `setSyncTree`: the other ports make sure that they are in nobody's way.
    fn sync_all(&mut self) {
        self.ports.iter_mut().for_each(|p| p.sync = true);
    }

    /// The topology change machine of one port; true when anything has changed.
    pub(super) fn topology_change(&mut self, index: usize, now: Instant) -> bool {
        let span = self.root_times.max_age.duration() + self.root_times.forward_delay.duration();
        let port = &mut self.ports[index];
        let is_active = matches!(port.role, Role::Root | Role::Designated);
        let hears =
            port.heard_change || port.heard_notification || port.heard_ack || port.propagate_change;
        match port.change {
            TopologyChange::Inactive if port.learn => {
                forget_changes(port);
                port.change = TopologyChange::Learning;
            }
            TopologyChange::Inactive => return false,
            TopologyChange::Learning if is_active && port.forward && !port.oper_edge => {
                port.change = TopologyChange::Active;
                port.new_info = true;
                announce(port, now, span);
                self.changes += 1;
                self.propagate(index);
            }
            TopologyChange::Learning if !is_active && !port.learn => {
                port.change = TopologyChange::Inactive;
                port.flush = true;
                port.change_until = Instant::ZERO;
                port.change_ack = false;
                forget_changes(port);
            }
            TopologyChange::Learning if hears => forget_changes(port),
            TopologyChange::Learning => return false,
            TopologyChange::Active if !is_active || port.oper_edge => {
                forget_changes(port);
                port.change = TopologyChange::Learning;
            }
            TopologyChange::Active if port.heard_notification || port.heard_change => {
                if port.heard_notification {
                    announce(port, now, span);
                }
                (port.heard_notification, port.heard_change) = (false, false);
                port.change_ack |= port.role == Role::Designated;
                self.changes += 1;
                self.propagate(index);
            }
            TopologyChange::Active if port.propagate_change => {
                announce(port, now, span);
                port.flush = true;
                port.propagate_change = false;
            }
            TopologyChange::Active if port.heard_ack => {
                port.change_until = Instant::ZERO;
                port.heard_ack = false;
            }
            TopologyChange::Active => return false,
        }
        true
    }

    /// `setTcPropTree`: the other ports pass it on.
    fn propagate(&mut self, from: usize) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.propagate_change |= index != from;
        }
    }
}

fn forget_changes(port: &mut Port) {
    (port.heard_change, port.heard_notification) = (false, false);
    (port.heard_ack, port.propagate_change) = (false, false);
}

/// `newTcWhile`: for how long it is said that the topology has changed.
fn announce(port: &mut Port, now: Instant, span: Duration) {
    if port.change_until > now {
        return;
    }
    port.change_until = now
        + match port.send_rstp {
            true => {
                port.new_info = true;
                port.hello() + Duration::from_secs(1)
            }
            false => span,
        };
}

/// Takes a new role. Timers that stood still in the old one run from now on.
fn enter(port: &mut Port, now: Instant) {
    let from = std::mem::replace(&mut port.role, port.selected_role);
    match from {
        Role::Disabled => port.forward_at = now + port.designated_times.max_age.duration(),
        Role::Root => port.recent_root = now + port.designated_times.forward_delay.duration(),
        Role::Designated => {}
        Role::Alternate => port.forward_at = now + port.forward_delay(),
        Role::Backup => {
            port.forward_at = now + port.forward_delay();
            port.recent_backup = now + 2 * port.hello();
        }
    }
    match port.role {
        Role::Root => port.recent_root = HELD,
        Role::Designated => {}
        Role::Disabled | Role::Alternate | Role::Backup => {
            (port.learn, port.forward) = (false, false);
            (port.forward_at, port.recent_root) = (HELD, Instant::ZERO);
            settle(port);
        }
    }
    if port.role == Role::Backup {
        port.recent_backup = HELD;
    }
}

/// A port that discards for as long as it has its role is in nobody's way.
fn settle(port: &mut Port) -> bool {
    let is_settled = port.synced && !port.sync && !port.re_root;
    (port.synced, port.sync, port.re_root) = (true, false, false);
    !is_settled
}

/// What a port that does not lead away from the root says to a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    /// Nothing.
    None,
    /// All other ports have to make sure first.
    Sync,
    /// It agrees.
    Given,
}

fn agree(port: &mut Port, all_are_synced: bool) -> Agreement {
    if port.proposed && !port.agree && !all_are_synced {
        port.proposed = false;
        return Agreement::Sync;
    }
    if (all_are_synced && !port.agree) || (port.proposed && port.agree) {
        port.proposed = false;
        port.agree = true;
        port.new_info = true;
        return Agreement::Given;
    }
    Agreement::None
}

/// A root port learns and forwards as soon as no other port may still think that it is one.
fn root(port: &mut Port, now: Instant, no_other_root: bool) -> bool {
    let may_forward = port.forward_at <= now || (no_other_root && port.recent_backup <= now);
    if may_forward && !port.learn {
        port.forward_at = now + port.forward_delay();
        port.learn = true;
    } else if may_forward && !port.forward {
        port.forward_at = Instant::ZERO;
        port.forward = true;
    } else if port.re_root && port.forward {
        port.re_root = false;
    } else {
        return false;
    }
    true
}

/// A designated port forwards when the other end agrees, when there is no bridge, or when it has
/// waited long enough.
fn designated(port: &mut Port, now: Instant) -> bool {
    let was_root = port.recent_root > now;
    let may_not = (port.sync && !port.synced) || (port.re_root && was_root) || port.disputed;
    let may = (port.forward_at <= now || port.agreed || port.oper_edge)
        && !(port.re_root && was_root)
        && !port.sync;
    let discards = !port.learn && !port.forward;
    if !port.forward && !port.agreed && !port.proposing && !port.oper_edge {
        port.propose(now);
    } else if (!port.synced && (discards || port.agreed || port.oper_edge))
        || (port.sync && port.synced)
    {
        port.recent_root = Instant::ZERO;
        port.synced = true;
        port.sync = false;
    } else if !was_root && port.re_root {
        port.re_root = false;
    } else if may_not && !port.oper_edge && !discards {
        (port.learn, port.forward, port.disputed) = (false, false, false);
        port.forward_at = now + port.forward_delay();
    } else if may && !port.learn {
        port.learn = true;
        port.forward_at = now + port.forward_delay();
    } else if may && !port.forward {
        port.forward = true;
        port.forward_at = Instant::ZERO;
        port.agreed = port.send_rstp;
    } else {
        return false;
    }
    true
}
