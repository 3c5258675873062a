//! UDP headers (RFC 768).

use smoltcp::wire::UdpPacket;

use super::HeaderError;

/// Bytes in a UDP header.
pub(crate) const UDP_LEN: usize = 8;
/// Where the checksum is, in bytes from the start of the header.
pub(crate) const UDP_CHECKSUM_OFFSET: u16 = 6;

/// The header of a UDP datagram. The checksum is the business of
/// [`checksum`](crate::packet::checksum).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct UdpHeader {
    /// Where it is from; zero when the sender wants no answer.
    pub src_port: u16,
    /// Where it is for; zero is no port and is left for the receiver to refuse.
    pub dst_port: u16,
    /// Bytes in header and payload; never below [`UDP_LEN`].
    pub len: u16,
}

impl UdpHeader {
    /// Reads the header. Whether `len` fits the packet is for the caller to see.
    ///
    /// # Errors
    /// [`HeaderError::BadLength`] when the length field is smaller than the header.
    #[inline]
    pub(crate) fn parse(bytes: &[u8; UDP_LEN]) -> Result<UdpHeader, HeaderError> {
        let wire = UdpPacket::new_unchecked(&bytes[..]);
        if usize::from(wire.len()) < UDP_LEN {
            return Err(HeaderError::BadLength);
        }
        Ok(UdpHeader {
            src_port: wire.src_port(),
            dst_port: wire.dst_port(),
            len: wire.len(),
        })
    }

    /// The checksum field of a header; zero says that the sender computed none.
    #[inline]
    #[cfg(test)]
    pub(crate) fn checksum(bytes: &[u8; UDP_LEN]) -> u16 {
        UdpPacket::new_unchecked(&bytes[..]).checksum()
    }

    /// Writes the header with a checksum field of zero.
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8; UDP_LEN]) {
        let mut wire = UdpPacket::new_unchecked(&mut bytes[..]);
        wire.set_src_port(self.src_port);
        wire.set_dst_port(self.dst_port);
        wire.set_len(self.len);
        wire.set_checksum(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_as_on_the_wire() {
        let bytes = [0x30, 0x39, 0, 53, 0, 20, 0xab, 0xcd];
        let header = UdpHeader {
            src_port: 12345,
            dst_port: 53,
            len: 20,
        };
        assert_eq!(UdpHeader::parse(&bytes), Ok(header));
        assert_eq!(UdpHeader::checksum(&bytes), 0xabcd);
        let mut out = [0xff; UDP_LEN];
        header.emit(&mut out);
        assert_eq!(out, [0x30, 0x39, 0, 53, 0, 20, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_eight_bytes(bytes in any::<[u8; UDP_LEN]>()) {
            let len = u16::from_be_bytes([bytes[4], bytes[5]]);
            match UdpHeader::parse(&bytes) {
                Err(error) => {
                    prop_assert_eq!(error, HeaderError::BadLength);
                    prop_assert!(len < 8);
                }
                Ok(header) => {
                    prop_assert!(len >= 8);
                    let mut out = [0; UDP_LEN];
                    header.emit(&mut out);
                    prop_assert_eq!(&out[..6], &bytes[..6]);
                    prop_assert_eq!(&out[6..], &[0, 0][..]);
                }
            }
        }
    }
}
