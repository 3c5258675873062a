//! Delivery-rate sampling (draft-ietf-ccwg-bbr, section 4.1.2): how fast what was sent has arrived.
//!
//! What left in one instant is one record, found again by that instant. So a retransmission has a record of its own.

use std::collections::VecDeque;

use crate::base::time::Instant;
use crate::transport::tcp::seq::SeqNum;

/// Records beyond this are not made: what is sent then is not sampled.
const MOST: usize = 1 << 14;

/// The state of the connection when something was sent.
#[derive(Clone, Copy, Debug)]
struct Record {
    at: Instant,
    /// The end of what was sent by then; acknowledged, the record is of no use.
    end: SeqNum,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    lost: u64,
    marked: u64,
    /// On its way, this included.
    flight: u32,
    limited: Demand,
}

/// Whether the application keeps the connection busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Enough,
    /// There was not enough to send, so a rate says nothing of the path.
    TooLittle,
}

/// What one acknowledgement says of the rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes per second; zero when the acknowledgement says nothing of it.
    pub(super) rate: u64,
    /// Bytes delivered since the segment left, and how many had been delivered when it did.
    pub(super) delivered: u64,
    pub(super) prior_delivered: u64,
    /// Bytes lost since it left, and bytes delivered with a mark.
    pub(super) lost: u64,
    pub(super) marked: u64,
    /// What was on its way when it left, with it.
    pub(super) flight: u32,
    pub(super) demand: Demand,
}

/// The sampler of one connection.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    records: VecDeque<Record>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    lost: u64,
    marked: u64,
    /// Too little to send until so much is delivered; zero for "enough".
    limited_until: u64,
}

impl Sampler {
    pub(super) fn new() -> Sampler {
        Sampler {
            records: VecDeque::new(),
            delivered: 0,
            delivered_at: Instant::ZERO,
            first_sent: Instant::ZERO,
            lost: 0,
            marked: 0,
            limited_until: 0,
        }
    }

    /// The same without the records: what there is to return to.
    pub(super) fn bare(&self) -> Sampler {
        Sampler {
            records: VecDeque::new(),
            ..*self
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limited_until > 0
    }

    /// Something leaves; `flight` bytes are on their way then, of which `nxt` is the end.
    // Section 4.1.2.2
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u32, flight: u32, nxt: SeqNum) {
        if flight <= bytes {
            self.first_sent = now;
            self.delivered_at = now;
        }
        if let Some(last) = self.records.back_mut()
            && last.at == now
        {
            last.flight = flight;
            last.end = nxt;
            return;
        }
        if self.records.len() >= MOST {
            return;
        }
        self.records.push_back(Record {
            at: now,
            end: nxt,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            lost: self.lost,
            marked: self.marked,
            flight,
            limited: self.demand(),
        });
    }

    fn demand(&self) -> Demand {
        match self.is_limited() {
            true => Demand::TooLittle,
            false => Demand::Enough,
        }
    }

    /// There is nothing more to send now, although more might leave. `flight` is what is on its way.
    // Section 4.1.2.4
    pub(super) fn on_starved(&mut self, flight: u32) {
        self.limited_until = (self.delivered + u64::from(flight)).max(1);
    }

    /// So many bytes were taken for lost.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// So many bytes arrived with a mark.
    pub(super) fn on_marked(&mut self, bytes: u64) {
        self.marked += bytes;
    }

    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    fn find(&self, at: Instant) -> Option<&Record> {
        let i = self.records.partition_point(|r| r.at < at);
        self.records.get(i).filter(|r| r.at == at)
    }

    /// What was sent at `at` is lost: what that says of the flight it was in. No rate.
    pub(super) fn of_lost(&self, at: Instant) -> Option<Sample> {
        let record = self.find(at)?;
        Some(self.sample(record, 0))
    }

    fn sample(&self, record: &Record, rate: u64) -> Sample {
        Sample {
            rate,
            delivered: self.delivered - record.delivered,
            prior_delivered: record.delivered,
            lost: self.lost - record.lost,
            marked: self.marked - record.marked,
            flight: record.flight,
            demand: record.limited,
        }
    }

    /// So many bytes arrived, of which those sent last left at `sent_at`. `una` is acknowledged. A round trip below
    /// `min_rtt` (in nanoseconds) is none.
    // Section 4.1.2.3
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        bytes: u32,
        sent_at: Instant,
        una: SeqNum,
        min_rtt: u64,
    ) -> Option<Sample> {
        self.delivered += u64::from(bytes);
        self.delivered_at = now;
        if self.is_limited() && self.delivered > self.limited_until {
            self.limited_until = 0;
        }
        let record = self.find(sent_at).copied();
        // Those that left before have nothing more to say once all up to their end has arrived.
        while let Some(front) = self.records.front()
            && front.at < sent_at
            && !front.end.is_newer_than(una)
        {
            self.records.pop_front();
        }
        let record = record?;
        self.first_sent = record.at;
        let elapsed = |from: Instant, to: Instant| to.as_nanos().saturating_sub(from.as_nanos());
        let send = elapsed(record.first_sent, record.at);
        let ack = elapsed(record.delivered_at, now);
        let interval = send.max(ack);
        let delivered = self.delivered - record.delivered;
        // What took less than the least round trip was acknowledged in a lump.
        let rate = match interval < min_rtt.max(1) {
            true => 0,
            false => per_second(delivered, interval),
        };
        Some(self.sample(&record, rate))
    }
}

/// `bytes` in so many nanoseconds, as bytes per second.
pub(super) fn per_second(bytes: u64, nanos: u64) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / u128::from(nanos.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;

    fn ms(n: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1000 + n)
    }

    /// Sends a segment of 1000 bytes each millisecond for 20 ms; they arrive at the rate of one in two milliseconds.
    #[test]
    fn the_rate_is_that_of_the_bottleneck_and_not_of_the_sender() {
        let mut s = Sampler::new();
        for n in 0..20u32 {
            s.on_sent(
                ms(u64::from(n)),
                1000,
                (n + 1) * 1000,
                SeqNum((n + 1) * 1000),
            );
        }
        let mut last = None;
        for n in 0..20u32 {
            let (now, sent) = (ms(10 + 2 * u64::from(n)), ms(u64::from(n)));
            let una = SeqNum((n + 1) * 1000);
            last = s.on_delivered(now, 1000, sent, una, 5_000_000);
        }
        let last = last.expect("sampled");
        assert_eq!(last.prior_delivered, 0);
        // 20 segments in 48 ms.
        assert_eq!(last.rate, 20_000 * 1000 / 48);
        assert_eq!(last.demand, Demand::Enough);
        assert_eq!(s.records.len(), 1);
    }

    #[test]
    fn what_left_while_there_was_too_little_to_send_is_marked() {
        let mut s = Sampler::new();
        s.on_sent(ms(0), 1000, 1000, SeqNum(1000));
        s.on_starved(1000);
        s.on_sent(ms(1), 1000, 2000, SeqNum(2000));
        let first = s.on_delivered(ms(10), 1000, ms(0), SeqNum(1000), 1);
        assert_eq!(first.map(|s| s.demand), Some(Demand::Enough));
        let second = s.on_delivered(ms(11), 1000, ms(1), SeqNum(2000), 1);
        assert_eq!(second.map(|s| s.demand), Some(Demand::TooLittle));
        assert!(!s.is_limited());
    }

    #[test]
    fn losses_are_counted_from_when_a_segment_left() {
        let mut s = Sampler::new();
        s.on_sent(ms(0), 1000, 1000, SeqNum(1000));
        s.on_lost(500);
        s.on_sent(ms(1), 1000, 2000, SeqNum(2000));
        s.on_lost(300);
        assert_eq!(s.of_lost(ms(0)).map(|s| s.lost), Some(800));
        assert_eq!(
            s.of_lost(ms(1)).map(|s| (s.lost, s.flight)),
            Some((300, 2000))
        );
        assert!(s.of_lost(ms(2)).is_none());
    }
}
