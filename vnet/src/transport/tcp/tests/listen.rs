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
fn the_backlog_is_enforced_and_a_handshake_completes_once_there_is_room() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 3);
    let clients: Vec<_> = (0..5).map(|_| w.connect(A, 80)).collect();
    w.run_for(Duration::from_millis(100));
    let counts = w.hosts[B].tcp.counts();
    assert_eq!((counts.connections, counts.half_open), (3, 2));
    let dropped = Verdict::Drop(crate::DropReason::TcpBacklogFull);
    assert_eq!(w.verdicts.iter().filter(|v| **v == dropped).count(), 2);
    assert_eq!(w.hosts[B].tcp.stats().backlog_full, 2);
    // Nobody else is answered meanwhile.
    let late = w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.state(A, late), Some(TcpState::SynSent));
    assert_eq!(w.hosts[B].tcp.stats().backlog_full, 3);
    for _ in 0..3 {
        w.accept(B, l);
    }
    let would_block = w.on(B, |tcp, cx| tcp.accept(cx, l)).map(|_| ());
    assert_eq!(would_block, Err(SocketError::WouldBlock));
    // The answer is repeated a second later, and the SYN that had none.
    w.run_for(Duration::from_secs(2));
    for c in clients.into_iter().chain([late]) {
        assert_eq!(w.state(A, c), Some(TcpState::Established));
    }
    for _ in 0..3 {
        w.accept(B, l);
    }
    assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
}

/// A SYN from an address that will never answer.
fn stray_syn(w: &World, n: u32) -> SegmentOut {
    let src = SocketAddr::new(
        [192, 0, 2, 1 + (n >> 14) as u8].into(),
        1024 + (n & 0x3fff) as u16,
    );
    arriving(
        src,
        w.addr(B, 80),
        TcpHeader {
            src_port: src.port(),
            dst_port: 80,
            seq: n,
            flags: TcpFlags::SYN,
            window: 1000,
            ..TcpHeader::default()
        },
        Payload::new(),
    )
}

#[test]
fn requests_that_nobody_completes_keep_nobody_out_and_expire() {
    let config = TcpConfig {
        max_half_open: 50,
        syn_cookies: Feature::Off,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let l = w.listen(B, 80, 8);
    for n in 0..20_000 {
        let s = stray_syn(&w, n);
        let (from, port) = (s.src, s.src.port());
        assert_eq!(w.deliver(B, s), Verdict::Delivered);
        // Answered, whoever it is: the oldest one made room.
        let (_, _, said, _) = *w.trace.last().expect("an answer");
        assert_eq!((said.flags, said.dst_port), (TcpFlags::SYN, port), "{from}");
        let kept = w.hosts[B].tcp.counts().half_open;
        assert_eq!(kept, 50.min(n as usize + 1));
        w.trace.clear();
        w.wire.clear();
        w.verdicts.clear();
    }
    assert_eq!(w.hosts[B].tcp.stats().half_open_given_up, 19_950);
    // One that is honest gets through at once, while the flood goes on.
    let a = w.connect(A, 80);
    for n in 20_000..20_049 {
        let s = stray_syn(&w, n);
        w.deliver(B, s);
    }
    w.run_for(Duration::from_millis(50));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    w.accept(B, l);
    // The others are answered for a while, and then forgotten.
    w.run_for(Duration::from_secs(200));
    let tcp = &w.hosts[B].tcp;
    assert_eq!(tcp.counts().half_open, 0);
    assert_eq!(tcp.stats().failed_opens, 20_049);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    assert_eq!(w.hosts[B].tcp.by_tuple.len(), 1);
}

// RFC 9293 3.10.7.4: a SYN that comes again is answered again. It says nothing of whether the peer is
// there to hear it.
#[test]
fn a_request_that_comes_twice_is_answered_as_often_by_the_timer_as_another() {
    let mut answers = [1_u32, 2, 5].map(|times| {
        let mut w = World::new(1, Net::default());
        w.listen(B, 80, 8);
        w.net.loss = 1.0;
        for _ in 0..times {
            let s = stray_syn(&w, 7);
            w.deliver(B, s);
        }
        assert_eq!(w.trace.len(), times as usize);
        let first = w.now;
        w.run_for(Duration::from_secs(300));
        assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
        let at: Vec<_> = w
            .trace
            .iter()
            .skip(times as usize)
            .map(|t| t.0.since(first))
            .collect();
        at
    });
    let retries = usize::from(TcpConfig::default().syn_ack_retries);
    assert_eq!(answers[0].len(), retries);
    answers.sort();
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn nor_do_they_use_up_the_sockets_of_a_vnet() {
    let config = TcpConfig {
        max_sockets: 20,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let l = w.listen(B, 80, 8);
    for n in 0..100 {
        let s = stray_syn(&w, n);
        w.deliver(B, s);
    }
    w.wire.clear();
    assert_eq!(w.hosts[B].tcp.counts().half_open, 19);
    let other = w.listen(B, 81, 8);
    let there = w.listen(A, 7, 1);
    w.connect(B, 7);
    w.connect(A, 81);
    w.run_for(Duration::from_millis(100));
    w.accept(A, there);
    w.accept(B, other);
    let counts = w.hosts[B].tcp.counts();
    assert_eq!((counts.half_open, counts.connections), (16, 2));
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
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
    assert_eq!(
        w.hosts[B].tcp.listener_readiness(exact).map(|r| r.readable),
        Ok(true)
    );
    assert_eq!(
        w.hosts[B].tcp.listener_readiness(wild).map(|r| r.readable),
        Ok(false)
    );
    w.on(B, |tcp, cx| tcp.close_listener(cx, exact));
    w.connect(A, 80);
    w.run_for(Duration::from_millis(100));
    assert_eq!(
        w.hosts[B].tcp.listener_readiness(wild).map(|r| r.readable),
        Ok(true)
    );
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
    let old = |w: &World, flags: TcpFlags, ack| {
        arriving(
            client,
            here,
            TcpHeader {
                seq: w.trace[0].2.seq,
                ack,
                flags,
                options: w.trace[0].2.options,
                src_port: client.port(),
                dst_port: 80,
                ..TcpHeader::default()
            },
            Payload::new(),
        )
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

/// B in TIME-WAIT, and segments from A by hand.
struct Lingering {
    w: World,
    client: SocketAddr,
    /// What B expects next, and what it would send next.
    expected: u32,
    next: u32,
    tsval: u32,
}

impl Lingering {
    fn new() -> Lingering {
        let mut w = World::new(1, Net::default());
        let client = server_in_time_wait(&mut w);
        let (_, _, last, _) = *w.trace.iter().rfind(|t| t.1 == B).expect("B spoke");
        let (tsval, _) = w
            .trace
            .iter()
            .rfind(|t| t.1 == A)
            .expect("A spoke")
            .2
            .options
            .timestamp
            .expect("agreed");
        w.trace.clear();
        Lingering {
            w,
            client,
            expected: last.ack.expect("the last acknowledgement"),
            next: last.seq,
            tsval,
        }
    }

    fn segment(&self, offset: i32, flags: TcpFlags, data: &[u8]) -> SegmentOut {
        arriving(
            self.client,
            self.w.addr(B, 80),
            TcpHeader {
                src_port: self.client.port(),
                dst_port: 80,
                seq: self.expected.wrapping_add_signed(offset),
                ack: Some(self.next),
                flags,
                window: 1000,
                options: crate::packet::header::TcpOptions {
                    timestamp: Some((self.tsval.wrapping_add(1), 0)),
                    ..Default::default()
                },
                ..TcpHeader::default()
            },
            Payload::from(data.to_vec()),
        )
    }

    /// Ten seconds later: what B answers, and whether 2 MSL began again.
    fn give(mut self, s: SegmentOut) -> (Vec<String>, bool) {
        self.w.run_for(Duration::from_secs(10));
        self.w.trace.clear();
        self.w.deliver(B, s);
        for (_, _, h, _) in &self.w.trace {
            assert_eq!((h.seq, h.ack), (self.next, Some(self.expected)));
        }
        let said = self.w.flags(B);
        assert_eq!(self.w.hosts[B].tcp.counts().time_wait, 1);
        assert_eq!(self.w.hosts[B].tcp.counts().half_open, 0);
        self.w.run_for(Duration::from_secs(55));
        (said, self.w.hosts[B].tcp.counts().time_wait == 1)
    }
}

// RFC 9293 3.10.7.4, for every kind of segment; the listener, if any, takes none of them.
#[test]
fn in_time_wait_each_kind_of_segment_has_its_answer() {
    const NONE: TcpFlags = TcpFlags::NONE;
    const FIN: TcpFlags = TcpFlags::FIN;
    const SYN: TcpFlags = TcpFlags::SYN;
    const RST: TcpFlags = TcpFlags::RST;
    let ack = |s: SegmentOut, ack| SegmentOut {
        header: TcpHeader { ack, ..s.header },
        ..s
    };
    let earlier = |s: SegmentOut, t: &Lingering| {
        let mut s = s;
        s.header.options.timestamp = Some((t.tsval.wrapping_sub(1), 0));
        s
    };
    type Make<'a> = &'a dyn Fn(&Lingering) -> SegmentOut;
    let silent: &[&str] = &[];
    let acked: &[&str] = &["A"];
    let cases: &[(&str, Make<'_>, &[&str], bool)] = &[
        // What the peer may still say.
        ("the FIN again", &|t| t.segment(-1, FIN, b""), acked, true),
        (
            "with its data",
            &|t| t.segment(-6, FIN, b"hello"),
            acked,
            true,
        ),
        ("nothing new", &|t| t.segment(0, NONE, b""), silent, false),
        // Resets.
        ("a reset", &|t| t.segment(0, RST, b""), silent, false),
        (
            "a reset with SYN",
            &|t| t.segment(0, RST | SYN, b""),
            silent,
            false,
        ),
        // No ACK.
        (
            "the FIN, no ACK",
            &|t| ack(t.segment(-1, FIN, b""), None),
            silent,
            false,
        ),
        (
            "a FIN, no ACK",
            &|t| ack(t.segment(0, FIN, b""), None),
            silent,
            false,
        ),
        (
            "data, no ACK",
            &|t| ack(t.segment(0, NONE, b"x"), None),
            silent,
            false,
        ),
        // Elsewhere.
        (
            "a FIN far ahead",
            &|t| t.segment(1 << 30, FIN, b""),
            acked,
            false,
        ),
        (
            "a FIN far behind",
            &|t| t.segment(-(1 << 30), FIN, b""),
            acked,
            false,
        ),
        ("another FIN", &|t| t.segment(0, FIN, b""), acked, false),
        (
            "half a circle away",
            &|t| t.segment(i32::MIN, FIN, b""),
            acked,
            false,
        ),
        ("old data", &|t| t.segment(-6, NONE, b"hello"), acked, false),
        (
            "data behind the FIN",
            &|t| t.segment(0, NONE, b"x"),
            acked,
            false,
        ),
        ("a keepalive", &|t| t.segment(-1, NONE, b""), acked, false),
        // Of another time, or about what was never sent.
        (
            "an old FIN",
            &|t| earlier(t.segment(-1, FIN, b""), t),
            acked,
            false,
        ),
        (
            "too much",
            &|t| ack(t.segment(-1, FIN, b""), Some(t.next.wrapping_add(1))),
            acked,
            false,
        ),
        (
            "half a circle",
            &|t| ack(t.segment(-1, FIN, b""), Some(t.next ^ (1 << 31))),
            acked,
            false,
        ),
        // SYNs that open nothing.
        ("SYN+ACK", &|t| t.segment(1000, SYN, b""), acked, false),
        (
            "SYN+FIN",
            &|t| ack(t.segment(1000, SYN | FIN, b""), None),
            acked,
            false,
        ),
        (
            "an old SYN",
            &|t| earlier(ack(t.segment(-1000, SYN, b""), None), t),
            acked,
            false,
        ),
    ];
    for (what, make, answer, again) in cases {
        for listens in [false, true] {
            let mut t = Lingering::new();
            if listens {
                let here = t.w.addr(B, 80);
                try_listen(&mut t.w, here, Reuse::Shared).expect("SO_REUSEADDR");
            }
            let s = make(&t);
            let (said, began_again) = t.give(s);
            assert_eq!(
                (said, began_again),
                (answer.iter().map(|s| s.to_string()).collect(), *again),
                "{what}, {listens}"
            );
        }
    }
    // One that would open a connection, but nobody listens.
    let t = Lingering::new();
    let s = ack(t.segment(100_000, SYN, b""), None);
    assert_eq!(t.give(s), (vec!["A".to_owned()], false));
}

#[test]
fn a_time_wait_record_stays_when_the_listener_has_no_room() {
    let mut t = Lingering::new();
    let (here, options) = (t.w.addr(B, 80), t.w.options(B));
    let (l, _) =
        t.w.on(B, |tcp, cx| tcp.listen(cx, here, 1, options, Reuse::Shared))
            .expect("SO_REUSEADDR");
    let a = t.w.connect(A, 80);
    t.w.run_for(Duration::from_millis(100));
    assert_eq!(t.w.state(A, a), Some(TcpState::Established));
    let mut s = t.segment(1000, TcpFlags::SYN, b"");
    s.header.ack = None;
    t.w.trace.clear();
    let full = Verdict::Drop(crate::DropReason::TcpBacklogFull);
    assert_eq!(t.w.deliver(B, s.clone()), full);
    assert!(t.w.trace.is_empty());
    assert_eq!(t.w.hosts[B].tcp.counts().time_wait, 1);
    // Once there is room, it makes way.
    t.w.accept(B, l);
    assert_eq!(t.w.deliver(B, s), Verdict::Delivered);
    assert_eq!(t.w.hosts[B].tcp.counts().time_wait, 0);
    assert_eq!(t.w.hosts[B].tcp.counts().half_open, 1);
}

#[test]
fn an_ephemeral_listener_gets_a_port_of_its_own() {
    let mut w = World::new(1, Net::default());
    let any: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    let (_, addr) = try_listen(&mut w, any, Reuse::Exclusive).expect("free");
    assert!(addr.port() >= 49_152);
    let all = w.hosts[B].tcp.sockets();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].local, all[0].state), (addr, TcpState::Listen));
}

#[test]
fn listeners_of_a_group_share_connections_and_one_that_joins_moves_few_of_them() {
    let mut w = World::new(1, Net::default());
    let at = w.addr(B, 80);
    let mut group: Vec<_> = (0..4)
        .map(|_| {
            try_listen(&mut w, at, Reuse::Balanced)
                .expect("all say so")
                .0
        })
        .collect();
    for reuse in [Reuse::Exclusive, Reuse::Shared] {
        assert_eq!(
            try_listen(&mut w, at, reuse).map(|_| ()),
            Err(SocketError::AddrInUse)
        );
    }
    let from = |n: u16| SocketAddr::new([192, 0, 2, 1].into(), 2000 + n);
    let shares = |w: &World| -> Vec<_> {
        let tcp = &w.hosts[B].tcp;
        (0..1000)
            .map(|n| tcp.listener_for(from(n), at, None))
            .collect()
    };
    let before = shares(&w);
    assert_eq!(before, shares(&w));
    for l in &group {
        let share = before.iter().filter(|one| **one == Some(*l)).count();
        assert!((200..300).contains(&share), "{share} of 1000");
    }
    group.push(try_listen(&mut w, at, Reuse::Balanced).expect("one more").0);
    let after = shares(&w);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
    // Whatever moved, moved to the new one.
    let mut count = 0;
    for (_, to) in moved {
        assert_eq!(*to, group.last().copied());
        count += 1;
    }
    assert!((150..250).contains(&count), "{count} of 1000");
    let first = group[0];
    w.on(B, |tcp, cx| tcp.close_listener(cx, first));
    let left = shares(&w);
    for (a, b) in after.iter().zip(&left) {
        assert!(a == b || *a == Some(first));
    }
}

#[test]
fn a_bound_socket_connects_from_its_port_or_listens_and_answers_nobody_before() {
    let mut w = World::new(1, Net::default());
    let (here, options) = (w.addr(A, 0), w.options(A));
    let bound = w.on(A, |tcp, cx| tcp.bind(cx, here, options, Reuse::Exclusive));
    let (id, local) = bound.expect("a free port");
    assert_ne!(local.port(), 0);
    // It is not there for others yet.
    let refused = w.connect(B, local.port());
    w.run_for(Duration::from_millis(50));
    let error = w.on(B, |tcp, _| tcp.take_error(refused));
    assert_eq!(error, Ok(Some(SocketError::ConnectionRefused)));
    assert_eq!(
        w.on(A, |tcp, cx| tcp.accept(cx, id)).map(|_| ()),
        Err(SocketError::InvalidInput)
    );
    // What cannot be tried leaves it as it was.
    let (path, l) = (w.net.path, w.listen(B, 80, 8));
    let to = SocketAddr::new([10, 0, 0, 2].into(), 0);
    let tried = w.on(A, |tcp, cx| tcp.connect_bound(cx, id, local.ip(), to, path));
    assert_eq!(tried.map(|_| ()), Err(SocketError::InvalidInput));
    let to = w.addr(B, 80);
    let a = w.on(A, |tcp, cx| tcp.connect_bound(cx, id, local.ip(), to, path));
    let a = a.expect("nothing is in the way");
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    assert_eq!(w.hosts[B].tcp.peer_addr(b), Ok(local));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.hosts[A].tcp.counts().listeners, 0);
    // The other way: it listens.
    let (here, options) = (w.addr(A, 81), w.options(A));
    let bound = w.on(A, |tcp, cx| tcp.bind(cx, here, options, Reuse::Exclusive));
    let (id, _) = bound.expect("a free port");
    w.on(A, |tcp, _| tcp.start_listening(id, 1)).expect("alone");
    w.connect(B, 81);
    w.run_for(Duration::from_millis(50));
    w.accept(A, id);
}

/// A world whose listener has as many incomplete requests as it keeps.
fn flooded(config: TcpConfig) -> (World, ListenerId) {
    let config = TcpConfig {
        max_half_open: 50,
        ..config
    };
    let mut w = World::with(1, Net::default(), config);
    let l = w.listen(B, 80, 8);
    for n in 0..5_000 {
        let s = stray_syn(&w, n);
        assert_eq!(w.deliver(B, s), Verdict::Delivered);
        let (_, _, said, _) = *w.trace.last().expect("an answer");
        assert_eq!(said.flags, TcpFlags::SYN);
        w.trace.clear();
        w.wire.clear();
    }
    let tcp = &w.hosts[B].tcp;
    assert_eq!(tcp.counts().half_open, 50);
    assert_eq!(
        (tcp.stats().cookies_sent, tcp.stats().half_open_given_up),
        (4950, 0)
    );
    (w, l)
}

#[test]
fn who_comes_during_a_flood_gets_a_cookie_and_a_connection_as_good_as_any() {
    let (mut w, l) = flooded(TcpConfig::default());
    let a = w.connect(A, 80);
    for n in 5_000..6_000 {
        let s = stray_syn(&w, n);
        w.deliver(B, s);
    }
    w.run_for(Duration::from_millis(50));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    let b = w.accept(B, l);
    let tcp = &w.hosts[B].tcp;
    assert_eq!((tcp.counts().half_open, tcp.stats().cookies_taken), (50, 1));
    // What was negotiated is in force at both ends.
    let ends = [(A, a), (B, b)].map(|(host, id)| {
        let c = w.hosts[host].tcp.connections.get(id).expect("there");
        let n = c.negotiated;
        (
            n.peer_mss,
            n.scaling,
            n.snd_shift,
            n.rcv_shift,
            n.sack,
            n.ts.is_some(),
        )
    });
    assert_eq!(ends[0], ends[1]);
    assert!(ends[1].1.is_on() && ends[1].2 > 0 && ends[1].5);
    let data = pattern(300_000, 3);
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < data.len() {
        sent += w.write(A, a, &data[sent..]).unwrap_or(0);
        if let Ok(mut d) = w.read(B, b, 1 << 20) {
            got.append(&mut d);
        }
        assert!(w.step());
    }
    assert_eq!(got, data);
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
}

#[test]
fn a_cookie_without_timestamps_keeps_the_segment_size_alone() {
    let config = TcpConfig {
        timestamps: Feature::Off,
        ..TcpConfig::default()
    };
    let (mut w, l) = flooded(config);
    let a = w.connect(A, 80);
    // The request comes with its first data.
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    w.write(A, a, b"hello").expect("space");
    w.run_for(Duration::from_millis(50));
    assert_eq!(w.read(B, b, 9), Ok(b"hello".to_vec()));
    let c = w.hosts[B].tcp.connections.get(b).expect("there");
    assert_eq!(
        (c.negotiated.peer_mss, c.negotiated.scaling),
        (1460, Feature::Off)
    );
}

#[test]
fn a_guessed_cookie_is_refused_and_a_lost_acknowledgement_does_no_harm() {
    let (mut w, l) = flooded(TcpConfig::default());
    let guess = |w: &World, n: u32| {
        let mut s = stray_syn(w, 9_000);
        s.header.flags = TcpFlags::NONE;
        s.header.ack = Some(n.wrapping_mul(2_654_435_761));
        s
    };
    for n in 0..1_000 {
        let s = guess(&w, n);
        let v = w.deliver(B, s);
        assert_eq!(v, Verdict::Drop(crate::DropReason::TcpUnacceptable));
        let (_, _, said, _) = *w.trace.last().expect("an answer");
        assert_eq!(said.flags, TcpFlags::RST);
    }
    assert_eq!(w.hosts[B].tcp.stats().cookies_refused, 1_000);
    // The acknowledgement is lost; data brings the cookie as well.
    let a = w.connect(A, 80);
    w.fate = Some(Box::new(|_, host, s: &SegmentOut| {
        match host == A && s.payload.is_empty() && s.header.ack.is_some() {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    w.run_for(Duration::from_millis(50));
    w.write(A, a, b"GET /").expect("space");
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 9), Ok(b"GET /".to_vec()));
    // Two minutes after the last one was sent, none is looked at.
    w.run_for(Duration::from_secs(300));
    let s = guess(&w, 1);
    w.deliver(B, s);
    assert_eq!(w.hosts[B].tcp.stats().cookies_refused, 1_000);
}
