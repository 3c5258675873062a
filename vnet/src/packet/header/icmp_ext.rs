//! What routers add to ICMP errors beside the packet that they quote (RFC 4884): labels of MPLS (RFC 4950), interfaces
//! (RFC 5837), and whatever else.
//!
//! The objects are handed up as they are; what they mean is for whoever asked to hear them.

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

    fn read(bytes: &[u8], quote_len: usize) -> Result<Vec<u8>, HeaderError> {
        objects(&Packet::incoming(bytes.to_vec()), quote_len).map(|bytes| bytes.to_vec())
    }

    /// RFC 4950 section 3: a label of MPLS.
    const LABEL: [u8; 8] = [0, 8, 1, 1, 0x12, 0x34, 0x51, 1];

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_not() {
        let two = [LABEL, LABEL].concat();
        for objects in [&[][..], &LABEL, &two] {
            assert_eq!(read(&packet(128, objects), 128), Ok(objects.to_vec()));
        }
        let bytes = packet(128, &LABEL);
        assert_eq!(read(&bytes, 0), Ok(vec![]));
        // A checksum of zero was not computed.
        let mut unsummed = bytes.clone();
        unsummed[130..132].fill(0);
        assert_eq!(read(&unsummed, 128), Ok(LABEL.to_vec()));
        for at in [128, 130, 139] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x40;
            assert_eq!(read(&wrong, 128), Ok(vec![]), "{at}");
        }
        assert_eq!(read(&packet(124, &LABEL), 124), Ok(vec![]));
        assert_eq!(read(&bytes, 144), Err(HeaderError::BadLength));
        for len in [0, 3, 9] {
            let lie = [0, len, 1, 1, 0, 0, 0, 0];
            assert_eq!(read(&packet(128, &lie), 128), Err(HeaderError::BadLength));
        }
        assert_eq!(
            read(&packet(128, &LABEL[..3]), 128),
            Err(HeaderError::BadLength)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            quote_len in 0..320usize,
        ) {
            if let Ok(objects) = read(&bytes, quote_len) {
                prop_assert!(objects.len() + quote_len <= bytes.len().max(quote_len));
            }
        }
    }
}
