//! How an instance ended: by a failure, after a grace period, or at once.

use std::fmt;

use super::loans::ReturnedInterface;
use crate::base::time::{Duration, Instant};
use crate::stack::Census;

/// How an instance went away.
#[derive(Clone, Debug)]
pub struct DestroyReport {
    /// The instance's name.
    pub vnet: String,
    /// Whether this call destroyed it. Everything below is empty when it did not.
    pub outcome: Outcome,
    /// Why it had ended before, by itself, if it had; see [`Vnet::failure`](crate::Vnet::failure).
    pub failure: Option<Failure>,
    /// See [`Vnet::callback_panics`](crate::Vnet::callback_panics).
    pub callback_panics: u64,
    /// The result of the grace period, after
    /// [`OwnedVnet::begin_shutdown`](crate::OwnedVnet::begin_shutdown).
    pub graceful: Option<Graceful>,
    /// Its children, which were destroyed before it, in that order.
    pub children: Vec<DestroyReport>,
    /// Borrowed interfaces, which were returned, and its own that were lent, which were destroyed
    /// wherever they were.
    pub returned: Vec<ReturnedInterface>,
    /// The steps, in the order in which they were undone.
    pub steps: Vec<StepReport>,
    /// How long the whole teardown took.
    pub took: Duration,
    /// What it released, not counting its children.
    pub released: Released,
    /// Tasks that were being polled. A poll cannot be ended from outside and was not waited for:
    /// each task is dropped when its poll returns. More than one only under the threads driver.
    pub busy_tasks: usize,
    /// What was left after the last step. Always zero, unless there is a defect.
    pub leaked: Released,
}

/// One step of a teardown.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The name of the step that was undone.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What it released.
    pub released: Released,
    /// Its error, if it failed; the teardown continued.
    pub failure: Option<String>,
}

/// What a step, or a whole teardown, released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released(pub(crate) Census);

impl Released {
    /// True when there was nothing.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Sockets of users.
    pub fn sockets(&self) -> u64 {
        self.0.sockets
    }

    /// TCP connections in any state, half-open ones and those in TIME-WAIT included.
    pub fn connections(&self) -> u64 {
        self.0.connections
    }

    /// Interfaces.
    pub fn interfaces(&self) -> u64 {
        self.0.interfaces
    }

    /// Entries in the forwarding databases of bridges.
    pub fn stations(&self) -> u64 {
        self.0.stations
    }

    /// Packets held anywhere: unresolved neighbours, reassembly, receive queues, the inbox.
    pub fn packets(&self) -> u64 {
        self.0.packets
    }

    /// Pending deadlines.
    pub fn deadlines(&self) -> u64 {
        self.0.deadlines
    }

    /// Values of virtualized variables; see [`Local`](super::Local).
    pub fn locals(&self) -> u64 {
        self.0.locals
    }
}

impl fmt::Display for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a call that destroys did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It destroyed the instance.
    Destroyed,
    /// Another call had destroyed it, or was doing so; the report goes to that call, and this one
    /// is empty.
    AlreadyGone,
    /// It was called from inside a vnet, with that vnet's lock held, by a
    /// [`FrameTap`](crate::capture::FrameTap) or its destructor. The instance is destroyed as soon as this
    /// thread has left that vnet; this report is empty.
    Deferred,
}

impl fmt::Display for DestroyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for child in &self.children {
            fmt::Display::fmt(child, f)?;
        }
        match self.outcome {
            Outcome::Destroyed => writeln!(
                f,
                "vnet {} destroyed in {:?}: released {}; leaked {}",
                self.vnet, self.took, self.released, self.leaked
            )?,
            Outcome::AlreadyGone => writeln!(f, "vnet {} was gone already", self.vnet)?,
            Outcome::Deferred => writeln!(f, "vnet {} is about to be destroyed", self.vnet)?,
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  FAILED: {failure}")?;
        }
        if self.callback_panics > 0 {
            writeln!(f, "  callbacks panicked {} times", self.callback_panics)?;
        }
        if self.busy_tasks > 0 {
            writeln!(f, "  tasks still in a poll: {}", self.busy_tasks)?;
        }
        if let Some(graceful) = &self.graceful {
            writeln!(f, "  {graceful}")?;
        }
        for returned in &self.returned {
            writeln!(f, "  {returned}")?;
        }
        for step in &self.steps {
            write!(
                f,
                "  {:<12} {:>10.1?}  {}",
                step.name, step.took, step.released
            )?;
            match &step.failure {
                Some(failure) => writeln!(f, "  FAILED: {failure}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Why an instance ended by itself: its stack has panicked, which is a defect of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// What the panic said.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stack panicked at {}: {}", self.at, self.reason)
    }
}

/// The result of an instance's grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graceful {
    /// How long it lasted, in the system's time.
    pub waited: Duration,
    /// Connections that ended normally.
    pub closed: usize,
    /// Connections that did not end in time, and were reset.
    pub revoked: usize,
}

impl fmt::Display for Graceful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drained for {:?}: {} connections closed, {} revoked",
            self.waited, self.closed, self.revoked
        )
    }
}
