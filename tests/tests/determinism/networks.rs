//! Random networks, traffic, and what a program does meanwhile: whatever can be seen of a run is the same in the next one.

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use vnet::capture::FrameTap;
use vnet::link::{Codel, Discipline, Jitter, Order, QueueConfig, Reorder};
use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{
    AdminState, Direction, Forwarding, LinkConfig, NextHop, OwnedVnet, Packet, Pending, Resource,
    RunError, RunLimit, System, TaskHandle, Usage, VirtualConfig, Vnet,
};

/// A network of routers in a ring, and what happens in it.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    links: Vec<Kind>,
    /// A host without a delay at a router.
    hosts: Vec<usize>,
    flows: Vec<Flow>,
    acts: Vec<(u64, Act)>,
}

/// What a link is like.
#[derive(Clone, Copy, Debug)]
struct Kind {
    delay_us: u64,
    rate: Option<u64>,
    loss: f64,
    odd: Odd,
}

#[derive(Clone, Copy, Debug)]
enum Odd {
    No,
    Jitter,
    Reorder,
    Codel,
    Twice,
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
struct Flow {
    from: usize,
    to: usize,
    what: What,
    family: Version,
    begin_us: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Udp {
        count: u32,
        size: usize,
        every_us: u64,
    },
    Tcp {
        bytes: usize,
    },
    Ping {
        count: u16,
    },
    Panic,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Four,
    Six,
}

/// What the program does between two parts of a run.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Slow(usize),
    Fast(usize),
    Down(usize),
    Up(usize),
    Cut(usize),
    Destroy(usize),
    Watch(usize),
    Panicking(usize),
    Limit(usize),
    Blocking(usize),
    Thread(usize),
    Join,
}

/// Notes every frame that it sees.
struct Noted(Mutex<Vec<String>>);

impl FrameTap for Noted {
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet) {
        let bytes = packet.to_vec();
        self.0
            .lock()
            .expect("nobody panics with it")
            .push(format!("{at} {direction:?} {bytes:?}"));
    }
}

/// Panics at the third frame.
struct Panics(Mutex<u32>);

impl FrameTap for Panics {
    fn frame(&self, _: Instant, _: Direction, _: &Packet) {
        let mut seen = self.0.lock().expect("nobody panics with it");
        *seen += 1;
        let many = *seen >= 3;
        drop(seen);
        assert!(!many, "planted: a tap");
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    let odd = prop_oneof![
        8 => Just(Odd::No),
        1 => Just(Odd::Jitter),
        1 => Just(Odd::Reorder),
        1 => Just(Odd::Codel),
        1 => Just(Odd::Twice),
    ];
    let delay =
        prop_oneof![1 => Just(0), 2 => Just(1), 4 => Just(1000), 4 => Just(5000), 2 => 1u64..9000];
    let rate = prop_oneof![Just(None), Just(Some(1_000_000)), Just(Some(50_000_000))];
    let loss = prop_oneof![3 => Just(0.0), 1 => Just(0.05)];
    (delay, rate, loss, odd).prop_map(|(delay_us, rate, loss, odd)| Kind {
        delay_us,
        rate,
        loss,
        odd,
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let what = prop_oneof![
        3 => (1u32..60, 1usize..3000, prop_oneof![Just(0u64), Just(1000), 1u64..3000])
            .prop_map(|(count, size, every_us)| What::Udp { count, size, every_us }),
        3 => (1usize..200_000).prop_map(|bytes| What::Tcp { bytes }),
        1 => (1u16..10).prop_map(|count| What::Ping { count }),
        1 => Just(What::Panic),
    ];
    let family = prop_oneof![Just(Version::Four), Just(Version::Six)];
    let begin = prop_oneof![Just(0), Just(1000), 0u64..50_000];
    (any::<usize>(), any::<usize>(), what, family, begin).prop_map(
        |(from, to, what, family, begin_us)| Flow {
            from,
            to,
            what,
            family,
            begin_us,
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    let of = |f: fn(usize) -> Act| any::<usize>().prop_map(f);
    prop_oneof![
        6 => Just(Act::Nothing),
        1 => of(Act::Slow),
        1 => of(Act::Fast),
        1 => of(Act::Down),
        1 => of(Act::Up),
        1 => of(Act::Cut),
        1 => of(Act::Destroy),
        1 => of(Act::Watch),
        1 => of(Act::Panicking),
        1 => of(Act::Limit),
        1 => of(Act::Blocking),
        1 => of(Act::Thread),
        1 => Just(Act::Join),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        any::<u64>(),
        prop::collection::vec(kind(), 2..7),
        prop::collection::vec(any::<usize>(), 0..3),
        prop::collection::vec(flow(), 1..9),
        prop::collection::vec((1u64..200_000, act()), 1..6),
    )
        .prop_map(|(seed, links, hosts, flows, acts)| Case {
            seed,
            links,
            hosts,
            flows,
            acts,
        })
}

fn config(kind: Kind) -> LinkConfig {
    let plain = LinkConfig {
        delay: Duration::from_micros(kind.delay_us),
        rate_bps: kind.rate,
        loss: kind.loss.into(),
        ..LinkConfig::default()
    };
    match kind.odd {
        Odd::No => plain,
        Odd::Jitter => LinkConfig {
            jitter: Jitter::Uniform {
                amplitude: Duration::from_micros(700),
                order: Order::Free,
            },
            ..plain
        },
        Odd::Reorder => LinkConfig {
            reorder: Reorder {
                probability: 0.1,
                gap: 1,
            },
            ..plain
        },
        Odd::Codel => LinkConfig {
            queue: QueueConfig {
                discipline: Discipline::Codel(Codel::default()),
                ..QueueConfig::frames(50)
            },
            ..plain
        },
        Odd::Twice => LinkConfig {
            duplicate: 0.1,
            ..plain
        },
    }
}

/// Routers in a ring; each knows the shorter way to the address of each other.
fn ring(system: &System, links: &[Kind]) -> Vec<OwnedVnet> {
    let count = links.len();
    let routers: Vec<OwnedVnet> = (0..count)
        .map(|n| system.create(&format!("r{n}")).expect("a free name"))
        .collect();
    for (n, kind) in links.iter().enumerate() {
        let (near, far) = (&routers[n], &routers[(n + 1) % count]);
        near.epair("right", far, "left").expect("free names");
        for (router, name, own) in [(near, "right", 1), (far, "left", 2)] {
            let four = format!("10.1.{n}.{own}/30").parse().expect("an address");
            let six = format!("2001:db8:1:{n}::{own}/64").parse().expect("one");
            router.add_address(name, four).expect("free");
            router.add_address(name, six).expect("free");
            router.set_link(name, config(*kind)).expect("a link");
        }
    }
    for (n, router) in routers.iter().enumerate() {
        router.set_forwarding(Forwarding::Enabled).expect("alive");
        let four = format!("10.9.{n}.1/32").parse().expect("an address");
        let six = format!("2001:db8:9:{n}::1/128").parse().expect("one");
        router.add_address("lo0", four).expect("free");
        router.add_address("lo0", six).expect("free");
        let before = (n + count - 1) % count;
        // The link by which the way to another router begins, and which end of it the neighbour has.
        let towards = |other: usize| match (other + count - n) % count <= count / 2 {
            true => (n, 2),
            false => (before, 1),
        };
        for other in (0..count).filter(|other| *other != n) {
            let (link, own) = towards(other);
            let ways = [
                (format!("10.9.{other}.0/24"), format!("10.1.{link}.{own}")),
                (
                    format!("2001:db8:9:{other}::/64"),
                    format!("2001:db8:1:{link}::{own}"),
                ),
            ];
            add_routes(router, ways);
        }
        // Answers of a router have the address of the link by which they leave.
        for of in (0..count).filter(|of| *of != n && *of != before) {
            let (link, own) = towards(of);
            let ways = [
                (format!("10.1.{of}.0/30"), format!("10.1.{link}.{own}")),
                (
                    format!("2001:db8:1:{of}::/64"),
                    format!("2001:db8:1:{link}::{own}"),
                ),
            ];
            add_routes(router, ways);
        }
    }
    routers
}

fn add_routes(router: &Vnet, ways: [(String, String); 2]) {
    for (to, by) in ways {
        let gateway = NextHop::Gateway(by.parse().expect("an address"));
        let to = to.parse().expect("a prefix");
        router.add_route(to, gateway).expect("a neighbour");
    }
}

/// Hosts that are joined to a router without a delay.
fn hosts(system: &System, routers: &[OwnedVnet], at: &[usize]) -> Vec<OwnedVnet> {
    let host = |(n, at): (usize, &usize)| {
        let host = system.create(&format!("h{n}")).expect("a free name");
        let at = at % routers.len();
        let router = &routers[at];
        router
            .epair(&format!("host{n}"), &host, "eth0")
            .expect("free names");
        let own = format!("10.9.{at}.{}/30", 4 * n + 6);
        let gateway = format!("10.9.{at}.{}", 4 * n + 5);
        host.add_address("eth0", own.parse().expect("an address"))
            .expect("free");
        let its = format!("{gateway}/30").parse().expect("an address");
        router.add_address(&format!("host{n}"), its).expect("free");
        let all = "0.0.0.0/0".parse().expect("a prefix");
        let gateway = NextHop::Gateway(gateway.parse().expect("an address"));
        host.add_route(all, gateway).expect("a neighbour");
        host
    };
    at.iter().enumerate().map(host).collect()
}

type Told = TaskHandle<Vec<String>>;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

async fn receive(
    clock: &System,
    vnet: &Vnet,
    what: What,
    local: SocketAddr,
    told: &mut Vec<String>,
) -> io::Result<()> {
    let mut room = vec![0; 10_000];
    match what {
        What::Ping { .. } | What::Panic => Ok(()),
        What::Udp { .. } => {
            let socket = UdpSocket::bind_in(vnet, local)?;
            loop {
                let received = poll_fn(|cx| socket.poll_recv_from(cx, &mut room));
                let (len, who) = clock.timeout(PATIENCE, received).await??;
                told.push(format!("{} {len} {} {who}", clock.now(), room[0]));
            }
        }
        What::Tcp { .. } => {
            let listener = TcpListener::bind_in(vnet, local)?;
            let accepted = poll_fn(|cx| listener.poll_accept(cx));
            let (stream, who) = clock.timeout(2 * PATIENCE, accepted).await??;
            told.push(format!("{} {who}", clock.now()));
            loop {
                let read = poll_fn(|cx| stream.poll_read(cx, &mut room));
                match clock.timeout(2 * PATIENCE, read).await?? {
                    0 => return Ok(()),
                    len => told.push(format!("{} {len}", clock.now())),
                }
            }
        }
    }
}

async fn send(
    clock: &System,
    vnet: &Vnet,
    what: What,
    any: SocketAddr,
    to: SocketAddr,
    told: &mut Vec<String>,
) -> io::Result<()> {
    match what {
        What::Udp {
            count,
            size,
            every_us,
        } => {
            let socket = UdpSocket::bind_in(vnet, any)?;
            for n in 0..count {
                let sent = socket.send_to(&vec![n as u8; size], to);
                told.push(format!("{sent:?}"));
                if every_us > 0 {
                    clock.sleep_async(Duration::from_micros(every_us)).await;
                }
            }
        }
        What::Tcp { bytes } => {
            let stream = TcpStream::start_connect_in(vnet, to)?;
            let connected = poll_fn(|cx| stream.poll_connect(cx));
            clock.timeout(PATIENCE, connected).await??;
            let (data, mut sent) = (vec![7; bytes], 0);
            while sent < bytes {
                let part = &data[sent..bytes.min(sent + 5000)];
                let wrote = poll_fn(|cx| stream.poll_write(cx, part));
                sent += clock.timeout(PATIENCE, wrote).await??;
                told.push(format!("{} {sent}", clock.now()));
            }
        }
        What::Panic => panic!("planted: a task"),
        What::Ping { count } => {
            let socket = EchoSocket::bind_in(vnet)?;
            for n in 0..count {
                told.push(format!("{:?}", socket.send_to(n, &[1; 20], to.ip())));
                let answer = poll_fn(|cx| socket.poll_recv(cx));
                let answer = clock.timeout(PATIENCE / 10, answer).await;
                told.push(format!("{answer:?}"));
            }
        }
    }
    Ok(())
}

/// The tasks at both ends of a flow.
fn start(system: &System, n: usize, flow: Flow, from: &Vnet, to: &Vnet, at: usize) -> Vec<Told> {
    let any: SocketAddr = match flow.family {
        Version::Four => "0.0.0.0:0",
        Version::Six => "[::]:0",
    }
    .parse()
    .expect("an address");
    let port = 5000 + n as u16;
    let dst: SocketAddr = match flow.family {
        Version::Four => format!("10.9.{at}.1:{port}"),
        Version::Six => format!("[2001:db8:9:{at}::1]:{port}"),
    }
    .parse()
    .expect("an address");
    let local = SocketAddr::new(any.ip(), port);
    let (clock, later) = (system.clone(), system.clone());
    let (near, far) = (from.clone(), to.clone());
    let begin = system.sleep_async(Duration::from_micros(flow.begin_us));
    let receiver = async move {
        let mut told = Vec::new();
        let end = receive(&later, &far, flow.what, local, &mut told).await;
        told.push(format!("{} {end:?}", later.now()));
        told
    };
    let sender = async move {
        begin.await;
        let mut told = vec![format!("{}", clock.now())];
        let end = send(&clock, &near, flow.what, any, dst, &mut told).await;
        told.push(format!("{} {end:?}", clock.now()));
        told
    };
    vec![to.spawn_future(receiver), from.spawn_future(sender)]
}

/// Everything that can be seen of a run; the second part depends on how many threads carry it out. Last, how many
/// events several threads have carried out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen(String, String, u64);

impl Seen {
    fn note(&mut self, what: impl std::fmt::Debug) {
        writeln!(self.0, "{what:?}").expect("a string has room");
    }

    fn note_of_threads(&mut self, what: impl std::fmt::Debug) {
        writeln!(self.1, "{what:?}").expect("a string has room");
    }

    /// Of what happened last at one time in vnets that are apart, nothing comes first.
    fn note_pending(&mut self, mut pending: Pending) {
        self.note_of_threads(pending.to_string());
        pending.recent.clear();
        self.note(pending.to_string());
    }

    fn note_run(&mut self, run: Result<u64, RunError>) {
        match run {
            Err(RunError::Time { limit, pending }) => {
                self.note(limit);
                self.note_pending(*pending);
            }
            run => self.note(run.map_err(|e| e.to_string())),
        }
    }
}

/// What `f` says, unless it panics.
fn caught<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// How a vnet has ended.
fn ended(vnet: OwnedVnet) -> String {
    let report = vnet.destroy();
    let (released, leaked) = (report.released.to_string(), report.leaked.to_string());
    let failure = &report.failure;
    format!("{:?} {released} {leaked} {failure:?}", report.outcome)
}

fn run(case: &Case, threads: usize) -> Seen {
    let config = VirtualConfig {
        threads,
        ..VirtualConfig::default()
    };
    let system = System::virtual_time_with(case.seed, config);
    system.record_fingerprint();
    let routers = ring(&system, &case.links);
    let hosts = hosts(&system, &routers, &case.hosts);
    let count = routers.len();
    let mut seen = Seen::default();
    let mut told = Vec::new();
    for (n, flow) in case.flows.iter().enumerate() {
        let (from, to) = (flow.from % (count + hosts.len()), flow.to % count);
        let from: &Vnet = match from < count {
            true => &routers[from],
            false => &hosts[from - count],
        };
        told.push(start(&system, n, *flow, from, &routers[to], to));
    }
    let mut vnets: Vec<Option<OwnedVnet>> = routers.into_iter().chain(hosts).map(Some).collect();
    let mut taps = Vec::new();
    let mut threads = Vec::new();
    for (us, act) in &case.acts {
        let events = system.run_for(Duration::from_micros(*us));
        seen.note((system.now(), events.ok()));
        // The panic of a callback is that of whoever's call it was called in.
        let done = caught(|| {
            let pick = |n: &usize| vnets[n % count].as_deref();
            match act {
                Act::Nothing => {}
                Act::Slow(n) | Act::Fast(n) => {
                    let delay = Duration::from_micros(if matches!(act, Act::Slow(_)) {
                        9000
                    } else {
                        10
                    });
                    let link = LinkConfig {
                        delay,
                        ..LinkConfig::default()
                    };
                    seen.note(pick(n).map(|v| v.set_link("right", link)));
                }
                Act::Down(n) => seen.note(pick(n).map(|v| v.set_up("right", AdminState::Down))),
                Act::Up(n) => seen.note(pick(n).map(|v| v.set_up("right", AdminState::Up))),
                Act::Cut(n) => seen.note(pick(n).map(|v| v.remove_interface("left"))),
                Act::Destroy(n) => {
                    let gone = vnets[n % count].take();
                    seen.note(gone.map(ended));
                }
                Act::Watch(n) => {
                    let tap = Arc::new(Noted(Mutex::new(Vec::new())));
                    let watched = pick(n).map(|v| v.capture("left", tap.clone()));
                    seen.note(watched);
                    taps.push(tap);
                }
                Act::Panicking(n) => {
                    let tap = Arc::new(Panics(Mutex::new(0)));
                    seen.note(pick(n).map(|v| v.capture("right", tap)));
                }
                Act::Limit(n) => {
                    let vnet = vnets[n % count].as_ref();
                    seen.note(vnet.map(|v| v.set_limit(Resource::QueuedPackets, 8)));
                }
                Act::Blocking(n) => {
                    let tried = pick(n).map(|v| {
                        let socket = UdpSocket::bind_in(v, "0.0.0.0:9")?;
                        socket.set_read_timeout(Some(Duration::from_millis(3)))?;
                        socket.recv(&mut [0; 8])
                    });
                    seen.note(tried.map(|t| t.map_err(|e| e.kind())));
                }
                Act::Thread(n) => {
                    let clock = system.clone();
                    let thread = pick(n).map(|v| {
                        v.spawn(move || {
                            let socket = UdpSocket::bind("0.0.0.0:5001").map_err(|e| e.kind())?;
                            let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
                            let received = socket.recv(&mut [0; 4000]).map_err(|e| e.kind());
                            received.map(|len| (len, clock.now()))
                        })
                    });
                    threads.extend(thread);
                }
                Act::Join => {
                    if let Some(handles) = told.pop() {
                        handles
                            .into_iter()
                            .for_each(|h| seen.note(h.join().map_err(|e| e.to_string())));
                    }
                }
            }
        });
        seen.note(done);
    }
    let idle = system.run_until_idle(RunLimit::time(Duration::from_secs(20)));
    seen.note_run(idle);
    seen.note_pending(system.pending());
    for thread in threads {
        let told = thread.expect("a thread").join();
        seen.note(told.map_err(|_| "it has panicked"));
    }
    for handle in told.into_iter().flatten() {
        seen.note(caught(|| handle.abort()));
        seen.note(handle.join().map_err(|e| e.to_string()));
    }
    for vnet in vnets.iter().flatten() {
        seen.note((
            vnet.name(),
            vnet.stats(),
            vnet.pending(),
            vnet.callback_panics(),
        ));
        // The most that an inbox has held at once: on several threads frames come into it later.
        let is_exact = |usage: &&Usage| usage.resource != Resource::QueuedPackets;
        let usages = vnet.usages().expect("alive");
        seen.note(usages.iter().filter(is_exact).collect::<Vec<_>>());
        seen.note_of_threads(usages);
        for interface in vnet.interfaces().expect("alive") {
            let link = vnet.link_stats(&interface.name).ok();
            seen.note((interface.name, interface.counters, link));
        }
    }
    for tap in taps {
        seen.note(&*tap.0.lock().expect("nobody panics with it"));
    }
    seen.note(system.fingerprint());
    seen.note(system.now());
    seen.2 = system.parallel().events;
    for vnet in vnets.into_iter().flatten() {
        seen.note(caught(|| ended(vnet)));
    }
    seen
}

/// The first line in which two runs differ.
fn difference(a: &Seen, b: &Seen) -> String {
    let lines = |seen: &Seen| format!("{}{}", seen.0, seen.1);
    let (a, b) = (lines(a), lines(b));
    let mut lines = a.lines().zip(b.lines()).enumerate();
    let differs = lines.find(|(_, (a, b))| a != b);
    match differs {
        Some((n, (a, b))) => {
            let from = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
            let part = |s: &str| {
                s.chars()
                    .skip(from.saturating_sub(80))
                    .take(300)
                    .collect::<String>()
            };
            format!("line {n}\n  {}\n  {}", part(a), part(b))
        }
        None => "the lengths".to_owned(),
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: ProptestConfig::default().cases.div_ceil(10),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Threads, tasks, vnets that end and callbacks that panic included.
    #[test]
    fn the_next_run_of_a_random_network_is_the_same(case in case()) {
        let (one, two) = (run(&case, 1), run(&case, 1));
        prop_assert!(one == two, "{}", difference(&one, &two));
    }
}

/// How many threads carry it out makes no difference.
#[test]
fn a_random_network_is_the_same_on_several_threads() {
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..cases()
    });
    let (divided, events) = (Cell::new(0), Cell::new(0));
    let done = runner.run(&(case(), 2usize..4), |(case, threads)| {
        let (one, several) = (run(&case, 1), run(&case, threads));
        prop_assert_eq!(one.2, 0);
        prop_assert!(one.0 == several.0, "{}", difference(&one, &several));
        divided.set(divided.get() + u64::from(several.2 > 0));
        events.set(events.get() + several.2);
        Ok(())
    });
    done.unwrap_or_else(|e| panic!("{e}"));
    println!("{} were divided; {} events", divided.get(), events.get());
    // Builds without assertions divide only what pays.
    assert!(divided.get() > 0 || !cfg!(debug_assertions));
}

/// The comparison above is one of something.
#[test]
fn a_run_by_another_seed_is_another_one() {
    let lossy = Kind {
        delay_us: 1000,
        rate: Some(50_000_000),
        loss: 0.05,
        odd: Odd::No,
    };
    let flow = |n| Flow {
        from: n,
        to: n + 2,
        what: What::Tcp { bytes: 100_000 },
        family: match n % 2 {
            0 => Version::Four,
            _ => Version::Six,
        },
        begin_us: 0,
    };
    let case = |seed| Case {
        seed,
        links: vec![lossy; 5],
        hosts: vec![0],
        flows: (0..5).map(flow).collect(),
        acts: vec![(50_000, Act::Destroy(4)), (300_000, Act::Thread(1))],
    };
    let one = run(&case(1), 1);
    assert!(one.0.len() > 10_000, "{}", one.0.len());
    assert_ne!(one, run(&case(2), 1));
    assert_eq!(one, run(&case(1), 1));
}
