//! Segments that may be one: what `rx/merging.rs` holds of them.

use crate::base::id::IfId;
use crate::ip::input::Medium;
use crate::packet::MacAddr;
use crate::packet::gso::Gro;
use crate::packet::header::EtherHeader;

/// What has come in and waits for the next of its flow, while there are more frames in the same batch.
#[derive(Debug, Default)]
pub(super) struct Merging {
    pub(super) gro: Gro,
    /// Where the first of them came in, and as what.
    pub(super) from: Option<(Station, EtherHeader)>,
    /// There are more frames in the batch.
    pub(super) more: bool,
}

/// An interface at which a frame is taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    pub(super) ifid: IfId,
    pub(super) mac: MacAddr,
    pub(super) medium: Medium,
}
