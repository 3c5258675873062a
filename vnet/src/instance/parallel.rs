//! Whether several threads carry out a simulation, and if not, why.

use std::fmt;
use std::sync::Arc;

/// How far several threads have carried out a simulation; see [`System::parallel`](crate::System::parallel).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parallel {
    /// Events that were carried out while several threads were at work, of all events that there were.
    pub events: u64,
    /// Why one thread carried out the events since; `None` while nothing stands in the way.
    pub obstacle: Option<Obstacle>,
}

/// Why one thread carries out a simulation for which there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// A thread waits for something else than the end of a run, or several wait.
    Waiting,
    /// The run has a limit of events, and somebody has to count them.
    EventLimit,
    /// There are tasks or timers that are in no vnet.
    Outside,
    /// A runtime of another library is beside the system.
    Runtime,
    /// Calls are charged at present, or have no cost.
    Calls,
    /// There is little to come.
    Few,
    /// A vnet has something that others see, or that could change how long frames take.
    Vnet {
        /// Its name.
        name: Arc<str>,
        /// What it has.
        has: Feature,
    },
    /// The vnets do not fall into parts of about the same weight between which there are only links with a delay.
    Undivided,
    /// Few events fall into the least delay between parts: threads would wait for each other most of the time.
    TooNear,
    /// The operating system has refused a thread.
    NoThread,
}

/// What keeps a vnet, and all others, on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// A port.
    Port,
    /// A link aggregation group.
    Lagg,
    /// A capture, or another tap.
    Capture,
    /// An interface that is lent, or borrowed.
    Loan,
    /// A VLAN interface in another vnet.
    VlanAway,
    /// A script that changes a link.
    Script,
    /// An inbox that is smaller than by default, or rather full.
    Inbox,
    /// It is being made, drained or destroyed.
    Phase,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Waiting => "a thread waits for something else than the end of a run",
            Obstacle::EventLimit => "the run has a limit of events",
            Obstacle::Outside => "there are tasks or timers that are in no vnet",
            Obstacle::Runtime => "a runtime of another library is beside the system",
            Obstacle::Calls => "calls are charged at present, or have no cost",
            Obstacle::Few => "there is little to come",
            Obstacle::Vnet { name, has } => return write!(f, "vnet {name} {has}"),
            Obstacle::Undivided => {
                "the vnets do not fall into even parts with only delays between them"
            }
            Obstacle::TooNear => "few events fall into the least delay between parts",
            Obstacle::NoThread => "the operating system has refused a thread",
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Port => "has a port",
            Feature::Lagg => "has a link aggregation group",
            Feature::Capture => "is captured",
            Feature::Loan => "has lent or borrowed an interface",
            Feature::VlanAway => "has a VLAN in another vnet",
            Feature::Script => "runs a script on a link",
            Feature::Inbox => "has an inbox that is small or rather full",
            Feature::Phase => "is being made, drained or destroyed",
        })
    }
}
