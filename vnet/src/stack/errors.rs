//! What an ICMP error, of another host or our own, means to the socket whose packet it quotes.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::Stack;
use crate::base::id::IfId;
use crate::icmp;
use crate::ip::Refusal;
use crate::packet::Cx;
use crate::packet::header::icmp_ext::{self, IcmpObject};
use crate::packet::header::{Fragmentation, IpProto, zone};
use crate::transport::datagram::Verdict as SocketVerdict;
use crate::transport::echo::EchoEvent;
use crate::transport::error::SocketError;
use crate::transport::tcp::{IcmpKind as TcpIcmp, Verdict as TcpVerdict};
use crate::transport::udp::DatagramError;

/// What is said of a packet of ours.
pub(super) struct Said {
    /// Who says it.
    pub from: IpAddr,
    /// What it is.
    pub refusal: Refusal,
    /// The objects of extensions (RFC 4884) beside it.
    pub extensions: Bytes,
}

/// Takes what another host says of a packet of ours; true when it is believed.
pub(super) fn hear(
    s: &mut Stack,
    cx: &mut Cx,
    rcvif: Option<IfId>,
    said: Said,
    quoted: &icmp::Quoted,
) -> bool {
    match said.refusal {
        Refusal::Redirect { gateway } => {
            rcvif.is_some_and(|ifid| s.redirected_v4(cx.now, ifid, said.from, gateway, quoted))
        }
        Refusal::PacketTooBig { mtu } => narrow_path(s, cx, mtu, said, quoted),
        _ => tell(s, cx, said, quoted),
    }
}

/// A path is said to take no more than this. RFC 8201 section 4 and RFC 5927 section 7.2: only of
/// a packet that can have been sent and was longer, and never more than is known already. TCP checks it by its sequence
/// number. Of the other sockets those are told whose packets must not be cut.
#[cold]
fn narrow_path(s: &mut Stack, cx: &mut Cx, ip_mtu: u32, said: Said, quoted: &icmp::Quoted) -> bool {
    let known = s.path_to(cx.now, quoted.dst).map_or(0, |path| path.ip_mtu);
    let (is_news, from) = (ip_mtu < known, said.from);
    if quoted.proto == IpProto::TCP {
        let believed = tell(s, cx, said, quoted);
        if believed && is_news {
            s.ip.learn_path(cx.now, from, quoted.dst, ip_mtu);
        }
        return believed;
    }
    if quoted.ip_len <= ip_mtu {
        return false;
    }
    let believed = is_news && s.ip.has_sent_long(quoted.src, quoted.dst) && has_sender(s, quoted);
    if believed {
        s.ip.learn_path(cx.now, from, quoted.dst, ip_mtu);
    }
    let told = tell(s, cx, said, quoted);
    believed || told
}

/// True when there is somebody who can have sent this, other than TCP.
fn has_sender(s: &Stack, quoted: &icmp::Quoted) -> bool {
    let (src_port, _) = quoted.ports();
    s.listens_raw(quoted.proto)
        || match quoted.proto {
            IpProto::UDP => s
                .datagrams
                .udp
                .is_bound(SocketAddr::new(quoted.src, src_port)),
            IpProto::ICMP | IpProto::ICMPV6 => match quoted.echo() {
                Some((ident, _)) => s.datagrams.echo.fragmentation(ident).is_some(),
                // What we answer is as long as what was asked.
                None => quoted.is_echo_reply(),
            },
            _ => false,
        }
}

/// Tells the socket whose packet is quoted; true when there is one.
pub(super) fn tell(s: &mut Stack, cx: &mut Cx, said: Said, quoted: &icmp::Quoted) -> bool {
    let Said {
        from,
        refusal,
        extensions,
    } = said;
    let (src_port, dst_port) = quoted.ports();
    let local = SocketAddr::new(quoted.src, src_port);
    let remote = SocketAddr::new(quoted.dst, dst_port);
    match quoted.proto {
        IpProto::TCP => match stream_error(refusal) {
            Some(what) => {
                let seq = quoted.tcp_seq();
                s.tcp.on_icmp_error(cx, local, remote, seq, what) == TcpVerdict::Delivered
            }
            None => false,
        },
        IpProto::UDP => match datagram_error(refusal) {
            Some(error) => {
                let path_mtu = match refusal {
                    Refusal::PacketTooBig { mtu } => Some(mtu),
                    _ => None,
                };
                let told = DatagramError {
                    error,
                    peer: remote,
                    from: zone::wire_ip(from),
                    path_mtu,
                    extensions: icmp_ext::read(&extensions),
                };
                s.datagrams.udp.on_icmp_error(cx.out, local, told) > 0
            }
            None => false,
        },
        IpProto::ICMP | IpProto::ICMPV6 => {
            let extensions = icmp_ext::read(&extensions);
            echo_error(s, cx, from, refusal, quoted, extensions)
        }
        _ => false,
    }
}

/// What an ICMP error means to a TCP connection (RFC 5461).
fn stream_error(refusal: Refusal) -> Option<TcpIcmp> {
    match refusal {
        Refusal::PacketTooBig { mtu } => Some(TcpIcmp::FragmentationNeeded { ip_mtu: mtu }),
        Refusal::HopLimit | Refusal::Reassembly => Some(TcpIcmp::TimeExceeded),
        _ => datagram_error(refusal).map(TcpIcmp::Unreachable),
    }
}

/// What an ICMP error means to a connected UDP socket (RFC 1122, section 4.1.3.3).
fn datagram_error(refusal: Refusal) -> Option<SocketError> {
    match refusal {
        Refusal::Port => Some(SocketError::ConnectionRefused),
        Refusal::Protocol => Some(SocketError::ProtocolUnreachable),
        Refusal::NoRoute => Some(SocketError::NetworkUnreachable),
        Refusal::HostUnreachable | Refusal::Prohibited | Refusal::Unreachable { .. } => {
            Some(SocketError::HostUnreachable)
        }
        Refusal::PacketTooBig { .. } => Some(SocketError::MessageTooLong),
        Refusal::HopLimit
        | Refusal::Reassembly
        | Refusal::Header { .. }
        | Refusal::Redirect { .. } => None,
    }
}

/// Tells the echo socket whose request is quoted.
fn echo_error(
    s: &mut Stack,
    cx: &mut Cx,
    from: IpAddr,
    refusal: Refusal,
    quoted: &icmp::Quoted,
    extensions: Vec<IcmpObject>,
) -> bool {
    let Some((ident, seq)) = quoted.echo() else {
        return false;
    };
    let from = zone::wire_ip(from);
    let event = match (refusal, icmp::unreachable_code(quoted.dst, refusal)) {
        (Refusal::PacketTooBig { mtu: path_mtu }, _) => {
            if s.datagrams.echo.fragmentation(ident) != Some(Fragmentation::Forbidden) {
                return false;
            }
            EchoEvent::TooBig {
                from,
                seq,
                path_mtu,
                extensions,
            }
        }
        (Refusal::HopLimit | Refusal::Reassembly, _) => EchoEvent::TimeExceeded {
            from,
            seq,
            extensions,
        },
        (_, Some(code)) => EchoEvent::Unreachable {
            from,
            seq,
            code,
            extensions,
        },
        (_, None) => return false,
    };
    let datagrams = s.datagrams.made();
    datagrams.is_some_and(|d| d.echo.input(cx, ident, event) == SocketVerdict::Delivered)
}
