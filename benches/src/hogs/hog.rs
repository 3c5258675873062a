//! Those who get in the way.

use std::future::poll_fn;
use std::hint::black_box;
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::{OwnedVnet, Port, PortError};

use super::{AnyError, Arena, At, frames};

/// Where floods and non-readers are joined to whom they are at: its address there.
const TARGET: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// Tasks that are never done.
const TASKS: usize = 16;
/// Sockets that are open at once.
const SOCKETS: usize = 5000;
/// Connections that nobody reads from.
const CONNECTIONS: u16 = 32;

/// A kind of hog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hog {
    /// Nobody.
    None,
    /// A thread outside the library that keeps a processor busy: what all others are measured
    /// against.
    Thread,
    /// Datagrams to a port that nobody listens to, as fast as they can be sent.
    Udp,
    /// Connection requests from ever new addresses.
    Syn,
    /// First halves of datagrams.
    Fragments,
    /// ARP requests from ever new addresses.
    Arp,
    /// Writers to connections from which nobody reads.
    NonReaders,
    /// A reader that does not wait for what it reads.
    Spinner,
    /// Opening sockets, thousands of them, and closing them all.
    Sockets,
    /// A task that is always ready.
    Task,
    /// More of them than there are threads that poll.
    Tasks,
    /// Looking at all that can be looked at, over and over.
    Inspecting,
    /// Making a vnet, wiring it up, and destroying it, over and over.
    Churn,
}

type Thread = JoinHandle<Result<(), AnyError>>;

/// What a hog does again and again; the argument counts.
type Act = Box<dyn FnMut(u32) -> Result<(), AnyError> + Send>;

impl Hog {
    /// All, in the order of the table.
    pub const ALL: [Hog; 13] = [
        Hog::None,
        Hog::Thread,
        Hog::Udp,
        Hog::Syn,
        Hog::Fragments,
        Hog::Arp,
        Hog::NonReaders,
        Hog::Spinner,
        Hog::Sockets,
        Hog::Task,
        Hog::Tasks,
        Hog::Inspecting,
        Hog::Churn,
    ];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Hog::None => "nobody",
            Hog::Thread => "a busy thread outside",
            Hog::Udp => "UDP flood",
            Hog::Syn => "SYN flood",
            Hog::Fragments => "fragment flood",
            Hog::Arp => "ARP flood",
            Hog::NonReaders => "non-readers",
            Hog::Spinner => "spinning reader",
            Hog::Sockets => "sockets",
            Hog::Task => "a busy task",
            Hog::Tasks => "busy tasks",
            Hog::Inspecting => "inspecting",
            Hog::Churn => "create and destroy",
        }
    }

    /// Whether it matters whom it is at.
    pub const fn has_target(self) -> bool {
        !matches!(self, Hog::None | Hog::Thread | Hog::Task | Hog::Tasks)
    }

    /// Lets it loose until it is told to stop.
    pub(super) fn unleash(
        self,
        arena: &Arc<Arena>,
        at: At,
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Thread>, AnyError> {
        let victim = arena.victim(at);
        let act: Box<dyn FnMut(u32) -> Result<(), AnyError> + Send> = match self {
            Hog::None => return Ok(Vec::new()),
            Hog::Thread => Box::new(|n| {
                black_box(n);
                Ok(())
            }),
            Hog::Udp => {
                let hog = joined(arena, victim)?;
                let socket = UdpSocket::bind_in(&hog, "0.0.0.0:0")?;
                Box::new(move |_| {
                    let _hog = &hog;
                    // Port unreachable comes back now and then, and is an error of the next call.
                    let _ = socket.send_to(&[7; 1400], (TARGET, 9));
                    Ok(())
                })
            }
            Hog::Syn => {
                let listener = TcpListener::bind_in(victim, "0.0.0.0:81")?;
                let (port, mac) = port(victim)?;
                Box::new(move |n| {
                    let _listener = &listener;
                    send(&port, frames::syn(mac, TARGET, n))
                })
            }
            Hog::Fragments => {
                let (port, mac) = port(victim)?;
                Box::new(move |n| send(&port, frames::fragment(mac, TARGET, n)))
            }
            Hog::Arp => {
                let (port, _) = port(victim)?;
                Box::new(move |n| send(&port, frames::arp(TARGET, n)))
            }
            Hog::NonReaders => non_readers(arena, victim)?,
            Hog::Spinner => {
                let socket = UdpSocket::bind_in(victim, "0.0.0.0:81")?;
                socket.set_nonblocking(true)?;
                Box::new(move |_| match socket.recv_from(&mut [0; 64]) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
                    _ => Ok(()),
                })
            }
            Hog::Sockets => {
                let (arena, at) = (Arc::clone(arena), at);
                let mut held = Vec::with_capacity(SOCKETS);
                Box::new(move |_| {
                    if held.len() == SOCKETS {
                        held.clear();
                    }
                    held.push(UdpSocket::bind_in(arena.victim(at), "0.0.0.0:0")?);
                    Ok(())
                })
            }
            Hog::Task | Hog::Tasks => {
                let count = if self == Hog::Task { 1 } else { TASKS };
                for _ in 0..count {
                    let stop = Arc::clone(stop);
                    let task = poll_fn(move |cx| {
                        cx.waker().wake_by_ref();
                        match stop.load(Ordering::Relaxed) {
                            true => Poll::Ready(()),
                            false => Poll::Pending,
                        }
                    });
                    // It goes on without its handle.
                    drop(arena.bystander.spawn_future(task));
                }
                return Ok(Vec::new());
            }
            Hog::Inspecting => {
                let (arena, at) = (Arc::clone(arena), at);
                Box::new(move |_| {
                    let victim = arena.victim(at);
                    black_box((victim.inspect()?, victim.stats()?, victim.pins()?));
                    Ok(())
                })
            }
            Hog::Churn => {
                let (arena, at) = (Arc::clone(arena), at);
                Box::new(move |_| {
                    let made = joined(&arena, arena.victim(at))?;
                    UdpSocket::bind_in(&made, "0.0.0.0:0")?.send_to(b"x", (TARGET, 9))?;
                    made.destroy();
                    arena.victim(at).remove_interface("hog0")?;
                    Ok(())
                })
            }
        };
        Ok(vec![repeat(act, stop)])
    }
}

fn repeat(
    mut act: impl FnMut(u32) -> Result<(), AnyError> + Send + 'static,
    stop: &Arc<AtomicBool>,
) -> Thread {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut n = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            act(n)?;
            n = n.wrapping_add(1);
        }
        Ok(())
    })
}

/// A vnet of the hog's own, with a wire to whom it is at.
fn joined(arena: &Arena, victim: &OwnedVnet) -> Result<OwnedVnet, AnyError> {
    let hog = arena.system.create("hog")?;
    hog.epair("eth0", victim, "hog0")?;
    hog.add_address("eth0", "198.19.255.1/16".parse()?)?;
    victim.add_address("hog0", format!("{TARGET}/16").parse()?)?;
    Ok(hog)
}

/// A port of whom a hog is at, for frames that no stack would send.
fn port(victim: &OwnedVnet) -> Result<(Port, [u8; 6]), AnyError> {
    let port = victim.port("hog0", None)?;
    victim.add_address("hog0", format!("{TARGET}/16").parse()?)?;
    let mac = port.mac().0;
    Ok((port, mac))
}

fn send(port: &Port, frame: Vec<u8>) -> Result<(), AnyError> {
    // What comes back is taken, and not looked at.
    while port.recv().is_some() {}
    match port.send(frame) {
        Ok(()) | Err(PortError::Gone) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Fills connections to the victim from which nobody reads, and tries again and again.
fn non_readers(arena: &Arena, victim: &OwnedVnet) -> Result<Act, AnyError> {
    let hog = joined(arena, victim)?;
    let listener = TcpListener::bind_in(victim, "0.0.0.0:81")?;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect_in(&hog, (TARGET, 81))?;
        stream.set_nonblocking(true)?;
        streams.push((stream, listener.accept()?.0));
    }
    Ok(Box::new(move |n| {
        let _keep = (&hog, &listener);
        let count = streams.len();
        match streams[n as usize % count].0.write(&[7; 4096]) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }))
}
