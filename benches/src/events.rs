//! What a frame costs in simulated networks, against ns-3.
//!
//! Rings, trees and random networks of up to 1 000 routers carry 100 TCP flows between routers that are up to five
//! links apart. Each network is written to a file, and both sides read that: the same links, rates, delays, queues, routes and
//! flows. A frame counts once for each link that it is carried over. Either side runs in a process of its own, on one
//! thread, and measures the processor time from the start of the flows until nothing is left to happen, and the most memory that
//! it has had.
//!
//! | part | what it is |
//! |---|---|
//! | [`network`] | the description that both read |
//! | [`ours`] | our side: two tasks for each flow, in virtual time |
//! | `benches/ns3/carry.cc` | the other side |
//! | `benches/ns3/build` | makes it, and ns-3 |

pub mod network;
pub mod ours;

use std::ffi::OsStr;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use comfy_table::Table;
use serde::{Deserialize, Serialize};

use crate::compare::{SideError, Spread};
use crate::report::numbers_right;
use crate::scale::graph::Shape;
use crate::scale::network::Design;
use network::Description;

/// Names the directory into which `benches/ns3/build` has built.
pub const NS3: &str = "VNET_NS3";
/// The option by which `compare` runs our side alone.
pub const CARRY: &str = "--carry";

const SHAPES: [Shape; 3] = [Shape::Ring, Shape::Tree { fan_out: 4 }, Shape::Random];
const ROUTERS: [usize; 3] = [10, 100, 1000];
const FLOWS: usize = 100;
const BYTES: usize = 1_000_000;
const REACH: usize = 5;
const SEED: u64 = 1;
/// How many times as much processor time as ours the other side should take.
const AIM: f64 = 5.0;

/// What one run says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Frames that were carried over links: one over two links counts twice.
    pub frames: u64,
    /// Frames that found a queue full.
    pub dropped: u64,
    /// Events of its simulator, whatever that counts.
    pub events: u64,
    /// Processor seconds from the start of the flows on.
    pub cpu: f64,
    /// Events that several threads have carried out; only of ours, as the next one.
    #[serde(default)]
    pub apart: u64,
    /// Seconds from the start of the flows on.
    #[serde(default)]
    pub wall: f64,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
    /// Simulated seconds until nothing was left to happen.
    pub r#virtual: f64,
}

/// A network, and what it took either side.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Always `events`.
    pub case: &'static str,
    /// What the network looks like, and how many routers it has.
    pub network: String,
    /// Ours.
    pub ours: Side,
    /// That of ns-3, where it is there.
    pub peer: Option<Side>,
    /// How many times as much processor time a frame ns-3 took.
    pub ratio: Option<f64>,
    /// How many times as much memory we had.
    pub memory_ratio: Option<f64>,
}

/// The runs of one side.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Frames that were carried, in each run.
    pub frames: u64,
    /// Frames that were dropped.
    pub dropped: u64,
    /// Processor time a frame in nanoseconds: the least, the middle and the greatest.
    pub nanos: [f64; 3],
    /// The most memory, the middle of all runs, in bytes.
    pub peak: u64,
}

impl Side {
    fn of(runs: &[Figures]) -> Result<Side, SideError> {
        let nanos = runs.iter().map(|run| run.cpu * 1e9 / run.frames as f64);
        let Spread { min, median, max } = Spread::of(nanos.collect());
        let peak = Spread::of(runs.iter().map(|run| run.peak as f64).collect());
        let Figures {
            frames, dropped, ..
        } = runs[0];
        if runs.iter().any(|run| run.frames != frames) {
            return Err(SideError::new("runs of one network differ"));
        }
        Ok(Side {
            frames,
            dropped,
            nanos: [min, median, max],
            peak: peak.median as u64,
        })
    }
}

/// Reads a network from a file, carries its flows, and returns what [`Figures`] are in JSON.
///
/// # Errors
/// A file that cannot be read, and what [`ours::carry`] says.
pub fn carry(file: &Path) -> Result<String, SideError> {
    let figures = ours::carry(BufReader::new(fs::File::open(file)?), 1)?;
    Ok(serde_json::to_string(&figures).expect("numbers have a JSON form"))
}

/// A random network of that many routers, with its flows.
///
/// # Errors
/// A network that cannot be designed.
pub fn random(routers: usize) -> Result<Description, SideError> {
    describe(Shape::Random, routers)
}

fn describe(shape: Shape, routers: usize) -> Result<Description, SideError> {
    let design = Design::new(shape, routers, SEED).map_err(|e| SideError::new(e.to_string()))?;
    Ok(Description::of(&design, FLOWS, BYTES, REACH, SEED))
}

/// Runs all networks `runs` times on each side, in turns.
///
/// # Errors
/// When a side fails, or does not carry the same frames each time. Without ns-3 its side is skipped, which is printed.
pub fn measure(runs: usize) -> Result<Vec<Line>, SideError> {
    let ns3 = match std::env::var_os(NS3) {
        Some(folder) => Some(PathBuf::from(folder).join("carry")),
        None => {
            println!("SKIPPED: events: ns-3: {NS3} names no directory that benches/ns3/build made");
            None
        }
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("network");
    let mut lines = Vec::new();
    for (shape, routers) in SHAPES.iter().flat_map(|s| ROUTERS.map(|n| (*s, n))) {
        fs::write(&file, describe(shape, routers)?.to_string())?;
        let mut both = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            let mut ours = Command::new(std::env::current_exe()?);
            both[0].push(run(ours.args([OsStr::new(CARRY), file.as_os_str()]))?);
            if let Some(ns3) = &ns3 {
                both[1].push(run(Command::new(ns3).arg(&file))?);
            }
        }
        let ours = Side::of(&both[0])?;
        let peer = ns3.as_ref().map(|_| Side::of(&both[1])).transpose()?;
        lines.push(Line {
            case: "events",
            network: format!("{shape} of {routers}"),
            ratio: peer.as_ref().map(|peer| peer.nanos[1] / ours.nanos[1]),
            memory_ratio: peer.as_ref().map(|p| ours.peak as f64 / p.peak as f64),
            ours,
            peer,
        });
    }
    Ok(lines)
}

fn run(command: &mut Command) -> Result<Figures, SideError> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| SideError::new(format!("{command:?}: {e}")))?;
    if !output.status.success() {
        return Err(SideError::new(format!("{command:?}: {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| SideError::new(format!("{command:?}: {e}")))
}

impl Line {
    /// The line as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers have a JSON form")
    }
}

/// The lines as a table.
pub fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header([
            "events", "frames", "ns-3's", "ns/frame", "ns-3's", "ratio", "aim", "peak MiB",
            "ns-3's", "ratio", "aim",
        ]);
    let time = |[min, median, max]: [f64; 3]| format!("{median:.0}\n{min:.0}..{max:.0}");
    let memory = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |r| format!("{r:.2}"));
    for line in lines {
        let Line { ours, peer, .. } = line;
        let theirs = |told: &dyn Fn(&Side) -> String| peer.as_ref().map_or_else(String::new, told);
        table.add_row([
            line.network.clone(),
            ours.frames.to_string(),
            theirs(&|peer| peer.frames.to_string()),
            time(ours.nanos),
            theirs(&|peer| time(peer.nanos)),
            ratio(line.ratio),
            AIM.to_string(),
            memory(ours.peak),
            theirs(&|peer| memory(peer.peak)),
            ratio(line.memory_ratio),
            "1".to_owned(),
        ]);
    }
    numbers_right(&mut table, 1);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of 1448 bytes over each link, and an acknowledgement for two of them, at least. On two threads the same.
    #[test]
    fn a_network_that_was_read_carries_its_flows() {
        let design = Design::new(Shape::Ring, 10, 1).unwrap();
        let described = Description::of(&design, 5, 100_000, 3, 1);
        let text = described.to_string();
        let figures = ours::carry(text.as_bytes(), 1).unwrap();
        assert!(figures.frames >= 5 * (70 + 35), "{figures:?}");
        assert_eq!(figures.dropped, 0);
        let of = |f: Figures| (f.frames, f.dropped, f.events, f.r#virtual);
        for threads in [1, 2] {
            let again = ours::carry(text.as_bytes(), threads).unwrap();
            assert_eq!(of(again), of(figures), "{threads} threads");
        }
    }
}
