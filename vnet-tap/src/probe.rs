//! Whether TAP devices can be made here, and if not, why.

use std::io;

use crate::config::TapConfig;
use crate::device::{Device, Step, TUN_DEVICE};
use crate::failure::Failure;

/// Why no TAP can be made here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no `/dev/net/tun`: the kernel's `tun` module is missing, or a container hides it.
    #[error(
        "there is no {TUN_DEVICE}: load the kernel's module (`modprobe tun`), or give the device to the \
         container (`--device {TUN_DEVICE}`)"
    )]
    NoDevice,
    /// The process may not open the device.
    #[error(
        "{TUN_DEVICE} may not be opened: it takes read and write access to it (`chmod 666 {TUN_DEVICE}`, as \
         most distributions have it)"
    )]
    NoAccess,
    /// The process may open the device, and lacks `CAP_NET_ADMIN` in this network namespace; or the TAP is
    /// persistent and another user's.
    #[error(
        "making a TAP takes CAP_NET_ADMIN in this network namespace: run as root, give the program the \
         capability (`setcap cap_net_admin+ep PROGRAM`), run it in a namespace of its own (`unshare --user \
         --map-root-user --net`), or name a persistent TAP made for this user (`ip tuntap add NAME mode tap \
         user USER`)"
    )]
    NotPermitted,
    /// Another cause, which the error describes.
    #[error("TAP devices cannot be made here: {0}")]
    Other(#[source] io::Error),
}

impl Unavailable {
    pub(crate) fn of(step: Step, error: io::Error) -> Unavailable {
        // Of a device that is there without a driver, ENODEV and ENXIO are said.
        let no_driver = [libc::ENODEV, libc::ENXIO].map(Some);
        match (step, error.kind()) {
            (Step::Open, io::ErrorKind::NotFound) => Unavailable::NoDevice,
            (Step::Open, _) if no_driver.contains(&error.raw_os_error()) => Unavailable::NoDevice,
            (Step::Open, io::ErrorKind::PermissionDenied) => Unavailable::NoAccess,
            (_, io::ErrorKind::PermissionDenied) => Unavailable::NotPermitted,
            _ => Unavailable::Other(error),
        }
    }
}

/// Checks whether a TAP can be made in the calling thread's network namespace, by making one and
/// removing it at once: no other check is reliable. A user who may not can still attach to a persistent
/// TAP that was made for this user.
///
/// # Errors
/// The reason why not.
pub fn probe() -> Result<(), Unavailable> {
    let config = TapConfig {
        host_name: Some("vntprobe%d".into()),
        ..TapConfig::default()
    };
    let made = Device::create(&config).map(drop);
    made.map_err(|Failure { step, error }| Unavailable::of(step, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_which_right_is_missing_and_how_to_give_it() {
        let of = |step, errno| Unavailable::of(step, io::Error::from_raw_os_error(errno));
        for (step, errno, told) in [
            (Step::Open, libc::ENOENT, "modprobe tun"),
            (Step::Open, libc::ENODEV, "modprobe tun"),
            (Step::Open, libc::EACCES, "chmod 666 /dev/net/tun"),
            (Step::Open, libc::EPERM, "chmod 666 /dev/net/tun"),
            (Step::Make, libc::EPERM, "setcap cap_net_admin"),
            (Step::Make, libc::ENOMEM, "memory"),
        ] {
            let error = of(step, errno).to_string();
            assert!(error.contains(told), "{step:?}, {errno}: {error}");
        }
    }

    #[test]
    fn probing_twice_says_the_same() {
        assert_eq!(probe().is_ok(), probe().is_ok());
    }
}
