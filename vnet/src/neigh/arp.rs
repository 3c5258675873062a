//! What an ARP packet does to the table of neighbours (RFC 826), and what is said about our own
//! addresses (RFC 5227).
//!
//! RFC 826 knows no prefixes: whoever asks for an address of ours is answered, and whoever answers
//! what we asked is believed, wherever its address lies. That is what lets a route lead straight
//! onto a link, two stations without a common prefix talk, and a gateway lie outside the prefix.
//!
//! What bounds the belief is not the prefix but the table. It learns from a packet only if the
//! sender is in it already, or the packet is a question for us (RFC 826's merge flag, and no more)
//! from an address to which a packet of ours might go on this link. So a station can neither fill
//! the table of others with its gossip, nor put itself where no route leads; that it can pretend to
//! be a neighbour that we talk to is in the nature of ARP.
//!
//! Not here: for which other addresses a router answers (proxy ARP), address probing before use (RFC 5227 section 2.1), RARP.

use std::net::{IpAddr, Ipv4Addr};

use super::cache::NeighCache;
use super::verdict::{NeighIngress, Proof, Release, Scope};
use crate::base::stats::DropReason;
use crate::base::time::Instant;
use crate::packet::MacAddr;
use crate::packet::header::{ArpOp, ArpPacket};

/// What becomes of an ARP packet.
#[derive(Debug)]
pub(crate) enum ArpVerdict {
    /// It was for us, or about someone we know. Both parts may be there at once: a neighbour we
    /// ask may be asking us.
    Accepted {
        /// An answer to send to its target.
        reply: Option<ArpPacket>,
        /// Packets that can now be sent.
        release: Option<Release>,
    },
    /// Someone else uses an address of ours.
    Conflict(Conflict),
    /// It is of no use; the caller counts it.
    Drop(DropReason),
}

/// Two stations with one address (RFC 5227 section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The address, which is ours.
    pub ip: Ipv4Addr,
    /// The other station.
    pub mac: MacAddr,
    /// An announcement to broadcast in defence of the address; `None` when the address was
    /// defended a short time ago, lest two stations fight without end (section 2.4 (c)).
    pub defence: Option<ArpPacket>,
}

/// The gratuitous ARP that tells everyone on a link that `ip` is at `mac`: a broadcast request
/// for the sender's own address (RFC 5227 section 2.3). Sent when an address or interface
/// comes up.
pub(crate) fn announce(ip: Ipv4Addr, mac: MacAddr) -> ArpPacket {
    ArpPacket::request(mac, ip, ip)
}

impl NeighCache {
    /// Takes an ARP packet that came in as `ingress` says.
    pub(crate) fn input(
        &mut self,
        now: Instant,
        ingress: NeighIngress,
        arp: &ArpPacket,
    ) -> ArpVerdict {
        let our_mac = ingress.mac;
        let ArpPacket {
            op,
            sender_mac,
            sender_ip,
            target_mac: _,
            target_ip: _,
        } = *arp;
        // RFC 1812 section 3.3.2: a broadcast or multicast hardware address is never believed.
        if !sender_mac.is_station() {
            return ArpVerdict::Drop(DropReason::Malformed);
        }
        if sender_mac == our_mac {
            return ArpVerdict::Drop(DropReason::NotForUs);
        }
        let for_us = ingress.target == Scope::Ours;
        if sender_ip.is_unspecified() {
            return match op {
                ArpOp::Reply => ArpVerdict::Drop(DropReason::Martian),
                ArpOp::Request if !for_us => ArpVerdict::Drop(DropReason::NotForUs),
                // A station asks before it takes an address (RFC 5227 section 2.1.1). It is
                // answered, so that it does not take ours, and teaches nothing.
                ArpOp::Request => ArpVerdict::Accepted {
                    reply: Some(arp.answered_by(our_mac)),
                    release: None,
                },
            };
        }
        match ingress.sender {
            Scope::Ours => return self.conflict(now, ingress, sender_ip, sender_mac),
            Scope::Impossible => return ArpVerdict::Drop(DropReason::Martian),
            Scope::Neighbour | Scope::Stranger => {}
        }
        let ip = IpAddr::V4(sender_ip);
        let proof = match op {
            ArpOp::Reply if for_us => Proof::Answer,
            _ => Proof::Hint,
        };
        let known = self.heard(now, ingress.ifid, ip, sender_mac, proof);
        let asked = for_us && op == ArpOp::Request;
        match (known.is_some(), asked) {
            (false, false) => return ArpVerdict::Drop(DropReason::NotForUs),
            (false, true) if ingress.sender == Scope::Neighbour => {
                self.learn(now, ingress, ip, sender_mac);
            }
            (false, true) | (true, _) => {}
        }
        ArpVerdict::Accepted {
            reply: asked.then(|| arp.answered_by(our_mac)),
            release: known.flatten(),
        }
    }

    fn conflict(
        &mut self,
        now: Instant,
        ingress: NeighIngress,
        ip: Ipv4Addr,
        mac: MacAddr,
    ) -> ArpVerdict {
        let NeighIngress {
            ifid, mac: our_mac, ..
        } = ingress;
        self.count_conflict();
        let interval = self.config().defend_interval;
        let key = (ifid, IpAddr::V4(ip));
        let last = self.defended.get(&key);
        let defend = last.is_none_or(|at| now.since(*at) >= interval);
        if defend {
            self.defended.insert(key, now);
        }
        ArpVerdict::Conflict(Conflict {
            ip,
            mac,
            defence: defend.then(|| announce(ip, our_mac)),
        })
    }
}

#[cfg(test)]
mod tests;
