//! How a link is written for people: the words and units of a topology, without what is as by default.

use crate::packet::cx::Carrier;
use std::fmt;

use super::{Codel, Discipline, Ecn, FqCodel, Jitter, LinkConfig, Loss, Order, Red};

/// Each unit of a rate is a thousand of the one before.
const RATES: [&str; 5] = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];

impl fmt::Display for LinkConfig {
    /// Such as `rate 10Mbit/s, delay 20ms, loss 1%`; `ideal` when it carries everything at once. No
    /// number is rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`: a new parameter has to be shown.
        let LinkConfig {
            state,
            rate_bps,
            overhead_bytes,
            queue,
            delay,
            jitter,
            loss,
            duplicate,
            reorder,
            corrupt,
            corrupt_undetected,
        } = self;
        let usual = LinkConfig::default();
        let mut parts = Vec::new();
        let mut part = |is_shown: bool, text: fmt::Arguments<'_>| {
            if is_shown {
                parts.push(text.to_string());
            }
        };
        part(*state == Carrier::Down, format_args!("down"));
        if let Some(bps) = rate_bps {
            part(true, format_args!("rate {}", rate(*bps)));
        }
        part(
            *overhead_bytes != 0,
            format_args!("overhead {overhead_bytes} bytes"),
        );
        part(!delay.is_zero(), format_args!("delay {delay:?}"));
        part(*jitter != Jitter::None, format_args!("jitter {jitter}"));
        part(*loss != Loss::None, format_args!("loss {loss}"));
        part(
            *duplicate != 0.0,
            format_args!("duplicate {}", percent(*duplicate)),
        );
        let gap = match reorder.gap {
            1 => String::new(),
            gap => format!(" of every {gap}th frame"),
        };
        part(
            *reorder != usual.reorder,
            format_args!("reorder {}{gap}", percent(reorder.probability)),
        );
        if let Some(bits) = corrupt {
            part(true, format_args!("corrupt 1 in {bits} bits"));
        }
        if let Some(bits) = corrupt_undetected {
            part(true, format_args!("corrupt 1 in {bits} bits undetected"));
        }
        part(
            queue.discipline != usual.queue.discipline,
            format_args!("queue {}", queue.discipline),
        );
        part(
            queue.limit_frames != usual.queue.limit_frames,
            format_args!("queue of {} frames", queue.limit_frames),
        );
        if let Some(bytes) = queue.limit_bytes {
            part(true, format_args!("queue of {bytes} bytes"));
        }
        match parts.is_empty() {
            true => f.write_str("ideal"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Jitter::None => return f.write_str("none"),
            Jitter::Uniform { amplitude, .. } => write!(f, "uniform {amplitude:?}")?,
            Jitter::Normal { deviation, .. } => write!(f, "normal {deviation:?}")?,
            Jitter::Pareto { scale, shape, .. } => write!(f, "pareto {scale:?} shape {shape}")?,
            Jitter::Trace { delays, .. } => write!(f, "trace of {} delays", delays.len())?,
        }
        match self.order() {
            Order::Kept => Ok(()),
            Order::Free => f.write_str(" with overtaking"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::None => f.write_str("none"),
            Loss::Random(p) => f.write_str(&percent(*p)),
            Loss::GilbertElliott { p, r, h, k } => {
                write!(f, "in bursts p {p} r {r} h {h} k {k}")
            }
            Loss::Every(n) => write!(f, "of every {n}th frame"),
            Loss::Trace(pattern) => write!(f, "trace of {} frames", pattern.len()),
        }
    }
}

impl fmt::Display for Discipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discipline::DropTail => f.write_str("drop-tail"),
            Discipline::Red(red) => {
                let Red {
                    min_bytes,
                    max_bytes,
                    max_probability,
                    weight_shift,
                    ecn,
                } = red;
                let p = percent(*max_probability);
                write!(f, "red {min_bytes} to {max_bytes} bytes at most {p}")?;
                write!(f, " weight 2^-{weight_shift}{}", marking(*ecn))
            }
            Discipline::Codel(codel) => write!(f, "codel {codel}"),
            Discipline::FqCodel(fq) => {
                let FqCodel {
                    codel,
                    flows,
                    quantum,
                } = fq;
                write!(f, "fq-codel {codel} {flows} flows quantum {quantum} bytes")
            }
            Discipline::Drr { weights, quantum } => {
                write!(f, "drr weights {weights:?} quantum {quantum} bytes")
            }
            Discipline::StrictPriority => f.write_str("strict-priority"),
            Discipline::TokenBucket {
                rate_bps,
                burst_bytes,
            } => write!(
                f,
                "token-bucket {} burst {burst_bytes} bytes",
                rate(*rate_bps)
            ),
        }
    }
}

impl fmt::Display for Codel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Codel {
            target,
            interval,
            ecn,
        } = self;
        write!(
            f,
            "target {target:?} interval {interval:?}{}",
            marking(*ecn)
        )
    }
}

fn marking(ecn: Ecn) -> &'static str {
    match ecn {
        Ecn::Off => "",
        Ecn::Mark => " ecn",
    }
}

/// A rate in the largest unit in which it is a whole number.
fn rate(bps: u64) -> String {
    let (mut number, mut unit) = (bps, 0);
    while number > 0 && number % 1000 == 0 && unit + 1 < RATES.len() {
        (number, unit) = (number / 1000, unit + 1);
    }
    format!("{number}{}", RATES[unit])
}

/// A probability in per cent, without the dust that multiplying by a hundred leaves behind.
fn percent(p: f64) -> String {
    let text = format!("{:.6}", p * 100.0);
    match text.trim_end_matches('0').trim_end_matches('.') {
        "0" => format!("{p:e}"),
        whole => format!("{whole}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QueueConfig, Reorder};
    use super::*;
    use crate::base::time::Duration;

    #[test]
    fn a_link_is_written_without_what_is_as_by_default() {
        assert_eq!(LinkConfig::default().to_string(), "ideal");
        let config = LinkConfig {
            rate_bps: Some(1_500_000),
            delay: Duration::from_millis(20),
            jitter: Jitter::Uniform {
                amplitude: Duration::from_micros(1500),
                order: Order::Free,
            },
            loss: Loss::Random(0.07),
            ..LinkConfig::default()
        };
        assert_eq!(
            config.to_string(),
            "rate 1500kbit/s, delay 20ms, jitter uniform 1.5ms with overtaking, loss 7%"
        );
        let config = LinkConfig {
            state: Carrier::Down,
            reorder: Reorder {
                probability: 0.25,
                gap: 5,
            },
            queue: QueueConfig {
                discipline: Discipline::FqCodel(FqCodel::default()),
                limit_frames: 50,
                limit_bytes: None,
            },
            ..LinkConfig::default()
        };
        assert_eq!(
            config.to_string(),
            "down, reorder 25% of every 5th frame, queue fq-codel target 5ms interval 100ms ecn 1024 \
             flows quantum 1514 bytes, queue of 50 frames"
        );
    }

    #[test]
    fn small_probabilities_do_not_vanish() {
        assert_eq!(percent(1e-12), "1e-12");
        assert_eq!(percent(0.001), "0.1%");
        assert_eq!(percent(1.0), "100%");
    }
}
