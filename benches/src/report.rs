//! The figures as a table for people or as JSON lines for programs.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use crate::compare::{Outcome, Spread};

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The case's name.
    pub case: &'static str,
    /// What both figures are in.
    pub unit: &'static str,
    /// The median of our figures.
    pub ours: f64,
    /// The least and the greatest of them.
    pub ours_spread: [f64; 2],
    /// The median of the peer's figures.
    pub peer: f64,
    /// The least and the greatest of them.
    pub peer_spread: [f64; 2],
    /// What the peer is.
    pub peer_name: String,
    /// Above 1 when we are ahead.
    pub ratio: f64,
    /// What the ratio should be, where there is an aim.
    pub aim: Option<f64>,
}

impl Line {
    /// The line for one outcome, and the ratio that is aimed at.
    pub fn new(case: &'static str, aim: Option<f64>, outcome: Outcome) -> Line {
        let Outcome {
            unit,
            ours,
            peer,
            peer_name,
        } = outcome;
        let ends = |side: Spread| [round(side.min), round(side.max)];
        Line {
            case,
            unit: unit.name(),
            ours: round(ours.median),
            ours_spread: ends(ours),
            peer: round(peer.median),
            peer_spread: ends(peer),
            peer_name,
            ratio: round(unit.ratio(ours.median, peer.median)),
            aim,
        }
    }

    /// The line as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers have a JSON form")
    }
}

/// Columns of a terminal.
const WIDTH: u16 = 80;

/// Aligns all columns to the right but so many first ones, which have names.
pub fn numbers_right(table: &mut Table, names: usize) {
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// All lines as a table that fits a terminal. Below each case is the unit; each side has its median, and the least and
/// the greatest of its figures below. What the peers are is listed below the table, by number.
pub fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(["case", "vnet", "peer", "ratio", "aim", "who"]);
    let mut peers: Vec<&str> = Vec::new();
    for line in lines {
        let number = |v: String| Cell::new(v).set_alignment(CellAlignment::Right);
        let side = |median: f64, [min, max]: [f64; 2]| number(format!("{median}\n{min}..{max}"));
        let place = peers.iter().position(|peer| *peer == line.peer_name);
        let place = place.unwrap_or_else(|| {
            peers.push(&line.peer_name);
            peers.len() - 1
        });
        table.add_row([
            Cell::new(format!("{}\n{}", line.case, line.unit)),
            side(line.ours, line.ours_spread),
            side(line.peer, line.peer_spread),
            number(line.ratio.to_string()),
            number(line.aim.map_or_else(String::new, |aim| aim.to_string())),
            number(format!("[{}]", place + 1)),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut told = table.to_string();
    for (peer, n) in peers.iter().zip(1..) {
        told.push_str(&format!("\n [{n}] {peer}"));
    }
    told
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
        let spread = |median| Spread {
            min: median / 2.0,
            median,
            max: median * 2.0,
        };
        let outcome = Outcome {
            unit: Unit::TransactionsPerSecond,
            ours: spread(123_456.7),
            peer: spread(61_728.35),
            peer_name: "kernel".into(),
        };
        let line = Line::new("tcp-rr", Some(10.0), outcome);
        assert_eq!(
            line.json(),
            r#"{"case":"tcp-rr","unit":"transactions/s","ours":123500.0,"ours_spread":[61730.0,246900.0],"peer":61730.0,"peer_spread":[30860.0,123500.0],"peer_name":"kernel","ratio":2.0,"aim":10.0}"#
        );
        assert!(table(&[line]).contains("61730..246900"));
    }

    #[test]
    fn a_table_fits_a_terminal_and_cuts_no_number() {
        let figures = [1_234_000.0, 2_345_000.0];
        let line = Line {
            case: "demux-idle-1000000",
            unit: Unit::DatagramsPerSecond.name(),
            ours: 12_340_000.0,
            ours_spread: figures,
            peer: 1234.0,
            peer_spread: figures,
            peer_name: "kernel TCP over a veth pair, MTU 65520, two threads".into(),
            ratio: 10_000.0,
            aim: Some(0.67),
        };
        let table = table(&[line]);
        assert!(
            table.contains("1234000..2345000 ") && table.contains(" 10000 "),
            "{table}"
        );
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(WIDTH)), "{table}");
    }
}
