//! Flows of frames: which of several queues a frame takes, so that those of one connection stay in their order.

use vnet::packet::Packet;

/// Bytes in front of a frame that tell flows apart: up to the ports behind a header of IPv6 and two tags.
const LOOKED_AT: usize = 66;

/// A number for the flow that a frame belongs to: of its addresses and, where it has them, its ports. Frames that are
/// not IP are one flow, and so are all fragments between the same hosts, of which only the first have ports.
pub(crate) fn flow(packet: &Packet) -> u32 {
    // In one piece: of a frame that is forwarded, the header area may have the link header alone.
    let (mut start, mut len) = ([0; LOOKED_AT], 0);
    for piece in [packet.head()].into_iter().chain(packet.slices()) {
        let more = piece.len().min(LOOKED_AT - len);
        start[len..len + more].copy_from_slice(&piece[..more]);
        len += more;
        if len == LOOKED_AT {
            break;
        }
    }
    of_frame(&start[..len])
}

fn of_frame(frame: &[u8]) -> u32 {
    let mut kind = frame.get(12..).unwrap_or_default();
    while let [0x81, 0x00, _, _, rest @ ..] | [0x88, 0xa8, _, _, rest @ ..] = kind {
        kind = rest;
    }
    let about = match kind {
        [0x08, 0x00, ip @ ..] => match ip {
            // RFC 791, section 3.1: more fragments, or not the first.
            [_, _, _, _, _, _, fragment, offset, ..] if fragment & 0x3f | offset != 0 => {
                ip.get(12..20)
            }
            _ => ip.get(12..24).or_else(|| ip.get(12..20)),
        },
        // The next header of a packet without extension headers that has ports: TCP, UDP.
        [0x86, 0xdd, ip @ ..] => match ip.get(6) {
            Some(6 | 17) => ip.get(8..44),
            _ => ip.get(8..40),
        },
        _ => None,
    };
    let mix = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    about.unwrap_or_default().iter().fold(0x811c_9dc5, mix) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this kind, with tags, whose packet begins so.
    fn frame(tags: &[u8], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12], tags, &kind, packet].concat()
    }

    #[test]
    fn flows_are_told_apart_by_addresses_and_ports_behind_any_tags() {
        let tcp4 = |from: u8, port: u8, fragment: [u8; 2]| {
            let mut ip = vec![
                0x45,
                0,
                0,
                40,
                9,
                port,
                fragment[0],
                fragment[1],
                64,
                6,
                1,
                port,
            ];
            ip.extend([192, 0, 2, from, 198, 51, 100, 1, 0, port, 0, 80, 7]);
            ip
        };
        let tcp6 = |port: u8, next: u8| {
            let mut ip = vec![0x60, 0, 0, 0, 0, 20, next, 64];
            ip.extend([0x20; 32]);
            ip.extend([0, port, 0, 80]);
            ip
        };
        let (v4, v6) = ([0x08, 0x00], [0x86, 0xdd]);
        let whole = [0x40, 0];
        let one = of_frame(&frame(&[], v4, &tcp4(1, 1, whole)));
        assert_ne!(one, of_frame(&frame(&[], v4, &tcp4(1, 2, whole))));
        assert_ne!(one, of_frame(&frame(&[], v4, &tcp4(2, 1, whole))));
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]] {
            assert_eq!(one, of_frame(&frame(tags, v4, &tcp4(1, 1, whole))));
        }
        // The first fragment and the others.
        let fragments = [[0x20, 0], [0x20, 9], [0, 18]].map(|fragment| {
            let port = fragment[1];
            of_frame(&frame(&[], v4, &tcp4(1, port, fragment)))
        });
        assert_eq!(fragments[0], fragments[1]);
        assert_eq!(fragments[0], fragments[2]);
        let six = of_frame(&frame(&[], v6, &tcp6(1, 6)));
        assert_ne!(six, of_frame(&frame(&[], v6, &tcp6(2, 6))));
        // A fragment header, behind which nobody looks.
        let [first, other] = [1, 2].map(|port| of_frame(&frame(&[], v6, &tcp6(port, 44))));
        assert_eq!(first, other);
        for len in 0..66 {
            of_frame(&frame(&[0x81, 0, 0, 5], v6, &tcp6(1, 6))[..len.min(58)]);
        }
    }
}
