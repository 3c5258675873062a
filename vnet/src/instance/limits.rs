//! Limits of an instance: how much it may hold of each resource, how much it holds, and the most
//! that it has held. Reaching a limit affects this instance only.

use std::sync::Arc;

use super::cores::VnetCore;
use super::journal::{Op, VnetOp};
use super::phase::{Entry, Gone};
use super::vnet::{OwnedVnet, Vnet};
use crate::base::stats::Stats;
use crate::stack::Stack;
pub(crate) use crate::stack::limits::LimitReached;
pub(crate) use crate::stack::limits::defaults;
pub use crate::stack::limits::{Resource, Usage};

impl Vnet {
    /// How much the instance holds of a resource, and its limit.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn usage(&self, resource: Resource) -> Result<Usage, Gone> {
        self.core.driver.called();
        self.core.enter_as(Entry::User, |inside, cx| {
            self.core.note_overflow(cx.stats);
            usage_in(&self.core, &inside.stack, cx.stats, resource)
        })
    }

    /// The same for every resource, at one instant.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn usages(&self) -> Result<Vec<Usage>, Gone> {
        self.core.driver.called();
        self.core.enter_as(Entry::User, |inside, cx| {
            self.core.note_overflow(cx.stats);
            let of = |r: &Resource| usage_in(&self.core, &inside.stack, cx.stats, *r);
            Resource::ALL.iter().map(of).collect()
        })
    }
}

impl OwnedVnet {
    /// Sets how much of a resource the instance may hold from now on; what it holds, it keeps.
    /// [`Resource::UNLIMITED`] lifts the limit.
    ///
    /// The limit in effect is the smallest of this one and those in effect above the instance;
    /// [`Vnet::usage`] reports it. A change takes effect in the instances below at once. What they
    /// hold counts there, not here, except for [`Resource::Children`].
    ///
    /// # Errors
    /// [`Gone`].
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use vnet::net::UdpSocket;
    /// use vnet::{Resource, System};
    ///
    /// let system = System::virtual_time(1);
    /// let (a, b) = (system.create("a")?, system.create("b")?);
    /// a.set_limit(Resource::Sockets, 1)?;
    /// let one = UdpSocket::bind_in(&a, "127.0.0.1:0")?;
    /// let refused = UdpSocket::bind_in(&a, "127.0.0.1:0").unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
    /// assert_eq!(a.usage(Resource::Sockets)?.refused, 1);
    /// // It concerns nobody else.
    /// let other = UdpSocket::bind_in(&b, "127.0.0.1:0")?;
    /// drop(one);
    /// UdpSocket::bind_in(&a, "127.0.0.1:0")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_limit(&self, resource: Resource, limit: u64) -> Result<(), Gone> {
        self.limit_to(resource, limit)
    }
}

impl Vnet {
    /// What [`OwnedVnet::set_limit`] does; the caller is the owner.
    pub(crate) fn limit_to(&self, resource: Resource, limit: u64) -> Result<(), Gone> {
        self.configure(|stack, _| {
            set_in(&self.core, stack, resource, limit);
            Ok(Op::Vnet(VnetOp::SetLimit { resource, limit }))
        })?;
        spread(&self.core);
        Ok(())
    }
}

/// Sets a limit of an instance whose lock is held.
pub(crate) fn set_in(core: &VnetCore, stack: &mut Stack, resource: Resource, limit: u64) {
    stack.set_limit(resource, limit);
    tell_others(core, stack);
}

/// Makes the limits that are in effect in an instance the most that is in effect below it. One change
/// is spread at a time, so that the last one counts.
pub(crate) fn spread(core: &Arc<VnetCore>) {
    let registry = core.system.registry();
    let mut above = vec![Arc::clone(core)];
    while let Some(core) = above.pop() {
        for child in registry.children_of(&core) {
            bound_by(&child, &core);
            above.push(child);
        }
    }
}

/// Makes the limits in effect above an instance its ceiling. No vnet's lock is held.
pub(super) fn bound_by(core: &VnetCore, above: &VnetCore) {
    let mut ceiling = None;
    above.alive(|live| {
        let limits = &live.inside.stack.limits;
        ceiling = Some((limits.in_effect(), limits.weight()));
    });
    if let Some((ceiling, weight)) = ceiling {
        core.alive(|live| {
            live.inside.stack.set_ceiling(ceiling, weight);
            tell_others(core, &live.inside.stack);
        });
    }
}

/// Tells those outside the stack the limits in effect, and the weight.
pub(crate) fn tell_others(core: &VnetCore, stack: &Stack) {
    let frames = stack.limits.of(Resource::QueuedPackets);
    let frames = usize::try_from(frames).unwrap_or(usize::MAX);
    core.inbox.set_max_frames(frames);
    core.tasks.set_limit(stack.limits.of(Resource::Tasks));
    let limits = &stack.limits;
    let micros = limits.of(Resource::Processor);
    core.processor.set(micros, limits.weight());
}

/// The use of a resource in an instance whose lock is held. Frames that found no room in the inbox
/// have been [counted](VnetCore::note_overflow).
pub(crate) fn usage_in(core: &VnetCore, stack: &Stack, stats: &Stats, resource: Resource) -> Usage {
    let mut usage = stack.usage(stats, resource);
    if resource == Resource::QueuedPackets {
        usage.current = core.inbox.len() as u64;
        usage.high_water = core.inbox.peak() as u64;
        // It takes so many at most, whatever the limit.
        usage.limit = core.inbox.max_frames() as u64;
    } else if resource == Resource::Tasks {
        usage = core.tasks.usage();
    } else if resource == Resource::Processor {
        usage = core.processor.usage(core.driver.now());
    }
    usage
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use proptest::prelude::*;

    use super::*;
    use crate::instance::{CreateError, System};
    use crate::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
    use crate::netif::AdminError;

    fn joined() -> [OwnedVnet; 2] {
        let system = System::virtual_time(1);
        let [a, b] = ["a", "b"].map(|name| system.create(name).expect("a free name"));
        a.epair("eth0", &b, "eth0").expect("free names");
        for (vnet, net) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
            let net = net.parse().expect("a prefix");
            vnet.add_address("eth0", net).expect("a free address");
        }
        [a, b]
    }

    fn used(vnet: &Vnet, resource: Resource) -> (u64, u64, u64) {
        let usage = vnet.usage(resource).expect("alive");
        (usage.current, usage.high_water, usage.refused)
    }

    #[test]
    fn sockets_of_all_kinds_count_together() {
        let [a, b] = joined();
        a.set_limit(Resource::Sockets, 4).expect("alive");
        let udp = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("the first");
        let raw = RawSocket::open_in(&a, 89).expect("the second");
        let echo = EchoSocket::bind_in(&a).expect("the third");
        let listener = TcpListener::bind_in(&a, "0.0.0.0:80").expect("the fourth");
        let refused = [
            UdpSocket::bind_in(&a, "0.0.0.0:0").err(),
            RawSocket::open_in(&a, 89).err(),
            EchoSocket::bind_in(&a).err(),
            TcpListener::bind_in(&a, "0.0.0.0:81").err(),
            TcpStream::connect_in(&a, "192.0.2.2:80").err(),
        ];
        for error in refused {
            assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::QuotaExceeded));
        }
        assert_eq!(used(&a, Resource::Sockets), (4, 4, 5));
        // A peer cannot make the fifth either; with one gone it can.
        let timeout = std::time::Duration::from_secs(5);
        let addr = "192.0.2.1:80".parse().expect("an address");
        assert!(TcpStream::connect_timeout_in(&b, &addr, timeout).is_err());
        drop(udp);
        assert!(TcpStream::connect_timeout_in(&b, &addr, timeout).is_ok());
        drop((raw, echo, listener));
        assert_eq!(used(&b, Resource::Sockets).2, 0);
    }

    #[test]
    fn interfaces() {
        let [a, b] = joined();
        a.set_limit(Resource::Interfaces, 2).expect("alive");
        let refused = a.port("port0", None).map(drop);
        assert_eq!(refused, Err(AdminError::Limit("interfaces")));
        assert_eq!(
            b.epair("x", &a, "x"),
            Err(AdminError::Limit("interfaces")),
            "at the far end"
        );
        assert_eq!(used(&a, Resource::Interfaces), (2, 2, 2));
        assert_eq!(used(&b, Resource::Interfaces), (2, 3, 0));
    }

    #[test]
    fn routes() {
        let [a, b] = joined();
        let now = used(&a, Resource::Routes).0;
        a.set_limit(Resource::Routes, now + 1).expect("alive");
        let add = |vnet: &Vnet, dst: &str| {
            let dst = dst.parse().expect("a prefix");
            vnet.add_route(dst, crate::NextHop::Interface("eth0".into()))
        };
        assert_eq!(add(&a, "198.51.100.0/24"), Ok(()));
        let full = Err(AdminError::Limit("routes"));
        assert_eq!(add(&a, "203.0.113.0/24"), full);
        assert_eq!(used(&a, Resource::Routes), (now + 1, now + 1, 1));
        assert_eq!(add(&b, "203.0.113.0/24"), Ok(()));
    }

    #[test]
    fn frames_beyond_the_queue_are_dropped_and_counted() {
        let system = System::manual(1);
        let [b, c] = ["b", "c"].map(|name| system.create(name).expect("a free name"));
        let port = c.port("eth0", None).expect("a free name");
        c.set_limit(Resource::QueuedPackets, 3).expect("alive");
        for _ in 0..5 {
            port.send(vec![0_u8; 60]).expect("there");
        }
        // They count at once, not when somebody takes the others in.
        assert_eq!(used(&c, Resource::QueuedPackets), (3, 3, 2));
        let stats = c.stats().expect("alive");
        let dropped = stats.rx_drops(crate::DropReason::InboxFull);
        assert_eq!((stats.received, dropped), (2, 2));
        system.poll(crate::time::Instant::ZERO);
        assert_eq!(used(&c, Resource::QueuedPackets), (0, 3, 2));
        assert_eq!(used(&b, Resource::QueuedPackets).2, 0);
    }

    #[test]
    fn buffered_bytes() {
        let [a, b] = joined();
        let _listener = TcpListener::bind_in(&b, "0.0.0.0:80").expect("a free port");
        let mut stream = TcpStream::connect_in(&a, "192.0.2.2:80").expect("somebody listens");
        a.set_limit(Resource::BufferedBytes, 1000).expect("alive");
        stream.set_nonblocking(true).expect("alive");
        let mut written = 0;
        let error = loop {
            // Nobody reads at the other end, so it fills up sooner or later.
            match stream.write(&[0; 800]) {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert!(
            (1000..2600).contains(&written),
            "{written} bytes were taken"
        );
        let (_, high, refused) = used(&a, Resource::BufferedBytes);
        assert!(high >= 1000 && refused == 1);
        assert_eq!(used(&b, Resource::BufferedBytes).2, 0);
    }

    #[test]
    fn buffers_of_datagrams_and_what_peers_send_count_as_well() {
        let [a, b] = joined();
        let udp = UdpSocket::bind_in(&b, "0.0.0.0:7").expect("a free port");
        let listener = TcpListener::bind_in(&b, "0.0.0.0:80").expect("a free port");
        let mut stream = TcpStream::connect_in(&a, "192.0.2.2:80").expect("somebody listens");
        let (mut far, _) = listener.accept().expect("a connection waits");
        b.set_limit(Resource::BufferedBytes, 100_000)
            .expect("alive");
        let sender = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
        let wait = || {
            let millis = crate::base::time::Duration::from_millis(10);
            a.system().run_for(millis).expect("nobody waits");
        };
        for _ in 0..200 {
            sender.send_to(&[0; 1000], "192.0.2.2:7").expect("a route");
        }
        wait();
        let (full, _, refused) = used(&b, Resource::BufferedBytes);
        assert!((90_000..=100_000).contains(&full), "{full}");
        assert!(refused > 90, "{refused}");
        // A receive buffer of TCP would take it, the instance does not; the peer keeps it.
        stream.write_all(&[7; 50_000]).expect("room here");
        wait();
        wait();
        assert!(used(&b, Resource::BufferedBytes).0 <= 120_000);
        let timeout = std::time::Duration::from_secs(5);
        let addr = "192.0.2.2:80".parse().expect("an address");
        drop(udp);
        // With room again it comes.
        std::io::Read::read_exact(&mut far, &mut [0; 50_000]).expect("all of it comes");
        assert!(TcpStream::connect_timeout_in(&a, &addr, timeout).is_ok());
        assert!(used(&b, Resource::BufferedBytes).0 < 10_000);
    }

    proptest! {
        /// Limits that are set, raised, lowered and lifted anywhere in a family are in effect as the
        /// least along the way up; and a socket can be made when that says so.
        #[test]
        fn limits_in_effect_are_the_least_of_those_above(
            acts in prop::collection::vec((0usize..4, 0usize..Resource::ALL.len(), 0usize..7), 1..60),
        ) {
            let system = System::manual(1);
            let mut family = vec![(system.create("a").expect("a free name"), defaults())];
            let mut sockets = Vec::new();
            for (act, which, value) in acts {
                let last = family.len() - 1;
                if act == 3 && family.len() < 4 {
                    // A child begins with what is in effect above it.
                    let made = family[last].0.create_child("a");
                    let in_effect = model(&family, last);
                    let children = (0..=last).all(|at| {
                        ((last - at) as u64) < model(&family, at)[Resource::Children as usize]
                    });
                    // With too few routes even a loopback interface cannot be made.
                    let refused = matches!(&made, Err(CreateError::Limit(_)));
                    prop_assert_eq!(refused, !children);
                    if let Ok(child) = made {
                        family.push((child, in_effect));
                    }
                } else {
                    let limit = [0, 1, 2, 3, 1000, 1 << 40, Resource::UNLIMITED][value];
                    let at = act.min(last);
                    // Of two there is a tunable as well.
                    let tunable = match Resource::ALL[which] {
                        Resource::Backlog if act == 3 => Some("kern.ipc.somaxconn"),
                        Resource::Neighbours if act == 3 => Some("net.link.ether.inet.limit"),
                        _ => None,
                    };
                    let set = tunable.map(|name| family[at].0.set_sysctl(name, "7"));
                    match set {
                        Some(Ok(())) => family[at].1[which] = 7,
                        _ => {
                            family[at].0.set_limit(Resource::ALL[which], limit).expect("alive");
                            family[at].1[which] = limit;
                        }
                    }
                }
                for at in 0..family.len() {
                    let expected = model(&family, at);
                    let usages = family[at].0.usages().expect("alive");
                    let found: Vec<_> = usages.iter().map(|u| u.limit).collect();
                    prop_assert_eq!(&found[..], &expected[..]);
                    let mine = sockets.iter().filter(|(whose, _)| *whose == at).count() as u64;
                    if mine < 6 {
                        let made = TcpListener::bind_in(&family[at].0, "127.0.0.1:0");
                        let may = mine < expected[Resource::Sockets as usize];
                        prop_assert_eq!(made.is_ok(), may);
                        sockets.extend(made.ok().map(|socket| (at, socket)));
                    }
                }
            }
        }
    }

    type Family = [(OwnedVnet, [u64; Resource::ALL.len()])];

    /// What is in effect in one of a line of descendants.
    fn model(family: &Family, at: usize) -> [u64; Resource::ALL.len()] {
        let least = |index: usize| {
            let limits = family[..=at].iter().map(|(_, own)| own[index]);
            let least = limits.min().expect("at least its own");
            match Resource::ALL[index] {
                Resource::QueuedPackets => least.min(crate::netif::inbox::MAX_FRAMES as u64),
                _ => least,
            }
        };
        std::array::from_fn(least)
    }

    #[test]
    fn a_child_is_no_way_around_a_limit() {
        let system = System::manual(1);
        let a = system.create("a").expect("a free name");
        a.set_limit(Resource::Children, 2).expect("alive");
        let b = a.create_child("b").expect("the first");
        // The child's owner may set what it likes.
        for resource in Resource::ALL {
            b.set_limit(*resource, Resource::UNLIMITED).expect("alive");
        }
        let c = b.create_child("c").expect("the second");
        for maker in [&a, &b, &c] {
            assert!(maker.create_child("d").is_err(), "{}", maker.name());
        }
        assert_eq!(used(&a, Resource::Children), (2, 2, 3));
        // Nor are the tunables of the same name.
        a.set_limit(Resource::Backlog, 3).expect("alive");
        a.set_limit(Resource::Neighbours, 4).expect("alive");
        for name in ["kern.ipc.somaxconn", "net.link.ether.inet.limit"] {
            c.set_sysctl(name, "1000").expect("in range");
        }
        let limit = |resource| c.usage(resource).expect("alive").limit;
        assert_eq!(
            (limit(Resource::Backlog), limit(Resource::Neighbours)),
            (3, 4)
        );
        b.destroy();
        assert_eq!(used(&a, Resource::Children).0, 0);
        a.create_child("d").expect("there is room again");
    }

    #[test]
    fn limits_of_single_layers_go_where_they_belong() {
        let [a, b] = joined();
        for resource in [
            Resource::Neighbours,
            Resource::ReassemblyBytes,
            Resource::Backlog,
        ] {
            let before = b.usage(resource).expect("alive").limit;
            a.set_limit(resource, 7).expect("alive");
            assert_eq!(a.usage(resource).expect("alive").limit, 7);
            assert_eq!(b.usage(resource).expect("alive").limit, before);
        }
        let all = a.usages().expect("alive");
        assert_eq!(all.len(), Resource::ALL.len());
        assert_eq!(
            all[0].to_string(),
            "sockets: 0 (most 0) of unlimited, 0 refused"
        );
    }

    #[test]
    fn a_table_of_neighbours_that_is_full_of_questions_refuses_more() {
        let [a, _b] = joined();
        a.set_limit(Resource::Neighbours, 2).expect("alive");
        let socket = UdpSocket::bind_in(&a, "0.0.0.0:0").expect("a free port");
        for host in 10..20 {
            let _ = socket.send_to(b"x", (std::net::Ipv4Addr::new(192, 0, 2, host), 9));
        }
        let (current, high, refused) = used(&a, Resource::Neighbours);
        assert!(current <= 2 && high <= 2 && refused > 0);
    }
}
