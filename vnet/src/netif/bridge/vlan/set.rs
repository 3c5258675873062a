//! Sets of VLANs: [`VidSet`], as it is configured, and [`Bits`], as frames are looked up in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::config::{ConfigError, ParseError};
use crate::packet::tag::MAX_VID;

/// A set of VIDs, read and written as `1,10-19,4000`.
///
/// ```
/// use vnet::VidSet;
///
/// let trunk: VidSet = "10-12,20".parse()?;
/// assert!(trunk.contains(11) && !trunk.contains(13));
/// assert_eq!(trunk, [20, 12, 11, 10].into_iter().collect());
/// assert_eq!(trunk.to_string(), "10-12,20");
/// # Ok::<(), vnet::ParseError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VidSet {
    /// First and last VID of each range, in ascending order; ranges neither overlap nor touch.
    ranges: Vec<(u16, u16)>,
}

impl VidSet {
    /// True if the VID is in the set.
    pub fn contains(&self, vid: u16) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= vid);
        after > 0 && vid <= self.ranges[after - 1].1
    }

    /// The VIDs, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Checks that each can be the VID of a VLAN.
    pub(super) fn check(&self, setting: &'static str) -> Result<(), ConfigError> {
        let first = self.ranges.first().map(|(first, _)| *first);
        let last = self.ranges.last().map(|(_, last)| *last);
        let bad = first.filter(|v| *v == 0).or(last.filter(|v| *v > MAX_VID));
        bad.map_or(Ok(()), |vid| Err(bad_vid(setting, vid)))
    }
}

impl FromIterator<u16> for VidSet {
    fn from_iter<I: IntoIterator<Item = u16>>(vids: I) -> VidSet {
        let ranges = vids.into_iter().map(|vid| (vid, vid)).collect();
        joined(ranges)
    }
}

/// The set of these ranges, in whatever order they are.
fn joined(mut all: Vec<(u16, u16)>) -> VidSet {
    all.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (first, last) in all {
        match ranges.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
    VidSet { ranges }
}

/// No VLAN of a bridge can have that VID (IEEE 802.1Q-2018, table 9-2).
pub(crate) fn bad_vid(setting: &'static str, vid: u16) -> ConfigError {
    ConfigError::new(
        setting,
        format!("a VID of {vid} is out of range (1 to {MAX_VID})"),
    )
}

impl FromStr for VidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<VidSet, ParseError> {
        let bad = || {
            let text: String = text.chars().take(80).collect();
            ParseError::new(format!(
                "{text:?} is not a set of VIDs: use numbers and ranges, as in \"1,10-19\""
            ))
        };
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let range = |part: &str| {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            (first <= last).then_some((first, last)).ok_or_else(bad)
        };
        if text.trim().is_empty() {
            return Ok(VidSet::default());
        }
        let ranges: Result<Vec<(u16, u16)>, ParseError> = text.split(',').map(range).collect();
        ranges.map(joined)
    }
}

impl fmt::Display for VidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for VidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for VidSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VidSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VidSet, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of VIDs in which frames are looked up: a bit for each number of 12 bits.
#[derive(Clone)]
pub(super) struct Bits(Box<[u64; 64]>);

impl Bits {
    /// The same set. It has been checked.
    pub(super) fn of(set: &VidSet) -> Bits {
        let mut bits = Box::new([0; 64]);
        for vid in set.iter().take_while(|vid| *vid <= MAX_VID) {
            bits[usize::from(vid) / 64] |= 1 << (vid % 64);
        }
        Bits(bits)
    }

    /// True when the VID, of at most 12 bits, is in it.
    #[inline]
    pub(super) fn contains(&self, vid: u16) -> bool {
        self.0[usize::from(vid) / 64 % 64] & 1 << (vid % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["a", "1-", "-1", "5-4", "1,,2", "1;2", "65536", "1-2-3", ","] {
            let refused = text.parse::<VidSet>();
            assert!(refused.is_err(), "{text}");
        }
        let check = |text: &str| text.parse::<VidSet>().expect("a set").check("tagged");
        assert_eq!(check("0,5"), Err(bad_vid("tagged", 0)));
        assert_eq!(check("5-4095"), Err(bad_vid("tagged", 4095)));
        assert_eq!(check("1-4094"), Ok(()));
        assert_eq!(check(""), Ok(()));
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(vids in prop::collection::btree_set(1u16..=4094, 0..60)) {
            let set: VidSet = vids.iter().rev().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<u16>>(), vids.clone());
            prop_assert_eq!(&set.to_string().parse::<VidSet>().expect("it was written"), &set);
            let bits = Bits::of(&set);
            for vid in 0..4096 {
                prop_assert_eq!(set.contains(vid), vids.contains(&vid));
                prop_assert_eq!(bits.contains(vid), vids.contains(&vid));
            }
        }
    }
}
