//! What the tests of this package share. The tests themselves are in `tests/`, one file a promise.
//!
//! | part | what it is |
//! |---|---|
//! | [`accounts`] | the laws that every vnet's counters and every teardown are held to |
//! | [`bridge`] | a vnet with a bridge over ports to the outside |
//! | [`cases`] | cases that more than one test draws |
//! | [`frames`] | frames built byte by byte, independently of the library's own headers |
//! | [`fuzz`] | what a fuzzer gives its bytes to |
//! | [`judge`] | what vnets send, as tshark sees it |
//! | [`onlink`] | pairs of neighbours without a common prefix |
//! | [`ovs`] | Open vSwitch as a peer |
//! | [`peer`] | a scripted station at the outside end of a port |
//! | [`reach`] | whether one vnet reaches another |
//! | [`skip`] | what to do with a test that cannot run here |
//! | [`smol`] | a smoltcp host behind a port of a vnet, and the clock of both |
//! | [`sockets`] | sockets with options that they have before they are bound |
//! | [`stream`] | bytes that can be made anywhere and recognised by digest |
//! | [`talks`] | where a scripted station's TCP conversations stand |
//! | [`topology`] | the networks that more than one test uses |
//! | [`trace`] | every frame that passed, with its time |

pub mod accounts;
pub mod bridge;
pub mod cases;
pub mod frames;
pub mod fuzz;
pub mod judge;
pub mod onlink;
pub mod ovs;
pub mod peer;
pub mod reach;
pub mod skip;
pub mod smol;
pub mod sockets;
pub mod stream;
pub mod talks;
pub mod topology;
pub mod trace;
