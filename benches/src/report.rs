//! The figures as a table for people or as JSON lines for programs.

use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::compare::Outcome;

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The case's name.
    pub case: &'static str,
    /// What both figures are in.
    pub unit: &'static str,
    /// The median of our figures.
    pub ours: f64,
    /// The median of the peer's figures.
    pub peer: f64,
    /// What the peer is.
    pub peer_name: String,
    /// Above 1 when we are ahead.
    pub ratio: f64,
}

impl Line {
    /// The line for one outcome.
    pub fn new(case: &'static str, outcome: Outcome) -> Line {
        let Outcome {
            unit,
            ours,
            peer,
            peer_name,
        } = outcome;
        Line {
            case,
            unit: unit.name(),
            ours: round(ours),
            peer: round(peer),
            peer_name,
            ratio: round(unit.ratio(ours, peer)),
        }
    }

    /// The line as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers have a JSON form")
    }
}

/// All lines as a table.
pub fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["case", "vnet", "peer", "unit", "ratio", "peer is"]);
    for line in lines {
        let number = |v: f64| Cell::new(v).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(line.case),
            number(line.ours),
            number(line.peer),
            Cell::new(line.unit),
            number(line.ratio),
            Cell::new(&line.peer_name),
        ]);
    }
    table.to_string()
}

/// Four significant digits: more would pretend.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Unit;

    #[test]
    fn a_line_has_the_agreed_keys() {
        let line = Line::new(
            "tcp-rr",
            Outcome {
                unit: Unit::TransactionsPerSecond,
                ours: 123_456.7,
                peer: 61_728.35,
                peer_name: "kernel".into(),
            },
        );
        assert_eq!(
            line.json(),
            r#"{"case":"tcp-rr","unit":"transactions/s","ours":123500.0,"peer":61730.0,"peer_name":"kernel","ratio":2.0}"#
        );
        assert!(table(&[line]).contains("tcp-rr"));
    }
}
