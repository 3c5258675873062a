use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vm_memory::Bytes as _;
use vnet::System;

use super::*;

/// A ring of a guest's: its table of buffers, what it makes available, and what it gets back.
const SIZE: u16 = 16;
const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
pub(in crate::vhost) const BUFFERS: u64 = 0x1_0000;
const END: u64 = 0x10_0000;

const NEXT: u16 = 1;
pub(in crate::vhost) const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

pub(in crate::vhost) fn memory() -> Arc<Memory> {
    let ranges = [(GuestAddress(0), END as usize)];
    Arc::new(Memory::from_ranges(&ranges).unwrap())
}

/// A ring that runs. With `has_event_idx`, neither side tells the other more than it wants to know.
pub(in crate::vhost) fn ring(memory: &Arc<Memory>, has_merging: bool, has_event_idx: bool) -> Ring {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut ring = Ring::new().unwrap();
    ring.set_memory(Some(Arc::clone(memory))).unwrap();
    ring.agree(true, has_merging, has_event_idx);
    ring.set_size(SIZE).unwrap();
    ring.set_places([TABLE, AVAILABLE, USED]).unwrap();
    ring.start(None, &events).unwrap();
    ring.enable(true);
    ring
}

/// The guest's side.
pub(in crate::vhost) struct Driver<'a> {
    memory: &'a Memory,
    available: u16,
    used: u16,
}

impl Driver<'_> {
    pub(in crate::vhost) fn new(memory: &Memory) -> Driver<'_> {
        Driver {
            memory,
            available: 0,
            used: 0,
        }
    }

    pub(in crate::vhost) fn describe(
        &self,
        number: u16,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        let at = GuestAddress(TABLE + 16 * u64::from(number));
        self.memory.write_slice(&bytes, at).unwrap();
    }

    pub(in crate::vhost) fn make_available(&mut self, head: u16) {
        let slot = AVAILABLE + 4 + 2 * u64::from(self.available % SIZE);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        let index = GuestAddress(AVAILABLE + 2);
        self.memory.write_obj(self.available, index).unwrap();
    }

    /// What came back since the last call: heads, and how much is in them.
    pub(in crate::vhost) fn got_back(&mut self) -> Vec<(u32, u32)> {
        let index: u16 = self.memory.read_obj(GuestAddress(USED + 2)).unwrap();
        let mut all = Vec::new();
        while self.used != index {
            let slot = GuestAddress(USED + 4 + 8 * u64::from(self.used % SIZE));
            let element: u64 = self.memory.read_obj(slot).unwrap();
            all.push((element as u32, (element >> 32) as u32));
            self.used = self.used.wrapping_add(1);
        }
        all
    }
}

/// A frame of so many bytes that a vnet sends.
fn packet(len: usize) -> Packet {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend((0..).map(|n: u32| (n * 7) as u8).take(len - 14));
    sent(frame)
}

/// A frame that a vnet sends: a packet, as those who send to a guest have it.
pub(in crate::vhost) fn sent(frame: Vec<u8>) -> Packet {
    let system = System::virtual_time(1);
    let vnet = system.create("vnet").unwrap();
    vnet.bridge("br0").unwrap();
    let [from, to] = ["from", "to"].map(|name| {
        let port = vnet.port(name, None).unwrap();
        vnet.set_ip_mtu(name, u16::MAX).unwrap();
        vnet.add_member("br0", name).unwrap();
        port
    });
    from.send(frame).unwrap();
    system.run_until_idle(vnet::RunLimit::default()).unwrap();
    to.recv().unwrap()
}

#[test]
fn a_frame_is_taken_from_buffers_anywhere() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut ring = ring(&memory, true, false);
    let said: Vec<u8> = (0..100).collect();
    memory
        .write_slice(&said[..12], GuestAddress(BUFFERS))
        .unwrap();
    memory
        .write_slice(&said[12..], GuestAddress(BUFFERS + 0x1000))
        .unwrap();
    driver.describe(3, BUFFERS, 12, NEXT, 1);
    driver.describe(1, BUFFERS + 0x1000, 88, 0, 0);
    driver.make_available(3);
    // The same in a table of its own.
    let mut table = [0; 32];
    memory
        .read_slice(&mut table[..16], GuestAddress(48))
        .unwrap();
    memory
        .read_slice(&mut table[16..], GuestAddress(16))
        .unwrap();
    memory
        .write_slice(&table, GuestAddress(BUFFERS + 0x2008))
        .unwrap();
    driver.describe(5, BUFFERS + 0x2008, 32, INDIRECT, 0);
    driver.make_available(5);
    for head in [3, 5] {
        let mut taken = Vec::new();
        assert_eq!(ring.take(&mut taken).unwrap(), Taken::Frame);
        assert_eq!(taken, said);
        assert_eq!(driver.got_back(), [(head, 0)]);
    }
    assert_eq!(ring.take(&mut Vec::new()).unwrap(), Taken::Nothing);
}

#[test]
fn what_is_no_frame_is_given_back_and_what_is_no_ring_ends_it() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut ring = ring(&memory, true, false);
    let cases = [
        ("outside the memory", END - 4, 100, 0),
        ("behind all addresses", u64::MAX - 4, 100, 0),
        ("shorter than a header", BUFFERS, 11, 0),
        ("nothing", BUFFERS, 0, 0),
        ("longer than any frame", BUFFERS, 65_557 + 13, 0),
        ("as long as can be said", BUFFERS, u32::MAX, 0),
        ("for what comes in", BUFFERS, 100, WRITE),
        ("for ever", BUFFERS, 65_536 / 8, NEXT),
        ("a table of a part", BUFFERS, 17, INDIRECT),
        ("a table outside", END - 8, 16, INDIRECT),
    ];
    for (what, address, len, flags) in cases {
        // Those with another one behind them have themselves there.
        driver.describe(2, address, len, flags, 2);
        driver.make_available(2);
        let mut taken = Vec::new();
        assert_eq!(ring.take(&mut taken).unwrap(), Taken::Refused, "{what}");
        assert!(taken.len() <= HEADER_LEN + MAX_FRAME_LEN, "{what}");
        assert_eq!(driver.got_back(), [(2, 0)], "{what}");
    }
    driver.make_available(SIZE);
    let error = ring.take(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    driver.available = driver.available.wrapping_add(SIZE + 1);
    driver.make_available(0);
    let error = ring.take(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn a_ring_that_runs_does_not_grow_out_of_the_memory() {
    let memory = memory();
    let mut ring = ring(&memory, true, false);
    let last = END - 4 - 2 * u64::from(SIZE) - 2;
    ring.set_places([TABLE, last, USED]).unwrap();
    assert!(ring.set_size(MAX_SIZE).is_err());
    assert!(!ring.is_running());
}

#[test]
fn a_ring_whose_entries_cannot_be_read_ends() {
    // The first entry is on both sides of a border.
    let available = USED + 0x1000;
    let border = available + 5;
    let ranges = [
        (GuestAddress(0), border as usize),
        (GuestAddress(border), (END - border) as usize),
    ];
    let memory = Arc::new(Memory::from_ranges(&ranges).unwrap());
    let mut ring = ring(&memory, true, false);
    ring.set_places([TABLE, available, USED]).unwrap();
    memory.write_obj(1u16, GuestAddress(available + 2)).unwrap();
    let packet = packet(60);
    let error = ring.put([0; HEADER_LEN], &packet).unwrap_err();
    assert_eq!(error.to_string(), UNREADABLE);
}

#[test]
fn a_frame_is_put_into_as_many_buffers_as_it_needs() {
    let memory = memory();
    let frame = packet(1000);
    let bytes = frame.to_vec();
    let header: [u8; HEADER_LEN] = std::array::from_fn(|n| n as u8);
    for (has_merging, has_event_idx) in [(true, false), (true, true)] {
        memory.write_obj(0u32, GuestAddress(AVAILABLE)).unwrap();
        memory.write_obj(0u32, GuestAddress(USED)).unwrap();
        let mut driver = Driver::new(&memory);
        let mut ring = ring(&memory, has_merging, has_event_idx);
        for number in 0..4 {
            let at = BUFFERS + 0x1000 * u64::from(number);
            driver.describe(number, at, 300, WRITE, 0);
        }
        // Three are too few, and none is taken.
        for number in 0..3 {
            driver.make_available(number);
        }
        assert_eq!(ring.put(header, &frame).unwrap(), Put::NoRoom);
        assert_eq!(driver.got_back(), []);
        driver.make_available(3);
        assert_eq!(ring.put(header, &frame).unwrap(), Put::Yes);
        assert_eq!(driver.got_back(), [(0, 300), (1, 300), (2, 300), (3, 112)]);
        let mut all = Vec::new();
        for (number, len) in [(0, 300), (1, 300), (2, 300), (3, 112)] {
            let mut part = vec![0; len];
            let at = GuestAddress(BUFFERS + 0x1000 * number);
            memory.read_slice(&mut part, at).unwrap();
            all.extend(part);
        }
        assert_eq!(all[..10], header[..10]);
        assert_eq!(all[10..12], [4, 0], "the number of buffers");
        assert_eq!(all[12..], bytes);
    }
}

#[test]
fn without_merging_a_frame_is_put_into_one_chain_or_nowhere() {
    let memory = memory();
    let frame = packet(1000);
    let mut driver = Driver::new(&memory);
    let mut ring = ring(&memory, false, false);
    driver.describe(0, BUFFERS, 1011, WRITE, 0);
    driver.make_available(0);
    assert_eq!(ring.put([0; 12], &frame).unwrap(), Put::Refused);
    assert_eq!(driver.got_back(), [], "it is still there");
    let smaller = packet(999);
    assert_eq!(ring.put([0; 12], &smaller).unwrap(), Put::Yes);
    assert_eq!(driver.got_back(), [(0, 1011)]);
    // One that is not where it is said to be is given back, and costs the frame.
    driver.describe(1, END - 10, 2000, WRITE, 0);
    driver.make_available(1);
    assert_eq!(ring.put([0; 12], &frame).unwrap(), Put::Refused);
    assert_eq!(driver.got_back(), [(1, 0)]);
}

#[test]
fn a_guest_is_told_what_it_wants_to_know() {
    let memory = memory();
    for has_event_idx in [false, true] {
        memory.write_obj(0u32, GuestAddress(AVAILABLE)).unwrap();
        memory.write_obj(0u32, GuestAddress(USED)).unwrap();
        let mut driver = Driver::new(&memory);
        let mut ring = ring(&memory, true, has_event_idx);
        let call = Call::new();
        call.given_to(&mut ring);
        call.heard();
        let told = |ring: &mut Ring| {
            ring.tell().unwrap();
            call.heard()
        };
        driver.describe(0, BUFFERS, 100, 0, 0);
        let mut send = |ring: &mut Ring| {
            driver.make_available(0);
            assert_eq!(ring.take(&mut Vec::new()).unwrap(), Taken::Frame);
        };
        assert_eq!(told(&mut ring), 0, "nothing has come back");
        send(&mut ring);
        send(&mut ring);
        assert_eq!(told(&mut ring), 1, "once for several");
        assert_eq!(told(&mut ring), 0);
        match has_event_idx {
            // It wants to know of the fifth.
            true => {
                let event = GuestAddress(AVAILABLE + 4 + 2 * u64::from(SIZE));
                memory.write_obj(4u16, event).unwrap();
            }
            false => memory.write_obj(1u16, GuestAddress(AVAILABLE)).unwrap(),
        }
        send(&mut ring);
        assert_eq!(told(&mut ring), 0);
        if has_event_idx {
            send(&mut ring);
            send(&mut ring);
            send(&mut ring);
            assert_eq!(told(&mut ring), 1);
        }
    }
}

/// A call's descriptor, and how often it was rung since the last look.
pub(in crate::vhost) struct Call(std::os::fd::OwnedFd);

impl Call {
    pub(in crate::vhost) fn new() -> Call {
        let flags = rustix::event::EventfdFlags::NONBLOCK;
        Call(rustix::event::eventfd(0, flags).unwrap())
    }

    pub(in crate::vhost) fn given_to(&self, ring: &mut Ring) {
        let file = File::from(self.0.try_clone().unwrap());
        ring.set_call(Some(file)).unwrap();
    }

    pub(in crate::vhost) fn heard(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count[..]) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }
}

#[test]
fn a_call_that_is_made_while_its_descriptor_changes_is_heard_at_the_new_one() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut ring = ring(&memory, true, true);
    let (old, new) = (Call::new(), Call::new());
    old.given_to(&mut ring);
    old.heard();
    driver.describe(0, BUFFERS, 100, 0, 0);
    driver.make_available(0);
    assert_eq!(ring.take(&mut Vec::new()).unwrap(), Taken::Frame);
    ring.tell().unwrap();
    // Nobody listens there any more.
    new.given_to(&mut ring);
    assert_eq!(new.heard(), 1);
    ring.tell().unwrap();
    assert_eq!(new.heard(), 0, "once");
    // Before a ring runs, there is nothing to say.
    let events = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    ring.stop(&events);
    new.given_to(&mut ring);
    assert_eq!(new.heard(), 0);
}

/// A guest without barriers says what it waits for after it has looked: too late for this side to see.
#[test]
fn a_wish_that_comes_too_late_is_seen_at_the_second_look_or_with_the_next_buffer() {
    let memory = memory();
    let wish = |event: u16| {
        let at = GuestAddress(AVAILABLE + 4 + 2 * u64::from(SIZE));
        memory.write_obj(event, at).unwrap();
    };
    for looks_again in [true, false] {
        memory.write_obj(0u32, GuestAddress(AVAILABLE)).unwrap();
        memory.write_obj(0u32, GuestAddress(USED)).unwrap();
        let mut driver = Driver::new(&memory);
        let mut ring = ring(&memory, true, true);
        let call = Call::new();
        call.given_to(&mut ring);
        call.heard();
        driver.describe(0, BUFFERS, 100, 0, 0);
        let mut give_back = |ring: &mut Ring| {
            driver.make_available(0);
            assert_eq!(ring.take(&mut Vec::new()).unwrap(), Taken::Frame);
            ring.tell().unwrap();
        };
        // None, as far as can be seen.
        wish(u16::MAX - 100);
        give_back(&mut ring);
        assert_eq!(call.heard(), 0);
        wish(0);
        match looks_again {
            true => ring.tell_again().unwrap(),
            false => give_back(&mut ring),
        }
        assert_eq!(call.heard(), 1);
        // It has seen all, and is not called for nothing.
        ring.tell_again().unwrap();
        wish(2);
        ring.tell_again().unwrap();
        assert_eq!(call.heard(), 0);
    }
}

/// Buffers that go through a ring in the test below: as many as make every place of it meet every other.
const MANY: usize = 100_000;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until it is rung. False when it is not.
fn is_rung(fd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&patience)) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.unwrap() > 0,
        }
    }
}

/// Two threads as fast as they can, each of which sleeps when there is nothing to do: neither sleeps for ever, and what
/// one has sent the other has received, in order.
#[test]
fn a_driver_and_a_device_that_sleep_whenever_they_can_miss_nothing() {
    for has_event_idx in [true, false] {
        let memory = memory();
        let mut ring = ring(&memory, true, has_event_idx);
        let (call, kick) = (Call::new(), Call::new());
        call.given_to(&mut ring);
        std::thread::scope(|scope| {
            let device = scope.spawn(|| {
                for n in 0..MANY {
                    let mut taken = Vec::new();
                    while ring.take(&mut taken).unwrap() == Taken::Nothing {
                        ring.tell().unwrap();
                        if !ring.listen().unwrap() {
                            assert!(is_rung(&kick.0), "no kick for frame {n}");
                            kick.heard();
                        }
                    }
                    assert_eq!(taken[..8], n.to_le_bytes(), "frame {n}");
                }
                ring.tell().unwrap();
            });
            drive(&memory, has_event_idx, &call, &kick);
            device.join().unwrap();
        });
    }
}

/// Sends, and waits for buffers to come back, as Linux does.
fn drive(memory: &Memory, has_event_idx: bool, call: &Call, kick: &Call) {
    let load = |at: u64| {
        memory
            .load::<u16>(GuestAddress(at), Ordering::Acquire)
            .unwrap()
    };
    let store = |at: u64, value: u16| {
        memory
            .store(value, GuestAddress(at), Ordering::Release)
            .unwrap()
    };
    let wish = AVAILABLE + 4 + 2 * u64::from(SIZE);
    let asked = USED + 4 + 8 * u64::from(SIZE);
    let mut driver = Driver::new(memory);
    let (mut sent, mut back) = (0usize, 0usize);
    if !has_event_idx {
        store(AVAILABLE, 1);
    }
    while back < MANY {
        let mut has_sent = false;
        // A few at a time: the ring is empty and full again and again.
        while sent < MANY && sent - back < usize::from(SIZE) && !(has_sent && sent % 5 == 0) {
            let number = (sent % usize::from(SIZE)) as u16;
            let at = BUFFERS + 0x100 * u64::from(number);
            memory
                .write_slice(&sent.to_le_bytes(), GuestAddress(at))
                .unwrap();
            driver.describe(number, at, 60, 0, 0);
            let slot = AVAILABLE + 4 + 2 * (sent as u64 % u64::from(SIZE));
            memory.write_obj(number, GuestAddress(slot)).unwrap();
            sent += 1;
            let old = driver.available;
            driver.available = old.wrapping_add(1);
            store(AVAILABLE + 2, driver.available);
            fence(Ordering::SeqCst);
            let wants_kick = match has_event_idx {
                true => driver.available.wrapping_sub(load(asked)).wrapping_sub(1) < 1,
                false => load(USED) & 1 == 0,
            };
            if wants_kick {
                rustix::io::write(&kick.0, &1u64.to_ne_bytes()).unwrap();
            }
            has_sent = true;
        }
        loop {
            let new = driver.got_back();
            back += new.len();
            if !new.is_empty() || has_sent && sent < MANY && sent - back < usize::from(SIZE) {
                break;
            }
            match has_event_idx {
                true => store(wish, driver.used),
                false => store(AVAILABLE, 0),
            }
            fence(Ordering::SeqCst);
            if load(USED + 2) == driver.used {
                assert!(is_rung(&call.0), "no call after {back} buffers");
                call.heard();
            }
            if !has_event_idx {
                store(AVAILABLE, 1);
            }
        }
    }
}

/// How many rings of random bytes are looked at. The default is for every run of the tests.
fn cases() -> u32 {
    let asked = std::env::var("VNET_GUEST_CASES").ok();
    asked.map_or(50_000, |n| n.parse().expect("a number of cases"))
}

/// Buffers that are mostly somewhere, mostly with a length that could be one, in chains that may be loops.
fn buffer() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        8 => BUFFERS..END,
        2 => 0..BUFFERS,
        1 => Just(END - 1),
        1 => any::<u64>(),
    ];
    let len = prop_oneof![
        4 => 0u32..2000,
        2 => (0u32..=64).prop_map(|n| 16 * n),
        1 => 65_000u32..70_000,
        1 => any::<u32>(),
    ];
    let flags = prop_oneof![8 => 0u16..8, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..SIZE, 1 => any::<u16>()];
    (address, len, flags, next)
}

/// Whatever a guest says in its rings: what is taken is bounded, what is put is where the guest says or
/// nowhere, and every chain that was taken is given back.
#[test]
fn a_hostile_ring_costs_itself_only() {
    let mut config = ProptestConfig::with_cases(cases());
    config.failure_persistence = None;
    let mut runner = TestRunner::new(config);
    let memory = memory();
    let frames = [60, 1514, 40_000].map(packet);
    let table = proptest::collection::vec(buffer(), usize::from(SIZE));
    let heads = proptest::collection::vec(prop_oneof![8 => 0..SIZE, 1 => any::<u16>()], 0..6);
    let jump = prop_oneof![8 => Just(0u16), 1 => any::<u16>()];
    let how = (any::<bool>(), any::<bool>(), 0usize..3);
    let counts = [const { Cell::new(0u64) }; 4];
    let [taken, put, refused, ended] = &counts;
    let count = |what: &Cell<u64>| what.set(what.get() + 1);
    let all = (table, heads, jump, how);
    let ran = runner.run(&all, |(table, heads, jump, (merging, event_idx, which))| {
        memory.write_obj(0u32, GuestAddress(AVAILABLE)).unwrap();
        memory.write_obj(0u32, GuestAddress(USED)).unwrap();
        let mut driver = Driver::new(&memory);
        let mut ring = ring(&memory, merging, event_idx);
        for (number, (address, len, flags, next)) in table.into_iter().enumerate() {
            driver.describe(number as u16, address, len, flags, next);
        }
        for head in &heads {
            driver.make_available(*head);
        }
        if jump > 0 {
            driver.available = driver.available.wrapping_add(jump);
            driver.make_available(0);
        }
        let most = usize::from(SIZE) + 1;
        let sent = ring.queue.next_avail();
        for turn in 0..2 * most {
            let mut into = Vec::new();
            let outcome = match turn % 3 {
                2 => ring
                    .put([0; 12], &frames[which])
                    .map(|outcome| match outcome {
                        Put::Yes => count(put),
                        Put::Refused => count(refused),
                        Put::NoRoom => {}
                    }),
                _ => ring.take(&mut into).map(|outcome| match outcome {
                    Taken::Frame => count(taken),
                    Taken::Refused => count(refused),
                    Taken::Nothing => {}
                }),
            };
            prop_assert!(into.len() <= HEADER_LEN + MAX_FRAME_LEN);
            prop_assert!(ring.places.len() <= MAX_BUFFERS && ring.chains.len() <= MAX_CHAINS);
            match outcome {
                Ok(_) => {}
                Err(error) => {
                    prop_assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    count(ended);
                    return Ok(());
                }
            }
            // A buffer is where the rings are, too: then what the guest says has changed meanwhile.
            prop_assert_eq!(
                ring.queue.next_used(),
                ring.queue.next_avail().wrapping_sub(sent)
            );
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    let [taken, put, refused, ended] = counts.map(Cell::into_inner);
    eprintln!("{taken} frames taken, {put} put, {refused} refused, {ended} rings ended");
    assert!([taken, put, refused, ended].into_iter().all(|n| n > 0));
}
