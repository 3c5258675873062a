//! Starting, listing and stopping the captures of an interface.

use std::sync::Arc;

use crate::base::id::IfId;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::netif::{AdminError, CaptureId, FrameTap};

/// A capture that goes on until this is dropped, or its interface goes away.
///
/// It must not be dropped by a [`FrameTap`] that is being called, because the vnet is locked then.
#[must_use = "the capture ends when this is dropped"]
pub struct Capture {
    vnet: Vnet,
    ifid: IfId,
    id: CaptureId,
}

impl Vnet {
    /// Shows every frame of an interface to `tap` from now on, until the interface is removed.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn capture(&self, name: &str, tap: Arc<dyn FrameTap>) -> Result<(), AdminError> {
        self.watch(name, tap).map(|_| ())
    }

    /// Like [`Vnet::capture`], until the returned value is dropped or the interface is removed.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn start_capture(&self, name: &str, tap: Arc<dyn FrameTap>) -> Result<Capture, AdminError> {
        let (ifid, id) = self.watch(name, tap)?;
        Ok(Capture {
            vnet: self.clone(),
            ifid,
            id,
        })
    }

    /// The descriptions of an interface's captures ([`FrameTap::describe`]), in the order in which they began.
    ///
    /// # Errors
    /// No interface of that name.
    pub fn captures(&self, name: &str) -> Result<Vec<String>, AdminError> {
        self.require(Privilege::Capture)?;
        self.with_netif(name, |netif, _| netif.taps.list())
    }

    fn watch(&self, name: &str, tap: Arc<dyn FrameTap>) -> Result<(IfId, CaptureId), AdminError> {
        self.require(Privilege::Capture)?;
        // One that is not taken is dropped here, with the vnet unlocked.
        let mut tap = Some(tap);
        self.with_netif(name, |netif, _| {
            let id = tap.take().map(|tap| netif.taps.add(tap));
            (netif.id, id.expect("an interface is found once"))
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let stopped = self.vnet.core.with(|stack, _| {
            let netif = stack.ifs.get_mut(self.ifid)?;
            netif.taps.remove(self.id)
        });
        // The tap is dropped here, with the vnet unlocked. A vnet that is gone has no captures.
        drop(stopped);
    }
}
