//! A port of a switch: what an end of a link says of how the switch treats it.

use std::num::NonZeroU32;

use toml::Spanned;
use vnet::{
    MacAddr, MemberConfig, MemberVlans, RstpPort, StormLimits, StpEdge, StpSegment, Switchable,
    TagPolicy, VidSet, VlanConfig,
};

use crate::file::source::{Problems, Span};
use crate::file::table::{Table, Value, checked};

const MAX_VID: u16 = VlanConfig::MAX_VID;

/// How a switch treats a port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// What the file says, besides the VLANs and the part in a spanning tree.
    pub config: MemberConfig,
    /// Its part in the VLANs of the switch, when the file says so.
    pub vlans: Option<Spanned<MemberVlans>>,
    /// Its part in a spanning tree, when the file says so.
    pub rstp: Option<Spanned<PortTree>>,
    /// The stations that are known to be behind it.
    pub stations: Vec<Spanned<Station>>,
    /// The first key that only a port of a switch has.
    pub(crate) place: Option<Span>,
    /// The key that limits its stations in each VLAN.
    pub(crate) per_vlan: Option<Span>,
    /// The key that makes it watch only.
    pub(crate) watching: Option<Span>,
    /// The key that says that it leads to a router.
    pub(crate) leads: Option<Span>,
}

/// The part of a port in a spanning tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortTree {
    /// The parameters.
    pub config: RstpPort,
    /// Whether the file says if the port leads to hosts only.
    pub says_edge: bool,
}

/// A station that a switch is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// Its address.
    pub mac: MacAddr,
    /// The VLAN in which it is there; in each, when none is named.
    pub vid: Option<u16>,
}

/// The keys that only a port of a switch has.
const KEYS: [&str; 18] = [
    "access",
    "trunk",
    "native",
    "tunnel",
    "vids",
    "learn",
    "discover",
    "private",
    "broadcast",
    "multicast",
    "router",
    "sticky",
    "max_stations",
    "max_stations_per_vlan",
    "storm",
    "span",
    "stp",
    "stations",
];

/// The key of `max_stations_in_vlan`, which is called as it is in `fdb`.
const STATIONS_IN_VLAN: &str = "max_stations_per_vlan";

/// Reads the keys of a port from the table of an end.
pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Port {
    let vlans = vlans(table, problems);
    let default = MemberConfig::default();
    let switch = |key, default, table: &mut Table<'_>, problems: &mut Problems<'_>| match table
        .boolean(key, problems)
    {
        None => default,
        Some(true) => Switchable::On,
        Some(false) => Switchable::Off,
    };
    let config = MemberConfig {
        learn: switch("learn", default.learn, table, problems),
        discover: switch("discover", default.discover, table, problems),
        private: switch("private", default.private, table, problems),
        broadcast: switch("broadcast", default.broadcast, table, problems),
        multicast: switch("multicast", default.multicast, table, problems),
        router: switch("router", default.router, table, problems),
        sticky: switch("sticky", default.sticky, table, problems),
        span: switch("span", default.span, table, problems),
        max_stations: limit("max_stations", table, problems),
        max_stations_in_vlan: limit(STATIONS_IN_VLAN, table, problems),
        storm: match table.value("storm") {
            Some(value) => storm(value, problems),
            None => StormLimits::default(),
        },
        // These are read by themselves, and put in when it is known how the switch works.
        rstp: RstpPort::default(),
        vlans: MemberVlans::default(),
    };
    refused(&config, table, problems);
    let rstp = table.value("stp").and_then(|value| tree(value, problems));
    let stations = table.strings("stations", problems).into_iter();
    let stations = stations.filter_map(|text| checked(text, station, problems));
    let stations = stations.collect();
    let places = KEYS.iter().filter_map(|key| table.key_span(key));
    Port {
        vlans,
        rstp,
        stations,
        per_vlan: table.key_span(STATIONS_IN_VLAN),
        watching: table.key_span("span").filter(|_| config.span.is_on()),
        leads: table.key_span("router").filter(|_| config.router.is_on()),
        config,
        place: places.min_by_key(|place| place.start),
    }
}

/// A number of stations.
fn limit(key: &'static str, table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<u32> {
    let stations = table.integer(key, 0..=u64::from(u32::MAX), problems)?;
    u32::try_from(stations.into_inner()).ok()
}

/// Notes what the library refuses, at the key that it is about.
fn refused(config: &MemberConfig, table: &Table<'_>, problems: &mut Problems<'_>) {
    if let Err(error) = config.validate() {
        let place = table.key_span(match error.setting {
            "max_stations_in_vlan" => STATIONS_IN_VLAN,
            setting => setting,
        });
        problems.push(place.unwrap_or(table.span()), error.message);
    }
}

/// `storm = { broadcast = N, ... }`, in frames a second.
fn storm(value: Value<'_>, problems: &mut Problems<'_>) -> StormLimits {
    let Some(mut table) = Table::of("`storm`", value, problems) else {
        return StormLimits::default();
    };
    let mut limit = |key| {
        let frames = table.integer(key, 1..=u64::from(u32::MAX), problems)?;
        u32::try_from(frames.into_inner())
            .ok()
            .and_then(NonZeroU32::new)
    };
    let limits = StormLimits {
        broadcast: limit("broadcast"),
        multicast: limit("multicast"),
        unknown: limit("unknown"),
    };
    table.finish(problems);
    limits
}

/// `stp = { path_cost = N, ... }`
fn tree(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Spanned<PortTree>> {
    let mut table = Table::of("`stp` of a port", value, problems)?;
    let default = RstpPort::default();
    let priority = table.integer("priority", 0..=240, problems);
    let cost = table.integer("path_cost", 1..=200_000_000, problems);
    let edge = table.read("edge", edge, problems);
    let segment = table.read("segment", segment, problems);
    let mut guard = |key| match table.boolean(key, problems) {
        Some(true) => Switchable::On,
        Some(false) | None => Switchable::Off,
    };
    let (bpdu_guard, root_guard) = (guard("bpdu_guard"), guard("root_guard"));
    let config = RstpPort {
        priority: priority.map_or(default.priority, |n| n.into_inner() as u8),
        path_cost: cost.and_then(|n| NonZeroU32::new(n.into_inner() as u32)),
        edge: edge.as_ref().map_or(default.edge, |edge| *edge.get_ref()),
        segment: segment.map_or(default.segment, Spanned::into_inner),
        bpdu_guard,
        root_guard,
    };
    let member = MemberConfig {
        rstp: config,
        ..MemberConfig::default()
    };
    refused(&member, &table, problems);
    table.finish(problems);
    let tree = PortTree {
        config,
        says_edge: edge.is_some(),
    };
    Some(Spanned::new(value.span(), tree))
}

fn edge(text: &str) -> Result<StpEdge, String> {
    match text {
        "auto" => Ok(StpEdge::Auto),
        "yes" => Ok(StpEdge::Yes),
        "no" => Ok(StpEdge::No),
        _ => Err(format!(
            "expected \"auto\", \"yes\" or \"no\", found \"{text}\""
        )),
    }
}

fn segment(text: &str) -> Result<StpSegment, String> {
    match text {
        "point-to-point" => Ok(StpSegment::PointToPoint),
        "shared" => Ok(StpSegment::Shared),
        _ => Err(format!(
            "expected \"point-to-point\" or \"shared\", found \"{text}\""
        )),
    }
}

/// `MAC`, or `MAC vlan VID`.
fn station(text: &str) -> Result<Station, String> {
    let expected = || {
        format!(
            "expected a station such as \"02:00:00:00:00:01\" or \
             \"02:00:00:00:00:01 vlan 10\", found \"{text}\""
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (mac, vid) = match words[..] {
        [mac] => (mac, None),
        [mac, "vlan", vid] => (mac, Some(self::vid(vid)?)),
        _ => return Err(expected()),
    };
    let mac: MacAddr = mac.parse().map_err(|_| expected())?;
    match mac.is_station() {
        true => Ok(Station { mac, vid }),
        false => Err(format!("expected a unicast MAC address, found {mac}")),
    }
}

/// The VLANs of a port: `access`, `trunk` with or without `native`, `tunnel`, or everything by itself in `vids`.
fn vlans(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Spanned<MemberVlans>> {
    let vids = 1..=u64::from(MAX_VID);
    let access = table.integer("access", vids.clone(), problems);
    let trunk = table.read("trunk", vid_set, problems);
    let native = table.integer("native", vids.clone(), problems);
    let tunnel = table.integer("tunnel", vids, problems);
    let own = table.value("vids");
    let keys = ["access", "trunk", "native", "tunnel", "vids"];
    let given = |key: &str| table.key_span(key);
    let alone = |key: &str, message| {
        let mut others = keys.iter().filter(|other| **other != key);
        let place = given(key).filter(|_| others.any(|other| given(other).is_some()));
        place.map(|place| (place, message))
    };
    let wrong = alone(
        "vids",
        "expected `vids` alone: it says everything about the VLANs of the port",
    )
    .or_else(|| {
        let message =
            "a tunnel carries frames with whatever tags they have: expected `tunnel` alone";
        alone("tunnel", message)
    })
    .or_else(|| {
        let place = given("access").and_then(|_| given("trunk").or(given("native")))?;
        let message = "an access port is in one VLAN: expected `access`, or `trunk` and `native`";
        Some((place, message))
    })
    .or_else(|| {
        let place = given("native").filter(|_| given("trunk").is_none())?;
        let message = "expected `trunk` as well, with the VLANs whose frames have tags";
        Some((place, message))
    });
    if let Some((place, message)) = wrong {
        problems.push(place, message);
        return None;
    }
    if let Some(value) = own {
        return hybrid(value, problems);
    }
    let vid = |number: Spanned<u64>| u16::try_from(number.into_inner()).ok();
    if let Some(tunnel) = tunnel {
        let place = tunnel.span();
        return Some(Spanned::new(place, MemberVlans::tunnel(vid(tunnel)?)));
    }
    if let Some(access) = access {
        let place = access.span();
        return Some(Spanned::new(place, MemberVlans::access(vid(access)?)));
    }
    let trunk = trunk?;
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

/// `vids = { pvid = VID, tagged = "VIDS", untagged = "VIDS", tags = "obey", ingress_filter = true }`
fn hybrid(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Spanned<MemberVlans>> {
    let mut table = Table::of("`vids`", value, problems)?;
    let pvid = table.integer("pvid", 1..=u64::from(MAX_VID), problems);
    let tagged = table.read("tagged", vid_set, problems);
    let untagged = table.read("untagged", vid_set, problems);
    let tags = table.read("tags", tag_policy, problems);
    let filter = table.boolean("ingress_filter", problems);
    let vlans = MemberVlans {
        pvid: pvid.and_then(|vid| u16::try_from(vid.into_inner()).ok()),
        tagged: tagged.map_or_else(VidSet::default, Spanned::into_inner),
        untagged: untagged.map_or_else(VidSet::default, Spanned::into_inner),
        tags: tags.map_or_else(TagPolicy::default, Spanned::into_inner),
        ingress_filter: match filter {
            Some(false) => Switchable::Off,
            Some(true) | None => Switchable::On,
        },
    };
    let config = MemberConfig {
        vlans: vlans.clone(),
        ..MemberConfig::default()
    };
    refused(&config, &table, problems);
    table.finish(problems);
    Some(Spanned::new(value.span(), vlans))
}

fn tag_policy(text: &str) -> Result<TagPolicy, String> {
    match text {
        "obey" => Ok(TagPolicy::Obey),
        "refuse" => Ok(TagPolicy::Refuse),
        "ignore" => Ok(TagPolicy::Ignore),
        _ => Err(format!(
            "expected \"obey\", \"refuse\" or \"ignore\", found \"{text}\""
        )),
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

/// The number of a VLAN.
pub(super) fn vid(text: &str) -> Result<u16, String> {
    let vid = text.parse().ok().filter(|vid| (1..=MAX_VID).contains(vid));
    vid.ok_or_else(|| format!("expected a VID from 1 to {MAX_VID}, found \"{text}\""))
}
