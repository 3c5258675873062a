//! Garbage: whatever arrives in whatever state, nothing panics, and nothing is left behind.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// A segment for B, its numbers relative to what B expects.
    Rx {
        seq: i64,
        ack: Option<i64>,
        flags: u8,
        window: u16,
        len: usize,
        gso: Option<u16>,
        ts: Option<(i64, i64)>,
        sack: Vec<(i64, i64)>,
        mss: Option<u16>,
        scale: Option<u8>,
    },
    Advance(u64),
    Write(usize),
    Read(usize),
    Shutdown,
    CloseB,
    Icmp(i64, u32),
    Step(u8),
}

/// Numbers near the interesting ones, and anything.
fn near() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3i64..3,
        2 => -3000i64..3000,
        1 => any::<i32>().prop_map(i64::from),
        1 => 65_000i64..70_000,
    ]
}

fn rx() -> impl Strategy<Value = Action> {
    (
        near(),
        prop::option::weighted(0.9, near()),
        prop_oneof![3 => Just(0u8), 3 => any::<u8>(), 1 => Just(1u8), 1 => Just(2u8), 1 => Just(4u8)],
        any::<u16>(),
        prop_oneof![Just(0usize), 1usize..5, 0usize..4000],
        prop::option::of(1u16..2000),
        prop::option::of((near(), near())),
        prop::collection::vec((near(), near()), 0..4),
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u8>()),
    )
        .prop_map(
            |(seq, ack, flags, window, len, gso, ts, sack, mss, scale)| Action::Rx {
                seq,
                ack,
                flags,
                window,
                len,
                gso,
                ts,
                sack,
                mss,
                scale,
            },
        )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => rx(),
        2 => prop_oneof![0u64..100, 0u64..100_000].prop_map(Action::Advance),
        2 => (1usize..20_000).prop_map(Action::Write),
        2 => (1usize..20_000).prop_map(Action::Read),
        1 => Just(Action::Shutdown),
        1 => Just(Action::CloseB),
        1 => (near(), 0u32..2000).prop_map(|(s, m)| Action::Icmp(s, m)),
        2 => (1u8..20).prop_map(Action::Step),
    ]
}

/// Brings B's end of a connection into one of its states; returns its identifier, if it has one.
fn prepare(w: &mut World, state: u8) -> Option<ConnId> {
    let both = |w: &mut World| w.pair();
    match state {
        0 => {
            // SYN-SENT at B
            w.net.loss = 1.0;
            let b = w.connect(B, 80);
            w.net.loss = 0.0;
            Some(b)
        }
        1 => {
            // half-open at B
            w.listen(B, 80, 4);
            w.connect(A, 80);
            w.step();
            None
        }
        2 => Some(both(w).1),
        3 => {
            let (_, b) = both(w);
            w.shutdown(B, b);
            Some(b)
        }
        4 => {
            let (_, b) = both(w);
            w.shutdown(B, b);
            w.run_for(Duration::from_millis(100));
            Some(b)
        }
        5 => {
            let (a, b) = both(w);
            w.shutdown(A, a);
            w.run_for(Duration::from_millis(100));
            Some(b)
        }
        6 => {
            let (a, b) = both(w);
            w.shutdown(A, a);
            w.run_for(Duration::from_millis(100));
            w.shutdown(B, b);
            Some(b)
        }
        7 => {
            let (a, b) = both(w);
            w.shutdown(A, a);
            w.shutdown(B, b);
            w.run_for(Duration::from_millis(6));
            Some(b)
        }
        _ => {
            let (a, b) = both(w);
            w.shutdown(B, b);
            w.run_for(Duration::from_millis(50));
            w.shutdown(A, a);
            w.run_for(Duration::from_millis(50));
            Some(b)
        }
    }
}

fn run(state: u8, config: TcpConfig, actions: Vec<Action>) {
    let mut w = World::with(11, Net::default(), config);
    let mut b = prepare(&mut w, state);
    // The last words of either side say what the other expects.
    let last = |w: &World, host: usize| w.trace.iter().rfind(|t| t.1 == host).map(|t| t.2);
    let (from_a, from_b) = (last(&w, A), last(&w, B));
    let port_a = from_a.map_or(80, |h| h.src_port);
    let port_b = from_b.map_or(80, |h| h.src_port);
    let (src, dst) = (w.addr(A, port_a), w.addr(B, port_b));
    for action in actions {
        let expected = last(&w, B);
        let seq_base = expected
            .and_then(|h| h.ack)
            .or(from_a.map(|h| h.seq))
            .unwrap_or(0);
        let ack_base = expected.map_or(0, |h| h.seq);
        match action {
            Action::Rx {
                seq,
                ack,
                flags,
                window,
                len,
                gso,
                ts,
                sack,
                mss,
                scale,
            } => {
                let rel = |base: u32, n: i64| base.wrapping_add(n as u32);
                let mut bytes = [0u8; 20];
                TcpHeader {
                    src_port: port_a,
                    dst_port: port_b,
                    seq: rel(seq_base, seq),
                    ack: ack.map(|a| rel(ack_base, a)),
                    window,
                    urgent: window,
                    ..TcpHeader::default()
                }
                .emit(&mut bytes);
                bytes[13] |= flags & !0x10;
                let (mut header, _) = TcpHeader::parse(&bytes).expect("well formed");
                header.options.mss = mss.filter(|_| flags & 2 != 0);
                header.options.window_scale = scale.filter(|_| flags & 2 != 0);
                header.options.timestamp = ts.map(|(v, e)| {
                    let base = from_a.and_then(|h| h.options.timestamp).unwrap_or((0, 0));
                    (rel(base.0, v), rel(base.1, e))
                });
                for (l, r) in sack {
                    header
                        .options
                        .sack
                        .push((rel(ack_base, l), rel(ack_base, r)));
                }
                while header.options.len() > 40 {
                    header
                        .options
                        .sack
                        .truncate(header.options.sack.as_slice().len() - 1);
                }
                let gso = gso.filter(|g| usize::from(*g) < len);
                w.deliver(
                    B,
                    SegmentOut {
                        src,
                        dst,
                        header,
                        payload: Payload::from(vec![0x55; len]),
                        gso,
                        ttl: 0,
                        tos: 0,
                    },
                );
            }
            Action::Advance(ms) => w.run_for(Duration::from_millis(ms)),
            Action::Write(n) => {
                if let Some(b) = b {
                    let _ = w.write(B, b, &vec![1; n]);
                }
            }
            Action::Read(n) => {
                if let Some(b) = b {
                    let _ = w.read(B, b, n);
                }
            }
            Action::Shutdown => {
                if let Some(b) = b {
                    let _ = w.on(B, |tcp, cx| tcp.shutdown(cx, b, std::net::Shutdown::Both));
                }
            }
            Action::CloseB => {
                if let Some(b) = b.take() {
                    w.close(B, b);
                }
            }
            Action::Icmp(seq, ip_mtu) => {
                let seq = ack_base.wrapping_add(seq as u32);
                let what = match ip_mtu % 3 {
                    0 => IcmpKind::FragmentationNeeded { ip_mtu },
                    1 => IcmpKind::TimeExceeded,
                    _ => IcmpKind::Unreachable(SocketError::HostUnreachable),
                };
                w.on(B, |tcp, cx| tcp.on_icmp_error(cx, dst, src, seq, what));
            }
            Action::Step(n) => {
                for _ in 0..n {
                    w.step();
                }
            }
        }
        if let Some(c) = b.and_then(|b| w.hosts[B].tcp.connections.get(b)) {
            // However small the segments, what is held is bounded by the buffer.
            assert!(c.rcv.queue.len() + c.rcv.queue.ahead_len() <= 2 * c.options.recv_buffer);
        }
    }
    for host in [A, B] {
        w.on(host, |tcp, cx| tcp.teardown(cx, Teardown::Silent));
        assert_eq!(w.hosts[host].tcp.next_deadline(), None);
    }
    w.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        state in 0u8..9,
        small in any::<bool>(),
        actions in prop::collection::vec(action(), 1..40),
    ) {
        let config = TcpConfig {
            recv_buffer: if small { 3_000 } else { 1 << 20 },
            max_buffer: if small { 3_000 } else { 16 << 20 },
            ..TcpConfig::default()
        };
        run(state, config, actions);
    }
}

proptest! {
    /// Any segment at all, for a port with and without a listener, is answered by at most one,
    /// and a reset by none (RFC 9293 3.10.7.1).
    #[test]
    fn strangers_get_one_answer_at_most(
        fields in any::<(u16, u32, Option<u32>, u8, u16)>(),
        len in 0usize..100,
        listening in any::<bool>(),
    ) {
        let mut w = World::new(1, Net { loss: 1.0, ..Net::default() });
        if listening {
            w.listen(B, 80, 4);
        }
        let (src_port, seq, ack, flags, window) = fields;
        let mut bytes = [0u8; 20];
        TcpHeader { src_port, dst_port: 80, seq, ack, window, ..TcpHeader::default() }
            .emit(&mut bytes);
        bytes[13] |= flags & !0x10;
        let (header, _) = TcpHeader::parse(&bytes).expect("well formed");
        let (src, dst) = (w.addr(A, src_port), w.addr(B, 80));
        w.deliver(B, SegmentOut {
            src, dst, header, payload: Payload::from(vec![0; len]), gso: None, ttl: 0, tos: 0,
        });
        prop_assert!(w.trace.len() <= 1);
        if header.flags.has(TcpFlags::RST) {
            prop_assert!(w.trace.is_empty());
        } else if !listening && src_port != 0 {
            let reply = w.trace[0].2;
            prop_assert!(reply.flags.has(TcpFlags::RST));
            match ack {
                Some(ack) => prop_assert_eq!((reply.seq, reply.ack), (ack, None)),
                None => {
                    let n = len as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
                    prop_assert_eq!((reply.seq, reply.ack), (0, Some(seq.wrapping_add(n))));
                }
            }
        }
    }
}
