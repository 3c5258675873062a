//! Promise: a task that computes for ever takes a thread, and nobody's time: frames arrive and timers
//! go off beside as many as there like to be, other instances' tasks are polled, and its own vnet
//! is destroyed at once.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{LinkConfig, OwnedVnet, Resource, System, TaskError, TaskHandle, ThreadsConfig};
use vnet_tests::topology::{pair, vnet};

/// Longer than anything here takes, so that a failure is one and not a hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn threads(workers: usize) -> System {
    System::threads_with(ThreadsConfig {
        workers,
        ..ThreadsConfig::default()
    })
}

/// Tasks that are in one poll each until they are told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    inside: Arc<AtomicUsize>,
    tasks: Vec<TaskHandle<()>>,
}

impl Busy {
    fn start(vnet: &OwnedVnet, count: usize) -> Busy {
        let (stop, inside) = (Arc::default(), Arc::default());
        let one = |_| {
            let (stop, inside): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&stop), Arc::clone(&inside));
            vnet.spawn_future(async move {
                inside.fetch_add(1, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        };
        let tasks = (0..count).map(one).collect();
        Busy {
            stop: Arc::clone(&stop),
            inside: Arc::clone(&inside),
            tasks,
        }
    }

    fn wait_until_inside(&self, count: usize) {
        let give_up = Instant::now() + PATIENCE;
        while self.inside.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < give_up, "no {count} tasks are inside");
            std::thread::yield_now();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn frames_and_timers_do_not_wait_for_busy_tasks() {
    let system = threads(1);
    let (a, b) = pair(&system);
    let delay = LinkConfig {
        delay: Duration::from_millis(1),
        ..LinkConfig::default()
    };
    for vnet in [&a, &b] {
        vnet.set_link("eth0", delay.clone()).unwrap();
    }
    let bad = vnet(&system, "bad");
    let busy = Busy::start(&bad, 10);
    busy.wait_until_inside(1);

    let server = UdpSocket::bind_in(&b, "10.0.0.2:7").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = UdpSocket::bind_in(&a, "10.0.0.1:0").unwrap();
    client.send_to(b"x", "10.0.0.2:7").unwrap();
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 1);

    // Handshakes and acknowledgements, and the ends of waits.
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let mut stream = TcpStream::connect_in(&a, "10.0.0.2:80").unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    stream.write_all(b"hello").unwrap();
    let mut five = [0; 5];
    accepted.read_exact(&mut five).unwrap();
    system.sleep(Duration::from_millis(1)).unwrap();

    // Tasks of others, and of nobody, and their timers.
    let nap = system.sleep_async(Duration::from_millis(1));
    a.spawn_future(nap).join().unwrap();
    let nap = system.sleep_async(Duration::from_millis(1));
    system.spawn_future(nap).join().unwrap();
    assert!(busy.tasks.iter().all(|task| !task.is_finished()));
}

/// However many busy tasks an instance has, so many of them are polled at a time as there are
/// workers; the next one begins when one ends.
#[test]
fn an_instance_has_its_share_of_polls() {
    let system = threads(2);
    let bad = vnet(&system, "bad");
    let mut busy = Busy::start(&bad, 20);
    busy.wait_until_inside(2);
    for n in 0..5 {
        // Each of them makes a thread more necessary.
        let other = vnet(&system, &format!("other{n}"));
        let nap = system.sleep_async(Duration::from_millis(1));
        other.spawn_future(nap).join().unwrap();
        assert_eq!(busy.inside.load(Ordering::SeqCst), 2);
    }
    busy.stop.store(true, Ordering::SeqCst);
    for task in std::mem::take(&mut busy.tasks) {
        task.join().unwrap();
    }
}

#[test]
fn a_vnet_with_a_busy_task_is_destroyed_at_once() {
    let system = threads(2);
    let bad = vnet(&system, "bad");
    let idle = bad.spawn_future(std::future::pending::<()>());
    let mut busy = Busy::start(&bad, 3);
    busy.wait_until_inside(2);
    let report = bad.destroy();
    assert_eq!(report.busy_tasks, 2);
    assert!(report.leaked.is_zero());
    assert!(
        report.to_string().contains("tasks still in a poll: 2"),
        "{report}"
    );
    assert!(matches!(idle.join(), Err(TaskError::Gone)));
    // The third one was never polled; the others end when their polls do.
    let third = busy.tasks.pop().unwrap();
    assert!(matches!(third.join(), Err(TaskError::Gone)));
    let again = vnet(&system, "bad");
    again.spawn_future(async {}).join().unwrap();
    assert!(busy.tasks.iter().all(|task| !task.is_finished()));
    busy.stop.store(true, Ordering::SeqCst);
    for task in std::mem::take(&mut busy.tasks) {
        // A poll that was under way counts.
        assert!(matches!(task.join(), Ok(()) | Err(TaskError::Gone)));
    }
}

/// A system goes beside a task that does not end its poll.
#[test]
fn a_system_with_a_busy_task_goes_at_once() {
    let system = threads(1);
    let bad = vnet(&system, "bad");
    let busy = Busy::start(&bad, 1);
    busy.wait_until_inside(1);
    drop(bad);
    drop(system);
    assert_eq!(busy.inside.load(Ordering::SeqCst), 1);
}

#[test]
fn tasks_are_limited() {
    for system in [
        System::virtual_time(1),
        System::threads(),
        System::manual(1),
    ] {
        let (a, b) = pair(&system);
        a.set_limit(Resource::Tasks, 2).unwrap();
        let one = a.spawn_future(std::future::pending::<()>());
        let _two = a.spawn_future(std::future::pending::<()>());
        let three = a.spawn_future(async { 3 });
        assert!(three.is_finished());
        let error = three.join().unwrap_err();
        assert!(matches!(error, TaskError::Limit(_)), "{error}");
        assert_eq!(
            error.to_string(),
            "this vnet has reached its limit of tasks"
        );
        let _others = b.spawn_future(std::future::pending::<()>());
        let usage = a.usage(Resource::Tasks).unwrap();
        let counts = (usage.current, usage.high_water, usage.limit, usage.refused);
        assert_eq!(counts, (2, 2, 2, 1));
        one.abort();
        // Under threads it may be in its first poll, and counts until that ends.
        while a.usage(Resource::Tasks).unwrap().current > 1 {
            std::thread::yield_now();
        }
        let _four = a.spawn_future(std::future::pending::<()>());
        assert_eq!(a.usage(Resource::Tasks).unwrap().current, 2);
    }
}

/// One that was aborted in the middle of a poll still takes a thread, and counts.
#[test]
fn a_busy_task_that_was_aborted_counts_until_its_poll_ends() {
    let system = threads(1);
    let bad = vnet(&system, "bad");
    bad.set_limit(Resource::Tasks, 1).unwrap();
    let busy = Busy::start(&bad, 1);
    busy.wait_until_inside(1);
    busy.tasks[0].abort();
    let more = bad.spawn_future(async {});
    assert!(matches!(more.join(), Err(TaskError::Limit(_))));
    busy.stop.store(true, Ordering::SeqCst);
    while bad.usage(Resource::Tasks).unwrap().current > 0 {
        std::thread::yield_now();
    }
    bad.spawn_future(async {}).join().unwrap();
}

/// Many tasks of many instances, each polled again and again: none is forgotten.
#[test]
fn every_task_comes_to_its_end() {
    let system = threads(2);
    let vnets: Vec<OwnedVnet> = (0..10).map(|n| vnet(&system, &format!("v{n}"))).collect();
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let mut left = n % 50;
            vnets[n % vnets.len()].spawn_future(poll_fn(move |cx| {
                if left == 0 {
                    return std::task::Poll::Ready(n);
                }
                left -= 1;
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }))
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap(), n);
    }
}
