//! Several wires used as one link: `lagg` of a link.

use vnet::{LaggConfig, LaggHash, LaggMode, Switchable};

use super::Lagg;
use crate::file::source::Problems;
use crate::file::table::{Table, Value};

/// How many wires a link may have.
const WIRES: std::ops::RangeInclusive<u64> = 2..=32;

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
            ..first
        },
    })
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
