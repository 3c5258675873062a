//! Guests of each kind come and go, and nothing of them is left. No rights are needed.

mod alone;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use alone::{in_a_process_of_its_own, is_inside, leaves_nothing, rounds};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vnet::System;
use vnet_tap::{Framing, Guest};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn guests_of_each_kind_leave_nothing_behind() {
    in_a_process_of_its_own("guests_of_each_kind_inside");
}

#[test]
#[ignore = "run by the test before, in a process of its own"]
fn guests_of_each_kind_inside() {
    if !is_inside() {
        return;
    }
    let vnet = System::threads().create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("server");
    let one = |n: usize| {
        // To all, from a station with a type that nobody knows (IEEE 802, local experimental).
        let mut sent = vec![0xff; 6];
        sent.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        sent.resize(60, 1);
        let kind = [
            SocketType::STREAM,
            SocketType::DGRAM,
            SocketType::SEQPACKET,
            SocketType::DGRAM,
        ][n % 4];
        let (ours, theirs): (OwnedFd, OwnedFd) = match n % 4 {
            3 => {
                let _ = std::fs::remove_file(&server);
                let client = UnixDatagram::unbound().unwrap();
                let ours = UnixDatagram::bind(&server).unwrap();
                client.connect(&server).unwrap();
                (ours.into(), client.into())
            }
            _ => socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap(),
        };
        let name = format!("kind{}", n % 4);
        let (framing, bytes) = match kind {
            SocketType::STREAM => (Framing::Length16, [&[60, 0][..], &sent].concat()),
            _ => (Framing::Datagrams, sent),
        };
        let guest = Guest::attach(&vnet, &name, ours, framing).unwrap();
        let _ = vnet.add_member("br0", &name);
        rustix::io::write(&theirs, &bytes).unwrap();
        let give_up = Instant::now() + PATIENCE;
        while guest.report().frames_in == 0 {
            assert!(Instant::now() < give_up, "kind {}", n % 4);
            thread::yield_now();
        }
        // Either side is the first to go.
        match n / 4 % 2 {
            0 => drop(theirs),
            _ => drop(guest),
        }
    };
    leaves_nothing(4 * rounds(100), || (), one);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}
