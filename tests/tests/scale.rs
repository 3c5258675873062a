//! Promise: a network of a hundred routers does what a small one does. Everything arrives, it is the
//! same on every run, and nothing is left of it.

use vnet::System;
use vnet_benches::scale::graph::Shape;
use vnet_benches::scale::network::Design;
use vnet_benches::scale::traffic::{Flow, MAX_REACH, carry, pairs, ping_neighbours};
use vnet_benches::scale::trial::Totals;
use vnet_tests::accounts::{assert_clean, assert_conserved};

const ROUTERS: usize = 100;
const FLOWS: usize = 20;
const BYTES: usize = 100_000;

/// Everything that can be observed of a run.
#[derive(Debug, PartialEq)]
struct Run {
    pings: usize,
    flows: Vec<Flow>,
    totals: Totals,
    /// Every counter of every router.
    counters: Vec<String>,
    ended: vnet::time::Instant,
}

fn run(shape: Shape, seed: u64) -> Run {
    let design = Design::new(shape, ROUTERS, seed).expect("there is such a network");
    let system = System::virtual_time(seed);
    let network = design.build(&system).expect("it can be built");
    let pings = ping_neighbours(&network, &design).expect("every neighbour answers");
    let pairs = pairs(&design, FLOWS, MAX_REACH, seed);
    let flows = carry(&network, &design, &pairs, BYTES, seed).expect("every flow arrives");
    let totals = Totals::of(&network).expect("its owner is here");
    let mut counters = Vec::new();
    for router in &network.routers {
        assert_conserved(router);
        counters.push(format!("{:?}", router.stats().unwrap()));
        counters.push(format!("{:?}", router.interfaces().unwrap()));
    }
    let ended = system.now();
    for router in network.routers {
        assert_clean(&router.destroy());
    }
    assert!(system.names().is_empty(), "a router is left");
    Run {
        pings,
        flows,
        totals,
        counters,
        ended,
    }
}

#[track_caller]
fn assert_arrives_and_repeats(shape: Shape, links: usize) {
    let one = run(shape, 11);
    assert_eq!(
        one.pings,
        2 * links,
        "each end of each link pings the other"
    );
    assert_eq!(one.flows.len(), FLOWS);
    assert!(one.flows.iter().all(|flow| flow.bytes == BYTES));
    assert!(
        one.totals.forwarded > FLOWS as u64 * 100,
        "{:?}: nobody forwarded",
        one.totals
    );
    let two = run(shape, 11);
    for (n, (a, b)) in one.counters.iter().zip(&two.counters).enumerate() {
        assert_eq!(a, b, "counters of router {}", n / 2);
    }
    assert!(one == two, "the second run was another one");
}

#[test]
fn a_ring_of_a_hundred_routers() {
    assert_arrives_and_repeats(Shape::Ring, 100);
}

#[test]
fn a_tree_of_a_hundred_routers() {
    assert_arrives_and_repeats(Shape::Tree { fan_out: 4 }, 99);
}

#[test]
fn a_random_network_of_a_hundred_routers() {
    assert_arrives_and_repeats(Shape::Random, 150);
}

#[test]
fn another_seed_is_another_network() {
    let (one, two) = (run(Shape::Random, 1), run(Shape::Random, 2));
    assert_ne!(one.totals, two.totals);
}
