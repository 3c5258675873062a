//! What a fuzzer gives its bytes to. Each target takes anything, and panics where a promise is broken: so a fuzzer
//! (`fuzz/`) and the test that replays what it has found (`tests/corpus.rs`) ask for the same.

mod tcp;
mod vhost;

pub use tcp::tcp;
pub use vhost::vhost;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::record::Record;
use vnet::{
    BridgeConfig, BridgeVlans, Forwarding, MemberConfig, MemberVlans, OwnedVnet, Port, Resource,
    Snooping, System, VidSet, VlanConfig, Vnet,
};
use vnet_lab::Topology;
use vnet_tap::{Framing, Guest, PumpEnd};

use crate::accounts::{assert_clean, assert_conserved};
use crate::bridge::Bench;
use crate::frames::{fix_checksums, icmp};
use crate::peer::Peer;
use crate::topology::vnet;

/// What is given the bytes.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("bridge", bridge),
    ("guest", guest),
    ("host", host),
    ("record", record),
    ("tcp", tcp),
    ("topology", topology),
    ("vhost", vhost),
];

/// The target of that name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no target {name:?}")).1
}

/// One frame of an input.
struct Sent {
    /// By which port it comes, of four.
    port: usize,
    /// How long nothing comes before it.
    pause: Duration,
    frame: Vec<u8>,
}

/// The bytes as frames, each behind two bytes, the least significant first: eleven bits of length, one that asks
/// for right checksums, two for the port and two for the pause before it. The last frame may be cut short.
fn frames(mut input: &[u8]) -> Vec<Sent> {
    let mut all = Vec::new();
    while let Some((head, rest)) = input.split_first_chunk::<2>() {
        let head = u16::from_le_bytes(*head);
        let len = usize::from(head & 0x7ff).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        input = rest;
        let mut frame = frame.to_vec();
        if head & 0x800 != 0 {
            fix_checksums(&mut frame);
        }
        let pauses = [
            Duration::ZERO,
            Duration::from_millis(40),
            Duration::from_secs(1),
            Duration::from_secs(61),
        ];
        all.push(Sent {
            port: usize::from(head >> 12 & 3),
            pause: pauses[usize::from(head >> 14)],
            frame,
        });
    }
    all
}

fn send(port: &Port, frame: Vec<u8>) {
    // Too short or too long a frame is refused, and an interface may have gone.
    let _ = port.send(frame);
}

/// Frames of both versions of IP to a router and host with listeners, a client and a VLAN: the books balance, it
/// still answers a ping, and it goes without a rest.
pub fn host(input: &[u8]) {
    let system = System::manual(1);
    let victim = vnet(&system, "victim");
    for (resource, most) in [(Resource::BufferedBytes, 4 << 20), (Resource::Sockets, 64)] {
        victim.set_limit(resource, most).expect("alive");
    }
    let peer = Peer::new(&system, &victim, "eth0", 2);
    dress(&victim);
    let listeners = ["0.0.0.0:80", "[2001:db8::1]:80"].map(|at| {
        let listener = TcpListener::bind_in(&victim, at).expect("free");
        listener.set_nonblocking(true).expect("alive");
        listener
    });
    let udp = UdpSocket::bind_in(&victim, "0.0.0.0:7").expect("free");
    let client = TcpStream::start_connect_in(&victim, peer.addr(9).into());
    let mut streams: Vec<TcpStream> = Vec::new();
    for sent in frames(input) {
        system.poll(system.now() + sent.pause);
        send(&peer.port, sent.frame);
        peer.exchange();
        for listener in &listeners {
            while let Ok((stream, _)) = listener.accept() {
                streams.push(stream);
            }
        }
        for stream in &mut streams {
            use_it(stream);
        }
        streams.truncate(32);
        assert_conserved(&victim);
    }
    drop((streams, client, udp));
    peer.exchange_after(Duration::from_secs(1));
    peer.send(1, &icmp(8, 0, 0x0777_0001, b"still there?"));
    let answers = peer.exchange();
    let is_answer = |p: &Vec<u8>| p[9] == 1 && p[20] == 0 && p.ends_with(b"still there?");
    assert!(answers.iter().any(is_answer), "no answer to a ping");
    drop(listeners);
    assert_conserved(&victim);
    assert_clean(&victim.destroy());
}

/// Gives `eth0` a second version, a VLAN above it, and somewhere to forward to.
fn dress(victim: &Vnet) {
    let address = |text: &str| text.parse().expect("an address");
    victim
        .add_address("eth0", address("2001:db8::1/64"))
        .expect("free");
    let five = VlanConfig {
        vid: 5,
        ..VlanConfig::default()
    };
    victim.vlan("eth0", "v5", five).expect("free");
    victim
        .add_address("v5", address("198.51.100.1/24"))
        .expect("free");
    victim.set_forwarding(Forwarding::Enabled).expect("alive");
}

/// Reads what there is, and answers as much.
fn use_it(stream: &mut TcpStream) {
    let mut buf = [0; 512];
    let _ = stream.set_nonblocking(true);
    if let Ok(n) = stream.read(&mut buf) {
        let _ = stream.write(&buf[..n]);
    }
}

/// Frames to a bridge that tells VLANs apart, snoops and has a spanning tree: the books balance, nothing leaves by
/// the port that it came from or in a VLAN of somebody else, and it goes without a rest.
pub fn bridge(input: &[u8]) {
    let bench = Bench::new(4);
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        snooping: Some(Snooping::default()),
        stp: None,
        max_stations: 64,
        ..BridgeConfig::default()
    };
    bench.vnet.set_bridge("bridge0", config).expect("alive");
    let trunk = || MemberVlans::trunk("5,6".parse::<VidSet>().expect("a list"));
    let members = [
        MemberVlans::access(5),
        MemberVlans::access(6),
        trunk(),
        MemberVlans::access(7),
    ];
    for (n, vlans) in members.into_iter().enumerate() {
        let config = MemberConfig {
            vlans,
            ..MemberConfig::default()
        };
        let name = format!("p{n}");
        bench
            .vnet
            .set_member("bridge0", &name, config)
            .expect("alive");
    }
    for sent in frames(input) {
        bench.system.poll(bench.system.now() + sent.pause);
        drain(&bench);
        send(&bench.ports[sent.port], sent.frame.clone());
        bench.system.poll(bench.system.now());
        assert_conserved(&bench.vnet);
        for (to, port) in bench.ports.iter().enumerate() {
            while let Some(seen) = port.recv() {
                // The bridge's own messages are another matter: what it forwards has the station's bytes.
                let forwarded = sent.frame.len() >= 14 && seen.to_vec()[..12] == sent.frame[..12];
                let apart = [
                    (0, 1),
                    (1, 0),
                    (0, 3),
                    (3, 0),
                    (1, 3),
                    (3, 1),
                    (2, 3),
                    (3, 2),
                ];
                assert!(!forwarded || to != sent.port, "back to where it came from");
                assert!(
                    !forwarded || !apart.contains(&(sent.port, to)),
                    "{} to {to}",
                    sent.port
                );
            }
        }
    }
    assert_clean(&bench.vnet.destroy());
}

fn drain(bench: &Bench) {
    for port in &bench.ports {
        while port.recv().is_some() {}
    }
}

/// A record, as TOML: what is read is written as it was read, and what a vnet makes of it goes without a rest.
pub fn record(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(record) = Record::from_toml(text) else {
        return;
    };
    if let Ok(written) = record.to_toml() {
        let again = Record::from_toml(&written).expect("what was written");
        assert_eq!(again, record);
    }
    let system = System::manual(1);
    if let Ok(twin) = system.replay(&record, "twin") {
        assert_clean(&twin.destroy());
    }
}

/// A topology: it is read, or refused with places that are in it.
pub fn topology(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Err(invalid) = Topology::parse("fuzz.toml", text) {
        assert!(!invalid.to_string().is_empty());
    }
}

/// What a guest says on its socket, the first byte for the framing: it ends, and the guest beside it is served.
pub fn guest(input: &[u8]) {
    let Some((framing, bytes)) = input.split_first() else {
        return;
    };
    let framing = match framing % 4 {
        0 | 2 => Framing::Length32,
        1 => Framing::Length16,
        _ => return datagrams(bytes),
    };
    Lan::new().with_a_hostile_guest(framing, |mut says| {
        // The guest may be given up before it has said everything.
        let _ = says.write_all(bytes);
    });
}

/// Packets of a guest whose socket has such, each behind its length in two bytes, the least significant first. One of
/// no bytes is its end.
fn datagrams(mut input: &[u8]) {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).expect("descriptors");
    Lan::new().with_a_hostile_socket(ours, Framing::Datagrams, || {
        while let Some((len, rest)) = input.split_first_chunk::<2>() {
            let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
            let (packet, behind) = rest.split_at(len);
            input = behind;
            // The guest may be given up before it has said everything.
            let _ = send(&theirs, packet, SendFlags::NOSIGNAL);
        }
        drop(theirs);
    });
}

/// A bridge with two guests, who are served whatever a third one does.
struct Lan {
    vnet: OwnedVnet,
}

impl Lan {
    fn new() -> Lan {
        let system = System::threads();
        let vnet = vnet(&system, "lan");
        vnet.bridge("br0").expect("free");
        Lan { vnet }
    }

    fn attach(&self, name: &str, framing: Framing) -> (Guest, UnixStream) {
        let (ours, theirs) = Lan::pair();
        (self.plug(name, ours, framing), theirs)
    }

    /// A port's end of a socket, and a guest's.
    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("descriptors");
        let patience = Some(Duration::from_secs(20));
        theirs.set_read_timeout(patience).expect("a time");
        theirs.set_write_timeout(patience).expect("a time");
        (ours, theirs)
    }

    fn plug(&self, name: &str, ours: impl Into<OwnedFd>, framing: Framing) -> Guest {
        let guest = Guest::attach(&self.vnet, name, ours, framing).expect("free");
        self.vnet.add_member("br0", name).expect("free");
        guest
    }

    /// `says` has the guest's end of its socket, and closes it: the guest ends, and nobody else does.
    fn with_a_hostile_guest(self, framing: Framing, says: impl FnOnce(UnixStream)) {
        let (ours, socket) = Lan::pair();
        self.with_a_hostile_socket(ours.into(), framing, || says(socket));
    }

    /// The same with a socket of any kind, of which `says` closes the other end.
    fn with_a_hostile_socket(self, ours: OwnedFd, framing: Framing, says: impl FnOnce()) {
        let hostile = self.plug("hostile", ours, framing);
        let (_neighbour, mut hears) = self.attach("neighbour", Framing::Length32);
        let (_other, mut asks) = self.attach("other", Framing::Length32);
        says();
        while hostile.is_running() {
            thread::sleep(Duration::from_millis(1));
        }
        let report = hostile.detach();
        assert!(
            matches!(report.end, Some(PumpEnd::Closed | PumpEnd::Device(_))),
            "{report}"
        );
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 99, 0x88, 0xb5]);
        frame.extend([99; 46]);
        let sent = [&60_u32.to_be_bytes()[..], &frame].concat();
        asks.write_all(&sent).expect("the other guest is there");
        // Before it comes what the first guest sent.
        loop {
            let mut len = [0; 4];
            hears.read_exact(&mut len).expect("the neighbour is served");
            let mut heard = vec![0; u32::from_be_bytes(len) as usize];
            hears.read_exact(&mut heard).expect("a whole frame");
            if heard == frame {
                break;
            }
        }
        assert_clean(&self.vnet.destroy());
    }
}
