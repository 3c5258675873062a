//! Whether one vnet reaches another.

use std::net::IpAddr;
use std::time::Duration;

use vnet::Vnet;
use vnet::net::EchoSocket;

/// Whether an echo request is answered within a second.
///
/// # Panics
/// When `to` is not an address, or the vnet is gone.
pub fn reaches(from: &Vnet, to: &str) -> bool {
    let to: IpAddr = to.parse().expect("an address");
    let echo = EchoSocket::bind_in(from).expect("the vnet is there");
    let limit = Some(Duration::from_secs(1));
    echo.set_read_timeout(limit).expect("a limit that can be");
    echo.send_to(1, b"are you there", to).is_ok() && echo.recv().is_ok()
}
