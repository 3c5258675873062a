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

/// Bytes that guests have sent since all of them were there.
struct Sent {
    /// `None` for one who has not come yet.
    each: Vec<Option<usize>>,
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
        let is_late = sent.each[self.number].is_none();
        let count = sent.each[self.number].get_or_insert(0);
        *count += self.frame.len();
        if is_late && sent.each.iter().all(Option::is_some) {
            sent.each.fill(Some(0));
        }
        let all: Option<Vec<usize>> = sent.each.iter().copied().collect();
        if let Some(all) = all
            && all.iter().sum::<usize>() > ROUNDS * all.len() * QUANTUM
        {
            // Only the first is waited for.
            let _ = sent.done.try_send(all);
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
    const GUESTS: usize = 9;
    let vnet = System::threads().create("lan").unwrap();
    let turns = Turns::start("turns").unwrap();
    let (done, all) = bounded(1);
    let sent = Arc::new(Mutex::new(Sent {
        each: vec![None; GUESTS],
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
            let port = pump::port(&vnet, &format!("guest{number}"), None, Offload::None).unwrap();
            let halves = (Box::new(guest) as _, Box::new(Nowhere) as _);
            let mut pump = Pump::start(
                "alone",
                halves,
                port,
                1 << 20,
                Duration::ZERO,
                vnet.system(),
            )
            .unwrap();
            pump.share(&turns);
            pump
        })
        .collect();
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
