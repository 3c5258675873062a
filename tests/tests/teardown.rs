//! Promise: whatever an instance is in the middle of, destroying it is prompt, leaves nothing,
//! and hurts nobody else.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket, is_gone};
use vnet::{
    AdminState, Carrier, DestroyReport, DropReason, InitRecord, LinkConfig, OwnedVnet, PortError,
    Stage, System, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved, run_until_idle};
use vnet_tests::frames::{ACK, FIN, Ip4, MORE_FRAGMENTS, SYN, udp};
use vnet_tests::peer::Peer;
use vnet_tests::topology::{join, pair, vnet};

/// Longer than any of these tests may take, for waits that end only when something is wrong.
const STUCK: Duration = Duration::from_secs(20);

fn delayed(delay: Duration) -> LinkConfig {
    LinkConfig {
        delay,
        ..LinkConfig::default()
    }
}

#[track_caller]
fn carrier(vnet: &Vnet, interface: &str) -> Carrier {
    let interfaces = vnet.interfaces().expect("the vnet is alive");
    let found = interfaces.into_iter().find(|i| i.name == interface);
    found.expect("the interface is there").carrier
}

// ---- What an instance may be in the middle of ----

// Row 17 of the reference's catalogue: unresolved ARP, a queued packet, destroy.
#[test]
fn packets_held_for_an_unresolved_neighbour_are_released() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let _port = a.port("eth0", None).unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    for host in 2..5 {
        socket
            .send_to(b"held", (Ipv4Addr::new(192, 0, 2, host), 7))
            .unwrap();
    }
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.released.packets(), 3, "{report}");
    assert!(report.released.deadlines() >= 3, "{report}");
    // Row 29: no timer is left that would fire in nobody's name.
    system.poll(system.now() + Duration::from_secs(3600));
    assert_eq!(system.poll(system.now()), None);
}

// Row 18: half a datagram, then destroy.
#[test]
fn half_a_datagram_in_reassembly_is_released() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let peer = Peer::new(&system, &a, "eth0", 2);
    let datagram = udp(peer.addr(5), "192.0.2.1:7".parse().unwrap(), &[0; 64]);
    for ident in 0..5 {
        let header = Ip4 {
            fragment: MORE_FRAGMENTS,
            ident,
            ..Ip4::new(peer.me.ip, peer.vnet.ip, 17)
        };
        peer.send_packet(&header.packet(&datagram[..32]));
    }
    peer.exchange();
    assert_eq!(a.pending(), Ok(5));
    assert_conserved(&a);
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.released.packets(), 5, "{report}");
}

// Row 19: the delay queue is not empty.
#[test]
fn frames_on_a_slow_link_are_released_at_either_end() {
    for victim in ["a", "b"] {
        let system = System::manual(1);
        let (a, b) = pair(&system);
        let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        client.send_to(b"resolve", "10.0.0.2:7").unwrap();
        run_until_idle(&system, 100);
        a.set_link("eth0", delayed(Duration::from_secs(60)))
            .unwrap();
        for _ in 0..10 {
            client.send_to(b"on the wire", "10.0.0.2:7").unwrap();
        }
        let (dead, alive) = if victim == "a" { (a, b) } else { (b, a) };
        let before = alive.stats().unwrap();
        let report = dead.destroy();
        assert_clean(&report);
        system.poll(system.now() + Duration::from_secs(120));
        let after = alive.stats().unwrap();
        match victim {
            // What was on its way still arrives: the sender's end is not the wire.
            "a" => assert_eq!(
                after.rx_drops(DropReason::NoSocket) - before.rx_drops(DropReason::NoSocket),
                10
            ),
            _ => {
                assert_eq!(report.released.packets(), 10, "{report}");
                assert_eq!(after.received, before.received);
            }
        }
        assert_conserved(&alive);
        assert_clean(&alive.destroy());
    }
}

#[test]
fn frames_that_nobody_has_taken_in_yet_are_released() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client.send_to(b"resolve", "10.0.0.2:7").unwrap();
    run_until_idle(&system, 100);
    for _ in 0..10 {
        client.send_to(b"in the inbox", "10.0.0.2:7").unwrap();
    }
    let report = b.destroy();
    assert_clean(&report);
    assert_eq!(report.released.packets(), 10, "{report}");
}

#[test]
fn datagrams_that_nobody_has_received_are_released() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let _server = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    for _ in 0..10 {
        client.send_to(b"unread", "10.0.0.2:7").unwrap();
        run_until_idle(&system, 100);
    }
    let report = b.destroy();
    assert_clean(&report);
    assert_eq!(
        (report.released.packets(), report.released.sockets()),
        (10, 1)
    );
}

// Row 15: connections in every state of RFC 9293, TIME-WAIT included, and listeners.
#[test]
fn connections_in_every_state_are_released_at_once() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let peer = Peer::new(&system, &a, "eth0", 2);
    let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    let accept = || listener.accept().expect("a connection waits").0;
    let mut kept = Vec::new();

    // LISTEN is the listener. SYN-SENT: the peer answers ARP and is silent about the rest.
    kept.push(TcpStream::start_connect_in(&a, peer.addr(9).into()).unwrap());
    let syns = peer.segments();
    assert!(
        syns.iter().any(|s| s.flags == SYN && s.dst_port == 9),
        "{syns:?}"
    );
    // SYN-RECEIVED: the peer never completes its handshake.
    peer.knock(1001, 80);
    // ESTABLISHED, not accepted.
    peer.open(1002, 80);
    assert!(listener.accept().is_ok_and(|(s, _)| {
        kept.push(s);
        true
    }));
    // ESTABLISHED in the accept queue.
    let mut data = peer.open(1003, 80);
    peer.say(&mut data, ACK, b"unread");
    peer.exchange();
    kept.push(accept());
    peer.open(1004, 80);
    // CLOSE-WAIT: the peer has said that it is done.
    let mut talk = peer.open(1005, 80);
    let waiting: Vec<TcpStream> = (0..2).map(|_| accept()).collect();
    peer.say(&mut talk, FIN | ACK, &[]);
    peer.exchange();
    kept.extend(waiting);
    // LAST-ACK: and then we are, too, and the peer does not acknowledge it.
    let mut talk = peer.open(1006, 80);
    let closing = accept();
    peer.say(&mut talk, FIN | ACK, &[]);
    peer.exchange();
    drop(closing);
    assert!(
        peer.segments().iter().any(|s| s.flags & FIN != 0),
        "our FIN is out"
    );
    // FIN-WAIT-1: our FIN is not acknowledged.
    let shut_down = |port| {
        let talk = peer.open(port, 80);
        let stream = accept();
        stream.shutdown(Shutdown::Write).unwrap();
        let fin = peer.segments().into_iter().find(|s| s.flags & FIN != 0);
        (talk, stream, fin.expect("our FIN is out"))
    };
    let (_, stream, _) = shut_down(1007);
    kept.push(stream);
    // FIN-WAIT-2: it is, and the peer goes on.
    let (mut talk, stream, fin) = shut_down(1008);
    talk.ack = fin.seq.wrapping_add(1);
    peer.say(&mut talk, ACK, &[]);
    peer.exchange();
    kept.push(stream);
    // CLOSING: both FINs crossed, ours is not acknowledged.
    let (mut talk, stream, _) = shut_down(1009);
    peer.say(&mut talk, FIN | ACK, &[]);
    peer.exchange();
    kept.push(stream);
    // TIME-WAIT: everything is acknowledged. Once held by a socket, once by nobody.
    for (port, keep) in [(1010, true), (1011, false)] {
        let (mut talk, stream, fin) = shut_down(port);
        talk.ack = fin.seq.wrapping_add(1);
        peer.say(&mut talk, FIN | ACK, &[]);
        let last = peer.segments();
        assert!(
            last.iter().any(|s| s.flags == ACK && s.dst_port == port),
            "{last:?}"
        );
        if keep {
            kept.push(stream);
        }
    }

    // 1 outgoing, 1001 to 1011 incoming.
    let started = std::time::Instant::now();
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.released.connections(), 12, "{report}");
    assert!(report.released.deadlines() >= 5, "{report}");
    assert!(started.elapsed() < STUCK, "nothing in it waits");
    for mut stream in kept {
        assert!(is_gone(&stream.read(&mut [0; 8]).unwrap_err()));
    }
    assert!(is_gone(&listener.accept().unwrap_err()));
    system.poll(system.now() + Duration::from_secs(3600));
    assert_eq!(
        system.poll(system.now()),
        None,
        "and no timer outlives them"
    );
}

// ---- Who waits in it ----

/// Runs `call` in a thread and waits until it blocks; what it returned comes through the channel.
fn blocked<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (started, starts) = mpsc::channel();
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        started.send(()).unwrap();
        let _ = done.send(call());
    });
    starts.recv().unwrap();
    // Long enough to be inside the call nearly always; the promise holds before it as well.
    std::thread::sleep(Duration::from_millis(20));
    result
}

// Rows 10 and 28: nobody who waits in an instance keeps it from going.
#[test]
fn calls_that_wait_in_other_threads_return_gone_at_once() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let outgoing = TcpStream::connect_in(&b, "10.0.0.2:80").unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    let udp = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let echo = EchoSocket::bind_in(&b).unwrap();
    let connecting = Vnet::clone(&b);
    let mut reading = outgoing.try_clone().unwrap();
    let waiting = [
        blocked(move || listener.accept().map(drop)),
        blocked(move || udp.recv_from(&mut [0; 8]).map(drop)),
        blocked(move || echo.recv().map(drop)),
        blocked(move || reading.read(&mut [0; 8]).map(drop)),
        // Nobody is at that address: this waits for a neighbour.
        blocked(move || TcpStream::connect_in(&connecting, "10.0.0.99:80").map(drop)),
    ];
    for wait in &waiting {
        assert!(wait.try_recv().is_err(), "it waits");
    }
    assert_clean(&b.destroy());
    for (n, wait) in waiting.iter().enumerate() {
        let result = wait.recv_timeout(STUCK).expect("it must not hang");
        let error = result.expect_err("there was nothing to return");
        assert!(is_gone(&error), "call {n}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    }
    assert_clean(&a.destroy());
}

#[test]
fn a_writer_that_waits_for_a_full_buffer_returns_gone() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let mut stream = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (_never_read, _) = listener.accept().unwrap();
    let wait = blocked(move || {
        loop {
            if let Err(e) = std::io::Write::write(&mut stream, &[0; 65_536]) {
                return e;
            }
        }
    });
    let report = a.destroy();
    assert_clean(&report);
    let error = wait.recv_timeout(STUCK).expect("it must not hang");
    assert!(is_gone(&error), "{error:?}");
}

#[test]
fn calls_that_wait_under_virtual_time_return_gone() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    let socket = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let listener = TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let receiving = system.spawn(move || socket.recv_from(&mut [0; 8]).unwrap_err());
    let accepting = system.spawn(move || listener.accept().unwrap_err());
    system.sleep(Duration::from_secs(1)).unwrap();
    assert_clean(&b.destroy());
    for thread in [receiving.unwrap(), accepting.unwrap()] {
        assert!(is_gone(&thread.join().unwrap()));
    }
    assert_clean(&a.destroy());
}

#[test]
fn futures_that_wait_are_woken_and_told() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    let bell = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut task = Context::from_waker(&waker);
    assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
    assert!(listener.poll_accept(&mut task).is_pending());
    assert_clean(&a.destroy());
    assert!(bell.0.load(Ordering::SeqCst));
    let Poll::Ready(Err(error)) = socket.poll_recv_from(&mut task, &mut [0; 8]) else {
        panic!("there is nothing to wait for");
    };
    assert!(is_gone(&error));
    assert!(matches!(listener.poll_accept(&mut task), Poll::Ready(Err(e)) if is_gone(&e)));
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// ---- From where it is destroyed ----

/// A waker that destroys an instance.
struct Destroyer {
    victim: Mutex<Option<OwnedVnet>>,
    report: Mutex<Option<DestroyReport>>,
}

impl Destroyer {
    fn of(victim: OwnedVnet) -> Arc<Destroyer> {
        Arc::new(Destroyer {
            victim: Mutex::new(Some(victim)),
            report: Mutex::new(None),
        })
    }

    fn strike(&self) {
        let victim = self.victim.lock().unwrap().take();
        if let Some(victim) = victim {
            *self.report.lock().unwrap() = Some(victim.destroy());
        }
    }

    fn report(&self) -> Option<DestroyReport> {
        self.report.lock().unwrap().take()
    }
}

impl Wake for Destroyer {
    fn wake(self: Arc<Self>) {
        self.strike();
    }
}

fn systems() -> [System; 3] {
    [
        System::manual(1),
        System::virtual_time(1),
        System::threads(),
    ]
}

/// Lets what was set off happen, under any driver.
fn settle(system: &System, done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        system.poll(system.now() + Duration::from_millis(1));
        let _ = system.sleep(Duration::from_millis(1));
        if done() {
            return;
        }
    }
    panic!("it did not happen");
}

// Row 9: the removal ran on the queue that it drained.
#[test]
fn an_instance_may_be_destroyed_from_its_own_waker() {
    for system in systems() {
        let (a, b) = pair(&system);
        let socket = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let destroyer = Destroyer::of(b);
        let waker = Waker::from(Arc::clone(&destroyer));
        let mut task = Context::from_waker(&waker);
        assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
        client.send_to(b"die", "10.0.0.2:7").unwrap();
        let report = std::cell::OnceCell::new();
        settle(&system, || match destroyer.report() {
            Some(r) => report.set(r).is_ok(),
            None => false,
        });
        assert_clean(report.get().unwrap());
        assert!(is_gone(&socket.recv_from(&mut [0; 8]).unwrap_err()));
        assert_clean(&a.destroy());
    }
}

#[test]
fn an_instance_may_be_destroyed_from_a_ports_callback() {
    for system in systems() {
        let a = vnet(&system, "a");
        let port = Arc::new(a.port("eth0", None).unwrap());
        let handle = Vnet::clone(&a);
        let destroyer = Destroyer::of(a);
        let strike = Arc::clone(&destroyer);
        port.on_ready(Arc::new(move || strike.strike()));
        // The announcement of the address rings the bell, in the middle of this call.
        let _ = handle.add_address("eth0", "192.0.2.1/24".parse().unwrap());
        let report = std::cell::OnceCell::new();
        settle(&system, || match destroyer.report() {
            Some(r) => report.set(r).is_ok(),
            None => false,
        });
        assert_clean(report.get().unwrap());
        assert!(port.is_gone());
        assert!(handle.interfaces().is_err());
    }
}

#[test]
fn an_instance_may_be_destroyed_by_its_own_step() {
    for system in systems() {
        let destroyer = Destroyer::of(vnet(&system, "a"));
        let undone = Arc::new(AtomicBool::new(false));
        let (strike, note) = (Arc::clone(&destroyer), Arc::clone(&undone));
        let record = InitRecord::new(
            "suicide",
            Stage::Services,
            0,
            move |_| {
                strike.strike();
                Ok(())
            },
            move |_| {
                note.store(true, Ordering::SeqCst);
                Ok(())
            },
        );
        system.register(record).expect("the step itself succeeded");
        assert_clean(&destroyer.report().expect("it was destroyed"));
        assert!(undone.load(Ordering::SeqCst), "a step that ran is undone");
        assert!(system.vnet("a").is_none());
        let b = vnet(&system, "b");
        assert_clean(&b.destroy());
    }
}

#[test]
fn an_instance_may_be_destroyed_by_its_own_thread() {
    for system in systems() {
        let a = vnet(&system, "a");
        let handle = Vnet::clone(&a);
        let report = handle.spawn(move || {
            let report = a.destroy();
            assert_eq!(
                Vnet::current().unwrap().name(),
                "a",
                "a name is left to stand in"
            );
            report
        });
        assert_clean(&report.unwrap().join().unwrap());
    }
}

#[test]
fn two_instances_may_destroy_each_other_by_way_of_their_wakers() {
    for system in systems() {
        let (a, b) = pair(&system);
        let at_a = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        let at_b = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        let (kill_a, kill_b) = (Destroyer::of(a), Destroyer::of(b));
        // The teardown of b wakes the socket of b, whose waker destroys a, and the other way.
        let wakers = [
            Waker::from(Arc::clone(&kill_a)),
            Waker::from(Arc::clone(&kill_b)),
        ];
        assert!(
            at_b.poll_recv_from(&mut Context::from_waker(&wakers[0]), &mut [0; 8])
                .is_pending()
        );
        assert!(
            at_a.poll_recv_from(&mut Context::from_waker(&wakers[1]), &mut [0; 8])
                .is_pending()
        );
        kill_b.strike();
        for destroyer in [kill_a, kill_b] {
            assert_clean(&destroyer.report().expect("both are gone"));
        }
        assert_eq!(system.names(), [""; 0]);
    }
}

// ---- What goes before, and what goes after ----

#[test]
fn sockets_ports_and_handles_may_be_dropped_after_their_vnet_and_their_system() {
    for system in systems() {
        let (a, b) = pair(&system);
        let port = a.port("port0", None).unwrap();
        let udp = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        let listener = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
        let connecting = TcpStream::start_connect_in(&b, "10.0.0.1:80".parse().unwrap()).unwrap();
        let handle = Vnet::clone(&a);
        drop(system);
        assert!(udp.local_addr().is_ok(), "the owner keeps what it needs");
        assert_clean(&a.destroy());
        assert_clean(&b.destroy());
        assert!(is_gone(&udp.send_to(b"x", "127.0.0.1:7").unwrap_err()));
        assert_eq!(port.send(vec![0; 60]), Err(PortError::Gone));
        drop((udp, listener, connecting));
        assert_eq!(handle.system().names(), [""; 0]);
        drop(handle);
        drop(port);
    }
}

#[test]
fn a_port_dropped_first_leaves_its_interface_with_no_carrier() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let port = a.port("eth0", None).unwrap();
    drop(port);
    run_until_idle(&system, 10);
    assert_eq!(carrier(&a, "eth0"), Carrier::Down);
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let _ = socket.send_to(b"x", "192.0.2.2:7");
    run_until_idle(&system, 100);
    assert_clean(&a.destroy());
}

#[test]
fn peers_see_the_wire_go_down_and_the_ports_end_sees_it_too() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let port = a.port("port0", None).unwrap();
    assert_eq!(
        (carrier(&a, "eth0"), carrier(&b, "eth0")),
        (Carrier::Up, Carrier::Up)
    );
    drop(a);
    run_until_idle(&system, 10);
    assert_eq!(carrier(&b, "eth0"), Carrier::Down);
    while port.recv().is_some() {}
    assert_eq!(port.carrier(), Carrier::Down);
    assert!(port.is_gone());
    // What goes out there is dropped and counted, and the next one to be wired is another.
    let socket = UdpSocket::bind_in(&b, "0.0.0.0:0").unwrap();
    let _ = socket.send_to(b"x", "10.0.0.1:7");
    run_until_idle(&system, 100);
    assert!(b.stats().unwrap().tx_drops(DropReason::InterfaceDown) > 0);
}

#[test]
fn dropping_an_owner_inside_its_vnet_destroys_it_and_the_guard_outlives_it() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let handle = Vnet::clone(&a);
    let entered = handle.enter();
    drop(a);
    assert!(system.vnet("a").is_none());
    drop(entered);
    assert!(Vnet::current().is_none());
}

#[test]
fn destroying_twice_is_destroying_once() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let undone = Arc::new(Mutex::new(0));
    let count = Arc::clone(&undone);
    let record = InitRecord::new(
        "count",
        Stage::Services,
        0,
        |_| Ok(()),
        move |_| {
            *count.lock().unwrap() += 1;
            Ok(())
        },
    );
    system.register(record).unwrap();
    // `destroy` consumes the owner, whose drop comes after it and must do nothing.
    assert_clean(&a.destroy());
    assert_eq!(*undone.lock().unwrap(), 1);
}

// Row 30: the same MAC address was made in two jails.
#[test]
fn no_two_interfaces_of_a_system_ever_have_the_same_mac() {
    let system = System::manual(1);
    let mut macs = std::collections::HashSet::new();
    for _ in 0..20 {
        let vnets: Vec<OwnedVnet> = (0..5).map(|n| vnet(&system, &format!("v{n}"))).collect();
        let mut ports = Vec::new();
        for (n, v) in vnets.iter().enumerate() {
            v.epair("near", &vnets[(n + 1) % 5], "far").unwrap();
            ports.push(v.port("port", None).unwrap());
        }
        for v in &vnets {
            for interface in v.interfaces().unwrap().iter().filter(|i| i.name != "lo0") {
                assert!(!interface.mac.is_multicast());
                assert!(macs.insert(interface.mac), "{} again", interface.mac);
            }
        }
    }
    assert_eq!(macs.len(), 20 * 15);
}

// Rows 14 and 31: create and destroy, again and again.
#[test]
fn the_same_name_can_be_had_again_a_thousand_times() {
    let system = System::manual(1);
    let hub = vnet(&system, "hub");
    for round in 0..1000 {
        let a = vnet(&system, "a");
        join(&a, "eth0 10.0.0.1/24", &hub, "spoke 10.0.0.2/24");
        let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        socket.send_to(b"x", "10.0.0.2:7").unwrap();
        if round % 2 == 0 {
            run_until_idle(&system, 100);
        }
        assert_clean(&a.destroy());
        hub.remove_interface("spoke").unwrap();
    }
    assert_eq!(hub.interfaces().unwrap().len(), 1);
    assert_eq!(
        hub.routes().unwrap().len(),
        vnet(&system, "fresh").routes().unwrap().len()
    );
    assert_conserved(&hub);
    assert_clean(&hub.destroy());
}

// ---- While others act on it ----

// Row 5: the transmit path used a detached interface. Row 7: link flaps during destroy.
// Row 1: interfaces made and removed meanwhile. Row 26: addresses changed from two threads.
#[test]
fn an_instance_may_be_destroyed_while_others_send_to_it_and_change_it() {
    let system = System::threads();
    let hub = vnet(&system, "hub");
    for _ in 0..40 {
        let a = vnet(&system, "a");
        join(&a, "eth0 10.0.0.1/24", &hub, "spoke 10.0.0.2/24");
        let stop = AtomicBool::new(false);
        let handle = Vnet::clone(&a);
        std::thread::scope(|s| {
            let busy = |f: &mut dyn FnMut()| {
                while !stop.load(Ordering::Relaxed) {
                    f();
                }
            };
            let (busy, handle, hub) = (&busy, &handle, &hub);
            s.spawn(move || {
                let out = UdpSocket::bind_in(hub, "0.0.0.0:0").unwrap();
                busy(&mut || {
                    let _ = out.send_to(b"to a", "10.0.0.1:7");
                });
            });
            s.spawn(move || {
                let out = UdpSocket::bind_in(handle, "0.0.0.0:7");
                busy(&mut || {
                    if let Ok(out) = &out {
                        let _ = out.send_to(b"from a", "10.0.0.2:7");
                    }
                    let _ = handle.epair("x", handle, "y");
                    let _ = handle.remove_interface("x");
                    let _ = handle.remove_interface("y");
                });
            });
            s.spawn(move || {
                busy(&mut || {
                    for state in [AdminState::Down, AdminState::Up] {
                        let _ = handle.set_up("eth0", state);
                    }
                    let _ = handle.remove_address("eth0", "10.0.0.1".parse().unwrap());
                    let _ = handle.add_address("eth0", "10.0.0.1/24".parse().unwrap());
                });
            });
            std::thread::sleep(Duration::from_millis(2));
            assert_clean(&a.destroy());
            stop.store(true, Ordering::Relaxed);
        });
        hub.remove_interface("spoke").unwrap();
    }
    assert_clean(&hub.destroy());
}

// Row 2: a vnet that holds end b is destroyed while end a is.
#[test]
fn both_ends_of_a_wire_may_go_at_the_same_time() {
    let system = System::threads();
    for n in 0..200 {
        let (a, b) = pair(&system);
        std::thread::scope(|s| {
            s.spawn(|| match n % 2 {
                0 => assert_clean(&a.destroy()),
                _ => a.remove_interface("eth0").unwrap(),
            });
            s.spawn(|| assert_clean(&b.destroy()));
        });
    }
}

// Row 11: something is delivered to an instance in every state of its teardown.
#[test]
fn frames_that_come_in_during_teardown_hurt_nobody() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let client = UdpSocket::bind_in(&b, "0.0.0.0:0").unwrap();
    let client = Arc::new(client);
    let _server = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    for (name, stage) in [
        ("1", Stage::Services),
        ("2", Stage::Filters),
        ("3", Stage::Protocols),
        ("4", Stage::Domains),
        ("5", Stage::LinkLayers),
        ("6", Stage::Interfaces),
    ] {
        let (client, driver) = (Arc::clone(&client), system.clone());
        let uninit = move |vnet: &Vnet| {
            if vnet.name() == "a" {
                let _ = client.send_to(b"too late", "10.0.0.1:7");
                driver.poll(driver.now() + Duration::from_millis(10));
            }
            Ok(())
        };
        system
            .register(InitRecord::new(name, stage, 0, |_| Ok(()), uninit))
            .unwrap();
    }
    client.send_to(b"in time", "10.0.0.1:7").unwrap();
    run_until_idle(&system, 100);
    let report = a.destroy();
    assert_clean(&report);
    run_until_idle(&system, 100);
    assert_conserved(&b);
    assert_clean(&b.destroy());
}

#[test]
fn a_report_names_its_steps_and_what_each_gave_back() {
    let system = System::manual(1);
    let (a, _b) = pair(&system);
    let _udp = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
    let _tcp = TcpListener::bind_in(&a, "0.0.0.0:80").unwrap();
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.vnet, "a");
    let gave = |name: &str| {
        let step = report.steps.iter().find(|s| s.name == name);
        step.expect("the step is in the report").released
    };
    assert_eq!(gave("udp").sockets(), 1);
    assert_eq!(gave("tcp").sockets(), 1);
    assert_eq!(gave("netif").interfaces(), 2);
    assert_eq!(report.released.sockets(), 2);
    assert!(
        report.released.to_string().contains("2 sockets"),
        "{}",
        report.released
    );
}
