use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use vnet::packet::Packet;
use vnet::{Offload, OwnedVnet, Port, System};

use super::super::plug;
use super::*;
use crate::line::{Frame, Inward, Outward, Written};
use crate::sys::Bell;

const QUEUES: usize = 4;
const FLOWS: u8 = 32;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test does to one queue.
struct Hands {
    is_full: AtomicBool,
    has_failed: AtomicBool,
    bell: Bell,
}

struct Feed(Arc<Hands>);

impl Inward for Feed {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        match self.0.has_failed.load(Ordering::SeqCst) {
            true => Err(io::Error::other("it has failed")),
            false => Ok(None),
        }
    }
}

struct To {
    hands: Arc<Hands>,
    number: usize,
    heard: mpsc::Sender<(usize, Vec<u8>)>,
}

impl Outward for To {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        if self.hands.is_full.load(Ordering::SeqCst) {
            return Ok(Written::Later(packet));
        }
        let _ = self.heard.send((self.number, packet.to_vec()));
        Ok(Written::Yes)
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_millis(1))
    }
}

struct Bench {
    vnet: OwnedVnet,
    from: Port,
    pumps: Pumps,
    hands: Vec<Arc<Hands>>,
    hear: mpsc::Receiver<(usize, Vec<u8>)>,
}

fn bench(queue_bytes: usize) -> Bench {
    let vnet = System::threads().create("lan").unwrap();
    vnet.bridge("br0").unwrap();
    let from = vnet.port("from", None).unwrap();
    let plug = plug(&vnet, "to", None, Offload::None).unwrap();
    vnet.add_member("br0", "from").unwrap();
    vnet.add_member("br0", "to").unwrap();
    let (heard, hear) = mpsc::channel();
    let hands: Vec<_> = (0..QUEUES)
        .map(|_| {
            Arc::new(Hands {
                is_full: AtomicBool::new(false),
                has_failed: AtomicBool::new(false),
                bell: Bell::new().unwrap(),
            })
        })
        .collect();
    let queues = hands.iter().enumerate().map(|(number, hands)| {
        let to = To {
            hands: Arc::clone(hands),
            number,
            heard: heard.clone(),
        };
        (Box::new(Feed(Arc::clone(hands))) as _, Box::new(to) as _)
    });
    let pumps = Pumps::start("lanes", queues.collect(), plug, queue_bytes, Duration::ZERO);
    Bench {
        vnet,
        from,
        pumps: pumps.unwrap(),
        hands,
        hear,
    }
}

impl Bench {
    /// Sends a frame of a flow, with a number.
    fn send(&self, flow: u8, number: u16) {
        let mut frame = vec![0xff; 6];
        frame.extend([
            2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0,
        ]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, flow, 0, 9, 0, 26, 0, 0]);
        frame.extend(number.to_be_bytes());
        frame.resize(60, 0);
        // There is room for a few only, and nobody is to be late.
        while self.from.backlog() > 100 {
            thread::yield_now();
        }
        self.from.send(frame).unwrap();
    }

    /// The next that a queue was given: it, the flow and the number.
    fn hear(&self) -> (usize, u8, u16) {
        let (queue, frame) = self.hear.recv_timeout(PATIENCE).unwrap();
        (queue, frame[35], u16::from_be_bytes([frame[42], frame[43]]))
    }
}

#[test]
fn a_flow_stays_in_one_queue_and_in_its_order_though_another_queue_is_full() {
    const ROUNDS: u16 = 50;
    let bench = bench(16 << 20);
    let mut queue_of = vec![None; FLOWS.into()];
    for flow in 0..FLOWS {
        bench.send(flow, 0);
    }
    for _ in 0..FLOWS {
        let (queue, flow, _) = bench.hear();
        queue_of[usize::from(flow)] = Some(queue);
    }
    let full = queue_of[0].unwrap();
    let in_full = queue_of.iter().filter(|queue| **queue == Some(full));
    let late = in_full.count() * usize::from(ROUNDS);
    assert!(
        late < usize::from(FLOWS) * usize::from(ROUNDS),
        "all in one queue"
    );
    bench.hands[full].is_full.store(true, Ordering::SeqCst);
    for number in 1..=ROUNDS {
        for flow in 0..FLOWS {
            bench.send(flow, number);
        }
    }
    let mut last = vec![0; FLOWS.into()];
    let all = usize::from(FLOWS) * usize::from(ROUNDS);
    for heard in 0..all {
        if heard == all - late {
            // The others have everything.
            bench.hands[full].is_full.store(false, Ordering::SeqCst);
        }
        let (queue, flow, number) = bench.hear();
        assert_eq!(Some(queue), queue_of[usize::from(flow)], "flow {flow}");
        assert_eq!(number, last[usize::from(flow)] + 1, "flow {flow}");
        last[usize::from(flow)] = number;
    }
    let report = bench.pumps.detach();
    let sent = u64::from(FLOWS) * u64::from(ROUNDS + 1);
    assert_eq!((report.frames_out, report.drops), (sent, 0), "{report}");
    assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
}

#[test]
fn what_finds_no_room_and_what_is_left_is_counted_once() {
    let bench = bench(100_000);
    bench
        .hands
        .iter()
        .for_each(|hands| hands.is_full.store(true, Ordering::SeqCst));
    for number in 0..50 {
        for flow in 0..FLOWS {
            bench.send(flow, number);
        }
    }
    let give_up = Instant::now() + PATIENCE;
    while bench.pumps.report().drops < 1000 {
        assert!(Instant::now() < give_up, "{}", bench.pumps.report());
        thread::yield_now();
    }
    while bench.from.backlog() > 0 {
        thread::yield_now();
    }
    let report = bench.pumps.detach();
    let sent = 50 * u64::from(FLOWS);
    assert_eq!((report.frames_out, report.drops), (0, sent), "{report}");
}

#[test]
fn a_queue_that_fails_ends_the_others_and_says_why() {
    let bench = bench(1 << 20);
    bench.hands[2].has_failed.store(true, Ordering::SeqCst);
    bench.hands[2].bell.ring();
    let give_up = Instant::now() + PATIENCE;
    while bench.pumps.each_is_running().contains(&true) {
        assert!(Instant::now() < give_up, "a queue still runs");
        thread::yield_now();
    }
    let report = bench.pumps.detach();
    assert!(matches!(report.end, Some(PumpEnd::Device(_))), "{report}");
    // The port has nothing plugged in any more.
    drop(bench.vnet.plug_port("to").unwrap());
}
