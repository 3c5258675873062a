//! What a router says on the link of an interface where it is told to say something else than what follows from the
//! addresses there (RFC 4861 section 6.2.1, RFC 4191, RFC 8106).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::MIN_MTU;
use crate::base::config::ConfigError;
use crate::packet::MacAddr;
use crate::packet::header::ipv6::MIN_LEN;
use crate::packet::header::ra::{Advert, Dns, MAX_OPTIONS, Preference, Prefix, Route, is_name};

/// What a router advertises on the link of one interface; see [`Vnet::set_router`](crate::Vnet::set_router). Times
/// are in seconds, and [`u32::MAX`] means infinity.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// How long it is a default router, at most 9000; with 0 it is not one, and only describes its link. The default
    /// is three times the interval between its advertisements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u16>,
    /// Its preference as a default router (RFC 4191).
    pub preference: Preference,
    /// The hop limit that hosts are to use; by default that of the vnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop_limit: Option<u8>,
    /// The MTU of the link, at least 1280; by default that of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The prefixes of the link; by default those of the interface's addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<RouterPrefix>>,
    /// Further routes through it (RFC 4191).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouterRoute>,
    /// DNS servers (RFC 8106), for as long as it is a default router by its interval.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// Search domains (RFC 8106).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// A prefix that a router advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterPrefix {
    /// The prefix.
    pub net: Ipv6Net,
    /// How long addresses in it are on the link.
    pub valid: u32,
    /// How long the addresses that hosts give themselves are preferred, at most as long as the prefix is valid; with
    /// none, hosts give themselves no addresses of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<u32>,
}

/// A route that a router advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterRoute {
    /// Its destination.
    pub net: Ipv6Net,
    /// Its lifetime.
    pub lifetime: u32,
    /// Its preference over routes of other routers.
    #[serde(default)]
    pub preference: Preference,
}

/// RFC 4861 section 6.2.1.
const MAX_LIFETIME: u16 = 9000;

impl RouterConfig {
    /// Checks that it can be advertised.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fails = |setting, message: &str| Err(ConfigError::new(setting, message));
        if self.lifetime.is_some_and(|seconds| seconds > MAX_LIFETIME) {
            return fails("lifetime", "a router is one for at most 9000 s");
        }
        if self.hop_limit == Some(0) {
            return fails("hop_limit", "a hop limit is 1 to 255");
        }
        if self.mtu.is_some_and(|mtu| u32::from(mtu) < MIN_MTU) {
            return fails("mtu", "links of IPv6 have an MTU of at least 1280 bytes");
        }
        let prefixes = self.prefixes.as_deref().unwrap_or_default();
        if prefixes.len() > MAX_OPTIONS {
            return fails("prefixes", "a router tells of at most 16 prefixes");
        }
        let outlives = |p: &RouterPrefix| p.preferred.is_some_and(|preferred| preferred > p.valid);
        if prefixes.iter().any(outlives) {
            return fails(
                "prefixes",
                "an address is preferred no longer than its prefix is valid",
            );
        }
        if self.routes.len() > MAX_OPTIONS {
            return fails("routes", "a router tells of at most 16 routes");
        }
        if !self.search.iter().all(|name| is_name(name)) {
            return fails(
                "search",
                "a domain has labels of 1 to 63 letters, digits, '-' and '_', and at most 253 bytes",
            );
        }
        // RFC 4861 section 6.2.3: all of it in one message that every link takes.
        let mut said = Advert {
            source: Some(MacAddr::ZERO),
            ..Advert::default()
        };
        if self.prefixes.is_none() {
            // Those of the interface's addresses, of which there may be as many.
            let any = Prefix {
                net: Ipv6Net::default(),
                is_on_link: true,
                is_autonomous: true,
                valid: 0,
                preferred: 0,
            };
            said.prefixes = std::iter::repeat_n(any, MAX_OPTIONS).collect();
        }
        self.say(&mut said, 1);
        match said.to_bytes().len() + MIN_LEN <= MIN_MTU as usize {
            true => Ok(()),
            false => fails("router", "it does not fit one message of 1280 bytes"),
        }
    }

    /// Says this in an advertisement that has what follows from configuration, by a router that speaks for so many
    /// seconds; none if it takes leave.
    pub(crate) fn say(&self, said: &mut Advert, seconds: u32) {
        if seconds > 0 {
            said.lifetime = self.lifetime.unwrap_or(said.lifetime);
        }
        said.preference = self.preference;
        said.hop_limit = self.hop_limit.unwrap_or(said.hop_limit);
        said.mtu = self.mtu.map(u32::from).or(said.mtu);
        if let Some(prefixes) = &self.prefixes {
            let prefixes = prefixes.iter().map(|prefix| Prefix {
                net: prefix.net.trunc(),
                is_on_link: true,
                is_autonomous: prefix.preferred.is_some(),
                valid: prefix.valid,
                preferred: prefix.preferred.unwrap_or_default(),
            });
            said.prefixes = prefixes.collect();
        }
        let routes = self.routes.iter().map(|route| Route {
            net: route.net.trunc(),
            preference: route.preference,
            lifetime: if seconds > 0 { route.lifetime } else { 0 },
        });
        said.routes = routes.collect();
        if !self.dns.is_empty() {
            said.dns.push(Dns {
                lifetime: seconds,
                servers: self.dns.clone(),
                search: Vec::new(),
            });
        }
        if !self.search.is_empty() {
            said.dns.push(Dns {
                lifetime: seconds,
                servers: Vec::new(),
                search: self.search.clone(),
            });
        }
    }
}
