use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Barrier, mpsc};

use super::super::locals::SEGMENTS;
use super::*;
use crate::instance::{InitRecord, OwnedVnet, Stage, System};

/// What happened to values, in order; given to a vnet's variables through [`LOG`].
type Log = Arc<std::sync::Mutex<Vec<String>>>;

/// Notes its end, and the vnet that was current then.
struct Noted {
    name: &'static str,
    log: Log,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let vnet = Vnet::current().map_or_else(|| "none".to_owned(), |v| v.name().to_owned());
        let mut log = self
            .log
            .lock()
            .expect("no test panics while it holds the log");
        log.push(format!("{} dropped in {vnet}", self.name));
    }
}

crate::vnet_local! {
    static LOG: Log = Log::default();
    static COUNT: AtomicU64 = AtomicU64::new(7);
    static FIRST: Noted = Noted { name: "first", log: LOG.with(Arc::clone) };
    static SECOND: Noted = { FIRST.with(|_| ()); Noted { name: "second", log: LOG.with(Arc::clone) } };
    static CIRCULAR: u32 = ROUND.with(|n| *n + 1);
    static ROUND: u32 = CIRCULAR.with(|n| *n + 1);
}

fn one() -> (System, OwnedVnet) {
    let system = System::virtual_time(1);
    let a = system.create("a").expect("a free name");
    (system, a)
}

#[test]
fn every_instance_has_its_own_value_from_the_declaration() {
    let (system, a) = one();
    let b = system.create("b").expect("a free name");
    {
        let _in_a = a.enter();
        COUNT.with(|c| c.store(1, Ordering::Relaxed));
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        assert_eq!(COUNT.with(read), 1);
        assert_eq!(COUNT.of(&b, read), Ok(7));
        let _in_b = b.enter();
        assert_eq!(COUNT.with(read), 7);
    }
    let again = COUNT.try_with(|_| ());
    assert_eq!(again, Err(LocalError::NoCurrentVnet));
}

#[test]
fn values_go_in_reverse_order_of_creation_with_the_vnet_current() {
    let (_system, a) = one();
    let log = LOG.of(&a, Arc::clone).expect("alive");
    SECOND.of(&a, |_| ()).expect("alive");
    let report = a.destroy();
    let last = report.steps.last().expect("there are steps");
    assert_eq!((last.name.as_str(), last.released.locals()), ("locals", 3));
    assert_eq!(report.released.locals(), 3);
    assert!(report.leaked.is_zero() && last.failure.is_none());
    let expected = ["second dropped in a", "first dropped in a"];
    assert_eq!(*log.lock().expect("not poisoned"), expected);
    assert_eq!(Arc::strong_count(&log), 1);
}

#[test]
fn no_access_after_teardown() {
    let (_system, a) = one();
    let tenant = a.clone();
    COUNT.of(&a, |_| ()).expect("alive");
    let b = _system.create("b").expect("a free name");
    let unused = b.clone();
    drop((a, b));
    assert_eq!(COUNT.of(&tenant, |_| ()), Err(LocalError::Gone));
    assert_eq!(COUNT.of(&unused, |_| ()), Err(LocalError::Gone));
    let _entered = tenant.enter();
    assert!(catch_unwind(|| COUNT.with(|_| ())).is_err());
}

#[test]
fn init_and_uninit_steps_may_use_variables() {
    let system = System::virtual_time(1);
    let bump = |_: &Vnet| {
        COUNT.try_with(|c| c.fetch_add(1, Ordering::Relaxed))?;
        Ok(())
    };
    let record = InitRecord::new("user", Stage::Services, 0, bump, bump);
    system.register(record).expect("a free name");
    let a = system.create("a").expect("its steps succeed");
    assert_eq!(COUNT.of(&a, |c| c.load(Ordering::Relaxed)), Ok(8));
    let report = a.destroy();
    assert!(report.steps.iter().all(|s| s.failure.is_none()), "{report}");
}

#[test]
fn an_init_that_fails_drops_the_values() {
    let system = System::virtual_time(1);
    let log = Log::default();
    let theirs = Arc::clone(&log);
    let record = InitRecord::new(
        "user",
        Stage::Services,
        0,
        move |_| {
            LOG.try_with(|l| l.lock().map(|mut l| l.push("made".into())).ok())?;
            *theirs.lock().expect("not poisoned") = vec!["ran".to_owned()];
            FIRST.try_with(|_| ())?;
            Err("refused".into())
        },
        |_| Ok(()),
    );
    system.register(record).expect("a free name");
    assert!(system.create("a").is_err());
    assert_eq!(*log.lock().expect("not poisoned"), ["ran"]);
    assert!(system.create("a").is_err(), "the name is free again");
}

#[test]
fn a_value_in_use_outlives_the_teardown() {
    let (_system, a) = one();
    let tenant = a.clone();
    let log = LOG.of(&a, Arc::clone).expect("alive");
    let dropped = || log.lock().expect("not poisoned").len();
    let result = FIRST.of(&tenant, |first| {
        // The vnet goes away under the hands of its own variable.
        let report = a.destroy();
        let last = report.steps.last().expect("there are steps");
        assert!(
            last.failure
                .as_deref()
                .is_some_and(|f| f.contains("in use"))
        );
        assert_eq!(COUNT.of(&tenant, |_| ()), Err(LocalError::Gone));
        assert_eq!(dropped(), 0);
        first.name
    });
    assert_eq!(result, Ok("first"));
    assert_eq!(*log.lock().expect("not poisoned"), ["first dropped in a"]);
}

#[test]
fn an_initializer_may_destroy_its_vnet() {
    static OWNER: std::sync::Mutex<Option<OwnedVnet>> = std::sync::Mutex::new(None);
    crate::vnet_local! {
        static SUICIDE: u8 = {
            drop(OWNER.lock().expect("not poisoned").take());
            COUNT.try_with(|_| ()).map_or(1, |()| 2)
        };
    }
    let (_system, a) = one();
    let tenant = a.clone();
    *OWNER.lock().expect("not poisoned") = Some(a);
    assert_eq!(SUICIDE.of(&tenant, |v| *v), Ok(1));
    assert_eq!(SUICIDE.of(&tenant, |v| *v), Err(LocalError::Gone));
}

#[test]
fn an_initializer_that_needs_itself_is_refused() {
    let (_system, a) = one();
    let _entered = a.enter();
    let panic = catch_unwind(|| CIRCULAR.with(|n| *n)).expect_err("there is no such number");
    assert!(panic_text(&*panic).contains("its own result"));
    // Nothing is left of the attempt: it may be tried again.
    assert!(catch_unwind(|| ROUND.with(|n| *n)).is_err());
}

#[test]
fn a_destructor_that_panics_stops_nothing() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    crate::vnet_local! {
        static BOMB: Bomb = Bomb;
    }
    let (_system, a) = one();
    let log = LOG.of(&a, Arc::clone).expect("alive");
    FIRST.of(&a, |_| ()).expect("alive");
    BOMB.of(&a, |_| ()).expect("alive");
    let report = a.destroy();
    let failure = report.steps.last().and_then(|s| s.failure.as_deref());
    assert_eq!(failure, Some("panicked: boom"));
    assert_eq!(log.lock().expect("not poisoned").len(), 1);
}

#[test]
fn a_panic_in_a_closure_lets_go_of_the_value() {
    let (_system, a) = one();
    let panicking = AssertUnwindSafe(|| COUNT.of(&a, |_| panic!("boom")));
    assert!(catch_unwind(panicking).is_err());
    let report = a.destroy();
    assert!(report.steps.last().is_some_and(|s| s.failure.is_none()));
}

#[test]
fn segments_hold_every_index() {
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..10_000 {
        let (segment, at) = place(index);
        assert!(segment < SEGMENTS && at < (FIRST_SEGMENT as usize) << segment);
        assert!(seen.insert((segment, at)));
    }
    assert_eq!(place(0), (0, 0));
    assert_eq!(place(8), (1, 0));
}

#[test]
fn a_value_is_made_once_however_many_come() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    crate::vnet_local! {
        static SLOW: u32 = { thread::yield_now(); MADE.fetch_add(1, Ordering::Relaxed); 5 };
    }
    let threads = if cfg!(miri) { 3 } else { 8 };
    let rounds = if cfg!(miri) { 1 } else { 20 };
    let system = System::manual(1);
    for round in 1..=rounds {
        let a = system.create("a").expect("a free name");
        let start = Barrier::new(threads);
        thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| {
                    start.wait();
                    assert_eq!(SLOW.of(&a, |v| *v), Ok(5));
                });
            }
        });
        assert_eq!(MADE.load(Ordering::Relaxed), round);
    }
}

#[test]
fn two_initializers_that_need_each_other_do_not_hang() {
    static BOTH: Barrier = Barrier::new(2);
    fn other(of: &'static Local<u32>) -> u32 {
        BOTH.wait();
        of.try_with(|n| *n).unwrap_or(100) + 1
    }
    crate::vnet_local! {
        static PING: u32 = other(&PONG);
        static PONG: u32 = other(&PING);
    }
    let system = System::manual(1);
    let a = system.create("a").expect("a free name");
    let a = &a;
    let run = |of: &'static Local<u32>| move || of.of(a, |n| *n).expect("alive");
    let mut both = thread::scope(|s| {
        let threads = [s.spawn(run(&PING)), s.spawn(run(&PONG))];
        threads.map(|t| t.join().expect("no panic"))
    });
    both.sort_unstable();
    assert_eq!(both, [101, 102], "one is refused, the other waits for it");
}

#[test]
fn teardown_races_with_use_and_no_value_is_lost() {
    static LIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted(AtomicBool);
    impl Drop for Counted {
        fn drop(&mut self) {
            assert!(!self.0.swap(true, Ordering::SeqCst));
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    crate::vnet_local! {
        static VALUE: Counted = { LIVE.fetch_add(1, Ordering::SeqCst); Counted(AtomicBool::new(false)) };
    }
    let rounds = if cfg!(miri) { 3 } else { 300 };
    let system = System::manual(1);
    for _ in 0..rounds {
        let a = system.create("a").expect("a free name");
        let (ready, go) = mpsc::channel();
        thread::scope(|s| {
            for _ in 0..2 {
                let (tenant, ready) = (a.clone(), ready.clone());
                s.spawn(move || {
                    let mut used = 0_u32;
                    while VALUE
                        .of(&tenant, |v| assert!(!v.0.load(Ordering::SeqCst)))
                        .is_ok()
                    {
                        used += 1;
                        if used == 2 {
                            let _ = ready.send(());
                        }
                        if cfg!(miri) {
                            thread::yield_now();
                        }
                    }
                });
            }
            go.recv().expect("both use it");
            a.destroy();
        });
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }
}
