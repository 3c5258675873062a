//! The drivers: who calls [`VnetCore::service`](crate::instance::cores::VnetCore::service), and
//! when. The same instance code runs under all three.
//!
//! | part | what it is |
//! |---|---|
//! | [`clock`] | the only place where the wall clock is read |
//! | [`threads`] | a pool of workers, direct dispatch, the wall clock |
//! | `turns` | whose turn it is at those workers |
//! | `pool` | the threads that poll tasks under that driver |
//! | `sleeper` | how a thread waits under that driver |
//! | [`cost`] | what calls that do not wait cost, for the next three |
//! | [`event`] | the total order of pending events, for the next two |
//! | [`virtual_time`] | a simulated clock; blocking calls run the simulation |
//! | [`manual`] | the embedder owns the clock and the loop |

pub(crate) mod clock;
pub(crate) mod cost;
pub(crate) mod event;
pub(crate) mod manual;
mod pool;
mod sleeper;
pub(crate) mod threads;
mod turns;
pub(crate) mod virtual_time;
