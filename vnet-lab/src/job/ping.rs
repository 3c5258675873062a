//! ICMP echo: requests at an interval, whether or not answers come.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use vnet::net::{EchoEvent, EchoSocket};
use vnet::time::Instant;

use super::kind::{Facts, Kind, Measured, Site, Verdict, Way};
use crate::file::source::Problems;
use crate::file::table::Table;
use crate::file::units;
use crate::quantity::times_ns;

/// ICMP echo requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Ping {
    /// How many.
    pub count: u16,
    /// From one to the next; zero is as soon as it is known what became of the one before.
    pub interval: Duration,
    /// How long to wait for each answer.
    pub wait: Duration,
    /// Payload of each.
    pub bytes: u16,
    /// Whether routers and the sender may not fragment them.
    pub dont_fragment: bool,
    /// The largest part that may stay without answer, from 0 to 1; without it one answer is enough.
    pub max_loss: Option<f64>,
    /// The longest round trip that passes.
    pub max_rtt: Option<Duration>,
}

/// What a ping measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// What became of the echo requests.
    #[serde(flatten)]
    pub requests: RequestCounts,
    /// Round-trip times; absent when no answer came in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<RoundTrips>,
}

/// What became of echo requests: `sent = received + late + lost + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// Those that were sent.
    pub sent: u32,
    /// Of these, answered in time.
    pub received: u32,
    /// Of these, answered, but later than was to be waited.
    pub late: u32,
    /// Of these, refused, or not answered as long as was to be waited.
    pub lost: u32,
    /// Of these, neither answered nor waited for long enough when the job was cut off.
    pub waiting: u32,
    /// Those that were not sent: the job was cut off before, or its own stack refused.
    pub unsent: u32,
}

impl RequestCounts {
    /// How many there are, sent or not.
    pub fn total(&self) -> u32 {
        self.received + self.late + self.lost + self.waiting + self.unsent
    }
}

/// Round-trip times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RoundTrips {
    /// The least.
    pub min_ns: u64,
    /// The mean, rounded down.
    pub mean_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

impl RoundTrips {
    /// Of these times; `None` when there are none.
    pub fn of(times: &[Duration]) -> Option<RoundTrips> {
        let ns = |d: &Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let sum: u128 = times.iter().map(Duration::as_nanos).sum();
        Some(RoundTrips {
            min_ns: times.iter().map(ns).min()?,
            mean_ns: u64::try_from(sum / times.len() as u128).unwrap_or(u64::MAX),
            max_ns: times.iter().map(ns).max()?,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { requests, rtt } = self;
        write!(f, "{} of {} answered", requests.received, requests.total())?;
        for (count, what) in [
            (requests.late, "late"),
            (requests.lost, "lost"),
            (requests.waiting, "not waited for"),
            (requests.unsent, "not sent"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match rtt {
            Some(rtt) => {
                let times = times_ns([rtt.min_ns, rtt.mean_ns, rtt.max_ns]);
                write!(f, ", rtt {times}")
            }
            None => Ok(()),
        }
    }
}

impl Ping {
    pub(super) fn read(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Ping {
        let count = table.integer("count", 1..=65_535, problems);
        let interval = table.read("interval", units::duration, problems);
        let wait = table.read("wait", units::positive_duration, problems);
        let bytes = table.integer("bytes", 0..=65_507, problems);
        let dont_fragment = table.boolean("dont_fragment", problems);
        let max_loss = table.read("max_loss", units::percentage, problems);
        let max_rtt = table.read("max_rtt", units::positive_duration, problems);
        Ping {
            count: count.map_or(5, |n| n.into_inner() as u16),
            interval: interval.map_or(Duration::from_millis(200), Spanned::into_inner),
            wait: wait.map_or(Duration::from_secs(1), Spanned::into_inner),
            bytes: bytes.map_or(56, |n| n.into_inner() as u16),
            dont_fragment: dont_fragment.unwrap_or(false),
            max_loss: max_loss.map(Spanned::into_inner),
            max_rtt: max_rtt.map(Spanned::into_inner),
        }
    }

    /// Which of its bounds was not kept, if any.
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

impl Facts for Ping {
    fn warning(&self, timeout: Duration, _: &dyn Way) -> Option<String> {
        let (count, interval) = (self.count, self.interval);
        let takes = interval.saturating_mul(u32::from(count) - 1);
        (takes >= timeout).then(|| {
            format!(
                "{count} requests every {interval:?} take {takes:?} at least, and its timeout is \
                 {timeout:?}: it will fail"
            )
        })
    }
}

impl Kind for Ping {
    type Figures = Figures;

    fn nothing(&self) -> Figures {
        Figures {
            requests: RequestCounts {
                unsent: u32::from(self.count),
                ..RequestCounts::default()
            },
            rtt: None,
        }
    }

    fn run(&self, site: &Site, measured: &Measured<Figures>) -> io::Result<Verdict> {
        let socket = EchoSocket::bind()?;
        socket.set_dont_fragment(self.dont_fragment)?;
        let payload: Vec<u8> = (0..self.bytes).map(|n| n as u8).collect();
        let mut requests = Requests::new(self);
        let mut refused = None;
        let ended = requests.exchange(site, &socket, (site.address, &payload), &mut refused);
        let (counts, rtt) = (requests.counts(), RoundTrips::of(&requests.times));
        measured.set(Figures {
            requests: counts,
            rtt,
        });
        let failed = match ended {
            Err(e) if refused.is_none() => return Err(e),
            Err(e) => Some(e.to_string()),
            Ok(()) => self.violated(counts, &requests.times),
        };
        Ok(Verdict::of(failed.map(|what| match refused {
            Some(why) => format!("{what}: {why}"),
            None => what,
        })))
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
    interval: Duration,
    wait: Duration,
    fates: Vec<Fate>,
    /// How many are sent, or could not be.
    begun: usize,
    /// Those below are no longer waited for.
    settled: usize,
    /// Of those that were answered in time.
    times: Vec<Duration>,
}

impl Requests {
    fn new(ping: &Ping) -> Requests {
        Requests {
            interval: ping.interval,
            wait: ping.wait,
            fates: vec![Fate::Unsent; usize::from(ping.count)],
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
        (to, payload): (IpAddr, &[u8]),
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
            site.limit.left(Duration::MAX)?;
            let is_due = match self.interval.is_zero() {
                true => none_waits,
                false => next <= now,
            };
            if !all_sent && is_due {
                next += self.interval;
                self.begun += 1;
                match socket.send_to(self.begun as u16, payload, to) {
                    Ok(()) => self.fates[self.begun - 1] = Fate::Waiting(now),
                    Err(e) if site.from.stats().is_err() => return Err(e),
                    Err(e) => *refused = Some(e.to_string()),
                }
                continue;
            }
            let mut until = self.expires_next();
            if !all_sent && !self.interval.is_zero() {
                until = Some(until.map_or(next, |at| at.min(next)));
            }
            let Some(until) = until else { continue };
            socket.set_read_timeout(Some(site.limit.left(until - now)?))?;
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
            Fate::Waiting(sent) => Some(*sent + self.wait),
            _ => None,
        }
    }

    /// Gives up those requests that have been waited for long enough: they were sent in their order.
    fn expire(&mut self, now: Instant) {
        while self.settled < self.begun {
            let fate = &mut self.fates[self.settled];
            match *fate {
                Fate::Waiting(sent) if sent + self.wait > now => return,
                Fate::Waiting(sent) => *fate = Fate::Lost(sent),
                _ => {}
            }
            self.settled += 1;
        }
    }

    /// Notes what a message says about a request; returns it in words if it is not a reply.
    fn note(&mut self, site: &Site, event: EchoEvent, at: Instant) -> Option<String> {
        let (seq, refused) = match event {
            EchoEvent::Reply { seq, .. } => (seq, None),
            EchoEvent::TimeExceeded { from, seq, .. } => {
                let said = format!("time exceeded at {}", site.name_of(from));
                (seq, Some(said))
            }
            EchoEvent::Unreachable {
                from, seq, code, ..
            } => {
                let said = format!("unreachable (code {code}), says {}", site.name_of(from));
                (seq, Some(said))
            }
            EchoEvent::TooBig {
                from,
                seq,
                path_mtu,
                ..
            } => {
                let name = site.name_of(from);
                (
                    seq,
                    Some(format!("the path takes {path_mtu} bytes, says {name}")),
                )
            }
        };
        let fate = self.fates.get_mut(usize::from(seq).checked_sub(1)?)?;
        match (*fate, &refused) {
            (Fate::Waiting(sent) | Fate::Lost(sent), None) if at - sent <= self.wait => {
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
