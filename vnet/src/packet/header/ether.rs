//! Ethernet II.

use std::net::IpAddr;

use smoltcp::wire::{EthernetAddress, EthernetFrame};

use super::HeaderError;
use crate::packet::addr::MacAddr;
use crate::packet::buf::Packet;
use crate::packet::tag::{TAG_LEN, Tpid};

/// Bytes in an Ethernet header without tags.
pub(crate) const ETHER_LEN: usize = 14;

/// What an Ethernet frame carries, in the numbering of IEEE 802.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4.
    pub(crate) const IPV4: EtherType = EtherType(0x0800);
    /// Address Resolution Protocol.
    pub(crate) const ARP: EtherType = EtherType(0x0806);
    /// Reverse ARP.
    pub(crate) const RARP: EtherType = EtherType(0x8035);
    /// Link Layer Discovery Protocol.
    pub(crate) const LLDP: EtherType = EtherType(0x88cc);
    /// Internet Protocol version 6.
    pub(crate) const IPV6: EtherType = EtherType(0x86dd);
    /// Slow protocols (IEEE 802.3, annex 57A), of which LACP is one.
    pub(crate) const SLOW_PROTOCOLS: EtherType = EtherType(0x8809);

    /// The type that stands `offset` bytes into `bytes`.
    ///
    /// # Panics
    /// When there are no two bytes.
    #[inline]
    pub(crate) fn at(bytes: &[u8], offset: usize) -> EtherType {
        EtherType(u16::from_be_bytes([bytes[offset], bytes[offset + 1]]))
    }

    /// True when it announces a VLAN tag.
    #[inline]
    pub(crate) const fn is_tag(self) -> bool {
        Tpid::of(self.0).is_some()
    }

    /// The type of frames that carry IP packets to this address.
    #[inline]
    pub(crate) fn of(dst: IpAddr) -> EtherType {
        match dst {
            IpAddr::V4(_) => EtherType::IPV4,
            IpAddr::V6(_) => EtherType::IPV6,
        }
    }
}

/// Where a frame's network header begins in its bytes: behind the Ethernet header, and the tags that
/// are not in its metadata.
pub(crate) fn network_offset(packet: &mut Packet) -> usize {
    let mut offset = ETHER_LEN;
    // No frame has more tags than can be pulled up.
    while let Some(head) = packet.pull_up(offset)
        && EtherType::at(head, offset - 2).is_tag()
    {
        offset += TAG_LEN;
    }
    offset
}

/// The header of an Ethernet II frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EtherHeader {
    /// The station the frame is for.
    pub dst: MacAddr,
    /// The station it is from.
    pub src: MacAddr,
    /// What it carries.
    pub ether_type: EtherType,
}

impl EtherHeader {
    /// Reads the header from its [`ETHER_LEN`] bytes.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<EtherHeader, HeaderError> {
        let frame = EthernetFrame::new_checked(bytes).map_err(|_| HeaderError::Truncated)?;
        Ok(EtherHeader {
            dst: MacAddr(frame.dst_addr().0),
            src: MacAddr(frame.src_addr().0),
            ether_type: EtherType(frame.ethertype().into()),
        })
    }

    /// Writes the header.
    ///
    /// # Panics
    /// When `bytes` is shorter than [`ETHER_LEN`].
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        frame.set_dst_addr(EthernetAddress(self.dst.0));
        frame.set_src_addr(EthernetAddress(self.src.0));
        frame.set_ethertype(self.ether_type.0.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_header_is_behind_all_tags() {
        let offset = |types: &[u16]| {
            let mut bytes = vec![2; 12];
            for (n, ether_type) in types.iter().enumerate() {
                if n > 0 {
                    bytes.extend([0, 5]);
                }
                bytes.extend(ether_type.to_be_bytes());
            }
            bytes.extend([0x45; 20]);
            network_offset(&mut Packet::incoming(bytes))
        };
        assert_eq!(offset(&[0x0800]), 14);
        assert_eq!(offset(&[0x8100, 0x0800]), 18);
        assert_eq!(offset(&[0x88a8, 0x8100, 0x0800]), 22);
        assert_eq!(offset(&[0x8100, 0x8100, 0x8100, 0x8100, 0x0800]), 30);
        assert_eq!(network_offset(&mut Packet::incoming(vec![1; 9])), 14);
    }
}
