//! The groups that a vnet listens to, by interface (RFC 1112 section 7.1).
//!
//! A host that has an address of IPv6 is in the group of those who may have it. No socket can join a group yet.

use std::collections::BTreeMap;

use super::family::Family;
use crate::base::id::IfId;

/// Joined groups, each with how often it was joined. Empty, it holds no memory.
#[derive(Clone, Debug)]
pub(crate) struct Groups<F: Family>(BTreeMap<(IfId, F::Addr), u32>);

impl<F: Family> Default for Groups<F> {
    fn default() -> Groups<F> {
        Groups(BTreeMap::new())
    }
}

impl<F: Family> Groups<F> {
    /// Joins `group` on an interface, or counts one more who did. True when nobody had.
    pub(crate) fn join(&mut self, group: F::Addr, ifid: IfId) -> bool {
        let joins = self.0.entry((ifid, group)).or_insert(0);
        *joins = joins.saturating_add(1);
        *joins == 1
    }

    /// Takes one join back. Does nothing when there is none. True when it was the last.
    pub(crate) fn leave(&mut self, group: F::Addr, ifid: IfId) -> bool {
        let Some(joins) = self.0.get_mut(&(ifid, group)) else {
            return false;
        };
        *joins -= 1;
        let is_left = *joins == 0;
        if is_left {
            self.0.remove(&(ifid, group));
        }
        is_left
    }

    /// Forgets the interface, and every group that was joined on it.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.0.retain(|(on, _), _| *on != ifid);
    }

    /// True when packets for `group` that come in on the interface are ours.
    pub(crate) fn is_member(&self, group: F::Addr, ifid: IfId) -> bool {
        group == F::ALL_NODES || self.0.contains_key(&(ifid, group))
    }

    /// The joined groups, by interface.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (F::Addr, IfId)> {
        self.0.keys().map(|(ifid, group)| (*group, *ifid))
    }

    /// True when no group is joined.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::family::testing::Drawn;
    use crate::ip::family::{V4, V6};
    use crate::ip::testing::interfaces;

    #[test]
    fn a_group_is_left_when_the_last_has_left() {
        comes_and_goes::<V4>();
        comes_and_goes::<V6>();
    }

    fn comes_and_goes<F: Drawn>() {
        let [a, b] = interfaces();
        let group = F::addr_of(0xff01_0203);
        let mut groups = Groups::<F>::default();
        groups.leave(group, a);
        groups.join(group, a);
        groups.join(group, a);
        assert!(groups.is_member(group, a) && !groups.is_member(group, b));
        assert!(groups.is_member(F::ALL_NODES, b));
        groups.leave(group, a);
        assert!(groups.is_member(group, a));
        groups.leave(group, a);
        assert!(!groups.is_member(group, a) && groups.is_empty());
        groups.join(group, b);
        groups.remove_interface(b);
        assert!(groups.is_empty());
    }
}
