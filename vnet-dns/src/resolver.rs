//! Which servers are asked for which names, in what order.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use vnet::beside::{HeardNames, heard_names, random_stream};
use vnet::{Rng, Vnet};

use crate::config::{Config, ConfigError};
use crate::error::Error;
use crate::exchange::{Fault, ask};
use crate::message::{FullName, Kind, MOST_ALIASES, Question, Said, name};

/// The label of its random stream.
const STREAM: u64 = 0x646e_7300;

/// The port of servers that routers name.
const PORT: u16 = 53;

struct Resolver {
    config: Config,
    rng: Mutex<Rng>,
}

/// Gives the vnet a resolver that asks name servers, in place of the one it had. Names in its table of hosts
/// ([`Vnet::set_hosts`]) are not asked for.
///
/// # Errors
/// Something in `config` is out of range; the vnet is gone.
pub fn install(vnet: &Vnet, config: Config) -> Result<(), ConfigError> {
    config.check()?;
    let rng = Mutex::new(random_stream(vnet, STREAM)?);
    let resolver = Arc::new(Resolver { config, rng });
    vnet.set_async_resolver(move |vnet, name| {
        let (resolver, vnet, name) = (Arc::clone(&resolver), vnet.clone(), name.to_owned());
        async move { Ok(resolver.lookup(&vnet, &name).await?) }
    })?;
    Ok(())
}

/// What of the candidates of a name was not found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    Name,
    Address,
}

impl Resolver {
    /// The addresses of a name. Candidates that are not there are passed over; any other error is the answer, because a
    /// name that could not be asked for might be there.
    async fn lookup(&self, vnet: &Vnet, asked: &str) -> Result<Vec<IpAddr>, Error> {
        let heard = heard_names(vnet).unwrap_or_default();
        let servers = self.servers(&heard);
        if servers.is_empty() {
            return Err(Error::NoServer(asked.to_owned()));
        }
        let mut missing = None;
        for candidate in self.candidates(asked, &heard)? {
            match self.addresses(vnet, &servers, candidate).await? {
                Ok(found) => return Ok(found),
                Err(what) => missing = missing.max(Some(what)),
            }
        }
        Err(match missing {
            Some(Missing::Address) => Error::NoAddress(asked.to_owned()),
            _ => Error::NoSuchName(asked.to_owned()),
        })
    }

    /// The servers, each once: those of the configuration, then those that routers have named (RFC 8106, section 5.3.1).
    fn servers(&self, heard: &HeardNames) -> Vec<SocketAddr> {
        let named = heard.servers.iter().map(|&(addr, scope)| {
            let addr = SocketAddrV6::new(addr, PORT, 0, scope);
            SocketAddr::V6(addr)
        });
        let mut servers = Vec::new();
        for server in self.config.servers.iter().copied().chain(named) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    /// The complete names that `asked` may stand for, in the order in which to ask for them.
    fn candidates(&self, asked: &str, heard: &HeardNames) -> Result<Vec<FullName>, Error> {
        let as_it_is = name(asked).ok_or_else(|| Error::BadName(asked.to_owned()))?;
        if asked.ends_with('.') {
            return Ok(vec![as_it_is]);
        }
        let domains = self.config.search.iter().chain(&heard.search);
        // What becomes too long cannot be there.
        let in_domains = domains.filter_map(|domain| name(&format!("{asked}.{domain}")));
        let dots = asked.bytes().filter(|b| *b == b'.').count();
        let mut candidates: Vec<FullName> = in_domains.collect();
        match dots >= self.config.ndots {
            true => candidates.insert(0, as_it_is),
            false => candidates.push(as_it_is),
        }
        Ok(candidates)
    }

    /// The addresses of a complete name, of both families, which are asked for at once.
    async fn addresses(
        &self,
        vnet: &Vnet,
        servers: &[SocketAddr],
        name: FullName,
    ) -> Result<Result<Vec<IpAddr>, Missing>, Error> {
        let of = |kind| {
            let name = name.clone();
            self.follow(vnet, servers, Question { name, kind })
        };
        let (v6, v4) = both(of(Kind::V6), of(Kind::V4)).await;
        let mut found: Vec<IpAddr> = Vec::new();
        for ip in [&v6, &v4].into_iter().flatten().flatten().flatten() {
            if !found.contains(ip) {
                found.push(*ip);
            }
        }
        if !found.is_empty() {
            return Ok(Ok(found));
        }
        // An answer for one family does not make up for none for the other.
        Ok(Err(match (v6?, v4?) {
            (Err(Missing::Name), _) | (_, Err(Missing::Name)) => Missing::Name,
            _ => Missing::Address,
        }))
    }

    /// The addresses of one family, of a name that may be an alias.
    async fn follow(
        &self,
        vnet: &Vnet,
        servers: &[SocketAddr],
        mut question: Question,
    ) -> Result<Result<Vec<IpAddr>, Missing>, Error> {
        let asked = question.name.to_string();
        for _ in 0..=MOST_ALIASES {
            match self.ask_servers(vnet, servers, &question).await? {
                Said::Found(found) => return Ok(Ok(found)),
                Said::Alias(other) => question.name = other,
                Said::Nothing => return Ok(Err(Missing::Address)),
                Said::NoSuchName => return Ok(Err(Missing::Name)),
                _ => break,
            }
        }
        Err(Error::TooManyAliases(asked))
    }

    /// What the first server says that can answer. All are asked in turn, with more patience each time (RFC 1123,
    /// section 6.1.3.3).
    async fn ask_servers(
        &self,
        vnet: &Vnet,
        servers: &[SocketAddr],
        question: &Question,
    ) -> Result<Said, Error> {
        let name = || question.name.to_string();
        let mut last = Error::NoServer(name());
        for round in 0..self.config.attempts {
            let limit = self.config.timeout.saturating_mul(1 << round);
            for &server in servers {
                let asking = ask(vnet, server, question, || self.id());
                let name = name();
                last = match vnet.system().timeout(limit, asking).await {
                    Ok(Ok(Said::NotUnderstood(code) | Said::Failed(code))) => {
                        Error::Failed { name, server, code }
                    }
                    Ok(Ok(said)) => return Ok(said),
                    Ok(Err(Fault::Wrong)) => Error::Malformed { name, server },
                    Ok(Err(Fault::Io(error))) => Error::Unreachable {
                        name,
                        server,
                        kind: error.kind(),
                    },
                    Err(_) => Error::TimedOut { name, server },
                };
            }
        }
        Err(last)
    }

    /// An identifier that cannot be guessed without the seed (RFC 5452, section 9.2).
    fn id(&self) -> u16 {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.u32() as u16
    }
}

/// Awaits both.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|task| {
        if of_a.is_none()
            && let Poll::Ready(out) = a.as_mut().poll(task)
        {
            of_a = Some(out);
        }
        if of_b.is_none()
            && let Poll::Ready(out) = b.as_mut().poll(task)
        {
            of_b = Some(out);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
