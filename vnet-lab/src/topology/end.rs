//! One end of a link, as a string (`"h1:eth0 192.0.2.1/24"`) or as a table.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;
use vnet::{MAX_VID, MacAddr, MemberVlans, VidSet};

use crate::file::name::{interface_name, node_name};
use crate::file::source::{Problems, Span};
use crate::file::table::{Table, Value, as_string, checked, in_file_order, kind};

/// An end whose interface may still be without a name.
pub(super) struct EndSpec {
    pub(super) node: Spanned<String>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<IpNet>>,
    /// The end says something of an address, right or wrong.
    pub(super) says_address: bool,
    pub(super) mac: Option<Spanned<MacAddr>>,
    pub(super) ip_mtu: Option<u16>,
    /// Its part in the VLANs of a switch.
    pub(super) member: Option<Spanned<MemberVlans>>,
    /// The VLANs that have interfaces of their own, and the addresses of these.
    pub(super) vlans: Vec<(Spanned<u16>, Vec<Spanned<IpNet>>)>,
}

impl EndSpec {
    /// An end at a switch, of which nothing is said but the MTU.
    pub(super) fn of_switch(node: Spanned<String>, ip_mtu: Option<u16>) -> EndSpec {
        EndSpec {
            node,
            interface: None,
            addresses: Vec::new(),
            says_address: false,
            mac: None,
            ip_mtu,
            member: None,
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
        says_address: text.split_whitespace().count() > 1,
        mac: None,
        ip_mtu: None,
        member: None,
        vlans: Vec::new(),
    })
}

fn long(mut table: Table<'_>, problems: &mut Problems<'_>) -> Option<EndSpec> {
    let node = table.string("node", problems);
    let interface = table.string("interface", problems);
    let one = table.string("address", problems);
    let several = table.array("addresses", problems);
    let mac = table.read("mac", mac, problems);
    let ip_mtu = table.integer("ip_mtu", 68..=65_535, problems);
    let member = member(&mut table, problems);
    let vlans = table.value("vlan").map(|value| vlans(value, problems));
    if node.is_none() && table.key_span("node").is_none() {
        table.missing("node", "the name of a node", problems);
    }
    let has_address = table.key_span("address").or(table.key_span("addresses"));
    table.finish(problems);

    let mut addresses = Vec::new();
    addresses.extend(one.and_then(|text| checked(text, address, problems)));
    for value in several {
        let text = as_string(value, "each of `addresses`", problems);
        addresses.extend(text.and_then(|text| checked(text, address, problems)));
    }
    Some(EndSpec {
        node: checked(node?, node_name, problems)?,
        interface: interface.and_then(|i| checked(i, new_interface_name, problems)),
        addresses,
        says_address: has_address.is_some() || vlans.is_some(),
        mac,
        ip_mtu: ip_mtu.and_then(|n| u16::try_from(n.into_inner()).ok()),
        member,
        vlans: vlans.unwrap_or_default(),
    })
}

/// `access = VID`, or `trunk = "VIDS"` with or without `native = VID`.
fn member(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Spanned<MemberVlans>> {
    let vids = 1..=u64::from(MAX_VID);
    let access = table.integer("access", vids.clone(), problems);
    let trunk = table.read("trunk", vid_set, problems);
    let native = table.integer("native", vids, problems);
    let places = ["access", "trunk", "native"].map(|key| table.key_span(key));
    let vid = |number: Spanned<u64>| u16::try_from(number.into_inner()).ok();
    let wrong = match places {
        [Some(_), Some(place), _] | [Some(_), None, Some(place)] => {
            let message =
                "an access port is in one VLAN: expected `access`, or `trunk` and `native`";
            Some((place, message))
        }
        [None, None, Some(place)] => Some((
            place,
            "expected `trunk` as well, with the VLANs whose frames have tags",
        )),
        _ => None,
    };
    if let Some((place, message)) = wrong {
        problems.push(place, message);
        return None;
    }
    match (access, trunk) {
        (Some(access), _) => {
            let place = access.span();
            Some(Spanned::new(place, MemberVlans::access(vid(access)?)))
        }
        (None, Some(trunk)) => {
            let place = trunk.span();
            let mut vlans = MemberVlans::trunk(trunk.into_inner());
            if let Some(native) = native {
                let place = native.span();
                vlans.pvid = vid(native);
                vlans.untagged = vlans.pvid.into_iter().collect();
                if let Some(vid) = vlans.pvid.filter(|vid| vlans.tagged.contains(*vid)) {
                    let message = format!("VLAN {vid} has tags here: expected another one");
                    problems.push(place, message);
                    return None;
                }
            }
            Some(Spanned::new(place, vlans))
        }
        (None, None) => None,
    }
}

/// A set of VIDs such as `10,20-29`.
fn vid_set(text: &str) -> Result<VidSet, String> {
    let set: VidSet = text
        .parse()
        .map_err(|error: vnet::ParseError| error.to_string())?;
    if set == VidSet::default() {
        return Err("expected VIDs such as \"10,20-29\", found none".to_owned());
    }
    let bad = set.iter().find(|vid| !(1..=MAX_VID).contains(vid));
    match bad {
        Some(vid) => Err(format!("expected VIDs from 1 to {MAX_VID}, found {vid}")),
        None => Ok(set),
    }
}

/// `vlan = { VID = "ADDRESS", VID = ["ADDRESS", ...] }`
fn vlans(
    value: Value<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(Spanned<u16>, Vec<Spanned<IpNet>>)> {
    let DeValue::Table(entries) = value.get_ref() else {
        let found = kind(value.get_ref());
        let message = format!(
            "expected VLANs and their addresses, as in {{ 10 = \"192.0.2.1/24\" }}, found {found}"
        );
        problems.push(value.span(), message);
        return Vec::new();
    };
    let mut vlans: Vec<(Spanned<u16>, Vec<Spanned<IpNet>>)> = Vec::new();
    for (key, value) in in_file_order(entries) {
        let vid = checked(Spanned::new(key.span(), &**key.get_ref()), vid, problems);
        let texts = match value.get_ref() {
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
        let Some(vid) = vid else { continue };
        if vlans
            .iter()
            .any(|(known, _)| known.get_ref() == vid.get_ref())
        {
            let message = format!("duplicate VLAN: {} is already there", vid.get_ref());
            problems.push(vid.span(), message);
            continue;
        }
        vlans.push((vid, addresses));
    }
    vlans
}

fn vid(text: &str) -> Result<u16, String> {
    let vid = text.parse().ok().filter(|vid| (1..=MAX_VID).contains(vid));
    vid.ok_or_else(|| format!("expected a VID from 1 to {MAX_VID}, found \"{text}\""))
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

fn mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|e: vnet::ParseError| e.to_string())?;
    if !mac.is_station() {
        return Err(format!("expected a unicast MAC address, found {mac}"));
    }
    Ok(mac)
}
