//! Ethernet addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::base::config::ParseError;

/// A 48-bit Ethernet address.
///
/// ```
/// use vnet::MacAddr;
/// let mac: MacAddr = "02:00:00:00:00:01".parse()?;
/// assert!(mac.is_local() && !mac.is_multicast());
/// # Ok::<(), vnet::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// 00:00:00:00:00:00, which no station has.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Where frames to a group of IP go (RFC 1112 section 6.4, RFC 2464 section 7).
    pub(crate) fn of_group(group: IpAddr) -> MacAddr {
        match group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                MacAddr([0x33, 0x33, a, b, c, d])
            }
        }
    }

    /// True for groups, the broadcast address included.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for what one station can have: neither a group's address nor zero.
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self != MacAddr::ZERO
    }

    /// True for the broadcast address.
    pub(crate) fn is_broadcast(self) -> bool {
        self == MacAddr::BROADCAST
    }

    /// True for locally administered addresses (IEEE 802, second bit of the first octet).
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// The locally administered unicast address number `n`: unique as long as the numbers are.
    /// Numbers wrap at 2^46.
    pub const fn from_number(n: u64) -> MacAddr {
        let b = n.to_be_bytes();
        MacAddr([b[2] << 2 | 0x02, b[3], b[4], b[5], b[6], b[7]])
    }

    /// How many locally administered unicast addresses there are.
    pub(crate) const NUMBERS: u64 = 1 << 46;

    /// The number of a locally administered unicast address; `None` for others.
    pub(crate) const fn number(self) -> Option<u64> {
        let [a, b, c, d, e, f] = self.0;
        match self.is_local() && !self.is_multicast() {
            true => Some(u64::from_be_bytes([0, 0, a >> 2, b, c, d, e, f])),
            false => None,
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As text: six hexadecimal octets separated by colons.
impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for MacAddr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<MacAddr, ParseError> {
        let error = || {
            let expected = "expected a MAC address such as 02:00:00:00:00:01";
            ParseError::new(format!("{expected}, found {text:?}"))
        };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        match parts.next() {
            None => Ok(MacAddr(octets)),
            Some(_) => Err(error()),
        }
    }
}
