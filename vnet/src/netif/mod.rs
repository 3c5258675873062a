//! Interfaces and the wires between them.
//!
//! | part | what it is |
//! |---|---|
//! | [`table`] | [`Netif`] and the table of a vnet's interfaces |
//! | [`inbox`] | the queue at which vnets meet: frames with delivery times |
//! | [`wire`] | two plugs that carry frames to each other: an epair, or a port and its outside end |
//! | [`transmit`] | a frame's last stage: capture, cut, impair, hand over |
//! | [`capture`] | seeing frames as they pass |

pub mod capture;
pub mod inbox;
pub mod table;
pub mod transmit;
pub mod wire;

pub use capture::{CaptureId, CaptureInfo, FrameTap};
pub use inbox::{Doorbell, Inbox, Item};
pub use table::{AdminState, IfCounters, IfKind, IfTable, Netif, NetifError};
pub use wire::{Plug, Wire, WireEnd};
