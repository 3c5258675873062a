//! Interfaces and the wires between them.
//!
//! | part | what it is |
//! |---|---|
//! | [`table`] | [`Netif`] and the table of a vnet's interfaces |
//! | [`kind`] | the kinds of interfaces, and the table of what each can do |
//! | [`member`] | what an interface is a member of |
//! | [`bridge`] | a learning bridge over interfaces of one vnet |
//! | [`lagg`] | link aggregation: several interfaces used as one |
//! | [`vlan`] | VLAN interfaces, and which ones stand on an interface |
//! | [`stacked`] | who stands on whom, and what that means |
//! | [`inbox`] | the queue at which vnets meet: frames with delivery times |
//! | [`wire`] | two plugs that carry frames to each other: an epair, or a port and its outside end |
//! | [`transmit`] | a frame's last stage: capture, cut, impair, hand over |
//! | [`capture`] | seeing frames as they pass |
//! | [`fingerprint`] | a hash of what has passed |

pub(crate) mod bridge;
pub(crate) mod capture;
pub(crate) mod fingerprint;
pub(crate) mod inbox;
pub(crate) mod kind;
pub(crate) mod lagg;
pub(crate) mod member;
pub(crate) mod stacked;
pub(crate) mod table;
pub(crate) mod transmit;
pub(crate) mod vlan;
pub(crate) mod wire;

pub(crate) use bridge::Bridges;
pub use capture::{CaptureId, CaptureInfo, FrameTap};
pub(crate) use inbox::{Doorbell, Inbox, Item};
pub use kind::{IfKind, Offload};
pub(crate) use kind::{Kind, OffloadSetting};
pub use table::{AdminState, IfCounters, NetifError};
pub(crate) use table::{IfTable, Netif};
pub(crate) use wire::{Plug, Wire};
