//! Promise: names are looked up at name servers as a host does it, and whatever a server sends, the answer is right or an error.

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{
    Chains, FIRST, Known, Net, SECOND, Zone, addresses, answer, full, ips, serve, serve_tcp,
    serve_zone,
};
use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::A;
use proptest::prelude::*;
use vnet::link::Loss;
use vnet::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use vnet::{LinkConfig, RouterConfig, System};
use vnet_dns::{Config, ConfigError, Error};

fn zone() -> Zone {
    BTreeMap::from([
        ("www.example", addresses(&["192.0.2.80", "2001:db8::80"])),
        ("only4.example", addresses(&["192.0.2.4"])),
        ("only6.example", addresses(&["2001:db8::6"])),
        ("alias.example", Known::Alias("other.example")),
        ("other.example", Known::Alias("www.example")),
        ("round.example", Known::Alias("about.example")),
        ("about.example", Known::Alias("round.example")),
        ("mail.example", Known::Nothing),
        ("broken.example", Known::Code(Rcode::SERVFAIL)),
        ("secret.example", Known::Code(Rcode::REFUSED)),
        ("intra.example.net", addresses(&["192.0.2.7"])),
        ("a.b", addresses(&["192.0.2.10"])),
        ("a.b.example.net", addresses(&["192.0.2.11"])),
    ])
}

#[test]
fn addresses_of_both_families_are_found_and_ordered() {
    let net = Net::asking_first();
    serve_zone(&net.servers[0], zone());
    // The host has no way to IPv6 (RFC 6724, rule 1).
    let both = ips(&["192.0.2.80", "2001:db8::80"]);
    assert_eq!(net.look_up("www.example").unwrap(), both);
    assert_eq!(net.look_up("WWW.Example.").unwrap(), both);
    assert_eq!(net.look_up("alias.example").unwrap(), both);
    let only4 = ips(&["192.0.2.4"]);
    assert_eq!(net.look_up("only4.example").unwrap(), only4);
    let only6 = ips(&["2001:db8::6"]);
    assert_eq!(net.look_up("only6.example").unwrap(), only6);
    // The table of hosts comes first.
    let table = BTreeMap::from([("www.example".to_owned(), ips(&["192.0.2.99"]))]);
    net.host.set_hosts(Arc::new(table)).unwrap();
    assert_eq!(net.look_up("www.example").unwrap(), ips(&["192.0.2.99"]));
}

#[test]
fn sockets_take_names() {
    let net = Net::asking_first();
    let here = BTreeMap::from([("server", addresses(&[FIRST]))]);
    serve_zone(&net.servers[0], here);
    let listener = TcpListener::bind_in(&net.servers[0], "0.0.0.0:80").unwrap();
    // A thread blocks meanwhile, whether or not it takes turns with others.
    let stream = TcpStream::connect_in(&net.host, "server:80").unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), FIRST);
    let thread = net.host.spawn(|| ("server", 80).to_socket_addrs()).unwrap();
    let mut found = thread.join().unwrap().unwrap();
    assert_eq!(found.next(), Some(stream.peer_addr().unwrap()));
    drop(listener);
}

#[test]
fn errors_say_what_a_server_says() {
    let net = Net::asking_first();
    serve_zone(&net.servers[0], zone());
    let name = |text: &str| text.to_owned();
    assert_eq!(net.why("nobody"), Error::NoSuchName(name("nobody")));
    let error = net.look_up("nobody").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mail = "mail.example";
    assert_eq!(net.why(mail), Error::NoAddress(name(mail)));
    let round = "round.example";
    assert_eq!(net.why(round), Error::TooManyAliases(name(round)));
    for (asked, says) in [
        ("broken.example", "SERVFAIL"),
        ("secret.example", "REFUSED"),
    ] {
        let Error::Failed { code, .. } = net.why(asked) else {
            panic!("{asked}: {}", net.why(asked));
        };
        assert_eq!(code, says);
    }
    let long = ["x"; 64].concat();
    assert_eq!(net.why(&long), Error::BadName(long.clone()));
}

#[test]
fn no_server_is_an_error_and_so_is_what_cannot_be_meant() {
    let net = Net::new(System::virtual_time(1));
    vnet_dns::install(&net.host, Config::default()).unwrap();
    assert_eq!(net.why("www"), Error::NoServer("www".to_owned()));
    let refused = |config| vnet_dns::install(&net.host, config).unwrap_err();
    let first: IpAddr = FIRST.parse().unwrap();
    let base = || Config::of([first]);
    let many = Config::of(vec![first; 17]);
    assert_eq!(refused(many), ConfigError::TooMany);
    let group = "224.0.0.251:53".parse().unwrap();
    let servers = vec![group];
    let group_is_none = Config { servers, ..base() };
    assert_eq!(refused(group_is_none), ConfigError::Server(group));
    let search = vec!["a..b".to_owned()];
    let none = ConfigError::Search("a..b".to_owned());
    assert_eq!(refused(Config { search, ..base() }), none);
    let timeout = Duration::ZERO;
    assert_eq!(refused(Config { timeout, ..base() }), ConfigError::Timeout);
    for attempts in [0, 11] {
        let config = Config { attempts, ..base() };
        assert_eq!(refused(config), ConfigError::Attempts(attempts));
    }
}

/// Every name is asked for in the order of `resolv.conf(5)`.
#[test]
fn names_are_looked_for_in_domains() {
    let net = Net::new(System::virtual_time(1));
    serve_zone(&net.servers[0], zone());
    let search = vec!["nowhere.example".to_owned(), "example.net".to_owned()];
    let config = |ndots| Config {
        search: search.clone(),
        ndots,
        ..Config::of([FIRST.parse().unwrap()])
    };
    vnet_dns::install(&net.host, config(1)).unwrap();
    assert_eq!(net.look_up("intra").unwrap(), ips(&["192.0.2.7"]));
    assert_eq!(net.why("intra."), Error::NoSuchName("intra.".to_owned()));
    assert_eq!(net.look_up("a.b").unwrap(), ips(&["192.0.2.10"]));
    vnet_dns::install(&net.host, config(2)).unwrap();
    assert_eq!(net.look_up("a.b").unwrap(), ips(&["192.0.2.11"]));
    assert_eq!(net.look_up("a.b.").unwrap(), ips(&["192.0.2.10"]));
    assert_eq!(
        net.look_up("www.example").unwrap().len(),
        2,
        "as it is, at last"
    );
}

#[test]
fn an_alias_whose_end_is_not_told_is_asked_for() {
    let net = Net::asking_first();
    serve(&net.servers[0], |query, _| {
        vec![answer(query, &zone(), Chains::Cut)]
    });
    assert_eq!(net.look_up("alias.example").unwrap().len(), 2);
    let round = "round.example".to_owned();
    assert_eq!(net.why("round.example"), Error::TooManyAliases(round));
}

/// A dead server costs its timeout, each time; one whose port is closed costs nothing.
#[test]
fn of_two_servers_one_may_be_dead() {
    let net = Net::asking_both();
    let deaf = UdpSocket::bind_in(&net.servers[0], "0.0.0.0:53").unwrap();
    serve_zone(&net.servers[1], zone());
    let (found, took) = net.timed("only4.example");
    assert_eq!(found.unwrap(), ips(&["192.0.2.4"]));
    let five = Duration::from_secs(5);
    assert!(took > five && took < five + five / 100, "{took:?}");
    drop(deaf);
    let (found, took) = net.timed("only4.example");
    assert_eq!(found.unwrap(), ips(&["192.0.2.4"]));
    assert!(took < five / 100, "{took:?}");
}

/// Two rounds, of five seconds and of ten for each server.
#[test]
fn when_nobody_answers_it_takes_two_rounds() {
    let net = Net::asking_both();
    let deaf = [0, 1].map(|n| UdpSocket::bind_in(&net.servers[n], "0.0.0.0:53").unwrap());
    let (found, took) = net.timed("www.example");
    assert_eq!(found.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(took, Duration::from_secs(5 + 5 + 10 + 10));
    let Error::TimedOut { name, server } = net.why("www.example") else {
        panic!("not in time");
    };
    assert_eq!(
        (name.as_str(), server.ip()),
        ("www.example", SECOND.parse().unwrap())
    );
    drop(deaf);
    let Error::Unreachable { kind, .. } = net.why("www.example") else {
        panic!("the ports are closed");
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
}

/// What a server cannot do, another one may.
#[test]
fn a_server_that_fails_is_passed_over() {
    let net = Net::asking_both();
    let broken = BTreeMap::from([("www.example", Known::Code(Rcode::SERVFAIL))]);
    serve_zone(&net.servers[0], broken);
    serve_zone(&net.servers[1], zone());
    let (found, took) = net.timed("www.example");
    assert_eq!(found.unwrap().len(), 2);
    assert!(took < Duration::from_millis(100), "{took:?}");
    // That there is no such name is an answer.
    let only4 = "only4.example";
    assert_eq!(net.why(only4), Error::NoSuchName(only4.to_owned()));
}

#[test]
fn loss_costs_time_and_no_answers() {
    for seed in 0..10 {
        let net = Net::new(System::virtual_time(seed));
        let config = Config {
            attempts: 10,
            timeout: Duration::from_secs(1),
            ..Config::of([FIRST.parse().unwrap()])
        };
        vnet_dns::install(&net.host, config).unwrap();
        let lossy = LinkConfig {
            loss: Loss::Random(0.3),
            ..LinkConfig::default()
        };
        net.host.set_link("eth0", lossy.clone()).unwrap();
        net.servers[0].set_link("eth0", lossy).unwrap();
        serve_zone(&net.servers[0], zone());
        assert_eq!(net.look_up("www.example").unwrap().len(), 2, "{seed}");
    }
}

fn cut(mut message: Vec<u8>) -> Vec<u8> {
    // TC.
    message[2] |= 2;
    message
}

#[test]
fn what_does_not_fit_a_datagram_comes_by_tcp() {
    let net = Net::asking_first();
    let many: Vec<String> = (0..1000)
        .map(|n| format!("198.18.{}.{}", n / 250, n % 250))
        .collect();
    let texts: Vec<&str> = many.iter().map(String::as_str).collect();
    let zone = BTreeMap::from([("many.example", addresses(&texts))]);
    let short = BTreeMap::from([("many.example", Known::Nothing)]);
    serve(&net.servers[0], move |query, _| {
        vec![cut(answer(query, &short, Chains::Whole))]
    });
    // Nobody listens yet.
    let Error::Unreachable { kind, .. } = net.why("many.example") else {
        panic!("there is no listener");
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    serve_tcp(&net.servers[0], move |query| {
        answer(query, &zone, Chains::Whole)
    });
    assert_eq!(net.look_up("many.example").unwrap(), ips(&texts));
}

#[test]
fn a_server_that_cuts_what_it_sends_by_tcp_has_sent_nothing() {
    let net = Net::asking_first();
    serve(&net.servers[0], |query, _| {
        vec![cut(answer(query, &zone(), Chains::Whole))]
    });
    serve_tcp(&net.servers[0], |query| {
        cut(answer(query, &zone(), Chains::Whole))
    });
    assert!(matches!(net.why("www.example"), Error::Malformed { .. }));
}

/// A server older than RFC 6891.
#[test]
fn a_server_that_knows_no_extensions_is_asked_without() {
    let net = Net::asking_first();
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    serve(&net.servers[0], move |query, _| {
        let message = Message::from_slice(query).unwrap();
        if message.opt().is_none() {
            return vec![answer(query, &zone(), Chains::Whole)];
        }
        assert_eq!(message.opt().unwrap().udp_payload_size(), 1232);
        // One answers with the question, another one with a header only.
        let n = count.fetch_add(1, Ordering::Relaxed);
        let mut said = MessageBuilder::new_vec();
        let header = said.header_mut();
        header.set_id(message.header().id());
        header.set_qr(true);
        header.set_rcode(Rcode::FORMERR);
        vec![match n % 2 {
            0 => said.finish(),
            _ => {
                let said = MessageBuilder::new_vec();
                said.start_answer(message, Rcode::FORMERR).unwrap().finish()
            }
        }]
    });
    assert_eq!(net.look_up("www.example").unwrap().len(), 2);
    assert_eq!(refused.load(Ordering::Relaxed), 2);
}

/// A lie: the true answer, changed.
fn lies(query: &[u8]) -> Vec<Vec<u8>> {
    let message = Message::from_slice(query).unwrap();
    let evil: IpAddr = "203.0.113.66".parse().unwrap();
    let evil6: IpAddr = "2001:db8::66".parse().unwrap();
    let name = message.sole_question().unwrap().qname().to_string();
    let name: &'static str = String::leak(name);
    let poisoned = BTreeMap::from([(name, Known::Addresses(vec![evil, evil6]))]);
    let poison = answer(query, &poisoned, Chains::Whole);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut poison = poison.clone();
        change(&mut poison);
        poison
    };
    let other_question = {
        let mut other = MessageBuilder::new_vec();
        other.header_mut().set_id(message.header().id());
        other.header_mut().set_qr(true);
        let mut other = other.question();
        other.push((full("evil.example"), Rtype::A)).unwrap();
        let mut other = other.answer();
        let owner = full("www.example");
        let record = (owner, Class::IN, 60, A::new([203, 0, 113, 66].into()));
        other.push(record).unwrap();
        other.finish()
    };
    vec![
        changed(&|m| m[0] ^= 0x55),
        changed(&|m| m[2] &= !0x80),
        changed(&|m| m.truncate(12)),
        changed(&|m| m.truncate(m.len() - 1)),
        changed(&|m| m[13] ^= 1),
        changed(&|m| m[5] = 2),
        changed(&|m| m[7] = 0xff),
        other_question,
        Vec::new(),
        vec![0xff; 600],
    ]
}

#[test]
fn lies_are_not_believed_and_do_not_keep_the_truth_away() {
    let net = Net::asking_first();
    // Somebody at the server's host who has seen the question, but is not the server.
    let spoofer = UdpSocket::bind_in(&net.servers[0], "0.0.0.0:5353").unwrap();
    serve(&net.servers[0], move |query, from| {
        let poison = BTreeMap::from([("www.example", addresses(&["203.0.113.66"]))]);
        let v4 = match from {
            std::net::SocketAddr::V6(at) => at.ip().to_ipv4_mapped().unwrap(),
            std::net::SocketAddr::V4(at) => *at.ip(),
        };
        spoofer
            .send_to(&answer(query, &poison, Chains::Whole), (v4, from.port()))
            .unwrap();
        let mut sent = lies(query);
        sent.push(answer(query, &zone(), Chains::Whole));
        sent
    });
    let both = ips(&["192.0.2.80", "2001:db8::80"]);
    let (found, took) = net.timed("www.example");
    assert_eq!(found.unwrap(), both);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_server_that_only_lies_is_given_up() {
    let net = Net::asking_first();
    serve(&net.servers[0], |query, _| lies(query));
    let (found, took) = net.timed("www.example");
    assert_eq!(found.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(took, Duration::from_secs(15));
    // More of it ends sooner.
    let net = Net::asking_first();
    serve(&net.servers[0], |query, _| {
        (0..20).flat_map(|_| lies(query)).collect()
    });
    let (found, took) = net.timed("www.example");
    assert_eq!(found.unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A question is not guessed: its port and number differ each time, and follow from the seed.
#[test]
fn questions_are_random_and_the_same_with_the_same_seed() {
    let run = |seed| {
        let net = Net::new(System::virtual_time(seed));
        vnet_dns::install(&net.host, Config::of([FIRST.parse().unwrap()])).unwrap();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        serve(&net.servers[0], move |query, from| {
            note.lock().unwrap().push((query[0], query[1], from.port()));
            vec![answer(query, &zone(), Chains::Whole)]
        });
        for _ in 0..20 {
            net.look_up("www.example").unwrap();
        }
        seen.lock().unwrap().clone()
    };
    let one = run(1);
    assert_eq!(one.len(), 40);
    assert_eq!(one, run(1));
    assert_ne!(one, run(2));
    let numbers: std::collections::BTreeSet<_> = one.iter().map(|q| (q.0, q.1)).collect();
    let ports: std::collections::BTreeSet<_> = one.iter().map(|q| q.2).collect();
    assert!(numbers.len() > 38 && ports.len() > 38);
}

/// RFC 8106: what a router says is enough.
#[test]
fn servers_that_a_router_names_are_asked() {
    let system = System::virtual_time(1);
    let (host, router) = (
        system.create("host").unwrap(),
        system.create("router").unwrap(),
    );
    host.epair("eth0", &router, "eth0").unwrap();
    router
        .add_address("eth0", "2001:db8::1/64".parse().unwrap())
        .unwrap();
    router.set_forwarding(vnet::Forwarding::Enabled).unwrap();
    let said = RouterConfig {
        dns: vec!["2001:db8::1".parse().unwrap()],
        search: vec!["example.net".to_owned()],
        ..RouterConfig::default()
    };
    router.set_router("eth0", Some(said)).unwrap();
    router
        .set_sysctl("net.inet6.ip6.rtadv_interval", 5000)
        .unwrap();
    host.set_sysctl("net.inet6.ip6.accept_rtadv", 1).unwrap();
    serve_zone(&router, zone());
    vnet_dns::install(&host, Config::default()).unwrap();
    system.run_for(Duration::from_secs(30)).unwrap();
    let found = system.block_on(host.lookup("intra")).unwrap();
    assert_eq!(found.unwrap(), ips(&["192.0.2.7"]));
}

#[test]
fn it_works_in_real_time() {
    let net = Net::new(System::threads());
    // However busy the machine is.
    let timeout = Duration::from_secs(60);
    let servers = Config::of([FIRST.parse().unwrap()]);
    vnet_dns::install(&net.host, Config { timeout, ..servers }).unwrap();
    serve_zone(&net.servers[0], zone());
    assert_eq!(net.look_up("alias.example").unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(24), ..ProptestConfig::default() })]

    /// Whatever comes, there is an answer or an error, and in time.
    #[test]
    fn any_bytes_are_survived(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        by_tcp in any::<bool>(),
    ) {
        let net = Net::asking_first();
        let bend = move |query: &[u8]| {
            let mut message = answer(query, &zone(), Chains::Whole);
            for (at, mask) in &flips {
                let at = at.index(message.len());
                message[at] ^= mask;
            }
            message
        };
        let tcp = bend.clone();
        serve_tcp(&net.servers[0], tcp);
        serve(&net.servers[0], move |query, _| {
            let mut sent = garbage.clone();
            // Garbage with the right number.
            sent.extend(garbage.iter().map(|g| [&query[..2], g].concat()));
            sent.push(match by_tcp {
                true => cut(answer(query, &zone(), Chains::Whole)),
                false => bend(query),
            });
            sent
        });
        let (found, took) = net.timed("alias.example");
        if let Err(error) = found {
            prop_assert!(vnet_dns::cause(&error).is_some() || error.kind() == ErrorKind::NotFound, "{error}");
        }
        prop_assert!(took <= Duration::from_secs(15 * 20), "{took:?}");
    }
}
