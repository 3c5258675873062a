//! Attaching a host TAP to a vnet, and detaching it.

use std::io;

use vnet::{AdminError, MacAddr, Offload, Vnet};

use crate::probe::Unavailable;
use crate::pump::{self, Pump};
use crate::report::PumpReport;
use crate::sys::Device;

/// Bytes in the longest name of a host interface (`IFNAMSIZ` without the final zero).
const MAX_NAME_LEN: usize = 15;
/// The name requested when the configuration has none.
const DEFAULT_NAME: &str = "vnt%d";

/// How to create the TAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// The name of the host's interface; `%d` in it becomes the first free number. `None` means
    /// `vnt%d`. If a persistent TAP of that name exists and is not in use, it is opened instead of
    /// created.
    pub host_name: Option<String>,
    /// The MAC address of the vnet's interface where it is made; `None` lets the vnet choose. The
    /// host's own end is given one by the kernel.
    pub mac: Option<MacAddr>,
    /// What the host and the vnet leave undone in frames for each other. With [`Offload::Full`], which
    /// is the default, TCP segments of up to 64 KiB pass uncut in both directions and no checksum is
    /// computed on the way. With [`Offload::None`] each frame is complete.
    pub offload: Offload,
}

impl Default for TapConfig {
    fn default() -> TapConfig {
        TapConfig {
            host_name: None,
            mac: None,
            offload: Offload::Full,
        }
    }
}

/// Why a TAP could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// TAP devices cannot be created here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The kernel would not accept this name for the host's interface unchanged.
    #[error(
        "{0:?} is not a valid name for a host interface: use 1 to 15 bytes without spaces and slashes"
    )]
    BadHostName(String),
    /// Another process, or another TAP of this one, has an interface of that name.
    #[error("the host's interface {0:?} is in use")]
    HostNameInUse(String),
    /// The vnet could not create the port.
    #[error("cannot create the vnet's end: {0}")]
    Port(#[from] AdminError),
    /// The pump's thread or its event descriptor could not be created.
    #[error("cannot start the pump")]
    Pump(#[source] io::Error),
}

/// A host TAP that is a port of a vnet. Dropping it detaches it.
#[derive(Debug)]
pub struct Tap {
    pump: Pump,
    host_name: String,
}

impl Tap {
    /// Creates a TAP in the calling thread's network namespace and a port `ifname` in `vnet`, and
    /// carries frames between them until it is detached. A port of that name with nothing plugged in,
    /// of a replayed record or an earlier TAP, is used as it is.
    ///
    /// The host's interface is initially down and has no address; the host's administrator, or
    /// `ip`, changes that. Its MTU is set on the host: frames with up to 65535 bytes of IP are
    /// carried.
    ///
    /// # Errors
    /// See [`TapError`]. Nothing is left behind on the host; in the vnet, a port that has been made
    /// stays where the pump cannot be started.
    pub fn attach(vnet: &Vnet, ifname: &str, config: TapConfig) -> Result<Tap, TapError> {
        let TapConfig {
            host_name,
            mac,
            offload,
        } = config;
        let name = host_name.as_deref().unwrap_or(DEFAULT_NAME);
        check_name(name)?;
        let device = Device::create(name, offload).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => TapError::HostNameInUse(name.to_owned()),
            _ => TapError::Unavailable(Unavailable::from_io(e)),
        })?;
        let host_name = device.name().to_owned();
        let port = pump::port(vnet, ifname, mac)?;
        vnet.set_offload(ifname, offload)?;
        let pump = Pump::start("vnet-tap", device.halves(), port, vnet.system())
            .map_err(TapError::Pump)?;
        tracing::debug!(vnet = vnet.name(), ifname, host = %host_name, "TAP attached");
        Ok(Tap { pump, host_name })
    }

    /// The name of the host's interface.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// True while frames are carried; false after the device failed or the vnet went away.
    pub fn is_running(&self) -> bool {
        self.pump.is_running()
    }

    /// What has been carried so far.
    pub fn report(&self) -> PumpReport {
        self.pump.report()
    }

    /// Detaches the TAP: the pump stops and the host's interface disappears (unless it is persistent).
    /// The vnet's port stays, with its carrier down; frames in its queue are discarded.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        let report = self.pump.detach();
        tracing::debug!(host = %self.host_name, %report, "TAP detached");
        report
    }
}

fn check_name(name: &str) -> Result<(), TapError> {
    let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
    if (1..=MAX_NAME_LEN).contains(&name.len())
        && !name.contains(bad)
        && name != "."
        && name != ".."
    {
        Ok(())
    } else {
        Err(TapError::BadHostName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_change_are_refused() {
        for good in ["vnt%d", "tap0", "fifteen-bytes-1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "sixteen-bytes-12", "a b", "a/b", "..", "a\0b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
