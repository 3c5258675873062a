//! The groups that a vnet listens to, by interface (RFC 1112 section 7.1).
//!
//! Membership is not announced, because there is no IGMP.

use super::family::Family;
use crate::base::id::IfId;

/// Joined groups, each with the number of sockets that joined it. Empty, it holds no memory.
#[derive(Clone, Debug)]
pub(crate) struct Groups<F: Family>(Vec<Membership<F>>);

#[derive(Clone, Copy, Debug)]
struct Membership<F: Family> {
    group: F::Addr,
    ifid: IfId,
    joins: u32,
}

impl<F: Family> Default for Groups<F> {
    fn default() -> Groups<F> {
        Groups(Vec::new())
    }
}

impl<F: Family> Groups<F> {
    /// Joins `group` on an interface, or counts one more who did.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "no socket can join a group yet")
    )]
    pub(crate) fn join(&mut self, group: F::Addr, ifid: IfId) {
        match self.position(group, ifid) {
            Some(at) => self.0[at].joins = self.0[at].joins.saturating_add(1),
            None => self.0.push(Membership {
                group,
                ifid,
                joins: 1,
            }),
        }
    }

    /// Takes one join back. Does nothing when there is none.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "no socket can join a group yet")
    )]
    pub(crate) fn leave(&mut self, group: F::Addr, ifid: IfId) {
        let Some(at) = self.position(group, ifid) else {
            return;
        };
        self.0[at].joins -= 1;
        if self.0[at].joins == 0 {
            self.0.remove(at);
        }
    }

    /// Forgets the interface, and every group that was joined on it.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        self.0.retain(|m| m.ifid != ifid);
    }

    /// True when packets for `group` that come in on the interface are ours.
    pub(crate) fn is_member(&self, group: F::Addr, ifid: IfId) -> bool {
        group == F::ALL_NODES || self.position(group, ifid).is_some()
    }

    /// The joined groups, in the order they were first joined.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (F::Addr, IfId)> {
        self.0.iter().map(|m| (m.group, m.ifid))
    }

    /// True when no group is joined.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, group: F::Addr, ifid: IfId) -> Option<usize> {
        self.0
            .iter()
            .position(|m| m.group == group && m.ifid == ifid)
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
