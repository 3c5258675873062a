//! Whether TAP devices can be created here, and if not, why.

use std::io;
use std::path::Path;

use vnet::Offload;

use crate::sys::Device;

/// The character device through which TAPs are created.
const TUN_DEVICE: &str = "/dev/net/tun";

/// Why no TAP can be created here.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no `/dev/net/tun`: the kernel's `tun` module is missing, or a container hides it.
    #[error(
        "{TUN_DEVICE} does not exist (kernel module `tun` not loaded, or hidden by a container)"
    )]
    NoDevice,
    /// The process lacks `CAP_NET_ADMIN` in this network namespace, or may not open the device.
    #[error("not permitted to create TAP devices (needs root or CAP_NET_ADMIN)")]
    NotPermitted,
    /// Another cause, which the error describes.
    #[error("TAP devices cannot be created here")]
    Other(#[source] io::Error),
}

impl Unavailable {
    pub(crate) fn from_io(error: io::Error) -> Unavailable {
        match error.kind() {
            io::ErrorKind::NotFound if !Path::new(TUN_DEVICE).exists() => Unavailable::NoDevice,
            io::ErrorKind::PermissionDenied => Unavailable::NotPermitted,
            _ => Unavailable::Other(error),
        }
    }
}

/// Checks whether a TAP can be created in the calling thread's network namespace, by creating one
/// and removing it at once: no other check is reliable.
///
/// # Errors
/// The reason why not.
pub fn probe() -> Result<(), Unavailable> {
    Device::create("vntprobe%d", Offload::Full)
        .map(drop)
        .map_err(Unavailable::from_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_obstacles_have_names() {
        let of = |kind: io::ErrorKind| Unavailable::from_io(kind.into());
        assert!(matches!(
            of(io::ErrorKind::PermissionDenied),
            Unavailable::NotPermitted
        ));
        assert!(matches!(
            of(io::ErrorKind::OutOfMemory),
            Unavailable::Other(_)
        ));
    }

    #[test]
    fn probing_twice_says_the_same() {
        assert_eq!(probe().is_ok(), probe().is_ok());
    }
}
