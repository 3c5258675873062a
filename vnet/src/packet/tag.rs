//! VLAN tags (IEEE 802.1Q-2018, clause 9): [`Tag`], and the tags of a frame outside its bytes.
//!
//! A packet's metadata has room for two ([`Tags`]); `tagged.rs` takes them off a frame and puts them
//! back.

use std::fmt;

/// Bytes in a tag: its TPID, and its control information.
pub(crate) const TAG_LEN: usize = 4;
/// Tags of a frame that no MTU counts: a customer's and a provider's (IEEE 802.3, clause 3.2.7).
pub(crate) const UNCOUNTED_TAGS: usize = 2;
/// The largest VID (IEEE 802.1Q-2018, table 9-2); 4095 is reserved.
pub(crate) const MAX_VID: u16 = 4094;

/// Which protocol a VLAN tag is of, by its tag protocol identifier (IEEE 802.1Q-2018, table 9-1).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[repr(u8)]
pub enum Tpid {
    /// A customer's tag, of EtherType 0x8100.
    #[default]
    #[serde(rename = "802.1Q")]
    Dot1q = 1,
    /// A service provider's tag, of EtherType 0x88a8.
    #[serde(rename = "802.1ad")]
    Dot1ad = 2,
}

impl Tpid {
    /// The EtherType that announces a tag of this protocol.
    #[inline]
    pub(crate) const fn number(self) -> u16 {
        match self {
            Tpid::Dot1q => 0x8100,
            Tpid::Dot1ad => 0x88a8,
        }
    }

    /// The protocol of the tag that an EtherType announces, if it announces one.
    #[inline]
    pub(crate) const fn of(number: u16) -> Option<Tpid> {
        match number {
            0x8100 => Some(Tpid::Dot1q),
            0x88a8 => Some(Tpid::Dot1ad),
            _ => None,
        }
    }
}

impl fmt::Display for Tpid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tpid::Dot1q => "802.1Q",
            Tpid::Dot1ad => "802.1ad",
        })
    }
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its protocol.
    pub(crate) tpid: Tpid,
    /// Its control information: priority (3 bits), drop eligibility (1) and VID (12).
    pub(crate) tci: u16,
}

impl Tag {
    /// The VLAN; 0 says that the tag has only a priority.
    #[inline]
    pub(crate) const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// Its priority and drop eligibility.
    #[inline]
    pub(crate) const fn priority(self) -> Priority {
        Priority((self.tci >> 12) as u8)
    }
}

/// The priority of a frame (3 bits), and whether it may be dropped before others (1 bit), in the order of a
/// tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Priority(u8);

impl Priority {
    /// That of a frame that is not to be dropped before others. Only the last three bits count.
    pub(crate) const fn of(pcp: u8) -> Priority {
        Priority(pcp << 1 & 0xf)
    }

    /// That of a frame that may be dropped before others, or not.
    pub(crate) const fn new(pcp: u8, dei: bool) -> Priority {
        Priority(Priority::of(pcp).0 | dei as u8)
    }

    /// Its place among the 16 that there are.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize & 0xf
    }

    /// Its three bits.
    pub(crate) const fn pcp(self) -> u8 {
        self.0 >> 1
    }

    /// The control information of a tag with it.
    #[inline]
    pub(crate) const fn tci(self, vid: u16) -> u16 {
        (self.0 as u16) << 12 | vid
    }
}

/// The outer tags of a frame that are not in its bytes: at most two; and the priority that it has inside a
/// vnet when its tag is off, so that the next one has it. The size of all this is what padding there was in
/// [`Meta`](super::meta::Meta).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    /// The protocols, in two bits of each half: of the outer tag in the low half, of the one behind it in the
    /// high half; 0 where there is none. A tag is behind another one. In the other bits, the priority.
    tpids: u8,
    /// Their control information, in the byte order of the wire.
    tci: [[u8; 2]; 2],
}

impl Tags {
    /// The bits of the protocols.
    const TPIDS: u8 = 0x33;

    /// True when there are none.
    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.tpids & Tags::TPIDS == 0
    }

    /// True when there are none, nor a priority.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.tpids == 0
    }

    /// The priority of the frame, apart from its tags.
    #[inline]
    pub(crate) const fn priority(self) -> Priority {
        Priority(self.tpids >> 2 & 0b11 | self.tpids >> 4 & 0b1100)
    }

    /// Gives the frame a priority, apart from its tags.
    #[inline]
    pub(crate) fn set_priority(&mut self, Priority(bits): Priority) {
        self.tpids = self.tpids & Tags::TPIDS | (bits & 0b11) << 2 | (bits & 0b1100) << 4;
    }

    /// True when one more has no room.
    #[inline]
    pub(crate) const fn is_full(self) -> bool {
        self.tpids & 0x30 != 0
    }

    /// How many bytes they are on a wire.
    #[inline]
    pub(crate) const fn wire_len(self) -> usize {
        match self.tpids & Tags::TPIDS {
            0 => 0,
            1..0x10 => TAG_LEN,
            _ => 2 * TAG_LEN,
        }
    }

    /// The outer tag.
    #[inline]
    pub(crate) fn outer(self) -> Option<Tag> {
        self.at(0)
    }

    /// The tag behind the outer one.
    #[inline]
    pub(crate) fn inner(self) -> Option<Tag> {
        self.at(1)
    }

    /// The tags, from the outer one inwards.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = Tag> {
        [self.at(0), self.at(1)].into_iter().flatten()
    }

    fn at(self, place: usize) -> Option<Tag> {
        let tpid = match self.tpids >> (4 * place) & 0b11 {
            0 => return None,
            1 => Tpid::Dot1q,
            _ => Tpid::Dot1ad,
        };
        let tci = u16::from_be_bytes(self.tci[place]);
        Some(Tag { tpid, tci })
    }

    /// Adds one behind those there are, of which there is at most one.
    pub(super) fn add_inner(&mut self, tag: Tag) {
        debug_assert!(!self.is_full());
        let place = usize::from(!self.is_empty());
        self.tpids |= (tag.tpid as u8) << (4 * place);
        self.tci[place] = tag.tci.to_be_bytes();
    }

    /// Adds one in front of those there are, of which there is at most one.
    #[inline]
    pub(super) fn add_outer(&mut self, tag: Tag) {
        debug_assert!(!self.is_full());
        self.tpids = self.tpids & !Tags::TPIDS | (self.tpids & 0b11) << 4 | tag.tpid as u8;
        self.tci = [tag.tci.to_be_bytes(), self.tci[0]];
    }

    /// Takes the outer one.
    #[inline]
    pub(super) fn pop_outer(&mut self) -> Option<Tag> {
        let tag = self.outer()?;
        self.tpids = self.tpids & !Tags::TPIDS | (self.tpids & 0x30) >> 4;
        self.tci[0] = self.tci[1];
        Some(tag)
    }

    /// Takes the inner one.
    pub(super) fn pop_inner(&mut self) -> Option<Tag> {
        let place = usize::from(self.is_full());
        let tag = self.at(place)?;
        self.tpids &= !(0b11 << (4 * place));
        Some(tag)
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
