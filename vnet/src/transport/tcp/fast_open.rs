//! TCP Fast Open (RFC 7413): data in the SYN, for who shows a cookie that was given to its address before.
//!
//! A server's cookie is a keyed hash of both addresses and the day; nothing is kept of those that were given out. A client
//! keeps those that it was given, for [`MOST_PEERS`] peers. What one connection has to do with it is in
//! `connection/opening.rs`.

use std::collections::VecDeque;

use super::Tcp;
use super::connection::{Connection, Env, Learnt, Opening};
use super::ids::{ConnId, FourTuple, ListenerId, Slot};
use super::isn::Secret;
use super::listener::{HalfOpen, Pending};
use super::segment::Verdict;
use crate::base::map::Map;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::header::FastOpenCookie;
use crate::packet::{Cx, Payload};

/// Peers whose cookies are kept; beyond that the one that was met first is forgotten.
const MOST_PEERS: usize = 1024;
/// A cookie is from this period or the one before.
// RFC 7413 4.1.2: the server changes its key, and takes the one before for a while.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a peer is not asked again after the first loss; after each one that follows, twice as long.
const PENANCE: Duration = Duration::from_secs(60);
/// The most that it doubles.
const MOST_DOUBLED: u8 = 10;
/// How long a request counts as unanswered that was reset.
// RFC 7413 5.1: whoever sends SYNs in another's name may have the other reset them.
const RESET_COUNTS: Duration = Duration::from_secs(60);

/// Two addresses, ours first.
type Ends = (u128, u128);

fn ends(key: &FourTuple) -> Ends {
    (key.local, key.remote)
}

/// What a request is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// It is as any other; its answer has this cookie.
    Cookie(Option<FastOpenCookie>),
    /// Its data is taken; its answer has this cookie, if that is a newer one.
    Data(Option<FastOpenCookie>),
}

fn period(now: Instant) -> u64 {
    now.as_nanos() / PERIOD.as_nanos() as u64
}

fn cookie(secret: &Secret, key: &FourTuple, period: u64) -> Option<FastOpenCookie> {
    FastOpenCookie::new(&secret.fast_open(key, period).to_be_bytes())
}

/// What a request with this option is granted.
// RFC 7413 4.1.2 and 4.2.2
fn judge(secret: &Secret, key: &FourTuple, shown: FastOpenCookie, now: Instant) -> Grant {
    let period = period(now);
    let fresh = cookie(secret, key, period);
    if shown.is_request() {
        return Grant::Cookie(fresh);
    }
    let before = period.checked_sub(1).and_then(|p| cookie(secret, key, p));
    match Some(shown) {
        shown if shown == fresh => Grant::Data(None),
        shown if shown == before => Grant::Data(fresh),
        _ => Grant::Cookie(fresh),
    }
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug)]
struct Peer {
    cookie: Option<FastOpenCookie>,
    /// The segment size that it asked for.
    mss: u16,
    losses: u8,
    /// Nothing is tried before.
    not_before: Instant,
}

/// The cookies that this side was given.
#[derive(Debug)]
pub(super) struct Cookies {
    peers: Map<Ends, Peer>,
    order: VecDeque<Ends>,
}

impl Cookies {
    fn seeded(seed: u64) -> Cookies {
        Cookies {
            peers: Map::seeded(seed),
            order: VecDeque::new(),
        }
    }

    pub(super) fn opening(&self, key: &FourTuple, now: Instant) -> Opening {
        match self.peers.get(&ends(key)) {
            Some(peer) if now < peer.not_before => Opening::Plain,
            Some(peer) => match peer.cookie {
                Some(cookie) => Opening::Sends(cookie, peer.mss),
                None => Opening::Asks,
            },
            None => Opening::Asks,
        }
    }

    /// Takes down how an attempt went.
    fn learn(&mut self, key: &FourTuple, now: Instant, learnt: &Learnt) {
        let key = ends(key);
        let known = self.peers.get(&key).copied();
        if known.is_none() {
            if learnt.cookie.is_none() && !learnt.was_lost {
                return;
            }
            if self.order.len() >= MOST_PEERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.peers.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let mut peer = known.unwrap_or(Peer {
            cookie: None,
            mss: learnt.mss,
            losses: 0,
            not_before: Instant::ZERO,
        });
        peer.mss = learnt.mss;
        peer.cookie = learnt.cookie.or(peer.cookie);
        if learnt.was_lost {
            let doubled = peer.losses.min(MOST_DOUBLED);
            peer.not_before = now + PENANCE * (1 << doubled);
            peer.losses = peer.losses.saturating_add(1);
        } else {
            peer.losses = 0;
        }
        self.peers.insert(key, peer);
    }
}

impl Tcp {
    /// What the option of a SYN is granted by a listener.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        key: &FourTuple,
        shown: Option<FastOpenCookie>,
        listener: ListenerId,
    ) -> Grant {
        let l = self.listeners.get_mut(listener);
        let (Some(shown), Some(l)) = (shown, l.filter(|l| l.options.fast_open)) else {
            return Grant::Cookie(None);
        };
        let granted = judge(&self.secret, key, shown, now);
        let Grant::Data(fresh) = granted else {
            self.stats.fast_opens_refused += u64::from(!shown.is_request());
            return granted;
        };
        // RFC 7413 5.1: those that nobody has confirmed are bounded.
        let most = self.config.fast_open_pending;
        if l.pending.len() >= most {
            let connections = &self.connections;
            l.pending.retain(|p| match p.until {
                Some(until) => now < until,
                None => connections.get(p.conn).is_some_and(|c| c.is_early()),
            });
        }
        if l.pending.len() >= most {
            self.stats.fast_opens_refused += 1;
            return Grant::Cookie(fresh);
        }
        granted
    }

    /// Makes a connection of a request at once, and takes its data.
    // RFC 7413 4.2.2
    pub(super) fn open_early(
        &mut self,
        cx: &mut Cx<'_>,
        half: &HalfOpen,
        fresh: Option<FastOpenCookie>,
        payload: Payload,
    ) -> Verdict {
        let Some(l) = self.listeners.get_mut(half.listener) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        let mut c = Connection::early(&env, half, std::sync::Arc::clone(&l.options), fresh);
        c.take_early(&mut env, payload);
        let id = self.connections.insert(c);
        l.ready.push_back(id);
        l.pending.push(Pending {
            conn: id,
            until: None,
        });
        l.waiters.readers.wake(cx.out);
        self.enter_tuple(&half.key(), half.local, Slot::Connection(id));
        self.stats.passive_opens += 1;
        self.stats.fast_opens_in += 1;
        self.settle(cx, id);
        Verdict::Delivered
    }

    /// A connection was reset. If its data was taken early, it counts all the same for a while.
    pub(super) fn note_reset(&mut self, now: Instant, conn: ConnId) {
        let listener = self.connections.get(conn).and_then(|c| c.accepted_early());
        let l = listener.and_then(|id| self.listeners.get_mut(id));
        let pending = l.and_then(|l| l.pending.iter_mut().find(|p| p.conn == conn));
        if let Some(pending) = pending {
            pending.until = Some(now + RESET_COUNTS);
        }
    }

    /// An attempt to open fast has been answered.
    #[cold]
    pub(super) fn learn(&mut self, now: Instant, id: ConnId) {
        let Some(c) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(learnt) = c.learnt() {
            self.stats.fast_opens_out += u64::from(learnt.was_taken);
            let seed = self.secret.seed();
            let cookies = || Box::new(Cookies::seeded(seed));
            let known = self.fast_open.get_or_insert_with(cookies);
            known.learn(&c.key(), now, &learnt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: u8, port: u16) -> FourTuple {
        FourTuple::new(
            ([192, 0, 2, 1], 80).into(),
            ([198, 51, 100, host], port).into(),
        )
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_cookie_is_good_for_one_address_whatever_the_port_and_for_two_days_at_most() {
        let secret = Secret::new([1, 2]);
        let day = 24 * 3600;
        let now = 10 * day + 5;
        let given = match judge(&secret, &key(1, 1000), FastOpenCookie::REQUEST, at(now)) {
            Grant::Cookie(Some(given)) => given,
            other => panic!("{other:?}"),
        };
        assert_eq!(given.as_slice().len(), 8);
        let judged = |host, port, now| judge(&secret, &key(host, port), given, at(now));
        assert_eq!(judged(1, 1000, now), Grant::Data(None));
        assert_eq!(judged(1, 2000, now + day / 2), Grant::Data(None));
        // The day after: taken, and a new one is given.
        assert!(matches!(judged(1, 1000, now + day), Grant::Data(Some(fresh)) if fresh != given));
        assert!(matches!(
            judged(1, 1000, now + 2 * day),
            Grant::Cookie(Some(_))
        ));
        assert!(matches!(judged(2, 1000, now), Grant::Cookie(Some(_))));
        let other = judge(&Secret::new([1, 3]), &key(1, 1000), given, at(now));
        assert!(matches!(other, Grant::Cookie(Some(_))));
        let short = FastOpenCookie::new(&given.as_slice()[..4]).expect("valid");
        let cut = judge(&secret, &key(1, 1000), short, at(now));
        assert!(matches!(cut, Grant::Cookie(Some(_))));
    }

    #[test]
    fn a_client_keeps_so_many_cookies_and_spares_who_loses_its_requests() {
        let mut cookies = Cookies::seeded(1);
        let cookie = FastOpenCookie::new(&[1; 8]);
        let learnt = |cookie, was_lost| Learnt {
            cookie,
            mss: 1460,
            was_lost,
            was_taken: false,
        };
        let (peer, now) = (key(1, 5), at(1000));
        assert_eq!(cookies.opening(&peer, now), Opening::Asks);
        cookies.learn(&peer, now, &learnt(cookie, false));
        let sends = Opening::Sends(cookie.expect("valid"), 1460);
        assert_eq!(cookies.opening(&key(1, 9), now), sends);
        for (losses, wait) in [(1, 60), (2, 120), (3, 240)] {
            cookies.learn(&peer, now, &learnt(None, true));
            assert_eq!(
                cookies.opening(&peer, at(1000 + wait - 1)),
                Opening::Plain,
                "{losses}"
            );
            assert_eq!(cookies.opening(&peer, at(1000 + wait)), sends);
        }
        cookies.learn(&peer, now, &learnt(None, false));
        cookies.learn(&peer, now, &learnt(None, true));
        assert_eq!(cookies.opening(&peer, at(1060)), sends);
        // Of peers that have said nothing, nothing is kept.
        cookies.learn(&key(2, 5), now, &learnt(None, false));
        assert_eq!(cookies.order.len(), 1);
        for host in 0..2 * MOST_PEERS as u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + host);
            let key = FourTuple::new(([192, 0, 2, 1], 80).into(), (address, 5).into());
            cookies.learn(&key, now, &learnt(cookie, false));
        }
        assert_eq!(
            (cookies.order.len(), cookies.peers.len()),
            (MOST_PEERS, MOST_PEERS)
        );
        assert_eq!(cookies.opening(&peer, at(2000)), Opening::Asks);
    }
}
