//! What a bridge knows, as text: its part in a spanning tree, its VLANs, its stations and its groups, in columns
//! that fit the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use crate::admin::bridges::{BridgeInfo, SnoopingInfo, StpInfo};
use crate::netif::bridge::fdb::Origin;
use crate::netif::bridge::{Switchable, VidSet};

/// Columns of the tab before each line.
const TAB: usize = 8;

/// All of that, in lines of so many columns.
pub(super) fn known(bridge: &BridgeInfo, width: usize, f: &mut String) -> fmt::Result {
    let width = width - TAB;
    if let Some(stp) = &bridge.stp {
        tree(stp, f)?;
    }
    vlans(bridge, width, f)?;
    stations(bridge, f)?;
    match &bridge.snooping {
        None => Ok(()),
        Some(snooping) => groups(snooping, width, f),
    }
}

/// A line of columns, of which the last may be of any length.
fn row<const N: usize>(f: &mut String, widths: [usize; N], cells: [&str; N]) -> fmt::Result {
    let mut line = String::from("\t");
    for (width, cell) in widths.into_iter().zip(cells) {
        line.push_str(&format!("{cell:width$} "));
    }
    writeln!(f, "{}", line.trim_end())
}

/// Names behind something, on as many lines as they need.
fn names(f: &mut String, width: usize, what: &str, names: &[&str]) -> fmt::Result {
    let indent = what.len().min(width / 2);
    let mut line = what.to_owned();
    for (n, name) in names.iter().enumerate() {
        let comma = if n + 1 < names.len() { "," } else { "" };
        if n > 0 && line.len() + 1 + name.len() + comma.len() > width {
            writeln!(f, "\t{line}")?;
            line = " ".repeat(indent);
        }
        write!(line, " {name}{comma}")?;
    }
    writeln!(f, "\t{line}")
}

fn tree(stp: &StpInfo, f: &mut String) -> fmt::Result {
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
fn vlans(bridge: &BridgeInfo, width: usize, f: &mut String) -> fmt::Result {
    let Some(config) = &bridge.config.vlans else {
        return Ok(());
    };
    let ports = bridge.members.iter().map(|m| (&*m.name, &m.config.vlans));
    let is_attached = bridge.config.host_port == Switchable::On;
    let host = is_attached.then_some(("host", &config.host));
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
    let mut alike: Vec<([Vec<&str>; 2], Vec<u16>)> = Vec::new();
    let mut places: BTreeMap<[Vec<&str>; 2], usize> = BTreeMap::new();
    for (vid, members) in members {
        let place = *places.entry(members.clone()).or_insert(alike.len());
        match alike.get_mut(place) {
            Some((_, vids)) => vids.push(vid),
            None => alike.push((members, vec![vid])),
        }
    }
    for ([untagged, tagged], vids) in alike {
        let s = if vids.len() == 1 { "" } else { "s" };
        let vids: VidSet = vids.into_iter().collect();
        for (how, of) in [("untagged", untagged), ("tagged", tagged)] {
            if !of.is_empty() {
                names(f, width, &format!("VLAN{s} {vids} {how}:"), &of)?;
            }
        }
    }
    Ok(())
}

fn stations(bridge: &BridgeInfo, f: &mut String) -> fmt::Result {
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

fn groups(snooping: &SnoopingInfo, width: usize, f: &mut String) -> fmt::Result {
    if snooping.is_querier {
        writeln!(f, "\tquerier: this bridge")?;
    }
    if !snooping.routers.is_empty() {
        let routers: Vec<&str> = snooping.routers.iter().map(String::as_str).collect();
        names(f, width, "routers:", &routers)?;
    }
    if snooping.groups.is_empty() {
        return Ok(());
    }
    let wide = snooping.groups.iter().map(|g| g.group.to_string().len());
    let wide = wide.max().unwrap_or(0).max(17);
    writeln!(f, "\t{:wide$} VLAN behind", "group")?;
    for group in &snooping.groups {
        let vid = group.vid.map_or("-".to_owned(), |vid| vid.to_string());
        let members: Vec<&str> = group.members.iter().map(String::as_str).collect();
        let what = format!("{:wide$} {vid:4}", group.group.to_string());
        names(f, width, &what, &members)?;
    }
    Ok(())
}
