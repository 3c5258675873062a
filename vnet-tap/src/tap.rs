//! Attaching a host TAP to a vnet, and detaching it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use vnet::{AdminError, Offload, Vnet};

use crate::config::TapConfig;
use crate::device::{DEFAULT_NAME, Device, Step};
use crate::failure::Failure;
use crate::probe::Unavailable;
use crate::pump::{self, MOST_QUEUES, Pumps};
use crate::report::PumpReport;
use crate::tun::Neighbours;

/// Bytes in the longest name of a host interface (`IFNAMSIZ` without the final zero).
const MAX_NAME_LEN: usize = 15;

/// Why a TAP could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// TAP devices cannot be made here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The kernel would not accept this name for the host's interface unchanged.
    #[error(
        "{0:?} is not a valid name for a host interface: use 1 to 15 bytes without spaces, slashes and \
         colons, and no % but in one %d"
    )]
    BadHostName(String),
    /// Another process, or another TAP of this one, has an interface of that name.
    #[error("the host's interface {0:?} is in use")]
    HostNameInUse(String),
    /// There is an interface of that name, or a descriptor was handed in, and it cannot be attached to.
    #[error(
        "{0} is not a device of that kind without packet information, or it has been made for several queues \
         (`multi_queue`) and one is asked for, or the other way round"
    )]
    NotATap(String),
    /// It does not get as many queues.
    #[error("the host's interface does not get {wanted} queues: {error}")]
    Queues {
        /// As many as were asked for.
        wanted: u16,
        /// What the kernel said, or [`io::ErrorKind::InvalidInput`]: a line has at most 256, and a descriptor that is
        /// handed in is one.
        #[source]
        error: io::Error,
    },
    /// The network namespace could not be entered.
    #[error("cannot enter the network namespace {}: {error}", netns.display())]
    NetNs {
        /// Its file.
        netns: PathBuf,
        /// What the kernel said: mostly that there is none, or that `CAP_SYS_ADMIN` is missing.
        #[source]
        error: io::Error,
    },
    /// Something of the host's interface could not be set.
    #[error("cannot set the {what} of the host's interface: {error}")]
    Host {
        /// What.
        what: &'static str,
        /// What the kernel said: mostly that `CAP_NET_ADMIN` is missing.
        #[source]
        error: io::Error,
    },
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
    pumps: Pumps,
    host_name: String,
}

impl Tap {
    /// Creates a TAP and a port `ifname` in `vnet`, and carries frames between them until it is
    /// detached. A port of that name with nothing plugged in, of a replayed record or an earlier TAP,
    /// is used as it is, but for its offload.
    ///
    /// Unless the configuration says otherwise, the host's interface is initially down and has no
    /// address; the host's administrator, or `ip`, changes that. Frames with up to 65535 bytes of IP are
    /// carried.
    ///
    /// The system has to run on [threads](vnet::System::threads): the host does not wait for
    /// simulated time.
    ///
    /// # Errors
    /// See [`TapError`]. Nothing is left behind on the host; in the vnet, a port that has been made
    /// stays where the pump cannot be started.
    pub fn attach(vnet: &Vnet, ifname: &str, config: TapConfig) -> Result<Tap, TapError> {
        check_host_name(config.host_name.as_deref().unwrap_or(DEFAULT_NAME))?;
        check_queues(&config, MOST_QUEUES)?;
        let devices = Device::create(&config).map_err(|failure| told(failure, &config))?;
        Tap::start(vnet, ifname, devices, &config)
    }

    /// Opens a TAP as [`Tap::attach`] does, for [`Tap::from_fd`]: a launcher with the right to make one hands the descriptor
    /// to a process without it.
    ///
    /// # Errors
    /// As [`Tap::attach`]; a descriptor is one queue.
    pub fn open(config: &TapConfig) -> Result<OwnedFd, TapError> {
        check_host_name(config.host_name.as_deref().unwrap_or(DEFAULT_NAME))?;
        check_queues(config, 1)?;
        let devices = Device::create(config).map_err(|failure| told(failure, config))?;
        let only = devices.into_iter().next();
        only.map(Device::into_fd)
            .ok_or_else(|| queues(config, io::ErrorKind::InvalidInput.into()))
    }

    /// As [`Tap::attach`], with a TAP that somebody else has opened and configured (`IFF_TAP`,
    /// `IFF_NO_PI`, and `IFF_VNET_HDR` for offload): a launcher, libvirt or systemd. No privilege is
    /// needed, unless the configuration changes the host's interface.
    ///
    /// # Errors
    /// As [`Tap::attach`].
    pub fn from_fd(
        vnet: &Vnet,
        ifname: &str,
        fd: impl Into<OwnedFd>,
        config: TapConfig,
    ) -> Result<Tap, TapError> {
        check_queues(&config, 1)?;
        let device = Device::from_fd(fd.into(), &config);
        let device = device.map_err(|failure| match failure.step {
            Step::Make => TapError::NotATap("the descriptor".into()),
            _ => told(failure, &config),
        })?;
        Tap::start(vnet, ifname, vec![device], &config)
    }

    fn start(
        vnet: &Vnet,
        ifname: &str,
        devices: Vec<Device>,
        config: &TapConfig,
    ) -> Result<Tap, TapError> {
        let first = devices.first();
        let host_name = first.map_or(String::new(), |device| device.name().to_owned());
        let offload = first.map_or(Offload::None, |device| device.offload(config.offload));
        let plug = pump::plug(vnet, ifname, config.mac, offload)?;
        let link = Arc::new(Neighbours::of(plug.mac()));
        let queues = devices.into_iter().map(|device| device.halves(&link));
        let pumps = Pumps::start(
            "vnet-tap",
            queues.collect(),
            plug,
            config.queue_bytes,
            config.busy_poll,
        )
        .map_err(TapError::Pump)?;
        tracing::debug!(vnet = vnet.name(), ifname, host = %host_name, "TAP attached");
        Ok(Tap { pumps, host_name })
    }

    /// The name of the host's interface.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// True while frames are carried; false after the device failed or the vnet went away.
    pub fn is_running(&self) -> bool {
        self.pumps.is_running()
    }

    /// What has been carried so far.
    pub fn report(&self) -> PumpReport {
        self.pumps.report()
    }

    /// Detaches the TAP: the pump stops and the host's interface disappears (unless it is persistent).
    /// The vnet's port stays, with its carrier down; frames in its queue are discarded and counted.
    ///
    /// Called on a pump's own thread, as in a waker or a callback of a port, it does not wait for the
    /// end, and the report does not say how it was. It may not be called in a
    /// [`FrameTap`](vnet::capture::FrameTap), which the pump may be waiting for.
    ///
    /// # Panics
    /// When the pump panicked, with the same payload.
    pub fn detach(self) -> PumpReport {
        let report = self.pumps.detach();
        tracing::debug!(host = %self.host_name, %report, "TAP detached");
        report
    }
}

/// Checks that no more queues are asked for than these.
fn check_queues(config: &TapConfig, most: usize) -> Result<(), TapError> {
    match usize::from(config.queues.get()) <= most {
        true => Ok(()),
        false => Err(queues(config, io::ErrorKind::InvalidInput.into())),
    }
}

fn queues(config: &TapConfig, error: io::Error) -> TapError {
    TapError::Queues {
        wanted: config.queues.get(),
        error,
    }
}

/// What a failure is called.
fn told(Failure { step, error }: Failure<Step>, config: &TapConfig) -> TapError {
    let name = config
        .host_name
        .as_deref()
        .unwrap_or(DEFAULT_NAME)
        .to_owned();
    match (step, error.kind()) {
        (Step::Enter, _) => TapError::NetNs {
            netns: config.netns.clone().unwrap_or_default(),
            error,
        },
        (Step::Make, io::ErrorKind::ResourceBusy) => TapError::HostNameInUse(name),
        // TUNSETIFF answers so for interfaces that are no TAPs, and for those made for more or fewer queues.
        (Step::Make, io::ErrorKind::InvalidInput) => {
            TapError::NotATap(format!("the host's interface {name:?}"))
        }
        (Step::Queues, _) => queues(config, error),
        (Step::Set(what), _) => TapError::Host { what, error },
        (Step::Open | Step::Make, _) => Unavailable::of(step, error).into(),
    }
}

/// Checks that the kernel would take a name for a TAP, in which `%d` may stand for the first free number.
///
/// # Errors
/// [`TapError::BadHostName`].
pub fn check_host_name(name: &str) -> Result<(), TapError> {
    let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
    let plain = name.replacen("%d", "", 1);
    if (1..=MAX_NAME_LEN).contains(&name.len())
        && !name.contains(bad)
        && !plain.contains('%')
        && name != "."
        && name != ".."
    {
        Ok(())
    } else {
        Err(TapError::BadHostName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
