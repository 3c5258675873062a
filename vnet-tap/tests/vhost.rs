//! Guests by vhost-user, in whose place this process shares memory and says what no emulator says. What is in
//! the rings is tested where they are read, and a real guest in `emulator.rs`. No rights are needed.

mod alone;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use alone::{in_a_process_of_its_own, is_inside, leaves_nothing, rounds};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_get_seals, memfd_create};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vnet::{OwnedVnet, System};
use vnet_tap::{Framing, Guest, GuestError, Guests, PumpEnd, PumpReport};

const PATIENCE: Duration = Duration::from_secs(20);
const LEN: u64 = 1 << 21;
const SIZE: u16 = 64;
/// Where the emulator would have the guest's memory.
const THEIRS: u64 = 0x7f00_0000_0000;
/// VERSION_1, the protocol's features, and merged buffers.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 15;
/// Several pairs of queues.
const MQ: u64 = 1 << 22;

fn switch() -> OwnedVnet {
    let vnet = System::threads().create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    vnet
}

fn memfd(flags: MemfdFlags) -> File {
    let file = File::from(memfd_create("guest", flags | MemfdFlags::CLOEXEC).unwrap());
    file.set_len(LEN).unwrap();
    file
}

fn region(file: &File) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: LEN,
        userspace_addr: THEIRS,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    }
}

/// Where the parts of a ring are.
fn ring_at(number: u64) -> [u64; 3] {
    [0, 0x1000, 0x2000].map(|part| 0x4000 * number + part)
}

fn config(number: u64) -> VringConfigData {
    let [table, available, used] = ring_at(number).map(|at| THEIRS + at);
    VringConfigData {
        queue_max_size: SIZE,
        queue_size: SIZE,
        flags: 0,
        desc_table_addr: table,
        used_ring_addr: used,
        avail_ring_addr: available,
        log_addr: None,
    }
}

/// An emulator and its guest.
struct Peer {
    frontend: Frontend,
    /// The same socket, for what that would not say.
    raw: UnixStream,
    memory: GuestMemoryMmap,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
    available: [u16; 4],
    used: [u16; 4],
}

impl Peer {
    /// Attaches a guest with one pair of queues.
    fn new(socket: UnixStream) -> Peer {
        Peer::with_pairs(socket, 1)
    }

    /// Attaches one with so many, at most two.
    fn with_pairs(socket: UnixStream, pairs: usize) -> Peer {
        let features = match pairs {
            1 => FEATURES,
            _ => FEATURES | MQ,
        };
        let file = memfd(MemfdFlags::ALLOW_SEALING);
        let raw = socket.try_clone().unwrap();
        let mut frontend = Frontend::from_stream(socket, 64);
        frontend.set_owner().unwrap();
        assert_eq!(frontend.get_features().unwrap() & features, features);
        frontend.set_features(features).unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol).unwrap();
        assert_eq!(frontend.get_queue_num().unwrap(), 8);
        frontend.set_mem_table(&[region(&file)]).unwrap();
        let rings = 2 * pairs;
        let eventfds = || -> Vec<_> {
            let all = (0..rings).map(|_| EventFd::new(EFD_NONBLOCK).unwrap());
            all.collect()
        };
        let (kicks, calls) = (eventfds(), eventfds());
        for number in 0..rings {
            frontend.set_vring_num(number, SIZE).unwrap();
            frontend.set_vring_base(number, 0).unwrap();
            frontend
                .set_vring_addr(number, &config(number as u64))
                .unwrap();
            frontend.set_vring_call(number, &calls[number]).unwrap();
            frontend.set_vring_kick(number, &kicks[number]).unwrap();
            frontend.set_vring_enable(number, true).unwrap();
        }
        // Answers come in order: what was asked before has been done.
        frontend.get_features().unwrap();
        assert!(fcntl_get_seals(&file).unwrap().contains(SealFlags::SHRINK));
        let range = (
            GuestAddress(0),
            LEN as usize,
            Some(FileOffset::new(file, 0)),
        );
        Peer {
            frontend,
            raw,
            memory: GuestMemoryMmap::from_ranges_with_files([range]).unwrap(),
            kicks,
            calls,
            available: [0; 4],
            used: [0; 4],
        }
    }

    /// Makes the buffer of that number of a ring available, for what comes in or with what goes out.
    fn offer(&mut self, ring: usize, number: u16, len: u32, flags: u16) {
        let [table, available, _] = ring_at(ring as u64);
        let at = buffer_at(ring, number);
        let entry = table + 16 * u64::from(number);
        self.write(entry, at);
        self.write(entry + 8, len);
        self.write(entry + 12, u32::from(flags));
        let next = self.available[ring];
        self.write(available + 4 + 2 * u64::from(next % SIZE), number);
        self.available[ring] = next.wrapping_add(1);
        self.write(available + 2, self.available[ring]);
        self.kicks[ring].write(1).unwrap();
    }

    fn write<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// Sends a frame.
    fn send(&mut self, number: u16, frame: &[u8]) {
        let bytes = [&[0; 12], frame].concat();
        let at = GuestAddress(buffer_at(1, number));
        self.memory.write_slice(&bytes, at).unwrap();
        self.offer(1, number, bytes.len() as u32, 0);
    }

    /// The next frame that comes in, from the buffer that it is in.
    fn receive(&mut self) -> Vec<u8> {
        self.receive_in(0)
    }

    /// Whether something is in a ring that has not been received.
    fn has_received(&self, ring: usize) -> bool {
        let [_, _, used] = ring_at(ring as u64);
        self.memory.read_obj::<u16>(GuestAddress(used + 2)).unwrap() != self.used[ring]
    }

    /// The next in this ring.
    fn receive_in(&mut self, ring: usize) -> Vec<u8> {
        let [_, _, place] = ring_at(ring as u64);
        let give_up = Instant::now() + PATIENCE;
        while !self.has_received(ring) {
            assert!(Instant::now() < give_up, "nothing comes in");
            sleep(Duration::from_millis(1));
        }
        let slot = place + 4 + 8 * u64::from(self.used[ring] % SIZE);
        let number: u32 = self.memory.read_obj(GuestAddress(slot)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(slot + 4)).unwrap();
        self.used[ring] = self.used[ring].wrapping_add(1);
        let mut frame = vec![0; len as usize];
        let at = GuestAddress(buffer_at(ring, number as u16));
        self.memory.read_slice(&mut frame, at).unwrap();
        assert_eq!(frame[10..12], [1, 0], "the number of buffers");
        frame.split_off(12)
    }
}

fn buffer_at(ring: usize, number: u16) -> u64 {
    0x2_0000 + 0x4_0000 * ring as u64 + 0x1000 * u64::from(number)
}

/// For what comes in.
const WRITE: u16 = 2;

fn frame(len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; len];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, mark]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn plug(vnet: &OwnedVnet, name: &str) -> (Guest, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guest = Guest::attach(vnet, name, ours, Framing::VhostUser).unwrap();
    vnet.add_member("br0", name).unwrap();
    (guest, theirs)
}

fn end_of(guest: Guest) -> PumpReport {
    let give_up = Instant::now() + PATIENCE;
    while guest.is_running() {
        assert!(Instant::now() < give_up, "{}", guest.report());
        sleep(Duration::from_millis(2));
    }
    guest.detach()
}

#[test]
fn frames_go_from_the_memory_of_one_guest_to_that_of_another() {
    let vnet = switch();
    let (a, socket) = plug(&vnet, "a");
    let mut from = Peer::new(socket);
    let (b, socket) = plug(&vnet, "b");
    let mut to = Peer::new(socket);
    for round in 0..200u16 {
        let number = round % 32;
        to.offer(0, number, 2000, WRITE);
        let sent = frame(60 + 7 * usize::from(number), round as u8 | 1);
        from.send(number, &sent);
        assert_eq!(to.receive(), sent, "round {round}");
    }
    // Both have been called: the one with frames, the other with its buffers.
    assert!(to.calls[0].read().unwrap() > 0 && from.calls[1].read().unwrap() > 0);
    // A header that lies is refused, and the next frame is not.
    let at = GuestAddress(buffer_at(1, 40));
    let lie = [
        &[1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        &frame(60, 9)[..],
    ]
    .concat();
    from.memory.write_slice(&lie, at).unwrap();
    from.offer(1, 40, lie.len() as u32, 0);
    to.offer(0, 0, 2000, WRITE);
    from.send(1, &frame(99, 11));
    assert_eq!(to.receive(), frame(99, 11));
    drop(from);
    let report = end_of(a);
    assert_eq!((report.frames_in, report.drops), (202, 1), "{report}");
    assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
    let report = b.detach();
    assert_eq!((report.frames_out, report.drops), (201, 0), "{report}");
    let left = vnet.destroy();
    assert!(left.leaked.is_zero(), "{left}");
}

#[test]
fn a_guest_without_buffers_is_waited_for_and_one_without_rings_is_not() {
    let vnet = switch();
    let (_a, socket) = plug(&vnet, "a");
    let mut from = Peer::new(socket);
    let (b, socket) = plug(&vnet, "b");
    from.send(0, &frame(60, 1));
    let give_up = Instant::now() + PATIENCE;
    // It has said nothing yet: a card that is not there.
    while b.report().drops == 0 {
        assert!(Instant::now() < give_up, "{}", b.report());
        sleep(Duration::from_millis(1));
    }
    let mut to = Peer::new(socket);
    for number in 1..6 {
        from.send(number, &frame(100, number as u8));
    }
    for number in 1..6 {
        to.offer(0, number, 200, WRITE);
        assert_eq!(to.receive(), frame(100, number as u8));
    }
}

/// A frame of a flow of its own.
fn datagram(port: u8, mark: u8) -> Vec<u8> {
    let mut frame = frame(60, mark);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    frame[26..38].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2, 0, port, 0, 9]);
    frame
}

#[test]
fn a_full_ring_of_a_guest_does_not_hold_up_its_others() {
    let vnet = switch();
    let (_a, socket) = plug(&vnet, "a");
    let mut from = Peer::new(socket);
    let (b, socket) = plug(&vnet, "b");
    let mut to = Peer::with_pairs(socket, 2);
    // Which ports come in where.
    let mut ports = [None; 2];
    for port in 1..=16 {
        to.offer(0, port, 200, WRITE);
        to.offer(2, port, 200, WRITE);
        from.send(0, &datagram(port as u8, 1));
        let give_up = Instant::now() + PATIENCE;
        while !to.has_received(0) && !to.has_received(2) {
            assert!(Instant::now() < give_up, "port {port} comes in nowhere");
            sleep(Duration::from_millis(1));
        }
        let pair = usize::from(!to.has_received(0));
        to.receive_in(2 * pair);
        ports[pair].get_or_insert(port as u8);
    }
    let [Some(one), Some(other)] = ports else {
        panic!("16 ports in one ring: {ports:?}");
    };
    // All that is left of the first ring's buffers, and more.
    let mut fits = to.available[0].wrapping_sub(to.used[0]);
    for number in 0..40 {
        from.send(number, &datagram(one, 100 + number as u8));
    }
    for number in 0..8 {
        from.send(40 + number, &datagram(other, 200 + number as u8));
        to.offer(2, number, 200, WRITE);
        assert_eq!(to.receive_in(2), datagram(other, 200 + number as u8));
    }
    // What has waited meanwhile comes in its order.
    for number in 0..40 {
        match fits {
            0 => to.offer(0, number, 200, WRITE),
            _ => fits -= 1,
        }
        assert_eq!(to.receive_in(0), datagram(one, 100 + number as u8));
    }
    let report = b.detach();
    assert_eq!((report.frames_out, report.drops), (64, 0), "{report}");
}

#[test]
fn what_no_emulator_asks_ends_its_guest_and_no_other() {
    let vnet = switch();
    let (_a, socket) = plug(&vnet, "a");
    let mut from = Peer::new(socket);
    let (_b, socket) = plug(&vnet, "b");
    let mut to = Peer::new(socket);
    type Ask = fn(&mut Peer);
    let asked: [(&str, Ask); 7] = [
        ("a ring that is not there", |peer| {
            // VHOST_USER_SET_VRING_ENABLE of ring 16, which `vhost` would not ask for.
            let request = [18u32, 1, 8, 16, 1].map(u32::to_le_bytes).concat();
            peer.raw.write_all(&request).unwrap();
        }),
        ("a ring outside the memory", |peer| {
            let mut config = config(0);
            config.used_ring_addr = THEIRS + LEN - 4;
            let _ = peer.frontend.set_vring_addr(0, &config);
        }),
        ("addresses at the end of all", |peer| {
            let mut config = config(0);
            config.desc_table_addr = u64::MAX - 15;
            let _ = peer.frontend.set_vring_addr(0, &config);
        }),
        ("features that are not offered", |peer| {
            let _ = peer.frontend.set_features(FEATURES | 1 << 10);
        }),
        ("a size that no ring has", |peer| {
            let _ = peer.frontend.set_vring_num(0, 65);
        }),
        ("memory without its rings", |peer| {
            let file = memfd(MemfdFlags::ALLOW_SEALING);
            let mut elsewhere = region(&file);
            elsewhere.guest_phys_addr = 1 << 40;
            let _ = peer.frontend.set_mem_table(&[elsewhere]);
        }),
        ("more in a ring than there is room for", |peer| {
            let [_, available, _] = ring_at(1);
            peer.write(available + 2, 1000u16);
            peer.kicks[1].write(1).unwrap();
        }),
    ];
    for (what, ask) in asked {
        let (guest, socket) = plug(&vnet, "c");
        let mut peer = Peer::new(socket);
        ask(&mut peer);
        eprintln!("{what}");
        let report = end_of(guest);
        let Some(PumpEnd::Device(error)) = report.end else {
            panic!("{what}: {report}");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
        vnet.remove_interface("c").unwrap();
        to.offer(0, 3, 200, WRITE);
        from.send(3, &frame(60, 3));
        assert_eq!(to.receive(), frame(60, 3), "{what}");
    }
}

#[test]
fn memory_that_can_be_taken_away_is_refused() {
    let vnet = switch();
    let folder = tempfile::tempdir().unwrap();
    let plain = File::create_new(folder.path().join("memory")).unwrap();
    plain.set_len(LEN).unwrap();
    let shorter = memfd(MemfdFlags::ALLOW_SEALING);
    shorter.set_len(LEN / 2).unwrap();
    let mut files = vec![
        ("a file", plain),
        ("a memfd that cannot be sealed", memfd(MemfdFlags::empty())),
        ("shorter than it says", shorter),
    ];
    // Of pages that there may be none of. Not every kernel has them.
    let huge = MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    if let Ok(file) = memfd_create("guest", huge).map(File::from)
        && file.set_len(1 << 30).is_ok()
    {
        files.push(("huge pages", file));
    }
    for (what, file) in files {
        let (guest, socket) = plug(&vnet, "a");
        let frontend = Frontend::from_stream(socket, 64);
        frontend.set_features(FEATURES).unwrap();
        eprintln!("{what}");
        let _ = frontend.set_mem_table(&[region(&file)]);
        let report = end_of(guest);
        assert!(
            matches!(report.end, Some(PumpEnd::Device(_))),
            "{what}: {report}"
        );
        vnet.remove_interface("a").unwrap();
    }
}

#[test]
fn half_a_request_and_silence_hold_up_nobody() {
    let vnet = switch();
    let (guest, mut socket) = plug(&vnet, "a");
    socket.write_all(&[1, 0, 0, 0, 1]).unwrap();
    // It waits for the rest, and can be detached.
    assert!(guest.is_running());
    let report = guest.detach();
    assert!(matches!(report.end, Some(PumpEnd::Detached)), "{report}");
    vnet.remove_interface("a").unwrap();
    let (guest, mut socket) = plug(&vnet, "a");
    socket.write_all(&[0xff; 100]).unwrap();
    let report = end_of(guest);
    assert!(matches!(report.end, Some(PumpEnd::Device(_))), "{report}");
}

#[test]
fn only_a_connected_unix_stream_will_do() {
    let vnet = switch();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    for socket in [OwnedFd::from(tcp), datagrams.into(), listener.into()] {
        let error = Guest::attach(&vnet, "a", socket, Framing::VhostUser).unwrap_err();
        assert!(matches!(error, GuestError::Socket(_)), "{error}");
    }
}

/// Memory maps of this process that are a guest's.
fn maps() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:guest"))
        .count()
}

#[test]
fn guests_that_come_and_go_leave_nothing() {
    in_a_process_of_its_own("guests_that_come_and_go");
}

#[test]
#[ignore = "a process of its own"]
fn guests_that_come_and_go() {
    if !is_inside() {
        return;
    }
    let rounds = rounds(100);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("lan.sock");
    let listener = UnixListener::bind(&at).unwrap();
    let vnet = switch();
    let inside = (*vnet).clone();
    let guests = Guests::listen(listener, 2, move |number, socket| {
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::VhostUser)?;
        let _ = inside.add_member("br0", &name);
        Ok(guest)
    })
    .unwrap();
    let gone = || {
        let give_up = Instant::now() + PATIENCE;
        while guests.counts().connected > 0 {
            assert!(Instant::now() < give_up);
            sleep(Duration::from_millis(1));
        }
    };
    let round = |n: usize| {
        let mut peer = Peer::new(UnixStream::connect(&at).unwrap());
        peer.send(0, &frame(60, 1));
        if n.is_multiple_of(2) {
            peer.frontend.set_vring_enable(1, false).unwrap();
            peer.frontend.get_vring_base(1).unwrap();
        }
        drop(peer);
        gone();
    };
    leaves_nothing(rounds, maps, round);
    assert_eq!(guests.counts().accepted, 16 + rounds as u64);
    drop(guests);
    assert_eq!(maps(), 0);
    let left = vnet.destroy();
    assert!(left.leaked.is_zero(), "{left}");
}
