//! Promise: an instance may be destroyed from inside of anything that it calls; it is done at
//! once, or as soon as it can be, and never waits for itself.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::net::UdpSocket;
use vnet::{
    CreateError, DestroyReport, Direction, InitRecord, Outcome, OwnedVnet, Packet, SocketError,
    Stage, System, Vnet, vnet_local,
};
use vnet_tests::accounts::assert_clean;
use vnet_tests::topology::{pair, vnet};

/// Destroys an instance once, from wherever it is called.
struct Destroyer {
    victim: Mutex<Option<OwnedVnet>>,
    reports: Mutex<Vec<DestroyReport>>,
}

impl Destroyer {
    fn of(victim: OwnedVnet) -> Arc<Destroyer> {
        Arc::new(Destroyer {
            victim: Mutex::new(Some(victim)),
            reports: Mutex::default(),
        })
    }

    fn strike(&self) {
        let victim = self.victim.lock().unwrap().take();
        if let Some(victim) = victim {
            let report = victim.destroy();
            self.reports.lock().unwrap().push(report);
        }
    }

    /// What the one call returned.
    fn outcome(&self) -> Outcome {
        let reports = self.reports.lock().unwrap();
        assert_eq!(reports.len(), 1);
        reports[0].outcome
    }
}

impl FrameTap for Destroyer {
    fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {
        self.strike();
    }
}

fn systems() -> [System; 3] {
    [
        System::manual(1),
        System::virtual_time(1),
        System::threads(),
    ]
}

/// Waits until a vnet is gone, under any driver.
fn wait_until_gone(system: &System, name: &str) {
    for _ in 0..5_000 {
        if system.vnet(name).is_none() && system.create(name).is_ok() {
            return;
        }
        system.poll(system.now() + Duration::from_millis(1));
        let _ = system.sleep(Duration::from_millis(1));
    }
    panic!("{name} is still there");
}

#[test]
fn a_capture_may_destroy_the_vnet_that_it_watches() {
    for system in systems() {
        let (a, b) = pair(&system);
        let socket = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        let handle = Vnet::clone(&b);
        // On the way in of b, whoever services it; and on the way out of a, in the sender's call.
        let into_b = Destroyer::of(b);
        handle
            .capture("eth0", Arc::<Destroyer>::clone(&into_b))
            .unwrap();
        let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let _ = client.send_to(b"die", "10.0.0.2:7");
        wait_until_gone(&system, "b");
        assert_eq!(into_b.outcome(), Outcome::Deferred);
        assert!(SocketError::is_gone(
            &socket.recv_from(&mut [0; 8]).unwrap_err()
        ));
        let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        let handle = Vnet::clone(&a);
        let _port = handle.port("tap0", None).unwrap();
        let out_of_a = Destroyer::of(a);
        handle
            .capture("tap0", Arc::<Destroyer>::clone(&out_of_a))
            .unwrap();
        // The address is announced, in the very call that gives it.
        let _ = handle.add_address("tap0", "192.0.2.1/24".parse().unwrap());
        wait_until_gone(&system, "a");
        assert_eq!(out_of_a.outcome(), Outcome::Deferred);
        assert!(SocketError::is_gone(
            &socket.recv_from(&mut [0; 8]).unwrap_err()
        ));
    }
}

#[test]
fn a_capture_may_destroy_another_vnet_and_ask_strictly_and_gracefully() {
    /// Tries the ways that can say no, then drops the owner.
    struct Polite(Mutex<Option<OwnedVnet>>, Mutex<Vec<String>>);
    impl FrameTap for Polite {
        fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {
            let Some(victim) = self.0.lock().unwrap().take() else {
                return;
            };
            let mut said = self.1.lock().unwrap();
            let (victim, pins) = victim
                .try_destroy()
                .expect_err("it is pinned by this very call");
            said.push(pins.to_string());
            let refused = victim
                .shutdown(Duration::from_secs(1))
                .expect_err("nor can it wait");
            said.push(refused.to_string());
            drop(refused);
        }
    }
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let other = vnet(&system, "other");
    let polite = Arc::new(Polite(Mutex::new(Some(other)), Mutex::default()));
    a.capture("eth0", Arc::<Polite>::clone(&polite)).unwrap();
    a.add_address("eth0", "10.0.0.9/24".parse().unwrap())
        .unwrap();
    let said = polite.1.lock().unwrap().clone();
    assert!(said[0].contains("vnet other is pinned by 1"), "{said:?}");
    assert!(said[1].contains("cannot wait"), "{said:?}");
    assert_eq!(
        system.names(),
        ["a", "b"],
        "gone when the call that it was in returned"
    );
    assert_clean(&a.destroy());
    assert_clean(&b.destroy());
}

#[test]
fn the_destructor_of_a_capture_may_destroy_its_vnet_or_another() {
    struct Last(Mutex<Option<OwnedVnet>>, Arc<Mutex<Vec<Outcome>>>);
    impl FrameTap for Last {
        fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            let victim = self.0.lock().unwrap().take();
            let outcome = victim.map(|v| v.destroy().outcome);
            self.1.lock().unwrap().extend(outcome);
        }
    }
    for system in systems() {
        let (a, b) = pair(&system);
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let at_a = Vnet::clone(&a);
        let last = |victim| Arc::new(Last(Mutex::new(Some(victim)), Arc::clone(&outcomes)));
        at_a.port("tap0", None).unwrap();
        at_a.capture("tap0", last(b)).unwrap();
        at_a.capture("eth0", last(a)).unwrap();
        // Removal drops the capture, and that b; b's end of the wire drops nothing.
        at_a.remove_interface("tap0").unwrap();
        assert!(system.vnet("b").is_none());
        at_a.remove_interface("eth0").unwrap();
        assert!(system.vnet("a").is_none());
        assert!(outcomes.lock().unwrap().len() == 2);
        assert_eq!(system.names(), [""; 0]);
    }
}

#[test]
#[should_panic(expected = "must not call any vnet")]
fn a_capture_that_calls_a_vnet_panics_with_an_explanation_and_does_not_hang() {
    struct Caller(Vnet);
    impl FrameTap for Caller {
        fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {
            let _ = self.0.interfaces();
        }
    }
    let system = System::manual(1);
    let a = vnet(&system, "a");
    a.port("eth0", None).unwrap();
    a.capture("eth0", Arc::new(Caller(a.clone()))).unwrap();
    let _ = a.add_address("eth0", "10.0.0.9/24".parse().unwrap());
}

/// Not only what changes a vnet: what only looks at one must not wait for the lock either.
#[test]
fn a_capture_that_reads_counters_panics_with_the_same_explanation() {
    struct Reader(Vnet, Mutex<Vec<String>>);
    impl FrameTap for Reader {
        fn frame(&self, _: vnet::time::Instant, _: Direction, _: &Packet) {
            let reads: [&dyn Fn() -> bool; 3] = [
                &|| self.0.stats().is_ok(),
                &|| self.0.system().fingerprint().is_some(),
                &|| self.0.system().names().is_empty(),
            ];
            for read in reads {
                let panic = panic::catch_unwind(AssertUnwindSafe(read)).unwrap_err();
                let text = panic.downcast_ref::<&str>().unwrap_or(&"no text");
                self.1.lock().unwrap().push((*text).to_owned());
            }
        }
    }
    let system = System::manual(1);
    system.record_fingerprint();
    let a = vnet(&system, "a");
    a.port("eth0", None).unwrap();
    let reader = Arc::new(Reader(a.clone(), Mutex::default()));
    a.capture("eth0", Arc::clone(&reader) as Arc<dyn FrameTap>)
        .unwrap();
    a.add_address("eth0", "10.0.0.9/24".parse().unwrap())
        .unwrap();
    let said = reader.1.lock().unwrap();
    assert_eq!(said.len(), 3, "it is announced once");
    for text in &*said {
        assert!(text.contains("must not call any vnet"), "{text}");
    }
}

static STRIKES: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());

struct Suicidal(Option<OwnedVnet>);

impl Drop for Suicidal {
    fn drop(&mut self) {
        if let Some(victim) = self.0.take() {
            let outcome = victim.destroy().outcome;
            STRIKES.lock().unwrap().push(outcome);
        }
    }
}

vnet_local! {
    static KEEPER: Mutex<Vec<Suicidal>> = Mutex::new(Vec::new());
}

#[test]
fn a_variables_destructor_may_destroy_its_own_instance_and_others() {
    for system in systems() {
        STRIKES.lock().unwrap().clear();
        let (a, b, c) = (vnet(&system, "a"), vnet(&system, "b"), vnet(&system, "c"));
        let tenant = Vnet::clone(&a);
        let keep = |at: &Vnet, what| {
            let kept = KEEPER.of(at, |k| k.lock().unwrap().push(Suicidal(Some(what))));
            kept.unwrap();
        };
        let in_b = Vnet::clone(&b);
        // b goes with a, and b's variable has c; a's owner is in a variable of a itself.
        keep(&in_b, c);
        keep(&tenant, b);
        let handle = Vnet::clone(&tenant);
        let parent = a.create_child("d").unwrap();
        let in_d = Vnet::clone(&parent);
        keep(&in_d, a);
        // The child's teardown destroys its parent, which is to destroy its children first.
        assert_clean(&parent.destroy());
        assert_eq!(system.names(), [""; 0]);
        assert!(handle.interfaces().is_err());
        let strikes = STRIKES.lock().unwrap().clone();
        assert_eq!(strikes, [Outcome::Destroyed; 3]);
    }
}

#[test]
fn the_steps_of_a_child_may_destroy_its_parent_on_the_way_up_and_on_the_way_down() {
    for (way, system) in [0, 1]
        .into_iter()
        .flat_map(|way| systems().map(|s| (way, s)))
    {
        let parent = vnet(&system, "parent");
        let tenant = Vnet::clone(&parent);
        let holder = Arc::new(Mutex::new(Some(parent)));
        let late = Arc::clone(&holder);
        let on = move |at: usize| {
            let late = Arc::clone(&late);
            move |vnet: &Vnet| {
                if at == way && vnet.name() == "parent.child" {
                    let victim = late.lock().unwrap().take();
                    drop(victim);
                }
                Ok(())
            }
        };
        system
            .register(InitRecord::new("late", Stage::Services, 0, on(0), on(1)))
            .unwrap();
        let child = tenant.create_child("child");
        match way {
            0 => assert!(matches!(child, Err(CreateError::Gone))),
            _ => assert_clean(&child.unwrap().destroy()),
        }
        assert!(holder.lock().unwrap().is_none(), "it was used");
        assert_eq!(system.names(), [""; 0]);
        assert_clean(&vnet(&system, "parent").destroy());
    }
}

#[derive(Default)]
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker of the program");
    }
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_that_panics_does_not_keep_the_others_from_being_woken() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let sockets: Vec<UdpSocket> = (0..9)
        .map(|n| UdpSocket::bind_in(&a, ("127.0.0.1", 7000 + n)).unwrap())
        .collect();
    let (bad, good) = (Arc::new(Panics::default()), Arc::new(Counts::default()));
    for (n, socket) in sockets.iter().enumerate() {
        let waker = match n % 3 {
            0 => Waker::from(Arc::clone(&bad)),
            _ => Waker::from(Arc::clone(&good)),
        };
        let mut task = Context::from_waker(&waker);
        assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
    }
    let out = UdpSocket::bind_in(&a, "127.0.0.1:0").unwrap();
    for n in 0..9 {
        out.send_to(b"x", ("127.0.0.1", 7000 + n)).unwrap();
    }
    // All nine datagrams come in with one entry.
    let poll = || system.poll(system.now());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).unwrap_err();
    assert_eq!(panicked.downcast_ref(), Some(&"a waker of the program"));
    assert_eq!(bad.0.load(Ordering::SeqCst), 3);
    assert_eq!(good.0.load(Ordering::SeqCst), 6);
    for socket in &sockets {
        assert_eq!(socket.recv_from(&mut [0; 8]).unwrap().0, 1);
    }
    // At teardown, too: it is noted, and the walk goes on.
    for socket in &sockets[..2] {
        let waker = Waker::from(Arc::clone(&bad));
        let mut task = Context::from_waker(&waker);
        assert!(socket.poll_recv_from(&mut task, &mut [0; 8]).is_pending());
    }
    let report = a.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    assert_eq!(bad.0.load(Ordering::SeqCst), 5);
    let failed: Vec<_> = report
        .steps
        .iter()
        .filter(|s| s.failure.is_some())
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].name, "udp");
}
