use super::ring::tests::{BUFFERS, Call, Driver, WRITE, memory, ring, sent};
use super::*;

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

#[test]
fn who_has_got_something_is_told_of_it_though_another_ring_is_full() {
    let device = Arc::new(Device::new().unwrap());
    device.features.store(feature::MQ, Ordering::Relaxed);
    let memories = [memory(), memory()];
    let calls = [Call::new(), Call::new()];
    for ((memory, call), place) in memories.iter().zip(&calls).zip(device.received_by_guest()) {
        let mut ring = ring(memory, true, false);
        call.given_to(&mut ring);
        call.heard();
        *place.lock() = ring;
    }
    let [one, other] = [0, 1].map(|number| {
        let of_it = |port: &u16| flow(&datagram(*port)) as usize % 2 == number;
        datagram((1..).find(of_it).unwrap())
    });
    let mut driver = Driver::new(&memories[0]);
    driver.describe(0, BUFFERS, 2000, WRITE, 0);
    driver.make_available(0);
    let mut to_guest = ToGuest {
        device,
        given_back: 0,
    };
    assert!(matches!(to_guest.write(one).unwrap(), Written::Yes));
    assert_eq!(calls[0].heard(), 0, "there may be more");
    assert!(matches!(to_guest.write(other).unwrap(), Written::Later(_)));
    assert_eq!(calls[0].heard(), 1);
}
