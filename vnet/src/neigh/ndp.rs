//! What neighbour discovery does to the table of neighbours (RFC 4861 section 7.2).
//!
//! As with ARP, whoever asks for an address of ours is answered, and a station is learned only from a
//! question for us, and if a packet of ours might go to it on this link.
//!
//! Not here: addresses of ours that others may have (RFC 4862 section 5.4), routers.

use std::net::Ipv6Addr;

use super::cache::NeighCache;
use super::verdict::{NeighIngress, Proof, Release, Scope};
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::MacAddr;
use crate::packet::header::ndp::{Flags, Ndp};

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum NdpVerdict {
    /// It was for us, or about someone we know.
    Accepted {
        /// An answer to send.
        answer: Option<Answer>,
        /// Packets that can now be sent.
        release: Option<Release>,
    },
    /// Someone else says that it has an address of ours.
    Conflict {
        /// The address.
        ip: Ipv6Addr,
    },
    /// It is of no use; the caller counts it.
    Drop(DropReason),
}

/// An answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The address asked for, which is the sender.
    pub target: Ipv6Addr,
    /// Who asked; `None` when that has no address yet, and everybody is to hear.
    pub to: Option<Ipv6Addr>,
    /// Where that is, if it has said so.
    pub station: Option<MacAddr>,
}

impl NeighCache {
    /// Takes a message from `src` that was checked for what every message must be.
    pub(crate) fn discovered(
        &mut self,
        now: Instant,
        ingress: NeighIngress,
        src: Ipv6Addr,
        message: Ndp,
    ) -> NdpVerdict {
        match message {
            Ndp::Solicitation { target, source, .. } => {
                self.solicited(now, ingress, src, target, source)
            }
            Ndp::Advertisement {
                target,
                station,
                flags,
            } => self.advertised(now, ingress, target, station, flags),
        }
    }

    /// Section 7.2.3.
    fn solicited(
        &mut self,
        now: Instant,
        ingress: NeighIngress,
        src: Ipv6Addr,
        target: Ipv6Addr,
        source: Option<MacAddr>,
    ) -> NdpVerdict {
        if ingress.target != Scope::Ours {
            return NdpVerdict::Drop(DropReason::NotForUs);
        }
        let answer = |to, station| NdpVerdict::Accepted {
            answer: Some(Answer {
                target,
                to,
                station,
            }),
            release: None,
        };
        if src.is_unspecified() {
            // Who has no address is answered by telling everybody.
            return answer(None, None);
        }
        if matches!(ingress.sender, Scope::Ours | Scope::Impossible) {
            return NdpVerdict::Drop(DropReason::Martian);
        }
        let Some(mac) = source else {
            // It has to be asked where it is; a stranger could make us ask for anybody.
            let is_known = self.station(ingress.ifid, src.into()).is_some();
            return match is_known || ingress.sender == Scope::Neighbour {
                true => answer(Some(src), None),
                false => NdpVerdict::Drop(DropReason::NotForUs),
            };
        };
        if !mac.is_station() {
            return NdpVerdict::Drop(DropReason::Malformed);
        }
        // No other station is where we are.
        if mac == ingress.mac {
            return NdpVerdict::Drop(DropReason::NotForUs);
        }
        let known = self.heard(now, ingress.ifid, src.into(), mac, Proof::Hint);
        if known.is_none() && ingress.sender == Scope::Neighbour {
            self.learn(now, ingress, src.into(), mac);
        }
        NdpVerdict::Accepted {
            answer: Some(Answer {
                target,
                to: Some(src),
                station: Some(mac),
            }),
            release: known.flatten(),
        }
    }

    /// Section 7.2.5.
    fn advertised(
        &mut self,
        now: Instant,
        ingress: NeighIngress,
        target: Ipv6Addr,
        station: Option<MacAddr>,
        flags: Flags,
    ) -> NdpVerdict {
        // What we say ourselves comes back, or somebody says that another is where we are.
        if station == Some(ingress.mac) {
            return NdpVerdict::Drop(DropReason::NotForUs);
        }
        if ingress.target == Scope::Ours {
            self.count_conflict();
            return NdpVerdict::Conflict { ip: target };
        }
        let ip = target.into();
        let Some(known) = self.station(ingress.ifid, ip) else {
            return NdpVerdict::Drop(DropReason::NotForUs);
        };
        let accepted = |release| NdpVerdict::Accepted {
            answer: None,
            release,
        };
        let mac = match (station, known) {
            (Some(mac), _) if !mac.is_station() => {
                return NdpVerdict::Drop(DropReason::Malformed);
            }
            (Some(mac), Some(known)) if mac != known && !flags.has(Flags::OVERRIDE) => {
                // It contradicts without being sure: what is known is asked whether it is still there.
                self.doubt(ingress.ifid, ip);
                return accepted(None);
            }
            (Some(mac), _) | (None, Some(mac)) => mac,
            // Nothing is known, and nothing is said.
            (None, None) => return accepted(None),
        };
        let proof = match flags.has(Flags::SOLICITED) {
            true => Proof::Answer,
            false => Proof::Hint,
        };
        match self.heard(now, ingress.ifid, ip, mac, proof) {
            Some(release) => accepted(release),
            None => NdpVerdict::Drop(DropReason::NotForUs),
        }
    }
}

#[cfg(test)]
mod tests;
