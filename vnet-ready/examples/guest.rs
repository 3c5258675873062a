//! A loop of `mio` that carries the frames of guests: each end of a datagram socket, as an emulator has one for its guest's
//! network card, is joined to a port of a vnet. In the place of an emulator, the other end of the socket pair is joined to
//! a port of another vnet, which is the guest; the same loop carries both.

use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsRawFd;

use mio::net::UnixDatagram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use vnet::net::{Interest as Towards, TcpListener, TcpStream};
use vnet::packet::Packet;
use vnet::{Port, System, Vnet};
use vnet_ready::{Ready, Watched};

/// The token of the ports' descriptor, and that which ends the loop; the others are those of sockets.
const PORTS: Token = Token(usize::MAX);
const END: Token = Token(usize::MAX - 1);
/// The largest frame: an IP packet of 1500 bytes.
const FRAME: usize = 1514;

/// A guest's card: frames that the vnet sends go out by the socket, and what comes there goes to the vnet.
struct Card {
    port: Watched<Port>,
    socket: UnixDatagram,
    /// A frame that found no room.
    unsent: Option<Packet>,
}

impl Card {
    /// Sends what the vnet has sent, where it is: no frame is copied. Says how many there were.
    fn outwards(&mut self) -> io::Result<usize> {
        let mut sent = 0;
        while let Some(frame) = self.unsent.take().or_else(|| self.port.recv()) {
            let slices: Vec<IoSlice<'_>> = frame.io_slices().collect();
            let mut control = SendAncillaryBuffer::default();
            match sendmsg(&self.socket, &slices, &mut control, SendFlags::empty()) {
                Ok(_) => sent += 1,
                Err(error) if io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                    // `mio` says when there is room. Until then, the vnet keeps what else it has.
                    self.unsent = Some(frame);
                    self.port.set_interests(&[]);
                    return Ok(sent);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.port.set_interests(&[Towards::Read]);
        Ok(sent)
    }

    /// Hands what came by the socket to the vnet, all of it at once.
    fn inwards(&mut self) -> io::Result<()> {
        let mut frames = Vec::new();
        let mut buf = [0; FRAME];
        loop {
            match self.socket.recv(&mut buf) {
                Ok(len) => frames.push((None, buf[..len].to_vec())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.port.send_all(frames);
        Ok(())
    }
}

/// Carries frames until the waker is woken; says how many.
fn carry(mut poll: Poll, ready: &Ready, mut cards: Vec<Card>) -> io::Result<usize> {
    let registry = poll.registry();
    registry.register(&mut SourceFd(&ready.as_raw_fd()), PORTS, Interest::READABLE)?;
    for (number, card) in cards.iter_mut().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut card.socket, Token(number), both)?;
    }
    let (mut events, mut ports) = (Events::with_capacity(64), Vec::new());
    let mut carried = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                END => return Ok(carried),
                PORTS => {
                    ready.events(&mut ports);
                    for port in &ports {
                        carried += cards[port.token].outwards()?;
                    }
                }
                Token(number) => {
                    let card = &mut cards[number];
                    if event.is_readable() {
                        card.inwards()?;
                    }
                    if event.is_writable() {
                        carried += card.outwards()?;
                    }
                }
            }
        }
    }
}

/// A port, and an address at it.
fn host(vnet: &Vnet, addr: &str) -> Result<Port, Box<dyn Error>> {
    let port = vnet.port("eth0", None)?;
    vnet.add_address("eth0", addr.parse()?)?;
    Ok(port)
}

/// Runs it: the guest fetches this many bytes. Says how many frames the loop carried.
pub(crate) fn run(bytes: usize) -> Result<usize, Box<dyn Error>> {
    let system = System::threads();
    let (server, guest) = (system.create("server")?, system.create("guest")?);
    let ports = [
        host(&server, "192.0.2.1/24")?,
        host(&guest, "192.0.2.2/24")?,
    ];
    let (one, other) = UnixDatagram::pair()?;

    let ready = Ready::new()?;
    let mut cards = Vec::new();
    for (port, socket) in ports.into_iter().zip([one, other]) {
        let port = ready.watch(port, cards.len(), &[Towards::Read]);
        let unsent = None;
        cards.push(Card {
            port,
            socket,
            unsent,
        });
    }
    let poll = Poll::new()?;
    let end = Waker::new(poll.registry(), END)?;
    let carrier = std::thread::spawn(move || carry(poll, &ready, cards));

    let serving = server.spawn(move || {
        let (mut stream, _) = TcpListener::bind("0.0.0.0:80")?.accept()?;
        stream.write_all(&vec![7; bytes])
    })?;
    let fetched = loop {
        match TcpStream::connect_in(&guest, "192.0.2.1:80") {
            Ok(mut stream) => {
                let mut all = Vec::new();
                stream.read_to_end(&mut all)?;
                break all;
            }
            // The server has not begun to listen.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
    };
    serving.join().expect("the server does not panic")?;
    assert_eq!(fetched, vec![7; bytes]);
    end.wake()?;
    Ok(carrier.join().expect("the loop does not panic")?)
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Box<dyn Error>> {
    println!("{} frames carried", run(1 << 20)?);
    Ok(())
}
