//! How a bridge snoops on who is in which group.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::base::config::ConfigError;
use crate::base::switch::Switch;
use crate::base::time::Duration;

/// How a bridge reads from IGMP and MLD where packets to groups of IPv4 and IPv6 have to go (RFC 4541).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snooping {
    /// The address from which the bridge asks who is in which group of IPv4, as a router would: where neither a router nor
    /// a querier asks, nobody answers, and groups go everywhere. Of several, the one with the least address asks. It
    /// asks in the VLANs in which it has members without tags. By default it does not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub querier: Option<Ipv4Addr>,
    /// The same for groups of IPv6, by MLD: a link-local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub querier_v6: Option<Ipv6Addr>,
    /// The interval between queries, from 10 s to 1 h; the default is 125 s (RFC 9776). Memberships and routers
    /// expire after twice that and 10 s, so the whole network should use the same interval.
    pub query_interval: Duration,
    /// Whether a group ends at a member as soon as one host behind it has left, without a query for others; for
    /// members with a single host behind them. Off by default.
    pub fast_leave: Switch,
    /// Whether packets to groups without known members go to all members, or only to those that lead to routers,
    /// where there is a querier. On by default: they go to all.
    pub unknown: Switch,
    /// The number of groups that are remembered, in all VLANs together; the default is 1024. Others are treated like
    /// groups without known members.
    pub max_groups: u32,
}

impl Default for Snooping {
    fn default() -> Snooping {
        Snooping {
            querier: None,
            querier_v6: None,
            query_interval: Duration::from_secs(125),
            fast_leave: Switch::Off,
            unknown: Switch::On,
            max_groups: 1024,
        }
    }
}

impl Snooping {
    /// Checks what has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let range = Duration::from_secs(10)..=Duration::from_secs(3600);
        if !range.contains(&self.query_interval) {
            let given = self.query_interval;
            let message = format!("query_interval: 10 s to 1 h, not {given:?}");
            return Err(ConfigError::new("query_interval", message));
        }
        // RFC 3810 section 5.1.14: hosts do not hear a question from another address.
        if let Some(address) = self.querier_v6
            && !address.is_unicast_link_local()
        {
            let message = format!("querier_v6: a link-local address, not {address}");
            return Err(ConfigError::new("querier_v6", message));
        }
        match self.querier {
            Some(address)
                if address.is_unspecified() || address.is_multicast() || address.is_broadcast() =>
            {
                let message = format!("querier: the address of a host, not {address}");
                Err(ConfigError::new("querier", message))
            }
            _ => Ok(()),
        }
    }
}
