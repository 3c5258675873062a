use super::*;

fn try_listen(
    w: &mut World,
    addr: SocketAddr,
    reuse: Reuse,
) -> Result<(ListenerId, SocketAddr), SocketError> {
    let options = w.options(B);
    w.on(B, |tcp, cx| tcp.listen(cx, addr, 8, options, reuse))
}

#[test]
fn the_backlog_is_enforced_and_whoever_is_answered_has_a_place() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 3);
    let clients: Vec<_> = (0..5).map(|_| w.connect(A, 80)).collect();
    w.run_for(Duration::from_millis(100));
    let established = |w: &World| {
        let of = |c: &&ConnId| w.state(A, **c) == Some(TcpState::Established);
        clients.iter().filter(of).count()
    };
    assert_eq!(established(&w), 3);
    let dropped = Verdict::Drop(crate::DropReason::TcpBacklogFull);
    assert_eq!(w.verdicts.iter().filter(|v| **v == dropped).count(), 2);
    assert_eq!(w.hosts[B].tcp.stats().backlog_full, 2);
    for _ in 0..3 {
        w.accept(B, l);
    }
    let would_block = w.on(B, |tcp, cx| tcp.accept(cx, l)).map(|_| ());
    assert_eq!(would_block, Err(SocketError::WouldBlock));
    // The others try again a second later.
    w.run_for(Duration::from_secs(2));
    assert_eq!(established(&w), 5);
    w.accept(B, l);
    w.accept(B, l);
}

#[test]
fn half_open_requests_count_and_expire() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 2);
    w.net.loss = 1.0;
    let syn = |w: &mut World| {
        w.connect(A, 80);
        let (_, _, header, _) = *w.trace.last().expect("a SYN");
        let s = SegmentOut {
            src: w.addr(A, header.src_port),
            dst: w.addr(B, 80),
            header,
            payload: Payload::new(),
            gso: None,
            ttl: 0,
            tos: 0,
        };
        w.deliver(B, s)
    };
    assert_eq!(syn(&mut w), Verdict::Delivered);
    assert_eq!(syn(&mut w), Verdict::Delivered);
    let full = Verdict::Drop(crate::DropReason::TcpBacklogFull);
    assert_eq!(syn(&mut w), full);
    assert_eq!(w.hosts[B].tcp.counts().half_open, 2);
    w.run_for(Duration::from_secs(200));
    assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
    assert_eq!(w.hosts[B].tcp.stats().failed_opens, 2);
    assert_eq!(syn(&mut w), Verdict::Delivered);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    assert_eq!(w.hosts[B].tcp.counts(), TcpCounts::default());
    assert_eq!(w.hosts[B].tcp.by_tuple.len(), 0);
}

#[test]
fn closing_a_listener_resets_what_was_not_accepted() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    assert_eq!(w.hosts[B].tcp.counts(), TcpCounts::default());
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(A, a, 1), Err(SocketError::ConnectionReset));
    w.close(A, a);
    w.run_out();
    w.assert_empty();
}

#[test]
fn a_connection_reset_before_it_is_accepted_is_still_handed_out() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    w.on(A, |tcp, cx| tcp.abort(cx, a));
    w.run_for(Duration::from_millis(100));
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 1), Err(SocketError::ConnectionReset));
    w.close(B, b);
    w.assert_empty();
}

#[test]
fn the_specific_listener_is_preferred_to_the_wildcard() {
    let mut w = World::new(1, Net::default());
    let any: SocketAddr = "0.0.0.0:80".parse().expect("an address");
    let here = w.addr(B, 80);
    let (wild, _) = try_listen(&mut w, any, Reuse::Shared).expect("free");
    let in_use = Err(SocketError::AddrInUse);
    assert_eq!(
        try_listen(&mut w, here, Reuse::Exclusive).map(|_| ()),
        in_use
    );
    let (exact, _) = try_listen(&mut w, here, Reuse::Shared).expect("both share");
    // Sharing does not extend to a second listener at the very same address.
    assert_eq!(try_listen(&mut w, here, Reuse::Shared).map(|_| ()), in_use);
    w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.hosts[B].tcp.is_acceptable(exact), Ok(true));
    assert_eq!(w.hosts[B].tcp.is_acceptable(wild), Ok(false));
    w.on(B, |tcp, cx| tcp.close_listener(cx, exact));
    w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.hosts[B].tcp.is_acceptable(wild), Ok(true));
}

/// B has closed first, so that the TIME-WAIT record is on the listening side.
fn server_in_time_wait(w: &mut World) -> SocketAddr {
    let (a, b) = w.pair();
    let client = w.hosts[A].tcp.local_addr(a).expect("bound");
    w.close(B, b);
    w.run_for(Duration::from_millis(100));
    w.close(A, a);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.hosts[B].tcp.counts().time_wait, 1);
    assert_eq!(w.hosts[A].tcp.counts(), TcpCounts::default());
    client
}

#[test]
fn time_wait_keeps_the_port_from_those_who_do_not_share() {
    let mut w = World::new(1, Net::default());
    server_in_time_wait(&mut w);
    let here = w.addr(B, 80);
    let any: SocketAddr = "0.0.0.0:80".parse().expect("an address");
    for addr in [here, any] {
        let refused = try_listen(&mut w, addr, Reuse::Exclusive).map(|_| ());
        assert_eq!(refused, Err(SocketError::AddrInUse));
    }
    let (l, _) = try_listen(&mut w, here, Reuse::Shared).expect("SO_REUSEADDR");
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_for(Duration::from_secs(61));
    assert!(try_listen(&mut w, here, Reuse::Exclusive).is_ok());
}

#[test]
fn a_new_incarnation_replaces_a_time_wait_record() {
    for timestamps in [Feature::On, Feature::Off] {
        let config = TcpConfig {
            timestamps,
            ..TcpConfig::default()
        };
        let mut w = World::with(1, Net::default(), config);
        let client = server_in_time_wait(&mut w);
        let last = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke").2.seq;
        w.run_for(Duration::from_millis(10));
        let here = w.addr(B, 80);
        let (l, _) = try_listen(&mut w, here, Reuse::Shared).expect("SO_REUSEADDR");
        let (path, options) = (w.net.path, w.options(A));
        let a = w
            .on(A, |tcp, cx| {
                tcp.connect(cx, client, here, path, options, Reuse::Exclusive)
            })
            .expect("A has forgotten");
        w.run_for(Duration::from_millis(100));
        assert_eq!(w.state(A, a), Some(TcpState::Established));
        assert_eq!(w.hosts[B].tcp.counts().time_wait, 0);
        let b = w.accept(B, l);
        let syn_ack = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke").2.seq;
        assert!(seq::SeqNum(syn_ack).is_newer_than(seq::SeqNum(last)));
        w.write(A, a, b"again").expect("space");
        w.run_for(Duration::from_millis(100));
        assert_eq!(w.read(B, b, 10), Ok(b"again".to_vec()));
    }
}

#[test]
fn an_old_duplicate_does_not_disturb_time_wait() {
    let mut w = World::new(1, Net::default());
    let client = server_in_time_wait(&mut w);
    let here = w.addr(B, 80);
    try_listen(&mut w, here, Reuse::Shared).expect("SO_REUSEADDR");
    let old = |w: &World, flags: TcpFlags, ack| SegmentOut {
        src: client,
        dst: here,
        header: TcpHeader {
            seq: w.trace[0].2.seq,
            ack,
            flags,
            options: w.trace[0].2.options,
            src_port: client.port(),
            dst_port: 80,
            ..TcpHeader::default()
        },
        payload: Payload::new(),
        gso: None,
        ttl: 0,
        tos: 0,
    };
    let syn = old(&w, TcpFlags::SYN, None);
    let rst = old(&w, TcpFlags::RST, Some(7));
    w.trace.clear();
    w.deliver(B, syn);
    assert_eq!(w.flags(B), ["A"]);
    w.deliver(B, rst);
    assert_eq!(w.hosts[B].tcp.counts().time_wait, 1);
    assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
}

#[test]
fn an_ephemeral_listener_gets_a_port_of_its_own() {
    let mut w = World::new(1, Net::default());
    let any: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let (l, addr) = try_listen(&mut w, any, Reuse::Exclusive).expect("free");
    assert!(addr.port() >= 49_152);
    assert_eq!(w.hosts[B].tcp.listener_addr(l), Ok(addr));
    let all = w.hosts[B].tcp.sockets();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].local, all[0].state), (addr, TcpState::Listen));
}
