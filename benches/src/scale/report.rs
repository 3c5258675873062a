//! The figures as tables for people or as JSON lines for programs.

use comfy_table::{Cell, CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::startup::Startup;
use super::trial::{Load, Outcome, Phases, Totals};

/// What came of a trial, as one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What the network looks like.
    pub shape: String,
    /// Routers.
    pub nodes: usize,
    /// Links.
    pub links: usize,
    /// Routes, without those to a router's own links.
    pub routes: usize,
    /// Pings that were sent and answered.
    pub pings: usize,
    /// Flows that arrived.
    pub flows: usize,
    /// Bytes of each flow.
    pub bytes: usize,
    /// What was counted.
    pub totals: Totals,
    /// Virtual time, in seconds.
    pub virtual_seconds: f64,
    /// Wall time of each part and processor time, in seconds.
    pub phases: Phases,
    /// Services and frames a second of wall time, pings and flows together.
    pub events_per_second: f64,
    /// Processor time of one of them, in nanoseconds.
    pub ns_per_event: f64,
    /// The same, relative to the smallest network of this shape.
    pub relative: f64,
    /// Memory of one idle router with its links and routes, in bytes.
    pub bytes_per_node: u64,
    /// Memory of the process when all flows had arrived, in bytes.
    pub resident: u64,
}

impl Line {
    /// The line of a trial. `relative` is 1 until [`relate`] is asked.
    pub fn new(load: &Load, outcome: &Outcome) -> Line {
        let [before, idle, loaded] = outcome.memory;
        let seconds = outcome.phases.ping + outcome.phases.flows;
        let events = outcome.totals.events() as f64;
        Line {
            shape: load.shape.to_string(),
            nodes: load.routers,
            links: outcome.links,
            routes: outcome.routes,
            pings: outcome.pings,
            flows: outcome.flows.len(),
            bytes: load.bytes,
            totals: outcome.totals,
            virtual_seconds: outcome.virtual_ns as f64 / 1e9,
            phases: outcome.phases,
            events_per_second: events / seconds,
            ns_per_event: outcome.phases.cpu * 1e9 / events,
            relative: 1.0,
            bytes_per_node: idle.saturating_sub(before) / load.routers as u64,
            resident: loaded,
        }
    }

    /// The line as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers have a JSON form")
    }
}

/// Says of each line what an event costs relative to the smallest network of its shape.
pub fn relate(lines: &mut [Line]) {
    for n in 0..lines.len() {
        let same = lines.iter().filter(|l| l.shape == lines[n].shape);
        let smallest = same
            .min_by_key(|l| l.nodes)
            .expect("it has the shape itself");
        lines[n].relative = lines[n].ns_per_event / smallest.ns_per_event;
    }
}

/// What the networks did, as a table.
pub fn table(lines: &[Line]) -> String {
    let mut table = with_header(&[
        "shape",
        "nodes",
        "routes",
        "pings",
        "flows",
        "services",
        "frames",
        "dropped",
        "virtual s",
        "wall s",
        "cpu s",
        "events/s",
        "ns/event",
        "relative",
        "KiB/node",
        "MiB",
    ]);
    for l in lines {
        let wall = l.phases.ping + l.phases.flows;
        table.add_row([
            Cell::new(&l.shape),
            number(l.nodes),
            number(l.routes),
            number(l.pings),
            number(l.flows),
            number(l.totals.services),
            number(l.totals.received),
            number(l.totals.dropped),
            number(format!("{:.3}", l.virtual_seconds)),
            number(format!("{wall:.3}")),
            number(format!("{:.3}", l.phases.cpu)),
            number(format!("{:.0}", l.events_per_second)),
            number(format!("{:.0}", l.ns_per_event)),
            number(format!("{:.2}", l.relative)),
            number(l.bytes_per_node >> 10),
            number(l.resident >> 20),
        ]);
    }
    table.to_string()
}

/// How long each part took, as a table in milliseconds.
pub fn phases(lines: &[Line]) -> String {
    let mut table = with_header(&[
        "ms", "nodes", "design", "build", "ping", "flows", "teardown",
    ]);
    for l in lines {
        let p = &l.phases;
        let times = [p.design, p.build, p.ping, p.flows, p.teardown];
        let mut row = vec![Cell::new(&l.shape), number(l.nodes)];
        row.extend(times.map(milliseconds));
        table.add_row(row);
    }
    table.to_string()
}

/// How long the starts took, as a table in milliseconds.
pub fn startups(starts: &[Startup]) -> String {
    let mut table = with_header(&["start by", "hosts", "vnets", "routes", "part", "ms"]);
    for s in starts {
        let part = |name: &str, seconds| {
            [
                Cell::new(s.by),
                number(s.hosts),
                number(s.vnets),
                number(s.routes),
                Cell::new(name),
                milliseconds(seconds),
            ]
        };
        for (name, seconds) in &s.phases {
            table.add_row(part(name, *seconds));
        }
        table.add_row(part("until ready", s.total));
    }
    table.to_string()
}

fn with_header(names: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header(names);
    table
}

fn number(value: impl std::fmt::Display) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

fn milliseconds(seconds: f64) -> Cell {
    number(format!("{:.1}", seconds * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(shape: &str, nodes: usize, ns_per_event: f64) -> Line {
        Line {
            shape: shape.to_owned(),
            nodes,
            links: 0,
            routes: 0,
            pings: 0,
            flows: 0,
            bytes: 0,
            totals: Totals::default(),
            virtual_seconds: 0.0,
            phases: Phases::default(),
            events_per_second: 1e9 / ns_per_event,
            ns_per_event,
            relative: 1.0,
            bytes_per_node: 0,
            resident: 0,
        }
    }

    #[test]
    fn a_line_is_related_to_the_smallest_of_its_shape() {
        let mut lines = [
            line("ring", 100, 300.0),
            line("ring", 10, 200.0),
            line("tree", 10, 100.0),
        ];
        relate(&mut lines);
        assert_eq!(lines.clone().map(|l| l.relative), [1.5, 1.0, 1.0]);
        assert!(table(&lines).contains("1.50"));
    }

    #[test]
    fn a_line_survives_json() {
        let line = line("random", 10, 125.0);
        let read: Line = serde_json::from_str(&line.json()).expect("it was written just now");
        assert_eq!(read, line);
    }
}
