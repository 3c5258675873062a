use proptest::prelude::*;

use super::super::Item;
use super::*;
use crate::base::id::IfId;
use crate::packet::tag::{Tag, Tpid};

/// An Ethernet frame with an IPv4 packet from a host of that number.
fn ipv4(host: u8, proto: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0, 0x45, 0];
    frame.extend((20 + transport.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, proto, 0, 0, 192, 0, 2, host, 192, 0, 2, 250]);
    frame.extend(transport);
    frame
}

fn ipv6(next: u8, behind: &[u8]) -> Vec<u8> {
    let mut frame = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    frame.extend((behind.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    frame.extend([0x20; 32]);
    frame.extend(behind);
    frame
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = vec![0x12, 0x34, 0, 80];
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn kind(frame: &[u8]) -> Kind {
    Kind::of(&Packet::incoming(frame.to_vec()))
}

fn is_flow(kind: Kind) -> bool {
    matches!(kind, Kind::Flow(_))
}

#[test]
fn frames_are_told_apart_by_what_they_cost() {
    let (syn, ack, syn_ack) = (tcp(0x02), tcp(0x10), tcp(0x12));
    assert_eq!(kind(&ipv4(1, 6, 0, &syn)), Kind::Request);
    // ECN flags make no difference (RFC 3168, section 6.1.1).
    assert_eq!(kind(&ipv4(1, 6, 0, &tcp(0xc2))), Kind::Request);
    assert!(is_flow(kind(&ipv4(1, 6, 0, &ack))));
    assert!(is_flow(kind(&ipv4(1, 6, 0, &syn_ack))));
    // Don't fragment is no fragment; more fragments, and an offset, are.
    assert_eq!(kind(&ipv4(1, 6, 0x4000, &syn)), Kind::Request);
    assert_eq!(kind(&ipv4(1, 17, 0x2000, &syn)), Kind::Fragment);
    assert_eq!(kind(&ipv4(1, 17, 0x0001, &syn)), Kind::Fragment);
    assert_eq!(kind(&ipv6(6, &syn)), Kind::Request);
    assert_eq!(kind(&ipv6(44, &[17; 8])), Kind::Fragment);
    for discovery in 133..=137 {
        assert_eq!(kind(&ipv6(58, &[discovery, 0])), Kind::Link);
    }
    assert!(is_flow(kind(&ipv6(58, &[128, 0]))));
    let mut arp = ipv4(1, 0, 0, &[]);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(kind(&arp), Kind::Link);
    let mut for_all = ipv4(1, 6, 0, &ack);
    for_all[..6].fill(0xff);
    assert_eq!(kind(&for_all), Kind::Link);
    // Behind tags it is the same.
    let mut tagged = ipv4(1, 6, 0, &syn);
    tagged.splice(12..12, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]);
    assert_eq!(kind(&tagged), Kind::Request);
}

#[test]
fn flows_have_the_same_row_always_and_several_rows_among_them() {
    let row = |host, port: u8| {
        let mut udp = vec![port, 1, 0, 7, 0, 8, 0, 0];
        udp.resize(100, 0);
        kind(&ipv4(host, 17, 0, &udp)).row()
    };
    let rows: Vec<usize> = (0..100).map(|n| row(n, 1)).collect();
    assert!((0..100).map(|n| row(n, 1)).eq(rows.iter().copied()));
    for n in 3..ROWS {
        assert!(rows.contains(&n), "no host is in row {n}");
    }
    assert!((0..100).any(|port| row(1, port) != row(1, 1)));
}

fn wires(count: usize) -> Vec<IfId> {
    let mut slots = slotmap::SlotMap::<IfId, ()>::with_key();
    (0..count).map(|_| slots.insert(())).collect()
}

fn arrival(seq: u64, wire: IfId, frame: Vec<u8>) -> Arrival {
    let mut packet = Packet::incoming(frame);
    packet.meta.rcvif = Some(wire);
    (Instant::ZERO, seq, Item::Frame(packet))
}

fn put(fair: &mut Fair, wire: IfId, frame: Vec<u8>) -> bool {
    fair.put(arrival(0, wire, frame)).is_ok()
}

fn wire_of(arrival: &Arrival) -> Option<IfId> {
    arrival.2.frame().and_then(|(packet, _)| packet.meta.rcvif)
}

/// The order of service: the number of each wire, and how many frames of it in a row.
fn order(fair: &mut Fair, wires: &[IfId], takes: usize) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize)> = Vec::new();
    for _ in 0..takes {
        let Some((_, arrival)) = fair.take() else {
            break;
        };
        let which = wires
            .iter()
            .position(|wire| wire_of(&arrival) == Some(*wire));
        let which = which.expect("it is of one of them");
        match order.last_mut() {
            Some((last, frames)) if *last == which => *frames += 1,
            _ => order.push((which, 1)),
        }
    }
    order
}

fn datagram(host: u8) -> Vec<u8> {
    ipv4(host, 17, 0, &[0, 1, 0, 7, 0, 8, 0, 0])
}

#[test]
fn wires_have_turns_of_the_same_cost() {
    let wires = wires(3);
    let mut fair = Fair::default();
    for _ in 0..100 {
        assert!(put(&mut fair, wires[0], datagram(1)));
        assert!(put(&mut fair, wires[1], ipv4(1, 6, 0, &tcp(0x02))));
        assert!(put(&mut fair, wires[2], ipv4(1, 17, 0x2000, &[0; 1480])));
    }
    // 16 datagrams cost as much as 2 requests or 4 fragments.
    let turns = [(0, 16), (1, 2), (2, 4), (0, 16), (1, 2), (2, 4)];
    assert_eq!(order(&mut fair, &wires, 44), turns);
}

#[test]
fn one_that_sends_little_is_heard_next_and_not_twice_in_a_round() {
    let wires = wires(3);
    let mut fair = Fair::default();
    for _ in 0..200 {
        put(&mut fair, wires[0], datagram(1));
        put(&mut fair, wires[1], datagram(1));
    }
    assert_eq!(order(&mut fair, &wires, 40), [(0, 16), (1, 16), (0, 8)]);
    put(&mut fair, wires[2], datagram(1));
    assert_eq!(order(&mut fair, &wires, 2), [(2, 1), (0, 1)]);
    // It comes back at once, and waits until the others have had their turns.
    put(&mut fair, wires[2], datagram(1));
    assert_eq!(
        order(&mut fair, &wires, 30),
        [(0, 7), (1, 16), (2, 1), (0, 6)]
    );
}

#[test]
fn on_one_wire_a_flood_of_requests_leaves_connections_half_the_time() {
    let wires = wires(1);
    let mut fair = Fair::default();
    for _ in 0..100 {
        put(&mut fair, wires[0], ipv4(1, 6, 0, &tcp(0x02)));
        put(&mut fair, wires[0], ipv4(2, 6, 0, &tcp(0x10)));
    }
    let mut requests = 0;
    for _ in 0..90 {
        let (cost, _) = fair.take().expect("there are more");
        requests += usize::from(cost == 8);
    }
    assert_eq!(requests, 10);
}

#[test]
fn a_ring_has_room_for_those_who_are_silent() {
    let wires = wires(2);
    let mut fair = Fair::default();
    let put_all = |fair: &mut Fair, wire, frame: Vec<u8>| {
        (0..2000).filter(|_| put(fair, wire, frame.clone())).count()
    };
    let requests = ipv4(1, 6, 0, &tcp(0x02));
    // Four fifths, then four fifths of what is left.
    assert_eq!(put_all(&mut fair, wires[0], requests.clone()), 820);
    assert_eq!(put_all(&mut fair, wires[0], datagram(1)), 164);
    assert_eq!(put_all(&mut fair, wires[1], datagram(1)), 820);
    let expects = |fair: &mut Fair, at: u64, wire, frame: &[u8]| {
        let packet = Packet::incoming(frame.to_vec());
        fair.expects(Instant::from_nanos(at), Payer::Wire(Some(wire)), &packet)
    };
    fair.sorted_to(Instant::from_nanos(5));
    assert!(!expects(&mut fair, 7, wires[0], &requests));
    assert!(!expects(&mut fair, 7, wires[0], &datagram(1)));
    // There is still room for fragments, as many as may be, and for what comes much later.
    let fragment = ipv4(1, 17, 1, &[]);
    let expected = (0..100).filter(|_| expects(&mut fair, 7, wires[0], &fragment));
    assert_eq!(expected.count(), 32);
    assert_eq!(put_all(&mut fair, wires[0], fragment), 32);
    assert!(expects(&mut fair, 1_000_006, wires[0], &requests));
}

#[test]
fn the_vlans_of_others_are_not_their_parents_wire() {
    let wire = wires(1)[0];
    let mut packet = Packet::incoming(datagram(1));
    packet.meta.rcvif = Some(wire);
    packet.push_tag(Tag {
        tpid: Tpid::Dot1q,
        tci: 5,
    });
    let mut fair = Fair::default();
    while put(&mut fair, wire, datagram(1)) {}
    assert!(fair.put((Instant::ZERO, 0, Item::Leaving(packet))).is_ok());
}

proptest! {
    /// What is put in comes out once, that of one row in its order, and nobody who waits is
    /// passed over for longer than a turn of each other.
    #[test]
    fn everything_comes_out_in_the_order_of_its_row(
        acts in prop::collection::vec((0usize..5, 0u8..6, 0usize..4), 1..400),
    ) {
        let wires = wires(5);
        let mut fair = Fair::default();
        let mut waiting: BTreeMap<(usize, usize), VecDeque<u64>> = BTreeMap::new();
        let check = |waiting: &mut BTreeMap<(usize, usize), VecDeque<u64>>, taken: Arrival| {
            let wire = wires.iter().position(|wire| wire_of(&taken) == Some(*wire));
            let (packet, _) = taken.2.frame().expect("a frame");
            let row = (wire.expect("one of them"), Kind::of(packet).row());
            let next = waiting.get_mut(&row).and_then(VecDeque::pop_front);
            (next, Some(taken.1))
        };
        for (seq, (wire, what, takes)) in acts.into_iter().enumerate() {
            let frame = match what {
                0 => ipv4(1, 6, 0, &tcp(2)),
                1 => ipv4(1, 17, 1, &[]),
                2 => vec![0xff; 60],
                3 => ipv4(1, 6, 0, &vec![0; 60_000]),
                host => datagram(host),
            };
            let row = kind(&frame).row();
            prop_assert!(fair.put(arrival(seq as u64, wires[wire], frame)).is_ok());
            waiting.entry((wire, row)).or_default().push_back(seq as u64);
            for _ in 0..takes {
                if let Some((_, taken)) = fair.take() {
                    let (expected, found) = check(&mut waiting, taken);
                    prop_assert_eq!(expected, found);
                }
            }
        }
        while let Some((_, taken)) = fair.take() {
            let (expected, found) = check(&mut waiting, taken);
            prop_assert_eq!(expected, found);
        }
        prop_assert!(waiting.values().all(VecDeque::is_empty));
        prop_assert_eq!(fair.next(), None);
    }
}
