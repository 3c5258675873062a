//! Interfaces and the wires between them.
//!
//! | part | what it is |
//! |---|---|
//! | [`table`] | [`Netif`] and the table of a vnet's interfaces |
//! | [`bridge`] | a learning bridge over interfaces of one vnet |
//! | [`inbox`] | the queue at which vnets meet: frames with delivery times |
//! | [`wire`] | two plugs that carry frames to each other: an epair, or a port and its outside end |
//! | [`transmit`] | a frame's last stage: capture, cut, impair, hand over |
//! | [`capture`] | seeing frames as they pass |
//! | [`fingerprint`] | a hash of what has passed |

pub mod bridge;
pub mod capture;
pub mod fingerprint;
pub mod inbox;
pub mod table;
pub mod transmit;
pub mod wire;

pub use bridge::{Bridge, BridgeId, Bridges, Role};
pub use capture::{CaptureId, CaptureInfo, FrameTap};
pub use inbox::{Doorbell, Inbox, Item};
pub use table::{AdminState, IfCounters, IfKind, IfTable, Netif, NetifError};
pub use wire::{Plug, Wire, WireEnd};
