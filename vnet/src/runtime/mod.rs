//! The drivers: who calls [`VnetCore::service`](crate::instance::vnet::VnetCore::service), and
//! when. The same instance code runs under all three.
//!
//! | part | what it is |
//! |---|---|
//! | [`clock`] | the only place where the wall clock is read |
//! | [`threads`] | a pool of workers, direct dispatch, the wall clock |
//! | `pool` | the threads that poll tasks under that driver |
//! | `sleeper` | how a thread waits under that driver |
//! | [`cost`] | what calls cost that do not wait, for the next three |
//! | [`event`] | the total order of what will happen, for the next two |
//! | [`virtual_time`] | a simulated clock; blocking calls run the world |
//! | [`manual`] | the embedder owns the clock and the loop |

pub mod clock;
pub mod cost;
pub mod event;
pub mod manual;
mod pool;
mod sleeper;
pub mod threads;
pub mod virtual_time;
