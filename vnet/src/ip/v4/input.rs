//! From the link: is a packet for us, for another host, or for nobody?
//! (RFC 1122 section 3.2.1, RFC 1812 sections 4.2.2 and 5.2.1)
//!
//! Each question is a separate function, so that `stack/rx.rs` can act between two of them. Fragments of packets for us
//! are reassembled; those of others are forwarded unchanged.

use std::net::Ipv4Addr;

use super::output;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::ip::addr::{Cast, Kind, Ours};
use crate::ip::family::{Family, V4};
use crate::ip::input::{Destination, Ingress, Medium, Reassembled, Unopened, Version};
use crate::ip::reassembly::{self, Fragment, Key, Last};
use crate::ip::state::{Forwarding, IpState, Tunables};
use crate::ip::versions::Ip;
use crate::packet::header::ipv4::{self, Ipv4Header, MIN_LEN};
use crate::packet::header::{HeaderError, IpInfo, IpProto};
use crate::packet::{Csum, Cx, Packet};

/// Checks a packet by itself, and cuts off what the link added behind it.
///
/// # Errors
/// Why it is to be dropped.
pub(crate) fn check(
    state: &IpState<V4>,
    ingress: Ingress,
    packet: &mut Packet,
) -> Result<Ipv4Header, DropReason> {
    let header = check_header(packet)?;
    check_source(state, ingress, &header)?;
    Ok(header)
}

impl Version for V4 {
    #[inline]
    fn of(ip: &Ip) -> &IpState<V4> {
        &ip.v4
    }

    #[inline]
    fn of_mut(ip: &mut Ip) -> &mut IpState<V4> {
        &mut ip.v4
    }

    #[inline]
    fn info(header: &Ipv4Header) -> IpInfo {
        header.info()
    }

    #[inline]
    fn open(_: Cast, _: &mut Ipv4Header, _: &mut Packet) -> Result<(), Unopened> {
        Ok(())
    }

    #[inline]
    fn strip(header: &Ipv4Header, packet: &mut Packet) {
        packet.strip(usize::from(header.header_len));
    }

    #[inline]
    fn is_fragment(header: &Ipv4Header) -> bool {
        header.is_fragment()
    }

    fn destination(
        state: &IpState<V4>,
        ingress: Ingress,
        header: &Ipv4Header,
    ) -> Result<Destination, DropReason> {
        let kind = V4::kind(header.dst);
        match kind {
            Kind::Unspecified | Kind::ThisNetwork | Kind::Reserved => Err(DropReason::Martian),
            Kind::Broadcast => Ok(Destination::Local(Cast::Broadcast)),
            Kind::Multicast if state.groups.is_member(header.dst, ingress.ifid) => {
                Ok(Destination::Local(Cast::Multicast))
            }
            Kind::Multicast => Err(DropReason::NotForUs),
            Kind::Loopback if ingress.medium == Medium::Loopback => {
                Ok(Destination::Local(Cast::Unicast))
            }
            Kind::Loopback => Err(DropReason::Martian),
            Kind::Unicast | Kind::LinkLocal => match state.addrs.find(header.dst) {
                Some(Ours::Broadcast(on)) => Ok(match passes_on_broadcast(state, ingress, on) {
                    true => Destination::Other,
                    false => Destination::Local(Cast::Broadcast),
                }),
                // RFC 1122 section 3.3.6, RFC 1812 section 5.3.4: what a frame brings to everyone
                // must be addressed to everyone; else each would answer it, or pass it on.
                _ if ingress.cast != Cast::Unicast => Err(DropReason::NotForUs),
                Some(Ours::Address(_)) => Ok(Destination::Local(Cast::Unicast)),
                _ if state.tunables.forwarding == Forwarding::Disabled => {
                    Err(DropReason::NotForwarding)
                }
                // RFC 3927 section 2.7: link-local packets stay on their link.
                _ if kind == Kind::LinkLocal || header.src.is_link_local() => {
                    Err(DropReason::Martian)
                }
                Some(Ours::Anycast(_)) | None => Ok(Destination::Other),
            },
        }
    }

    fn reassemble(
        cx: &mut Cx<'_>,
        state: &mut IpState<V4>,
        ingress: Ingress,
        header: &Ipv4Header,
        cast: Cast,
        packet: Packet,
    ) -> Reassembled {
        // Errors are sent about neither a group's datagram nor one whose frame was for many.
        let quotable = match (cast, ingress.cast) {
            (Cast::Unicast, link) => link,
            (ip, _) => ip,
        };
        let inserted = state
            .reassembly
            .insert(cx, &fragment(header), quotable, packet);
        match inserted {
            reassembly::Verdict::Held => Reassembled::Held,
            reassembly::Verdict::Drop(reason) => Reassembled::Drop(reason),
            reassembly::Verdict::Complete(whole, packet) => {
                let info = IpInfo {
                    traffic_class: whole.traffic_class,
                    ..whole.header.info()
                };
                Reassembled::Whole(info, packet)
            }
        }
    }

    fn restore(header: &Ipv4Header, packet: Packet) -> Packet {
        output::restore(header, packet)
    }
}

/// RFC 1812 section 5.3.5.2: true when what is for everybody on the link of `on` has come in by another interface, and
/// is passed on. Like on Linux, it is then not for this router itself.
#[cold]
fn passes_on_broadcast(state: &IpState<V4>, ingress: Ingress, on: IfId) -> bool {
    let Tunables {
        directed_broadcasts,
        forwarding,
        ..
    } = state.tunables;
    directed_broadcasts.is_on()
        && forwarding == Forwarding::Enabled
        && on != ingress.ifid
        && ingress.cast == Cast::Unicast
        && ingress.medium == Medium::Wire
}

/// What a fragment's header says of its datagram (RFC 791 section 3.2).
fn fragment(header: &Ipv4Header) -> Fragment<V4> {
    Fragment {
        of: Key {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            ident: header.ident.into(),
        },
        offset: usize::from(header.fragment_offset),
        last: match header.more_fragments() {
            true => Last::No,
            false => Last::Yes,
        },
        traffic_class: header.tos,
        header: *header,
    }
}

fn check_header(packet: &mut Packet) -> Result<Ipv4Header, DropReason> {
    let trusted = packet.meta.csum != Csum::Unknown;
    let start = packet.pull_up(MIN_LEN).ok_or(DropReason::Malformed)?;
    let header_len = ipv4::header_len(start).map_err(reason)?;
    let bytes = packet.pull_up(header_len).ok_or(DropReason::Malformed)?;
    let header = match trusted {
        true => Ipv4Header::parse_trusted(bytes),
        false => Ipv4Header::parse(bytes),
    };
    let header = header.map_err(reason)?;
    if ipv4::has_source_route(bytes) {
        return Err(DropReason::SourceRoute);
    }
    let total_len = usize::from(header.total_len);
    if total_len > packet.len() {
        return Err(DropReason::Malformed);
    }
    // RFC 894: what is behind the packet is padding of the link.
    packet.truncate(total_len);
    Ok(header)
}

fn reason(error: HeaderError) -> DropReason {
    match error {
        HeaderError::BadChecksum => DropReason::BadChecksum,
        HeaderError::Truncated | HeaderError::BadLength | HeaderError::WrongFormat => {
            DropReason::Malformed
        }
    }
}

/// RFC 1122 section 3.2.1.3 and RFC 1812 section 5.3.7: a source is one host, and on a wire it
/// is not ourselves.
fn check_source(
    state: &IpState<V4>,
    ingress: Ingress,
    header: &Ipv4Header,
) -> Result<(), DropReason> {
    let wire = ingress.medium == Medium::Wire;
    let possible = match V4::kind(header.src) {
        // A host that does not know its address yet asks everyone (RFC 2131 section 4.1), and says in which groups
        // it is; a switch that has none asks who is in a group (RFC 4541 section 2.1.1).
        Kind::Unspecified => {
            header.dst == Ipv4Addr::BROADCAST
                || (header.proto == IpProto::IGMP && header.dst.is_multicast())
        }
        Kind::Loopback => !wire,
        Kind::Unicast | Kind::LinkLocal => match state.addrs.find(header.src) {
            None => true,
            Some(Ours::Address(_)) => !wire,
            Some(Ours::Broadcast(_) | Ours::Anycast(_)) => false,
        },
        Kind::ThisNetwork | Kind::Multicast | Kind::Reserved | Kind::Broadcast => false,
    };
    match possible {
        true => Ok(()),
        false => Err(DropReason::Martian),
    }
}

#[cfg(test)]
mod tests;
