//! An [`Inspection`] as text, in the forms that a BSD user knows.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

mod bridges;

use super::{Inspection, InterfaceView, SocketKind};
use crate::admin::lagg::LaggInfo;
use crate::admin::record::InitStep;
use crate::admin::routes::RouteInfo;
use crate::instance::phase::PhaseName;
use crate::instance::privilege::Privileges;
use crate::instance::{Resource, Usage};
use crate::ip::fib::{Origin, RouteKind};
use crate::ip::state::Forwarding;
use crate::neigh::state::StateName;
use crate::netif::AdminState;
use crate::netif::lagg::config::{LaggHash, LaggMode};
use crate::packet::cx::Carrier;
use crate::transport::tcp::TcpInfo;

impl fmt::Display for Inspection {
    /// In 80 columns, or in as many as the format has as its width: `format!("{seen:120}")`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(WIDTH).max(MIN_WIDTH);
        let mut text = String::new();
        all(self, width, &mut text)?;
        text.lines().try_for_each(|line| fold(line, width, f))
    }
}

/// Columns of a terminal of which nothing is known, and those that are used of a very narrow one.
const WIDTH: usize = 80;
const MIN_WIDTH: usize = 40;
/// What a line begins with that goes on with the one before.
const CONTINUED: &str = "\t    ";

/// Writes a line, in several where it is wider than that.
fn fold(line: &str, width: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = line;
    let mut indent = "";
    loop {
        let mut column = columns(indent);
        let mut end = rest.len();
        // Behind the last space or comma that fits, and behind whatever fits when there is none.
        let mut broken = None;
        let text = rest.len() - rest.trim_start().len();
        for (at, c) in rest.char_indices() {
            column = after(column, c);
            if column > width {
                end = at;
                break;
            }
            if at > text && matches!(c, ' ' | ',') {
                broken = Some(at + 1);
            }
        }
        if end == rest.len() {
            return writeln!(f, "{indent}{rest}");
        }
        let (now, later) = rest.split_at(broken.unwrap_or(end));
        writeln!(f, "{indent}{}", now.trim_end())?;
        rest = later.trim_start();
        indent = CONTINUED;
    }
}

/// The column after a character at that one.
fn after(column: usize, c: char) -> usize {
    match c {
        '\t' => (column / 8 + 1) * 8,
        _ => column + 1,
    }
}

fn columns(text: &str) -> usize {
    text.chars().fold(0, after)
}

fn all(seen: &Inspection, width: usize, f: &mut String) -> fmt::Result {
    head(seen, f)?;
    let mut interfaces = seen.interfaces.iter();
    interfaces.try_for_each(|i| interface(i, width, f))?;
    routes(&seen.routes, f)?;
    neighbours(seen, f)?;
    path_mtus(seen, f)?;
    lldp(seen, f)?;
    sockets(seen, f)?;
    numbers(seen, f)?;
    init(seen, f)?;
    match seen.pins.is_empty() {
        true => Ok(()),
        false => write!(f, "\n{}", seen.pins),
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PhaseName::Starting => "starting",
            PhaseName::Up => "up",
            PhaseName::Draining => "draining",
            PhaseName::Failed => "failed",
            PhaseName::Dying => "dying",
        })
    }
}

fn head(seen: &Inspection, f: &mut String) -> fmt::Result {
    let role = match seen.forwarding {
        Forwarding::Enabled => "router",
        Forwarding::Disabled => "host",
    };
    writeln!(
        f,
        "vnet {}: {}, {role}, at {}",
        seen.name, seen.phase, seen.at
    )?;
    if !seen.children.is_empty() {
        writeln!(f, "\tchildren: {}", seen.children.join(" "))?;
    }
    if !Privileges::ALL.is_subset(seen.privileges) {
        writeln!(f, "\tprivileges: {}", seen.privileges)?;
    }
    Ok(())
}

/// As `ifconfig(8)`.
fn interface(view: &InterfaceView, width: usize, f: &mut String) -> fmt::Result {
    let info = &view.info;
    let mut flags: Vec<&str> = Vec::new();
    if info.admin == AdminState::Up {
        flags.push("UP");
    }
    let has_neighbours = info.kind.can().needs_neighbours;
    flags.push(match has_neighbours {
        true => "BROADCAST",
        false => "LOOPBACK",
    });
    if info.admin == AdminState::Up && info.carrier == Carrier::Up {
        flags.push("RUNNING");
    }
    flags.push("MULTICAST");
    let (name, flags) = (&info.name, flags.join(","));
    writeln!(f, "{name}: flags=<{flags}> mtu {}", info.ip_mtu)?;
    if has_neighbours {
        writeln!(f, "\tether {}", info.mac)?;
    }
    for net in &info.addresses {
        let is_in = |all: &[IpAddr]| all.contains(&net.addr());
        let state = match (is_in(&view.tentative), is_in(&view.duplicate)) {
            (true, _) => " tentative",
            (_, true) => " duplicated",
            _ => "",
        };
        match net {
            IpNet::V6(net) => write!(f, "\tinet6 {} prefixlen {}", net.addr(), net.prefix_len())?,
            IpNet::V4(net) => {
                let mask = u32::from(net.netmask());
                write!(f, "\tinet {} netmask {mask:#010x}", net.addr())?;
                if has_neighbours && net.prefix_len() < 31 {
                    write!(f, " broadcast {}", net.broadcast())?;
                }
            }
        }
        writeln!(f, "{state}")?;
    }
    for addr in &view.anycast {
        writeln!(f, "\tinet6 {addr} anycast")?;
    }
    if has_neighbours {
        write!(f, "\tmedia: {}", info.kind)?;
        match &view.peer {
            Some(peer) => writeln!(f, " to {peer}")?,
            None => writeln!(f)?,
        }
        writeln!(
            f,
            "\tstatus: {}",
            match info.carrier {
                Carrier::Up => "active",
                Carrier::Down => "no carrier",
            }
        )?;
    }
    if let Some(link) = &view.link {
        writeln!(f, "\tlink: {link}")?;
    }
    if let Some(vlan) = &info.vlan {
        let (vid, tpid, parent) = (vlan.vid, vlan.tpid, &vlan.parent);
        writeln!(
            f,
            "\tvlan: {vid} vlanproto: {tpid} parent interface: {parent}"
        )?;
        if let Some(maps) = &vlan.classes {
            writeln!(f, "\tclasses: {maps}")?;
        }
    }
    if let Some(bridge) = &view.bridging {
        writeln!(f, "\tbridge: {}", bridge.config)?;
        for member in &bridge.members {
            let how = member.config.to_string();
            let comma = if how.is_empty() { "" } else { ", " };
            writeln!(f, "\tmember: {}{comma}{how}", member.name)?;
        }
        bridges::known(bridge, width, f)?;
    }
    if let Some(lagg) = &view.aggregation {
        laggs(lagg, f)?;
    }
    let c = &info.counters;
    if c.rx_frames + c.tx_frames > 0 {
        writeln!(
            f,
            "\tin: {}, {}; out: {}, {}",
            counted(c.rx_frames, "frame"),
            counted(c.rx_bytes, "byte"),
            counted(c.tx_frames, "frame"),
            counted(c.tx_bytes, "byte")
        )?;
    }
    match view.captures {
        0 => Ok(()),
        n => writeln!(f, "\tcaptures: {n}"),
    }
}

/// As `ifconfig` shows a lagg.
fn laggs(lagg: &LaggInfo, f: &mut String) -> fmt::Result {
    let word = |mode| match mode {
        LaggMode::Failover => "failover",
        LaggMode::Balance => "balance",
        LaggMode::LacpActive => "lacp active",
        LaggMode::LacpPassive => "lacp passive",
    };
    let hash = match lagg.config.hash {
        LaggHash::L2 => "l2",
        LaggHash::L3 => "l3",
        LaggHash::L4 => "l4",
    };
    writeln!(f, "\tlaggproto {} lagghash {hash}", word(lagg.config.mode))?;
    for member in &lagg.members {
        let state = match (member.sends, member.receives) {
            (true, _) => "active",
            (false, true) => "collecting",
            (false, false) => "inactive",
        };
        write!(f, "\tlaggport: {} {state}", member.name)?;
        if let Some(lacp) = member.lacp.filter(|_| state == "inactive") {
            write!(f, " ({lacp})")?;
        }
        if let Some(p) = &member.partner {
            write!(
                f,
                ", partner {} priority {} key {} port {} state {:#04x}",
                p.system, p.system_priority, p.key, p.port, p.state
            )?;
        }
        match lagg.config.mode.is_lacp() {
            true => writeln!(f, ", lacpdus in {} out {}", member.pdus_in, member.pdus_out)?,
            false => writeln!(f)?,
        }
    }
    match lagg.bad_pdus {
        0 => Ok(()),
        n => writeln!(f, "\tbad pdus: {n}"),
    }
}

/// Such as `1 frame`.
fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// As `netstat -rn`: a table for each version.
fn routes(routes: &[RouteInfo], f: &mut String) -> fmt::Result {
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nRouting tables")?;
    let (v4, v6): (Vec<_>, Vec<_>) = routes.iter().partition(|r| r.dst.addr().is_ipv4());
    table("Internet", &v4, &ROUTE, f)?;
    table("Internet6", &v6, &ROUTE6, f)
}

fn table(title: &str, routes: &[&RouteInfo], widths: &[usize], f: &mut String) -> fmt::Result {
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    let titles = ["Destination", "Gateway", "Flags", "Metric", "Netif"];
    line(f, &titles, widths)?;
    for route in routes {
        let is_host = route.dst.prefix_len() == route.dst.max_prefix_len();
        let dst = match route.dst.prefix_len() {
            0 => "default".to_owned(),
            _ if is_host => route.dst.addr().to_string(),
            _ => route.dst.to_string(),
        };
        let gateway = match (route.kind, route.gateway) {
            (RouteKind::Unicast, None) => "link".to_owned(),
            (RouteKind::Unicast, Some(gateway)) => gateway.to_string(),
            (kind, _) => kind.as_str().to_owned(),
        };
        let mut flags = "U".to_owned();
        if route.gateway.is_some() {
            flags.push('G');
        }
        if is_host {
            flags.push('H');
        }
        // The letters of FreeBSD's netstat.
        match route.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => flags.push('B'),
            RouteKind::Unreachable | RouteKind::Prohibit => flags.push('R'),
        }
        match route.origin {
            Origin::Static => flags.push('S'),
            Origin::Advertised => flags.push('A'),
            Origin::Connected | Origin::Host => {}
        }
        let metric = route.metric.to_string();
        let cells = [&*dst, &*gateway, &*flags, &*metric, &*route.interface];
        line(f, &cells, widths)?;
    }
    Ok(())
}

const ROUTE: [usize; 5] = [18, 18, 7, 7, 0];
const ROUTE6: [usize; 5] = [29, 25, 7, 7, 0];
const LLDP: [usize; 5] = [15, 18, 15, 8, 0];
const SOCKET: [usize; 6] = [5, 7, 7, 22, 22, 0];

/// Cells in columns of these widths; the last one, of width 0, ends the line.
fn line(f: &mut String, cells: &[&str], widths: &[usize]) -> fmt::Result {
    for (cell, width) in cells.iter().zip(widths) {
        match width {
            0 => write!(f, "{cell}")?,
            width => write!(f, "{cell:<width$} ")?,
        }
    }
    writeln!(f)
}

/// As `arp -an`.
fn neighbours(seen: &Inspection, f: &mut String) -> fmt::Result {
    if !seen.neighbours.is_empty() {
        writeln!(f)?;
    }
    for n in &seen.neighbours {
        let mac = n.mac.map(|mac| mac.to_string());
        let mac = mac.as_deref().unwrap_or("(incomplete)");
        write!(f, "? ({}) at {mac} on {}", n.ip, n.interface)?;
        match n.state {
            StateName::Permanent => write!(f, " permanent")?,
            StateName::Incomplete => {
                let held = counted(n.held_packets as u64, "packet");
                write!(f, ", {held} held")?;
            }
            state => write!(
                f,
                " {}, idle {:?}",
                format!("{state:?}").to_lowercase(),
                n.idle
            )?,
        }
        writeln!(f, " [ethernet]")?;
    }
    Ok(())
}

/// What paths take.
fn path_mtus(seen: &Inspection, f: &mut String) -> fmt::Result {
    if !seen.path_mtus.is_empty() {
        writeln!(f)?;
    }
    for (to, mtu) in &seen.path_mtus {
        writeln!(f, "path to {to} mtu {mtu}")?;
    }
    Ok(())
}

/// Who is plugged in where.
fn lldp(seen: &Inspection, f: &mut String) -> fmt::Result {
    if seen.lldp.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nLLDP neighbours")?;
    let titles = ["Netif", "Neighbour", "Port", "Expires", "Capabilities"];
    line(f, &titles, &LLDP)?;
    for n in &seen.lldp {
        let name = n.system_name.as_ref().unwrap_or(&n.chassis);
        let expires = format!("{} s", (n.until - seen.at).as_secs());
        let cells = [&*n.interface, name, &*n.port, &*expires, &*n.capabilities];
        line(f, &cells, &LLDP)?;
    }
    Ok(())
}

/// As `netstat -an`, and below a connection that has carried something what it did and what it knows of its path.
fn sockets(seen: &Inspection, f: &mut String) -> fmt::Result {
    if seen.sockets.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nActive Internet connections (including servers)")?;
    let titles = [
        "Proto",
        "Recv-Q",
        "Send-Q",
        "Local Address",
        "Foreign Address",
        "(state)",
    ];
    line(f, &titles, &SOCKET)?;
    for socket in &seen.sockets {
        let ends = [socket.local, socket.peer];
        let is_v6 = ends.iter().flatten().any(SocketAddr::is_ipv6);
        let (proto, state) = match socket.kind {
            SocketKind::Tcp(state) => (
                if is_v6 { "tcp6" } else { "tcp4" },
                words(&format!("{state:?}")),
            ),
            SocketKind::Udp => (if is_v6 { "udp6" } else { "udp4" }, String::new()),
            // As FreeBSD names sockets of both families.
            SocketKind::Raw(proto) => ("ip46", format!("protocol {proto}")),
            SocketKind::Echo(ident) => ("icm46", format!("identifier {ident}")),
        };
        let (recv, send) = (socket.recv_queue.to_string(), socket.send_queue.to_string());
        let (local, peer) = (address(socket.local), address(socket.peer));
        line(f, &[proto, &recv, &send, &local, &peer, &state], &SOCKET)?;
        if let Some(info) = socket
            .tcp
            .as_deref()
            .filter(|t| t.bytes_sent + t.bytes_received > 0)
        {
            connection(info, f)?;
        }
    }
    Ok(())
}

/// What a connection did, and what it knows of its path.
fn connection(info: &TcpInfo, f: &mut String) -> fmt::Result {
    let (sent, again) = (info.bytes_sent, info.bytes_retransmitted);
    write!(f, "      sent {} ({again} again)", counted(sent, "byte"))?;
    write!(f, ", received {}", info.bytes_received)?;
    if let Some(srtt) = info.srtt {
        write!(f, "; round trip {srtt:.1?}")?;
    }
    let (cwnd, in_flight) = (info.cwnd, info.in_flight);
    write!(
        f,
        "; window {cwnd} ({in_flight} on their way, peer {})",
        info.peer_window
    )?;
    if let Some(rate) = info.delivery_rate {
        write!(f, "; {rate} bytes/s")?;
        if info.is_app_limited {
            write!(f, " (application)")?;
        }
    }
    if info.retries > 0 {
        write!(f, "; unanswered {}", counted(info.retries.into(), "time"))?;
    }
    writeln!(f)
}

/// `TimeWait` as `TIME_WAIT`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if !words.is_empty() && (c.is_ascii_uppercase() || c.is_ascii_digit()) {
            words.push('_');
        }
        words.push(c.to_ascii_uppercase());
    }
    words
}

/// An address in the manner of BSD: the port behind a dot, `*` for what is not said.
fn address(addr: Option<SocketAddr>) -> String {
    let Some(addr) = addr else {
        return "*.*".to_owned();
    };
    let ip = match addr.ip() {
        ip if ip.is_unspecified() => "*".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    };
    match addr.port() {
        0 => format!("{ip}.*"),
        port => format!("{ip}.{port}"),
    }
}

fn numbers(seen: &Inspection, f: &mut String) -> fmt::Result {
    writeln!(f)?;
    let counters = seen.counters.iter().filter(|(_, n)| **n > 0);
    let counters = counters.map(|(name, n)| format!("{name}: {n}"));
    let denials = seen.denials.iter();
    let denials = denials.map(|(privilege, n)| format!("denied for want of {privilege}: {n}"));
    let locals = (seen.locals > 0).then(|| format!("vnet variables: {}", seen.locals));
    section("Counters", counters.chain(denials).chain(locals), f)?;
    let is_used = |u: &&Usage| u.high_water > 0 || u.refused > 0 || u.limit != Resource::UNLIMITED;
    let usages = seen.usages.iter().filter(is_used);
    section("Limits", usages.map(Usage::to_string), f)?;
    let tunables = seen.tunables.iter();
    section(
        "Tunables",
        tunables.map(|(name, value)| format!("{name}={value}")),
        f,
    )?;
    let policy = seen.address_policy.iter().flatten();
    section("Address policy", policy.map(ToString::to_string), f)
}

/// Lines under a title; nothing where there are none.
fn section(title: &str, lines: impl Iterator<Item = String>, f: &mut String) -> fmt::Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "{title}")?;
    }
    lines.try_for_each(|line| writeln!(f, "\t{line}"))
}

fn init(seen: &Inspection, f: &mut String) -> fmt::Result {
    let step = |step: &InitStep| {
        let (stage, order) = (step.stage, step.order);
        format!("{:<12} {stage:?}/{order}", step.name)
    };
    section("Init", seen.init.iter().map(step), f)
}

#[cfg(test)]
mod tests {
    use crate::ip::v6::policy::AddressPolicy;
    use crate::{Resource, System};

    #[test]
    fn a_title_has_something_under_it() {
        let system = System::manual(1);
        let a = system.create("a").expect("a free name");
        let lines = || -> Vec<String> {
            let text = a.inspect().expect("alive").to_string();
            text.lines().map(str::to_owned).collect()
        };
        for title in ["Counters", "Tunables", "Address policy"] {
            assert!(!lines().contains(&title.to_owned()), "{title}");
        }
        a.set_sysctl("net.inet.ip.ttl", 5).expect("in range");
        a.set_limit(Resource::Tasks, 3).expect("alive");
        let row = AddressPolicy {
            prefix: ipnet::Ipv6Net::default(),
            precedence: 40,
            label: 1,
        };
        a.set_address_policy(Some(vec![row])).expect("a table");
        let text = lines().join("\n");
        assert!(
            text.contains("Tunables\n\tnet.inet.ip.ttl=5\nAddress policy\n\t::/0 40 1\nInit\n"),
            "{text}"
        );
        a.set_address_policy(None).expect("alive");
        assert!(!lines().join("\n").contains("Address policy"));
    }
}
