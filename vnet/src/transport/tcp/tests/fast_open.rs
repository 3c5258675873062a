//! Scripts of TCP Fast Open (RFC 7413), between two ends of ours 5 ms apart.

use super::*;
use crate::transport::tcp::isn::Secret;

const RTT: Duration = Duration::from_millis(10);

/// A listener at B that takes data in SYNs.
fn listen(w: &mut World) -> ListenerId {
    let l = w.listen(B, 80, 8);
    let fast = SocketOptions {
        fast_open: true,
        ..**w.hosts[B].tcp.listener_options(l).expect("there")
    };
    w.hosts[B]
        .tcp
        .set_listener_options(l, &fast)
        .expect("valid");
    l
}

/// A connection of A that may be opened fast.
fn connect(w: &mut World) -> ConnId {
    let (local, remote) = (w.addr(A, 0), w.addr(B, 80));
    let (path, mut options) = (w.net.path, w.options(A));
    options.fast_open = true;
    w.on(A, |tcp, cx| {
        tcp.connect(cx, local, remote, path, options, Reuse::Exclusive)
    })
    .expect("nothing is in the way")
}

/// Two ends of which A has a cookie of B.
fn acquainted() -> (World, ListenerId) {
    let mut w = World::new(1, Net::default());
    let l = acquaint(&mut w);
    (w, l)
}

fn acquaint(w: &mut World) -> ListenerId {
    let l = listen(w);
    let a = connect(w);
    w.run_for(RTT * 3);
    let b = w.accept(B, l);
    w.close(A, a);
    w.close(B, b);
    w.run_for(Duration::from_secs(120));
    w.trace.clear();
    l
}

fn accepted(w: &World) -> (u64, u64, u64) {
    let (a, b) = (w.hosts[A].tcp.stats(), w.hosts[B].tcp.stats());
    (a.fast_opens_out, b.fast_opens_in, b.fast_opens_refused)
}

#[test]
fn the_first_connection_gets_a_cookie_and_the_second_carries_its_request_in_the_syn() {
    let mut w = World::new(1, Net::default());
    let l = listen(&mut w);
    let a = connect(&mut w);
    // Not before it is connected.
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::WouldBlock));
    w.run_for(RTT * 3);
    assert_eq!(w.flags(A), ["S", "A"]);
    let cookie = |n: usize| w.trace[n].2.options.fast_open.map(|c| c.as_slice().len());
    assert_eq!((cookie(0), cookie(1), cookie(2)), (Some(0), Some(8), None));
    w.accept(B, l);

    w.trace.clear();
    let begun = w.now;
    let a = connect(&mut w);
    assert!(w.trace.is_empty(), "the SYN waits for data");
    let ready = w.hosts[A].tcp.readiness(a).expect("there");
    assert!(ready.writable && !ready.connecting && !ready.readable);
    assert_eq!(w.write(A, a, b"request"), Ok(7));
    assert_eq!(w.flags(A), ["Sd"]);
    w.run_for(RTT / 2);
    // The server reads and answers before the handshake is complete.
    let b = w.accept(B, l);
    assert_eq!(w.state(B, b), Some(TcpState::SynReceived));
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    assert_eq!(w.write(B, b, b"answer"), Ok(6));
    assert_eq!(w.flags(B), ["SA", "PAd"]);
    let (_, _, syn_ack, _) = w.trace[1];
    assert_eq!(syn_ack.ack, Some(w.trace[0].2.seq.wrapping_add(8)));
    assert_eq!(syn_ack.options.fast_open, None);
    w.run_for(RTT / 2);
    assert_eq!(w.read(A, a, 100), Ok(b"answer".to_vec()));
    assert_eq!(w.now - begun, RTT);
    w.run_for(RTT);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.state(B, b), Some(TcpState::Established));
    let srtt = |host: usize, id| w.info(host, id).expect("there").srtt;
    assert_eq!((srtt(A, a), srtt(B, b)), (Some(RTT), Some(RTT)));
    assert_eq!(accepted(&w), (1, 1, 0));
    w.carry(a, b, 300_000);
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
}

#[test]
fn what_a_syn_has_no_room_for_follows_it() {
    let (mut w, l) = acquainted();
    let a = connect(&mut w);
    let data = pattern(20_000, 5);
    assert_eq!(w.write(A, a, &data), Ok(20_000));
    // MSS, window scale, SACK and timestamps, and the cookie: 36 bytes.
    assert_eq!(w.trace[0].3, 1460 - 36);
    w.run_for(RTT * 5);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 1 << 20), Ok(data));
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 0);
}

// RFC 7413 4.2.2: a cookie that is not valid opens no faster, and is replaced.
#[test]
fn a_cookie_of_another_key_is_replaced_and_the_data_comes_again_at_once() {
    let (mut w, l) = acquainted();
    w.hosts[B].tcp.secret = Secret::new([7, 8]);
    let a = connect(&mut w);
    w.write(A, a, b"request").expect("space");
    w.run_for(RTT / 2);
    assert!(w.on(B, |tcp, cx| tcp.accept(cx, l)).is_err());
    let (_, _, syn_ack, _) = w.trace[1];
    assert_eq!(syn_ack.ack, Some(w.trace[0].2.seq.wrapping_add(1)));
    assert!(syn_ack.options.fast_open.is_some());
    w.run_for(RTT);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    assert_eq!(accepted(&w), (0, 0, 1));
    assert_eq!(w.hosts[A].tcp.stats().timeouts, 0);
    let a = connect(&mut w);
    w.write(A, a, b"again").expect("space");
    w.run_for(RTT / 2);
    w.accept(B, l);
    assert_eq!(accepted(&w), (0, 1, 1));
}

// RFC 7413 4.1.3.1: something on the way may not let such SYNs through.
#[test]
fn a_lost_syn_is_repeated_without_data_and_the_peer_is_spared_for_a_while() {
    let (mut w, l) = acquainted();
    w.fate = Some(Box::new(|_, host, s| {
        match host == A && s.header.options.fast_open.is_some() {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    let exchange = |w: &mut World, flags: &[&str]| {
        w.trace.clear();
        let a = connect(w);
        w.write(A, a, b"request").ok();
        w.run_for(Duration::from_millis(1100));
        w.write(A, a, b"request").ok();
        w.run_for(RTT * 4);
        let b = w.accept(B, l);
        assert_eq!(w.read(B, b, 7), Ok(b"request".to_vec()));
        let sent = w.flags(A);
        assert_eq!(sent[..flags.len()], *flags);
        w.close(A, a);
        w.close(B, b);
        w.run_for(Duration::from_secs(10));
    };
    exchange(&mut w, &["Sd", "S", "PAd"]);
    exchange(&mut w, &["S", "A"]);
    assert_eq!(w.trace[0].2.options.fast_open, None);
    w.run_for(Duration::from_secs(60));
    w.fate = None;
    exchange(&mut w, &["Sd"]);
}

#[test]
fn a_lost_answer_is_repeated_and_what_followed_it_too() {
    let (mut w, l) = acquainted();
    let a = connect(&mut w);
    w.write(A, a, b"request").expect("space");
    w.net.loss = 1.0;
    w.run_for(RTT / 2);
    let b = w.accept(B, l);
    w.write(B, b, b"answer").expect("space");
    w.net.loss = 0.0;
    w.run_for(Duration::from_secs(3));
    assert_eq!(w.read(A, a, 100), Ok(b"answer".to_vec()));
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    assert_eq!(w.state(B, b), Some(TcpState::Established));
    w.close(A, a);
    w.close(B, b);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_out();
    w.assert_empty();
}

#[test]
fn a_syn_that_comes_twice_opens_one_connection() {
    let (mut w, l) = acquainted();
    w.fate = Some(Box::new(|_, host, _| match host == A {
        true => Fate::Twice(Duration::from_millis(2)),
        false => Fate::Arrives,
    }));
    let a = connect(&mut w);
    w.write(A, a, b"request").expect("space");
    w.run_for(RTT * 3);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    assert!(w.on(B, |tcp, cx| tcp.accept(cx, l)).is_err());
    w.carry(a, b, 100_000);
}

#[test]
fn a_server_that_closes_at_once_is_heard_out() {
    let (mut w, l) = acquainted();
    let a = connect(&mut w);
    w.write(A, a, b"request").expect("space");
    w.run_for(RTT / 2);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    w.write(B, b, b"answer").expect("space");
    w.close(B, b);
    w.run_for(RTT * 2);
    assert_eq!(w.read(A, a, 100), Ok(b"answer".to_vec()));
    assert_eq!(w.read(A, a, 100), Ok(vec![]));
    w.close(A, a);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_out();
    w.assert_empty();
}

#[test]
fn a_client_that_closes_at_once_is_heard_out() {
    let (mut w, l) = acquainted();
    let a = connect(&mut w);
    w.write(A, a, b"request").expect("space");
    w.close(A, a);
    w.run_for(RTT * 2);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 100), Ok(b"request".to_vec()));
    assert_eq!(w.read(B, b, 100), Ok(vec![]));
    w.close(B, b);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_out();
    w.assert_empty();
}

#[test]
fn a_syn_without_data_leaves_when_there_will_be_none() {
    // After a while.
    let (mut w, l) = acquainted();
    let a = connect(&mut w);
    w.run_for(Duration::from_millis(199));
    assert!(w.trace.is_empty());
    w.run_for(Duration::from_millis(1) + RTT * 2);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    assert_eq!(w.flags(A), ["S", "A"]);
    assert!(w.trace[0].2.options.fast_open.is_some());
    w.accept(B, l);
    // When something is read, and when nothing will be written.
    w.trace.clear();
    let a = connect(&mut w);
    assert_eq!(w.read(A, a, 1), Err(SocketError::WouldBlock));
    assert_eq!(w.flags(A), ["S"]);
    let a = connect(&mut w);
    w.shutdown(A, a);
    assert_eq!(w.flags(A), ["S", "S"]);
    w.run_for(RTT * 3);
    let ends: Vec<_> = [0, 1]
        .map(|_| w.accept(B, l))
        .map(|b| w.read(B, b, 9))
        .into();
    assert!(ends.contains(&Ok(vec![])) && ends.contains(&Err(SocketError::WouldBlock)));
    // Nobody has heard of one that is closed before that.
    w.trace.clear();
    let a = connect(&mut w);
    w.close(A, a);
    w.run_for(Duration::from_secs(1));
    assert!(w.trace.is_empty());
}

#[test]
fn a_refusal_is_heard_by_the_next_call() {
    let (mut w, l) = acquainted();
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    let a = connect(&mut w);
    assert_eq!(w.write(A, a, b"request"), Ok(7));
    w.run_for(RTT);
    assert_eq!(w.read(A, a, 9), Err(SocketError::ConnectionRefused));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::NotConnected));
}

// RFC 7413 5.1: who can send in another's name, and has its cookie, cannot fill the server.
#[test]
fn unconfirmed_connections_are_bounded_and_one_that_is_reset_counts_for_a_minute() {
    let (mut w, l) = acquainted();
    w.hosts[B].tcp.config_mut().fast_open_pending = 2;
    let cookie = w.hosts[A]
        .tcp
        .fast_open
        .as_ref()
        .expect("it has a cookie")
        .opening(&FourTuple::new(w.addr(A, 1), w.addr(B, 80)), w.now);
    let crate::transport::tcp::connection::Opening::Sends(cookie, _) = cookie else {
        panic!("{cookie:?}");
    };
    let (dst, syn) = (w.addr(B, 80), |port| TcpHeader {
        src_port: port,
        dst_port: 80,
        seq: 1000,
        flags: TcpFlags::SYN,
        window: 1000,
        options: crate::packet::header::TcpOptions {
            fast_open: Some(cookie),
            ..Default::default()
        },
        ..TcpHeader::default()
    });
    w.net.loss = 1.0;
    let give = |w: &mut World, port: u16, header: TcpHeader, data: &[u8]| {
        let src = w.addr(A, port);
        w.trace.clear();
        w.deliver(B, arriving(src, dst, header, Payload::from(data.to_vec())));
        w.trace
            .iter()
            .map(|t| t.2.ack.unwrap_or(0))
            .collect::<Vec<_>>()
    };
    assert_eq!(give(&mut w, 5, syn(5), b"abc"), [1004]);
    assert_eq!(give(&mut w, 6, syn(6), b"abc"), [1004]);
    // The third one has to complete its handshake.
    assert_eq!(give(&mut w, 7, syn(7), b"abc"), [1001]);
    assert_eq!(accepted(&w), (0, 2, 1));
    let reset = TcpHeader {
        seq: 1004,
        flags: TcpFlags::RST,
        options: Default::default(),
        ..syn(5)
    };
    assert_eq!(give(&mut w, 5, reset, b""), []);
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 9), Ok(b"abc".to_vec()));
    assert_eq!(w.read(B, b, 9), Err(SocketError::ConnectionReset));
    assert_eq!(give(&mut w, 8, syn(8), b"abc"), [1001]);
    w.run_for(Duration::from_secs(61));
    // Meanwhile the second one has been given up, too: its answer was never acknowledged.
    assert_eq!(give(&mut w, 9, syn(9), b"abc"), [1004]);
    w.hosts[B].tcp.config_mut().fast_open_pending = 0;
    assert_eq!(give(&mut w, 10, syn(10), b"abc"), [1001]);
}

#[test]
fn without_the_option_nobody_is_given_a_cookie_or_asks_for_one() {
    let mut w = World::new(1, Net::default());
    w.listen(B, 80, 8);
    connect(&mut w);
    w.run_for(RTT * 3);
    assert_eq!(w.trace[1].2.options.fast_open, None);
    let (mut w, _) = acquainted();
    w.connect(A, 80);
    w.run_for(RTT * 3);
    assert!(w.trace.iter().all(|t| t.2.options.fast_open.is_none()));
}

// RFC 9768 3.1.5 and RFC 3168: marks are agreed on as with any other handshake.
#[test]
fn marks_are_agreed_on_in_a_fast_handshake() {
    for ecn in [EcnUse::Ask, EcnUse::Accurate] {
        let config = TcpConfig {
            ecn,
            ..TcpConfig::default()
        };
        let mut w = World::with(1, Net::default(), config);
        let l = acquaint(&mut w);
        let a = connect(&mut w);
        w.write(A, a, b"request").expect("space");
        w.run_for(RTT / 2);
        let b = w.accept(B, l);
        w.write(B, b, b"answer").expect("space");
        w.run_for(RTT * 2);
        w.fate = Some(Box::new(|_, host, s| {
            match host == A && !s.payload.is_empty() {
                true => Fate::Marked,
                false => Fate::Arrives,
            }
        }));
        w.read(B, b, 100).expect("there");
        w.carry(a, b, 100_000);
        let (a, b) = (w.hosts[A].tcp.stats(), w.hosts[B].tcp.stats());
        assert!(a.ecn_reductions > 0 && b.ecn_marks_in > 0, "{ecn:?}");
        assert_eq!(b.ecn_reductions, 0, "{ecn:?}");
    }
}

/// Many connections over a bad network, most of them opened fast: everything arrives, and nothing is left.
#[test]
fn everything_arrives_over_a_bad_network() {
    let mut fast = 0;
    for seed in 0..40 {
        let net = Net {
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.2,
            ..Net::default()
        };
        let mut w = World::new(seed, net);
        let l = listen(&mut w);
        for n in 0..4 {
            let data = pattern(1 << (4 * n), 7);
            let a = connect(&mut w);
            let (mut sent, mut got, mut back) = (0, Vec::new(), Vec::new());
            let (mut b, mut answered) = (None, false);
            while back.len() < data.len() {
                if sent < data.len() {
                    sent += w.write(A, a, &data[sent..]).unwrap_or(0);
                }
                b = b.or_else(|| w.on(B, |tcp, cx| tcp.accept(cx, l)).ok().map(|b| b.0));
                if let Some(b) = b {
                    got.extend(w.read(B, b, 1 << 20).unwrap_or_default());
                    if got.len() == data.len() && !answered {
                        answered = true;
                        assert_eq!(w.write(B, b, &got), Ok(got.len()));
                    }
                }
                back.extend(w.read(A, a, 1 << 20).unwrap_or_default());
                let goes_on = back.len() == data.len() || w.step();
                assert!(goes_on, "seed {seed}, {n}: stuck");
            }
            assert!(got == data && back == data);
            w.close(A, a);
            w.close(B, b.expect("accepted"));
        }
        w.run_for(Duration::from_secs(600));
        fast += w.hosts[B].tcp.stats().fast_opens_in;
        w.on(B, |tcp, cx| tcp.close_listener(cx, l));
        w.run_out();
        w.assert_empty();
    }
    assert!(fast > 40, "{fast}");
}
