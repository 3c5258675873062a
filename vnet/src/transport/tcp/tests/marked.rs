//! The AccECN option (RFC 9768 3.2.3) on the wire: when it is sent, what it says, and what is done without it.

use super::hand::{Hand, NONE};
use super::*;
use crate::packet::header::{MarkOrder, MarkedBytes};

const MS: Duration = Duration::from_millis(1);
const FULL: usize = 1448;
/// The option takes 12 bytes of a segment where all counters are in it.
const FIRST: u32 = FULL as u32 - 12;

fn config() -> TcpConfig {
    TcpConfig {
        ecn: EcnUse::Accurate,
        ..TcpConfig::default()
    }
}

fn said(counts: [u32; 3], n: usize) -> Option<MarkedBytes> {
    Some(MarkedBytes::new(MarkOrder::Ect0First, counts, n))
}

/// The options of what a host has sent since the trace was cleared.
fn options(w: &World, host: usize) -> Vec<Option<MarkedBytes>> {
    let mine = w.trace.iter().filter(|t| t.1 == host);
    mine.map(|t| t.2.options.marked).collect()
}

/// Marks data of A that begins so many bytes behind the SYN.
fn mark_at(w: &mut World, offsets: &'static [u32]) {
    let mut syn = None;
    w.fate = Some(Box::new(move |_, host, s| {
        if host != A {
            return Fate::Arrives;
        }
        let first = *syn.get_or_insert(s.header.seq);
        let at = s.header.seq.wrapping_sub(first).wrapping_sub(1);
        match !s.payload.is_empty() && offsets.contains(&at) {
            true => Fate::Marked,
            false => Fate::Arrives,
        }
    }));
}

// RFC 9768 3.2.3.2.1 and 3.2.3.3: the SYN has none, what completes the handshake and the first data have all counters, and
// acknowledgements those that have ever moved, if one has since.
#[test]
fn the_handshake_and_what_acknowledges_data_have_the_option() {
    let mut w = World::with(1, Net::default(), config());
    mark_at(&mut w, &[3000]);
    let (a, b) = w.pair();
    let initial = said([1, 0, 1], 3);
    assert_eq!(options(&w, A), [None, initial]);
    assert_eq!(options(&w, B), [initial]);
    w.trace.clear();
    for (n, len) in [1000, 2000, 500, 40].into_iter().enumerate() {
        w.carry(a, b, len);
        w.run_for(MS * 100);
        // The end of each write is acknowledged by itself, after a while.
        let last = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke").2;
        let expected = [
            said([1001, 0, 1], 1),
            said([3001, 0, 1], 1),
            said([3001, 500, 1], 2),
            said([3041, 500, 1], 2),
        ][n];
        assert_eq!(last.options.marked, expected, "{n}");
    }
    let mut first = options(&w, A);
    assert_eq!(first.remove(0), initial, "the first data");
    assert!(first.iter().all(Option::is_none), "B has sent no data");
    // B's first data has all, with what it owes to A's; the rest of it only if there is something new.
    w.trace.clear();
    w.write(B, b, &[1; 100]).expect("space");
    w.run_for(MS * 100);
    w.write(B, b, &[1; 100]).expect("space");
    w.run_for(MS * 100);
    assert_eq!(options(&w, B), [said([3041, 500, 1], 3), None]);
    assert_eq!(options(&w, A), [said([101, 0, 1], 1), said([201, 0, 1], 1)]);
}

// RFC 9768 3.2.3: where data is ECT(1), its counter is the first.
#[test]
fn the_other_order_is_used_for_the_other_kind_of_capable() {
    let config = TcpConfig {
        ect1: Feature::On,
        ..config()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    w.trace.clear();
    w.carry(a, b, 1000);
    w.run_for(MS * 100);
    let other = MarkedBytes::new(MarkOrder::Ect1First, [1, 0, 1001], 1);
    assert_eq!(options(&w, B), [Some(other)]);
}

// RFC 9768 3.2.3.2.2: an answer that is sent again is without, whether it is missed by a timeout or by another SYN.
#[test]
fn an_answer_that_is_sent_again_has_no_option() {
    for syn_again in [false, true] {
        let mut w = World::with(1, Net::default(), config());
        // Everything with the option is lost on the way to A, or comes too late for it.
        w.fate = Some(Box::new(move |_, host, s| {
            match host == B && s.header.options.marked.is_some() {
                true if syn_again => Fate::Late(MS * 1500),
                true => Fate::Lost,
                false => Fate::Arrives,
            }
        }));
        let l = w.listen(B, 80, 4);
        let a = w.connect(A, 80);
        w.run_for(MS * 1200);
        let b = w.accept(B, l);
        assert_eq!(options(&w, B)[..2], [said([1, 0, 1], 3), None]);
        // Both have accurate feedback all the same, and A goes on saying it.
        w.fate = None;
        w.trace.clear();
        w.carry(a, b, 1000);
        w.run_for(MS * 100);
        assert_eq!(options(&w, A)[0], said([1, 0, 1], 3));
        assert_eq!(options(&w, B).last(), Some(&said([1001, 0, 1], 1)));
    }
}

// RFC 9768 3.2.3.2.2: the first data that has the option may have been lost because of it.
#[test]
fn where_the_first_data_is_lost_no_more_options_are_sent() {
    let mut w = World::with(1, Net::default(), config());
    let (a, b) = w.pair();
    w.trace.clear();
    w.fate = Some(Box::new(|_, host, s| {
        let blocked = host == A && s.header.options.marked.is_some() && !s.payload.is_empty();
        match blocked {
            true => Fate::Lost,
            false => Fate::Arrives,
        }
    }));
    w.carry(a, b, 10 * FULL);
    w.run_for(MS * 500);
    w.write(B, b, &[1; 100]).expect("space");
    w.run_for(MS * 500);
    assert_eq!(w.hosts[A].tcp.stats().retransmits, 1);
    let mut mine = options(&w, A);
    assert_eq!(mine.remove(0), said([1, 0, 1], 3));
    assert!(mine.iter().all(Option::is_none));
    // B has heard nothing of that: it says what it gets as capable, which is not what is sent again.
    assert_eq!(
        options(&w, B).last(),
        Some(&said([1 + 10 * FULL as u32 - FIRST, 0, 1], 3))
    );
}

// RFC 9768 3.2.3: it is optional. A side that does not send it still hears the other's.
#[test]
fn each_side_may_do_without() {
    for (asks, answers) in [
        (Feature::Off, Feature::On),
        (Feature::On, Feature::Off),
        (Feature::Off, Feature::Off),
    ] {
        let mut w = World::with(1, Net::default(), config());
        w.hosts[A].tcp.config_mut().ecn_option = asks;
        w.hosts[B].tcp.config_mut().ecn_option = answers;
        mark_at(&mut w, &[3000, 3000 + FIRST]);
        let (a, b) = w.pair();
        w.carry(a, b, 3000);
        w.carry(a, b, 20 * FULL);
        w.run_for(MS * 500);
        w.write(B, b, &[1; 100]).expect("space");
        w.run_for(MS * 500);
        for (host, says) in [(A, asks), (B, answers)] {
            let any = options(&w, host).iter().any(Option::is_some);
            assert_eq!(any, says.is_on(), "{asks:?} {answers:?}");
        }
        let stats = w.hosts[A].tcp.stats();
        assert_eq!((stats.ecn_reductions, stats.retransmits), (1, 0));
    }
}

// RFC 9768 3.2.3.3: two blocks of a selective acknowledgement and two counters fill the header.
#[test]
fn blocks_and_counters_share_the_header() {
    let mut w = World::with(1, Net::default(), config());
    let (a, b) = w.pair();
    w.trace.clear();
    let mut n = 0;
    w.fate = Some(Box::new(move |_, host, s| {
        n += u32::from(host == A && !s.payload.is_empty());
        match (host, n) {
            (A, 3 | 5 | 7) => Fate::Lost,
            (A, 8) => Fate::Marked,
            _ => Fate::Arrives,
        }
    }));
    w.write(A, a, &pattern(9 * FULL, 1)).expect("space");
    w.run_for(MS * 8);
    let last = w.trace.iter().rfind(|t| t.1 == B).expect("B spoke").2;
    assert_eq!(
        (last.options.len(), last.options.sack.as_slice().len()),
        (40, 2)
    );
    let marked = last.options.marked.expect("two counters");
    assert!(
        marked.get(0).is_some() && marked.get(1) == Some(FULL as u32),
        "{marked:?}"
    );
    assert_eq!(marked.get(2), None);
    w.fate = None;
    w.run_for(MS * 500);
    assert_eq!(w.read(B, b, 1 << 20).map(|data| data.len()), Ok(9 * FULL));
}

// RFC 9768 3.2.3.2.5: where bytes were marked and no packet was, something on the way changes what is said.
#[test]
fn a_contradiction_ends_the_marking_of_data() {
    for (ace, capable) in [(5, false), (6, true)] {
        let mut h = Hand::with(config());
        h.w.net.loss = 0.0;
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let sees = seen.clone();
        h.w.fate = Some(Box::new(move |_, host, s| {
            if host == B && !s.payload.is_empty() {
                sees.borrow_mut().push(s.tos & 3 != 0);
            }
            Fate::Lost
        }));
        h.w.write(B, h.b, &[1; 1000]).expect("space");
        h.w.run_for(MS);
        let mut ack = h.segment(0, NONE | TcpFlags::of_ace(ace), &[]);
        ack.header.ack = Some(h.ack.wrapping_add(1000));
        ack.header.options.marked = said([1, 1000, 1], 2);
        h.give_segment(ack);
        h.w.write(B, h.b, &[1; 1000]).expect("space");
        h.w.run_for(MS);
        assert_eq!(*seen.borrow(), [true, capable], "{ace}");
    }
}
