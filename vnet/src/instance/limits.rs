//! Limits of an instance: how much it may hold of everything, how much it holds, and the most that
//! it held. What reaches a limit is this instance's trouble and nobody else's.

use std::sync::OnceLock;

use super::record::Op;
use super::vnet::{Entry, Gone, OwnedVnet, Vnet, VnetCore};
use crate::base::rng::Rng;
use crate::base::stats::Stats;
use crate::netif::Inbox;
use crate::stack::Stack;
pub use crate::stack::limits::{LimitReached, Resource, UNLIMITED, Usage};

impl Vnet {
    /// How much the instance holds of a resource, and its limit.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn usage(&self, resource: Resource) -> Result<Usage, Gone> {
        self.core.driver.called();
        self.core.enter_as(Entry::User, |inside, cx| {
            self.core.note_overflow(cx.stats);
            usage_in(&self.core, inside.stack, cx.stats, resource)
        })
    }

    /// How much the instance holds of every resource, in the order of [`Resource::ALL`].
    ///
    /// # Errors
    /// [`Gone`].
    pub fn usages(&self) -> Result<Vec<Usage>, Gone> {
        Resource::ALL.iter().map(|r| self.usage(*r)).collect()
    }
}

impl OwnedVnet {
    /// Sets how much of a resource the instance may hold from now on; what it holds, it keeps.
    /// [`UNLIMITED`] is no limit.
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
    pub(super) fn limit_to(&self, resource: Resource, limit: u64) -> Result<(), Gone> {
        self.configure(|stack, _| {
            set_in(&self.core, stack, resource, limit);
            Ok(Op::SetLimit { resource, limit })
        })
    }
}

/// Sets a limit of an instance whose lock is held.
pub(super) fn set_in(core: &VnetCore, stack: &mut Stack, resource: Resource, limit: u64) {
    stack.set_limit(resource, limit);
    if resource == Resource::QueuedPackets {
        let frames = usize::try_from(limit).unwrap_or(usize::MAX);
        core.inbox.set_max_frames(frames);
    } else if resource == Resource::Tasks {
        core.tasks.set_limit(limit);
    }
}

/// The use of a resource in an instance whose lock is held. Frames that found no room in the inbox
/// have been [counted](VnetCore::note_overflow).
pub(super) fn usage_in(core: &VnetCore, stack: &Stack, stats: &Stats, resource: Resource) -> Usage {
    let mut usage = stack.usage(stats, resource);
    if resource == Resource::QueuedPackets {
        usage.current = core.inbox.len() as u64;
        usage.high_water = core.inbox.peak() as u64;
        usage.limit = core.inbox.max_frames() as u64;
    } else if resource == Resource::Tasks {
        usage = core.tasks.usage();
    }
    usage
}

/// The limits of a new instance without a parent, in the order of [`Resource::ALL`].
pub(super) fn defaults() -> &'static [u64] {
    static DEFAULTS: OnceLock<Vec<u64>> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        let (stack, stats) = (Stack::new(&mut Rng::seeded(0)), Stats::default());
        let limit = |resource: &Resource| match resource {
            Resource::QueuedPackets => Inbox::new().max_frames() as u64,
            resource => stack.usage(&stats, *resource).limit,
        };
        Resource::ALL.iter().map(limit).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use super::*;
    use crate::instance::{RouteError, System};
    use crate::ip::fib::FibError;
    use crate::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};
    use crate::netif::NetifError;
    use crate::packet::Packet;

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
        assert_eq!(refused, Err(NetifError::Limit("interfaces")));
        assert_eq!(
            b.epair("x", &a, "x"),
            Err(NetifError::Limit("interfaces")),
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
        let limit = usize::try_from(now + 1).expect("small");
        let full = RouteError::Table(FibError::Limit(limit));
        assert_eq!(add(&a, "203.0.113.0/24"), Err(full));
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
            port.send_packet(Packet::incoming(vec![0_u8; 60]))
                .expect("there");
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
