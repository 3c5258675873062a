//! What a job measures, in integers: nanoseconds, bytes, bits per second.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a job measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Figures {
    /// Of a ping.
    Ping {
        /// What became of the echo requests.
        #[serde(flatten)]
        requests: RequestCounts,
        /// Round-trip times; absent when no answer came in time.
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt: Option<RoundTrips>,
    },
    /// Of a traceroute.
    Traceroute {
        /// Who answered at each distance, by name; `None` is nobody.
        hops: Vec<Option<String>>,
    },
    /// Of a transfer.
    Transfer {
        /// Bytes of content that arrived.
        bytes: u64,
        /// From the first connection request to the far end's word that all is well.
        took_ns: u64,
        /// The content's digest as computed at the far end; empty when it did not get that far.
        sha256: String,
    },
    /// Of a throughput measurement.
    Throughput {
        /// Bytes that arrived.
        bytes: u64,
        /// From the first of them to the last.
        took_ns: u64,
    },
}

/// What became of echo requests: `sent = received + late + lost + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// Those that were sent.
    pub sent: u32,
    /// Of these, answered in time.
    pub received: u32,
    /// Of these, answered, but later than was to be waited.
    pub late: u32,
    /// Of these, refused, or not answered as long as was to be waited.
    pub lost: u32,
    /// Of these, neither answered nor waited for long enough when the job was cut off.
    pub waiting: u32,
    /// Those that were not sent: the job was cut off before, or its own stack refused.
    pub unsent: u32,
}

impl RequestCounts {
    /// How many there are, sent or not.
    pub fn total(&self) -> u32 {
        self.received + self.late + self.lost + self.waiting + self.unsent
    }
}

/// Round-trip times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RoundTrips {
    /// The least.
    pub min_ns: u64,
    /// The mean, rounded down.
    pub mean_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

impl RoundTrips {
    /// Of these times; `None` when there are none.
    pub fn of(times: &[Duration]) -> Option<RoundTrips> {
        let ns = |d: &Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let sum: u128 = times.iter().map(Duration::as_nanos).sum();
        Some(RoundTrips {
            min_ns: times.iter().map(ns).min()?,
            mean_ns: u64::try_from(sum / times.len() as u128).unwrap_or(u64::MAX),
            max_ns: times.iter().map(ns).max()?,
        })
    }
}

/// `bytes` in `took_ns`, in bits per second; zero when no time passed.
pub fn bits_per_second(bytes: u64, took_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    let rate = bits.checked_div(u128::from(took_ns)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figures::Ping { requests, rtt } => {
                write!(f, "{}/{} answers", requests.received, requests.total())?;
                for (count, what) in [
                    (requests.late, "late"),
                    (requests.lost, "lost"),
                    (requests.waiting, "not waited for"),
                    (requests.unsent, "not sent"),
                ] {
                    if count > 0 {
                        write!(f, ", {count} {what}")?;
                    }
                }
                match rtt {
                    Some(rtt) => {
                        let [min, mean, max] = [rtt.min_ns, rtt.mean_ns, rtt.max_ns].map(millis);
                        write!(f, ", rtt {min}/{mean}/{max} ms")
                    }
                    None => Ok(()),
                }
            }
            Figures::Traceroute { hops } => {
                let hops: Vec<&str> = hops.iter().map(|h| h.as_deref().unwrap_or("*")).collect();
                f.write_str(&hops.join(" → "))
            }
            Figures::Transfer {
                bytes,
                took_ns,
                sha256,
            } => {
                write!(f, "{}, ", rate(*bytes, *took_ns))?;
                match sha256.get(..12) {
                    Some(start) => write!(f, "sha256 {start}…"),
                    None => write!(f, "no digest"),
                }
            }
            Figures::Throughput { bytes, took_ns } => f.write_str(&rate(*bytes, *took_ns)),
        }
    }
}

fn rate(bytes: u64, took_ns: u64) -> String {
    let seconds = millis(took_ns / 1000);
    let mbit = bits_per_second(bytes, took_ns) as f64 / 1e6;
    format!("{bytes} bytes in {seconds} s, {mbit:.2} Mbit/s")
}

/// Nanoseconds as milliseconds with three digits.
fn millis(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000)
}
