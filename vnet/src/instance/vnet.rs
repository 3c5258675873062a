//! The handles of an instance.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::cores::VnetCore;
use super::privilege::Authority;

/// A handle to an instance for its users. Cheap to clone.
///
/// It keeps nothing alive: when the [`OwnedVnet`] is destroyed, every operation through a handle
/// or a socket returns *gone*.
///
/// What may be done through it is limited by the instance's privileges. The
/// handle inside an [`OwnedVnet`] is the owner's and is not limited; every clone is a tenant's.
pub struct Vnet {
    pub(crate) core: Arc<VnetCore>,
    pub(crate) authority: Authority,
}

/// The handle of an instance's owner. Dropping it destroys the instance, in order and promptly.
///
/// It dereferences to [`Vnet`], which has the operations. What is done through this handle, or
/// through a reference to it, is administration and needs no privilege; a clone of it is a tenant's
/// handle, which does.
pub struct OwnedVnet {
    vnet: Vnet,
}

impl Clone for Vnet {
    /// A tenant's handle, also when this one is the owner's.
    fn clone(&self) -> Vnet {
        Vnet::tenant(Arc::clone(&self.core))
    }
}

impl Vnet {
    /// A handle that the instance's mask limits.
    pub(crate) fn tenant(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::Tenant,
        }
    }

    /// A handle without limits, for the instance's own steps.
    pub(crate) fn for_steps(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::System,
        }
    }

    /// The owner's handle.
    pub(crate) fn owner(core: Arc<VnetCore>) -> Vnet {
        Vnet {
            core,
            authority: Authority::Owner,
        }
    }

    /// Its name, unique in its system at any time.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The same handle: unlike a clone, it has the authority that this one has.
    pub(crate) fn same(&self) -> Vnet {
        Vnet {
            core: Arc::clone(&self.core),
            authority: self.authority,
        }
    }

    /// True when `other` is a handle to the same instance.
    pub fn is(&self, other: &Vnet) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl fmt::Debug for Vnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vnet({})", self.name())
    }
}

impl OwnedVnet {
    pub(crate) fn new(core: Arc<VnetCore>) -> OwnedVnet {
        OwnedVnet {
            vnet: Vnet::owner(core),
        }
    }
}

impl Deref for OwnedVnet {
    type Target = Vnet;

    fn deref(&self) -> &Vnet {
        &self.vnet
    }
}

impl fmt::Debug for OwnedVnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedVnet({})", self.name())
    }
}
