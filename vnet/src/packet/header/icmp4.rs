//! ICMP for IPv4 (RFC 792, RFC 1191).
//!
//! The header of every message is eight bytes. Its checksum covers the payload too and is not
//! dealt with here: see [`checksum`](crate::packet::checksum).

use std::net::Ipv4Addr;

use smoltcp::wire::Icmpv4Packet;

use super::HeaderError;

/// Bytes in an ICMP header.
pub(crate) const ICMP_LEN: usize = 8;
/// Where the checksum is in an ICMP header.
pub(crate) const ICMP_CHECKSUM_OFFSET: u16 = 2;

/// The header of an ICMP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Icmp4 {
    /// "Are you there?"
    EchoRequest {
        /// Zero in what is defined (RFC 792); kept as it is.
        code: u8,
        /// Tells askers on one host apart.
        ident: u16,
        /// Tells questions apart.
        seq: u16,
    },
    /// "Yes."
    EchoReply {
        /// Zero in what is defined (RFC 792); kept as it is.
        code: u8,
        /// As in the request.
        ident: u16,
        /// As in the request.
        seq: u16,
    },
    /// Destination unreachable.
    Unreachable {
        /// What could not be reached.
        code: UnreachableCode,
        /// With [`UnreachableCode::FRAGMENTATION_NEEDED`], the largest packet that would have
        /// passed (RFC 1191 section 4); zero from routers that do not know.
        next_hop_mtu: u16,
    },
    /// Time exceeded.
    TimeExceeded {
        /// On the way or in reassembly.
        code: TimeExceededCode,
    },
    /// There is a shorter way.
    Redirect {
        /// For a network (0, 2) or a host (1, 3).
        code: u8,
        /// The first hop of the shorter way.
        gateway: Ipv4Addr,
    },
    /// A header that makes no sense.
    ParameterProblem {
        /// The octet that is wrong.
        pointer: u8,
    },
    /// Any other message.
    Other {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
    },
}

/// Why a destination is unreachable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct UnreachableCode(pub u8);

impl UnreachableCode {
    /// No route.
    pub(crate) const NET: UnreachableCode = UnreachableCode(0);
    /// The last hop does not answer.
    pub(crate) const HOST: UnreachableCode = UnreachableCode(1);
    /// Nobody speaks the protocol.
    pub(crate) const PROTOCOL: UnreachableCode = UnreachableCode(2);
    /// Nobody listens at the port.
    pub(crate) const PORT: UnreachableCode = UnreachableCode(3);
    /// Too big for the next link, and fragmentation is forbidden.
    pub(crate) const FRAGMENTATION_NEEDED: UnreachableCode = UnreachableCode(4);
    /// A filter forbids it.
    pub(crate) const ADMINISTRATIVELY_PROHIBITED: UnreachableCode = UnreachableCode(13);
}

/// Whose time was exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TimeExceededCode(pub u8);

impl TimeExceededCode {
    /// The packet's time to live ran out on its way.
    pub(crate) const TTL: TimeExceededCode = TimeExceededCode(0);
    /// Fragments were missing for too long.
    pub(crate) const REASSEMBLY: TimeExceededCode = TimeExceededCode(1);
}

impl Icmp4 {
    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer than [`ICMP_LEN`] bytes.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Icmp4, HeaderError> {
        let fixed: &[u8; ICMP_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        let packet = Icmpv4Packet::new_unchecked(fixed);
        let code = packet.msg_code();
        let (ident, seq) = (packet.echo_ident(), packet.echo_seq_no());
        let [_, _, _, _, a, b, c, d] = *fixed;
        Ok(match u8::from(packet.msg_type()) {
            ECHO_REPLY => Icmp4::EchoReply { code, ident, seq },
            ECHO_REQUEST => Icmp4::EchoRequest { code, ident, seq },
            UNREACHABLE => Icmp4::Unreachable {
                code: UnreachableCode(code),
                next_hop_mtu: u16::from_be_bytes([c, d]),
            },
            TIME_EXCEEDED => Icmp4::TimeExceeded {
                code: TimeExceededCode(code),
            },
            REDIRECT => Icmp4::Redirect {
                code,
                gateway: Ipv4Addr::new(a, b, c, d),
            },
            PARAMETER_PROBLEM if code == 0 => Icmp4::ParameterProblem { pointer: a },
            kind => Icmp4::Other { kind, code },
        })
    }

    /// Writes the header, with a checksum of zero. The rest of an [`Icmp4::Other`] is zero too.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`ICMP_LEN`].
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let mut fixed = [0; ICMP_LEN];
        let (kind, code) = self.kind_and_code();
        let mut packet = Icmpv4Packet::new_unchecked(&mut fixed);
        packet.set_msg_type(kind.into());
        packet.set_msg_code(code);
        match *self {
            Icmp4::EchoRequest { ident, seq, .. } | Icmp4::EchoReply { ident, seq, .. } => {
                packet.set_echo_ident(ident);
                packet.set_echo_seq_no(seq);
            }
            Icmp4::Unreachable { next_hop_mtu, .. } => {
                fixed[6..].copy_from_slice(&next_hop_mtu.to_be_bytes());
            }
            Icmp4::Redirect { gateway, .. } => fixed[4..].copy_from_slice(&gateway.octets()),
            Icmp4::ParameterProblem { pointer } => fixed[4] = pointer,
            Icmp4::TimeExceeded { .. } | Icmp4::Other { .. } => {}
        }
        bytes[..ICMP_LEN].copy_from_slice(&fixed);
    }

    fn kind_and_code(&self) -> (u8, u8) {
        match *self {
            Icmp4::EchoRequest { code, .. } => (ECHO_REQUEST, code),
            Icmp4::EchoReply { code, .. } => (ECHO_REPLY, code),
            Icmp4::Unreachable { code, .. } => (UNREACHABLE, code.0),
            Icmp4::TimeExceeded { code } => (TIME_EXCEEDED, code.0),
            Icmp4::Redirect { code, .. } => (REDIRECT, code),
            Icmp4::ParameterProblem { .. } => (PARAMETER_PROBLEM, 0),
            Icmp4::Other { kind, code } => (kind, code),
        }
    }
}

/// True for the messages that ask or answer something by themselves. About anything else, known
/// errors and types not known alike, no error may be sent (RFC 1122 section 3.2.2).
pub(crate) fn is_query(kind: u8) -> bool {
    // Echo, router discovery, timestamp, information, address mask.
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
}

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Icmp4> {
        prop_oneof![
            any::<(u8, u16, u16)>().prop_map(|(code, ident, seq)| Icmp4::EchoRequest {
                code,
                ident,
                seq
            }),
            any::<(u8, u16, u16)>().prop_map(|(code, ident, seq)| Icmp4::EchoReply {
                code,
                ident,
                seq
            }),
            any::<(u8, u16)>().prop_map(|(code, next_hop_mtu)| Icmp4::Unreachable {
                code: UnreachableCode(code),
                next_hop_mtu
            }),
            any::<u8>().prop_map(|code| Icmp4::TimeExceeded {
                code: TimeExceededCode(code)
            }),
            any::<(u8, u32)>().prop_map(|(code, gateway)| Icmp4::Redirect {
                code,
                gateway: gateway.into()
            }),
            any::<u8>().prop_map(|pointer| Icmp4::ParameterProblem { pointer }),
            any::<u8>().prop_map(|code| Icmp4::Other { kind: 13, code }),
        ]
    }

    proptest! {
        #[test]
        fn emit_and_parse_are_inverse(message in message()) {
            let mut bytes = [0xaa; 8];
            message.emit(&mut bytes);
            prop_assert_eq!(Icmp4::parse(&bytes), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let parsed = Icmp4::parse(&bytes);
            prop_assert_eq!(parsed == Err(HeaderError::Truncated), bytes.len() < 8);
        }
    }
}
