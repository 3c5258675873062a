//! From TOML to nodes and links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::Ipv6Net;
use toml::Spanned;
use toml::de::DeTable;
use vnet::net::AddressPolicy;
use vnet::{BridgeConfig, LinkConfig, RouteKind, RstpConfig, Tpid, VlanConfig};

use super::end::{self, EndSpec, VlanSpec};
use super::{
    End, Lagg, Link, Node, NodeKind, Port, Route, Routing, SpanningTree, Switch, Topology, Via,
    attach, capture, event, job, lagg, link as parameters, switch,
};
use crate::family::{Family, is_link_local};
use crate::file::name::{interface_name, node_name};
use crate::file::source::Problems;
use crate::file::table::{Table, Value, checked, in_file_order, kind};

/// Name servers that a node may have.
const MOST_NAME_SERVERS: usize = 16;

/// Reads a whole file, noting what is wrong and leaving it out.
pub(crate) fn topology(source: &str, problems: &mut Problems<'_>) -> Topology {
    let (document, errors) = DeTable::parse_recoverable(source);
    // A file that is not TOML is not read any further: what was recovered is a guess.
    let (duplicates, mut broken): (Vec<_>, Vec<_>) = errors
        .into_iter()
        .map(|e| (e.span().unwrap_or(0..0), e))
        .partition(|(_, e)| e.message() == "duplicate key");
    broken.sort_by_key(|(span, _)| span.start);
    if let Some((span, error)) = broken.into_iter().next() {
        problems.push(span, format!("not TOML: {}", error.message().trim()));
        return Topology::default();
    }
    for (span, _) in duplicates {
        let key = source.get(span.clone()).unwrap_or_default();
        problems.push(span, format!("duplicate name: `{key}` is already there"));
    }
    let mut table = Table::new("the topology", 0..0, document.get_ref());
    let name = table
        .string("name", problems)
        .map_or_else(|| "unnamed".to_owned(), |name| name.into_inner().to_owned());
    let routing = table
        .read("routing", routing, problems)
        .map_or_else(Routing::default, Spanned::into_inner);
    let stp = switch::spanning_tree(&mut table, problems);
    let lldp = table.boolean("lldp", problems);
    let mut nodes = nodes(&mut table, problems);
    if nodes.is_empty() && problems.count() == 0 {
        let keys = ["hosts", "routers", "switches", "hubs", "node"];
        let place = keys.iter().find_map(|key| table.key_span(key));
        problems.push(
            place.unwrap_or(0..0),
            "expected at least one node in `hosts`, `routers`, `switches`, `hubs` or a table [node.NAME]",
        );
    }
    let mut links: Vec<LinkSpec> = table
        .array("link", problems)
        .into_iter()
        .filter_map(|value| link(value, problems))
        .collect();
    let mut attached = Vec::new();
    for (value, number) in table.array("attach", problems).into_iter().zip(1..) {
        let Some(spec) = attach::read(value, number, problems) else {
            continue;
        };
        nodes.push(spec.node());
        attached.push(spec.attach);
        links.push(LinkSpec {
            ends: spec.ends,
            name: None,
            capture: None,
            lagg: None,
            forward: spec.forward,
            backward: spec.backward,
        });
    }
    addresses_there(&nodes, &links, problems);
    let events = table.array("event", problems);
    let events = events
        .into_iter()
        .filter_map(|value| event::read(value, problems))
        .collect();
    let capture = table.value("capture");
    let capture = capture.and_then(|value| capture::read(value, problems));
    let jobs = table.array("job", problems);
    let jobs = jobs
        .into_iter()
        .filter_map(|value| job::read(value, problems))
        .collect();
    table.finish(problems);
    Topology {
        name,
        routing,
        stp: stp.map_or_else(SpanningTree::default, Spanned::into_inner),
        lldp: lldp.unwrap_or(false),
        nodes,
        links: name_interfaces(links),
        attach: attached,
        events,
        capture: capture.unwrap_or_default(),
        jobs,
        ..Topology::default()
    }
}

/// Each end has an address, unless it is at a switch or hub.
fn addresses_there(nodes: &[Node], links: &[LinkSpec], problems: &mut Problems<'_>) {
    let bridges: BTreeSet<&str> = nodes
        .iter()
        .filter(|n| n.kind.is_bridge())
        .map(|n| n.name.get_ref().as_str())
        .collect();
    for end in links.iter().flat_map(|link| &link.ends) {
        if !end.says_address && !bridges.contains(end.node.get_ref().as_str()) {
            end::no_address(end, problems);
        }
    }
}

fn routing(text: &str) -> Result<Routing, String> {
    match text {
        "static" => Ok(Routing::Static),
        "auto" => Ok(Routing::Auto),
        _ => Err(format!("expected \"static\" or \"auto\", found \"{text}\"")),
    }
}

fn nodes(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (key, kind) in [
        ("hosts", NodeKind::Host),
        ("routers", NodeKind::Router),
        ("switches", NodeKind::Switch),
        ("hubs", NodeKind::Hub),
    ] {
        for name in table.strings(key, problems) {
            match node_name(name.get_ref()) {
                Err(message) => problems.push(name.span(), message),
                Ok(text) => nodes.push(Node {
                    name: Spanned::new(name.span(), text),
                    kind,
                    stp: None,
                    stp_priority: None,
                    lldp: None,
                    switch: Switch::default(),
                    sysctl: Vec::new(),
                    address_policy: None,
                    dns: Vec::new(),
                    routes: Vec::new(),
                }),
            }
        }
    }
    if let Some(value) = table.value("node") {
        match value.get_ref() {
            toml::de::DeValue::Table(entries) => {
                for (key, value) in in_file_order(entries) {
                    nodes.extend(node(key.span(), key.get_ref(), value, problems));
                }
            }
            other => {
                let found = kind(other);
                problems.push(
                    value.span(),
                    format!("expected tables [node.NAME], found {found}"),
                );
            }
        }
    }
    nodes.sort_by_key(|n| n.name.span().start);
    nodes
}

fn node(
    place: crate::file::source::Span,
    name: &str,
    value: Value<'_>,
    problems: &mut Problems<'_>,
) -> Option<Node> {
    let name = match node_name(name) {
        Ok(name) => Spanned::new(place, name),
        Err(message) => {
            problems.push(place, message);
            return None;
        }
    };
    let mut table = Table::of(format!("node `{}`", name.get_ref()), value, problems)?;
    let kind = table.read("kind", node_kind, problems);
    let stp = switch::spanning_tree(&mut table, problems);
    let stp_priority = stp_priority(&mut table, problems);
    let lldp = table.boolean("lldp", problems);
    let switch = switch::read(&mut table, problems);
    let mut sysctl = Vec::new();
    if let Some(value) = table.value("sysctl") {
        tunables(&[], value, &mut sysctl, problems);
    }
    let address_policy = address_policy(&mut table, problems);
    let mut dns = Vec::new();
    for text in table.strings("dns", problems) {
        let place = text.span();
        dns.extend(checked(text, name_server, problems));
        if dns.len() > MOST_NAME_SERVERS {
            let most = format!("expected {MOST_NAME_SERVERS} name servers at most");
            problems.push(place, most);
            break;
        }
    }
    let mut routes = Vec::new();
    for text in table.strings("routes", problems) {
        routes.extend(checked(text, route, problems));
    }
    table.finish(problems);
    Some(Node {
        name,
        kind: kind.map_or_else(NodeKind::default, Spanned::into_inner),
        stp,
        stp_priority,
        lldp,
        switch,
        sysctl,
        address_policy,
        dns,
        routes,
    })
}

/// `address_policy = [{ prefix = "::/0", precedence = 40, label = 1 }, ...]`
fn address_policy(
    table: &mut Table<'_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<AddressPolicy>> {
    let before = problems.count();
    let given = table.array("address_policy", problems);
    let place = table.key_span("address_policy")?;
    let rows = given.into_iter();
    let rows: Vec<_> = rows.filter_map(|row| policy_row(row, problems)).collect();
    // What a row has said of itself is not said again of the whole.
    if problems.count() == before
        && let Err(error) = AddressPolicy::validate(&rows)
    {
        problems.push(place, error.to_string());
    }
    Some(rows)
}

fn policy_row(value: Value<'_>, problems: &mut Problems<'_>) -> Option<AddressPolicy> {
    let mut table = Table::of("each of `address_policy`", value, problems)?;
    let prefix = table.read("prefix", policy_prefix, problems);
    let number = |key, table: &mut Table<'_>, problems: &mut Problems<'_>| {
        let number = table.integer(key, 0..=255, problems);
        number.and_then(|n| u8::try_from(n.into_inner()).ok())
    };
    let precedence = number("precedence", &mut table, problems);
    let label = number("label", &mut table, problems);
    for (key, expected) in [
        ("prefix", "a prefix such as 2001:db8::/32"),
        ("precedence", "a number from 0 to 255"),
        ("label", "a number from 0 to 255"),
    ] {
        if table.key_span(key).is_none() {
            table.missing(key, expected, problems);
        }
    }
    table.finish(problems);
    Some(AddressPolicy {
        prefix: prefix?.into_inner(),
        precedence: precedence?,
        label: label?,
    })
}

fn policy_prefix(text: &str) -> Result<Ipv6Net, String> {
    text.parse()
        .map_err(|_| format!("expected a prefix such as 2001:db8::/32, found \"{text}\""))
}

/// The address of a name server.
fn name_server(text: &str) -> Result<IpAddr, String> {
    let is_host = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !is_link_local(*ip);
    let ip = text.parse().ok().filter(is_host);
    ip.ok_or_else(|| {
        format!("expected the address of a name server, such as 192.0.2.53, found \"{text}\"")
    })
}

/// `sysctl = { NAME = VALUE, ... }`. Of a name without quotes, TOML makes a table for each part.
fn tunables(
    parts: &[&str],
    value: Value<'_>,
    found: &mut Vec<(Spanned<String>, String)>,
    problems: &mut Problems<'_>,
) {
    let toml::de::DeValue::Table(entries) = value.get_ref() else {
        let found = kind(value.get_ref());
        let message = format!("expected a table of tunables for `sysctl`, found {found}");
        problems.push(value.span(), message);
        return;
    };
    for (key, value) in in_file_order(entries) {
        let parts = [parts, &[&**key.get_ref()]].concat();
        let text = match value.get_ref() {
            toml::de::DeValue::Table(_) => {
                tunables(&parts, value, found, problems);
                continue;
            }
            toml::de::DeValue::String(text) => text.to_string(),
            toml::de::DeValue::Integer(n) if n.radix() == 10 => n.as_str().to_owned(),
            other => {
                let found = kind(other);
                let message = format!("expected a string or an integer, found {found}");
                problems.push(value.span(), message);
                continue;
            }
        };
        let name = parts.join(".");
        if found.iter().any(|(known, _)| *known.get_ref() == name) {
            problems.push(
                key.span(),
                format!("duplicate tunable: {name} has a value already"),
            );
            continue;
        }
        found.push((Spanned::new(key.span(), name), text));
    }
}

fn stp_priority(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Spanned<u16>> {
    let number = table.integer("stp_priority", 0..=u16::MAX.into(), problems)?;
    let priority = u16::try_from(*number.get_ref()).expect("the range is that of the type");
    let config = BridgeConfig {
        stp: Some(RstpConfig {
            priority,
            ..RstpConfig::default()
        }),
        ..BridgeConfig::default()
    };
    match config.validate() {
        Ok(()) => Some(Spanned::new(number.span(), priority)),
        Err(error) => {
            problems.push(number.span(), error.to_string());
            None
        }
    }
}

fn node_kind(text: &str) -> Result<NodeKind, String> {
    match text {
        "host" => Ok(NodeKind::Host),
        "router" => Ok(NodeKind::Router),
        "switch" => Ok(NodeKind::Switch),
        "hub" => Ok(NodeKind::Hub),
        _ => Err(format!(
            "expected \"host\", \"router\", \"switch\" or \"hub\", found \"{text}\""
        )),
    }
}

/// `DESTINATION via GATEWAY`, `DESTINATION dev INTERFACE`, or both, or `KIND DESTINATION`; then, if it has one, `metric
/// NUMBER`.
fn route(text: &str) -> Result<Route, String> {
    let expected = || {
        format!(
            "expected a route such as \"default via 192.0.2.254\" or \
             \"198.51.100.0/24 dev eth0\", found \"{text}\""
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (words, metric) = match &words[..] {
        [words @ .., "metric", metric] => (words, metric.parse().map_err(|_| expected())?),
        words => (words, 0),
    };
    let nowhere = match words {
        ["blackhole", _] => Some(RouteKind::Blackhole),
        ["unreachable", _] => Some(RouteKind::Unreachable),
        ["prohibit", _] => Some(RouteKind::Prohibit),
        _ => None,
    };
    let [destination, ref to @ ..] = words[usize::from(nowhere.is_some())..] else {
        return Err(expected());
    };
    let gateway = |text: &str| text.parse().map_err(|_| expected());
    let destination = match (destination, to) {
        ("default", ["via", address, ..]) => Family::of(gateway(address)?).everything(),
        ("default", _) => Family::V4.everything(),
        (net, _) => net.parse().map_err(|_| expected())?,
    };
    if destination.trunc() != destination {
        return Err(format!(
            "{destination} has bits set behind its prefix: expected {}",
            destination.trunc()
        ));
    }
    let via = match (nowhere, to) {
        (Some(kind), []) => Via::Nowhere(kind),
        (None, ["via", address]) => Via::Gateway(gateway(address)?),
        (None, ["dev", name]) => Via::Interface(interface_name(name)?),
        // Linux wants the last word where no route leads to the gateway; here the two others say it.
        (None, ["via", address, "dev", name] | ["via", address, "dev", name, "onlink"]) => {
            Via::OnLink(gateway(address)?, interface_name(name)?)
        }
        _ => return Err(expected()),
    };
    let family = Family::of(destination.addr());
    if let Via::Gateway(gateway) | Via::OnLink(gateway, _) = via
        && Family::of(gateway) != family
    {
        let family = family.as_str();
        return Err(format!(
            "expected a gateway of {family} to {destination}, found {gateway}"
        ));
    }
    Ok(Route {
        destination,
        via,
        metric,
    })
}

struct LinkSpec {
    ends: [EndSpec; 2],
    name: Option<Spanned<String>>,
    capture: Option<bool>,
    lagg: Option<Lagg>,
    forward: LinkConfig,
    backward: LinkConfig,
}

fn link(value: Value<'_>, problems: &mut Problems<'_>) -> Option<LinkSpec> {
    let mut table = Table::of("link", value, problems)?;
    let ends_value = table.value("ends");
    let name = table.read("name", event::link_name, problems);
    let capture = table.boolean("capture", problems);
    let lagg = table.value("lagg");
    let lagg = lagg.and_then(|value| lagg::read(value, problems));
    let both = parameters::read(&mut table, &LinkConfig::default(), problems);
    let forward = parameters::direction(&mut table, "forward", &both, problems);
    let backward = parameters::direction(&mut table, "backward", &both, problems);
    let Some(ends_value) = ends_value else {
        table.missing("ends", "an array of two ends", problems);
        table.finish(problems);
        return None;
    };
    table.finish(problems);
    let ends = match ends_value.get_ref() {
        toml::de::DeValue::Array(items) if items.len() == 2 => items,
        _ => {
            problems.push(
                ends_value.span(),
                "expected an array of two ends for `ends`",
            );
            return None;
        }
    };
    let mut read = ends.iter().map(|value| end::read(value, problems));
    let (a, b) = (read.next().flatten(), read.next().flatten());
    Some(LinkSpec {
        name,
        capture,
        lagg,
        ends: [a?, b?],
        forward,
        backward,
    })
}

/// Gives each interface without a name the first `ethN` its node does not use.
fn name_interfaces(links: Vec<LinkSpec>) -> Vec<Link> {
    let mut used: BTreeSet<(String, String)> = links
        .iter()
        .flat_map(|link| &link.ends)
        .filter_map(|end| {
            let interface = end.interface.as_ref()?;
            Some((end.node.get_ref().clone(), interface.get_ref().clone()))
        })
        .collect();
    // The numbers below are used.
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut named = |end: EndSpec| {
        let interface = end.interface.unwrap_or_else(|| {
            let node = end.node.get_ref();
            let first = next.entry(node.clone()).or_default();
            let free = (*first..)
                .find(|n| used.insert((node.clone(), format!("eth{n}"))))
                .expect("there are more numbers than interfaces");
            *first = free + 1;
            Spanned::new(end.node.span(), format!("eth{free}"))
        });
        let vlans = end.vlans.into_iter();
        let vlans = vlans.map(|vlan| above(&end.node, interface.get_ref(), vlan));
        End {
            vlans: vlans.collect(),
            node: end.node,
            interface,
            addresses: end.addresses,
            anycast: end.anycast,
            mac: end.mac,
            ip_mtu: end.ip_mtu,
            port: end.port,
            lacp: end.lacp,
            classes: None,
            advertise: end.advertise,
        }
    };
    links
        .into_iter()
        .map(|link| Link {
            name: link.name,
            capture: link.capture,
            lagg: link.lagg,
            ends: link.ends.map(&mut named),
            forward: link.forward,
            backward: link.backward,
        })
        .collect()
}

/// A VLAN's interface, which is called after the one below it and its VID, as is usual, unless it has a name.
fn above(node: &Spanned<String>, below: &str, spec: VlanSpec) -> (VlanConfig, End) {
    let vlan = spec.vlan.get_ref();
    let interface = spec.interface.unwrap_or_else(|| {
        let tag = match vlan.tpid {
            Tpid::Dot1q => "",
            Tpid::Dot1ad => "s",
        };
        let name = format!("{below}.{tag}{}", vlan.vid);
        Spanned::new(spec.vlan.span(), name)
    });
    let vlans = spec.vlans.into_iter();
    let vlans = vlans.map(|vlan| above(node, interface.get_ref(), vlan));
    let end = End {
        vlans: vlans.collect(),
        node: node.clone(),
        interface,
        addresses: spec.addresses,
        anycast: spec.anycast,
        mac: spec.mac,
        ip_mtu: spec.ip_mtu,
        port: Port::default(),
        lacp: None,
        classes: spec.classes,
        advertise: spec.advertise,
    };
    (*vlan, end)
}
