//! Record route and timestamp: what every host and router on the way writes into the options of a packet that asks for it
//! (RFC 791 section 3.1, RFC 1122 section 3.2.1.8, RFC 1812 section 5.3.13).

use std::net::Ipv4Addr;

use crate::base::time::Instant;
use crate::packet::checksum;
use crate::packet::header::ipv4::{MIN_LEN, Options};

const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;

/// What a timestamp option wants to have written.
mod stamps {
    pub(super) const ONLY: u8 = 0;
    pub(super) const WITH_ADDRESS: u8 = 1;
    pub(super) const OF_NAMED: u8 = 3;
}

/// Writes into the options of a header, given by its own bytes, that the packet has passed here: `own` is the address by
/// which it goes on, and `is_ours` says which addresses are of this vnet. The checksum of the header is filled in again.
pub(crate) fn record(
    header: &mut [u8],
    now: Instant,
    own: Ipv4Addr,
    is_ours: impl Fn(Ipv4Addr) -> bool,
) {
    fill_in(&mut header[MIN_LEN..], now, own, is_ours);
    sum(header);
}

/// Fills in the checksum of a header, given by its own bytes.
pub(crate) fn sum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes into options that the packet has passed here.
pub(crate) fn fill_in(
    options: &mut [u8],
    now: Instant,
    own: Ipv4Addr,
    is_ours: impl Fn(Ipv4Addr) -> bool,
) {
    let mut at = 0;
    while let Some(rest) = options.get_mut(at..) {
        let len = match *rest {
            [1, ..] => 1,
            [0, ..] | [] | [_] => return,
            [_, len, ..] => usize::from(len),
        };
        let Some(option) = rest.get_mut(..len).filter(|_| len > 0) else {
            return;
        };
        match option {
            [RECORD_ROUTE, _, pointer, ..] => {
                if let Some(room) = room(len, *pointer, 4) {
                    *pointer += 4;
                    option[room..room + 4].copy_from_slice(&own.octets());
                }
            }
            [TIMESTAMP, _, pointer, flags, ..] => {
                let (pointer, flags) = (*pointer, *flags);
                stamp(option, pointer, flags, now, own, &is_ours);
            }
            _ => {}
        }
        at += len;
    }
}

/// Where in an option of `len` bytes so many bytes are to be written, if there is room for them.
fn room(len: usize, pointer: u8, bytes: usize) -> Option<usize> {
    let at = usize::from(pointer).checked_sub(1)?;
    (at >= 3 && at + bytes <= len).then_some(at)
}

fn stamp(
    option: &mut [u8],
    pointer: u8,
    flags: u8,
    now: Instant,
    own: Ipv4Addr,
    is_ours: impl Fn(Ipv4Addr) -> bool,
) {
    let bytes = match flags & 0xf {
        stamps::ONLY => 4,
        stamps::WITH_ADDRESS | stamps::OF_NAMED => 8,
        _ => return,
    };
    let Some(at) = room(option.len(), pointer, bytes).filter(|at| *at >= 4) else {
        // How many had no room; as many as fit into four bits.
        if usize::from(pointer) > option.len() && flags >> 4 < 15 {
            option[3] += 1 << 4;
        }
        return;
    };
    let mut time_at = at;
    match flags & 0xf {
        stamps::WITH_ADDRESS => {
            option[at..at + 4].copy_from_slice(&own.octets());
            time_at += 4;
        }
        stamps::OF_NAMED => {
            let [a, b, c, d] = [option[at], option[at + 1], option[at + 2], option[at + 3]];
            if !is_ours(Ipv4Addr::new(a, b, c, d)) {
                return;
            }
            time_at += 4;
        }
        _ => {}
    }
    // A vnet knows how long it has been, and not what time of day it is: the highest bit says so.
    let millis = now.since(Instant::ZERO).as_millis() as u32 | 1 << 31;
    option[time_at..time_at + 4].copy_from_slice(&millis.to_be_bytes());
    option[2] += bytes as u8;
}

/// The options of a request, given by the bytes of its header, that its answer is to have as well: those that record.
/// A multiple of four bytes, or nothing.
pub(crate) fn for_answer(header: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for (kind, option) in Options::of(header) {
        if matches!(kind, RECORD_ROUTE | TIMESTAMP) {
            kept.extend_from_slice(option);
        }
    }
    kept.resize(kept.len().next_multiple_of(4), 0);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use proptest::prelude::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn filled(options: &[u8]) -> Vec<u8> {
        let mut options = options.to_vec();
        let now = Instant::ZERO + Duration::from_millis(0x0102);
        fill_in(&mut options, now, OWN, |addr| addr == OWN);
        options
    }

    #[test]
    fn an_address_is_written_where_there_is_room() {
        let empty = [1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        let once = filled(&empty);
        assert_eq!(once, [1, 7, 11, 8, 192, 0, 2, 1, 0, 0, 0, 0]);
        let twice = filled(&once);
        assert_eq!(twice, [1, 7, 11, 12, 192, 0, 2, 1, 192, 0, 2, 1]);
        assert_eq!(filled(&twice), twice, "it is full");
    }

    #[test]
    fn a_time_is_written_as_is_asked() {
        assert_eq!(
            filled(&[68, 8, 5, 0, 0, 0, 0, 0]),
            [68, 8, 9, 0, 0x80, 0, 1, 2]
        );
        assert_eq!(
            filled(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            [68, 12, 13, 1, 192, 0, 2, 1, 0x80, 0, 1, 2]
        );
        let named = [68, 12, 5, 3, 192, 0, 2, 1, 0, 0, 0, 0];
        assert_eq!(filled(&named), [68, 12, 13, 3, 192, 0, 2, 1, 0x80, 0, 1, 2]);
        let other = [68, 12, 5, 3, 192, 0, 2, 9, 0, 0, 0, 0];
        assert_eq!(filled(&other), other);
        // Who has no room is counted, fifteen times at most.
        assert_eq!(filled(&[68, 4, 5, 0x20]), [68, 4, 5, 0x30]);
        assert_eq!(filled(&[68, 4, 5, 0xf0]), [68, 4, 5, 0xf0]);
    }

    #[test]
    fn an_answer_has_what_records_and_no_source_route() {
        let mut header = vec![0; MIN_LEN];
        header.extend([1, 131, 3, 4, 7, 3, 4, 68, 4, 5, 0, 0]);
        assert_eq!(for_answer(&header), [7, 3, 4, 68, 4, 5, 0, 0]);
        assert_eq!(for_answer(&header[..MIN_LEN]), [0; 0]);
    }

    proptest! {
        /// Whatever stands there, nothing but the options that record is changed, and no length is.
        #[test]
        fn any_options_are_survived(options in prop::collection::vec(any::<u8>(), 0..40)) {
            let after = filled(&options);
            prop_assert_eq!(after.len(), options.len());
            let kinds = |options: &[u8]| {
                let header = [&[0; MIN_LEN], options].concat();
                Options::of(&header).map(|(kind, option)| (kind, option.len())).collect::<Vec<_>>()
            };
            prop_assert_eq!(kinds(&after), kinds(&options));
        }
    }
}
