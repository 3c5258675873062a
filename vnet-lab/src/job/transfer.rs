//! A file over TCP. The sender sends until its source ends, of whatever length that is; the far end
//! computes the SHA-256 of what it receives, and answers with that and the length.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::Spanned;
use vnet::net::TcpListener;
use vnet::time::Instant;

use super::ends::{End, both};
use super::input::{self, Content};
use super::kind::{Facts, Kind, Measured, Site, Verdict, Way};
use super::timed::{self, TimedStream};
use crate::file::source::Problems;
use crate::file::table::Table;
use crate::file::units;
use crate::quantity::carried;

const CHUNK: usize = 64 << 10;
const DIGEST_LEN: usize = 32;

/// A file over TCP, its SHA-256 compared at the far end.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// What is sent.
    pub content: Content,
    /// The port it is sent to; 0 is any.
    pub port: u16,
}

/// What a transfer measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Bytes of content that arrived.
    pub bytes: u64,
    /// From the first connection request to the far end's word that all is well.
    pub took_ns: u64,
    /// The content's digest as computed at the far end; empty when it did not get that far.
    pub sha256: String,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&carried(self.bytes, self.took_ns))?;
        match self.sha256.get(..8) {
            Some(start) => write!(f, ", sha256 {start}…"),
            None if self.bytes == 0 => Ok(()),
            None => write!(f, ", no digest"),
        }
    }
}

/// The name of standard input.
const STDIN: &str = "-";

impl Transfer {
    pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Transfer> {
        let size = table.read("size", units::size, problems);
        let file = table.string("file", problems);
        let port = timed::port(table, problems);
        let content = match (table.key_span("size"), table.key_span("file")) {
            (Some(_), Some(span)) => {
                problems.push(span, "expected either `size` or `file`, found both");
                return None;
            }
            (None, None) => {
                table.missing("size", "a `size` such as \"1MiB\", or a `file`", problems);
                return None;
            }
            _ => match (size, file) {
                (Some(size), _) => Content::Generated(size.into_inner()),
                (None, Some(file)) if *file.get_ref() == STDIN => Content::Stdin(file.span()),
                (None, Some(file)) => {
                    let span = file.span();
                    Content::File(Spanned::new(span, PathBuf::from(file.into_inner())))
                }
                (None, None) => return None,
            },
        };
        Some(Transfer { content, port })
    }

    pub(super) fn planned(&self, here: &Path) -> Transfer {
        let content = match &self.content {
            Content::File(path) => {
                Content::File(Spanned::new(path.span(), here.join(path.get_ref())))
            }
            other => other.clone(),
        };
        Transfer {
            content,
            port: self.port,
        }
    }
}

impl Facts for Transfer {
    fn warning(&self, timeout: Duration, _: &dyn Way) -> Option<String> {
        let Content::File(path) = &self.content else {
            return None;
        };
        let is_device = fs::metadata(path.get_ref()).is_ok_and(|m| m.file_type().is_char_device());
        is_device.then(|| {
            format!("a device may never end: if so, it fails at its timeout of {timeout:?}")
        })
    }
}

impl Kind for Transfer {
    type Figures = Figures;

    fn nothing(&self) -> Figures {
        Figures {
            bytes: 0,
            took_ns: 0,
            sha256: String::new(),
        }
    }

    fn run(&self, site: &Site, measured: &Measured<Figures>) -> io::Result<Verdict> {
        let mut content = input::open(&self.content, site)?;
        let listener = TcpListener::bind_in(&site.to, SocketAddr::from((site.address, self.port)))?;
        let to = listener.local_addr()?;
        let began = site.system.now();
        let noted = measured.clone();
        let send = |end: &End| {
            let (sent, answer) = send(to, &mut content, end)?;
            Ok((sent, answer, site.system.now() - began))
        };
        let receive = move |end: &End| receive(&listener, began, end, &noted);
        let ((sent, answer, took), received) = both(site, send, receive)?;
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
}

fn figures(content: &Digested, took: Duration, sha256: String) -> Figures {
    Figures {
        bytes: content.bytes,
        took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        sha256,
    }
}

/// How long something was, and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digested {
    bytes: u64,
    digest: [u8; DIGEST_LEN],
}

/// Sends the content to its end; returns what it was, and what the far end says it was.
fn send(to: SocketAddr, content: &mut impl Read, end: &End) -> io::Result<(Digested, Digested)> {
    let mut stream = TimedStream::connect(to, end)?;
    let mut sent = Digester::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        // It ends the job while there is a stream: its end is not all that there is to send.
        let n = content.read(&mut chunk).map_err(|e| end.limit.failed(e))?;
        if n == 0 {
            break;
        }
        sent.update(&chunk[..n]);
        stream.write_all(&chunk[..n])?;
    }
    let answer = hear(&mut stream)?;
    Ok((sent.finish(), answer))
}

/// Says that all is sent, and hears what arrived.
fn hear(stream: &mut TimedStream) -> io::Result<Digested> {
    stream.finish_writing()?;
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    let mut digest = [0; DIGEST_LEN];
    stream.read_exact(&mut digest)?;
    Ok(Digested {
        bytes: u64::from_be_bytes(bytes),
        digest,
    })
}

/// Takes what comes until its end, and answers with what it was.
fn receive(
    listener: &TcpListener,
    began: Instant,
    end: &End,
    measured: &Measured<Figures>,
) -> io::Result<Digested> {
    let mut stream = TimedStream::accept(listener, end)?;
    let mut received = Digester::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        received.update(&chunk[..n]);
        let so_far = Digested {
            bytes: received.bytes,
            digest: [0; DIGEST_LEN],
        };
        let took = end.limit.now() - began;
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

    fn finish(self) -> Digested {
        Digested {
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
