use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::instance::{OwnedVnet, System};
use crate::link::LinkConfig;
use crate::netif::fingerprint::Fingerprint;
use crate::runtime::cost::VirtualConfig;
use crate::socket::udp::UdpSocket;
use crate::tasks::task::{TaskError, TaskHandle};

fn system(threads: usize) -> System {
    let config = VirtualConfig {
        threads,
        ..VirtualConfig::default()
    };
    let system = System::virtual_time_with(3, config);
    system.record_fingerprint();
    system
}

/// Vnets in a ring, each with an address for the next one.
fn ring(system: &System, count: usize) -> Vec<OwnedVnet> {
    let vnets: Vec<OwnedVnet> = (0..count)
        .map(|n| system.create(&format!("v{n}")).expect("a free name"))
        .collect();
    for n in 0..count {
        let (near, far) = (&vnets[n], &vnets[(n + 1) % count]);
        near.epair("right", far, "left").expect("free names");
        let link = LinkConfig {
            rate_bps: Some(10_000_000),
            delay: Duration::from_micros(300),
            loss: 0.01.into(),
            ..LinkConfig::default()
        };
        for (vnet, name, own) in [(near, "right", 1), (far, "left", 2)] {
            let own = format!("10.0.{n}.{own}/30").parse().expect("an address");
            vnet.add_address(name, own).expect("free");
            vnet.set_link(name, link.clone()).expect("a link");
        }
    }
    vnets
}

/// A task in each vnet that sends to the next one and answers the one before.
fn talk(vnets: &[OwnedVnet]) -> Vec<TaskHandle<io::Result<usize>>> {
    let start = |(n, vnet): (usize, &OwnedVnet)| {
        let any = SocketAddr::from(([0, 0, 0, 0], 9));
        let socket = UdpSocket::bind_in(vnet, any).expect("a free port");
        let next = SocketAddr::from(([10, 0, n as u8, 2], 9));
        let task = async move {
            for _ in 0..20 {
                socket.send_to(&[n as u8; 500], next)?;
            }
            let mut heard = 0;
            loop {
                let mut room = [0; 600];
                let (len, from) = poll_fn(|cx| socket.poll_recv_from(cx, &mut room)).await?;
                heard += 1;
                if heard == 200 {
                    return Ok(heard);
                }
                socket.send_to(&room[..len], from)?;
            }
        };
        vnet.spawn_future(task)
    };
    vnets.iter().enumerate().map(start).collect()
}

fn apart(system: &System) -> u64 {
    system.parallel().events
}

#[test]
fn what_several_threads_carry_out_is_what_one_does() {
    let run = |threads| -> (u64, Instant, Option<Fingerprint>) {
        let system = system(threads);
        let vnets = ring(&system, 12);
        let tasks = talk(&vnets);
        let events = system.run_for(Duration::from_millis(300));
        let is_apart = apart(&system) > 0;
        assert_eq!(is_apart, threads > 1, "{threads} threads");
        drop(tasks);
        (
            events.expect("it goes on"),
            system.now(),
            system.fingerprint(),
        )
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}

#[test]
fn what_can_be_seen_from_outside_is_carried_out_by_one_thread() {
    let run = |disturb: fn(&System, &[OwnedVnet])| {
        let system = system(2);
        let vnets = ring(&system, 6);
        let _tasks = talk(&vnets);
        disturb(&system, &vnets);
        system.run_for(Duration::from_millis(100)).expect("it runs");
        apart(&system)
    };
    assert!(run(|_, _| ()) > 0);
    assert_eq!(
        run(|_, vnets| drop(vnets[3].port("outside", None).expect("a free name"))),
        0
    );
    let without_delay = |_: &System, vnets: &[OwnedVnet]| {
        for vnet in vnets {
            vnet.set_link("right", LinkConfig::default())
                .expect("a link");
        }
    };
    assert_eq!(run(without_delay), 0);
    let sleeper = |system: &System, _: &[OwnedVnet]| {
        let clock = system.clone();
        let sleep = async move { clock.sleep_async(Duration::from_secs(1)).await };
        drop(system.spawn_future(sleep));
    };
    assert_eq!(run(sleeper), 0);
}

/// A promise that is broken is noticed where that is possible, and costs the task its life.
#[test]
fn a_task_that_uses_another_vnet_panics() {
    let system = system(2);
    let vnets = ring(&system, 6);
    let _tasks = talk(&vnets);
    let any = SocketAddr::from(([0, 0, 0, 0], 10));
    let sockets: Vec<UdpSocket> = vnets
        .iter()
        .map(|vnet| UdpSocket::bind_in(vnet, any).expect("a free port"))
        .collect();
    let sockets = Arc::new(sockets);
    let (clock, theirs) = (system.clone(), Arc::clone(&sockets));
    let task = vnets[0].spawn_future(async move {
        loop {
            clock.sleep_async(Duration::from_micros(10)).await;
            for socket in &*theirs {
                let _ = socket.send_to(&[0], any);
            }
        }
    });
    system.run_for(Duration::from_millis(50)).expect("it runs");
    assert!(apart(&system) > 0);
    assert!(matches!(task.join(), Err(TaskError::Panicked(_))));
}
