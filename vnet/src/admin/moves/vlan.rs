//! What a move means to VLAN interfaces: to those that move, and to those that stand on what moves.

use std::sync::Arc;

use super::{AdminError, Flight, leave_vnet, lend};
use crate::base::id::IfId;
use crate::instance::cores::{Inside, VnetCore};
use crate::instance::phase::{Entry, Gone};
use crate::instance::vnet::Vnet;
use crate::netif::vlan::{Above, Origin, Passage};
use crate::netif::{Inbox, Kind, Plug};
use crate::packet::Cx;
use crate::packet::cx::Carrier;
use crate::stack::Stack;
use crate::trace;

/// Ends the VLAN interfaces on an interface that leaves its vnet. Those that are lent are left to
/// [`VnetCore::end_orphans`].
pub(super) fn end_those_on(stack: &mut Stack, cx: &mut Cx, id: IfId) {
    let Some(parent) = stack.ifs.get_mut(id) else {
        return;
    };
    let vlans = std::mem::take(&mut parent.vlans);
    let parent = parent.name.clone();
    for above in vlans.iter() {
        match above {
            Above::Here(id) => {
                let Some(netif) = leave_vnet(stack, cx, *id) else {
                    continue;
                };
                let interface = &*netif.name;
                tracing::info!(target: trace::CONFIG, "{interface} is gone with {parent}");
                stack.ifs.went_along(netif.name);
            }
            Above::Away(loan, to) => {
                cx.out.carrier.push((to.clone(), Carrier::Down));
                stack.ifs.orphan(*loan);
            }
        }
    }
}

/// A VLAN interface that is here with its parent is about to leave, on a loan: from now on the parent
/// sends to wherever it will be.
pub(super) fn lift(stack: &mut Stack, cx: &mut Cx, id: IfId, inbox: &Arc<Inbox>) {
    let Some(netif) = stack.ifs.get(id) else {
        return;
    };
    let loan = netif.loan.as_ref().map_or(0, |loan| loan.serial);
    let Some(parent) = netif.kind.parent() else {
        return;
    };
    let passage = Arc::new(Passage::new(Arc::clone(inbox), parent));
    let mut parent_name = None;
    let config = netif.kind.vlan().map(|vlan| vlan.config);
    if let (Some(parent), Some(config)) = (stack.ifs.get_mut(parent), config) {
        let to = passage.sender();
        parent.vlans.set(config, Above::Away(loan, to.clone()));
        parent_name = Some(parent.name.clone());
        cx.out.carrier.push((to, parent.carrier_above()));
    }
    if let Some(netif) = stack.ifs.get_mut(id)
        && let Kind::Vlan(vlan) = &mut netif.kind
    {
        vlan.parent_name = parent_name.unwrap_or_default();
        vlan.away = Some(passage);
    }
}

/// Connects a VLAN interface in the vnet into which it has been put, which is its home if it is not lent
/// any more. False when its parent is gone.
pub(super) fn connect(stack: &mut Stack, inbox: &Arc<Inbox>, id: IfId) -> bool {
    let Some(netif) = stack.ifs.get_mut(id) else {
        return false;
    };
    let is_home = netif.loan.is_none();
    let Kind::Vlan(vlan) = &mut netif.kind else {
        return true;
    };
    let Some(passage) = vlan.away.clone() else {
        return true;
    };
    if !is_home {
        let plug = Plug {
            inbox: Arc::clone(inbox),
            ifid: Some(id),
        };
        let news = passage.lead_to(plug);
        (netif.carrier, netif.heard) = (news.carrier, news.number);
        return true;
    }
    passage.close();
    vlan.away = None;
    let (parent, config) = (vlan.parent, vlan.config);
    let inherits_mac = vlan.mac;
    let Some(parent) = stack.ifs.get_mut(parent) else {
        return false;
    };
    parent.vlans.set(config, Above::Here(id));
    let (carrier, mac) = (parent.carrier_above(), parent.mac);
    if let Some(netif) = stack.ifs.get_mut(id) {
        netif.carrier = carrier;
        if inherits_mac == Origin::Parent {
            netif.mac = mac;
        }
    }
    stack.ifs.fit(id);
    true
}

impl Vnet {
    /// Lends an interface that `make` makes, in the same entry: it never is at home. When `to` has no
    /// place for it, it is gone.
    ///
    /// # Errors
    /// As [`Vnet::move_interface_as`], and those of `make`.
    pub(in crate::admin) fn lend_new(
        &self,
        to: &Vnet,
        new_name: &str,
        make: impl FnOnce(&mut Inside) -> Result<IfId, AdminError>,
    ) -> Result<(), AdminError> {
        self.may_lend(None, to, new_name)?;
        let flight = self.core.take(Entry::User, |inside| {
            let id = make(inside)?;
            lend(&self.core, inside, id, &to.core)?;
            Ok::<_, AdminError>(id)
        })?;
        let moved = self.core.place(flight, &to.core, new_name);
        let result = moved.map(drop).map_err(|(flight, error)| {
            if let Some(flight) = flight {
                self.core.withdraw(flight);
            }
            error
        });
        self.core.driver.dispatch();
        result
    }
}

impl VnetCore {
    /// Ends the loan of a VLAN interface of this vnet that is in none, and the interface with it.
    pub(super) fn withdraw(self: &Arc<Self>, flight: Flight) {
        let vlan = flight.0.as_ref().and_then(|n| n.kind.vlan());
        let (Some(serial), Some(vlan)) = (flight.loan().map(|loan| loan.serial), vlan) else {
            return;
        };
        let (parent, config) = (vlan.parent, vlan.config);
        let ended = self.enter_as(Entry::Lifecycle, |inside, _| {
            inside.journal.ends(serial);
            inside.loans.lent.retain(|lent| lent.serial != serial);
            if let Some(parent) = inside.stack.ifs.get_mut(parent)
                && matches!(parent.vlans.get(config), Some(Above::Away(loan, _)) if *loan == serial)
            {
                parent.vlans.remove(config);
            }
        });
        // A home that is gone remembers nothing.
        let _: Result<(), Gone> = ended;
        flight.destroy();
    }

    /// Ends the loans of VLAN interfaces whose parents have left this vnet: they go, wherever they are.
    pub(crate) fn end_orphans(self: &Arc<Self>) {
        let ended = self.enter_as(Entry::Lifecycle, |inside, _| {
            let orphans = inside.stack.ifs.take_orphans();
            let is_one = |serial: &u64| orphans.contains(serial);
            orphans
                .iter()
                .for_each(|serial| inside.journal.ends(*serial));
            let lent = inside
                .loans
                .lent
                .extract_if(.., |lent| is_one(&lent.serial));
            lent.collect::<Vec<_>>()
        });
        for lent in ended.into_iter().flatten() {
            // Whoever is moving it finds out by himself.
            let Some((at, flight)) = lent
                .at
                .upgrade()
                .and_then(|at| at.take_serial(lent.serial).map(|flight| (at, flight)))
            else {
                continue;
            };
            let (interface, vnet, home) = (flight.name(), &*at.name, &*self.name);
            tracing::info!(target: trace::CONFIG, vnet, "{interface} is gone with its parent in {home}");
            let lent = &*lent.name;
            tracing::info!(target: trace::CONFIG, vnet = home, "{lent}, lent to {vnet}, is gone with its parent");
            flight.destroy();
        }
    }
}
