//! A stack that panics, in every place and under every driver: it ends its vnet and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::base::stats::DropReason;
use crate::base::time::Duration;
use crate::instance::phase::Gone;
use crate::instance::{OwnedVnet, System};
use crate::link::LinkConfig;
use crate::net::{TcpListener, TcpStream, UdpSocket};
use crate::packet::cx::Carrier;
use crate::stack::failure::Place;
use crate::{Resource, SocketError};

/// Within this much of the wall clock everything happens that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn systems() -> [System; 3] {
    [
        System::threads(),
        System::virtual_time(1),
        System::manual(1),
    ]
}

fn create(system: &System, name: &str) -> OwnedVnet {
    system.create(name).expect("a free name")
}

fn wire(a: &Vnet, b: &Vnet, net: u8) {
    let name = format!("eth{net}");
    a.epair(&name, b, &name).expect("free names");
    for (vnet, host) in [(a, 1), (b, 2)] {
        let address = format!("192.0.2.{}/30", net * 4 + host);
        vnet.add_address(&name, address.parse().expect("an address"))
            .expect("a free address");
    }
}

/// Lets the world go on until `done`.
#[track_caller]
fn until(system: &System, mut done: impl FnMut() -> bool) {
    let wall = || system.core.driver.wall();
    let give_up = wall() + PATIENCE;
    while !done() {
        assert!(wall() < give_up, "it never happens");
        let step = Duration::from_millis(1);
        if system.run_for(step).is_err() {
            system.poll(system.now() + step);
            std::thread::yield_now();
        }
    }
}

/// A datagram from one to the other arrives.
#[track_caller]
fn passes(system: &System, from: &Vnet, to: &Vnet, at: &str) {
    let receiver = UdpSocket::bind_in(to, at).expect("a free port");
    receiver.set_nonblocking(true).expect("alive");
    let sender = UdpSocket::bind_in(from, "0.0.0.0:0").expect("a free port");
    sender.send_to(b"still here", at).expect("there is a route");
    until(system, || receiver.recv(&mut [0; 16]).is_ok());
}

#[track_caller]
fn assert_accounted(vnet: &Vnet) {
    let stats = vnet.stats().expect("readable until it is destroyed");
    let pending = vnet.pending().expect("readable until it is destroyed");
    let accounted = stats.delivered + stats.forwarded + stats.rx_dropped() + pending;
    assert_eq!(stats.received, accounted, "{stats:?}");
}

fn plant(vnet: &Vnet, place: Place) {
    vnet.core
        .alive(|live| live.inside.stack.planted = Some(place));
}

/// Lets the stack of `a` panic by what `b` sends, or by a call.
fn trip(a: &Vnet, b: &Vnet, place: Option<Place>) {
    if let Some(place) = place {
        plant(a, place);
    }
    match place {
        None => {
            let called = a.core.with(|_, _| panic!("planted: a call"));
            assert_eq!(called, Err(Gone));
        }
        Some(Place::Output) => {
            let sender = UdpSocket::bind_in(a, "0.0.0.0:0").expect("a free port");
            let sent = sender.send_to(b"x", "192.0.2.2:9").expect_err("it fails");
            assert!(SocketError::is_gone(&sent), "{sent}");
        }
        Some(_) => {
            let sender = UdpSocket::bind_in(b, "0.0.0.0:0").expect("a free port");
            for _ in 0..5 {
                let _ = sender.send_to(b"x", "192.0.2.1:9");
            }
        }
    }
}

#[test]
fn a_stack_that_panics_ends_its_vnet_and_nothing_else() {
    let places = [
        None,
        Some(Place::Frame),
        Some(Place::Output),
        Some(Place::Deadline),
    ];
    for (system, place) in places.iter().flat_map(|p| systems().map(|s| (s, *p))) {
        let [a, b, c] = ["a", "b", "c"].map(|name| create(&system, name));
        wire(&a, &b, 0);
        wire(&b, &c, 1);
        let port = a.port("tap0", None).expect("a free name");
        passes(&system, &b, &a, "192.0.2.1:7");
        let waiting = UdpSocket::bind_in(&a, "0.0.0.0:5000").expect("a free port");
        let listener = TcpListener::bind_in(&a, "0.0.0.0:80").expect("a free port");
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut task = Context::from_waker(&waker);
        let pending = waiting.poll_recv_from(&mut task, &mut [0; 8]).is_pending();
        assert!(pending && listener.poll_accept(&mut task).is_pending());

        trip(&a, &b, place);
        until(&system, || a.failure().is_some());
        let failure = a.failure().expect("it has failed");
        assert!(failure.reason.starts_with("planted"), "{failure}");
        // Everybody in it is told, by whoever found it, and can do nothing more.
        until(&system, || count.0.load(Ordering::SeqCst) >= 2);
        assert_eq!(count.0.load(Ordering::SeqCst), 2, "{place:?}");
        assert!(SocketError::is_gone(
            &waiting.recv(&mut [0; 8]).expect_err("gone")
        ));
        assert!(SocketError::is_gone(&listener.accept().expect_err("gone")));
        assert!(a.interfaces().is_err() && a.create_child("x").is_err());
        assert!(port.is_gone());
        // Every frame is accounted for, those behind the one that was in hand as well.
        assert_accounted(&a);
        if place == Some(Place::Frame) {
            let stats = a.stats().expect("readable");
            assert!(stats.rx_drops(DropReason::VnetFailed) >= 1, "{stats:?}");
        }
        // The far end sees the wire go down, and goes on.
        until(&system, || {
            let interfaces = b.interfaces().expect("alive");
            interfaces.iter().any(|i| i.carrier == Carrier::Down)
        });
        passes(&system, &b, &c, "192.0.2.6:7");
        passes(&system, &c, &b, "192.0.2.5:7");
        // Nothing of it is serviced any more.
        let services = a.stats().expect("readable").services;
        let _ = UdpSocket::bind_in(&b, "0.0.0.0:0").map(|s| s.send_to(b"x", "192.0.2.1:9"));
        passes(&system, &b, &c, "192.0.2.6:7");
        assert_eq!(a.stats().expect("readable").services, services);

        let report = a.destroy();
        assert_eq!(report.failure, Some(failure), "{report}");
        assert!(report.leaked.is_zero(), "{report}");
        assert!(report.steps.iter().all(|s| s.failure.is_none()), "{report}");
        create(&system, "a");
        for (vnet, report) in [(&b, b.failure()), (&c, c.failure())] {
            assert_accounted(vnet);
            assert_eq!(report, None);
        }
    }
}

/// All that came in at once is accounted for, whichever frame it was that the stack failed on.
#[test]
fn a_batch_that_is_cut_short_is_accounted_for() {
    let system = System::manual(1);
    let a = create(&system, "a");
    let port = a.port("eth0", None).expect("a free name");
    for _ in 0..10 {
        port.send(vec![0xff; 60]).expect("it is there");
    }
    system.poll(system.now());
    plant(&a, Place::Frame);
    for _ in 0..10 {
        port.send(vec![0xff; 60]).expect("it is there");
    }
    system.poll(system.now());
    let stats = a.stats().expect("readable");
    assert_eq!(stats.received, 20);
    assert_eq!(stats.rx_drops(DropReason::VnetFailed), 10);
    assert_accounted(&a);
}

/// The next vnet that sends something on this thread is given the collector of effects of the one that has failed.
#[test]
fn what_a_failed_call_would_have_left_to_do_is_not_the_next_vnets() {
    let system = System::manual(1);
    let [a, b, c] = ["a", "b", "c"].map(|name| create(&system, name));
    wire(&a, &b, 0);
    wire(&b, &c, 1);
    passes(&system, &b, &c, "192.0.2.6:7");
    let sender = UdpSocket::bind_in(&b, "0.0.0.0:0").expect("a free port");
    let called = a.core.with(|_, cx| {
        cx.out.extent = crate::packet::cx::Extent::Traffic;
        panic!("planted: behind an extent")
    });
    assert_eq!(called, Err(Gone));
    // Taken from here on as one that makes no socket, the second call would find a socket more than was seen.
    sender.send_to(b"x", "192.0.2.6:9").expect("a route");
    let _another = UdpSocket::bind_in(&b, "0.0.0.0:0").expect("a free port");
    let sockets = b.usage(Resource::Sockets).expect("alive");
    assert_eq!(sockets.current, sockets.high_water);
    assert_eq!(b.failure(), None);
}

/// What was on its way in the vnet's own effects arrives.
#[test]
fn what_was_sent_before_the_panic_arrives() {
    let system = System::manual(1);
    let a = create(&system, "a");
    let port = a.port("eth0", None).expect("a free name");
    let result = a.core.with(|stack, cx| {
        let id = stack.ifs.id_of("eth0").expect("it is there");
        let netif = stack.ifs.get_mut(id).expect("it is there");
        netif.transmit(cx, crate::packet::Packet::incoming(vec![7; 60]));
        panic!("planted: behind a frame")
    });
    assert_eq!(result, Err(Gone));
    assert_eq!(port.recv().map(|p| p.len()), Some(60));
    assert_eq!(a.stats().expect("readable").sent, 1);
}

#[test]
fn a_stack_that_panics_while_it_is_torn_down_is_torn_down() {
    for system in systems() {
        let [a, b] = ["a", "b"].map(|name| create(&system, name));
        wire(&a, &b, 0);
        let listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("a free port");
        let client = TcpStream::start_connect_in(&a, "192.0.2.2:80".parse().expect("an address"))
            .expect("there is a route");
        plant(&a, Place::Teardown);
        let report = a.destroy();
        let failure = report.failure.as_ref().expect("it has failed");
        assert_eq!(failure.reason, "planted: Teardown");
        assert!(report.leaked.is_zero(), "{report}");
        assert!(SocketError::is_gone(&client.peer_addr().expect_err("gone")));
        create(&system, "a");
        drop(listener);
    }
}

/// What belongs to others comes home, and what others have is destroyed with its home.
#[test]
fn interfaces_that_are_not_at_home_end_as_with_any_vnet() {
    let system = System::virtual_time(1);
    let [a, b, c] = ["a", "b", "c"].map(|name| create(&system, name));
    wire(&a, &c, 0);
    let link = LinkConfig {
        delay: Duration::from_millis(3),
        ..LinkConfig::default()
    };
    a.set_link("eth0", link.clone()).expect("it is there");
    a.move_interface("eth0", &b).expect("it may");
    b.port("tap0", None).expect("a free name");
    b.move_interface("tap0", &c).expect("it may");
    trip(&b, &c, None);
    let report = b.destroy();
    let fates: Vec<_> = report.returned.iter().map(|h| h.name.clone()).collect();
    assert_eq!(fates, [Some("eth0".into()), None]);
    assert!(report.leaked.is_zero(), "{report}");
    assert_eq!(a.link("eth0").expect("at home"), link);
    assert_eq!(c.interfaces().expect("alive").len(), 2, "lo0 and eth0");
    a.add_address("eth0", "192.0.2.1/30".parse().expect("an address"))
        .expect("it is at home");
    passes(&system, &c, &a, "192.0.2.1:7");

    // One that has failed takes nothing home any more; whoever has it loses it.
    c.move_interface("eth0", &a).expect_err("the name is taken");
    c.move_interface_as("eth0", &a, "net0").expect("it may");
    trip(&c, &a, None);
    assert!(a.return_interface("net0").is_err());
    assert!(c.destroy().failure.is_some());
    assert_eq!(a.interfaces().expect("alive").len(), 2, "lo0 and eth0");
}

#[test]
fn an_instance_that_fails_while_it_is_made_is_not_made() {
    let system = System::manual(1);
    let step = |vnet: &Vnet| {
        let _ = vnet.core.with(|_, _| panic!("planted: a step"));
        Ok(())
    };
    let record =
        crate::instance::InitRecord::new("step", crate::instance::Stage::Services, 0, step, |_| {
            Ok(())
        });
    system.register(record).expect("there is no vnet yet");
    let error = system.create("a").expect_err("it fails");
    assert!(error.to_string().contains("planted: a step"), "{error}");
    assert_eq!(system.names(), [""; 0]);
    system.unregister("step").expect("it is there");
    create(&system, "a");
}

/// A thread that waits in the vnet is told, under the driver that lets threads wait.
#[test]
fn threads_that_wait_in_it_return() {
    let system = System::threads();
    let a = create(&system, "a");
    let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").expect("a free port");
    let shutdown = a.clone();
    let waits = std::thread::spawn(move || {
        socket
            .recv(&mut [0; 8])
            .map_err(|e| SocketError::is_gone(&e))
    });
    let none = a.core.with(|_, _| panic!("planted: under a wait"));
    assert_eq!(none, Err(Gone));
    assert_eq!(waits.join().expect("no panic"), Err(true));
    assert!(shutdown.failure().is_some());
    let report = a
        .shutdown(Duration::from_secs(3600))
        .expect("nothing to wait for");
    assert!(report.failure.is_some());
}
