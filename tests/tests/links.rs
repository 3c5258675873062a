//! Links do what they say, measured against what was asked for: exactly in time, within three
//! standard deviations in chance.

use std::time::Duration;

use vnet::link::{Change, Codel, Discipline, FqCodel, QueueConfig, Shape};
use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{Carrier, DropReason, LinkConfig, OwnedVnet, System};
use vnet_tests::topology::hosts;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A pair of hosts with a link from `a` to `b`.
fn pair(system: &System, config: LinkConfig) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = hosts(system);
    a.set_link("eth0", config).expect("a valid link");
    (a, b)
}

/// Sends datagrams of `len` bytes of payload for `time`, one every `every`.
fn flood(
    from: &OwnedVnet,
    len: usize,
    every: Duration,
    time: Duration,
) -> vnet::thread::JoinHandle<()> {
    let system = from.system();
    from.spawn(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        let end = system.now() + time;
        while system.now() < end {
            let _ = socket.send_to(&vec![7; len], "192.0.2.2:9");
            system.sleep(every).expect("virtual time passes");
        }
    })
    .expect("a thread")
}

#[test]
fn the_rate_is_within_a_thousandth() {
    for (rate, overhead_bytes) in [(1_000_000, 0), (10_000_000, 24), (333_333_333, 24)] {
        let system = System::virtual_time(1);
        let config = LinkConfig {
            rate_bps: Some(rate),
            overhead_bytes,
            queue: QueueConfig::frames(50),
            ..LinkConfig::default()
        };
        let (a, b) = pair(&system, config);
        // Twice as much as goes through: frames of 1042 bytes.
        let every = Duration::from_nanos(1042 * 8 * 1_000_000_000 / rate / 2);
        let flood = flood(&a, 1000, every, 3 * SECOND);
        let received = |at| {
            system.run_until(Instant::ZERO + at).expect("virtual time");
            b.interfaces().expect("alive")[1].counters
        };
        let (before, after) = (received(SECOND), received(3 * SECOND));
        let frames = after.rx_frames - before.rx_frames;
        let bytes = after.rx_bytes - before.rx_bytes + frames * overhead_bytes as u64;
        let measured = bytes as f64 * 8.0 / 2.0;
        let error = (measured / rate as f64 - 1.0).abs();
        // A frame more or less at either end of the interval.
        let frame = 1066.0 * 8.0 / 2.0 / rate as f64;
        assert!(error <= 0.001_f64.max(frame), "{measured} of {rate} bit/s");
        let stats = a.link_stats("eth0").expect("an interface");
        let busy = stats.utilisation(system.now());
        assert!(busy > 0.99 && busy <= 1.0, "{busy}");
        assert!(stats.queue_full > 0 && stats.queue_high_water == 50);
        flood.join().expect("no panic");
    }
}

#[test]
fn the_delay_is_exact_to_the_nanosecond() {
    let system = System::virtual_time(1);
    let delay = Duration::from_nanos(20_000_001);
    let (a, b) = pair(
        &system,
        LinkConfig {
            delay,
            ..LinkConfig::default()
        },
    );
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let from = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    // The address is known: it was announced when it was given.
    for _ in 0..3 {
        let sent = system.now();
        from.send_to(b"x", "192.0.2.2:9").expect("there is a route");
        to.recv_from(&mut [0; 8]).expect("a datagram");
        assert_eq!(system.now() - sent, delay);
    }
}

#[test]
fn what_the_frame_check_shows_does_not_arrive_and_is_counted() {
    for (corrupt, duplicate) in [(1, 0.0), (20_000, 0.0), (20_000, 0.5)] {
        let system = System::virtual_time(3);
        let (a, b) = pair(&system, LinkConfig::default());
        let socket = UdpSocket::bind_in(&a, "192.0.2.1:0").expect("a free port");
        let sink = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
        // The neighbour is found first: of what is sent then, each frame is one datagram.
        socket.send_to(b"?", "192.0.2.2:9").expect("room");
        sink.recv_from(&mut [0; 1]).expect("it arrives");
        sink.set_nonblocking(true).expect("alive");
        let config = LinkConfig {
            corrupt: Some(corrupt),
            duplicate,
            ..LinkConfig::default()
        };
        a.set_link("eth0", config).expect("a valid link");
        let before = a.link_stats("eth0").expect("an interface");
        let mut intact = 0;
        for _ in 0..1000 {
            socket.send_to(&[0x55; 1000], "192.0.2.2:9").expect("room");
            system.run_for(MS).expect("it goes on");
            let mut bytes = [0; 1500];
            while let Ok((len, _)) = sink.recv_from(&mut bytes) {
                assert_eq!(
                    bytes[..len],
                    [0x55; 1000],
                    "nothing arrives with flipped bits"
                );
                intact += 1;
            }
        }
        let stats = a.link_stats("eth0").expect("an interface");
        let offered = stats.offered - before.offered + stats.duplicated - before.duplicated;
        assert_eq!(
            offered,
            stats.delivered - before.delivered + stats.corrupted - before.corrupted
        );
        assert_eq!(intact, stats.delivered - before.delivered);
        let (counted, theirs) = (a.stats().expect("alive"), b.stats().expect("alive"));
        assert_eq!(counted.tx_drops(DropReason::LinkCorrupt), stats.corrupted);
        assert_eq!(theirs.rx_drops(DropReason::BadChecksum), 0);
        assert_eq!(stats.corrupted_undetected, 0);
        match corrupt {
            1 => assert_eq!(intact, 0),
            // 1042 bytes: a third of them is hit, give or take.
            _ => assert!(stats.corrupted > 100 && intact > 100, "{stats}"),
        }
    }
}

#[test]
fn corrupted_frames_are_found_out_and_tcp_repairs_them() {
    let system = System::virtual_time(3);
    let config = LinkConfig {
        delay: MS,
        // About one frame in eight.
        corrupt_undetected: Some(100_000),
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config);
    let listener = TcpListener::bind_in(&b, "192.0.2.2:80").expect("a free port");
    let data: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let sent = data.clone();
    let sender = a
        .spawn(move || {
            use std::io::Write;
            TcpStream::connect("192.0.2.2:80")?.write_all(&sent)
        })
        .expect("a thread");
    let mut received = Vec::new();
    let (mut stream, _) = listener.accept().expect("a connection");
    std::io::Read::read_to_end(&mut stream, &mut received).expect("the data");
    sender.join().expect("no panic").expect("sent");
    assert!(received == data, "what arrives is what was sent");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.corrupted_undetected > 10, "{stats}");
    assert_eq!(stats.corrupted, 0);
    let counted = b.stats().expect("alive");
    let refused = [
        DropReason::BadChecksum,
        DropReason::Malformed,
        DropReason::NotForUs,
    ];
    let refused: u64 = refused.iter().map(|r| counted.rx_drops(*r)).sum();
    assert!(refused > 10, "{counted:?}");
}

/// The longest round trip of pings through a link that is flooded, and how many were lost.
fn rtt_under_load(discipline: Discipline) -> (Duration, usize) {
    let system = System::virtual_time(5);
    let config = LinkConfig {
        rate_bps: Some(10_000_000),
        delay: 5 * MS,
        queue: QueueConfig {
            discipline,
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config);
    let flood = flood(&a, 1400, Duration::from_micros(900), 45 * SECOND);
    system.sleep(SECOND).expect("virtual time");
    let ping = EchoSocket::bind_in(&a).expect("room for a socket");
    ping.set_read_timeout(Some(2 * SECOND)).expect("not zero");
    let (mut longest, mut lost) = (Duration::ZERO, 0);
    for n in 0..20 {
        let sent = system.now();
        ping.send_to(n, b"hello", "192.0.2.2".parse().expect("an address"))
            .expect("there is a route");
        match ping.recv() {
            Ok(_) => longest = longest.max(system.now() - sent),
            Err(_) => lost += 1,
        }
        system.sleep(100 * MS).expect("virtual time");
    }
    flood.join().expect("no panic");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.queue_full + stats.aqm > 0, "{stats}");
    assert!(stats.sojourn.p50 <= stats.sojourn.p99 && stats.sojourn.p99 <= stats.sojourn.max);
    // What waits goes with the vnet, in no time.
    let report = a.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    drop(b);
    (longest, lost)
}

#[test]
fn flow_queues_keep_a_ping_short_where_one_queue_does_not() {
    let (bloated, _) = rtt_under_load(Discipline::DropTail);
    let (fair, lost) = rtt_under_load(Discipline::FqCodel(FqCodel::default()));
    // A thousand frames of 1442 bytes take 1.15 s at 10 Mbit/s.
    assert!(bloated > SECOND, "{bloated:?}");
    // Its delay, and a round of the other flow.
    assert!(fair < 5 * MS + 4 * MS && lost == 0, "{fair:?}, {lost} lost");
    let (controlled, _) = rtt_under_load(Discipline::Codel(Codel::default()));
    assert!(controlled < bloated, "{controlled:?}");
}

#[test]
fn frames_that_wait_are_counted_and_released() {
    let system = System::virtual_time(1);
    let config = LinkConfig {
        rate_bps: Some(8_000),
        queue: QueueConfig {
            discipline: Discipline::FqCodel(FqCodel::default()),
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    };
    let (a, b) = pair(&system, config.clone());
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    socket
        .send_to(b"x", "192.0.2.2:9")
        .expect("there is a route");
    system.run_for(SECOND).expect("virtual time");
    for _ in 0..20 {
        socket
            .send_to(&[0; 1000], "192.0.2.2:9")
            .expect("there is a route");
    }
    let stats = a.link_stats("eth0").expect("an interface");
    assert_eq!(stats.queued, 19, "one is being clocked out: {stats}");
    // Another discipline takes over what waits.
    let plain = LinkConfig {
        queue: QueueConfig::default(),
        ..config
    };
    a.set_link("eth0", plain.clone()).expect("a valid link");
    let stats = a.link_stats("eth0").expect("an interface");
    assert_eq!((stats.queued, stats.delivered), (19, 22), "{stats}");
    system.run_for(30 * SECOND).expect("virtual time");
    to.set_nonblocking(true).expect("alive");
    let arrived = std::iter::from_fn(|| to.recv_from(&mut [0; 1000]).ok()).count();
    assert_eq!(arrived, 21);

    let fair = LinkConfig {
        queue: QueueConfig {
            discipline: Discipline::StrictPriority,
            ..QueueConfig::default()
        },
        ..plain
    };
    a.set_link("eth0", fair).expect("a valid link");
    for _ in 0..5 {
        socket
            .send_to(&[0; 1000], "192.0.2.2:9")
            .expect("there is a route");
    }
    let report = a.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    assert!(report.released.packets() >= 4, "{report}");
}

#[test]
fn a_link_that_is_down_loses_everything_and_comes_back() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system, LinkConfig::default());
    let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
    let from = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    let set = |state| {
        let config = LinkConfig {
            state,
            ..LinkConfig::default()
        };
        a.set_link("eth0", config).expect("a valid link");
    };
    set(Carrier::Down);
    from.send_to(b"lost", "192.0.2.2:9")
        .expect("there is a route");
    to.set_read_timeout(Some(SECOND / 2)).expect("not zero");
    assert!(to.recv_from(&mut [0; 8]).is_err());
    assert!(a.link_stats("eth0").expect("an interface").down > 0);
    set(Carrier::Up);
    system.sleep(2 * SECOND).expect("virtual time");
    from.send_to(b"there", "192.0.2.2:9")
        .expect("there is a route");
    assert!(to.recv_from(&mut [0; 8]).is_ok());
}

#[test]
fn a_script_follows_its_interface_when_that_is_renamed() {
    let system = System::virtual_time(1);
    let (a, _b) = pair(&system, LinkConfig::default());
    let second = Duration::from_secs(1);
    let state = |at, state| (at * second, Change::State(Shape::Const(state)));
    let events = [state(1, Carrier::Down), state(3, Carrier::Up)];
    let script = a.script_link("eth0", &events).expect("there is a link");
    a.rename_interface("eth0", "wan").expect("a free name");
    // Another one that takes the name is not changed.
    let _port = a.port("eth0", None).expect("free again");
    system.run_for(2 * second).expect("no task waits");
    assert_eq!(a.link("wan").map(|l| l.state), Ok(Carrier::Down));
    assert_eq!(a.link("eth0").map(|l| l.state), Ok(Carrier::Up));
    a.rename_interface("wan", "lan").expect("a free name");
    system.run_for(2 * second).expect("no task waits");
    assert_eq!(a.link("lan").map(|l| l.state), Ok(Carrier::Up));
    assert_eq!((script.changes(), script.is_finished()), (2, true));
    assert!(script.join().is_ok());
}

#[test]
fn statistics_are_written_with_times_in_nanoseconds() {
    let system = System::virtual_time(1);
    let config = LinkConfig {
        rate_bps: Some(1_000_000),
        ..LinkConfig::default()
    };
    let (a, _b) = pair(&system, config);
    system.run_for(SECOND).expect("it goes on");
    flood(&a, 500, 10 * MS, SECOND).join().expect("no panic");
    let stats = a.link_stats("eth0").expect("an interface");
    assert!(stats.busy > Duration::ZERO && stats.sojourn.max > Duration::ZERO);
    let written = toml::to_string(&stats).expect("TOML");
    let busy = format!("busy = {}\n", stats.busy.as_nanos());
    let max = format!("max = {}\n", stats.sojourn.max.as_nanos());
    assert!(
        written.contains(&busy) && written.contains(&max),
        "{written}"
    );
    let read: vnet::LinkStats = toml::from_str(&written).expect("what was written");
    assert_eq!(read, stats);
    // What was written before times were numbers.
    let old =
        "offered = 3\nbusy = { secs = 1, nanos = 5 }\n[sojourn]\np50 = { secs = 0, nanos = 7 }\n";
    let read: vnet::LinkStats = toml::from_str(old).expect("the older form");
    assert_eq!(read.busy, Duration::new(1, 5));
    assert_eq!(read.sojourn.p50, Duration::from_nanos(7));
}

/// Nothing but the link's own deadline wakes its vnet here: no frame comes, and no socket sends.
#[test]
fn frames_that_wait_go_when_the_transmitter_is_free_and_nothing_else_happens() {
    for discipline in [
        Discipline::Codel(Codel::default()),
        Discipline::FqCodel(FqCodel::default()),
        Discipline::Drr {
            weights: [1, 3].into(),
            quantum: 1500,
        },
        Discipline::StrictPriority,
    ] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system, LinkConfig::default());
        let to = UdpSocket::bind_in(&b, "192.0.2.2:9").expect("a free port");
        let from = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
        let config = LinkConfig {
            // A frame of 1042 bytes takes a millisecond, and CoDel has nothing to object to.
            rate_bps: Some(1042 * 8 * 1000),
            queue: QueueConfig {
                discipline: discipline.clone(),
                ..QueueConfig::default()
            },
            ..LinkConfig::default()
        };
        a.set_link("eth0", config).expect("a valid link");
        // The first one asks for the address, if it must.
        from.send_to(&[0; 1000], "192.0.2.2:9")
            .expect("there is a route");
        to.recv_from(&mut [0; 1000]).expect("a datagram");
        let begin = system.now();
        for _ in 0..20 {
            from.send_to(&[0; 1000], "192.0.2.2:9")
                .expect("there is a route");
        }
        for n in 1..=20 {
            to.recv_from(&mut [0; 1000]).expect("a datagram");
            assert_eq!(system.now() - begin, n * MS, "{discipline:?}");
        }
        let stats = a.link_stats("eth0").expect("an interface");
        assert_eq!(stats.queued, 0, "{stats}");
        assert_eq!(stats.dropped(), 0, "{stats}");
    }
}

/// What an interface's link holds when the interface is put out of use does not go out later.
#[test]
fn frames_that_wait_are_dropped_when_the_interface_goes_down() {
    let system = System::manual(1);
    let config = LinkConfig {
        rate_bps: Some(1_000_000),
        queue: QueueConfig {
            discipline: Discipline::FqCodel(FqCodel::default()),
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    };
    let a = system.create("a").expect("a free name");
    let port = a.port("eth0", None).expect("a free name");
    a.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix"))
        .expect("a host's address");
    a.set_link("eth0", config).expect("a valid link");
    while port.recv().is_some() {}
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    socket.set_broadcast(true).expect("alive");
    for _ in 0..10 {
        socket
            .send_to(&[0; 1000], "192.0.2.255:9")
            .expect("there is a route");
    }
    a.set_up("eth0", vnet::AdminState::Down)
        .expect("it is there");
    let far = system.now() + Duration::from_secs(60);
    system.poll(far);
    let came = std::iter::from_fn(|| port.recv()).count() as u64;
    let stats = a.link_stats("eth0").expect("it is there");
    assert_eq!((stats.queued, stats.torn_down + came), (0, 10));
    assert!(came <= 1, "the one that was being sent");
    assert_eq!(stats.offered, stats.delivered + stats.dropped());
    let dropped = a.stats().expect("alive");
    let dropped = dropped.tx_drops(vnet::DropReason::InterfaceDown);
    assert_eq!(dropped, stats.torn_down);
    // It is as new when it comes up again.
    a.set_up("eth0", vnet::AdminState::Up).expect("it is there");
    socket
        .send_to(&[0; 1000], "192.0.2.255:9")
        .expect("there is a route");
    system.poll(far + Duration::from_secs(1));
    assert!(port.recv().is_some());
}

/// A frame that finds nothing at the other end has not arrived.
#[test]
fn frames_for_an_unplugged_wire_count_as_dropped() {
    let system = System::manual(1);
    let (a, b) = pair(&system, LinkConfig::default());
    system.poll(system.now());
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
    socket.set_broadcast(true).expect("alive");
    let send = || socket.send_to(&[0; 100], "192.0.2.255:9");
    send().expect("there is a route");
    let before = a.link_stats("eth0").expect("it is there");
    // The news that it is gone has not been taken in yet.
    b.remove_interface("eth0").expect("it is there");
    for _ in 0..3 {
        send().expect("there is a route");
    }
    let after = a.link_stats("eth0").expect("it is there");
    assert_eq!(after.offered, before.offered + 3);
    assert_eq!(after.delivered, before.delivered);
    assert_eq!(after.delivered_bytes, before.delivered_bytes);
    assert_eq!((after.unplugged, after.dropped()), (3, 3));
    assert!(after.to_string().contains("3 unplugged"), "{after}");
    let reason = vnet::DropReason::LinkUnplugged;
    assert_eq!(a.stats().expect("alive").tx_drops(reason), 3);
}

/// A port that is plugged in again is up, whatever was said of the one before.
#[test]
fn news_of_a_port_that_was_pulled_do_not_count_for_the_next_one() {
    let system = System::manual(1);
    let (a, b) = (
        system.create("a").expect("a free name"),
        system.create("b").expect("a free name"),
    );
    let carrier = |vnet: &OwnedVnet| {
        system.poll(system.now());
        vnet.interfaces().expect("alive")[1].carrier
    };
    let port = a.port("eth0", None).expect("a free name");
    assert_eq!(carrier(&a), vnet::Carrier::Up);
    drop(port);
    let port = a.plug_port("eth0").expect("nothing is plugged in");
    assert_eq!(carrier(&a), vnet::Carrier::Up);
    a.move_interface("eth0", &b).expect("it may");
    assert_eq!(carrier(&b), vnet::Carrier::Up);
    drop(port);
    assert_eq!(carrier(&b), vnet::Carrier::Down);
}
