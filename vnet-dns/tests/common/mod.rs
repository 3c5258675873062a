//! A small name server, and the network that the tests have.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa, Cname};
use vnet::net::{TcpListener, UdpSocket};
use vnet::{LinkConfig, OwnedVnet, System, Vnet};
use vnet_dns::Config;

pub(crate) type FullName = Name<Vec<u8>>;

pub(crate) fn full(text: &str) -> FullName {
    FullName::from_str(text).unwrap()
}

/// What is known of a name.
#[derive(Clone)]
pub(crate) enum Known {
    Addresses(Vec<IpAddr>),
    Alias(&'static str),
    /// There is such a name, and nothing else.
    Nothing,
    /// The server says so.
    Code(Rcode),
}

pub(crate) type Zone = BTreeMap<&'static str, Known>;

pub(crate) fn addresses(texts: &[&str]) -> Known {
    Known::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// Whether aliases are followed, as those do that a stub resolver asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chains {
    Whole,
    Cut,
}

/// The answer to a question, by what is known.
pub(crate) fn answer(query: &[u8], zone: &Zone, chains: Chains) -> Vec<u8> {
    let query = Message::from_slice(query).unwrap();
    let question = query.sole_question().unwrap();
    let mut name = question.qname().to_string().to_ascii_lowercase();
    let mut code = Rcode::NOERROR;
    let mut aliases = Vec::new();
    let mut found = Vec::new();
    loop {
        match zone.get(name.as_str()) {
            Some(Known::Alias(other)) => {
                aliases.push((name.clone(), *other));
                name = (*other).to_owned();
                if chains == Chains::Cut || aliases.len() > 30 {
                    break;
                }
            }
            Some(Known::Addresses(ips)) => {
                let wanted = |ip: &&IpAddr| ip.is_ipv4() == (question.qtype() == Rtype::A);
                found.extend(ips.iter().filter(wanted).copied());
                break;
            }
            Some(Known::Nothing) => break,
            Some(Known::Code(said)) => {
                code = *said;
                break;
            }
            None => {
                code = Rcode::NXDOMAIN;
                break;
            }
        }
    }
    let message = MessageBuilder::new_vec();
    let mut message = message.start_answer(query, code).unwrap();
    for (owner, other) in &aliases {
        let alias = Cname::new(full(other));
        message.push((full(owner), Class::IN, 60, alias)).unwrap();
    }
    for ip in found {
        let owner = full(&name);
        match ip {
            IpAddr::V4(ip) => message.push((owner, Class::IN, 60, A::new(ip))).unwrap(),
            IpAddr::V6(ip) => message.push((owner, Class::IN, 60, Aaaa::new(ip))).unwrap(),
        }
    }
    message.finish()
}

/// Answers datagrams with what `respond` makes of each.
pub(crate) fn serve(
    vnet: &Vnet,
    mut respond: impl FnMut(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
) {
    let socket = UdpSocket::bind_in(vnet, "[::]:53").unwrap();
    let thread = vnet.spawn(move || {
        let mut room = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut room) {
            for message in respond(&room[..len], from) {
                let _ = socket.send_to(&message, from);
            }
        }
    });
    drop(thread.unwrap());
}

/// Answers by what is known.
pub(crate) fn serve_zone(vnet: &Vnet, zone: Zone) {
    serve(vnet, move |query, _| {
        vec![answer(query, &zone, Chains::Whole)]
    });
}

/// Answers connections, one question each.
pub(crate) fn serve_tcp(vnet: &Vnet, mut respond: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) {
    let listener = TcpListener::bind_in(vnet, "[::]:53").unwrap();
    let thread = vnet.spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut len = [0; 2];
            if stream.read_exact(&mut len).is_err() {
                continue;
            }
            let mut query = vec![0; u16::from_be_bytes(len).into()];
            if stream.read_exact(&mut query).is_err() {
                continue;
            }
            let message = respond(&query);
            let _ = stream.write_all(&(message.len() as u16).to_be_bytes());
            let _ = stream.write_all(&message);
        }
    });
    drop(thread.unwrap());
}

/// A host and two servers, each on a link of its own, with half a millisecond one way.
pub(crate) struct Net {
    pub(crate) system: System,
    pub(crate) host: OwnedVnet,
    pub(crate) servers: [OwnedVnet; 2],
}

/// The first server.
pub(crate) const FIRST: &str = "192.0.2.2";
/// The second.
pub(crate) const SECOND: &str = "192.0.2.6";

impl Net {
    pub(crate) fn new(system: System) -> Net {
        let host = system.create("host").unwrap();
        let servers = [
            ("eth0", "192.0.2.1/30", FIRST),
            ("eth1", "192.0.2.5/30", SECOND),
        ];
        let servers = servers.map(|(name, near, far)| {
            let server = system.create(&format!("server-{name}")).unwrap();
            host.epair(name, &server, "eth0").unwrap();
            host.add_address(name, near.parse().unwrap()).unwrap();
            let far = format!("{far}/30").parse().unwrap();
            server.add_address("eth0", far).unwrap();
            let link = LinkConfig {
                delay: Duration::from_micros(500),
                ..LinkConfig::default()
            };
            host.set_link(name, link.clone()).unwrap();
            server.set_link("eth0", link).unwrap();
            server
        });
        let gateway: IpAddr = FIRST.parse().unwrap();
        host.add_route("0.0.0.0/0".parse().unwrap(), gateway)
            .unwrap();
        Net {
            system,
            host,
            servers,
        }
    }

    /// A host that asks both servers.
    pub(crate) fn asking_both() -> Net {
        let net = Net::new(System::virtual_time(1));
        let servers = [FIRST, SECOND].map(|addr| addr.parse().unwrap());
        vnet_dns::install(&net.host, Config::of(servers)).unwrap();
        net
    }

    /// A host that asks the first server.
    pub(crate) fn asking_first() -> Net {
        let net = Net::new(System::virtual_time(1));
        vnet_dns::install(&net.host, Config::of([FIRST.parse().unwrap()])).unwrap();
        net
    }

    pub(crate) fn look_up(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.system.block_on(self.host.lookup(name)).unwrap()
    }

    /// What is found, and how long that takes.
    pub(crate) fn timed(&self, name: &str) -> (std::io::Result<Vec<IpAddr>>, Duration) {
        let before = self.system.now();
        let found = self.look_up(name);
        (found, self.system.now().since(before))
    }

    /// Why nothing is found.
    pub(crate) fn why(&self, name: &str) -> vnet_dns::Error {
        let error = self.look_up(name).unwrap_err();
        vnet_dns::cause(&error)
            .unwrap_or_else(|| panic!("{error}"))
            .clone()
    }
}

pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
