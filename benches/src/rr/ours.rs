//! Our side: two vnets joined by an epair, under the threads driver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{OwnedVnet, System};

use super::Joined;
use super::link::Link;
use crate::compare::SideError;

/// Client and server addresses (RFC 2544, benchmarking).
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The same of both in IPv4, and in IPv6 (RFC 5180).
pub(crate) const IPV4: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(CLIENT), 24),
    IpNet::new_assert(IpAddr::V4(SERVER), 24),
];
pub(crate) const IPV6: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1)), 64),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2)), 64),
];

/// What must live as long as the sockets.
pub(super) type Keep = [OwnedVnet; 2];

/// Two vnets, client and server, joined by an epair that is `eth0` in both.
pub(crate) fn joined_by_epair(
    system: &System,
    addresses: [IpNet; 2],
) -> Result<[OwnedVnet; 2], SideError> {
    let fail = |e: &dyn std::error::Error| SideError::new(e.to_string());
    let client = system.create("client").map_err(|e| fail(&e))?;
    let server = system.create("server").map_err(|e| fail(&e))?;
    client
        .epair("eth0", &server, "eth0")
        .map_err(|e| fail(&e))?;
    for (vnet, net) in [&client, &server].into_iter().zip(addresses) {
        vnet.add_address("eth0", net).map_err(|e| fail(&e))?;
    }
    Ok([client, server])
}

/// A connected pair of TCP sockets.
pub(super) fn tcp() -> Result<Joined<TcpStream, Keep>, SideError> {
    let keep = joined_by_epair(&System::threads(), IPV4)?;
    let listener = TcpListener::bind_in(&keep[1], (SERVER, 5001))?;
    let client = TcpStream::connect_in(&keep[0], (SERVER, 5001))?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    patient(Joined {
        client,
        server,
        keep,
    })
}

/// A connected pair of UDP sockets.
pub(super) fn udp() -> Result<Joined<UdpSocket, Keep>, SideError> {
    let keep = joined_by_epair(&System::threads(), IPV4)?;
    let server = UdpSocket::bind_in(&keep[1], (SERVER, 0))?;
    let client = UdpSocket::bind_in(&keep[0], (CLIENT, 0))?;
    client.connect(server.local_addr()?)?;
    server.connect(client.local_addr()?)?;
    patient(Joined {
        client,
        server,
        keep,
    })
}

fn patient<L: Link>(mut ends: Joined<L, Keep>) -> Result<Joined<L, Keep>, SideError> {
    ends.client.be_patient()?;
    ends.server.be_patient()?;
    Ok(ends)
}
