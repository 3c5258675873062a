//! Promise: an interface that is out of use attracts nothing. Other routes are taken; where there is
//! none, whoever sends is told; and when it is back, so are its routes.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use vnet::net::{EchoEvent, EchoSocket, UdpSocket};
use vnet::{AdminState, Forwarding, NextHop, OwnedVnet, System, Vnet};
use vnet_tests::topology::{join, vnet};

/// Where `b` is, whichever way is taken.
const FAR: &str = "203.0.113.9";

/// Two vnets joined twice; the longer prefix to [`FAR`] leads over the first link.
fn joined_twice(system: &System) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (vnet(system, "a"), vnet(system, "b"));
    join(&a, "eth0 192.0.2.1/24", &b, "eth0 192.0.2.2/24");
    join(&a, "eth1 198.51.100.1/24", &b, "eth1 198.51.100.2/24");
    b.add_address("lo0", format!("{FAR}/32").parse().unwrap())
        .unwrap();
    for (prefix, gateway) in [
        ("203.0.113.9/32", "192.0.2.2"),
        ("203.0.113.0/24", "198.51.100.2"),
    ] {
        let gateway = NextHop::Gateway(gateway.parse().unwrap());
        a.add_route(prefix.parse().unwrap(), gateway).unwrap();
    }
    (a, b)
}

fn ping(from: &Vnet, to: &str) -> Result<EchoEvent, ErrorKind> {
    let socket = EchoSocket::bind_in(from).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let to: Ipv4Addr = to.parse().unwrap();
    socket.send_to(1, b"x", to.into()).map_err(|e| e.kind())?;
    socket.recv().map(|(event, _)| event).map_err(|e| e.kind())
}

fn frames_out(v: &Vnet, name: &str) -> u64 {
    let interfaces = v.interfaces().unwrap();
    let interface = interfaces.iter().find(|i| i.name == name).unwrap();
    interface.counters.tx_frames
}

#[test]
fn the_other_way_is_taken_and_the_first_again_when_it_is_back() {
    let system = System::virtual_time(1);
    let (a, b) = joined_twice(&system);
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    socket.connect((FAR, 7)).unwrap();
    let server = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    let mut buf = [0; 8];
    let mut sends_by = |name: &str, data: &[u8]| {
        let before = frames_out(&a, name);
        socket.send(data).unwrap();
        let (n, _) = server.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..n], data);
        assert!(frames_out(&a, name) > before, "{name} is not the way");
    };
    sends_by("eth0", b"one");
    a.set_up("eth0", AdminState::Down).unwrap();
    // A connected socket takes the new way with its next datagram.
    sends_by("eth1", b"two");
    assert!(matches!(ping(&a, FAR), Ok(EchoEvent::Reply { .. })));
    a.set_up("eth0", AdminState::Up).unwrap();
    sends_by("eth0", b"three");
}

#[test]
fn without_another_way_whoever_sends_is_told() {
    let system = System::virtual_time(1);
    let (a, _b) = joined_twice(&system);
    let down = |name| a.set_up(name, AdminState::Down).unwrap();
    down("eth0");
    down("eth1");
    assert_eq!(ping(&a, FAR), Err(ErrorKind::NetworkUnreachable));
    assert_eq!(ping(&a, "192.0.2.2"), Err(ErrorKind::NetworkUnreachable));
    let connecting = vnet::net::TcpStream::connect_in(&a, (FAR, 80));
    assert_eq!(
        connecting.unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
    // What is configured stays, and can be added to.
    let routes = a.routes().unwrap().len();
    let gateway = NextHop::Gateway("192.0.2.3".parse().unwrap());
    a.add_route("198.18.0.0/15".parse().unwrap(), gateway)
        .unwrap();
    assert_eq!(a.routes().unwrap().len(), routes + 1);
    // Its addresses are still the vnet's, and reach it by itself.
    assert!(matches!(ping(&a, "192.0.2.1"), Ok(EchoEvent::Reply { .. })));
    // What is for the vnet itself goes nowhere else.
    a.set_up("eth1", AdminState::Up).unwrap();
    let default = NextHop::Gateway("198.51.100.2".parse().unwrap());
    a.add_route("0.0.0.0/0".parse().unwrap(), default).unwrap();
    down("lo0");
    for own in ["127.0.0.1", "127.9.9.9", "192.0.2.1"] {
        assert_eq!(ping(&a, own), Err(ErrorKind::NetworkUnreachable), "{own}");
    }
}

/// The subnet's broadcast is no broadcast on another link.
#[test]
fn a_broadcast_of_a_subnet_that_is_out_of_use_goes_to_the_gateway() {
    let system = System::virtual_time(1);
    let (a, b) = joined_twice(&system);
    let default = NextHop::Gateway("198.51.100.2".parse().unwrap());
    a.add_route("0.0.0.0/0".parse().unwrap(), default).unwrap();
    a.set_up("eth0", AdminState::Down).unwrap();
    let server = UdpSocket::bind_in(&b, "0.0.0.0:7").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").unwrap();
    socket.set_broadcast(true).unwrap();
    let before = frames_out(&a, "eth1");
    socket.send_to(b"x", "192.0.2.255:7").unwrap();
    // To `b` it is a broadcast of its own subnet, brought by a frame for itself.
    let mut buf = [0; 8];
    let (n, _) = server.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"x");
    // The gateway was asked for, and then sent to: a broadcast frame needs no question.
    assert_eq!(frames_out(&a, "eth1"), before + 2);
}

#[test]
fn a_router_says_that_the_network_cannot_be_reached() {
    let system = System::virtual_time(1);
    let (a, r, b) = (vnet(&system, "a"), vnet(&system, "r"), vnet(&system, "b"));
    join(&a, "eth0 192.0.2.1/24", &r, "eth0 192.0.2.254/24");
    join(&r, "eth1 198.51.100.254/24", &b, "eth0 198.51.100.1/24");
    r.set_forwarding(Forwarding::Enabled).unwrap();
    for (host, gateway) in [(&a, "192.0.2.254"), (&b, "198.51.100.254")] {
        let gateway = NextHop::Gateway(gateway.parse().unwrap());
        host.add_route("0.0.0.0/0".parse().unwrap(), gateway)
            .unwrap();
    }
    assert!(matches!(
        ping(&a, "198.51.100.1"),
        Ok(EchoEvent::Reply { .. })
    ));
    r.set_up("eth1", AdminState::Down).unwrap();
    let event = ping(&a, "198.51.100.1");
    assert!(
        matches!(event, Ok(EchoEvent::Unreachable { code: 0, .. })),
        "{event:?}"
    );
}

/// Being out of use goes with the interface.
#[test]
fn an_interface_that_is_lent_while_it_is_down_attracts_nothing() {
    let system = System::virtual_time(1);
    let (a, _b) = joined_twice(&system);
    let c = vnet(&system, "c");
    a.set_up("eth0", AdminState::Down).unwrap();
    a.move_interface("eth0", &c).unwrap();
    c.add_address("eth0", "192.0.2.3/24".parse().unwrap())
        .unwrap();
    assert_eq!(ping(&c, "192.0.2.2"), Err(ErrorKind::NetworkUnreachable));
    c.set_up("eth0", AdminState::Up).unwrap();
    assert!(matches!(ping(&c, "192.0.2.2"), Ok(EchoEvent::Reply { .. })));
}
