//! Quantities as they are written in a topology: a decimal number and its unit. Everything is
//! computed in integers, so `0.1s` is exactly 100 000 000 ns.

use std::time::Duration;

/// Bits per second: `bit/s`, `kbit/s`, `Mbit/s`, `Gbit/s` (powers of 1000; `/s` may be left out).
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let expected = || {
        format!(
            "expected a rate such as \"100Mbit/s\" (in bit/s, kbit/s, Mbit/s or Gbit/s; a whole number of bit/s), found \"{text}\""
        )
    };
    let (number, unit) = split(text);
    let scale = match unit.strip_suffix("/s").unwrap_or(unit) {
        "bit" => 1,
        "kbit" => 1_000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        _ => return Err(expected()),
    };
    match decimal(number, scale).and_then(|v| u64::try_from(v).ok()) {
        None => Err(expected()),
        Some(0) => Err("a rate must be at least 1bit/s".to_owned()),
        Some(v) => Ok(v),
    }
}

/// A length of time: `ns`, `us` (or `µs`), `ms`, `s`, `min`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || {
        format!(
            "expected a time such as \"5ms\" (in ns, us, ms, s or min; a whole number of ns), found \"{text}\""
        )
    };
    let (number, unit) = split(text);
    let scale = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        _ => return Err(expected()),
    };
    let nanos = decimal(number, scale).ok_or_else(expected)?;
    let nanos = u64::try_from(nanos).map_err(|_| expected())?;
    Ok(Duration::from_nanos(nanos))
}

/// A length of time above zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() {
        return Err(format!(
            "expected a time longer than zero, found \"{text}\""
        ));
    }
    Ok(time)
}

/// A probability as a percentage, `0%` to `100%`.
pub(crate) fn percentage(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a percentage from \"0%\" to \"100%\", found \"{text}\"");
    let (number, unit) = split(text);
    if unit != "%" {
        return Err(expected());
    }
    // In units of 10^-12, so that what is written is what is meant.
    let pico = decimal(number, 10_000_000_000).ok_or_else(expected)?;
    if pico > 1_000_000_000_000 {
        return Err(expected());
    }
    Ok(pico as f64 / 1e12)
}

/// A number of bytes: `B`, `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB` (powers of 1024).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected = || {
        format!(
            "expected a size such as \"1MiB\" (in B, kB, MB, GB, KiB, MiB or GiB; a whole number of bytes), found \"{text}\""
        )
    };
    let (number, unit) = split(text);
    let scale = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(expected()),
    };
    let bytes = decimal(number, scale).ok_or_else(expected)?;
    u64::try_from(bytes).map_err(|_| expected())
}

/// The number and the unit; one space may stand between them.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.strip_prefix(' ').unwrap_or(unit))
}

/// `number * scale`; `None` when it is not a decimal number, is absurdly large, or no whole number
/// comes out: what is written is what is meant, or it is refused.
fn decimal(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let tenths = 10u128.pow(fraction.len() as u32);
    let fraction: u128 = fraction.parse().ok()?;
    let parts = fraction * scale;
    parts
        .is_multiple_of(tenths)
        .then(|| whole * scale + parts / tenths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(rate("100Mbit/s"), Ok(100_000_000));
        assert_eq!(rate("1.5Gbit"), Ok(1_500_000_000));
        assert_eq!(rate("9600 bit/s"), Ok(9600));
        assert_eq!(duration("0.1s"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("2.5us"), Ok(Duration::from_nanos(2500)));
        assert_eq!(duration("2.5µs"), Ok(Duration::from_nanos(2500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("1min"), Ok(Duration::from_secs(60)));
        assert_eq!(percentage("1%"), Ok(0.01));
        assert_eq!(percentage("0.5 %"), Ok(0.005));
        assert_eq!(percentage("100%"), Ok(1.0));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1.5kB"), Ok(1500));
        assert_eq!(size("0B"), Ok(0));
    }

    #[test]
    fn what_is_less_than_the_least_is_refused_and_not_rounded() {
        for bad in ["0.1B", "1.5B", "1.0005kB", "0.0001KiB", "1bit", "8bit"] {
            assert!(size(bad).expect_err(bad).contains("whole number of bytes"));
        }
        for bad in ["0.4bit/s", "1.5bit/s", "0.0001kbit/s"] {
            assert!(rate(bad).expect_err(bad).contains("whole number of bit/s"));
        }
        for bad in ["0.1ns", "0.0001us", "0.0000000001s"] {
            assert!(duration(bad).expect_err(bad).contains("whole number of ns"));
        }
        assert!(percentage("0.00000000001%").is_err());
        assert_eq!(percentage("0.0000000001%"), Ok(1e-12));
        assert_eq!(size("0.5KiB"), Ok(512));
        assert_eq!(rate("0.001kbit/s"), Ok(1));
    }

    #[test]
    fn a_bad_quantity_says_what_was_expected() {
        for bad in [
            "", "100", "Mbit/s", "100MB/s", "-1bit", "1e9bit", "1.bit", ".5bit",
        ] {
            let said = rate(bad).expect_err(bad);
            assert!(said.contains("100Mbit/s") && said.contains(&format!("\"{bad}\"")));
        }
        assert!(rate("0bit/s").is_err());
        assert!(rate("0.4bit/s").is_err());
        assert!(rate("99999999999999999Gbit").is_err());
        assert!(rate("9999999999999999999999999999999999999999bit").is_err());
        for bad in ["", "5", "5m", "5 sec", "-5ms", "1..5ms", "5  ms"] {
            assert!(duration(bad).expect_err(bad).contains("5ms"));
        }
        for bad in ["", "1", "0.01", "101%", "100.0001%", "-1%"] {
            assert!(percentage(bad).expect_err(bad).contains("100%"));
        }
        for bad in ["", "1", "1M", "1 mb"] {
            assert!(size(bad).expect_err(bad).contains("1MiB"));
        }
    }
}
