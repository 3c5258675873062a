//! What administration does in the life of every instance: the init steps of its interfaces, and
//! what a child inherits of its parent.

use std::sync::Arc;

use super::interfaces::{add_loopback, remove_interface};
use super::moves;
use super::sysctl;
use crate::instance::cores::VnetCore;
use crate::instance::error::StepError;
use crate::instance::init::InitRecord;
use crate::instance::journal::{Op, VnetOp};
use crate::instance::limits::{self, Resource};
use crate::instance::phase::{Entry, Gone};
use crate::instance::steps::Stage;
use crate::instance::system::Rooms;
use crate::instance::vnet::Vnet;

/// What a new system is told of administration.
pub(crate) fn rooms() -> Rooms {
    Rooms {
        steps: vec![
            InitRecord::new("netif", Stage::Interfaces, 0, |_| Ok(()), remove_all),
            InitRecord::new(
                "loopback",
                Stage::InterfaceAttach,
                0,
                |vnet| Ok(add_loopback(vnet)?),
                // It goes with the other interfaces.
                |_| Ok(()),
            ),
        ],
        inherit,
    }
}

/// The protocols are finished, and their last words have been sent through all interfaces. Those of
/// others go before those of its own.
fn remove_all(vnet: &Vnet) -> Result<(), StepError> {
    let ended = moves::vacate(&vnet.core);
    vnet.core.enter_for_step(|inside, cx| {
        inside.loans.ended = ended;
        for id in inside.stack.ifs.ids() {
            remove_interface(&mut inside.stack, cx, id);
        }
        if let Some(bridges) = inside.stack.bridges.made() {
            bridges.reset();
        }
        inside.stack.lldp.reset();
    })
}

/// Gives a child that is being made the tunables and limits of its parent.
pub(crate) fn inherit(child: &Arc<VnetCore>, parent: &Arc<VnetCore>) -> Result<(), Gone> {
    let (tunables, limits) = parent.enter_as(Entry::User, |inside, _| {
        let limits = inside.stack.limits.in_effect();
        (sysctl::snapshot(&inside.stack), limits)
    })?;
    child.enter_as(Entry::Lifecycle, |inside, _| {
        sysctl::inherit(&mut inside.stack, &tunables);
        for (name, value) in sysctl::changed(&inside.stack) {
            let name = name.to_owned();
            inside
                .journal
                .note(Op::Vnet(VnetOp::SetSysctl { name, value }));
        }
        // Behind the tunables: where one is the other, the limit has the wider range.
        let defaults = limits::defaults();
        for ((resource, limit), default) in Resource::ALL.iter().zip(limits).zip(defaults) {
            let resource = *resource;
            limits::set_in(child, &mut inside.stack, resource, limit);
            if limit != default {
                inside
                    .journal
                    .note(Op::Vnet(VnetOp::SetLimit { resource, limit }));
            }
        }
    })
}

/// Takes from a child what it has inherited, since its record says what it is to have.
pub(crate) fn disinherit(child: &Arc<VnetCore>) -> Result<(), Gone> {
    if child.parent.is_none() {
        return Ok(());
    }
    child.enter_as(Entry::User, |inside, _| {
        for op in inside.journal.take_settings() {
            match op {
                Op::Vnet(VnetOp::SetSysctl { name, .. }) => {
                    sysctl::reset(&mut inside.stack, &name);
                    limits::tell_others(child, &inside.stack);
                }
                Op::Vnet(VnetOp::SetLimit { resource, .. }) => {
                    let default = limits::defaults()[resource as usize];
                    limits::set_in(child, &mut inside.stack, resource, default);
                }
                _ => {}
            }
        }
    })
}
