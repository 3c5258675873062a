//! Promise: the examples of the library do what they say.

#[path = "../../vnet/examples/topology.rs"]
mod topology;

use std::time::Duration;

#[test]
fn a_topology_from_code() {
    let (fast, slow) = topology::run().unwrap();
    // A million bytes at 2 Mbit/s are four seconds.
    assert!(fast < Duration::from_secs(1), "{fast:?}");
    assert!(slow > Duration::from_secs(4), "{slow:?}");
}
