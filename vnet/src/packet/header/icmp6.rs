//! ICMP for IPv6 (RFC 4443).
//!
//! The header of every message is eight bytes. Its checksum covers the payload and a pseudo-header: see
//! [`checksum`](crate::packet::checksum). What neighbour discovery puts behind it is in [`ndp`](super::ndp).

use super::HeaderError;
pub(crate) use super::icmp4::{ICMP_CHECKSUM_OFFSET, ICMP_LEN};

/// The header of an ICMPv6 message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Icmp6 {
    /// Destination unreachable (section 3.1).
    Unreachable {
        /// Why.
        code: u8,
    },
    /// Larger than a link on the way (section 3.2).
    PacketTooBig {
        /// What that link takes.
        mtu: u32,
    },
    /// Time exceeded (section 3.3): on the way (code 0) or in reassembly (1).
    TimeExceeded {
        /// Which.
        code: u8,
    },
    /// A header that makes no sense (section 3.4).
    ParameterProblem {
        /// What is wrong with it.
        code: u8,
        /// The octet that is wrong.
        pointer: u32,
    },
    /// "Are you there?" (section 4.1)
    EchoRequest {
        /// Zero in what is defined; kept as it is.
        code: u8,
        /// Tells askers on one host apart.
        ident: u16,
        /// Tells questions apart.
        seq: u16,
    },
    /// "Yes." (section 4.2)
    EchoReply {
        /// Zero in what is defined; kept as it is.
        code: u8,
        /// As in the request.
        ident: u16,
        /// As in the request.
        seq: u16,
    },
    /// Any other message.
    Other {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
        /// The four bytes behind the checksum.
        rest: [u8; 4],
    },
}

/// No route leads there.
pub(crate) const NO_ROUTE: u8 = 0;
/// A filter forbids it.
pub(crate) const PROHIBITED: u8 = 1;
/// The last hop does not answer.
pub(crate) const ADDRESS: u8 = 3;
/// Nobody listens at the port.
pub(crate) const PORT: u8 = 4;
/// Time exceeded in reassembly.
pub(crate) const REASSEMBLY: u8 = 1;
/// Nobody speaks the protocol.
pub(crate) const UNKNOWN_NEXT_HEADER: u8 = 1;
/// An option that asks to be told about when it is unknown.
pub(crate) const UNKNOWN_OPTION: u8 = 2;

impl Icmp6 {
    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer than [`ICMP_LEN`] bytes.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Icmp6, HeaderError> {
        let fixed: &[u8; ICMP_LEN] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        let [kind, code, _, _, a, b, c, d] = *fixed;
        let (ident, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let word = u32::from_be_bytes([a, b, c, d]);
        Ok(match kind {
            UNREACHABLE => Icmp6::Unreachable { code },
            // RFC 4443 section 3.2: the code is ignored.
            PACKET_TOO_BIG => Icmp6::PacketTooBig { mtu: word },
            TIME_EXCEEDED => Icmp6::TimeExceeded { code },
            PARAMETER_PROBLEM => Icmp6::ParameterProblem {
                code,
                pointer: word,
            },
            ECHO_REQUEST => Icmp6::EchoRequest { code, ident, seq },
            ECHO_REPLY => Icmp6::EchoReply { code, ident, seq },
            _ => Icmp6::Other {
                kind,
                code,
                rest: [a, b, c, d],
            },
        })
    }

    /// Writes the header, with a checksum of zero.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`ICMP_LEN`].
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let echo = |ident: u16, seq: u16| u32::from(ident) << 16 | u32::from(seq);
        let (kind, code, word) = match *self {
            Icmp6::Unreachable { code } => (UNREACHABLE, code, 0),
            Icmp6::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu),
            Icmp6::TimeExceeded { code } => (TIME_EXCEEDED, code, 0),
            Icmp6::ParameterProblem { code, pointer } => (PARAMETER_PROBLEM, code, pointer),
            Icmp6::EchoRequest { code, ident, seq } => (ECHO_REQUEST, code, echo(ident, seq)),
            Icmp6::EchoReply { code, ident, seq } => (ECHO_REPLY, code, echo(ident, seq)),
            Icmp6::Other { kind, code, rest } => (kind, code, u32::from_be_bytes(rest)),
        };
        let [a, b, c, d] = word.to_be_bytes();
        bytes[..ICMP_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
    }
}

/// True for what asks or answers something by itself: the rest are errors (section 2.1).
pub(crate) fn is_informational(kind: u8) -> bool {
    kind & 0x80 != 0
}

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// A redirect (RFC 4861 section 4.5), about which no error may be sent.
pub(crate) const REDIRECT: u8 = 137;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::{Icmpv6Message, Icmpv6Packet};

    fn message() -> impl Strategy<Value = Icmp6> {
        any::<(u8, u8, u16, u16, u32)>().prop_map(|(which, code, ident, seq, word)| {
            match which % 7 {
                0 => Icmp6::Unreachable { code },
                1 => Icmp6::PacketTooBig { mtu: word },
                2 => Icmp6::TimeExceeded { code },
                3 => Icmp6::ParameterProblem {
                    code,
                    pointer: word,
                },
                4 => Icmp6::EchoRequest { code, ident, seq },
                5 => Icmp6::EchoReply { code, ident, seq },
                _ => Icmp6::Other {
                    kind: 135,
                    code,
                    rest: word.to_be_bytes(),
                },
            }
        })
    }

    proptest! {
        #[test]
        fn emit_and_parse_are_inverse_and_another_agrees(message in message()) {
            let mut bytes = [0xaa; 8];
            message.emit(&mut bytes);
            prop_assert_eq!(Icmp6::parse(&bytes), Ok(message));
            let other = Icmpv6Packet::new_unchecked(&bytes[..]);
            match message {
                Icmp6::EchoRequest { ident, seq, .. } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::EchoRequest);
                    prop_assert_eq!((other.echo_ident(), other.echo_seq_no()), (ident, seq));
                }
                Icmp6::PacketTooBig { mtu } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::PktTooBig);
                    prop_assert_eq!(other.pkt_too_big_mtu(), mtu);
                }
                Icmp6::ParameterProblem { code, pointer } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::ParamProblem);
                    prop_assert_eq!((other.msg_code(), other.param_problem_ptr()), (code, pointer));
                }
                Icmp6::Unreachable { code } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::DstUnreachable);
                    prop_assert_eq!(other.msg_code(), code);
                }
                Icmp6::TimeExceeded { .. } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::TimeExceeded);
                }
                Icmp6::EchoReply { .. } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::EchoReply);
                }
                Icmp6::Other { .. } => {
                    prop_assert_eq!(other.msg_type(), Icmpv6Message::NeighborSolicit);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let parsed = Icmp6::parse(&bytes);
            prop_assert_eq!(parsed == Err(HeaderError::Truncated), bytes.len() < 8);
        }
    }
}
