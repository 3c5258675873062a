//! ICMP echo: requests at an interval, whether or not answers come.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;

use vnet::net::{EchoEvent, EchoSocket};
use vnet::time::{Duration, Instant};

use super::{Limit, Measured, Site, Verdict};
use crate::report::{Figures, RequestCounts, RoundTrips};

/// How requests follow one another.
pub(super) struct Pace {
    pub(super) count: u16,
    /// From one to the next; zero is as soon as it is known what became of the one before.
    pub(super) interval: Duration,
    pub(super) wait: Duration,
}

/// What passes.
pub(super) struct Bounds {
    pub(super) max_loss: Option<f64>,
    pub(super) max_rtt: Option<Duration>,
}

pub(super) fn run(
    site: &Site,
    to: Ipv4Addr,
    pace: Pace,
    bytes: u16,
    bounds: Bounds,
    limit: &Limit,
    measured: &Measured,
) -> io::Result<Verdict> {
    let socket = EchoSocket::bind()?;
    let payload: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    let mut requests = Requests::new(pace);
    let mut refused = None;
    let ended = requests.exchange(site, &socket, (to, &payload), limit, &mut refused);
    let (counts, rtt) = (requests.counts(), RoundTrips::of(&requests.times));
    measured.set(Figures::Ping {
        requests: counts,
        rtt,
    });
    let failed = match ended {
        Err(e) if refused.is_none() => return Err(e),
        Err(e) => Some(e.to_string()),
        Ok(()) => bounds.violated(counts, &requests.times),
    };
    Ok(Verdict::of(failed.map(|what| match refused {
        Some(why) => format!("{what}: {why}"),
        None => what,
    })))
}

impl Bounds {
    /// What was not kept, if anything.
    fn violated(&self, counts: RequestCounts, times: &[Duration]) -> Option<String> {
        let count = counts.total();
        let unanswered = count - counts.received;
        let lost = f64::from(unanswered) / f64::from(count);
        let slowest = times.iter().max().copied().unwrap_or_default();
        if self.max_loss.is_some_and(|most| lost > most) {
            return Some(format!("{unanswered} of {count} without an answer in time"));
        }
        if counts.received == 0 && self.max_loss.is_none() {
            return Some("no answer in time".to_owned());
        }
        let most = self.max_rtt.filter(|most| slowest > *most)?;
        Some(format!(
            "a round trip took {slowest:?}, expected {most:?} at most"
        ))
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unsent,
    /// Sent then, and still to be waited for.
    Waiting(Instant),
    Answered,
    /// Not answered in time; it was sent then.
    Lost(Instant),
    /// Answered, but not in time.
    Late,
}

/// The requests of a ping, by sequence number from 1 on.
struct Requests {
    pace: Pace,
    fates: Vec<Fate>,
    /// How many are sent, or could not be.
    begun: usize,
    /// Those below are no longer waited for.
    settled: usize,
    /// Of those that were answered in time.
    times: Vec<Duration>,
}

impl Requests {
    fn new(pace: Pace) -> Requests {
        Requests {
            fates: vec![Fate::Unsent; usize::from(pace.count)],
            pace,
            begun: 0,
            settled: 0,
            times: Vec::new(),
        }
    }

    /// Sends all requests, and waits until it is known what became of each. `refused` becomes what
    /// somebody on the way, or the own stack, said last against one.
    fn exchange(
        &mut self,
        site: &Site,
        socket: &EchoSocket,
        (to, payload): (Ipv4Addr, &[u8]),
        limit: &Limit,
        refused: &mut Option<String>,
    ) -> io::Result<()> {
        let mut next = site.system.now();
        loop {
            let now = site.system.now();
            self.expire(now);
            let all_sent = self.begun == self.fates.len();
            let none_waits = self.settled == self.begun;
            if all_sent && none_waits {
                return Ok(());
            }
            limit.left(Duration::MAX)?;
            let is_due = match self.pace.interval.is_zero() {
                true => none_waits,
                false => next <= now,
            };
            if !all_sent && is_due {
                next += self.pace.interval;
                self.begun += 1;
                match socket.send_to(self.begun as u16, payload, to) {
                    Ok(()) => self.fates[self.begun - 1] = Fate::Waiting(now),
                    Err(e) if site.from.stats().is_err() => return Err(e),
                    Err(e) => *refused = Some(e.to_string()),
                }
                continue;
            }
            let mut until = self.expires_next();
            if !all_sent && !self.pace.interval.is_zero() {
                until = Some(until.map_or(next, |at| at.min(next)));
            }
            let Some(until) = until else { continue };
            socket.set_read_timeout(Some(limit.left(until - now)?))?;
            match socket.recv() {
                Ok((event, at)) => {
                    let said = self.note(site, event, at);
                    *refused = said.or(refused.take());
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// When the oldest request that is waited for has been waited for long enough.
    fn expires_next(&self) -> Option<Instant> {
        match self.fates.get(self.settled)? {
            Fate::Waiting(sent) => Some(*sent + self.pace.wait),
            _ => None,
        }
    }

    /// Gives up those requests that have been waited for long enough: they were sent in their order.
    fn expire(&mut self, now: Instant) {
        while self.settled < self.begun {
            let fate = &mut self.fates[self.settled];
            match *fate {
                Fate::Waiting(sent) if sent + self.pace.wait > now => return,
                Fate::Waiting(sent) => *fate = Fate::Lost(sent),
                _ => {}
            }
            self.settled += 1;
        }
    }

    /// Notes what somebody said of a request, and returns what it was if it was no answer.
    fn note(&mut self, site: &Site, event: EchoEvent, at: Instant) -> Option<String> {
        let (seq, refused) = match event {
            EchoEvent::Reply { seq, .. } => (seq, None),
            EchoEvent::TimeExceeded { from, seq } => {
                let said = format!("time exceeded at {}", site.name_of(from));
                (seq, Some(said))
            }
            EchoEvent::Unreachable { from, seq, code } => {
                let said = format!("unreachable (code {code}), says {}", site.name_of(from));
                (seq, Some(said))
            }
        };
        let fate = self.fates.get_mut(usize::from(seq).checked_sub(1)?)?;
        match (*fate, &refused) {
            (Fate::Waiting(sent) | Fate::Lost(sent), None) if at - sent <= self.pace.wait => {
                self.times.push(at - sent);
                *fate = Fate::Answered;
            }
            (Fate::Waiting(_) | Fate::Lost(_), None) => *fate = Fate::Late,
            (Fate::Waiting(sent), Some(_)) => *fate = Fate::Lost(sent),
            _ => {}
        }
        refused
    }

    fn counts(&self) -> RequestCounts {
        let mut counts = RequestCounts::default();
        for fate in &self.fates {
            match fate {
                Fate::Unsent => counts.unsent += 1,
                Fate::Waiting(_) => counts.waiting += 1,
                Fate::Answered => counts.received += 1,
                Fate::Lost(_) => counts.lost += 1,
                Fate::Late => counts.late += 1,
            }
        }
        counts.sent = counts.total() - counts.unsent;
        counts
    }
}
