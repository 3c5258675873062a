//! Quantities as people read them.

/// `bytes` in `took_ns`, in bits per second; zero when no time passed.
pub(crate) fn bits_per_second(bytes: u64, took_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    let rate = bits.checked_div(u128::from(took_ns)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// How much, in what time, and so how fast.
pub(crate) fn rate(bytes: u64, took_ns: u64) -> String {
    let seconds = millis(took_ns / 1000);
    let mbit = bits_per_second(bytes, took_ns) as f64 / 1e6;
    format!("{bytes} bytes in {seconds} s, {mbit:.2} Mbit/s")
}

/// Nanoseconds as milliseconds with three digits.
pub(crate) fn millis(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000)
}
