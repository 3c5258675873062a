//! What the tests of this package share. The tests themselves are in `tests/`, one file a promise.
//!
//! | part | what it is |
//! |---|---|
//! | [`accounts`] | the laws that every vnet's counters and every teardown are held to |
//! | [`frames`] | frames built byte by byte, independently of the library's own headers |
//! | [`peer`] | a scripted station at the outside end of a port |
//! | [`topology`] | the networks that more than one test uses |
//! | [`trace`] | every frame that passed, with its time |

pub mod accounts;
pub mod frames;
pub mod peer;
pub mod topology;
pub mod trace;
