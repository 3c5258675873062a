//! Topologies of IPv4 made into topologies of IPv6, so that what is tested of one family is tested of the other.

/// The text with each IPv4 address behind 96 bits of documentation prefix: 192.0.2.1/24 is 2001:db8::192.0.2.1/120.
pub(crate) fn in_ipv6(text: &str) -> String {
    translated(text, |_, v6| v6)
}

/// The text with both addresses wherever an end has one of IPv4, for texts whose addresses are all those of ends.
#[allow(dead_code, reason = "not each test that uses this file needs it")]
pub(crate) fn in_both(text: &str) -> String {
    translated(text, |v4, v6| format!("{v4} {v6}"))
}

fn translated(text: &str, with: impl Fn(&str, String) -> String) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '/';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let (address, length) = match word.split_once('/') {
            Some((address, length)) => (address, length.parse::<u8>().ok()),
            None => (word, None),
        };
        out += before;
        match address.parse::<std::net::Ipv4Addr>() {
            Ok(address) => {
                let length = length.map_or(String::new(), |length| format!("/{}", length + 96));
                out += &with(word, format!("2001:db8::{address}{length}"));
            }
            Err(_) => out += word,
        }
        rest = after;
    }
    out + rest
}
