//! What extension headers ask of the one they are for (RFC 8200 section 4).
//!
//! Routers do not look at them, hop-by-hop options included (section 4: only if told to).

use crate::base::stats::DropReason;
use crate::ip::Refusal;
use crate::ip::input::Unopened;
use crate::packet::Packet;
use crate::packet::header::icmp6::{UNKNOWN_NEXT_HEADER, UNKNOWN_OPTION};
use crate::packet::header::ipv6::{Chain, Extension, MIN_LEN, Piece};
use crate::packet::header::{HeaderError, IpProto, icmp6, ndp};

/// Where the extension headers lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// What is carried.
    pub proto: IpProto,
    /// Bytes in front of that.
    pub len: usize,
    /// Which piece of a packet it is: the walk ends at its header.
    pub piece: Option<Piece>,
}

/// Follows the extension headers of a packet at the start of `chain`, and does what they ask.
///
/// # Errors
/// Why the packet goes no further.
pub(crate) fn walk(
    packet: &Packet,
    mut chain: Chain<'_>,
    to_many: ToMany,
) -> Result<Walked, Unopened> {
    let mut is_piece = false;
    while let Some(extension) = chain.next() {
        let extension = extension.map_err(|_| Unopened::Drop(DropReason::Malformed))?;
        match extension.kind {
            // RFC 8200 section 4.1: hop-by-hop options are in front of all others.
            IpProto::HOP_BY_HOP if extension.at != MIN_LEN => {
                return Err(problem(UNKNOWN_NEXT_HEADER, extension.named_at));
            }
            IpProto::ROUTING => routing(&extension)?,
            IpProto::FRAGMENT => {
                let piece = Piece::parse(&extension.start);
                // RFC 6946: what is all in one piece has nothing to do with fragments.
                if piece.is_fragment() {
                    check_piece(packet, &piece, chain)?;
                    return Ok(Walked {
                        proto: piece.next,
                        len: chain.at,
                        piece: Some(piece),
                    });
                }
                is_piece = true;
            }
            _ => options(packet, &extension, to_many)?,
        }
    }
    let walked = Walked {
        proto: chain.next,
        len: chain.at,
        piece: None,
    };
    match is_piece && is_discovery(packet, &walked) {
        true => Err(Unopened::Drop(DropReason::Martian)),
        false => Ok(walked),
    }
}

/// True where the walk has led to a message of neighbour or router discovery. RFC 6980 section 5: behind a
/// fragment header it is ignored. The hop limit by which it is known to come from the link is that of one
/// fragment only.
pub(crate) fn is_discovery(packet: &Packet, walked: &Walked) -> bool {
    let mut kind = [0];
    walked.proto == IpProto::ICMPV6
        && packet.copy_to(walked.len, &mut kind) == 1
        && (ndp::ROUTER_SOLICITATION..=icmp6::REDIRECT).contains(&kind[0])
}

/// Was the packet addressed to a group?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToMany {
    /// It was.
    Yes,
    /// It was for us alone.
    No,
}

/// RFC 8200 section 4.4, RFC 5095: no type of routing is known here, so that one with hops left to go is
/// refused, and one without is done with.
fn routing(extension: &Extension) -> Result<(), Unopened> {
    let [_, _, _, segments_left, ..] = extension.start;
    match segments_left {
        0 => Ok(()),
        _ => Err(Unopened::Refuse(
            Refusal::Header {
                code: 0,
                pointer: (extension.at + 2) as u32,
            },
            DropReason::SourceRoute,
        )),
    }
}

/// RFC 8200 section 4.5: lengths that no fragment has; RFC 7112: a first fragment has all headers.
fn check_piece(packet: &Packet, piece: &Piece, mut chain: Chain<'_>) -> Result<(), Unopened> {
    let len = packet.len() - chain.at;
    if piece.more && !len.is_multiple_of(8) {
        return Err(problem(0, PAYLOAD_LEN));
    }
    if usize::from(piece.offset) + len > crate::packet::header::ipv6::MAX_PAYLOAD {
        return Err(problem(0, chain.at - 6));
    }
    if piece.offset != 0 {
        return Ok(());
    }
    let broken = chain.by_ref().find_map(Result::err);
    let behind = packet.len().saturating_sub(chain.at);
    let least = match chain.next {
        IpProto::TCP => 20,
        IpProto::UDP | IpProto::ICMPV6 => 8,
        _ => 0,
    };
    match broken {
        Some(HeaderError::Truncated) => Err(problem(INCOMPLETE_CHAIN, 0)),
        Some(_) => Err(Unopened::Drop(DropReason::Malformed)),
        None if behind < least => Err(problem(INCOMPLETE_CHAIN, 0)),
        None => Ok(()),
    }
}

/// RFC 8200 section 4.2: the two highest bits of an unknown option's type say what is to be done.
fn options(packet: &Packet, extension: &Extension, to_many: ToMany) -> Result<(), Unopened> {
    let malformed = Unopened::Drop(DropReason::Malformed);
    let mut bytes = vec![0; extension.len];
    packet.copy_to(extension.at, &mut bytes);
    let mut at = 2;
    while let Some(kind) = bytes.get(at) {
        if *kind == PAD_1 {
            at += 1;
            continue;
        }
        let Some(len) = bytes.get(at + 1) else {
            return Err(malformed);
        };
        let end = at + 2 + usize::from(*len);
        if end > bytes.len() {
            return Err(malformed);
        }
        if !matches!(*kind, PAD_N | ROUTER_ALERT) {
            match (kind >> 6, to_many) {
                (0, _) => {}
                (2, _) | (3, ToMany::No) => {
                    return Err(problem(UNKNOWN_OPTION, extension.at + at));
                }
                _ => return Err(Unopened::Drop(DropReason::UnknownProtocol)),
            }
        }
        at = end;
    }
    Ok(())
}

fn problem(code: u8, pointer: usize) -> Unopened {
    let pointer = pointer as u32;
    let reason = match code {
        UNKNOWN_NEXT_HEADER | UNKNOWN_OPTION => DropReason::UnknownProtocol,
        _ => DropReason::Malformed,
    };
    Unopened::Refuse(Refusal::Header { code, pointer }, reason)
}

/// Where the length is in a fixed header.
const PAYLOAD_LEN: usize = 4;
/// RFC 7112 section 5: the first fragment lacks headers.
const INCOMPLETE_CHAIN: u8 = 3;
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
/// RFC 2711: what routers should look at, which we do not.
const ROUTER_ALERT: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::header::ipv6::Ipv6Header;
    use proptest::prelude::*;

    fn walked(next: u8, rest: &[u8], to_many: ToMany) -> Result<Walked, Unopened> {
        let packet = Ipv6Header::example_packet(next, rest);
        walk(&packet, Chain::of(&packet, 0), to_many)
    }

    fn refused(next: u8, rest: &[u8], to_many: ToMany) -> Option<(u8, u32)> {
        match walked(next, rest, to_many) {
            Err(Unopened::Refuse(Refusal::Header { code, pointer }, _)) => Some((code, pointer)),
            _ => None,
        }
    }

    #[test]
    fn an_unknown_option_says_what_is_to_be_done() {
        let with = |kind: u8| [17, 0, kind, 1, 9, 0, 1, 0];
        let (one, many) = (ToMany::No, ToMany::Yes);
        for next in [0, 60] {
            assert!(walked(next, &with(0x1e), one).is_ok(), "skip it");
            let discard = Err(Unopened::Drop(DropReason::UnknownProtocol));
            assert_eq!(walked(next, &with(0x5e), one), discard);
            assert_eq!(refused(next, &with(0x9e), one), Some((2, 42)));
            assert_eq!(refused(next, &with(0x9e), many), Some((2, 42)));
            assert_eq!(refused(next, &with(0xde), one), Some((2, 42)));
            assert_eq!(walked(next, &with(0xde), many), discard);
        }
        let lie = walked(60, &[17, 0, 1, 9, 0, 0, 0, 0], one);
        assert_eq!(lie, Err(Unopened::Drop(DropReason::Malformed)));
        let alert = walked(0, &[17, 0, 5, 2, 0, 0, 1, 0], one);
        assert_eq!(alert.map(|w| (w.proto, w.len)), Ok((IpProto::UDP, 48)));
    }

    #[test]
    fn order_and_routes_are_seen_to() {
        let mut rest = vec![0, 0, 1, 4, 0, 0, 0, 0];
        rest.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(refused(60, &rest, ToMany::No), Some((1, 40)));
        for kind in [0, 2, 4, 200] {
            let route = |left| [17, 0, kind, left, 0, 0, 0, 0];
            assert_eq!(refused(43, &route(1), ToMany::No), Some((0, 42)));
            assert!(walked(43, &route(0), ToMany::No).is_ok());
        }
    }

    #[test]
    fn fragments_are_looked_at_one_by_one() {
        let fragment = |next: u8, offset: u16, more: bool, len: usize| {
            let mut rest = vec![0; 8 + len];
            let piece = Piece {
                next: IpProto(next),
                offset,
                more,
                ident: 7,
            };
            piece.emit(rest.first_chunk_mut().expect("eight bytes"));
            rest
        };
        let no = ToMany::No;
        // All in one piece.
        let whole = walked(44, &fragment(17, 0, false, 8), no).expect("it is whole");
        assert_eq!(
            (whole.proto, whole.len, whole.piece),
            (IpProto::UDP, 48, None)
        );
        let first = walked(44, &fragment(17, 0, true, 8), no).expect("a fragment");
        assert_eq!(first.piece.map(|p| p.ident), Some(7));
        // RFC 8200 section 4.5.
        assert_eq!(refused(44, &fragment(17, 0, true, 9), no), Some((0, 4)));
        assert_eq!(
            refused(44, &fragment(17, 65_528, false, 8), no),
            Some((0, 42))
        );
        assert!(walked(44, &fragment(17, 65_528, false, 7), no).is_ok());
        // RFC 7112: no port, no end of the options that it begins with.
        assert_eq!(refused(44, &fragment(6, 0, true, 16), no), Some((3, 0)));
        let mut cut = fragment(60, 0, true, 8);
        cut[9] = 1;
        assert_eq!(refused(44, &cut, no), Some((3, 0)));
        assert!(walked(44, &fragment(60, 8, true, 8), no).is_ok());
    }

    proptest! {
        #[test]
        fn a_walk_ends_within_the_packet(
            next in prop::sample::select(vec![0u8, 43, 44, 60, 17]),
            rest in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![0u8, 1, 43, 44, 60]), any::<u8>()
            ], 0..120),
        ) {
            let len = MIN_LEN + rest.len();
            match walked(next, &rest, ToMany::No) {
                Ok(walked) => prop_assert!(walked.len <= len && !walked.proto.is_extension()
                    || walked.piece.is_some()),
                Err(Unopened::Refuse(Refusal::Header { pointer, .. }, _)) => {
                    prop_assert!((pointer as usize) < len);
                }
                Err(_) => {}
            }
        }
    }
}
