//! What becomes of a segment that arrives: one rule of the RFCs, one script.

use super::hand::{Hand, NONE};
use super::*;
use crate::packet::header::{TcpOptions, tcp::SackPermitted};

/// The blocks of a selective acknowledgement, relative to what A sent first.
fn sack(t: &Hand, h: &TcpHeader) -> Vec<(u32, u32)> {
    let blocks = h.options.sack.as_slice().iter();
    let rel = |n: u32| n.wrapping_sub(t.seq);
    blocks.map(|(l, r)| (rel(*l), rel(*r))).collect()
}

fn window(t: &Hand) -> i64 {
    let c = t.w.hosts[B].tcp.connections.get(t.b).expect("open");
    i64::from(c.rcv.advertised.since(c.rcv.nxt))
}

fn assert_end(t: &mut Hand, data: &[u8]) {
    assert_eq!(t.w.state(B, t.b), Some(TcpState::CloseWait));
    assert_eq!(t.w.read(B, t.b, 9999).as_deref(), Ok(data));
    assert_eq!(t.w.read(B, t.b, 9999), Ok(vec![]));
}

// RFC 9293 3.10.7.4: a segment ahead of a gap is held, and a FIN with it.
#[test]
fn a_fin_alone_ahead_of_a_gap_waits_for_it() {
    let data = pattern(100, 1);
    let mut t = Hand::new();
    let h = t.give(100, TcpFlags::FIN, b"");
    assert_eq!(t.acked(&h[0]), 0);
    let h = t.give(0, NONE, &data);
    assert_eq!(h.iter().map(|h| t.acked(h)).collect::<Vec<_>>(), [101]);
    assert_end(&mut t, &data);

    // In pieces, the last of them first.
    let mut t = Hand::new();
    t.give(100, TcpFlags::FIN, b"");
    t.give(60, NONE, &data[60..]);
    t.give(0, NONE, &data[..30]);
    let h = t.give(30, NONE, &data[30..60]);
    assert_eq!(t.acked(&h[0]), 101);
    assert_end(&mut t, &data);
}

// RFC 9293 3.4: SEG.LEN counts the FIN.
#[test]
fn a_fin_behind_data_that_is_here_already_is_taken() {
    let data = pattern(100, 1);
    for from in [0, 50, 99] {
        let mut t = Hand::new();
        t.give(0, NONE, &data);
        let h = t.give(from as i64, TcpFlags::FIN, &data[from..]);
        assert_eq!(t.acked(&h[0]), 101);
        // RFC 2883 4: and it is said what came twice.
        assert_eq!(sack(&t, &h[0]), [(from as u32, 100)]);
        assert_end(&mut t, &data);
    }
    // And when the window is closed, as it takes no room.
    let config = TcpConfig {
        recv_buffer: 100,
        ..TcpConfig::default()
    };
    let mut t = Hand::with(config);
    t.give(0, NONE, &data);
    assert_eq!(window(&t), 0);
    let h = t.give(0, TcpFlags::FIN, &data);
    assert_eq!(t.acked(&h[0]), 101);
    assert_end(&mut t, &data);
}

#[test]
fn nothing_behind_a_fin_is_believed() {
    let data = pattern(300, 1);
    // Text that the FIN cuts off, ahead of it or in order.
    for from in [0, 50] {
        let mut t = Hand::new();
        t.give(200, NONE, &data[200..]);
        t.give(100, TcpFlags::FIN, b"");
        t.give(from as i64, NONE, &data[from..200]);
        let h = t.give(0, NONE, &data[..99]);
        let h = h.into_iter().chain(t.give(99, NONE, &data[99..100])).last();
        let h = h.expect("an answer");
        assert_eq!((t.acked(&h), sack(&t, &h).len() <= 1), (101, true));
        assert_end(&mut t, &data[..100]);
        let c = t.w.hosts[B].tcp.connections.get(t.b).expect("open");
        assert!(!c.rcv.queue.has_gap());
    }
}

// RFC 5961 5.2: nothing of a segment counts whose acknowledgement is not acceptable.
#[test]
fn the_timestamp_of_a_refused_segment_is_not_remembered() {
    for by in [100_000, 1 << 30, 1u32 << 31, 0u32.wrapping_sub(100_000_000)] {
        let mut t = Hand::new();
        let (ts, ack) = (t.ts, t.ack);
        let (value, echo) = ts.expect("negotiated");
        t.ts = Some((value.wrapping_add(1_000_000), echo));
        t.ack = ack.wrapping_add(by);
        assert_eq!(t.give(0, NONE, b"forged").len(), 1);
        assert_eq!(t.w.hosts[B].tcp.stats().challenge_acks, 1, "{by:#x}");
        (t.ts, t.ack) = (ts, ack);
        t.give(0, NONE, b"real");
        assert_eq!(t.w.read(B, t.b, 99), Ok(b"real".to_vec()), "{by:#x}");
    }
}

// RFC 5961 3.2: RCV.NXT exactly; the window without its right edge; elsewhere.
#[test]
fn a_reset_at_the_edge_of_the_window_is_outside() {
    let mut t = Hand::new();
    let edge = window(&t);
    assert_eq!(t.give(edge, TcpFlags::RST, b""), []);
    assert_eq!(t.give(edge + 1, TcpFlags::RST, b"x"), []);
    assert_eq!(t.give(-1, TcpFlags::RST, b"xx"), []);
    assert_eq!(t.give(edge - 1, TcpFlags::RST, b"").len(), 1);
    assert_eq!(t.give(1, TcpFlags::RST, b"").len(), 1);
    assert_eq!(t.w.hosts[B].tcp.stats().challenge_acks, 2);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));

    // A closed window has nothing but RCV.NXT.
    let config = TcpConfig {
        recv_buffer: 1000,
        ..TcpConfig::default()
    };
    let mut t = Hand::with(config);
    t.give(0, NONE, &[7; 1000]);
    assert_eq!(window(&t), 0);
    assert_eq!(t.give(1001, TcpFlags::RST, b""), []);
    assert_eq!(t.give(999, TcpFlags::RST, b""), []);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Established));
    assert_eq!(t.give(1000, TcpFlags::RST, b""), []);
    assert_eq!(t.w.state(B, t.b), Some(TcpState::Closed));
}

/// A SYN of A's and a segment of A's that follows it, for B.
struct Opening {
    w: World,
    src: SocketAddr,
    dst: SocketAddr,
    options: TcpOptions,
}

const ISN: u32 = 0xffff_fff0;

impl Opening {
    fn new(config: TcpConfig, port: u16) -> Opening {
        let mut w = World::with(1, Net::default(), config);
        w.net.loss = 1.0;
        let (src, dst) = (w.addr(A, 80), w.addr(B, port));
        let options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: Some(SackPermitted),
            timestamp: Some((1000, 0)),
            ..TcpOptions::default()
        };
        Opening {
            w,
            src,
            dst,
            options,
        }
    }

    /// B has sent its SYN, whose sequence number is returned.
    fn connecting(config: TcpConfig) -> (Opening, ConnId, TcpHeader) {
        let mut o = Opening::new(config, 0);
        let b = o.w.connect(B, 80);
        let (_, _, syn, _) = o.w.trace[0];
        o.dst.set_port(syn.src_port);
        (o, b, syn)
    }

    /// Gives B a segment at an offset from the SYN and returns what it says at once.
    fn give(
        &mut self,
        offset: u32,
        ack: Option<u32>,
        flags: TcpFlags,
        data: &[u8],
    ) -> Vec<TcpHeader> {
        let options = match flags.has(TcpFlags::SYN) {
            true => self.options,
            false => TcpOptions {
                timestamp: self.options.timestamp,
                ..TcpOptions::default()
            },
        };
        let header = TcpHeader {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: ISN.wrapping_add(offset),
            ack,
            flags,
            window: 5000,
            urgent: 0,
            options,
        };
        self.w.trace.clear();
        self.w.deliver(
            B,
            arriving(self.src, self.dst, header, Payload::from(data.to_vec())),
        );
        self.w.trace.iter().map(|t| t.2).collect()
    }
}

/// An acknowledgement without anything else, of the SYN alone.
#[track_caller]
fn assert_challenge(said: &[TcpHeader], seq: u32) {
    let [h] = said else {
        panic!("one answer, not {said:?}");
    };
    assert_eq!((h.seq, h.ack), (seq, Some(ISN.wrapping_add(1))));
    assert_eq!(h.flags, NONE);
    assert!(h.options.window_scale.is_none() && h.options.mss.is_none());
}

// RFC 5961 3.2, in a passive SYN-RECEIVED.
#[test]
fn a_half_open_request_challenges_a_reset_in_its_window() {
    let mut o = Opening::new(TcpConfig::default(), 80);
    o.w.listen(B, 80, 4);
    let syn_ack = o.give(0, None, TcpFlags::SYN, b"")[0];
    let nxt = syn_ack.seq.wrapping_add(1);
    let edge = 1 + u32::from(syn_ack.window);
    for offset in [2, edge - 1] {
        assert_challenge(&o.give(offset, None, TcpFlags::RST, b""), nxt);
    }
    assert_eq!(o.w.hosts[B].tcp.stats().challenge_acks, 2);
    // Outside: not a word, whatever else it says.
    for (offset, flags) in [
        (edge, TcpFlags::RST),
        (0, TcpFlags::RST),
        (0, TcpFlags::RST | TcpFlags::SYN),
    ] {
        assert_eq!(o.give(offset, None, flags, b""), []);
    }
    // RFC 5961 7: not without limit.
    let said: usize = (0..20)
        .map(|_| o.give(5, None, TcpFlags::RST, b"").len())
        .sum();
    assert_eq!(said, 8);
    assert_eq!(o.w.hosts[B].tcp.counts().half_open, 1);
    o.w.run_for(Duration::from_secs(5));
    assert_challenge(&o.give(5, None, TcpFlags::RST, b""), nxt);
    // RFC 5961 4.2: a SYN in the window is challenged, too.
    assert_challenge(&o.give(5, None, TcpFlags::SYN, b""), nxt);
    assert_eq!(o.give(1, None, TcpFlags::RST, b""), []);
    assert_eq!(o.w.hosts[B].tcp.counts().half_open, 0);
}

// The same after a simultaneous open.
#[test]
fn a_simultaneous_open_challenges_a_reset_in_its_window() {
    let (mut o, b, syn) = Opening::connecting(TcpConfig::default());
    let nxt = syn.seq.wrapping_add(1);
    let syn_ack = o.give(0, None, TcpFlags::SYN, b"")[0];
    assert!(syn_ack.flags.has(TcpFlags::SYN));
    assert_eq!(o.w.state(B, b), Some(TcpState::SynReceived));
    let edge = 1 + u32::from(syn.window);
    for offset in [2, edge - 1] {
        assert_challenge(&o.give(offset, None, TcpFlags::RST, b""), nxt);
    }
    assert_challenge(&o.give(5, Some(nxt), TcpFlags::SYN, b""), nxt);
    // A plain acknowledgement offers a scaled window.
    let adv = o.w.hosts[B]
        .tcp
        .connections
        .get(b)
        .expect("open")
        .rcv
        .advertised;
    let edge = adv.0.wrapping_sub(ISN);
    assert_eq!(o.give(edge, None, TcpFlags::RST, b""), []);
    assert_challenge(&o.give(edge - 1, None, TcpFlags::RST, b""), nxt);
    assert_eq!(o.w.state(B, b), Some(TcpState::SynReceived));
    // The SYN again is answered as before.
    let again = o.give(0, None, TcpFlags::SYN, b"");
    assert_eq!(again[0].options.window_scale, syn_ack.options.window_scale);
    assert!(again[0].flags.has(TcpFlags::SYN));
    assert_eq!(o.give(1, None, TcpFlags::RST, b""), []);
    assert_eq!(o.w.write(B, b, b"x"), Err(SocketError::ConnectionRefused));
}

// RFC 9293 3.10.7.3: "if there are other controls or text in the segment, then continue".
#[test]
fn what_a_syn_ack_carries_is_kept() {
    let (syn_, fin) = (TcpFlags::SYN, TcpFlags::FIN);
    for crossing in [false, true] {
        let (mut o, b, syn) = Opening::connecting(TcpConfig::default());
        let ack = Some(syn.seq.wrapping_add(1));
        if crossing {
            o.give(0, None, syn_, b"");
        }
        let said = o.give(0, ack, syn_, b"hello");
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].ack, Some(ISN.wrapping_add(6)));
        assert_eq!(o.w.state(B, b), Some(TcpState::Established));
        assert_eq!(o.w.read(B, b, 99), Ok(b"hello".to_vec()));

        let (mut o, b, syn) = Opening::connecting(TcpConfig::default());
        let ack = Some(syn.seq.wrapping_add(1));
        if crossing {
            o.give(0, None, syn_, b"");
        }
        let said = o.give(0, ack, syn_ | fin, b"bye");
        assert_eq!(said[0].ack, Some(ISN.wrapping_add(5)));
        assert_eq!(o.w.state(B, b), Some(TcpState::CloseWait));
        assert_eq!(o.w.read(B, b, 99), Ok(b"bye".to_vec()));
        assert_eq!(o.w.read(B, b, 99), Ok(vec![]));
    }
    // Cut to the window that the SYN has offered.
    let config = TcpConfig {
        recv_buffer: 10,
        ..TcpConfig::default()
    };
    let (mut o, b, syn) = Opening::connecting(config);
    let ack = Some(syn.seq.wrapping_add(1));
    let said = o.give(0, ack, syn_ | fin, &[7; 50]);
    assert_eq!(said[0].ack, Some(ISN.wrapping_add(11)));
    assert_eq!(o.w.read(B, b, 99), Ok(vec![7; 10]));
}

// RFC 7323 2.2 and 3.2, RFC 2018 2: what the SYN did not have, its answer has not.
#[test]
fn a_syn_ack_has_no_option_that_the_syn_had_not() {
    let all = Opening::new(TcpConfig::default(), 80).options;
    let without = [
        TcpOptions {
            window_scale: None,
            ..all
        },
        TcpOptions {
            sack_permitted: None,
            ..all
        },
        TcpOptions {
            timestamp: None,
            ..all
        },
        TcpOptions { mss: None, ..all },
        TcpOptions::default(),
        all,
    ];
    for options in without {
        for simultaneous in [false, true] {
            let mut o = if simultaneous {
                Opening::connecting(TcpConfig::default()).0
            } else {
                let mut o = Opening::new(TcpConfig::default(), 80);
                o.w.listen(B, 80, 4);
                o
            };
            o.options = options;
            let said = o.give(0, None, TcpFlags::SYN, b"");
            let (h, got) = (said[0], said[0].options);
            assert!(h.flags.has(TcpFlags::SYN) && h.ack == Some(ISN.wrapping_add(1)));
            assert_eq!(got.window_scale.is_some(), options.window_scale.is_some());
            assert_eq!(got.sack_permitted, options.sack_permitted);
            assert_eq!(got.timestamp.map(|t| t.1), options.timestamp.map(|t| t.0));
            assert_eq!(got.mss, Some(1460));
        }
    }
    // A shift of zero is an offer, and is answered with one.
    let small = TcpConfig {
        recv_buffer: 1000,
        max_buffer: 1000,
        ..TcpConfig::default()
    };
    let mut o = Opening::new(small, 80);
    o.w.listen(B, 80, 4);
    o.options.window_scale = Some(0);
    assert_eq!(
        o.give(0, None, TcpFlags::SYN, b"")[0].options.window_scale,
        Some(0)
    );
}

// RFC 2883 4 (1) to (3): the first contiguous range that came twice, once.
#[test]
fn what_came_twice_is_reported_even_if_the_segment_was_not_old_as_a_whole() {
    // Its beginning was here, in order.
    let mut t = Hand::new();
    t.give(0, NONE, &[1; 100]);
    let h = t.give(50, NONE, &[1; 100]);
    assert_eq!((t.acked(&h[0]), sack(&t, &h[0])), (150, vec![(50, 100)]));
    // Its end was here, ahead of the gap that it closes.
    let mut t = Hand::new();
    t.give(100, NONE, &[1; 100]);
    let h = t.give(0, NONE, &[1; 150]);
    assert_eq!((t.acked(&h[0]), sack(&t, &h[0])), (200, vec![(100, 150)]));
    // Either end of it was here, ahead of a gap; or its middle; or two parts of it.
    for (from, to, said) in [
        (150, 250, (150, 200)),
        (50, 150, (100, 150)),
        (50, 250, (100, 200)),
        (50, 400, (100, 200)),
    ] {
        let mut t = Hand::new();
        t.give(100, NONE, &[1; 100]);
        t.give(300, NONE, &[1; 50]);
        let h = t.give(from, NONE, &vec![1; (to - from) as usize]);
        assert_eq!(sack(&t, &h[0])[0], said, "{from} to {to}");
        // Once.
        let h = t.give(900, NONE, &[1; 10]);
        assert_eq!(sack(&t, &h[0])[0], (900, 910));
    }
}

// RFC 2883 4 (4): the block behind a duplicate above the acknowledgement is the one around it.
#[test]
fn the_block_behind_a_duplicate_is_the_one_it_lies_in() {
    let mut t = Hand::new();
    for from in [100, 300, 500, 700, 900] {
        t.give(from, NONE, &[1; 100]);
    }
    // The oldest of them is no longer among the last three; it was not reported again until now.
    let h = t.give(120, NONE, &[1; 50]);
    assert_eq!(sack(&t, &h[0])[..2], [(120, 170), (100, 200)]);
    let h = t.give(550, NONE, &[1; 100]);
    assert_eq!(sack(&t, &h[0])[..2], [(550, 600), (500, 650)]);
    // Below the acknowledgement there is no such block: the latest come as always.
    t.give(0, NONE, &[1; 100]);
    let h = t.give(0, NONE, &[1; 100]);
    assert_eq!(sack(&t, &h[0])[..2], [(0, 100), (500, 650)]);
}
