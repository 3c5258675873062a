//! CUBIC (RFC 9438), with HyStart++ in the first slow start.
//!
//! Windows are in bytes here where the RFC has segments, so its C is multiplied by the segment size. The arithmetic
//! is addition, multiplication and division of `f64`, which every machine does alike.

use super::ack::{Ack, Limited, MOST, Marks, slow_start};
use super::hystart::{Advice, HyStart};
use crate::base::switch::Switch;
use crate::base::time::{Instant, nanos};

/// RFC 9438 5: C, in segments per cubic second.
const C: f64 = 0.4;
/// RFC 9438 4.6: the multiplicative decrease.
const BETA: f64 = 0.7;
/// RFC 8511 3.1: the decrease after a mark of a queue that is kept short, which holds little to drain.
const BETA_ECN: f64 = 0.85;

/// RFC 9406 4.3: L, the segments that an acknowledgement counts for at most where windows are not spread over time.
const AT_ONCE: u32 = 8;

/// RFC 9438 4.3: what Reno's increase must be to have the same average window with this decrease.
fn alpha(beta: f64) -> f64 {
    3.0 * (1.0 - beta) / (1.0 + beta)
}

#[derive(Clone, Debug)]
pub(in crate::transport::tcp) struct Cubic {
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    hystart: HyStart,
    /// Made when slow start first ends: most connections never get there.
    avoidance: Option<Box<Avoidance>>,
}

/// The state of congestion avoidance.
#[derive(Clone, Debug)]
struct Avoidance {
    /// The window before the last reduction, or less (fast convergence).
    w_max: f64,
    /// The window just before the last reduction.
    prior: f64,
    /// What the last reduction left of the window.
    beta: f64,
    marks: Marks,
    stage: Option<Stage>,
}

impl Default for Avoidance {
    fn default() -> Avoidance {
        Avoidance {
            w_max: 0.0,
            prior: 0.0,
            beta: BETA,
            marks: Marks::default(),
            stage: None,
        }
    }
}

/// One stage, from a reduction (or the end of slow start) to the next.
#[derive(Clone, Debug)]
struct Stage {
    /// Its beginning, moved by the time in which the window was not used.
    began: Instant,
    heard: Instant,
    k: f64,
    w_max: f64,
    /// What Reno's window would be.
    w_est: f64,
    window: f64,
}

impl Cubic {
    pub(super) fn new(cwnd: u32, ssthresh: u32) -> Cubic {
        Cubic {
            cwnd,
            ssthresh,
            hystart: HyStart::new(),
            avoidance: None,
        }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, ack: &Ack) {
        if self.cwnd < self.ssthresh {
            self.slow_start(ack);
        } else {
            self.avoid(ack);
        }
    }

    fn slow_start(&mut self, ack: &Ack) {
        let (mut divisor, mut most) = (1, ack.most);
        // RFC 9406 4.2: only in the first slow start; later ones know where to end.
        if self.ssthresh == u32::MAX {
            match self.hystart.on_ack(ack) {
                Advice::Grow { divisor: by } => divisor = by,
                Advice::Leave => {
                    self.ssthresh = self.cwnd;
                    return;
                }
            }
            most = most.max(AT_ONCE * ack.mss);
        }
        if ack.limited == Limited::ByCwnd {
            let by = ack.acked.min(most) / divisor;
            self.cwnd = slow_start(self.cwnd, self.ssthresh, by, ack.mss);
        }
    }

    fn avoid(&mut self, ack: &Ack) {
        let mss = f64::from(ack.mss);
        let cwnd = f64::from(self.cwnd);
        let avoidance = self.avoidance.get_or_insert_default();
        let (w_max, prior, beta) = (avoidance.w_max, avoidance.prior, avoidance.beta);
        let stage = avoidance.stage.get_or_insert_with(|| Stage {
            began: ack.now,
            heard: ack.now,
            // RFC 9438 4.2, figure 2; 4.8 and 4.10: after a timeout, or without a loss before, K is zero.
            k: cube_root((w_max - cwnd).max(0.0) / (C * mss)),
            w_max: w_max.max(cwnd),
            w_est: cwnd,
            window: cwnd,
        });
        if ack.limited == Limited::Elsewhere {
            // RFC 9438 5.8: time in which the window is not used does not count.
            stage.began += ack.now.since(stage.heard);
            stage.heard = ack.now;
            return;
        }
        stage.heard = ack.now;
        let acked = f64::from(ack.acked);
        let t = nanos(ack.now.since(stage.began)) as f64 / 1e9;
        let rtt = ack.srtt as f64 / 1e9;
        // RFC 9438 4.3, figure 4: as fast as Reno once its window is what it was.
        let alpha = if stage.w_est >= prior {
            1.0
        } else {
            alpha(beta)
        };
        stage.w_est += alpha * mss * acked / stage.window;
        // RFC 9438 4.2, figure 1.
        let w_cubic = |t: f64| {
            let d = t - stage.k;
            C * mss * d * d * d + stage.w_max
        };
        if w_cubic(t) < stage.w_est {
            // RFC 9438 4.3
            stage.window = stage.window.max(stage.w_est);
        } else {
            // RFC 9438 4.2, 4.4 and 4.5.
            let target = w_cubic(t + rtt).clamp(stage.window, 1.5 * stage.window);
            stage.window += (target - stage.window) * acked / stage.window;
        }
        stage.window = stage.window.min(f64::from(MOST));
        self.cwnd = stage.window as u32;
    }

    pub(super) fn on_loss(&mut self, flight: u32, mss: u32) {
        self.reduce(flight, mss, BETA);
    }

    pub(super) fn marks(&mut self) -> &mut Marks {
        &mut self.avoidance.get_or_insert_default().marks
    }

    // RFC 8511 3.1
    pub(super) fn on_mark(&mut self, flight: u32, mss: u32, less: Switch) {
        let beta = if less.is_on() { BETA_ECN } else { BETA };
        self.reduce(flight, mss, beta);
    }

    // RFC 9438 4.6 and 4.7.
    fn reduce(&mut self, flight: u32, mss: u32, beta: f64) {
        let cwnd = f64::from(self.cwnd);
        let avoidance = self.avoidance.get_or_insert_default();
        // Fast convergence: a flow that has to give way gives a little more. The window comes close to the plateau and
        // stays there, so most losses are there: one that has all but a part of a segment of it has not given way.
        avoidance.w_max = if cwnd + f64::from(mss) <= avoidance.w_max {
            cwnd * (1.0 + beta) / 2.0
        } else {
            cwnd
        };
        avoidance.prior = cwnd;
        avoidance.beta = beta;
        avoidance.stage = None;
        self.ssthresh = ((f64::from(flight) * beta).round() as u32).max(2 * mss);
        self.cwnd = self.ssthresh;
    }

    // RFC 9438 4.8
    pub(super) fn on_timeout(&mut self, flight: u32, mss: u32) {
        self.on_loss(flight, mss);
        self.on_repeated_timeout(mss);
    }

    pub(super) fn on_repeated_timeout(&mut self, mss: u32) {
        if let Some(avoidance) = &mut self.avoidance {
            avoidance.w_max = 0.0;
            avoidance.stage = None;
        }
        self.cwnd = mss;
    }

    // RFC 9438 5.8: silence is no time in which the window grows.
    pub(super) fn on_idle(&mut self, restart: u32) {
        self.restart(self.cwnd.min(restart));
    }

    /// Goes on from a smaller window.
    pub(super) fn restart(&mut self, cwnd: u32) {
        self.cwnd = cwnd;
        if let Some(avoidance) = &mut self.avoidance {
            avoidance.stage = None;
        }
    }
}

/// The cube root, by Newton's method: that of the standard library may differ from machine to machine.
fn cube_root(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    // A third of the exponent is a guess within a factor of two; four steps more than suffice.
    let mut root = f64::from_bits(x.to_bits() / 3 + (0x3ff << 52) / 3 * 2);
    for _ in 0..5 {
        root = (2.0 * root + x / (root * root)) / 3.0;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use crate::transport::tcp::seq::SeqNum;

    const MSS: u32 = 1000;
    const RTT: Duration = Duration::from_millis(100);

    fn ack(now: Duration, acked: u32) -> Ack {
        Ack {
            now: Instant::ZERO + now,
            acked,
            rtt: Some(nanos(RTT)),
            srtt: nanos(RTT),
            una: SeqNum(0) + acked,
            nxt: SeqNum(0),
            mss: MSS,
            most: 2 * MSS,
            limited: Limited::ByCwnd,
        }
    }

    /// Acknowledges a window each round trip, segment by segment, from `from` on for `rounds` round trips.
    fn rounds(c: &mut Cubic, from: Duration, rounds: u32) -> Duration {
        let mut now = from;
        for _ in 0..rounds {
            let segments = c.cwnd / MSS;
            for n in 0..segments {
                c.on_ack(&ack(now + RTT * n / segments, MSS));
            }
            now += RTT;
        }
        now
    }

    #[test]
    fn cube_roots_are_exact_enough() {
        for x in [1e-9, 0.3, 1.0, 8.0, 27.0, 12_345.678, 4e12] {
            let root = cube_root(x);
            assert!((root * root * root / x - 1.0).abs() < 1e-12, "{x}: {root}");
        }
        assert_eq!(cube_root(0.0), 0.0);
        assert_eq!(cube_root(-1.0), 0.0);
    }

    // RFC 9438 4.2: the window is back where it was after K, flat there, and convex beyond.
    #[test]
    fn the_window_follows_the_cubic_function() {
        let mut c = Cubic::new(1000 * MSS, u32::MAX);
        c.on_loss(1000 * MSS, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (700 * MSS, 700 * MSS));
        // K is the cube root of 300 / 0.4, 9.086 s.
        let k = 9.0856;
        let mut now = Duration::ZERO;
        for _ in 0..14 {
            now = rounds(&mut c, now, 10);
            let d = now.as_secs_f64() - k;
            let expected = (0.4 * d * d * d + 1000.0) * 1000.0;
            let error = (f64::from(c.cwnd) - expected).abs() / expected;
            assert!(error < 0.01, "{now:?}: {} instead of {expected:.0}", c.cwnd);
        }
    }

    // RFC 9438 4.3: on a short path the window grows at least as Reno's would, by alpha segments a round trip.
    #[test]
    fn a_short_path_has_at_least_the_window_of_reno() {
        let mut c = Cubic::new(20 * MSS, u32::MAX);
        c.on_loss(20 * MSS, MSS);
        assert_eq!(c.cwnd, 14 * MSS);
        let short = Duration::from_millis(1);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            for _ in 0..c.cwnd / MSS {
                c.on_ack(&Ack {
                    srtt: nanos(short),
                    ..ack(now, MSS)
                });
            }
            now += short;
        }
        // Ten round trips at 0.53 segments.
        let grown = c.cwnd - 14 * MSS;
        assert!((4_500..=5_500).contains(&grown), "{grown}");
    }

    // RFC 9438 4.7
    #[test]
    fn a_second_loss_below_the_first_window_gives_way_faster() {
        let mut c = Cubic::new(1000 * MSS, u32::MAX);
        c.on_loss(1000 * MSS, MSS);
        c.on_loss(700 * MSS, MSS);
        let avoidance = c.avoidance.as_ref().expect("after a loss");
        assert_eq!(avoidance.w_max, 700_000.0 * 0.85);
        assert_eq!(c.cwnd, 490 * MSS);
    }

    // The RFC does not say how much less is less; Linux, whose windows are whole segments, keeps the plateau here.
    #[test]
    fn a_loss_on_the_plateau_does_not_give_way() {
        let mut c = Cubic::new(457 * MSS, u32::MAX);
        c.on_loss(457 * MSS, MSS);
        c.on_loss(320 * MSS, MSS);
        let plateau = |c: &Cubic| c.avoidance.as_ref().expect("after a loss").w_max;
        let before = plateau(&c);
        // K is 4.9 s.
        rounds(&mut c, Duration::ZERO, 44);
        let short = before - f64::from(c.cwnd);
        assert!(0.0 < short && short < f64::from(MSS), "{short}");
        c.on_loss(c.cwnd, MSS);
        assert_eq!(plateau(&c), before - short);
        // After 2 s, it is ten segments below.
        let mut c = Cubic::new(457 * MSS, u32::MAX);
        c.on_loss(457 * MSS, MSS);
        c.on_loss(320 * MSS, MSS);
        rounds(&mut c, Duration::ZERO, 20);
        let cwnd = f64::from(c.cwnd);
        assert!(cwnd + f64::from(MSS) <= before, "{cwnd}");
        c.on_loss(c.cwnd, MSS);
        assert_eq!(plateau(&c), cwnd * 0.85);
    }

    // RFC 9438 4.8: after a timeout the window where slow start ends is the plateau.
    #[test]
    fn a_timeout_forgets_the_plateau() {
        let mut c = Cubic::new(100 * MSS, u32::MAX);
        c.on_timeout(100 * MSS, MSS);
        assert_eq!((c.cwnd, c.ssthresh), (MSS, 70 * MSS));
        while c.cwnd < c.ssthresh {
            c.on_ack(&ack(Duration::ZERO, 2 * MSS));
        }
        c.on_ack(&ack(Duration::ZERO, MSS));
        let stage = c.avoidance.as_ref().and_then(|a| a.stage.as_ref());
        let stage = stage.expect("in congestion avoidance");
        assert_eq!((stage.k, stage.w_max), (0.0, 70_000.0));
    }

    // RFC 9438 5.8
    #[test]
    fn a_silent_application_does_not_come_back_to_a_larger_window() {
        let mut c = Cubic::new(100 * MSS, u32::MAX);
        c.on_loss(100 * MSS, MSS);
        let now = rounds(&mut c, Duration::ZERO, 5);
        let before = c.cwnd;
        let idle = Ack {
            limited: Limited::Elsewhere,
            ..ack(now + Duration::from_secs(60), MSS)
        };
        c.on_ack(&idle);
        c.on_ack(&ack(now + Duration::from_secs(60), MSS));
        assert!(c.cwnd - before < 2 * MSS, "{before} {}", c.cwnd);
    }

    // RFC 9438 4.8 and 5.8: neither a timeout again nor silence is time in which the window grows.
    #[test]
    fn time_before_a_repeated_timeout_or_in_silence_does_not_count() {
        for idle in [false, true] {
            let mut c = Cubic::new(8 * MSS, u32::MAX);
            c.on_loss(8 * MSS, MSS);
            let now = rounds(&mut c, Duration::ZERO, 3);
            match idle {
                true => c.on_idle(10 * MSS),
                false => c.on_repeated_timeout(MSS),
            }
            let before = c.cwnd.max(c.ssthresh);
            let later = now + Duration::from_secs(60);
            for _ in 0..8 {
                c.on_ack(&ack(later, MSS));
            }
            assert!(c.cwnd <= before + 2 * MSS, "{idle}: {before} {}", c.cwnd);
        }
    }
}
