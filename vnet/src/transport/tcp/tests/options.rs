//! What options of sockets do on the wire.

use super::hand::{Hand, NONE};
use super::*;

fn set(w: &mut World, host: usize, id: ConnId, change: impl FnOnce(&mut Options)) {
    w.on(host, |tcp, cx| tcp.set_options(cx, id, change))
        .expect("good options");
}

/// A connection from A to a listener at B, each with options of its own.
fn pair_with(
    w: &mut World,
    ours: impl FnOnce(&mut Options),
    theirs: impl FnOnce(&mut Options),
) -> (ConnId, ListenerId) {
    let l = w.listen(B, 80, 8);
    let mut options = w.options(B);
    theirs(&mut options);
    w.on(B, |tcp, _| tcp.set_listener_options(l, &options))
        .expect("good options");
    let (local, remote) = (w.addr(A, 0), w.addr(B, 80));
    let (path, mut options) = (w.net.path, w.options(A));
    ours(&mut options);
    let a = w.on(A, |tcp, cx| {
        tcp.connect(cx, local, remote, path, options, Reuse::Exclusive)
    });
    (a.expect("nothing is in the way"), l)
}

fn flagged(w: &mut World, id: ConnId, data: &[u8], flags: SendFlags) {
    w.on(A, |tcp, cx| {
        tcp.flag_write(id, flags)?;
        tcp.send_copy(cx, id, data)
    })
    .expect("space");
}

/// Payload lengths of what A sent, with the milliseconds since `since`.
fn sent(w: &World, since: Instant) -> Vec<(u128, usize)> {
    let data = w.trace.iter().filter(|t| t.1 == A && t.3 > 0);
    data.map(|t| ((t.0 - since).as_millis(), t.3)).collect()
}

const MORE: SendFlags = SendFlags {
    more: true,
    end_of_record: false,
};
const RECORD: SendFlags = SendFlags {
    more: false,
    end_of_record: true,
};

/// Connections with the same options share them, until one of them gets others.
#[test]
fn the_same_options_are_held_once() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    let ids = [w.connect(A, 80), w.connect(A, 80)];
    w.run_for(Duration::from_secs(1));
    let far = [w.accept(B, l), w.accept(B, l)];
    let held = |w: &World, host: usize, ids: [ConnId; 2]| {
        ids.map(|id| std::ptr::from_ref(w.hosts[host].tcp.options(id).expect("there")))
    };
    for (host, ids) in [(A, ids), (B, far)] {
        let [one, other] = held(&w, host, ids);
        assert_eq!(one, other);
        for id in ids {
            set(&mut w, host, id, |o| o.nodelay = true);
        }
        let [one, other] = held(&w, host, ids);
        assert_eq!(one, other);
        w.on(host, |tcp, _| *tcp.ttl(ids[0]).expect("there") = 7);
        set(&mut w, host, ids[1], |o| o.quickack = true);
        let said = ids.map(|id| {
            let options = w.hosts[host].tcp.options(id).expect("there");
            (options.nodelay, options.quickack, options.ttl)
        });
        assert_eq!(said, [(true, false, 7), (true, true, 0)]);
    }
}

#[test]
fn a_cork_holds_what_fills_no_segment_until_it_is_drawn_or_for_200_ms() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    w.trace.clear();
    set(&mut w, A, a, |o| (o.cork, o.nodelay) = (true, true));
    let start = w.now;
    w.write(A, a, b"header").expect("space");
    w.run_for(Duration::from_millis(100));
    assert_eq!(sent(&w, start), []);
    w.write(A, a, &[0; 1448]).expect("space");
    assert_eq!(sent(&w, start), [(100, 1448)]);
    // The rest waits from now on.
    w.run_for(Duration::from_secs(1));
    assert_eq!(sent(&w, start), [(100, 1448), (300, 6)]);
    w.write(A, a, b"trailer").expect("space");
    assert_eq!(sent(&w, start).len(), 2);
    set(&mut w, A, a, |o| o.cork = false);
    assert_eq!(sent(&w, start)[2..], [(1100, 7)]);
    // Nothing to come ends the wait as well.
    set(&mut w, A, a, |o| o.cork = true);
    w.write(A, a, b"last").expect("space");
    w.shutdown(A, a);
    assert_eq!(sent(&w, start)[3..], [(1100, 4)]);
}

#[test]
fn more_to_come_holds_one_write_for_the_next() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.trace.clear();
    let start = w.now;
    flagged(&mut w, a, b"GET ", MORE);
    assert_eq!(sent(&w, start), []);
    w.write(A, a, b"/ HTTP/1.1").expect("space");
    assert_eq!(sent(&w, start), [(0, 14)]);
    w.run_for(Duration::from_millis(50));
    flagged(&mut w, a, b"alone", MORE);
    w.run_for(Duration::from_secs(1));
    assert_eq!(sent(&w, start)[1..], [(250, 5)]);
    assert_eq!(w.read(B, b, 99), Ok(b"GET / HTTP/1.1alone".to_vec()));
}

#[test]
fn a_record_shares_no_segment_with_the_next_one_not_even_when_it_is_sent_again() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.trace.clear();
    let start = w.now;
    set(&mut w, A, a, |o| o.nodelay = true);
    // All of it is lost, and comes again.
    w.net.loss = 1.0;
    for data in [&[1; 2000][..], &[2; 10], &[3; 1000]] {
        flagged(&mut w, a, data, RECORD);
    }
    let lens = |w: &World| sent(w, start).iter().map(|s| s.1).collect::<Vec<_>>();
    assert_eq!(lens(&w), [1448, 552, 10, 1000]);
    w.net.loss = 0.0;
    w.trace.clear();
    w.run_for(Duration::from_secs(5));
    let again = lens(&w);
    assert!(!again.contains(&562) && !again.contains(&1010), "{again:?}");
    assert_eq!(w.read(B, b, 9999).map(|d| d.len()), Ok(3010));
    // A record that is not the last one waits for no acknowledgement, as Nagle would have it.
    set(&mut w, A, a, |o| o.nodelay = false);
    w.trace.clear();
    w.write(A, a, b"x").expect("space");
    flagged(&mut w, a, b"abc", RECORD);
    assert_eq!(lens(&w), [1]);
    w.write(A, a, b"defg").expect("space");
    assert_eq!(lens(&w), [1, 3]);
    w.run_for(Duration::from_secs(1));
    assert_eq!(lens(&w), [1, 3, 4]);
    assert!(w.hosts[A].tcp.connections.get(a).is_some());
}

#[test]
fn quick_acknowledgements_are_one_for_each_segment() {
    let mut t = Hand::new();
    let b = t.b;
    assert_eq!(t.give(0, NONE, b"x"), []);
    t.w.trace.clear();
    // What waits is acknowledged at once.
    set(&mut t.w, B, b, |o| o.quickack = true);
    assert_eq!(t.acked(&t.w.trace[0].2), 1);
    for at in 1..4 {
        let h = t.give(at, NONE, b"x");
        assert_eq!(h.len(), 1);
        assert_eq!(i64::from(t.acked(&h[0])), at + 1);
    }
    set(&mut t.w, B, b, |o| o.quickack = false);
    assert_eq!(t.give(4, NONE, b"x"), []);
}

#[test]
fn a_largest_segment_is_asked_for_and_kept_to_at_both_ends() {
    let mut w = World::new(1, Net::default());
    let (a, l) = pair_with(
        &mut w,
        |o| o.max_segment = Some(1000),
        |o| o.max_segment = Some(500),
    );
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    assert_eq!(w.trace[0].2.options.mss, Some(1000));
    assert_eq!(w.trace[1].2.options.mss, Some(500));
    w.trace.clear();
    w.write(A, a, &[0; 3000]).expect("space");
    w.run_for(Duration::from_millis(50));
    let most = w.trace.iter().map(|t| t.3).max();
    // Options count (RFC 6691 2).
    assert_eq!(most, Some(500 - 12));
    assert_eq!(w.read(B, b, 9999).map(|d| d.len()), Ok(3000));
    // Smaller still, on the connection.
    set(&mut w, A, a, |o| o.max_segment = Some(100));
    w.trace.clear();
    w.write(A, a, &[0; 300]).expect("space");
    w.run_for(Duration::from_millis(200));
    assert_eq!(w.trace.iter().map(|t| t.3).max(), Some(100 - 12));
    let refused = w.on(A, |tcp, cx| {
        tcp.set_options(cx, a, |o| o.max_segment = Some(87))
    });
    assert_eq!(refused, Err(SocketError::InvalidInput));
    assert_eq!(
        w.hosts[A].tcp.options(a).map(|o| o.max_segment),
        Ok(Some(100))
    );
}

#[test]
fn keepalive_has_times_of_its_own() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    set(&mut w, A, a, |o| {
        o.keepalive = true;
        o.keepalive_idle = Some(Duration::from_secs(10));
        o.keepalive_interval = Some(Duration::from_secs(2));
        o.keepalive_probes = Some(3);
    });
    let start = w.now;
    w.net.loss = 1.0;
    w.trace.clear();
    w.run_for(Duration::from_secs(15));
    let at: Vec<_> = w.trace.iter().map(|t| (t.0 - start).as_secs()).collect();
    assert_eq!(at, [10, 12, 14]);
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    w.run_for(Duration::from_millis(1001));
    assert_eq!(w.read(A, a, 1), Err(SocketError::TimedOut));
}

#[test]
fn the_user_timeout_ends_a_connection_to_the_millisecond_whatever_it_waits_for() {
    let limit = Duration::from_secs(7);
    let short = |o: &mut Options| o.user_timeout = Some(limit);
    let ends = |w: &mut World, a: ConnId| {
        w.run_for(limit - Duration::from_millis(1));
        assert_eq!(w.state(A, a), Some(TcpState::Established));
        w.run_for(Duration::from_millis(1));
        assert_eq!(w.read(A, a, 1), Err(SocketError::TimedOut));
    };
    // For data.
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    set(&mut w, A, a, short);
    w.write(A, a, b"one").expect("space");
    w.run_for(Duration::from_secs(60));
    assert_eq!(w.read(B, b, 9), Ok(b"one".to_vec()));
    w.net.loss = 1.0;
    w.write(A, a, b"two").expect("space");
    ends(&mut w, a);
    // For data that is sent already when the limit is set.
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    w.net.loss = 1.0;
    w.write(A, a, b"two").expect("space");
    w.run_for(Duration::from_secs(2));
    set(&mut w, A, a, short);
    ends(&mut w, a);
    // For room: the peer answers each probe, and still has none.
    let config = TcpConfig {
        recv_buffer: 5_000,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, _) = w.pair();
    w.write(A, a, &[0; 9_000]).expect("space");
    w.run_for(Duration::from_secs(1));
    set(&mut w, A, a, short);
    ends(&mut w, a);
    // For a connection.
    let mut w = World::new(1, Net::default());
    w.net.loss = 1.0;
    let (a, _) = pair_with(&mut w, short, |_| {});
    w.run_for(limit - Duration::from_millis(1));
    assert_eq!(w.state(A, a), Some(TcpState::SynSent));
    w.run_for(Duration::from_millis(1));
    let taken = w.on(A, |tcp, _| tcp.take_error(a));
    assert_eq!(taken, Ok(Some(SocketError::TimedOut)));
}

#[test]
fn a_long_user_timeout_outlasts_the_limit_on_retransmissions() {
    let config = TcpConfig {
        data_retries: 2,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, b) = w.pair();
    set(&mut w, A, a, |o| {
        o.user_timeout = Some(Duration::from_secs(100));
    });
    w.net.loss = 1.0;
    w.write(A, a, b"late").expect("space");
    w.run_for(Duration::from_secs(30));
    w.net.loss = 0.0;
    w.run_for(Duration::from_secs(69));
    assert_eq!(w.read(B, b, 9), Ok(b"late".to_vec()));
    w.run_for(Duration::from_secs(200));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
}

#[test]
fn a_deferred_connection_is_accepted_with_its_data_or_when_the_wait_is_over() {
    let wait = Duration::from_secs(3);
    let mut w = World::new(1, Net::default());
    let (a, l) = pair_with(&mut w, |_| {}, |o| o.defer_accept = Some(wait));
    w.run_for(Duration::from_millis(500));
    assert_eq!(w.state(A, a), Some(TcpState::Established));
    let none = w.on(B, |tcp, cx| tcp.accept(cx, l)).map(|_| ());
    assert_eq!(none, Err(SocketError::WouldBlock));
    assert_eq!(w.hosts[B].tcp.counts().half_open, 1);
    w.write(A, a, b"now").expect("space");
    w.run_for(Duration::from_millis(20));
    let b = w.accept(B, l);
    assert_eq!(w.read(B, b, 9), Ok(b"now".to_vec()));
    // The time until data came is not taken for that of the path, nor is anything for lost.
    let info = w.info(B, b).expect("there");
    assert_eq!(info.srtt, Some(Duration::from_millis(10)));
    assert_eq!(info.cwnd, 10 * 1448);

    let silent = w.connect(A, 80);
    w.trace.clear();
    let start = w.now;
    w.run_for(wait);
    assert_eq!(
        w.on(B, |tcp, cx| tcp.accept(cx, l)).map(|_| ()),
        Err(SocketError::WouldBlock)
    );
    w.run_for(Duration::from_millis(50));
    w.accept(B, l);
    assert_eq!(w.state(A, silent), Some(TcpState::Established));
    // The answer, and once more after the wait.
    let answers = w.trace.iter().filter(|t| t.2.flags.has(TcpFlags::SYN));
    let at: Vec<_> = answers
        .filter(|t| t.1 == B)
        .map(|t| (t.0 - start).as_millis())
        .collect();
    assert_eq!(at, [5, 3015]);
}

#[test]
fn no_more_is_taken_than_may_be_unsent() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    set(&mut w, A, a, |o| o.unsent_low_water = Some(4000));
    // Ten segments leave at once.
    let most = 10 * 1448;
    let mut written = 0;
    while let Ok(n) = w.write(A, a, &[0; 1000]) {
        written += n;
    }
    assert!((most + 3000..=most + 4000).contains(&written), "{written}");
    let writable = |w: &World| w.hosts[A].tcp.readiness(a).expect("there").writable;
    assert!(!writable(&w));
    w.run_for(Duration::from_millis(15));
    assert!(writable(&w));
    assert!(w.write(A, a, &[0; 1000]).is_ok());
}

#[test]
fn buffers_that_a_program_chose_stay_as_they_are() {
    let mut w = World::new(1, Net::default());
    let (a, l) = pair_with(
        &mut w,
        |o| o.send_buffer = Some(20_000),
        |o| o.recv_buffer = Some(30_000),
    );
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    let mut got = 0;
    while got < 2_000_000 {
        let _ = w.write(A, a, &[0; 9_000]);
        w.step();
        got += w.read(B, b, 1 << 20).map_or(0, |d| d.len());
    }
    let sizes = |w: &World, host: usize, id| {
        let info = w.info(host, id).expect("there");
        (info.send_buffer, info.recv_buffer)
    };
    assert_eq!(sizes(&w, A, a).0, 20_000);
    assert_eq!(sizes(&w, B, b).1, 30_000);
    set(&mut w, A, a, |o| o.send_buffer = Some(1));
    assert_eq!(sizes(&w, A, a).0, 2048);
}

#[test]
fn a_user_timeout_that_is_set_after_the_end_changes_nothing() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    set(&mut w, B, b, |o| o.linger = Some(Duration::ZERO));
    w.write(A, a, &[0; 1000]).expect("space");
    w.close(B, b);
    w.run_for(Duration::from_secs(1));
    assert_eq!(w.read(A, a, 1), Err(SocketError::ConnectionReset));
    set(&mut w, A, a, |o| {
        o.user_timeout = Some(Duration::from_secs(1))
    });
    w.run_for(Duration::from_secs(60));
    assert_eq!(w.read(A, a, 1), Ok(Vec::new()));
    assert_eq!(w.hosts[A].tcp.stats().timed_out, 0);
}

/// With a shift of 14, the window is a multiple of 16 KiB.
#[test]
fn a_small_buffer_and_a_large_shift_do_not_close_the_window_for_ever() {
    let config = TcpConfig {
        max_buffer: 1 << 30,
        ..TcpConfig::default()
    };
    let mut w = World::with(1, Net::default(), config);
    let (a, l) = pair_with(&mut w, |_| {}, |o| o.recv_buffer = Some(8192));
    w.run_for(Duration::from_millis(50));
    let b = w.accept(B, l);
    let mut got = 0;
    for turn in 0..100 {
        if turn == 50 {
            set(&mut w, B, b, |o| o.recv_buffer = Some(2048));
        }
        let _ = w.write(A, a, &[0; 4_000]);
        w.run_for(Duration::from_millis(50));
        got += w.read(B, b, 1 << 20).map_or(0, |d| d.len());
    }
    assert_eq!(got, 400_000);
}

#[test]
fn a_closed_socket_waits_for_the_peers_end_for_its_own_time() {
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    set(&mut w, A, a, |o| o.fin_wait2 = Some(Duration::from_secs(5)));
    w.close(A, a);
    w.run_for(Duration::from_secs(4));
    assert_eq!(w.state(A, a), Some(TcpState::FinWait2));
    w.run_for(Duration::from_secs(2));
    assert_eq!(w.state(A, a), None);
}
