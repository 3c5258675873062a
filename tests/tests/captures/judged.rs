//! Everything that the stacks of a process that is tested send is recorded, and tshark finds a fault with nothing of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness};
use vnet::net::UdpSocket;
use vnet::{DropReason, Forwarding, MacAddr, System};
use vnet_tests::frames::{IPV4, Ip4, ethernet, udp};
use vnet_tests::judge::whole_folder;
use vnet_tests::skip::has_tshark;
use vnet_tests::topology::pair;

use super::{Frame, read, transfer};

/// The folder in which every process that is tested records what its stacks send.
const FOLDER: &str = "VNET_TEST_CAPTURE";
/// The name of the test below that sends.
const SENDS: &str = "judged::stacks_send_and_route";
const MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 2, 9];

/// A frame with a datagram to 10.0.0.1 whose checksum is wrong.
fn bad_datagram() -> Vec<u8> {
    let (from, to) = ([192, 0, 2, 9], [10, 0, 0, 1]);
    let mut datagram = udp((from, 9), (to, 9), b"broken");
    datagram[6] ^= 0x40;
    let packet = Ip4::new(from.into(), to.into(), 17).packet(&datagram);
    ethernet(MAC, STRANGER, IPV4, &packet)
}

/// A transfer, and a packet from outside that a router sends on: it is not asked what is in it. And an error whose first
/// fragment ends within the header that it quotes.
#[test]
fn stacks_send_and_route() {
    let system = System::virtual_time(1);
    let (a, b) = pair(&system);
    b.set_forwarding(Forwarding::Enabled).unwrap();
    let outside = b.port("out", Some(MacAddr(MAC))).unwrap();
    b.add_address("out", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    transfer(&a, &b, 100_000);
    outside.send(bad_datagram()).unwrap();
    system.sleep(Duration::from_secs(1)).unwrap();
    let broken = a.stats().unwrap().rx_drops(DropReason::BadChecksum);
    assert_eq!(broken, 1);
    b.set_ip_mtu("lo0", 68).unwrap();
    b.add_address("lo0", "::1/128".parse().unwrap()).unwrap();
    let asks = UdpSocket::bind_in(&b, "[::1]:0").unwrap();
    asks.connect("[::1]:9").unwrap();
    asks.send(b"").unwrap();
    system.sleep(Duration::from_secs(1)).unwrap();
    let refused = asks.take_error().unwrap().map(|e| e.kind());
    assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));
}

/// What a process of its own records of [`stacks_send_and_route`].
fn recorded(folder: &Path) -> Vec<Frame> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["--exact", SENDS])
        .env(FOLDER, folder)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let mut frames = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let file = std::fs::read(entry.expect("an entry").path()).expect("readable");
        frames.extend(read(&file).frames);
    }
    frames
}

/// A file with a frame that a stack of ours would have made, were it wrong.
fn plant(path: &Path, frame: &[u8]) {
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = PcapNgWriter::with_endianness(file, Endianness::Little).expect("a header");
    let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
    interface.options = vec![InterfaceDescriptionOption::IfName("ours".into())];
    writer.write_pcapng_block(interface).expect("a block");
    let block = EnhancedPacketBlock {
        interface_id: 0,
        timestamp: Duration::ZERO,
        original_len: frame.len() as u32,
        data: frame.into(),
        options: Vec::new(),
    };
    writer.write_pcapng_block(block).expect("a block");
}

#[test]
fn what_stacks_send_is_recorded_and_a_fault_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let frames = recorded(folder.path());
    let of_test = |f: &&Frame| f.comment.as_deref() == Some(SENDS);
    assert_eq!(frames.iter().filter(of_test).count(), frames.len());
    // 100 000 bytes in segments of 1460, cut as a network card cuts them.
    let is_data = |f: &&Frame| f.interface == 0 && f.bytes.len() == 1514;
    assert_eq!(frames.iter().filter(is_data).count(), 100_000 / 1448);
    let routed: Vec<&Frame> = frames.iter().filter(|f| f.interface == 1).collect();
    assert_eq!(routed.len(), 1, "{routed:?}");
    if !has_tshark() {
        return;
    }
    let opinion = whole_folder(folder.path()).expect("tshark runs");
    assert!(opinion.faults.is_empty(), "{:?}", opinion.faults);
    assert!(opinion.frames["tcp"] > 70, "{opinion:?}");
    assert_eq!(opinion.frames["udp"], 2, "{opinion:?}");
    plant(&folder.path().join("planted.pcapng"), &bad_datagram());
    let faults = whole_folder(folder.path()).expect("tshark runs").faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    let says = |what| faults[0].contains(what);
    assert!(
        says("planted.pcapng: frame 1") && says("Bad checksum"),
        "{faults:?}"
    );
}

/// `.ci/run` asks for this one, when all other tests are over.
#[test]
#[ignore = "the other tests have to be over, and have to have recorded what they sent in VNET_TEST_CAPTURE"]
fn all_that_the_tests_have_sent_is_sound() {
    let folder = std::env::var_os(FOLDER).expect("VNET_TEST_CAPTURE is set");
    let opinion = whole_folder(Path::new(&folder)).expect("tshark runs");
    for (protocol, count) in &opinion.frames {
        println!("{count:>9} {protocol}");
    }
    for protocol in [
        "arp", "ip", "icmp", "igmp", "ipv6", "icmpv6", "tcp", "udp", "vlan", "lldp", "stp", "lacp",
    ] {
        let seen = opinion.frames.get(protocol).copied().unwrap_or(0);
        assert!(seen > 0, "nothing of {protocol} was recorded");
    }
    let (count, some) = (opinion.faults.len(), opinion.faults.iter().take(100));
    let some: Vec<&str> = some.map(String::as_str).collect();
    assert!(count == 0, "{count} faults:\n{}", some.join("\n"));
}
