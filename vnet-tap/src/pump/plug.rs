//! Making the port that a line is plugged into, or finding one that is there.

use std::io;

use vnet::{AdminError, MacAddr, Offload, Port, System, Vnet};

/// A port that a line is about to be plugged into. When that fails, an interface that was made for it is removed, and
/// one that was there has nothing plugged in again.
pub(crate) struct Plug<'a> {
    vnet: &'a Vnet,
    name: &'a str,
    mac: MacAddr,
    port: Option<Port>,
    /// The interface was made for this, and has not been kept yet.
    is_new: bool,
}

/// The port of that name with nothing plugged in, or a new one, from which frames leave as the line takes
/// them. Frames that leave in the meantime have the old line's offload; a line that cannot take them
/// refuses them.
pub(crate) fn plug<'a>(
    vnet: &'a Vnet,
    name: &'a str,
    mac: Option<MacAddr>,
    offload: Offload,
) -> Result<Plug<'a>, AdminError> {
    let (port, is_new) = match vnet.plug_port(name) {
        Err(AdminError::NotFound(_)) => (vnet.port(name, mac)?, true),
        plugged => (plugged?, false),
    };
    let plug = Plug {
        vnet,
        name,
        mac: port.mac(),
        port: Some(port),
        is_new,
    };
    vnet.set_offload(name, offload)?;
    Ok(plug)
}

impl Plug<'_> {
    pub(crate) fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The port, for the pump that is to have it: one only.
    pub(super) fn port(&mut self) -> io::Result<Port> {
        let port = self.port.take();
        port.ok_or_else(|| io::Error::other("a port that has been given away"))
    }

    pub(super) fn system(&self) -> System {
        self.vnet.system()
    }

    /// The pump runs: the interface stays.
    pub(super) fn keep(mut self) {
        self.is_new = false;
    }
}

impl Drop for Plug<'_> {
    fn drop(&mut self) {
        drop(self.port.take());
        if self.is_new {
            // Somebody else may have been faster.
            let _ = self.vnet.remove_interface(self.name);
        }
    }
}
