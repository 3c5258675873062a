//! The counters of one direction of a link.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::time::{Duration, Instant};

/// Counters of one direction, in frames:
/// `offered + duplicated = delivered + lost + corrupted + queue_full + aqm + down + torn_down + unplugged +
/// queued`. With a FIFO discipline nothing counts as queued: frames count as delivered when they are offered.
///
/// When serialised, times are numbers of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStats {
    /// Frames offered.
    pub offered: u64,
    /// Their bytes, without overhead.
    pub offered_bytes: u64,
    /// Frames that have arrived or are on the way.
    pub delivered: u64,
    /// Their bytes, without overhead.
    pub delivered_bytes: u64,
    /// Frames lost on the wire.
    pub lost: u64,
    /// Frames that found the queue full, or were dropped to make room in it.
    pub queue_full: u64,
    /// Frames that active queue management dropped.
    pub aqm: u64,
    /// Frames that found the link down.
    pub down: u64,
    /// Frames that were discarded from the queue when the interface was removed or set down.
    pub torn_down: u64,
    /// Frames that found nothing connected at the other end.
    pub unplugged: u64,
    /// Frames that were marked instead of dropped (ECN).
    pub marked: u64,
    /// Frames that were delivered twice.
    pub duplicated: u64,
    /// Frames that skipped the delay.
    pub reordered: u64,
    /// Frames lost because their frame check sequence showed flipped bits.
    pub corrupted: u64,
    /// Frames that arrived with flipped bits that nothing showed; they count as delivered.
    pub corrupted_undetected: u64,
    /// Frames waiting for the transmitter now; for a FIFO discipline, including the one being sent.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// The greatest number of frames that waited at one time.
    pub queue_high_water: usize,
    /// The greatest number of bytes that waited at one time.
    pub queue_high_water_bytes: usize,
    /// The time from a frame's arrival at the queue to the departure of its last bit, for the frames that were sent.
    pub sojourn: Sojourn,
    /// How long the transmitter has been busy.
    #[serde(with = "nanos")]
    pub busy: Duration,
    /// When the link was created.
    pub since: Instant,
}

/// Percentiles of a time, to 1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sojourn {
    /// Half of the frames took no longer.
    #[serde(with = "nanos")]
    pub p50: Duration,
    /// Nine of ten.
    #[serde(with = "nanos")]
    pub p90: Duration,
    /// Ninety-nine of a hundred.
    #[serde(with = "nanos")]
    pub p99: Duration,
    /// The longest time.
    #[serde(with = "nanos")]
    pub max: Duration,
}

impl LinkStats {
    /// The fraction of the time until `now` in which the transmitter was busy, 0 to 1; zero for a link without a
    /// rate.
    pub fn utilisation(&self, now: Instant) -> f64 {
        let passed = (now - self.since).as_nanos() as f64;
        if passed == 0.0 {
            return 0.0;
        }
        (self.busy.as_nanos() as f64 / passed).min(1.0)
    }

    /// Frames that were dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        let on_the_wire = self.lost + self.corrupted + self.unplugged;
        on_the_wire + self.queue_full + self.aqm + self.down + self.torn_down
    }
}

impl fmt::Display for LinkStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "offered {} ({} B), delivered {} ({} B)",
            self.offered, self.offered_bytes, self.delivered, self.delivered_bytes
        )?;
        for (count, what) in [
            (self.lost, "lost"),
            (self.corrupted, "corrupted"),
            (self.queue_full, "queue full"),
            (self.aqm, "aqm"),
            (self.down, "down"),
            (self.torn_down, "torn down"),
            (self.unplugged, "unplugged"),
            (self.marked, "marked"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.corrupted_undetected, "corrupted undetected"),
            (self.queued, "queued"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if self.sojourn != Sojourn::default() {
            let Sojourn { p50, p90, p99, max } = self.sojourn;
            write!(f, ", sojourn {p50:?}/{p90:?}/{p99:?}, at most {max:?}")?;
        }
        Ok(())
    }
}

/// A length of time as a number of nanoseconds, saturating. What was written before it was one
/// (seconds and nanoseconds in a table) is read as well.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::base::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Nanos(u64),
        Parts(Duration),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Nanos(nanos) => Duration::from_nanos(nanos),
            Written::Parts(time) => time,
        })
    }
}
