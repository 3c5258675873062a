//! What the tenants of an instance may do in it (FreeBSD's `priv(9)` and the `allow.*` parameters
//! of its jails, as a true mask).
//!
//! Each instance has one mask. It limits acts through a tenant's [`Vnet`]: a clone of a handle, or
//! one got from the system or the current vnet. It does not limit the owner: an act through the
//! [`OwnedVnet`] itself, or through a reference to it, is administration (the owner of a
//! [child](super::hierarchy) is limited by the parent's mask). Init and uninit steps are not
//! limited at all. A socket has no mask; the privilege is checked when the socket is created, and
//! narrowing the mask takes away nothing that was created before.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::base::config::ParseError;
use crate::netif::AdminError;
use crate::transport::error::SocketError;

macro_rules! privileges {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// One thing that a tenant may be allowed to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Privilege { $($(#[doc = $doc])+ $name,)+ }

        impl Privilege {
            /// Every privilege, in the order of declaration.
            pub const ALL: &[Privilege] = &[$(Privilege::$name,)+];

            /// Its stable kebab-case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Privilege::$name => $text,)+ }
            }
        }
    };
}

privileges! {
    /// Making raw sockets.
    RawSockets = "raw-sockets",
    /// Binding UDP and TCP sockets to ports below 1024.
    ReservedPorts = "reserved-ports",
    /// Changing interfaces: addresses, MTU, MAC address, state, link parameters.
    InterfaceConfig = "interface-config",
    /// Making, removing and moving interfaces.
    InterfaceCreate = "interface-create",
    /// Adding and removing routes.
    Routes = "routes",
    /// Setting tunables.
    Tunables = "tunables",
    /// Seeing the frames of an interface.
    Capture = "capture",
    /// Making children.
    Children = "children",
    /// Turning the forwarding of packets on and off.
    Forwarding = "forwarding",
    /// Acting on the whole system through [`Vnet::system`](crate::Vnet::system): making vnets, init steps, looking at
    /// others, running the clock. It makes it possible to get round every other privilege, so it is
    /// not in [`Privileges::ALL`].
    System = "system",
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`Privilege`]s.
///
/// ```
/// use vnet::{Privilege, Privileges};
///
/// let some = Privileges::NONE | Privilege::Routes | Privilege::Capture;
/// assert!(some.contains(Privilege::Routes));
/// assert!(some.is_subset(Privileges::ALL));
/// assert_eq!((some & !Privileges::from(Privilege::Routes)).to_string(), "capture");
/// assert_eq!("routes,capture".parse(), Ok(some));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Privileges(u16);

impl Privileges {
    /// No privilege.
    pub const NONE: Privileges = Privileges(0);
    /// Every privilege that concerns an instance and what is below it: all except
    /// [`Privilege::System`].
    pub const ALL: Privileges =
        Privileges(Privileges::WITH_SYSTEM.0 & !(1 << Privilege::System as u16));
    /// Every privilege, including that to act on the whole system. The tenants of a new instance
    /// without a parent have these.
    pub const WITH_SYSTEM: Privileges = Privileges((1 << Privilege::ALL.len()) - 1);

    /// True when `privilege` is in the set.
    pub const fn contains(self, privilege: Privilege) -> bool {
        self.0 & (1 << privilege as u16) != 0
    }

    /// True when every privilege of this set is in `other`.
    pub const fn is_subset(self, other: Privileges) -> bool {
        self.0 & !other.0 == 0
    }

    /// The privileges in the set, in the order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Privilege> {
        Privilege::ALL
            .iter()
            .copied()
            .filter(move |p| self.contains(*p))
    }
}

impl From<Privilege> for Privileges {
    fn from(privilege: Privilege) -> Privileges {
        Privileges(1 << privilege as u16)
    }
}

impl<P: Into<Privileges>> BitOr<P> for Privileges {
    type Output = Privileges;
    fn bitor(self, other: P) -> Privileges {
        Privileges(self.0 | other.into().0)
    }
}

impl<P: Into<Privileges>> BitAnd<P> for Privileges {
    type Output = Privileges;
    fn bitand(self, other: P) -> Privileges {
        Privileges(self.0 & other.into().0)
    }
}

/// What [`Privileges::ALL`] has beyond the set; never [`Privilege::System`].
impl Not for Privileges {
    type Output = Privileges;
    fn not(self) -> Privileges {
        Privileges(!self.0 & Privileges::ALL.0)
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for privilege in self.iter() {
            write!(f, "{separator}{privilege}")?;
            separator = ",";
        }
        if self.0 == 0 {
            f.write_str("none")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Privileges({self})")
    }
}

impl std::str::FromStr for Privileges {
    type Err = ParseError;

    /// Names separated by commas, or `all`, or `none`.
    fn from_str(text: &str) -> Result<Privileges, ParseError> {
        match text {
            "all" => return Ok(Privileges::ALL),
            "none" => return Ok(Privileges::NONE),
            _ => {}
        }
        text.split(',').try_fold(Privileges::NONE, |set, word| {
            let word = word.trim();
            let named = Privilege::ALL.iter().find(|p| p.as_str() == word);
            let named =
                named.ok_or_else(|| ParseError::new(format!("there is no privilege {word:?}")))?;
            Ok(set | *named)
        })
    }
}

/// As text: names separated by commas, `all`, or `none`.
impl serde::Serialize for Privileges {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Privileges {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Privileges, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The instance denies its tenants this operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("denied: this vnet's tenants lack the privilege {0}")]
pub struct Denied(pub Privilege);

impl From<Denied> for AdminError {
    fn from(denied: Denied) -> AdminError {
        AdminError::Denied(denied.0.as_str())
    }
}

impl From<Denied> for SocketError {
    fn from(denied: Denied) -> SocketError {
        SocketError::Denied(denied.0.as_str())
    }
}

/// On whose behalf a handle acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// That of the instance's own steps: not limited.
    System,
    /// The owner's: limited by the parent's mask, if there is a parent.
    Owner,
    /// A tenant's: limited by the mask.
    Tenant,
}

/// The mask of an instance, and what it has prevented.
pub(crate) struct Mask {
    allowed: AtomicU16,
    /// Counted from the first one on.
    denials: OnceLock<Box<[AtomicU64; Privilege::ALL.len()]>>,
}

impl Mask {
    pub(crate) fn new(allowed: Privileges) -> Mask {
        Mask {
            allowed: AtomicU16::new(allowed.0),
            denials: OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Privileges {
        Privileges(self.allowed.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, allowed: Privileges) {
        self.allowed.store(allowed.0, Ordering::Release);
    }

    /// Counts an act that it has prevented.
    pub(super) fn deny(&self, privilege: Privilege) -> Denied {
        let denials = self.denials.get_or_init(Box::default);
        denials[privilege as usize].fetch_add(1, Ordering::Relaxed);
        Denied(privilege)
    }

    /// Acts that it has prevented for lack of `privilege`.
    pub(super) fn denials(&self, privilege: Privilege) -> u64 {
        let denials = self.denials.get();
        denials.map_or(0, |denials| {
            denials[privilege as usize].load(Ordering::Relaxed)
        })
    }
}
