//! ICMP echo, one request at a time.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};

use vnet::net::{EchoEvent, EchoSocket};
use vnet::time::{Duration, Instant};

use super::{Limit, Outcome, Site};
use crate::report::{Figures, RoundTrips};

/// How requests follow one another.
pub(super) struct Pace {
    pub(super) count: u16,
    pub(super) interval: Duration,
    pub(super) wait: Duration,
}

/// What passes.
pub(super) struct Bounds {
    pub(super) max_loss: Option<f64>,
    pub(super) max_rtt: Option<Duration>,
}

/// What became of one request.
pub(super) enum Answer {
    /// It arrived, and the answer came back at that time.
    Reply(IpAddr, Instant),
    /// Its time to live ran out at a router.
    TimeExceeded(IpAddr),
    /// A router or host refused it.
    Unreachable(IpAddr, u8),
    /// Nobody said anything in time.
    Silence,
}

pub(super) fn run(
    site: &Site,
    to: Ipv4Addr,
    pace: Pace,
    bytes: u16,
    bounds: Bounds,
    limit: &Limit,
) -> io::Result<Outcome> {
    let socket = EchoSocket::bind()?;
    let payload: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    let mut times = Vec::new();
    let mut refused = None;
    let mut sent = 0;
    for seq in 1..=pace.count {
        if limit.left(Duration::MAX).is_err() {
            refused = Some(limit.exceeded().to_string());
            break;
        }
        let began = site.system.now();
        sent += 1;
        match ask(site, &socket, (to, seq), &payload, pace.wait, limit)? {
            Answer::Reply(_, at) => times.push(at - began),
            Answer::TimeExceeded(by) => {
                refused = Some(format!("time exceeded at {}", site.name_of(by)));
            }
            Answer::Unreachable(by, code) => {
                refused = Some(format!(
                    "unreachable (code {code}), says {}",
                    site.name_of(by)
                ));
            }
            Answer::Silence => {}
        }
        let next = began + pace.interval;
        if seq < pace.count {
            let pause = next - site.system.now();
            site.system.sleep(limit.left(pause).unwrap_or_default())?;
        }
    }
    let received = times.len() as u32;
    let lost = 1.0 - f64::from(received) / f64::from(pace.count);
    let slowest = times.iter().max().copied().unwrap_or_default();
    let failed = match bounds.max_loss {
        Some(most) if lost > most => {
            let unanswered = u32::from(pace.count) - received;
            Some(format!("{unanswered} of {} without answer", pace.count))
        }
        _ if received == 0 && bounds.max_loss.is_none_or(|most| most < 1.0) => {
            Some("no answer".to_owned())
        }
        _ if bounds.max_rtt.is_some_and(|most| slowest > most) => {
            Some(format!("a round trip took {slowest:?}"))
        }
        _ => None,
    };
    let failed = failed.map(|what| match refused {
        Some(why) => format!("{what}: {why}"),
        None => what,
    });
    Ok(Outcome {
        figures: Figures::Ping {
            sent,
            received,
            rtt: RoundTrips::of(&times),
        },
        failed,
    })
}

/// Sends one request and waits for what becomes of it, at most `wait`.
pub(super) fn ask(
    site: &Site,
    socket: &EchoSocket,
    (to, seq): (Ipv4Addr, u16),
    payload: &[u8],
    wait: Duration,
    limit: &Limit,
) -> io::Result<Answer> {
    let until = site.system.now() + limit.left(wait)?;
    socket.send_to(seq, payload, to)?;
    loop {
        let left = until - site.system.now();
        if left.is_zero() {
            return Ok(Answer::Silence);
        }
        socket.set_read_timeout(Some(left))?;
        // An answer to an earlier request is late, and was counted as silence.
        match socket.recv() {
            Ok((EchoEvent::Reply { from, seq: s, .. }, at)) if s == seq => {
                return Ok(Answer::Reply(from, at));
            }
            Ok((EchoEvent::TimeExceeded { from, seq: s }, _)) if s == seq => {
                return Ok(Answer::TimeExceeded(from));
            }
            Ok((EchoEvent::Unreachable { from, seq: s, code }, _)) if s == seq => {
                return Ok(Answer::Unreachable(from, code));
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Answer::Silence);
            }
            Err(e) => return Err(e),
        }
    }
}
