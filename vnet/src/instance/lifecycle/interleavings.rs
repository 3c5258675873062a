//! The races of an instance's life in every order of their steps, up to a bound on preemptions:
//! entering, creating, registering, destroying, variables, waiting.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::SocketError;
use crate::base::lock::explore::{Explorer, Scenario, point};
use crate::instance::{InitRecord, OwnedVnet, Stage, System, Vnet};
use crate::net::UdpSocket;
use crate::netif::IfKind;
use crate::netif::vlan::VlanConfig;

mod order;

type Thread = Box<dyn FnOnce() + Send>;

/// Explores and says how many schedules there were.
#[track_caller]
fn holds(explorer: Explorer, scenario: impl Fn() -> Scenario) {
    match explorer.explore(scenario) {
        Ok(schedules) => {
            println!("{schedules} schedules");
            assert!(schedules > 10, "next to nothing was explored");
        }
        Err(failure) => panic!("{failure}"),
    }
}

fn preemptions(preemptions: usize) -> Explorer {
    Explorer {
        preemptions,
        ..Explorer::default()
    }
}

fn create(system: &System, name: &str) -> OwnedVnet {
    system.create(name).expect("a free name")
}

/// Which of the instances ran a step: up one, down one, never twice in either direction.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<std::collections::BTreeMap<String, i64>>>);

impl Ledger {
    fn change(&self, vnet: &Vnet, by: i64) {
        let mut ledger = self.0.lock().expect("no panic under this lock");
        let count = ledger.entry(vnet.name().to_owned()).or_default();
        *count += by;
        assert!(
            (0..=1).contains(count),
            "{} ran it {count} times",
            vnet.name()
        );
    }

    fn record(&self) -> InitRecord {
        let (up, down) = (self.clone(), self.clone());
        InitRecord::new(
            "step",
            Stage::Services,
            0,
            move |vnet| {
                point();
                up.change(vnet, 1);
                Ok(())
            },
            move |vnet| {
                point();
                down.change(vnet, -1);
                Ok(())
            },
        )
    }

    fn count(&self, vnet: &str) -> i64 {
        let ledger = self.0.lock().expect("no panic under this lock");
        ledger.get(vnet).copied().unwrap_or_default()
    }

    fn total(&self) -> i64 {
        self.0
            .lock()
            .expect("no panic under this lock")
            .values()
            .sum()
    }
}

#[test]
fn entering_and_destroying() {
    holds(preemptions(3), || {
        let system = System::manual(1);
        let (a, b) = (create(&system, "a"), create(&system, "b"));
        let (tenant, other) = (a.clone(), b.clone());
        let user: Thread = Box::new(move || {
            let _other = other.enter();
            {
                let _entered = tenant.enter();
                let first = UdpSocket::bind("127.0.0.1:9");
                if let Err(e) = &first {
                    assert!(SocketError::is_gone(e), "{e}");
                }
                let current = Vnet::current().expect("the guard stands");
                assert!(current.is(&tenant), "gone or not, it is current");
                let second = tenant.interfaces().is_ok();
                assert!(first.is_ok() || !second, "gone is gone for good");
            }
            let current = Vnet::current().expect("the outer guard stands");
            assert!(current.is(&other));
        });
        let owner: Thread = Box::new(move || {
            let report = a.destroy();
            assert!(report.leaked.is_zero(), "{report}");
            assert_eq!(report.released.interfaces(), 1);
        });
        Scenario {
            threads: vec![user, owner],
            check: Box::new(move || assert_eq!(b.system().names(), ["b"])),
        }
    });
}

#[test]
fn a_vlan_for_a_vnet_that_goes_and_another_interface_of_its_name() {
    holds(preemptions(2), || {
        let system = System::manual(1);
        let (home, other) = (create(&system, "home"), create(&system, "other"));
        home.port("eth0", None).expect("a free name");
        let (lender, borrower, rival) = (home.clone(), other.clone(), home.clone());
        let lends: Thread = Box::new(move || {
            let vlan = VlanConfig::dot1q(5);
            let _ = lender.vlan_in("eth0", &borrower, "v", vlan);
        });
        let goes: Thread = Box::new(move || {
            other.destroy();
            rival.bridge("v").expect("what is lent has another name");
        });
        Scenario {
            threads: vec![lends, goes],
            check: Box::new(move || {
                let kinds = |vnet: &Vnet| {
                    let all = vnet.interfaces().expect("alive");
                    all.iter().map(|i| i.kind).collect::<Vec<_>>()
                };
                let kinds = kinds(&home);
                // It came home before, or never was there.
                let came_home = kinds.len() == 4;
                assert_eq!(kinds[2..].contains(&IfKind::Vlan), came_home, "{kinds:?}");
                assert!(kinds.contains(&IfKind::Bridge), "{kinds:?}");
                let record = home.record().expect("alive");
                assert_eq!(record.ops.len(), kinds.len() - 1, "{record:?}");
            }),
        }
    });
}

#[test]
fn two_destroys() {
    holds(preemptions(2), || {
        let system = System::manual(1);
        let ledger = Ledger::default();
        system.register(ledger.record()).expect("a free name");
        let a = create(&system, "a");
        let b = a.create_child("b").expect("a free name");
        let released = Arc::new(AtomicU32::new(0));
        let thread = |vnet: OwnedVnet| -> Thread {
            let released = Arc::clone(&released);
            Box::new(move || {
                let report = vnet.destroy();
                assert!(report.leaked.is_zero(), "{report}");
                let children = report.children.iter().map(|c| &c.released);
                let all = children.chain([&report.released]).map(|r| r.interfaces());
                released.fetch_add(all.sum::<u64>() as u32, Ordering::Relaxed);
            })
        };
        Scenario {
            threads: vec![thread(a), thread(b)],
            check: Box::new(move || {
                assert!(system.names().is_empty());
                assert_eq!(ledger.total(), 0);
                assert_eq!(released.load(Ordering::Relaxed), 2, "one loopback each");
                create(&system, "a");
            }),
        }
    });
}

/// Three threads: one creates, one registers, one destroys what was there before.
fn create_register_destroy() -> Scenario {
    let system = System::manual(1);
    let ledger = Ledger::default();
    let old = create(&system, "old");
    let (creates, registers) = (system.clone(), system.clone());
    let record = ledger.record();
    let made = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&made);
    Scenario {
        threads: vec![
            Box::new(move || {
                *keep.lock().expect("no panic") = Some(create(&creates, "new"));
            }),
            Box::new(move || registers.register(record).expect("a free name")),
            Box::new(move || assert!(old.destroy().leaked.is_zero())),
        ],
        check: Box::new(move || {
            assert_eq!((ledger.count("new"), ledger.count("old")), (1, 0));
            drop(made.lock().expect("no panic").take());
            assert_eq!(ledger.total(), 0);
            assert!(system.names().is_empty());
        }),
    }
}

#[test]
fn creating_registering_and_destroying() {
    holds(preemptions(2), create_register_destroy);
}

#[test]
fn a_step_noted_in_a_vnet_that_is_going_would_be_found() {
    let planted = Explorer {
        planted: Some("a step noted in a vnet that is going"),
        ..preemptions(2)
    };
    let found = planted.explore(create_register_destroy);
    assert!(found.is_err(), "{found:?}");
}

/// One thread takes a step away while another one makes an instance.
fn unregister_and_create() -> Scenario {
    let system = System::manual(1);
    let ledger = Ledger::default();
    system.register(ledger.record()).expect("a free name");
    let old = create(&system, "old");
    let (creates, unregisters) = (system.clone(), system.clone());
    let made = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&made);
    Scenario {
        threads: vec![
            Box::new(move || {
                *keep.lock().expect("no panic") = Some(create(&creates, "new"));
            }),
            Box::new(move || unregisters.unregister("step").expect("it is registered")),
        ],
        check: Box::new(move || {
            assert_eq!(ledger.total(), 0, "nobody has it any more");
            let ran = old.init_record().expect("alive");
            assert!(ran.iter().all(|(name, _)| name != "step"));
            drop((old, made));
            assert!(system.names().is_empty());
        }),
    }
}

#[test]
fn unregistering_and_creating() {
    holds(preemptions(3), unregister_and_create);
}

/// A step is registered and unregistered while an instance lives.
fn register_and_unregister() -> Scenario {
    let system = System::manual(1);
    let ledger = Ledger::default();
    let vnet = create(&system, "a");
    let (registers, unregisters) = (system.clone(), system.clone());
    let record = ledger.record();
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    Scenario {
        threads: vec![
            Box::new(move || registers.register(record).expect("a free name")),
            Box::new(move || {
                let done = unregisters.unregister("step").is_ok();
                is_gone.store(done, Ordering::Relaxed);
            }),
        ],
        check: Box::new(move || {
            let expected = i64::from(!gone.load(Ordering::Relaxed));
            assert_eq!(ledger.count("a"), expected);
            assert!(vnet.destroy().leaked.is_zero());
            assert_eq!(ledger.total(), 0);
        }),
    }
}

#[test]
fn registering_and_unregistering() {
    holds(preemptions(5), register_and_unregister);
}

#[test]
fn a_step_unregistered_while_it_runs_would_be_found() {
    let planted = Explorer {
        planted: Some("a step that is unregistered while it runs"),
        ..preemptions(4)
    };
    let found = planted.explore(register_and_unregister);
    assert!(found.is_err(), "{found:?}");
}

#[test]
fn making_a_child_of_a_vnet_that_goes() {
    // What is worked out once in a process would be a difference between the first two schedules.
    let system = System::manual(1);
    let _child = create(&system, "a").create_child("b").expect("free");
    holds(preemptions(2), || {
        let system = System::manual(1);
        let parent = create(&system, "a");
        let tenant = parent.clone();
        Scenario {
            threads: vec![
                Box::new(move || {
                    if let Ok(child) = tenant.create_child("b") {
                        drop(child);
                    }
                }),
                Box::new(move || {
                    let report = parent.destroy();
                    assert!(report.leaked.is_zero(), "{report}");
                }),
            ],
            check: Box::new(move || {
                assert!(system.names().is_empty());
                // Both names are free again.
                create(&system, "a").create_child("b").expect("free");
            }),
        }
    });
}

static ALIVE: AtomicI64 = AtomicI64::new(0);

/// A value that is counted.
struct Counted;

impl Counted {
    fn new() -> Counted {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

crate::vnet_local! { static VALUE: Counted = Counted::new() }

#[test]
fn the_first_use_of_a_variable_and_destroying() {
    holds(preemptions(3), || {
        let system = System::manual(1);
        let a = create(&system, "a");
        let use_it = |tenant: Vnet| -> Thread {
            Box::new(move || {
                let used = VALUE.of(&tenant, |_| {
                    point();
                    assert_eq!(
                        ALIVE.load(Ordering::Relaxed),
                        1,
                        "not dropped under its user"
                    );
                });
                let again = VALUE.of(&tenant, |_| ());
                assert!(used.is_ok() || again.is_err(), "gone is gone for good");
            })
        };
        Scenario {
            threads: vec![
                use_it(a.clone()),
                Box::new(move || {
                    let report = a.destroy();
                    assert!(report.leaked.is_zero(), "{report}");
                }),
            ],
            check: Box::new(|| assert_eq!(ALIVE.load(Ordering::Relaxed), 0)),
        }
    });
}

/// A call waits for a datagram that never comes, and its vnet is destroyed.
fn wait_and_destroy() -> Scenario {
    let system = System::threads();
    let a = create(&system, "a");
    let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").expect("a free port");
    Scenario {
        threads: vec![
            Box::new(move || {
                let ended = socket.recv_from(&mut [0; 8]).expect_err("nothing comes");
                assert!(SocketError::is_gone(&ended), "{ended}");
            }),
            Box::new(move || assert!(a.destroy().leaked.is_zero())),
        ],
        check: Box::new(|| {}),
    }
}

#[test]
fn waiting_and_destroying() {
    holds(preemptions(3), wait_and_destroy);
}

#[test]
fn a_lost_wake_up_would_be_found() {
    let planted = Explorer {
        planted: Some("wait without a last look"),
        ..preemptions(3)
    };
    let found = planted.explore(wait_and_destroy);
    assert!(found.is_err(), "{found:?}");
}
