//! Finding the largest packet that a path carries where no router says it (RFC 4821, RFC 8899). A connection whose full
//! segments are not acknowledged goes on with smaller ones. Then it sends single larger ones, first as large as before,
//! to see whether they arrive; if such a probe is lost and nothing else is, that says nothing of congestion.

use super::search::Search;
use super::{Connection, Env};
use crate::base::time::{Duration, Instant};
use crate::transport::tcp::options::{Family, Path};
use crate::transport::tcp::seq::SeqNum;

/// Retransmission timeouts in a row after which packets become smaller, and smaller still.
// RFC 8899 5.1.2: MAX_PROBES is 3.
const TIMEOUTS: [u8; 2] = [3, 6];
/// Segments that follow a probe, so that its loss is noticed before a timeout.
const FOLLOWERS: u32 = 3;
/// How long no probe is sent after one that was not lost alone.
const AFTER_LOSS: Duration = Duration::from_secs(1);

impl Connection {
    /// Full segments have timed out several times in a row: routers may drop them without a word.
    // RFC 8899 5.2 (black hole detection), RFC 4821 7.7
    #[cold]
    pub(super) fn suspect_path(&mut self, env: &mut Env<'_>) {
        let Some(nth) = TIMEOUTS.iter().position(|n| *n == self.retries) else {
            return;
        };
        // RFC 8899 5.1.2: BASE_PLPMTU, and MIN_PLPMTU; for IPv4, what hosts accept in practice.
        let ip_mtu = match (self.family, nth) {
            (Family::V4, 0) => 1200,
            (Family::V4, _) => 552,
            (Family::V6, _) => 1280,
        };
        let room = ip_mtu - self.family.header_len();
        if !env.config.black_holes.is_on() || ip_mtu >= self.path.ip_mtu || self.flight() <= room {
            return;
        }
        env.stats.black_holes += 1;
        let most = self.path.ip_mtu;
        let held = self.snd.held.get_or_insert_default();
        let search = held.search.get_or_insert(Search {
            most,
            high: most,
            probe: None,
            lost: 0,
            next_at: env.now,
        });
        (search.high, search.probe, search.lost) = (search.most, None, 0);
        search.next_at = env.now;
        self.recovery.on_mtu_probe(None);
        self.set_path(Path {
            ip_mtu,
            ..self.path
        });
    }

    /// By how many bytes the next segment is larger than others, if it is time for a probe; `available` can be sent.
    #[cold]
    pub(super) fn probe_by(&self, now: Instant, available: u32, piece: u32) -> Option<u32> {
        let search = self.snd.held.as_ref()?.search.as_ref()?;
        let low = self.path.ip_mtu;
        let limit = u32::from(self.negotiated.peer_mss) + self.family.header_len();
        let by = search.next(low).min(limit).checked_sub(low)?;
        let enough = by + piece * (1 + FOLLOWERS);
        let may = by > 0
            && search.probe.is_none()
            && search.next_at <= now
            && self.recovery.is_calm()
            && available >= enough
            && self.cc.cwnd() >= enough;
        may.then_some(by)
    }

    /// A probe leaves, which is `by` larger than other segments.
    #[cold]
    pub(super) fn on_probe_sent(&mut self, start: SeqNum, end: SeqNum, by: u32) {
        let ip_mtu = self.path.ip_mtu + by;
        if let Some(search) = self.snd.held.as_mut().and_then(|h| h.search.as_mut()) {
            search.probe = Some((end, ip_mtu));
            self.recovery.on_mtu_probe(Some((start, end)));
        }
    }

    /// Everything from `before` up to `ack` was acknowledged.
    pub(super) fn on_search_progress(&mut self, now: Instant, before: SeqNum, ack: SeqNum) {
        let Some(search) = self.snd.held.as_mut().and_then(|h| h.search.as_mut()) else {
            return;
        };
        if let Some((end, ip_mtu)) = search.probe
            && end.is_in(before..=ack)
        {
            search.probe = None;
            search.settle(ip_mtu, now);
            self.recovery.on_mtu_probe(None);
            self.set_path(Path {
                ip_mtu,
                ..self.path
            });
        }
    }

    /// Things are sent again: if the probe is among them, it proves nothing any more. Where it is the first that is
    /// missing, it may be what was lost.
    #[cold]
    pub(super) fn forget_probe(&mut self, now: Instant) {
        let (una, low) = (self.snd.una, self.path.ip_mtu);
        if let Some(search) = self.snd.held.as_mut().and_then(|h| h.search.as_mut())
            && let Some((end, ip_mtu)) = search.probe.take()
        {
            // RFC 4821 7.7: what may be congestion is not met with the next probe at once.
            search.next_at = search.next_at.max(now + AFTER_LOSS);
            if end.since(una) <= ip_mtu {
                search.on_lost(ip_mtu, low, now);
            }
            self.recovery.on_mtu_probe(None);
        }
    }

    /// A router says that the path carries no more than this, where it does so about what is on its way.
    pub(super) fn bound_search(&mut self, now: Instant, ip_mtu: u32) {
        let low = self.path.ip_mtu;
        if let Some(search) = self.snd.held.as_mut().and_then(|h| h.search.as_mut()) {
            search.high = search.high.min(ip_mtu).max(low);
            search.settle(low, now);
        }
    }

    /// A probe was lost, and nothing else.
    #[cold]
    pub(super) fn on_probe_lost(&mut self, now: Instant) {
        let low = self.path.ip_mtu;
        if let Some(search) = self.snd.held.as_mut().and_then(|h| h.search.as_mut())
            && let Some((_, ip_mtu)) = search.probe.take()
        {
            search.on_lost(ip_mtu, low, now);
        }
    }
}
