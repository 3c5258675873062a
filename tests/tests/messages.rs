//! Each vnet has a message buffer: what is said while it is current, or about it, is found there
//! and nowhere else; whatever is locked, and however much is said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use vnet::capture::FrameTap;
use vnet::net::UdpSocket;
use vnet::time::Instant;
use vnet::{Direction, MessageLayer, OwnedVnet, Packet, System, Vnet};

/// What a vnet keeps of messages, as documented.
const MAX_LINES: usize = 1024;
const MAX_LINE: usize = 1024;
const MAX_BYTES: usize = 64 << 10;

/// Runs `f` with everything that is said going to the buffers of `system`.
fn heard<R>(system: &System, f: impl FnOnce() -> R) -> R {
    let subscriber = tracing_subscriber::registry().with(MessageLayer::new(system));
    tracing::subscriber::with_default(subscriber, f)
}

fn two(system: &System) -> [OwnedVnet; 2] {
    ["a", "b"].map(|name| system.create(name).expect("a free name"))
}

fn texts(vnet: &Vnet) -> Vec<String> {
    let lines = vnet.messages().lines;
    lines.into_iter().map(|line| line.text).collect()
}

/// Tests run one at a time: what `tracing` remembers of who listens to a place in the code is the
/// process's, and two that begin and end at once may leave it believing that nobody does.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn what_is_said_goes_to_the_vnet_that_is_current_or_named() {
    let _alone = alone();
    let system = System::manual(1);
    system.poll(Instant::from_nanos(5));
    let [a, b] = two(&system);
    heard(&system, || {
        tracing::info!("about nobody");
        let _in_a = a.enter();
        tracing::warn!(target: "app", port = 80, who = %"me", "bound");
        tracing::info!(vnet = "b", "about b");
        tracing::info!(vnet = %b.name(), seen = ?Some(1));
        tracing::info!(vnet = "z", "about one that is not there");
        {
            let _in_b = b.enter();
            tracing::info!("in b");
        }
        tracing::info!("in a again");
    });
    assert_eq!(
        texts(&a),
        [
            "bound port=80 who=me",
            "about one that is not there",
            "in a again"
        ]
    );
    assert_eq!(texts(&b), ["about b", "seen=Some(1)", "in b"]);
    let first = &a.messages().lines[0];
    assert_eq!(
        (first.level, &*first.target, first.at.as_nanos()),
        (Level::WARN, "app", 5)
    );
    assert_eq!(
        first.to_string(),
        "[0.000000005s] WARN app: bound port=80 who=me"
    );
    assert_eq!(a.take_messages().lines.len(), 3);
    assert!(a.messages().lines.is_empty());
}

#[test]
fn nothing_is_kept_when_nobody_listens_and_other_systems_are_not_heard() {
    let _alone = alone();
    let [one, other] = [1, 2].map(System::virtual_time);
    let ([a, _b], [c, _d]) = (two(&one), two(&other));
    {
        let _in_a = a.enter();
        tracing::error!("nobody listens");
    }
    heard(&one, || {
        let _in_c = c.enter();
        tracing::error!("in another system");
    });
    for vnet in [&a, &c] {
        assert!(vnet.messages().lines.is_empty(), "{}", vnet.messages());
    }
}

#[test]
fn configuration_and_lifecycle_are_told() {
    let _alone = alone();
    let system = System::virtual_time(1);
    let tenant = heard(&system, || {
        let [a, b] = two(&system);
        a.epair("eth0", &b, "eth0").expect("free names");
        a.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix"))
            .expect("free");
        assert!(a.set_ip_mtu("eth9", 1000).is_err());
        assert_eq!(texts(&b), ["created", "epair eth0 to a:eth0"]);
        a.clone()
    });
    let told = texts(&tenant);
    assert_eq!(
        told[..3],
        [
            "created",
            "epair eth0 to b:eth0",
            "add_address eth0 192.0.2.1/24"
        ]
    );
    // It can be read when the vnet is gone.
    assert!(
        told.len() == 4 && told[3].starts_with("destroyed took="),
        "{told:?}"
    );
}

/// Says something while the vnet's lock is held.
struct Chatty;

impl FrameTap for Chatty {
    fn frame(&self, _: Instant, direction: Direction, packet: &Packet) {
        tracing::debug!(len = packet.len(), "{direction:?}");
        tracing::debug!(vnet = "b", "and about the other one");
    }
}

#[test]
fn an_event_under_the_vnets_own_lock_is_no_deadlock() {
    let _alone = alone();
    let system = System::virtual_time(1);
    let [a, b] = two(&system);
    a.epair("eth0", &b, "eth0").expect("free names");
    a.capture("eth0", Arc::new(Chatty)).expect("there");
    heard(&system, || {
        a.add_address("eth0", "192.0.2.1/24".parse().expect("a prefix"))
            .expect("free");
        b.add_address("eth0", "192.0.2.2/24".parse().expect("a prefix"))
            .expect("free");
        let [from, to] = [(&a, "192.0.2.1:7"), (&b, "192.0.2.2:7")]
            .map(|(vnet, at)| UdpSocket::bind_in(vnet, at).expect("free"));
        from.send_to(b"hello", "192.0.2.2:7").expect("a way");
        to.recv_from(&mut [0; 8]).expect("it arrives");
    });
    let told = texts(&a);
    assert!(told.contains(&"Out len=47".to_owned()), "{told:?}");
    assert!(
        told.iter().any(|t| t.starts_with("In len=")),
        "a service has said it: {told:?}"
    );
    assert!(texts(&b).contains(&"and about the other one".to_owned()));
}

#[test]
fn the_buffer_is_bounded_however_much_is_said() {
    let _alone = alone();
    let system = System::virtual_time(1);
    let [a, b] = two(&system);
    heard(&system, || {
        let _in_a = a.enter();
        for n in 0..3 * MAX_LINES {
            tracing::info!(n);
        }
        tracing::info!(long = %"x".repeat(1 << 20), "one long line");
        for _ in 0..1000 {
            tracing::info!(vnet = "b", "{}", "y".repeat(2 * MAX_LINE));
        }
    });
    let held = a.messages();
    assert_eq!(held.lines.len(), MAX_LINES);
    let said = 3 * MAX_LINES + 1;
    assert_eq!(held.lines.len() as u64 + held.dropped, said as u64);
    let last = &held.lines[MAX_LINES - 1].text;
    assert!(
        last.len() <= MAX_LINE && last.starts_with("one long line long=xxx") && last.ends_with('…')
    );
    let held = b.messages();
    let bytes: usize = held
        .lines
        .iter()
        .map(|l| l.text.len() + l.target.len())
        .sum();
    assert!(bytes <= MAX_BYTES && held.dropped > 900);
}

#[test]
fn threads_say_things_while_vnets_come_and_go() {
    let _alone = alone();
    let system = System::threads();
    let subscriber = tracing_subscriber::registry().with(MessageLayer::new(&system));
    let dispatch = tracing::Dispatch::new(subscriber);
    thread::scope(|scope| {
        for t in 0..4 {
            let (system, dispatch) = (&system, &dispatch);
            scope.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || {
                    for n in 0..50 {
                        let name = format!("v{t}-{n}");
                        let vnet = system.create(&name).expect("a free name");
                        let _in_it = vnet.enter();
                        tracing::info!(vnet = &*name, "one");
                        tracing::info!("two");
                        vnet.set_ip_mtu("lo0", 9000).expect("in range");
                        assert_eq!(
                            texts(&vnet),
                            ["created", "one", "two", "set_ip_mtu lo0 9000"]
                        );
                    }
                });
            });
        }
    });
    assert!(system.names().is_empty());
}

/// A value that says something while it is shown.
struct Talks(Vnet);

impl std::fmt::Debug for Talks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .set_ip_mtu("lo0", 1000)
            .map_err(|_| std::fmt::Error)?;
        f.write_str("shown")
    }
}

#[test]
fn a_value_may_use_the_vnet_while_it_is_shown() {
    let _alone = alone();
    let system = System::virtual_time(1);
    let [a, _b] = two(&system);
    heard(&system, || {
        let _in_a = a.enter();
        let value = Talks(a.clone());
        tracing::info!(?value, "here");
    });
    assert!(texts(&a).contains(&"here value=shown".to_owned()));
}
