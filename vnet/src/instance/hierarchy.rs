//! Instances made by instances. A child's name is its parent's, a dot, and its own; its privileges
//! are never more than its parent's; it starts with its parent's tunables and limits, and what is
//! in effect of its limits is never more than its parent's; and it is destroyed before its parent.
//!
//! A parent sees its descendants. A child cannot reach its parent, which is visible to it only as
//! the first part of its own name.
//!
//! A child's owner is one of the parent's tenants: the mask of the parent limits what can be done
//! through the child's [`OwnedVnet`]. So a tenant gains nothing by creating a child.

use std::sync::Arc;

use super::cores::VnetCore;
use super::error::CreateError;
use super::journal::{Op, VnetOp};
use super::limits::{self, Resource};
use super::phase::{Entry, Gone, Phase};
use super::privilege::{Authority, Privileges};
use super::vnet::Vnet;

impl Vnet {
    /// Its children, in the order of their creation.
    pub fn children(&self) -> Vec<Vnet> {
        let children = self.core.system.registry().children_of(&self.core);
        children.into_iter().map(|c| self.handle_to(c)).collect()
    }

    /// Its children, their children, and so on, in the order of their creation.
    pub fn descendants(&self) -> Vec<Vnet> {
        self.below(|core| core.is_below(&self.core))
    }

    /// The descendant of that name, which is relative to this vnet's: `"b.c"` is the child `c` of
    /// its child `b`.
    pub fn descendant(&self, name: &str) -> Option<Vnet> {
        let full = format!("{}.{name}", self.core.name);
        let found = self.core.system.registry().find(&full)?;
        found.is_below(&self.core).then(|| self.handle_to(found))
    }

    fn below(&self, wanted: impl Fn(&VnetCore) -> bool) -> Vec<Vnet> {
        let all = self.core.system.registry().vnets();
        let wanted = all.into_iter().filter(|core| wanted(core));
        wanted.map(|core| self.handle_to(core)).collect()
    }

    /// The owner's handle leads to owner's handles, a tenant's to tenants'.
    fn handle_to(&self, core: Arc<VnetCore>) -> Vnet {
        match self.authority {
            Authority::System | Authority::Owner => Vnet::owner(core),
            Authority::Tenant => Vnet::tenant(core),
        }
    }
}

impl VnetCore {
    /// True when `other` is this instance or one below it.
    pub(crate) fn is_family(self: &Arc<Self>, other: &Arc<VnetCore>) -> bool {
        Arc::ptr_eq(self, other) || other.is_below(self)
    }

    /// True when `other` made this instance, or one of those that did.
    pub(crate) fn is_below(&self, other: &Arc<VnetCore>) -> bool {
        let mut at = self.parent.as_ref();
        while let Some(parent) = at {
            if Arc::ptr_eq(parent, other) {
                return true;
            }
            at = parent.parent.as_ref();
        }
        false
    }
}

/// Asks the parent for one more child, and those above it for one more descendant: a child that makes
/// children is no way around its parent's limit.
pub(crate) fn admit(parent: &Arc<VnetCore>) -> Result<(), CreateError> {
    let admit = |above: &Arc<VnetCore>| {
        let admitted = above.enter_as(Entry::User, |inside, _| {
            inside.stack.admit(Resource::Children)?;
            inside.stack.limits.children_now += 1;
            Ok(())
        });
        admitted?.map_err(CreateError::Limit)
    };
    for above in ancestry(Some(parent)) {
        if let Err(refused) = admit(above) {
            let admitted = ancestry(Some(parent)).take_while(|core| !Arc::ptr_eq(core, above));
            admitted.for_each(take_off);
            return Err(refused);
        }
    }
    Ok(())
}

/// Tells those above that a descendant is no more.
pub(crate) fn departed(child: &VnetCore) {
    ancestry(child.parent.as_ref()).for_each(take_off);
}

fn take_off(above: &Arc<VnetCore>) {
    // One that is gone itself need not be told.
    let _ = above.enter_as(Entry::Lifecycle, |inside, _| {
        inside.stack.limits.children_now -= 1;
    });
}

/// An instance, the one that made it, and so on.
fn ancestry(core: Option<&Arc<VnetCore>>) -> impl Iterator<Item = &Arc<VnetCore>> {
    std::iter::successors(core, |core| core.parent.as_ref())
}

/// The last look at the parent before a child is published, under the registry's lock: it must be
/// up, the child's mask within its own, and its limits the child's ceiling.
pub(crate) fn join(child: &Arc<VnetCore>) -> Result<(), Gone> {
    let Some(parent) = &child.parent else {
        return Ok(());
    };
    let phase = parent.enter_as(Entry::Lifecycle, |inside, _| inside.phase)?;
    if phase != Phase::Up {
        return Err(Gone);
    }
    limits::bound_by(child, parent);
    let mask = child.privileges.get() & parent.privileges.get();
    child.privileges.set(mask);
    if mask != Privileges::WITH_SYSTEM {
        child.note(Op::Vnet(VnetOp::SetPrivileges { privileges: mask }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::instance::limits::LimitReached;
    use crate::instance::{Denied, InitRecord, Privilege, Privileges, Stage, System};
    use crate::net::RawSocket;

    fn names(vnets: &[Vnet]) -> Vec<&str> {
        vnets.iter().map(Vnet::name).collect()
    }

    #[test]
    fn parents_see_descendants_and_nobody_else() {
        let system = System::virtual_time(1);
        let [a, z] = ["a", "z"].map(|n| system.create(n).expect("a free name"));
        let b = a.create_child("b").expect("a free name");
        let c = b.create_child("c").expect("a free name");
        let d = a.create_child("d").expect("a free name");
        assert_eq!(names(&a.children()), ["a.b", "a.d"]);
        assert_eq!(names(&a.descendants()), ["a.b", "a.b.c", "a.d"]);
        assert_eq!(names(&b.descendants()), ["a.b.c"]);
        assert!(c.descendants().is_empty() && z.descendants().is_empty());
        assert!(d.descendant("c").is_none() && a.descendant("").is_none());
        assert!(system.vnet("a.b.c").is_some_and(|v| v.is(&c)));
    }

    #[test]
    fn names_are_checked() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        let _b = a.create_child("b").expect("a free name");
        assert!(matches!(a.create_child("b"), Err(CreateError::Exists(n)) if n == "a.b"));
        for bad in ["", "x.y", "x/y"] {
            assert!(matches!(a.create_child(bad), Err(CreateError::BadName(_))));
        }
        assert!(matches!(system.create("a.x"), Err(CreateError::BadName(_))));
        let used = a.usage(Resource::Children).expect("alive");
        assert_eq!((used.current, used.high_water), (1, 1));
    }

    #[test]
    fn the_limit_on_children() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        a.set_limit(Resource::Children, 1).expect("alive");
        let b = a.create_child("b").expect("the first");
        let refused = a.create_child("c").map(drop);
        let reached = LimitReached(Resource::Children);
        assert!(matches!(refused, Err(CreateError::Limit(l)) if l == reached));
        b.destroy();
        a.create_child("c").expect("there is room again");
        let used = a.usage(Resource::Children).expect("alive");
        assert_eq!((used.current, used.high_water, used.refused), (0, 1, 1));
    }

    #[test]
    fn children_go_first_in_reverse_order_of_creation() {
        let system = System::virtual_time(1);
        let gone = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&gone);
        let note = move |vnet: &Vnet| {
            let mut log = log.lock().expect("not poisoned");
            log.push(vnet.name().to_owned());
            Ok(())
        };
        let record = InitRecord::new("note", Stage::Services, 0, |_| Ok(()), note);
        system.register(record).expect("a free name");
        let a = system.create("a").expect("a free name");
        let b = a.create_child("b").expect("a free name");
        let _c = a.create_child("c").expect("a free name");
        let _d = b.create_child("d").expect("a free name");
        let report = a.destroy();
        assert_eq!(
            *gone.lock().expect("not poisoned"),
            ["a.c", "a.b.d", "a.b", "a"]
        );
        let children: Vec<_> = report.children.iter().map(|c| c.vnet.as_str()).collect();
        assert_eq!(children, ["a.c", "a.b"]);
        assert!(report.children.iter().all(|c| c.leaked.is_zero()));
        assert!(report.to_string().contains("vnet a.b.d destroyed"));
        assert!(system.names().is_empty());
        // The owners of what went with it find it gone, and the names are free.
        assert!(b.create_child("x").is_err());
        drop(b);
        let a = system.create("a").expect("free again");
        a.create_child("b").expect("free again");
    }

    #[test]
    fn a_child_that_fails_leaves_nothing() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        let fail = |vnet: &Vnet| match vnet.name() {
            "a.b" => Err("not here".into()),
            _ => Ok(()),
        };
        let record = InitRecord::new("fussy", Stage::Services, 0, fail, |_| Ok(()));
        system.register(record).expect("it suits a");
        assert!(matches!(a.create_child("b"), Err(CreateError::Init { .. })));
        assert_eq!(a.usage(Resource::Children).expect("alive").current, 0);
        assert!(a.children().is_empty());
        a.create_child("c").expect("it suits a.c");
    }

    #[test]
    fn privileges_are_a_subset_all_the_way_down() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        let raw = Privileges::from(Privilege::RawSockets);
        let no_raw = !raw;
        let b = a.create_child("b").expect("a free name");
        let c = b.create_child("c").expect("a free name");
        assert_eq!(c.privileges(), Privileges::ALL);
        a.set_privileges(no_raw).expect("alive");
        for child in [&b, &c] {
            assert_eq!(child.privileges(), no_raw);
            let beyond = child.set_privileges(Privileges::ALL);
            assert_eq!(
                beyond,
                Err(crate::AdminError::BeyondParent(raw.to_string()))
            );
            // A child is no way around the parent's mask, not even for its owner.
            assert!(RawSocket::open_in(child, 89).is_err());
        }
        assert!(
            RawSocket::open_in(&a, 89).is_ok(),
            "its owner is not limited"
        );
        assert_eq!(a.create_child("d").expect("free").privileges(), no_raw);
        // Widening the parent widens no child by itself, but allows it.
        a.set_privileges(Privileges::ALL).expect("alive");
        assert_eq!(b.privileges(), no_raw);
        assert_eq!(b.set_privileges(Privileges::ALL), Ok(()));
        a.set_privileges(!Privileges::from(Privilege::Children))
            .expect("alive");
        let denied = a.clone().create_child("e").map(drop);
        let expected = Denied(Privilege::Children);
        assert!(matches!(denied, Err(CreateError::Denied(d)) if d == expected));
    }

    #[test]
    fn tunables_and_limits_are_inherited_once() {
        let system = System::virtual_time(1);
        let a = system.create("a").expect("a free name");
        a.set_sysctl("net.inet.ip.ttl", 9).expect("in range");
        a.set_limit(Resource::Sockets, 5).expect("alive");
        a.set_limit(Resource::QueuedPackets, 50).expect("alive");
        let b = a.create_child("b").expect("a free name");
        a.set_sysctl("net.inet.ip.ttl", 10).expect("in range");
        assert_eq!(b.sysctl("net.inet.ip.ttl"), Ok("9".to_owned()));
        assert_eq!(b.usage(Resource::Sockets).map(|u| u.limit), Ok(5));
        assert_eq!(b.usage(Resource::QueuedPackets).map(|u| u.limit), Ok(50));
    }

    #[test]
    fn children_made_while_the_parent_goes_leave_nothing() {
        let system = System::manual(1);
        for _ in 0..200 {
            let a = system.create("a").expect("free again");
            let tenant = a.clone();
            std::thread::scope(|s| {
                let maker = s.spawn(move || {
                    let made = (0..).map(|n| tenant.create_child(&format!("c{n}")));
                    made.take_while(Result::is_ok).flatten().collect::<Vec<_>>()
                });
                std::thread::yield_now();
                a.destroy();
                for child in maker.join().expect("no panic") {
                    assert!(child.interfaces().is_err(), "{} is alive", child.name());
                }
            });
            assert!(system.names().is_empty());
        }
    }
}
