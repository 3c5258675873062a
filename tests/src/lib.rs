//! What vnet promises, one file a promise: see `tests/`. Here is what several of them need.
//!
//! | part | what it is |
//! |---|---|
//! | [`stream`] | bytes that can be made anywhere and recognised by digest |
//! | [`skip`] | what to do with a test that cannot run here |
//! | [`smol`] | a smoltcp host behind a port of a vnet, and the clock of both |

pub mod skip;
pub mod smol;
pub mod stream;
