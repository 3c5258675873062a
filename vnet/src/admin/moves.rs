//! Interfaces that move. Each has a *home*, the vnet in which it was made, for as long as it lives,
//! and is in one vnet at a time. Its home lends it to another vnet; it returns when either side
//! asks for it, or when the borrower is torn down; and it is destroyed with its home, wherever it
//! is (`if_vmove` and the home vnet of FreeBSD, without a kernel-wide lock).
//!
//! A move takes the interface out of one vnet, under that vnet's lock, and puts it into the other,
//! under the other's lock; the two are never held together. In between it is in no vnet, but its
//! wire stays connected where it was, so that frames towards it wait, or are counted, there. Then
//! the wire is connected to the new vnet's inbox, in one step.
//!
//! The home keeps a list of what it has lent. The thread that has put an interface into a vnet asks
//! the home for confirmation; a home that was torn down meanwhile does not give it, and then the
//! interface is removed at once. So an interface never outlives its home, whichever thread is
//! faster.

mod vlan;

use std::sync::Arc;

use super::record;
use crate::base::id::IfId;
use crate::base::time::Instant;
use crate::instance::cores::{Inside, VnetCore};
use crate::instance::loans::{Lent, Loans};
pub use crate::instance::loans::{LentInterface, ReturnedInterface};
use crate::instance::phase::{Entry, Gone, Phase};
use crate::instance::privilege::{Authority, Privilege};
use crate::instance::vnet::Vnet;
use crate::netif::capture::Taps;
use crate::netif::table::{Loan, MAX_NAME};
use crate::netif::{AdminError, AdminState, IfTable, Inbox, Netif, Plug};
use crate::packet::Cx;
use crate::packet::cx::Carrier;
use crate::stack::Stack;

/// How often an interface that somebody else is moving is looked for.
const LOOKS: usize = 64;
/// A fresh unit number is not much larger than this, and fits in a name.
const MAX_UNIT: u64 = 1_000_000;

impl Lent<VnetCore> {
    pub(crate) fn describe(&self) -> LentInterface {
        let at = self.at.upgrade();
        LentInterface {
            name: self.name.to_string(),
            borrower: at.map_or(String::new(), |core| core.name.to_string()),
        }
    }
}

impl Vnet {
    /// Lends an interface to another vnet, under the name that it has here, and returns its name there. That is
    /// another one only where the other vnet is its home: see [`Vnet::return_interface`].
    ///
    /// It keeps its name, its MAC address, its IP MTU, its offloads, its administrative state, its
    /// counters, the impairments of its link, and the connection to the other end, which sees the
    /// wire go down and up. Its addresses, routes, neighbours and group memberships are lost;
    /// captures end. Frames that had arrived and were not yet processed are dropped here and
    /// counted.
    ///
    /// Needs [`Privilege::InterfaceCreate`]. For a descendant of this vnet nothing else is needed.
    /// To any other vnet of the system, an interface can be lent only by its home's owner, who
    /// needs the same privilege there. A borrowed interface can be lent on to descendants, or
    /// [returned](Vnet::return_interface).
    ///
    /// # Errors
    /// See [`AdminError`]; the interface is then where it was, with everything it had. If the other
    /// vnet goes, or the name is taken, in the middle of the move, the interface is back in this
    /// vnet, or at home if this one is gone as well, without its addresses.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, peer) = (system.create("a")?, system.create("peer")?);
    /// let child = a.create_child("b")?;
    /// a.epair("eth0", &peer, "eth0")?;
    /// a.move_interface("eth0", &child)?;
    /// let there = &child.interfaces()?[1];
    /// assert_eq!((&*there.name, &*there.home, &*there.current), ("eth0", "a", "a.b"));
    ///
    /// let report = child.destroy();
    /// assert_eq!(report.returned[0].to_string(), "eth0 went from a.b home to a as eth0");
    /// assert_eq!(a.interfaces()?[1].name, "eth0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn move_interface(&self, name: &str, to: &Vnet) -> Result<String, AdminError> {
        self.move_interface_as(name, to, name)
    }

    /// Lends an interface to another vnet, where it is called `new_name`. At home it gets its old
    /// name back. Otherwise like [`Vnet::move_interface`].
    ///
    /// # Errors
    /// As [`Vnet::move_interface`].
    pub fn move_interface_as(
        &self,
        name: &str,
        to: &Vnet,
        new_name: &str,
    ) -> Result<String, AdminError> {
        if !Arc::ptr_eq(&self.core.system, &to.core.system) {
            return Err(AdminError::OtherSystem);
        }
        if self.is(to) {
            return Err(AdminError::SameVnet(name.to_owned()));
        }
        self.require(Privilege::InterfaceCreate)?;
        let loan = self.loan_of(name)?;
        if loan.as_ref().is_some_and(|l| l.home == to.core.number) {
            return self.return_interface(name);
        }
        self.may_lend(loan.as_deref(), to, new_name)?;
        let flight = self.core.take(Entry::User, |inside| {
            let id = inside.stack.ifs.id_of(name)?;
            lend(&self.core, inside, id, &to.core)?;
            Ok(id)
        });
        let result = flight.and_then(|flight| self.core.hand_over(flight, &to.core, new_name));
        self.core.driver.dispatch();
        result
    }

    /// Checks that an interface can be lent to `to`: most of what can go wrong is found before anything
    /// has changed. `loan` is the loan on which it is here.
    ///
    /// # Errors
    /// As [`Vnet::move_interface_as`].
    fn may_lend(&self, loan: Option<&Loan>, to: &Vnet, new_name: &str) -> Result<(), AdminError> {
        if !Arc::ptr_eq(&self.core.system, &to.core.system) {
            return Err(AdminError::OtherSystem);
        }
        self.require(Privilege::InterfaceCreate)?;
        if !to.core.is_below(&self.core) {
            if loan.is_some() || self.authority == Authority::Tenant {
                return Err(AdminError::NotDescendant(to.name().to_owned()));
            }
            to.require(Privilege::InterfaceCreate)?;
        }
        let ready = to.core.with(|stack, _| stack.admit_interface(new_name));
        ready.map_err(|Gone| AdminError::TargetGone)??;
        self.core.system.registry().note_lender(&self.core);
        Ok(())
    }

    /// Returns a borrowed interface to its home, and says which name it has there: its original one, or one with the
    /// next free unit number. It keeps and loses the same things as in every move.
    ///
    /// Needs [`Privilege::InterfaceCreate`] here; its home needs none.
    ///
    /// # Errors
    /// No interface of that name, or one that is at home; a missing privilege; [`AdminError::Gone`]
    /// when its home is being torn down, and the interface is gone with it.
    pub fn return_interface(&self, name: &str) -> Result<String, AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        let flight = self.core.take(Entry::User, |inside| {
            let id = inside.stack.ifs.id_of(name)?;
            match inside.stack.ifs.get(id).is_some_and(|i| i.loan.is_some()) {
                true => Ok(id),
                false => Err(AdminError::AtHome(name.to_owned())),
            }
        });
        let result =
            flight.and_then(|flight| self.core.send_home(flight).name.ok_or(AdminError::Gone));
        self.core.driver.dispatch();
        result
    }

    /// Takes back an interface that this vnet has lent, wherever it is; `name` is the one that it
    /// had here. Returns the name that it has now, and otherwise does what [`Vnet::return_interface`] does.
    ///
    /// Needs [`Privilege::InterfaceCreate`] here; the borrower is not asked.
    ///
    /// # Errors
    /// [`AdminError::NotLent`]; a missing privilege; [`AdminError::Busy`] when other calls keep
    /// moving it on, so that it is never found where it was last.
    pub fn reclaim_interface(&self, name: &str) -> Result<String, AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        for _ in 0..LOOKS {
            let lent = self.core.with_loans(|loans| {
                let lent = loans.lent.iter().find(|l| &*l.name == name)?;
                Some((lent.serial, lent.at.upgrade()))
            })?;
            let (serial, at) = lent.ok_or_else(|| AdminError::NotLent(name.to_owned()))?;
            let flight = at.and_then(|at| at.take_serial(serial).map(|flight| (at, flight)));
            if let Some((at, flight)) = flight {
                let result = at.send_home(flight).name.ok_or(AdminError::Gone);
                self.core.driver.dispatch();
                return result;
            }
            std::thread::yield_now();
        }
        Err(AdminError::Busy(name.to_owned()))
    }

    fn loan_of(&self, name: &str) -> Result<Option<Box<Loan>>, AdminError> {
        self.core.with(|stack, _| {
            let netif = stack.ifs.by_name(name)?;
            Ok(netif.loan.clone())
        })?
    }
}

/// An interface that is in no vnet, and since when. One that is dropped leaves its wire.
struct Flight(Option<Box<Netif>>, Instant);

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(end) = self.0.as_ref().and_then(|n| n.kind.wire()) {
            let (wire, near) = end.near();
            // That it left has been told; but so may have been, later, that it had come.
            wire.pull(near, self.1);
        }
        let vlan = self.0.as_ref().and_then(|n| n.kind.vlan());
        if let Some(passage) = vlan.and_then(|v| v.away.as_ref()) {
            passage.close();
        }
    }
}

impl Flight {
    fn name(&self) -> String {
        self.0
            .as_ref()
            .map_or(String::new(), |n| n.name.to_string())
    }

    fn loan(&self) -> Option<&Loan> {
        self.0.as_ref()?.loan.as_deref()
    }

    /// The end of an interface whose home is gone, or has given it up. The far end has heard that it left.
    fn destroy(self) {}
}

impl VnetCore {
    fn with_loans<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Loans<VnetCore>) -> R,
    ) -> Result<R, Gone> {
        self.enter_as(Entry::User, |inside, _| f(&mut inside.loans))
    }

    /// Takes the interface that `pick` names out of this vnet.
    fn take(
        self: &Arc<Self>,
        entry: Entry,
        pick: impl FnOnce(&mut Inside) -> Result<IfId, AdminError>,
    ) -> Result<Flight, AdminError> {
        let taken = self.enter_as(entry, |inside, cx| {
            let id = pick(inside)?;
            let inbox = &self.inbox;
            let netif = take_out(&mut inside.stack, cx, id, inbox).ok_or(AdminError::Gone)?;
            inside.journal.lose(inside.stack.ifs.take_gone());
            Ok::<_, AdminError>((netif, cx.now))
        })?;
        // Captures end here, outside the lock: they are the users'.
        taken.map(|(mut netif, now)| {
            netif.taps = Taps::default();
            Flight(Some(Box::new(netif)), now)
        })
    }

    /// Takes a borrowed interface out of this vnet, in every phase of its life.
    fn take_serial(self: &Arc<Self>, serial: u64) -> Option<Flight> {
        let is_it = |n: &&Netif| n.loan.as_ref().is_some_and(|l| l.serial == serial);
        let pick = |inside: &mut Inside| {
            let found = inside.stack.ifs.iter().find(is_it).map(|n| n.id);
            found.ok_or(AdminError::Gone)
        };
        self.take(Entry::Lifecycle, pick).ok()
    }

    /// The second half of a loan: puts the interface into `to`, and asks its home; or puts it back.
    fn hand_over(
        self: &Arc<Self>,
        flight: Flight,
        to: &Arc<VnetCore>,
        new_name: &str,
    ) -> Result<String, AdminError> {
        let placed = self.place(flight, to, new_name);
        placed.map_err(|(flight, error)| {
            if let Some(flight) = flight {
                self.put_back(flight);
            }
            error
        })
    }

    /// The same. Where `to` has no place, the interface is returned.
    fn place(
        self: &Arc<Self>,
        flight: Flight,
        to: &Arc<VnetCore>,
        new_name: &str,
    ) -> Result<String, (Option<Flight>, AdminError)> {
        let (serial, home) = match flight.loan() {
            Some(loan) => (loan.serial, loan.home),
            None => return Err((None, AdminError::Gone)),
        };
        let placed = to.put(flight, Entry::User, |inside, _| {
            if inside.phase != Phase::Up {
                return Err(AdminError::TargetGone);
            }
            inside.stack.admit_interface(new_name)?;
            Ok(new_name.to_owned())
        });
        if let Err((flight, error)) = placed {
            let error = match error {
                AdminError::Gone => AdminError::TargetGone,
                error => error,
            };
            return Err((Some(flight), error));
        }
        let home = self.system.registry().lender(home);
        let confirmed = home.is_some_and(|home| home.is_lent(serial, to));
        // When it is not there any more either, somebody else has moved it on.
        if !confirmed && let Some(flight) = to.take_serial(serial) {
            flight.destroy();
            return Err((None, AdminError::Gone));
        }
        Ok(new_name.to_owned())
    }

    /// Puts an interface back that found no place where it was to go: where it came from, or at
    /// home when there is no place there either.
    fn put_back(self: &Arc<Self>, flight: Flight) {
        let Some((serial, home)) = flight.loan().map(|loan| (loan.serial, loan.home)) else {
            return;
        };
        if home == self.number {
            self.send_home(flight);
            return;
        }
        let name = flight.name();
        let back = self.put(flight, Entry::User, |inside, _| {
            Ok(free_name(&inside.stack.ifs, &name))
        });
        match back {
            Err((flight, _)) => drop(self.send_home(flight)),
            Ok(_) => {
                let home = self.system.registry().lender(home);
                if !home.is_some_and(|home| home.is_lent(serial, self))
                    && let Some(flight) = self.take_serial(serial)
                {
                    flight.destroy();
                }
            }
        }
    }

    /// Notes in the home of an interface where it is; false when the home has given it up.
    fn is_lent(self: &Arc<Self>, serial: u64, at: &Arc<VnetCore>) -> bool {
        let noted = self.enter_as(Entry::Lifecycle, |inside, _| {
            let lent = inside.loans.lent.iter_mut().find(|l| l.serial == serial);
            lent.map(|lent| lent.at = Arc::downgrade(at)).is_some()
        });
        noted == Ok(true)
    }

    /// Ends a loan. `self` is the vnet that the interface was in.
    fn send_home(self: &Arc<Self>, mut flight: Flight) -> ReturnedInterface {
        let interface = flight.name();
        let loan = flight.0.as_mut().and_then(|n| n.loan.take());
        let Some(loan) = loan else {
            // An interface that is not lent is at home.
            return ReturnedInterface {
                interface,
                from: self.name.to_string(),
                home: self.name.to_string(),
                name: None,
            };
        };
        let home = self.system.registry().lender(loan.home);
        let settings = flight.0.as_deref().map(record::settings);
        let vlan = flight.0.as_ref().and_then(|n| n.kind.vlan());
        let parent = vlan.map(|vlan| vlan.parent);
        let put = match home {
            None => Err((flight, AdminError::Gone)),
            Some(home) => home.put(flight, Entry::Lifecycle, |inside, _| {
                if inside.loans.closed {
                    return Err(AdminError::Gone);
                }
                inside.loans.lent.retain(|l| l.serial != loan.serial);
                if parent.is_some_and(|id| inside.stack.ifs.get(id).is_none()) {
                    // It is gone with its parent, wherever it was.
                    inside.journal.ends(loan.serial);
                    return Err(AdminError::Gone);
                }
                let name = free_name(&inside.stack.ifs, &loan.name);
                let settings = settings.unwrap_or_default();
                inside.journal.returns(loan.serial, &name, settings);
                Ok(name)
            }),
        };
        let name = match put {
            Ok(name) => Some(name),
            Err((flight, _)) => {
                flight.destroy();
                None
            }
        };
        ReturnedInterface {
            interface,
            from: self.name.to_string(),
            home: loan.home_name.to_string(),
            name,
        }
    }

    /// Puts an interface into this vnet under the name that `name` says, and plugs its wire in
    /// here. When there is no place, the interface comes back.
    fn put(
        self: &Arc<Self>,
        mut flight: Flight,
        entry: Entry,
        name: impl FnOnce(&mut Inside, &mut Cx) -> Result<String, AdminError>,
    ) -> Result<String, (Flight, AdminError)> {
        let put = self.enter_as(entry, |inside, cx| {
            let name = name(inside, cx)?;
            inside.stack.ifs.check_name(&name)?;
            let netif = flight.0.take().ok_or(AdminError::Gone)?;
            put_in(self, &mut inside.stack, cx, *netif, &name)?;
            Ok(name)
        });
        match put {
            Ok(Ok(name)) => Ok(name),
            Ok(Err(error)) => Err((flight, error)),
            Err(Gone) => Err((flight, AdminError::Gone)),
        }
    }
}

/// Takes an interface out of its vnet, with everything in the vnet that refers to it: whoever
/// keeps something by interface forgets it here. Of its own it keeps all.
pub(crate) fn leave_vnet(stack: &mut Stack, cx: &mut Cx, id: IfId) -> Option<Netif> {
    vlan::end_those_on(stack, cx, id);
    stack.routes_no_more(cx, id);
    stack.ifs.take_off(id);
    stack.forget_interface(cx, id);
    let mut netif = stack.ifs.remove(id)?;
    netif.tear_link_down(cx);
    Some(netif)
}

/// Refuses to remove what belongs to somebody else.
pub(crate) fn refuse_borrowed(stack: &Stack, id: IfId) -> Result<(), AdminError> {
    let netif = stack.ifs.get(id);
    match netif.and_then(|n| n.loan.as_ref().map(|loan| (n, loan))) {
        None => Ok(()),
        Some((netif, loan)) => Err(AdminError::Borrowed {
            name: netif.name.to_string(),
            home: loan.home_name.to_string(),
        }),
    }
}

/// The first half of a move. The wire stays plugged in where it is.
fn take_out(stack: &mut Stack, cx: &mut Cx, id: IfId, inbox: &Arc<Inbox>) -> Option<Netif> {
    vlan::lift(stack, cx, id, inbox);
    let netif = leave_vnet(stack, cx, id)?;
    if let Some(end) = netif.kind.wire() {
        cx.out.carrier.push((end.clone(), Carrier::Down));
    }
    Some(netif)
}

/// The second half.
fn put_in(
    core: &Arc<VnetCore>,
    stack: &mut Stack,
    cx: &mut Cx,
    mut netif: Netif,
    name: &str,
) -> Result<(), AdminError> {
    let inbox = Arc::clone(&core.inbox);
    let state = netif.admin;
    let id = stack.ifs.insert(name, |id| {
        netif.id = id;
        netif.name = name.into();
        if let Some(end) = netif.kind.wire() {
            let (wire, near) = end.near();
            let ifid = Some(id);
            let news = wire.plug(near, Plug { inbox, ifid });
            (netif.carrier, netif.heard) = (news.carrier, news.number);
            if netif.admin == AdminState::Up {
                cx.out.carrier.push((end.clone(), Carrier::Up));
            }
        }
        netif
    })?;
    if !vlan::connect(stack, &core.inbox, id) {
        stack.ifs.remove(id);
        return Err(AdminError::Gone);
    }
    if state == AdminState::Down {
        stack.ip.interface_down(id);
    }
    stack.appeared(id);
    Ok(())
}

/// Notes that an interface is lent, if it is not lent on.
fn lend(
    home: &Arc<VnetCore>,
    inside: &mut Inside,
    id: IfId,
    to: &Arc<VnetCore>,
) -> Result<(), AdminError> {
    let is_on_borrowed = inside.stack.ifs.is_on_borrowed(id);
    let netif = inside.stack.ifs.get_mut(id);
    let netif = netif.expect("an identifier just looked up is valid");
    if !netif.can().movable {
        return Err(AdminError::Unsupported {
            kind: netif.kind.name(),
            what: "cannot be moved",
        });
    }
    if !netif.vlans.is_empty() {
        return Err(AdminError::HasVlans(netif.name.to_string()));
    }
    if netif.loan.is_none() && is_on_borrowed {
        return Err(AdminError::OnBorrowed(netif.name.to_string()));
    }
    if netif.loan.is_some() {
        // Its home knows of it, and will be asked.
        return Ok(());
    }
    let serial = home.system.next_loan();
    netif.loan = Some(Box::new(Loan {
        serial,
        home: home.number,
        home_name: home.name.clone(),
        name: netif.name.clone(),
    }));
    let (name, settings) = (netif.name.clone(), record::settings(netif));
    let left = record::left_behind(&inside.stack, id);
    inside.journal.leaves(serial, &name, left, settings);
    inside.loans.lent.push(Lent {
        serial,
        name,
        at: Arc::downgrade(to),
    });
    Ok(())
}

/// `name`, or the same with the next free unit number when it is taken.
pub(super) fn free_name(ifs: &IfTable, name: &str) -> String {
    if ifs.id_of(name).is_err() {
        return name.to_owned();
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let unit = name[stem.len()..].parse::<u64>();
    let first = unit.map_or(0, |unit| unit + 1);
    let first = if first > MAX_UNIT { 0 } else { first };
    let candidate = |n: u64| {
        let unit = (first + n).to_string();
        let room = MAX_NAME.saturating_sub(unit.len()).min(stem.len());
        format!("{}{unit}", &stem[..room])
    };
    // There are more candidates than interfaces, so that one is free.
    let mut candidates = (0..=ifs.len() as u64).map(candidate);
    let free = candidates.find(|name| ifs.id_of(name).is_err());
    free.unwrap_or_else(|| name.to_owned())
}

/// Sends everything borrowed home and destroys everything lent, wherever it is. From then on
/// nothing comes in: the vnet is dying, and its own interfaces are next.
pub(crate) fn vacate(core: &Arc<VnetCore>) -> Vec<ReturnedInterface> {
    let taken = core.enter_as(Entry::Lifecycle, |inside, cx| {
        inside.loans.closed = true;
        let now = cx.now;
        let is_borrowed = |n: &&Netif| n.loan.is_some();
        let borrowed = inside.stack.ifs.iter().filter(is_borrowed).map(|n| n.id);
        let borrowed: Vec<IfId> = borrowed.collect();
        let flights = borrowed
            .into_iter()
            .filter_map(|id| take_out(&mut inside.stack, cx, id, &core.inbox))
            .map(|netif| Flight(Some(Box::new(netif)), now));
        let flights: Vec<Flight> = flights.collect();
        (std::mem::take(&mut inside.loans.lent), flights)
    });
    let Ok((lent, flights)) = taken else {
        return Vec::new();
    };
    let mut returned = Vec::new();
    for mut flight in flights {
        if let Some(netif) = &mut flight.0 {
            netif.taps = Taps::default();
        }
        returned.push(core.send_home(flight));
    }
    for lent in lent {
        let Some(at) = lent.at.upgrade() else {
            continue;
        };
        // Whoever is moving it finds out by himself.
        let Some(flight) = at.take_serial(lent.serial) else {
            continue;
        };
        returned.push(ReturnedInterface {
            interface: flight.name(),
            from: at.name.to_string(),
            home: core.name.to_string(),
            name: None,
        });
        flight.destroy();
    }
    returned
}

#[cfg(test)]
mod tests;
