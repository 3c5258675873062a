//! A guest that sends more than its vnet takes: it is held back, and takes nothing from others. No rights are
//! needed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, sleep};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::packet::{Direction, Packet};
use vnet::{OwnedVnet, System};
use vnet_tap::{Framing, Guest};

const PATIENCE: Duration = Duration::from_secs(20);

/// A guest's socket on a bridge, and the guest's end of it.
fn plug(vnet: &OwnedVnet, name: &str) -> (Guest, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let guest = Guest::attach(vnet, name, ours, Framing::Length32).unwrap();
    vnet.add_member("br0", name).unwrap();
    (guest, theirs)
}

/// A frame of 60 bytes for everybody, behind its length.
fn frame(mark: u8) -> [u8; 64] {
    let mut frame = [mark; 64];
    frame[..10].copy_from_slice(&[0, 0, 0, 60, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    frame[10..16].copy_from_slice(&[2, 0, 0, 0, 0, mark]);
    // IEEE 802, local experimental.
    frame[16..18].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A capture that holds the vnet up until it is told to go on.
struct Hold(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl FrameTap for Hold {
    fn frame(&self, _at: vnet::time::Instant, _direction: Direction, _packet: &Packet) {
        if let Some((is_held, go_on)) = self.0.lock().unwrap().take() {
            is_held.send(()).unwrap();
            let _ = go_on.recv_timeout(PATIENCE);
        }
    }
}

#[test]
fn a_guest_that_floods_a_busy_vnet_is_held_back_and_loses_nothing() {
    const FRAMES: usize = 4000;
    let vnet = System::threads().create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    let (_holder, mut holder) = plug(&vnet, "a");
    let (flooding, mut flood) = plug(&vnet, "b");
    let (_to, mut to) = plug(&vnet, "c");
    let (is_held, held) = mpsc::channel();
    let (go_on, told) = mpsc::channel();
    let hold = Hold(Mutex::new(Some((is_held, told))));
    vnet.capture("a", Arc::new(hold)).unwrap();
    holder.write_all(&frame(1)).unwrap();
    held.recv_timeout(PATIENCE).unwrap();
    let all = frame(2).repeat(FRAMES);
    let writer = thread::spawn(move || {
        flood.write_all(&all).unwrap();
        flood
    });
    sleep(Duration::from_millis(50));
    // Two batches at most, however long it takes.
    let report = flooding.report();
    assert!(report.frames_in <= 128, "{report}");
    go_on.send(()).unwrap();
    let mut seen = 0;
    while seen < FRAMES {
        // That of the first guest comes, too.
        let mut one = [0; 64];
        to.read_exact(&mut one).unwrap();
        seen += usize::from(one == frame(2));
    }
    writer.join().unwrap();
    let report = flooding.report();
    assert_eq!(
        (report.frames_in, report.drops),
        (FRAMES as u64, 0),
        "{report}"
    );
}
