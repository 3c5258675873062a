//! Promise: the traffic class of IP packets and the priority of VLAN tags follow each other where that is said,
//! and nowhere else.

use std::net::Ipv4Addr;

use vnet::{Forwarding, MacAddr, System, VlanConfig};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::frames::{Ip4, Station, checksum, ethernet, fix_checksums, tagged};
use vnet_tests::topology::vnet;

const PEER: Station = Station {
    mac: [2, 0xaa, 0, 0, 0, 1],
    ip: Ipv4Addr::new(192, 0, 2, 9),
};

#[test]
fn classes_and_priorities_follow_each_other_where_that_is_said() {
    let system = System::manual(1);
    let v = vnet(&system, "v");
    let near = v.port("eth0", None).unwrap();
    let far = v.port("eth1", None).unwrap();
    for (parent, vid, net) in [("eth0", 5, "192.0.2.1/25"), ("eth1", 6, "192.0.2.129/25")] {
        let name = format!("v{vid}");
        v.vlan(parent, &name, VlanConfig::dot1q(vid)).unwrap();
        v.add_address(&name, net.parse().unwrap()).unwrap();
    }
    v.set_forwarding(Forwarding::Enabled).unwrap();
    let next = Ipv4Addr::new(192, 0, 2, 130);
    v.add_neighbour("v6", next.into(), MacAddr(PEER.mac))
        .unwrap();
    let router = v.interfaces().unwrap()[1].mac;
    // The tag, the type of service, and the header's checksum of a packet that is forwarded.
    let forwarded = |pcp: u16, tos: u8| {
        let mut plain = ethernet(
            router.0,
            PEER.mac,
            0x0800,
            &Ip4::new(PEER.ip, next, 17).packet(b"body"),
        );
        plain[15] = tos;
        fix_checksums(&mut plain);
        while far.recv().is_some() {}
        near.send(tagged(&plain, &[(0x8100, pcp << 13 | 5)]))
            .unwrap();
        system.poll(system.now());
        let seen = far.recv().unwrap().to_vec();
        assert_eq!(checksum(&[&seen[18..38]]), 0);
        (u16::from_be_bytes([seen[14], seen[15]]), seen[19])
    };
    assert_eq!(forwarded(5, 0), (6, 0));
    assert_eq!(forwarded(0, 0xb8), (6, 0xb8));
    v.set_sysctl("net.link.vlan.classes", "1").unwrap();
    assert_eq!(forwarded(0, 0), (6, 0));
    assert_eq!(forwarded(0, 0xb9), (5 << 13 | 6, 0xb9));
    // ECN is no part of the class; and a sender that says its class is believed.
    assert_eq!(forwarded(3, 0x02), (3 << 13 | 6, 3 << 5 | 0x02));
    assert_eq!(forwarded(3, 0xb8), (5 << 13 | 6, 0xb8));
    assert_conserved(&v);
}
