//! One question to one server: by UDP, and by TCP when the answer is too long for it.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use vnet::Vnet;
use vnet::net::{TcpStream, UdpSocket};

use crate::message::{Edns, NoAnswer, Question, Said, compose, read};

/// Room for a datagram; what is longer than was asked for is cut off.
const ROOM: usize = 4096;
/// Datagrams from the server's address that are no answer, and after which it is given up.
const MOST_WRONG: usize = 100;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// What a socket says.
    Io(io::Error),
    /// What was sent is no answer.
    Wrong,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl From<NoAnswer> for Fault {
    fn from(_: NoAnswer) -> Fault {
        Fault::Wrong
    }
}

/// What the server says. Each of up to three questions has a new identifier.
pub(crate) async fn ask(
    vnet: &Vnet,
    server: SocketAddr,
    question: &Question,
    mut id: impl FnMut() -> u16,
) -> Result<Said, Fault> {
    let mut edns = Edns::With;
    let mut said = by_udp(vnet, server, question, id(), edns).await?;
    // RFC 6891 section 7: a server that does not know it answers FORMERR.
    if let Said::NotUnderstood(_) = said {
        edns = Edns::Without;
        said = by_udp(vnet, server, question, id(), edns).await?;
    }
    // RFC 7766 section 5: a stub resolver that is told so tries again by TCP.
    if said == Said::Truncated {
        said = by_tcp(vnet, server, question, id(), edns).await?;
    }
    Ok(said)
}

async fn by_udp(
    vnet: &Vnet,
    server: SocketAddr,
    question: &Question,
    id: u16,
    edns: Edns,
) -> Result<Said, Fault> {
    let from: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // RFC 5452 section 9.2: a port that is not known beforehand. A connected socket takes nothing from others.
    let socket = UdpSocket::bind_in(vnet, from)?;
    socket.connect(server)?;
    socket.send(&compose(id, question, edns))?;
    let mut room = [0; ROOM];
    for _ in 0..MOST_WRONG {
        let (len, _) = poll_fn(|task| socket.poll_recv_from(task, &mut room)).await?;
        // RFC 5452 section 9.1: what does not match is ignored, and the answer may still come.
        if let Ok(said) = read(&room[..len], id, question) {
            return Ok(said);
        }
    }
    Err(Fault::Wrong)
}

async fn by_tcp(
    vnet: &Vnet,
    server: SocketAddr,
    question: &Question,
    id: u16,
    edns: Edns,
) -> Result<Said, Fault> {
    let stream = TcpStream::start_connect_in(vnet, server)?;
    poll_fn(|task| stream.poll_connect(task)).await?;
    let message = compose(id, question, edns);
    let len = u16::try_from(message.len()).map_err(|_| Fault::Wrong)?;
    let sent = [&len.to_be_bytes()[..], &message].concat();
    let mut left = &sent[..];
    while !left.is_empty() {
        let n = poll_fn(|task| stream.poll_write(task, left)).await?;
        left = &left[n..];
    }
    let mut len = [0; 2];
    read_exact(&stream, &mut len).await?;
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    read_exact(&stream, &mut message).await?;
    match read(&message, id, question)? {
        // There is no longer one.
        Said::Truncated => Err(Fault::Wrong),
        said => Ok(said),
    }
}

async fn read_exact(stream: &TcpStream, mut room: &mut [u8]) -> Result<(), Fault> {
    while !room.is_empty() {
        match poll_fn(|task| stream.poll_read(task, room)).await? {
            0 => return Err(Fault::Wrong),
            n => room = &mut room[n..],
        }
    }
    Ok(())
}
