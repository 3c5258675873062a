//! What is on or off. An argument or a field of this type says at its place what it means, which a
//! `bool` does not.

use serde::{Deserialize, Serialize};

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It is in force.
    On,
    /// It is not.
    Off,
}

impl Switch {
    /// True for [`Switch::On`].
    #[inline]
    pub const fn is_on(self) -> bool {
        matches!(self, Switch::On)
    }
}
