//! The one way in which configuration is changed, so that all of it is noted.

use super::apart::check_no_part;
use super::cores::{Inside, VnetCore};
use super::journal::{IfOp, Op};
use super::phase::{Entry, Gone, Phase};
use super::privilege::Authority;
use super::vnet::Vnet;
use crate::packet::Cx;
use crate::stack::Stack;
use crate::trace;

impl Vnet {
    /// Changes the configuration: runs `change` on the stack, and notes the operation that it
    /// returns in the same entry. The only way in which administrative methods enter.
    /// What belongs to a moment only is no operation: then it returns none.
    pub(crate) fn configure<E: From<Gone>, O: Into<Option<Op>>>(
        &self,
        change: impl FnOnce(&mut Stack, &mut Cx) -> Result<O, E>,
    ) -> Result<(), E> {
        check_no_part();
        let done = self.core.enter_as(Entry::User, |inside, cx| {
            let op = change(&mut inside.stack, cx).map(Into::into);
            // Whatever becomes of the operation: their names may be others' from now on.
            inside.journal.lose(inside.stack.ifs.take_gone());
            let Some(op) = op? else {
                return Ok(None);
            };
            let said = tracing::enabled!(target: trace::CONFIG, tracing::Level::DEBUG)
                .then(|| op.to_string());
            self.note(inside, op);
            Ok(said)
        });
        self.core.driver.dispatch();
        if let Some(said) = done.map_err(E::from).and_then(|done| done)? {
            let vnet = self.name();
            tracing::debug!(target: trace::CONFIG, vnet, "{said}");
        }
        Ok(())
    }

    /// Notes an operation that has taken effect on the stack, unless init steps do it in every instance.
    pub(crate) fn note(&self, inside: &mut Inside, op: Op) {
        let by_step = self.authority == Authority::System;
        // Before the instance is up, nobody but its steps has a handle, of whatever kind.
        let starting = inside.phase == Phase::Starting;
        if !by_step && !starting {
            match concerns_borrowed(&inside.stack, &op) {
                true => inside.journal.note_borrowed(&op),
                false => inside.journal.note(op),
            }
        }
    }
}

impl VnetCore {
    /// Notes an operation that took effect elsewhere than on the stack.
    pub(crate) fn note(&self, op: Op) {
        self.alive(|live| live.inside.journal.note(op));
    }
}

/// Whether an operation concerns an interface that belongs to another vnet: a twin has no such one.
fn concerns_borrowed(stack: &Stack, op: &Op) -> bool {
    let interface = match op {
        // By now it has its new name.
        Op::Interface(_, IfOp::RenameInterface { name, .. }) => Some(name.as_str()),
        op => op.interface(),
    };
    let mut named = [interface, op.member()].into_iter().flatten();
    named.any(|name| {
        let id = stack.ifs.id_of(name);
        id.is_ok_and(|id| stack.ifs.is_on_borrowed(id))
    })
}
