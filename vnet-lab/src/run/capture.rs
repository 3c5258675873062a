//! Captures: one pcapng file a link, `NODE-INTERFACE--NODE-INTERFACE.pcapng`.
//!
//! Each frame is written once, where it is sent, on the interface of its sender and before the
//! link delays or loses it.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use vnet::packet::Packet;
use vnet::packet::pcapng::{CaptureInterface, PcapngWriter};
use vnet::time::Instant;
use vnet::{Direction, FrameTap};

use super::RunError;
use crate::plan::{Plan, PlannedLink};

/// The capture of one link.
pub(super) struct LinkCapture {
    path: PathBuf,
    file: Arc<Mutex<CaptureFile>>,
    interfaces: [CaptureInterface; 2],
}

struct CaptureFile {
    writer: PcapngWriter<BufWriter<File>>,
    /// The first thing that went wrong; nothing is written after it.
    failed: Option<io::Error>,
}

/// The tap at one end of a link.
struct Tap {
    file: Arc<Mutex<CaptureFile>>,
    interface: CaptureInterface,
}

impl LinkCapture {
    /// Starts the capture of `link` in `directory`, which is made when it is not there.
    pub(super) fn create(
        plan: &Plan,
        link: &PlannedLink,
        directory: &Path,
    ) -> Result<LinkCapture, RunError> {
        let path = directory.join(format!("{}.pcapng", plan.link_name(link)));
        let open = || {
            fs::create_dir_all(directory)?;
            let mut writer = PcapngWriter::new(BufWriter::new(File::create(&path)?))?;
            let [a, b] = link.ends.map(|end| plan.end_name(end));
            let interfaces = [writer.add_interface(&a)?, writer.add_interface(&b)?];
            Ok((writer, interfaces))
        };
        match open() {
            Ok((writer, interfaces)) => Ok(LinkCapture {
                path,
                file: Arc::new(Mutex::new(CaptureFile {
                    writer,
                    failed: None,
                })),
                interfaces,
            }),
            Err(source) => Err(RunError::Capture { path, source }),
        }
    }

    /// What the interface at `end` (0 or 1) is given.
    pub(super) fn tap(&self, end: usize) -> Arc<dyn FrameTap> {
        Arc::new(Tap {
            file: Arc::clone(&self.file),
            interface: self.interfaces[end],
        })
    }

    /// Writes out what is left, and says what went wrong on the way.
    pub(super) fn finish(self) -> Result<(), RunError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match file.failed.take() {
            Some(error) => Err(error),
            None => file.writer.flush(),
        };
        drop(file);
        result.map_err(|source| RunError::Capture {
            path: self.path,
            source,
        })
    }
}

impl FrameTap for Tap {
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet) {
        if direction != Direction::Out {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.failed.is_none()
            && let Err(error) = file
                .writer
                .write(self.interface, at, Direction::Out, packet)
        {
            file.failed = Some(error);
        }
    }
}
