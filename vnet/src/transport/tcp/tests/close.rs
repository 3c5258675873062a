use super::*;
use TcpState::*;

#[test]
fn the_active_closer_waits_and_the_passive_one_does_not() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.shutdown(A, a);
    assert_eq!(w.state(A, a), Some(FinWait1));
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.state(A, a), Some(FinWait2));
    assert_eq!(w.state(B, b), Some(CloseWait));
    assert_eq!(w.read(B, b, 10), Ok(vec![]));
    // The other direction still works.
    w.write(B, b, b"late").expect("half open");
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(A, a, 10), Ok(b"late".to_vec()));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::BrokenPipe));
    w.shutdown(B, b);
    assert_eq!(w.state(B, b), Some(LastAck));
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.state(A, a), Some(TimeWait));
    assert_eq!(w.state(B, b), Some(Closed));
    assert_eq!(w.hosts[A].tcp.counts().time_wait, 1);
    assert_eq!(w.hosts[B].tcp.counts().time_wait, 0);
    assert_eq!(w.read(A, a, 10), Ok(vec![]));
    w.close(A, a);
    w.close(B, b);
    assert_eq!(w.hosts[A].tcp.counts().connections, 0);
    let before = w.now;
    w.run_out();
    assert!(w.now - before >= Duration::from_secs(59));
    w.assert_empty();
}

#[test]
fn data_and_fin_go_together_and_unread_data_survives_time_wait() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.write(B, b, b"bye").expect("space");
    w.shutdown(B, b);
    w.shutdown(A, a);
    w.run_for(Duration::from_millis(500));
    assert_eq!(w.state(A, a), Some(TimeWait));
    assert_eq!(w.read(A, a, 2), Ok(b"by".to_vec()));
    w.run_for(Duration::from_secs(100));
    assert_eq!(w.read(A, a, 2), Ok(b"e".to_vec()));
    assert_eq!(w.read(A, a, 2), Ok(vec![]));
    w.close(A, a);
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn both_may_close_at_the_same_time() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    let before = w.trace.len();
    w.shutdown(A, a);
    w.shutdown(B, b);
    w.run_for(Duration::from_millis(6));
    assert_eq!(w.state(A, a), Some(Closing));
    assert_eq!(w.state(B, b), Some(Closing));
    w.run_for(Duration::from_millis(6));
    assert_eq!(w.state(A, a), Some(TimeWait));
    assert_eq!(w.state(B, b), Some(TimeWait));
    // A FIN and its acknowledgement each way.
    assert_eq!(w.trace.len() - before, 4);
    w.close(A, a);
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn closed_sockets_finish_what_was_written() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    let data = pattern(100_000, 3);
    assert_eq!(w.write(A, a, &data), Ok(data.len()));
    w.close(A, a);
    assert_eq!(w.state(A, a), Some(FinWait1)); // no socket, but still there
    w.run_for(Duration::from_secs(2));
    assert_eq!(w.read(B, b, 1 << 20), Ok(data));
    assert_eq!(w.read(B, b, 1), Ok(vec![]));
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn unread_data_turns_a_close_into_a_reset() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.write(A, a, b"never read").expect("space");
    w.run_for(Duration::from_millis(100));
    w.close(B, b);
    assert_eq!(w.flags(B).last().map(String::as_str), Some("RA"));
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(A, a, 1), Err(SocketError::ConnectionReset));
    assert_eq!(w.read(A, a, 1), Ok(vec![]));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::BrokenPipe));
    w.close(A, a);
    w.run_out();
    w.assert_empty();
}

#[test]
fn data_that_comes_after_close_is_answered_with_a_reset() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.close(B, b);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.state(A, a), Some(CloseWait));
    w.write(A, a, b"anyone?").expect("half open");
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.write(A, a, b"x"), Err(SocketError::BrokenPipe));
    w.close(A, a);
    w.run_out();
    w.assert_empty();
}

#[test]
fn linger_resets_what_is_not_acknowledged_in_time() {
    let limit = Duration::from_secs(2);
    for is_read in [false, true] {
        let mut w = World::new(1, Net::default());
        let (a, b) = w.pair();
        w.on(A, |tcp, cx| {
            tcp.set_options(cx, a, |o| o.linger = Some(limit))
        })
        .expect("there");
        // More than fits into the window of a peer that does not read.
        while w.write(A, a, &[7; 100_000]).is_ok() {
            w.run_for(Duration::from_millis(10));
        }
        w.close(A, a);
        let closed = w.now;
        let step = Duration::from_millis(20);
        while w.now + step < closed + limit {
            assert!(w.state(A, a).is_some());
            while is_read && w.read(B, b, 1 << 20).is_ok_and(|data| !data.is_empty()) {}
            w.run_for(step);
        }
        w.run_for(step * 2);
        // What was delivered in time is not reset, whatever the peer does afterwards.
        let resets = w.hosts[A].tcp.stats().resets_out;
        assert_eq!(
            (w.state(A, a), resets),
            match is_read {
                true => (Some(FinWait2), 0),
                false => (None, 1),
            }
        );
        w.close(B, b);
        w.run_out();
        w.assert_empty();
    }
}

#[test]
fn linger_zero_aborts() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.on(A, |tcp, cx| {
        tcp.set_options(cx, a, |o| o.linger = Some(Duration::ZERO))
    })
    .expect("there");
    w.write(A, a, b"lost").expect("space");
    w.close(A, a);
    assert_eq!(w.hosts[A].tcp.counts(), TcpCounts::default());
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.read(B, b, 10), Ok(b"lost".to_vec()));
    assert_eq!(w.read(B, b, 10), Err(SocketError::ConnectionReset));
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn an_orphan_does_not_wait_in_fin_wait_2_for_ever() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.close(A, a);
    w.run_for(Duration::from_secs(10));
    assert_eq!(w.hosts[A].tcp.counts().connections, 1);
    w.run_for(Duration::from_secs(60));
    assert_eq!(w.hosts[A].tcp.counts(), TcpCounts::default());
    // The peer, which slept all the while, learns it when it says something.
    w.write(B, b, b"x").expect("half open");
    w.run_for(Duration::from_secs(1));
    assert_eq!(w.read(B, b, 1), Err(SocketError::BrokenPipe));
    w.close(B, b);
    w.run_out();
    w.assert_empty();
}

#[test]
fn a_lost_last_acknowledgement_is_repeated_from_time_wait() {
    let mut w = World::new(1, Net::default());
    let (a, b) = w.pair();
    w.close(A, a);
    w.run_for(Duration::from_millis(50));
    w.close(B, b);
    w.net.loss = 1.0;
    w.run_for(Duration::from_millis(50)); // the last ACK is lost
    w.net.loss = 0.0;
    assert_eq!(w.hosts[A].tcp.counts().time_wait, 1);
    assert_eq!(w.hosts[B].tcp.counts().connections, 1);
    w.run_for(Duration::from_secs(2));
    assert_eq!(w.hosts[B].tcp.counts().connections, 0);
    w.run_out();
    w.assert_empty();
}

#[test]
fn an_attempt_closed_early_leaves_nothing() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    w.close(A, a);
    assert_eq!(w.hosts[A].tcp.counts(), TcpCounts::default());
    w.run_out();
    // B's answer was reset.
    assert_eq!(w.hosts[B].tcp.counts().half_open, 0);
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.assert_empty();
}

#[test]
fn teardown_releases_everything_at_once() {
    let mut w = World::new(1, Net::default());
    let l = w.listen(B, 80, 8);
    for _ in 0..3 {
        w.connect(A, 80);
    }
    w.run_for(Duration::from_millis(100));
    let b = w.accept(B, l);
    w.write(B, b, &pattern(50_000, 1)).expect("space");
    w.on(B, |tcp, cx| tcp.close(cx, b));
    w.net.loss = 1.0;
    w.connect(A, 80);
    for host in [A, B] {
        assert_ne!(w.hosts[host].tcp.counts(), TcpCounts::default());
        w.on(host, |tcp, cx| tcp.teardown(cx));
        assert_eq!(w.hosts[host].tcp.next_deadline(), None);
        assert_eq!(w.hosts[host].tcp.counts(), TcpCounts::default());
        assert!(w.hosts[host].tcp.ports.is_empty());
        assert!(w.hosts[host].tcp.sockets().is_empty());
    }
    w.assert_empty();
    assert_eq!(w.write(B, b, b"x"), Err(SocketError::Gone));
    assert!(w.flags(A).iter().filter(|f| *f == "RA").count() >= 3);
}

#[test]
fn teardown_wakes_every_waiter() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut w = World::new(1, Net::default());
    let (a, _) = w.pair();
    let l = w.listen(A, 99, 1);
    let counters: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicU32::new(0)))).collect();
    let wakers: Vec<_> = counters.iter().map(|c| Waker::from(c.clone())).collect();
    w.on(A, |tcp, cx| {
        let waiters = tcp.waiters(a).expect("there");
        waiters.register(cx.out, Interest::Read, &wakers[0]);
        waiters.register(cx.out, Interest::Write, &wakers[1]);
        let waiters = tcp.listener_waiters(l).expect("there");
        waiters.register(cx.out, Interest::Read, &wakers[2]);
    });
    w.on(A, |tcp, cx| tcp.teardown(cx));
    let woken: Vec<_> = counters
        .iter()
        .map(|c| c.0.load(Ordering::Relaxed))
        .collect();
    assert_eq!(woken, [1, 1, 1]);
}
