//! LLDPDUs (IEEE 802.1AB-2016, clause 8): what a station says of itself and of the port by which it says
//! it. Read are the fields that are shown; others are checked for their length and skipped.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::packet::MacAddr;

/// Bytes that a field may hold: its length has nine bits.
const MAX_FIELD: usize = 511;
/// Bytes of what names a chassis or a port (clauses 8.5.2 and 8.5.3).
const MAX_ID: usize = 255;
/// Bytes of a text (clauses 8.5.5 to 8.5.7).
const MAX_TEXT: usize = 255;

/// Types of fields (table 8-1).
mod field {
    pub(super) const END: u8 = 0;
    pub(super) const CHASSIS: u8 = 1;
    pub(super) const PORT: u8 = 2;
    pub(super) const TIME_TO_LIVE: u8 = 3;
    pub(super) const PORT_DESCRIPTION: u8 = 4;
    pub(super) const SYSTEM_NAME: u8 = 5;
    pub(super) const CAPABILITIES: u8 = 7;
}

/// What names a chassis, or a port of one. Two of one subtype with the same bytes are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identifier {
    subtype: u8,
    bytes: Box<[u8]>,
}

/// The subtype of a chassis that a name of its own kind names (table 8-2).
const CHASSIS_LOCAL: u8 = 7;
/// The subtype of a port that its interface's name names (table 8-3).
const PORT_INTERFACE_NAME: u8 = 5;

impl Identifier {
    fn new(subtype: u8, text: &str) -> Identifier {
        let bytes = cut(text, MAX_ID).as_bytes().into();
        Identifier { subtype, bytes }
    }

    /// That of a chassis of this name.
    pub(crate) fn chassis(name: &str) -> Identifier {
        Identifier::new(CHASSIS_LOCAL, name)
    }

    /// That of a port that is the interface of this name.
    pub(crate) fn port(interface: &str) -> Identifier {
        Identifier::new(PORT_INTERFACE_NAME, interface)
    }

    fn parse(value: &[u8]) -> Result<Identifier, BadLldpdu> {
        // Clause 8.5.2: a subtype, and 1 to 255 bytes.
        match value {
            [subtype, bytes @ ..] if (1..=MAX_ID).contains(&bytes.len()) => Ok(Identifier {
                subtype: *subtype,
                bytes: bytes.into(),
            }),
            _ => Err(BadLldpdu),
        }
    }

    fn emit(&self, kind: u8, into: &mut Vec<u8>) {
        put(kind, &[&[self.subtype], &self.bytes], into);
    }

    /// As text, for a chassis or a port: the subtypes of the two that are addresses differ by one.
    fn write(&self, f: &mut String, address: [u8; 2]) {
        let is_mac = self.subtype == address[0];
        let is_ip = self.subtype == address[1];
        let written = match &*self.bytes {
            [a, b, c, d, e, g] if is_mac => write!(f, "{}", MacAddr([*a, *b, *c, *d, *e, *g])),
            [1, a, b, c, d] if is_ip => write!(f, "{}", Ipv4Addr::new(*a, *b, *c, *d)),
            [2, ip @ ..] if is_ip && ip.len() == 16 => {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(ip);
                write!(f, "{}", Ipv6Addr::from(bytes))
            }
            bytes => {
                f.push_str(&text(bytes));
                Ok(())
            }
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    /// A chassis's, as text.
    pub(crate) fn chassis_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, [4, 5]);
        text
    }

    /// A port's, as text.
    pub(crate) fn port_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, [3, 4]);
        text
    }
}

/// What a station can do (clause 8.5.8), a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u16);

impl Capabilities {
    pub(crate) const BRIDGE: u16 = 1 << 2;
    pub(crate) const ROUTER: u16 = 1 << 4;
    pub(crate) const STATION: u16 = 1 << 7;

    /// Those of a vnet: one that does neither is a station only.
    pub(crate) fn of(bridges: bool, routes: bool) -> Capabilities {
        let bridge = if bridges { Capabilities::BRIDGE } else { 0 };
        let router = if routes { Capabilities::ROUTER } else { 0 };
        match bridge | router {
            0 => Capabilities(Capabilities::STATION),
            both => Capabilities(both),
        }
    }

    /// Their names (table 8-4), by bit.
    const NAMES: [&str; 11] = [
        "other",
        "repeater",
        "bridge",
        "wlan-ap",
        "router",
        "telephone",
        "docsis",
        "station",
        "c-vlan",
        "s-vlan",
        "two-port-relay",
    ];
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, name) in Capabilities::NAMES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// What a station says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lldpdu {
    pub(crate) chassis: Identifier,
    pub(crate) port: Identifier,
    /// For how many seconds it holds; 0 says that it holds no more.
    pub(crate) ttl: u16,
    pub(crate) port_description: Option<Box<str>>,
    pub(crate) system_name: Option<Box<str>>,
    /// What it can do, and does.
    pub(crate) capabilities: Option<Capabilities>,
}

/// What came in is no LLDPDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLldpdu;

impl Lldpdu {
    /// Reads one, which may have padding behind its end.
    ///
    /// # Errors
    /// A field that is longer than what there is, or that must be there and is not, or is there twice or
    /// in another place (clause 9.2.7.7).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Lldpdu, BadLldpdu> {
        let mut fields = Fields(bytes);
        let chassis = Identifier::parse(fields.expect(field::CHASSIS)?)?;
        let port = Identifier::parse(fields.expect(field::PORT)?)?;
        let ttl = match fields.expect(field::TIME_TO_LIVE)? {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => return Err(BadLldpdu),
        };
        let mut said = Lldpdu {
            chassis,
            port,
            ttl,
            port_description: None,
            system_name: None,
            capabilities: None,
        };
        while let Some((kind, value)) = fields.next()? {
            match kind {
                field::END if value.is_empty() => break,
                field::END | field::CHASSIS | field::PORT | field::TIME_TO_LIVE => {
                    return Err(BadLldpdu);
                }
                field::PORT_DESCRIPTION => said_once(&mut said.port_description, value)?,
                field::SYSTEM_NAME => said_once(&mut said.system_name, value)?,
                field::CAPABILITIES => {
                    let [_, _, high, low] = value else {
                        return Err(BadLldpdu);
                    };
                    let enabled = Capabilities(u16::from_be_bytes([*high, *low]));
                    said.capabilities.get_or_insert(enabled);
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// Its bytes.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.chassis.emit(field::CHASSIS, &mut bytes);
        self.port.emit(field::PORT, &mut bytes);
        put(field::TIME_TO_LIVE, &[&self.ttl.to_be_bytes()], &mut bytes);
        let texts = [
            (field::PORT_DESCRIPTION, &self.port_description),
            (field::SYSTEM_NAME, &self.system_name),
        ];
        for (kind, text) in texts {
            if let Some(text) = text {
                put(kind, &[cut(text, MAX_TEXT).as_bytes()], &mut bytes);
            }
        }
        if let Some(Capabilities(enabled)) = self.capabilities {
            // Table 8-4: a station only can do nothing else. Whoever does the one can do the other, too.
            let can = match enabled & Capabilities::STATION {
                0 => enabled | Capabilities::BRIDGE | Capabilities::ROUTER,
                _ => enabled,
            };
            let value = [can.to_be_bytes(), enabled.to_be_bytes()];
            put(field::CAPABILITIES, &[&value[0], &value[1]], &mut bytes);
        }
        put(field::END, &[], &mut bytes);
        bytes
    }
}

/// The fields that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next one, if there is one: its type, and its value.
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, BadLldpdu> {
        let (head, rest) = match self.0 {
            [] => return Ok(None),
            [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
            [_] => return Err(BadLldpdu),
        };
        let len = usize::from(head) & MAX_FIELD;
        let (value, rest) = rest.split_at_checked(len).ok_or(BadLldpdu)?;
        self.0 = rest;
        Ok(Some(((head >> 9) as u8, value)))
    }

    fn expect(&mut self, kind: u8) -> Result<&'a [u8], BadLldpdu> {
        match self.next()? {
            Some((found, value)) if found == kind => Ok(value),
            _ => Err(BadLldpdu),
        }
    }
}

/// Takes a text in; of several the first counts.
fn said_once(field: &mut Option<Box<str>>, value: &[u8]) -> Result<(), BadLldpdu> {
    if value.len() > MAX_TEXT {
        return Err(BadLldpdu);
    }
    field.get_or_insert_with(|| text(value).into());
    Ok(())
}

fn put(kind: u8, value: &[&[u8]], into: &mut Vec<u8>) {
    let len: usize = value.iter().map(|part| part.len()).sum();
    debug_assert!(len <= MAX_FIELD, "what is said is cut before");
    let head = u16::from(kind) << 9 | (len & MAX_FIELD) as u16;
    into.extend(head.to_be_bytes());
    value.iter().for_each(|part| into.extend(*part));
}

/// At most so many bytes of a text, in whole characters.
fn cut(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

/// What somebody else has said, to be shown: without what a terminal would take for a command.
fn text(bytes: &[u8]) -> String {
    let read = String::from_utf8_lossy(bytes);
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    read.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said() -> Lldpdu {
        Lldpdu {
            chassis: Identifier::chassis("net.s1"),
            port: Identifier::port("eth0"),
            ttl: 121,
            port_description: Some("epair eth0".into()),
            system_name: Some("net.s1".into()),
            capabilities: Some(Capabilities(Capabilities::BRIDGE)),
        }
    }

    /// A field of this type with this value.
    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).expect("short");
        let mut bytes = (u16::from(kind) << 9 | len).to_be_bytes().to_vec();
        bytes.extend(value);
        bytes
    }

    fn all(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(k, v)| field(*k, v)).collect()
    }

    #[test]
    fn what_is_said_is_read_byte_by_byte() {
        let bytes = said().emit();
        let expected = all(&[
            (1, b"\x07net.s1"),
            (2, b"\x05eth0"),
            (3, &[0, 121]),
            (4, b"epair eth0"),
            (5, b"net.s1"),
            (7, &[0, 0x14, 0, 0x04]),
            (0, b""),
        ]);
        assert_eq!(bytes, expected);
        assert_eq!(Lldpdu::parse(&bytes), Ok(said()));
        let padded = [&bytes[..], &[0; 20], &[0xff; 3]].concat();
        assert_eq!(Lldpdu::parse(&padded), Ok(said()));
    }

    #[test]
    fn every_length_but_those_at_the_end_of_an_optional_field_is_refused() {
        let bytes = said().emit();
        let mut ends = vec![bytes.len()];
        let mandatory = all(&[(1, b"\x07net.s1"), (2, b"\x05eth0"), (3, &[0, 121])]).len();
        for more in [0, 12, 12 + 8, 12 + 8 + 6] {
            ends.push(mandatory + more);
        }
        for len in 0..=bytes.len() {
            let read = Lldpdu::parse(&bytes[..len]);
            assert_eq!(read.is_ok(), ends.contains(&len), "{len}: {read:?}");
        }
    }

    #[test]
    fn what_must_be_there_is_there_once_and_in_its_place() {
        let (chassis, port, ttl): (&[u8], &[u8], &[u8]) =
            (b"\x04\x02\0\0\0\0\x01", b"\x05e", &[0, 9]);
        let good = [(1, chassis), (2, port), (3, ttl)];
        assert!(Lldpdu::parse(&all(&good)).is_ok());
        // More than two bytes of a time to live are for others.
        assert_eq!(
            Lldpdu::parse(&all(&[(1, chassis), (2, port), (3, &[0, 9, 7])])).map(|l| l.ttl),
            Ok(9)
        );
        let long = [7; 257];
        let bad: [&[(u8, &[u8])]; 12] = [
            &[(2, port), (1, chassis), (3, ttl)],
            &[(1, chassis), (3, ttl), (2, port)],
            &[(1, chassis), (1, chassis), (2, port), (3, ttl)],
            &[(1, chassis), (2, port)],
            &[(1, b"\x04"), (2, port), (3, ttl)],
            &[(1, b""), (2, port), (3, ttl)],
            &[(1, &long), (2, port), (3, ttl)],
            &[(1, chassis), (2, port), (3, &[0])],
            &[(1, chassis), (2, port), (3, ttl), (3, ttl)],
            &[(1, chassis), (2, port), (3, ttl), (0, b"x")],
            &[(1, chassis), (2, port), (3, ttl), (7, &[0, 4, 0])],
            &[(1, chassis), (2, port), (3, ttl), (5, &long)],
        ];
        for fields in bad {
            assert_eq!(Lldpdu::parse(&all(fields)), Err(BadLldpdu), "{fields:?}");
        }
        // What is not known is skipped, and what is said again.
        let more = [
            &good[..],
            &[(127, b"\0\x80\xc2\x01"), (5, b"a"), (5, b"b"), (9, b"")],
        ]
        .concat();
        let read = Lldpdu::parse(&all(&more)).expect("good");
        assert_eq!(read.system_name.as_deref(), Some("a"));
    }

    #[test]
    fn identifiers_are_shown_as_what_they_are_and_harm_no_terminal() {
        let id = |subtype, bytes: &[u8]| Identifier {
            subtype,
            bytes: bytes.into(),
        };
        let mac = [2, 0, 0, 0, 0, 1];
        assert_eq!(id(4, &mac).chassis_text(), "02:00:00:00:00:01");
        assert_eq!(id(3, &mac).port_text(), "02:00:00:00:00:01");
        assert_eq!(id(5, &[1, 192, 0, 2, 1]).chassis_text(), "192.0.2.1");
        assert_eq!(id(4, &[1, 192, 0, 2, 1]).port_text(), "192.0.2.1");
        let ip6 = [&[2, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat();
        assert_eq!(id(5, &ip6).chassis_text(), "2001:db8::1");
        assert_eq!(id(4, &[1, 2]).chassis_text(), "\u{fffd}\u{fffd}");
        let command = id(7, b"a\x1b[31m\n\xff").chassis_text();
        assert_eq!(command, "a\u{fffd}[31m\u{fffd}\u{fffd}");
        assert_eq!(Capabilities(0x94).to_string(), "bridge, router, station");
        let long = "\u{e4}".repeat(200);
        assert_eq!(Identifier::chassis(&long).bytes.len(), 254);
    }

    proptest! {
        /// Whatever comes in is read or refused; what is said of what was read is read alike.
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let _ = Lldpdu::parse(&bytes);
            let mut changed = said().emit();
            for (at, to) in changes {
                let at = at.index(changed.len());
                changed[at] = to;
            }
            if let Ok(read) = Lldpdu::parse(&changed) {
                prop_assert_eq!(Lldpdu::parse(&read.emit()), Ok(read));
            }
        }
    }
}
