//! Several wires used as one link: `lagg` of a link.

use std::num::NonZeroU16;

use toml::Spanned;
use vnet::{LaggConfig, LaggHash, LaggMode, MacAddr, Switchable};

use crate::file::name::mac;
use crate::file::source::Problems;
use crate::file::table::{Table, Value};

/// How many wires a link may have.
const WIRES: std::ops::RangeInclusive<u64> = 2..=32;

/// Several wires between two nodes, which each of them has as one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagg {
    /// How many wires.
    pub wires: u8,
    /// How both ends use them.
    pub config: LaggConfig,
}

impl Lagg {
    /// The interfaces of the wires at the end whose interface is `name`.
    pub(crate) fn wires_of(lagg: Option<&Lagg>, name: &str) -> Vec<String> {
        match lagg {
            None => vec![name.to_owned()],
            Some(lagg) => (1..=lagg.wires).map(|n| format!("{name}-{n}")).collect(),
        }
    }
}

/// Reads the table; `None` when it does not say how many wires there are.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Lagg> {
    let mut table = Table::of("`lagg`", value, problems)?;
    let wires = table.integer("wires", WIRES, problems);
    let mode = table.read("mode", mode, problems);
    let hash = table.read("hash", hash, problems);
    let fast = table.boolean("fast", problems);
    if wires.is_none() && table.key_span("wires").is_none() {
        table.missing("wires", "how many there are", problems);
    }
    table.finish(problems);
    let first = LaggConfig::default();
    Some(Lagg {
        wires: u8::try_from(wires?.into_inner()).ok()?,
        config: LaggConfig {
            mode: mode.map_or(first.mode, toml::Spanned::into_inner),
            hash: hash.map_or(first.hash, toml::Spanned::into_inner),
            fast: match fast {
                Some(false) => Switchable::Off,
                // A simulation is not to wait for 90 seconds unless it says so.
                Some(true) | None => Switchable::On,
            },
            system_priority: first.system_priority,
            system: None,
            key: None,
        },
    })
}

/// What one end says of its part in LACP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacp {
    /// It answers, and does not begin.
    pub passive: bool,
    /// The address of its system, when the file says so.
    pub system: Option<MacAddr>,
    /// The priority of its system, when the file says so.
    pub system_priority: Option<u16>,
    /// The number of the link in its system, when the file says so.
    pub key: Option<NonZeroU16>,
}

impl Lacp {
    /// How this end uses the wires of a link.
    pub(crate) fn config(&self, both: LaggConfig) -> LaggConfig {
        LaggConfig {
            mode: match self.passive {
                true => LaggMode::LacpPassive,
                false => both.mode,
            },
            hash: both.hash,
            fast: both.fast,
            system_priority: self.system_priority.unwrap_or(both.system_priority),
            system: self.system.or(both.system),
            key: self.key.or(both.key),
        }
    }
}

/// Reads `lacp` of an end.
pub(super) fn lacp(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Spanned<Lacp>> {
    let mut table = Table::of("`lacp`", value, problems)?;
    let number = u64::from(u16::MAX);
    let passive = table.boolean("passive", problems);
    let system = table.read("system", mac, problems);
    let priority = table.integer("system_priority", 0..=number, problems);
    let key = table.integer("key", 1..=number, problems);
    table.finish(problems);
    let small = |n: Spanned<u64>| u16::try_from(n.into_inner()).ok();
    let lacp = Lacp {
        passive: passive.unwrap_or_default(),
        system: system.map(Spanned::into_inner),
        system_priority: priority.and_then(small),
        key: key.and_then(small).and_then(NonZeroU16::new),
    };
    Some(Spanned::new(value.span(), lacp))
}

fn mode(text: &str) -> Result<LaggMode, String> {
    match text {
        "lacp" => Ok(LaggMode::LacpActive),
        "balance" => Ok(LaggMode::Balance),
        "failover" => Ok(LaggMode::Failover),
        _ => Err(format!(
            "expected \"lacp\", \"balance\" or \"failover\", found \"{text}\""
        )),
    }
}

fn hash(text: &str) -> Result<LaggHash, String> {
    match text {
        "l2" => Ok(LaggHash::L2),
        "l3" => Ok(LaggHash::L3),
        "l4" => Ok(LaggHash::L4),
        _ => Err(format!(
            "expected \"l2\", \"l3\" or \"l4\", found \"{text}\""
        )),
    }
}
