//! A report for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, LineStyle, Table, presets};

use super::{Counts, Report};
use crate::text::printable;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut jobs = plain();
    jobs.set_header(["job", "result", "figures"]);
    for job in &report.jobs {
        let result = if job.passed { "passed" } else { "FAILED" };
        let figures = job.figures.to_string();
        let figures = printable(&figures);
        let figures = match &job.reason {
            Some(reason) => format!("{}\n{figures}", printable(reason)),
            None => figures.into_owned(),
        };
        jobs.add_row([&*printable(&job.name), result, &figures]);
    }
    if !report.jobs.is_empty() {
        push_table(&mut out, &jobs);
        out.push('\n');
    }

    let mut vnets = plain();
    let counted = ["received", "sent", "dropped"];
    let held = ["sockets", "conns", "ifs", "packets", "timers"];
    // Short words: with these a line fits a terminal of 80 columns.
    vnets.set_header(["vnet"].into_iter().chain(counted).chain(held));
    for column in vnets.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for vnet in &report.vnets {
        let (released, leaked) = (&vnet.teardown.released, &vnet.teardown.leaked);
        let left = |count: fn(&Counts) -> u64| format!("{}/{}", count(leaked), count(released));
        vnets.add_row([
            vnet.name.clone(),
            vnet.received.to_string(),
            vnet.sent.to_string(),
            vnet.dropped.values().sum::<u64>().to_string(),
            left(|c| c.sockets),
            left(|c| c.connections),
            left(|c| c.interfaces),
            left(|c| c.packets),
            left(|c| c.deadlines),
        ]);
    }
    push_table(&mut out, &vnets);

    for link in &report.links {
        let changes = match link.changes {
            0 => String::new(),
            n => format!(", {n} changes"),
        };
        let _ = writeln!(
            out,
            "link {} → {}: {}{changes}",
            link.from, link.to, link.stats
        );
    }

    for vnet in &report.vnets {
        if let Some(failure) = &vnet.teardown.failure {
            let _ = writeln!(out, "vnet {} FAILED: {}", vnet.name, printable(failure));
        }
    }
    let leaking = report.vnets.iter().filter(|v| !v.teardown.leaked.is_zero());
    match leaking.count() {
        0 => out.push_str("torn down: nothing left of what was held\n"),
        n => {
            let _ = writeln!(
                out,
                "torn down: {n} vnets LEFT SOMETHING BEHIND, as \"LEFT/HELD\""
            );
        }
    }
    let failed = report.jobs.iter().filter(|j| !j.passed).count();
    let verdict = match (failed, report.jobs.len()) {
        (0, _) if report.interrupted => "interrupted".to_owned(),
        (0, 0) => "no jobs".to_owned(),
        (0, n) => format!("all {n} jobs passed"),
        (failed, n) => format!("{failed} of {n} jobs FAILED"),
    };
    let verdict = match report.interrupted && failed > 0 {
        true => format!("interrupted, {verdict}"),
        false => verdict,
    };
    let seed = report.seed.map_or(String::new(), |s| format!(", seed {s}"));
    let seconds = report.ended_ns as f64 / 1e9;
    let _ = writeln!(
        out,
        "{}: {verdict} ({} driver{seed}, {seconds:.3} s of its time)",
        printable(&report.topology),
        report.driver
    );
    if let Some(fingerprint) = &report.fingerprint {
        let _ = writeln!(out, "fingerprint {fingerprint}");
    }
    out
}

/// A table with lines around its header and at its end only.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}

fn push_table(out: &mut String, table: &Table) {
    out.push_str(&table.trim_fmt());
    out.push('\n');
}
