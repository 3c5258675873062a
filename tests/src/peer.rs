//! A scripted station at the outside end of a port: it answers ARP and nothing else, and sends
//! what it is told. So a test can bring a connection of the vnet into any state and leave it
//! there.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use vnet::{MacAddr, Port, System, Vnet};

use crate::frames::{
    ACK, ARP, ETHER_LEN, IPV4, Ip4, SYN, Segment, Station, arp, ethernet, syn_options, tcp,
};

/// A scripted station.
pub struct Peer {
    system: System,
    /// The outside end of the wire to the vnet.
    pub port: Port,
    /// The station itself.
    pub me: Station,
    /// The vnet's interface.
    pub vnet: Station,
    /// ARP requests answered so far.
    pub answered: Cell<u64>,
}

/// One direction-less conversation: what the next segment of the peer says.
#[derive(Clone, Copy, Debug)]
pub struct Conversation {
    /// The peer's address.
    pub local: SocketAddrV4,
    /// The vnet's address.
    pub remote: SocketAddrV4,
    /// The peer's next sequence number.
    pub seq: u32,
    /// What the peer expects next.
    pub ack: u32,
}

/// A TCP segment as it came from the vnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its source port.
    pub src_port: u16,
    /// Its destination port.
    pub dst_port: u16,
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its control bits.
    pub flags: u8,
    /// What its timestamp option says the sender's clock is.
    pub timestamp: Option<u32>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Peer {
    /// Makes interface `name` of `vnet` with address 192.0.`net`.1/24, and a peer at
    /// 192.0.`net`.9 on its wire. The system is a manual one.
    ///
    /// # Panics
    /// When the name or the address is taken.
    pub fn new(system: &System, vnet: &Vnet, name: &str, net: u8) -> Peer {
        let ours = Station {
            mac: [2, 0, 0, 0, net, 1],
            ip: Ipv4Addr::new(192, 0, net, 1),
        };
        let me = Station {
            mac: [2, 0, 0, 0, net, 9],
            ip: Ipv4Addr::new(192, 0, net, 9),
        };
        let port = vnet
            .port(name, Some(MacAddr(ours.mac)))
            .expect("the name is free");
        vnet.add_address(name, format!("{}/24", ours.ip).parse().expect("an address"))
            .expect("the address is free");
        Peer {
            system: system.clone(),
            port,
            me,
            vnet: ours,
            answered: Cell::new(0),
        }
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// When the port refuses it.
    pub fn send_frame(&self, frame: Vec<u8>) {
        self.port.send(frame).expect("the port takes the frame");
    }

    /// Sends an IP packet to the vnet's station.
    ///
    /// # Panics
    /// When the port refuses it.
    pub fn send_packet(&self, packet: &[u8]) {
        self.send_frame(ethernet(self.vnet.mac, self.me.mac, IPV4, packet));
    }

    /// Sends `body` in an IP packet of protocol `proto` to the vnet's address.
    ///
    /// # Panics
    /// When the port refuses it.
    pub fn send(&self, proto: u8, body: &[u8]) {
        self.send_packet(&Ip4::new(self.me.ip, self.vnet.ip, proto).packet(body));
    }

    /// Lets the vnet do what is due, answers its ARP requests, and returns the IP packets that it
    /// sent. The clock stands still.
    pub fn exchange(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            self.system.poll(self.system.now());
            let mut answered = false;
            while let Some(frame) = self.port.recv() {
                let frame = frame.to_vec();
                let body = &frame[ETHER_LEN..];
                match u16::from_be_bytes([frame[12], frame[13]]) {
                    ARP if body[7] == 1 && body.get(24..28) == Some(&self.me.ip.octets()) => {
                        let reply = arp(2, self.me, self.vnet);
                        let reply = ethernet(self.vnet.mac, self.me.mac, ARP, &reply);
                        // The interface may have gone since it asked.
                        if self.port.send(reply).is_err() {
                            continue;
                        }
                        self.answered.set(self.answered.get() + 1);
                        answered = true;
                    }
                    IPV4 => packets.push(body.to_vec()),
                    _ => {}
                }
            }
            if !answered {
                return packets;
            }
        }
    }

    /// As [`Peer::exchange`], with the clock moved by `time` first.
    pub fn exchange_after(&self, time: Duration) -> Vec<Vec<u8>> {
        self.system.poll(self.system.now() + time);
        self.exchange()
    }

    /// The TCP segments among what [`Peer::exchange`] returns.
    pub fn segments(&self) -> Vec<Received> {
        self.exchange().iter().filter_map(|p| segment(p)).collect()
    }

    /// An address of this station.
    pub fn addr(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.me.ip, port)
    }

    /// Sends a segment of a conversation and counts what it takes up of the sequence space.
    ///
    /// # Panics
    /// When the port refuses it.
    pub fn say(&self, talk: &mut Conversation, flags: u8, body: &[u8]) {
        let segment = Segment {
            seq: talk.seq,
            ack: talk.ack,
            flags,
            window: 0xffff,
            options: match flags & SYN {
                0 => Vec::new(),
                _ => syn_options()[..4].to_vec(),
            },
        };
        self.send(6, &tcp(talk.local, talk.remote, &segment, body));
        let control = (flags & SYN != 0) as u32 + (flags & crate::frames::FIN != 0) as u32;
        talk.seq = talk.seq.wrapping_add(body.len() as u32 + control);
    }

    /// Sends a SYN from port `from` to the vnet's port `to`; the vnet's SYN is acknowledged with
    /// the next segment that is said.
    ///
    /// # Panics
    /// When no SYN comes back.
    pub fn knock(&self, from: u16, to: u16) -> Conversation {
        let mut talk = Conversation {
            local: self.addr(from),
            remote: SocketAddrV4::new(self.vnet.ip, to),
            seq: 1000 + u32::from(from),
            ack: 0,
        };
        self.say(&mut talk, SYN, &[]);
        let answers = self.segments();
        let answer = answers
            .iter()
            .find(|s| s.dst_port == from && s.flags == SYN | ACK)
            .unwrap_or_else(|| panic!("no SYN-ACK among {answers:?}"));
        talk.ack = answer.seq.wrapping_add(1);
        talk
    }

    /// Opens a connection from port `from` to the vnet's port `to`, where somebody listens.
    ///
    /// # Panics
    /// When nobody does.
    pub fn open(&self, from: u16, to: u16) -> Conversation {
        let mut talk = self.knock(from, to);
        self.say(&mut talk, ACK, &[]);
        self.exchange();
        talk
    }
}

/// The TCP segment in an IP packet, if there is one.
pub fn segment(packet: &[u8]) -> Option<Received> {
    if packet[9] != 6 {
        return None;
    }
    let bytes = &packet[usize::from(packet[0] & 15) * 4..];
    let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    Some(Received {
        src_port: half(0),
        dst_port: half(2),
        seq: word(4),
        ack: word(8),
        flags: bytes[13],
        timestamp: timestamp(&bytes[20..usize::from(bytes[12] >> 4) * 4]),
        body: bytes[usize::from(bytes[12] >> 4) * 4..].to_vec(),
    })
}

/// The sender's clock in a timestamp option (RFC 7323, section 3.2).
fn timestamp(mut options: &[u8]) -> Option<u32> {
    loop {
        options = match options {
            [8, 10, a, b, c, d, ..] => return Some(u32::from_be_bytes([*a, *b, *c, *d])),
            [1, rest @ ..] => rest,
            [kind, len, ..] if *kind > 1 && *len > 1 => options.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
}
