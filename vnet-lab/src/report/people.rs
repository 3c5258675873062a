//! A report for people: tables that fit the terminal, what went wrong in full, of the rest the most
//! telling part, and the verdict on the last line.

use std::fmt::Write;

use vnet::{DropReason, LinkStats};

use super::table::{Excerpt, cell, left_out, parts, phrases, push, table};
use super::{
    AttachReport, Counts, Detail, Figures, JobReport, JobState, Layout, LinkReport, Report,
    TreePortReport, VnetReport,
};
use crate::quantity::{count, counted, size, time_ns, times};
use crate::text::printable;

/// Rows of a table that is not asked to be verbose.
const ROWS: usize = 20;
/// Ports of a switch that are listed by name.
const NAMED_PORTS: usize = 4;
/// Jobs that are all listed; of more than these, as many of those that did not pass are.
const JOBS: usize = 40;

pub(super) fn render(report: &Report, layout: Layout) -> String {
    let mut out = String::new();
    jobs(&mut out, report, layout);
    if layout.detail != Detail::Quiet {
        attached(&mut out, &report.attached, layout);
        links(&mut out, &report.links, layout);
        events(&mut out, report, layout);
        spanning_trees(&mut out, &report.vnets, layout);
        vlans(&mut out, &report.vnets, layout);
        neighbours(&mut out, &report.vnets, layout);
        vnets(&mut out, &report.vnets, layout);
    }
    failures(&mut out, &report.vnets);
    for attached in &report.attached {
        if let Some(failure) = &attached.failure {
            let (what, failure) = (printable(&attached.what), printable(failure));
            let _ = writeln!(out, "{what} failed: {failure}");
        }
    }
    if let Some(fingerprint) = &report.fingerprint {
        let _ = writeln!(out, "fingerprint {fingerprint}");
    }
    verdict(&mut out, report);
    out
}

fn jobs(out: &mut String, report: &Report, layout: Layout) {
    let all = match layout.detail {
        Detail::Quiet => false,
        Detail::Normal => report.jobs.len() <= JOBS,
        Detail::Verbose => true,
    };
    let tells = |job: &&JobReport| match job.state {
        JobState::Failed => true,
        JobState::Interrupted => layout.detail != Detail::Quiet,
        JobState::Passed | JobState::NotStarted => false,
    };
    let mut shown: Vec<&JobReport> = report.jobs.iter().filter(|job| all || tells(job)).collect();
    let listed = shown.len();
    if !all {
        // Those that failed before those that were cut off.
        shown.sort_by_key(|job| job.state != JobState::Failed);
        shown.truncate(JOBS);
    }
    if !shown.is_empty() {
        let mut jobs = table(layout.width, &["job", "result", "figures"], &[]);
        for job in &shown {
            let figures = job.figures.to_string();
            let figures = match &job.reason {
                Some(reason) if job.state == JobState::Failed => {
                    format!("{}\n{}", printable(reason), phrases(&printable(&figures)))
                }
                _ if job.state == JobState::NotStarted => String::new(),
                _ => phrases(&printable(&figures)),
            };
            jobs.add_row([&*printable(&job.name), job.state.as_str(), &figures]);
        }
        push(out, jobs);
        let has_rtt =
            |job: &&JobReport| matches!(&job.figures, Figures::Ping(f) if f.rtt.is_some());
        if shown.iter().any(has_rtt) {
            out.push_str("rtt: the minimum, mean and maximum round-trip time.\n");
        }
    }
    let says_rest = match layout.detail {
        Detail::Normal => shown.len() < report.jobs.len(),
        Detail::Quiet => shown.len() < listed,
        Detail::Verbose => false,
    };
    if says_rest {
        let left = |state| {
            let of_state = |job: &&JobReport| job.state == state;
            let all = report.jobs.iter().filter(of_state).count();
            let shown = shown.iter().filter(|job| job.state == state).count();
            ((all - shown) as u64, state.as_str())
        };
        let states = match layout.detail {
            Detail::Quiet => vec![JobState::Failed],
            _ => vec![
                JobState::Failed,
                JobState::Interrupted,
                JobState::Passed,
                JobState::NotStarted,
            ],
        };
        let rest = parts(states.into_iter().map(left));
        let _ = writeln!(out, "… jobs not listed: {rest}; --verbose shows all");
    }
    if layout.detail != Detail::Quiet && !report.jobs.is_empty() {
        out.push('\n');
    }
}

fn attached(out: &mut String, attached: &[AttachReport], layout: Layout) {
    if attached.is_empty() {
        return;
    }
    let header = ["attached", "by", "guests", "frames in", "out", "dropped"];
    let mut rows = table(layout.width, &header, &header[2..]);
    for report in attached {
        rows.add_row([
            printable(&report.what).into_owned(),
            printable(&report.node).into_owned(),
            report.guests.map_or_else(String::new, count),
            count(report.frames_in),
            count(report.frames_out),
            count(report.drops),
        ]);
    }
    push(out, rows);
    out.push('\n');
}

fn links(out: &mut String, links: &[LinkReport], layout: Layout) {
    let excerpt = match layout.detail {
        Detail::Verbose => Excerpt::all(links),
        _ => Excerpt::busiest(
            links,
            ROWS,
            |link| link.stats.offered == 0,
            |link| (link.stats.dropped(), link.stats.offered_bytes),
        ),
    };
    if links.is_empty() {
        return;
    }
    let queue = "queue p50/p90/p99";
    let notes: Vec<String> = excerpt.shown.iter().map(|link| notes(link)).collect();
    let has_queued = |link: &&LinkReport| !link.stats.sojourn.p99.is_zero();
    let any_queued = excerpt.shown.iter().any(has_queued);
    let any_notes = !notes.iter().all(String::is_empty);
    let mut header = vec!["link", "frames", "bytes"];
    header.extend(any_queued.then_some(queue));
    header.extend(any_notes.then_some("notes"));
    let mut links = table(layout.width, &header, &["frames", "bytes", queue]);
    for (link, notes) in excerpt.shown.iter().zip(notes) {
        let LinkStats {
            offered,
            offered_bytes,
            sojourn,
            ..
        } = link.stats;
        let percentiles = [sojourn.p50, sojourn.p90, sojourn.p99];
        let mut row = vec![
            format!("{} → {}", link.from, link.to),
            count(offered),
            size(offered_bytes),
        ];
        row.extend(any_queued.then(|| match has_queued(link) {
            true => times(&percentiles),
            false => "–".to_owned(),
        }));
        row.extend(any_notes.then_some(notes));
        links.add_row(row);
    }
    if !excerpt.shown.is_empty() {
        push(out, links);
    }
    out.push_str(&excerpt.rest("link"));
    if any_queued {
        out.push_str(
            "p50/p90/p99: half, 90 % and 99 % of the frames left the queue within this time.\n",
        );
    }
    out.push('\n');
}

/// What happened to the frames of a link, as far as it is out of the ordinary.
fn notes(link: &LinkReport) -> String {
    let stats = &link.stats;
    cell([
        (stats.lost, "lost"),
        (stats.corrupted, "corrupted"),
        (stats.queue_full, "queue full"),
        (stats.aqm, "aqm"),
        (stats.down, "down"),
        (stats.torn_down, "torn down"),
        (stats.unplugged, "unplugged"),
        (stats.marked, "marked"),
        (stats.duplicated, "duplicated"),
        (stats.reordered, "reordered"),
        (stats.corrupted_undetected, "corrupted undetected"),
        (
            link.changes,
            if link.changes == 1 {
                "change"
            } else {
                "changes"
            },
        ),
    ])
}

fn events(out: &mut String, report: &Report, layout: Layout) {
    let shown = match layout.detail {
        Detail::Verbose => report.events.len(),
        _ => report.events.len().min(ROWS),
    };
    if shown == 0 {
        return;
    }
    let mut events = table(layout.width, &["at", "link", "event"], &["at"]);
    for event in &report.events[..shown] {
        let change = match event.at.as_nanos() <= u128::from(report.ended_ns) {
            true => event.change.clone(),
            false => format!("{} (after the end of the run)", event.change),
        };
        events.add_row([format!("{:?}", event.at), event.link.clone(), change]);
    }
    push(out, events);
    let more = (report.events.len() - shown) as u64;
    if more > 0 {
        out.push_str(&left_out(&counted(more, "more event")));
    }
    out.push('\n');
}

/// What the switches that speak a spanning tree protocol agreed on. The root comes first, and then those
/// that are nearest to it.
fn spanning_trees(out: &mut String, vnets: &[VnetReport], layout: Layout) {
    let trees = vnets
        .iter()
        .filter_map(|v| Some((v, v.spanning_tree.as_ref()?)));
    let mut switches: Vec<_> = trees.collect();
    if switches.is_empty() {
        return;
    }
    switches.sort_by_key(|(_, tree)| tree.root_cost);
    let shown = match layout.detail {
        Detail::Verbose => switches.len(),
        _ => switches.len().min(ROWS),
    };
    let header = ["switch", "path cost", "changes", "ports"];
    let mut table = table(layout.width, &header, &header[1..3]);
    for (vnet, tree) in &switches[..shown] {
        let cost = match tree.bridge == tree.root {
            true => "root".to_owned(),
            false => count(tree.root_cost.into()),
        };
        let changes = count(tree.topology_changes);
        table.add_row([vnet.name.clone(), cost, changes, tree_ports(&tree.ports)]);
    }
    push(out, table);
    let more = (switches.len() - shown) as u64;
    if more > 0 {
        out.push_str(&left_out(&format!("{} more", count(more))));
    }
    out.push('\n');
}

/// The VLANs of the switches that tell them apart.
fn vlans(out: &mut String, vnets: &[VnetReport], layout: Layout) {
    let with_vlans = vnets.iter().map(|vnet| (&vnet.name, &vnet.vlans));
    let all: Vec<_> = with_vlans
        .flat_map(|(name, vlans)| vlans.iter().map(move |vlan| (name, vlan)))
        .collect();
    if all.is_empty() {
        return;
    }
    let shown = match layout.detail {
        Detail::Verbose => all.len(),
        _ => all.len().min(ROWS),
    };
    let header = ["switch", "VLAN", "untagged", "tagged", "stations"];
    let mut table = table(layout.width, &header, &[header[1], header[4]]);
    for (switch, vlan) in &all[..shown] {
        table.add_row([
            switch.to_string(),
            vlan.vid.to_string(),
            some(&vlan.untagged),
            some(&vlan.tagged),
            count(vlan.stations.len() as u64),
        ]);
    }
    push(out, table);
    let more = (all.len() - shown) as u64;
    if more > 0 {
        out.push_str(&left_out(&counted(more, "more VLAN")));
    }
    out.push('\n');
}

/// What is plugged in where, as the nodes have heard it.
fn neighbours(out: &mut String, vnets: &[VnetReport], layout: Layout) {
    let heard = vnets
        .iter()
        .flat_map(|v| v.lldp.iter().map(move |n| (v, n)));
    let heard: Vec<_> = heard.collect();
    if heard.is_empty() {
        return;
    }
    let shown = match layout.detail {
        Detail::Verbose => heard.len(),
        _ => heard.len().min(ROWS),
    };
    let header = ["interface", "neighbour", "its port", "it is"];
    let mut table = table(layout.width, &header, &[]);
    for (vnet, neighbour) in &heard[..shown] {
        let name = neighbour.system_name.as_ref().unwrap_or(&neighbour.chassis);
        table.add_row([
            format!("{}:{}", vnet.name, neighbour.interface),
            printable(name).to_string(),
            printable(&neighbour.port).to_string(),
            neighbour.capabilities.clone(),
        ]);
    }
    push(out, table);
    let more = (heard.len() - shown) as u64;
    if more > 0 {
        out.push_str(&left_out(&counted(more, "more neighbour")));
    }
    out.push('\n');
}

/// The first of some names, and how many more there are.
fn some(names: &[String]) -> String {
    if names.is_empty() {
        return "–".to_owned();
    }
    let mut said: Vec<String> = names.iter().take(NAMED_PORTS).cloned().collect();
    if names.len() > NAMED_PORTS {
        said.push(format!("{} more", names.len() - NAMED_PORTS));
    }
    said.join(", ")
}

/// The ports of a switch: by name those that a reader looks for, of the others how many there are.
fn tree_ports(ports: &[TreePortReport]) -> String {
    let is_usual = |p: &&TreePortReport| p.role == "designated" && p.state == "forwarding";
    let (usual, others): (Vec<_>, Vec<_>) = ports.iter().partition(is_usual);
    let name = |p: &&TreePortReport| match p.state.as_str() {
        "forwarding" => format!("{} {}", p.interface, p.role),
        state => format!("{} {} ({state})", p.interface, p.role),
    };
    let mut said: Vec<String> = others.iter().take(NAMED_PORTS).map(name).collect();
    if others.len() > NAMED_PORTS {
        said.push(format!("{} more", others.len() - NAMED_PORTS));
    }
    if !usual.is_empty() {
        said.push(format!("{} designated", usual.len()));
    }
    said.join(", ")
}

fn vnets(out: &mut String, vnets: &[VnetReport], layout: Layout) {
    let dropped = |vnet: &VnetReport| vnet.dropped.values().sum::<u64>();
    // Every station of a segment hears some frames that are for others: no loss, and not telling.
    let lost = |vnet: &VnetReport| {
        let others = vnet.dropped.get(DropReason::NotForUs.as_str());
        dropped(vnet) - others.copied().unwrap_or(0)
    };
    let excerpt = match layout.detail {
        Detail::Verbose => Excerpt::all(vnets),
        _ => Excerpt::busiest(
            vnets,
            ROWS,
            |vnet| vnet.received + vnet.sent == 0,
            |vnet| (lost(vnet), vnet.received + vnet.sent),
        ),
    };
    if !excerpt.shown.is_empty() {
        let header = ["vnet", "received", "forwarded", "sent", "dropped", "notes"];
        let any = excerpt.shown.iter().any(|vnet| !vnet.dropped.is_empty());
        let header = &header[..if any { 6 } else { 5 }];
        let mut vnets = table(layout.width, header, &header[1..5]);
        for vnet in &excerpt.shown {
            let mut row = vec![
                vnet.name.clone(),
                count(vnet.received),
                count(vnet.forwarded),
                count(vnet.sent),
                count(dropped(vnet)),
            ];
            row.extend(any.then(|| cell(vnet.dropped.iter().map(|(reason, n)| (*n, *reason)))));
            vnets.add_row(row);
        }
        push(out, vnets);
    }
    out.push_str(&excerpt.rest("vnet"));
    if layout.detail == Detail::Verbose {
        teardown(out, vnets, layout);
    }
    out.push('\n');
}

/// What each vnet held and gave back.
fn teardown(out: &mut String, vnets: &[VnetReport], layout: Layout) {
    let header = [
        "vnet",
        "sockets",
        "connections",
        "interfaces",
        "packets",
        "timers",
    ];
    let mut table = table(layout.width, &header, &header[1..]);
    for vnet in vnets {
        let (released, leaked) = (&vnet.teardown.released, &vnet.teardown.leaked);
        let left = |of: fn(&Counts) -> u64| format!("{}/{}", of(leaked), of(released));
        table.add_row([
            vnet.name.clone(),
            left(|c| c.sockets),
            left(|c| c.connections),
            left(|c| c.interfaces),
            left(|c| c.packets),
            left(|c| c.deadlines),
        ]);
    }
    out.push('\n');
    push(out, table);
    out.push_str("Teardown, as leaked/held. What was held is given back unless it leaked.\n");
}

/// What is a defect of the library.
fn failures(out: &mut String, vnets: &[VnetReport]) {
    for vnet in vnets {
        if let Some(failure) = &vnet.teardown.failure {
            let _ = writeln!(out, "vnet {} FAILED: {}", vnet.name, printable(failure));
        }
        let Counts {
            sockets,
            connections,
            interfaces,
            stations,
            packets,
            deadlines,
        } = vnet.teardown.leaked;
        let leaked = parts([
            (sockets, "sockets"),
            (connections, "connections"),
            (interfaces, "interfaces"),
            (stations, "FDB entries"),
            (packets, "packets"),
            (deadlines, "timers"),
        ]);
        if !leaked.is_empty() {
            let _ = writeln!(out, "vnet {} LEAKED: {leaked}", vnet.name);
        }
    }
}

fn verdict(out: &mut String, report: &Report) {
    let of = |state| report.jobs.iter().filter(|job| job.state == state).count() as u64;
    let all = report.jobs.len() as u64;
    let failed = of(JobState::Failed);
    let unclean = report.vnets.iter().filter(|v| !v.teardown.is_clean());
    let mut said = Vec::new();
    if report.interrupted {
        said.push("interrupted".to_owned());
        said.push(parts([
            (of(JobState::Passed), "passed"),
            (of(JobState::Interrupted), "cut off"),
            (of(JobState::NotStarted), "not started"),
        ]));
    } else if failed == 0 {
        said.push(match all {
            0 => "no jobs".to_owned(),
            1 => "1 job passed".to_owned(),
            n => format!("all {} jobs passed", count(n)),
        });
    }
    if failed > 0 {
        said.push(format!("{} of {} jobs FAILED", count(failed), count(all)));
    }
    match unclean.count() as u64 {
        0 => {}
        n => said.push(format!("{} FAILED or LEAKED", counted(n, "vnet"))),
    }
    let lost = report.attached.iter().filter(|a| a.has_failed());
    match lost.count() as u64 {
        0 => {}
        n => said.push(format!("{n} of what was attached FAILED")),
    }
    said.retain(|part| !part.is_empty());
    let seed = report.seed.map_or(String::new(), |s| format!(", seed {s}"));
    let simulated = match report.seed {
        Some(_) => " simulated",
        None => "",
    };
    let _ = writeln!(
        out,
        "{}: {} ({} driver{seed}, {}{simulated})",
        printable(&report.topology),
        said.join(", "),
        report.driver,
        time_ns(report.ended_ns)
    );
}
