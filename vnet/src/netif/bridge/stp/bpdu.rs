//! Bridge protocol data units (IEEE 802.1Q-2018, clause 14), and the frames that they are in.
//!
//! What is behind the fields that a type of BPDU has is not looked at: a later version may have put
//! something there (clause 14.5).

use super::state::Role;
use super::vector::{BridgeIdentifier, PortIdentifier, Ticks, Times, Vector};
use crate::packet::MacAddr;

/// The group to which bridges send BPDUs.
pub(crate) const GROUP: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]);
/// The group of bridges whose VLANs are a provider's (table 8-2).
pub(crate) const PROVIDER_GROUP: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x08]);
/// The LLC header of a BPDU (IEEE 802.2): both service access points are the bridges', and it is
/// unnumbered information.
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
/// Bytes in front of a BPDU in its frame: two addresses, a length and the LLC header.
const HEADERS: usize = 14 + LLC.len();
/// The greatest number in the place of an EtherType that is a length (IEEE 802.3, clause 3.2.6).
const MAX_LENGTH: usize = 1500;

const CONFIG_LEN: usize = 35;
const TCN_LEN: usize = 4;
const RST_LEN: usize = 36;

const CONFIG: u8 = 0x00;
const RST: u8 = 0x02;
const TCN: u8 = 0x80;
const RST_VERSION: u8 = 2;

/// Bits of the flags (clause 14.2.2).
mod flag {
    pub(super) const TOPOLOGY_CHANGE: u8 = 0x01;
    pub(super) const PROPOSAL: u8 = 0x02;
    pub(super) const LEARNING: u8 = 0x10;
    pub(super) const FORWARDING: u8 = 0x20;
    pub(super) const AGREEMENT: u8 = 0x40;
    pub(super) const ACKNOWLEDGEMENT: u8 = 0x80;
    pub(super) const ROLE_SHIFT: u8 = 2;
    pub(super) const ROLE_MASK: u8 = 0b11;
}

/// Why something is not a BPDU, or not one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BpduError {
    /// Its frame is not in the form of IEEE 802.3 with the LLC header of bridges, or is cut off.
    #[error("not a frame with the LLC header of bridges")]
    NotABpdu,
    /// It has fewer bytes than its type needs.
    #[error("{0} bytes are too few for a BPDU of its type")]
    Truncated(usize),
    /// It is of another protocol than the spanning tree protocols.
    #[error("protocol {0:#06x} is unknown")]
    Protocol(u16),
    /// It is of no type that there is in its version.
    #[error("type {kind:#04x} does not exist in version {version}")]
    Type {
        /// The type.
        kind: u8,
        /// The version.
        version: u8,
    },
    /// What it says is older than it may become.
    #[error("its information has expired")]
    Expired,
}

/// What a BPDU says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bpdu {
    /// Of the older protocol: a path to the root. Its sender is designated.
    Config(Config),
    /// Of the older protocol: somewhere the topology has changed.
    TopologyChange,
    /// Of the rapid protocol: a path to the root.
    Rst(Rst),
}

/// What a BPDU of the older protocol says of a path to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The path.
    pub vector: Vector,
    /// The root's times.
    pub times: Times,
    /// The topology has changed.
    pub topology_change: bool,
    /// The sender has heard that the topology has changed.
    pub acknowledgement: bool,
}

/// What a BPDU of the rapid protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rst {
    /// The path to the root.
    pub vector: Vector,
    /// The root's times.
    pub times: Times,
    /// The role of the sender's port; [`Role::Disabled`] stands for one that is unknown.
    pub role: Role,
    /// The topology has changed.
    pub topology_change: bool,
    /// The sender would like to forward.
    pub proposal: bool,
    /// The receiver may forward.
    pub agreement: bool,
    /// The sender learns.
    pub learning: bool,
    /// The sender forwards.
    pub forwarding: bool,
}

/// A BPDU as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    bytes: [u8; RST_LEN],
    len: usize,
}

impl Encoded {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Bpdu {
    /// Reads a BPDU.
    ///
    /// # Errors
    /// Why it is none that counts (clause 14.4).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Bpdu, BpduError> {
        let [p, q, version, kind, ..] = *bytes else {
            return Err(BpduError::Truncated(bytes.len()));
        };
        let protocol = u16::from_be_bytes([p, q]);
        if protocol != 0 {
            return Err(BpduError::Protocol(protocol));
        }
        let unknown = BpduError::Type { kind, version };
        match kind {
            TCN => Ok(Bpdu::TopologyChange),
            CONFIG => {
                let (flags, vector, times) = path(bytes, CONFIG_LEN)?;
                if times.message_age >= times.max_age {
                    return Err(BpduError::Expired);
                }
                Ok(Bpdu::Config(Config {
                    vector,
                    times,
                    topology_change: flags & flag::TOPOLOGY_CHANGE != 0,
                    acknowledgement: flags & flag::ACKNOWLEDGEMENT != 0,
                }))
            }
            RST if version >= RST_VERSION => {
                let (flags, vector, times) = path(bytes, RST_LEN)?;
                Ok(Bpdu::Rst(Rst {
                    vector,
                    times,
                    role: role((flags >> flag::ROLE_SHIFT) & flag::ROLE_MASK),
                    topology_change: flags & flag::TOPOLOGY_CHANGE != 0,
                    proposal: flags & flag::PROPOSAL != 0,
                    agreement: flags & flag::AGREEMENT != 0,
                    learning: flags & flag::LEARNING != 0,
                    forwarding: flags & flag::FORWARDING != 0,
                }))
            }
            _ => Err(unknown),
        }
    }

    /// Writes a BPDU.
    pub(crate) fn emit(&self) -> Encoded {
        let mut bytes = [0; RST_LEN];
        let bit = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let len = match self {
            Bpdu::TopologyChange => {
                bytes[3] = TCN;
                TCN_LEN
            }
            Bpdu::Config(c) => {
                let flags = bit(c.topology_change, flag::TOPOLOGY_CHANGE)
                    | bit(c.acknowledgement, flag::ACKNOWLEDGEMENT);
                put_path(&mut bytes, flags, &c.vector, &c.times);
                CONFIG_LEN
            }
            Bpdu::Rst(r) => {
                let flags = bit(r.topology_change, flag::TOPOLOGY_CHANGE)
                    | bit(r.proposal, flag::PROPOSAL)
                    | role_bits(r.role) << flag::ROLE_SHIFT
                    | bit(r.learning, flag::LEARNING)
                    | bit(r.forwarding, flag::FORWARDING)
                    | bit(r.agreement, flag::AGREEMENT);
                (bytes[2], bytes[3]) = (RST_VERSION, RST);
                put_path(&mut bytes, flags, &r.vector, &r.times);
                RST_LEN
            }
        };
        Encoded { bytes, len }
    }
}

/// The BPDU in a frame of `len` bytes that is addressed to bridges, of which `head` is the beginning.
/// What is not in there of a long BPDU is missing.
///
/// # Errors
/// [`BpduError::NotABpdu`].
pub(crate) fn in_frame(head: &[u8], len: usize) -> Result<&[u8], BpduError> {
    let headers = head.get(..HEADERS).ok_or(BpduError::NotABpdu)?;
    let length = usize::from(u16::from_be_bytes([headers[12], headers[13]]));
    let is_llc = headers[14..] == LLC && (LLC.len()..=MAX_LENGTH).contains(&length);
    // A short frame is padded: its length says where it ends.
    let end = HEADERS - LLC.len() + length;
    let is_whole = is_llc && end <= len;
    let bpdu = is_whole.then(|| head.get(HEADERS..end.min(head.len())));
    bpdu.flatten().ok_or(BpduError::NotABpdu)
}

/// The bytes of a frame from `src` to the bridges of a group with a BPDU in it.
pub(crate) fn frame(group: MacAddr, src: MacAddr, bpdu: &Encoded) -> Vec<u8> {
    let bpdu = bpdu.as_slice();
    let length = (LLC.len() + bpdu.len()) as u16;
    let mut frame = Vec::with_capacity(HEADERS + bpdu.len());
    frame.extend(group.0);
    frame.extend(src.0);
    frame.extend(length.to_be_bytes());
    frame.extend(LLC);
    frame.extend(bpdu);
    frame
}

/// What BPDUs of both protocols have in common (clause 14.2): flags, a vector and times.
fn path(bytes: &[u8], needs: usize) -> Result<(u8, Vector, Times), BpduError> {
    let truncated = BpduError::Truncated(bytes.len());
    if bytes.len() < needs {
        return Err(truncated);
    }
    let field = bytes.get(4..CONFIG_LEN).and_then(|b| b.first_chunk());
    let fields: &[u8; CONFIG_LEN - 4] = field.ok_or(truncated)?;
    let &[flags, rest @ ..] = fields;
    let pair = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let identifier = |at: usize| {
        let mut id = [0; 8];
        id.copy_from_slice(&rest[at..at + 8]);
        BridgeIdentifier::from_bytes(id)
    };
    let vector = Vector {
        root: identifier(0),
        cost: u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]),
        bridge: identifier(12),
        port: PortIdentifier(pair(20)),
    };
    let times = Times {
        message_age: Ticks(pair(22)),
        max_age: Ticks(pair(24)),
        hello: Ticks(pair(26)),
        forward_delay: Ticks(pair(28)),
    };
    Ok((flags, vector, times))
}

fn put_path(bytes: &mut [u8; RST_LEN], flags: u8, vector: &Vector, times: &Times) {
    bytes[4] = flags;
    bytes[5..13].copy_from_slice(&vector.root.to_bytes());
    bytes[13..17].copy_from_slice(&vector.cost.to_be_bytes());
    bytes[17..25].copy_from_slice(&vector.bridge.to_bytes());
    let rest = [
        vector.port.0,
        times.message_age.0,
        times.max_age.0,
        times.hello.0,
        times.forward_delay.0,
    ];
    for (at, value) in bytes[25..CONFIG_LEN].chunks_exact_mut(2).zip(rest) {
        at.copy_from_slice(&value.to_be_bytes());
    }
}

/// Clause 14.2.2: 1 is alternate or backup, 2 root, 3 designated.
fn role(bits: u8) -> Role {
    match bits {
        1 => Role::Alternate,
        2 => Role::Root,
        3 => Role::Designated,
        _ => Role::Disabled,
    }
}

fn role_bits(role: Role) -> u8 {
    match role {
        Role::Disabled => 0,
        Role::Alternate | Role::Backup => 1,
        Role::Root => 2,
        Role::Designated => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identifier() -> impl Strategy<Value = BridgeIdentifier> {
        any::<[u8; 8]>().prop_map(BridgeIdentifier::from_bytes)
    }

    prop_compose! {
        fn vector()(root in identifier(), cost: u32, bridge in identifier(), port: u16) -> Vector {
            Vector { root, cost, bridge, port: PortIdentifier(port) }
        }
    }

    prop_compose! {
        fn times()(all: [u16; 4]) -> Times {
            let [message_age, max_age, hello, forward_delay] = all.map(Ticks);
            Times { message_age, max_age, hello, forward_delay }
        }
    }

    fn bpdu() -> impl Strategy<Value = Bpdu> {
        let roles = vec![
            Role::Disabled,
            Role::Alternate,
            Role::Root,
            Role::Designated,
        ];
        let rst = (
            vector(),
            times(),
            prop::sample::select(roles),
            any::<[bool; 5]>(),
        );
        prop_oneof![
            1 => Just(Bpdu::TopologyChange),
            4 => (vector(), times(), any::<[bool; 2]>()).prop_map(|(vector, times, flags)| {
                let [topology_change, acknowledgement] = flags;
                Bpdu::Config(Config { vector, times, topology_change, acknowledgement })
            }),
            4 => rst.prop_map(|(vector, times, role, flags)| {
                let [topology_change, proposal, agreement, learning, forwarding] = flags;
                Bpdu::Rst(Rst {
                    vector, times, role, topology_change, proposal, agreement, learning, forwarding,
                })
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn what_is_written_is_read(bpdu in bpdu(), src: [u8; 6], padding in 0..60usize) {
            let mut frame = frame(GROUP, MacAddr(src), &bpdu.emit());
            frame.extend(vec![0xaa; padding]);
            let read = Bpdu::parse(in_frame(&frame, frame.len()).expect("it is one"));
            match bpdu {
                Bpdu::Config(c) if c.times.message_age >= c.times.max_age => {
                    prop_assert_eq!(read, Err(BpduError::Expired));
                }
                _ => prop_assert_eq!(read, Ok(bpdu)),
            }
        }

        #[test]
        fn a_bpdu_that_is_cut_off_is_refused(bpdu in bpdu(), cut in 1..36usize) {
            let whole = bpdu.emit();
            let len = whole.as_slice().len().saturating_sub(cut);
            let read = Bpdu::parse(&whole.as_slice()[..len]);
            prop_assert_eq!(read, Err(BpduError::Truncated(len)));
        }

        #[test]
        fn what_is_not_understood_is_refused_and_what_is_read_is_what_was_there(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            head in prop::option::of((0..4u8, prop::sample::select(vec![0x00, 0x02, 0x80, 0x01]))),
        ) {
            let mut bytes = bytes;
            if let (Some((version, kind)), true) = (head, bytes.len() >= 4) {
                bytes[..4].copy_from_slice(&[0, 0, version, kind]);
            }
            let _ = in_frame(&bytes, bytes.len());
            match Bpdu::parse(&bytes) {
                Ok(Bpdu::TopologyChange) => prop_assert_eq!(bytes[3], 0x80),
                Ok(bpdu) => {
                    let again = bpdu.emit();
                    // All but the version, and flags that its type does not have.
                    prop_assert_eq!(&again.as_slice()[5..35], &bytes[5..35]);
                }
                Err(BpduError::Truncated(len)) => prop_assert!(len == bytes.len() && len < 36),
                Err(BpduError::Protocol(_)) => prop_assert!(bytes[..2] != [0, 0]),
                Err(BpduError::Type { kind, version }) => {
                    prop_assert_eq!([bytes[2], bytes[3]], [version, kind]);
                }
                Err(BpduError::Expired) => prop_assert_eq!(bytes[3], 0x00),
                Err(BpduError::NotABpdu) => prop_assert!(false, "that is said of frames only"),
            }
        }
    }

    #[test]
    fn a_frame_of_another_kind_has_no_bpdu() {
        let good = frame(GROUP, MacAddr::ZERO, &Bpdu::TopologyChange.emit());
        assert_eq!(good.len(), 21);
        assert_eq!(in_frame(&good, good.len()), Ok(&good[17..]));
        for (at, byte) in [(12, 0x08), (13, 2), (13, 8), (14, 0x43), (15, 0), (16, 0)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(
                in_frame(&bad, bad.len()),
                Err(BpduError::NotABpdu),
                "byte {at}"
            );
        }
        for len in 0..good.len() {
            assert_eq!(in_frame(&good[..len], len), Err(BpduError::NotABpdu));
        }
    }
}
