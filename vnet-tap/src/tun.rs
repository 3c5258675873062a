//! Link headers for a TUN, which has none. The vnet's end is an Ethernet interface as any other: a header is
//! taken off what it sends and put on what it receives, and whoever it looks for on its link is found, at
//! one address that stands for the whole host.

use bytes::Bytes;
use parking_lot::Mutex;
use vnet::MacAddr;

use crate::line::HEADER_LEN;

/// Bytes in an Ethernet header.
pub(crate) const ETHER_LEN: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// ICMPv6, as a next header.
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Both stations of the link.
pub(crate) struct Neighbours {
    /// The vnet's interface, as its frames have it.
    ours: Mutex<MacAddr>,
    /// The host.
    theirs: MacAddr,
}

/// What a frame from the vnet is to a host without link headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// An IP packet behind its link header.
    Packet,
    /// A question about the link, and the answer.
    Question(Bytes),
    /// Something about the link that nobody has to hear.
    Talk,
    /// What a TUN cannot carry.
    Other,
}

impl Neighbours {
    pub(crate) fn of(ours: MacAddr) -> Neighbours {
        let [.., d, e, f] = ours.0;
        Neighbours {
            ours: Mutex::new(ours),
            // Locally administered, and no address of the vnet's own: its first byte is another.
            theirs: MacAddr([0x0a, 0x74, 0x6e, d, e, f]),
        }
    }

    /// The link header of a packet from the host; `None` when it is not IP.
    pub(crate) fn header(&self, packet: &[u8]) -> Option<[u8; ETHER_LEN]> {
        let kind = match packet.first()? >> 4 {
            4 => IPV4,
            6 => IPV6,
            _ => return None,
        };
        let mut header = [0; ETHER_LEN];
        header[..6].copy_from_slice(&self.ours.lock().0);
        header[6..12].copy_from_slice(&self.theirs.0);
        header[12..].copy_from_slice(&kind);
        Some(header)
    }

    /// What a frame from the vnet is.
    pub(crate) fn look(&self, frame: &[u8]) -> Outgoing {
        let Some((header, packet)) = frame.split_at_checked(ETHER_LEN) else {
            return Outgoing::Other;
        };
        if let Ok(from) = header[6..12].try_into() {
            // It may have been given another address.
            *self.ours.lock() = MacAddr(from);
        }
        let kind = [header[12], header[13]];
        let asked = match kind {
            ARP => self.arp(packet),
            IPV6 => self.solicitation(packet),
            IPV4 => Outgoing::Packet,
            _ => Outgoing::Other,
        };
        match (asked, packet.is_empty()) {
            (Outgoing::Packet, true) => Outgoing::Other,
            (asked, _) => asked,
        }
    }

    /// RFC 826: whoever is looked for is at the host's address.
    fn arp(&self, packet: &[u8]) -> Outgoing {
        // Ethernet, IPv4, and the lengths of their addresses; a request.
        let Some(arp) = packet.first_chunk::<28>() else {
            return Outgoing::Other;
        };
        let (sender, wanted) = (&arp[14..18], &arp[24..28]);
        // RFC 5227: a probe and an announcement are about the sender's own address.
        let is_own = sender == [0; 4] || sender == wanted;
        if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || is_own {
            return Outgoing::Talk;
        }
        let mut answer = Vec::with_capacity(ETHER_LEN + 28);
        answer.extend(&arp[8..14]);
        answer.extend(self.theirs.0);
        answer.extend(ARP);
        answer.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        answer.extend(self.theirs.0);
        answer.extend(wanted);
        answer.extend(&arp[8..18]);
        Outgoing::Question(answer.into())
    }

    /// RFC 4861 section 7.2: the same of IPv6.
    fn solicitation(&self, packet: &[u8]) -> Outgoing {
        let Some((ip, icmp)) = packet.split_first_chunk::<40>() else {
            return Outgoing::Other;
        };
        // Section 7.1.1: such a packet has not been forwarded.
        let is_solicitation = ip[6] == ICMPV6
            && ip[7] == 255
            && icmp.len() >= 24
            && icmp[0] == NEIGHBOUR_SOLICITATION;
        if !is_solicitation {
            return Outgoing::Packet;
        }
        let (from, wanted) = (&ip[8..24], &icmp[8..24]);
        if *from == [0; 16] {
            // RFC 4862 section 5.4.2: somebody finds out whether an address is free, and it is.
            return Outgoing::Talk;
        }
        let mut icmp = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0];
        // Solicited, and in the place of what was known before.
        icmp.extend([0x60, 0, 0, 0]);
        icmp.extend(wanted);
        // Section 4.6.1: the target's link-layer address.
        icmp.extend([2, 1]);
        icmp.extend(self.theirs.0);
        let len = icmp.len() as u8;
        let addresses = [wanted, from].concat();
        let sum = sum(&[&addresses, &[0, 0, 0, len, 0, 0, 0, ICMPV6], &icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut answer = Vec::with_capacity(ETHER_LEN + 40 + icmp.len());
        answer.extend(self.ours.lock().0);
        answer.extend(self.theirs.0);
        answer.extend(IPV6);
        answer.extend([0x60, 0, 0, 0, 0, len, ICMPV6, 255]);
        answer.extend(addresses);
        answer.extend(icmp);
        Outgoing::Question(answer.into())
    }
}

/// The Internet checksum (RFC 1071) of parts of even lengths.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Moves what a virtio-net header says of places in a frame to where they are with a link header in front, or
/// without one. One that speaks of a place that is not there is `None`.
pub(crate) fn moved(
    mut header: [u8; HEADER_LEN],
    by: impl Fn(u16) -> Option<u16>,
) -> Option<[u8; HEADER_LEN]> {
    let [flags, gso_type, ..] = header;
    let mut shift = |at: usize| {
        let place = u16::from_le_bytes([header[at], header[at + 1]]);
        header[at..at + 2].copy_from_slice(&by(place)?.to_le_bytes());
        Some(())
    };
    // Virtio 1.2, section 5.1.6: `gso_type` and `hdr_len`, VIRTIO_NET_HDR_F_NEEDS_CSUM and `csum_start`.
    if gso_type != 0 {
        shift(2)?;
    }
    if flags & 1 != 0 {
        shift(6)?;
    }
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    fn frame(kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0xff; 6], &OURS.0[..], &kind, packet].concat()
    }

    #[test]
    fn whoever_is_looked_for_is_found() {
        let link = Neighbours::of(OURS);
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(OURS.0);
        arp.extend([192, 0, 2, 2]);
        arp.extend([0; 6]);
        arp.extend([192, 0, 2, 1]);
        let Outgoing::Question(answer) = link.look(&frame(ARP, &arp)) else {
            panic!("a question");
        };
        let theirs = [0x0a, 0x74, 0x6e, 0, 0, 7];
        let expected = [
            &OURS.0[..],
            &theirs,
            &ARP,
            &[0, 1, 8, 0, 6, 4, 0, 2],
            &theirs,
            &[192, 0, 2, 1],
            &OURS.0,
            &[192, 0, 2, 2],
        ];
        assert_eq!(answer, expected.concat());
        // Its own address is announced, and nobody answers to that.
        arp[14..18].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(link.look(&frame(ARP, &arp)), Outgoing::Talk);
        assert_eq!(link.look(&frame(ARP, &arp[..27])), Outgoing::Other);
        assert_eq!(link.look(&frame([0x81, 0], &arp)), Outgoing::Other);
    }

    #[test]
    fn places_are_moved_with_the_link_header() {
        let said = [1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0];
        let without = moved(said, |place| place.checked_sub(14)).unwrap();
        assert_eq!(without, [1, 1, 40, 0, 0xe8, 3, 20, 0, 16, 0, 0, 0]);
        assert_eq!(moved(without, |place| place.checked_add(14)), Some(said));
        let lie = [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(moved(lie, |place| place.checked_add(14)), None);
        assert_eq!(moved([0; 12], |_| None), Some([0; 12]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whatever is looked at: an answer goes to the vnet and is a frame.
        #[test]
        fn anything_can_be_looked_at(
            kind in prop::sample::select(vec![ARP, IPV4, IPV6, [0x81, 0]]),
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            solicits in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if solicits && bytes.len() > 40 {
                (bytes[6], bytes[7], bytes[40]) = (ICMPV6, 255, NEIGHBOUR_SOLICITATION);
            }
            let link = Neighbours::of(OURS);
            let _ = link.header(&bytes);
            if let Outgoing::Question(answer) = link.look(&frame(kind, &bytes)) {
                prop_assert!(answer.len() >= 42);
                prop_assert_eq!(&answer[12..14], &kind);
                if kind == IPV6 {
                    let (header, icmp) = answer[14..].split_at(40);
                    let pseudo = [0, 0, 0, icmp.len() as u8, 0, 0, 0, ICMPV6];
                    prop_assert_eq!(sum(&[&header[8..40], &pseudo, icmp]), 0);
                }
            }
        }
    }
}
