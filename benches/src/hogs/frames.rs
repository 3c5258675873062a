//! Frames that no stack would send.

use std::net::Ipv4Addr;

/// Who says that it sent a frame; another one each time.
fn liar(n: u32) -> ([u8; 6], Ipv4Addr) {
    let [_, b, c, d] = n.to_be_bytes();
    ([2, 0x66, 0, b, c, d], Ipv4Addr::new(198, 19, c, d.max(2)))
}

fn ethernet(dst: [u8; 6], src: [u8; 6], ether_type: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(1514);
    frame.extend(dst);
    frame.extend(src);
    frame.extend(ether_type.to_be_bytes());
    frame
}

/// A question for `target`, by somebody else each time.
pub(super) fn arp(target: Ipv4Addr, n: u32) -> Vec<u8> {
    let (mac, ip) = liar(n);
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// A connection request to port 81, by somebody else each time.
pub(super) fn syn(mac: [u8; 6], target: Ipv4Addr, n: u32) -> Vec<u8> {
    let (from, ip) = liar(n);
    let mut segment = Vec::with_capacity(20);
    segment.extend((1024 + (n >> 4) as u16 % 60_000).to_be_bytes());
    segment.extend(81_u16.to_be_bytes());
    segment.extend(n.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = Vec::from(ip.octets());
    pseudo.extend(target.octets());
    pseudo.extend([0, 6, 0, 20]);
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(mac, from, [ip, target], 6, 0, n, &segment)
}

/// The first half of a datagram whose other half never comes.
pub(super) fn fragment(mac: [u8; 6], target: Ipv4Addr, n: u32) -> Vec<u8> {
    let (from, ip) = liar(n);
    packet(mac, from, [ip, target], 17, 0x2000, n, &[0; 1480])
}

fn packet(
    mac: [u8; 6],
    from: [u8; 6],
    [src, dst]: [Ipv4Addr; 2],
    proto: u8,
    fragment: u16,
    n: u32,
    body: &[u8],
) -> Vec<u8> {
    let mut frame = ethernet(mac, from, 0x0800);
    let mut header = Vec::with_capacity(20);
    header.extend([0x45, 0]);
    header.extend((20 + body.len() as u16).to_be_bytes());
    header.extend((n as u16).to_be_bytes());
    header.extend(fragment.to_be_bytes());
    header.extend([64, proto, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(body);
    frame
}

/// RFC 1071; every piece but the last has an even length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
