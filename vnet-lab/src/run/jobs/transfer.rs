//! A file over TCP. The sender says how long it is and what its SHA-256 is, then sends it; the
//! far end stores it, computes the digest of what it stored, and answers with that.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr};

use sha2::{Digest, Sha256};
use vnet::base::rng::Rng;
use vnet::net::TcpListener;

use super::timed::TimedStream;
use super::{Limit, Outcome, Site, joined};
use crate::plan::Source;
use crate::report::Figures;

const CHUNK: usize = 64 << 10;
const DIGEST_LEN: usize = 32;

type Sha256Digest = [u8; DIGEST_LEN];

pub(super) fn run(
    site: &Site,
    to: (Ipv4Addr, u16),
    source: &Source,
    limit: &Limit,
) -> io::Result<Outcome> {
    let mut file = match source {
        Source::File(path) => File::open(path)?,
        Source::Generated(bytes) => generate(site.seed, *bytes)?,
    };
    let len = file.metadata()?.len();
    let ours = digest(&mut file, len)?;

    let listener = TcpListener::bind_in(&site.to, SocketAddr::from(to))?;
    let to = listener.local_addr()?;
    let receiver_limit = limit.clone();
    let receiver = site.to.spawn(move || receive(&listener, &receiver_limit))?;
    let began = site.system.now();
    let answer = send(to, &mut file, len, ours, limit);
    let took = site.system.now() - began;
    // What the receiver says tells more than that its answer did not come.
    let received = joined(receiver)?;
    let answer = answer?;

    let failed = if received.bytes != len {
        Some(format!("{} of {len} bytes arrived", received.bytes))
    } else if received.announced != received.digest || answer != ours {
        Some(format!(
            "digests differ: sent {}, received {}",
            hex(&ours),
            hex(&received.digest)
        ))
    } else {
        None
    };
    Ok(Outcome {
        figures: Figures::Transfer {
            bytes: received.bytes,
            took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            sha256: hex(&received.digest),
        },
        failed,
    })
}

/// Sends the file and returns the far end's answer.
fn send(
    to: SocketAddr,
    file: &mut File,
    len: u64,
    digest: Sha256Digest,
    limit: &Limit,
) -> io::Result<Sha256Digest> {
    let mut stream = TimedStream::connect(to, limit)?;
    stream.write_all(&len.to_be_bytes())?;
    stream.write_all(&digest)?;
    file.seek(SeekFrom::Start(0))?;
    copy(&mut file.take(len), &mut stream)?;
    stream.finish_writing()?;
    let mut answer = [0; DIGEST_LEN];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// What arrived.
struct Received {
    bytes: u64,
    announced: Sha256Digest,
    digest: Sha256Digest,
}

/// Takes one file and answers with the digest of what it stored.
fn receive(listener: &TcpListener, limit: &Limit) -> io::Result<Received> {
    let mut stream = TimedStream::accept(listener, limit)?;
    let mut len = [0; 8];
    stream.read_exact(&mut len)?;
    let mut announced = [0; DIGEST_LEN];
    stream.read_exact(&mut announced)?;
    let mut stored = tempfile::tempfile()?;
    let mut content = (&mut stream).take(u64::from_be_bytes(len));
    let bytes = copy(&mut content, &mut stored)?;
    let digest = digest(&mut stored, bytes)?;
    stream.write_all(&digest)?;
    stream.finish_writing()?;
    Ok(Received {
        bytes,
        announced,
        digest,
    })
}

/// A temporary file of random content.
fn generate(seed: u64, bytes: u64) -> io::Result<File> {
    let mut random = Rng::seeded(seed);
    let mut file = tempfile::tempfile()?;
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&random.u64().to_be_bytes());
        }
        let now = left.min(CHUNK as u64);
        file.write_all(&chunk[..now as usize])?;
        left -= now;
    }
    Ok(file)
}

/// The SHA-256 of a file's first `len` bytes.
fn digest(file: &mut File, len: u64) -> io::Result<Sha256Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Hasher(Sha256::new());
    copy(&mut file.take(len), &mut hasher)?;
    Ok(hasher.0.finalize().into())
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies in large chunks until the end, and returns how many bytes there were.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok(bytes);
        }
        to.write_all(&chunk[..n])?;
        bytes += n as u64;
    }
}

fn hex(digest: &Sha256Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_content_follows_from_the_seed() {
        let of = |seed, len| digest(&mut generate(seed, len).expect("a file"), len).expect("read");
        assert_eq!(of(1, 100_001), of(1, 100_001));
        assert_ne!(of(1, 100_001), of(2, 100_001));
        assert_ne!(of(1, 100_001), of(1, 100_000));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&of(1, 0)), empty);
    }
}
