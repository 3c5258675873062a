//! Quantities as people read them: rounded to three significant digits, with a unit.

use std::time::Duration;

const TIMES: [(u64, &str); 4] = [
    (1, "ns"),
    (1_000, "µs"),
    (1_000_000, "ms"),
    (1_000_000_000, "s"),
];
const SIZES: [(u64, &str); 5] = [
    (1, "B"),
    (1_000, "kB"),
    (1_000_000, "MB"),
    (1_000_000_000, "GB"),
    (1_000_000_000_000, "TB"),
];
const RATES: [(u64, &str); 5] = [
    (1, "bit/s"),
    (1_000, "kbit/s"),
    (1_000_000, "Mbit/s"),
    (1_000_000_000, "Gbit/s"),
    (1_000_000_000_000, "Tbit/s"),
];

/// `bytes` in `took_ns`, in bits per second; zero when no time passed.
pub(crate) fn bits_per_second(bytes: u64, took_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    let rate = bits.checked_div(u128::from(took_ns)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A length of time in nanoseconds, such as `1.23 ms`.
pub(crate) fn time_ns(ns: u64) -> String {
    shown(ns, &TIMES)
}

/// A length of time, such as `1.23 ms`.
pub(crate) fn time(time: Duration) -> String {
    time_ns(nanos(time))
}

/// Three lengths of time in the unit of the longest, such as `0.123/1.23/12.3 ms`.
pub(crate) fn times_ns(times: [u64; 3]) -> String {
    let longest = times.into_iter().max().unwrap_or_default();
    let (scale, unit) = unit_of(rounded(longest), &TIMES);
    let [a, b, c] = times.map(|ns| in_unit(ns, scale));
    format!("{a}/{b}/{c} {unit}")
}

/// The same of durations.
pub(crate) fn times(times: &[Duration; 3]) -> String {
    times_ns(times.map(nanos))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A number of bytes, such as `1.05 MB`.
pub(crate) fn size(bytes: u64) -> String {
    shown(bytes, &SIZES)
}

/// A rate in bits per second, such as `9.57 Mbit/s`.
pub(crate) fn rate(bps: u64) -> String {
    shown(bps, &RATES)
}

/// How much, in what time, and so how fast. What took no time has no rate.
pub(crate) fn carried(bytes: u64, took_ns: u64) -> String {
    let carried = format!("{} in {}", size(bytes), time_ns(took_ns));
    match (bytes, took_ns) {
        (0, 0) => "nothing arrived".to_owned(),
        (_, 0) => carried,
        _ => format!("{carried}, {}", rate(bits_per_second(bytes, took_ns))),
    }
}

/// A number in groups of three digits, such as `12 345`. It is not rounded.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things, such as `1 job` and `2 jobs`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

fn shown(n: u64, units: &[(u64, &'static str)]) -> String {
    let (scale, unit) = unit_of(rounded(n), units);
    format!("{} {unit}", in_unit(n, scale))
}

/// The largest unit that `n` has at least one of.
fn unit_of(n: u64, units: &[(u64, &'static str)]) -> (u64, &'static str) {
    let fitting = units.iter().rev().find(|(scale, _)| *scale <= n);
    *fitting.unwrap_or(&units[0])
}

/// Three significant digits of `n`, in a unit.
fn in_unit(n: u64, scale: u64) -> String {
    let n = rounded(n);
    let value = n as f64 / scale as f64;
    let decimals = match value {
        _ if n == 0 || scale == 1 => 0,
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        v if v >= 0.01 => 4,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

/// `n` with all but its first three digits zero.
fn rounded(n: u64) -> u64 {
    let digits = n.checked_ilog10().map_or(1, |log| log + 1);
    let step = 10u64.pow(digits.saturating_sub(3));
    n.saturating_add(step / 2) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_significant() {
        let cases = [
            (0, "0 ns"),
            (7, "7 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_234, "1.23 µs"),
            (1_235, "1.24 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (123_456_789, "123 ms"),
            (1_500_000_000, "1.50 s"),
            (3_600_000_000_000, "3600 s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(time_ns(ns), expected);
        }
        assert!(time_ns(u64::MAX).ends_with(" s"), "the largest time");
        assert_eq!(size(1_048_576), "1.05 MB");
        assert_eq!(size(12), "12 B");
        assert_eq!(rate(9_999_999), "10.0 Mbit/s");
    }

    #[test]
    fn several_times_have_one_unit() {
        assert_eq!(
            times_ns([123_456, 1_000_000, 20_000_000]),
            "0.123/1.00/20.0 ms"
        );
        assert_eq!(times_ns([0, 5, 90]), "0/5/90 ns");
    }

    #[test]
    fn digits_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (2980, "2 980"), (12_345, "12 345")];
        for (n, expected) in cases {
            assert_eq!(count(n), expected);
        }
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(counted(1, "job"), "1 job");
        assert_eq!(counted(0, "job"), "0 jobs");
    }

    #[test]
    fn rates_are_exact() {
        assert_eq!(bits_per_second(1_250_000, 1_000_000_000), 10_000_000);
        assert_eq!(bits_per_second(u64::MAX, 1), u64::MAX);
        assert_eq!(bits_per_second(5, 0), 0);
        assert_eq!(carried(0, 0), "nothing arrived");
        assert_eq!(carried(65_536, 0), "65.5 kB in 0 ns");
        assert_eq!(
            carried(1_048_576, 838_860_800),
            "1.05 MB in 839 ms, 10.0 Mbit/s"
        );
    }
}
