//! Streams by tokio's traits, one thread, against tokio over the kernel's loopback.
//!
//! Both sides run the same code on a `current_thread` runtime of tokio's, on which either end is a task. What differs
//! is the stream: `tokio::net::TcpStream` on the loopback interface, and `vnet_tokio::net::TcpStream` between two
//! vnets with an epair of nearly the loopback's MTU, under the threads driver. Nagle's algorithm is off on both.
//!
//! [`idle`] has connections that do nothing.

pub mod idle;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use vnet::{OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::kernel::set_congestion;
use crate::rr::{IPV4, SERVER, joined_by_epair};

/// Bytes of a large message.
const LARGE: usize = 64 << 10;
/// Messages between two looks at the clock.
const BATCH: usize = 100;
/// The largest MTU of an interface of a vnet.
const MTU: u16 = 65_535;

/// What the two ends do.
#[derive(Clone, Copy)]
enum Work {
    /// A message of so many bytes there, and the same back.
    Echo(usize),
    /// Large messages, one way.
    Bulk,
}

impl Work {
    fn message(self) -> usize {
        match self {
            Work::Echo(length) => length,
            Work::Bulk => LARGE,
        }
    }

    fn unit(self) -> Unit {
        match self {
            Work::Echo(_) => Unit::TransactionsPerSecond,
            Work::Bulk => Unit::GbitPerSecond,
        }
    }
}

/// One byte there and back.
///
/// # Errors
/// When a side cannot be set up.
pub fn echo(options: &Options) -> Result<Contest, SideError> {
    contest(Work::Echo(1), options)
}

/// 64 KiB there and back.
///
/// # Errors
/// When a side cannot be set up.
pub fn echo_64k(options: &Options) -> Result<Contest, SideError> {
    contest(Work::Echo(LARGE), options)
}

/// 64 KiB at a time, one way.
///
/// # Errors
/// When a side cannot be set up.
pub fn bulk(options: &Options) -> Result<Contest, SideError> {
    contest(Work::Bulk, options)
}

fn contest(work: Work, options: &Options) -> Result<Contest, SideError> {
    Ok(Contest {
        unit: work.unit(),
        ours: ours(work, options.time)?,
        peer: kernels(work, options.time)?,
        peer_name: "tokio over the kernel's loopback".into(),
    })
}

fn runtime() -> Result<Runtime, SideError> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn ours(work: Work, time: Duration) -> Result<Box<dyn Side>, SideError> {
    use vnet_tokio::net::{TcpListener, TcpStream};
    let keep = joined_by_epair(&System::threads(), IPV4)?;
    for end in &keep {
        let set = end.set_ip_mtu("eth0", MTU);
        set.map_err(|e| SideError::new(e.to_string()))?;
    }
    let runtime = runtime()?;
    let (client, server) = runtime.block_on(async {
        let listener = TcpListener::bind_in(&keep[1], (SERVER, 5001))?;
        let client = TcpStream::connect_in(&keep[0], (SERVER, 5001)).await?;
        let (server, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok::<_, SideError>((client, server))
    })?;
    Ok(Box::new(Ends::new(
        runtime,
        (client, server),
        work,
        time,
        Some(keep),
    )))
}

fn kernels(work: Work, time: Duration) -> Result<Box<dyn Side>, SideError> {
    use tokio::net::{TcpListener, TcpStream};
    let runtime = runtime()?;
    let (client, server) = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        set_congestion(&listener)?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        set_congestion(&client)?;
        let (server, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok::<_, SideError>((client, server))
    })?;
    Ok(Box::new(Ends::new(
        runtime,
        (client, server),
        work,
        time,
        None,
    )))
}

/// A connection. The server's end is a task for good, the client's one for each measurement.
struct Ends<S> {
    runtime: Runtime,
    /// Not there when a measurement has failed.
    client: Option<S>,
    work: Work,
    time: Duration,
    _keep: Option<[OwnedVnet; 2]>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Ends<S> {
    fn new(
        runtime: Runtime,
        (client, server): (S, S),
        work: Work,
        time: Duration,
        keep: Option<[OwnedVnet; 2]>,
    ) -> Ends<S> {
        // When it fails the connection ends, and the client says so.
        runtime.spawn(serve(server, work));
        Ends {
            runtime,
            client: Some(client),
            work,
            time,
            _keep: keep,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Side for Ends<S> {
    fn measure(&mut self) -> Result<f64, SideError> {
        let client = self.client.take();
        let mut client = client.ok_or_else(|| SideError::new("the connection is gone"))?;
        let (work, time) = (self.work, self.time);
        // A task, as the server is: tokio wakes these without a system call, and the future of `block_on` with one.
        let measured = self.runtime.spawn(async move {
            let messages = measure(&mut client, work, time).await?;
            Ok::<_, SideError>((client, messages))
        });
        let joined = self.runtime.block_on(measured);
        let (client, messages) = joined.map_err(|e| SideError::new(e.to_string()))??;
        self.client = Some(client);
        Ok(match work {
            Work::Echo(_) => messages,
            Work::Bulk => messages * (LARGE * 8) as f64 / 1e9,
        })
    }
}

/// What a message consists of. `round` makes one differ from the next.
fn message(length: usize, round: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8) ^ round).collect()
}

/// Returns messages; or reads them, and says with a byte when it has read a batch.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    work: Work,
) -> Result<(), SideError> {
    let mut buf = vec![0; work.message()];
    let expected = message(LARGE, 0);
    loop {
        match work {
            Work::Echo(_) => {
                stream.read_exact(&mut buf).await?;
                stream.write_all(&buf).await?;
            }
            Work::Bulk => {
                let mut read = 0;
                while read < LARGE * BATCH {
                    let n = stream.read(&mut buf).await?;
                    let first = expected[read % LARGE];
                    if n == 0 || buf[0] != first {
                        return Err(SideError::new("the stream is not what was sent"));
                    }
                    read += n;
                }
                stream.write_all(&[1]).await?;
            }
        }
    }
}

/// Messages a second.
async fn measure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    work: Work,
    time: Duration,
) -> Result<f64, SideError> {
    let sent = [message(work.message(), 0), message(work.message(), 0x55)];
    let mut answer = vec![0; work.message()];
    let (start, mut batches) = (Instant::now(), 0_u32);
    loop {
        for round in 0..BATCH {
            match work {
                Work::Echo(_) => {
                    let sent = &sent[round % 2];
                    stream.write_all(sent).await?;
                    stream.read_exact(&mut answer).await?;
                    let ends = |m: &[u8]| (m.first().copied(), m.last().copied());
                    if ends(&answer) != ends(sent) {
                        return Err(SideError::new("the answer is not what was sent"));
                    }
                }
                Work::Bulk => stream.write_all(&sent[0]).await?,
            }
        }
        if let Work::Bulk = work {
            stream.read_exact(&mut answer[..1]).await?;
        }
        batches += 1;
        let took = start.elapsed();
        if took >= time {
            let messages = f64::from(batches) * BATCH as f64;
            return Ok(messages / took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_do_all_of_it() {
        let time = Duration::from_millis(1);
        for work in [Work::Echo(1), Work::Echo(LARGE), Work::Bulk] {
            for side in [ours, kernels] {
                let mut side = side(work, time).unwrap();
                assert!(side.measure().unwrap() > 0.0);
                assert!(side.measure().unwrap() > 0.0, "again");
            }
        }
    }
}
