use std::io::Write;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Instant;

use super::*;
use crate::netns::NetNs;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A host with a cable: `wire` is the far end, and `nic` the card. Says aloud where there can be none.
pub(super) fn host() -> Option<NetNs> {
    let host = NetNs::new().and_then(|host| {
        host.run(|| {
            for which in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                let _ = std::fs::write(path, "1");
            }
        });
        host.ip("link add wire type veth peer name nic")?;
        host.ip("link set nic up")?;
        host.ip("link set wire up")?;
        Ok(host)
    });
    host.map_err(|why| skip(&why)).ok()
}

/// Says aloud what cannot be had here.
pub(super) fn skip(why: &dyn std::fmt::Display) {
    let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
    assert!(!required, "VNET_REQUIRE_TAP is set: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn opened(host: &NetNs, queues: u16) -> Card {
    let config = NicConfig {
        netns: Some(host.path()),
        queues: queues.try_into().unwrap(),
        ..NicConfig::from("nic")
    };
    in_its_namespace(&config, Card::open_here).unwrap()
}

/// Who sends at the far end: its frames have a virtio-net header in front.
pub(super) fn far_end(host: &NetNs) -> OwnedFd {
    let config = NicConfig {
        netns: Some(host.path()),
        ..NicConfig::from("wire")
    };
    let card = in_its_namespace(&config, Card::open_here);
    let end = card.unwrap().ends.pop().unwrap();
    end.socket
}

/// A datagram of a flow with a number, of so many bytes.
pub(super) fn frame(flow: u8, number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    let total = (len as u16 - 14).to_be_bytes();
    frame.extend([
        2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0,
    ]);
    frame.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, flow, 0, 9, 0, 0, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(len, flow);
    frame
}

pub(super) fn send(socket: &OwnedFd, frame: &[u8]) {
    let bytes = [&[0; PACKET_HEADER_LEN], frame].concat();
    assert_eq!(rustix::io::write(socket, &bytes), Ok(bytes.len()));
}

/// The way in of a card with one queue.
fn inward(card: Card) -> Box<dyn Inward> {
    let mut ends = card.ends;
    ends.pop().unwrap().halves().0
}

/// What comes, up to so many frames: the kernel may take its time.
fn hear(inward: &mut dyn Inward, frames: usize) -> Vec<Bytes> {
    let give_up = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < frames {
        match inward.read().unwrap() {
            Some(frame) => {
                assert!(frame.header.is_some(), "a frame that is not whole");
                all.push(frame.bytes);
            }
            None => assert!(Instant::now() < give_up, "{} of {frames}", all.len()),
        }
    }
    all
}

/// Nothing more comes.
fn is_empty(inward: &mut dyn Inward) -> bool {
    inward.read().unwrap().is_none()
}

#[test]
fn frames_come_by_the_ring_or_beside_it_in_their_order() {
    for has_ring in [true, false] {
        let Some(host) = host() else { return };
        let mut card = opened(&host, 1);
        // Longer than a slot, which is as long as frames were when it was taken.
        for name in ["nic", "wire"] {
            host.ip(&format!("link set {name} mtu 9000")).unwrap();
        }
        assert!(card.ends[0].ring.is_some(), "no ring from this kernel");
        if !has_ring {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let end = &mut card.ends[0];
            let about = card.about;
            // As of a kernel that has none.
            let open = move || {
                let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
                packet::set_packet_options(&socket)?;
                sockopt::set_socket_recv_buffer_size(&socket, QUEUE)?;
                packet::bind_to_interface(&socket, about.index)?;
                Ok::<_, Errno>(socket)
            };
            end.ring = None;
            end.socket = host.run(open).unwrap();
        }
        let mut inward = inward(card);
        let far = far_end(&host);
        let sent: Vec<_> = (0..200)
            .map(|n| frame(1, n, [60, 5000, 1514, 8000, 2049][n as usize % 5]))
            .collect();
        // There is room for some forty of the long ones.
        for some in sent.chunks(20) {
            some.iter().for_each(|frame| send(&far, frame));
            let heard = hear(&mut *inward, some.len());
            assert!(heard == some, "with a ring: {has_ring}");
            assert!(is_empty(&mut *inward));
        }
        assert_eq!(inward.take_last_lost(), 0, "with a ring: {has_ring}");
    }
}

#[test]
fn what_finds_no_room_in_the_ring_is_counted() {
    const SLOTS: usize = (4 << 20) / 2048;
    let Some(host) = host() else { return };
    let mut inward = inward(opened(&host, 1));
    let far = far_end(&host);
    let send_all = |frames: usize| (0..frames).for_each(|n| send(&far, &frame(1, n as u32, 60)));
    send_all(SLOTS + 300);
    let give_up = Instant::now() + PATIENCE;
    let mut lost = 0;
    while lost < 300 {
        assert!(Instant::now() < give_up, "{lost} lost");
        lost += inward.take_last_lost();
    }
    assert_eq!(lost, 300);
    assert_eq!(hear(&mut *inward, SLOTS).len(), SLOTS);
    assert!(is_empty(&mut *inward));
    // The next frame says that there were some, without being asked for it.
    send_all(SLOTS + 7);
    sleep(Duration::from_millis(50));
    hear(&mut *inward, SLOTS);
    assert_eq!(inward.take_lost(), 0);
    send_all(1);
    hear(&mut *inward, 1);
    assert_eq!((inward.take_lost(), inward.take_last_lost()), (7, 0));
}

#[test]
fn sockets_share_what_comes_in_and_a_flow_stays_with_one() {
    const FLOWS: u8 = 32;
    const EACH: u32 = 50;
    let Some(host) = host() else { return };
    let card = opened(&host, 3);
    let mut ways: Vec<_> = card.ends.into_iter().map(|end| end.halves()).collect();
    let far = far_end(&host);
    for number in 0..EACH {
        for flow in 0..FLOWS {
            send(&far, &frame(flow, number, 60));
        }
    }
    let mut queue_of = [None; FLOWS as usize];
    let mut heard = [0; FLOWS as usize];
    let mut used = [false; 3];
    let give_up = Instant::now() + PATIENCE;
    while heard.iter().sum::<u32>() < EACH * u32::from(FLOWS) {
        assert!(Instant::now() < give_up, "{heard:?}");
        for (queue, (inward, _)) in ways.iter_mut().enumerate() {
            while let Some(Frame { bytes, .. }) = inward.read().unwrap() {
                let flow = usize::from(bytes[35]);
                let number = u32::from_be_bytes(bytes[42..46].try_into().unwrap());
                assert_eq!(number, heard[flow], "flow {flow}");
                heard[flow] += 1;
                assert_eq!(*queue_of[flow].get_or_insert(queue), queue, "flow {flow}");
                used[queue] = true;
            }
        }
    }
    assert_eq!(heard, [EACH; FLOWS as usize], "each frame once");
    assert_eq!(used, [true; 3]);
    // What leaves by one of them comes in at none.
    let vnet = vnet::System::virtual_time(1).create("vnet").unwrap();
    let port = vnet.port("eth0", None).unwrap();
    vnet.add_address("eth0", "192.0.2.7/24".parse().unwrap())
        .unwrap();
    let announced = port.recv().unwrap();
    assert!(matches!(ways[1].1.write(announced).unwrap(), Written::Yes));
    send(&far, &frame(0, EACH, 60));
    let frames = |ways: &mut Vec<Halves>| -> Vec<Bytes> {
        let all = ways.iter_mut().map(|(inward, _)| inward.read().unwrap());
        all.flatten().map(|frame| frame.bytes).collect()
    };
    let came = loop {
        assert!(Instant::now() < give_up, "nothing more came");
        let came = frames(&mut ways);
        if !came.is_empty() {
            break came;
        }
    };
    assert_eq!(came, [frame(0, EACH, 60)]);
    assert!(ways.iter_mut().all(|(inward, _)| is_empty(&mut **inward)));
}

#[test]
fn more_queues_than_there_can_be_are_refused() {
    let Some(host) = host() else { return };
    let config = NicConfig {
        netns: Some(host.path()),
        queues: 257.try_into().unwrap(),
        ..NicConfig::from("nic")
    };
    let Err(refused) = in_its_namespace(&config, Card::open_here) else {
        panic!("257 queues");
    };
    assert!(
        matches!(refused, NicError::Queues { wanted: 257, .. }),
        "{refused}"
    );
}
