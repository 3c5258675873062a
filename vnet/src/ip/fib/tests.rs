use super::*;
use crate::ip::family::testing::Drawn;
use crate::ip::family::{V4, V6};
use proptest::prelude::*;
use slotmap::SlotMap;

fn interfaces() -> Vec<IfId> {
    let mut table = SlotMap::<IfId, ()>::with_key();
    (0..3).map(|_| table.insert(())).collect()
}

fn route(dst: &str, ifid: IfId, metric: u32) -> Route<V4> {
    let dst = dst.parse().expect("a prefix");
    Route {
        metric,
        ..Route::new(dst, NextHop::Direct, ifid, Origin::Static)
    }
}

fn way(fib: &mut Fib<V4>, dst: &str) -> Option<IfId> {
    let dst = dst.parse().expect("an address");
    fib.lookup(dst).map(|hit| hit.ifid)
}

#[test]
fn the_longest_prefix_wins_and_then_the_lowest_metric() {
    let ifs = interfaces();
    let mut fib = Fib::new();
    assert_eq!(way(&mut fib, "10.1.2.3"), None);
    assert_eq!(fib.add(route("0.0.0.0/0", ifs[0], 0)), Ok(()));
    assert_eq!(fib.add(route("10.1.0.0/16", ifs[1], 20)), Ok(()));
    assert_eq!(way(&mut fib, "10.1.2.3"), Some(ifs[1]));
    // The cache must not hide a better route that came later.
    assert_eq!(fib.add(route("10.1.77.0/16", ifs[2], 10)), Ok(()));
    assert_eq!(way(&mut fib, "10.1.2.3"), Some(ifs[2]));
    let same = route("10.1.0.0/16", ifs[0], 10);
    assert_eq!(fib.add(same), Err(FibError::Exists(same.dst.into())));
    assert_eq!(
        fib.replace(same).map(|r| r.map(|r| r.ifid)),
        Ok(Some(ifs[2]))
    );
    assert_eq!(way(&mut fib, "10.1.2.3"), Some(ifs[0]));
    assert_eq!(fib.remove(same.dst, None).map(|r| r.metric), Ok(10));
    assert_eq!(way(&mut fib, "10.1.2.3"), Some(ifs[1]));
    fib.remove_interface(ifs[1]);
    assert_eq!(fib.len(), 1);
    assert_eq!(way(&mut fib, "10.1.2.3"), Some(ifs[0]));
    fib.reset();
    assert_eq!(fib.len(), 0);
    assert_eq!(way(&mut fib, "10.1.2.3"), None);
}

#[test]
fn a_full_table_refuses() {
    let ifs = interfaces();
    let mut fib = Fib::new();
    fib.set_max_routes(1);
    assert_eq!(fib.add(route("10.0.0.0/8", ifs[0], 0)), Ok(()));
    let more = route("11.0.0.0/8", ifs[0], 0);
    assert_eq!(fib.add(more), Err(FibError::Limit(1)));
    assert_eq!(fib.replace(more), Err(FibError::Limit(1)));
    assert_eq!(
        fib.replace(route("10.0.0.0/8", ifs[1], 0))
            .map(|r| r.is_some()),
        Ok(true)
    );
}

#[test]
fn to_look_for_a_route_by_one_interface_walks_through_no_others() {
    let ifs = interfaces();
    let mut fib = Fib::new();
    assert_eq!(fib.add(route("0.0.0.0/0", ifs[0], 0)), Ok(()));
    for n in 0..10_000_u32 {
        let dst = std::net::Ipv4Addr::from(0x0a00_0000 | n << 8);
        let net = ipnet::Ipv4Net::new(dst, 24).expect("a length");
        let route = Route::new(net, NextHop::Direct, ifs[1], Origin::Static);
        assert_eq!(fib.add(route), Ok(()));
    }
    let dst = "10.0.7.1".parse().expect("an address");
    let before = fib.walked.steps();
    for (by, len) in [(ifs[0], Some(0)), (ifs[1], Some(24)), (ifs[2], None)] {
        let route = fib.route_by(dst, by);
        assert_eq!(route.map(|r| r.dst.prefix_len()), len);
    }
    assert!(fib.walked.steps() - before <= 3 * 33);
}

#[derive(Clone, Debug)]
enum Op {
    Add(u32, u8, usize, u32),
    Replace(u32, u8, usize, u32),
    Remove(u32, u8, Option<u32>),
    RemoveInterface(usize),
    Down(usize),
    Up(usize),
    Lookup(u32),
}

/// Few distinct bits, so that prefixes nest and collide.
fn bits() -> impl Strategy<Value = u32> {
    any::<u32>().prop_map(|b| b & 0xc0c0_00c1)
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop::sample::select(vec![0u8, 1, 2, 8, 9, 10, 24, 25, 31, 32]);
    prop_oneof![
        3 => (bits(), len(), 0..3usize, 0..3u32).prop_map(|(b, l, i, m)| Op::Add(b, l, i, m)),
        1 => (bits(), len(), 0..3usize, 0..3u32)
            .prop_map(|(b, l, i, m)| Op::Replace(b, l, i, m)),
        2 => (bits(), len(), prop::option::of(0..3u32))
            .prop_map(|(b, l, m)| Op::Remove(b, l, m)),
        1 => (0..3usize).prop_map(Op::RemoveInterface),
        1 => (0..3usize).prop_map(Op::Down),
        1 => (0..3usize).prop_map(Op::Up),
        6 => bits().prop_map(Op::Lookup),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_list(ops in prop::collection::vec(op(), 1..80)) {
        agrees_with_a_list::<V4>(&ops)?;
        agrees_with_a_list::<V6>(&ops)?;
    }
}

/// The table agrees with a linear scan over a list.
fn agrees_with_a_list<F: Drawn>(ops: &[Op]) -> Result<(), TestCaseError> {
    let ifs = interfaces();
    let mut fib = Fib::<F>::new();
    let mut list: Vec<Route<F>> = Vec::new();
    let mut down = [false; 3];
    let make = |b: u32, l: u8, i: usize, m: u32| {
        let gateway = NextHop::Gateway(F::addr_of(i as u32));
        Route {
            metric: m,
            ..Route::new(F::net_of(b, l), gateway, ifs[i], Origin::Static)
        }
    };
    for op in ops {
        let generation = fib.generation();
        let before = list.clone();
        match *op {
            Op::Add(b, l, i, m) => {
                let route = make(b, l, i, m);
                let same = |r: &Route<F>| (r.dst, r.metric) == (route.dst, route.metric);
                let exists = list.iter().any(same);
                prop_assert_eq!(fib.add(route).is_err(), exists);
                if !exists {
                    list.push(route);
                }
            }
            Op::Replace(b, l, i, m) => {
                let route = make(b, l, i, m);
                let old = list
                    .iter()
                    .position(|r| (r.dst, r.metric) == (route.dst, m));
                let old = old.map(|at| list.remove(at));
                list.push(route);
                prop_assert_eq!(fib.replace(route), Ok(old));
                prop_assert_ne!(fib.generation(), generation);
            }
            Op::Remove(b, l, m) => {
                let dst = make(b, l, 0, 0).dst;
                let victim = list
                    .iter()
                    .filter(|r| r.dst == dst && m.is_none_or(|m| r.metric == m))
                    .min_by_key(|r| r.metric)
                    .copied();
                list.retain(|r| Some(*r) != victim);
                prop_assert_eq!(fib.remove(dst, m).ok(), victim);
            }
            Op::RemoveInterface(i) => {
                list.retain(|r| r.ifid != ifs[i]);
                down[i] = false;
                fib.remove_interface(ifs[i]);
            }
            Op::Down(i) => {
                fib.interface_down(ifs[i]);
                down[i] = true;
            }
            Op::Up(i) => {
                fib.interface_up(ifs[i]);
                down[i] = false;
            }
            Op::Lookup(b) => {
                let dst = F::addr_of(b);
                let in_use = |r: &Route<F>| !(0..3).any(|i| down[i] && ifs[i] == r.ifid);
                let best = list
                    .iter()
                    .filter(|r| F::contains(r.dst, dst) && in_use(r))
                    .max_by_key(|r| (F::prefix_len(r.dst), std::cmp::Reverse(r.metric)));
                let found = fib.lookup(dst);
                prop_assert_eq!(
                    found.map(|hit| (hit.ifid, hit.hop(dst))),
                    best.map(|r| (r.ifid, r.hop(dst)))
                );
                prop_assert_eq!(fib.lookup(dst), found);
                for ifid in &ifs {
                    let by = list
                        .iter()
                        .filter(|r| F::contains(r.dst, dst) && r.ifid == *ifid)
                        .max_by_key(|r| (F::prefix_len(r.dst), std::cmp::Reverse(r.metric)));
                    prop_assert_eq!(fib.route_by(dst, *ifid), by);
                }
                prop_assert_eq!(fib.generation(), generation);
            }
        }
        if list != before {
            prop_assert_ne!(fib.generation(), generation);
        }
        prop_assert_eq!(fib.len(), list.len());
    }
    list.sort_by_key(|r| (r.dst, r.metric));
    prop_assert_eq!(fib.iter().copied().collect::<Vec<_>>(), list);
    Ok(())
}
