//! What an interface is a member of: the interface that has its frames in its stead.

use super::bridge::config::Membership;
use super::lagg::config::LaggMembership;

/// What an interface is a member of. It is of one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// A bridge, which is given what comes in.
    Bridge(Membership),
    /// A lagg, which has what comes in as its own.
    Lagg(LaggMembership),
}

impl Member {
    /// The membership, when it is of a bridge.
    #[inline]
    pub(crate) const fn of_bridge(&self) -> Option<&Membership> {
        match self {
            Member::Bridge(member) => Some(member),
            Member::Lagg(_) => None,
        }
    }
}
