//! What is kept of recovery while nothing is on its way.

use super::{Episode, Phase, Rack, Recovery, Sent, Tail};
use crate::transport::tcp::seq::SeqNum;

/// What there is to keep while nothing is on its way.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::tcp) struct QuietRecovery {
    lost_from: SeqNum,
    dup_acks: u16,
    dup_room: u16,
    recover: Option<SeqNum>,
}

/// What is left of losses, and of what came out of order.
#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Past {
    rack: Option<Box<Rack>>,
    episode: Option<Box<Episode>>,
}

impl Recovery {
    /// Whether nothing is on its way from `una` on, and nothing is to be repaired.
    pub(in crate::transport::tcp) fn is_quiet(&self, una: SeqNum) -> bool {
        self.phase == Phase::Open && self.tail == Tail::None && self.sent.is_quiet(una)
    }

    pub(in crate::transport::tcp) fn quiet(&self) -> QuietRecovery {
        let Recovery {
            sent,
            rack: _,
            phase: _,
            dup_acks,
            dup_room,
            recover,
            tail: _,
            episode: _,
        } = self;
        QuietRecovery {
            lost_from: sent.lost_from(),
            dup_acks: *dup_acks,
            dup_room: *dup_room,
            recover: *recover,
        }
    }

    /// Takes what there is of the past, if there is any.
    pub(in crate::transport::tcp) fn take_past(&mut self) -> Option<Past> {
        let has_any = self.rack.is_some() || self.episode.is_some();
        has_any.then(|| Past {
            rack: self.rack.take(),
            episode: self.episode.take(),
        })
    }

    /// One that was quiet, at `una`.
    pub(in crate::transport::tcp) fn rested(
        una: SeqNum,
        quiet: &QuietRecovery,
        past: Option<Past>,
    ) -> Recovery {
        let (rack, episode) = past.map_or((None, None), |past| (past.rack, past.episode));
        Recovery {
            sent: Sent::rested(una, quiet.lost_from),
            rack,
            phase: Phase::Open,
            dup_acks: quiet.dup_acks,
            dup_room: quiet.dup_room,
            recover: quiet.recover,
            tail: Tail::None,
            episode,
        }
    }
}
