//! What every layer stands on and that knows no protocol: time, randomness, locks, hashed maps,
//! deadlines, counters.
//!
//! | part | what it is |
//! |---|---|
//! | [`time`] | [`Instant`](time::Instant), nanoseconds since the system's start |
//! | [`rng`] | seeded random streams |
//! | [`lock`] | the only mutex, with a rank |
//! | [`map`] | a hash map that cannot be iterated |
//! | [`deadline`] | when something is due, as data |
//! | [`heap`] | what that and the drivers' agendas stand on |
//! | [`stats`] | drop reasons and counters |
//! | [`callback`] | calls into the program, whose panics go no further |
//! | [`id`] | generational identifiers |
//! | [`slab`] | values under such identifiers |
//! | [`walked`] | how much of a table was looked at, in tests |

pub(crate) mod callback;
pub(crate) mod deadline;
pub(crate) mod heap;
pub(crate) mod id;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod rng;
pub(crate) mod slab;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod walked;
