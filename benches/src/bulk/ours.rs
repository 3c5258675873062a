//! Our side: two vnets joined by an epair, driven by hand, so that all work happens on the one
//! thread; the sockets are the non-blocking std-like ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use vnet::net::{TcpListener, TcpStream};
use vnet::time::Instant;
use vnet::{Offload, OwnedVnet, System};

use super::{Pair, Path};
use crate::compare::SideError;
use crate::rr::joined_by_epair;

const PORT: u16 = 5001;
/// How far the pretended clock moves in a round.
const ROUND: Duration = Duration::from_micros(10);
/// When a handshake must be done.
const PATIENCE: Instant = Instant::from_nanos(1_000_000_000);

/// Both ends of a connection.
pub(crate) struct Vnets {
    system: System,
    now: Instant,
    sender: TcpStream,
    receiver: TcpStream,
    /// Alive as long as the sockets.
    _vnets: Vec<OwnedVnet>,
}

impl Vnets {
    pub(super) fn connect(
        addresses: [IpNet; 2],
        ip_mtu: u16,
        path: Path,
    ) -> Result<Vnets, SideError> {
        let system = System::manual(1);
        let vnets = joined_by_epair(&system, addresses)?;
        for vnet in &vnets {
            vnet.set_ip_mtu("eth0", ip_mtu)
                .map_err(|e| SideError::new(e.to_string()))?;
            if path == Path::Cut {
                vnet.set_offload("eth0", Offload::Checksum)
                    .map_err(|e| SideError::new(e.to_string()))?;
            }
        }
        Vnets::over(system, vnets.into(), addresses[1].addr())
    }

    /// Connects the first two of some vnets, by whatever is between them, to an address of the second.
    pub(crate) fn over(
        system: System,
        vnets: Vec<OwnedVnet>,
        server: IpAddr,
    ) -> Result<Vnets, SideError> {
        let server = SocketAddr::from((server, PORT));
        let listener = TcpListener::bind_in(&vnets[1], server)?;
        listener.set_nonblocking(true)?;
        let sender = TcpStream::start_connect_in(&vnets[0], server)?;
        let mut now = Instant::ZERO;
        let receiver = loop {
            if now >= PATIENCE {
                return Err(SideError::new("the handshake did not complete"));
            }
            now += ROUND;
            system.poll(now);
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        };
        for stream in [&sender, &receiver] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        Ok(Vnets {
            system,
            now,
            sender,
            receiver,
            _vnets: vnets,
        })
    }
}

impl Vnets {
    /// The mean length of the frames that the receiver got.
    #[cfg(test)]
    pub(super) fn mean_frame_len(&self) -> u64 {
        let interfaces = self._vnets[1].interfaces().unwrap();
        let eth0 = interfaces.iter().find(|i| i.name == "eth0").unwrap();
        eth0.counters.rx_bytes / eth0.counters.rx_frames
    }
}

impl Pair for Vnets {
    fn write(&mut self, data: &[u8]) -> Result<usize, SideError> {
        match self.sender.write(data) {
            Ok(n) => Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    fn work(&mut self) {
        self.now += ROUND;
        self.system.poll(self.now);
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, SideError> {
        match self.receiver.read(buf) {
            Ok(0) => Err(SideError::new("the connection was closed")),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e.into()),
        }
    }
}
