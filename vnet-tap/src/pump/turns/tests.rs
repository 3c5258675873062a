use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use vnet::packet::Packet;
use vnet::{Offload, System};

use super::*;
use crate::line::{Frame, Inward, Outward, Written};
use crate::pump::{self, Pump};

/// Turns that each guest has once all are there.
const ROUNDS: usize = 200;

/// Bytes that guests have sent.
struct Sent {
    /// All of them are carried by one thread: what they send is counted.
    counts: bool,
    each: Vec<usize>,
    done: crossbeam::channel::Sender<Vec<usize>>,
}

/// A guest that always has a frame more.
struct Endless {
    number: usize,
    frame: Bytes,
    sent: Arc<Mutex<Sent>>,
    bell: Bell,
}

impl Inward for Endless {
    fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut sent = self.sent.lock();
        if sent.counts {
            sent.each[self.number] += self.frame.len();
            if sent.each.iter().sum::<usize>() > ROUNDS * sent.each.len() * QUANTUM {
                // Only the first is waited for.
                let _ = sent.done.try_send(sent.each.clone());
            }
        }
        Ok(Some(Frame {
            header: None,
            bytes: self.frame.clone(),
        }))
    }
}

struct Nowhere;

impl Outward for Nowhere {
    fn write(&mut self, _packet: Packet) -> io::Result<Written> {
        Ok(Written::Yes)
    }
}

#[test]
fn guests_that_send_as_much_as_they_can_share_evenly_whatever_their_frames() {
    const GUESTS: usize = 64;
    let vnet = System::threads().create("lan").unwrap();
    let turns = Turns::start("turns").unwrap();
    let (done, all) = bounded(1);
    let sent = Arc::new(Mutex::new(Sent {
        counts: false,
        each: vec![0; GUESTS],
        done,
    }));
    let pumps: Vec<Pump> = (0..GUESTS)
        .map(|number| {
            let len = [2100, 9000, MAX_FRAME_LEN][number % 3];
            let guest = Endless {
                number,
                // To nobody who is there.
                frame: Bytes::from(vec![2; len]),
                sent: Arc::clone(&sent),
                bell: Bell::new().unwrap(),
            };
            let name = format!("guest{number}");
            let plug = pump::plug(&vnet, &name, None, Offload::None).unwrap();
            let halves = (Box::new(guest) as _, Box::new(Nowhere) as _);
            let mut pump = Pump::start("alone", halves, plug, 1 << 20, Duration::ZERO).unwrap();
            pump.share(&turns);
            pump
        })
        .collect();
    sent.lock().counts = true;
    let bytes = all.recv_timeout(Duration::from_secs(60)).unwrap();
    let mean = bytes.iter().sum::<usize>() / GUESTS;
    for of_one in &bytes {
        assert!(of_one.abs_diff(mean) < mean / 10, "{bytes:?}");
    }
    for pump in pumps {
        let end = pump.detach().end;
        assert!(matches!(end, Some(PumpEnd::Detached)), "{end:?}");
    }
}
