//! A file over TCP. The sender sends until its source ends, of whatever length that is; the far end
//! computes the SHA-256 of what it receives, and answers with that and the length.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use sha2::{Digest, Sha256};
use vnet::net::TcpListener;
use vnet::time::{Duration, Instant};

use super::timed::TimedStream;
use super::{Limit, Measured, Site, Verdict, input, joined};
use crate::plan::Source;
use crate::report::Figures;

const CHUNK: usize = 64 << 10;
const DIGEST_LEN: usize = 32;

pub(super) fn run(
    site: &Site,
    to: (Ipv4Addr, u16),
    source: &Source,
    limit: &Limit,
    measured: &Measured,
) -> io::Result<Verdict> {
    let mut content = input::open(source, site, limit)?;
    let listener = TcpListener::bind_in(&site.to, SocketAddr::from(to))?;
    let to = listener.local_addr()?;
    let began = site.system.now();
    let (receiver_limit, receiver_measured) = (limit.clone(), measured.clone());
    let receiver = site
        .to
        .spawn(move || receive(&listener, began, &receiver_limit, &receiver_measured))?;
    let sent = send(to, &mut content, limit);
    let took = site.system.now() - began;
    let received = joined(receiver);
    // A source that ends with an error is why nothing more came; else what the receiver says tells
    // more than that its answer did not come.
    let (sent, answer) = match sent {
        Err(Failed::Source(e)) => return Err(e),
        Err(Failed::Connection(e)) => return Err(received.err().unwrap_or(e)),
        Ok(both) => both,
    };
    let received = received?;
    measured.set(figures(&received, took, hex(&received.digest)));

    let failed = if received.bytes != sent.bytes {
        Some(format!(
            "{} of {} bytes arrived",
            received.bytes, sent.bytes
        ))
    } else if received != sent || answer != sent {
        Some(format!(
            "digests differ: sent {}, received {}",
            hex(&sent.digest),
            hex(&received.digest)
        ))
    } else {
        None
    };
    Ok(Verdict::of(failed))
}

fn figures(content: &Content, took: Duration, sha256: String) -> Figures {
    Figures::Transfer {
        bytes: content.bytes,
        took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        sha256,
    }
}

/// How long something was, and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    digest: [u8; DIGEST_LEN],
}

/// Why sending ended before its time.
enum Failed {
    /// What is sent could not be read.
    Source(io::Error),
    /// It could not be sent, or there was no answer.
    Connection(io::Error),
}

/// Sends the content to its end; returns what it was, and what the far end says it was.
fn send(
    to: SocketAddr,
    content: &mut impl Read,
    limit: &Limit,
) -> Result<(Content, Content), Failed> {
    let mut stream = TimedStream::connect(to, limit).map_err(Failed::Connection)?;
    let mut sent = Digester::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = content.read(&mut chunk).map_err(Failed::Source)?;
        if n == 0 {
            break;
        }
        sent.update(&chunk[..n]);
        stream.write_all(&chunk[..n]).map_err(Failed::Connection)?;
    }
    let answer = hear(&mut stream).map_err(Failed::Connection)?;
    Ok((sent.finish(), answer))
}

/// Says that all is sent, and hears what arrived.
fn hear(stream: &mut TimedStream) -> io::Result<Content> {
    stream.finish_writing()?;
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    let mut digest = [0; DIGEST_LEN];
    stream.read_exact(&mut digest)?;
    Ok(Content {
        bytes: u64::from_be_bytes(bytes),
        digest,
    })
}

/// Takes what comes until its end, and answers with what it was.
fn receive(
    listener: &TcpListener,
    began: Instant,
    limit: &Limit,
    measured: &Measured,
) -> io::Result<Content> {
    let mut stream = TimedStream::accept(listener, limit)?;
    let mut received = Digester::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        received.update(&chunk[..n]);
        let so_far = Content {
            bytes: received.bytes,
            digest: [0; DIGEST_LEN],
        };
        let took = limit.system.now() - began;
        measured.set(figures(&so_far, took, String::new()));
    }
    let received = received.finish();
    stream.write_all(&received.bytes.to_be_bytes())?;
    stream.write_all(&received.digest)?;
    stream.finish_writing()?;
    Ok(received)
}

/// Computes what passes.
#[derive(Default)]
struct Digester {
    bytes: u64,
    hasher: Sha256,
}

impl Digester {
    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    fn finish(self) -> Content {
        Content {
            bytes: self.bytes,
            digest: self.hasher.finalize().into(),
        }
    }
}

fn hex(digest: &[u8; DIGEST_LEN]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_whole() {
        let of = |parts: &[&[u8]]| {
            let mut digester = Digester::default();
            parts.iter().for_each(|part| digester.update(part));
            digester.finish()
        };
        assert_eq!(of(&[b"ab", b"", b"c"]), of(&[b"abc"]));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&of(&[b"abc"]).digest), abc);
        assert_eq!(of(&[b"abc"]).bytes, 3);
    }
}
