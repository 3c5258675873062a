//! Adding to a virtualized variable of the current vnet, against adding to a plain atomic.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vnet::{OwnedVnet, System, vnet_local};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::context::nanos_per_operation;

vnet_local! { static HITS: AtomicU64 = AtomicU64::new(0) }
static PLAIN: AtomicU64 = AtomicU64::new(0);

/// One addition each.
///
/// # Errors
/// When the vnet cannot be made.
pub fn local(options: &Options) -> Result<Contest, SideError> {
    let vnet = System::manual(1)
        .create("local")
        .map_err(|e| SideError::new(e.to_string()))?;
    Ok(Contest {
        unit: Unit::NanosPerOperation,
        ours: Box::new(Ours {
            vnet,
            time: options.time,
        }),
        peer: Box::new(Plain { time: options.time }),
        peer_name: "plain static atomic".into(),
    })
}

struct Ours {
    vnet: OwnedVnet,
    time: Duration,
}

impl Side for Ours {
    fn measure(&mut self) -> Result<f64, SideError> {
        let _entered = self.vnet.enter();
        Ok(nanos_per_operation(self.time, || {
            black_box(HITS.with(|hits| hits.fetch_add(1, Ordering::Relaxed)));
        }))
    }
}

struct Plain {
    time: Duration,
}

impl Side for Plain {
    fn measure(&mut self) -> Result<f64, SideError> {
        Ok(nanos_per_operation(self.time, || {
            black_box(black_box(&PLAIN).fetch_add(1, Ordering::Relaxed));
        }))
    }
}
