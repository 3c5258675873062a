//! The journal and interfaces that are lent.
//!
//! What an interface loses when it leaves home is struck out of its home's journal. How it was
//! made and what was set on it is put aside, and stays in the record, so that a twin of the home
//! has it at home. When it comes home the entries return, under the name that it has then, with
//! what was set while it was away.

use super::{BridgeOp, IfOp, Journal, Key, Noted, Op};

/// What is noted of an interface that is lent.
#[derive(Debug)]
pub(super) struct Away {
    /// Of the loan.
    serial: u64,
    /// Its name at home.
    pub(super) name: Box<str>,
    /// The name that an init step gave it, if one made it, and no operation.
    pub(super) made_as: Option<Box<str>>,
    /// How it was set when it left.
    settings: Vec<Op>,
    pub(super) entries: Vec<(Key, Noted)>,
}

impl Away {
    /// A bridge at home, of which it is no member any more, has another name.
    pub(super) fn bridge_is_renamed(&mut self, from: &str, to: &str) {
        for (key, noted) in &mut self.entries {
            if let Some((bridge, member)) = left_bridge(key)
                && bridge == from
            {
                (*key, noted.op) = has_left(to, member);
            }
        }
    }

    /// The parent at home, of a VLAN interface that is lent, has another name.
    pub(super) fn parent_is_renamed(&mut self, from: &str, to: &str) {
        for (_, noted) in &mut self.entries {
            if let Op::Interface(_, IfOp::Vlan { parent, .. }) = &mut *noted.op
                && parent == from
            {
                to.clone_into(parent);
            }
        }
    }

    /// A bridge at home is gone.
    pub(super) fn forget_bridge(&mut self, bridge: &str) {
        let left = |key: &Key| left_bridge(key).is_some_and(|(left, _)| left == bridge);
        self.entries.retain(|(key, _)| !left(key));
    }
}

/// The bridge that an interface has left, which a step had made it a member of, and its name.
fn left_bridge(key: &Key) -> Option<(&str, &str)> {
    match key {
        Key::Without(key) => match &**key {
            Key::Member(bridge, member) => Some((bridge, member)),
            _ => None,
        },
        _ => None,
    }
}

fn has_left(bridge: &str, member: &str) -> (Key, Box<Op>) {
    let key = Key::Without(Box::new(Key::Member(bridge.into(), member.into())));
    let op = Op::Bridge(
        bridge.to_owned(),
        BridgeOp::RemoveMember {
            member: member.to_owned(),
        },
    );
    (key, Box::new(op))
}

/// An entry of an interface that was `from` when it left, and is `to` now that it is back. A bridge
/// that it has left keeps its name, whatever that is.
fn at_home(key: Key, mut noted: Noted, from: &str, to: &str) -> (Key, Noted) {
    let key = match left_bridge(&key) {
        Some((bridge, _)) => {
            let (key, op) = has_left(bridge, to);
            noted.op = op;
            key
        }
        None => {
            // Its parent may have the name by now that it had.
            match &mut *noted.op {
                Op::Interface(interface, IfOp::Vlan { .. }) => to.clone_into(interface),
                _ => noted.op = Box::new(noted.op.renamed(from, to)),
            }
            key.renamed(from, to)
        }
    };
    (key, noted)
}

impl Journal {
    /// Notes that an interface leaves its home: what it leaves behind, and how it is set.
    pub(crate) fn leaves(
        &mut self,
        serial: u64,
        name: &str,
        left_behind: Vec<Op>,
        settings: Vec<Op>,
    ) {
        left_behind.into_iter().for_each(|op| self.note(op));
        let made_as = match self.made(name) {
            Some(_) => None,
            None => Some(self.made_as(name)),
        };
        let entries = self.put_aside(name);
        self.away.push(Away {
            serial,
            name: name.into(),
            made_as,
            settings,
            entries,
        });
    }

    /// Notes that it is gone, wherever it was.
    pub(crate) fn ends(&mut self, serial: u64) {
        self.away.retain(|away| away.serial != serial);
    }

    /// Notes that it is at home again, as `name`.
    pub(crate) fn returns(&mut self, serial: u64, name: &str, settings: Vec<Op>) {
        let Some(at) = self.away.iter().position(|a| a.serial == serial) else {
            return;
        };
        let away = self.away.remove(at);
        for (key, noted) in away.entries {
            let (key, noted) = at_home(key, noted, &away.name, name);
            self.put_back(key, noted);
        }
        if let Some(made_as) = away.made_as {
            self.strays(made_as, name);
        }
        for op in settings {
            let it_was = op.interface().unwrap_or_default().to_owned();
            if !away
                .settings
                .contains(&op.clone().renamed(&it_was, &away.name))
            {
                self.note(op.renamed(&it_was, name));
            }
        }
    }
}
