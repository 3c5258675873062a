//! Why a run could not be made.

use std::io;
use std::path::PathBuf;

use vnet::capture::CaptureError;
use vnet::{AdminError, CreateError};
use vnet_dns::ConfigError;
use vnet_tap::{GuestError, NicError, TapError};

use super::files::TooManyFiles;
use crate::plan::Plan;
use crate::text::printable;

/// Why a run could not be made. A job that fails is no such error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A vnet.
    #[error("cannot make vnet `{name}`")]
    Create {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// A tunable of a vnet.
    #[error("cannot set {name} of `{node}`")]
    Sysctl {
        /// The vnet's name.
        node: String,
        /// The tunable's name.
        name: String,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// The name servers of a vnet.
    #[error("cannot set the name servers of `{node}`")]
    Dns {
        /// The vnet's name.
        node: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// An interface, or something about it.
    #[error("cannot set up interface {interface}")]
    Interface {
        /// `NODE:INTERFACE`
        interface: String,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// A VLAN interface.
    #[error("cannot make VLAN interface {interface}")]
    Vlan {
        /// `NODE:INTERFACE`
        interface: String,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// The bridge of a switch or hub.
    #[error("cannot make the bridge of `{name}`")]
    Bridge {
        /// The vnet's name.
        name: String,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// What changes at a link over time.
    #[error("cannot change the link of {interface} over time")]
    Script {
        /// `NODE:INTERFACE`
        interface: String,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// Something that is attached from outside.
    #[error("cannot attach {what}")]
    Attach {
        /// What it is.
        what: String,
        /// The switch that it is a port of.
        node: String,
        /// Why.
        #[source]
        source: AttachError,
    },
    /// Something is attached from outside, where time is simulated.
    #[error(
        "what is attached cannot follow simulated time: expected --driver threads, or nothing attached"
    )]
    SimulatedTime {
        /// The switch that it would be a port of.
        node: String,
    },
    /// A route.
    #[error("cannot add the route to {destination} in `{name}`")]
    Route {
        /// The vnet's name.
        name: String,
        /// Where to.
        destination: ipnet::IpNet,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// A capture file.
    #[error("cannot write the capture {}", printable(&path.to_string_lossy()))]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// How captures are to be written.
    #[error("cannot capture")]
    CaptureOptions(#[source] CaptureError),
    /// A capture of a link that there is not.
    #[error(
        "there is no link `{0}` to capture: expected a link's `name`, NODE:INTERFACE, or the name of \
         its file without .pcapng"
    )]
    NoSuchLink(String),
    /// More captures than the process may have files open.
    #[error(transparent)]
    TooManyFiles(#[from] TooManyFiles),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Why something outside could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A TAP.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A network card.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// A guest's socket.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A server socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The switch refused it.
    #[error(transparent)]
    Switch(#[from] AdminError),
}

impl RunError {
    /// What simulated time has against a plan, if anything.
    pub(crate) fn of_simulated_time(plan: &Plan) -> Option<RunError> {
        let attach = plan.attach.first()?;
        let node = plan.vnets[attach.vnet].name.clone();
        Some(RunError::SimulatedTime { node })
    }

    /// True when it is the topology that asks for what is impossible, and not the machine or the
    /// options of the run.
    pub fn is_of_the_topology(&self) -> bool {
        match self {
            RunError::Create { .. }
            | RunError::Sysctl { .. }
            | RunError::Dns { .. }
            | RunError::Interface { .. }
            | RunError::Vlan { .. }
            | RunError::Bridge { .. }
            | RunError::Script { .. }
            | RunError::Attach { .. }
            | RunError::SimulatedTime { .. }
            | RunError::Route { .. } => true,
            RunError::Capture { .. }
            | RunError::CaptureOptions(_)
            | RunError::NoSuchLink(_)
            | RunError::TooManyFiles(_)
            | RunError::Thread(_) => false,
        }
    }
}
