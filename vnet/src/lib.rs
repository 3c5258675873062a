//! Many TCP/IP stacks in one process.

pub mod base;
pub mod icmp;
pub mod ip;
pub mod link;
pub mod neigh;
pub mod packet;
pub mod transport;

pub use base::stats::{DropReason, Stats};
pub use packet::{MacAddr, ParseMacError};

/// Time as the stack sees it.
pub mod time {
    pub use crate::base::time::{Duration, Instant};
}

/// Stand-in until `instance` exists.
pub struct System;
