//! Static routes in the journal. There may be a hundred thousand of them, so each takes a few words, where it would take
//! some hundred bytes as an [`Op`].

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Op, RouteOp};
use crate::base::sorted::Sorted;
use crate::ip::fib::RouteKind;

/// Routes that have no room to spare between them. In a tree, those that are added in their order leave it half empty.
const PACKED: usize = 1024;

/// The routes by destination and metric.
#[derive(Debug, Default)]
pub(super) struct Routes {
    v4: Sorted<(Ipv4Net, u32), Noted<Ipv4Addr>, PACKED>,
    v6: Sorted<(Ipv6Net, u32), Noted<Ipv6Addr>, PACKED>,
    /// The names of all interfaces that they leave by.
    names: BTreeSet<Name>,
}

/// What is noted of a route besides its destination and metric.
#[derive(Debug)]
struct Noted<A> {
    /// Of the operation that added it.
    number: u64,
    interface: Option<Name>,
    gateway: Option<A>,
    kind: RouteKind,
}

impl<A> Noted<A> {
    fn new(number: u64, interface: Option<Name>, gateway: Option<A>, kind: RouteKind) -> Noted<A> {
        Noted {
            number,
            interface,
            gateway,
            kind,
        }
    }
}

/// The name of an interface, which many routes share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Arc<Box<str>>);

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The gateway of a route, which is of the route's family.
fn of_family<A>(gateway: Option<IpAddr>, family: fn(IpAddr) -> Option<A>) -> Option<A> {
    let refused = "a gateway of another family is refused before the route is noted";
    gateway.map(|gateway| family(gateway).expect(refused))
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

impl Routes {
    /// Notes the route of an operation with this number, in place of the one to the same destination with the same metric.
    pub(super) fn insert(
        &mut self,
        number: u64,
        (dst, metric): (IpNet, u32),
        gateway: Option<IpAddr>,
        interface: Option<String>,
        kind: RouteKind,
    ) {
        self.remove(dst, metric);
        let interface = interface.map(|name| self.name(&name));
        match dst {
            IpNet::V4(dst) => {
                let noted = Noted::new(number, interface, of_family(gateway, v4), kind);
                self.v4.insert((dst.trunc(), metric), noted);
            }
            IpNet::V6(dst) => {
                let noted = Noted::new(number, interface, of_family(gateway, v6), kind);
                self.v6.insert((dst.trunc(), metric), noted);
            }
        }
    }

    /// Strikes a route out; false when it is not there.
    pub(super) fn remove(&mut self, dst: IpNet, metric: u32) -> bool {
        let interface = match dst {
            IpNet::V4(dst) => {
                let noted = self.v4.remove(&(dst.trunc(), metric));
                noted.map(|noted| noted.interface)
            }
            IpNet::V6(dst) => {
                let noted = self.v6.remove(&(dst.trunc(), metric));
                noted.map(|noted| noted.interface)
            }
        };
        match interface {
            None => false,
            Some(interface) => {
                // The set has one reference, and this is the other one.
                if let Some(name) = interface
                    && Arc::strong_count(&name.0) == 2
                {
                    self.names.remove(&name);
                }
                true
            }
        }
    }

    /// Strikes out all that leave by an interface.
    pub(super) fn forget_interface(&mut self, interface: &str) {
        let Some(name) = self.names.take(interface) else {
            return;
        };
        self.v4.retain(|_, noted| !noted.leaves_by(&name));
        self.v6.retain(|_, noted| !noted.leaves_by(&name));
    }

    /// Notes that an interface has another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let Some(old) = self.names.take(from) else {
            return;
        };
        let new = self.name(to);
        let changed = |interface: &mut Option<Name>| {
            if interface
                .as_ref()
                .is_some_and(|name| Arc::ptr_eq(&name.0, &old.0))
            {
                *interface = Some(new.clone());
            }
        };
        self.v4
            .values_mut()
            .for_each(|noted| changed(&mut noted.interface));
        self.v6
            .values_mut()
            .for_each(|noted| changed(&mut noted.interface));
    }

    /// The operations that add them, each with its number, in no meaningful order.
    pub(super) fn ops(&self) -> impl Iterator<Item = (u64, Op)> {
        let v4 = self.v4.iter();
        let v4 = v4.map(|((dst, metric), noted)| noted.op((*dst).into(), *metric));
        let v6 = self.v6.iter();
        let v6 = v6.map(|((dst, metric), noted)| noted.op((*dst).into(), *metric));
        v4.chain(v6)
    }

    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The name as all of them have it.
    fn name(&mut self, name: &str) -> Name {
        match self.names.get(name) {
            Some(name) => name.clone(),
            None => {
                let name = Name(Arc::new(name.into()));
                self.names.insert(name.clone());
                name
            }
        }
    }
}

impl<A: Copy + Into<IpAddr>> Noted<A> {
    fn leaves_by(&self, interface: &Name) -> bool {
        let name = self.interface.as_ref();
        name.is_some_and(|name| Arc::ptr_eq(&name.0, &interface.0))
    }

    fn op(&self, dst: IpNet, metric: u32) -> (u64, Op) {
        let op = Op::Route(RouteOp::AddRoute {
            dst,
            gateway: self.gateway.map(Into::into),
            interface: self.interface.as_ref().map(|name| name.0.to_string()),
            kind: self.kind,
            metric,
        });
        (self.number, op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a route takes in the journal, apart from the room to spare in a tree: nothing else is allocated for it.
    #[test]
    fn a_route_takes_a_few_words() {
        assert!(size_of::<((Ipv4Net, u32), Noted<Ipv4Addr>)>() <= 40);
        assert!(size_of::<((Ipv6Net, u32), Noted<Ipv6Addr>)>() <= 64);
    }

    #[test]
    fn names_are_kept_as_long_as_routes_have_them() {
        let mut routes = Routes::default();
        let dst = |n: u8| IpNet::new([198, 18, n, 0].into(), 24).expect("a prefix");
        let add = |routes: &mut Routes, n: u8, name: &str| {
            let name = Some(name.to_owned());
            routes.insert(n.into(), (dst(n), 0), None, name, RouteKind::Unicast);
        };
        let names = |routes: &Routes| -> Vec<String> {
            routes.names.iter().map(|name| name.0.to_string()).collect()
        };
        for (n, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
            add(&mut routes, n, name);
        }
        assert_eq!(names(&routes), ["a", "b"]);
        // Another one takes its place.
        add(&mut routes, 1, "b");
        assert_eq!(names(&routes), ["a", "b"]);
        assert!(routes.remove(dst(2), 0) && !routes.remove(dst(2), 0));
        assert_eq!(names(&routes), ["b"]);
        routes.rename("b", "c");
        routes.rename("a", "d");
        assert_eq!(names(&routes), ["c"]);
        add(&mut routes, 5, "b");
        routes.forget_interface("b");
        assert_eq!(
            (names(&routes), routes.ops().count()),
            (vec!["c".to_owned()], 3)
        );
        for n in [1, 3, 4] {
            assert!(routes.remove(dst(n), 0));
        }
        assert!(routes.is_empty() && routes.names.is_empty());
    }
}
