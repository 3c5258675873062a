//! What came of a run: for people as tables, for programs as one JSON object. Times are those of
//! the system, so that under virtual time equal runs give equal bytes.

mod people;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use vnet::{LinkStats, LldpNeighbour};

use crate::family::Family;
pub use crate::job::Figures;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The topology's name.
    pub topology: String,
    /// The driver's name.
    pub driver: &'static str,
    /// The seed, under a driver that has one.
    pub seed: Option<u64>,
    /// Whether every job passed, nothing leaked, no vnet and nothing attached failed, and the run was not interrupted.
    pub passed: bool,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// When the last job ended, in nanoseconds of the system's time.
    pub ended_ns: u64,
    /// The fingerprint of all frames, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The jobs, in the order of the file.
    pub jobs: Vec<JobReport>,
    /// What was to change over time, in the order of the file. It is no part of the JSON.
    #[serde(skip)]
    pub events: Vec<EventReport>,
    /// What was attached from outside, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<AttachReport>,
    /// The directions of links that have parameters or change, in the order of the file.
    pub links: Vec<LinkReport>,
    /// The vnets, in the order of the file.
    pub vnets: Vec<VnetReport>,
}

/// What something outside sent and was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachReport {
    /// The switch that it was a port of.
    pub node: String,
    /// What it is, and how it is found outside.
    pub what: String,
    /// Frames from outside.
    pub frames_in: u64,
    /// Frames to the outside.
    pub frames_out: u64,
    /// Frames that one side sent and the other did not take.
    pub drops: u64,
    /// Guests that connected, where they connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guests: Option<u64>,
    /// Why it failed, if it did: most often because the host's interface was deleted, or the first guest of a server of several sent
    /// what no guest sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl AttachReport {
    /// Whether the run has failed with it. That one of several guests fails is no failure of the run.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some() && self.guests.is_none()
    }
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobReport {
    /// Its name.
    pub name: String,
    /// The node it started from.
    pub from: String,
    /// The node it went to.
    pub to: String,
    /// The version of IP that it used. In JSON it is there if it is IPv6.
    #[serde(skip_serializing_if = "Family::is_v4")]
    pub family: Family,
    /// Whether it did what was asked.
    pub passed: bool,
    /// How far it got. It is no part of the JSON.
    #[serde(skip)]
    pub state: JobState,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started, in nanoseconds of the system's time.
    pub started_ns: u64,
    /// When it ended, in nanoseconds of the system's time.
    pub ended_ns: u64,
    /// What was measured, as far as it got.
    #[serde(flatten)]
    pub figures: Figures,
}

/// How far a job got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It did what was asked.
    Passed,
    /// It did not.
    Failed,
    /// The run was interrupted while it went on.
    Interrupted,
    /// The run was interrupted before it began.
    NotStarted,
}

impl JobState {
    /// The word for it in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Passed => "passed",
            JobState::Failed => "FAILED",
            JobState::Interrupted => "cut off",
            JobState::NotStarted => "not started",
        }
    }
}

/// Something that changes at a link at a given time.
#[derive(Clone, Debug, PartialEq)]
pub struct EventReport {
    /// When, from the start of the run.
    pub at: Duration,
    /// The link's name, or the sending end, `NODE:INTERFACE`.
    pub link: String,
    /// What changes, in words.
    pub change: String,
}

/// How a report for people is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns of the terminal.
    pub width: u16,
    /// How much is said.
    pub detail: Detail,
}

impl Layout {
    /// Columns where there is no terminal.
    pub const WIDTH: u16 = 100;
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            width: Layout::WIDTH,
            detail: Detail::default(),
        }
    }
}

/// How much a report for people says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What failed, and the verdict.
    Quiet,
    /// That, and of the rest what is most telling.
    #[default]
    Normal,
    /// Everything, with idle links and the teardown.
    Verbose,
}

/// What one direction of a link did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkReport {
    /// The sending end, `NODE:INTERFACE`.
    pub from: String,
    /// The receiving end.
    pub to: String,
    /// How often events have changed it.
    pub changes: u64,
    /// Its counters.
    #[serde(flatten)]
    pub stats: LinkStats,
}

/// What a vnet did and left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VnetReport {
    /// Its name.
    pub name: String,
    /// Frames it took in.
    pub received: u64,
    /// Of these, consumed by it.
    pub delivered: u64,
    /// Of these, sent on.
    pub forwarded: u64,
    /// Frames it sent.
    pub sent: u64,
    /// What it dropped, by reason; reasons that did not occur are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What a switch was in its spanning tree at the end; left out if it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spanning_tree: Option<SpanningTreeReport>,
    /// The VLANs of a switch that tells them apart, as far as stations can be in them; left out
    /// otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<VlanReport>,
    /// Who was plugged in at the other ends of its links at the end, as they said by LLDP; left out if nobody
    /// did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lldp: Vec<LldpNeighbour>,
    /// How it went away.
    pub teardown: Teardown,
}

/// What a switch was in its spanning tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpanningTreeReport {
    /// Its bridge identifier: priority and address.
    pub bridge: String,
    /// The root's bridge identifier.
    pub root: String,
    /// What the path to the root costs; 0 at the root.
    pub root_cost: u32,
    /// Changes of the topology that it saw or heard of.
    pub topology_changes: u64,
    /// Its ports, in the order of the file.
    pub ports: Vec<TreePortReport>,
}

/// What a port of a switch was in the spanning tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreePortReport {
    /// The interface.
    pub interface: String,
    /// Its role: `root`, `designated`, `alternate`, `backup` or `disabled`.
    pub role: String,
    /// What it did with frames: `forwarding`, `learning`, `discarding` or `guarded`.
    pub state: String,
    /// What the way to the other end of its link costs.
    pub cost: u32,
    /// BPDUs taken in.
    pub bpdus_in: u64,
    /// BPDUs sent.
    pub bpdus_out: u64,
}

/// A VLAN of a switch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VlanReport {
    /// Its VID.
    pub vid: u16,
    /// The ports by which its frames leave without a tag.
    pub untagged: Vec<String>,
    /// The ports by which its frames leave with a tag.
    pub tagged: Vec<String>,
    /// The stations that the switch knew in it at the end, in the order of their addresses.
    pub stations: Vec<StationReport>,
}

/// A station that a switch knew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StationReport {
    /// Its MAC address.
    pub mac: String,
    /// The port that it was behind.
    pub interface: String,
}

/// How a vnet went away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Teardown {
    /// The steps that were undone, in that order.
    pub steps: Vec<String>,
    /// What it gave back.
    pub released: Counts,
    /// What was left after the last step.
    pub leaked: Counts,
    /// Why the vnet failed, which is a defect of the library; left out if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Teardown {
    /// True when nothing leaked and the vnet did not fail.
    pub fn is_clean(&self) -> bool {
        self.leaked.is_zero() && self.failure.is_none()
    }
}

/// What a vnet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sockets of users.
    pub sockets: u64,
    /// TCP connections in any state.
    pub connections: u64,
    /// Interfaces.
    pub interfaces: u64,
    /// Entries in the tables of switches.
    pub stations: u64,
    /// Packets held anywhere.
    pub packets: u64,
    /// Pending deadlines.
    pub deadlines: u64,
}

impl Report {
    /// The report as one JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report has string keys and finite numbers only")
    }

    /// The report as text for people, such as for a terminal.
    pub fn to_text(&self, layout: Layout) -> String {
        people::render(self, layout)
    }
}

impl Counts {
    /// True when there is nothing.
    pub fn is_zero(&self) -> bool {
        *self == Counts::default()
    }
}

#[cfg(test)]
mod tests;
