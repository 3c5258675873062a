//! Numbers half the sequence space away, where a comparison may mean one thing or the other.

use super::hand::{Hand, NONE};
use super::*;
use crate::packet::header::SackBlocks;

const HALF: u32 = 1 << 31;
const QUARTER: u32 = 1 << 30;

/// Distances that no window has.
const FAR: [u32; 9] = [
    QUARTER - 1,
    QUARTER,
    QUARTER + 1,
    HALF - 1,
    HALF,
    HALF + 1,
    HALF + QUARTER - 1,
    HALF + QUARTER,
    HALF + QUARTER + 1,
];

/// The connection still carries bytes both ways, and nothing but them.
fn assert_works(mut t: Hand, what: &str) {
    t.w.net.loss = 0.0;
    t.w.write(B, t.b, b"from B").expect(what);
    t.w.write(A, t.a, b"from A").expect(what);
    t.w.run_for(Duration::from_secs(20));
    let (a, b) = (t.w.read(A, t.a, 99), t.w.read(B, t.b, 99));
    assert_eq!(a.as_deref(), Ok(&b"from B"[..]), "{what}");
    assert_eq!(b.as_deref(), Ok(&b"from A"[..]), "{what}");
    t.w.close(A, t.a);
    t.w.close(B, t.b);
    t.w.run_out();
    t.w.assert_empty();
}

#[test]
fn an_acknowledgement_far_away_is_not_one() {
    for far in FAR {
        for unsent in [0, 5000] {
            // In order, with nothing to take; in order, with data; old; ahead.
            for (offset, data) in [(0, &b""[..]), (0, b"x"), (-1, b"x"), (7, b"x")] {
                let mut t = Hand::new();
                if unsent > 0 {
                    t.w.write(B, t.b, &vec![7; unsent]).expect("space");
                }
                t.ack = t.ack.wrapping_add(far);
                t.give(offset, NONE, data);
                if unsent > 0 {
                    t.w.net.loss = 0.0;
                    t.w.run_for(Duration::from_secs(20));
                    assert_eq!(t.w.read(A, t.a, 9999), Ok(vec![7; unsent]));
                }
                assert_works(t, &format!("{far:#x} at {offset}, {unsent} on their way"));
            }
        }
    }
}

#[test]
fn a_segment_far_away_is_outside_the_window() {
    for far in FAR {
        for flags in [NONE, TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST] {
            for data in [&b""[..], b"x", &[0; 3000]] {
                let mut t = Hand::new();
                t.give(i64::from(far), flags, data);
                assert_works(t, &format!("{flags:?} with {} at {far:#x}", data.len()));
            }
        }
    }
}

#[test]
fn selective_acknowledgements_far_away_say_nothing() {
    for far in FAR {
        for (left, right) in [
            (far, far + 1),
            (far, 5000),
            (1, far),
            (5000, far),
            (far, far),
        ] {
            let mut t = Hand::new();
            t.w.write(B, t.b, &[7; 5000]).expect("space");
            let mut s = t.segment(0, NONE, b"");
            let mut sack = SackBlocks::NONE;
            sack.push((t.ack.wrapping_add(1000), t.ack.wrapping_add(2000)));
            sack.push((t.ack.wrapping_add(left), t.ack.wrapping_add(right)));
            s.header.options.sack = sack;
            t.give_segment(s);
            let c = t.w.hosts[B].tcp.connections.get(t.b).expect("open");
            assert_eq!(c.sacked(), 1000, "{left:#x} to {right:#x}");
            t.w.net.loss = 0.0;
            t.w.run_for(Duration::from_secs(20));
            assert_eq!(t.w.read(A, t.a, 9999), Ok(vec![7; 5000]));
            assert_works(t, &format!("{left:#x} to {right:#x}"));
        }
    }
}

/// RFC 7323 5.2: older is what is less than 2^31 behind.
#[test]
fn a_timestamp_half_the_space_away_is_no_older() {
    for (by, taken) in [(HALF + 1, false), (HALF, true), (u32::MAX, false)] {
        let mut t = Hand::new();
        let (value, echo) = t.ts.expect("negotiated");
        t.ts = Some((value.wrapping_add(by), echo));
        t.give(0, NONE, b"");
        let drops = t.w.hosts[B].tcp.stats().paws_drops;
        assert_eq!(drops, u64::from(!taken), "{by:#x}");
        if !taken {
            assert_works(t, &format!("{by:#x}"));
        }
    }
}

#[test]
fn an_icmp_error_about_a_number_far_away_is_not_believed() {
    for far in FAR {
        let mut w = World::new(1, Net::default());
        let (a, _) = w.pair();
        w.net.loss = 1.0;
        w.write(A, a, &[1; 5000]).expect("space");
        let seq = w.hosts[A].tcp.connections.get(a).expect("open").snd.una;
        let (local, remote) = (w.hosts[A].tcp.local_addr(a).expect("bound"), w.addr(B, 80));
        let what = IcmpKind::FragmentationNeeded { ip_mtu: 600 };
        let v = w.on(A, |tcp, cx| {
            tcp.on_icmp_error(cx, local, remote, (seq + far).0, what)
        });
        assert_eq!(v, Verdict::Drop(crate::DropReason::IcmpIgnored), "{far:#x}");
    }
}

/// The handshake's segments, told from their repetitions and from what is far away.
#[test]
fn a_half_open_connection_takes_no_segment_far_away() {
    for far in FAR {
        let mut w = World::new(1, Net::default());
        let l = w.listen(B, 80, 4);
        let a = w.connect(A, 80);
        w.step();
        let (_, _, syn, _) = w.trace[0];
        let (_, _, syn_ack, _) = w.trace[1];
        let (src, dst) = (w.addr(A, syn.src_port), w.addr(B, 80));
        // What B answers to these is not A's business.
        w.net.loss = 1.0;
        for (seq, ack) in [(1 + far, 0), (1, far), (1 + far, far)] {
            for flags in [NONE, TcpFlags::RST, TcpFlags::SYN, TcpFlags::FIN] {
                let header = TcpHeader {
                    seq: syn.seq.wrapping_add(seq),
                    ack: Some(syn_ack.seq.wrapping_add(1).wrapping_add(ack)),
                    flags,
                    options: crate::packet::header::TcpOptions {
                        timestamp: syn.options.timestamp,
                        ..Default::default()
                    },
                    ..syn
                };
                // An exact number in a reset is believed, whatever it acknowledges (RFC 5961 3.2).
                if flags == TcpFlags::RST && seq == 1 {
                    continue;
                }
                w.deliver(B, arriving(src, dst, header, Payload::from(vec![0])));
                assert_eq!(w.hosts[B].tcp.counts().half_open, 1, "{far:#x} {flags:?}");
            }
        }
        w.net.loss = 0.0;
        w.run_for(Duration::from_millis(100));
        w.accept(B, l);
        assert_eq!(w.state(A, a), Some(TcpState::Established));
    }
}
