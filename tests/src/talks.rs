//! What a scripted station has heard of its TCP conversations with a vnet, so that a script can
//! speak to where each of them stands: a little before, at, or half the sequence space behind
//! the ends of the vnet's windows.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::frames::{ACK, FIN, SYN, Segment, tcp};

/// A number measured from one end of a window.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// So far behind the window's first number.
    First(u32),
    /// So far behind its last one.
    Last(u32),
}

impl Place {
    /// The number itself, in a window with these ends.
    pub fn of(self, (first, last): (u32, u32)) -> u32 {
        match self {
            Place::First(by) => first.wrapping_add(by),
            Place::Last(by) => last.wrapping_add(by),
        }
    }
}

/// What a station says next, its numbers relative to the conversation.
#[derive(Clone, Debug)]
pub struct Saying {
    /// Control bits.
    pub flags: u8,
    /// Sequence number, in what the vnet has promised to take.
    pub seq: Place,
    /// Acknowledgement, in what the vnet has sent and not had acknowledged.
    pub ack: Place,
    /// The window as it stands on the wire.
    pub window: u16,
    /// The timestamps, as distances from those that the vnet knows and has sent.
    pub timestamp: Option<(u32, u32)>,
    /// Selective acknowledgements, as `ack`.
    pub sack: Vec<(Place, Place)>,
    /// Body.
    pub body: Vec<u8>,
}

/// One conversation, as the vnet sees it.
#[derive(Clone, Copy, Debug)]
struct Talk {
    /// The station's address.
    local: SocketAddrV4,
    /// The vnet's address.
    remote: SocketAddrV4,
    /// What it expects next, and the end of its window.
    expected: (u32, u32),
    /// What it has sent: the oldest number not acknowledged, and what comes behind the last.
    sent: (u32, u32),
    /// The last timestamp it has seen, and the last one it has sent.
    timestamps: (u32, u32),
    shift: u8,
}

/// The conversations of one station, the latest last.
#[derive(Debug, Default)]
pub struct Talks {
    talks: Vec<Talk>,
}

/// Older conversations are forgotten.
const KEPT: usize = 16;

impl Talks {
    /// Takes note of the IP packets that a vnet has sent.
    pub fn hear(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            // The fixed part of both headers, and no fragment but a first one.
            let header = usize::from(packet[0] & 15) * 4;
            let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
            if packet[9] == 6 && offset == 0 && packet.len() >= header + 20 {
                self.hear_segment(packet, &packet[header..]);
            }
        }
    }

    fn hear_segment(&mut self, ip: &[u8], tcp: &[u8]) {
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let local = SocketAddrV4::new(address(16), half(2));
        let remote = SocketAddrV4::new(address(12), half(0));
        let (seq, ack, flags, window) = (word(4), word(8), tcp[13], u32::from(half(14)));
        let head = (usize::from(tcp[12] >> 4) * 4).clamp(20, tcp.len());
        let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let end = seq.wrapping_add((tcp.len() - head) as u32 + control);
        let known = |t: &Talk| t.local == local && t.remote == remote;
        let mut talk = match self.talks.iter().position(known) {
            Some(at) => self.talks.remove(at),
            None => Talk {
                local,
                remote,
                expected: (seq, seq),
                sent: (seq, seq),
                timestamps: (0, 0),
                shift: 0,
            },
        };
        if flags & SYN != 0 {
            talk.sent = (seq, seq);
            talk.shift = option(&tcp[20..head], 3).map_or(0, |[shift]: [u8; 1]| shift.min(14));
        }
        if end.wrapping_sub(talk.sent.0) > talk.sent.1.wrapping_sub(talk.sent.0) {
            talk.sent.1 = end;
        }
        if flags & ACK != 0 {
            let shift = if flags & SYN != 0 { 0 } else { talk.shift };
            talk.expected = (ack, ack.wrapping_add(window << shift));
        }
        if let Some([a, b, c, d, e, f, g, h]) = option(&tcp[20..head], 8) {
            let [value, echo] = [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes);
            talk.timestamps = (echo, value);
        }
        self.talks.push(talk);
        if self.talks.len() > KEPT {
            self.talks.remove(0);
        }
    }

    /// The segment that says `what` in the `n`th conversation, counted from the latest, modulo
    /// their number; with the address it is for.
    pub fn say(&mut self, n: usize, what: &Saying) -> Option<(Ipv4Addr, Vec<u8>)> {
        let count = self.talks.len();
        let talk = self
            .talks
            .get_mut(count.checked_sub(1 + n % count.max(1))?)?;
        let ack = what.ack.of(talk.sent);
        let mut options = Vec::new();
        if let Some((value, echo)) = what.timestamp {
            options.extend([1, 1, 8, 10]);
            options.extend(talk.timestamps.0.wrapping_add(value).to_be_bytes());
            options.extend(talk.timestamps.1.wrapping_add(echo).to_be_bytes());
        }
        let blocks = &what.sack[..what.sack.len().min(3)];
        if !blocks.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (left, right) in blocks {
                options.extend(left.of(talk.sent).to_be_bytes());
                options.extend(right.of(talk.sent).to_be_bytes());
            }
        }
        let segment = Segment {
            seq: what.seq.of(talk.expected),
            ack,
            flags: what.flags,
            window: what.window,
            options,
        };
        let bytes = tcp(talk.local, talk.remote, &segment, &what.body);
        let flight = talk.sent.1.wrapping_sub(talk.sent.0);
        if what.flags & ACK != 0 && ack.wrapping_sub(talk.sent.0) <= flight {
            talk.sent.0 = ack;
        }
        Some((*talk.remote.ip(), bytes))
    }

    /// How many conversations there are.
    pub fn len(&self) -> usize {
        self.talks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.talks.is_empty()
    }
}

/// The body of the first option of a kind, if it has the length of that kind: a link may have changed it.
fn option<const N: usize>(mut options: &[u8], kind: u8) -> Option<[u8; N]> {
    loop {
        match *options {
            [1, ref rest @ ..] => options = rest,
            [k, len, ref rest @ ..] if k > 1 && len >= 2 => {
                let body = rest.get(..usize::from(len) - 2)?;
                if k == kind {
                    return body.try_into().ok();
                }
                options = &rest[body.len()..];
            }
            _ => return None,
        }
    }
}
