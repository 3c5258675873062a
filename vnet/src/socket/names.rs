//! Names: what a name means in one instance.
//!
//! A vnet has a table of hosts, as `/etc/hosts` is one, and may have a resolver: a function of the program's, or one that
//! asks name servers on the vnet's own network, as that of the crate `vnet-dns` does. None of it is the host's: what a
//! program in a vnet asks for must not depend on the machine it runs on.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;

use crate::base::lock::{Mutex, Rank};
use crate::instance::context::within;
use crate::instance::{Gone, Local, Vnet};
use crate::transport::error::SocketError;

/// Names and their addresses; see [`Vnet::set_hosts`].
type Hosts = BTreeMap<String, Vec<IpAddr>>;

/// What a resolver has found.
type Found = io::Result<Vec<IpAddr>>;

/// Finds the addresses of a name that is not in the table; see [`Vnet::set_resolver`].
type Resolver = dyn Fn(&Vnet, &str) -> Answer + Send + Sync;

/// What a resolver says when it is asked.
enum Answer {
    Now(Found),
    Later(Pin<Box<dyn Future<Output = Found> + Send>>),
}

/// What an instance knows of names.
struct Names(Mutex<Known>);

#[derive(Clone, Default)]
struct Known {
    hosts: Arc<Hosts>,
    resolver: Option<Arc<Resolver>>,
}

static NAMES: Local<Names> = Local::new(|| Names(Mutex::new(Rank::Waker, Known::default())));

impl Vnet {
    /// Gives the instance its table of hosts, in place of the one it had. Sockets then take names where they take
    /// addresses: `TcpStream::connect("server:80")`, or `("server", 80)`. Names are compared without regard to case.
    /// Many instances can have one table.
    ///
    /// The table is the program's, as a file of a host's is, and no configuration: records and twins do not have it.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::Arc;
    /// use vnet::System;
    /// use vnet::net::{TcpListener, TcpStream};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.epair("eth0", &b, "eth0")?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
    /// let hosts = BTreeMap::from([("server".to_owned(), vec!["192.0.2.2".parse()?])]);
    /// a.set_hosts(Arc::new(hosts))?;
    ///
    /// let _listener = TcpListener::bind_in(&b, "0.0.0.0:80")?;
    /// let stream = TcpStream::connect_in(&a, ("server", 80))?;
    /// assert_eq!(stream.peer_addr()?, "192.0.2.2:80".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_hosts(&self, hosts: Arc<Hosts>) -> Result<(), Gone> {
        self.change_names(|known| known.hosts = hosts)
    }

    /// Gives the instance a resolver, which is asked for names that are not in its [table](Vnet::set_hosts): a
    /// function of the program's, called on the thread that asks, with the vnet current. In virtual time it must
    /// give the same answer on every run, and not block outside of the library.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_resolver(
        &self,
        resolver: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Result<(), Gone> {
        self.set_answering(move |_, name| {
            Answer::Now(resolver(name.strip_suffix('.').unwrap_or(name)))
        })
    }

    /// Gives the instance a resolver, as [`Vnet::set_resolver`] does, that takes its time: the future that it returns may
    /// wait for sockets of the vnet. Calls that block run it while they do, and [`Vnet::lookup`] awaits it. The name is in
    /// lower case, and ends in a dot where it was asked for with one. The crate `vnet-dns` has a resolver that asks
    /// name servers.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn set_async_resolver<F>(
        &self,
        resolver: impl Fn(&Vnet, &str) -> F + Send + Sync + 'static,
    ) -> Result<(), Gone>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        self.set_answering(move |vnet, name| Answer::Later(Box::pin(resolver(vnet, name))))
    }

    /// The addresses of a name or of an address as text, in the order in which to try them: those that a socket would try,
    /// for futures, which must not block.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// a.set_async_resolver(|vnet, _| {
    ///     let wait = vnet.system().sleep_async(std::time::Duration::from_secs(1));
    ///     async {
    ///         wait.await;
    ///         Ok(vec!["192.0.2.80".parse().expect("an address")])
    ///     }
    /// })?;
    /// let found = system.block_on(a.lookup("server"))??;
    /// assert_eq!(found, ["192.0.2.80".parse::<std::net::IpAddr>()?]);
    /// assert_eq!(system.now().as_nanos(), 1_000_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the resolver says; [`ErrorKind::NotFound`] for a name that nobody knows; the vnet is gone.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(addr) = host.parse() {
            return Ok(vec![addr]);
        }
        let found = match ask(self, host)? {
            Answer::Now(found) => found,
            Answer::Later(found) => found.await,
        };
        ordered(self, host, found?)
    }

    fn set_answering(
        &self,
        resolver: impl Fn(&Vnet, &str) -> Answer + Send + Sync + 'static,
    ) -> Result<(), Gone> {
        self.change_names(|known| known.resolver = Some(Arc::new(resolver)))
    }

    fn change_names(&self, change: impl FnOnce(&mut Known)) -> Result<(), Gone> {
        // What it had may be the last reference to something of the program's: dropped without the lock.
        let old = NAMES.of(self, |names| {
            let mut known = names.0.lock();
            let old = known.clone();
            change(&mut known);
            old
        });
        old.map(drop).map_err(|_| Gone)
    }
}

/// The addresses of `host` in the current vnet, in the order in which to try them.
///
/// # Errors
/// No vnet is current, or it is gone; the name is none, or is not known.
#[track_caller]
pub(super) fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let vnet = super::error::current()?;
    let found = match ask(&vnet, host)? {
        Answer::Now(found) => found,
        Answer::Later(found) => vnet.system().block_on(found)?,
    };
    ordered(&vnet, host, found?)
}

/// Looks in the table, and else asks the resolver.
fn ask(vnet: &Vnet, host: &str) -> io::Result<Answer> {
    let asked = host.to_ascii_lowercase();
    let name = asked.strip_suffix('.').unwrap_or(&asked);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("expected an address or a name, found {host:?}"),
        ));
    }
    let known = NAMES.of(vnet, |names| names.0.lock().clone());
    let Known { hosts, resolver } = known.map_err(|_| SocketError::Gone)?;
    Ok(match (listed(&hosts, name), resolver) {
        (Some(listed), _) => Answer::Now(Ok(listed.clone())),
        // RFC 6761, section 6.3: these never leave the host.
        (None, _) if name == "localhost" || name.ends_with(".localhost") => Answer::Now(Ok(vec![
            Ipv6Addr::LOCALHOST.into(),
            Ipv4Addr::LOCALHOST.into(),
        ])),
        (None, Some(resolver)) => within(&vnet.core, || resolver(vnet, &asked)),
        (None, None) => Answer::Now(Ok(Vec::new())),
    })
}

/// What a table says of a name in lower case. Its names may be in any; of those that differ in nothing else the last
/// counts. The table is asked for one spelling after the other, and not walked: many instances share a large one, which
/// must cost nothing when each is given it.
fn listed<'a>(hosts: &'a Hosts, name: &str) -> Option<&'a Vec<IpAddr>> {
    // The last of all spellings, and mostly the only one.
    if let Some(listed) = hosts.get(name) {
        return Some(listed);
    }
    let mut found = None;
    let mut from = Some(name.to_ascii_uppercase());
    while let Some(spelling) = from
        && let Some((key, listed)) = hosts.range(spelling..).next()
    {
        if key.eq_ignore_ascii_case(name) {
            found = Some(listed);
        }
        from = spelling_after(key, name);
    }
    found
}

/// Of the spellings of a name in lower case the first behind `key`, by the order of bytes: there a capital is before all
/// small letters.
fn spelling_after(key: &str, name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let pairs = key.bytes().zip(name.bytes().zip(upper.bytes()));
    // The letters that the key has of the name, in either case.
    let same = pairs.take_while(|(k, (l, u))| k == l || k == u).count();
    let with_small = |at: usize| {
        let (small, rest) = (&name[at..=at], &upper[at + 1..]);
        Some(format!("{}{small}{rest}", &key[..at]))
    };
    let letters = |at: usize| (name.as_bytes()[at], upper.as_bytes()[at]);
    if same < name.len() {
        let (small, capital) = letters(same);
        match key.as_bytes().get(same) {
            Some(k) if *k > small => {}
            Some(k) if *k > capital => return with_small(same),
            _ => return Some(format!("{}{}", &key[..same], &upper[same..])),
        }
    }
    // None with these letters: the last capital among them becomes a small one.
    let is_capital = |at: &usize| {
        let (small, capital) = letters(*at);
        capital != small && key.as_bytes()[*at] == capital
    };
    with_small((0..same).rev().find(is_capital)?)
}

/// The addresses of `host` that were found, in the order in which to try them (RFC 6724 section 6).
fn ordered(vnet: &Vnet, host: &str, mut found: Vec<IpAddr>) -> io::Result<Vec<IpAddr>> {
    if found.is_empty() {
        let vnet = vnet.name();
        return Err(io::Error::new(
            ErrorKind::NotFound,
            format!(
                "vnet {vnet} knows no address of {host:?}: see Vnet::set_hosts and set_resolver"
            ),
        ));
    }
    let ordered = vnet.core.with(|stack, _| {
        stack.order_destinations(&mut found);
    });
    ordered.map_err(SocketError::from)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use crate::instance::System;
    use proptest::prelude::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_looked_for_in_the_table_and_then_by_the_resolver() {
        let system = System::virtual_time(1);
        let a = system.create("a").unwrap();
        let _a = a.enter();
        let two = vec![addr("2001:db8::2"), addr("192.0.2.2")];
        let hosts = Hosts::from([("Server".to_owned(), two.clone())]);
        a.set_hosts(Arc::new(hosts)).unwrap();
        a.set_resolver(|name| match name {
            "far.example" => Ok(vec![IpAddr::from([198, 51, 100, 7])]),
            "server" => panic!("it is in the table"),
            _ => Ok(Vec::new()),
        })
        .unwrap();
        assert_eq!(
            resolve("sERVER").unwrap(),
            two,
            "no way to either: as given, but for precedence"
        );
        assert_eq!(resolve("far.example.").unwrap(), [addr("198.51.100.7")]);
        // Nothing has an IPv6 address yet, `lo0` included.
        assert_eq!(
            resolve("localhost").unwrap(),
            [addr("127.0.0.1"), addr("::1")]
        );
        assert_eq!(resolve("nobody").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            resolve("no name").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        // What has a way comes first.
        a.add_address("lo0", "192.0.2.1/24".parse().unwrap())
            .unwrap();
        assert_eq!(resolve("server").unwrap(), [two[1], two[0]]);
    }

    /// It blocks a thread, is awaited by a task, and is told whether the name is complete.
    #[test]
    fn a_resolver_may_take_its_time() {
        let system = System::virtual_time(1);
        let a = system.create("a").unwrap();
        a.set_async_resolver(|vnet, name| {
            assert_eq!(Vnet::current().unwrap().name(), vnet.name());
            let wait = vnet.system().sleep_async(Duration::from_secs(1));
            let found = match name {
                "here" => Ok(vec![addr("192.0.2.1")]),
                "here." => Ok(vec![addr("192.0.2.2")]),
                _ => Err(ErrorKind::TimedOut.into()),
            };
            async {
                wait.await;
                found
            }
        })
        .unwrap();
        let blocking = within(&a.core, || resolve("HERE")).unwrap();
        assert_eq!(blocking, [addr("192.0.2.1")]);
        assert_eq!(system.now().as_nanos(), 1_000_000_000);
        let task = {
            let a = (*a).clone();
            system.spawn_future(async move {
                let blocking = within(&a.core, || resolve("here")).unwrap_err();
                (blocking.to_string(), a.lookup("here.").await.unwrap())
            })
        };
        let (blocking, awaited) = task.join().unwrap();
        assert!(blocking.contains("a task must not"), "{blocking}");
        assert_eq!(awaited, [addr("192.0.2.2")]);
        let failed = system.block_on(a.lookup("there")).unwrap().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        let address = system.block_on(a.lookup("2001:db8::1")).unwrap();
        assert_eq!(address.unwrap(), [addr("2001:db8::1")]);
    }

    proptest! {
        /// As when all of the table is compared, whatever the case of its names: the last one counts.
        #[test]
        fn a_name_is_found_in_any_case(
            names in prop::collection::vec("[aAbB.1_z]{1,4}", 0..40),
            asked in "[ab.1_z]{1,4}",
        ) {
            let numbered = names.into_iter().zip(0u8..);
            let hosts: Hosts = numbered.map(|(name, n)| (name, vec![[192, 0, 2, n].into()])).collect();
            let is_it = |(name, _): &(&String, &Vec<IpAddr>)| name.eq_ignore_ascii_case(&asked);
            let expected = hosts.iter().rfind(is_it);
            prop_assert_eq!(listed(&hosts, &asked), expected.map(|(_, addrs)| addrs));
        }
    }

    #[test]
    fn names_end_with_their_vnet() {
        let system = System::virtual_time(1);
        let a = system.create("a").unwrap();
        let kept = Arc::new(Hosts::new());
        a.set_hosts(Arc::clone(&kept)).unwrap();
        let handle = (*a).clone();
        a.set_async_resolver(|_, _| std::future::ready(Ok(Vec::new())))
            .unwrap();
        a.destroy();
        assert_eq!(Arc::strong_count(&kept), 1);
        assert_eq!(handle.set_hosts(kept), Err(Gone));
    }
}
