//! The pumps of a line with several queues, as one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::lanes::{Lane, Lanes, MOST_QUEUES};
use super::shared::Shared;
use super::worker::Worker;
use super::{Plug, Pump};
use crate::line::Halves;
use crate::report::{PumpEnd, PumpReport};

/// The pumps of one port: one for each queue of the line.
#[derive(Debug)]
pub(crate) struct Pumps(pub(super) Vec<Pump>);

impl Pumps {
    /// Starts a thread for each queue of a line, as [`Pump::start`] does for one.
    ///
    /// # Errors
    /// Those of starting threads. There are no queues, or more than [`MOST_QUEUES`].
    pub(crate) fn start(
        name: &str,
        mut queues: Vec<Halves>,
        mut plug: Plug<'_>,
        queue_bytes: usize,
        busy_poll: Duration,
    ) -> io::Result<Pumps> {
        if let 1 = queues.len()
            && let Some(only) = queues.pop()
        {
            let pump = Pump::start(name, only, plug, queue_bytes, busy_poll)?;
            return Ok(Pumps(vec![pump]));
        }
        if !(1..=MOST_QUEUES).contains(&queues.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let port = plug.port()?;
        let in_lanes = queue_bytes / 2;
        port.set_queue_limit(queue_bytes - in_lanes);
        let port = Arc::new(port);
        let lanes = Lanes::new(Arc::clone(&port), queues.len(), in_lanes);
        let mut workers = Vec::with_capacity(queues.len());
        for (number, (inward, outward)) in queues.into_iter().enumerate() {
            let lane = Lane {
                lanes: Arc::clone(&lanes),
                number,
            };
            let retry_after = outward.retry_after();
            let shared = Shared::of(outward, &port, Some(lane.clone()))?;
            let (port, system) = (Arc::clone(&port), plug.system());
            let mut worker =
                Worker::new(name, shared, inward, port, system, retry_after, busy_poll);
            worker.lane = Some(lane);
            workers.push(worker);
        }
        lanes.are_of(
            workers
                .iter()
                .map(|worker| Arc::clone(&worker.shared))
                .collect(),
        );
        let about = Arc::downgrade(&port);
        port.on_ready(Arc::new(move || lanes.sent(&about)));
        let pumps: io::Result<_> = workers.into_iter().map(Pump::of).collect();
        let pumps = Pumps(pumps?);
        plug.keep();
        Ok(pumps)
    }

    /// True while frames are carried.
    pub(crate) fn is_running(&self) -> bool {
        self.0.iter().all(Pump::is_running)
    }

    /// What has been carried so far.
    pub(crate) fn report(&self) -> PumpReport {
        let mut all = PumpReport::default();
        self.0.iter().for_each(|pump| all.add(pump.report()));
        all
    }

    /// The same of each.
    #[cfg(test)]
    pub(crate) fn each(&self) -> Vec<PumpReport> {
        self.0.iter().map(Pump::report).collect()
    }

    #[cfg(test)]
    pub(crate) fn each_is_running(&self) -> Vec<bool> {
        self.0.iter().map(Pump::is_running).collect()
    }

    /// Stops the threads, as [`Pump::detach`] does.
    ///
    /// # Panics
    /// When one of them panicked, with the same payload.
    pub(crate) fn detach(self) -> PumpReport {
        let mut all = PumpReport::default();
        // Those that were told to end do not say why.
        let told = |end: &Option<PumpEnd>| match end {
            None => 0,
            Some(PumpEnd::Detached) => 1,
            Some(PumpEnd::PortGone | PumpEnd::Closed) => 2,
            Some(PumpEnd::Device(_)) => 3,
        };
        let mut end = None;
        for pump in self.0 {
            let mut report = pump.detach();
            let ended = report.end.take();
            if told(&ended) > told(&end) {
                end = ended;
            }
            all.add(report);
        }
        PumpReport { end, ..all }
    }
}

#[cfg(test)]
mod tests;
