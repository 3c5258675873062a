//! Questions as bytes, and what an answer says. Reading an answer is bounded by its length, whatever is in it.

use std::net::IpAddr;
use std::str::FromStr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::message_builder::PushError;
use domain::base::name::ToName;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, ParsedName, ParsedRecord, Rtype};
use domain::rdata::{A, Aaaa, Cname};

/// A complete name.
pub(crate) type FullName = Name<Vec<u8>>;

/// Bytes of a datagram that any path carries (DNS flag day 2020).
pub(crate) const DATAGRAM: u16 = 1232;

/// Aliases of aliases that are followed.
pub(crate) const MOST_ALIASES: usize = 16;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: FullName,
    pub(crate) kind: Kind,
}

/// The addresses of which family are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V4,
    V6,
}

impl Kind {
    fn rtype(self) -> Rtype {
        match self {
            Kind::V4 => Rtype::A,
            Kind::V6 => Rtype::AAAA,
        }
    }
}

/// Whether a question says that longer answers are taken (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edns {
    With,
    Without,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// These are its addresses.
    Found(Vec<IpAddr>),
    /// It is another name, of which nothing is said.
    Alias(FullName),
    /// It has no address of the family.
    Nothing,
    /// There is no such name.
    NoSuchName,
    /// There are more aliases than are followed.
    TooManyAliases,
    /// The answer is longer than what carries it.
    Truncated,
    /// The server has not understood the question, perhaps because of what RFC 6891 adds.
    NotUnderstood(String),
    /// The server cannot, or will not.
    Failed(String),
}

/// It is no answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer;

impl From<ParseError> for NoAnswer {
    fn from(_: ParseError) -> NoAnswer {
        NoAnswer
    }
}

/// A name that is taken as complete, with or without a dot at its end; `None` where it is none.
pub(crate) fn name(text: &str) -> Option<FullName> {
    let name = FullName::from_str(text).ok()?;
    (!name.is_root()).then_some(name)
}

/// The bytes of a question.
pub(crate) fn compose(id: u16, question: &Question, edns: Edns) -> Vec<u8> {
    let composed = || -> Result<Vec<u8>, PushError> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        message.header_mut().set_rd(true);
        let mut message = message.question();
        message.push((&question.name, question.kind.rtype()))?;
        let mut message = message.additional();
        if edns == Edns::With {
            message.opt(|opt| {
                opt.set_udp_payload_size(DATAGRAM);
                Ok(())
            })?;
        }
        Ok(message.finish())
    };
    composed().expect("one question fits into a message")
}

/// What `bytes` say in answer to the question that was asked under `id`.
pub(crate) fn read(bytes: &[u8], id: u16, question: &Question) -> Result<Said, NoAnswer> {
    let message = Message::from_slice(bytes).map_err(|_| NoAnswer)?;
    let header = message.header();
    if !header.qr() || header.id() != id || header.opcode() != Opcode::QUERY {
        return Err(NoAnswer);
    }
    let code = message.opt_rcode();
    let not_understood = [OptRcode::FORMERR, OptRcode::NOTIMP, OptRcode::BADVERS];
    if not_understood.contains(&code) && message.header_counts().qdcount() == 0 {
        return Ok(Said::NotUnderstood(code.to_string()));
    }
    let asked = message.sole_question()?;
    let is_it = asked.qtype() == question.kind.rtype()
        && asked.qclass() == Class::IN
        && asked.qname().name_eq(&question.name);
    if !is_it {
        return Err(NoAnswer);
    }
    if not_understood.contains(&code) {
        return Ok(Said::NotUnderstood(code.to_string()));
    }
    if header.tc() {
        return Ok(Said::Truncated);
    }
    match header.rcode() {
        Rcode::NOERROR if code == OptRcode::NOERROR => addresses(message, question),
        Rcode::NXDOMAIN => Ok(Said::NoSuchName),
        _ => Ok(Said::Failed(code.to_string())),
    }
}

type Parsed<'a> = ParsedName<&'a [u8]>;

/// The addresses of the question's name, which may be an alias.
fn addresses(message: &Message<[u8]>, question: &Question) -> Result<Said, NoAnswer> {
    let mut found: Vec<(Parsed<'_>, IpAddr)> = Vec::new();
    let mut aliases: Vec<(Parsed<'_>, Parsed<'_>)> = Vec::new();
    for record in message.answer()? {
        let record: ParsedRecord<'_, [u8]> = record?;
        if record.class() != Class::IN {
            continue;
        }
        let owner = record.owner();
        if record.rtype() == Rtype::CNAME {
            if let Some(alias) = record.to_record::<Cname<_>>()? {
                aliases.push((owner, alias.into_data().into_cname()));
            }
        } else if record.rtype() == question.kind.rtype() {
            let ip = match question.kind {
                Kind::V4 => record.to_record::<A>()?.map(|a| a.data().addr().into()),
                Kind::V6 => record.to_record::<Aaaa>()?.map(|a| a.data().addr().into()),
            };
            found.extend(ip.map(|ip| (owner, ip)));
        }
    }
    let mut name = question.name.clone();
    for _ in 0..=MOST_ALIASES {
        let its = found.iter().filter(|(owner, _)| owner.name_eq(&name));
        let its: Vec<IpAddr> = its.map(|(_, ip)| *ip).collect();
        if !its.is_empty() {
            return Ok(Said::Found(its));
        }
        match aliases.iter().find(|(owner, _)| owner.name_eq(&name)) {
            Some((_, other)) => name = other.to_name(),
            None if name == question.name => return Ok(Said::Nothing),
            None => return Ok(Said::Alias(name)),
        }
    }
    Ok(Said::TooManyAliases)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question() -> Question {
        Question {
            name: name("www.example").expect("a name"),
            kind: Kind::V4,
        }
    }

    #[test]
    fn a_question_is_a_few_bytes() {
        let bytes = compose(0x1234, &question(), Edns::Without);
        let expected = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";
        assert_eq!(bytes, expected);
        // RFC 6891 section 6.1.2: the root's name, type 41, the size, and nothing else.
        let more = compose(0x1234, &question(), Edns::With);
        assert_eq!(&more[..10], b"\x12\x34\x01\x00\0\x01\0\0\0\0");
        assert_eq!(&more[10..12], b"\0\x01");
        assert_eq!(&more[bytes.len()..], b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    }

    #[test]
    fn names_are_what_fits() {
        assert_eq!(name("a.b"), name("a.b."));
        assert!(name(&["x"; 63].concat()).is_some());
        for none in ["", ".", "a..b", &["x"; 64].concat(), &["x."; 130].concat()] {
            assert!(name(none).is_none(), "{none}");
        }
    }

    proptest! {
        /// Bytes of any kind, behind a header that is right, are read to their end.
        #[test]
        fn anything_can_be_read(
            counts in prop::collection::vec(0u8..3, 4),
            flags in any::<[u8; 2]>(),
            rest in prop::collection::vec(prop_oneof![Just(0xc0u8), Just(0), Just(12), 0u8..64, any::<u8>()], 0..200),
            asked in any::<bool>(),
        ) {
            let mut bytes = vec![0x12, 0x34, flags[0] | 0x80, flags[1]];
            for count in counts {
                bytes.extend([0, count]);
            }
            if asked {
                bytes[5] = 1;
                bytes.extend(b"\x03www\x07example\0\0\x01\0\x01");
            }
            bytes.extend(rest);
            let _ = read(&bytes, 0x1234, &question());
        }
    }
}
