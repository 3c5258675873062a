//! Guards of the current vnet that are dropped out of order, or kept where they do not belong: the
//! current vnet is a raw pointer inside, and must never be one to a vnet that is no more.
//!
//! The tests tell by what is current afterwards; under Miri also by what is read.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vnet::capture::FrameTap;
use vnet::net::UdpSocket;
use vnet::time::Instant;
use vnet::{Direction, Entered, InitRecord, OwnedVnet, Packet, Stage, System, Vnet};

fn vnet(system: &System, name: &str) -> OwnedVnet {
    system.create(name).expect("the name is free")
}

fn current() -> Option<String> {
    Vnet::current().map(|v| v.name().to_owned())
}

/// A vnet that lives as long as the program does.
fn eternal(name: &str) -> &'static OwnedVnet {
    let system = System::manual(1);
    Box::leak(Box::new(vnet(&system, name)))
}

/// Makes the thread enter more vnets than it keeps references to.
fn enter_many_others() {
    let system = System::manual(1);
    let others: Vec<_> = (0..20).map(|n| vnet(&system, &format!("v{n}"))).collect();
    for other in &others {
        let _entered = other.enter();
    }
}

#[test]
fn a_system_goes_with_its_last_handle() {
    let token = Arc::new(());
    let kept = Arc::clone(&token);
    let system = System::threads();
    let step = move |_: &Vnet| {
        let _ = &kept;
        Ok(())
    };
    let step = InitRecord::new("step", Stage::Services, 0, step, |_| Ok(()));
    system.register(step).expect("it does not fail");
    let a = vnet(&system, "a");
    {
        let _a = a.enter();
        let _socket = UdpSocket::bind("127.0.0.1:9").expect("it is free");
    }
    drop((a, system));
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "the thread keeps nothing of it"
    );
}

thread_local! {
    static STASH: RefCell<Option<Entered<'static>>> = const { RefCell::new(None) };
}

/// Enters another vnet when it sees a frame, and does not leave.
struct Intruder(&'static OwnedVnet);

impl FrameTap for Intruder {
    fn frame(&self, _at: Instant, _direction: Direction, _packet: &Packet) {
        STASH.with(|stash| {
            if stash.borrow().is_none() {
                *stash.borrow_mut() = Some(self.0.enter());
            }
        });
    }
}

#[test]
fn a_guard_that_outlives_the_call_it_was_made_in_restores_nothing() {
    let intruder = eternal("intruder");
    {
        let system = System::manual(1);
        let a = vnet(&system, "a");
        let tap = Arc::new(Intruder(intruder));
        a.capture("lo0", tap).expect("there is one");
        let socket = UdpSocket::bind_in(&a, "127.0.0.1:9").expect("it is free");
        socket.send_to(b"x", "127.0.0.1:9").expect("it is local");
        assert_eq!(current(), None);
    }
    enter_many_others();
    let guard = STASH.with(RefCell::take);
    assert!(guard.is_some(), "a frame was seen");
    drop(guard);
    assert_eq!(current(), None);
}

#[test]
fn a_guard_that_was_left_behind_does_not_restore_a_vnet_that_is_no_more() {
    let inner = eternal("inner");
    let stale = {
        let system = System::manual(1);
        let a = vnet(&system, "a");
        let outer = a.enter();
        let stale = inner.enter();
        let misuse = catch_unwind(AssertUnwindSafe(|| drop(outer)));
        assert!(
            misuse.is_err(),
            "it is dropped before the one made after it"
        );
        stale
    };
    enter_many_others();
    let other = eternal("other");
    let _one = other.enter();
    let _two = other.enter();
    drop(stale);
    // Whatever is current, it can be asked for its name.
    assert_eq!(current().as_deref(), Some("a"));
}
