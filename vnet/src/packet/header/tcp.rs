//! TCP (RFC 9293), with the options of RFC 2018 and RFC 7323.

use std::fmt;
use std::ops::BitOr;

use smoltcp::wire::{TcpOption, TcpPacket, TcpSeqNumber};

use super::HeaderError;

/// Bytes in a TCP header without options.
pub(crate) const TCP_LEN: usize = 20;
/// Bytes in the longest TCP header.
pub(crate) const TCP_MAX_LEN: usize = 60;
/// Where the checksum is, from the start of the header.
pub(crate) const TCP_CSUM_OFFSET: u16 = 16;

/// Bytes that a timestamp takes, two no-operations in front included.
const TIMESTAMP_LEN: usize = 12;

/// Control bits, the acknowledgement bit excepted: that one is [`TcpHeader::ack`], and its place here is AE's.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TcpFlags(u8);

impl TcpFlags {
    /// No control bit.
    pub(crate) const NONE: TcpFlags = TcpFlags(0);
    /// No more data from the sender.
    pub(crate) const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub(crate) const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub(crate) const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub(crate) const PSH: TcpFlags = TcpFlags(0x08);
    /// Accurate ECN (RFC 9768), the last bit of the octet before the others.
    pub(crate) const AE: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer is significant.
    pub(crate) const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub(crate) const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub(crate) const CWR: TcpFlags = TcpFlags(0x80);

    /// AE, CWR and ECE as a number (RFC 9768 3.2.2).
    #[inline]
    pub(crate) const fn ace(self) -> u8 {
        self.0 >> 6 & 1 | self.0 >> 6 & 2 | self.0 >> 2 & 4
    }

    /// The flags with that number; only its three lowest bits count.
    pub(crate) const fn of_ace(number: u8) -> TcpFlags {
        TcpFlags(number << 6 & 0xc0 | number << 2 & 0x10)
    }

    /// True when every bit of `other` is set.
    #[inline]
    pub(crate) const fn has(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits without those of `other`.
    #[inline]
    #[must_use]
    pub(crate) const fn without(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & !other.0)
    }

    /// True when a bit of `other` is set.
    #[inline]
    pub(crate) const fn any(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;
    #[inline]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [
            (TcpFlags::FIN, 'F'),
            (TcpFlags::SYN, 'S'),
            (TcpFlags::RST, 'R'),
            (TcpFlags::PSH, 'P'),
            (TcpFlags::URG, 'U'),
            (TcpFlags::ECE, 'E'),
            (TcpFlags::CWR, 'W'),
            (TcpFlags::AE, 'e'),
        ] {
            if self.has(bit) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Blocks of a selective acknowledgement (RFC 2018): left edge, and right edge exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SackBlocks {
    blocks: [(u32, u32); SackBlocks::MAX],
    len: u8,
}

impl SackBlocks {
    /// What fits into 40 bytes of options.
    pub(crate) const MAX: usize = 4;

    /// No blocks.
    pub(crate) const NONE: SackBlocks = SackBlocks {
        blocks: [(0, 0); SackBlocks::MAX],
        len: 0,
    };

    /// Adds a block; false when there is no room.
    pub(crate) fn push(&mut self, block: (u32, u32)) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *slot = block;
        self.len += 1;
        true
    }

    /// The blocks, in the order in which they appear in the option.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// True when there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the first `n`.
    #[cfg(test)]
    pub(crate) fn truncate(&mut self, n: usize) {
        let keep = n.min(usize::from(self.len));
        self.blocks[keep..].fill((0, 0));
        self.len = keep as u8;
    }
}

/// The TCP options this stack knows. Others are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TcpOptions {
    /// Maximum segment size the sender can receive (RFC 9293 3.7.1).
    pub mss: Option<u16>,
    /// Window shift count, as sent (RFC 7323 2); values above 14 are the receiver's to clamp.
    pub window_scale: Option<u8>,
    /// The sender understands selective acknowledgements (RFC 2018 2).
    pub sack_permitted: Option<SackPermitted>,
    /// Selective acknowledgement (RFC 2018 3).
    pub sack: SackBlocks,
    /// TSval and TSecr (RFC 7323 3).
    pub timestamp: Option<(u32, u32)>,
    /// The cookie of a fast open, or the request for one (RFC 7413 2).
    pub fast_open: Option<FastOpenCookie>,
    /// How many bytes arrived with which mark (RFC 9768).
    pub marked: Option<MarkedBytes>,
}

/// A cookie of TCP Fast Open (RFC 7413 2): what one side once made, and the other gives back. One without bytes asks for
/// one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FastOpenCookie {
    bytes: [u8; FastOpenCookie::MAX],
    len: u8,
}

impl FastOpenCookie {
    /// Bytes in the longest one.
    pub(crate) const MAX: usize = 16;
    /// The request for one.
    pub(crate) const REQUEST: FastOpenCookie = FastOpenCookie {
        bytes: [0; FastOpenCookie::MAX],
        len: 0,
    };
    const KIND: u8 = 34;

    /// A cookie of these bytes, if there can be one.
    // RFC 7413 4.1.1: of another length, the option is ignored.
    pub(crate) fn new(bytes: &[u8]) -> Option<FastOpenCookie> {
        let len = bytes.len();
        let is_valid =
            len == 0 || ((4..=FastOpenCookie::MAX).contains(&len) && len.is_multiple_of(2));
        is_valid.then(|| {
            let mut cookie = FastOpenCookie::REQUEST;
            cookie.bytes[..len].copy_from_slice(bytes);
            cookie.len = len as u8;
            cookie
        })
    }

    /// Its bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it is a request for one.
    pub(crate) fn is_request(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it takes in a header, no-operations in front included.
    const fn space(&self) -> usize {
        (2 + self.len as usize).next_multiple_of(4)
    }
}

/// Presence of the SACK-permitted option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SackPermitted;

/// The AccECN option (RFC 9768 3.2.3): how many bytes of data arrived as ECT(0), CE and ECT(1), each modulo 2^24; or the
/// other way round. The last of them may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MarkedBytes {
    order: MarkOrder,
    len: u8,
    fields: [[u8; 3]; MarkedBytes::MAX],
}

/// With which counter an AccECN option begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MarkOrder {
    /// ECT(0), CE, ECT(1): AccECN0.
    Ect0First,
    /// ECT(1), CE, ECT(0): AccECN1.
    Ect1First,
}

impl MarkOrder {
    const fn kind(self) -> u8 {
        match self {
            MarkOrder::Ect0First => 172,
            MarkOrder::Ect1First => 174,
        }
    }
}

impl MarkedBytes {
    /// The counters of an option that lacks none.
    pub(crate) const MAX: usize = 3;

    /// The first `n` counters in this order, of `counts` as ECT(0), CE and ECT(1).
    pub(crate) fn new(order: MarkOrder, mut counts: [u32; 3], n: usize) -> MarkedBytes {
        if order == MarkOrder::Ect1First {
            counts.reverse();
        }
        let mut fields = [[0; 3]; MarkedBytes::MAX];
        for (field, count) in fields.iter_mut().zip(counts).take(n) {
            field.copy_from_slice(&count.to_be_bytes()[1..]);
        }
        let len = n.min(MarkedBytes::MAX) as u8;
        MarkedBytes { order, len, fields }
    }

    /// What an option of this kind says, if it is one.
    // RFC 9768 3.2.3: of another length, what is whole counts.
    fn parse(kind: u8, bytes: &[u8]) -> Option<MarkedBytes> {
        let order = [MarkOrder::Ect0First, MarkOrder::Ect1First]
            .into_iter()
            .find(|order| order.kind() == kind)?;
        let mut fields = [[0; 3]; MarkedBytes::MAX];
        let whole = bytes.as_chunks::<3>().0;
        let len = whole.len().min(MarkedBytes::MAX);
        fields[..len].copy_from_slice(&whole[..len]);
        let len = len as u8;
        Some(MarkedBytes { order, len, fields })
    }

    /// The counter of ECT(0), CE or ECT(1), by its place in that order, modulo 2^24.
    pub(crate) fn get(&self, mark: usize) -> Option<u32> {
        let at = match self.order {
            MarkOrder::Ect0First => mark,
            MarkOrder::Ect1First => 2 - mark,
        };
        let [a, b, c] = *self.fields[..usize::from(self.len)].get(at)?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    /// Bytes that an option with so many counters takes in a header, no-operations in front included.
    pub(crate) const fn space(n: usize) -> usize {
        (2 + 3 * n).next_multiple_of(4)
    }
}

impl TcpOptions {
    /// Bytes the options take in a header, padding included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.window_scale.is_some() {
            len += 4; // with a no-operation in front
        }
        if self.sack_permitted.is_some() {
            len += 4; // with two no-operations in front
        }
        if self.timestamp.is_some() {
            len += TIMESTAMP_LEN; // with two no-operations in front (RFC 7323 appendix A)
        }
        if !self.sack.is_empty() {
            len += 4 + 8 * self.sack.as_slice().len();
        }
        if let Some(cookie) = &self.fast_open {
            len += cookie.space();
            if self.is_tight() {
                len -= 4;
            }
        }
        if let Some(marked) = &self.marked {
            len += MarkedBytes::space(marked.len.into());
        }
        len
    }

    /// Whether there is room for all only without no-operations between SACK-permitted and the timestamp: beside the
    /// longest cookie.
    fn is_tight(&self) -> bool {
        let longest = |c: FastOpenCookie| usize::from(c.len) > FastOpenCookie::MAX - 2;
        self.fast_open.is_some_and(longest)
            && self.sack_permitted.is_some()
            && self.timestamp.is_some()
    }

    /// True when there is no option.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TcpHeader {
    /// Source port. Zero is not refused here.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte (or of the SYN).
    pub seq: u32,
    /// Acknowledgement number; `None` when the ACK bit is not set.
    pub ack: Option<u32>,
    /// The other control bits.
    pub flags: TcpFlags,
    /// Window field, unscaled.
    pub window: u16,
    /// Urgent pointer field.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
}

/// How long the header is, from its first [`TCP_LEN`] bytes.
///
/// # Errors
/// [`HeaderError::Truncated`] when there are fewer bytes, [`HeaderError::BadLength`] when the data
/// offset says less than the fixed part.
#[inline]
pub(crate) fn header_len(fixed: &[u8]) -> Result<usize, HeaderError> {
    if fixed.len() < TCP_LEN {
        return Err(HeaderError::Truncated);
    }
    let len = usize::from(TcpPacket::new_unchecked(fixed).header_len());
    if len < TCP_LEN {
        return Err(HeaderError::BadLength);
    }
    Ok(len)
}

impl TcpHeader {
    /// Reads a header, and says how long it is. Bytes behind it are not looked at.
    ///
    /// # Errors
    /// What [`header_len`] and [`TcpHeader::read`] return.
    #[cfg(test)]
    pub(crate) fn parse(bytes: &[u8]) -> Result<(TcpHeader, usize), HeaderError> {
        let len = header_len(bytes)?;
        let header = TcpHeader::read(bytes.get(..len).ok_or(HeaderError::Truncated)?)?;
        Ok((header, len))
    }

    /// Reads a header from its bytes, options included, of which there are as many as [`header_len`] has said.
    ///
    /// An option of the wrong size ends the list, as does a truncated one: what was read up to
    /// there counts (RFC 9293 3.1 asks to go on with options one does not understand).
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] when there are fewer bytes than the fixed part has, [`HeaderError::BadLength`] when an
    /// option claims a length below two bytes.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Result<TcpHeader, HeaderError> {
        let (fixed, options) = bytes
            .split_first_chunk::<TCP_LEN>()
            .ok_or(HeaderError::Truncated)?;
        let packet = TcpPacket::new_unchecked(&fixed[..]);
        Ok(TcpHeader {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            seq: packet.seq_number().0 as u32,
            ack: packet.ack().then(|| packet.ack_number().0 as u32),
            // Bits 8 to 15 of the header's fourth word hold all control bits but one.
            flags: TcpFlags(fixed[13] & !0x10 | (fixed[12] & 1) << 4),
            window: packet.window_len(),
            urgent: packet.urgent_at(),
            options: parse_options(options)?,
        })
    }

    /// Bytes in the header, options and padding included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        TCP_LEN + self.options.len()
    }

    /// Writes the header; the checksum field is zero.
    ///
    /// # Panics
    /// When `bytes` is not as long as [`TcpHeader::len`] says, or the options together exceed 40 bytes
    /// (which no combination that this stack sends does).
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let len = bytes.len();
        debug_assert_eq!(len, self.len(), "room for the header and no more");
        assert!(len <= TCP_MAX_LEN, "TCP options exceed 40 bytes");
        let (fixed, options) = bytes
            .split_first_chunk_mut::<TCP_LEN>()
            .expect("as many bytes as were asked for");
        let mut packet = TcpPacket::new_unchecked(&mut fixed[..]);
        packet.set_src_port(self.src_port);
        packet.set_dst_port(self.dst_port);
        packet.set_seq_number(TcpSeqNumber(self.seq as i32));
        packet.set_ack_number(TcpSeqNumber(self.ack.unwrap_or(0) as i32));
        packet.clear_flags();
        packet.set_header_len(len as u8);
        packet.set_window_len(self.window);
        packet.set_checksum(0);
        packet.set_urgent_at(self.urgent);
        let ack_bit = if self.ack.is_some() { 0x10 } else { 0 };
        fixed[12] |= self.flags.0 >> 4 & 1;
        fixed[13] = self.flags.0 & !0x10 | ack_bit;
        match (self.options.timestamp, options.as_mut_array()) {
            (Some((value, echo)), Some(options)) => *options = timestamp_only(value, echo),
            _ => emit_options(&self.options, options),
        }
    }
}

/// The options of nearly every segment: a timestamp, laid out as in RFC 7323, appendix A.
#[inline]
fn timestamp_only(value: u32, echo: u32) -> [u8; TIMESTAMP_LEN] {
    let ([v0, v1, v2, v3], [e0, e1, e2, e3]) = (value.to_be_bytes(), echo.to_be_bytes());
    [1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3]
}

#[inline]
fn parse_options(bytes: &[u8]) -> Result<TcpOptions, HeaderError> {
    // See `timestamp_only`.
    match bytes.as_array::<TIMESTAMP_LEN>() {
        Some([1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3]) => {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            let echo = u32::from_be_bytes([*e0, *e1, *e2, *e3]);
            Ok(TcpOptions {
                timestamp: Some((value, echo)),
                ..TcpOptions::default()
            })
        }
        _ => parse_any_options(bytes),
    }
}

fn parse_any_options(mut rest: &[u8]) -> Result<TcpOptions, HeaderError> {
    let mut options = TcpOptions::default();
    while !rest.is_empty() {
        // RFC 9293 3.1 (MUST-68): kinds other than 0 and 1 have a length, of at least 2.
        if let [kind, length, ..] = rest
            && *kind > 1
            && *length < 2
        {
            return Err(HeaderError::BadLength);
        }
        let Ok((next, option)) = TcpOption::parse(rest) else {
            break;
        };
        match option {
            TcpOption::EndOfList => break,
            TcpOption::Unknown { kind, data } if kind == FastOpenCookie::KIND => {
                options.fast_open = FastOpenCookie::new(data);
            }
            TcpOption::Unknown { kind, data } => {
                options.marked = MarkedBytes::parse(kind, data).or(options.marked);
            }
            TcpOption::NoOperation => {}
            TcpOption::MaxSegmentSize(mss) => options.mss = Some(mss),
            TcpOption::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOption::SackPermitted => options.sack_permitted = Some(SackPermitted),
            TcpOption::SackRange(first_three) => {
                options.sack = SackBlocks::NONE;
                for block in first_three.into_iter().flatten() {
                    options.sack.push(block);
                }
                // smoltcp keeps three blocks; without timestamps there is room for a fourth.
                if let Some(fourth) = rest.get(26..34).filter(|_| rest[1] == 34) {
                    let word = |at: usize| {
                        u32::from_be_bytes([
                            fourth[at],
                            fourth[at + 1],
                            fourth[at + 2],
                            fourth[at + 3],
                        ])
                    };
                    options.sack.push((word(0), word(4)));
                }
            }
            TcpOption::TimeStamp { tsval, tsecr } => options.timestamp = Some((tsval, tsecr)),
        }
        rest = next;
    }
    Ok(options)
}

fn emit_options(options: &TcpOptions, mut rest: &mut [u8]) {
    let pad = |rest: &mut [u8], n: usize| rest[..n].fill(1);
    if let Some(mss) = options.mss {
        rest = TcpOption::MaxSegmentSize(mss).emit(rest);
    }
    if let Some(shift) = options.window_scale {
        pad(rest, 1);
        rest = TcpOption::WindowScale(shift).emit(&mut rest[1..]);
    }
    let gap = if options.is_tight() { 0 } else { 2 };
    if options.sack_permitted.is_some() {
        pad(rest, gap);
        rest = TcpOption::SackPermitted.emit(&mut rest[gap..]);
    }
    if let Some((tsval, tsecr)) = options.timestamp {
        pad(rest, gap);
        rest = TcpOption::TimeStamp { tsval, tsecr }.emit(&mut rest[gap..]);
    }
    if let Some(cookie) = &options.fast_open {
        let (option, bytes) = (cookie.space(), cookie.as_slice());
        let gap = option - 2 - bytes.len();
        pad(rest, gap);
        rest[gap..gap + 2].copy_from_slice(&[FastOpenCookie::KIND, 2 + cookie.len]);
        rest[gap + 2..option].copy_from_slice(bytes);
        rest = &mut rest[option..];
    }
    if let Some(MarkedBytes { order, len, fields }) = &options.marked {
        let bytes = fields[..usize::from(*len)].as_flattened();
        let option = MarkedBytes::space((*len).into());
        let gap = option - 2 - bytes.len();
        pad(rest, gap);
        rest[gap..gap + 2].copy_from_slice(&[order.kind(), 2 + bytes.len() as u8]);
        rest[gap + 2..option].copy_from_slice(bytes);
        rest = &mut rest[option..];
    }
    let blocks = options.sack.as_slice();
    if !blocks.is_empty() {
        pad(rest, 2);
        let mut three = [None; 3];
        for (slot, block) in three.iter_mut().zip(blocks) {
            *slot = Some(*block);
        }
        let tail = TcpOption::SackRange(three).emit(&mut rest[2..]);
        if let Some(&(left, right)) = blocks.get(3) {
            tail[..4].copy_from_slice(&left.to_be_bytes());
            tail[4..8].copy_from_slice(&right.to_be_bytes());
            rest[3] = 34;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_options() -> impl Strategy<Value = TcpOptions> {
        (
            any::<Option<u16>>(),
            any::<Option<u8>>(),
            any::<bool>(),
            prop::collection::vec(any::<(u32, u32)>(), 0..=4),
            any::<Option<(u32, u32)>>(),
            any::<Option<([u8; 16], u8)>>(),
            any::<Option<(bool, [u32; 3], u8)>>(),
        )
            .prop_map(
                |(mss, window_scale, permitted, blocks, timestamp, cookie, marked)| {
                    let mut options = TcpOptions {
                        mss,
                        window_scale,
                        sack_permitted: permitted.then_some(SackPermitted),
                        sack: SackBlocks::NONE,
                        timestamp,
                        fast_open: cookie.and_then(|(bytes, len)| {
                            FastOpenCookie::new(&bytes[..usize::from(len % 17)])
                        }),
                        marked: marked.map(|(first, counts, n)| {
                            let order = match first {
                                true => MarkOrder::Ect0First,
                                false => MarkOrder::Ect1First,
                            };
                            MarkedBytes::new(order, counts, usize::from(n % 4))
                        }),
                    };
                    for block in blocks {
                        options.sack.push(block);
                    }
                    while options.len() > 40 {
                        match options.sack.as_slice().len() {
                            0 => options.marked = None,
                            n => options.sack.truncate(n - 1),
                        }
                    }
                    options
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_back(
            (src_port, dst_port, seq, ack) in any::<(u16, u16, u32, Option<u32>)>(),
            (flags, window, urgent) in any::<(u8, u16, u16)>(),
            options in any_options(),
        ) {
            let header = TcpHeader {
                src_port, dst_port, seq, ack, flags: TcpFlags(flags), window, urgent, options,
            };
            let mut bytes = vec![0xaa; header.len()];
            header.emit(&mut bytes);
            prop_assert_eq!(TcpHeader::parse(&bytes), Ok((header, bytes.len())));
            for cut in 0..bytes.len() {
                prop_assert_eq!(TcpHeader::parse(&bytes[..cut]), Err(HeaderError::Truncated));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TcpHeader::parse(&bytes);
        }
    }

    // RFC 7413 2 and 4.1.1
    #[test]
    fn a_cookie_has_an_even_number_of_bytes_and_the_longest_fits_beside_all_others() {
        for len in 0..=18 {
            let valid = matches!(len, 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16);
            let cookie = FastOpenCookie::new(&vec![7; len]);
            assert_eq!(cookie.is_some(), valid, "{len}");
            let Some(cookie) = cookie else { continue };
            let options = TcpOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: Some(SackPermitted),
                timestamp: Some((1, 2)),
                fast_open: Some(cookie),
                ..TcpOptions::default()
            };
            assert!(
                options.len() <= 40 && options.len().is_multiple_of(4),
                "{len}"
            );
        }
    }

    // RFC 9768 3.2.3, figure 4 and table 5; other lengths are read as far as counters are whole.
    #[test]
    fn marked_bytes_are_written_in_either_order_and_read_from_any_length() {
        let counts = [0x0101_0203, 0x040506, 0x070809];
        for (order, kind, bytes) in [
            (MarkOrder::Ect0First, 172, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (MarkOrder::Ect1First, 174, [7, 8, 9, 4, 5, 6, 1, 2, 3]),
        ] {
            for n in 0..=3 {
                let options = TcpOptions {
                    marked: Some(MarkedBytes::new(order, counts, n)),
                    ..TcpOptions::default()
                };
                let mut out = [0; 12];
                assert_eq!(options.len(), [4, 8, 8, 12][n]);
                emit_options(&options, &mut out[..options.len()]);
                let gap = options.len() - 2 - 3 * n;
                assert!(out[..gap].iter().all(|b| *b == 1));
                assert_eq!(out[gap..gap + 2], [kind, 2 + 3 * n as u8]);
                assert_eq!(out[gap + 2..options.len()], bytes[..3 * n]);
            }
            for len in 0..=11 {
                let mut padded = [0xee; 11];
                padded[..9].copy_from_slice(&bytes);
                let read = MarkedBytes::parse(kind, &padded[..len]).expect("its kind");
                let whole = (len / 3).min(3);
                assert_eq!(read, MarkedBytes::new(order, counts, whole), "{len}");
                assert_eq!(read.get(1), (whole > 1).then_some(0x040506));
            }
        }
        assert_eq!(MarkedBytes::parse(173, &[0; 9]), None);
    }

    #[test]
    fn three_flags_are_a_number() {
        for (n, flags) in [
            (0, TcpFlags::NONE),
            (1, TcpFlags::ECE),
            (2, TcpFlags::CWR),
            (4, TcpFlags::AE),
            (7, TcpFlags::AE | TcpFlags::CWR | TcpFlags::ECE),
        ] {
            assert_eq!((flags.ace(), TcpFlags::of_ace(n)), (n, flags));
            assert_eq!((flags | TcpFlags::SYN | TcpFlags::URG).ace(), n);
            assert_eq!(TcpFlags::of_ace(n | 0xf8), flags);
        }
    }

    #[test]
    fn a_lying_option_is_an_error_and_a_broken_one_ends_the_list() {
        let header = TcpHeader {
            options: TcpOptions {
                mss: Some(1460),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        let mut bytes = [0; 28];
        header.emit(&mut bytes[..24]);
        bytes[12] = 7 << 4;
        bytes[24..28].copy_from_slice(&[8, 0, 1, 1]); // a timestamp of zero bytes
        assert_eq!(TcpHeader::parse(&bytes), Err(HeaderError::BadLength));
        bytes[24..28].copy_from_slice(&[8, 9, 1, 1]); // one that reaches past the header
        let (parsed, len) = TcpHeader::parse(&bytes).expect("the list ends there");
        assert_eq!((parsed, len), (header, 28));
        bytes[12] = 4 << 4;
        assert_eq!(TcpHeader::parse(&bytes), Err(HeaderError::BadLength));
    }
}
