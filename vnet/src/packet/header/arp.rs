//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket as WirePacket, ArpRepr, EthernetAddress, EthernetProtocol,
};

use super::HeaderError;
use crate::packet::addr::MacAddr;

/// Bytes in an ARP packet for IPv4 over Ethernet. What follows in a frame is padding.
pub(crate) const ARP_LEN: usize = 28;

/// What an ARP packet asks or says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ArpOp {
    /// "Who has the target address?"
    Request,
    /// "The sender has it."
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// The sender's hardware address.
    pub sender_mac: MacAddr,
    /// The sender's protocol address; unspecified in a probe (RFC 5227 section 1.1).
    pub sender_ip: Ipv4Addr,
    /// The target's hardware address; zero in a request, which asks for it.
    pub target_mac: MacAddr,
    /// The target's protocol address.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// The question "who has `target_ip`?", asked by the station `mac` with the address `ip`.
    pub(crate) fn request(mac: MacAddr, ip: Ipv4Addr, target_ip: Ipv4Addr) -> ArpPacket {
        ArpPacket {
            op: ArpOp::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        }
    }

    /// The answer "`mac` has the address you asked for". Meaningful for a request only.
    pub(crate) fn answered_by(&self, mac: MacAddr) -> ArpPacket {
        ArpPacket {
            op: ArpOp::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// The question of the station `mac` what its address is (RFC 903), which nobody answers: all bridges that it
    /// passes learn where the station is.
    pub(crate) fn emit_reverse_request(mac: MacAddr, bytes: &mut [u8]) {
        let question = ArpPacket {
            target_mac: mac,
            ..ArpPacket::request(mac, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
        };
        question.emit(bytes);
        bytes[7] = 3;
    }

    /// Reads a packet from its first [`ARP_LEN`] bytes; more is padding.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer, [`HeaderError::WrongFormat`] for
    /// hardware other than Ethernet, a protocol other than IPv4 and an unknown operation,
    /// [`HeaderError::BadLength`] for address lengths that are not those of the two.
    pub(crate) fn parse(bytes: &[u8]) -> Result<ArpPacket, HeaderError> {
        let bytes = bytes.get(..ARP_LEN).ok_or(HeaderError::Truncated)?;
        let wire = WirePacket::new_unchecked(bytes);
        if wire.hardware_type() != smoltcp::wire::ArpHardware::Ethernet
            || wire.protocol_type() != EthernetProtocol::Ipv4
        {
            return Err(HeaderError::WrongFormat);
        }
        if (wire.hardware_len(), wire.protocol_len()) != (6, 4) {
            return Err(HeaderError::BadLength);
        }
        let repr = ArpRepr::parse(&wire).map_err(|_| HeaderError::WrongFormat)?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = repr
        else {
            return Err(HeaderError::WrongFormat);
        };
        Ok(ArpPacket {
            op: match operation {
                ArpOperation::Request => ArpOp::Request,
                ArpOperation::Reply => ArpOp::Reply,
                ArpOperation::Unknown(_) => return Err(HeaderError::WrongFormat),
            },
            sender_mac: MacAddr(source_hardware_addr.0),
            sender_ip: source_protocol_addr,
            target_mac: MacAddr(target_hardware_addr.0),
            target_ip: target_protocol_addr,
        })
    }

    /// Writes the packet.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`ARP_LEN`].
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let repr = ArpRepr::EthernetIpv4 {
            operation: match self.op {
                ArpOp::Request => ArpOperation::Request,
                ArpOp::Reply => ArpOperation::Reply,
            },
            source_hardware_addr: EthernetAddress(self.sender_mac.0),
            source_protocol_addr: self.sender_ip,
            target_hardware_addr: EthernetAddress(self.target_mac.0),
            target_protocol_addr: self.target_ip,
        };
        repr.emit(&mut WirePacket::new_unchecked(&mut bytes[..ARP_LEN]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Who has 10.0.0.2? Tell 10.0.0.1 at 02:00:00:00:00:01.
    const REQUEST: [u8; ARP_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, 6, 4, request
        2, 0, 0, 0, 0, 1, 10, 0, 0, 1, // sender
        0, 0, 0, 0, 0, 0, 10, 0, 0, 2, // target
    ];

    fn request() -> ArpPacket {
        ArpPacket::request(
            MacAddr::from_number(1),
            Ipv4Addr::new(10, 0, 0, 1),
            Ipv4Addr::new(10, 0, 0, 2),
        )
    }

    #[test]
    fn a_request_as_on_the_wire() {
        assert_eq!(ArpPacket::parse(&REQUEST), Ok(request()));
        let mut bytes = [0xee; ARP_LEN];
        request().emit(&mut bytes);
        assert_eq!(bytes, REQUEST);
        // Padding up to the minimum frame is not looked at.
        let padded = [&REQUEST[..], &[0xaa; 18]].concat();
        assert_eq!(ArpPacket::parse(&padded), Ok(request()));
    }

    #[test]
    fn an_answer_turns_the_addresses_around() {
        let answer = request().answered_by(MacAddr::from_number(2));
        assert_eq!(answer.op, ArpOp::Reply);
        assert_eq!(answer.sender_ip, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(answer.sender_mac, MacAddr::from_number(2));
        assert_eq!(answer.target_ip, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(answer.target_mac, MacAddr::from_number(1));
    }

    #[test]
    fn what_is_not_arp_for_ipv4_over_ethernet_is_refused() {
        for n in 0..ARP_LEN {
            assert_eq!(ArpPacket::parse(&REQUEST[..n]), Err(HeaderError::Truncated));
        }
        for (at, value, error) in [
            (1, 6, HeaderError::WrongFormat), // hardware: IEEE 802
            (3, 6, HeaderError::WrongFormat), // protocol: not IPv4
            (4, 8, HeaderError::BadLength),   // hardware address length
            (4, 255, HeaderError::BadLength),
            (5, 16, HeaderError::BadLength), // protocol address length
            (7, 3, HeaderError::WrongFormat), // RARP request
            (7, 0, HeaderError::WrongFormat),
        ] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(ArpPacket::parse(&bytes), Err(error), "byte {at} = {value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic_and_what_parses_round_trips(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64),
            valid_start in any::<bool>(),
        ) {
            if valid_start && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&REQUEST[..8]);
            }
            if let Ok(packet) = ArpPacket::parse(&bytes) {
                let mut again = [0; ARP_LEN];
                packet.emit(&mut again);
                prop_assert_eq!(&again[..], &bytes[..ARP_LEN]);
            }
        }
    }
}
