//! Redirects of IPv6 (RFC 4861 section 4.5): a router tells a host of a better first hop.

use std::net::Ipv6Addr;

use super::icmp6::{ICMP_LEN, Icmp6, REDIRECT};
use super::{HeaderError, ndp, zone};
use crate::packet::addr::MacAddr;

/// What a redirect says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Redirect {
    /// The better first hop; the destination itself when that is on the link.
    pub target: Ipv6Addr,
    /// Where packets are for that are to go there.
    pub dst: Ipv6Addr,
    /// Where the first hop is, as far as that is said.
    pub station: Option<MacAddr>,
}

/// The type of the option that quotes the packet.
const REDIRECTED: u8 = 4;
/// Bytes of the fixed part.
const FIXED_LEN: usize = ICMP_LEN + 32;
/// Bytes in front of a quoted packet, in its option.
const OPTION_LEN: usize = 8;

impl Redirect {
    /// Reads a message: all its bytes.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] for less than the fixed part; [`HeaderError::WrongFormat`] for another type or
    /// code, about a group, or to a router that does not say its link-local address; [`HeaderError::BadLength`] for
    /// an option of no length or beyond the end (section 8.1).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Redirect, HeaderError> {
        match Icmp6::parse(bytes)? {
            Icmp6::Other {
                kind: REDIRECT,
                code: 0,
                ..
            } => {}
            _ => return Err(HeaderError::WrongFormat),
        }
        let fixed = bytes.get(ICMP_LEN..FIXED_LEN);
        let (addresses, _) = fixed.ok_or(HeaderError::Truncated)?.as_chunks::<16>();
        let &[target, dst] = addresses else {
            return Err(HeaderError::Truncated);
        };
        let (target, dst) = (Ipv6Addr::from(target), Ipv6Addr::from(dst));
        let leads = target == dst || target.is_unicast_link_local();
        // Where the number of a link is to stand, an address has nothing.
        let is_whole = [target, dst].iter().all(|addr| zone::split(*addr).1 == 0);
        if dst.is_multicast() || target.is_multicast() || !leads || !is_whole {
            return Err(HeaderError::WrongFormat);
        }
        let station = ndp::link_address(&bytes[FIXED_LEN..], ndp::TARGET)?;
        Ok(Redirect {
            target,
            dst,
            station,
        })
    }

    /// The bytes of the message, with a checksum of zero: it quotes of `packet` what a packet of the least MTU has
    /// room for, in whole units of the option, so that nothing stands behind it that is not of it.
    pub(crate) fn to_bytes(self, packet: &[u8], room: usize) -> Vec<u8> {
        let mut bytes = vec![0; ICMP_LEN];
        Icmp6::Other {
            kind: REDIRECT,
            code: 0,
            rest: [0; 4],
        }
        .emit(&mut bytes);
        for addr in [self.target, self.dst] {
            bytes.extend(zone::wire(addr).octets());
        }
        if let Some(MacAddr(station)) = self.station {
            bytes.extend([ndp::TARGET, 1]);
            bytes.extend(station);
        }
        let room = room.saturating_sub(bytes.len() + OPTION_LEN) / 8 * 8;
        let quoted = &packet[..packet.len().min(room) / 8 * 8];
        let len = quoted.len() + OPTION_LEN;
        if let Ok(units @ 2..) = u8::try_from(len / 8) {
            bytes.extend([REDIRECTED, units, 0, 0, 0, 0, 0, 0]);
            bytes.extend(quoted);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1);

    fn redirect(target: Ipv6Addr, dst: Ipv6Addr, station: Option<MacAddr>) -> Redirect {
        Redirect {
            target,
            dst,
            station,
        }
    }

    #[test]
    fn only_what_leads_somewhere_is_read() {
        for (target, dst, is_read) in [
            (ROUTER, FAR, true),
            (FAR, FAR, true),
            (FAR, ROUTER, false),
            (ROUTER, GROUP, false),
            (GROUP, GROUP, false),
        ] {
            let bytes = redirect(target, dst, None).to_bytes(&[7; 99], 1240);
            assert_eq!(Redirect::parse(&bytes).is_ok(), is_read, "{target} {dst}");
            for len in 0..FIXED_LEN {
                assert!(Redirect::parse(&bytes[..len]).is_err());
            }
        }
        let mut bytes = redirect(FAR, FAR, None).to_bytes(&[], 1240);
        bytes.extend([99, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Redirect::parse(&bytes), Err(HeaderError::BadLength));
        bytes[1] = 1;
        assert_eq!(Redirect::parse(&bytes), Err(HeaderError::WrongFormat));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_fits(
            station in prop::option::of(any::<[u8; 6]>()), len in 0..3000usize, room in 60..1240usize,
        ) {
            let said = redirect(ROUTER, FAR, station.map(MacAddr));
            let bytes = said.to_bytes(&vec![7; len], room);
            prop_assert!(bytes.len() <= room && bytes.len().is_multiple_of(8));
            prop_assert_eq!(Redirect::parse(&bytes), Ok(said));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..120)) {
            bytes[0] = REDIRECT;
            let _ = Redirect::parse(&bytes);
        }
    }
}
