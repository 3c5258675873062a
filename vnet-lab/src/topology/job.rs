//! What to run over the network once it is up, and between whom.

use std::time::Duration;

use toml::Spanned;

use crate::family::Family;
use crate::file::name::{Target, node_name, target};
use crate::file::source::Problems;
use crate::file::table::{Table, Value};
use crate::file::units;
use crate::job::{self, Task};

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name in reports.
    pub name: String,
    /// When it starts; `None` is after the jobs before it.
    pub start: Option<Duration>,
    /// How long it may take before it has failed.
    pub timeout: Duration,
    /// The node it starts from.
    pub from: Spanned<String>,
    /// Where it goes.
    pub to: Spanned<Target>,
    /// The version of IP that it uses, when the file says so.
    pub family: Option<Family>,
    /// What it does.
    pub task: Task<Spanned<Target>>,
}

/// Reads one element of `job`.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Job> {
    let mut table = Table::of("job", value, problems)?;
    let name = table.string("name", problems);
    let start = table.read("start", units::duration, problems);
    let timeout = table.read("timeout", units::positive_duration, problems);
    let kinds = job::KINDS.map(|(kind, _)| kind);
    let task = table.only_one(&kinds, " in a job", problems);
    table.finish(problems);

    let (kind, task) = task?;
    let mut table = Table::of(format!("`{kind}`"), task, problems)?;
    let from = table.read("from", node_name, problems);
    let to = table.read("to", target, problems);
    for key in ["from", "to"] {
        if table.key_span(key).is_none() {
            table.missing(key, "the name of a node", problems);
        }
    }
    let family = table.read("family", family, problems);
    let reader = job::KINDS.iter().find(|(known, _)| *known == kind);
    let task = reader.and_then(|(_, read)| read(&mut table, problems));
    table.finish(problems);
    let (from, to, task) = (from?, to?, task?);
    let name = name.map_or_else(
        || {
            let over = family.as_ref().map(|family| family.get_ref().as_str());
            let over = over.map_or(String::new(), |name| format!(" over {name}"));
            format!("{kind} {} → {}{over}", from.get_ref(), to.get_ref())
        },
        |name| name.into_inner().to_owned(),
    );
    Some(Job {
        name,
        start: start.map(Spanned::into_inner),
        timeout: timeout.map_or(Duration::from_secs(60), Spanned::into_inner),
        from,
        to,
        family: family.map(Spanned::into_inner),
        task,
    })
}

fn family(text: &str) -> Result<Family, String> {
    let known = Family::ALL.into_iter().find(|family| family.key() == text);
    known.ok_or_else(|| format!("expected \"v4\" or \"v6\", found \"{text}\""))
}
