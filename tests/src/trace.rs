//! Every frame that passed, with its time.

use std::sync::{Arc, Mutex};

use vnet::capture::FrameTap;
use vnet::time::Instant;
use vnet::{Direction, Packet, Vnet};

/// A frame as a tap saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// At which interface, as `vnet/interface`.
    pub place: String,
    /// Which way.
    pub direction: Direction,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

/// What any number of taps saw, in the order in which they saw it.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<Seen>>>);

struct Tap {
    place: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FrameTap for Tap {
    fn frame(&self, at: Instant, direction: Direction, packet: &Packet) {
        self.seen.lock().expect("no tap panics").push(Seen {
            at,
            place: self.place.clone(),
            direction,
            bytes: packet.to_vec(),
        });
    }
}

impl Trace {
    /// Watches an interface from now on.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn watch(&self, vnet: &Vnet, interface: &str) {
        let tap = Tap {
            place: format!("{}/{interface}", vnet.name()),
            seen: Arc::clone(&self.0),
        };
        vnet.capture(interface, Arc::new(tap))
            .expect("the interface is there");
    }

    /// Watches every interface that a vnet has now.
    ///
    /// # Panics
    /// When the vnet is gone.
    pub fn watch_all(&self, vnet: &Vnet) {
        for interface in vnet.interfaces().expect("the vnet is alive") {
            self.watch(vnet, &interface.name);
        }
    }

    /// What was seen until now; forgets it.
    ///
    /// # Panics
    /// When a tap has panicked.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().expect("no tap panics"))
    }
}
