//! What the ends of a link tell each other about it: the LACPDU (IEEE 802.1AX-2020, clause 6.4.2), and the
//! marker, by which one asks whether all that it has sent has come in (clause 6.5).

use crate::packet::MacAddr;
use crate::packet::header::ether::ETHER_LEN;
use crate::packet::header::{EtherHeader, EtherType};

/// The group address to which LACPDUs are sent. No bridge passes it on.
pub(crate) const SLOW_PROTOCOLS: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x02]);
/// Bytes in an LACPDU, and in a marker, from its subtype to the end of its padding.
pub(crate) const LACPDU_LEN: usize = 110;

/// Bytes of it that say anything: what follows is of the collector, and reserved.
pub(crate) const LOOK_AT: usize = 44;

/// The subtype of LACP among the slow protocols.
const SUBTYPE: u8 = 1;
/// The subtype of markers.
const MARKER_SUBTYPE: u8 = 2;
/// The type and length of the TLV of a marker (clause 6.5.3.3).
const MARKER: [u8; 2] = [1, 16];
/// The same of the response to it.
const MARKER_RESPONSE: [u8; 2] = [2, 16];
/// Bytes of a marker that say anything.
const MARKER_LEN: usize = 18;
/// The version that is spoken.
const VERSION: u8 = 1;
/// Bytes of an actor's or a partner's TLV.
const PORT_TLV_LEN: u8 = 20;
/// Bytes of the collector's TLV.
const COLLECTOR_TLV_LEN: u8 = 16;

/// The system at one end of a link. The lesser is the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SystemId {
    /// Set by the administrator.
    pub(crate) priority: u16,
    /// An address of the system.
    pub(crate) mac: MacAddr,
}

/// The state of a port as one end sees it, one bit for each word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortState(pub(crate) u8);

impl PortState {
    /// It speaks without being spoken to.
    pub(crate) const ACTIVITY: PortState = PortState(0x01);
    /// It wants to hear of the other end every second.
    pub(crate) const SHORT_TIMEOUT: PortState = PortState(0x02);
    /// It can be one of several.
    pub(crate) const AGGREGATION: PortState = PortState(0x04);
    /// It belongs to the right aggregate.
    pub(crate) const SYNCHRONIZATION: PortState = PortState(0x08);
    /// It takes frames in.
    pub(crate) const COLLECTING: PortState = PortState(0x10);
    /// It sends frames.
    pub(crate) const DISTRIBUTING: PortState = PortState(0x20);
    /// What it knows of the other end is what the administrator has said.
    pub(crate) const DEFAULTED: PortState = PortState(0x40);
    /// It has not heard of the other end for too long.
    pub(crate) const EXPIRED: PortState = PortState(0x80);

    /// True when all bits of `bits` are set.
    pub(crate) const fn has(self, bits: PortState) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// These bits set or cleared.
    pub(crate) const fn with(self, bits: PortState, set: bool) -> PortState {
        match set {
            true => PortState(self.0 | bits.0),
            false => PortState(self.0 & !bits.0),
        }
    }
}

/// One end of a link, as the LACPDU describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortInfo {
    /// Whose port it is.
    pub(crate) system: SystemId,
    /// Ports of one key can be aggregated.
    pub(crate) key: u16,
    /// The lesser is the better.
    pub(crate) priority: u16,
    /// Its number in its system.
    pub(crate) port: u16,
    /// Its state.
    pub(crate) state: PortState,
}

/// An LACPDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LacpDu {
    /// The sender's end.
    pub(crate) actor: PortInfo,
    /// The receiver's end, as the sender knows it.
    pub(crate) partner: PortInfo,
}

/// A question whether all frames that were sent before it have come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker([u8; MARKER_LEN]);

/// What a frame of the slow protocols says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowPdu {
    /// Of the link.
    Lacp(LacpDu),
    /// A question, to be answered.
    Marker(Marker),
}

impl SlowPdu {
    /// Reads one from the first [`LOOK_AT`] bytes, or all there are, of the `len` that follow the EtherType.
    ///
    /// # Errors
    /// See [`PduError`]. A response to a marker, none of which is sent here, is another protocol's.
    pub(crate) fn parse(head: &[u8], len: usize) -> Result<SlowPdu, PduError> {
        match head {
            [] => Err(PduError::Truncated),
            [SUBTYPE, ..] => LacpDu::parse(head, len).map(SlowPdu::Lacp),
            [MARKER_SUBTYPE, ..] => {
                let bytes = head.first_chunk().filter(|_| len >= LACPDU_LEN);
                let bytes: &[u8; MARKER_LEN] = bytes.ok_or(PduError::Truncated)?;
                match [bytes[2], bytes[3]] {
                    _ if bytes[1] == 0 => Err(PduError::BadTlv),
                    MARKER => Ok(SlowPdu::Marker(Marker(*bytes))),
                    MARKER_RESPONSE => Err(PduError::OtherSubtype),
                    _ => Err(PduError::BadTlv),
                }
            }
            _ => Err(PduError::OtherSubtype),
        }
    }
}

impl Marker {
    /// The answer (clause 6.5.4.2.1): the same, but for its type.
    fn response(&self, bytes: &mut [u8; LACPDU_LEN]) {
        bytes.fill(0);
        bytes[..MARKER_LEN].copy_from_slice(&self.0);
        bytes[1] = VERSION;
        bytes[2..4].copy_from_slice(&MARKER_RESPONSE);
    }
}

/// What a lagg says to the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Of the link.
    Lacp(LacpDu),
    /// That all has come in.
    Response(Marker),
}

/// Why a frame of the slow protocols says nothing to a lagg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PduError {
    /// Shorter than it may be.
    Truncated,
    /// Another protocol, such as OAM.
    OtherSubtype,
    /// A TLV is not of the kind or the length that must stand in its place.
    BadTlv,
}

impl LacpDu {
    /// Reads an LACPDU from the first [`LOOK_AT`] bytes, or all there are, of the `len` that follow the
    /// EtherType; more than [`LACPDU_LEN`] are padding.
    ///
    /// # Errors
    /// See [`PduError`].
    pub(crate) fn parse(head: &[u8], len: usize) -> Result<LacpDu, PduError> {
        match head.first() {
            None => return Err(PduError::Truncated),
            Some(&SUBTYPE) => {}
            Some(_) => return Err(PduError::OtherSubtype),
        }
        if len < LACPDU_LEN {
            return Err(PduError::Truncated);
        }
        let bytes: &[u8; LOOK_AT] = head.first_chunk().ok_or(PduError::Truncated)?;
        // Clause 6.4.2.3: a greater version is read as version 1, whose TLVs stand first.
        let tlvs = [
            (2, 1, PORT_TLV_LEN),
            (22, 2, PORT_TLV_LEN),
            (42, 3, COLLECTOR_TLV_LEN),
        ];
        if bytes[1] == 0
            || tlvs
                .iter()
                .any(|(at, kind, len)| bytes[*at] != *kind || bytes[at + 1] != *len)
        {
            return Err(PduError::BadTlv);
        }
        Ok(LacpDu {
            actor: port_info(bytes, 4),
            partner: port_info(bytes, 24),
        })
    }

    /// Writes it.
    pub(crate) fn emit(&self, bytes: &mut [u8; LACPDU_LEN]) {
        bytes.fill(0);
        bytes[..4].copy_from_slice(&[SUBTYPE, VERSION, 1, PORT_TLV_LEN]);
        put_port_info(bytes, 4, &self.actor);
        bytes[22..24].copy_from_slice(&[2, PORT_TLV_LEN]);
        put_port_info(bytes, 24, &self.partner);
        // The collector's greatest delay is zero: a frame is taken in when it comes.
        bytes[42..44].copy_from_slice(&[3, COLLECTOR_TLV_LEN]);
    }
}

/// What is said, as a frame from the station `src`.
pub(crate) fn frame(src: MacAddr, said: &Said) -> Vec<u8> {
    let header = EtherHeader {
        dst: SLOW_PROTOCOLS,
        src,
        ether_type: EtherType::SLOW_PROTOCOLS,
    };
    let mut frame = vec![0; ETHER_LEN + LACPDU_LEN];
    if let Some((link, rest)) = frame.split_first_chunk_mut::<ETHER_LEN>() {
        header.emit(link);
        if let Some(bytes) = rest.first_chunk_mut() {
            match said {
                Said::Lacp(du) => du.emit(bytes),
                Said::Response(marker) => marker.response(bytes),
            }
        }
    }
    frame
}

fn port_info(bytes: &[u8; LOOK_AT], at: usize) -> PortInfo {
    let word = |n: usize| u16::from_be_bytes([bytes[at + n], bytes[at + n + 1]]);
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at + 2..at + 8]);
    PortInfo {
        system: SystemId {
            priority: word(0),
            mac: MacAddr(mac),
        },
        key: word(8),
        priority: word(10),
        port: word(12),
        state: PortState(bytes[at + 14]),
    }
}

fn put_port_info(bytes: &mut [u8; LACPDU_LEN], at: usize, info: &PortInfo) {
    let mut put =
        |n: usize, word: u16| bytes[at + n..at + n + 2].copy_from_slice(&word.to_be_bytes());
    put(0, info.system.priority);
    put(8, info.key);
    put(10, info.priority);
    put(12, info.port);
    bytes[at + 2..at + 8].copy_from_slice(&info.system.mac.0);
    bytes[at + 14] = info.state.0;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info() -> impl Strategy<Value = PortInfo> {
        (any::<(u16, [u8; 6], u16, u16, u16, u8)>()).prop_map(
            |(sys, mac, key, prio, port, state)| PortInfo {
                system: SystemId {
                    priority: sys,
                    mac: MacAddr(mac),
                },
                key,
                priority: prio,
                port,
                state: PortState(state),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(actor in info(), partner in info()) {
            let du = LacpDu { actor, partner };
            let mut bytes = [0xff; LACPDU_LEN];
            du.emit(&mut bytes);
            prop_assert_eq!(LacpDu::parse(&bytes, bytes.len()), Ok(du));
            for len in 0..LACPDU_LEN {
                prop_assert_eq!(LacpDu::parse(&bytes[..len], len), Err(PduError::Truncated));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let _ = LacpDu::parse(&bytes, bytes.len());
        }
    }

    /// Clause 6.5.3.3: the requester, its transaction and the padding are given back as they came.
    #[test]
    fn a_marker_is_answered_with_what_it_asked() {
        let mut asked = [0; LACPDU_LEN];
        let body = [2, 1, 1, 16, 0, 7, 2, 0, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        asked[..16].copy_from_slice(&body);
        let Ok(SlowPdu::Marker(marker)) = SlowPdu::parse(&asked, asked.len()) else {
            panic!("a marker");
        };
        let mut answer = [0xff; LACPDU_LEN];
        marker.response(&mut answer);
        asked[2] = 2;
        assert_eq!(answer, asked);
        assert_eq!(
            SlowPdu::parse(&answer, answer.len()),
            Err(PduError::OtherSubtype)
        );
        for len in 0..LACPDU_LEN {
            assert_eq!(SlowPdu::parse(&asked[..len], len), Err(PduError::Truncated));
        }
        for (at, value) in [(1, 0), (2, 3), (3, 20)] {
            let mut bad = asked;
            bad[at] = value;
            assert_eq!(
                SlowPdu::parse(&bad, bad.len()),
                Err(PduError::BadTlv),
                "byte {at}"
            );
        }
    }

    /// Figure 6-7 of the standard, byte by byte.
    #[test]
    fn an_lacpdu_has_the_bytes_of_the_standard() {
        let actor = PortInfo {
            system: SystemId {
                priority: 0x8000,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
            },
            key: 0x0102,
            priority: 0x0304,
            port: 0x0506,
            state: PortState(0x3d),
        };
        let mut bytes = [0; LACPDU_LEN];
        let partner = PortInfo::default();
        LacpDu { actor, partner }.emit(&mut bytes);
        let expected = [
            1, 1, 1, 20, 0x80, 0, 2, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 0x3d, 0, 0, 0, 2, 20,
        ];
        assert_eq!(bytes[..24], expected);
        assert_eq!(bytes[42..44], [3, 16]);
        assert_eq!(bytes[58..], [0; 52], "the terminator and what is reserved");
    }

    #[test]
    fn other_slow_protocols_and_bad_tlvs_are_refused() {
        let mut bytes = [0; LACPDU_LEN];
        LacpDu {
            actor: PortInfo::default(),
            partner: PortInfo::default(),
        }
        .emit(&mut bytes);
        for (at, value, error) in [
            (0, 2, PduError::OtherSubtype),
            (1, 0, PduError::BadTlv),
            (2, 2, PduError::BadTlv),
            (3, 19, PduError::BadTlv),
            (22, 1, PduError::BadTlv),
            (43, 20, PduError::BadTlv),
        ] {
            let mut bad = bytes;
            bad[at] = value;
            assert_eq!(LacpDu::parse(&bad, bad.len()), Err(error), "byte {at}");
        }
    }
}
