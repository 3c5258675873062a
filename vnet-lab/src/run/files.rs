//! How many files this process may have open: each capture file is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open besides captures.
const OTHERS: u64 = 32;

/// The process may not have as many files open as there are captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{captures} captures at once, but this process may have {limit} files open (`ulimit -n`): raise that, \
     or capture fewer links, with --pcap-link or `capture` in the topology"
)]
pub struct TooManyFiles {
    /// Captures that are asked for.
    pub captures: u64,
    /// The hard limit of open files.
    pub limit: u64,
}

/// Raises the soft limit of open files as far as so many captures need it.
pub(super) fn make_room(captures: u64) -> Result<(), TooManyFiles> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = captures.saturating_add(OTHERS);
    // `None` is no limit.
    if current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if let Some(limit) = maximum.filter(|hard| *hard < needed) {
        return Err(TooManyFiles { captures, limit });
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // The files may be fewer than were counted; opening one too many is an error by itself.
        tracing::warn!("cannot raise the limit of open files to {needed}: {error}");
    }
    Ok(())
}
