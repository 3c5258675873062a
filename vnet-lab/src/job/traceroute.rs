//! The routers on the way: echo requests with an increasing time to live.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use vnet::net::{EchoEvent, EchoSocket};

use super::kind::{Facts, Kind, Measured, Site, Verdict, Way};
use crate::file::name::{Target, target};
use crate::file::source::Problems;
use crate::file::table::{Table, checked};
use crate::file::units;

/// The routers on the way, found by increasing the time to live.
#[derive(Clone, Debug, PartialEq)]
pub struct Traceroute<T> {
    /// The nodes it is to pass, the last included; without it, arriving is enough.
    pub expect: Option<Vec<T>>,
    /// How far to look.
    pub max_hops: u8,
    /// How often each hop is asked before it counts as silent.
    pub tries: u8,
    /// How long to wait for each answer.
    pub wait: Duration,
}

/// What a traceroute found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Who answered at each distance, by name; `None` is nobody.
    pub hops: Vec<Option<String>>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hops = self.hops.iter();
        let hops: Vec<&str> = hops.map(|h| h.as_deref().unwrap_or("*")).collect();
        f.write_str(&hops.join(" → "))
    }
}

/// Bytes of payload in each request.
const PAYLOAD: [u8; 32] = [0; 32];

impl Traceroute<Spanned<Target>> {
    pub(super) fn read(
        table: &mut Table<'_>,
        problems: &mut Problems<'_>,
    ) -> Traceroute<Spanned<Target>> {
        let names = table.strings("expect", problems);
        let expect = table.key_span("expect").map(|_| {
            let mut hops = Vec::new();
            for name in names {
                hops.extend(checked(name, target, problems));
            }
            hops
        });
        let max_hops = table.integer("max_hops", 1..=255, problems);
        let tries = table.integer("tries", 1..=100, problems);
        let wait = table.read("wait", units::positive_duration, problems);
        Traceroute {
            expect,
            max_hops: max_hops.map_or(30, |n| n.into_inner() as u8),
            tries: tries.map_or(3, |n| n.into_inner() as u8),
            wait: wait.map_or(Duration::from_secs(1), Spanned::into_inner),
        }
    }
}

impl<T> Traceroute<T> {
    pub(super) fn planned<U>(&self, name: impl FnMut(&T) -> U) -> Traceroute<U> {
        let hops = self.expect.as_ref();
        Traceroute {
            expect: hops.map(|hops| hops.iter().map(name).collect()),
            max_hops: self.max_hops,
            tries: self.tries,
            wait: self.wait,
        }
    }
}

impl<T> Facts for Traceroute<T> {
    fn ttl(&self) -> Option<u8> {
        Some(self.max_hops)
    }

    fn warning(&self, _: Duration, way: &dyn Way) -> Option<String> {
        let (hops, max_hops) = (way.hops()?, self.max_hops);
        (hops > usize::from(max_hops))
            .then(|| format!("it is {hops} hops away, and `max_hops` is {max_hops}: it will fail"))
    }
}

impl Kind for Traceroute<String> {
    type Figures = Figures;

    fn nothing(&self) -> Figures {
        Figures { hops: Vec::new() }
    }

    fn run(&self, site: &Site, measured: &Measured<Figures>) -> io::Result<Verdict> {
        let mut hops = Vec::new();
        let arrived = walk(self, site, &mut hops);
        measured.set(Figures { hops: hops.clone() });
        let failed = match (arrived?, &self.expect) {
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
}

/// Asks one hop after another, and notes in `hops` who answered.
fn walk<T>(
    task: &Traceroute<T>,
    site: &Site,
    hops: &mut Vec<Option<String>>,
) -> io::Result<Verdict> {
    let socket = EchoSocket::bind()?;
    let mut seq = 0;
    for ttl in 1..=task.max_hops {
        socket.set_ttl(u32::from(ttl))?;
        let mut answer = Answer::Silence;
        for _ in 0..task.tries {
            seq += 1;
            answer = ask(site, &socket, seq, task.wait)?;
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
    let why = format!("did not arrive within {} hops", task.max_hops);
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
fn ask(site: &Site, socket: &EchoSocket, seq: u16, wait: Duration) -> io::Result<Answer> {
    let until = site.system.now() + wait;
    site.limit.left(wait)?;
    socket.send_to(seq, &PAYLOAD, site.address)?;
    loop {
        let left = until - site.system.now();
        if left.is_zero() {
            return Ok(Answer::Silence);
        }
        socket.set_read_timeout(Some(site.limit.left(left)?))?;
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
