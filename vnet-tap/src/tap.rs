//! Attaching a host TAP to a vnet, and detaching it.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;

use vnet::{MacAddr, NetifError, Vnet};

use crate::probe::Unavailable;
use crate::pump::{Counters, Pump};
use crate::sys::Device;

/// Bytes in the longest name of a host interface (`IFNAMSIZ` without the final zero).
const MAX_NAME_LEN: usize = 15;
/// The name asked for when the configuration has none.
const DEFAULT_NAME: &str = "vnt%d";

/// How to make the TAP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapConfig {
    /// The name of the host's interface; `%d` in it becomes the first free number. `None` means
    /// `vnt%d`. A persistent TAP of that name that nobody uses is opened rather than made.
    pub host_name: Option<String>,
    /// The MAC address of the vnet's interface; `None` lets the vnet choose. The host's own end
    /// gets one from the kernel.
    pub mac: Option<MacAddr>,
}

/// Why a TAP could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// TAP devices cannot be made here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The name for the host's interface is one the kernel would not take as it is.
    #[error("{0:?} cannot name an interface of the host: 1 to 15 bytes, no blank, no slash")]
    BadHostName(String),
    /// Another process, or another TAP of this one, has an interface of that name.
    #[error("the host's interface {0:?} is in use")]
    HostNameInUse(String),
    /// The vnet did not make the port.
    #[error("the vnet's end cannot be made: {0}")]
    Port(#[from] NetifError),
    /// The pump's thread or its event descriptor could not be made.
    #[error("the pump cannot be started")]
    Pump(#[source] io::Error),
}

/// How a pump came to its end.
#[derive(Debug)]
pub enum PumpEnd {
    /// It was asked to.
    Detached,
    /// The vnet, or the interface in it, was destroyed.
    PortGone,
    /// The device failed: most often, somebody deleted the host's interface.
    Device(io::Error),
}

/// What a TAP carried.
#[derive(Debug)]
pub struct TapReport {
    /// Frames read from the host.
    pub frames_in: u64,
    /// Frames written to the host.
    pub frames_out: u64,
    /// Frames that one side had and the other refused: the port's queue was full or its vnet
    /// gone, the host's interface was down or out of memory.
    pub drops: u64,
    /// Times the pump was woken. An idle TAP's stands still.
    pub wakeups: u64,
    /// How the pump ended; `None` in a report made while it runs.
    pub end: Option<PumpEnd>,
}

/// A host TAP that is a port of a vnet. Dropping it detaches it.
#[derive(Debug)]
pub struct Tap {
    pump: Pump,
    host_name: String,
}

impl Tap {
    /// Makes a TAP in the calling thread's network namespace and a port `ifname` in `vnet`, and
    /// carries frames between them until it is detached.
    ///
    /// The host's interface is down and has no address at first; the host's administrator, or
    /// `ip`, changes that. Its MTU is the host's business: frames of up to 65535 bytes of IP are
    /// carried.
    ///
    /// # Errors
    /// See [`TapError`]; nothing is left behind.
    pub fn attach(vnet: &Vnet, ifname: &str, config: TapConfig) -> Result<Tap, TapError> {
        let TapConfig { host_name, mac } = config;
        let name = host_name.as_deref().unwrap_or(DEFAULT_NAME);
        check_name(name)?;
        let device = Device::create(name).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => TapError::HostNameInUse(name.to_owned()),
            _ => TapError::Unavailable(Unavailable::from_io(e)),
        })?;
        let host_name = device.name().to_owned();
        let port = vnet.port(ifname, mac)?;
        let pump = Pump::start(device, port, vnet.system()).map_err(TapError::Pump)?;
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

    /// What was carried so far.
    pub fn report(&self) -> TapReport {
        TapReport::new(self.pump.counters(), None)
    }

    /// Unplugs: the pump stops, the host's interface disappears (unless it is persistent), the
    /// vnet's port goes away. Frames under way in the port's queue are discarded.
    ///
    /// # Panics
    /// When the pump panicked, with its payload.
    pub fn detach(mut self) -> TapReport {
        let end = self.pump.stop();
        let report = TapReport::new(self.pump.counters(), end);
        tracing::debug!(host = %self.host_name, %report, "TAP detached");
        report
    }
}

impl TapReport {
    fn new(counters: &Counters, end: Option<PumpEnd>) -> TapReport {
        let Counters {
            frames_in,
            frames_out,
            refused_by_vnet,
            refused_by_host,
            wakeups,
        } = counters;
        TapReport {
            frames_in: frames_in.load(Ordering::Relaxed),
            frames_out: frames_out.load(Ordering::Relaxed),
            drops: refused_by_vnet.load(Ordering::Relaxed)
                + refused_by_host.load(Ordering::Relaxed),
            wakeups: wakeups.load(Ordering::Relaxed),
            end,
        }
    }
}

impl fmt::Display for TapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames in, {} out, {} dropped",
            self.frames_in, self.frames_out, self.drops
        )?;
        match &self.end {
            None | Some(PumpEnd::Detached) => Ok(()),
            Some(PumpEnd::PortGone) => f.write_str("; the vnet's end went away"),
            Some(PumpEnd::Device(e)) => write!(f, "; the device failed: {e}"),
        }
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
