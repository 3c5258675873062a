//! A topology without its jobs: what it would create, and the records of that.

use std::path::{Path, PathBuf};

use vnet::record::{Record, RecordError, ReplayError};
use vnet::{Gone, Inspection, OwnedVnet, System};

use crate::plan::Plan;
use crate::run::{RunError, bring_up};
use crate::text::printable;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShowError {
    /// The topology cannot be brought up.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The topology has no such node.
    #[error("there is no node {node:?}; there are: {}", nodes.join(", "))]
    NoNode {
        /// What was asked for.
        node: String,
        /// What there is.
        nodes: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}", printable(&path.to_string_lossy()))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is no record.
    #[error("{}", printable(&path.to_string_lossy()))]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Records cannot be written.
    #[error(transparent)]
    Write(#[from] RecordError),
    /// Records cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A vnet went away meanwhile.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Brings a topology up and looks at its vnets, in the order of the file. Nothing runs in them, and
/// no time passes.
///
/// # Errors
/// What the topology asks for is impossible.
pub fn show(plan: &Plan) -> Result<Vec<Inspection>, ShowError> {
    inspect(&bring_up(&System::virtual_time(0), plan)?)
}

/// Brings a topology up and returns its record as TOML: that of one node, or those of all.
///
/// # Errors
/// What the topology asks for is impossible; no such node.
pub fn record(plan: &Plan, node: Option<&str>) -> Result<String, ShowError> {
    let vnets = bring_up(&System::virtual_time(0), plan)?;
    let Some(node) = node else {
        let records: Result<Vec<Record>, Gone> = vnets.iter().map(|v| v.record()).collect();
        return Ok(Record::all_to_toml(&records?)?);
    };
    let found = vnets.iter().find(|v| v.name() == node);
    let found = found.ok_or_else(|| ShowError::NoNode {
        node: node.to_owned(),
        nodes: vnets.iter().map(|v| v.name().to_owned()).collect(),
    })?;
    Ok(found.record()?.to_toml()?)
}

/// Reads records, makes the instances, joined where their records say so, and looks at them.
///
/// # Errors
/// A file that cannot be read or is no record; an impossible operation.
pub fn replay(files: &[PathBuf]) -> Result<Vec<Inspection>, ShowError> {
    let mut records = Vec::new();
    for file in files {
        records.extend(read(file)?);
    }
    let made = System::virtual_time(0).replay_all(&records, str::to_owned)?;
    inspect(&made)
}

fn read(path: &Path) -> Result<Vec<Record>, ShowError> {
    let text = std::fs::read_to_string(path).map_err(|source| ShowError::File {
        path: path.to_owned(),
        source,
    })?;
    Record::all_from_toml(&text).map_err(|source| ShowError::Record {
        path: path.to_owned(),
        source,
    })
}

fn inspect(vnets: &[OwnedVnet]) -> Result<Vec<Inspection>, ShowError> {
    let seen: Result<Vec<_>, Gone> = vnets.iter().map(|v| v.inspect()).collect();
    Ok(seen?)
}
