//! How to run a topology.

use std::path::PathBuf;
use std::time::Duration;

use crate::stop::Stop;
use crate::topology::CaptureFormat;

/// How to run a topology. By default in virtual time, without captures.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What makes time pass.
    pub driver: Driver,
    /// The seed of everything random. In virtual time, equal seeds give equal runs.
    pub seed: u64,
    /// What is captured, and how.
    pub capture: CaptureSettings,
    /// When the run ends, from its start: a job that is still running then fails, and if all are done
    /// before, the network keeps running until then. Without it the run ends with the last job.
    pub until: Option<Duration>,
    /// Whether the fingerprint of the run is reported.
    pub fingerprint: bool,
    /// Ends the run early.
    pub stop: Stop,
}

/// What is captured of a run, and how. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The directory where a capture file of each link goes.
    pub directory: Option<PathBuf>,
    /// Captures that can be read during the run.
    pub live: Vec<LiveCapture>,
    /// The links that are captured to files, as [`Plan::link`](crate::Plan::link) takes them; if empty, as the topology
    /// says.
    pub links: Vec<String>,
    /// How they are made.
    pub format: CaptureFormat,
}

/// A capture that can be read during the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCapture {
    /// The link, as [`Plan::link`](crate::Plan::link) takes it; `None` for all links.
    pub link: Option<String>,
    /// A FIFO or a file; `-` is the standard output.
    pub to: PathBuf,
}

/// What makes time pass in a topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// A simulated clock: as fast as possible, and the same every time.
    #[default]
    Virtual,
    /// Threads and the wall clock.
    Threads,
}
