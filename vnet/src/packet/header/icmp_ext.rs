//! What routers add to ICMP errors beside the packet that they quote (RFC 4884): labels of MPLS (RFC 4950), interfaces
//! (RFC 5837), and whatever else.
//!
//! Of what the objects mean, only labels are known here; others are handed up as they are.

use bytes::Bytes;

use super::HeaderError;
use crate::packet::{Packet, checksum};

/// RFC 4884 section 3: where there are extensions, the quote has at least so many bytes.
const MIN_QUOTE: usize = 128;
/// Bytes of a header of extensions, and of an object without what it carries.
const HEADER: usize = 4;
const VERSION: u8 = 2;
/// Bytes of extensions that are kept: an error is not longer than what every host takes.
const MAX_BYTES: usize = 1280;

/// The objects of an error, at what it quotes, which takes `quote_len` bytes by its length attribute; zero for one
/// without extensions. Of another version or with a wrong checksum there are none.
///
/// # Errors
/// [`HeaderError::BadLength`] where the quote, or an object, is said to be longer than what is there.
pub(crate) fn objects(packet: &Packet, quote_len: usize) -> Result<Bytes, HeaderError> {
    if quote_len == 0 {
        return Ok(Bytes::new());
    }
    let len = packet.len().checked_sub(quote_len);
    let len = len.ok_or(HeaderError::BadLength)?;
    if quote_len < MIN_QUOTE || !(HEADER..=MAX_BYTES).contains(&len) {
        return Ok(Bytes::new());
    }
    let mut bytes = vec![0; len];
    packet.copy_to(quote_len, &mut bytes);
    // Section 7: one of zero was not computed.
    let is_sound = bytes[2..4] == [0, 0] || checksum::of(&bytes) == 0;
    if bytes[0] >> 4 != VERSION || !is_sound {
        return Ok(Bytes::new());
    }
    let objects = Bytes::from(bytes).slice(HEADER..);
    let mut rest = &objects[..];
    while !rest.is_empty() {
        let len = rest.first_chunk::<HEADER>();
        let [high, low, ..] = *len.ok_or(HeaderError::BadLength)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < HEADER {
            return Err(HeaderError::BadLength);
        }
        rest = rest.get(len..).ok_or(HeaderError::BadLength)?;
    }
    Ok(objects)
}

/// What a router says beside an ICMP error (RFC 4884, section 7).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IcmpObject {
    /// A label of MPLS with which the packet came to it (RFC 4950). There is one for each entry of the stack of labels
    /// (RFC 3032, section 2.1), the outermost first.
    Label {
        /// The label, 20 bits.
        label: u32,
        /// The traffic class, 3 bits.
        class: u8,
        /// Whether it is the innermost.
        is_bottom: bool,
        /// Its time to live.
        ttl: u8,
    },
    /// Anything else.
    Other {
        /// The class of the object.
        class: u8,
        /// Its type in this class (C-Type).
        kind: u8,
        /// What it carries.
        data: Bytes,
    },
}

/// RFC 4950 section 3: the stack of labels with which a packet came in.
const LABELS: [u8; 2] = [1, 1];

/// Reads objects, as [`objects`] has found them.
pub(crate) fn read(objects: &Bytes) -> Vec<IcmpObject> {
    let mut all = Vec::new();
    let mut rest = objects.clone();
    while let Some(&[high, low, class, kind]) = rest.first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        // It was looked at before.
        if !(HEADER..=rest.len()).contains(&len) {
            break;
        }
        let data = rest.split_to(len).slice(HEADER..);
        let (entries, tail) = data.as_chunks::<4>();
        let is_stack = !entries.is_empty() && tail.is_empty();
        match [class, kind] {
            LABELS if is_stack => all.extend(entries.iter().map(label)),
            _ => all.push(IcmpObject::Other { class, kind, data }),
        }
    }
    all
}

fn label(entry: &[u8; 4]) -> IcmpObject {
    let bits = u32::from_be_bytes(*entry);
    IcmpObject::Label {
        label: bits >> 12,
        class: (bits >> 9) as u8 & 7,
        is_bottom: bits >> 8 & 1 == 1,
        ttl: bits as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A quote of so many bytes, and behind it these objects, with a checksum.
    fn packet(quote_len: usize, objects: &[u8]) -> Vec<u8> {
        let mut structure = vec![0x20, 0, 0, 0];
        structure.extend(objects);
        let sum = checksum::of(&structure);
        structure[2..4].copy_from_slice(&sum.to_be_bytes());
        [vec![7; quote_len], structure].concat()
    }

    fn found(bytes: &[u8], quote_len: usize) -> Result<Vec<u8>, HeaderError> {
        objects(&Packet::incoming(bytes.to_vec()), quote_len).map(|bytes| bytes.to_vec())
    }

    /// RFC 4950 section 3: a label of MPLS.
    const LABEL: [u8; 8] = [0, 8, 1, 1, 0x12, 0x34, 0x51, 1];

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_not() {
        let two = [LABEL, LABEL].concat();
        for objects in [&[][..], &LABEL, &two] {
            assert_eq!(found(&packet(128, objects), 128), Ok(objects.to_vec()));
        }
        let bytes = packet(128, &LABEL);
        assert_eq!(found(&bytes, 0), Ok(vec![]));
        // A checksum of zero was not computed.
        let mut unsummed = bytes.clone();
        unsummed[130..132].fill(0);
        assert_eq!(found(&unsummed, 128), Ok(LABEL.to_vec()));
        for at in [128, 130, 139] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x40;
            assert_eq!(found(&wrong, 128), Ok(vec![]), "{at}");
        }
        assert_eq!(found(&packet(124, &LABEL), 124), Ok(vec![]));
        assert_eq!(found(&bytes, 144), Err(HeaderError::BadLength));
        for len in [0, 3, 9] {
            let lie = [0, len, 1, 1, 0, 0, 0, 0];
            assert_eq!(found(&packet(128, &lie), 128), Err(HeaderError::BadLength));
        }
        assert_eq!(
            found(&packet(128, &LABEL[..3]), 128),
            Err(HeaderError::BadLength)
        );
    }

    #[test]
    fn labels_are_read_and_other_objects_are_left_as_they_are() {
        let outer = IcmpObject::Label {
            label: 0x12345,
            class: 0,
            is_bottom: true,
            ttl: 1,
        };
        assert_eq!(read(&LABEL.to_vec().into()), [outer]);
        // Two labels, an interface by its number (RFC 5837), and a stack with half a label.
        let interface = [0, 8, 2, 0x0a, 0, 0, 0, 7];
        let half = [0, 6, 1, 1, 0, 0];
        let stack = [0, 12, 1, 1, 0x00, 0x06, 0x4a, 0xff, 0, 0, 0x31, 0];
        let all = [&stack[..], &interface, &half].concat();
        let inner = |label, class, is_bottom, ttl| IcmpObject::Label {
            label,
            class,
            is_bottom,
            ttl,
        };
        let other = |class, kind, data: &'static [u8]| IcmpObject::Other {
            class,
            kind,
            data: Bytes::from_static(data),
        };
        let expected = [
            inner(100, 5, false, 255),
            inner(3, 0, true, 0),
            other(2, 10, &[0, 0, 0, 7]),
            other(1, 1, &[0, 0]),
        ];
        assert_eq!(read(&all.into()), expected);
        assert_eq!(read(&Bytes::new()), []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            quote_len in 0..320usize,
        ) {
            if let Ok(objects) = found(&bytes, quote_len) {
                prop_assert!(objects.len() + quote_len <= bytes.len().max(quote_len));
                let all = read(&objects.clone().into());
                let is_label = |object: &&IcmpObject| matches!(object, IcmpObject::Label { .. });
                let labels = all.iter().filter(is_label).count();
                let len = |object: &IcmpObject| match object {
                    IcmpObject::Label { .. } => 4,
                    IcmpObject::Other { data, .. } => HEADER + data.len(),
                };
                // What is left are the headers of the stacks that the labels are of.
                let headers = objects.len() - all.iter().map(len).sum::<usize>();
                prop_assert_eq!(headers % HEADER, 0);
                prop_assert!((labels.min(1)..=labels).contains(&(headers / HEADER)));
            }
            read(&bytes.into());
        }
    }
}
