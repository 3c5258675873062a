use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;

use bytes::Bytes;
use vnet::packet::Packet;
use vnet::{Offload, System};

use super::shared::ASLEEP;
use super::*;
use crate::line::{Frame, Inward, Outward, Written};

/// A line that never says that there is something to read.
struct Silent {
    frames: mpsc::Receiver<Bytes>,
    bell: Bell,
}

impl Inward for Silent {
    fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let bytes = self.frames.try_recv().ok();
        Ok(bytes.map(|bytes| Frame {
            header: None,
            bytes,
        }))
    }
}

/// Where what the vnet sends goes.
struct Heard(mpsc::Sender<Packet>);

impl Outward for Heard {
    fn write(&mut self, packet: Packet) -> io::Result<Written> {
        let _ = self.0.send(packet);
        Ok(Written::Yes)
    }
}

#[test]
fn a_pump_that_polls_needs_not_be_told_and_one_that_does_not_sleeps() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let vnet = System::threads().create("lan").unwrap();
    vnet.bridge("br0").unwrap();
    let attach = |name: &str, busy_poll| {
        let plug = plug(&vnet, name, None, Offload::None).unwrap();
        vnet.add_member("br0", name).unwrap();
        let ((send, frames), (heard, hear)) = (mpsc::channel(), mpsc::channel());
        let bell = Bell::new().unwrap();
        let halves = (
            Box::new(Silent { frames, bell }) as _,
            Box::new(Heard(heard)) as _,
        );
        let pump = Pump::start(name, halves, plug, 1 << 20, busy_poll).unwrap();
        (pump, send, hear)
    };
    let (polls, send, _) = attach("polls", PATIENCE);
    let (sleeps, unheard, hear) = attach("sleeps", Duration::ZERO);
    while sleeps.shared.state.load(Ordering::SeqCst) != ASLEEP {
        thread::yield_now();
    }
    unheard.send(Bytes::from(vec![0xff; 60])).unwrap();
    for n in 0..10 {
        send.send(Bytes::from(vec![0xff; 60 + n])).unwrap();
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap().len(), 60 + n);
    }
    assert_eq!(polls.report().wakeups, 0);
    let report = polls.detach();
    assert_eq!((report.frames_in, report.wakeups), (10, 0), "{report}");
    sleeps.detach();
}
