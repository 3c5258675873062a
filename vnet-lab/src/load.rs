//! From a file to a topology and its plan, or to everything that is wrong with it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::file::source::{Invalid, Problems};
use crate::file::units;
use crate::plan::{Plan, reach};
use crate::topology::validate::{self, Stdin};
use crate::topology::{Origin, Topology, parse};

/// A time as topologies have it, such as `5ms`.
///
/// # Errors
/// What was expected instead.
pub fn time(text: &str) -> Result<Duration, String> {
    units::duration(text)
}

impl Topology {
    /// Reads and checks a topology and plans its routes.
    ///
    /// `file` names the source in messages; a job's `file` is looked for beside it.
    ///
    /// # Errors
    /// [`Invalid`] with everything that is wrong.
    pub fn parse(file: &str, source: &str) -> Result<(Topology, Plan), Invalid> {
        load(file, source, Stdin::Free)
    }

    /// Reads a topology from a file, as [`Topology::parse`] does.
    ///
    /// # Errors
    /// [`Invalid`]; also when the file cannot be read.
    pub fn from_file(path: &Path) -> Result<(Topology, Plan), Invalid> {
        let file = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(source) => Topology::parse(&file, &source),
            Err(error) => Err(unreadable(&file, &error)),
        }
    }

    /// Reads a topology from standard input, which messages call `<stdin>`. A job's `file` is
    /// looked for in the current directory.
    ///
    /// # Errors
    /// As [`Topology::from_file`].
    pub fn from_stdin() -> Result<(Topology, Plan), Invalid> {
        let file = "<stdin>";
        match io::read_to_string(io::stdin()) {
            Ok(source) => load(file, &source, Stdin::Topology),
            Err(error) => Err(unreadable(file, &error)),
        }
    }
}

fn load(file: &str, source: &str, stdin: Stdin) -> Result<(Topology, Plan), Invalid> {
    let mut problems = Problems::new(source);
    let mut topology = parse::topology(source, &mut problems);
    topology.origin = Origin {
        file: file.to_owned(),
        source: source.into(),
    };
    validate::network(&topology, &mut problems);
    let network_is_sound = problems.count() == 0;
    let here = Path::new(file).parent().unwrap_or(Path::new(""));
    validate::jobs(&topology, here, stdin, &mut problems);
    // Routes over a broken network would only repeat what is already said.
    let plan = network_is_sound.then(|| Plan::new(&topology, here));
    if let Some(plan) = &plan {
        reach::check(plan, &topology, &mut problems);
    }
    problems.finish(file)?;
    let plan = plan.expect("a network with problems ends in an error");
    Ok((topology, plan))
}

fn unreadable(file: &str, error: &io::Error) -> Invalid {
    Invalid::of_file(file, format!("cannot read the file: {error}"))
}
