//! Bytes that can be made anywhere and recognised by digest.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Bytes handed to one call.
const CHUNK: usize = 64 * 1024;

/// Bytes that a digest was taken of, and the digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How many bytes.
    pub len: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes ", self.len)?;
        self.sha256.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The first `len` bytes of the endless stream number `seed`.
#[derive(Clone, Debug)]
pub struct Source {
    seed: u64,
    position: u64,
    len: u64,
}

impl Source {
    /// A source at its start.
    pub fn new(seed: u64, len: u64) -> Source {
        Source {
            seed,
            position: 0,
            len,
        }
    }

    /// Bytes not yet consumed.
    pub fn left(&self) -> u64 {
        self.len - self.position
    }

    /// Fills the front of `buf` with the next bytes, without consuming them, and returns how many.
    pub fn peek(&self, buf: &mut [u8]) -> usize {
        let n = self.left().min(buf.len() as u64) as usize;
        let skip = (self.position % 8) as usize;
        let mut word = self.position / 8;
        let (first, rest) = buf[..n].split_at_mut(n.min((8 - skip) % 8));
        if !first.is_empty() {
            first.copy_from_slice(&self.word(word)[skip..skip + first.len()]);
            word += 1;
        }
        for (out, word) in rest.chunks_mut(8).zip(word..) {
            out.copy_from_slice(&self.word(word)[..out.len()]);
        }
        n
    }

    /// Consumes `n` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn consume(&mut self, n: usize) {
        assert!(n as u64 <= self.left(), "consuming more than there is");
        self.position += n as u64;
    }

    /// Consumes everything and says what it was.
    pub fn summary(mut self) -> Summary {
        let mut sink = Sink::default();
        let mut buf = [0; 16 * 1024];
        loop {
            let n = self.peek(&mut buf);
            if n == 0 {
                return sink.summary();
            }
            sink.take(&buf[..n]);
            self.consume(n);
        }
    }

    /// Writes everything that is left.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(mut self, to: &mut impl Write) -> io::Result<()> {
        let mut buf = vec![0; CHUNK];
        while self.left() > 0 {
            let n = self.peek(&mut buf);
            to.write_all(&buf[..n])?;
            self.consume(n);
        }
        Ok(())
    }

    /// Eight bytes of the stream (splitmix64).
    fn word(&self, index: u64) -> [u8; 8] {
        let mut z = self
            .seed
            .wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

/// Takes a digest of what arrives.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    sha256: Sha256,
    len: u64,
}

impl Sink {
    /// Takes all that comes until the end, and says what it was.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_from(from: &mut impl Read) -> io::Result<Summary> {
        let mut sink = Sink::default();
        let mut buf = vec![0; CHUNK];
        loop {
            match uninterrupted(|| from.read(&mut buf))? {
                0 => return Ok(sink.summary()),
                n => sink.take(&buf[..n]),
            }
        }
    }

    /// Takes these bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// What has arrived.
    pub fn summary(self) -> Summary {
        Summary {
            len: self.len,
            sha256: self.sha256.finalize().into(),
        }
    }
}

/// Calls again what a signal has interrupted, which it may where the machine is suspended: a read with a
/// timeout is not started again by the kernel.
///
/// # Errors
/// Any other of `call`.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_any_size_give_the_same_bytes() {
        let whole = Source::new(7, 1000);
        let mut expected = [0; 1000];
        assert_eq!(whole.peek(&mut expected), 1000);
        for step in [1, 3, 7, 8, 9, 64, 999] {
            let mut source = Source::new(7, 1000);
            let (mut got, mut buf) = (Vec::new(), vec![0; step]);
            while source.left() > 0 {
                let n = source.peek(&mut buf);
                got.extend_from_slice(&buf[..n]);
                source.consume(n);
            }
            assert_eq!(got, expected, "steps of {step}");
        }
    }

    #[test]
    fn another_seed_or_length_has_another_summary() {
        let summary = Source::new(1, 100).summary();
        assert_eq!(summary, Source::new(1, 100).summary());
        assert_ne!(summary, Source::new(2, 100).summary());
        assert_ne!(summary, Source::new(1, 101).summary());
    }
}
