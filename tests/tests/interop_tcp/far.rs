//! The kernel and a vnet with a link between them:
//!
//! ```text
//!   kernel ── TAP ── switch ── link ── vnet
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use vnet::link::{Discipline, Ecn, Jitter, Order, QueueConfig, Red};
use vnet::net::{SocketOptions, TcpListener, TcpStream};
use vnet::{Carrier, LinkConfig, OwnedVnet, SocketInfo, SocketKind, System, TcpState};
use vnet_tap::{NetNs, Tap, TapConfig};
use vnet_tests::skip::without_tap;
use vnet_tests::stream::{Sink, Source};

use super::{KERNEL, PATIENCE, VNET};

/// What goes one way over a bad link.
const AMOUNT: u64 = 400_000;

struct Apart {
    _tap: Tap,
    kernel: NetNs,
    switch: OwnedVnet,
    vnet: OwnedVnet,
}

impl Apart {
    /// `None`, with the reason printed, when they cannot be made here. The kernel's settings are below
    /// `/proc/sys/net/ipv4`.
    fn make(settings: &'static [(&'static str, &'static str)]) -> Option<Apart> {
        let kernel = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
        let probed = kernel.run(vnet_tap::probe);
        probed.map_err(|e| without_tap(&e)).ok()?;
        for (name, value) in settings {
            let path = format!("/proc/sys/net/ipv4/{name}");
            if let Err(error) = kernel.run(move || std::fs::write(path, value)) {
                println!("skipped: the kernel has no {name}={value}: {error}");
                return None;
            }
        }
        let system = System::threads();
        let switch = system.create("switch").unwrap();
        let vnet = system.create("vnet").unwrap();
        let inside = (*switch).clone();
        let tap = kernel
            .run(move || Tap::attach(&inside, "tap0", TapConfig::default()))
            .unwrap();
        switch.bridge("bridge0").unwrap();
        switch.epair("wire", &vnet, "wire").unwrap();
        for member in ["tap0", "wire"] {
            switch.add_member("bridge0", member).unwrap();
        }
        let host = tap.host_name();
        for (theirs, ours, bits) in [(KERNEL[0], VNET[0], 24), (KERNEL[1], VNET[1], 64)] {
            let nodad = if theirs.is_ipv6() { "nodad" } else { "" };
            let command = format!("addr add {theirs}/{bits} dev {host} {nodad}");
            kernel.ip(command.trim()).unwrap();
            vnet.add_address("wire", format!("{ours}/{bits}").parse().unwrap())
                .unwrap();
        }
        kernel.ip(&format!("link set {host} up")).unwrap();
        Some(Apart {
            _tap: tap,
            kernel,
            switch,
            vnet,
        })
    }

    /// Both directions of the link.
    fn set_link(&self, link: &LinkConfig) {
        for end in [&self.switch, &self.vnet] {
            end.set_link("wire", link.clone()).unwrap();
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.vnet.protocol_stats().unwrap().get(name).unwrap()
    }

    /// A connection that the kernel opens: its end, and ours.
    fn by_kernel(&self, address: IpAddr, port: u16) -> (std::net::TcpStream, TcpStream) {
        let at = SocketAddr::new(address, port);
        let listener = TcpListener::bind_in(&self.vnet, at).unwrap();
        listener.set_accept_timeout(Some(PATIENCE)).unwrap();
        let connect = move || std::net::TcpStream::connect_timeout(&at, PATIENCE);
        let theirs = self.kernel.run(connect).unwrap();
        (theirs, listener.accept().unwrap().0)
    }

    /// One that we open.
    fn by_vnet(&self, address: IpAddr, port: u16) -> (std::net::TcpStream, TcpStream) {
        let at = SocketAddr::new(address, port);
        let listen = move || std::net::TcpListener::bind(at);
        let listener = self.kernel.run(listen).unwrap();
        let ours = TcpStream::connect_in(&self.vnet, at).unwrap();
        (listener.accept().unwrap().0, ours)
    }

    /// Data each way at once over a connection, one side of which ends first; what arrives is what was sent, and both see
    /// the end.
    fn exchange(theirs: &std::net::TcpStream, ours: &TcpStream, seed: u64, amount: u64) {
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let [there, back] = [seed, !seed].map(|seed| Source::new(seed, amount));
        thread::scope(|scope| {
            let (sent, received) = (back.clone(), there.clone().summary());
            scope.spawn(move || {
                there.write_to(&mut &*theirs).unwrap();
                theirs.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                sent.write_to(&mut &*ours).unwrap();
                ours.shutdown(Shutdown::Write).unwrap();
            });
            let at_kernel = scope.spawn(move || Sink::read_from(&mut &*theirs).unwrap());
            assert_eq!(Sink::read_from(&mut &*ours).unwrap(), received, "{seed}");
            assert_eq!(at_kernel.join().unwrap(), back.summary(), "{seed}");
        });
    }
}

/// Everything that a network does to frames, and marks of its queue.
fn bad() -> LinkConfig {
    let red = Red {
        min_bytes: 3_000,
        max_bytes: 60_000,
        max_probability: 0.2,
        weight_shift: 0,
        ecn: Ecn::Mark,
    };
    LinkConfig {
        rate_bps: Some(40_000_000),
        delay: Duration::from_millis(3),
        jitter: Jitter::Uniform {
            amplitude: Duration::from_millis(1),
            order: Order::Free,
        },
        loss: 0.01.into(),
        duplicate: 0.01,
        corrupt_undetected: Some(8_000_000),
        queue: QueueConfig {
            discipline: Discipline::Red(red),
            ..QueueConfig::default()
        },
        ..LinkConfig::default()
    }
}

// Several connections at once, each with fates of its own: over both families, opened by either side.
#[test]
fn everything_arrives_over_a_bad_link_whoever_sends() {
    let Some(apart) = Apart::make(&[("tcp_ecn", "1")]) else {
        return;
    };
    apart.vnet.set_sysctl("net.inet.tcp.ecn", "ask").unwrap();
    // Neighbours find each other first: what resolves addresses has no checksum.
    drop(apart.by_kernel(VNET[0], 4999));
    drop(apart.by_kernel(VNET[1], 4999));
    apart.set_link(&bad());
    let apart = &apart;
    thread::scope(|scope| {
        for n in 0..8u16 {
            scope.spawn(move || {
                let (family, port) = (usize::from(n % 2), 5000 + n);
                let (theirs, ours) = match n / 2 % 2 {
                    0 => apart.by_kernel(VNET[family], port),
                    _ => apart.by_vnet(KERNEL[family], port),
                };
                Apart::exchange(&theirs, &ours, port.into(), AMOUNT);
            });
        }
    });
    // Marks reached both, and were heeded.
    assert!(apart.count("tcp.ecn_marks_in") > 0);
    assert!(apart.count("tcp.ecn_reductions") > 0);
    assert!(apart.count("tcp.retransmits") > 0);
}

// RFC 9768 3.1.2: a kernel that knows only RFC 3168, or nothing, answers with that.
#[test]
fn accurate_feedback_falls_back_to_what_the_kernel_knows() {
    for (ecn, settings) in [
        (true, &[("tcp_ecn", "1")] as &[_]),
        (false, &[("tcp_ecn", "0")]),
    ] {
        let Some(apart) = Apart::make(settings) else {
            return;
        };
        apart
            .vnet
            .set_sysctl("net.inet.tcp.ecn", "accurate")
            .unwrap();
        // Each packet that says it may be marked is marked.
        let red = Red {
            min_bytes: 1,
            max_bytes: 2,
            max_probability: 1.0,
            weight_shift: 0,
            ecn: Ecn::Mark,
        };
        let (theirs, ours) = apart.by_vnet(KERNEL[0], 5001);
        apart.set_link(&LinkConfig {
            rate_bps: Some(100_000_000),
            queue: QueueConfig {
                discipline: Discipline::Red(red),
                limit_frames: 2000,
                ..QueueConfig::default()
            },
            ..LinkConfig::default()
        });
        if ecn {
            Apart::exchange(&theirs, &ours, 1, 100_000);
            assert!(apart.count("tcp.ecn_reductions") > 0);
            assert!(apart.count("tcp.ecn_marks_in") > 0);
        } else {
            // Where nothing was agreed, such a queue drops.
            apart.set_link(&LinkConfig::default());
            Apart::exchange(&theirs, &ours, 1, 100_000);
            assert_eq!(apart.count("tcp.ecn_reductions"), 0);
            assert_eq!(apart.count("tcp.ecn_marks_in"), 0);
        }
    }
}

/// A connection that the kernel has begun to open.
fn start_connect(to: SocketAddr) -> std::io::Result<OwnedFd> {
    let family = match to.is_ipv4() {
        true => AddressFamily::INET,
        false => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e.into()),
    }
}

// RFC 4987 3.6
#[test]
fn cookies_of_either_side_open_connections() {
    let Some(apart) = Apart::make(&[("tcp_syncookies", "2")]) else {
        return;
    };
    for (family, (kernel, vnet)) in KERNEL.into_iter().zip(VNET).enumerate() {
        // The kernel answers every SYN with a cookie.
        let (theirs, ours) = apart.by_vnet(kernel, 5001);
        Apart::exchange(&theirs, &ours, 1, AMOUNT);
        // So do we, while a request that nobody completes takes the only place.
        apart
            .vnet
            .set_sysctl("net.inet.tcp.maxhalfopen", 1)
            .unwrap();
        let listener = TcpListener::bind_in(&apart.vnet, (vnet, 5002)).unwrap();
        listener.set_accept_timeout(Some(PATIENCE)).unwrap();
        let deaf = LinkConfig {
            loss: 1.0.into(),
            ..LinkConfig::default()
        };
        apart.vnet.set_link("wire", deaf).unwrap();
        let waits = |s: &SocketInfo| s.kind == SocketKind::Tcp(TcpState::SynReceived);
        // Not awaited: a namespace does one thing at a time.
        let first = apart
            .kernel
            .run(move || start_connect((vnet, 5002).into()))
            .unwrap();
        while !apart.vnet.sockets().unwrap().iter().any(waits) {
            thread::sleep(Duration::from_millis(1));
        }
        apart.vnet.set_link("wire", LinkConfig::default()).unwrap();
        let open = move || std::net::TcpStream::connect_timeout(&(vnet, 5002).into(), PATIENCE);
        let second = apart.kernel.run(open).unwrap();
        // The first one is answered when its SYN comes again, which may be soon.
        let is_second = |from| from == second.local_addr().unwrap();
        let mut others = Vec::new();
        let ours = loop {
            match listener.accept().unwrap() {
                (ours, from) if is_second(from) => break ours,
                (other, _) => others.push(other),
            }
        };
        Apart::exchange(&second, &ours, 2, AMOUNT);
        drop(first);
        assert_eq!(apart.count("tcp.cookies_taken"), family as u64 + 1);
    }
}

// A peer that answers keeps an idle connection; one that is gone is noticed, by keepalive where nothing was sent and by the
// user timeout where something was.
#[test]
fn each_side_keeps_an_idle_connection_and_notices_that_the_other_is_gone() {
    let Some(apart) = Apart::make(&[]) else {
        return;
    };
    let second = Duration::from_secs(1);
    let (idle_theirs, idle_ours) = apart.by_vnet(KERNEL[0], 5001);
    let (busy_theirs, busy_ours) = apart.by_kernel(VNET[0], 5002);
    let keepalive = SocketOptions {
        keepalive: true,
        keepalive_idle: Some(second),
        keepalive_interval: Some(second),
        keepalive_probes: Some(2),
        ..idle_ours.options().unwrap()
    };
    idle_ours.set_options(&keepalive).unwrap();
    let timeout = SocketOptions {
        user_timeout: Some(second),
        ..busy_ours.options().unwrap()
    };
    busy_ours.set_options(&timeout).unwrap();
    sockopt::set_socket_keepalive(&idle_theirs, true).unwrap();
    sockopt::set_tcp_keepidle(&idle_theirs, second).unwrap();
    sockopt::set_tcp_keepintvl(&idle_theirs, second).unwrap();
    sockopt::set_tcp_keepcnt(&idle_theirs, 2).unwrap();
    sockopt::set_tcp_user_timeout(&busy_theirs, 1000).unwrap();
    for stream in [&idle_theirs, &busy_theirs] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    for stream in [&idle_ours, &busy_ours] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // Longer than it takes to notice that nobody answers.
    thread::sleep(Duration::from_millis(3300));
    let mut byte = [0];
    (&idle_theirs).write_all(b"a").unwrap();
    (&idle_ours).read_exact(&mut byte).unwrap();
    (&idle_ours).write_all(&byte).unwrap();
    (&idle_theirs).read_exact(&mut byte).unwrap();
    // Until that is acknowledged: what waits for an acknowledgement is not idle.
    thread::sleep(Duration::from_millis(300));
    apart.set_link(&LinkConfig {
        state: Carrier::Down,
        ..LinkConfig::default()
    });
    (&busy_theirs).write_all(b"b").unwrap();
    (&busy_ours).write_all(b"b").unwrap();
    thread::scope(|scope| {
        let ends: [Box<dyn Read + Send>; 4] = [
            Box::new(idle_theirs),
            Box::new(idle_ours),
            Box::new(busy_theirs),
            Box::new(busy_ours),
        ];
        let all = ends.map(|mut end| scope.spawn(move || end.read(&mut [0])));
        for (n, end) in all.into_iter().enumerate() {
            let error = end.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{n}: {error}");
        }
    });
}
