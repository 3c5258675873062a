//! tokio's socket types on vnet's sockets.
//!
//! Names, methods and traits are those of [`tokio::net`]; `docs/async.md` lists what is not there. A socket belongs to the vnet that is
//! current when it is created, or to the one passed to a `*_in` constructor.
//!
//! | part | what it is |
//! |---|---|
//! | `stream` | [`TcpStream`] |
//! | `listener` | [`TcpListener`] |
//! | `socket` | [`TcpSocket`]: options before connecting or listening |
//! | [`tcp`] | the halves of a stream |
//! | `options` | options of packets |
//! | `udp` | [`UdpSocket`] |

mod listener;
mod options;
mod socket;
mod stream;
pub mod tcp;
mod udp;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use bytes::BufMut;
use vnet::{SocketError, Vnet};

pub use listener::TcpListener;
pub use socket::TcpSocket;
pub use stream::TcpStream;
pub use udp::UdpSocket;
#[doc(no_inline)]
pub use vnet::net::ToSocketAddrs;

/// The addresses of `host`, in the order in which to try them. The names are those of the current vnet.
///
/// # Errors
/// As [`Vnet::lookup`].
pub async fn lookup_host<T: ToSocketAddrs>(
    host: T,
) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let found = match host.numeric() {
        Some(addrs) => addrs.collect(),
        None => resolved(&current()?, &host).await?,
    };
    Ok(found.into_iter())
}

/// The addresses of `host`, where names are those of `vnet`; the resolver that is asked may take its time.
async fn resolved(vnet: &Vnet, host: &impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    if let Some(addrs) = host.numeric() {
        return Ok(addrs.collect());
    }
    let Some((name, port)) = host.name()? else {
        let _names_of = vnet.enter();
        return Ok(host.to_socket_addrs()?.collect());
    };
    let found = vnet.lookup(name).await?.into_iter();
    Ok(found.map(|ip| SocketAddr::new(ip, port)).collect())
}

/// The current vnet.
fn current() -> io::Result<Vnet> {
    Vnet::current().ok_or_else(|| SocketError::NoCurrentVnet.into())
}

fn no_address() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "no address given")
}

/// Has `read` fill as much of `buf` as there is room for, and at most `most`.
fn into_buf<B: BufMut, R>(
    buf: &mut B,
    most: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<(usize, R)>,
) -> io::Result<(usize, R)> {
    let mut room = vec![0; buf.remaining_mut().min(most)];
    let (n, rest) = read(&mut room)?;
    buf.put_slice(&room[..n]);
    Ok((n, rest))
}

/// Methods that several kinds of socket have. Their vnet's socket is `.io`, their waiting tasks `.waiters`.
macro_rules! readiness_methods {
    ($kind:ident, $read_ready:ident, $write_ready:ident) => {
        impl $kind {
            /// Waits for any of the states that `interest` names. Cancel safe.
            ///
            /// # Errors
            /// The vnet is gone.
            pub async fn ready(
                &self,
                interest: tokio::io::Interest,
            ) -> std::io::Result<tokio::io::Ready> {
                let poll =
                    |cx: &mut std::task::Context<'_>, direction| self.io.poll_ready(cx, direction);
                self.waiters.ready(interest, poll).await
            }

            /// Waits until there is something to read, the end of the stream, or an error. Cancel safe.
            ///
            /// # Errors
            /// The vnet is gone.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.ready(tokio::io::Interest::READABLE).await.map(drop)
            }

            /// Waits until there is room to write, or an error. Cancel safe.
            ///
            /// # Errors
            /// The vnet is gone.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.ready(tokio::io::Interest::WRITABLE).await.map(drop)
            }

            /// Polls for something to read. The task polled last is woken.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn $read_ready(
                &self,
                task: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.poll_direction(task, vnet::net::Interest::Read)
            }

            /// Polls for room to write. The task polled last is woken.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn $write_ready(
                &self,
                task: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.poll_direction(task, vnet::net::Interest::Write)
            }

            fn poll_direction(
                &self,
                task: &mut std::task::Context<'_>,
                direction: vnet::net::Interest,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.waiters.poll(direction, task, |cx| {
                    self.io.poll_ready(cx, direction).map_ok(drop)
                })
            }

            /// Calls `f`, which is to try an operation on the socket and to say
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) when it cannot be done now.
            ///
            /// # Errors
            /// Those of `f`.
            pub fn try_io<R>(
                &self,
                _interest: tokio::io::Interest,
                f: impl FnOnce() -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                f()
            }

            /// Calls `f` until it says something else than [`WouldBlock`](std::io::ErrorKind::WouldBlock), and
            /// waits for `interest` in between.
            ///
            /// # Errors
            /// Those of `f`; the vnet is gone.
            pub async fn async_io<R>(
                &self,
                interest: tokio::io::Interest,
                mut f: impl FnMut() -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                loop {
                    match f() {
                        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                            self.ready(interest).await?;
                        }
                        result => return result,
                    }
                }
            }

            /// Takes the pending error (`SO_ERROR`).
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.io.take_error()
            }

            /// The address of this end.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                self.io.local_addr()
            }

            /// The address of the other end.
            ///
            /// # Errors
            /// [`NotConnected`](std::io::ErrorKind::NotConnected), or the vnet is gone.
            pub fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                self.io.peer_addr()
            }

            /// The time to live of the socket's packets.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn ttl(&self) -> std::io::Result<u32> {
                self.io.ttl()
            }

            /// Sets the time to live of the socket's packets.
            ///
            /// # Errors
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) for zero or more than 255; the vnet is gone.
            pub fn set_ttl(&self, ttl: u32) -> std::io::Result<()> {
                self.io.set_ttl(ttl)
            }
        }
    };
}
use readiness_methods;
