//! Frames with VLAN tags (IEEE 802.1Q-2018, clause 9).
//!
//! A frame that comes in has its tags taken off into its metadata, where they cost nothing to read, add
//! and remove. There is room for two there, the outer ones; more stay in the bytes. They
//! are put back where somebody wants to see bytes: a port, a capture, a fingerprint. A frame that
//! stays inside the process may carry them either way, and is as long either way: [`Packet::frame_len`].

use super::buf::{HEAD_CAPACITY, Packet};
use super::header::ether::ETHER_LEN;
use super::header::{EtherType, HeaderError};
use super::tag::{TAG_LEN, Tag, Tpid};

/// Bytes in front of the first tag: both addresses.
const ADDRESSES: usize = 12;

impl Packet {
    /// The length of a frame on a wire, with the tags that are not in its bytes.
    #[inline]
    pub(crate) fn frame_len(&self) -> usize {
        self.len() + self.meta.tags.wire_len()
    }

    /// Takes tags off a frame as long as there is room for them in the metadata. What is left in the
    /// bytes is a complete Ethernet frame.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when the frame ends in a tag or in its link header.
    #[cold]
    pub(crate) fn take_tags_off(&mut self) -> Result<(), HeaderError> {
        loop {
            let head = self.pull_up(ETHER_LEN).ok_or(HeaderError::Truncated)?;
            let Some(tpid) = Tpid::of(EtherType::at(head, ADDRESSES).0) else {
                return Ok(());
            };
            let is_full = self.meta.tags.is_full();
            // A tag is followed by an EtherType, or it is not all there.
            let whole = self.pull_up(ETHER_LEN + TAG_LEN);
            let whole = whole.ok_or(HeaderError::Truncated)?;
            if is_full {
                return Ok(());
            }
            let tci = u16::from_be_bytes([whole[ETHER_LEN], whole[ETHER_LEN + 1]]);
            whole.copy_within(..ADDRESSES, TAG_LEN);
            self.strip(TAG_LEN);
            self.meta.tags.add_inner(Tag { tpid, tci });
        }
    }

    /// Puts a tag in front of those that a frame has.
    #[inline]
    pub(crate) fn push_tag(&mut self, tag: Tag) {
        if self.meta.tags.is_full() {
            self.write_inner_tag();
        }
        self.meta.tags.add_outer(tag);
    }

    #[cold]
    fn write_inner_tag(&mut self) {
        if let Some(inner) = self.meta.tags.pop_inner() {
            self.write_tag(inner);
        }
    }

    /// Takes the outer tag of a frame whose tags [are off](Packet::take_tags_off).
    #[inline]
    pub(crate) fn pop_tag(&mut self) -> Option<Tag> {
        self.meta.tags.pop_outer()
    }

    /// Puts the tags that were taken off a frame into its bytes.
    #[inline]
    pub(crate) fn put_tags_back(&mut self) {
        if !self.meta.tags.is_empty() {
            self.write_tags();
        }
    }

    /// A copy with all tags in its bytes.
    #[cold]
    pub(crate) fn with_tags(&self) -> Packet {
        let mut copy = self.clone();
        copy.put_tags_back();
        copy
    }

    #[cold]
    fn write_tags(&mut self) {
        while let Some(tag) = self.meta.tags.pop_inner() {
            self.write_tag(tag);
        }
    }

    /// Writes a tag behind the addresses.
    fn write_tag(&mut self, tag: Tag) {
        // The link header of every frame is there; what is none is left alone.
        if self.pull_up(ETHER_LEN).is_none() {
            return;
        }
        if self.head().len() + TAG_LEN > HEAD_CAPACITY {
            self.push_down(ETHER_LEN);
        }
        self.prepend(TAG_LEN);
        let head = self.head_mut();
        head.copy_within(TAG_LEN..TAG_LEN + ADDRESSES, 0);
        head[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tag.tpid.number().to_be_bytes());
        head[ADDRESSES + 2..ADDRESSES + TAG_LEN].copy_from_slice(&tag.tci.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::meta::Meta;
    use crate::packet::tag::{Priority, Tags, Tpid};
    use proptest::prelude::*;

    fn tag(tpid: Tpid, tci: u16) -> Tag {
        Tag { tpid, tci }
    }

    /// The bytes of a frame with these tags.
    fn frame(tags: &[Tag], rest: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (1..=12).collect();
        for tag in tags {
            bytes.extend(tag.tpid.number().to_be_bytes());
            bytes.extend(tag.tci.to_be_bytes());
        }
        bytes.extend([8, 0]);
        bytes.extend(rest);
        bytes
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        (any::<bool>(), any::<u16>()).prop_map(|(service, tci)| match service {
            true => tag(Tpid::Dot1ad, tci),
            false => tag(Tpid::Dot1q, tci),
        })
    }

    #[test]
    fn tags_are_where_there_was_padding() {
        assert_eq!(size_of::<Tags>(), 5);
        assert_eq!(size_of::<Meta>(), 32);
    }

    proptest! {
        #[test]
        fn a_priority_is_apart_from_tags(pushed in prop::collection::vec(any_tag(), 0..5), pcp in 0..8u8) {
            let mut with = Packet::incoming(frame(&[], b"rest"));
            let mut without = Packet::incoming(frame(&[], b"rest"));
            let priority = Priority::of(pcp);
            with.meta.tags.set_priority(priority);
            for tag in &pushed {
                with.push_tag(*tag);
                without.push_tag(*tag);
                prop_assert_eq!(with.frame_len(), without.frame_len());
            }
            prop_assert_eq!(with.with_tags().to_vec(), without.with_tags().to_vec());
            prop_assert_eq!(with.pop_tag(), without.pop_tag());
            prop_assert_eq!(with.meta.tags.priority(), priority);
            prop_assert_eq!(priority.tci(5), u16::from(pcp) << 13 | 5);
            with.meta.tags.set_priority(Priority::default());
            prop_assert_eq!(with.meta.tags, without.meta.tags);
        }
    }

    #[test]
    fn a_frame_that_ends_in_a_tag_is_none() {
        let whole = frame(&[tag(Tpid::Dot1q, 5)], &[]);
        assert!(Packet::incoming(whole.clone()).take_tags_off().is_ok());
        for len in 0..whole.len() {
            let mut cut = Packet::incoming(whole[..len].to_vec());
            assert_eq!(cut.take_tags_off(), Err(HeaderError::Truncated), "{len}");
        }
    }

    #[test]
    fn a_full_header_area_has_room_for_more_tags() {
        let rest: Vec<u8> = (0..200).map(|n| n as u8).collect();
        let mut packet = Packet::incoming(frame(&[], &rest));
        assert!(packet.pull_up(96).is_some());
        let tags: Vec<_> = (0..20).map(|n| tag(Tpid::Dot1ad, n)).collect();
        tags.iter().rev().for_each(|tag| packet.push_tag(*tag));
        assert_eq!(packet.frame_len(), 14 + 80 + 200);
        packet.put_tags_back();
        assert_eq!(packet.to_vec(), frame(&tags, &rest));
    }

    proptest! {
        /// Whatever is pushed and popped, wherever the tags are: the frame is that of a list of tags.
        #[test]
        fn a_frame_has_the_tags_of_a_list(
            first in prop::collection::vec(any_tag(), 0..5),
            acts in prop::collection::vec((0u8..4, any_tag()), 0..20),
            pulled in 0usize..60,
        ) {
            let rest = [7; 40];
            let mut model = first;
            let mut packet = Packet::incoming(frame(&model, &rest));
            let _ = packet.pull_up(pulled.min(packet.len()));
            for (act, tag) in acts {
                match act {
                    0 | 1 => {
                        packet.push_tag(tag);
                        model.insert(0, tag);
                    }
                    2 => {
                        prop_assert!(packet.take_tags_off().is_ok());
                        prop_assert_eq!(packet.meta.tags.outer(), model.first().copied());
                        prop_assert_eq!(packet.pop_tag().is_some(), !model.is_empty());
                        if !model.is_empty() {
                            model.remove(0);
                        }
                    }
                    _ => packet.put_tags_back(),
                }
                prop_assert_eq!(packet.frame_len(), 14 + 4 * model.len() + rest.len());
            }
            packet.put_tags_back();
            prop_assert_eq!(packet.to_vec(), frame(&model, &rest));
        }
    }
}
