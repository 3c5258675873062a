//! Emulators' sockets as ports: every framing, guests that come and go, and guests that send what no
//! guest sends. No rights are needed.

mod alone;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use alone::{in_a_process_of_its_own, is_inside, leaves_nothing};
use proptest::prelude::*;
use vnet::{LinkConfig, Offload, OwnedVnet, System};
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
    // Each is either out or counted, and what waits for it is bounded: 4 MiB, and what the socket takes.
    assert_eq!(report.frames_out + report.drops, 20_000, "{report}");
    assert!(report.drops > 16_000, "{report}");
    drop(silent);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn what_waits_for_guests_at_the_end_is_counted() {
    let vnet = switch();
    let (a, mut from) = pair();
    let talker = plug(&vnet, "a", a, Framing::Length32);
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("server")).unwrap();
    let inside = (*vnet).clone();
    let guests = Guests::listen(listener, 2, move |number, socket| {
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::Length32)?;
        let _ = inside.add_member("br0", &name);
        Ok(guest)
    })
    .unwrap();
    // It reads nothing.
    let silent = UnixStream::connect(folder.path().join("server")).unwrap();
    let give_up = Instant::now() + PATIENCE;
    while guests.counts().connected == 0 || vnet.bridge_info("br0").unwrap().members.len() < 2 {
        assert!(Instant::now() < give_up, "{:?}", guests.counts());
        sleep(Duration::from_millis(2));
    }
    let sent = behind_length32(&frame(1514, 1));
    for _ in 0..2000 {
        from.write_all(&sent).unwrap();
    }
    while talker.report().frames_in < 2000 {
        assert!(Instant::now() < give_up, "{}", talker.report());
        sleep(Duration::from_millis(2));
    }
    let report = guests.detach();
    assert_eq!(report.frames_out + report.drops, 2000, "{report}");
    assert!(report.drops > 100, "{report}");
    assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
    drop(silent);
}

#[test]
fn what_is_on_a_slow_link_to_a_guest_at_the_end_is_counted() {
    let vnet = switch();
    let (a, mut from) = pair();
    let (b, theirs) = pair();
    let talker = plug(&vnet, "a", a, Framing::Length32);
    let slow = plug(&vnet, "b", b, Framing::Length32);
    let link = LinkConfig {
        delay: Duration::from_secs(3600),
        ..LinkConfig::default()
    };
    vnet.set_link("b", link).unwrap();
    for mark in 0..50 {
        from.write_all(&behind_length32(&frame(100, mark))).unwrap();
    }
    let give_up = Instant::now() + PATIENCE;
    while vnet.link_stats("b").unwrap().offered < 50 {
        assert!(Instant::now() < give_up, "{}", talker.report());
        sleep(Duration::from_millis(2));
    }
    let report = slow.detach();
    assert_eq!((report.frames_out, report.drops), (0, 50), "{report}");
    drop(theirs);
}

#[test]
fn another_client_does_not_take_the_place_of_one_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("server");
    let vnet = switch();
    let server = UnixDatagram::bind(&at).unwrap();
    let _guest = plug(&vnet, "vf", server, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    let [first, second] = ["first", "second"].map(|name| {
        let client = UnixDatagram::bind(folder.path().join(name)).unwrap();
        client.connect(&at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    });
    first.send(b"VFKT").unwrap();
    first.send(&frame(60, 1)).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 1));
    // It makes itself known, and is not heard.
    second.send(b"VFKT").unwrap();
    second.send(&frame(60, 2)).unwrap();
    first.send(&frame(60, 3)).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 3));
    to.write_all(&behind_length32(&frame(60, 4))).unwrap();
    let mut buf = [0; 100];
    assert_eq!(first.recv(&mut buf).unwrap(), 60);
    assert_eq!(buf[..60], frame(60, 4));
    // When the first has gone, it is.
    drop(first);
    second.send(b"VFKT").unwrap();
    second.send(&frame(60, 5)).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 5));
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
fn a_guest_that_does_not_read_keeps_nothing_of_a_vnet_that_is_gone() {
    let vnet = switch();
    let (a, mut from) = pair();
    let (b, _silent) = pair();
    let talker = plug(&vnet, "a", a, Framing::Length32);
    let deaf = plug(&vnet, "b", b, Framing::Length32);
    let sent = behind_length32(&frame(1514, 1));
    for _ in 0..2000 {
        from.write_all(&sent).unwrap();
    }
    wait_for(&talker, |report| report.frames_in == 2000);
    // What is on its way to the vnet then is not the deaf one's.
    let give_up = Instant::now() + PATIENCE;
    while vnet.stats().unwrap().received < 2000 {
        assert!(Instant::now() < give_up, "{:?}", vnet.stats());
        sleep(Duration::from_millis(2));
    }
    assert!(deaf.report().frames_out < 2000);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    let report = end_of(deaf);
    assert!(matches!(report.end, Some(PumpEnd::PortGone)), "{report}");
    assert_eq!(report.frames_out + report.drops, 2000, "{report}");
}

#[test]
fn what_a_vnet_sent_last_is_carried_out() {
    for _ in 0..20 {
        let vnet = System::threads().create("a").unwrap();
        let (ours, mut theirs) = pair();
        let guest = Guest::attach(&vnet, "eth0", ours, Framing::Length32).unwrap();
        // Each is announced by a gratuitous ARP request.
        for n in 1..=50 {
            let net = format!("192.0.2.{n}/24");
            vnet.add_address("eth0", net.parse().unwrap()).unwrap();
        }
        vnet.destroy();
        let report = end_of(guest);
        assert!(matches!(report.end, Some(PumpEnd::PortGone)), "{report}");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 50 * (4 + 42));
    }
}

fn wait_for(guest: &Guest, is_so: impl Fn(&PumpReport) -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so(&guest.report()) {
        assert!(Instant::now() < give_up, "{}", guest.report());
        sleep(Duration::from_millis(2));
    }
}

/// A client of a datagram server on a bridge says something, is answered, and goes. Nothing is sent to
/// the one that is gone: the next one makes itself known.
fn in_turn<C>(
    clients: impl IntoIterator<Item = C>,
    server: OwnedFd,
    receive: impl Fn(&C) -> Vec<u8>,
    send: impl Fn(&C, &[u8]),
) {
    let vnet = switch();
    let _guest = plug(&vnet, "server", server, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    for (round, client) in clients.into_iter().enumerate() {
        let sent = frame(100, round as u8);
        send(&client, &sent);
        assert_eq!(read_length32(&mut to), sent);
        let answer = frame(200, 100 + round as u8);
        to.write_all(&behind_length32(&answer)).unwrap();
        assert_eq!(receive(&client), answer);
    }
}

/// The client is not connected, as QEMU's: the server's poll says that there is room, its peer has none.
#[test]
fn a_client_that_reads_late_gets_everything_and_nobody_spins() {
    const FRAMES: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("server");
    let server = UnixDatagram::bind(&at).unwrap();
    let client = UnixDatagram::bind(folder.path().join("client")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let vnet = switch();
    let guest = plug(&vnet, "server", server, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    client.send_to(&frame(60, 1), &at).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 1));
    let (before, started) = (guest.report().wakeups, Instant::now());
    for n in 0..FRAMES {
        to.write_all(&behind_length32(&frame(200, n as u8)))
            .unwrap();
    }
    // As long as it takes: what spins wakes up some hundred thousand times a second.
    sleep(Duration::from_millis(300));
    let wakeups = guest.report().wakeups - before;
    let at_most = 2 * FRAMES as u64 + 2 * started.elapsed().as_millis() as u64;
    assert!(wakeups <= at_most, "{wakeups} of {at_most}");
    let mut buf = [0; 300];
    for n in 0..FRAMES {
        let len = client.recv(&mut buf).unwrap();
        assert_eq!(buf[..len], frame(200, n as u8), "frame {n}");
    }
    assert_eq!(guest.report().drops, 0);
}

#[test]
fn a_datagram_guest_that_has_gone_is_noticed() {
    let vnet = switch();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let guest = plug(&vnet, "c", ours, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    drop(theirs);
    to.write_all(&behind_length32(&frame(60, 1))).unwrap();
    let report = end_of(guest);
    assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
}

#[test]
fn a_client_that_comes_back_on_a_quiet_lan_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("server");
    let server = UnixDatagram::bind(&at).unwrap();
    let clients = (0..5).map(|round| {
        let client = UnixDatagram::bind(folder.path().join(format!("client{round}"))).unwrap();
        client.connect(&at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    });
    let receive = |client: &UnixDatagram| {
        let mut buf = vec![0; 300];
        let len = client.recv(&mut buf).unwrap();
        buf[..len].to_vec()
    };
    in_turn(clients, server.into(), receive, |client, sent| {
        client.send(sent).unwrap();
    });
}

#[test]
fn a_udp_server_on_a_port_of_the_systems_outlives_its_clients() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let clients = (0..5).map(|_| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // Of UDP, nobody can say that a peer is gone: the next one says that it is there.
        client.send(b"VFKT").unwrap();
        client
    });
    let receive = |client: &UdpSocket| {
        let mut buf = vec![0; 300];
        let len = client.recv(&mut buf).unwrap();
        buf[..len].to_vec()
    };
    in_turn(clients, server.into(), receive, |client, sent| {
        client.send(sent).unwrap();
    });
}

#[test]
fn a_stranger_does_not_take_the_place_of_a_client_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("server");
    let vnet = switch();
    let server = UnixDatagram::bind(&at).unwrap();
    let _guest = plug(&vnet, "vf", server, Framing::Datagrams);
    let (b, mut to) = pair();
    let _other = plug(&vnet, "b", b, Framing::Length32);
    let [client, stranger] = ["client", "stranger"].map(|name| {
        let socket = UnixDatagram::bind(folder.path().join(name)).unwrap();
        socket.connect(&at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    client.send(&frame(60, 1)).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 1));
    stranger.send(&frame(60, 2)).unwrap();
    client.send(&frame(60, 3)).unwrap();
    assert_eq!(read_length32(&mut to), frame(60, 3));
    to.write_all(&behind_length32(&frame(60, 4))).unwrap();
    let mut buf = [0; 100];
    assert_eq!(client.recv(&mut buf).unwrap(), 60);
    assert_eq!(buf[..60], frame(60, 4));
}

#[test]
fn a_guest_may_be_let_go_on_its_own_thread() {
    let vnet = switch();
    let (a, mut from) = pair();
    let guest = Mutex::new(Some(plug(&vnet, "a", a, Framing::Length32)));
    let port = vnet.port("watch", None).unwrap();
    vnet.add_member("br0", "watch").unwrap();
    let (told, gone) = mpsc::channel();
    port.on_ready(Arc::new(move || {
        // On the thread of the pump that brought the frame.
        if let Some(guest) = guest.lock().unwrap().take() {
            drop(guest);
            let _ = told.send(thread::current().name().map(str::to_owned));
        }
    }));
    from.write_all(&behind_length32(&frame(60, 1))).unwrap();
    let on = gone.recv_timeout(PATIENCE).unwrap();
    assert_eq!(on.as_deref(), Some("vnet-guest"));
    assert_eq!(from.read(&mut [0; 100]).unwrap(), 0, "it is closed");
}

#[test]
fn a_port_that_left_much_undone_hands_complete_frames_to_a_guest() {
    use vnet::net::{TcpListener, TcpStream};
    let (ours, theirs) = UnixStream::pair().unwrap();
    let a = System::threads().create("a").unwrap();
    // As an offloading TAP leaves it behind.
    drop(a.port("eth0", None).unwrap());
    a.set_offload("eth0", Offload::Full).unwrap();
    let guest = Guest::attach(&a, "eth0", ours, Framing::Length32).unwrap();
    let b = System::threads().create("b").unwrap();
    let _other = Guest::attach(&b, "eth0", theirs, Framing::Length32).unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    let listener = TcpListener::bind_in(&b, "192.0.2.2:5001").unwrap();
    let mut client = TcpStream::connect_in(&a, "192.0.2.2:5001").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let writer = thread::spawn(move || client.write_all(&[7; 300_000]).map(|()| drop(client)));
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert_eq!(received, [7; 300_000]);
    writer.join().unwrap().unwrap();
    let report = guest.detach();
    assert!(report.frames_out > 200, "in frames of the MTU: {report}");
}

#[test]
fn a_stream_without_a_peer_is_refused() {
    let vnet = switch();
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Guest::attach(&vnet, "x", listening, Framing::Length32).unwrap_err();
    assert!(matches!(error, GuestError::Socket(_)), "{error}");
}

#[test]
fn a_thousand_guests_leave_nothing_behind() {
    in_a_process_of_its_own("a_thousand_guests_inside");
}

#[test]
#[ignore = "run by the test before, in a process of its own"]
fn a_thousand_guests_inside() {
    if !is_inside() {
        return;
    }
    let vnet = switch();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let inside = (*vnet).clone();
    let mut welcomed = 0;
    let guests = Guests::listen(listener, 1000, move |number, socket| {
        welcomed += 1;
        assert!(welcomed % 100 != 7, "every hundredth is met by a panic");
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::Length32)?;
        let _ = inside.add_member("br0", &name);
        Ok(guest)
    })
    .unwrap();
    let one = |n: usize| {
        let mut stream = TcpStream::connect(at).unwrap();
        let _ = stream.write_all(&behind_length32(&frame(60, n as u8)));
        // One that is met by a panic is closed already.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // It is closed from the other side.
        while let Ok(1..) = stream.read(&mut [0; 100]) {}
    };
    let until_gone = || {
        let give_up = Instant::now() + PATIENCE;
        while guests.counts().connected > 0 {
            assert!(Instant::now() < give_up, "{:?}", guests.counts());
            sleep(Duration::from_millis(2));
        }
    };
    // One that has gone is let go without another one coming, a moment after it has stopped counting.
    leaves_nothing(
        1000,
        || (),
        |n| {
            one(n);
            until_gone();
        },
    );
    let counts = guests.counts();
    assert_eq!((counts.accepted, counts.refused), (1005, 11));
    drop(guests);
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
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
