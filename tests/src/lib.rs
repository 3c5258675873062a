//! What vnet promises, one file a promise: see `tests/`. Here is what several of them need.
//!
//! | part | what it is |
//! |---|---|
//! | [`stream`] | bytes that can be made anywhere and recognised by digest |
//! | [`smol`] | a smoltcp host behind a port of a vnet, and the clock of both |

pub mod smol;
pub mod stream;
