//! A capture of one or several interfaces in the pcapng format.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::FrameTap;
use super::output::{CaptureSink, Flush, Offered, Output, Piece, Writing};
use crate::base::lock::{Mutex, Rank};
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::header::ether;
use crate::packet::pcapng::{CaptureInterface, FrameNote, InterfaceStatistics, PcapngWriter};
use crate::packet::{Direction, Packet, gso};

/// The options of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The maximum number of bytes kept of each frame; `None` keeps all.
    pub snaplen: Option<u32>,
    /// How segments that are larger than the MTU are recorded.
    pub large: LargeSegments,
    /// The direction of the frames that are recorded, from the interface's point of view; `None` for both.
    pub direction: Option<Direction>,
    /// Limits on the files; `None` means one file of any size.
    pub rotate: Option<Rotate>,
    /// Which thread writes.
    pub writing: Writing,
    /// When the output is flushed.
    pub flush: Flush,
}

/// How a capture records a TCP segment that is larger than the MTU and has not been segmented yet (segmentation
/// offload).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeSegments {
    /// As the one packet that it is inside the process.
    #[default]
    Whole,
    /// As the frames into which a device would segment it, with their checksums.
    Cut,
}

/// Limits on the files of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// The maximum size of a file in bytes; at least [`Rotate::MIN_BYTES`].
    pub max_bytes: u64,
    /// The maximum number of files; after the last one, the first is overwritten. Zero means no limit.
    pub max_files: u32,
}

impl Rotate {
    /// The smallest limit on the size of a file, in bytes.
    pub const MIN_BYTES: u64 = 4096;
}

/// How long [`Recorder::finish`] waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a capture cannot be created or continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The limit on a file's size is too small.
    #[error(
        "a capture file of {0} bytes is too small (at least {least})",
        least = Rotate::MIN_BYTES
    )]
    FileTooSmall(u64),
    /// A snap length of zero keeps nothing.
    #[error("a snap length of 0 keeps nothing of a frame")]
    NoSnaplen,
    /// The interfaces alone take more than half of a file.
    #[error("too many interfaces for capture files of {0} bytes")]
    TooManyInterfaces(u64),
    /// The file cannot be opened or written.
    #[error("cannot write the capture")]
    Io(#[from] io::Error),
}

/// What a capture has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureReport {
    /// Frames written.
    pub frames: u64,
    /// Frames that were missed because there was no room in the queue, or after the writer had failed.
    pub missed: u64,
    /// Files started.
    pub files: u64,
}

/// Writes the frames of any number of interfaces as pcapng.
///
/// A dropped frame has a comment with the reason: `dropped by the link: link-loss`, or `dropped by the vnet:
/// no-socket`, with the name of its [`DropReason`].
///
/// [`Recorder::finish`] ends the capture and returns a report. If the recorder is dropped instead, the capture
/// continues until its last tap is dropped, and there is no report.
///
/// ```
/// use std::io::Write;
/// use vnet::capture::{CaptureOptions, Recorder};
/// use vnet::System;
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// let nowhere = |_slot| Ok(Box::new(std::io::sink()) as Box<dyn Write + Send>);
/// let recorder = Recorder::new(nowhere, CaptureOptions::default())?;
/// let capture = a.start_capture("eth0", recorder.tap("a:eth0")?)?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?; // is announced
/// drop(capture); // ends here
/// assert_eq!(recorder.finish()?.frames, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// Starts a capture and its first file.
    ///
    /// # Errors
    /// [`CaptureError`]: the options are invalid, or the file cannot be written. With [`Writing::Queued`], an error of
    /// the file is reported later.
    pub fn new(
        sink: impl CaptureSink + 'static,
        options: CaptureOptions,
    ) -> Result<Recorder, CaptureError> {
        if let Some(Rotate { max_bytes, .. }) = options.rotate
            && max_bytes < Rotate::MIN_BYTES
        {
            return Err(CaptureError::FileTooSmall(max_bytes));
        }
        if options.snaplen == Some(0) {
            return Err(CaptureError::NoSnaplen);
        }
        let mut encoder = PcapngWriter::new(Vec::new())?;
        let first = std::mem::take(encoder.get_mut());
        let in_file = first.len() as u64;
        let output = Output::new(Box::new(sink), options.writing, options.flush, first)?;
        Ok(Recorder(Arc::new(Mutex::new(
            Rank::Capture,
            Recording {
                options,
                encoder,
                in_file,
                interfaces: Vec::new(),
                described: 0,
                undescribed: Vec::new(),
                pending: VecDeque::new(),
                slot: 0,
                last: Instant::ZERO,
                output: Some(output),
                failed: None,
                report: CaptureReport {
                    files: 1,
                    ..CaptureReport::default()
                },
            },
        ))))
    }

    /// Adds an interface under the name that the capture shows for it. Pass the returned tap to `Vnet::start_capture` or
    /// `Vnet::capture`, for one interface only.
    ///
    /// # Errors
    /// [`CaptureError::TooManyInterfaces`], when the files are bounded.
    pub fn tap(&self, name: &str) -> Result<Arc<dyn FrameTap>, CaptureError> {
        let number = self.0.lock().add_interface(name)?;
        Ok(Arc::new(RecorderTap {
            recording: Arc::clone(&self.0),
            number,
            name: name.to_owned(),
        }))
    }

    /// What has been captured so far.
    pub fn report(&self) -> CaptureReport {
        self.0.lock().report
    }

    /// Ends the capture: writes the queued frames and the statistics of the interfaces, and closes the file. Remaining
    /// taps write nothing more. If a reader takes nothing, this waits for it for a few seconds only.
    ///
    /// # Errors
    /// The first error of the files.
    pub fn finish(self) -> io::Result<CaptureReport> {
        let (output, tail, failed, report) = {
            let mut recording = self.0.lock();
            recording.settle_all();
            let tail = recording.last_words();
            let output = recording.output.take();
            (output, tail, recording.failed.take(), recording.report)
        };
        match (failed, output) {
            (Some(error), _) => Err(error),
            (None, Some(output)) => output.finish(tail, PATIENCE).map(|()| report),
            (None, None) => Ok(report),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.settle_all();
        let tail = self.last_words();
        if let Some(output) = self.output.take() {
            // Nobody is left to be told.
            let _ = output.finish(tail, Duration::ZERO);
        }
    }
}

struct RecorderTap {
    recording: Arc<Mutex<Recording>>,
    number: usize,
    name: String,
}

impl FrameTap for RecorderTap {
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet) {
        let mut recording = self.recording.lock();
        recording.see(self.number, at, direction, packet, None);
    }

    fn lost(&self, at: Instant, packet: &Packet, reason: DropReason) {
        let mut recording = self.recording.lock();
        recording.see(self.number, at, Direction::Out, packet, Some(reason));
    }

    fn taken_in(&self, _at: Instant, refused: Option<DropReason>) {
        self.recording.lock().settle(self.number, refused);
    }

    fn describe(&self) -> String {
        format!("pcapng of {}", self.name)
    }
}

impl Drop for RecorderTap {
    /// Nobody will say what becomes of its last frame any more, and others wait behind that.
    fn drop(&mut self) {
        self.recording.lock().settle(self.number, None);
    }
}

struct Interface {
    name: String,
    handle: CaptureInterface,
    seen: u64,
    missed: u64,
    missed_since: u64,
}

/// A frame that is to be written when all before it are.
struct Pending {
    interface: usize,
    at: Instant,
    direction: Direction,
    packet: Packet,
    dropped: Option<DropReason>,
    fate: Fate,
}

/// Whether it is known what became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Settled,
}

struct Recording {
    options: CaptureOptions,
    encoder: PcapngWriter<Vec<u8>>,
    /// Bytes that the current file has.
    in_file: u64,
    interfaces: Vec<Interface>,
    /// How many of them the current file describes.
    described: usize,
    /// The description blocks of the others, which go before the next frame.
    undescribed: Vec<u8>,
    /// Frames that came in and are being looked at, and those that were seen after them. An
    /// interface has one open frame at most, and it is settled before its vnet's lock is released.
    pending: VecDeque<Pending>,
    slot: u32,
    last: Instant,
    /// `None` after the end.
    output: Option<Output>,
    failed: Option<io::Error>,
    report: CaptureReport,
}

impl Recording {
    fn add_interface(&mut self, name: &str) -> Result<usize, CaptureError> {
        if let Some(Rotate { max_bytes, .. }) = self.options.rotate {
            let named = self.interfaces.iter().map(|i| i.name.len());
            let names = named.chain([name.len()]);
            let headers: u64 = names
                .map(|n| n as u64 + DESCRIPTION_LEN + STATISTICS_LEN)
                .sum();
            if headers > max_bytes / 2 {
                return Err(CaptureError::TooManyInterfaces(max_bytes));
            }
        }
        let snaplen = self.kept().unwrap_or(0);
        let handle = self.encoder.add_snapped_interface(name, snaplen)?;
        self.undescribed.append(self.encoder.get_mut());
        self.interfaces.push(Interface {
            name: name.to_owned(),
            handle,
            seen: 0,
            missed: 0,
            missed_since: 0,
        });
        Ok(self.interfaces.len() - 1)
    }

    /// Bytes of a frame that are kept: no more than what fits into a file of its own.
    fn kept(&self) -> Option<u32> {
        let room = |r: Rotate| u32::try_from(r.max_bytes / 4).unwrap_or(u32::MAX);
        match (self.options.snaplen, self.options.rotate.map(room)) {
            (Some(snaplen), Some(room)) => Some(snaplen.min(room)),
            (snaplen, room) => snaplen.or(room),
        }
    }

    fn see(
        &mut self,
        interface: usize,
        at: Instant,
        direction: Direction,
        packet: &Packet,
        dropped: Option<DropReason>,
    ) {
        let wanted = self.options.direction.is_none_or(|only| only == direction);
        if !wanted || self.output.is_none() {
            return;
        }
        let fate = match direction {
            // If the one before is still open, what was to settle it has panicked.
            Direction::In => {
                self.settle(interface, None);
                Fate::Open
            }
            Direction::Out => Fate::Settled,
        };
        self.pending.push_back(Pending {
            interface,
            at,
            direction,
            packet: packet.clone(),
            dropped,
            fate,
        });
        self.write_settled();
    }

    /// Says what became of the open frame of an interface.
    fn settle(&mut self, interface: usize, refused: Option<DropReason>) {
        let open = self
            .pending
            .iter_mut()
            .find(|p| p.interface == interface && p.fate == Fate::Open);
        if let Some(open) = open {
            open.fate = Fate::Settled;
            open.dropped = refused;
            self.write_settled();
        }
    }

    fn settle_all(&mut self) {
        for pending in &mut self.pending {
            pending.fate = Fate::Settled;
        }
        self.write_settled();
    }

    fn write_settled(&mut self) {
        while self
            .pending
            .front()
            .is_some_and(|p| p.fate == Fate::Settled)
        {
            if let Some(frame) = self.pending.pop_front() {
                self.write_cut(frame);
            }
        }
    }

    /// Writes a frame, or the frames that it is to be cut into.
    fn write_cut(&mut self, mut frame: Pending) {
        if self.options.large == LargeSegments::Whole || frame.packet.meta.gso.is_none() {
            return self.write(&frame);
        }
        let mut pieces = Vec::new();
        let mut whole = frame.packet.clone();
        let network = ether::network_offset(&mut whole);
        if gso::segment(whole, network, &mut |piece| pieces.push(piece)).is_err() {
            // What cannot be cut is shown as it is.
            return self.write(&frame);
        }
        for piece in pieces {
            frame.packet = piece;
            self.write(&frame);
        }
    }

    fn write(&mut self, frame: &Pending) {
        self.last = frame.at;
        self.interfaces[frame.interface].seen += 1;
        match self.offer(frame) {
            Ok(Offered::Taken) => {
                self.interfaces[frame.interface].missed_since = 0;
                self.report.frames += 1;
                return;
            }
            Ok(Offered::NoRoom) => {}
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
        let interface = &mut self.interfaces[frame.interface];
        interface.missed += 1;
        interface.missed_since += 1;
        self.report.missed += 1;
    }

    fn offer(&mut self, frame: &Pending) -> io::Result<Offered> {
        if self.failed.is_some() || self.output.is_none() {
            return Ok(Offered::NoRoom);
        }
        let mut block = self.encode(frame)?;
        let mut bytes = self.undescribed.clone();
        bytes.extend_from_slice(&block);
        let len = bytes.len() as u64;
        let everyone = self.interfaces.len();
        let full = self.in_file + len + everyone as u64 * STATISTICS_LEN;
        let Some(rotate) = self.options.rotate.filter(|r| full > r.max_bytes) else {
            let offered = self.hand_over(Piece { next: None, bytes })?;
            if offered == Offered::Taken {
                self.undescribed.clear();
                self.described = everyone;
                self.in_file += len;
            }
            return Ok(offered);
        };
        let tail = self.statistics();
        // The new file begins with a section of its own.
        let mut bytes = self.section()?;
        bytes.append(&mut block);
        let slot = match rotate.max_files {
            0 => self.slot.wrapping_add(1),
            files => (self.slot + 1) % files,
        };
        let len = bytes.len() as u64;
        let next = Some((tail, slot));
        let offered = self.hand_over(Piece { next, bytes })?;
        if offered == Offered::Taken {
            self.undescribed.clear();
            self.described = everyone;
            self.slot = slot;
            self.in_file = len;
            self.report.files += 1;
        }
        Ok(offered)
    }

    fn hand_over(&mut self, piece: Piece) -> io::Result<Offered> {
        match &mut self.output {
            Some(output) => output.offer(piece),
            None => Ok(Offered::NoRoom),
        }
    }

    /// The block of a frame.
    fn encode(&mut self, frame: &Pending) -> io::Result<Vec<u8>> {
        let interface = &self.interfaces[frame.interface];
        let by = match frame.direction {
            Direction::In => "vnet",
            Direction::Out => "link",
        };
        let comment = frame
            .dropped
            .map(|why| format!("dropped by the {by}: {why}"));
        let note = FrameNote {
            comment: comment.as_deref(),
            missed: interface.missed_since,
            snaplen: self.kept(),
        };
        let handle = interface.handle;
        let (at, way) = (frame.at, frame.direction);
        self.encoder
            .write_noted(handle, at, way, &frame.packet, note)?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }

    /// A section header and every interface, for a new file.
    fn section(&mut self) -> io::Result<Vec<u8>> {
        let mut encoder = PcapngWriter::new(Vec::new())?;
        let snaplen = self.kept().unwrap_or(0);
        for interface in &mut self.interfaces {
            interface.handle = encoder.add_snapped_interface(&interface.name, snaplen)?;
        }
        let bytes = std::mem::take(encoder.get_mut());
        self.encoder = encoder;
        Ok(bytes)
    }

    /// The statistics of the interfaces that the current file describes, for its end.
    fn statistics(&mut self) -> Vec<u8> {
        for interface in &self.interfaces[..self.described] {
            let statistics = InterfaceStatistics {
                seen: interface.seen,
                missed: interface.missed,
            };
            self.encoder
                .write_statistics(interface.handle, self.last, statistics)
                .expect("a vector takes everything, and the interface is the encoder's");
        }
        std::mem::take(self.encoder.get_mut())
    }

    /// What the last file ends with. Interfaces without a frame are told of if there is room.
    fn last_words(&mut self) -> Vec<u8> {
        let bytes =
            (self.undescribed.len() + self.interfaces.len() * STATISTICS_LEN as usize) as u64;
        let fits = |r: Rotate| self.in_file + bytes <= r.max_bytes;
        let mut words = Vec::new();
        if self.options.rotate.is_none_or(fits) {
            words.append(&mut self.undescribed);
            self.described = self.interfaces.len();
        }
        words.append(&mut self.statistics());
        words
    }
}

/// Bytes of an interface description block, at most, without its name.
const DESCRIPTION_LEN: u64 = 44;
/// Bytes of an interface statistics block with two counters.
const STATISTICS_LEN: u64 = 24 + 12 + 12 + 4;
