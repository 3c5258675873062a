//! How a socket is bound.

use crate::transport::ports::Reuse;

/// Options that must be known before a socket is bound. The defaults are those of a new socket of BSD or Linux; the
/// standard library's listeners differ in [`Reuse::Shared`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BindOptions {
    /// Connections that may wait to be accepted; 128 by default. Only listeners look at it.
    pub backlog: usize,
    /// Whether others may have the same address (`SO_REUSEADDR`, `SO_REUSEPORT`); [`Reuse::Exclusive`] by default.
    pub reuse: Reuse,
    /// Whether an IPv6 socket is for IPv6 alone (`IPV6_V6ONLY`). One that is not takes IPv4 as well, whose addresses it
    /// shows as mapped (`::ffff:192.0.2.1`). By default `net.inet6.ip6.v6only` decides, which is off in a new vnet, as
    /// on Linux. IPv4 sockets ignore it.
    pub only_v6: Option<bool>,
}

impl Default for BindOptions {
    fn default() -> BindOptions {
        BindOptions {
            backlog: 128,
            reuse: Reuse::Exclusive,
            only_v6: None,
        }
    }
}
