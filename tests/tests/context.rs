//! Promise: the current vnet is a thread's own, nests, and comes back whatever happens.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{Entered, Gone, OwnedVnet, SocketError, System, Vnet};
use vnet_tests::topology::{pair, vnet};

fn current() -> Option<String> {
    Vnet::current().map(|v| v.name().to_owned())
}

fn is_current(name: &str) -> bool {
    current().as_deref() == Some(name)
}

#[test]
fn entering_nests_and_leaving_restores() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    assert_eq!(current(), None);
    let outer = a.enter();
    assert!(is_current("a"));
    {
        let _b = b.enter();
        assert!(is_current("b"));
        {
            let _again = a.enter();
            assert!(is_current("a"), "the same vnet may be entered again");
        }
        assert!(is_current("b"));
    }
    assert!(is_current("a"));
    drop(outer);
    assert_eq!(current(), None);
}

#[test]
fn a_hundred_levels_unwind_one_by_one() {
    fn descend(vnets: &[OwnedVnet], level: usize) {
        let vnet = &vnets[level % vnets.len()];
        let _entered = vnet.enter();
        if level < 100 {
            descend(vnets, level + 1);
        }
        assert!(is_current(vnet.name()), "level {level}");
    }
    let system = System::manual(1);
    // More vnets than a thread keeps references to between entries.
    let vnets: Vec<OwnedVnet> = (0..30).map(|n| vnet(&system, &format!("v{n}"))).collect();
    descend(&vnets, 0);
    assert_eq!(current(), None);
}

#[test]
fn leaving_in_the_wrong_order_panics_and_says_what_to_do() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let first = a.enter();
    let second = b.enter();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(first))).expect_err("this is misuse");
    let advice = panic.downcast_ref::<&str>().expect("the panic has a text");
    assert!(
        advice.contains("own block") && advice.contains("reverse order"),
        "{advice}"
    );
    // The thread is as it was before the first guard, and usable.
    drop(second);
    assert_eq!(current(), None);
    let _b = b.enter();
    assert!(is_current("b"));
}

#[test]
fn a_panic_inside_restores_what_was_current() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let _a = a.enter();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _b = b.enter();
        let _a_again = a.enter();
        std::panic::panic_any("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(is_current("a"));
}

#[test]
fn guards_dropped_in_the_wrong_order_by_a_panic_do_not_panic_twice() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        // Fields drop in the order of declaration: the wrong one for guards.
        struct Wrong<'a>(
            #[allow(dead_code)] Entered<'a>,
            #[allow(dead_code)] Entered<'a>,
        );
        let _wrong = Wrong(a.enter(), b.enter());
        std::panic::panic_any("on purpose");
    }));
    let panic = panicked.expect_err("it panics once");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(current(), None);
}

#[test]
fn a_forgotten_guard_leaves_a_current_vnet_that_is_safe_to_use() {
    std::thread::spawn(|| {
        {
            let system = System::manual(1);
            let a = vnet(&system, "forgotten");
            std::mem::forget(a.enter());
            // The vnet, its handle and its system go, while the thread still stands in it.
        }
        let ghost = Vnet::current().expect("nothing has left it");
        assert_eq!(ghost.name(), "forgotten");
        assert_eq!(ghost.stats().unwrap_err(), Gone);
        assert!(SocketError::is_gone(
            &UdpSocket::bind("0.0.0.0:0").unwrap_err()
        ));
        // Other vnets can be entered and left on top of it, more than a thread keeps.
        let system = System::manual(1);
        for n in 0..30 {
            let other = vnet(&system, &format!("v{n}"));
            let entered = other.enter();
            assert!(is_current(other.name()));
            drop(entered);
            assert!(is_current("forgotten"));
        }
        drop(ghost);
        assert!(is_current("forgotten"));
    })
    .join()
    .expect("the thread ends well, and so does its thread-local state");
}

#[test]
fn a_vnet_may_be_destroyed_while_a_thread_stands_in_it() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let handle = Vnet::clone(&a);
    let entered = handle.enter();
    assert!(a.destroy().leaked.is_zero());
    assert!(is_current("a"));
    assert!(SocketError::is_gone(
        &UdpSocket::bind("0.0.0.0:0").unwrap_err()
    ));
    let again = vnet(&system, "a");
    {
        let _new = again.enter();
        UdpSocket::bind("0.0.0.0:0").expect("the new one is alive");
    }
    assert!(
        SocketError::is_gone(&UdpSocket::bind("0.0.0.0:0").unwrap_err()),
        "the old one is current again"
    );
    drop(entered);
    assert_eq!(current(), None);
}

#[test]
fn threads_start_with_no_vnet_whatever_the_spawner_stands_in() {
    let system = System::threads();
    let a = vnet(&system, "a");
    let _a = a.enter();
    assert_eq!(std::thread::spawn(current).join().unwrap(), None);
    assert_eq!(system.spawn(current).unwrap().join().unwrap(), None);
    assert!(is_current("a"), "and the spawner's stays");
}

#[test]
fn a_vnets_thread_starts_in_it_under_every_driver() {
    for system in [
        System::threads(),
        System::virtual_time(1),
        System::manual(1),
    ] {
        let a = vnet(&system, "a");
        let inside = a.spawn(|| (current(), UdpSocket::bind("0.0.0.0:7").is_ok()));
        assert_eq!(
            inside.unwrap().join().unwrap(),
            (Some("a".to_owned()), true)
        );
    }
}

#[test]
fn a_panic_in_a_vnets_thread_is_its_joiners() {
    for system in [
        System::threads(),
        System::virtual_time(1),
        System::manual(1),
    ] {
        let a = vnet(&system, "a");
        let panicked = a
            .spawn(|| std::panic::panic_any("on purpose"))
            .unwrap()
            .join()
            .expect_err("the thread panicked");
        assert_eq!(panicked.downcast_ref::<&str>(), Some(&"on purpose"));
    }
}

/// Pending a few times, noting where it is polled.
struct Notes {
    polls_left: usize,
    seen: Vec<Option<String>>,
}

impl Future for Notes {
    type Output = Vec<Option<String>>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.seen.push(current());
        match self.polls_left {
            0 => Poll::Ready(std::mem::take(&mut self.seen)),
            _ => {
                self.polls_left -= 1;
                Poll::Pending
            }
        }
    }
}

#[test]
fn a_scoped_future_is_in_its_vnet_at_every_poll_on_any_thread() {
    let system = System::manual(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let notes = |polls_left| Notes {
        polls_left,
        seen: Vec::new(),
    };
    let mut future = Box::pin(a.scope(notes(3)));
    let mut poll = |n: usize| {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(current(), if n == 1 { Some("b".to_owned()) } else { None });
        polled
    };
    assert!(poll(0).is_pending());
    {
        let _b = b.enter();
        assert!(poll(1).is_pending());
    }
    let mut elsewhere = |n| std::thread::scope(|s| s.spawn(|| poll(n)).join().unwrap());
    assert!(elsewhere(2).is_pending());
    let seen = elsewhere(3);
    assert_eq!(seen, Poll::Ready(vec![Some("a".to_owned()); 4]));
}

#[test]
fn scopes_nest() {
    let system = System::virtual_time(1);
    let (a, b) = (vnet(&system, "a"), vnet(&system, "b"));
    let seen = system.block_on(a.scope(async {
        let before = current();
        let inner = b.scope(async { current() }).await;
        (before, inner, current())
    }));
    let name = |n: &str| Some(n.to_owned());
    assert_eq!(seen.unwrap(), (name("a"), name("b"), name("a")));
}

#[test]
fn a_future_that_panics_leaves_the_thread_as_it_was() {
    let system = System::manual(1);
    let a = vnet(&system, "a");
    let mut future = Box::pin(a.scope(async { std::panic::panic_any("on purpose") }));
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _: Poll<()> = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }));
    assert!(polled.is_err());
    assert_eq!(current(), None);
}

#[test]
fn a_scoped_future_that_blocks_is_woken() {
    struct Bell(std::sync::atomic::AtomicUsize);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let bell = Arc::new(Bell(0.into()));
    let waker = Waker::from(Arc::clone(&bell));
    let mut receiving = pin!(b.scope(async {
        let socket = UdpSocket::bind("0.0.0.0:7").expect("a scope is a current vnet");
        let mut buf = [0; 8];
        std::future::poll_fn(|task| socket.poll_recv_from(task, &mut buf)).await
    }));
    let mut task = Context::from_waker(&waker);
    assert!(receiving.as_mut().poll(&mut task).is_pending());
    let client = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    client.send_to(b"wake up", "10.0.0.2:7").unwrap();
    system.poll(system.now());
    assert_eq!(bell.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    let Poll::Ready(Ok((n, _))) = receiving.as_mut().poll(&mut task) else {
        panic!("it was woken for nothing");
    };
    assert_eq!(n, 7);
}

#[test]
fn a_socket_without_a_vnet_is_a_typed_error() {
    assert_eq!(current(), None);
    let errors: [io::Error; 6] = [
        UdpSocket::bind("0.0.0.0:0").unwrap_err(),
        TcpListener::bind("0.0.0.0:0").unwrap_err(),
        TcpStream::connect("127.0.0.1:1").unwrap_err(),
        TcpStream::connect_timeout(
            &"127.0.0.1:1".parse().unwrap(),
            std::time::Duration::from_secs(1),
        )
        .unwrap_err(),
        EchoSocket::bind().unwrap_err(),
        RawSocket::open(89).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NetworkDown);
        assert_eq!(SocketError::of(&error), Some(SocketError::NoCurrentVnet));
        assert!(error.to_string().contains("enter()"), "{error}");
    }
}

/// Whether a type is `Send`, asked without failing to compile: the inherent constant, which
/// there is for `Send` types only, goes before the trait's.
struct Probe<T>(PhantomData<T>);

trait OtherwiseNot {
    const IS_SEND: bool = false;
    const IS_SYNC: bool = false;
}

impl<T> OtherwiseNot for Probe<T> {}

impl<T: Send> Probe<T> {
    const IS_SEND: bool = true;
}

impl<T: Sync> Probe<T> {
    const IS_SYNC: bool = true;
}

#[test]
fn a_guard_cannot_leave_its_thread_and_everything_else_can() {
    const {
        assert!(!Probe::<Entered<'static>>::IS_SEND);
        assert!(!Probe::<Entered<'static>>::IS_SYNC);
        assert!(!Probe::<std::rc::Rc<()>>::IS_SEND, "the probe can say no");
        assert!(Probe::<Vnet>::IS_SEND && Probe::<Vnet>::IS_SYNC);
        assert!(Probe::<OwnedVnet>::IS_SEND && Probe::<OwnedVnet>::IS_SYNC);
        assert!(Probe::<System>::IS_SEND && Probe::<System>::IS_SYNC);
        assert!(Probe::<UdpSocket>::IS_SEND && Probe::<UdpSocket>::IS_SYNC);
        assert!(Probe::<TcpStream>::IS_SEND && Probe::<TcpStream>::IS_SYNC);
        assert!(Probe::<TcpListener>::IS_SEND && Probe::<TcpListener>::IS_SYNC);
        assert!(Probe::<EchoSocket>::IS_SEND && Probe::<RawSocket>::IS_SEND);
        assert!(Probe::<vnet::Port>::IS_SEND && Probe::<vnet::Port>::IS_SYNC);
    }
    fn send(_: impl Send) {}
    send(vnet(&System::manual(1), "a").scope(std::future::ready(())));
}
