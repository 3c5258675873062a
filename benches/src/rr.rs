//! One byte there and one byte back, over blocking sockets, against the kernel's.
//!
//! `tcp-rr` and `udp-rr`: one thread plays both ends, so what is counted is the way through the
//! stacks and nothing else. The `-2t` cases have a thread at each end, so that waking it counts.
//!
//! The kernel's sockets are in two network namespaces joined by a veth pair, which is as near to
//! two vnets and an epair as the kernel has; without the rights to make them, they are on the
//! loopback interface, and the peer's name says so.

mod kernel;
mod link;
mod ours;

use std::thread;
use std::time::{Duration, Instant};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use link::Link;

pub(crate) use ours::{CLIENT, IPV4, IPV6, SERVER, joined_by_epair};

/// Transactions between two looks at the clock.
const BATCH: u32 = 100;
/// Requests count through 0..ROUND; a byte from outside it is no request.
const ROUND: u8 = 250;
/// Tells the far thread to end.
const GOODBYE: u8 = 255;
/// An answer that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(5);

/// TCP, one thread at both ends.
///
/// # Errors
/// When a side cannot be set up.
pub fn tcp_one_thread(options: &Options) -> Result<Contest, SideError> {
    let (kernel, ours) = (kernel::tcp()?, ours::tcp()?);
    let peer_name = format!("kernel TCP over {}, one thread", kernel.path());
    Ok(contest(
        OneThread::new(ours, options),
        OneThread::new(kernel, options),
        peer_name,
    ))
}

/// UDP, one thread at both ends.
///
/// # Errors
/// When a side cannot be set up.
pub fn udp_one_thread(options: &Options) -> Result<Contest, SideError> {
    let (kernel, ours) = (kernel::udp()?, ours::udp()?);
    let peer_name = format!("kernel UDP over {}, one thread", kernel.path());
    Ok(contest(
        OneThread::new(ours, options),
        OneThread::new(kernel, options),
        peer_name,
    ))
}

/// TCP, a thread at each end.
///
/// # Errors
/// When a side cannot be set up.
pub fn tcp_two_threads(options: &Options) -> Result<Contest, SideError> {
    let (kernel, ours) = (kernel::tcp()?, ours::tcp()?);
    let peer_name = format!("kernel TCP over {}, two threads", kernel.path());
    Ok(contest(
        TwoThreads::new(ours, options),
        TwoThreads::new(kernel, options),
        peer_name,
    ))
}

/// UDP, a thread at each end.
///
/// # Errors
/// When a side cannot be set up.
pub fn udp_two_threads(options: &Options) -> Result<Contest, SideError> {
    let (kernel, ours) = (kernel::udp()?, ours::udp()?);
    let peer_name = format!("kernel UDP over {}, two threads", kernel.path());
    Ok(contest(
        TwoThreads::new(ours, options),
        TwoThreads::new(kernel, options),
        peer_name,
    ))
}

fn contest(ours: impl Side + 'static, peer: impl Side + 'static, peer_name: String) -> Contest {
    Contest {
        unit: Unit::TransactionsPerSecond,
        ours: Box::new(ours),
        peer: Box::new(peer),
        peer_name,
    }
}

/// Two connected sockets and whatever must live as long as they do.
struct Joined<L, K> {
    client: L,
    server: L,
    keep: K,
}

struct OneThread<L, K> {
    ends: Joined<L, K>,
    time: Duration,
}

impl<L: Link, K> OneThread<L, K> {
    fn new(ends: Joined<L, K>, options: &Options) -> OneThread<L, K> {
        OneThread {
            ends,
            time: options.time,
        }
    }
}

impl<L: Link, K> Side for OneThread<L, K> {
    fn measure(&mut self) -> Result<f64, SideError> {
        let Joined { client, server, .. } = &mut self.ends;
        per_second(self.time, |request| {
            client.send_byte(request)?;
            let seen = server.recv_byte()?;
            server.send_byte(seen)?;
            client.recv_byte()
        })
    }
}

struct TwoThreads<L: Link, K> {
    client: L,
    server: Option<thread::JoinHandle<Result<(), SideError>>>,
    time: Duration,
    _keep: K,
}

impl<L: Link, K> TwoThreads<L, K> {
    fn new(ends: Joined<L, K>, options: &Options) -> TwoThreads<L, K> {
        let Joined {
            client,
            mut server,
            keep,
        } = ends;
        // Between two measurements the peer has its turn: the server may be patient for longer.
        server.wait_forever();
        let server = thread::spawn(move || {
            loop {
                match server.recv_byte()? {
                    GOODBYE => return Ok(()),
                    request => server.send_byte(request)?,
                }
            }
        });
        TwoThreads {
            client,
            server: Some(server),
            time: options.time,
            _keep: keep,
        }
    }
}

impl<L: Link, K> Side for TwoThreads<L, K> {
    fn measure(&mut self) -> Result<f64, SideError> {
        let client = &mut self.client;
        per_second(self.time, |request| {
            client.send_byte(request)?;
            client.recv_byte()
        })
    }
}

impl<L: Link, K> Drop for TwoThreads<L, K> {
    fn drop(&mut self) {
        let told = self.client.send_byte(GOODBYE);
        if let (Ok(()), Some(server)) = (told, self.server.take()) {
            // The figures are in; how the server ended does not change them.
            let _ = server.join();
        }
    }
}

/// Transactions a second; each must return the byte it was given.
pub(crate) fn per_second(
    time: Duration,
    mut transact: impl FnMut(u8) -> Result<u8, SideError>,
) -> Result<f64, SideError> {
    let start = Instant::now();
    let mut done = 0u64;
    let mut request = 0;
    loop {
        for _ in 0..BATCH {
            let reply = transact(request)?;
            if reply != request {
                return Err(SideError::new(format!("sent {request}, got {reply} back")));
            }
            request = (request + 1) % ROUND;
        }
        done += u64::from(BATCH);
        let took = start.elapsed();
        if took >= time {
            return Ok(done as f64 / took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Options = Options {
        time: Duration::from_millis(1),
        bytes: None,
    };

    #[test]
    fn the_kernel_answers_in_every_arrangement() {
        assert!(
            OneThread::new(kernel::tcp().unwrap(), &BRIEF)
                .measure()
                .unwrap()
                > 0.0
        );
        assert!(
            OneThread::new(kernel::udp().unwrap(), &BRIEF)
                .measure()
                .unwrap()
                > 0.0
        );
        assert!(
            TwoThreads::new(kernel::tcp().unwrap(), &BRIEF)
                .measure()
                .unwrap()
                > 0.0
        );
        assert!(
            TwoThreads::new(kernel::udp().unwrap(), &BRIEF)
                .measure()
                .unwrap()
                > 0.0
        );
    }

    #[test]
    fn a_wrong_reply_is_noticed() {
        let wrong = per_second(Duration::from_millis(1), |request| Ok(request ^ 1));
        assert!(wrong.is_err());
    }
}
