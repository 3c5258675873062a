//! What a bridge knows, as text: its part in a spanning tree, its VLANs, its stations and its groups, in columns
//! that fit a narrow terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::admin::bridges::{BridgeView, SnoopingInfo, StpInfo};
use crate::netif::bridge::fdb::Origin;

/// Columns of a terminal that are counted on, but for the tab before each line.
const WIDTH: usize = 72;

/// All of that.
pub(super) fn known(bridge: &BridgeView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(stp) = &bridge.stp {
        tree(stp, f)?;
    }
    vlans(bridge, f)?;
    stations(bridge, f)?;
    match &bridge.snooping {
        None => Ok(()),
        Some(snooping) => groups(snooping, f),
    }
}

/// A line of columns, of which the last may be of any length.
fn row<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    widths: [usize; N],
    cells: [&str; N],
) -> fmt::Result {
    let mut line = String::from("\t");
    for (width, cell) in widths.into_iter().zip(cells) {
        line.push_str(&format!("{cell:width$} "));
    }
    writeln!(f, "{}", line.trim_end())
}

/// Names, on as many lines as they need.
fn names(f: &mut fmt::Formatter<'_>, what: &str, names: &[&str]) -> fmt::Result {
    let mut line = format!("{what}:");
    for (n, name) in names.iter().enumerate() {
        let comma = if n + 1 < names.len() { "," } else { "" };
        if line.len() + name.len() + 2 > WIDTH {
            writeln!(f, "\t{line}")?;
            line = " ".repeat(what.len() + 1);
        }
        line.push_str(&format!(" {name}{comma}"));
    }
    writeln!(f, "\t{line}")
}

fn tree(stp: &StpInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "\tspanning tree: bridge {}, ", stp.bridge)?;
    match &stp.root_port {
        None if stp.root == stp.bridge => writeln!(f, "the root")?,
        port => {
            writeln!(f, "root {}", stp.root)?;
            let port = port.as_deref().unwrap_or("-");
            writeln!(f, "\troot port: {port} cost {}", stp.root_cost)?;
        }
    }
    const WIDTHS: [usize; 5] = [16, 10, 10, 10, 6];
    row(f, WIDTHS, ["port", "role", "state", "cost", "edge"])?;
    for port in &stp.ports {
        let (role, state) = (port.role.to_string(), port.state.to_string());
        let edge = if port.is_edge { "yes" } else { "no" };
        let cost = port.cost.to_string();
        row(f, WIDTHS, [&port.name, &role, &state, &cost, edge])?;
    }
    Ok(())
}

/// The VLANs in which a member is, or the vnet itself; those with the same members on one line.
fn vlans(bridge: &BridgeView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(config) = &bridge.config.vlans else {
        return Ok(());
    };
    let ports = bridge.members.iter().map(|m| (&*m.name, &m.config.vlans));
    let host = std::iter::once(("host", &config.host));
    let mut members: BTreeMap<u16, [Vec<&str>; 2]> = BTreeMap::new();
    for (name, vlans) in ports.chain(host) {
        let tagged: BTreeSet<u16> = vlans.tagged.iter().collect();
        for vid in &tagged {
            members.entry(*vid).or_default()[1].push(name);
        }
        for vid in vlans.untagged.iter().filter(|vid| !tagged.contains(vid)) {
            members.entry(vid).or_default()[0].push(name);
        }
    }
    let mut runs: Vec<(u16, u16, [Vec<&str>; 2])> = Vec::new();
    for (vid, members) in members {
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == vid && *same == members => *last = vid,
            _ => runs.push((vid, vid, members)),
        }
    }
    for (first, last, [untagged, tagged]) in runs {
        let range = match first == last {
            true => format!("VLAN {first}"),
            false => format!("VLANs {first}-{last}"),
        };
        for (how, of) in [("untagged", untagged), ("tagged", tagged)] {
            if !of.is_empty() {
                names(f, &format!("{range} {how}"), &of)?;
            }
        }
    }
    Ok(())
}

fn stations(bridge: &BridgeView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if bridge.fdb.is_empty() {
        return Ok(());
    }
    const WIDTHS: [usize; 6] = [17, 4, 16, 7, 7, 5];
    let header = ["station", "VLAN", "behind", "origin", "idle/s", "moves"];
    row(f, WIDTHS, header)?;
    for station in &bridge.fdb {
        let vid = station.vid.map_or("-".to_owned(), |vid| vid.to_string());
        let origin = match station.origin {
            Origin::Learned => "learned",
            Origin::Sticky => "sticky",
            Origin::Static => "static",
            Origin::Local => "local",
        };
        let idle = match station.origin {
            Origin::Learned => station.idle.as_secs().to_string(),
            _ => "-".to_owned(),
        };
        let (mac, moves) = (station.mac.to_string(), station.moves.to_string());
        row(
            f,
            WIDTHS,
            [&mac, &vid, &station.interface, origin, &idle, &moves],
        )?;
    }
    Ok(())
}

fn groups(snooping: &SnoopingInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if snooping.is_querier {
        writeln!(f, "\tquerier: this bridge")?;
    }
    let all = |all: &[String]| {
        all.iter()
            .map(|name| &**name)
            .collect::<Vec<&str>>()
            .join(", ")
    };
    if !snooping.routers.is_empty() {
        writeln!(f, "\trouters: {}", all(&snooping.routers))?;
    }
    if snooping.groups.is_empty() {
        return Ok(());
    }
    const WIDTHS: [usize; 3] = [17, 4, 16];
    row(f, WIDTHS, ["group", "VLAN", "behind"])?;
    for group in &snooping.groups {
        let vid = group.vid.map_or("-".to_owned(), |vid| vid.to_string());
        row(
            f,
            WIDTHS,
            [&group.group.to_string(), &vid, &all(&group.members)],
        )?;
    }
    Ok(())
}
