//! Promise: what has a name in `std::net` and `std::thread` has it here, or `docs/parity.md` says why not. The compiler
//! knows whether a name is in the standard library; `golden/public.txt`, which a test holds against the crate, whether it
//! is here.

/// Names of a type, of which the compiler checks that they are in the standard library; those that are missing on purpose
/// behind `but`.
macro_rules! names {
    ($($kind:ident { $($name:ident $(<$of:ty>)?),* } but { $($gone:ident),* })*) => {
        #[allow(deprecated, clippy::no_effect_underscore_binding)]
        fn names() -> Vec<(&'static str, Vec<&'static str>, Vec<&'static str>)> {
            $(
                $(let _in_std = std::net::$kind::$name $(::<$of>)?;)*
                $(let _in_std = std::net::$kind::$gone;)*
            )*
            vec![$((stringify!($kind), vec![$(stringify!($name)),*], vec![$(stringify!($gone)),*])),*]
        }
    };
}

// As of Rust 1.95.
names! {
    TcpStream {
        connect<&str>, connect_timeout, local_addr, nodelay, peek, peer_addr, read_timeout, set_nodelay, set_nonblocking,
        set_read_timeout, set_ttl, set_write_timeout, shutdown, take_error, try_clone, ttl, write_timeout
    } but {}
    TcpListener {
        accept, bind<&str>, incoming, local_addr, set_nonblocking, set_ttl, take_error, try_clone, ttl
    } but { only_v6, set_only_v6 }
    UdpSocket {
        bind<&str>, broadcast, connect<&str>, join_multicast_v4, join_multicast_v6, leave_multicast_v4, leave_multicast_v6,
        local_addr, multicast_loop_v4, multicast_loop_v6, multicast_ttl_v4, peek, peek_from, peer_addr, read_timeout, recv,
        recv_from, send, send_to<&str>, set_broadcast, set_multicast_loop_v4, set_multicast_loop_v6, set_multicast_ttl_v4,
        set_nonblocking, set_read_timeout, set_ttl, set_write_timeout, take_error, try_clone, ttl, write_timeout
    } but {}
}

/// Types and traits, which have to be the standard library's own, or have its names.
mod types {
    #[allow(unused_imports)]
    use std::net::{
        AddrParseError, Incoming, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4,
        SocketAddrV6, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
    };
    #[allow(unused_imports)]
    use vnet::net::{
        Incoming as _, TcpListener as _, TcpStream as _, ToSocketAddrs as _, UdpSocket as _,
    };

    /// The same types: the compiler would say if they were not.
    pub(super) fn same(
        ip: vnet::net::IpAddr,
        v4: vnet::net::Ipv4Addr,
        v6: vnet::net::Ipv6Addr,
        at: [vnet::net::SocketAddr; 3],
        how: vnet::net::Shutdown,
        error: Option<vnet::net::AddrParseError>,
    ) -> (
        IpAddr,
        Ipv4Addr,
        Ipv6Addr,
        [SocketAddr; 3],
        Shutdown,
        Option<AddrParseError>,
    ) {
        (ip, v4, v6, at, how, error)
    }
}

#[test]
fn every_name_of_the_standard_library_is_here_or_missing_on_purpose() {
    let public = include_str!("../golden/public.txt");
    let parity = include_str!("../../docs/parity.md");
    let (mut here, mut missing) = (0, 0);
    for (kind, names, gone) in names() {
        for name in names {
            let entry = format!("net::{kind}.{name} (method)");
            assert!(public.lines().any(|line| line == entry), "no {entry}");
            here += 1;
        }
        for name in gone {
            let entry = format!("net::{kind}.{name} (method)");
            assert!(!public.lines().any(|line| line == entry), "{entry} is here");
            assert!(
                parity.contains(&format!("`{name}`"))
                    || parity.contains(&format!("{kind}::{name}")),
                "why is there no {entry}?"
            );
            missing += 1;
        }
    }
    assert_eq!((here, missing), (57, 2));
    for name in ["spawn", "sleep"] {
        let entry = format!("thread::{name} (fn)");
        assert!(public.lines().any(|line| line == entry), "no {entry}");
    }
}

#[test]
fn addresses_are_the_standard_librarys() {
    let v4 = std::net::Ipv4Addr::LOCALHOST;
    let v6 = std::net::Ipv6Addr::LOCALHOST;
    let at = |text: &str| text.parse().expect("an address");
    let all = [at("192.0.2.1:1"), at("[2001:db8::1]:1"), at("192.0.2.1:2")];
    let error = "nonsense".parse::<std::net::IpAddr>().err();
    let same = types::same(
        v4.into(),
        v4,
        v6,
        all,
        std::net::Shutdown::Both,
        error.clone(),
    );
    assert_eq!(
        same,
        (v4.into(), v4, v6, all, std::net::Shutdown::Both, error)
    );
}
