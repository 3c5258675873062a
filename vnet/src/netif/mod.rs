//! Interfaces and the wires between them.
//!
//! | part | what it is |
//! |---|---|
//! | [`table`] | [`Netif`] and the table of a vnet's interfaces |
//! | [`kind`] | the kinds of interfaces, and the table of what each can do |
//! | [`member`] | what an interface is a member of |
//! | [`bridge`] | a learning bridge over interfaces of one vnet |
//! | [`lagg`] | link aggregation: several interfaces used as one |
//! | [`lldp`] | what a vnet says of itself on its wires, and who says so at their other ends |
//! | [`vlan`] | VLAN interfaces, and which ones stand on an interface |
//! | [`stacked`] | which interfaces stand on which, and what that means |
//! | [`inbox`] | the queue at which vnets meet: frames with their arrival times |
//! | [`wire`] | a connection between two ends: those of an epair, or a port and its outside end |
//! | [`transmit`] | a frame's last stage: capture, segmentation, impairment, hand-over |
//! | [`capture`] | watching frames as they pass |
//! | [`fingerprint`] | a hash of all frames that have passed |

pub(crate) mod bridge;
pub(crate) mod capture;
pub(crate) mod error;
pub(crate) mod fingerprint;
pub(crate) mod inbox;
pub(crate) mod kind;
pub(crate) mod lagg;
pub(crate) mod lldp;
pub(crate) mod member;
pub(crate) mod stacked;
pub(crate) mod table;
pub(crate) mod transmit;
pub(crate) mod vlan;
pub(crate) mod wire;

pub(crate) use bridge::Bridges;
pub(crate) use capture::CaptureId;
pub use capture::FrameTap;
pub use error::AdminError;
pub(crate) use inbox::{Doorbell, Inbox, Item};
pub use kind::{IfKind, Offload};
pub(crate) use kind::{Kind, OffloadSetting};
pub use lldp::LldpNeighbour;
pub use table::{AdminState, IfCounters};
pub(crate) use table::{IfTable, Netif};
pub(crate) use wire::{Plug, Wire};
