use super::device::feature;
use super::ring::tests::{BUFFERS, Call, Driver, WRITE, memory, ring, sent};
use super::*;
use crate::flow::flow;
use crate::line::{Outward, Written};
use vnet::packet::Packet;

/// A frame of IPv4 from one port to another, to whoever hears it.
fn datagram(port: u16) -> Packet {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend(port.to_be_bytes());
    frame.resize(60, 0);
    sent(frame)
}

/// A device with two pairs whose rings for what comes in run, in these memories, and a frame for each.
fn with_two_rings(memories: &[Arc<ring::Memory>; 2]) -> (Arc<Device>, [u16; 2]) {
    let device = Arc::new(Device::new().unwrap());
    device.features.store(feature::MQ, Ordering::Relaxed);
    for (memory, place) in memories.iter().zip(device.received_by_guest()) {
        *place.lock() = ring(memory, true, false);
    }
    let ports = [0, 1].map(|number| {
        let of_it = |port: &u16| flow(&datagram(*port)) as usize % 2 == number;
        (1..).find(of_it).unwrap()
    });
    (device, ports)
}

fn to_guest(device: &Arc<Device>, bytes: usize) -> ToGuest {
    let mut to_guest = ToGuest::new(Arc::clone(device));
    assert_eq!(to_guest.keep(bytes), bytes / 2);
    to_guest
}

/// The same frame as [`datagram`], with a mark in its last byte.
fn marked(port: u16, mark: u8) -> Packet {
    let mut frame = datagram(port).to_vec();
    *frame.last_mut().unwrap() = mark;
    sent(frame)
}

#[test]
fn who_has_got_something_is_told_of_it_though_another_ring_is_full() {
    let memories = [memory(), memory()];
    let (device, [one, other]) = with_two_rings(&memories);
    let call = Call::new();
    call.given_to(&mut device.ring(0).unwrap().lock());
    call.heard();
    let mut driver = Driver::new(&memories[0]);
    driver.describe(0, BUFFERS, 2000, WRITE, 0);
    driver.make_available(0);
    let mut to_guest = to_guest(&device, 1 << 20);
    assert!(matches!(
        to_guest.write(datagram(one)).unwrap(),
        Written::Yes
    ));
    assert_eq!(call.heard(), 0, "there may be more");
    assert!(matches!(
        to_guest.write(datagram(other)).unwrap(),
        Written::Yes
    ));
    assert!(to_guest.flush().unwrap(), "nobody polls for room in a ring");
    assert_eq!(call.heard(), 1);
}

#[test]
fn a_full_ring_holds_up_what_is_for_it_and_nothing_else() {
    let memories = [memory(), memory()];
    let (device, [full, free]) = with_two_rings(&memories);
    let [mut late, mut ready] = [&memories[0], &memories[1]].map(|memory| Driver::new(memory));
    for number in 0..16 {
        let address = BUFFERS + 0x1000 * u64::from(number);
        late.describe(number, address, 2000, WRITE, 0);
        ready.describe(number, address, 2000, WRITE, 0);
        ready.make_available(number);
    }
    let mut to_guest = to_guest(&device, 1 << 20);
    for mark in 0..16 {
        for port in [full, free] {
            let written = to_guest.write(marked(port, mark)).unwrap();
            assert!(matches!(written, Written::Yes), "{mark} for {port}");
        }
    }
    assert_eq!(ready.got_back().len(), 16);
    assert_eq!((late.got_back().len(), to_guest.unsent()), (0, 16));
    // In their order, as room comes.
    for number in 0..16 {
        late.make_available(number);
        assert!(to_guest.flush().unwrap());
        let [(head, len)] = late.got_back()[..] else {
            panic!("one at a time");
        };
        let last = BUFFERS + 0x1000 * u64::from(head) + u64::from(len) - 1;
        let mut mark = [0];
        vm_memory::Bytes::read_slice(&*memories[0], &mut mark, vm_memory::GuestAddress(last))
            .unwrap();
        assert_eq!(mark, [number as u8]);
    }
    assert_eq!((to_guest.unsent(), to_guest.take_lost()), (0, 0));
}

#[test]
fn what_waits_for_a_ring_has_a_bound_and_leaves_room_for_another() {
    let memories = [memory(), memory()];
    let (device, [one, other]) = with_two_rings(&memories);
    let mut to_guest = to_guest(&device, 100_000);
    let mut took = |port| {
        let full = |written| matches!(written, Written::Refused);
        (0..1000)
            .take_while(|_| !full(to_guest.write(datagram(port)).unwrap()))
            .count() as u64
    };
    let (first, second) = (took(one), took(other));
    assert!((50..100).contains(&first), "{first} of 572 bytes");
    assert!((5..first).contains(&second), "{second} beside {first}");
    assert_eq!(to_guest.unsent(), first + second);
    // A ring that is stopped gives up what waits for it, and the other keeps what it has.
    device.ring(0).unwrap().lock().enable(false);
    assert!(to_guest.flush().unwrap());
    assert_eq!(to_guest.take_lost(), first);
    assert_eq!(to_guest.unsent(), second);
}
