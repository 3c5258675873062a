//! Paths that drop large packets without a word (RFC 8899).

use super::*;

/// Drops what is larger than this, headers included, as long as it is above zero.
fn narrow(w: &mut World, ip_mtu: usize) {
    w.fate = Some(Box::new(move |_, _, s| {
        match ip_mtu > 0 && 20 + s.header.len() + s.payload.len() > ip_mtu {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
}

fn ip_mtu(w: &World, a: ConnId) -> u32 {
    w.info(A, a).expect("there").path_mtu
}

fn carry(w: &mut World, a: ConnId, b: ConnId, bytes: usize) {
    w.carry(a, b, bytes);
    w.run_for(Duration::from_secs(1));
}

/// Looks for the largest packet of a path that drops larger ones, and says what was counted.
fn search(largest: usize, config: TcpConfig) -> TcpStats {
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    narrow(&mut w, largest);
    carry(&mut w, a, b, 1_000_000);
    let found = ip_mtu(&w, a) as usize;
    assert!(
        (largest - 16..=largest).contains(&found),
        "{largest}: {found}"
    );
    let stats = *w.hosts[A].tcp.stats();
    // Probes that are lost are no sign of congestion.
    assert_eq!(stats.fast_recoveries, 0, "{stats:?}");
    stats
}

// RFC 8899 5.2 and 5.3: after three timeouts packets are small; then the largest that arrive are found, to 16 bytes.
#[test]
fn the_largest_packet_that_arrives_is_found() {
    for largest in [1300, 1210, 1492, 900] {
        let times = if largest < 1200 { 2 } else { 1 };
        let stats = search(largest, TcpConfig::default());
        assert_eq!(stats.black_holes, times);
    }
}

// A probe that is lost alone is known by duplicates, too.
#[test]
fn it_is_found_for_a_peer_that_does_not_say_what_arrived() {
    let config = TcpConfig {
        sack: Feature::Off,
        ..TcpConfig::default()
    };
    for largest in [1300, 1492] {
        search(largest, config.clone());
    }
}

/// A router says so of the first segment on its way.
fn is_too_big(w: &mut World, a: ConnId, ip_mtu: u32) {
    let seq = w.hosts[A].tcp.connections.get(a).expect("open").snd.una;
    let (local, remote) = (w.hosts[A].tcp.local_addr(a).expect("bound"), w.addr(B, 80));
    let what = IcmpKind::FragmentationNeeded { ip_mtu };
    let v = w.on(A, |tcp, cx| {
        tcp.on_icmp_error(cx, local, remote, seq.0, what)
    });
    assert_eq!(v, Verdict::Delivered);
}

// What a router says while a probe is on its way counts, and not that the probe's bytes arrive in smaller pieces.
#[test]
fn a_router_knows_better_than_a_probe() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    narrow(&mut w, 1300);
    let data = pattern(1_000_000, 3);
    let (mut sent, mut got, mut small, mut told) = (0, 0, false, false);
    while got < data.len() {
        sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        got += w.read(B, b, 1 << 20).map_or(0, |more| more.len());
        if !small && w.hosts[A].tcp.stats().black_holes == 1 {
            w.trace.clear();
            small = true;
        }
        if small && !told && w.trace.iter().any(|t| t.3 > 1200 - 52) {
            narrow(&mut w, 1000);
            told = true;
            is_too_big(&mut w, a, 1000);
        }
        assert!(!told || ip_mtu(&w, a) <= 1000, "{}", ip_mtu(&w, a));
        assert!(got == data.len() || w.step(), "stuck");
    }
    assert!(told);
}

// RFC 8899 5.1.1: PMTU_RAISE_TIMER.
#[test]
fn larger_packets_are_tried_again_after_ten_minutes() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    narrow(&mut w, 1400);
    carry(&mut w, a, b, 1_000_000);
    narrow(&mut w, 0);
    carry(&mut w, a, b, 100_000);
    assert!(ip_mtu(&w, a) <= 1400);
    w.run_for(Duration::from_secs(600));
    carry(&mut w, a, b, 100_000);
    assert_eq!(ip_mtu(&w, a), 1500);
}

// What was only interrupted has its segments back at once.
#[test]
fn an_interruption_costs_a_probe() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    let until = w.now + Duration::from_secs(5);
    w.fate = Some(Box::new(move |now, _, _| match now < until {
        true => Fate::Lost,
        false => Fate::Arrives,
    }));
    carry(&mut w, a, b, 100_000);
    assert_eq!(w.hosts[A].tcp.stats().black_holes, 1);
    assert_eq!(ip_mtu(&w, a), 1500);
}

#[test]
fn small_segments_and_those_who_do_not_look_stay_as_they_are() {
    let off = TcpConfig {
        black_holes: Feature::Off,
        ..TcpConfig::default()
    };
    for (config, bytes) in [(TcpConfig::default(), 500), (off, 100_000)] {
        let mut w = World::with(1, Net::default(), config);
        let (a, _) = w.pair();
        w.net.loss = 1.0;
        w.write(A, a, &pattern(bytes, 1)).expect("space");
        w.run_for(Duration::from_secs(20));
        assert!(w.hosts[A].tcp.stats().timeouts > 4);
        assert_eq!(ip_mtu(&w, a), 1500);
        assert_eq!(w.hosts[A].tcp.stats().black_holes, 0);
    }
}
