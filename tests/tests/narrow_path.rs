//! TCP gets through a path whatever its MTU: large segments find it out, small ones are cut.

use std::io::{Read, Write};
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream};
use vnet::{DropReason, System};
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

/// RFC 1191 section 6.3: what one connection has learned of a path the next one knows, until it is time to look again.
#[test]
fn what_a_path_takes_is_known_to_the_next_connection() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::virtual_time(1);
    let [a, r, b] = topology::path(
        &system,
        ["192.0.2.1/24", "192.0.2.254/24"],
        ["198.51.100.254/24", "198.51.100.1/24"],
    );
    r.set_ip_mtu("eth1", 1400)?;
    let listener = TcpListener::bind_in(&b, "198.51.100.1:80")?;
    let connect = || -> Result<_, Box<dyn std::error::Error>> {
        let client = TcpStream::connect_in(&a, "198.51.100.1:80")?;
        Ok((client, listener.accept()?.0))
    };
    // How many packets the router refuses while the client sends this, and what it takes the path for then.
    let sends = |client: &mut TcpStream, server: &mut TcpStream| {
        let refused = || r.stats().map(|stats| stats.rx_drops(DropReason::TooBig));
        let before = refused()?;
        client.write_all(&[7; 20_000])?;
        server.read_exact(&mut [0; 20_000])?;
        let path_mtu = client.info()?.path_mtu;
        Ok::<_, Box<dyn std::error::Error>>((refused()? - before > 0, path_mtu))
    };
    let (mut client, mut server) = connect()?;
    assert_eq!(client.info()?.path_mtu, 1500);
    assert_eq!(sends(&mut client, &mut server)?, (true, 1400));
    let (mut second, mut server) = connect()?;
    assert_eq!(sends(&mut second, &mut server)?, (false, 1400));
    // After ten minutes it is tried again.
    system.sleep(Duration::from_secs(601))?;
    let (mut third, mut server) = connect()?;
    assert_eq!(third.info()?.path_mtu, 1500);
    assert_eq!(sends(&mut third, &mut server)?, (true, 1400));
    // Nobody is told anything of other paths.
    let other = TcpListener::bind_in(&r, "192.0.2.254:80")?;
    let near = TcpStream::connect_in(&a, "192.0.2.254:80")?;
    assert_eq!(
        (near.info()?.path_mtu, other.accept().is_ok()),
        (1500, true)
    );
    Ok(())
}
