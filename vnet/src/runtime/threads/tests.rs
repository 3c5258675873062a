use super::*;
use crate::base::trials::{PATIENCE, RETRY};

/// A vnet with a distant deadline is armed for a near one again and again.
#[test]
fn a_vnet_has_one_timer() {
    let system = System::manual(1);
    let vnet = system.create("a").expect("a free name");
    vnet.core.inbox.armed.reset();
    let shared = Shared::new(ThreadsConfig::default());
    let at = Instant::from_nanos;
    for now in 0..1000 {
        shared.set_timer(&vnet.core, at(1_000_000));
        shared.set_timer(&vnet.core, at(now));
        shared.set_timer(&vnet.core, at(now + 1));
        let mut sleep = shared.sleep.lock();
        assert_eq!((sleep.timers.len(), sleep.next()), (1, Some(at(now))));
        let Some(Due::Service(due, it)) = sleep.pop_due(at(now)) else {
            panic!("it is a service");
        };
        drop(sleep);
        assert!(disarm(it.upgrade(), due).is_some());
    }
    assert!(shared.sleep.lock().timers.is_empty());
}

#[test]
fn a_thread_that_is_engaged_leaves_the_rest_to_free_workers_and_moves_on() {
    let system = System::manual(1);
    let vnets = ["a", "b"].map(|name| system.create(name).expect("a free name"));
    let shared = Shared::new(ThreadsConfig {
        workers: 2,
        ..ThreadsConfig::default()
    });
    LOCAL.with(|local| {
        let list = vnets.iter().map(|vnet| Arc::clone(&vnet.core));
        local.ready.borrow_mut().extend(list);
        let began = Instant::from_nanos(7);
        local.now.set(began);
        let engagement = shared.engage(local);
        local
            .now
            .set(began + (SHARE_TIME - Duration::from_nanos(1)));
        assert!(
            !shared.moves_on(),
            "it does not take longer than to wake another"
        );
        assert_eq!(shared.engaged.load(Ordering::Relaxed), 0);

        local.now.set(began + SHARE_TIME);
        shared.engaged.store(2, Ordering::Relaxed);
        assert!(!shared.moves_on(), "the workers have enough to do");

        shared.engaged.store(2, Ordering::Relaxed);
        shared.handed_over.store(1, Ordering::Relaxed);
        assert!(!shared.moves_on(), "there are others for a free worker");
        shared.handed_over.store(0, Ordering::Relaxed);
        assert!(shared.moves_on(), "a worker is free");
        let ready = std::mem::take(&mut *local.ready.borrow_mut());
        assert_eq!(ready.len(), 2, "to these");
        assert!(!shared.moves_on(), "there is nothing to go on with");
        assert_eq!(shared.engaged.load(Ordering::Relaxed), 2, "it counts once");
        // Meanwhile it acts for another system, which does not take long.
        let other = Shared::new(ThreadsConfig::default());
        let inner = other.engage(local);
        other.moves_on();
        drop(inner);
        assert_eq!(other.engaged.load(Ordering::Relaxed), 0);
        assert_eq!(shared.engaged.load(Ordering::Relaxed), 2);
        local.now.set(local.now.get() + SHARE_TIME);
        let inner = other.engage(local);
        local.now.set(local.now.get() + SHARE_TIME);
        other.moves_on();
        assert_eq!(other.engaged.load(Ordering::Relaxed), 1);
        drop(inner);
        assert_eq!(other.engaged.load(Ordering::Relaxed), 0);
        drop(engagement);
        assert_eq!(shared.engaged.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn vnets_that_are_gone_leave_no_heap_of_timers() {
    let system = System::manual(1);
    let shared = Shared::new(ThreadsConfig::default());
    for n in 0..3 * FEW_ENTRIES as u64 {
        let gone = system.create("gone").expect("free again");
        gone.core.inbox.armed.reset();
        shared.set_timer(&gone.core, Instant::from_nanos(10 + n));
        drop(gone);
        assert!(shared.sleep.lock().timers.len() <= FEW_ENTRIES);
    }
}

#[test]
fn callers_who_wait_for_what_they_have_left_do_it_themselves() {
    let system = System::manual(1);
    let vnet = system.create("a").expect("a free name");
    let shared = Shared::new(ThreadsConfig {
        workers: 2,
        ..ThreadsConfig::default()
    });
    LOCAL.with(|local| {
        let call = || {
            local.ready.borrow_mut().push_back(Arc::clone(&vnet.core));
            let _engagement = shared.engage(local);
            local.now.set(local.now.get() + SHARE_TIME);
            let leaves = [shared.leaves_rest(local), shared.leaves_rest(local)];
            local.ready.borrow_mut().clear();
            leaves[0]
        };
        // One who sends more is told of by `dispatch`.
        for _ in 0..10 {
            assert!(call());
            assert!(local.has_left.take());
        }
        for _ in 0..PATIENCE {
            assert!(call());
            note_wait();
        }
        let again = (0..).position(|_| call());
        assert_eq!(again, Some((RETRY - PATIENCE) as usize));
        // It sends more this time.
        assert!(local.has_left.take());
        local.trials.note(false);
        assert!(call());
    });
}
