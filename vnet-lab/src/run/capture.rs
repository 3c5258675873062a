//! Captures of a run: one pcapng file for each link, `NODE-INTERFACE--NODE-INTERFACE.pcapng`, and
//! live ones that can be read during the run.
//!
//! Each frame is written once, where it is sent, on the interface of its sender and before the
//! link delays or loses it; what the link drops is marked.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vnet::Direction;
use vnet::capture::FrameTap;
use vnet::capture::{CaptureError, CaptureOptions, CaptureSink, Flush, Recorder, Rotate, Writing};

use super::error::RunError;
use super::options::{CaptureSettings, Driver, LiveCapture, Options};
use crate::plan::Plan;

/// Bytes that may wait for the reader of a live capture.
const LIVE_QUEUE: usize = 8 << 20;

/// Every capture of a run.
pub(super) struct Captures {
    settings: CaptureSettings,
    /// The live ones come first.
    open: Vec<Open>,
    /// Of which links files are written, by number.
    files: BTreeSet<usize>,
}

struct Open {
    path: PathBuf,
    recorder: Recorder,
    what: What,
}

/// What one capture is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The file of one link.
    File,
    /// Read along: the link of that number, or every one.
    Live(Option<usize>),
}

impl Captures {
    /// Starts the live captures. With a FIFO this waits until it is opened for reading.
    pub(super) fn start(plan: &Plan, options: &Options) -> Result<Captures, RunError> {
        let settings = options.capture.clone();
        let meant = |link: &String| {
            let number = plan.link(link);
            number.ok_or_else(|| RunError::NoSuchLink(link.clone()))
        };
        let files = match &settings.directory {
            Some(_) => files(plan, &settings, meant)?,
            None => BTreeSet::new(),
        };
        super::files::make_room((files.len() + settings.live.len()) as u64)?;
        let mut open = Vec::new();
        for LiveCapture { link, to } in &settings.live {
            let link = link.as_ref().map(meant).transpose()?;
            let how = CaptureOptions {
                writing: match options.driver {
                    // The same bytes every time: the simulated world waits for the reader.
                    Driver::Virtual => Writing::AtOnce,
                    Driver::Threads => Writing::Queued {
                        max_bytes: LIVE_QUEUE,
                    },
                },
                flush: Flush::EachFrame,
                ..options_of(&settings)
            };
            let recorder = match Recorder::new(live_sink(to.clone()), how) {
                Err(CaptureError::Io(e)) if is_readers(&e) => {
                    tracing::warn!(capture = %to.display(), "the reader went away: {e}");
                    continue;
                }
                result => result.map_err(|e| error(to, e))?,
            };
            open.push(Open {
                path: to.clone(),
                recorder,
                what: What::Live(link),
            });
        }
        Ok(Captures {
            settings,
            open,
            files,
        })
    }

    /// Starts the capture file of the link of that number, if there is to be one, and returns what
    /// its two interfaces are given.
    pub(super) fn taps(
        &mut self,
        plan: &Plan,
        number: usize,
    ) -> Result<[Vec<Arc<dyn FrameTap>>; 2], RunError> {
        let link = &plan.links[number];
        let lives = |open: &&Open| matches!(open.what, What::Live(_));
        let lives = self.open.iter().take_while(lives).count();
        let written = self.files.contains(&number);
        if let Some(directory) = self.settings.directory.as_ref().filter(|_| written) {
            let name = plan.link_name(link);
            let path = directory.join(format!("{name}.pcapng"));
            let how = CaptureOptions {
                rotate: self.settings.format.rotate,
                ..options_of(&self.settings)
            };
            let sink = file_sink(directory.clone(), name.clone(), self.settings.format.rotate);
            self.open.push(Open {
                recorder: Recorder::new(sink, how).map_err(|e| error(&path, e))?,
                path,
                what: What::File,
            });
        }
        let mut taps = [Vec::new(), Vec::new()];
        let own = self.open.iter().skip(lives).last().filter(|_| written);
        let wanted = [What::Live(None), What::Live(Some(number))];
        let live = self.open[..lives].iter();
        let live = live.filter(|open| wanted.contains(&open.what));
        for open in live.chain(own) {
            for (taps, end) in taps.iter_mut().zip(link.ends) {
                let tap = open.recorder.tap(&plan.end_name(end));
                taps.push(tap.map_err(|e| error(&open.path, e))?);
            }
        }
        Ok(taps)
    }

    /// Writes out what is left, and says what went wrong on the way. A reader that has gone
    /// away or does not read is no failure of the run.
    pub(super) fn finish(self) -> Result<(), RunError> {
        let mut result = Ok(());
        for Open {
            path,
            recorder,
            what,
        } in self.open
        {
            match (recorder.finish(), what) {
                (Ok(report), _) if report.missed > 0 => tracing::warn!(
                    capture = %path.display(), missed = report.missed, "frames were missed"
                ),
                (Ok(_), _) => {}
                (Err(e), What::Live(_)) if is_readers(&e) => {
                    tracing::warn!(capture = %path.display(), "the reader went away: {e}");
                }
                (Err(source), _) => result = result.and(Err(RunError::Capture { path, source })),
            }
        }
        result
    }
}

/// The links of which files are written: those that the options name, else those that the topology
/// wants, else all that it does not leave out.
fn files(
    plan: &Plan,
    settings: &CaptureSettings,
    meant: impl Fn(&String) -> Result<usize, RunError>,
) -> Result<BTreeSet<usize>, RunError> {
    if !settings.links.is_empty() {
        return settings.links.iter().map(meant).collect();
    }
    let some = plan.links.iter().any(|link| link.capture == Some(true));
    let wanted = |number: &usize| plan.links[*number].capture.unwrap_or(!some);
    Ok((0..plan.links.len()).filter(wanted).collect())
}

fn options_of(settings: &CaptureSettings) -> CaptureOptions {
    CaptureOptions {
        snaplen: settings.format.snaplen,
        large: settings.format.large,
        direction: Some(Direction::Out),
        ..CaptureOptions::default()
    }
}

fn is_readers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::TimedOut
    )
}

fn error(path: &Path, error: CaptureError) -> RunError {
    match error {
        CaptureError::Io(source) => RunError::Capture {
            path: path.to_owned(),
            source,
        },
        other => RunError::CaptureOptions(other),
    }
}

/// Files in `directory`, which is made when it is not there: `NAME.pcapng`, or `NAME.00.pcapng`
/// and so on when they are bounded.
fn file_sink(directory: PathBuf, name: String, rotate: Option<Rotate>) -> impl CaptureSink {
    let digits = rotate.map(|r| r.max_files.saturating_sub(1).to_string().len());
    move |slot: u32| {
        let file = match digits {
            None => format!("{name}.pcapng"),
            Some(digits) => format!("{name}.{slot:0digits$}.pcapng"),
        };
        fs::create_dir_all(&directory)?;
        let file = File::create(directory.join(file))?;
        Ok(Box::new(BufWriter::new(file)) as Box<dyn Write + Send>)
    }
}

fn live_sink(path: PathBuf) -> impl CaptureSink {
    move |_slot: u32| {
        Ok(match path.as_os_str() == "-" {
            true => Box::new(io::stdout()) as Box<dyn Write + Send>,
            false => Box::new(File::create(&path)?),
        })
    }
}
