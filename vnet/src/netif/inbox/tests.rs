use super::*;
use crate::packet::cx::Carrier;
use crate::packet::tag::{Tag, Tpid};
use proptest::prelude::*;

fn frame(n: u16) -> Item {
    Item::Frame(Packet::incoming(Payload::from(n.to_be_bytes().to_vec())))
}

fn number(item: &Item) -> u16 {
    match item {
        Item::Frame(p) => u16::from_be_bytes(p.to_vec().try_into().expect("two bytes")),
        Item::Leaving(_) | Item::Carrier(..) => unreachable!("only frames are pushed here"),
    }
}

proptest! {
    /// What comes out is what went in, stably sorted by time.
    #[test]
    fn items_come_out_in_order_of_time(times in prop::collection::vec(0u64..20, 0..60)) {
        let inbox = Inbox::new();
        let mut model: Vec<(u64, u16)> = Vec::new();
        for (n, at) in times.iter().enumerate() {
            inbox.push(Instant::from_nanos(*at), frame(n as u16));
            model.push((*at, n as u16));
        }
        model.sort_by_key(|(at, _)| *at);
        let mut seen = Vec::new();
        let mut due = Batch::default();
        for now in 0..20 {
            let Taken { next, .. } =
                inbox.take_due(Instant::from_nanos(now), usize::MAX, &mut due);
            prop_assert!(next.is_none_or(|t| t > Instant::from_nanos(now)));
            seen.extend(due.drain().map(|i| (now, number(&i))));
        }
        prop_assert_eq!(seen, model);
        prop_assert!(inbox.is_empty());
    }
}

/// What an inbox is asked to do: to take in a frame by a wire so long after now, or to give so many after so much time.
#[derive(Clone, Debug)]
enum Act {
    Push(usize, u64),
    Take(usize, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let limit = prop_oneof![Just(1), Just(3), Just(usize::MAX)];
    prop_oneof![
        4 => (0usize..10, 0u64..12).prop_map(|(wire, after)| Act::Push(wire, after)),
        1 => (limit, 0u64..6).prop_map(|(limit, passed)| Act::Take(limit, passed)),
    ]
}

proptest! {
    /// Frames are taken in the order of a sorted list, whatever was taken before; more wires than there are runs.
    #[test]
    fn what_comes_between_takes_is_in_order(acts in prop::collection::vec(act(), 0..200)) {
        let wires = wires(10);
        let (inbox, mut due) = (Inbox::new(), Batch::default());
        let mut model: Vec<(u64, usize, u16)> = Vec::new();
        let mut now = 0;
        for (number, act) in (0..).zip(acts) {
            match act {
                Act::Push(wire, after) => {
                    let mut item = frame(number);
                    if let Item::Frame(packet) = &mut item {
                        packet.meta.rcvif = Some(wires[wire]);
                    }
                    inbox.push(Instant::from_nanos(now + after), item);
                    model.push((now + after, wire, number));
                    model.sort_unstable();
                }
                Act::Take(limit, passed) => {
                    now += passed;
                    let is_due = model.iter().take_while(|(at, ..)| *at <= now).count();
                    let expected: Vec<u16> =
                        model.drain(..is_due.min(limit)).map(|(.., n)| n).collect();
                    let taken = inbox.take_due(Instant::from_nanos(now), limit, &mut due);
                    let seen: Vec<u16> = due.drain().map(|item| self::number(&item)).collect();
                    prop_assert_eq!(seen, expected);
                    prop_assert_eq!(taken.next, model.first().map(|(at, ..)| Instant::from_nanos(*at)));
                }
            }
            prop_assert_eq!(inbox.next(), model.first().map(|(at, ..)| Instant::from_nanos(*at)));
            prop_assert_eq!(inbox.last(), model.last().map(|(at, ..)| Instant::from_nanos(*at)));
            prop_assert_eq!(inbox.len(), model.len());
        }
    }
}

/// What one sends: when each item arrives, and what it is.
type Sent = Vec<(u64, Item)>;

proptest! {
    /// Whichever of several senders comes first, what arrives at one time comes out in the order of the interfaces, and
    /// of one interface in the order of sending.
    #[test]
    fn it_does_not_matter_which_sender_comes_first(
        frames in prop::collection::vec((0u64..3, 0usize..4), 0..40),
        news in prop::collection::vec((0u64..3, 0usize..4), 0..4),
        order in any::<u64>(),
    ) {
        let wires = wires(4);
        let mut sent: Vec<Sent> = (0..4).map(|_| Vec::new()).collect();
        for (number, (at, wire)) in (0..).zip(&frames) {
            let mut packet = Packet::incoming(Payload::from(vec![0; 60 + number]));
            packet.meta.rcvif = Some(wires[*wire]);
            sent[*wire].push((*at, Item::Frame(packet)));
        }
        for (number, (at, wire)) in (1..).zip(&news) {
            let news = News { carrier: Carrier::Up, number };
            sent[*wire].push((*at, Item::Carrier(wires[*wire], news)));
        }
        let seen = |interleave: &mut dyn FnMut(&[Sent]) -> usize| {
            let mut sent: Vec<Sent> = sent
                .iter()
                .map(|of| of.iter().map(|(at, item)| (*at, copy(item))).collect())
                .collect();
            let inbox = Inbox::new();
            while sent.iter().any(|of| !of.is_empty()) {
                let next = interleave(&sent);
                let (at, item) = sent[next].remove(0);
                inbox.push(Instant::from_nanos(at), item);
            }
            let mut due = Batch::default();
            inbox.take_due(Instant::from_nanos(3), usize::MAX, &mut due);
            due.drain().map(|item| told(&item)).collect::<Vec<_>>()
        };
        let first = |sent: &[Vec<(u64, Item)>]| sent.iter().position(|of| !of.is_empty());
        let in_turn = seen(&mut |sent| first(sent).expect("there is more"));
        let mut rng = crate::base::rng::Rng::seeded(order);
        let mixed = seen(&mut |sent| loop {
            let of = rng.u64() as usize % 4;
            if !sent[of].is_empty() {
                break of;
            }
        });
        prop_assert_eq!(in_turn, mixed);
    }
}

fn copy(item: &Item) -> Item {
    match item {
        Item::Frame(packet) => Item::Frame(packet.clone()),
        Item::Leaving(packet) => Item::Leaving(packet.clone()),
        Item::Carrier(ifid, news) => Item::Carrier(*ifid, *news),
    }
}

/// What tells items apart: the interface, the length of a frame, and the number of news.
fn told(item: &Item) -> (Option<IfId>, usize, u64) {
    match item {
        Item::Frame(packet) | Item::Leaving(packet) => (item.ifid(), packet.len(), 0),
        Item::Carrier(_, news) => (item.ifid(), 0, news.number),
    }
}

/// A batch is what its frames would be one by one: the same order, the same frames refused, the same
/// that its owner is told of.
#[test]
fn frames_pushed_at_once_come_in_as_those_pushed_one_by_one() {
    let wires = wires(2);
    for max in [5, 12, 1000] {
        let inboxes = [Inbox::new(), Inbox::new()].map(Arc::new);
        let mut taken = Vec::new();
        for (many, inbox) in inboxes.iter().enumerate() {
            inbox.set_max_frames(max);
            let mut rings = Vec::new();
            for (n, times) in [&[7, 7, 9][..], &[3, 5, 2, 2, 8], &[4], &[]]
                .iter()
                .enumerate()
            {
                let ifid = wires[n % 2];
                let frame = |(i, at): (usize, &u64)| {
                    let bytes = [n as u8, i as u8];
                    (Instant::from_nanos(*at), Packet::incoming(bytes.to_vec()))
                };
                let mut frames = times.iter().enumerate().map(frame);
                if many == 1 {
                    let to = Arc::clone(inbox);
                    let pushed = to.put_many(&mut frames, Some(ifid), Item::Frame);
                    let PushedMany::Queued(_, arrivals) = pushed else {
                        panic!("an inbox is always plugged in");
                    };
                    rings.extend(arrivals);
                    continue;
                }
                let mut first = None;
                for (at, mut packet) in frames {
                    (packet.meta.rcvif, packet.meta.arrived) = (Some(ifid), at);
                    let pushed = Arc::clone(inbox).put(at, Item::Frame(packet));
                    let is_queued = matches!(pushed, Pushed::Queued(_));
                    if is_queued && first.is_none_or(|first| at < first) {
                        rings.push(at);
                        first = Some(at);
                    }
                }
            }
            let mut due = Batch::default();
            let overflowed = inbox
                .take_due(Instant::from_nanos(9), usize::MAX, &mut due)
                .overflowed;
            let frames: Vec<_> = due
                .drain()
                .map(|item| match item {
                    Item::Frame(p) => (p.to_vec(), p.meta.rcvif, p.meta.arrived),
                    Item::Leaving(_) | Item::Carrier(..) => unreachable!("only frames are pushed"),
                })
                .collect();
            taken.push((overflowed, rings, frames));
        }
        assert_eq!(taken[0], taken[1]);
        assert_eq!(taken[0].0 > 0, max < 10, "{}", taken[0].0);
    }
}

fn room(inbox: &Inbox, batch: &Batch) -> usize {
    let queue = inbox.queue.lock();
    let room = queue.runs.room().max(queue.early.capacity());
    room.max(batch.0.capacity())
}

/// Pushes frames, some of them out of order, and takes them, so many at a time.
fn burst(inbox: &Inbox, due: &mut Batch, frames: u16, limit: usize) {
    for n in 0..frames {
        inbox.push(Instant::from_nanos(u64::from(n % 3)), frame(n));
    }
    loop {
        inbox.take_due(Instant::from_nanos(3), limit, due);
        if due.drain().count() == 0 && inbox.is_empty() {
            break;
        }
    }
}

#[test]
fn the_room_of_a_burst_is_given_back_and_that_of_steady_use_is_kept() {
    for limit in [100, usize::MAX] {
        let (inbox, mut due) = (Inbox::new(), Batch::default());
        burst(&inbox, &mut due, 5000, limit);
        for _ in 0..100 {
            burst(&inbox, &mut due, 1, limit);
        }
        assert!(room(&inbox, &due) <= ROOM_KEPT);
    }
    let (inbox, mut due) = (Inbox::new(), Batch::default());
    let in_order = |due: &mut Batch| {
        (0..300).for_each(|n| inbox.push(Instant::ZERO, frame(n)));
        inbox.take_due(Instant::ZERO, usize::MAX, due);
        due.drain().count()
    };
    in_order(&mut due);
    in_order(&mut due);
    let kept = room(&inbox, &due);
    for _ in 0..100 {
        assert_eq!(in_order(&mut due), 300);
        assert_eq!(room(&inbox, &due), kept);
    }
}

fn at(ifid: IfId) -> Item {
    let mut packet = Packet::incoming(vec![0; 100]);
    packet.meta.rcvif = Some(ifid);
    Item::Frame(packet)
}

/// Some interfaces' identifiers.
fn wires(count: usize) -> Vec<IfId> {
    let mut slots = slotmap::SlotMap::<IfId, ()>::with_key();
    (0..count).map(|_| slots.insert(())).collect()
}

/// Pushes frames at a wire until none is taken any more, and says how many were.
fn fill(inbox: &Inbox, when: Instant, ifid: IfId) -> usize {
    let before = inbox.len();
    while inbox.take_overflowed() == 0 {
        inbox.push(when, at(ifid));
    }
    inbox.len() - before
}

#[test]
fn a_wire_has_most_of_the_inbox_and_leaves_some_for_each_other() {
    let inbox = Inbox::new();
    inbox.set_max_frames(10_000);
    let wires = wires(20);
    let day = Instant::from_nanos(86_400_000_000_000);
    let taken: Vec<_> = wires.iter().map(|w| fill(&inbox, day, *w)).collect();
    assert_eq!(taken[0], 8000);
    // Each has four fifths of what those before it have left, and nobody nothing.
    assert!(
        taken[1] == 1600 && taken[2] == 320 && taken[4] > 0,
        "{taken:?}"
    );
    assert!(inbox.len() <= inbox.max_frames());
}

/// A frame of a VLAN interface in another vnet, of which `parent` is the parent.
fn leaving(parent: IfId, vid: u16) -> Item {
    let Item::Frame(mut packet) = at(parent) else {
        unreachable!("a frame")
    };
    packet.push_tag(Tag {
        tpid: Tpid::Dot1q,
        // A priority is no part of who sent it.
        tci: vid | vid << 13,
    });
    Item::Leaving(packet)
}

#[test]
fn what_a_lent_vlan_sends_is_charged_to_nobody_else() {
    let inbox = Inbox::new();
    inbox.set_max_frames(10_000);
    let parent = wires(1)[0];
    let taken = |vid: u16| {
        let before = inbox.len();
        (0..10_000).for_each(|_| inbox.push(Instant::ZERO, leaving(parent, vid)));
        assert!(inbox.take_overflowed() > 0);
        inbox.len() - before
    };
    assert_eq!(taken(5), 8000);
    assert_eq!(
        fill(&inbox, Instant::ZERO, parent),
        1600,
        "its parent's wire"
    );
    assert_eq!(taken(6), 320, "another one");
    let mut due = Batch::default();
    for limit in [7, usize::MAX] {
        while !inbox.is_empty() {
            inbox.take_due(Instant::ZERO, limit, &mut due);
            due.drain().for_each(drop);
        }
        assert_eq!(taken(7), 8000, "{limit}");
    }
    // Accounts are closed again.
    for vid in 0..4000 {
        inbox.take_due(Instant::ZERO, usize::MAX, &mut due);
        due.drain().for_each(drop);
        inbox.push(Instant::ZERO, leaving(parent, vid));
    }
    assert!(inbox.queue.lock().shares.lent_accounts() < 100);
}

#[test]
fn greedy_wires_have_the_same_share_and_one_that_was_silent_gets_through() {
    let inbox = Inbox::new();
    inbox.set_max_frames(10_000);
    let wires = wires(11);
    let (greedy, silent) = wires.split_at(10);
    for _ in 0..10_000 {
        greedy
            .iter()
            .for_each(|w| inbox.push(Instant::ZERO, at(*w)));
    }
    assert!(inbox.take_overflowed() > 0);
    // Four times what is left, each: 4 / 41 of all.
    assert!((9_700..9_800).contains(&inbox.len()));
    inbox.push(Instant::ZERO, at(silent[0]));
    assert_eq!(inbox.take_overflowed(), 0);
}

#[test]
fn in_a_queue_that_stands_those_who_send_take_turns() {
    let inbox = Inbox::new();
    let wires = wires(2);
    let (greedy, modest) = (wires[0], wires[1]);
    let mut due = Batch::default();
    let mut now = Instant::ZERO;
    (0..10_000).for_each(|_| inbox.push(now, at(greedy)));
    inbox.push(now, at(modest));
    let is_modest = |i: &Item| matches!(i, Item::Frame(p) if p.meta.rcvif == Some(modest));
    // However often it is taken from at one instant, it does not stand.
    for _ in 0..30 {
        let taken = inbox.take_or_shed(now, 256, &mut due);
        assert_eq!((taken.overflowed, taken.shared), (0, false));
        assert!(!due.drain().any(|item| is_modest(&item)));
    }
    let room = fair::RING * 4 / 5;
    let more = 10_000 - 30 * 256;
    now += STANDING;
    let taken = inbox.take_or_shed(now, 256, &mut due);
    assert!(taken.shared);
    assert_eq!(taken.overflowed as usize, more - room - 1);
    assert_eq!(taken.next, Some(now));
    // The modest one is behind one turn of the other, and not behind all that it has.
    let seen: Vec<bool> = due.drain().map(|item| is_modest(&item)).collect();
    assert_eq!(seen.iter().position(|modest| *modest), Some(16));
    // For the 31 that were taken of the greedy one there is room, and for more only if they come later.
    for _ in 0..40 {
        inbox.push(now, at(greedy));
    }
    assert_eq!(inbox.take_overflowed(), 9);
    let later = now + Duration::from_millis(2);
    inbox.push(later, at(greedy));
    inbox.push(now, at(modest));
    assert_eq!(inbox.take_overflowed(), 0);
    assert_eq!(inbox.next(), Some(now));
    // When it has been emptied, it does not stand any more.
    let mut takes = 0;
    while inbox.next() == Some(now) {
        inbox.take_or_shed(now, 256, &mut due);
        assert!(due.drain().count() <= 32);
        takes += 1;
    }
    assert!(takes >= room / 32, "{takes}");
    assert_eq!((inbox.len(), inbox.next()), (1, Some(later)));
    assert!(!inbox.take_or_shed(later, 256, &mut due).shared);
    assert!(inbox.is_empty());
    assert_eq!(inbox.queue.lock().shares.used(), Load::default());
}

#[test]
fn what_was_taken_out_makes_room_whichever_way_it_was_taken() {
    let inbox = Inbox::new();
    inbox.set_max_frames(1000);
    let wires = wires(2);
    let mut due = Batch::default();
    for limit in [usize::MAX, 7, usize::MAX, 7] {
        assert_eq!(fill(&inbox, Instant::ZERO, wires[0]), 800);
        assert_eq!(fill(&inbox, Instant::ZERO, wires[1]), 160);
        while !inbox.is_empty() {
            inbox.take_due(Instant::ZERO, limit, &mut due);
            due.drain().for_each(drop);
        }
    }
    // One that takes the place of another starts with what is its own: nothing.
    assert_eq!(inbox.queue.lock().shares.used(), Load::default());
}

proptest! {
    /// What is used is what is there, in frames and in bytes, also of wires whose interface is
    /// gone and whose place is another's.
    #[test]
    fn what_is_used_is_what_is_there(
        acts in prop::collection::vec((0u8..4, 0usize..4, 0u64..10), 0..200),
    ) {
        let inbox = Inbox::new();
        inbox.set_max_frames(40);
        let mut slots = slotmap::SlotMap::<IfId, ()>::with_key();
        let mut ids: Vec<_> = (0..4).map(|_| slots.insert(())).collect();
        let (mut due, mut there, mut now) = (Batch::default(), 0, 0);
        let mut lost = 0;
        for (act, which, n) in acts {
            match act {
                0 | 1 => {
                    inbox.push(Instant::from_nanos(now + n), at(ids[which]));
                    there += 1;
                    let overflowed = inbox.take_overflowed() as usize;
                    lost += overflowed;
                    there -= overflowed;
                }
                2 => {
                    slots.remove(ids[which]);
                    ids[which] = slots.insert(());
                }
                _ => {
                    now += n;
                    let limit = [3, usize::MAX][which % 2];
                    inbox.take_due(Instant::from_nanos(now), limit, &mut due);
                    there -= due.drain().count();
                }
            }
            let used = inbox.queue.lock().shares.used();
            let bytes = there * (100 + FRAME_COST);
            prop_assert_eq!(used, Load { frames: there, bytes });
            prop_assert!(lost == 0 || there <= 40);
        }
    }
}

#[test]
fn of_news_about_a_wire_the_last_good_and_the_last_bad_stand_in_order() {
    let inbox = Inbox::new();
    let wires = wires(2);
    let mut told = 0;
    let mut tell = |ifid: IfId, carrier: Carrier| {
        told += 1;
        let number = told;
        inbox.push(
            Instant::from_nanos(1),
            Item::Carrier(ifid, News { carrier, number }),
        );
    };
    for _ in 0..1000 {
        for wire in &wires {
            tell(*wire, Carrier::Down);
            tell(*wire, Carrier::Up);
        }
    }
    inbox.push(Instant::from_nanos(1), at(wires[0]));
    inbox.push(Instant::ZERO, at(wires[0]));
    tell(wires[1], Carrier::Down);
    let mut due = Batch::default();
    inbox.take_due(Instant::from_nanos(1), usize::MAX, &mut due);
    let what = |item| match item {
        Item::Carrier(ifid, news) => Some((ifid, news.carrier)),
        Item::Frame(_) | Item::Leaving(_) => None,
    };
    let seen: Vec<_> = due.drain().map(what).collect();
    let [a, b] = [wires[0], wires[1]];
    let expected = [
        None,
        Some((a, Carrier::Down)),
        Some((a, Carrier::Up)),
        None,
        Some((b, Carrier::Up)),
        Some((b, Carrier::Down)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(inbox.next(), None);
}

#[test]
fn a_closed_inbox_says_what_it_held_and_takes_nothing_more() {
    let inbox = Inbox::new();
    inbox.push(Instant::from_nanos(5), frame(1));
    inbox.push(Instant::from_nanos(3), frame(2));
    assert_eq!(inbox.close().frames, 2);
    inbox.push(Instant::ZERO, frame(3));
    assert_eq!((inbox.len(), inbox.next()), (0, None));
}
