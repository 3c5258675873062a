//! TCP with a deadline for the whole job: before each call the socket's timeout is set to what
//! is left.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream};

use super::kind::Limit;
use crate::file::source::Problems;
use crate::file::table::Table;

/// A stream that gives up when the job's time is over.
pub(super) struct TimedStream {
    stream: TcpStream,
    limit: Limit,
}

impl TimedStream {
    /// Connects to `to` from the current vnet.
    pub(super) fn connect(to: SocketAddr, limit: &Limit) -> io::Result<TimedStream> {
        let left = limit.left(Duration::MAX)?;
        let stream = TcpStream::connect_timeout(&to, left).map_err(|e| in_words(e, limit))?;
        Ok(TimedStream {
            stream,
            limit: limit.clone(),
        })
    }

    /// Takes the first connection that comes.
    pub(super) fn accept(listener: &TcpListener, limit: &Limit) -> io::Result<TimedStream> {
        listener.set_accept_timeout(Some(limit.left(Duration::MAX)?))?;
        let (stream, _) = listener.accept().map_err(|e| in_words(e, limit))?;
        Ok(TimedStream {
            stream,
            limit: limit.clone(),
        })
    }

    /// Tells the other side that nothing more comes.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }
}

impl Read for TimedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.limit.left(Duration::MAX)?;
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buf).map_err(|e| in_words(e, &self.limit))
    }
}

impl Write for TimedStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let left = self.limit.left(Duration::MAX)?;
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(buf).map_err(|e| in_words(e, &self.limit))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A timeout of the socket, when it is the job's.
fn in_words(error: io::Error, limit: &Limit) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut if limit.left(Duration::MAX).is_err() => {
            limit.exceeded()
        }
        _ => error,
    }
}

/// The port that a job over TCP goes to; 0 is any.
pub(super) fn port(table: &mut Table<'_>, problems: &mut Problems<'_>) -> u16 {
    let port = table.integer("port", 0..=65_535, problems);
    port.map_or(0, |n| n.into_inner() as u16)
}
