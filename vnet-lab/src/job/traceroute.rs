//! The routers on the way: echo requests with an increasing time to live.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use vnet::net::{EchoEvent, EchoSocket, IcmpObject};

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
    /// With which labels of MPLS the requests came to each of them, by their word (RFC 4950), the outermost first. Empty
    /// where nobody says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Vec<u32>>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, hop) in self.hops.iter().enumerate() {
            let arrow = if n > 0 { " → " } else { "" };
            write!(f, "{arrow}{}", hop.as_deref().unwrap_or("*"))?;
            let labels = self.labels.get(n).map_or(&[][..], Vec::as_slice);
            if !labels.is_empty() {
                let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
                write!(f, " (MPLS {})", labels.join(" "))?;
            }
        }
        Ok(())
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
        Figures {
            hops: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn run(&self, site: &Site, measured: &Measured<Figures>) -> io::Result<Verdict> {
        let (mut hops, mut labels) = (Vec::new(), Vec::new());
        let arrived = walk(self, site, &mut hops, &mut labels);
        // Nearly nobody says anything of them.
        if labels.iter().all(Vec::is_empty) {
            labels.clear();
        }
        measured.set(Figures {
            hops: hops.clone(),
            labels,
        });
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

/// Asks one hop after another, and notes in `hops` who answered, and which `labels` it says that there were.
fn walk<T>(
    task: &Traceroute<T>,
    site: &Site,
    hops: &mut Vec<Option<String>>,
    labels: &mut Vec<Vec<u32>>,
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
        labels.push(match &answer {
            Answer::TimeExceeded(_, said) | Answer::Unreachable(_, _, said) => labels_of(said),
            Answer::Silence | Answer::Reply(_) => Vec::new(),
        });
        match answer {
            Answer::Silence => hops.push(None),
            Answer::TimeExceeded(by, _) => hops.push(Some(site.name_of(by))),
            Answer::Reply(from) => {
                hops.push(Some(site.name_of(from)));
                return Ok(Verdict::Passed);
            }
            Answer::Unreachable(by, code, _) => {
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

/// The labels that a router speaks of.
fn labels_of(said: &[IcmpObject]) -> Vec<u32> {
    let labels = said.iter().filter_map(|object| match object {
        IcmpObject::Label { label, .. } => Some(*label),
        _ => None,
    });
    labels.collect()
}

/// What became of one request.
enum Answer {
    /// It arrived.
    Reply(IpAddr),
    /// Its time to live ran out at a router.
    TimeExceeded(IpAddr, Vec<IcmpObject>),
    /// A router or host refused it.
    Unreachable(IpAddr, u8, Vec<IcmpObject>),
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
            Ok((
                EchoEvent::TimeExceeded {
                    from,
                    seq: s,
                    extensions,
                },
                _,
            )) if s == seq => {
                return Ok(Answer::TimeExceeded(from, extensions));
            }
            Ok((
                EchoEvent::Unreachable {
                    from,
                    seq: s,
                    code,
                    extensions,
                },
                _,
            )) if s == seq => {
                return Ok(Answer::Unreachable(from, code, extensions));
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_said_where_there_are_any() {
        let label = |label, is_bottom| IcmpObject::Label {
            label,
            class: 0,
            is_bottom,
            ttl: 1,
        };
        let said = [
            IcmpObject::Other {
                class: 2,
                kind: 10,
                data: vec![0, 0, 0, 7].into(),
            },
            label(16, false),
            label(1_048_575, true),
        ];
        let mut figures = Figures {
            hops: vec![Some("r".to_owned()), None, Some("b".to_owned())],
            labels: vec![labels_of(&said), Vec::new(), labels_of(&said[..1])],
        };
        assert_eq!(figures.to_string(), "r (MPLS 16 1048575) → * → b");
        let json = serde_json::to_value(&figures).expect("it can be written");
        assert_eq!(json["labels"], serde_json::json!([[16, 1_048_575], [], []]));
        figures.labels.clear();
        assert_eq!(figures.to_string(), "r → * → b");
        let json = serde_json::to_value(&figures).expect("it can be written");
        assert_eq!(json.get("labels"), None);
    }
}
