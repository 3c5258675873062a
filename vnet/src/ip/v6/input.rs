//! From the link: is a packet for us, for another host, or for nobody? (RFC 8200, RFC 4291)
//!
//! Each question is a function of its own, as in [`v4::input`](crate::ip::v4::input). Extension headers
//! are looked at when it is known that the packet is for us.

use std::net::Ipv6Addr;

use super::extensions::{self, ToMany};
use super::{Header, output};
use crate::base::stats::DropReason;
use crate::ip::addr::{self, Cast, Kind, Ours};
use crate::ip::family::{Family, V6};
use crate::ip::input::{Destination, Ingress, Medium, Reassembled, Unopened, Version};
use crate::ip::reassembly::{self, Fragment, Key, Last};
use crate::ip::state::{Forwarding, IpState};
use crate::ip::versions::Ip;
use crate::packet::header::ipv6::{Chain, Ipv6Header, MIN_LEN};
use crate::packet::header::{IpInfo, IpProto, ndp, zone};
use crate::packet::{Cx, Packet};

/// Checks a packet by itself, and cuts off what the link added behind it.
///
/// # Errors
/// Why it is to be dropped.
pub(crate) fn check(
    state: &IpState<V6>,
    ingress: Ingress,
    packet: &mut Packet,
) -> Result<Header, DropReason> {
    let bytes = packet.pull_up(MIN_LEN).ok_or(DropReason::Malformed)?;
    let mut fixed = Ipv6Header::parse(bytes).map_err(|_| DropReason::Malformed)?;
    let total_len = MIN_LEN + usize::from(fixed.payload_len);
    if total_len > packet.len() {
        return Err(DropReason::Malformed);
    }
    packet.truncate(total_len);
    // RFC 4291 sections 2.5.6 and 2.7: where our number is to stand, an address has nothing. A group may
    // (RFC 3306), and is then none that anybody here has joined.
    if zone::split(fixed.src).1 != 0 {
        return Err(DropReason::Martian);
    }
    if zone::split(fixed.dst).1 != 0 {
        return Err(match fixed.dst.is_multicast() {
            true => DropReason::NotForUs,
            false => DropReason::Martian,
        });
    }
    // What we send to ourselves has come by the loopback interface; the caller knows what link it is of.
    let number = zone::number(ingress.ifid).unwrap_or_default();
    fixed.src = zone::bind(fixed.src, number);
    fixed.dst = zone::bind(fixed.dst, number);
    match check_source(state, ingress, &fixed) {
        // RFC 4862 section 5.4.4: so it is heard that another station has an address of ours.
        Err(_) if says_it_is_here(&fixed, packet) => {}
        checked => checked?,
    }
    Ok(Header {
        fixed,
        proto: fixed.next,
        len: MIN_LEN,
        piece: None,
    })
}

/// True for an advertisement of neighbour discovery by a host of the link.
#[cold]
fn says_it_is_here(fixed: &Ipv6Header, packet: &Packet) -> bool {
    let mut kind = [0];
    fixed.next == IpProto::ICMPV6
        && fixed.hop_limit == 255
        && addr::is_station::<V6>(fixed.src)
        && packet.copy_to(MIN_LEN, &mut kind) == 1
        && kind[0] == ndp::ADVERTISEMENT
}

/// RFC 4291 section 2.5.2, 2.5.3 and 2.7: what a source cannot be. On a wire it is not ourselves.
fn check_source(
    state: &IpState<V6>,
    ingress: Ingress,
    fixed: &Ipv6Header,
) -> Result<(), DropReason> {
    let wire = ingress.medium == Medium::Wire;
    let possible = match V6::kind(fixed.src) {
        // A host that has no address yet asks for its neighbours and tells of its groups.
        Kind::Unspecified => fixed.dst.is_multicast(),
        Kind::Loopback => !wire,
        Kind::Unicast | Kind::LinkLocal => !(wire && state.addrs.contains(fixed.src)),
        Kind::ThisNetwork | Kind::Multicast | Kind::Reserved | Kind::Broadcast => false,
    };
    match possible {
        true => Ok(()),
        false => Err(DropReason::Martian),
    }
}

/// True for the groups to which an interface listens.
fn is_member(state: &IpState<V6>, ingress: Ingress, group: Ipv6Addr) -> bool {
    let group = zone::wire(group);
    let routes = state.tunables.forwarding == Forwarding::Enabled;
    // Whoever is asked for may be behind this router.
    let proxies = state.tunables.proxies.is_on() && V6::is_of_addresses(group);
    state.groups.is_member(group, ingress.ifid) || routes && proxies
}

impl Version for V6 {
    #[inline]
    fn of(ip: &Ip) -> &IpState<V6> {
        ip.v6()
    }

    #[inline]
    fn of_mut(ip: &mut Ip) -> &mut IpState<V6> {
        ip.v6_mut()
    }

    #[inline]
    fn info(header: &Header) -> IpInfo {
        header.fixed.info(header.proto)
    }

    #[inline]
    fn is_fragment(header: &Header) -> bool {
        header.piece.is_some()
    }

    fn destination(
        state: &IpState<V6>,
        ingress: Ingress,
        header: &Header,
    ) -> Result<Destination, DropReason> {
        let (src, dst) = (header.fixed.src, header.fixed.dst);
        let kind = V6::kind(dst);
        match kind {
            Kind::Multicast if is_member(state, ingress, dst) => {
                Ok(Destination::Local(Cast::Multicast))
            }
            Kind::Multicast => Err(DropReason::NotForUs),
            Kind::Loopback if ingress.medium == Medium::Wire => Err(DropReason::Martian),
            Kind::Unicast | Kind::LinkLocal | Kind::Loopback => match state.addrs.find(dst) {
                _ if ingress.cast != Cast::Unicast => Err(DropReason::NotForUs),
                Some(Ours::Address(_)) => Ok(Destination::Local(Cast::Unicast)),
                Some(Ours::Anycast(_)) => Ok(Destination::Local(Cast::Anycast)),
                Some(Ours::Broadcast(_)) | None
                    if state.tunables.forwarding == Forwarding::Disabled =>
                {
                    Err(DropReason::NotForwarding)
                }
                // RFC 4291 section 2.5.6: link-local packets stay on their link.
                _ if kind != Kind::Unicast || V6::kind(src) != Kind::Unicast => {
                    Err(DropReason::Martian)
                }
                _ => Ok(Destination::Other),
            },
            Kind::Unspecified | Kind::ThisNetwork | Kind::Reserved | Kind::Broadcast => {
                Err(DropReason::Martian)
            }
        }
    }

    fn open(cast: Cast, header: &mut Header, packet: &mut Packet) -> Result<(), Unopened> {
        if !header.proto.is_extension() {
            return Ok(());
        }
        let walked = extensions::walk(packet, Chain::of(packet, 0), to_many(cast))?;
        header.proto = walked.proto;
        header.len = walked.len;
        header.piece = walked.piece;
        Ok(())
    }

    #[inline]
    fn strip(header: &Header, packet: &mut Packet) {
        packet.cut_front(header.len);
    }

    fn reassemble(
        cx: &mut Cx<'_>,
        state: &mut IpState<V6>,
        ingress: Ingress,
        header: &Header,
        cast: Cast,
        packet: Packet,
    ) -> Reassembled {
        let quotable = match (cast, ingress.cast) {
            (Cast::Unicast | Cast::Anycast, link) => link,
            (ip, _) => ip,
        };
        let Some(fragment) = fragment(header) else {
            return Reassembled::Drop(DropReason::Malformed);
        };
        match state.reassembly.insert(cx, &fragment, quotable, packet) {
            reassembly::Verdict::Held => Reassembled::Held,
            reassembly::Verdict::Drop(reason) => Reassembled::Drop(reason),
            reassembly::Verdict::Complete(whole, packet) => {
                let mut fixed = whole.header.fixed;
                fixed.traffic_class = whole.traffic_class;
                behind_fragments(&fixed, whole.header.proto, cast, packet)
            }
        }
    }

    fn restore(header: &Header, mut packet: Packet) -> Packet {
        if let Some(piece) = header.piece {
            let bytes = packet.prepend(crate::packet::header::ipv6::FRAGMENT_LEN);
            piece.emit(bytes.first_chunk_mut().expect("as many as were asked for"));
        }
        let next = match header.piece {
            Some(_) => IpProto::FRAGMENT,
            None => header.proto,
        };
        output::restore(
            &Ipv6Header {
                next,
                ..header.fixed
            },
            packet,
        )
    }
}

fn to_many(cast: Cast) -> ToMany {
    match cast {
        Cast::Unicast | Cast::Anycast => ToMany::No,
        Cast::Broadcast | Cast::Multicast => ToMany::Yes,
    }
}

/// What a fragment's header says of its packet (RFC 8200 section 4.5).
fn fragment(header: &Header) -> Option<Fragment<V6>> {
    let piece = header.piece?;
    Some(Fragment {
        of: Key {
            src: header.fixed.src,
            dst: header.fixed.dst,
            // What the fragments carry is said by the first alone, and does not tell them apart.
            proto: IpProto::FRAGMENT,
            ident: piece.ident,
        },
        offset: usize::from(piece.offset),
        last: match piece.more {
            true => Last::No,
            false => Last::Yes,
        },
        traffic_class: header.fixed.traffic_class,
        header: *header,
    })
}

/// Goes through the extension headers that were in fragments.
fn behind_fragments(
    fixed: &Ipv6Header,
    next: IpProto,
    cast: Cast,
    mut packet: Packet,
) -> Reassembled {
    let chain = Chain::behind_fragment(&packet, next);
    match extensions::walk(&packet, chain, to_many(cast)) {
        // Fragments of fragments: nobody sends those.
        Ok(walked) if walked.piece.is_some() => Reassembled::Drop(DropReason::Malformed),
        Ok(walked) if extensions::is_discovery(&packet, &walked) => {
            Reassembled::Drop(DropReason::Martian)
        }
        Ok(walked) => {
            packet.cut_front(walked.len);
            Reassembled::Whole(fixed.info(walked.proto), packet)
        }
        Err(Unopened::Drop(reason) | Unopened::Refuse(_, reason)) => Reassembled::Drop(reason),
    }
}

#[cfg(test)]
mod tests;
