//! Bulk and short connections over TCP between two vnets, against the kernel in two namespaces on a veth pair, IP MTU
//! 1500 on either side. Segments stay whole inside, as they do on veth.
//!
//! Bulk has a thread at each end, with blocking sockets. `tcp-bulk-bytes` hands bytes over by reference, with
//! `send_bytes` and `recv_bytes`, so nobody copies them or looks at them; the kernel has nothing of the kind between two
//! sockets, and copies. In `tcp-crr` one thread plays both ends: it connects, sends one byte each way, and closes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vnet::{OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::kernel::Row;
use crate::rr::{IPV4, SERVER, joined_by_epair, per_second};

/// Bytes handed to one call.
const CHUNK: usize = 128 * 1024;

/// Bulk by the calls that `std` has.
///
/// # Errors
/// When a side cannot be set up.
pub fn bulk(options: &Options) -> Result<Contest, SideError> {
    contest(options, Work::Bulk)
}

/// Bulk by reference.
///
/// # Errors
/// When a side cannot be set up.
pub fn bulk_bytes(options: &Options) -> Result<Contest, SideError> {
    contest(options, Work::Bytes)
}

/// Short connections.
///
/// # Errors
/// When a side cannot be set up.
pub fn connections(options: &Options) -> Result<Contest, SideError> {
    contest(options, Work::Connections)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Bulk,
    /// Only for ours: the kernel has [`Work::Bulk`] beside it.
    Bytes,
    Connections,
}

fn contest(options: &Options, work: Work) -> Result<Contest, SideError> {
    let (unit, threads) = match work {
        Work::Bulk | Work::Bytes => (Unit::GbitPerSecond, "two threads"),
        Work::Connections => (Unit::TransactionsPerSecond, "one thread"),
    };
    Ok(Contest {
        unit,
        ours: Box::new(Measured {
            ends: Ours::new()?,
            work,
            options: *options,
        }),
        peer: Box::new(Measured {
            ends: Kernel::new()?,
            work,
            options: *options,
        }),
        peer_name: format!("kernel TCP over veth, MTU 1500, {threads}"),
    })
}

/// Somebody at either end.
trait Ends {
    type Stream: Read + Write + Send;
    /// Both ends of a new connection.
    fn connect(&self) -> io::Result<[Self::Stream; 2]>;
    /// Sends all of the chunk without copying it, as far as that is possible.
    fn send(stream: &mut Self::Stream, chunk: &Bytes) -> io::Result<()>;
    /// Receives without copying, as far as that is possible, and returns how many bytes it were.
    fn receive(stream: &mut Self::Stream, room: &mut [u8]) -> io::Result<usize>;
    /// Runs [`connect_and_close`] for so long.
    fn connections(&self, time: Duration) -> Result<f64, SideError>;
}

struct Measured<E> {
    ends: E,
    work: Work,
    options: Options,
}

impl<E: Ends> Side for Measured<E> {
    fn measure(&mut self) -> Result<f64, SideError> {
        match self.work {
            Work::Bulk => self.bulk(|to, chunk| to.write_all(chunk), E::Stream::read),
            Work::Bytes => self.bulk(E::send, E::receive),
            Work::Connections => self.ends.connections(self.options.time),
        }
    }
}

impl<E: Ends> Measured<E> {
    /// What is received in a second, from the first byte to the end of the stream.
    fn bulk(
        &self,
        send: impl Fn(&mut E::Stream, &Bytes) -> io::Result<()> + Send,
        receive: impl Fn(&mut E::Stream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<f64, SideError> {
        let [mut to, mut from] = self.ends.connect()?;
        let Options { time, bytes } = self.options;
        let start = Instant::now();
        let (sent, received) = thread::scope(|scope| {
            let writer = scope.spawn(move || -> io::Result<u64> {
                let (chunk, mut sent) = (Bytes::from(vec![0x5a; CHUNK]), 0);
                while bytes.map_or(start.elapsed() < time, |bytes| sent < bytes) {
                    send(&mut to, &chunk)?;
                    sent += CHUNK as u64;
                }
                // The stream ends as `to` is dropped.
                Ok(sent)
            });
            let (mut room, mut received) = (vec![0; CHUNK], 0);
            let received = loop {
                match receive(&mut from, &mut room) {
                    Ok(0) => break Ok(received),
                    Ok(n) => received += n as u64,
                    Err(e) => break Err(e),
                }
            };
            drop(from);
            (writer.join().expect("the writer does not panic"), received)
        });
        let took = start.elapsed();
        let (sent, received) = (sent?, received?);
        if sent != received {
            let what = format!("{received} bytes of {sent} arrived");
            return Err(SideError::new(what));
        }
        Ok(received as f64 * 8.0 / took.as_secs_f64() / 1e9)
    }
}

/// Connections a second, over each of which a byte goes there and another one back.
fn connect_and_close<S: Read + Write>(
    time: Duration,
    connect: impl Fn() -> io::Result<[S; 2]>,
) -> Result<f64, SideError> {
    per_second(time, |request| {
        let [mut client, mut server] = connect()?;
        let mut byte = [0];
        client.write_all(&[request])?;
        server.read_exact(&mut byte)?;
        server.write_all(&byte)?;
        // The server closes first: TIME-WAIT is where the ports of the client are not.
        drop(server);
        client.read_exact(&mut byte)?;
        match client.read(&mut [0])? {
            0 => Ok(byte[0]),
            _ => Err(SideError::new("more than one byte came")),
        }
    })
}

struct Kernel {
    row: Row,
    listener: TcpListener,
    at: SocketAddr,
}

impl Kernel {
    fn new() -> Result<Kernel, SideError> {
        let row = Row::new(0)?;
        let (listener, at) = row.listen()?;
        Ok(Kernel { row, listener, at })
    }
}

impl Ends for Kernel {
    type Stream = TcpStream;

    fn connect(&self) -> io::Result<[TcpStream; 2]> {
        let client = self.row.connect(self.at)?;
        Ok([client, self.listener.accept()?.0])
    }

    fn send(stream: &mut TcpStream, chunk: &Bytes) -> io::Result<()> {
        stream.write_all(chunk)
    }

    fn receive(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
        stream.read(room)
    }

    fn connections(&self, time: Duration) -> Result<f64, SideError> {
        let (listener, at) = (self.listener.try_clone()?, self.at);
        // All of it on the thread that is in the client's namespace: no connection waits for another thread.
        self.row.at_client(move || {
            connect_and_close(time, || {
                let client = TcpStream::connect(at)?;
                Ok([client, listener.accept()?.0])
            })
        })
    }
}

/// Sends all of a chunk by reference.
pub(crate) fn hand_over(stream: &vnet::net::TcpStream, chunk: &Bytes) -> io::Result<()> {
    let mut left = chunk.clone();
    while !left.is_empty() {
        let taken = stream.send_bytes(&left)?;
        left = left.slice(taken..);
    }
    Ok(())
}

struct Ours {
    vnets: [OwnedVnet; 2],
    listener: vnet::net::TcpListener,
}

impl Ours {
    fn new() -> Result<Ours, SideError> {
        let vnets = joined_by_epair(&System::threads(), IPV4)?;
        let listener = vnet::net::TcpListener::bind_in(&vnets[1], (SERVER, 5001))?;
        Ok(Ours { vnets, listener })
    }
}

impl Ends for Ours {
    type Stream = vnet::net::TcpStream;

    fn connect(&self) -> io::Result<[vnet::net::TcpStream; 2]> {
        let client = vnet::net::TcpStream::connect_in(&self.vnets[0], (SERVER, 5001))?;
        Ok([client, self.listener.accept()?.0])
    }

    fn send(stream: &mut vnet::net::TcpStream, chunk: &Bytes) -> io::Result<()> {
        hand_over(stream, chunk)
    }

    fn receive(stream: &mut vnet::net::TcpStream, room: &mut [u8]) -> io::Result<usize> {
        Ok(stream.recv_bytes(room.len())?.len())
    }

    fn connections(&self, time: Duration) -> Result<f64, SideError> {
        connect_and_close(time, || self.connect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(ends: impl Ends) {
        let mut side = Measured {
            ends,
            work: Work::Bulk,
            options: Options {
                time: Duration::from_millis(1),
                bytes: Some(4 << 20),
            },
        };
        for work in [Work::Bulk, Work::Bytes, Work::Connections] {
            side.work = work;
            assert!(side.measure().unwrap() > 0.0, "{work:?}");
        }
    }

    #[test]
    fn ours_and_the_kernels_move_what_they_are_measured_for() {
        works(Ours::new().unwrap());
        match Kernel::new() {
            Err(e) if e.is_skipped => println!("SKIPPED: {e}"),
            kernel => works(kernel.unwrap()),
        }
    }
}
