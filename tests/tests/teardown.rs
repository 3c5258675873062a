//! Promise: whatever an instance is in the middle of, destroying it is prompt, leaves nothing,
//! and hurts nobody else.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{
    AdminState, Carrier, DropReason, InitRecord, LinkConfig, OwnedVnet, PortError, SocketError,
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
    let datagram = udp(
        peer.addr(5),
        (std::net::Ipv4Addr::new(192, 0, 2, 1), 7),
        &[0; 64],
    );
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

    // 1 outgoing, 1001 to 1011 incoming; 1010 counts twice, as what its socket may still read and
    // as the record that outlives the socket.
    let started = std::time::Instant::now();
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(report.released.connections(), 13, "{report}");
    assert!(report.released.deadlines() >= 5, "{report}");
    assert!(started.elapsed() < STUCK, "nothing in it waits");
    for mut stream in kept {
        assert!(SocketError::is_gone(&stream.read(&mut [0; 8]).unwrap_err()));
    }
    assert!(SocketError::is_gone(&listener.accept().unwrap_err()));
    system.poll(system.now() + Duration::from_secs(3600));
    assert_eq!(
        system.poll(system.now()),
        None,
        "and no timer outlives them"
    );
}

// ---- What goes before, and what goes after ----

fn systems() -> [System; 3] {
    [
        System::manual(1),
        System::virtual_time(1),
        System::threads(),
    ]
}

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
        assert!(SocketError::is_gone(
            &udp.send_to(b"x", "127.0.0.1:7").unwrap_err()
        ));
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
        let busy = |f: &mut dyn FnMut()| {
            while !stop.load(Ordering::Relaxed) {
                f();
            }
        };
        let (busy, handle, hub_) = (&busy, &handle, &hub);
        let report = std::thread::scope(|s| {
            s.spawn(move || {
                let out = UdpSocket::bind_in(hub_, "0.0.0.0:0").unwrap();
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
            let report = a.destroy();
            stop.store(true, Ordering::Relaxed);
            report
        });
        assert_clean(&report);
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
