use super::*;

const MSS: u32 = 1000;

fn seq(n: u32) -> SeqNum {
    SeqNum(n * MSS)
}

fn ms(n: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(n)
}

fn heard(now: u64, before: u32, una: u32, nxt: u32) -> Heard {
    Heard {
        before: seq(before),
        delivered: Delivered::default(),
        is_duplicate: false,
        dsack: None,
        echoed: None,
        sack: SackUse::Yes,
        min_rtt: Duration::from_millis(10),
        has_unsent: true,
        tried: (nxt - una) * MSS,
        cc: Ack {
            now: ms(now),
            acked: (una - before) * MSS,
            rtt: None,
            srtt: 10_000_000,
            una: seq(una),
            nxt: seq(nxt),
            mss: MSS,
            most: 2 * MSS,
            limited: Limited::ByCwnd,
        },
    }
}

/// Ten segments; the first is lost, sent again, and has arrived.
fn recovered() -> (Recovery, Controller) {
    let mut r = Recovery::new();
    let mut cc = Controller::new(Congestion::Reno, MSS, 10);
    for n in 0..10 {
        r.on_sent(seq(n), seq(n + 1), ms(0), (n + 1) * MSS);
    }
    let mut h = heard(10, 0, 0, 10);
    r.sent.sack(seq(1), seq(10), MSS, &mut h.delivered);
    assert!(r.on_ack(&mut cc, &h).entered);
    let hole = r.next_hole();
    assert_eq!(hole, Some((seq(0), seq(1))));
    r.on_retransmit(seq(0), seq(1), ms(10), 10 * MSS);
    r.on_sent(seq(10), seq(12), ms(12), 12 * MSS);
    let mut h = heard(20, 0, 10, 12);
    r.sent.advance(seq(10), &mut h.delivered);
    r.on_ack(&mut cc, &h);
    assert!(r.is_open());
    (r, cc)
}

// The acknowledgement that passes the end of an episode reports a duplicate; the next one does not.
#[test]
fn an_episode_whose_end_is_passed_is_forgotten() {
    let (mut r, mut cc) = recovered();
    r.on_sent(seq(12), seq(15), ms(20), 5 * MSS);
    let mut h = heard(30, 10, 13, 15);
    h.dsack = Some((seq(5), seq(6)));
    r.sent.advance(seq(13), &mut h.delivered);
    assert!(!r.on_ack(&mut cc, &h).undone);
    let mut h = heard(31, 13, 14, 15);
    r.sent.advance(seq(14), &mut h.delivered);
    r.on_ack(&mut cc, &h);
    assert!(r.episode.is_none() && r.is_calm());
    assert_eq!(cc.ssthresh(), 5 * MSS);
}

// What was sent once and arrived twice was doubled on the way.
#[test]
fn only_reports_of_what_was_sent_again_prove_a_mistake() {
    for (range, undone) in [((5, 6), false), ((0, 1), true)] {
        let (mut r, mut cc) = recovered();
        let mut h = heard(22, 10, 10, 12);
        h.dsack = Some((seq(range.0), seq(range.1)));
        assert_eq!(r.on_ack(&mut cc, &h).undone, undone, "{range:?}");
    }
}

#[test]
fn each_copy_of_what_was_sent_again_is_proven_by_itself() {
    let mut again = Again::default();
    again.add(seq(0), seq(1));
    again.add(seq(1), seq(2));
    again.add(seq(0), seq(1));
    assert_eq!(again.ranges.len(), 2);
    again.prove(seq(0), seq(0), seq(3));
    again.prove(seq(0), seq(1), seq(2));
    assert!(!again.is_proven());
    again.prove(seq(0), seq(0), seq(1));
    assert!(again.is_proven());
    for n in 0..40 {
        again.add(seq(2 * n), seq(2 * n + 1));
        again.prove(seq(0), seq(2 * n), seq(2 * n + 1));
    }
    assert!(again.is_proven());
    for n in 0..40 {
        again.add(seq(2 * n), seq(2 * n + 1));
    }
    again.prove(seq(0), seq(0), seq(100));
    assert!(!again.is_proven(), "more than is remembered");
}

// A queue that overflows lets every other segment through, where they come twice as fast as they leave.
#[test]
fn of_many_segments_every_other_one_is_lost_and_no_other_is_sent_again() {
    const COUNT: u32 = 6_000;
    let mut r = Recovery::new();
    let mut cc = Controller::new(Congestion::Cubic, MSS, 10);
    for n in 0..COUNT {
        r.on_sent(seq(n), seq(n + 1), ms(n.into()), (n + 1) * MSS);
    }
    let mut now = u64::from(COUNT);
    for n in (1..COUNT).step_by(2) {
        now += 1;
        let mut h = heard(now, 0, 0, COUNT);
        r.sent.sack(seq(n), seq(n + 1), MSS, &mut h.delivered);
        r.on_ack(&mut cc, &h);
    }
    let mut again = 0;
    while let Some((start, end)) = r.next_hole() {
        again += end.since(start);
        r.on_retransmit(start, end, ms(now), COUNT * MSS);
    }
    assert_eq!(again, COUNT / 2 * MSS);
    // The first of them has arrived: of what had left before, nothing is missing.
    let mut h = heard(now + 50, 0, 2, COUNT);
    r.sent.advance(seq(2), &mut h.delivered);
    r.on_ack(&mut cc, &h);
    assert_eq!((r.sent.lost(), r.next_hole()), (0, None));
}

/// Ten segments, and two more shortly before the timer goes off after 210 ms.
fn timed_out(sack: SackUse, control: Congestion) -> (Recovery, Controller) {
    let mut r = Recovery::new();
    let mut cc = Controller::new(control, MSS, 20);
    for n in 0..12 {
        let at = if n < 10 { 0 } else { 205 };
        r.on_sent(seq(n), seq(n + 1), ms(at), (n + 1) * MSS);
    }
    let h = Heard {
        sack,
        ..heard(210, 0, 0, 12)
    };
    r.on_timeout(&mut cc, &h, Echoes::Yes);
    (r, cc)
}

// RFC 8985 6.3
#[test]
fn a_timeout_spares_what_left_within_the_last_round_trip() {
    let (mut r, cc) = timed_out(SackUse::Yes, Congestion::Reno);
    assert_eq!((r.sent.lost(), cc.cwnd()), (10 * MSS, 3 * MSS));
    assert_eq!(
        (r.pipe(seq(0), seq(12), MSS), cc.ssthresh()),
        (2 * MSS, 6 * MSS)
    );
    assert_eq!(r.next_hole(), Some((seq(0), seq(10))));
    // It is lost when the timer goes off again.
    let mut cc = cc;
    r.on_retransmit(seq(0), seq(1), ms(210), 12 * MSS);
    r.on_timeout(&mut cc, &heard(630, 0, 0, 12), Echoes::Yes);
    assert_eq!((r.sent.lost(), cc.cwnd()), (12 * MSS, MSS));
}

// RFC 5681 3.1
#[test]
fn without_selective_acknowledgements_a_timeout_takes_everything_for_lost() {
    let (r, cc) = timed_out(SackUse::No, Congestion::Reno);
    assert_eq!((r.sent.lost(), cc.cwnd()), (12 * MSS, MSS));
}

// RFC 8985 6.3: the first segment is what the timer is for, whenever it left.
#[test]
fn a_timeout_takes_the_first_segment_for_lost_however_late_it_left() {
    let mut r = Recovery::new();
    let mut cc = Controller::new(Congestion::Reno, MSS, 20);
    r.on_sent(seq(0), seq(4), ms(205), 4 * MSS);
    r.on_timeout(&mut cc, &heard(210, 0, 0, 4), Echoes::Yes);
    assert_eq!((r.sent.lost(), cc.cwnd()), (MSS, 4 * MSS));
    assert_eq!(r.next_hole(), Some((seq(0), seq(1))));
}

// What was spared turns out to be lost as well: it leaves by slow start, and not at once.
#[test]
fn room_for_what_may_still_arrive_ends_when_it_is_lost() {
    for control in [Congestion::Reno, Congestion::Cubic] {
        let (mut r, mut cc) = timed_out(SackUse::Yes, control);
        r.on_retransmit(seq(0), seq(1), ms(210), 12 * MSS);
        let mut h = heard(220, 0, 1, 12);
        r.sent.advance(seq(1), &mut h.delivered);
        r.on_ack(&mut cc, &h);
        assert_eq!((r.sent.lost(), cc.cwnd()), (11 * MSS, 2 * MSS));
    }
}

#[test]
fn room_for_what_may_still_arrive_ends_when_its_time_is_over_or_the_path_is_narrower() {
    let (mut r, mut cc) = timed_out(SackUse::Yes, Congestion::Reno);
    // The path has reordered, so RACK waits for three quarters of a round trip.
    r.rack().on_late();
    r.rack().on_duplicate(seq(0), seq(12));
    r.rack().on_duplicate(seq(12), seq(13));
    r.on_retransmit(seq(0), seq(1), ms(210), 12 * MSS);
    let mut h = heard(220, 0, 1, 12);
    r.sent.advance(seq(1), &mut h.delivered);
    let wait = r.on_ack(&mut cc, &h).wait.expect("not lost yet");
    assert_eq!((r.sent.lost(), cc.cwnd()), (9 * MSS, 4 * MSS));
    let narrower = (r.clone(), cc.clone());
    let later = wait.as_nanos() / 1_000_000 + 1;
    r.on_reorder_timeout(&mut cc, &heard(later, 1, 1, 12));
    assert_eq!((r.sent.lost(), cc.cwnd()), (11 * MSS, 2 * MSS));
    let (mut r, mut cc) = narrower;
    r.resend_all(&mut cc, seq(1), seq(12), MSS);
    assert_eq!((r.sent.lost(), cc.cwnd()), (11 * MSS, 2 * MSS));
}

// RFC 5681 3.1: slow start ends at the threshold.
#[test]
fn room_for_what_has_arrived_ends_with_the_recovery() {
    for control in [Congestion::Reno, Congestion::Cubic] {
        let mut r = Recovery::new();
        let mut cc = Controller::new(control, MSS, 40);
        r.on_sent(seq(0), seq(1), ms(0), MSS);
        r.on_sent(seq(1), seq(21), ms(205), 21 * MSS);
        r.on_timeout(&mut cc, &heard(210, 0, 0, 21), Echoes::Yes);
        let threshold = cc.ssthresh();
        assert_eq!(cc.cwnd(), 21 * MSS);
        assert!(threshold < 15 * MSS);
        r.on_retransmit(seq(0), seq(1), ms(210), 21 * MSS);
        let mut h = heard(220, 0, 21, 21);
        r.sent.advance(seq(21), &mut h.delivered);
        r.on_ack(&mut cc, &h);
        assert_eq!((r.is_open(), cc.cwnd()), (true, threshold));
        // Nor does it come back.
        r.on_sent(seq(21), seq(22), ms(221), MSS);
        let mut h = heard(231, 21, 22, 22);
        r.sent.advance(seq(22), &mut h.delivered);
        r.on_ack(&mut cc, &h);
        assert!(cc.cwnd() <= threshold + MSS, "{control:?}: {}", cc.cwnd());
    }
}
