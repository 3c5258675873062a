//! A switch: what its node says of the bridge that it is.

use std::net::{Ipv4Addr, Ipv6Addr};

use toml::Spanned;
use toml::de::DeValue;
use vnet::{BridgeConfig, BridgeVlans, RstpConfig, Snooping, Switchable, Tpid, VlanLearning};

use crate::file::source::{Problems, Span};
use crate::file::table::{Table, Value, checked, kind};
use crate::file::units;

/// Why there is no limit of stations for each VLAN.
pub(super) const SHARED: &str =
    "VLANs that share a database have no limit of their own: expected `max_stations`";

/// How switches deal with loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanningTree {
    /// They do not: there must be none.
    #[default]
    Off,
    /// By the rapid spanning tree protocol.
    Rstp(RstpConfig),
}

/// What a node says of the bridge that it is.
#[derive(Clone, Debug, Default)]
pub struct Switch {
    /// What the file says, besides the spanning tree.
    pub config: BridgeConfig,
    /// The first key that only a switch has.
    pub(crate) place: Option<Span>,
}

/// Reads the keys of a switch from the table of a node.
pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Switch {
    let snooping = table.value("snooping");
    let snooping = snooping.and_then(|value| snooping_of(value, problems));
    let mut config = BridgeConfig {
        snooping,
        ..BridgeConfig::default()
    };
    let tags = table.read("tags", tpid, problems);
    if let Some(tags) = tags {
        config.vlans = Some(BridgeVlans {
            tpid: tags.into_inner(),
            ..BridgeVlans::default()
        });
    }
    if let Some(value) = table.value("fdb") {
        fdb(value, &mut config, problems);
    }
    let places = ["snooping", "tags", "fdb"].iter();
    let places = places.filter_map(|key| table.key_span(key));
    Switch {
        config,
        place: places.min_by_key(|place| place.start),
    }
}

/// `snooping = true`, or a table of how.
fn snooping_of(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Snooping> {
    let default = Snooping::default();
    match value.get_ref() {
        DeValue::Boolean(yes) => return yes.then_some(default),
        DeValue::Table(_) => {}
        other => {
            let found = kind(other);
            let message = format!("expected true, false or a table for `snooping`, found {found}");
            problems.push(value.span(), message);
            return None;
        }
    }
    let mut table = Table::of("`snooping`", value, problems)?;
    let switch = |on, default| match on {
        None => default,
        Some(true) => Switchable::On,
        Some(false) => Switchable::Off,
    };
    let querier = table.read("querier", querier, problems);
    let querier_v6 = table.read("querier_v6", querier_v6, problems);
    let interval = table.read("query_interval", units::duration, problems);
    let groups = table.integer("max_groups", 0..=u64::from(u32::MAX), problems);
    let snooping = Snooping {
        querier: querier.map(Spanned::into_inner),
        querier_v6: querier_v6.map(Spanned::into_inner),
        query_interval: interval.map_or(default.query_interval, Spanned::into_inner),
        fast_leave: switch(table.boolean("fast_leave", problems), default.fast_leave),
        unknown: switch(table.boolean("unknown", problems), default.unknown),
        max_groups: groups.map_or(default.max_groups, |n| n.into_inner() as u32),
    };
    let config = BridgeConfig {
        snooping: Some(snooping),
        ..BridgeConfig::default()
    };
    refused(&config, &table, problems);
    table.finish(problems);
    Some(snooping)
}

fn querier(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("expected an IPv4 address such as 192.0.2.254, found \"{text}\""))
}

fn querier_v6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse()
        .map_err(|_| format!("expected an IPv6 address such as fe80::254, found \"{text}\""))
}

/// `fdb = { max_age = TIME, max_stations = N, ... }`
fn fdb(value: Value<'_>, config: &mut BridgeConfig, problems: &mut Problems<'_>) {
    let Some(mut table) = Table::of("`fdb`", value, problems) else {
        return;
    };
    if let Some(age) = table.read("max_age", units::duration, problems) {
        config.max_age = age.into_inner();
    }
    let number = 0..=u64::from(u32::MAX);
    if let Some(stations) = table.integer("max_stations", number.clone(), problems) {
        config.max_stations = stations.into_inner() as usize;
    }
    let per_vlan = table.integer("max_stations_per_vlan", number, problems);
    let learning = table.read("learning", learning, problems);
    if per_vlan.is_some() || learning.is_some() {
        let learning = learning.map_or_else(VlanLearning::default, Spanned::into_inner);
        if let Some(place) = table.key_span("max_stations_per_vlan")
            && learning == VlanLearning::Shared
        {
            problems.push(place, SHARED);
        }
        let BridgeVlans { tpid, host, .. } = config.vlans.take().unwrap_or_default();
        config.vlans = Some(BridgeVlans {
            tpid,
            learning,
            max_stations: per_vlan.map(|n| n.into_inner() as u32),
            host,
        });
    }
    table.finish(problems);
}

fn learning(text: &str) -> Result<VlanLearning, String> {
    match text {
        "independent" => Ok(VlanLearning::Independent),
        "shared" => Ok(VlanLearning::Shared),
        _ => Err(format!(
            "expected \"independent\" or \"shared\", found \"{text}\""
        )),
    }
}

fn tpid(text: &str) -> Result<Tpid, String> {
    match text {
        "802.1Q" => Ok(Tpid::Dot1q),
        "802.1ad" => Ok(Tpid::Dot1ad),
        _ => Err(format!(
            "expected \"802.1Q\" or \"802.1ad\", found \"{text}\""
        )),
    }
}

/// Reads `stp`: `"rstp"`, `"off"`, or a table of the protocol's parameters.
pub(super) fn spanning_tree(
    table: &mut Table<'_>,
    problems: &mut Problems<'_>,
) -> Option<Spanned<SpanningTree>> {
    let value = table.value("stp")?;
    let tree = match value.get_ref() {
        DeValue::String(text) => {
            let text = Spanned::new(value.span(), &**text);
            return checked(text, named_tree, problems);
        }
        DeValue::Table(_) => {
            let mut table = Table::of("`stp`", value, problems)?;
            let tree = SpanningTree::Rstp(rstp(&mut table, problems));
            table.finish(problems);
            tree
        }
        other => {
            let found = kind(other);
            let message = format!("expected \"off\", \"rstp\" or a table for `stp`, found {found}");
            problems.push(value.span(), message);
            return None;
        }
    };
    Some(Spanned::new(value.span(), tree))
}

fn named_tree(text: &str) -> Result<SpanningTree, String> {
    match text {
        "off" => Ok(SpanningTree::Off),
        "rstp" => Ok(SpanningTree::Rstp(RstpConfig::default())),
        _ => Err(format!("expected \"off\" or \"rstp\", found \"{text}\"")),
    }
}

fn rstp(table: &mut Table<'_>, problems: &mut Problems<'_>) -> RstpConfig {
    let default = RstpConfig::default();
    let mut time = |key, default| {
        let given = table.read(key, units::duration, problems);
        given.map_or(default, Spanned::into_inner)
    };
    let hello_time = time("hello_time", default.hello_time);
    let max_age = time("max_age", default.max_age);
    let forward_delay = time("forward_delay", default.forward_delay);
    let priority = table.integer("priority", 0..=u16::MAX.into(), problems);
    let count = table.integer("tx_hold_count", 0..=u8::MAX.into(), problems);
    let config = RstpConfig {
        priority: priority.map_or(default.priority, |n| n.into_inner() as u16),
        hello_time,
        max_age,
        forward_delay,
        tx_hold_count: count.map_or(default.tx_hold_count, |n| n.into_inner() as u8),
    };
    let bridge = BridgeConfig {
        stp: Some(config),
        ..BridgeConfig::default()
    };
    refused(&bridge, table, problems);
    config
}

/// Notes what the library refuses, at the key that it is about.
fn refused(config: &BridgeConfig, table: &Table<'_>, problems: &mut Problems<'_>) {
    if let Err(error) = config.validate() {
        let place = table.key_span(error.setting);
        problems.push(place.unwrap_or(table.span()), error.message);
    }
}
