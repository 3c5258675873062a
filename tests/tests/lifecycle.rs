//! Promise: an instance is made by a recorded sequence of steps, all or nothing, and each step
//! that ran is undone exactly once, in reverse.

use std::error::Error;
use std::sync::{Arc, Mutex};

use vnet::net::UdpSocket;
use vnet::{CreateError, InitRecord, OwnedVnet, RegisterError, SocketError, Stage, System, Vnet};
use vnet_tests::accounts::assert_clean;
use vnet_tests::topology::vnet;

/// What steps did, in the order in which they did it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// How a step behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    InitFails,
    InitPanics,
    UninitFails,
    UninitPanics,
}

/// A step that notes what it does.
fn noting(log: &Log, name: &'static str, stage: Stage, order: i32, manner: Manner) -> InitRecord {
    let (up, down) = (log.clone(), log.clone());
    InitRecord::new(
        name,
        stage,
        order,
        move |vnet| match manner {
            Manner::InitFails => Err("no luck".into()),
            Manner::InitPanics => panic!("on purpose"),
            _ => {
                up.note(format!("+{name} {}", vnet.name()));
                Ok(())
            }
        },
        move |vnet| {
            down.note(format!("-{name} {}", vnet.name()));
            match manner {
                Manner::UninitFails => Err("stuck".into()),
                Manner::UninitPanics => panic!("on purpose"),
                _ => Ok(()),
            }
        },
    )
}

fn good(log: &Log, name: &'static str, stage: Stage, order: i32) -> InitRecord {
    noting(log, name, stage, order, Manner::Good)
}

fn ran(vnet: &Vnet) -> Vec<String> {
    let init = vnet.inspect().expect("the vnet is alive").init;
    init.into_iter().map(|step| step.name).collect()
}

#[test]
fn steps_run_by_stage_then_order_then_registration_and_are_undone_in_reverse() {
    let system = System::manual(1);
    let log = Log::default();
    for record in [
        good(&log, "serve-2", Stage::Services, 0),
        good(&log, "filter", Stage::Filters, 0),
        good(&log, "serve-3", Stage::Services, 0),
        good(&log, "serve-1", Stage::Services, -5),
        good(&log, "early", Stage::Interfaces, i32::MIN),
    ] {
        system.register(record).unwrap();
    }
    let a = vnet(&system, "a");
    assert_eq!(
        log.take(),
        [
            "+early a",
            "+filter a",
            "+serve-1 a",
            "+serve-2 a",
            "+serve-3 a"
        ]
    );
    // What ran is what was recorded, and the library's own layers are in the same list.
    assert_eq!(ran(&a), system.init_steps());
    let steps = system.init_steps();
    let place = |name: &str| steps.iter().position(|s| s == name).expect("it is listed");
    for pair in [
        "early", "netif", "neigh", "ip", "udp", "filter", "loopback", "serve-1",
    ]
    .windows(2)
    {
        assert!(place(pair[0]) < place(pair[1]), "{pair:?} in {steps:?}");
    }
    let report = a.destroy();
    assert_clean(&report);
    assert_eq!(
        log.take(),
        [
            "-serve-3 a",
            "-serve-2 a",
            "-serve-1 a",
            "-filter a",
            "-early a"
        ]
    );
    let undone: Vec<&String> = report.steps.iter().map(|s| &s.name).collect();
    assert!(undone.iter().rev().copied().eq(&steps), "{undone:?}");
}

#[test]
fn both_halves_of_a_step_run_with_their_instance_current() {
    let system = System::manual(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |seen: &Arc<Mutex<Vec<(String, bool)>>>| {
        let seen = Arc::clone(seen);
        move |vnet: &Vnet| -> Result<(), Box<dyn Error + Send + Sync>> {
            let current = Vnet::current().expect("a step is inside its vnet");
            seen.lock()
                .unwrap()
                .push((current.name().to_owned(), current.is(vnet)));
            Ok(())
        }
    };
    let elsewhere = vnet(&system, "elsewhere");
    let _stranger = elsewhere.enter();
    let record = InitRecord::new("look", Stage::Services, 0, note(&seen), note(&seen));
    system.register(record).unwrap();
    vnet(&system, "a").destroy();
    system.unregister("look").unwrap();
    let at = |name: &str| (name.to_owned(), true);
    assert_eq!(
        *seen.lock().unwrap(),
        [at("elsewhere"), at("a"), at("a"), at("elsewhere")]
    );
    assert!(Vnet::current().unwrap().is(&elsewhere));
}

#[test]
fn a_step_registered_late_runs_in_every_instance_and_unregistered_is_undone_in_every_one() {
    let system = System::manual(1);
    let log = Log::default();
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    system
        .register(good(&log, "late", Stage::Filters, 0))
        .unwrap();
    assert_eq!(log.take(), ["+late a", "+late b"]);
    // Each instance remembers the order in which it really ran its steps.
    assert_eq!(ran(&a).last().map(String::as_str), Some("late"));
    let c = vnet(&system, "c");
    assert_eq!(log.take(), ["+late c"]);
    assert_ne!(ran(&c).last().map(String::as_str), Some("late"));
    assert_eq!(
        b.destroy().steps[0].name,
        "late",
        "undone first, since it ran last"
    );
    assert_eq!(log.take(), ["-late b"]);
    system.unregister("late").unwrap();
    assert_eq!(log.take(), ["-late c", "-late a"], "the youngest first");
    assert!(!ran(&a).contains(&"late".to_owned()));
    assert_clean(&a.destroy());
    assert_clean(&c.destroy());
    assert_eq!(log.take(), [""; 0], "and never twice");
    vnet(&system, "d").destroy();
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn a_step_that_fails_at_creation_unwinds_what_ran_and_is_named() {
    for manner in [Manner::InitFails, Manner::InitPanics] {
        let system = System::manual(1);
        let log = Log::default();
        // Before anything of the library, between its layers, and after all of it.
        for (stage, before) in [
            (Stage::Interfaces, vec!["one"]),
            (Stage::Filters, vec!["one", "two"]),
            (Stage::Services, vec!["one", "two", "three"]),
        ] {
            system
                .register(good(&log, "one", Stage::Interfaces, -9))
                .unwrap();
            system
                .register(good(&log, "two", Stage::Domains, 9))
                .unwrap();
            system
                .register(good(&log, "three", Stage::InterfaceAttach, 9))
                .unwrap();
            system
                .register(good(&log, "never", Stage::Services, 9))
                .unwrap();
            system
                .register(noting(&log, "bad", stage, -1, manner))
                .unwrap();
            let error = system.create("a").expect_err("a step fails");
            let CreateError::Init { step, source } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(step, "bad");
            assert!(error.to_string().contains("\"bad\""), "{error}");
            let why = source.to_string();
            assert!(why.contains(match manner {
                Manner::InitFails => "no luck",
                _ => "on purpose",
            }));
            assert!(error.source().is_some());
            let up = before.iter().map(|n| format!("+{n} a"));
            let down = before.iter().rev().map(|n| format!("-{n} a"));
            assert_eq!(
                log.take(),
                up.chain(down).collect::<Vec<_>>(),
                "at {stage:?}"
            );
            // Nothing is left: no instance, and its name is free.
            assert_eq!(system.names(), [""; 0]);
            assert!(system.vnet("a").is_none());
            for name in ["bad", "never", "three", "two", "one"] {
                system.unregister(name).unwrap();
            }
            assert_clean(&vnet(&system, "a").destroy());
            log.take();
        }
    }
}

#[test]
fn a_step_that_fails_when_registered_late_is_registered_nowhere() {
    let system = System::manual(1);
    let log = Log::default();
    let vnets: Vec<OwnedVnet> = ["a", "b", "c"].map(|n| vnet(&system, n)).into();
    let (up, down) = (log.clone(), log.clone());
    let record = InitRecord::new(
        "picky",
        Stage::Services,
        0,
        move |v| match v.name() {
            "b" => Err("not here".into()),
            name => {
                up.note(format!("+{name}"));
                Ok(())
            }
        },
        move |v| {
            down.note(format!("-{}", v.name()));
            Ok(())
        },
    );
    let error = system.register(record).unwrap_err();
    let RegisterError::Failed {
        step,
        vnet: at,
        source,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((&step[..], &at[..]), ("picky", "b"));
    assert_eq!(source.to_string(), "not here");
    let ups: Vec<String> = log.take();
    let (ups, downs) = ups.split_at(ups.len() / 2);
    let mirrored: Vec<String> = ups.iter().rev().map(|u| u.replace('+', "-")).collect();
    assert_eq!(downs, mirrored, "undone wherever it ran, and nowhere else");
    assert!(!system.init_steps().contains(&"picky".to_owned()));
    for v in &vnets {
        assert!(!ran(v).contains(&"picky".to_owned()));
    }
    system
        .register(good(&log, "picky", Stage::Services, 0))
        .expect("the name is free again");
}

#[test]
fn a_step_whose_undoing_fails_is_reported_and_the_walk_goes_on() {
    for manner in [Manner::UninitFails, Manner::UninitPanics] {
        let system = System::manual(1);
        let log = Log::default();
        system
            .register(good(&log, "first", Stage::Interfaces, -1))
            .unwrap();
        system
            .register(noting(&log, "stuck", Stage::Services, 0, manner))
            .unwrap();
        system
            .register(good(&log, "last", Stage::Services, 1))
            .unwrap();
        let a = vnet(&system, "a");
        let socket = UdpSocket::bind_in(&a, "0.0.0.0:7").unwrap();
        log.take();
        let report = a.destroy();
        assert_eq!(log.take(), ["-last a", "-stuck a", "-first a"]);
        assert!(report.leaked.is_zero(), "{report}");
        assert_eq!(report.released.sockets(), 1);
        let failed: Vec<_> = report
            .steps
            .iter()
            .filter(|s| s.failure.is_some())
            .collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].name, "stuck");
        assert!(report.to_string().contains("FAILED"), "{report}");
        assert!(SocketError::is_gone(
            &socket.send_to(b"x", "127.0.0.1:7").unwrap_err()
        ));
        assert_clean_but_for(&vnet(&system, "a").destroy(), "stuck");
    }
}

#[track_caller]
fn assert_clean_but_for(report: &vnet::DestroyReport, step: &str) {
    assert!(report.leaked.is_zero(), "{report}");
    for s in report.steps.iter().filter(|s| s.name != step) {
        assert!(s.failure.is_none(), "{report}");
    }
}

#[test]
fn names_of_steps_are_one_systems_own_and_the_librarys_cannot_be_taken() {
    let system = System::manual(1);
    let log = Log::default();
    system
        .register(good(&log, "mine", Stage::Services, 0))
        .unwrap();
    let twice = system.register(good(&log, "mine", Stage::Filters, 0));
    assert!(matches!(twice, Err(RegisterError::Exists(name)) if name == "mine"));
    let taken = system.register(good(&log, "udp", Stage::Services, 0));
    assert!(matches!(taken, Err(RegisterError::Exists(name)) if name == "udp"));
    let ours = system.unregister("udp");
    assert!(matches!(ours, Err(RegisterError::Builtin(name)) if name == "udp"));
    let none = system.unregister("nothing");
    assert!(matches!(none, Err(RegisterError::NotFound(name)) if name == "nothing"));
    let other = System::manual(1);
    assert!(!other.init_steps().contains(&"mine".to_owned()));
    other
        .register(good(&log, "mine", Stage::Services, 0))
        .unwrap();
}

#[test]
fn names_of_instances_are_unique_and_checked() {
    let system = System::manual(1);
    let _a = vnet(&system, "a");
    assert!(matches!(system.create("a"), Err(CreateError::Exists(name)) if name == "a"));
    let long = "x".repeat(64);
    for bad in ["", "a b", "a/b", "ä", "a.b", long.as_str()] {
        assert!(matches!(system.create(bad), Err(CreateError::BadName(name)) if name == bad));
    }
    let longest = "x".repeat(63);
    assert_eq!(vnet(&system, &longest).name(), longest);
    assert_eq!(system.names(), ["a"]);
}

// Row 25 of the reference's catalogue: resurrecting a dying instance raced.
#[test]
fn a_name_is_taken_until_its_instance_is_gone_for_good() {
    let system = System::manual(1);
    let tries = Log::default();
    let (log, weak) = (tries.clone(), system.clone());
    let record = InitRecord::new(
        "retry",
        Stage::Interfaces,
        i32::MIN,
        |_| Ok(()),
        move |vnet| {
            let again = weak.create(vnet.name());
            log.note(format!("{:?}", again.err().map(|e| e.to_string())));
            log.note(format!("{:?}", weak.vnet(vnet.name()).is_some()));
            Ok(())
        },
    );
    system.register(record).unwrap();
    let a = vnet(&system, "a");
    let old = Vnet::clone(&a);
    assert_clean(&a.destroy());
    let exists = CreateError::Exists("a".to_owned()).to_string();
    assert_eq!(
        tries.take(),
        [format!("{:?}", Some(exists)), "false".to_owned()]
    );
    let again = vnet(&system, "a");
    assert!(!again.is(&old), "a new instance, not the old one");
    system.unregister("retry").unwrap();
}

// Row 24: a protocol called after its finish. Row 27: a module without its instance.
#[test]
fn a_module_that_calls_its_dying_instance_is_told_so() {
    let system = System::manual(1);
    let said = Log::default();
    let stages = [
        ("at-services", Stage::Services),
        ("at-filters", Stage::Filters),
        ("at-protocols", Stage::Protocols),
        ("at-domains", Stage::Domains),
        ("at-links", Stage::LinkLayers),
        ("at-interfaces", Stage::Interfaces),
    ];
    for (name, stage) in stages {
        let log = said.clone();
        let uninit = move |vnet: &Vnet| -> Result<(), Box<dyn Error + Send + Sync>> {
            let socket = UdpSocket::bind("0.0.0.0:0").map(drop).unwrap_err();
            let gone = SocketError::is_gone(&socket)
                && vnet.interfaces().is_err()
                && vnet.port("p", None).is_err()
                && vnet.add_address("lo0", "10.0.0.1/32".parse()?).is_err();
            log.note(format!("{name} gone={gone}"));
            Ok(())
        };
        let record = InitRecord::new(name, stage, i32::MIN, |_| Ok(()), uninit);
        system.register(record).unwrap();
    }
    assert_clean(&vnet(&system, "a").destroy());
    assert_eq!(
        said.take(),
        stages.map(|(name, _)| format!("{name} gone=true"))
    );
}

// Row 3: a failure injected into each step of a pair's creation.
#[test]
fn a_pair_that_cannot_be_completed_leaves_no_half() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    a.epair("eth0", &b, "eth0").unwrap();
    let names = |v: &Vnet| -> Vec<String> {
        v.interfaces()
            .unwrap()
            .into_iter()
            .map(|i| i.name)
            .collect()
    };
    for (near, far) in [
        ("eth0", "eth1"),
        ("eth1", "eth0"),
        ("", "eth1"),
        ("eth1", "no good"),
    ] {
        assert!(a.epair(near, &b, far).is_err());
        assert_eq!(
            (names(&a), names(&b)),
            (names(&b), vec!["lo0".into(), "eth0".into()])
        );
    }
    assert!(
        a.epair("x", &a, "x").is_err(),
        "one name for both ends in one vnet"
    );
    assert_eq!(names(&a), ["lo0", "eth0"]);
    a.epair("x", &a, "y").expect("both ends may be in one vnet");
    assert_clean(&a.destroy());
    assert_clean(&b.destroy());
}

#[test]
fn the_record_of_an_instance_is_its_own() {
    let system = System::manual(1);
    let log = Log::default();
    let a = vnet(&system, "a");
    system
        .register(good(&log, "one", Stage::Services, 0))
        .unwrap();
    system.unregister("one").unwrap();
    system
        .register(good(&log, "two", Stage::Services, 0))
        .unwrap();
    let b = vnet(&system, "b");
    assert_eq!(ran(&a), ran(&b), "both have run what is registered now");
    assert_eq!(log.take(), ["+one a", "-one a", "+two a", "+two b"]);
}

/// Init and uninit of one step in one instance may never run twice or in parallel.
#[test]
fn creation_registration_and_destruction_may_race() {
    use std::collections::HashMap;
    let system = System::threads();
    let balance: Arc<Mutex<HashMap<(String, u32), i32>>> = Arc::default();
    let record = |n: u32| {
        let (up, down) = (Arc::clone(&balance), Arc::clone(&balance));
        let tally = move |balance: &Mutex<HashMap<(String, u32), i32>>, vnet: &Vnet, by: i32| {
            let mut balance = balance.lock().unwrap();
            let count = balance.entry((vnet.name().to_owned(), n)).or_default();
            *count += by;
            assert!(
                (0..=1).contains(count),
                "step {n} in {}: {count}",
                vnet.name()
            );
        };
        InitRecord::new(
            &format!("step-{n}"),
            Stage::Services,
            0,
            move |vnet| {
                tally(&up, vnet, 1);
                Ok(())
            },
            move |vnet| {
                tally(&down, vnet, -1);
                Ok(())
            },
        )
    };
    std::thread::scope(|s| {
        for worker in 0..2 {
            let system = &system;
            s.spawn(move || {
                for n in 0..100 {
                    let a = vnet(system, &format!("w{worker}-{n}"));
                    let b = vnet(system, &format!("w{worker}-{n}b"));
                    a.epair("eth0", &b, "eth0").unwrap();
                    for report in [a.destroy(), b.destroy()] {
                        assert_clean(&report);
                    }
                }
            });
        }
        for n in 0..2 {
            let (system, record) = (&system, &record);
            s.spawn(move || {
                for _ in 0..100 {
                    system.register(record(n)).unwrap();
                    system.unregister(&format!("step-{n}")).unwrap();
                }
            });
        }
    });
    let balance = balance.lock().unwrap();
    assert!(balance.values().all(|count| *count == 0), "{balance:?}");
}
