//! Round-trip time and retransmission timeout (RFC 6298).

use super::config::TcpConfig;
use crate::base::time::{Duration, nanos};

/// The estimator of one connection. In nanoseconds: it is asked at each segment, and to divide a
/// [`Duration`] takes ten times as long.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    srtt: u64,
    /// The least measurement so far; `u64::MAX` before the first.
    least: u64,
    rttvar: u64,
    /// Before backing off.
    base: u64,
    backoff: u8,
    /// The timeout to use now.
    rto: u64,
}

/// RFC 8985 7.2, WCDelAckT: how long the acknowledgement of a single segment may be delayed, in nanoseconds.
const WORST_DELAYED_ACK: u64 = 200_000_000;
/// The first timeout for data where the SYN was lost, in nanoseconds.
const SYN_WAS_LOST: u64 = 3_000_000_000;

impl Rtt {
    pub(super) fn new(config: &TcpConfig) -> Rtt {
        Rtt {
            srtt: 0,
            least: u64::MAX,
            rttvar: 0,
            base: nanos(config.initial_rto),
            backoff: 0,
            rto: 0,
        }
        .refreshed(config)
    }

    fn refreshed(mut self, config: &TcpConfig) -> Rtt {
        self.refresh(config);
        self
    }

    #[inline]
    fn refresh(&mut self, config: &TcpConfig) {
        self.rto = self.doubled_nanos(config, self.backoff);
    }

    /// Takes a measurement in whole ticks, which may be shorter than the path by one.
    pub(super) fn sample_roughly(&mut self, config: &TcpConfig, r: Duration) {
        let (known, least) = (self.is_measured(), self.least);
        self.sample(config, r);
        if known {
            self.least = least;
        }
    }

    /// Takes a measurement of a segment that was sent once (Karn's rule is the caller's).
    pub(super) fn sample(&mut self, config: &TcpConfig, r: Duration) {
        self.sample_nanos(config, nanos(r));
    }

    /// The same, in nanoseconds.
    #[inline]
    pub(super) fn sample_nanos(&mut self, config: &TcpConfig, r: u64) {
        // Some decades; so nothing below can overflow.
        let r = r.min(u64::MAX / 16);
        if self.is_measured() {
            // RFC 6298 2.3: alpha = 1/8, beta = 1/4; RTTVAR before SRTT.
            let error = self.srtt.abs_diff(r);
            self.rttvar = (self.rttvar * 3 + error) / 4;
            self.srtt = (self.srtt * 7 + r) / 8;
        } else {
            // RFC 6298 2.2
            self.srtt = r;
            self.rttvar = r / 2;
        }
        self.least = self.least.min(r);
        // The variance term has the floor, as in Linux: a steady path with delayed
        // acknowledgements would time out for nothing if the sum had it.
        let variance = (self.rttvar * 4).max(nanos(config.min_rto));
        self.base = self.srtt.saturating_add(variance);
        self.backoff = 0;
        self.refresh(config);
    }

    /// The timeout to use now.
    #[inline]
    pub(super) fn rto(&self) -> Duration {
        Duration::from_nanos(self.rto)
    }

    /// The same, in nanoseconds.
    #[inline]
    pub(super) fn rto_nanos(&self) -> u64 {
        self.rto
    }

    /// How long after the last segment a tail loss probe leaves, in nanoseconds; `None` before the first measurement,
    /// and once the timer went off. `single` is whether that segment is the only one on its way.
    // RFC 8985 7.2, with the peer's delayed acknowledgement for more than one segment, too: the last one of an odd
    // number waits as well.
    #[inline]
    pub(super) fn patience(&self, config: &TcpConfig, single: bool) -> Option<u64> {
        let delayed = match single {
            true => WORST_DELAYED_ACK,
            false => nanos(config.delayed_ack),
        };
        (self.is_measured() && self.backoff == 0).then(|| self.srtt * 2 + delayed)
    }

    /// The timeout of something else than a retransmission that was tried so often in vain.
    #[inline]
    pub(super) fn doubled(&self, config: &TcpConfig, times: u8) -> Duration {
        Duration::from_nanos(self.doubled_nanos(config, times))
    }

    #[inline]
    fn doubled_nanos(&self, config: &TcpConfig, times: u8) -> u64 {
        let (least, most) = (nanos(config.min_rto), nanos(config.max_rto));
        let doubled = self.base.saturating_mul(1 << times.min(30));
        doubled.clamp(least, most.max(least))
    }

    /// RFC 6298 5.5: the timer went off. Only a measurement takes this back (RFC 6298 5.7, and
    /// 3: Karn's algorithm), not the acknowledgement of what was sent twice.
    pub(super) fn back_off(&mut self, config: &TcpConfig) {
        self.backoff = self.backoff.saturating_add(1);
        self.refresh(config);
    }

    /// RFC 6298 5.7: the SYN had to be retransmitted. Unless it was measured all the same, the
    /// first timeout for data is 3 s.
    pub(super) fn syn_was_lost(&mut self, config: &TcpConfig) {
        if !self.is_measured() {
            self.base = self.base.max(SYN_WAS_LOST);
            self.backoff = 0;
            self.refresh(config);
        }
    }

    /// The timeout that follows from the measurements, before backing off.
    #[cfg(test)]
    pub(super) fn base(&self) -> Duration {
        Duration::from_nanos(self.base)
    }

    #[inline]
    fn is_measured(&self) -> bool {
        self.least != u64::MAX
    }

    /// The least round-trip time, once measured.
    pub(super) fn least(&self) -> Option<Duration> {
        self.is_measured().then(|| Duration::from_nanos(self.least))
    }

    /// The variation of the round-trip time, once measured.
    pub(super) fn variation(&self) -> Option<Duration> {
        self.is_measured()
            .then(|| Duration::from_nanos(self.rttvar))
    }

    /// The smoothed round-trip time in nanoseconds; zero before the first measurement.
    #[inline]
    pub(super) fn srtt_nanos(&self) -> u64 {
        self.srtt
    }

    /// The least one, or `u64::MAX`.
    #[inline]
    pub(super) fn least_nanos(&self) -> u64 {
        self.least
    }

    /// The smoothed round-trip time, once measured.
    pub(super) fn srtt(&self) -> Option<Duration> {
        self.is_measured().then(|| Duration::from_nanos(self.srtt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements_and_doubles() {
        let config = TcpConfig::default();
        let mut rtt = Rtt::new(&config);
        let ms = Duration::from_millis;
        assert_eq!(rtt.rto(), ms(1000));
        rtt.back_off(&config);
        assert_eq!(rtt.rto(), ms(2000));
        rtt.sample(&config, ms(100));
        assert_eq!(rtt.srtt(), Some(ms(100)));
        assert_eq!(rtt.rto(), ms(300));
        rtt.sample(&config, ms(500));
        // rttvar = 3/4 * 50 + 1/4 * 400 = 137.5; srtt = 7/8 * 100 + 1/8 * 500 = 150.
        assert_eq!(rtt.rto(), ms(150 + 550));
        for _ in 0..40 {
            rtt.back_off(&config);
        }
        assert_eq!(rtt.rto(), config.max_rto);
    }
}
