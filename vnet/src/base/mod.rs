//! What every layer is built on, and what knows no protocol: time, randomness, locks, hash maps,
//! deadlines, counters.
//!
//! | part | what it is |
//! |---|---|
//! | [`time`] | [`Instant`](time::Instant), nanoseconds since the system's start |
//! | [`rng`] | seeded random streams |
//! | [`lock`] | the only mutex, with a rank |
//! | [`map`] | a hash map that cannot be iterated |
//! | [`deadline`] | deadlines as data |
//! | [`heap`] | what deadlines and the drivers' agendas are built on |
//! | [`stats`] | drop reasons and counters |
//! | [`config`] | what is wrong with a setting |
//! | [`callback`] | calls into the program, with their panics contained |
//! | [`id`] | generational identifiers |
//! | [`slab`] | values under such identifiers |
//! | [`sorted`] | a sorted map that costs little memory while it is small |
//! | [`marked`] | parts that note that they were taken to be changed |
//! | [`on_use`] | parts that are made when they are first used |
//! | [`switch`] | what is on or off |
//! | [`trials`] | whether something is worth trying that was in vain lately |
//! | [`walked`] | how many entries of a table were visited, in tests |

pub(crate) mod callback;
pub(crate) mod config;
pub(crate) mod deadline;
pub(crate) mod heap;
pub(crate) mod id;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod marked;
pub(crate) mod on_use;
pub(crate) mod part;
pub(crate) mod rng;
pub(crate) mod slab;
pub(crate) mod sorted;
pub(crate) mod stats;
pub(crate) mod switch;
pub(crate) mod time;
pub(crate) mod trials;
pub(crate) mod walked;
