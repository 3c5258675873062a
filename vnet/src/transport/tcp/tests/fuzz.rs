//! Garbage: whatever arrives in whatever state, nothing panics, and nothing is left behind.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// A segment for B, its numbers relative to B's windows and timestamps.
    Rx {
        seq: Place,
        ack: Option<Place>,
        flags: u8,
        window: u16,
        len: usize,
        gso: Option<u16>,
        ts: Option<(u32, u32)>,
        sack: Vec<(Place, Place)>,
        mss: Option<u16>,
        scale: Option<u8>,
    },
    Advance(u64),
    Write(usize),
    Read(usize),
    Shutdown,
    CloseB,
    Icmp(Place, u32),
    Step(u8),
}

/// A number near one of a window's ends.
#[derive(Clone, Copy, Debug)]
enum Place {
    First(u32),
    Last(u32),
}

impl Place {
    fn from(self, first: u32, last: u32) -> u32 {
        match self {
            Place::First(by) => first.wrapping_add(by),
            Place::Last(by) => last.wrapping_add(by),
        }
    }
}

/// Distances near the interesting ones, and anything.
fn near() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (-3i32..=3).prop_map(|n| n as u32),
        2 => (-3000i32..3000).prop_map(|n| n as u32),
        1 => 65_000u32..70_000,
        2 => seq::tests::edge(),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        2 => near().prop_map(Place::First),
        1 => near().prop_map(Place::Last),
    ]
}

fn rx() -> impl Strategy<Value = Action> {
    (
        place(),
        prop::option::weighted(0.9, place()),
        prop_oneof![3 => Just(0u8), 3 => any::<u8>(), 1 => Just(1u8), 1 => Just(2u8), 1 => Just(4u8)],
        any::<u16>(),
        prop_oneof![Just(0usize), 1usize..5, 0usize..4000],
        prop::option::of(1u16..2000),
        prop::option::of((near(), near())),
        prop::collection::vec((place(), place()), 0..4),
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
        1 => (place(), 0u32..2000).prop_map(|(s, m)| Action::Icmp(s, m)),
        2 => (1u8..20).prop_map(Action::Step),
    ]
}

/// Brings B's end of a connection into one of its states; returns its identifier, if it has one.
pub(super) fn prepare(w: &mut World, state: u8) -> Option<ConnId> {
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

/// What the next segment for B is measured by: both ends of each window.
struct Windows {
    expected: (u32, u32),
    sent: (u32, u32),
    timestamps: (u32, u32),
}

/// What B's connection has, or what it said last when it is a record.
fn windows(w: &World, b: Option<ConnId>, from_a: Option<TcpHeader>) -> Windows {
    let said = w.trace.iter().rfind(|t| t.1 == B).map(|t| t.2);
    let timestamp = said.and_then(|h| h.options.timestamp);
    let timestamps = timestamp.map_or((0, 0), |(value, echo)| (echo, value));
    if let Some(c) = b.and_then(|b| w.hosts[B].tcp.connections.get(b)) {
        return Windows {
            expected: (c.rcv.nxt.0, c.rcv.advertised.0),
            sent: (c.snd.una.0, c.snd.nxt.0),
            timestamps,
        };
    }
    let first = said.and_then(|h| h.ack).or(from_a.map(|h| h.seq));
    let first = first.unwrap_or(0);
    let sent = said.map_or(0, |h| h.seq);
    Windows {
        expected: (
            first,
            first.wrapping_add(said.map_or(0, |h| u32::from(h.window))),
        ),
        sent: (sent, sent.wrapping_add(1)),
        timestamps,
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
        let windows = windows(&w, b, from_a);
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
                let sent = |place: Place| place.from(windows.sent.0, windows.sent.1);
                let mut bytes = [0u8; 20];
                TcpHeader {
                    src_port: port_a,
                    dst_port: port_b,
                    seq: seq.from(windows.expected.0, windows.expected.1),
                    ack: ack.map(sent),
                    window,
                    urgent: window,
                    ..TcpHeader::default()
                }
                .emit(&mut bytes);
                bytes[12] |= flags >> 4 & 1;
                bytes[13] |= flags & !0x10;
                let (mut header, _) = TcpHeader::parse(&bytes).expect("well formed");
                header.options.mss = mss.filter(|_| flags & 2 != 0);
                header.options.window_scale = scale.filter(|_| flags & 2 != 0);
                header.options.timestamp = ts.map(|(value, echo)| {
                    let (recent, clock) = windows.timestamps;
                    (recent.wrapping_add(value), clock.wrapping_add(echo))
                });
                for (left, right) in sack {
                    header.options.sack.push((sent(left), sent(right)));
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
                        gso,
                        ..arriving(src, dst, header, Payload::from(vec![0x55; len]))
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
                let seq = seq.from(windows.sent.0, windows.sent.1);
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
            assert!(c.rcv.queue.len() + c.rcv.queue.ahead_len() <= 2 * c.rcv.buffer);
        }
    }
    for host in [A, B] {
        w.on(host, |tcp, cx| tcp.teardown(cx));
        assert_eq!(w.hosts[host].tcp.next_deadline(), None);
    }
    w.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

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
        bytes[12] |= flags >> 4 & 1;
        bytes[13] |= flags & !0x10;
        let (header, _) = TcpHeader::parse(&bytes).expect("well formed");
        let (src, dst) = (w.addr(A, src_port), w.addr(B, 80));
        w.deliver(B, arriving(src, dst, header, Payload::from(vec![0; len])));
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
