//! TCP gets through a path whatever its MTU: large segments find it out, small ones are cut.

use std::io::{Read, Write};

use vnet::System;
use vnet::net::{TcpListener, TcpStream};
use vnet_tests::topology;

/// A host, a router, a host; the second link takes IP packets of `ip_mtu` bytes.
fn transfer_through(ip_mtu: u16) -> Result<(), Box<dyn std::error::Error>> {
    let system = System::virtual_time(u64::from(ip_mtu));
    let [a, r, b] = topology::path(
        &system,
        ["192.0.2.1/24", "192.0.2.254/24"],
        ["198.51.100.254/24", "198.51.100.1/24"],
    );
    // Only the router knows: neither end can tell from its own interface.
    r.set_ip_mtu("eth1", ip_mtu)?;

    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let listener = TcpListener::bind_in(&b, "198.51.100.1:80")?;
    let sent = data.clone();
    let sender = a.spawn(move || TcpStream::connect("198.51.100.1:80")?.write_all(&sent))?;
    let (mut stream, _) = listener.accept()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    sender.join().expect("the sender does not panic")?;
    assert!(received == data, "what arrived differs, at MTU {ip_mtu}");
    Ok(())
}

#[test]
fn tcp_gets_through_a_path_of_any_mtu() -> Result<(), Box<dyn std::error::Error>> {
    for ip_mtu in [68, 69, 103, 296, 551, 552, 576, 577, 1006, 1492] {
        transfer_through(ip_mtu)?;
    }
    Ok(())
}

#[test]
fn tcp_gets_out_of_an_interface_of_any_mtu() -> Result<(), Box<dyn std::error::Error>> {
    for ip_mtu in [68, 103, 575, 1280, 65_535] {
        let system = System::virtual_time(1);
        let (a, b) = (system.create("a")?, system.create("b")?);
        a.epair("eth0", &b, "eth0")?;
        a.add_address("eth0", "192.0.2.1/24".parse()?)?;
        b.add_address("eth0", "192.0.2.2/24".parse()?)?;
        a.set_ip_mtu("eth0", ip_mtu)?;
        b.set_ip_mtu("eth0", ip_mtu)?;
        let listener = TcpListener::bind_in(&b, "192.0.2.2:80")?;
        let mut client = TcpStream::connect_in(&a, "192.0.2.2:80")?;
        client.write_all(&[7; 20_000])?;
        drop(client);
        let mut received = Vec::new();
        listener.accept()?.0.read_to_end(&mut received)?;
        assert_eq!(received.len(), 20_000, "at MTU {ip_mtu}");
    }
    Ok(())
}
