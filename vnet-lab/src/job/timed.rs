//! TCP between the two ends of a job: a call waits no longer than the job goes on.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use vnet::net::{TcpListener, TcpStream};

use super::ends::End;
use crate::file::source::Problems;
use crate::file::table::Table;

/// A stream that gives up when the job is over. Its errors end the job.
pub(super) struct TimedStream {
    stream: TcpStream,
    end: End,
}

impl TimedStream {
    /// Connects to `to`.
    pub(super) fn connect(to: SocketAddr, end: &End) -> io::Result<TimedStream> {
        let started = TcpStream::start_connect_in(&end.vnet, to);
        let stream = TimedStream {
            stream: started.map_err(|e| end.failed(&e))?,
            end: end.clone(),
        };
        end.wait(|task| stream.stream.poll_connect(task))?;
        Ok(stream)
    }

    /// Takes the first connection that comes.
    pub(super) fn accept(listener: &TcpListener, end: &End) -> io::Result<TimedStream> {
        let (stream, _) = end.wait(|task| listener.poll_accept(task))?;
        Ok(TimedStream {
            stream,
            end: end.clone(),
        })
    }

    /// Tells the other side that nothing more comes.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        let shut = self.stream.shutdown(std::net::Shutdown::Write);
        shut.map_err(|e| self.end.failed(&e))
    }
}

impl Read for TimedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.end.wait(|task| self.stream.poll_read(task, buf))
    }
}

impl Write for TimedStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.end.wait(|task| self.stream.poll_write(task, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for TimedStream {
    /// What a job that has failed still had to send is of no use, and in the way of the next one.
    fn drop(&mut self) {
        if self.end.limit.failure().is_some() {
            // It fails when the vnet is gone, and the connection with it.
            let _ = self.stream.set_linger(Some(Duration::ZERO));
        }
    }
}

/// The port that a job over TCP goes to; 0 is any.
pub(super) fn port(table: &mut Table<'_>, problems: &mut Problems<'_>) -> u16 {
    let port = table.integer("port", 0..=65_535, problems);
    port.map_or(0, |n| n.into_inner() as u16)
}
