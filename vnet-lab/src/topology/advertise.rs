//! What a router says in its advertisements on a link: `advertise` of an end or of a VLAN interface.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use toml::Spanned;
use toml::de::DeValue;
use vnet::{RouterConfig, RouterPreference, RouterPrefix, RouterRoute};

use crate::file::source::Problems;
use crate::file::table::{Table, Value, as_string, checked, kind};
use crate::file::units::duration;

/// RFC 4861 section 6.2.1: how long prefixes are valid, and addresses of them preferred, unless it is said.
const VALID: u32 = 30 * 86_400;
const PREFERRED: u32 = 7 * 86_400;

/// Reads the table.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Spanned<RouterConfig>> {
    let before = problems.count();
    let mut table = Table::of("`advertise`", value, problems)?;
    let lifetime = table.read("lifetime", router_lifetime, problems);
    let preference = table.read("preference", preference, problems);
    let hop_limit = table.integer("hop_limit", 1..=255, problems);
    let mtu = table.integer("mtu", 1280..=65_535, problems);
    let prefixes = prefixes(&mut table, problems);
    let routes = table.array("routes", problems).into_iter();
    let routes = routes.filter_map(|value| route(value, problems)).collect();
    let dns = table.strings("dns", problems).into_iter();
    let dns = dns.filter_map(|text| checked(text, server, problems));
    let dns = dns.map(Spanned::into_inner).collect();
    let search = table.strings("search", problems).into_iter();
    let search = search.map(|name| name.into_inner().to_owned()).collect();
    table.finish(problems);
    let small = |n: Spanned<u64>| u16::try_from(n.into_inner()).ok();
    let config = RouterConfig {
        lifetime: lifetime.map(Spanned::into_inner),
        preference: preference.map_or_else(RouterPreference::default, Spanned::into_inner),
        hop_limit: hop_limit.and_then(|n| u8::try_from(n.into_inner()).ok()),
        mtu: mtu.and_then(small),
        prefixes,
        routes,
        dns,
        search,
    };
    // What a key has said of itself is not said again of the whole.
    if problems.count() == before
        && let Err(error) = config.validate()
    {
        problems.push(value.span(), error.to_string());
    }
    Some(Spanned::new(value.span(), config))
}

/// `prefixes = ["2001:db8::/64", { net = "2001:db8:0:1::/64", valid = "60min", preferred = "30min" }]`
fn prefixes(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Vec<RouterPrefix>> {
    let given = table.array("prefixes", problems);
    table.key_span("prefixes")?;
    let mut prefixes = Vec::new();
    for value in given {
        let prefix = match value.get_ref() {
            DeValue::String(_) => {
                let text = as_string(value, "each of `prefixes`", problems);
                let net = text.and_then(|text| checked(text, prefix, problems));
                net.map(|net| said(net.into_inner(), None, None, None))
            }
            DeValue::Table(_) => long_prefix(value, problems),
            other => {
                let found = kind(other);
                let message = format!("expected a prefix or a table with `net`, found {found}");
                problems.push(value.span(), message);
                None
            }
        };
        prefixes.extend(prefix);
    }
    Some(prefixes)
}

fn long_prefix(value: Value<'_>, problems: &mut Problems<'_>) -> Option<RouterPrefix> {
    let mut table = Table::of("each of `prefixes`", value, problems)?;
    let net = table.read("net", prefix, problems);
    let valid = table.read("valid", lifetime, problems);
    let preferred = table.read("preferred", lifetime, problems);
    let autonomous = table.boolean("autonomous", problems);
    if table.key_span("net").is_none() {
        table.missing("net", "a prefix such as 2001:db8::/64", problems);
    }
    table.finish(problems);
    let inner = |time: Option<Spanned<u32>>| time.map(Spanned::into_inner);
    let net = net?.into_inner();
    Some(said(net, inner(valid), inner(preferred), autonomous))
}

/// What is said of a prefix. Hosts give themselves addresses of those that have room for an identifier (RFC 4862
/// section 5.5.3).
fn said(
    net: Ipv6Net,
    valid: Option<u32>,
    preferred: Option<u32>,
    autonomous: Option<bool>,
) -> RouterPrefix {
    let valid = valid.unwrap_or(VALID);
    let is_autonomous = autonomous.unwrap_or(preferred.is_some() || net.prefix_len() == 64);
    RouterPrefix {
        net,
        valid,
        preferred: is_autonomous.then(|| preferred.unwrap_or(PREFERRED.min(valid))),
    }
}

/// `routes = [{ net = "2001:db8:1::/48", lifetime = "30min", preference = "high" }]`
fn route(value: Value<'_>, problems: &mut Problems<'_>) -> Option<RouterRoute> {
    let mut table = Table::of("each of `routes`", value, problems)?;
    let net = table.read("net", prefix, problems);
    let time = table.read("lifetime", lifetime, problems);
    let preference = table.read("preference", preference, problems);
    for (key, expected) in [
        ("net", "a prefix such as 2001:db8:1::/48"),
        ("lifetime", "a time such as \"30min\""),
    ] {
        if table.key_span(key).is_none() {
            table.missing(key, expected, problems);
        }
    }
    table.finish(problems);
    Some(RouterRoute {
        net: net?.into_inner(),
        lifetime: time?.into_inner(),
        preference: preference.map_or_else(RouterPreference::default, Spanned::into_inner),
    })
}

/// A time that is told in seconds, of which the last number is without end.
fn lifetime(text: &str) -> Result<u32, String> {
    if text == "forever" {
        return Ok(u32::MAX);
    }
    let time = duration(text)?;
    let seconds = u32::try_from(time.as_secs()).ok();
    let whole = seconds.filter(|seconds| time.subsec_nanos() == 0 && *seconds < u32::MAX);
    whole
        .ok_or_else(|| format!("expected a time in whole seconds or \"forever\", found \"{text}\""))
}

/// RFC 4861 section 4.2: that of a router has fewer bits.
fn router_lifetime(text: &str) -> Result<u16, String> {
    let time = duration(text)?;
    let seconds = u16::try_from(time.as_secs()).ok();
    let whole = seconds.filter(|seconds| time.subsec_nanos() == 0 && *seconds <= 9000);
    whole.ok_or_else(|| format!("expected a time in whole seconds, at most 9000, found \"{text}\""))
}

fn preference(text: &str) -> Result<RouterPreference, String> {
    match text {
        "low" => Ok(RouterPreference::Low),
        "medium" => Ok(RouterPreference::Medium),
        "high" => Ok(RouterPreference::High),
        _ => Err(format!(
            "expected \"low\", \"medium\" or \"high\", found \"{text}\""
        )),
    }
}

fn prefix(text: &str) -> Result<Ipv6Net, String> {
    match text.parse() {
        Ok(IpNet::V6(net)) if net.trunc() == net => Ok(net),
        Ok(IpNet::V6(net)) => Err(format!(
            "{net} has bits set behind its prefix: expected {}",
            net.trunc()
        )),
        _ => Err(format!(
            "expected a prefix of IPv6 such as 2001:db8::/64, found \"{text}\""
        )),
    }
}

fn server(text: &str) -> Result<Ipv6Addr, String> {
    let expected = || format!("expected an IPv6 address such as 2001:db8::53, found \"{text}\"");
    text.parse().map_err(|_| expected())
}
