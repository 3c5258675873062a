//! Sixty-four guests' sockets on one bridge that tells VLANs apart: each hears what is sent in its VLANs, and
//! nothing else. No rights are needed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vnet::{BridgeConfig, BridgeVlans, MemberConfig, MemberVlans, OwnedVnet, System, VidSet, Vnet};
use vnet_tap::{Framing, Guest, Guests};

const GUESTS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
/// IEEE 802, local experimental.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// What a guest's port is.
#[derive(Clone, Debug)]
enum Kind {
    Access(u16),
    /// And in which of its VLANs the guest sends.
    Trunk(BTreeSet<u16>, u16),
}

impl Kind {
    fn sends_in(&self) -> u16 {
        match self {
            Kind::Access(vid) | Kind::Trunk(_, vid) => *vid,
        }
    }

    fn hears(&self, vid: u16) -> bool {
        match self {
            Kind::Access(own) => *own == vid,
            Kind::Trunk(carried, _) => carried.contains(&vid),
        }
    }

    fn vlans(&self) -> MemberVlans {
        match self {
            Kind::Access(vid) => MemberVlans::access(*vid),
            Kind::Trunk(carried, _) => {
                let list: Vec<String> = carried.iter().map(u16::to_string).collect();
                MemberVlans::trunk(list.join(",").parse::<VidSet>().unwrap())
            }
        }
    }

    /// A frame as it is on this guest's wire.
    fn frame(&self, vid: u16, to: [u8; 6], from: [u8; 6], mark: u8) -> Vec<u8> {
        let mut frame = [to, from].concat();
        if let Kind::Trunk(..) = self {
            frame.extend([0x81, 0x00]);
            frame.extend(vid.to_be_bytes());
        }
        frame.extend(ETHERTYPE);
        frame.extend([mark; 46]);
        frame
    }
}

/// A few VLANs, so that each has many guests.
fn kind() -> impl Strategy<Value = Kind> {
    let vid = || prop::sample::select(vec![1_u16, 2, 10, 100, 4000, 4094]);
    prop_oneof![
        4 => vid().prop_map(Kind::Access),
        1 => prop::collection::btree_set(vid(), 1..4).prop_flat_map(|carried| {
            let of_them = prop::sample::select(carried.iter().copied().collect::<Vec<_>>());
            of_them.prop_map(move |vid| Kind::Trunk(carried.clone(), vid))
        }),
    ]
}

fn mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(number).unwrap()]
}

struct Switch {
    vnet: OwnedVnet,
    guests: Guests,
    sockets: Vec<UnixStream>,
}

/// A bridge with a guest of each kind, numbered as they are.
fn switch(kinds: &[Kind]) -> Switch {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lan.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let vnet = System::threads().create("switch").unwrap();
    vnet.bridge("br0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    vnet.set_bridge("br0", config).unwrap();
    let (inside, ports) = ((*vnet).clone(), kinds.to_vec());
    let guests = Guests::listen(listener, kinds.len(), move |number, socket| {
        let name = format!("guest{number}");
        let guest = Guest::attach(&inside, &name, socket, Framing::Length32)?;
        inside.add_member("br0", &name)?;
        let vlans = ports[number].vlans();
        let config = MemberConfig {
            vlans,
            ..MemberConfig::default()
        };
        inside.set_member("br0", &name, config)?;
        Ok(guest)
    })
    .unwrap();
    let mut sockets = Vec::new();
    for n in 1..=kinds.len() {
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        sockets.push(socket);
        wait_until(|| guests.counts().connected == n);
    }
    Switch {
        vnet,
        guests,
        sockets,
    }
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "still not so");
        sleep(Duration::from_millis(1));
    }
}

/// Stations behind guests in the bridge's table.
fn known(vnet: &Vnet) -> usize {
    let inspection = vnet.inspect().unwrap();
    let bridging = inspection
        .interfaces
        .iter()
        .find_map(|i| i.bridging.as_ref());
    bridging
        .unwrap()
        .fdb
        .iter()
        .filter(|s| s.mac.0[..5] == mac(0)[..5])
        .count()
}

fn send(socket: &UnixStream, frame: &[u8]) {
    let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
    let mut socket = socket;
    socket.write_all(&[&len[..], frame].concat()).unwrap();
}

/// All frames until the end of the stream, in no order.
fn everything(socket: &mut UnixStream) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    let (mut frames, mut rest) = (Vec::new(), &all[..]);
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let (frame, next) = behind.split_at(u32::from_be_bytes(*len) as usize);
        frames.push(frame.to_vec());
        rest = next;
    }
    frames.sort();
    frames
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("VNET_GUEST_NETWORKS").ok().and_then(|n| n.parse().ok()).unwrap_or(6),
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_of_64_guests_reaches_its_own_vlans_only(
        kinds in prop::collection::vec(kind(), GUESTS),
        partners in prop::collection::vec(0..GUESTS, GUESTS),
    ) {
        let Switch { vnet, guests, sockets } = switch(&kinds);
        let mut expected = vec![Vec::new(); GUESTS];
        let mut deliver = |from: usize, vid: u16, only: Option<usize>, to: [u8; 6], mark: u8| {
            for (number, kind) in kinds.iter().enumerate() {
                if number != from && kind.hears(vid) && only.is_none_or(|only| only == number) {
                    expected[number].push(kind.frame(vid, to, mac(from), mark));
                }
            }
        };
        // To all, by which each is learned in the VLAN in which it sends.
        for (from, kind) in kinds.iter().enumerate() {
            let vid = kind.sends_in();
            deliver(from, vid, None, [0xff; 6], 1);
            send(&sockets[from], &kind.frame(vid, [0xff; 6], mac(from), 1));
        }
        // A frame has been forwarded when it has come out where it should.
        let heard: u64 = kinds.iter().enumerate().map(|(from, kind)| {
            let there = kinds.iter().enumerate();
            there.filter(|(n, other)| *n != from && other.hears(kind.sends_in())).count() as u64
        }).sum();
        wait_until(|| guests.report().frames_out >= heard);
        wait_until(|| known(&vnet) == GUESTS);
        // To one: in its VLAN only there, in another one to all, because nobody knows it there.
        for (from, kind) in kinds.iter().enumerate() {
            let (vid, partner) = (kind.sends_in(), partners[from]);
            if partner == from {
                continue;
            }
            let known = kinds[partner].sends_in() == vid;
            deliver(from, vid, known.then_some(partner), mac(partner), 2);
            send(&sockets[from], &kind.frame(vid, mac(partner), mac(from), 2));
        }
        let all: usize = expected.iter().map(Vec::len).sum();
        wait_until(|| guests.report().frames_out >= all as u64);
        prop_assert_eq!(guests.report().drops, 0);
        // What was sent last is carried out, and then all streams end.
        let report = vnet.destroy();
        prop_assert!(report.leaked.is_zero(), "{}", report);
        let readers: Vec<_> = sockets.into_iter().map(|mut socket| {
            thread::spawn(move || everything(&mut socket))
        }).collect();
        for ((number, reader), mut expected) in readers.into_iter().enumerate().zip(expected) {
            expected.sort();
            let heard = reader.join().unwrap();
            prop_assert_eq!(heard, expected, "guest {} is {:?}", number, &kinds[number]);
        }
    }
}
