use proptest::prelude::*;

use super::*;
use crate::ip::family::{V4, V6};

use crate::ip::testing::{Surroundings, header, header6};
use crate::packet::header::Ipv4Header;

/// A fragment as the model sees it.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    offset: usize,
    data: Vec<u8>,
    last: bool,
}

struct Bench<F: Family> {
    around: Surroundings,
    reassembly: Reassembly<F>,
    /// The header of a datagram with this identification.
    header: fn(u16) -> F::Header,
}

impl Bench<V4> {
    fn new() -> Bench<V4> {
        let header = |ident| Ipv4Header {
            ident,
            ..header("10.0.0.1", "10.0.0.2", 0)
        };
        Bench::with(header)
    }
}

impl<F: Family> Bench<F> {
    fn with(header: fn(u16) -> F::Header) -> Bench<F> {
        Bench {
            around: Surroundings::new(),
            reassembly: Reassembly::new(3),
            header,
        }
    }

    fn insert_with(&mut self, ident: u16, fragment: &Part, ecn: u8, csum: Csum) -> Verdict<F> {
        let described = Fragment {
            of: Key {
                src: F::UNSPECIFIED,
                dst: F::ALL_NODES,
                proto: IpProto::UDP,
                ident: ident.into(),
            },
            offset: fragment.offset,
            last: match fragment.last {
                true => Last::Yes,
                false => Last::No,
            },
            traffic_class: ecn,
            header: (self.header)(ident),
        };
        let mut packet = Packet::incoming(fragment.data.clone());
        packet.meta.csum = csum;
        self.around.stats.received += 1;
        let mut cx = self.around.cx();
        let verdict = self
            .reassembly
            .insert(&mut cx, &described, Cast::Unicast, packet);
        match &verdict {
            Verdict::Held => {}
            Verdict::Complete(..) => cx.stats.delivered += 1,
            Verdict::Drop(reason) => cx.stats.drop_rx(*reason),
        }
        self.conserves();
        verdict
    }

    fn insert(&mut self, ident: u16, fragment: &Part) -> Verdict<F> {
        self.insert_with(ident, fragment, 0, Csum::Unknown)
    }

    fn conserves(&self) {
        let stats = &self.around.stats;
        let accounted = stats.delivered + stats.rx_dropped() + self.reassembly.fragments() as u64;
        assert_eq!(stats.received, accounted);
        assert_eq!(
            self.reassembly.fragments() == 0,
            self.reassembly.bytes() == 0
        );
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.around.stats.rx_drops(reason)
    }
}

fn fragment(offset: usize, len: usize, last: bool) -> Part {
    Part {
        offset,
        data: (offset..offset + len).map(|n| n as u8).collect(),
        last,
    }
}

fn whole<F: Family>(verdict: Verdict<F>) -> Vec<u8> {
    match verdict {
        Verdict::Complete(_, packet) => packet.to_vec(),
        other => panic!("not complete: {other:?}"),
    }
}

#[test]
fn out_of_order_and_interleaved() {
    let mut bench = Bench::new();
    assert!(matches!(
        bench.insert(1, &fragment(16, 5, true)),
        Verdict::Held
    ));
    assert!(matches!(
        bench.insert(2, &fragment(0, 8, false)),
        Verdict::Held
    ));
    assert!(matches!(
        bench.insert(1, &fragment(0, 8, false)),
        Verdict::Held
    ));
    assert_eq!(bench.reassembly.fragments(), 3);
    let bytes = whole(bench.insert(1, &fragment(8, 8, false)));
    assert_eq!(bytes, (0..21).collect::<Vec<u8>>());
    assert_eq!(bench.around.stats.delivered, 3);
    assert_eq!(whole(bench.insert(2, &fragment(8, 1, true))).len(), 9);
    assert!(bench.reassembly.is_empty());
    assert_eq!(bench.reassembly.next_deadline(), None);
}

#[test]
fn an_overlap_spoils_the_datagram_until_its_time_is_up() {
    let mut bench = Bench::new();
    bench.insert(1, &fragment(0, 16, false));
    let overlap = Verdict::<V4>::Drop(DropReason::FragmentOverlap);
    let same = |verdict: Verdict<V4>| assert_eq!(format!("{verdict:?}"), format!("{overlap:?}"));
    same(bench.insert(1, &fragment(8, 16, false)));
    same(bench.insert(1, &fragment(24, 1, true)));
    assert_eq!(bench.dropped(DropReason::FragmentOverlap), 3);
    assert_eq!(bench.reassembly.bytes(), 0);
    bench.around.now += Duration::from_secs(30);
    let expired = bench.reassembly.on_deadline(&mut bench.around.cx());
    assert!(expired.is_empty() && bench.reassembly.is_empty());
    assert!(matches!(
        bench.insert(1, &fragment(0, 16, false)),
        Verdict::Held
    ));
}

#[test]
fn a_duplicate_is_dropped_alone_if_its_bytes_are_the_same() {
    let mut bench = Bench::new();
    bench.insert(1, &fragment(0, 8, false));
    bench.insert(1, &fragment(0, 8, false));
    assert_eq!(bench.dropped(DropReason::FragmentDuplicate), 1);
    let mut other = fragment(0, 8, false);
    other.data[3] ^= 1;
    bench.insert(1, &other);
    assert_eq!(bench.dropped(DropReason::FragmentOverlap), 2);
}

#[test]
fn fragments_that_disagree_on_the_end_are_an_overlap() {
    for (one, two) in [
        (fragment(8, 8, true), fragment(16, 8, false)), // beyond the end
        (fragment(16, 8, false), fragment(8, 8, true)),
        (fragment(8, 8, true), fragment(24, 8, true)), // two ends
        (fragment(8, 8, true), fragment(8, 8, false)), // the end and not the end
        (fragment(8, 8, false), fragment(8, 8, true)),
    ] {
        let mut bench = Bench::new();
        bench.insert(1, &one);
        bench.insert(1, &two);
        assert_eq!(
            bench.dropped(DropReason::FragmentOverlap),
            2,
            "{one:?} {two:?}"
        );
    }
}

#[test]
fn lengths_that_cannot_be() {
    let mut bench = Bench::new();
    bench.insert(1, &fragment(0, 0, false));
    bench.insert(1, &fragment(0, 9, false));
    bench.insert(1, &fragment(65_528, 8, true)); // the "ping of death"
    assert_eq!(bench.dropped(DropReason::Malformed), 3);
    assert!(bench.reassembly.is_empty());
    assert!(matches!(
        bench.insert(1, &fragment(65_504, 11, true)),
        Verdict::Held
    ));
}

#[test]
fn a_missing_fragment_is_waited_for_half_a_minute() {
    let mut bench = Bench::new();
    bench.insert(1, &fragment(0, 8, false));
    bench.insert(1, &fragment(16, 8, false));
    bench.around.now += Duration::from_secs(10);
    bench.insert(2, &fragment(8, 8, false));
    let deadline = Instant::ZERO + Duration::from_secs(30);
    assert_eq!(bench.reassembly.next_deadline(), Some(deadline));
    bench.around.now = deadline;
    let expired = bench.reassembly.on_deadline(&mut bench.around.cx());
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].header.ident, 1);
    assert_eq!(expired[0].packet.len(), 8);
    assert_eq!(bench.dropped(DropReason::FragmentTimeout), 2);
    bench.conserves();
    // Of the other datagram the start is missing: there is nothing to quote.
    bench.around.now += Duration::from_secs(10);
    let expired = bench.reassembly.on_deadline(&mut bench.around.cx());
    assert!(expired.is_empty() && bench.reassembly.is_empty());
    bench.conserves();
}

#[test]
fn the_oldest_make_room() {
    let mut bench = Bench::new();
    bench.reassembly.set_limits(Limits {
        max_bytes: 3 * (FRAGMENT_OVERHEAD + 8),
        max_datagrams: 2,
        max_datagram_bytes: 3 * (FRAGMENT_OVERHEAD + 8),
        ..Limits::default()
    });
    bench.insert(1, &fragment(0, 8, false));
    bench.insert(2, &fragment(0, 8, false));
    bench.insert(3, &fragment(0, 8, false)); // one datagram too many
    assert_eq!(bench.dropped(DropReason::FragmentLimit), 1);
    bench.insert(3, &fragment(16, 8, false));
    bench.insert(3, &fragment(32, 8, false)); // too many bytes: 2 goes
    assert_eq!(bench.dropped(DropReason::FragmentLimit), 2);
    assert_eq!(bench.reassembly.len(), 1);
    bench.insert(3, &fragment(48, 8, false)); // too many fragments: 3 goes
    assert_eq!(bench.dropped(DropReason::FragmentLimit), 6);
    assert!(bench.reassembly.is_empty());
    // One fragment that alone is too much.
    bench.insert(4, &fragment(0, 8 * FRAGMENT_OVERHEAD, false));
    assert_eq!(bench.dropped(DropReason::FragmentLimit), 7);
    assert!(bench.reassembly.is_empty());
}

#[test]
fn teardown_leaves_nothing() {
    let mut bench = Bench::new();
    bench.insert(1, &fragment(0, 8, false));
    bench.insert(1, &fragment(16, 8, false));
    bench.insert(2, &fragment(0, 8, false));
    bench.reassembly.teardown(&mut bench.around.stats);
    assert!(bench.reassembly.is_empty());
    assert_eq!(bench.dropped(DropReason::Teardown), 3);
    bench.conserves();
    assert_eq!(bench.reassembly.next_deadline(), None);
}

#[test]
fn congestion_marks_and_checksum_states_are_joined() {
    let cases = [
        // ECT(0) and CE: marked. Not-ECT and CE: dropped.
        (
            2,
            3,
            Csum::Verified,
            Csum::Verified,
            Some((3, Csum::Verified)),
        ),
        (
            2,
            2,
            Csum::Verified,
            Csum::Unknown,
            Some((2, Csum::Unknown)),
        ),
        (0, 3, Csum::Verified, Csum::Verified, None),
    ];
    for (tos_a, tos_b, csum_a, csum_b, expected) in cases {
        let mut bench = Bench::new();
        bench.insert_with(1, &fragment(0, 8, false), tos_a, csum_a);
        match bench.insert_with(1, &fragment(8, 8, true), tos_b, csum_b) {
            Verdict::Complete(whole, packet) => {
                assert_eq!(Some((whole.traffic_class, packet.meta.csum)), expected);
            }
            Verdict::Drop(DropReason::Malformed) => assert_eq!(expected, None),
            other => panic!("{other:?}"),
        }
    }
}

/// One datagram, byte by byte.
#[derive(Default)]
struct Model {
    seen: Vec<Part>,
    bytes: Vec<Option<u8>>,
    total: Option<usize>,
    refused: bool,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Held,
    Complete(Vec<u8>),
    Drop(DropReason),
}

impl Model {
    fn insert(&mut self, fragment: &Part) -> Expected {
        if self.refused {
            return Expected::Drop(DropReason::FragmentOverlap);
        }
        if self.seen.contains(fragment) {
            return Expected::Drop(DropReason::FragmentDuplicate);
        }
        let end = fragment.offset + fragment.data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, None);
        }
        let overlaps = self.bytes[fragment.offset..end].iter().any(Option::is_some);
        let beyond = fragment.last && self.bytes[end..].iter().any(Option::is_some);
        let after = self.total.is_some_and(|total| end > total || fragment.last);
        if overlaps || beyond || after {
            *self = Model {
                refused: true,
                ..Model::default()
            };
            return Expected::Drop(DropReason::FragmentOverlap);
        }
        self.seen.push(fragment.clone());
        for (at, byte) in fragment.data.iter().enumerate() {
            self.bytes[fragment.offset + at] = Some(*byte);
        }
        if fragment.last {
            self.total = Some(end);
        }
        let Some(total) = self.total else {
            return Expected::Held;
        };
        let all: Option<Vec<u8>> = self.bytes[..total].iter().copied().collect();
        match all {
            None => Expected::Held,
            Some(all) => {
                *self = Model::default();
                Expected::Complete(all)
            }
        }
    }
}

/// The fragments of a datagram, cut at `cuts`, some twice, some changed, in any order.
fn fragments() -> impl Strategy<Value = Vec<Part>> {
    let cuts = prop::collection::btree_set(1usize..30, 0..8);
    let change = prop_oneof![
        12 => Just(Change::None),
        3 => Just(Change::Twice),
        1 => (-2isize..3).prop_map(Change::Shift),
        1 => Just(Change::Longer),
        1 => Just(Change::Flip),
        1 => Just(Change::End),
    ];
    (cuts, 241usize..260, prop::collection::vec(change, 9))
        .prop_map(|(cuts, len, changes)| {
            let mut bounds: Vec<usize> = cuts.into_iter().map(|c| c * 8).collect();
            bounds.push(len);
            let mut start = 0;
            let mut all = Vec::new();
            for (end, change) in bounds.into_iter().zip(changes) {
                let mut made = fragment(start, end - start, end == len);
                if matches!(change, Change::Twice) {
                    all.push(made.clone());
                }
                change.apply(&mut made);
                all.push(made);
                start = end;
            }
            all
        })
        .prop_shuffle()
}

#[derive(Clone, Debug)]
enum Change {
    None,
    Twice,
    Shift(isize),
    Longer,
    Flip,
    End,
}

impl Change {
    fn apply(&self, fragment: &mut Part) {
        match self {
            Change::None | Change::Twice => {}
            Change::Shift(units) => {
                fragment.offset = fragment.offset.saturating_add_signed(units * 8);
            }
            Change::Longer => fragment.data.extend([7; 8]),
            Change::Flip => fragment.data[0] ^= 1,
            Change::End => fragment.last ^= fragment.data.len().is_multiple_of(8),
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_a_bitmap(one in fragments(), two in fragments()) {
        agrees_with_a_bitmap(Bench::new(), &[&one, &two])?;
        agrees_with_a_bitmap(Bench::<V6>::with(|ident| header6("2001:db8::1", "2001:db8::2", ident.into())), &[&one, &two])?;
    }

    #[test]
    fn any_fields_conserve_counters_and_limits(
        fragments in prop::collection::vec(
            (0u16..4, 0usize..8192, 0usize..2000, any::<bool>(), any::<u8>()), 1..60),
        max_bytes in 0usize..10_000, max_datagrams in 0usize..4, max_datagram_bytes in 0usize..8_000,
    ) {
        let mut bench = Bench::new();
        bench.reassembly.set_limits(Limits {
            max_bytes, max_datagrams, max_datagram_bytes, ..Limits::default()
        });
        for (ident, units, len, last, tos) in fragments {
            let units = units >> (ident * 3);
            bench.insert_with(ident, &fragment(units * 8, len, last), tos, Csum::Verified);
            prop_assert!(bench.reassembly.bytes() <= max_bytes);
            prop_assert!(bench.reassembly.len() <= max_datagrams.max(1));
        }
    }
}

fn agrees_with_a_bitmap<F: Family>(
    mut bench: Bench<F>,
    scripts: &[&[Part]; 2],
) -> Result<(), TestCaseError> {
    let mut models = [Model::default(), Model::default()];
    let longest = scripts.iter().map(|script| script.len()).max();
    for step in 0..longest.unwrap_or_default() {
        for (which, script) in scripts.iter().enumerate() {
            let Some(next) = script.get(step) else {
                continue;
            };
            let got = match bench.insert(which as u16, next) {
                Verdict::Held => Expected::Held,
                Verdict::Complete(_, packet) => Expected::Complete(packet.to_vec()),
                Verdict::Drop(reason) => Expected::Drop(reason),
            };
            prop_assert_eq!(got, models[which].insert(next));
        }
    }
    let held: usize = models.iter().map(|m| m.seen.len()).sum();
    prop_assert_eq!(bench.reassembly.fragments(), held);
    bench.around.now = Instant::MAX;
    let _ = bench.reassembly.on_deadline(&mut bench.around.cx());
    bench.conserves();
    prop_assert!(bench.reassembly.is_empty());
    Ok(())
}
