//! Connections that are quiet: little is left of them, and nothing that they would do otherwise changes.

use super::connection::Rest;
use super::*;

/// A connection that has carried a byte each way, and has then been quiet for a while.
fn rested(w: &mut World) -> [ConnId; 2] {
    let (a, b) = w.pair();
    exchange(w, [(A, a), (B, b)]);
    exchange(w, [(B, b), (A, a)]);
    w.run_for(Duration::from_secs(10));
    [a, b]
}

fn exchange(w: &mut World, [(from, near), (to, far)]: [(usize, ConnId); 2]) {
    assert_eq!(w.write(from, near, &[7]), Ok(1));
    w.run_for(Duration::from_millis(30));
    assert_eq!(w.read(to, far, 2), Ok(vec![7]));
}

fn resting(w: &World) -> [usize; 2] {
    [A, B].map(|host| w.hosts[host].tcp.connections.resting())
}

#[test]
fn a_quiet_connection_is_half_as_large() {
    assert!(2 * size_of::<Rest>() <= size_of::<Connection>());
    let mut w = World::new(1, Net::default());
    let [a, b] = rested(&mut w);
    assert_eq!(resting(&w), [1, 1]);
    // It goes on where it was, and rests again.
    exchange(&mut w, [(A, a), (B, b)]);
    assert_eq!(resting(&w), [0, 0]);
    w.run_for(Duration::from_secs(10));
    assert_eq!(resting(&w), [1, 1]);
}

#[test]
fn to_look_at_one_does_not_wake_it() {
    let mut w = World::new(1, Net::default());
    let [a, _] = rested(&mut w);
    let info = w.info(A, a).expect("it is there");
    let tcp = &w.hosts[A].tcp;
    assert_eq!((info.bytes_sent, info.bytes_received), (1, 1));
    assert!(tcp.readiness(a).expect("it is there").writable);
    assert_eq!(tcp.sockets().len(), 1);
    assert_eq!((tcp.buffered_bytes(), tcp.held_bytes()), (0, 0));
    assert_eq!(tcp.held_by_sockets(), 1);
    assert!(tcp.options(a).is_ok() && tcp.local_addr(a).is_ok());
    assert_eq!(resting(&w), [1, 1]);
}

#[test]
fn one_that_is_probed_rests_between_probes() {
    let mut w = World::new(1, Net::default());
    let [a, _] = rested(&mut w);
    let probed = |options: &mut Options| {
        options.keepalive = true;
        options.keepalive_idle = Some(Duration::from_secs(60));
    };
    w.on(A, |tcp, cx| tcp.set_options(cx, a, probed))
        .expect("good options");
    let before = w.trace.len();
    w.run_for(Duration::from_secs(200));
    let probes = w.trace[before..].iter().filter(|t| t.1 == A).count();
    assert_eq!((probes, resting(&w)), (2, [1, 1]));
}

#[test]
fn one_with_something_to_read_or_to_say_does_not_rest() {
    let mut w = World::new(1, Net::default());
    let [a, b] = rested(&mut w);
    assert_eq!(w.write(A, a, &[7]), Ok(1));
    w.run_for(Duration::from_secs(10));
    // What A sent has come to B, and nobody has read it.
    assert_eq!(resting(&w), [1, 0]);
    w.close(B, b);
    w.run_for(Duration::from_secs(10));
    assert_eq!(resting(&w)[B], 0);
}
