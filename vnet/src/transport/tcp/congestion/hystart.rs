//! HyStart++ (RFC 9406): slow start ends when the round-trip time of a round grows, before anything is lost. In
//! between, conservative slow start finds out whether the growth was a coincidence.

use super::ack::Ack;
use crate::transport::tcp::seq::SeqNum;

// RFC 9406 4.3; times in microseconds.
const MIN_RTT_THRESH: u32 = 4_000;
const MAX_RTT_THRESH: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const RTT_SAMPLES: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;

/// What slow start does with an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Grow by what was acknowledged, divided by this.
    Grow { divisor: u32 },
    /// Slow start is over.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SlowStart,
    /// Conservative slow start (RFC 9406 4.2).
    Conservative {
        baseline: u32,
        rounds: u8,
    },
}

/// The state of one slow start. Round trips are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    phase: Phase,
    /// Acknowledged, it ends the round.
    round_end: Option<SeqNum>,
    last_min: u32,
    current_min: u32,
    samples: u8,
}

impl HyStart {
    pub(super) fn new() -> HyStart {
        HyStart {
            phase: Phase::SlowStart,
            round_end: None,
            last_min: u32::MAX,
            current_min: u32::MAX,
            samples: 0,
        }
    }

    /// Hears an acknowledgement in slow start.
    pub(super) fn on_ack(&mut self, ack: &Ack) -> Advice {
        let round_ends = match self.round_end {
            None => true,
            // What was acknowledged last is seen from where it was before. A round may have ended unseen.
            Some(end) => {
                let before = ack.una - ack.acked;
                !end.is_in(before..=ack.nxt) || !before.precedes(ack.una, end)
            }
        };
        if round_ends {
            // RFC 9406 4.2: at the start of each round.
            self.round_end = Some(ack.nxt);
            self.last_min = self.current_min;
            self.current_min = u32::MAX;
            self.samples = 0;
            if let Phase::Conservative { rounds, .. } = &mut self.phase {
                *rounds += 1;
                if *rounds >= CSS_ROUNDS {
                    return Advice::Leave;
                }
            }
        }
        if let Some(rtt) = ack.rtt {
            let micros = u32::try_from(rtt / 1000).unwrap_or(u32::MAX);
            self.current_min = self.current_min.min(micros);
            self.samples = self.samples.saturating_add(1);
        }
        let measured = self.samples >= RTT_SAMPLES && self.current_min != u32::MAX;
        match self.phase {
            Phase::SlowStart if measured && self.last_min != u32::MAX => {
                let thresh =
                    (self.last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.current_min >= self.last_min.saturating_add(thresh) {
                    let baseline = self.current_min;
                    self.phase = Phase::Conservative {
                        baseline,
                        rounds: 0,
                    };
                }
            }
            // The growth was a coincidence.
            Phase::Conservative { baseline, .. } if measured && self.current_min < baseline => {
                self.phase = Phase::SlowStart;
            }
            _ => {}
        }
        Advice::Grow {
            divisor: match self.phase {
                Phase::SlowStart => 1,
                Phase::Conservative { .. } => CSS_GROWTH_DIVISOR,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack::Limited;
    use super::*;
    use crate::base::time::Instant;

    /// One round of `n` acknowledgements of a segment, with one round-trip time.
    fn round(h: &mut HyStart, from: &mut u32, n: u32, rtt_ms: u64) -> Advice {
        let mut advice = Advice::Leave;
        for _ in 0..n {
            *from += 1;
            advice = h.on_ack(&Ack {
                now: Instant::ZERO,
                acked: 1,
                rtt: Some(rtt_ms * 1_000_000),
                srtt: 0,
                una: SeqNum(*from),
                nxt: SeqNum(*from + n),
                mss: 1,
                most: 2,
                limited: Limited::ByCwnd,
            });
            if advice == Advice::Leave {
                break;
            }
        }
        advice
    }

    #[test]
    fn a_growing_round_trip_slows_the_growth_and_then_ends_it() {
        let (mut h, mut at) = (HyStart::new(), 0);
        let grow = |divisor| Advice::Grow { divisor };
        assert_eq!(round(&mut h, &mut at, 10, 40), grow(1));
        assert_eq!(round(&mut h, &mut at, 20, 40), grow(1));
        // An eighth of 40 ms is 5 ms.
        assert_eq!(round(&mut h, &mut at, 40, 44), grow(1));
        assert_eq!(round(&mut h, &mut at, 80, 50), grow(4));
        for _ in 0..4 {
            assert_eq!(round(&mut h, &mut at, 80, 50), grow(4));
        }
        assert_eq!(round(&mut h, &mut at, 80, 50), Advice::Leave);
    }

    #[test]
    fn a_round_trip_that_shrinks_again_resumes_slow_start() {
        let (mut h, mut at) = (HyStart::new(), 0);
        round(&mut h, &mut at, 20, 40);
        round(&mut h, &mut at, 20, 40);
        assert_eq!(round(&mut h, &mut at, 20, 50), Advice::Grow { divisor: 4 });
        assert_eq!(round(&mut h, &mut at, 20, 41), Advice::Grow { divisor: 1 });
    }

    #[test]
    fn few_samples_say_nothing() {
        let (mut h, mut at) = (HyStart::new(), 0);
        round(&mut h, &mut at, 7, 40);
        assert_eq!(round(&mut h, &mut at, 7, 400), Advice::Grow { divisor: 1 });
    }
}
