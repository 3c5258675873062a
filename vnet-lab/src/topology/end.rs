//! One end of a link, as a string (`"h1:eth0 192.0.2.1/24"`) or as a table.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;
use vnet::{ClassMaps, ClassRule, MacAddr, RouterConfig, VlanConfig};

use super::advertise;
use super::lagg::{self, Lacp};
use super::port::{self, Port};
use crate::file::name::{interface_name, mac, node_name};
use crate::file::source::{Problems, Span};
use crate::file::table::{Table, Value, as_string, checked, in_file_order, kind};

/// An end whose interface may still be without a name.
pub(super) struct EndSpec {
    pub(super) node: Spanned<String>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<IpNet>>,
    pub(super) anycast: Vec<Spanned<Ipv6Addr>>,
    /// The end says something of an address, right or wrong.
    pub(super) says_address: bool,
    pub(super) mac: Option<Spanned<MacAddr>>,
    pub(super) ip_mtu: Option<u16>,
    /// How a switch treats it.
    pub(super) port: Port,
    /// Its part in LACP.
    pub(super) lacp: Option<Spanned<Lacp>>,
    /// What it says as a router.
    pub(super) advertise: Option<Spanned<RouterConfig>>,
    /// The VLANs that have interfaces of their own.
    pub(super) vlans: Vec<VlanSpec>,
}

/// A VLAN interface on an end or on another one, which may still be without a name.
pub(super) struct VlanSpec {
    pub(super) vlan: Spanned<VlanConfig>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<IpNet>>,
    pub(super) anycast: Vec<Spanned<Ipv6Addr>>,
    pub(super) mac: Option<Spanned<MacAddr>>,
    pub(super) ip_mtu: Option<u16>,
    pub(super) classes: Option<ClassMaps>,
    pub(super) advertise: Option<Spanned<RouterConfig>>,
    pub(super) vlans: Vec<VlanSpec>,
}

impl EndSpec {
    /// An end at a switch, of which nothing is said but the MTU.
    pub(super) fn of_switch(node: Spanned<String>, ip_mtu: Option<u16>) -> EndSpec {
        EndSpec {
            node,
            interface: None,
            addresses: Vec::new(),
            anycast: Vec::new(),
            says_address: false,
            mac: None,
            ip_mtu,
            port: Port::default(),
            lacp: None,
            advertise: None,
            vlans: Vec::new(),
        }
    }
}

const EXPECTED: &str =
    "an end such as \"h1:eth0 192.0.2.1/24\" or { node = \"h1\", address = \"192.0.2.1/24\" }";

/// Reads an end; `None` when not even its node is known.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<EndSpec> {
    match value.get_ref() {
        DeValue::String(text) => short(text, value.span(), problems),
        DeValue::Table(_) => long(Table::of("link end", value, problems)?, problems),
        other => {
            let found = kind(other);
            problems.push(value.span(), format!("expected {EXPECTED}, found {found}"));
            None
        }
    }
}

/// `node[:interface] address/prefix ...`
fn short(text: &str, span: Span, problems: &mut Problems<'_>) -> Option<EndSpec> {
    let mut words = words(text);
    let Some((at, first)) = words.next() else {
        problems.push(span, format!("expected {EXPECTED}, found nothing"));
        return None;
    };
    let (node, interface) = first
        .split_once(':')
        .map_or((first, None), |(n, i)| (n, Some(i)));
    let node_span = problems.inside(&span, text, at..at + node.len());
    let node = checked(Spanned::new(node_span, node), node_name, problems)?;
    let interface = interface.and_then(|name| {
        let start = at + node.get_ref().len() + 1;
        let place = problems.inside(&span, text, start..start + name.len());
        checked(Spanned::new(place, name), new_interface_name, problems)
    });
    let mut addresses = Vec::new();
    for (at, word) in words {
        let place = problems.inside(&span, text, at..at + word.len());
        addresses.extend(checked(Spanned::new(place, word), address, problems));
    }
    Some(EndSpec {
        node,
        interface,
        addresses,
        anycast: Vec::new(),
        says_address: text.split_whitespace().count() > 1,
        mac: None,
        ip_mtu: None,
        port: Port::default(),
        lacp: None,
        advertise: None,
        vlans: Vec::new(),
    })
}

fn long(mut table: Table<'_>, problems: &mut Problems<'_>) -> Option<EndSpec> {
    let node = table.string("node", problems);
    let own = interface(&mut table, 0, problems);
    let port = port::read(&mut table, problems);
    let lacp = table.value("lacp");
    let lacp = lacp.and_then(|value| lagg::lacp(value, problems));
    if node.is_none() && table.key_span("node").is_none() {
        table.missing("node", "the name of a node", problems);
    }
    table.finish(problems);
    Some(EndSpec {
        node: checked(node?, node_name, problems)?,
        interface: own.name,
        addresses: own.addresses,
        anycast: own.anycast,
        says_address: own.says_address,
        mac: own.mac,
        ip_mtu: own.ip_mtu,
        port,
        lacp,
        advertise: own.advertise,
        vlans: own.vlans,
    })
}

/// What can be said of an interface, whether it is that of a link or of a VLAN.
struct InterfaceSpec {
    name: Option<Spanned<String>>,
    addresses: Vec<Spanned<IpNet>>,
    /// Those that others may have as well.
    anycast: Vec<Spanned<Ipv6Addr>>,
    /// Something is said of an address, right or wrong, or of VLANs.
    says_address: bool,
    mac: Option<Spanned<MacAddr>>,
    ip_mtu: Option<u16>,
    /// How a VLAN interface maps priorities.
    classes: Option<ClassMaps>,
    advertise: Option<Spanned<RouterConfig>>,
    vlans: Vec<VlanSpec>,
}

/// Reads the keys of an interface that stands on so many others.
fn interface(table: &mut Table<'_>, depth: u8, problems: &mut Problems<'_>) -> InterfaceSpec {
    let name = table.string("interface", problems);
    let one = table.string("address", problems);
    let several = table.array("addresses", problems);
    let anycast = table.strings("anycast", problems).into_iter();
    let anycast = anycast.filter_map(|text| checked(text, anycast_address, problems));
    let anycast = anycast.collect();
    let mac = table.read("mac", mac, problems);
    let ip_mtu = table.integer("ip_mtu", 68..=65_535, problems);
    let advertise = table.value("advertise");
    let advertise = advertise.and_then(|value| advertise::read(value, problems));
    let vlans = table.value("vlan");
    let vlans = vlans.map(|value| vlans_on(value, depth, problems));
    let has_address = table.key_span("address").or(table.key_span("addresses"));
    let mut addresses = Vec::new();
    addresses.extend(one.and_then(|text| checked(text, address, problems)));
    for value in several {
        let text = as_string(value, "each of `addresses`", problems);
        addresses.extend(text.and_then(|text| checked(text, address, problems)));
    }
    InterfaceSpec {
        name: name.and_then(|name| checked(name, new_interface_name, problems)),
        addresses,
        anycast,
        says_address: has_address.is_some() || vlans.is_some(),
        mac,
        ip_mtu: ip_mtu.and_then(|n| u16::try_from(n.into_inner()).ok()),
        classes: None,
        advertise,
        vlans: vlans.unwrap_or_default(),
    }
}

/// `vlan = { VID = "ADDRESS", VID = ["ADDRESS", ...], VID = { address = "ADDRESS", ... } }`, on an interface that stands
/// on so many others.
fn vlans_on(value: Value<'_>, depth: u8, problems: &mut Problems<'_>) -> Vec<VlanSpec> {
    let DeValue::Table(entries) = value.get_ref() else {
        let found = kind(value.get_ref());
        let message = format!(
            "expected VLANs and their addresses, as in {{ 10 = \"192.0.2.1/24\" }}, found {found}"
        );
        problems.push(value.span(), message);
        return Vec::new();
    };
    if entries.is_empty() {
        let message =
            "expected VLANs and their addresses, as in { 10 = \"192.0.2.1/24\" }, found none";
        problems.push(value.span(), message);
    }
    if depth == VlanConfig::MAX_DEPTH {
        let most = VlanConfig::MAX_DEPTH;
        let message = format!("at most {most} VLAN interfaces can stand on each other");
        problems.push(value.span(), message);
        return Vec::new();
    }
    let mut vlans: Vec<VlanSpec> = Vec::new();
    for (key, value) in in_file_order(entries) {
        let vlan = checked(Spanned::new(key.span(), &**key.get_ref()), vlan, problems);
        let what = format!("VLAN `{}`", key.get_ref());
        let own = above(what, value, depth + 1, problems);
        let (Some(vlan), Some(own)) = (vlan, own) else {
            continue;
        };
        let mut known = vlans.iter().map(|known| known.vlan.get_ref());
        if known.any(|known| known == vlan.get_ref()) {
            let message = format!("duplicate VLAN: {} is already there", key.get_ref());
            problems.push(vlan.span(), message);
            continue;
        }
        vlans.push(VlanSpec {
            vlan,
            interface: own.name,
            addresses: own.addresses,
            anycast: own.anycast,
            mac: own.mac,
            ip_mtu: own.ip_mtu,
            classes: own.classes,
            advertise: own.advertise,
            vlans: own.vlans,
        });
    }
    vlans
}

/// What is said of a VLAN interface.
fn above(
    what: String,
    value: Value<'_>,
    depth: u8,
    problems: &mut Problems<'_>,
) -> Option<InterfaceSpec> {
    let texts = match value.get_ref() {
        DeValue::Table(_) => {
            let mut table = Table::of(what, value, problems)?;
            let mut own = interface(&mut table, depth, problems);
            let maps = table.value("classes");
            own.classes = maps.and_then(|value| classes(value, problems));
            if !own.says_address {
                table.missing("address", "one such as 192.0.2.1/24, or `vlan`", problems);
            }
            table.finish(problems);
            return Some(own);
        }
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    if texts.is_empty() {
        problems.push(
            value.span(),
            "expected an address such as 192.0.2.1/24, found none",
        );
    }
    let mut addresses = Vec::new();
    for text in texts {
        let text = as_string(text, "each address of a VLAN", problems);
        addresses.extend(text.and_then(|text| checked(text, address, problems)));
    }
    Some(InterfaceSpec {
        name: None,
        addresses,
        anycast: Vec::new(),
        says_address: true,
        mac: None,
        ip_mtu: None,
        classes: None,
        advertise: None,
        vlans: Vec::new(),
    })
}

/// `classes = { ingress = [{ pcp = N, dscp = N }, ...], egress = [...] }`
fn classes(value: Value<'_>, problems: &mut Problems<'_>) -> Option<ClassMaps> {
    let mut table = Table::of("`classes`", value, problems)?;
    let maps = ClassMaps {
        ingress: rules("ingress", |rule| (rule.pcp, rule.dei), &mut table, problems),
        egress: rules("egress", |rule| (rule.dscp, false), &mut table, problems),
    };
    table.finish(problems);
    Some(maps)
}

/// The rules of one direction, no two of which are about the same.
fn rules(
    key: &'static str,
    about: impl Fn(&ClassRule) -> (u8, bool),
    table: &mut Table<'_>,
    problems: &mut Problems<'_>,
) -> Vec<ClassRule> {
    let mut rules: Vec<ClassRule> = Vec::new();
    for value in table.array(key, problems) {
        let Some(mut table) = Table::of(format!("each of `{key}`"), value, problems) else {
            continue;
        };
        let pcp = table.integer("pcp", 0..=7, problems);
        let dei = table.boolean("dei", problems);
        let dscp = table.integer("dscp", 0..=63, problems);
        for (key, expected) in [("pcp", "a priority, 0 to 7"), ("dscp", "a class, 0 to 63")] {
            if table.key_span(key).is_none() {
                table.missing(key, expected, problems);
            }
        }
        table.finish(problems);
        let (Some(pcp), Some(dscp)) = (pcp, dscp) else {
            continue;
        };
        let rule = ClassRule {
            pcp: pcp.into_inner() as u8,
            dei: dei.unwrap_or_default(),
            dscp: dscp.into_inner() as u8,
        };
        if rules.iter().any(|known| about(known) == about(&rule)) {
            problems.push(value.span(), "a rule above is about the same: expected one");
        }
        rules.push(rule);
    }
    rules
}

/// `VID` for a VLAN of 802.1Q, `sVID` for one of 802.1ad, a service provider's.
fn vlan(text: &str) -> Result<VlanConfig, String> {
    match text.strip_prefix('s') {
        Some(vid) => Ok(VlanConfig::dot1ad(port::vid(vid)?)),
        None => Ok(VlanConfig::dot1q(port::vid(text)?)),
    }
}

/// Notes that an end at a host or router has no address.
pub(super) fn no_address(end: &EndSpec, problems: &mut Problems<'_>) {
    problems.push(
        end.node.span(),
        format!(
            "this end at `{}` has no address: expected one such as 192.0.2.1/24",
            end.node.get_ref()
        ),
    );
}

/// The words of a text with their places.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace()
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The name of an interface that is made.
fn new_interface_name(text: &str) -> Result<String, String> {
    match text {
        "lo0" => {
            Err("expected another name of an interface: every node has a `lo0` already".to_owned())
        }
        _ => interface_name(text),
    }
}

/// An address with its prefix length.
fn address(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| {
        format!("expected an address with its prefix length such as 192.0.2.1/24, found \"{text}\"")
    })?;
    let addr = net.addr();
    let station = !addr.is_unspecified()
        && !addr.is_multicast()
        && !addr.is_loopback()
        && match addr {
            IpAddr::V4(v4) => (1..240).contains(&v4.octets()[0]),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
        };
    if !station || net.prefix_len() == 0 {
        return Err(format!(
            "expected an address that an interface can have, found {text}"
        ));
    }
    // RFC 3021, RFC 6164: both addresses of a /31 or /127 can be used; a /32 or /128 has no others.
    if net.prefix_len() < net.max_prefix_len() - 1 {
        if addr == net.network() {
            return Err(format!(
                "{addr} is the network's own address in {net}: expected that of an interface"
            ));
        }
        if addr.is_ipv4() && addr == net.broadcast() {
            return Err(format!(
                "{addr} is the broadcast address in {net}: expected that of an interface"
            ));
        }
    }
    Ok(net)
}

/// An address without a prefix, which other stations may have as well.
fn anycast_address(text: &str) -> Result<Ipv6Addr, String> {
    let addr: Ipv6Addr = text
        .parse()
        .map_err(|_| format!("expected an IPv6 address such as 2001:db8::53, found \"{text}\""))?;
    let is_one = !addr.is_unspecified()
        && !addr.is_multicast()
        && !addr.is_loopback()
        && addr.to_ipv4_mapped().is_none();
    match is_one {
        true => Ok(addr),
        false => Err(format!(
            "expected an address that interfaces can have, found {addr}"
        )),
    }
}
