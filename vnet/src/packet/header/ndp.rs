//! Neighbour discovery (RFC 4861 section 4): who has an address, and who says so.
//!
//! A message begins with its ICMPv6 header; behind its fixed part there are options, of which only the
//! link-layer addresses are looked at. What routers say is in [`ra`](super::ra); redirects in
//! [`redirect`](super::redirect).

use std::net::Ipv6Addr;

use super::icmp6::{ICMP_LEN, Icmp6};
use super::{HeaderError, zone};
use crate::packet::addr::MacAddr;

/// Bytes in the fixed part: the ICMPv6 header and the target.
pub(crate) const FIXED_LEN: usize = ICMP_LEN + 16;
/// The type of a router solicitation, the first of those of discovery.
pub(crate) const ROUTER_SOLICITATION: u8 = 133;
/// The type of a neighbour solicitation.
pub(crate) const SOLICITATION: u8 = 135;
/// The type of a neighbour advertisement.
pub(crate) const ADVERTISEMENT: u8 = 136;

/// A message of neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ndp {
    /// "Who has the target?" (section 4.3)
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// Where the sender is; left out by a sender that has no address yet.
        source: Option<MacAddr>,
        /// What tells a question from another that is alike (RFC 3971 section 5.3.2, RFC 7527).
        nonce: Option<[u8; 6]>,
    },
    /// "The target is here." (section 4.4)
    Advertisement {
        /// The address.
        target: Ipv6Addr,
        /// Where it is; may be left out in an answer to a station that knew.
        station: Option<MacAddr>,
        /// What else is said.
        flags: Flags,
    },
}

/// The flags of an advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flags(pub u8);

impl Flags {
    /// The sender is a router.
    pub(crate) const ROUTER: Flags = Flags(0x80);
    /// It is an answer to whom it is sent to.
    pub(crate) const SOLICITED: Flags = Flags(0x40);
    /// It is right where it contradicts what is known.
    pub(crate) const OVERRIDE: Flags = Flags(0x20);

    /// These flags and those of `other`.
    pub(crate) const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// True when every flag of `other` is among these.
    pub(crate) const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Ndp {
    /// Reads a message: all its bytes.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] for less than the fixed part, [`HeaderError::WrongFormat`] for another
    /// type, a code that is not zero or a group as the target, [`HeaderError::BadLength`] for an option
    /// of no length or beyond the end (sections 7.1.1 and 7.1.2).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Ndp, HeaderError> {
        let Icmp6::Other { kind, code, rest } = Icmp6::parse(bytes)? else {
            return Err(HeaderError::WrongFormat);
        };
        let target: [u8; 16] = *bytes
            .get(ICMP_LEN..)
            .and_then(|bytes| bytes.first_chunk())
            .ok_or(HeaderError::Truncated)?;
        let target = Ipv6Addr::from(target);
        if code != 0 || target.is_multicast() {
            return Err(HeaderError::WrongFormat);
        }
        let options = &bytes[FIXED_LEN..];
        match kind {
            SOLICITATION => Ok(Ndp::Solicitation {
                target,
                source: link_address(options, SOURCE)?,
                nonce: link_address(options, NONCE)?.map(|nonce| nonce.0),
            }),
            ADVERTISEMENT => Ok(Ndp::Advertisement {
                target,
                station: link_address(options, TARGET)?,
                flags: Flags(rest[0] & 0xe0),
            }),
            _ => Err(HeaderError::WrongFormat),
        }
    }

    /// The address that the message is about.
    pub(crate) fn target(&self) -> Ipv6Addr {
        match *self {
            Ndp::Solicitation { target, .. } | Ndp::Advertisement { target, .. } => target,
        }
    }

    /// The message on the link of this number.
    pub(crate) fn on_link(mut self, number: u16) -> Ndp {
        let (Ndp::Solicitation { target, .. } | Ndp::Advertisement { target, .. }) = &mut self;
        *target = zone::bind(*target, number);
        self
    }

    /// Bytes in the message.
    pub(crate) fn len(&self) -> usize {
        FIXED_LEN + OPTION_LEN * self.options().count()
    }

    /// Writes the message, with a checksum of zero.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`Ndp::len`].
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let (kind, target, flags) = match self.on_link(0) {
            Ndp::Solicitation { target, .. } => (SOLICITATION, target, Flags(0)),
            Ndp::Advertisement { target, flags, .. } => (ADVERTISEMENT, target, flags),
        };
        let header = Icmp6::Other {
            kind,
            code: 0,
            rest: [flags.0, 0, 0, 0],
        };
        header.emit(bytes);
        bytes[ICMP_LEN..FIXED_LEN].copy_from_slice(&target.octets());
        let room = bytes[FIXED_LEN..].chunks_exact_mut(OPTION_LEN);
        for (option, (kind, content)) in room.zip(self.options()) {
            option[..2].copy_from_slice(&[kind, 1]);
            option[2..].copy_from_slice(&content);
        }
    }

    fn options(&self) -> impl Iterator<Item = (u8, [u8; 6])> + use<> {
        let [first, second] = match *self {
            Ndp::Solicitation { source, nonce, .. } => [
                source.map(|mac| (SOURCE, mac.0)),
                nonce.map(|nonce| (NONCE, nonce)),
            ],
            Ndp::Advertisement { station, .. } => [station.map(|mac| (TARGET, mac.0)), None],
        };
        first.into_iter().chain(second)
    }
}

/// The options, each with its kind and length. An error is the last.
pub(super) fn options(mut options: &[u8]) -> impl Iterator<Item = Result<&[u8], HeaderError>> {
    std::iter::from_fn(move || {
        let len = match *options {
            [] => return None,
            [_] => 0,
            [_, units, ..] => usize::from(units) * OPTION_LEN,
        };
        // RFC 4861 section 4.6: nodes MUST silently discard a packet with an option of length zero.
        let option = options.get(..len).filter(|option| !option.is_empty());
        options = options.get(len.max(1)..).unwrap_or_default();
        match option {
            Some(_) => {}
            None => options = &[],
        }
        Some(option.ok_or(HeaderError::BadLength))
    })
}

/// The link-layer address in the first option of this kind.
pub(super) fn link_address(bytes: &[u8], wanted: u8) -> Result<Option<MacAddr>, HeaderError> {
    let mut found = None;
    for option in options(bytes) {
        let option = option?;
        if option[0] == wanted && found.is_none() {
            found = option[2..].first_chunk().copied().map(MacAddr);
        }
    }
    Ok(found)
}

/// The unit of options' lengths.
const OPTION_LEN: usize = 8;
pub(super) const SOURCE: u8 = 1;
pub(super) const TARGET: u8 = 2;
const NONCE: u8 = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::{Icmpv6Packet, NdiscRepr};

    fn message() -> impl Strategy<Value = Ndp> {
        (
            any::<(u128, u8, bool)>(),
            prop::option::of(any::<[u8; 6]>()),
            prop::option::of(any::<[u8; 6]>()),
        )
            .prop_map(|((target, flags, asks), mac, nonce)| {
                let target = zone::wire((target >> 1).into());
                let mac = mac.map(MacAddr);
                match asks {
                    true => Ndp::Solicitation {
                        target,
                        source: mac,
                        nonce,
                    },
                    false => Ndp::Advertisement {
                        target,
                        station: mac,
                        flags: Flags(flags & 0xe0),
                    },
                }
            })
    }

    fn bytes_of(message: &Ndp) -> Vec<u8> {
        let mut bytes = vec![0; message.len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn an_option_without_length_spoils_the_message() {
        let source = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        let target = Ipv6Addr::LOCALHOST;
        let asked = Ndp::Solicitation {
            target,
            source,
            nonce: None,
        };
        let mut bytes = bytes_of(&asked);
        // What is not known is skipped, in front and behind.
        bytes.splice(FIXED_LEN..FIXED_LEN, [99, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend([99, 2]);
        bytes.extend([0; 14]);
        assert_eq!(Ndp::parse(&bytes), Ok(asked));
        bytes[FIXED_LEN + 1] = 0;
        assert_eq!(Ndp::parse(&bytes), Err(HeaderError::BadLength));
        bytes[FIXED_LEN + 1] = 9;
        assert_eq!(Ndp::parse(&bytes), Err(HeaderError::BadLength));
        assert_eq!(Ndp::parse(&bytes[..23]), Err(HeaderError::Truncated));
        bytes[ICMP_LEN] = 0xff;
        assert_eq!(Ndp::parse(&bytes[..24]), Err(HeaderError::WrongFormat));
    }

    proptest! {
        #[test]
        fn emit_and_parse_are_inverse_and_another_agrees(message in message()) {
            let bytes = bytes_of(&message);
            prop_assert_eq!(Ndp::parse(&bytes), Ok(message));
            let other = NdiscRepr::parse(&Icmpv6Packet::new_unchecked(&bytes[..]));
            let other = other.expect("a message");
            let same = match (message, other) {
                (
                    Ndp::Solicitation { target, source, .. },
                    NdiscRepr::NeighborSolicit { target_addr, lladdr },
                ) => target == target_addr
                    && source.map(|m| m.0.to_vec()) == lladdr.map(|l| l.as_bytes().to_vec()),
                (
                    Ndp::Advertisement { target, station, flags },
                    NdiscRepr::NeighborAdvert { flags: theirs, target_addr, lladdr },
                ) => target == target_addr
                    && flags.0 == theirs.bits()
                    && station.map(|m| m.0.to_vec()) == lladdr.map(|l| l.as_bytes().to_vec()),
                _ => false,
            };
            prop_assert!(same, "{:?}", message);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in SOLICITATION..=ADVERTISEMENT,
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = Ndp::parse(&bytes);
        }
    }
}
