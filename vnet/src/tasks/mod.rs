//! Tasks and timers, and what a simulated world has still to do.
//!
//! | part | what it is |
//! |---|---|
//! | `completion` | where threads and tasks leave their results |
//! | `pending` | what a system is waiting for |
//! | `run` | running a simulated world, with limits |
//! | `task` | futures that a system polls |
//! | `thread` | a system's threads, and waiting in its time |
//! | `timer` | sleeping and time limits as futures |

pub(crate) mod completion;
pub(crate) mod pending;
pub(crate) mod run;
pub(crate) mod task;
pub(crate) mod thread;
pub(crate) mod timer;

pub use pending::{Deadlock, Pending};
pub use run::{RunError, RunLimit};
pub use task::{Panic, TaskError, TaskHandle};
pub use timer::Sleep;
