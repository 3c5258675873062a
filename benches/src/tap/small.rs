//! Small datagrams from one station to another, as fast as the sender can, in batches at both ends: how many arrive.
//!
//! Nothing slows the sender down, as with any flood of UDP, so what finds no room on the way is lost. The figure is what
//! the receiver has got, from the first batch that it has taken to the last.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use vnet::net::Message;

use super::Station;
use crate::compare::SideError;
use crate::mmsg;

/// Datagrams in a batch.
const BATCH: usize = 64;
/// Bytes in a datagram.
const LEN: usize = 64;
/// What a socket holds that is not read, in bytes, on either side.
const BUFFER: usize = 4 << 20;
/// When nothing comes for so long, nothing more will.
const QUIET: Duration = Duration::from_millis(20);

/// A UDP socket of anybody's.
enum Socket {
    Kernel(UdpSocket),
    Vnet(vnet::net::UdpSocket),
}

impl Station {
    fn datagrams(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Station::Kernel(ns, address) => {
                let address = *address;
                let socket = ns.run(move || UdpSocket::bind((address, 0)))?;
                rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
                socket.set_read_timeout(Some(QUIET))?;
                let at = socket.local_addr()?;
                Ok((Socket::Kernel(socket), at))
            }
            Station::Vnet { vnet, address, .. } => {
                vnet.set_sysctl("net.inet.udp.recvspace", BUFFER)
                    .map_err(io::Error::other)?;
                let socket = vnet::net::UdpSocket::bind_in(vnet, (*address, 0))?;
                socket.set_read_timeout(Some(QUIET))?;
                let at = socket.local_addr()?;
                Ok((Socket::Vnet(socket), at))
            }
        }
    }
}

impl Socket {
    fn connect(&self, to: SocketAddr) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => socket.connect(to),
            Socket::Vnet(socket) => socket.connect(to),
        }
    }

    /// Sends a batch, whose datagrams are one after the other in `all`; says how many were taken.
    fn send(&self, all: &Bytes) -> io::Result<usize> {
        let sent = match self {
            Socket::Kernel(socket) => {
                let datagrams: Vec<&[u8]> = all.chunks(LEN).collect();
                mmsg::send(socket, &datagrams)
            }
            Socket::Vnet(socket) => {
                let each = (0..all.len()).step_by(LEN);
                let datagrams: Vec<(Bytes, Message)> = each
                    .map(|at| (all.slice(at..at + LEN), Message::default()))
                    .collect();
                socket.send_many(&datagrams)
            }
        };
        match sent {
            // A queue on the way is full, of which some systems tell the sender.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
            sent => sent,
        }
    }

    /// Waits for datagrams, and has a look at each.
    fn receive(&self, room: &mut mmsg::Room, look: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self {
            Socket::Kernel(socket) => room.receive(socket)?.for_each(look),
            Socket::Vnet(socket) => {
                for (datagram, _) in socket.recv_many(BATCH)? {
                    look(&datagram.to_bytes());
                }
            }
        }
        Ok(())
    }
}

/// The datagrams a second that `receiver` gets while `sender` sends for so long.
pub(super) fn measure(
    sender: &Station,
    receiver: &Station,
    time: Duration,
) -> Result<f64, SideError> {
    let (to, _) = sender.datagrams()?;
    let (from, at) = receiver.datagrams()?;
    to.connect(at)?;
    let mut room = mmsg::Room::new(BATCH, LEN + 1);
    introduce(&to, &from, &mut room)?;
    let writer = thread::spawn(move || -> io::Result<u64> {
        let (start, mut sent) = (Instant::now(), 0u64);
        while start.elapsed() < time {
            let mut all = BytesMut::zeroed(BATCH * LEN);
            for (number, datagram) in (sent..).zip(all.chunks_mut(LEN)) {
                datagram[..8].copy_from_slice(&number.to_be_bytes());
            }
            sent += to.send(&all.freeze())? as u64;
        }
        Ok(sent)
    });
    let mut heard = Heard::default();
    let mut first = None;
    let mut last = Instant::now();
    let patience = last + time + Duration::from_secs(2);
    loop {
        match from.receive(&mut room, &mut |datagram| heard.hear(datagram)) {
            Ok(()) => {
                last = Instant::now();
                first.get_or_insert((last, heard.count));
            }
            Err(e) if is_quiet(&e) => {
                if writer.is_finished() || Instant::now() > patience {
                    break;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    let sent = writer.join().expect("the writer does not panic")?;
    let Heard {
        count,
        wrong,
        first_wrong,
        ..
    } = heard;
    match first {
        _ if wrong > 0 => Err(SideError::new(format!(
            "{wrong} datagrams of {sent} are not what was sent, the first (number, bytes, expected): {first_wrong:?}"
        ))),
        Some((first, before)) if count > before && count <= sent => {
            Ok((count - before) as f64 / (last - first).as_secs_f64())
        }
        _ => Err(SideError::new(format!(
            "{count} datagrams of {sent} arrived"
        ))),
    }
}

/// Has the neighbours know each other: Linux sends what waits for that behind what is sent in the meantime.
fn introduce(to: &Socket, from: &Socket, room: &mut mmsg::Room) -> Result<(), SideError> {
    let mut has_come = false;
    for _ in 0..100 {
        if !has_come {
            to.send(&Bytes::from_static(&[0; LEN]))?;
        }
        match from.receive(room, &mut |_| has_come = true) {
            Err(e) if is_quiet(&e) && has_come => return Ok(()),
            Err(e) if !is_quiet(&e) => return Err(e.into()),
            _ => {}
        }
    }
    Err(SideError::new("the neighbours do not find each other"))
}

fn is_quiet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// What the receiver makes of what comes.
#[derive(Default)]
struct Heard {
    count: u64,
    /// The least number that may come.
    next: u64,
    /// Those of another length, and those that come late or twice.
    wrong: u64,
    /// What the first of them was, and which one was to come.
    first_wrong: Option<(Option<u64>, usize, u64)>,
}

impl Heard {
    fn hear(&mut self, datagram: &[u8]) {
        let number = datagram.first_chunk().map(|n| u64::from_be_bytes(*n));
        match number {
            Some(number) if datagram.len() == LEN && number >= self.next => {
                self.next = number + 1;
            }
            _ => {
                self.wrong += 1;
                self.first_wrong
                    .get_or_insert((number, datagram.len(), self.next));
            }
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Calls, Pair};
    use super::*;

    #[test]
    fn datagrams_arrive_both_ways_through_a_tap_and_veth() {
        let tap = Pair::over_tap(1500, vnet::Offload::Full, Calls::Copying, 1);
        for pair in [tap, Pair::over_veth(1500)] {
            let Pair { near, far } = match pair {
                Err(e) => return println!("SKIPPED: {e}"),
                Ok(pair) => pair,
            };
            let time = Duration::from_millis(20);
            assert!(measure(&near, &far, time).unwrap() > 0.0);
            assert!(measure(&far, &near, time).unwrap() > 0.0);
        }
    }

    #[test]
    fn a_datagram_that_comes_twice_or_is_cut_is_noticed() {
        let mut heard = Heard::default();
        let mut datagram = [0; LEN];
        datagram[7] = 3;
        heard.hear(&datagram);
        assert_eq!(heard.wrong, 0);
        heard.hear(&datagram);
        datagram[7] = 4;
        heard.hear(&datagram[..LEN - 1]);
        assert_eq!((heard.count, heard.wrong), (3, 2));
    }
}
