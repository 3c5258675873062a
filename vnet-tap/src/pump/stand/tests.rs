use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, ThreadId};
use std::time::Instant;

use vnet::net::UdpSocket;
use vnet::{Offload, OwnedVnet, System};

use super::*;
use crate::guest::Framing;
use crate::line::Frame;
use crate::pump::{Pump, plug};
use crate::report::PumpEnd;
use crate::socket;

const PATIENCE: Duration = Duration::from_secs(60);

/// A way in, and who has read a frame there.
struct Watched {
    inward: Box<dyn Inward>,
    readers: Arc<Mutex<Vec<ThreadId>>>,
    /// The next frame is the end of it.
    breaks: Arc<AtomicBool>,
}

impl Inward for Watched {
    fn fd(&self) -> BorrowedFd<'_> {
        self.inward.fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let frame = self.inward.read()?;
        if frame.is_some() {
            assert!(!self.breaks.load(Ordering::SeqCst), "the line breaks");
            self.readers.lock().push(thread::current().id());
        }
        Ok(frame)
    }
}

/// A vnet with a socket, and who reads its frames.
struct Station {
    socket: UdpSocket,
    pump: Pump,
    readers: Arc<Mutex<Vec<ThreadId>>>,
    breaks: Arc<AtomicBool>,
    vnet: OwnedVnet,
}

fn station(name: &str, stream: UnixStream, address: &str) -> Station {
    let vnet = System::threads().create(name).unwrap();
    let (readers, breaks) = <(Arc<_>, Arc<AtomicBool>)>::default();
    let (inward, outward) = socket::line(stream.into(), Framing::Length32).unwrap();
    let inward = Box::new(Watched {
        inward,
        readers: Arc::clone(&readers),
        breaks: Arc::clone(&breaks),
    });
    let plug = plug(&vnet, "eth0", None, Offload::None).unwrap();
    let pump = Pump::start(name, (inward, outward), plug, 1 << 20, Duration::ZERO).unwrap();
    vnet.add_address("eth0", format!("{address}/24").parse().unwrap())
        .unwrap();
    let socket = UdpSocket::bind_in(&vnet, (address, 7)).unwrap();
    Station {
        socket,
        pump,
        readers,
        breaks,
        vnet,
    }
}

fn pair() -> (Station, Station) {
    let (near, far) = UnixStream::pair().unwrap();
    (
        station("near", near, "192.0.2.1"),
        station("far", far, "192.0.2.2"),
    )
}

impl Station {
    /// Has a thread wait for something else than a greeting.
    fn waits(socket: &UdpSocket) -> thread::JoinHandle<io::Result<usize>> {
        let socket = socket.try_clone().unwrap();
        thread::spawn(move || {
            let mut buf = [0; 9];
            loop {
                let n = socket.recv(&mut buf)?;
                if buf[..n] != *b"hello" {
                    return Ok(n);
                }
            }
        })
    }

    /// Greets `near` until the thread `waits` carries the greetings. As long as nobody has had to wait, the pump sleeps at
    /// the line, from where it has to be woken once.
    fn lend<T>(&self, readers: &Mutex<Vec<ThreadId>>, waits: &thread::JoinHandle<T>) {
        let give_up = Instant::now() + PATIENCE;
        let pause = Some(Duration::from_millis(1));
        self.socket.set_read_timeout(pause).unwrap();
        while !readers.lock().contains(&waits.thread().id()) {
            assert!(Instant::now() < give_up, "it never carries");
            self.socket.send_to(b"hello", "192.0.2.1:7").unwrap();
            let _ = self.socket.recv(&mut [0; 9]);
        }
        assert!(!waits.is_finished(), "it has not waited");
    }
}

#[test]
fn one_who_waits_carries_until_it_is_woken_and_the_pump_goes_on() {
    let (near, far) = pair();
    let Station {
        socket,
        pump,
        readers,
        vnet,
        ..
    } = near;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = socket.local_addr().unwrap();
    // Answers until it is told to end.
    let waits = thread::spawn(move || {
        let mut buf = [0; 9];
        loop {
            let (n, from) = socket.recv_from(&mut buf).unwrap();
            if buf[..n] == *b"end" {
                return socket;
            }
            socket.send_to(&buf[..n], from).unwrap();
        }
    });
    let who = waits.thread().id();
    far.socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let give_up = Instant::now() + PATIENCE;
    // As long as nobody has had to wait, the pump sleeps at the line, from where it has to be woken once.
    while !readers.lock().contains(&who) {
        assert!(Instant::now() < give_up, "it never carries");
        let _ = far.socket.send_to(b"hello", at);
        let _ = far.socket.recv(&mut [0; 9]);
    }
    // It hears of what comes by no line: it would wait for longer than the test does.
    let beside = UdpSocket::bind_in(&vnet, "192.0.2.1:0").unwrap();
    beside.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..100 {
        beside.send_to(b"hello", at).unwrap();
        assert_eq!(beside.recv(&mut [0; 9]).unwrap(), 5);
    }
    beside.send_to(b"end", at).unwrap();
    let socket = waits.join().unwrap();
    // Nobody waits: it is the pump's.
    readers.lock().clear();
    socket.set_nonblocking(true).unwrap();
    far.socket.send_to(b"again", at).unwrap();
    while socket.recv(&mut [0; 9]).is_err() {
        assert!(Instant::now() < give_up, "nobody carries");
        thread::yield_now();
    }
    let me = thread::current().id();
    assert!(readers.lock().iter().all(|it| *it != me && *it != who));
    // One who waits does not keep the pump from ending, nor does its end wake it.
    socket.set_nonblocking(false).unwrap();
    let waits = Station::waits(&socket);
    far.lend(&readers, &waits);
    let end = pump.detach().end;
    assert!(matches!(end, Some(PumpEnd::Detached)), "{end:?}");
    assert!(!waits.is_finished());
    beside.send_to(b"end", at).unwrap();
    assert_eq!(waits.join().unwrap().unwrap(), 3);
    far.pump.detach();
    drop(far.vnet);
}

fn await_the_end(pump: &Pump) {
    let give_up = Instant::now() + PATIENCE;
    while pump.is_running() {
        assert!(Instant::now() < give_up, "it goes on");
        thread::yield_now();
    }
}

/// However much there is to carry, and none of it for the one who carries.
#[test]
fn a_wait_that_carries_ends_in_time() {
    let (near, far) = pair();
    near.socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let _ = far.socket.send_to(b"hello", "192.0.2.1:9");
            }
        });
        for _ in 0..10 {
            let waited = near.socket.recv(&mut [0; 9]);
            assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        ends.store(true, Ordering::SeqCst);
    });
    assert!(near.readers.lock().contains(&thread::current().id()));
}

#[test]
fn a_vnet_that_is_destroyed_ends_the_wait_of_one_who_carries() {
    let (near, far) = pair();
    let waits = Station::waits(&near.socket);
    far.lend(&near.readers, &waits);
    let report = near.vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    let gone = waits.join().unwrap().unwrap_err();
    assert!(vnet::SocketError::is_gone(&gone), "{gone:?}");
    await_the_end(&near.pump);
    let end = near.pump.detach().end;
    assert!(matches!(end, Some(PumpEnd::PortGone)), "{end:?}");
}

/// The panic is the pump's, and not that of whoever has carried for it.
#[test]
fn a_panic_at_the_hands_of_one_who_waits_is_the_pumps() {
    let (near, far) = pair();
    let at = near.socket.local_addr().unwrap();
    let waits = Station::waits(&near.socket);
    far.lend(&near.readers, &waits);
    near.breaks.store(true, Ordering::SeqCst);
    far.socket.send_to(b"hello", "192.0.2.1:9").unwrap();
    await_the_end(&near.pump);
    let Station { pump, vnet, .. } = near;
    let payload = catch_unwind(AssertUnwindSafe(|| pump.detach())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"the line breaks"));
    assert!(!waits.is_finished());
    let beside = UdpSocket::bind_in(&vnet, "192.0.2.1:0").unwrap();
    beside.send_to(b"end", at).unwrap();
    assert_eq!(waits.join().unwrap().unwrap(), 3);
}
