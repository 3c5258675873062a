use super::*;

#[test]
fn three_segments_open_a_connection() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    assert_eq!(w.flags(A), ["S", "A"]);
    assert_eq!(w.flags(B), ["SA"]);
    let r = w.hosts[A].tcp.readiness(a).expect("there");
    assert!(r.writable && !r.readable && !r.connecting);
    let (la, pa) = (w.hosts[A].tcp.local_addr(a), w.hosts[A].tcp.peer_addr(a));
    assert_eq!(w.hosts[B].tcp.peer_addr(b), la);
    assert_eq!(w.hosts[B].tcp.local_addr(b), pa);
    let info = w.info(A, a).expect("there");
    assert_eq!(info.mss, 1500 - 40 - 12);
    assert_eq!(info.srtt, Some(Duration::from_millis(10)));
}

#[test]
fn nobody_listens_and_the_connection_is_refused() {
    let mut w = World::new(1, Net::default());
    let a = w.connect(A, 81);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.flags(B), ["RA"]);
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::ConnectionRefused));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::NotConnected));
    w.close(A, a);
    w.run_out();
    w.assert_empty();
}

#[test]
fn nobody_answers_and_the_attempt_times_out() {
    let net = Net {
        loss: 1.0,
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let a = w.connect(A, 80);
    w.run_out();
    // The first and six more, twice as long apart each time.
    assert_eq!(w.flags(A), ["S"; 7]);
    assert_eq!(w.trace[1].0 - w.trace[0].0, Duration::from_secs(1));
    assert_eq!(w.trace[6].0 - w.trace[5].0, Duration::from_secs(32));
    assert_eq!(
        w.on(A, |tcp, _| tcp.take_error(a)),
        Ok(Some(SocketError::TimedOut))
    );
    w.close(A, a);
    w.assert_empty();
}

#[test]
fn a_lost_syn_ack_is_repeated() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    w.net.loss = 1.0;
    let a = w.connect(A, 80);
    w.net.loss = 0.0;
    w.run_for(Duration::from_millis(1003));
    w.net.loss = 1.0;
    w.run_for(Duration::from_millis(10)); // the answer to the second SYN is lost
    w.net.loss = 0.0;
    w.run_for(Duration::from_secs(3));
    w.accept(B, l);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert!(w.flags(B).iter().all(|f| f == "SA"));
    assert!(w.hosts[B].tcp.stats().retransmits >= 1);
}

#[test]
fn a_lost_last_acknowledgement_is_made_good_by_data() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.step(); // SYN arrives
    w.net.loss = 1.0;
    w.step(); // SYN-ACK arrives; the ACK is lost
    w.net.loss = 0.0;
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.write(A, a, b"hello"), Ok(5));
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 10), Ok(b"hello".to_vec()));
}

fn simultaneous(config: TcpConfig, cross: bool) {
    let mut w = World::with(1, Net::default(), config);
    let (pa, pb) = (w.addr(A, 1000), w.addr(B, 2000));
    let (path, options) = (w.net.path, w.options(A));
    let open = |w: &mut World, host, from, to| {
        w.on(host, |tcp, cx| {
            tcp.connect(cx, from, to, path, options, Reuse::Exclusive)
        })
        .expect("free")
    };
    let a = open(&mut w, A, pa, pb);
    if !cross {
        w.now += Duration::from_millis(1);
    }
    let b = open(&mut w, B, pb, pa);
    w.run_for(Duration::from_millis(300));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.state(B, b), Some(TcpState::Established));
    let data = pattern(300_000, 5);
    let mut sent = 0;
    let mut got = Vec::new();
    while got.len() < data.len() {
        sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        if let Ok(mut d) = w.read(B, b, 1 << 20) {
            got.append(&mut d);
        }
        assert!(w.step());
    }
    assert_eq!(got, data);
    w.close(A, a);
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn both_ends_may_open_at_the_same_time() {
    simultaneous(TcpConfig::default(), true);
    simultaneous(TcpConfig::default(), false);
    let plain = TcpConfig {
        timestamps: Feature::Off,
        sack: Feature::Off,
        window_scaling: Feature::Off,
        ..TcpConfig::default()
    };
    simultaneous(plain, true);
}

#[test]
fn options_are_used_only_when_both_have_them() {
    let mut w = World::new(1, Net::default());
    let c = w.hosts[B].tcp.config_mut();
    c.timestamps = Feature::Off;
    c.sack = Feature::Off;
    c.window_scaling = Feature::Off;
    let (a, b) = w.pair();
    let syn_ack = w.trace[1].2.options;
    assert_eq!(syn_ack.mss, Some(1460));
    assert!(syn_ack.timestamp.is_none() && syn_ack.window_scale.is_none());
    assert!(syn_ack.sack_permitted.is_none());
    assert_eq!(w.info(A, a).map(|i| i.mss), Ok(1460));
    w.write(A, a, b"x").expect("space");
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(B, b, 9), Ok(b"x".to_vec()));
    assert!(w.trace.iter().skip(2).all(|t| t.2.options.is_empty()));
}

/// Opens a connection from a port that is given.
fn open_again(w: &mut World) -> ConnId {
    let (from, to, path, options) = (w.addr(A, 1000), w.addr(B, 80), w.net.path, w.options(A));
    let open = w.on(A, |tcp, cx| {
        tcp.connect(cx, from, to, path, options, Reuse::Shared)
    });
    open.expect("free")
}

/// A connection whose other end is in TIME-WAIT, and a new one of the same addresses so long afterwards.
fn reopened(after: Duration) -> (World, ListenerId, ConnId) {
    let net = Net {
        delay: Duration::ZERO,
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let l = w.listen(B, 80, 8);
    let a = open_again(&mut w);
    w.run_for(Duration::ZERO);
    let b = w.accept(B, l);
    w.close(B, b);
    w.run_for(Duration::ZERO);
    w.close(A, a);
    w.run_for(Duration::ZERO);
    assert_eq!(w.hosts[A].tcp.counts().connections, 0);
    assert_eq!(w.hosts[B].tcp.counts().time_wait, 1);
    w.run_for(after);
    w.trace.clear();
    let a = open_again(&mut w);
    (w, l, a)
}

/// Who connects again at once, from the port of a connection that the other end remembers in TIME-WAIT,
/// has neither a later time stamp nor a later sequence number to show.
#[test]
fn a_syn_that_is_taken_for_an_old_one_is_repeated_soon() {
    let (mut w, l, a) = reopened(Duration::ZERO);
    w.run_for(Duration::from_millis(1));
    assert_eq!(
        (w.flags(A), w.flags(B)),
        (vec!["S".into(), "R".into()], vec!["A".into()])
    );
    w.run_for(Duration::from_millis(5));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.hosts[B].tcp.counts().time_wait, 0);
    w.accept(B, l);
    // What the other end remembers may look like the answer to the new SYN.
    for micros in 0..100 {
        let (mut w, _, a) = reopened(Duration::from_micros(micros));
        w.run_for(Duration::from_millis(6));
        assert_eq!(
            w.state(A, a),
            Some(TcpState::Established),
            "after {micros} us"
        );
    }
    // A peer that says the same again and again is not asked more often than one that is silent.
    let mut w = World::new(1, Net::default());
    w.fate = Some(Box::new(|_, _, _| Fate::Lost));
    let a = open_again(&mut w);
    let (from, to) = (w.addr(A, 1000), w.addr(B, 80));
    let stray = TcpHeader {
        seq: 77,
        ack: Some(78),
        ..TcpHeader::default()
    };
    for _ in 0..1000 {
        w.deliver(A, arriving(to, from, stray, Payload::new()));
        w.run_for(Duration::from_millis(1));
    }
    assert_eq!(w.flags(A).iter().filter(|flags| *flags == "S").count(), 2);
    w.close(A, a);
}

#[test]
fn ephemeral_ports_are_per_peer() {
    let mut w = World::new(1, Net::default());
    let (path, options) = (w.net.path, w.options(A));
    let local = w.addr(A, 0);
    let mut ports = std::collections::BTreeSet::new();
    let connect = |w: &mut World, port| {
        let (remote, options) = (w.addr(B, port), options);
        w.on(A, |tcp, cx| {
            tcp.connect(cx, local, remote, path, options, Reuse::Exclusive)
        })
    };
    for _ in 0..16_384 {
        let id = connect(&mut w, 80).expect("a free port");
        ports.insert(w.hosts[A].tcp.local_addr(id).expect("bound").port());
    }
    assert_eq!(ports.len(), 16_384);
    assert_eq!(connect(&mut w, 80), Err(SocketError::PortsExhausted));
    for _ in 0..100 {
        assert!(connect(&mut w, 81).is_ok());
    }
}

#[test]
fn an_icmp_error_ends_an_attempt_but_not_a_connection() {
    let mut w = World::new(1, Net::default());
    let what = IcmpKind::Unreachable(SocketError::HostUnreachable);
    let a = w.connect(A, 80);
    let seq = w.trace[0].2.seq;
    let (local, remote) = (w.hosts[A].tcp.local_addr(a).expect("bound"), w.addr(B, 80));
    let forged = w.on(A, |tcp, cx| {
        tcp.on_icmp_error(cx, local, remote, seq.wrapping_add(5), what)
    });
    assert_eq!(forged, Verdict::Drop(crate::DropReason::IcmpIgnored));
    let real = w.on(A, |tcp, cx| tcp.on_icmp_error(cx, local, remote, seq, what));
    assert_eq!(real, Verdict::Delivered);
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::HostUnreachable));
    w.close(A, a);

    let (a, _) = w.pair();
    w.net.loss = 1.0;
    w.write(A, a, b"x").expect("space");
    let (_, _, h, _) = *w.trace.last().expect("sent");
    let local = w.hosts[A].tcp.local_addr(a).expect("bound");
    let v = w.on(A, |tcp, cx| {
        tcp.on_icmp_error(cx, local, remote, h.seq, what)
    });
    assert_eq!(v, Verdict::Delivered);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    w.run_for(Duration::from_secs(3600));
    // It failed in the end, and this is why.
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::HostUnreachable));
}
