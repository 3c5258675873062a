//! What two threads of one vnet send at once, and the end of a stack while others use it.

use super::*;
use crate::instance::Failure;
use crate::instance::entry::LATE;
use crate::netif::AdminState;
use crate::packet::Packet;
use crate::packet::cx::Carrier;

fn finds_late_queues(scenario: impl Fn() -> Scenario) {
    let planted = Explorer {
        planted: Some(LATE),
        ..preemptions(2)
    };
    let found = planted.explore(scenario);
    assert!(found.is_err(), "{found:?}");
}

/// Two threads put one interface out of use and in use again: the far end believes the later one.
fn up_and_down() -> Scenario {
    let system = System::manual(1);
    let (a, b) = (create(&system, "a"), create(&system, "b"));
    a.epair("eth0", &b, "eth0").expect("free names");
    system.poll(system.now());
    let set = |state| -> Thread {
        let a = Vnet::owner(Arc::clone(&a.core));
        Box::new(move || a.set_up("eth0", state).expect("it is there"))
    };
    Scenario {
        threads: vec![set(AdminState::Down), set(AdminState::Up)],
        check: Box::new(move || {
            system.poll(system.now());
            let [near, far] = [&a, &b].map(|v| v.interfaces().expect("alive").remove(1));
            let is_up = near.admin == AdminState::Up;
            assert_eq!(far.carrier == Carrier::Up, is_up);
        }),
    }
}

#[test]
fn news_of_one_interface_from_two_threads() {
    holds(preemptions(3), up_and_down);
}

#[test]
fn news_that_overtake_each_other_would_be_found() {
    finds_late_queues(up_and_down);
}

/// Two threads send by one interface: frames come in in the order in which the vnet sent them.
fn two_senders() -> Scenario {
    let system = System::manual(1);
    let a = create(&system, "a");
    let port = a.port("eth0", None).expect("a free name");
    let sent = Arc::new(AtomicU32::new(0));
    let sender = || -> Thread {
        let (core, sent) = (Arc::clone(&a.core), Arc::clone(&sent));
        Box::new(move || {
            let done = core.with(|stack, cx| {
                let number = sent.fetch_add(1, Ordering::Relaxed) as u8;
                let id = stack.ifs.id_of("eth0").expect("it is there");
                let netif = stack.ifs.get_mut(id).expect("it is there");
                netif.transmit(cx, Packet::incoming(vec![number; 60]));
            });
            assert_eq!(done, Ok(()));
        })
    };
    Scenario {
        threads: vec![sender(), sender()],
        check: Box::new(move || {
            let came: Vec<u8> = std::iter::from_fn(|| port.recv())
                .map(|p| p.to_vec()[0])
                .collect();
            assert_eq!(came, [0, 1]);
            drop(a);
        }),
    }
}

#[test]
fn frames_from_two_threads_of_one_vnet() {
    holds(preemptions(3), two_senders);
}

#[test]
fn frames_that_overtake_each_other_would_be_found() {
    finds_late_queues(two_senders);
}

/// A vnet goes while its system's fingerprint is taken: it is in it, once.
#[test]
fn a_fingerprint_and_destroying() {
    holds(preemptions(3), || {
        let system = System::manual(1);
        system.record_fingerprint();
        let (a, b) = (create(&system, "a"), create(&system, "b"));
        a.epair("eth0", &b, "eth0").expect("free names");
        for (vnet, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
            let address = address.parse().expect("an address");
            vnet.add_address("eth0", address).expect("a free address");
        }
        system.poll(system.now());
        let before = system.fingerprint();
        let looks = system.clone();
        Scenario {
            threads: vec![
                Box::new(move || assert_eq!(looks.fingerprint(), before)),
                Box::new(move || drop(a.destroy())),
            ],
            check: Box::new(move || {
                assert_eq!(system.fingerprint(), before);
                drop(b);
            }),
        }
    });
}

/// One thread's entry panics, another one uses the vnet, a third one destroys it.
#[test]
fn a_stack_that_panics_and_entering_and_destroying() {
    holds(preemptions(2), || {
        let system = System::manual(1);
        let a = create(&system, "a");
        let b = create(&system, "b");
        a.epair("eth0", &b, "eth0").expect("free names");
        let (breaks, tenant) = (Arc::clone(&a.core), a.clone());
        let user: Thread = Box::new(move || {
            let first = UdpSocket::bind_in(&tenant, "127.0.0.1:9");
            if let Err(e) = &first {
                assert!(SocketError::is_gone(e), "{e}");
            }
            let second = tenant.interfaces().is_ok();
            assert!(first.is_ok() || !second, "gone is gone for good");
        });
        let breaker: Thread = Box::new(move || {
            let broken = breaks.with(|_, _| std::panic::panic_any("planted"));
            assert!(broken.is_err());
        });
        let owner: Thread = Box::new(move || {
            let Failure { reason, .. } = match a.destroy() {
                report if !report.leaked.is_zero() => panic!("{report}"),
                report => match report.failure {
                    // It was destroyed before it could fail.
                    None => return,
                    Some(failure) => failure,
                },
            };
            assert_eq!(reason, "planted");
        });
        Scenario {
            threads: vec![user, breaker, owner],
            check: Box::new(move || {
                assert_eq!(system.names(), ["b"]);
                create(&system, "a");
                system.poll(system.now());
                let far = b.interfaces().expect("alive").remove(1);
                assert_eq!(far.carrier, Carrier::Down);
            }),
        }
    });
}
