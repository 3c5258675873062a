//! Joining datagrams that leave one after another, for a device that cuts them itself: UDP segmentation offload.

use super::merge::{LONGEST, network_follows, said_len, set_len, word};
use super::*;
use crate::packet::header::ether;
use crate::packet::meta::Gso;
use crate::packet::virtio::{MAX_DATAGRAMS, MIN_SEGMENT_SIZE};

impl Packet {
    /// Joins the next frame from the same [`Port`](crate::Port) to this one, for a device or a guest that cuts them apart
    /// again (`VIRTIO_NET_HDR_GSO_UDP_L4`; virtio 1.2, section 5.1.6): at most 128 UDP datagrams between the same
    /// ports, each as long as the first, except the last, which may be shorter. Their checksums are those that the
    /// interface's [`Offload`](crate::Offload) leaves to the device.
    ///
    /// # Errors
    /// `next`, if it cannot be joined: it is to be handed over by itself, after this one.
    pub fn join(&mut self, mut next: Packet) -> Result<(), Packet> {
        match Joint::of(self, &mut next) {
            Some(joint) => {
                joint.append(self, next);
                Ok(())
            }
            None => Err(next),
        }
    }

    /// Whether [`Packet::join`] could join anything to this.
    pub fn may_be_joined(&self) -> bool {
        self.is_udp_left_open() && (self.meta.gso).is_none_or(|gso| gso.kind == GsoKind::Udp)
    }

    /// Its checksum is left to the device, and is where UDP has it.
    fn is_udp_left_open(&self) -> bool {
        let Csum::Partial { offset, .. } = self.meta.csum else {
            return false;
        };
        offset == UDP_CHECKSUM_OFFSET
    }
}

/// How a datagram becomes part of the ones before it.
struct Joint {
    l3: usize,
    l4: usize,
    is_v4: bool,
    segment_size: u16,
}

impl Joint {
    fn of(first: &mut Packet, next: &mut Packet) -> Option<Joint> {
        let Csum::Partial { start, .. } = first.meta.csum else {
            return None;
        };
        if !first.may_be_joined()
            || next.meta.csum != first.meta.csum
            || next.meta.gso.is_some()
            || next.meta.tags != first.meta.tags
        {
            return None;
        }
        let l3 = ether::network_offset(first);
        let l4 = l3 + usize::from(start);
        let headers_len = l4 + UDP_LEN;
        let joined = first.len().checked_sub(headers_len)?;
        let more = next.len().checked_sub(headers_len)?;
        let segment_size = match first.meta.gso {
            Some(gso) => gso.segment_size,
            None => u16::try_from(joined).ok()?,
        };
        let size = usize::from(segment_size);
        if segment_size < MIN_SEGMENT_SIZE
            || !joined.is_multiple_of(size)
            || joined / size >= MAX_DATAGRAMS
            || more == 0
            || more > size
            || first.len() - l3 + more > LONGEST
        {
            return None;
        }
        let nth = (joined / size) as u16;
        let lens = (first.len() - l3, next.len() - l3);
        let ours = first.pull_up(headers_len)?;
        let theirs = next.pull_up(headers_len)?;
        let (ip, other_ip) = (&ours[l3..], &theirs[l3..]);
        let is_v4 = ip::version(ip) == 4;
        let (ip_len, proto) = match is_v4 {
            true => (ipv4::MIN_LEN, ip[9]),
            false => (ipv6::MIN_LEN, ip[6]),
        };
        // Neither options nor extension headers, no fragment, and nothing behind the datagram.
        let is_plain = usize::from(start) == ip_len
            && proto == IpProto::UDP.0
            && (!is_v4 || word(ip, 6) & !DONT_FRAGMENT == 0);
        let is_whole = |ip: &[u8], len: usize| {
            let udp_len = word(ip, ip_len + LEN.start);
            said_len(is_v4, ip) == len && usize::from(udp_len) == len - ip_len
        };
        let ports = l4..l4 + 4;
        let follows = is_plain
            && is_whole(ip, lens.0)
            && is_whole(other_ip, lens.1)
            && ours[..l3] == theirs[..l3]
            && network_follows(is_v4, ip, other_ip, nth)
            && ours[ports.clone()] == theirs[ports];
        follows.then_some(Joint {
            l3,
            l4,
            is_v4,
            segment_size,
        })
    }

    fn append(self, first: &mut Packet, mut next: Packet) {
        next.strip(self.l4 + UDP_LEN);
        first.payload.append(next.into_payload());
        let len = first.len() - self.l3;
        let head = first.head_mut();
        set_len(self.is_v4, &mut head[self.l3..], len);
        let udp_len = len - (self.l4 - self.l3);
        head[self.l4..][LEN].copy_from_slice(&(udp_len as u16).to_be_bytes());
        first.meta.gso = Some(Gso {
            kind: GsoKind::Udp,
            segment_size: self.segment_size,
        });
    }
}

/// Of the word with flags and fragment offset.
const DONT_FRAGMENT: u16 = 0x4000;
