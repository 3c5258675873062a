//! The routers on the way: echo requests with an increasing time to live.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};

use vnet::net::{EchoEvent, EchoSocket};
use vnet::time::Duration;

use super::{Limit, Measured, Site, Verdict};
use crate::report::Figures;

/// How far and how often to ask.
pub(super) struct Reach {
    pub(super) max_hops: u8,
    pub(super) tries: u8,
    pub(super) wait: Duration,
}

/// Bytes of payload in each request.
const PAYLOAD: [u8; 32] = [0; 32];

pub(super) fn run(
    site: &Site,
    to: Ipv4Addr,
    reach: Reach,
    expect: Option<&[String]>,
    limit: &Limit,
    measured: &Measured,
) -> io::Result<Verdict> {
    let mut hops = Vec::new();
    let arrived = walk(site, to, &reach, limit, &mut hops);
    measured.set(Figures::Traceroute { hops: hops.clone() });
    let failed = match (arrived?, expect) {
        (Verdict::Failed(why), _) => Some(why),
        (Verdict::Passed, Some(expected)) => {
            let same = hops
                .iter()
                .map(Option::as_deref)
                .eq(expected.iter().map(|e| Some(&**e)));
            (!same).then(|| format!("expected {}", expected.join(" → ")))
        }
        (Verdict::Passed, None) => None,
    };
    Ok(Verdict::of(failed))
}

/// Asks one hop after another, and notes in `hops` who answered.
fn walk(
    site: &Site,
    to: Ipv4Addr,
    reach: &Reach,
    limit: &Limit,
    hops: &mut Vec<Option<String>>,
) -> io::Result<Verdict> {
    let socket = EchoSocket::bind()?;
    let mut seq = 0;
    for ttl in 1..=reach.max_hops {
        socket.set_ttl(u32::from(ttl))?;
        let mut answer = Answer::Silence;
        for _ in 0..reach.tries {
            seq += 1;
            answer = ask(site, &socket, (to, seq), reach.wait, limit)?;
            if !matches!(answer, Answer::Silence) {
                break;
            }
        }
        match answer {
            Answer::Silence => hops.push(None),
            Answer::TimeExceeded(by) => hops.push(Some(site.name_of(by))),
            Answer::Reply(from) => {
                hops.push(Some(site.name_of(from)));
                return Ok(Verdict::Passed);
            }
            Answer::Unreachable(by, code) => {
                let name = site.name_of(by);
                let why = format!("unreachable (code {code}), says {name}");
                hops.push(Some(name));
                return Ok(Verdict::Failed(why));
            }
        }
    }
    let why = format!("did not arrive within {} hops", reach.max_hops);
    Ok(Verdict::Failed(why))
}

/// What became of one request.
enum Answer {
    /// It arrived.
    Reply(IpAddr),
    /// Its time to live ran out at a router.
    TimeExceeded(IpAddr),
    /// A router or host refused it.
    Unreachable(IpAddr, u8),
    /// Nobody said anything in time.
    Silence,
}

/// Sends one request and waits for what becomes of it, at most `wait`.
fn ask(
    site: &Site,
    socket: &EchoSocket,
    (to, seq): (Ipv4Addr, u16),
    wait: Duration,
    limit: &Limit,
) -> io::Result<Answer> {
    let until = site.system.now() + wait;
    limit.left(wait)?;
    socket.send_to(seq, &PAYLOAD, to)?;
    loop {
        let left = until - site.system.now();
        if left.is_zero() {
            return Ok(Answer::Silence);
        }
        socket.set_read_timeout(Some(limit.left(left)?))?;
        // An answer to an earlier request is late, and was counted as silence.
        match socket.recv() {
            Ok((EchoEvent::Reply { from, seq: s, .. }, _)) if s == seq => {
                return Ok(Answer::Reply(from));
            }
            Ok((EchoEvent::TimeExceeded { from, seq: s }, _)) if s == seq => {
                return Ok(Answer::TimeExceeded(from));
            }
            Ok((EchoEvent::Unreachable { from, seq: s, code }, _)) if s == seq => {
                return Ok(Answer::Unreachable(from, code));
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
}

impl Site {
    /// The name of the vnet that has `address`; the address itself when none has.
    pub(super) fn name_of(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V4(v4) if self.names.contains_key(&v4) => self.names[&v4].clone(),
            _ => address.to_string(),
        }
    }
}
