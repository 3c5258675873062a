//! How tests have tshark read a capture.

use std::path::Path;
use std::process::Command;

/// tshark, told to look at all checksums of a capture. What TCP and UDP carry is data to it: it takes random bytes for
/// whatever protocol they resemble, and finds fault with that.
pub(crate) fn of(capture: &Path) -> Command {
    let mut command = Command::new("tshark");
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for transport in ["tcp", "udp"] {
        command.args(["-d", &format!("{transport}.port==1-65535,data")]);
    }
    command.arg("-r").arg(capture);
    command
}
