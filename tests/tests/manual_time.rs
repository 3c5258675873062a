//! Promise: an embedder's time may stand still, go back, or jump by years, and nothing breaks.
//! What happens depends on the time that passes, not on how often the embedder polls.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use proptest::prelude::*;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{Fingerprint, Forwarding, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::topology::{join, link, pair, vnet};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Later than everything that any run does.
const END: Instant = Instant::from_nanos(200 * YEAR.as_nanos() as u64);

/// What an embedder's clock does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    StandStill,
    Back(Duration),
    Forward(Duration),
    /// To the time that the last poll returned, and not beyond.
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    let small = (0u64..5_000_000).prop_map(Duration::from_nanos);
    let middling = (0u64..3_000).prop_map(Duration::from_millis);
    let years = (1u32..5).prop_map(|n| n * YEAR);
    prop_oneof![
        1 => Just(Step::StandStill),
        1 => (0u64..1 << 40).prop_map(|n| Step::Back(Duration::from_nanos(n))),
        4 => small.prop_map(Step::Forward),
        4 => middling.prop_map(Step::Forward),
        1 => years.prop_map(Step::Forward),
        4 => Just(Step::Next),
    ]
}

/// An embedder's clock, and the promises of [`System::poll`] checked at each tick of it.
struct Clock {
    now: Instant,
    next: Option<Instant>,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            now: Instant::ZERO,
            next: None,
        }
    }

    fn poll(&mut self, system: &System, step: Step) {
        let given = match step {
            Step::StandStill => self.now,
            Step::Back(d) => {
                Instant::from_nanos((self.now - (Instant::ZERO + d)).as_nanos() as u64)
            }
            Step::Forward(d) => self.now + d,
            Step::Next => self.next.unwrap_or(self.now),
        };
        self.next = system.poll(given.min(END));
        self.now = self.now.max(given.min(END));
        assert_eq!(system.now(), self.now, "the clock is where it was put");
        assert!(self.next.is_none_or(|next| next > self.now));
    }
}

/// `a` and `b` with a router between them, over links that lose frames.
fn network(seed: u64) -> (System, [OwnedVnet; 3]) {
    let system = System::manual(seed);
    system.record_fingerprint();
    let [a, r, b] = ["a", "r", "b"].map(|name| vnet(&system, name));
    join(&a, "eth0 10.0.0.2/24", &r, "west 10.0.0.1/24");
    join(&b, "eth0 10.0.1.2/24", &r, "east 10.0.1.1/24");
    r.set_forwarding(Forwarding::Enabled).unwrap();
    for (v, gateway) in [(&a, "10.0.0.1"), (&b, "10.0.1.1")] {
        let gateway = NextHop::Gateway(gateway.parse().unwrap());
        v.add_route("0.0.0.0/0".parse().unwrap(), gateway).unwrap();
        let lossy = link(8_000_000, Duration::from_millis(7), 0.04);
        v.set_link("eth0", lossy).unwrap();
    }
    (system, [a, r, b])
}

async fn send_all(stream: &TcpStream, mut data: &[u8]) {
    while !data.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, data)).await.unwrap();
        data = &data[n..];
    }
}

/// A program that is part of the world: what it does depends on the world's time only.
fn run_program(steps: &[Step]) -> (Fingerprint, Vec<Instant>) {
    let (system, [a, r, b]) = network(11);
    let clock = system.clone();
    let receiver = b.spawn_future(async move {
        let listener = TcpListener::bind("0.0.0.0:80").unwrap();
        let (stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let (mut total, mut times, mut buf) = (0, Vec::new(), [0; 4096]);
        loop {
            match poll_fn(|cx| stream.poll_read(cx, &mut buf)).await.unwrap() {
                0 => return (total, times),
                n => {
                    assert!(buf[..n].iter().all(|b| *b == 7));
                    total += n;
                    times.push(clock.now());
                }
            }
        }
    });
    let clock = system.clone();
    let sender = a.spawn_future(async move {
        let here = Vnet::current().unwrap();
        // The listener is there first: tasks are polled in the order of spawning.
        let to = "10.0.1.2:80".parse().unwrap();
        let stream = TcpStream::start_connect_in(&here, to).unwrap();
        poll_fn(|cx| stream.poll_connect(cx)).await.unwrap();
        for pause in [
            Duration::from_millis(300),
            30 * YEAR,
            Duration::from_secs(5),
        ] {
            send_all(&stream, &[7; 60_000]).await;
            clock.sleep_async(pause).await;
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let clock = system.clone();
    // Datagrams of three fragments, of which the link loses some: reassembly has to give up.
    let fragments = a.spawn_future(async move {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..40 {
            let _ = socket.send_to(&[1; 4000], "10.0.1.2:9");
            clock.sleep_async(Duration::from_millis(41)).await;
            // Nobody has this address: neighbour discovery has to give up.
            let _ = socket.send_to(&[2; 10], "10.0.0.77:9");
        }
    });
    let mut embedder = Clock::new();
    for step in steps {
        embedder.poll(&system, *step);
    }
    embedder.poll(&system, Step::Forward(END - Instant::ZERO));
    assert!(sender.is_finished() && fragments.is_finished() && receiver.is_finished());
    let (total, times) = receiver.join().unwrap();
    assert_eq!(total, 180_000, "TCP survives a pause of thirty years");
    for v in [&a, &r, &b] {
        assert_conserved(v);
    }
    let fingerprint = system.fingerprint().unwrap();
    for v in [a, r, b] {
        assert_clean(&v.destroy());
    }
    (fingerprint, times)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the embedder polls, the world does what it does in one single poll.
    #[test]
    fn polls_in_between_change_nothing(steps in prop::collection::vec(step(), 0..60)) {
        let model = run_program(&[]);
        prop_assert_eq!(run_program(&steps), model);
    }

    /// An embedder that reads and writes between its polls loses nothing, whatever its clock does.
    #[test]
    fn what_is_done_between_polls_survives(
        seed in 0u64..1000,
        acts in prop::collection::vec((step(), 0usize..9000, any::<bool>()), 1..80),
    ) {
        let (system, [a, r, b]) = network(seed);
        let mut clock = Clock::new();
        let listener = TcpListener::bind_in(&b, "10.0.1.2:80").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut client =
            TcpStream::start_connect_in(&a, "10.0.1.2:80".parse().unwrap()).unwrap();
        let mut server = None;
        while server.is_none() {
            clock.poll(&system, Step::Forward(Duration::from_millis(50)));
            server = listener.accept().ok();
        }
        let (mut server, _) = server.unwrap();
        server.set_nonblocking(true).unwrap();
        let datagrams = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let (mut sent, mut counter) = (VecDeque::new(), 0u8);
        for (step, bytes, fragments) in acts {
            let data: Vec<u8> = (0..bytes).map(|n| counter.wrapping_add(n as u8)).collect();
            counter = counter.wrapping_add(101);
            match client.write(&data) {
                Ok(n) => sent.extend(&data[..n]),
                Err(e) => prop_assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            if fragments {
                let _ = datagrams.send_to(&vec![1; bytes], "10.0.1.2:9");
            }
            clock.poll(&system, step);
            read_some(&mut server, &mut sent)?;
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut open = true;
        for _ in 0..10_000 {
            if !open {
                break;
            }
            clock.poll(&system, Step::Forward(Duration::from_millis(100)));
            open = read_some(&mut server, &mut sent)?;
        }
        prop_assert!(!open && sent.is_empty(), "{} bytes are missing", sent.len());
        drop((client, server, listener, datagrams));
        clock.poll(&system, Step::Forward(3 * YEAR));
        for v in [a, r, b] {
            assert_conserved(&v);
            assert_clean(&v.destroy());
        }
    }
}

/// Reads what is there and compares it with what was sent; false at the end of the stream.
fn read_some(server: &mut TcpStream, sent: &mut VecDeque<u8>) -> Result<bool, TestCaseError> {
    let mut buf = [0; 4096];
    loop {
        match server.read(&mut buf) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                let expected: Vec<u8> = sent.drain(..n.min(sent.len())).collect();
                prop_assert_eq!(&buf[..n], &expected[..]);
            }
            Err(e) => {
                prop_assert_eq!(e.kind(), ErrorKind::WouldBlock);
                return Ok(true);
            }
        }
    }
}

/// A poll is bounded: what goes round for ever is continued in the next one.
#[test]
fn a_poll_comes_back_from_a_world_that_never_rests() {
    let system = System::manual(1);
    let _spin = system.spawn_future(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    // It goes round at one instant so often, and then takes time each time it does.
    let now = Instant::from_nanos(1_000);
    for _ in 0..3 {
        assert_eq!(system.poll(now), Some(Instant::from_nanos(5_000)));
        assert_eq!(system.now(), now);
    }
    let now = now + Duration::from_secs(10);
    let next = system.poll(now).expect("there is more to do");
    assert!(next < now, "a million polls take five seconds");
    assert!(system.now() <= next, "and time has not got there");
    let next = system.poll(now).and_then(|_| system.poll(now));
    assert!(next.is_some_and(|next| next > now));
    assert_eq!(system.now(), now);
}

/// A system that was idle for the lifetime of the clock still works.
#[test]
fn the_last_nanosecond_is_reached() {
    let (system, [a, _r, b]) = network(1);
    let sink = UdpSocket::bind_in(&b, "10.0.1.2:9").unwrap();
    sink.set_nonblocking(true).unwrap();
    assert_eq!(system.poll(END), None);
    let source = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let mut received = 0;
    let mut clock = Clock {
        now: END,
        next: None,
    };
    for _ in 0..50 {
        source.send_to(b"x", "10.0.1.2:9").unwrap();
        clock.now += Duration::from_millis(50);
        clock.next = system.poll(clock.now);
        received += usize::from(sink.recv(&mut [0; 8]).is_ok());
    }
    assert!(received > 25, "{received} of 50");
    system.poll(Instant::MAX);
    assert_eq!(system.now(), Instant::MAX);
}

/// A loop of an embedder whose clock stands still is no world that goes round: each poll does all
/// that is due.
#[test]
fn polls_at_one_instant_do_what_is_due_however_many_there_are() {
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let server = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let mut buf = [0; 8];
    for n in 0..110_000 {
        client.send_to(b"now", "10.0.0.2:7").unwrap();
        system.poll(Instant::ZERO);
        assert!(server.recv_from(&mut buf).is_ok(), "after poll {n}");
    }
    assert_eq!(system.now(), Instant::ZERO);
}
