//! The processor time of a vnet is counted, can be limited, and weighs what its owner says; and simulated time knows nothing
//! of it.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use vnet::net::UdpSocket;
use vnet::{AdminError, OwnedVnet, Resource, System};

const CALLS: usize = 100_000;

fn joined(system: &System) -> [OwnedVnet; 2] {
    let [a, b] = ["a", "b"].map(|name| system.create(name).unwrap());
    a.epair("eth0", &b, "eth0").unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    [a, b]
}

fn processor(vnet: &OwnedVnet) -> Duration {
    vnet.stats().unwrap().processor
}

fn refused(vnet: &OwnedVnet) -> u64 {
    vnet.usage(Resource::Processor).unwrap().refused
}

/// Of a hundred thousand calls and the services that they cause, some are measured.
#[test]
fn the_time_of_calls_and_services_counts_where_they_take_place() {
    let system = System::threads();
    let [a, b] = joined(&system);
    let idle = system.create("idle").unwrap();
    let before = processor(&idle);
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    for _ in 0..CALLS {
        // Port unreachable comes back now and then, and is an error of the next call.
        let _ = socket.send_to(b"x", "192.0.2.2:9");
    }
    assert!(processor(&a) > Duration::ZERO && processor(&b) > Duration::ZERO);
    assert_eq!(processor(&idle), before, "nobody was there");
    let seen = a.inspect().unwrap();
    assert!(seen.counters["processor_us"] > 0);
}

/// Of a hundred thousand polls that enter no vnet, some are measured.
#[test]
fn the_time_of_polls_counts_where_the_task_belongs() {
    let system = System::threads();
    let [a, b] = joined(&system);
    let before = [&a, &b].map(processor);
    let mut left = CALLS;
    let busy = poll_fn(move |task| {
        left -= 1;
        match left {
            0 => Poll::Ready(()),
            _ => {
                task.waker().wake_by_ref();
                Poll::Pending
            }
        }
    });
    a.spawn_future(busy).join().unwrap();
    assert!(processor(&a) > before[0]);
    assert_eq!(processor(&b), before[1], "it has no task");
}

/// What waits is let in after a tenth of a second, however far beyond the limit the vnet is.
#[test]
fn services_of_a_vnet_that_may_use_nothing_wait_and_take_place() {
    let system = System::threads();
    let [a, b] = joined(&system);
    let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    let receiver = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    b.set_limit(Resource::Processor, 0).unwrap();
    for n in 0..3_u8 {
        sender.send_to(&[n], "192.0.2.2:7").unwrap();
        let mut data = [0];
        receiver.recv_from(&mut data).unwrap();
        assert_eq!(data, [n]);
    }
    assert!(refused(&b) >= 3);
    assert_eq!(refused(&a), 0);
    let held = refused(&b);
    b.set_limit(Resource::Processor, Resource::UNLIMITED)
        .unwrap();
    sender.send_to(b"x", "192.0.2.2:7").unwrap();
    receiver.recv_from(&mut [0]).unwrap();
    assert_eq!(refused(&b), held);
}

#[test]
fn nothing_is_measured_or_held_where_time_is_simulated() {
    let arrived = |limit| {
        let system = System::virtual_time(1);
        let [a, b] = joined(&system);
        b.set_limit(Resource::Processor, limit).unwrap();
        let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
        let receiver = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
        for _ in 0..1000 {
            sender.send_to(b"x", "192.0.2.2:7").unwrap();
            receiver.recv_from(&mut [0]).unwrap();
        }
        assert_eq!(processor(&b), Duration::ZERO);
        let usage = b.usage(Resource::Processor).unwrap();
        assert_eq!((usage.current, usage.high_water, usage.refused), (0, 0, 0));
        system.now()
    };
    assert_eq!(arrived(0), arrived(Resource::UNLIMITED));
}

#[test]
fn a_weight_is_the_owners_and_a_child_has_no_more_than_its_parent() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let weight = |vnet: &OwnedVnet| vnet.sysctl("kern.sched.weight").unwrap();
    assert_eq!(weight(&a), "100");
    a.set_sysctl("kern.sched.weight", 30).unwrap();
    let child = a.create_child("c").unwrap();
    assert_eq!(weight(&child), "30");
    child.set_sysctl("kern.sched.weight", 1000).unwrap();
    assert_eq!(weight(&child), "30");
    a.set_sysctl("kern.sched.weight", 200).unwrap();
    assert_eq!((weight(&a), weight(&child)), ("200".into(), "200".into()));
    a.set_sysctl("kern.sched.weight", 7).unwrap();
    assert_eq!(weight(&child), "7");
    let tenant = a.clone();
    let refused = tenant.set_sysctl("kern.sched.weight", 1000);
    assert_eq!(refused, Err(AdminError::OwnerOnly("kern.sched.weight")));
    let refused = a.set_sysctl("kern.sched.weight", 0);
    assert!(matches!(refused, Err(AdminError::Config(_))));
}

#[test]
fn a_limit_has_a_tunable_and_is_in_effect_below() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let child = a.create_child("c").unwrap();
    a.set_sysctl("kern.sched.limit", 250_000).unwrap();
    let limit = |vnet: &OwnedVnet| vnet.usage(Resource::Processor).unwrap().limit;
    assert_eq!((limit(&a), limit(&child)), (250_000, 250_000));
    child.set_limit(Resource::Processor, 1_000_000).unwrap();
    assert_eq!(limit(&child), 250_000);
    let a_twin = system.replay(&a.record().unwrap(), "twin").unwrap();
    assert_eq!(limit(&a_twin), 250_000);
}
