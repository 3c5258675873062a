//! The output of a recorder. Bytes are written by the thread that captures, or by a separate thread behind a queue of
//! limited size. With the latter, a slow reader never makes a vnet wait; frames for which there is no room are missed and
//! counted.

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};

/// Opens the files of a capture. Closures implement it, such as
/// `|_slot| Ok(Box::new(file) as Box<dyn Write + Send>)`.
pub trait CaptureSink: Send {
    /// Opens the file with this number, starting with 0, and truncates it if it exists. A capture with a limited number
    /// of files returns to 0 after the last one. The previous file has been flushed and dropped.
    ///
    /// # Errors
    /// Those of the host; the capture ends.
    fn open(&mut self, slot: u32) -> io::Result<Box<dyn Write + Send>>;
}

impl<F> CaptureSink for F
where
    F: FnMut(u32) -> io::Result<Box<dyn Write + Send>> + Send,
{
    fn open(&mut self, slot: u32) -> io::Result<Box<dyn Write + Send>> {
        self(slot)
    }
}

/// Which thread writes a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writing {
    /// The thread that sends or receives the frame, at once: no frame is missed, and equal runs give equal files. A
    /// writer that blocks also blocks the vnet.
    #[default]
    AtOnce,
    /// A separate thread.
    Queued {
        /// The size of the queue in bytes; a frame for which there is no room is missed and counted.
        max_bytes: usize,
    },
}

/// When written data is flushed, so that readers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// At the end of a file, and when the writer's buffer is full.
    #[default]
    WhenFull,
    /// After each frame, for live readers.
    EachFrame,
}

/// What one frame adds to a capture; it is written whole or not at all.
pub(super) struct Piece {
    /// What the file before this one ends with, and the number of the one to open.
    pub(super) next: Option<(Vec<u8>, u32)>,
    pub(super) bytes: Vec<u8>,
}

impl Piece {
    fn len(&self) -> usize {
        self.bytes.len() + self.next.as_ref().map_or(0, |(tail, _)| tail.len())
    }
}

/// Whether a piece was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    NoRoom,
}

pub(super) enum Output {
    AtOnce(Files),
    Queued(Queued),
}

impl Output {
    pub(super) fn new(
        sink: Box<dyn CaptureSink>,
        writing: Writing,
        flush: Flush,
        first: Vec<u8>,
    ) -> io::Result<Output> {
        let mut files = Files {
            file: Box::new(io::sink()),
            sink,
            flush,
        };
        match writing {
            Writing::AtOnce => {
                files.start(first)?;
                Ok(Output::AtOnce(files))
            }
            Writing::Queued { max_bytes } => {
                Queued::start(files, max_bytes, first).map(Output::Queued)
            }
        }
    }

    /// # Errors
    /// What went wrong with this piece or an earlier one.
    pub(super) fn offer(&mut self, piece: Piece) -> io::Result<Offered> {
        match self {
            Output::AtOnce(files) => unharmed(|| files.write(piece)).map(|()| Offered::Taken),
            Output::Queued(queued) => queued.offer(piece),
        }
    }

    /// Writes `tail` and what waits, and lets go of the file.
    pub(super) fn finish(self, tail: Vec<u8>, patience: Duration) -> io::Result<()> {
        match self {
            Output::AtOnce(files) => unharmed(|| files.finish(&tail)),
            Output::Queued(queued) => queued.finish(tail, patience),
        }
    }
}

/// Runs a writer, which is the program's, where a vnet is at work: its panic is an error of the
/// capture, and not the end of a frame that is half processed.
fn unharmed(write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let panicked = |_| Err(io::Error::other("the capture's writer panicked"));
    panic::catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(panicked)
}

pub(super) struct Files {
    file: Box<dyn Write + Send>,
    sink: Box<dyn CaptureSink>,
    flush: Flush,
}

impl Files {
    fn start(&mut self, first: Vec<u8>) -> io::Result<()> {
        self.file = self.sink.open(0)?;
        self.write(Piece {
            next: None,
            bytes: first,
        })
    }

    fn write(&mut self, piece: Piece) -> io::Result<()> {
        if let Some((tail, slot)) = piece.next {
            self.file.write_all(&tail)?;
            self.file.flush()?;
            // The old file is closed before a new one is opened: it may be the same one.
            self.file = Box::new(io::sink());
            self.file = self.sink.open(slot)?;
        }
        self.file.write_all(&piece.bytes)?;
        match self.flush {
            Flush::EachFrame => self.file.flush(),
            Flush::WhenFull => Ok(()),
        }
    }

    fn finish(mut self, tail: &[u8]) -> io::Result<()> {
        self.file.write_all(tail)?;
        self.file.flush()
    }
}

/// A thread that writes, and the queue to it.
pub(super) struct Queued {
    pieces: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    max_bytes: usize,
    done: Receiver<io::Result<()>>,
    failed: bool,
}

enum Job {
    Write(Piece),
    Finish(Vec<u8>),
}

impl Queued {
    fn start(mut files: Files, max_bytes: usize, first: Vec<u8>) -> io::Result<Queued> {
        let (pieces, jobs) = channel::unbounded();
        let (say, done) = channel::bounded(1);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let work = move || {
            let result = files.start(first).and_then(|()| run(files, &jobs, &left));
            // Whoever captured may have stopped listening.
            let _ = say.send(result);
        };
        thread::Builder::new()
            .name("vnet-capture".to_owned())
            .spawn(work)?;
        Ok(Queued {
            pieces,
            waiting,
            max_bytes,
            done,
            failed: false,
        })
    }

    fn offer(&mut self, piece: Piece) -> io::Result<Offered> {
        let len = piece.len();
        // Only this side adds, so what is there can only shrink meanwhile.
        if self.waiting.load(Ordering::Acquire) + len > self.max_bytes {
            return match self.done.try_recv() {
                Ok(result) => Err(self.ended(Some(result))),
                Err(TryRecvError::Disconnected) => Err(self.ended(None)),
                Err(TryRecvError::Empty) => Ok(Offered::NoRoom),
            };
        }
        self.waiting.fetch_add(len, Ordering::AcqRel);
        match self.pieces.send(Job::Write(piece)) {
            Ok(()) => Ok(Offered::Taken),
            Err(_) => {
                // It has nothing to do any more but to leave its result, or to let go of where it would have.
                let left = self.done.recv().ok();
                Err(self.ended(left))
            }
        }
    }

    /// Why the thread is gone, which has left this.
    fn ended(&mut self, left: Option<io::Result<()>>) -> io::Error {
        self.failed = true;
        match left {
            Some(Err(error)) => error,
            Some(Ok(())) => io::Error::other("the capture's thread ended early"),
            None => panicked(),
        }
    }

    fn finish(self, tail: Vec<u8>, patience: Duration) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        // If the thread is gone it has left a result.
        let _ = self.pieces.send(Job::Finish(tail));
        match self.done.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the reader of the capture takes nothing",
            )),
            Err(RecvTimeoutError::Disconnected) => Err(panicked()),
        }
    }
}

fn panicked() -> io::Error {
    io::Error::other("the capture's thread panicked")
}

fn run(mut files: Files, jobs: &Receiver<Job>, waiting: &AtomicUsize) -> io::Result<()> {
    for job in jobs {
        match job {
            Job::Write(piece) => {
                let len = piece.len();
                files.write(piece)?;
                waiting.fetch_sub(len, Ordering::AcqRel);
            }
            Job::Finish(tail) => return files.finish(&tail),
        }
    }
    files.finish(&[])
}
