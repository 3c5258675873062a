//! How to run a topology.

use std::path::PathBuf;
use std::time::Duration;

use crate::stop::Stop;
use crate::topology::CaptureFormat;

/// How to run a topology. By default in virtual time, without captures.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who drives it.
    pub driver: Driver,
    /// From which everything random follows. Under virtual time equal seeds give equal runs.
    pub seed: u64,
    /// What is captured, and how.
    pub capture: CaptureSettings,
    /// When the run ends, from its start: a job that is not over by then has failed, and when all are
    /// over earlier the network goes on until then. Without it the run ends with the last job.
    pub until: Option<Duration>,
    /// Whether the fingerprint of the run is reported.
    pub fingerprint: bool,
    /// Ends the run before its time.
    pub stop: Stop,
}

/// What is captured of a run, and how. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The directory where a capture file of each link goes.
    pub directory: Option<PathBuf>,
    /// Captures that are read while the run goes on.
    pub live: Vec<LiveCapture>,
    /// Links of which files are written, as [`Plan::link`] takes them; without one, those that the
    /// topology says.
    pub links: Vec<String>,
    /// How they are made.
    pub format: CaptureFormat,
}

/// A capture that somebody reads while the run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCapture {
    /// The link, as [`Plan::link`] takes it; `None` for all links.
    pub link: Option<String>,
    /// A FIFO or a file; `-` is the standard output.
    pub to: PathBuf,
}

/// Who drives a topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// A simulated clock: as fast as it goes, and the same every time.
    #[default]
    Virtual,
    /// Threads and the wall clock.
    Threads,
}
