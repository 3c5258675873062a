//! Emulators' sockets as ports: every framing, guests that come and go, and guests that send what no
//! guest sends. No rights are needed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vnet::{OwnedVnet, System};
use vnet_tap::{Framing, Guest, GuestError, Guests, PumpEnd, PumpReport};

const PATIENCE: Duration = Duration::from_secs(20);

/// A vnet that is a switch.
fn switch() -> OwnedVnet {
    let vnet = System::threads().create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    vnet
}

fn plug(vnet: &OwnedVnet, name: &str, socket: impl Into<OwnedFd>, framing: Framing) -> Guest {
    let guest = Guest::attach(vnet, name, socket, framing).unwrap();
    vnet.add_member("br0", name).unwrap();
    guest
}

/// A frame for everybody, of this length, told apart by `mark`.
fn frame(len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; len];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, mark]);
    // A type that nobody knows (IEEE 802, local experimental).
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn behind_length32(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

fn read_length32(from: &mut impl Read) -> Vec<u8> {
    let mut len = [0; 4];
    from.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    from.read_exact(&mut frame).unwrap();
    frame
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs)
}

fn end_of(guest: Guest) -> PumpReport {
    let give_up = Instant::now() + PATIENCE;
    while guest.is_running() {
        assert!(Instant::now() < give_up, "the pump still runs");
        sleep(Duration::from_millis(2));
    }
    guest.detach()
}

#[test]
fn frames_cross_from_every_framing_to_every_other() {
    let vnet = switch();
    let (a, mut long) = pair();
    let (b, mut short) = pair();
    let (c, datagrams) = UnixDatagram::pair().unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    let guests = [
        plug(&vnet, "a", a, Framing::Length32),
        plug(&vnet, "b", b, Framing::Length16),
        plug(&vnet, "c", c, Framing::Datagrams),
    ];
    let receive_long = |long: &mut UnixStream| read_length32(long);
    let receive_short = |short: &mut UnixStream| {
        let mut len = [0; 2];
        short.read_exact(&mut len).unwrap();
        let mut frame = vec![0; u16::from_le_bytes(len).into()];
        short.read_exact(&mut frame).unwrap();
        frame
    };
    let receive_datagram = || {
        let mut frame = vec![0; 70_000];
        let len = datagrams.recv(&mut frame).unwrap();
        frame.truncate(len);
        frame
    };
    for len in [14, 60, 1514] {
        let sent = frame(len, 1);
        long.write_all(&behind_length32(&sent)).unwrap();
        assert_eq!(receive_short(&mut short), sent);
        assert_eq!(receive_datagram(), sent);
        let sent = frame(len, 2);
        short.write_all(&(len as u16).to_le_bytes()).unwrap();
        short.write_all(&sent).unwrap();
        assert_eq!(receive_long(&mut long), sent);
        assert_eq!(receive_datagram(), sent);
        let sent = frame(len, 3);
        datagrams.send(&sent).unwrap();
        assert_eq!(receive_long(&mut long), sent);
        assert_eq!(receive_short(&mut short), sent);
    }
    for guest in guests {
        let report = guest.detach();
        assert_eq!(
            (report.frames_in, report.frames_out, report.drops),
            (3, 6, 0)
        );
        assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
    }
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn frames_arrive_whole_however_the_stream_is_cut() {
    let vnet = switch();
    let (a, mut from) = pair();
    let (b, mut to) = pair();
    let _guests = [
        plug(&vnet, "a", a, Framing::Length32),
        plug(&vnet, "b", b, Framing::Length32),
    ];
    for name in ["a", "b"] {
        vnet.set_ip_mtu(name, 65_535).unwrap();
    }
    let sent: Vec<_> = [14, 15, 1500, 65_549, 20_000, 60]
        .iter()
        .enumerate()
        .map(|(n, len)| frame(*len, n as u8 + 1))
        .collect();
    let stream: Vec<u8> = sent.iter().flat_map(|f| behind_length32(f)).collect();
    for piece in [1, 3, 4, 1000, 70_000, stream.len()] {
        let stream = stream.clone();
        let mut from = from.try_clone().unwrap();
        // One byte at a time only at first: the lengths are what matters.
        let writer = thread::spawn(move || {
            let (start, rest) = stream.split_at(200);
            for piece in start.chunks(piece).chain(rest.chunks(piece.max(1000))) {
                from.write_all(piece).unwrap();
            }
        });
        for frame in &sent {
            assert!(read_length32(&mut to) == *frame, "in pieces of {piece}");
        }
        writer.join().unwrap();
    }
    let _ = &mut from;
}

#[test]
fn a_stream_that_makes_no_sense_costs_its_guest_and_nobody_else() {
    let vnet = switch();
    let (b, mut to) = pair();
    let (c, mut from) = pair();
    let _others = [
        plug(&vnet, "b", b, Framing::Length32),
        plug(&vnet, "c", c, Framing::Length32),
    ];
    for (n, len) in [0, 1, 13, 65_558, u32::MAX].into_iter().enumerate() {
        let (a, mut hostile) = pair();
        let guest = plug(&vnet, &format!("a{n}"), a, Framing::Length32);
        let _ = hostile.write_all(&[&len.to_be_bytes()[..], &[7; 100]].concat());
        let report = end_of(guest);
        let Some(PumpEnd::Device(e)) = &report.end else {
            panic!("{report}");
        };
        assert_eq!(e.kind(), std::io::ErrorKind::InvalidData, "{e}");
        let sent = frame(60, 9);
        from.write_all(&behind_length32(&sent)).unwrap();
        assert_eq!(read_length32(&mut to), sent);
    }
    // Half a frame, and then nothing; and then the end.
    let (a, mut silent) = pair();
    let guest = plug(&vnet, "half", a, Framing::Length32);
    silent.write_all(&[0, 0, 5, 0, 1, 2, 3]).unwrap();
    let sent = frame(60, 10);
    from.write_all(&behind_length32(&sent)).unwrap();
    assert_eq!(read_length32(&mut to), sent);
    assert!(guest.is_running());
    drop(silent);
    let report = end_of(guest);
    assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
}

#[test]
fn a_guest_that_does_not_read_is_no_burden() {
    let vnet = switch();
    let (a, mut from) = pair();
    let (b, silent) = pair();
    let talker = plug(&vnet, "a", a, Framing::Length32);
    let deaf = plug(&vnet, "b", b, Framing::Length32);
    let sent = behind_length32(&frame(1514, 1));
    for _ in 0..20_000 {
        from.write_all(&sent).unwrap();
    }
    let give_up = Instant::now() + PATIENCE;
    while talker.report().frames_in < 20_000 {
        assert!(Instant::now() < give_up, "{}", talker.report());
        sleep(Duration::from_millis(2));
    }
    // Its pump waits for room, it does not ask for it.
    let wakeups = deaf.report().wakeups;
    sleep(Duration::from_millis(50));
    assert!(deaf.report().wakeups <= wakeups + 1);
    let report = deaf.detach();
    assert!(report.frames_out < 20_000, "{report}");
    drop(silent);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn a_server_of_datagrams_answers_whoever_makes_itself_known() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("server");
    let vnet = switch();
    let server = UnixDatagram::bind(&at).unwrap();
    let guest = plug(&vnet, "vf", server, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    for round in 1..4 {
        let client = UnixDatagram::bind(folder.path().join(format!("client{round}"))).unwrap();
        client.connect(&at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(b"VFKT").unwrap();
        let sent = frame(100, round);
        client.send(&sent).unwrap();
        assert_eq!(read_length32(&mut to), sent);
        let answer = frame(200, 100 + round);
        to.write_all(&behind_length32(&answer)).unwrap();
        let mut buf = [0; 300];
        let len = client.recv(&mut buf).unwrap();
        assert_eq!(buf[..len], answer);
        drop(client);
        // What is sent to the one that has gone is lost, and noticed by that.
        let lost = guest.report().drops;
        to.write_all(&behind_length32(&frame(60, 77))).unwrap();
        let give_up = Instant::now() + PATIENCE;
        while guest.report().drops == lost {
            assert!(Instant::now() < give_up, "{}", guest.report());
            sleep(Duration::from_millis(2));
        }
    }
    // Neither too long nor too short a datagram is a frame, and neither does harm.
    let client = UnixDatagram::bind(folder.path().join("last")).unwrap();
    client.connect(&at).unwrap();
    for len in [0, 13, 65_560, 100_000] {
        // The kernel may refuse the largest itself.
        let _ = client.send(&vec![0xff; len]);
    }
    let sent = frame(99, 50);
    client.send(&sent).unwrap();
    assert_eq!(read_length32(&mut to), sent);
}

#[test]
fn packets_in_sequence_have_an_end() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let vnet = switch();
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let (b, mut to) = pair();
    let guest = plug(&vnet, "bess", ours, Framing::Datagrams);
    let _other = plug(&vnet, "b", b, Framing::Length32);
    let sent = frame(100, 1);
    rustix::io::write(&theirs, &sent).unwrap();
    assert_eq!(read_length32(&mut to), sent);
    drop(theirs);
    let report = end_of(guest);
    assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
}

#[test]
fn the_framing_has_to_be_that_of_the_socket() {
    let vnet = switch();
    let refused = |socket: OwnedFd, framing| {
        let error = Guest::attach(&vnet, "x", socket, framing).unwrap_err();
        assert!(matches!(error, GuestError::Socket(_)), "{error}");
    };
    refused(pair().0.into(), Framing::Datagrams);
    refused(UnixDatagram::pair().unwrap().0.into(), Framing::Length32);
    refused(UnixDatagram::pair().unwrap().0.into(), Framing::Length16);
    refused(tempfile::tempfile().unwrap().into(), Framing::Length32);
    let (stream, _) = pair();
    assert!(Guests::listen(stream, 1, |_, _| unreachable!()).is_err());
    assert_eq!(vnet.interfaces().unwrap().len(), 2, "lo0 and br0");
}

#[test]
fn tcp_runs_between_two_systems_over_a_socket() {
    use vnet::net::{TcpListener, TcpStream};
    let (a, b) = UnixStream::pair().unwrap();
    let ends = [("a", a, "192.0.2.1/24"), ("b", b, "192.0.2.2/24")].map(|(name, socket, net)| {
        let vnet = System::threads().create(name).unwrap();
        let guest = Guest::attach(&vnet, "eth0", socket, Framing::Length32).unwrap();
        vnet.add_address("eth0", net.parse().unwrap()).unwrap();
        (vnet, guest)
    });
    let [(a, _), (b, _)] = &ends;
    let listener = TcpListener::bind_in(b, "192.0.2.2:5001").unwrap();
    let mut client = TcpStream::connect_in(a, "192.0.2.2:5001").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let message: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = message.clone();
    let writer = thread::spawn(move || client.write_all(&message).map(|()| drop(client)));
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert!(received == expected);
    writer.join().unwrap().unwrap();
}

#[test]
fn guests_come_and_go_and_find_their_ports_again() {
    let system = System::threads();
    let vnet = system.create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let inside = (*vnet).clone();
    let guests = Guests::listen(listener, 3, move |number, socket| {
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::Length32)?;
        let _ = inside.add_member("br0", &name);
        Ok(guest)
    })
    .unwrap();
    let connect = || {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let until = |connected: usize| {
        let give_up = Instant::now() + PATIENCE;
        while guests.counts().connected != connected {
            assert!(Instant::now() < give_up, "{:?}", guests.counts());
            sleep(Duration::from_millis(2));
        }
    };
    for _ in 0..20 {
        let mut streams = [connect(), connect(), connect()];
        until(3);
        let sent = frame(60, 1);
        streams[0].write_all(&behind_length32(&sent)).unwrap();
        for other in &mut streams[1..] {
            assert_eq!(read_length32(other), sent);
        }
        // A fourth is sent away.
        assert_eq!(connect().read(&mut [0]).unwrap(), 0);
        drop(streams);
        until(0);
    }
    let counts = guests.counts();
    assert_eq!((counts.accepted, counts.refused), (60, 20));
    assert_eq!(vnet.interfaces().unwrap().len(), 5, "lo0, br0 and three");
    let mut left = connect();
    until(1);
    drop(guests);
    assert_eq!(left.read(&mut [0]).unwrap(), 0);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes a guest sends, in whatever framing: its pump ends or waits, and another guest is
    /// served.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..3000),
        short in any::<bool>(),
    ) {
        let vnet = switch();
        let (a, mut hostile) = pair();
        let framing = if short { Framing::Length16 } else { Framing::Length32 };
        let guest = plug(&vnet, "a", a, framing);
        let _ = hostile.write_all(&bytes);
        drop(hostile);
        let report = end_of(guest);
        prop_assert!(matches!(report.end, Some(PumpEnd::Closed | PumpEnd::Device(_))), "{report}");
        let report = vnet.destroy();
        prop_assert!(report.leaked.is_zero(), "{report}");
    }
}
