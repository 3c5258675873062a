//! Running a simulated world from outside, with limits.

use std::panic::Location;

use super::pending::Pending;
use crate::base::time::{Duration, Instant};
use crate::instance::driver::{AtEnd, RunTo, StopReason};
use crate::instance::parallel::Parallel;
use crate::instance::privilege::Denied;
use crate::instance::system::System;

/// Limits on the events and the virtual time that [`System::run_until_idle`] may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimit {
    /// Events: services of vnets, polls of tasks, timers, ends of waits.
    pub events: u64,
    /// Virtual time from the start of the run.
    pub time: Duration,
}

impl Default for RunLimit {
    /// Ten million events, and an hour.
    fn default() -> RunLimit {
        RunLimit {
            events: 10_000_000,
            time: Duration::from_secs(3600),
        }
    }
}

impl RunLimit {
    /// A limit on events only.
    pub const fn events(events: u64) -> RunLimit {
        RunLimit {
            events,
            time: Duration::MAX,
        }
    }

    /// A limit on virtual time only.
    pub const fn time(time: Duration) -> RunLimit {
        RunLimit {
            events: u64::MAX,
            time,
        }
    }
}

/// Why a run ended before it was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Only the clock of [`System::virtual_time`] can be run.
    #[error("only a system under virtual time can be run")]
    NotVirtual,
    /// The handle to the system is that of a tenant that may not act on the whole system.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The caller is a task, which must not block.
    #[error("a task cannot run the simulation that polls it")]
    InTask,
    /// The limit on virtual time was reached, and there is more to happen.
    #[error("the network is not idle after {limit:?} of virtual time\n{pending}")]
    Time {
        /// The limit.
        limit: Duration,
        /// What is pending.
        pending: Box<Pending>,
    },
    /// The limit on events was reached, and there is more to happen.
    #[error("the network is not idle after {limit} events\n{pending}")]
    Events {
        /// The limit.
        limit: u64,
        /// What is pending.
        pending: Box<Pending>,
    },
    /// Ten million events happened at one instant: something loops forever without taking
    /// any time.
    #[error(
        "time no longer advances: {events} events, the last ten million of them at one instant\n{pending}"
    )]
    Stalled {
        /// Events of the run.
        events: u64,
        /// What is pending.
        pending: Box<Pending>,
    },
}

impl System {
    /// Runs the world of a system under [virtual time](System::virtual_time) until `until`:
    /// everything that is due by then happens, threads and tasks of the system included, and the
    /// clock is left at `until`. Does nothing if that time has passed. Returns how many events have happened.
    ///
    /// # Errors
    /// Another driver, a call from a task, or a world that stalls.
    ///
    /// ```
    /// use vnet::System;
    /// use std::time::Duration;
    /// use vnet::time::Instant;
    ///
    /// let system = System::virtual_time(1);
    /// let tick = system.sleep_async(Duration::from_millis(5));
    /// let task = system.spawn_future(tick);
    /// system.run_until(Instant::ZERO + Duration::from_millis(4))?;
    /// assert!(!task.is_finished());
    /// system.run_for(Duration::from_millis(1))?;
    /// assert!(task.is_finished());
    /// assert_eq!(system.now().as_nanos(), 5_000_000);
    /// # Ok::<(), vnet::RunError>(())
    /// ```
    #[track_caller]
    pub fn run_until(&self, until: Instant) -> Result<u64, RunError> {
        let to = RunTo {
            until,
            at_end: AtEnd::Arrived,
            events: u64::MAX,
        };
        self.run(to, RunLimit::events(u64::MAX))
    }

    /// Runs the world for `duration` from now on; see [`System::run_until`].
    ///
    /// # Errors
    /// As for [`System::run_until`].
    #[track_caller]
    pub fn run_for(&self, duration: Duration) -> Result<u64, RunError> {
        self.run_until(self.now() + duration)
    }

    /// Runs the world of a system under [virtual time](System::virtual_time) until nothing is left
    /// to happen: no frame is on a wire, no deadline and no timer is set, and every thread of the
    /// system waits. Time ends with the last event. Returns how many events have happened.
    ///
    /// # Errors
    /// A limit that was reached while there was more to happen, with the list of what was pending
    /// and what happened last; another driver; a call from a task; a world that stalls. What has
    /// happened stays, and the run can be continued.
    ///
    /// ```
    /// use vnet::{RunError, RunLimit, System};
    /// use std::time::Duration;
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// assert!(system.run_until_idle(RunLimit::default())? > 0);
    ///
    /// let ticker = system.clone();
    /// let _ticks = a.spawn_future(async move {
    ///     loop {
    ///         ticker.sleep_async(Duration::from_secs(1)).await;
    ///     }
    /// });
    /// let error = system.run_until_idle(RunLimit::time(Duration::from_secs(60))).unwrap_err();
    /// let RunError::Time { pending, .. } = error else { panic!("{error}") };
    /// assert_eq!(pending.tasks[0].vnet.as_deref(), Some("a"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn run_until_idle(&self, limit: RunLimit) -> Result<u64, RunError> {
        let to = RunTo {
            until: self.now() + limit.time,
            at_end: AtEnd::Limit,
            events: limit.events,
        };
        self.run(to, limit)
    }

    #[track_caller]
    fn run(&self, to: RunTo, limit: RunLimit) -> Result<u64, RunError> {
        self.require_all()?;
        let end = self.core.driver.run(to, Location::caller());
        let end = end.ok_or(RunError::NotVirtual)?;
        let pending = || Box::new(self.pending());
        match end.why {
            StopReason::Done => Ok(end.events),
            StopReason::InTask => Err(RunError::InTask),
            StopReason::Time => Err(RunError::Time {
                limit: limit.time,
                pending: pending(),
            }),
            StopReason::Events => Err(RunError::Events {
                limit: limit.events,
                pending: pending(),
            }),
            StopReason::Stalled => Err(RunError::Stalled {
                events: end.events,
                pending: pending(),
            }),
        }
    }

    /// How much of a simulation several threads have carried out, and what stands in the way; see
    /// [`VirtualConfig::threads`](crate::VirtualConfig::threads). Nothing, with any other driver, for one thread, and
    /// without [`Privilege::System`](crate::Privilege).
    ///
    /// ```
    /// use std::time::Duration;
    /// use vnet::{System, VirtualConfig};
    ///
    /// let config = VirtualConfig { threads: 2, ..VirtualConfig::default() };
    /// let system = System::virtual_time_with(1, config);
    /// system.run_for(Duration::from_secs(1))?;
    /// assert_eq!(system.parallel().events, 0, "nothing has happened");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parallel(&self) -> Parallel {
        match self.confined_to() {
            None => self.core.driver.parallel(),
            // What stands in the way may be another's, and by the events one could tell what others do.
            Some(_) => Parallel::default(),
        }
    }
}
