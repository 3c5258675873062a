//! What a connection tells of itself: every counter of `TcpInfo` against what was on the wire.

use super::*;

const MS: Duration = Duration::from_millis(1);
const FULL: usize = 1448;

/// What a host sent that arrived or not, as the wire saw it.
struct Seen {
    segments: u64,
    data: u64,
    bytes: u64,
}

fn seen(w: &World, host: usize) -> Seen {
    let mine = || w.trace.iter().filter(move |t| t.1 == host);
    Seen {
        segments: mine().count() as u64,
        data: mine().filter(|t| t.3 > 0).count() as u64,
        bytes: mine().map(|t| t.3 as u64).sum(),
    }
}

#[test]
fn segments_and_bytes_are_counted_as_they_were_on_the_wire() {
    let mut w = World::new(1, Net::default());
    w.befall(Fate::Lost, |nth| nth == 5 || nth == 6);
    let (a, b) = w.pair();
    let fresh = w.info(A, a).expect("there");
    assert_eq!((fresh.segments_out, fresh.segments_in), (2, 1));
    assert_eq!(fresh.since_data_sent, None);
    assert_eq!(fresh.delivery_rate, None);
    assert_eq!(fresh.busy_time, Duration::ZERO);
    w.carry(a, b, 20 * FULL);
    w.run_for(MS * 500);
    w.write(B, b, &[1; 100]).expect("space");
    w.run_for(MS * 7);
    let (i, j) = (w.info(A, a).expect("there"), w.info(B, b).expect("there"));
    let (mine, theirs) = (seen(&w, A), seen(&w, B));
    assert_eq!(i.segments_out, mine.segments);
    // The handshake of B is its listener's.
    assert_eq!(
        (i.segments_in, j.segments_out + 1),
        (theirs.segments, theirs.segments)
    );
    assert_eq!((i.data_segments_out, i.bytes_sent), (mine.data, mine.bytes));
    assert_eq!((i.retransmits, i.bytes_retransmitted), (2, 2 * FULL as u64));
    assert_eq!(i.bytes_sent, 22 * FULL as u64);
    assert_eq!(
        (i.bytes_acked, i.bytes_delivered),
        (20 * FULL as u64, 20 * FULL as u64)
    );
    assert_eq!(
        (j.data_segments_in, j.bytes_received),
        (20, 20 * FULL as u64)
    );
    assert_eq!((i.bytes_received, i.data_segments_in), (100, 1));
    assert_eq!((j.bytes_acked, j.bytes_sent), (0, 100));
    assert_eq!(i.since_data_received, Some(MS * 2));
    assert_eq!(j.since_data_sent, Some(MS * 7));
    assert_eq!(i.since_ack_received, MS * 2);
    assert_eq!(j.busy_time, MS * 7);
}

// RFC 2018: what is reported selectively has arrived, too.
#[test]
fn what_is_reported_selectively_is_delivered_and_not_acknowledged() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.befall(Fate::Lost, |nth| nth == 1);
    w.write(A, a, &pattern(3 * FULL, 1)).expect("space");
    w.run_for(MS * 11);
    let i = w.info(A, a).expect("there");
    assert_eq!((i.bytes_acked, i.bytes_delivered), (0, 2 * FULL as u64));
    assert_eq!(w.info(B, b).map(|j| j.bytes_received), Ok(0));
}

#[test]
fn a_fin_and_a_syn_are_no_bytes() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.write(A, a, &[1; 10]).expect("space");
    w.shutdown(A, a);
    w.run_for(MS * 200);
    let i = w.info(A, a).expect("there");
    assert_eq!((i.bytes_sent, i.bytes_acked, i.in_flight), (10, 10, 0));
    assert_eq!(w.info(B, b).map(|j| j.bytes_received), Ok(10));
}

#[test]
fn overtaken_segments_are_counted() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.befall(Fate::Late(MS * 2), |nth| nth == 1);
    w.carry(a, b, 5 * FULL);
    w.run_for(MS * 500);
    let i = w.info(A, a).expect("there");
    assert_eq!(i.reorderings, 1);
    assert_eq!(w.info(B, b).map(|j| j.reorderings), Ok(0));
}

#[test]
fn a_rate_is_what_the_path_carries_or_the_application_offers() {
    let net = Net {
        bits_per_second: Some(12_000_000),
        ..Net::default()
    };
    let mut w = World::new(1, net);
    let (a, b) = w.pair();
    // A request a while after another: its bytes in a round trip, and little of that.
    for _ in 0..2 {
        w.carry(a, b, 1000);
        w.run_for(MS * 300);
    }
    let i = w.info(A, a).expect("there");
    assert!(i.is_app_limited);
    let rate = i.delivery_rate.expect("a round trip");
    assert!((10_000..100_000).contains(&rate), "{rate}");
    // A transfer that fills the path: what it carries, headers apart.
    w.write(A, a, &pattern(500_000, 1)).expect("space");
    w.run_for(MS * 150);
    let i = w.info(A, a).expect("there");
    assert!(!i.is_app_limited);
    let rate = i.delivery_rate.expect("a round trip");
    assert!((1_350_000..1_450_000).contains(&rate), "{rate}");
    assert_eq!(i.pacing_rate.is_some(), i.cwnd > 65_535);
    assert_eq!(w.info(B, b).map(|j| j.delivery_rate), Ok(None));
}

// RFC 9768: bytes that were marked are known to the byte; with the feedback of RFC 3168, roughly.
#[test]
fn marked_bytes_are_told() {
    for (ecn, exact) in [(EcnUse::Accurate, true), (EcnUse::Ask, false)] {
        let config = TcpConfig {
            ecn,
            ..TcpConfig::default()
        };
        let mut w = World::with(1, Net::default(), config);
        let (a, b) = w.pair();
        w.fate = Some(Box::new(|_, host, s| {
            match host == A && s.payload.len() == 300 {
                true => Fate::Marked,
                false => Fate::Arrives,
            }
        }));
        for len in [1000, 300, 1000] {
            w.carry(a, b, len);
            w.run_for(MS * 100);
        }
        let marked = w.info(A, a).expect("there").bytes_marked;
        match exact {
            true => assert_eq!(marked, 300),
            false => assert!(marked >= 300, "{marked}"),
        }
    }
}

#[test]
fn what_a_connection_waits_for_is_told_by_time() {
    // The peer's window.
    let config = TcpConfig {
        recv_buffer: 8 << 10,
        recv_buffer_auto: Feature::Off,
        ..TcpConfig::default()
    };
    let mut w = World::new(1, Net::default());
    *w.hosts[B].tcp.config_mut() = config;
    let (a, _) = w.pair();
    w.write(A, a, &pattern(60_000, 1)).expect("space");
    w.run_for(MS * 1000);
    let i = w.info(A, a).expect("there");
    assert_eq!(i.busy_time, MS * 1000);
    assert!(
        i.window_limited_time > MS * 900,
        "{:?}",
        i.window_limited_time
    );
    assert_eq!(i.buffer_limited_time, Duration::ZERO);
    // Nothing.
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.carry(a, b, 1000);
    w.run_for(MS * 1000);
    let i = w.info(A, a).expect("there");
    assert!(
        (MS * 10..MS * 60).contains(&i.busy_time),
        "{:?}",
        i.busy_time
    );
    assert_eq!(i.window_limited_time, Duration::ZERO);
}
