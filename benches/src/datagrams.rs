//! Small datagrams one way, by single calls and by batches, to a neighbour and through routers.
//!
//! One thread sends a burst and then receives it, on both sides, so nothing is lost, no thread is woken, and a figure is
//! what one processor carries from socket to socket. Each datagram has a number, which is checked where it arrives.
//!
//! The kernel passes the packets of a burst on within the call that sends them (its veth pairs queue to the processor
//! that sends). Our vnets are under the threads driver, whose calls service the vnets that they make ready.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use vnet::net::{Message, UdpSocket};
use vnet::{Forwarding, OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::kernel::Row;
use crate::mmsg;

/// Datagrams that are under way together. Two hundred of them fit into a receive buffer of the kernel's default size.
const BURST: usize = 64;
/// Length of a datagram that is sent to a neighbour, in bytes.
const NEAR_LEN: usize = 64;
/// The same of one through routers: its frame has 64 bytes, with its checksum.
const FAR_LEN: usize = 18;
/// Longer is what must not come.
const ROOM: usize = 128;
/// A datagram that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many calls a burst takes.
#[derive(Clone, Copy, Debug)]
enum Calls {
    Single,
    Batch,
}

/// Single calls, against `sendto` and `recvfrom`.
///
/// # Errors
/// When a side cannot be set up.
pub fn single(options: &Options) -> Result<Contest, SideError> {
    contest(
        options,
        Calls::Single,
        NEAR_LEN,
        0,
        "sendto, recvfrom over veth",
    )
}

/// Batches, against `sendmmsg` and `recvmmsg`.
///
/// # Errors
/// When a side cannot be set up.
pub fn batches(options: &Options) -> Result<Contest, SideError> {
    contest(
        options,
        Calls::Batch,
        NEAR_LEN,
        0,
        "sendmmsg, recvmmsg over veth",
    )
}

/// Through so many routers, in batches.
macro_rules! forward {
    ($($name:ident: $routers:literal;)*) => {
        $(
            #[doc = concat!("Through ", $routers, " router(s), against as many namespaces.")]
            ///
            /// # Errors
            /// When a side cannot be set up.
            pub fn $name(options: &Options) -> Result<Contest, SideError> {
                contest(options, Calls::Batch, FAR_LEN, $routers, "kernel forwarding over veth")
            }
        )*
    };
}

forward! {
    forward_1: 1;
    forward_2: 2;
    forward_4: 4;
    forward_8: 8;
}

fn contest(
    options: &Options,
    calls: Calls,
    len: usize,
    routers: u8,
    peer: &str,
) -> Result<Contest, SideError> {
    Ok(Contest {
        unit: Unit::DatagramsPerSecond,
        ours: Box::new(OneWay {
            ends: Ours::new(routers, calls)?,
            time: options.time,
            len,
        }),
        peer: Box::new(OneWay {
            ends: Kernel::new(routers, calls)?,
            time: options.time,
            len,
        }),
        peer_name: format!("{peer}, one thread"),
    })
}

/// Both ends of a way for datagrams.
trait Ends {
    /// Sends datagrams that are one after the other in `all`, each `len` bytes long.
    fn send(&mut self, all: Bytes, len: usize) -> Result<(), SideError>;
    /// Waits for some datagrams, at most as many as are sent at once, and has a look at each.
    fn receive(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<(), SideError>;
}

struct OneWay<E> {
    ends: E,
    time: Duration,
    len: usize,
}

impl<E: Ends> OneWay<E> {
    /// Sends a burst and receives it.
    fn burst(&mut self, first: u64) -> Result<(), SideError> {
        let (mut expected, last) = (first, first + BURST as u64);
        let mut all = BytesMut::zeroed(BURST * self.len);
        for (number, datagram) in (first..last).zip(all.chunks_mut(self.len)) {
            datagram[..8].copy_from_slice(&number.to_be_bytes());
        }
        self.ends.send(all.freeze(), self.len)?;
        let mut wrong = None;
        while expected < last {
            self.ends.receive(&mut |datagram| {
                let is_next = datagram.len() == self.len && datagram[..8] == expected.to_be_bytes();
                if !is_next {
                    wrong.get_or_insert(datagram.len());
                }
                expected += 1;
            })?;
            if let Some(len) = wrong {
                let what = format!("{len} bytes are not the datagram that is next");
                return Err(SideError::new(what));
            }
        }
        Ok(())
    }
}

impl<E: Ends> Side for OneWay<E> {
    fn measure(&mut self) -> Result<f64, SideError> {
        let start = Instant::now();
        let mut done = 0;
        loop {
            // Sixteen bursts between two looks at the clock.
            for _ in 0..16 {
                self.burst(done)?;
                done += BURST as u64;
            }
            let took = start.elapsed();
            if took >= self.time {
                return Ok(done as f64 / took.as_secs_f64());
            }
        }
    }
}

fn all_sent(sent: usize, of: usize) -> Result<(), SideError> {
    match sent == of {
        true => Ok(()),
        false => Err(SideError::new(format!("{sent} of {of} were sent"))),
    }
}

struct Kernel {
    client: std::net::UdpSocket,
    server: std::net::UdpSocket,
    calls: Calls,
    room: mmsg::Room,
    /// Alive as long as the sockets.
    _row: Row,
}

impl Kernel {
    fn new(routers: u8, calls: Calls) -> Result<Kernel, SideError> {
        let row = Row::new(routers)?;
        let [client, server] = row.datagrams()?;
        server.set_read_timeout(Some(PATIENCE))?;
        Ok(Kernel {
            client,
            server,
            calls,
            room: mmsg::Room::new(BURST, ROOM),
            _row: row,
        })
    }
}

impl Ends for Kernel {
    fn send(&mut self, all: Bytes, len: usize) -> Result<(), SideError> {
        match self.calls {
            Calls::Single => {
                for datagram in all.chunks(len) {
                    all_sent(self.client.send(datagram)?, len)?;
                }
                Ok(())
            }
            Calls::Batch => {
                let datagrams: Vec<&[u8]> = all.chunks(len).collect();
                all_sent(mmsg::send(&self.client, &datagrams)?, datagrams.len())
            }
        }
    }

    fn receive(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<(), SideError> {
        match self.calls {
            Calls::Single => {
                let mut room = [0; ROOM];
                let (n, _) = self.server.recv_from(&mut room)?;
                look(&room[..n]);
            }
            Calls::Batch => self.room.receive(&self.server)?.for_each(look),
        }
        Ok(())
    }
}

struct Ours {
    client: UdpSocket,
    server: UdpSocket,
    calls: Calls,
    /// Alive as long as the sockets.
    _row: Vec<OwnedVnet>,
}

impl Ours {
    fn new(routers: u8, calls: Calls) -> Result<Ours, SideError> {
        let row =
            row(&System::threads(), "node", routers).map_err(|e| SideError::new(e.to_string()))?;
        let client = UdpSocket::bind_in(&row[0], "198.18.0.1:5001")?;
        let server = UdpSocket::bind_in(&row[row.len() - 1], format!("198.18.{routers}.2:5001"))?;
        client.connect(server.local_addr()?)?;
        server.connect(client.local_addr()?)?;
        server.set_read_timeout(Some(PATIENCE))?;
        Ok(Ours {
            client,
            server,
            calls,
            _row: row,
        })
    }
}

/// A client, so many routers, and a server, numbered behind `name`, with the addresses of the kernel's [`Row`].
pub(crate) fn row(
    system: &System,
    name: &str,
    routers: u8,
) -> Result<Vec<OwnedVnet>, Box<dyn std::error::Error>> {
    let last = routers + 1;
    let mut nodes = Vec::new();
    for n in 0..=last {
        nodes.push(system.create(&format!("{name}{n}"))?);
    }
    for (wire, pair) in nodes.windows(2).enumerate() {
        pair[0].epair("right", &pair[1], "left")?;
        for (node, end, host) in [(&pair[0], "right", 1), (&pair[1], "left", 2)] {
            node.add_address(end, format!("198.18.{wire}.{host}/24").parse()?)?;
        }
    }
    for (n, node) in (0..=last).zip(&nodes) {
        if n < last {
            let gateway: std::net::Ipv4Addr = format!("198.18.{n}.2").parse()?;
            node.add_route("0.0.0.0/0".parse()?, gateway)?;
        }
        for wire in 0..n.saturating_sub(1) {
            let gateway: std::net::Ipv4Addr = format!("198.18.{}.1", n - 1).parse()?;
            node.add_route(format!("198.18.{wire}.0/24").parse()?, gateway)?;
        }
        if (1..last).contains(&n) {
            node.set_forwarding(Forwarding::Enabled)?;
        }
    }
    Ok(nodes)
}

impl Ends for Ours {
    fn send(&mut self, all: Bytes, len: usize) -> Result<(), SideError> {
        match self.calls {
            Calls::Single => {
                for datagram in all.chunks(len) {
                    all_sent(self.client.send(datagram)?, len)?;
                }
                Ok(())
            }
            Calls::Batch => {
                let each = (0..all.len()).step_by(len);
                let datagrams: Vec<(Bytes, Message)> = each
                    .map(|at| (all.slice(at..at + len), Message::default()))
                    .collect();
                all_sent(self.client.send_many(&datagrams)?, datagrams.len())
            }
        }
    }

    fn receive(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<(), SideError> {
        match self.calls {
            Calls::Single => {
                let mut room = [0; ROOM];
                let (n, _) = self.server.recv_from(&mut room)?;
                look(&room[..n]);
            }
            Calls::Batch => {
                for (datagram, _) in self.server.recv_many(BURST)? {
                    look(&datagram.to_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_arrive_through_routers_by_single_calls_and_by_batches() {
        for (calls, routers) in [(Calls::Single, 0), (Calls::Batch, 0), (Calls::Batch, 8)] {
            let mut side = OneWay {
                ends: Ours::new(routers, calls).unwrap(),
                time: Duration::from_millis(1),
                len: FAR_LEN,
            };
            assert!(side.measure().unwrap() > 0.0);
        }
    }

    #[test]
    fn the_kernels_arrive_through_routers_by_single_calls_and_by_batches() {
        for (calls, routers) in [(Calls::Single, 0), (Calls::Batch, 0), (Calls::Batch, 2)] {
            let ends = match Kernel::new(routers, calls) {
                Err(e) if e.is_skipped => return println!("SKIPPED: {e}"),
                ends => ends.unwrap(),
            };
            let mut side = OneWay {
                ends,
                time: Duration::from_millis(1),
                len: FAR_LEN,
            };
            assert!(side.measure().unwrap() > 0.0);
        }
    }

    /// Gives every datagram twice.
    struct Twice(Bytes);

    impl Ends for Twice {
        fn send(&mut self, all: Bytes, _: usize) -> Result<(), SideError> {
            self.0 = all;
            Ok(())
        }
        fn receive(&mut self, look: &mut dyn FnMut(&[u8])) -> Result<(), SideError> {
            for _ in 0..2 {
                look(&self.0[..FAR_LEN]);
            }
            Ok(())
        }
    }

    #[test]
    fn a_datagram_that_is_not_the_next_is_noticed() {
        let mut side = OneWay {
            ends: Twice(Bytes::new()),
            time: Duration::ZERO,
            len: FAR_LEN,
        };
        assert!(side.burst(5).is_err());
    }
}
