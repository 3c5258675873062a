//! An echo server in a vnet, served by a loop of `mio`: one thread, one descriptor, any number of connections. The clients are
//! threads of another vnet.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Poll, Token};
use vnet::net::{Interest, TcpListener, TcpStream};
use vnet::{System, Vnet};
use vnet_ready::{Ready, Watched};

const LISTENER: usize = 0;

/// A connection, and what is still to be sent back.
struct Echo {
    stream: Watched<TcpStream>,
    pending: Vec<u8>,
}

impl Echo {
    /// Does what can be done now. False when the connection is over.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut stream: &TcpStream = &self.stream;
        let mut buf = [0; 4096];
        loop {
            while !self.pending.is_empty() {
                match stream.write(&self.pending) {
                    Ok(n) => drop(self.pending.drain(..n)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.stream.set_interests(&[Interest::Write]);
                        return Ok(true);
                    }
                    Err(error) => return Err(error),
                }
            }
            match stream.read(&mut buf) {
                Ok(0) => return Ok(false),
                Ok(n) => self.pending.extend_from_slice(&buf[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stream.set_interests(&[Interest::Read]);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Serves until so many connections are over.
fn serve(listener: TcpListener, connections: usize) -> io::Result<()> {
    let ready = Ready::new()?;
    let listener = ready.watch(listener, LISTENER, &[Interest::Read]);
    let mut poll = Poll::new()?;
    let descriptor = ready.as_raw_fd();
    let readable = mio::Interest::READABLE;
    poll.registry()
        .register(&mut SourceFd(&descriptor), Token(0), readable)?;

    let (mut kernels, mut events) = (Events::with_capacity(8), Vec::new());
    let (mut open, mut next, mut over) = (BTreeMap::new(), LISTENER + 1, 0);
    while over < connections {
        poll.poll(&mut kernels, None)?;
        ready.events(&mut events);
        for event in &events {
            if event.token == LISTENER {
                // One is enough: if there are more, the listener is listed again.
                let (stream, _) = listener.accept()?;
                let stream = ready.watch(stream, next, &[Interest::Read]);
                let pending = Vec::new();
                open.insert(next, Echo { stream, pending });
                next += 1;
            } else if let Some(echo) = open.get_mut(&event.token)
                && !echo.go_on()?
            {
                open.remove(&event.token);
                over += 1;
            }
        }
    }
    Ok(())
}

/// Asks `times`, and says how many bytes came back.
fn ask(times: usize) -> io::Result<usize> {
    let mut stream = TcpStream::connect("192.0.2.2:7")?;
    let mut answer = [0; 5];
    for _ in 0..times {
        stream.write_all(b"hello")?;
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"hello");
    }
    Ok(times * answer.len())
}

/// A host on a link.
fn address(vnet: &Vnet, addr: &str) -> Result<(), Box<dyn Error>> {
    Ok(vnet.add_address("eth0", addr.parse()?)?)
}

/// Runs it with so many clients, each of which asks ten times; says how many bytes came back.
pub(crate) fn run(clients: usize) -> Result<usize, Box<dyn Error>> {
    let system = System::threads();
    let (a, b) = (system.create("clients")?, system.create("server")?);
    a.epair("eth0", &b, "eth0")?;
    address(&a, "192.0.2.1/24")?;
    address(&b, "192.0.2.2/24")?;
    let listener = TcpListener::bind_in(&b, "0.0.0.0:7")?;
    let server = std::thread::spawn(move || serve(listener, clients));
    let threads: Result<Vec<_>, _> = (0..clients).map(|_| a.spawn(|| ask(10))).collect();
    let mut bytes = 0;
    for thread in threads? {
        bytes += thread.join().expect("a client does not panic")?;
    }
    server.join().expect("the server does not panic")?;
    Ok(bytes)
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Box<dyn Error>> {
    println!("{} bytes came back", run(100)?);
    Ok(())
}
