//! Queues in front of a link's transmitter: who waits goes by the link's own deadline, RED drops by
//! the average length of the queue, and who takes part in ECN is marked.

use vnet::Rng;
use vnet::link::{Codel, Discipline, Ecn, FqCodel, Link, QueueConfig, Red, Verdict};
use vnet::net::UdpSocket;
use vnet::time::{Duration, Instant};
use vnet::{LinkConfig, OwnedVnet, Packet, System};

const MS: Duration = Duration::from_millis(1);

fn link(config: LinkConfig) -> Link {
    Link::new(config, Instant::ZERO, Rng::seeded(11)).expect("a valid link")
}

fn packet(len: usize) -> Packet {
    Packet::incoming(vec![0; len])
}

/// A pair of hosts with a link from `a` to `b`.
fn pair(system: &System, config: LinkConfig) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (
        system.create("a").expect("a free name"),
        system.create("b").expect("a free name"),
    );
    a.epair("eth0", &b, "eth0").expect("free names");
    a.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix"))
        .expect("a host's address");
    b.add_address("eth0", "192.0.2.2/24".parse().expect("a prefix"))
        .expect("a host's address");
    a.set_link("eth0", config).expect("a valid link");
    (a, b)
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

#[test]
fn red_drops_before_the_queue_is_full_and_marks_who_takes_part() {
    // The average is held at 20 000 bytes: halfway up to 10 %.
    let red = |ecn| LinkConfig {
        rate_bps: Some(1_000),
        queue: QueueConfig {
            discipline: Discipline::Red(Red {
                min_bytes: 10_000,
                max_bytes: 30_000,
                max_probability: 0.1,
                weight_shift: 0,
                ecn,
            }),
            limit_frames: 1_000_000,
            limit_bytes: None,
        },
        ..LinkConfig::default()
    };
    let mut plain = link(red(Ecn::Off));
    let mut grown = 0;
    // A queue of nearly nothing but what has just come: it grows to the corner, and from there on
    // each frame that is dropped leaves it as long as it was.
    while plain.queued(Instant::ZERO).1 < 20_000 {
        plain.offer(Instant::ZERO, &mut packet(20));
        grown += 1;
    }
    let before = plain.stats(Instant::ZERO);
    assert!(
        before.aqm > 0,
        "between 10 000 and 20 000 bytes some are dropped, of {grown}"
    );
    let mut others = link(red(Ecn::Mark));
    for _ in 0..2_000 {
        others.offer(Instant::ZERO, &mut packet(20));
    }
    let stats = others.stats(Instant::ZERO);
    assert!(
        stats.aqm > 0 && stats.marked == 0,
        "none of these takes part in ECN"
    );

    // Who takes part is marked, and nothing else of the frame changes but its header's checksum.
    let mut marking = link(red(Ecn::Mark));
    let mut marked = 0;
    for _ in 0..500 {
        let sent = ect0_frame();
        let mut frame = Packet::incoming(sent.clone());
        let verdict = marking.offer(Instant::ZERO, &mut frame);
        assert!(matches!(verdict, Verdict::DeliverAt(_)), "{verdict:?}");
        let mut arrives = frame.to_vec();
        assert_eq!(ones_complement(&arrives[14..34]), 0xffff);
        if arrives[15] & 3 == 3 {
            marked += 1;
            arrives[15] = sent[15];
            arrives[24..26].copy_from_slice(&sent[24..26]);
        }
        assert_eq!(arrives, sent);
    }
    let stats = marking.stats(Instant::ZERO);
    assert!(marked > 0, "{stats}");
    assert_eq!((stats.marked, stats.aqm), (marked, 0), "{stats}");
}

/// How many of the frames that find `bytes` in the queue are dropped.
fn red_drops_at(bytes: usize) -> f64 {
    let red = Red {
        min_bytes: 10_000,
        max_bytes: 30_000,
        max_probability: 0.1,
        weight_shift: 0,
        ecn: Ecn::Off,
    };
    let config = |discipline| LinkConfig {
        // A frame is out after a year.
        rate_bps: Some(1),
        queue: QueueConfig {
            discipline,
            limit_frames: 1_000_000,
            limit_bytes: None,
        },
        ..LinkConfig::default()
    };
    let frames = 20_000;
    let mut link = link(config(Discipline::DropTail));
    link.offer(Instant::ZERO, &mut packet(bytes));
    link.set_config(Instant::ZERO, config(Discipline::Red(red)))
        .expect("a valid link");
    for _ in 0..frames {
        // Of no length, so that the queue stays as long as it is.
        link.offer(Instant::ZERO, &mut packet(0));
    }
    link.stats(Instant::ZERO).aqm as f64 / f64::from(frames)
}

/// The paper spreads drops evenly: with a probability `p` on the curve, gaps between drops are uniform
/// from 1 to 1/`p`, so the part that is dropped is 2 / (1/p + 1).
#[test]
fn red_drops_by_the_average_length_of_the_queue() {
    assert_eq!(red_drops_at(9_999), 0.0);
    for (bytes, p) in [(14_000, 0.02_f64), (20_000, 0.05), (26_000, 0.08)] {
        let longest = (1.0 / p).round();
        let expected = 2.0 / (longest + 1.0);
        // The variance of a gap, and so of the number of drops (a renewal process).
        let (mean, variance) = (1.0 / expected, (longest * longest - 1.0) / 12.0);
        let sigma = (variance / (20_000.0 * mean.powi(3))).sqrt();
        let found = red_drops_at(bytes);
        // Where 1/p is no whole number, or is not told exactly, the last gap is one off at most.
        let slack = expected * p / 2.0;
        assert!(
            (found - expected).abs() <= 3.0 * sigma + slack,
            "{found} at {bytes} bytes, not {expected}"
        );
    }
    // Gentle: no cliff at the upper threshold, and a certain drop at twice that.
    let gentle = red_drops_at(45_000);
    // With a probability of 0.55 a gap is 1, otherwise 2.
    assert!((gentle - 1.0 / 1.45).abs() < 0.01, "{gentle}");
    assert_eq!(red_drops_at(60_000), 1.0);
}

/// A UDP datagram whose sender takes part in ECN.
fn ect0_frame() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[15] = 46 << 2 | 0b10;
    frame[17] = 46;
    frame[22] = 64;
    frame[23] = 17;
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    let sum = !ones_complement(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The one's complement sum of a header (RFC 1071): all ones when its checksum is right.
fn ones_complement(header: &[u8]) -> u16 {
    let words = header.chunks(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
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
