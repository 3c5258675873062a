//! What an ICMP error, of another host or our own, means to the socket whose packet it quotes.

use std::net::{IpAddr, SocketAddr};

use super::Stack;
use crate::icmp;
use crate::ip::Refusal;
use crate::packet::Cx;
use crate::packet::header::{IpProto, zone};
use crate::transport::datagram::Verdict as SocketVerdict;
use crate::transport::echo::EchoEvent;
use crate::transport::error::SocketError;
use crate::transport::tcp::{IcmpKind as TcpIcmp, Verdict as TcpVerdict};

/// Tells the socket whose packet is quoted; true when there is one.
pub(super) fn tell(
    s: &mut Stack,
    cx: &mut Cx,
    from: IpAddr,
    refusal: Refusal,
    quoted: &icmp::Quoted,
) -> bool {
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
            Some(error) => s.udp.on_icmp_error(cx.out, local, remote, error) > 0,
            None => false,
        },
        IpProto::ICMP | IpProto::ICMPV6 => echo_error(s, cx, from, refusal, quoted),
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
) -> bool {
    let Some((ident, seq)) = quoted.echo() else {
        return false;
    };
    let from = zone::wire_ip(from);
    let event = match (refusal, icmp::unreachable_code(quoted.dst, refusal)) {
        (Refusal::HopLimit | Refusal::Reassembly, _) => EchoEvent::TimeExceeded { from, seq },
        (_, Some(code)) => EchoEvent::Unreachable { from, seq, code },
        (_, None) => return false,
    };
    s.echo.input(cx, ident, event) == SocketVerdict::Delivered
}
