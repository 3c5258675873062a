//! Recorded configuration: what was done to an instance after its init, as data that makes a twin
//! of it.
//!
//! | part | what it is |
//! |---|---|
//! | [`Operation`] | one operation; those in effect are kept by the instance (`instance/journal.rs`) |
//! | [`Record`] | the journal and the init sequence, as data; TOML, or any other format of serde |
//! | `replay` | instances made from records |
//!
//! Every administrative method notes its operation under the lock under which it takes effect, and
//! replaying an operation is calling that method. What the recorded init steps do through the
//! handle they are given is not noted, since they do it again in the twin. Transient state is not
//! configuration: sockets, neighbours, counters, captures, children, values of variables.

mod away;
mod read;
pub(crate) mod replay;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use crate::instance::journal::{BridgeOp, IfOp, Op, RouteOp, VnetOp};
pub(crate) use away::{left_behind, settings};
pub use replay::ReplayError;

use crate::instance::cores::Inside;
use crate::instance::phase::{Entry, Gone};
use crate::instance::steps::Stage;
use crate::instance::vnet::Vnet;

/// One operation of configuration, as a [`Record`] lists it. Every administrative method of
/// [`Vnet`] has one, and [`Vnet::apply`] calls that method.
///
/// As data an operation is a table with its name, in snake case, under `op`; `docs/records.md` lists
/// the keys of each.
///
/// ```
/// use vnet::record::Operation;
///
/// let text = "op = \"add_address\"\ninterface = \"eth0\"\naddress = \"192.0.2.1/24\"\n";
/// let add: Operation = toml::from_str(text)?;
/// assert_eq!((add.name(), add.interface()), ("add_address", Some("eth0")));
/// assert_eq!(add.to_string(), "add_address eth0 192.0.2.1/24");
/// assert_eq!(toml::to_string(&add)?, text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Operation(Op);

impl Operation {
    /// Its name, as given under `op` in a record.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// The interface it concerns; for an operation on a route, the interface that the route uses.
    pub fn interface(&self) -> Option<&str> {
        self.0.interface()
    }
}

/// Its name, what it is done to, and how.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A step of an instance's init as it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitStep {
    /// The step's name.
    pub name: String,
    /// Its stage.
    pub stage: Stage,
    /// Its order within the stage.
    pub order: i32,
    /// How long it took, in nanoseconds of the wall clock. For information only; a replay does not
    /// use it.
    pub took_ns: u64,
}

/// The configuration of an instance: the init steps that it ran, and the configuration operations
/// that are in effect.
///
/// ```
/// use vnet::System;
/// use vnet::record::Record;
///
/// let system = System::virtual_time(1);
/// let a = system.create("a")?;
/// a.add_address("lo0", "192.0.2.1/32".parse()?)?;
///
/// let text = a.record()?.to_toml()?;
/// let record = Record::from_toml(&text)?;
/// let b = system.replay(&record, "b")?;
/// assert_eq!(b.inspect()?.normalised(), a.inspect()?.normalised());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format: [`Record::VERSION`].
    #[serde(deserialize_with = "this_version")]
    pub version: u32,
    /// The instance's full name.
    pub name: String,
    /// The init steps, in the order in which they ran. The system in which the record is replayed
    /// must have steps of these names; it may have more.
    #[serde(default)]
    pub init: Vec<InitStep>,
    /// The operations, in the order in which they were done, with those that concern the whole
    /// instance at the end.
    #[serde(default)]
    pub ops: Vec<Operation>,
}

fn this_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(deserializer)?;
    match version {
        Record::VERSION => Ok(version),
        other => Err(serde::de::Error::custom(RecordError::Version(other.into()))),
    }
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record is of another version of the format.
    #[error(
        "the record has version {0}; this library reads version {known}",
        known = Record::VERSION
    )]
    Version(i64),
    /// There is no version.
    #[error("not a valid record: it has no `version`")]
    NoVersion,
    /// It is not TOML, has an unknown key, lacks a key, or has an impossible value. The message
    /// gives the position.
    #[error("not a valid record: {}{message}", place(*line, *column))]
    Read {
        /// The line, from 1, if known.
        line: Option<usize>,
        /// The column, in characters from 1.
        column: Option<usize>,
        /// What is wrong, in at most a few hundred bytes, without control characters.
        message: String,
    },
    /// TOML cannot express it. This does not happen with records of instances.
    #[error("the record has a value that TOML cannot express: {0}")]
    Write(#[from] toml::ser::Error),
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    }
}

/// Several records in one file, to be written.
#[derive(Serialize)]
struct SeveralRef<'a> {
    record: &'a [Record],
}

impl Record {
    /// The version of records that this library writes, and the only one it reads.
    pub const VERSION: u32 = 1;

    /// The record as TOML. [`Record::from_toml`] reads it back unchanged. Numbers above 2^63 - 1, which links
    /// and bridges can have, are written as well, although other readers of TOML may refuse them.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn to_toml(&self) -> Result<String, RecordError> {
        Ok(toml::to_string(self)?)
    }

    /// Reads what [`Record::to_toml`] wrote.
    ///
    /// # Errors
    /// Another version, invalid TOML, an unknown key, a missing or impossible value; with the line,
    /// the operation and the key.
    pub fn from_toml(text: &str) -> Result<Record, RecordError> {
        read::one(text)
    }

    /// Several records as one TOML file: an array of tables `record`.
    ///
    /// # Errors
    /// As [`Record::to_toml`].
    pub fn all_to_toml(records: &[Record]) -> Result<String, RecordError> {
        Ok(toml::to_string(&SeveralRef { record: records })?)
    }

    /// Reads what [`Record::to_toml`] or [`Record::all_to_toml`] wrote.
    ///
    /// # Errors
    /// As [`Record::from_toml`].
    pub fn all_from_toml(text: &str) -> Result<Vec<Record>, RecordError> {
        read::all(text)
    }
}

impl Vnet {
    /// The record of this instance as it is now.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn record(&self) -> Result<Record, Gone> {
        let record = self.core.enter_as(Entry::User, |inside, _| Record {
            version: Record::VERSION,
            name: self.core.name.to_string(),
            init: init_steps(inside),
            ops: operations(inside),
        });
        self.core.driver.dispatch();
        record
    }
}

/// What is in effect. An interface that is lent has its operations here as if it were at home.
fn operations(inside: &Inside) -> Vec<Operation> {
    let at_home = |name: &str| {
        let ifs = &inside.stack.ifs;
        ifs.id_of(name).is_ok_and(|id| !ifs.is_on_borrowed(id))
    };
    let ops = inside.journal.ops(at_home).into_iter();
    ops.map(Operation).collect()
}

pub(crate) fn init_steps(inside: &Inside) -> Vec<InitStep> {
    let steps = inside.ran.iter().map(|ran| InitStep {
        name: ran.step.name.clone(),
        stage: ran.step.stage,
        order: ran.step.order,
        took_ns: ran.took,
    });
    steps.collect()
}
