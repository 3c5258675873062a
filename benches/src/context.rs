//! Entering a vnet and leaving it, against the cheapest thing that could do the job: a plain
//! thread-local that is replaced and restored.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use vnet::{OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};

/// Operations between two looks at the clock.
const BATCH: u32 = 10_000;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Enter and leave.
///
/// # Errors
/// When the vnet cannot be made.
pub fn context(options: &Options) -> Result<Contest, SideError> {
    let vnet = System::manual(1)
        .create("current")
        .map_err(|e| SideError::new(e.to_string()))?;
    Ok(Contest {
        unit: Unit::NanosPerOperation,
        ours: Box::new(Ours {
            vnet,
            time: options.time,
        }),
        peer: Box::new(Plain { time: options.time }),
        peer_name: "thread-local Cell, replaced and restored".into(),
    })
}

struct Ours {
    vnet: OwnedVnet,
    time: Duration,
}

impl Side for Ours {
    fn measure(&mut self) -> Result<f64, SideError> {
        let vnet = &self.vnet;
        Ok(nanos_per_operation(self.time, || {
            let entered = black_box(vnet).enter();
            black_box(&entered);
        }))
    }
}

struct Plain {
    time: Duration,
}

impl Side for Plain {
    fn measure(&mut self) -> Result<f64, SideError> {
        Ok(nanos_per_operation(self.time, || {
            let before = CURRENT.replace(black_box(7));
            black_box(&before);
            CURRENT.set(before);
        }))
    }
}

pub(crate) fn nanos_per_operation(time: Duration, mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut done = 0u64;
    loop {
        for _ in 0..BATCH {
            operation();
        }
        done += u64::from(BATCH);
        let took = start.elapsed();
        if took >= time {
            return took.as_nanos() as f64 / done as f64;
        }
    }
}
