//! RACK (RFC 8985): something is lost when what was sent sufficiently later has arrived.

use super::sent::{Delivered, Fate, Sent, Transmission};
use super::seq::SeqNum;
use crate::base::time::{Duration, Instant, nanos};

/// RFC 8985 6.2.4: recoveries without a duplicate report until the window is small again.
const PERSIST: u8 = 16;
/// RFC 8985 6.2.4: DupThresh.
const DUP_THRESHOLD: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Rack {
    /// The last sent of what has arrived, and the round trip that it took.
    latest: Option<Transmission>,
    rtt: Duration,
    /// How often something was overtaken: the path reorders.
    reorderings: u32,
    /// The reordering window, in quarters of the least round-trip time.
    quarters: u8,
    persist: u8,
    /// A duplicate report counts once until this is acknowledged.
    round: Option<SeqNum>,
    /// A segment on its way that is larger than what the path is known to carry.
    pub(super) mtu_probe: Option<(SeqNum, SeqNum)>,
}

/// What there is to know about the connection when losses are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) now: Instant,
    pub(super) mss: u32,
    pub(super) srtt: Duration,
    /// The least round-trip time so far.
    // RFC 8985 6.2.1 has a filter over a longer time, or this.
    pub(super) min_rtt: Duration,
    /// Losses are being repaired.
    pub(super) recovering: bool,
}

impl Rack {
    pub(super) fn new() -> Rack {
        Rack {
            latest: None,
            rtt: Duration::ZERO,
            reorderings: 0,
            quarters: 1,
            persist: 0,
            round: None,
            mtu_probe: None,
        }
    }

    /// Takes what an acknowledgement says has arrived. `echoed` says when the segment that it answers left, by the
    /// peer's echo of our timestamp, in whole milliseconds.
    // RFC 8985 6.2, steps 1 to 3.
    pub(super) fn on_delivered(
        &mut self,
        view: &View,
        delivered: &Delivered,
        echoed: Option<Instant>,
    ) {
        self.reorderings = self.reorderings.saturating_add(delivered.overtaken.into());
        let Some(latest) = delivered.latest else {
            return;
        };
        let rtt = view.now.since(latest.at);
        let (mut latest, mut rtt) = (latest, rtt);
        if latest.again && (rtt < view.min_rtt || echoed.is_some_and(|echoed| echoed < latest.at)) {
            // Of the copies, the one that arrived may be an earlier one. What was sent once and arrived with it counts.
            let Some(once) = delivered.latest_once else {
                return;
            };
            (latest, rtt) = (once, view.now.since(once.at));
        }
        if self.latest.is_none_or(|known| latest.is_after(&known)) {
            self.latest = Some(latest);
            self.rtt = rtt;
        }
    }

    /// The peer got something twice: the window was too small. Counts once in a round trip.
    // RFC 8985 6.2, step 4.
    pub(super) fn on_duplicate(&mut self, una: SeqNum, nxt: SeqNum) {
        let over = |round: SeqNum| round == una || !round.is_in(una..=nxt);
        if self.round.is_none_or(over) {
            self.round = Some(nxt);
            self.quarters = self.quarters.saturating_add(1);
            self.persist = PERSIST;
        }
    }

    /// Something that was taken for lost was only late.
    pub(super) fn on_late(&mut self) {
        self.reorderings = self.reorderings.saturating_add(1);
    }

    /// How often something was overtaken, or only late.
    pub(super) fn reorderings(&self) -> u32 {
        self.reorderings
    }

    /// A recovery ended.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.quarters = 1;
        }
    }

    // RFC 8985 6.2.4, RACK_update_reo_wnd.
    fn window(&self, view: &View, sacked: u32) -> Duration {
        let hurry = view.recovering || sacked >= DUP_THRESHOLD * view.mss;
        if self.reorderings == 0 && hurry {
            return Duration::ZERO;
        }
        let window = nanos(view.min_rtt) / 4 * u64::from(self.quarters);
        Duration::from_nanos(window).min(view.srtt)
    }

    /// The retransmission timer went off: marks the first segment, of `len` bytes at most, and what left more than a round
    /// trip ago. The rest may still arrive.
    // RFC 8985 6.3. RACK.rtt is not kept while all is well; it is about the smoothed round trip.
    pub(super) fn on_timeout(&self, sent: &mut Sent, view: &View, len: u32) {
        let patience = view.srtt + self.window(view, sent.sacked());
        sent.lose_first(sent.first_segment(len));
        sent.lose(|_, range| match range.at + patience <= view.now {
            true => Fate::Lost,
            false => Fate::Kept,
        });
    }

    /// Marks what is lost by now. Returns when more of it may be.
    // RFC 8985 6.2, step 5.
    pub(super) fn detect(&self, sent: &mut Sent, view: &View) -> Option<Instant> {
        let latest = self.latest?;
        let patience = self.rtt + self.window(view, sent.sacked());
        let mut wait = None;
        sent.lose(|_, range| {
            if !latest.is_after(&range.transmission()) {
                // What was sent once was sent in the order of sequence numbers.
                return if range.again { Fate::Kept } else { Fate::End };
            }
            let due = range.at + patience;
            if due <= view.now {
                return Fate::Lost;
            }
            wait = wait.max(Some(due));
            Fate::Kept
        });
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn ms(n: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(n)
    }

    fn seq(n: u32) -> SeqNum {
        SeqNum(n * MSS)
    }

    fn view(now: u64) -> View {
        View {
            now: ms(now),
            mss: MSS,
            srtt: Duration::from_millis(100),
            min_rtt: Duration::from_millis(100),
            recovering: false,
        }
    }

    /// Segments that left a millisecond after each other.
    fn sent(n: u32) -> Sent {
        let mut sent = Sent::default();
        for i in 0..n {
            sent.push(seq(i), seq(i + 1), ms(u64::from(i)));
        }
        sent
    }

    fn sack(rack: &mut Rack, sent: &mut Sent, now: u64, from: u32, to: u32) {
        let mut delivered = Delivered::default();
        sent.sack(seq(from), seq(to), MSS, &mut delivered);
        rack.on_delivered(&view(now), &delivered, None);
    }

    // RFC 8985 6.2.4: without reordering three segments suffice; fewer wait a quarter of the round trip.
    #[test]
    fn fewer_than_three_segments_wait_a_quarter_of_the_round_trip() {
        let (mut rack, mut sent) = (Rack::new(), sent(10));
        sack(&mut rack, &mut sent, 101, 1, 2);
        // 100 ms and a quarter after the first segment, which left at 0.
        assert_eq!(rack.detect(&mut sent, &view(101)), Some(ms(125)));
        assert_eq!(sent.lost(), 0);
        sack(&mut rack, &mut sent, 102, 2, 3);
        assert_eq!(rack.detect(&mut sent, &view(102)), Some(ms(125)));
        sack(&mut rack, &mut sent, 103, 3, 4);
        assert_eq!(rack.detect(&mut sent, &view(103)), None);
        assert_eq!(
            (sent.lost(), sent.next_lost()),
            (MSS, Some((seq(0), seq(1))))
        );
    }

    #[test]
    fn a_path_that_reorders_is_waited_for_and_duplicate_reports_widen_the_window() {
        let (mut rack, mut sent) = (Rack::new(), sent(10));
        sack(&mut rack, &mut sent, 105, 5, 6);
        sack(&mut rack, &mut sent, 106, 2, 3);
        assert!(rack.reorderings() > 0);
        sack(&mut rack, &mut sent, 107, 6, 9);
        // The last segment that arrived left at 8 ms and took 99 ms. A quarter is one of the least round trip.
        let due = |from: u64, quarters: u64| ms(from + 99 + 25 * quarters);
        assert_eq!(rack.detect(&mut sent, &view(107)), Some(due(4, 1)));
        assert_eq!(sent.lost(), 0);
        rack.on_duplicate(seq(0), seq(10));
        // Once a round trip.
        rack.on_duplicate(seq(9), seq(20));
        assert_eq!(rack.detect(&mut sent, &view(107)), Some(due(4, 2)));
        // Never beyond the smoothed round-trip time.
        for i in 1..10 {
            rack.on_duplicate(seq(10 * i), seq(10 * i + 10));
        }
        assert_eq!(rack.detect(&mut sent, &view(107)), Some(ms(4 + 99 + 100)));
        // A round that ended unseen, long ago, is over.
        let before = rack.quarters;
        rack.on_duplicate(seq(400), seq(410));
        assert_eq!(rack.quarters, before + 1);
        for _ in 0..PERSIST {
            rack.on_recovered();
        }
        assert_eq!(rack.quarters, 1);
    }

    // RFC 8985 3.4: a retransmission that is lost is found by what was sent after it.
    #[test]
    fn a_lost_retransmission_is_found() {
        let (mut rack, mut sent) = (Rack::new(), sent(10));
        sack(&mut rack, &mut sent, 105, 2, 6);
        rack.detect(&mut sent, &view(105));
        assert_eq!(sent.next_lost(), Some((seq(0), seq(2))));
        sent.again(seq(0), seq(1), ms(106));
        sent.again(seq(1), seq(2), ms(107));
        // The second one arrives; the first one left before it.
        sack(&mut rack, &mut sent, 207, 1, 2);
        let recovering = View {
            recovering: true,
            ..view(207)
        };
        rack.detect(&mut sent, &recovering);
        assert_eq!(sent.next_lost(), Some((seq(0), seq(1))));
        assert_eq!(
            sent.lost(),
            MSS + 4 * MSS,
            "what left before the retransmissions as well"
        );
    }

    #[test]
    fn an_answer_to_the_first_copy_says_nothing_of_the_second() {
        let (mut rack, mut sent) = (Rack::new(), sent(3));
        sack(&mut rack, &mut sent, 101, 1, 2);
        sent.again(seq(2), seq(3), ms(150));
        let before = rack.latest;
        // Sooner than anything came back so far.
        sack(&mut rack, &mut sent, 160, 2, 3);
        assert_eq!(rack.latest, before);
    }
}
