//! The routers on the way: echo requests with an increasing time to live.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use vnet::net::EchoSocket;
use vnet::time::Duration;

use super::ping::{Answer, ask};
use super::{Limit, Outcome, Site};
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
) -> io::Result<Outcome> {
    let socket = EchoSocket::bind()?;
    let mut hops = Vec::new();
    let mut arrived = Err(format!("did not arrive within {} hops", reach.max_hops));
    let mut seq = 0;
    for ttl in 1..=reach.max_hops {
        socket.set_ttl(u32::from(ttl))?;
        let mut answer = Answer::Silence;
        for _ in 0..reach.tries {
            seq += 1;
            answer = ask(site, &socket, (to, seq), &PAYLOAD, reach.wait, limit)?;
            if !matches!(answer, Answer::Silence) {
                break;
            }
        }
        match answer {
            Answer::Silence => hops.push(None),
            Answer::TimeExceeded(by) => hops.push(Some(site.name_of(by))),
            Answer::Reply(from, _) => {
                hops.push(Some(site.name_of(from)));
                arrived = Ok(());
                break;
            }
            Answer::Unreachable(by, code) => {
                let name = site.name_of(by);
                arrived = Err(format!("unreachable (code {code}), says {name}"));
                hops.push(Some(name));
                break;
            }
        }
    }
    let failed = match (arrived, expect) {
        (Err(why), _) => Some(why),
        (Ok(()), Some(expected)) => {
            let same = hops
                .iter()
                .map(Option::as_deref)
                .eq(expected.iter().map(|e| Some(&**e)));
            (!same).then(|| format!("expected {}", expected.join(" → ")))
        }
        (Ok(()), None) => None,
    };
    Ok(Outcome {
        figures: Figures::Traceroute { hops },
        failed,
    })
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
