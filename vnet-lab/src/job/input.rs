//! What a transfer sends: bytes generated from the seed, a file, or what comes out of a pipe.
//!
//! Of anything but a regular file with a length it is not known whether and when it yields something.
//! A thread of its own reads that, outside the system: meanwhile simulated time stands still, and so
//! the job's timeout bounds the time of the machine that is spent on waiting.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use std::time::Instant;

use toml::Spanned;
use vnet::Rng;

use super::kind::{Limit, Site};
use crate::file::source::Span;
use crate::stop::Stop;

const CHUNK: usize = 64 << 10;
/// Chunks that are read ahead.
const AHEAD: usize = 4;
/// How often a wait looks whether the run was interrupted, or the job has failed elsewhere.
const GLANCE: Duration = Duration::from_millis(50);

/// What a transfer sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// That many bytes, generated from the seed.
    Generated(u64),
    /// An existing file of any kind, to its end.
    File(Spanned<PathBuf>),
    /// The standard input, to its end; where that is said.
    Stdin(Span),
}

/// Opens what a job sends.
///
/// # Errors
/// It cannot be opened.
pub(super) fn open(content: &Content, site: &Site) -> io::Result<Box<dyn Read>> {
    let path = match content {
        Content::Generated(bytes) => return Ok(Box::new(Generated::new(site.seed, *bytes))),
        Content::File(path) => Some(path.get_ref().clone()),
        Content::Stdin(_) => None,
    };
    // Files of /proc are regular and have no length, whatever they hold.
    let has_length = |m: fs::Metadata| m.is_file() && m.len() > 0;
    if let Some(path) = &path
        && fs::metadata(path).is_ok_and(has_length)
    {
        return Ok(Box::new(File::open(path).map_err(|e| cannot(path, &e))?));
    }
    let (chunks, read) = sync_channel(AHEAD);
    let read_all = move || {
        let opened = match &path {
            None => Ok(Box::new(io::stdin()) as Box<dyn Read>),
            // Of a FIFO this waits for a writer.
            Some(path) => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
        };
        let path = path.as_deref().unwrap_or(Path::new("-"));
        let mut from = match opened {
            Ok(from) => from,
            Err(e) => return drop(chunks.send(Err(cannot(path, &e)))),
        };
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = match from.read(&mut chunk) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(cannot(path, &e)),
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(chunk)
                }
            };
            // The reader has gone, or learns that this is the end.
            let is_over = read.is_err();
            if chunks.send(read).is_err() || is_over {
                return;
            }
        }
    };
    let named = std::thread::Builder::new().name("input".to_owned());
    named.spawn(read_all)?;
    Ok(Box::new(Piped {
        chunks: read,
        chunk: io::Cursor::new(Vec::new()),
        patience: site.limit.timeout,
        limit: site.limit.clone(),
        stop: site.stop.clone(),
    }))
}

fn cannot(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {path:?}: {error}"))
}

/// Random content.
struct Generated {
    random: Rng,
    left: u64,
    /// Bytes of the last word that were not asked for yet.
    rest: [u8; 8],
    rest_len: usize,
}

impl Generated {
    fn new(seed: u64, bytes: u64) -> Generated {
        Generated {
            random: Rng::seeded(seed),
            left: bytes,
            rest: [0; 8],
            rest_len: 0,
        }
    }
}

impl Read for Generated {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        for bytes in buf[..len].chunks_mut(8) {
            let mut at = 0;
            while at < bytes.len() {
                if self.rest_len == 0 {
                    self.rest = self.random.u64().to_be_bytes();
                    self.rest_len = 8;
                }
                let n = self.rest_len.min(bytes.len() - at);
                let from = 8 - self.rest_len;
                bytes[at..at + n].copy_from_slice(&self.rest[from..from + n]);
                at += n;
                self.rest_len -= n;
            }
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// What the reading thread has read.
struct Piped {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
    /// How much longer it may be waited for, by the machine's clock.
    patience: Duration,
    limit: Limit,
    stop: Stop,
}

impl Read for Piped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.chunk.read(buf)?;
            if n > 0 {
                return Ok(n);
            }
            if self.stop.is_stopped() {
                return Err(io::Error::other("interrupted"));
            }
            if let Some(error) = self.limit.failure() {
                return Err(error);
            }
            let began = Instant::now();
            let next = self.chunks.recv_timeout(GLANCE.min(self.patience));
            self.patience = self.patience.saturating_sub(began.elapsed());
            match next {
                Ok(chunk) => self.chunk = io::Cursor::new(chunk?),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) if self.patience.is_zero() => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        "what is to be sent did not come within the job's timeout",
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_content_follows_from_the_seed_and_not_from_how_it_is_read() {
        let of = |seed, len: u64| {
            let mut all = Vec::new();
            let mut content = Generated::new(seed, len);
            content.read_to_end(&mut all).expect("it cannot fail");
            all
        };
        assert_eq!(of(1, 100_001), of(1, 100_001));
        assert_eq!(of(1, 100_001).len(), 100_001);
        assert_eq!(of(1, 100_001)[..100], of(1, 100));
        assert_ne!(of(1, 100), of(2, 100));
        assert!(of(1, 0).is_empty());
        let mut content = Generated::new(1, 1000);
        let mut odd = Vec::new();
        let mut buf = [0; 13];
        loop {
            match content.read(&mut buf).expect("it cannot fail") {
                0 => break,
                n => odd.extend_from_slice(&buf[..n]),
            }
        }
        assert_eq!(odd, of(1, 1000));
    }
}
