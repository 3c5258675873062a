//! The file of a process, and how much of what its tests send is in it.
//!
//! There are three interfaces in a file. [`OURS`] has the frames that our stacks have made, with whatever else has
//! passed them on since. [`ROUTED`] has packets whose bytes are from elsewhere, out of a port or a wire that breaks
//! frames, as a router sends them on: of those, no more than the header of IPv4 is its work. [`QUOTING`] has our own
//! messages with such bytes in them, which errors quote and raw sockets send. Frames from elsewhere that only bridges
//! have passed on are not recorded. Segments are cut and checksums filled in as a network card does it. The comment of
//! each frame is the name of the thread that made the interface: with Rust's test harness, the test's.
//!
//! Tests that send much would fill the disk: [`WHOLE`] and [`STRIDE`] bound what is recorded of each, [`MOST`] what is of
//! a process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::base::time::Instant;
use crate::packet::buf::Packet;
use crate::packet::gso;
use crate::packet::header::ether;
use crate::packet::meta::{Csum, Direction};
use crate::packet::pcapng::{CaptureInterface, FrameNote, PcapngWriter};

/// The folder in which each process that is tested makes a file.
const FOLDER: &str = "VNET_TEST_CAPTURE";
/// The interface of frames that our stacks have made.
const OURS: &str = "ours";
/// That of packets from elsewhere that our routers have sent on.
const ROUTED: &str = "routed";
/// That of messages of ours with bytes from elsewhere in them.
const QUOTING: &str = "quoting";
/// Packets of one test that are recorded, every one of them.
const WHOLE: u64 = 1_000;
/// Of those beyond, one in so many is.
const STRIDE: u64 = 500;
/// Bytes that one process writes at most, but for the frame that goes beyond.
const MOST: u64 = 8 << 20;

/// The file of this process, if there is to be one.
static FILE: LazyLock<Option<Mutex<Recording>>> = LazyLock::new(|| {
    let folder = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty())?;
    Some(Mutex::new(Recording::begin(Path::new(&folder))))
});

/// The test that this thread runs, if anything is to be recorded.
pub(super) fn test() -> Option<Arc<Test>> {
    let file = FILE.as_ref()?;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a thread");
    let mut recording = lock(file);
    if let Some(test) = recording.tests.get(name) {
        return Some(Arc::clone(test));
    }
    let test = Arc::new(Test {
        name: name.to_owned(),
        sent: AtomicU64::new(0),
    });
    recording.tests.insert(name.to_owned(), Arc::clone(&test));
    Some(test)
}

/// A test that failed elsewhere leaves a file that can still be written.
fn lock(file: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One test, whose frames are counted.
pub(super) struct Test {
    name: String,
    sent: AtomicU64,
}

impl Test {
    /// Records a frame that leaves at `at`, if it is one of those to be recorded.
    pub(super) fn see(&self, at: Instant, frame: &Packet) {
        let is_foreign = frame.meta.bridges.is_foreign();
        if is_foreign && frame.meta.bridges.count() > 0 {
            return;
        }
        let before = self.sent.fetch_add(1, Ordering::Relaxed);
        let is_chosen = before < WHOLE || before.is_multiple_of(STRIDE);
        if let (true, Some(file)) = (is_chosen, FILE.as_ref()) {
            lock(file).record(at, &self.name, frame);
        }
    }
}

struct Recording {
    file: File,
    encoder: PcapngWriter<Vec<u8>>,
    ours: CaptureInterface,
    routed: CaptureInterface,
    quoting: CaptureInterface,
    tests: BTreeMap<String, Arc<Test>>,
    written: u64,
}

const WRITABLE: &str = "VNET_TEST_CAPTURE is a folder in which files can be written";
const VECTOR: &str = "a vector takes everything";

impl Recording {
    /// A process may have the number of one that has ended; its frames then follow, in a section of their own.
    fn begin(folder: &Path) -> Recording {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("unknown"));
        let program = program.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{program}-{}.pcapng", std::process::id());
        let file = File::options()
            .create(true)
            .append(true)
            .open(folder.join(name))
            .expect(WRITABLE);
        let mut encoder = PcapngWriter::new(Vec::new()).expect(VECTOR);
        let ours = encoder.add_snapped_interface(OURS, 0).expect(VECTOR);
        let routed = encoder.add_snapped_interface(ROUTED, 0).expect(VECTOR);
        let quoting = encoder.add_snapped_interface(QUOTING, 0).expect(VECTOR);
        Recording {
            file,
            encoder,
            ours,
            routed,
            quoting,
            tests: BTreeMap::new(),
            written: 0,
        }
    }

    fn record(&mut self, at: Instant, test: &str, frame: &Packet) {
        if self.written > MOST {
            return;
        }
        // Nobody vouches for the checksum of what is only sent on.
        let interface = match (frame.meta.bridges.is_foreign(), frame.meta.csum) {
            (false, _) => self.ours,
            (true, Csum::Unknown) => self.routed,
            (true, Csum::Verified | Csum::Partial { .. }) => self.quoting,
        };
        let note = FrameNote {
            comment: Some(test),
            ..FrameNote::default()
        };
        let mut whole = frame.with_tags();
        let network = ether::network_offset(&mut whole);
        let encoder = &mut self.encoder;
        let mut write = |piece: &Packet| {
            encoder
                .write_noted(interface, at, Direction::Out, piece, note)
                .expect(VECTOR);
        };
        // What cannot be cut is shown as it is.
        if gso::segment(whole, network, &mut |piece| write(&piece)).is_err() {
            write(frame);
        }
        // A process that is killed leaves no half of a block.
        let blocks = std::mem::take(self.encoder.get_mut());
        self.written += blocks.len() as u64;
        self.file.write_all(&blocks).expect(WRITABLE);
    }
}
