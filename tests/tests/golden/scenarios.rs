//! The networks whose packets are known.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{Fingerprint, LinkConfig, OwnedVnet, System, Vnet};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::topology::{link, pair, triangle};

/// A network, and what happens in it.
pub(crate) struct Scenario {
    /// Its name in the file.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(u64) -> Fingerprint,
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ping",
        run: ping,
    },
    Scenario {
        name: "lossy-tcp",
        run: lossy_tcp,
    },
    Scenario {
        name: "triangle",
        run: triangle_of_routers,
    },
    Scenario {
        name: "udp-rate-limit",
        run: udp_rate_limit,
    },
    Scenario {
        name: "many-flows",
        run: many_flows,
    },
];

fn system(seed: u64) -> System {
    let system = System::virtual_time(seed);
    system.record_fingerprint();
    system
}

/// Tears everything down, which is part of the fingerprint, too.
fn end(system: &System, vnets: impl IntoIterator<Item = OwnedVnet>) -> Fingerprint {
    for vnet in vnets {
        assert_conserved(&vnet);
        assert_clean(&vnet.destroy());
    }
    system.fingerprint().expect("it was switched on")
}

/// Ten requests over a link that loses some.
fn ping(seed: u64) -> Fingerprint {
    let system = system(seed);
    let (a, b) = pair(&system);
    let lossy = link(1_000_000, Duration::from_millis(20), 0.1);
    a.set_link("eth0", lossy.clone()).unwrap();
    b.set_link("eth0", lossy).unwrap();
    let socket = EchoSocket::bind_in(&a).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut answers = 0;
    for seq in 0..10 {
        let to = "10.0.0.2".parse().unwrap();
        socket.send_to(seq, &[seq as u8; 56], to).unwrap();
        answers += u32::from(matches!(socket.recv(), Ok((EchoEvent::Reply { .. }, _))));
    }
    assert!(answers > 3, "{answers} answers are no test");
    drop(socket);
    end(&system, [a, b])
}

/// Half a megabyte over a link that loses 2 %.
fn lossy_tcp(seed: u64) -> Fingerprint {
    let system = system(seed);
    let (a, b) = pair(&system);
    let lossy = link(20_000_000, Duration::from_millis(10), 0.02);
    a.set_link("eth0", lossy.clone()).unwrap();
    b.set_link("eth0", lossy).unwrap();
    transfer(&a, &b, "10.0.0.2:80", 500_000);
    end(&system, [a, b])
}

fn transfer(from: &Vnet, to: &Vnet, addr: &'static str, bytes: usize) {
    let listener = TcpListener::bind_in(to, addr).unwrap();
    let sender = from.spawn(move || {
        let mut stream = TcpStream::connect(addr)?;
        stream.write_all(&vec![7; bytes])
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), bytes);
    sender.unwrap().join().unwrap().unwrap();
}

/// Each of three routers sends to the next, until one link breaks.
fn triangle_of_routers(seed: u64) -> Fingerprint {
    let system = system(seed);
    let routers = triangle(&system);
    for router in &routers {
        for i in router.interfaces().unwrap() {
            if i.name != "lo0" {
                let slow = link(5_000_000, Duration::from_millis(3), 0.01);
                router.set_link(&i.name, slow).unwrap();
            }
        }
    }
    for (n, to) in [(0, "10.9.1.1:80"), (1, "10.9.2.1:80"), (2, "10.9.0.1:80")] {
        transfer(&routers[n], &routers[(n + 1) % 3], to, 40_000);
    }
    routers[0].remove_interface("to1").unwrap();
    let lost = UdpSocket::bind_in(&routers[1], "10.9.1.1:9").unwrap();
    for _ in 0..5 {
        let _ = lost.send_to(&[1; 100], "10.9.0.1:9");
        system.sleep(Duration::from_millis(50)).unwrap();
    }
    drop(lost);
    end(&system, routers)
}

/// Datagrams, some of them in fragments, faster than the link takes them.
fn udp_rate_limit(seed: u64) -> Fingerprint {
    let system = system(seed);
    let (a, b) = pair(&system);
    let narrow = LinkConfig {
        queue: vnet::link::QueueConfig::frames(20),
        ..link(2_000_000, Duration::from_millis(5), 0.01)
    };
    a.set_link("eth0", narrow).unwrap();
    let sink = UdpSocket::bind_in(&b, "10.0.0.2:9").unwrap();
    let source = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    for n in 0..300u16 {
        let size = [100, 1400, 4000][usize::from(n % 3)];
        source.send_to(&vec![n as u8; size], "10.0.0.2:9").unwrap();
        system.sleep(Duration::from_millis(3)).unwrap();
    }
    sink.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (mut received, mut buf) = (0, [0; 5000]);
    while let Ok(n) = sink.recv(&mut buf) {
        assert!([100, 1400, 4000].contains(&n));
        received += 1;
    }
    assert!((50..290).contains(&received), "{received} of 300");
    drop((sink, source));
    end(&system, [a, b])
}

/// A hundred connections at once, each a request and its answer.
fn many_flows(seed: u64) -> Fingerprint {
    let system = system(seed);
    let (a, b) = pair(&system);
    let shared = link(50_000_000, Duration::from_millis(2), 0.005);
    a.set_link("eth0", shared.clone()).unwrap();
    b.set_link("eth0", shared).unwrap();
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let here = Vnet::clone(&b);
    let server = b.spawn_future(async move {
        loop {
            let (stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            // Detached: it ends with its client.
            drop(here.spawn_future(serve(stream)));
        }
    });
    let mut streams: Vec<TcpStream> = (0..100)
        .map(|_| {
            let to = "10.0.0.2:80".parse().unwrap();
            TcpStream::start_connect_in(&a, to).unwrap()
        })
        .collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        system
            .block_on(poll_fn(|cx| stream.poll_connect(cx)))
            .unwrap()
            .unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(&[n as u8; 100]).unwrap();
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, vec![n as u8; 3000]);
    }
    drop(streams);
    server.abort();
    end(&system, [b, a])
}

/// Reads a request of a hundred bytes and writes an answer.
async fn serve(stream: TcpStream) {
    let (mut request, mut have) = ([0; 100], 0);
    while have < request.len() {
        let n = poll_fn(|cx| stream.poll_read(cx, &mut request[have..])).await;
        have += n.unwrap();
    }
    let answer = vec![request[0]; 3000];
    let mut sent = 0;
    while sent < answer.len() {
        let n = poll_fn(|cx| stream.poll_write(cx, &answer[sent..])).await;
        sent += n.unwrap();
    }
}
