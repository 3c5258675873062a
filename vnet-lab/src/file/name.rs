//! Names of nodes and interfaces, and where a packet may go.

use std::fmt;
use std::net::IpAddr;

use vnet::MacAddr;

/// The far end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node: its first address in the order of the file.
    Node(String),
    /// An interface of a node: its first address.
    Interface(String, String),
    /// An address of some node.
    Address(IpAddr),
}

/// The name of a node.
pub(crate) fn node_name(text: &str) -> Result<String, String> {
    name(text, 63, "-_").ok_or_else(|| {
        format!("expected a node name of at most 63 letters, digits, '-' and '_', found \"{text}\"")
    })
}

/// The name of an interface.
pub(crate) fn interface_name(text: &str) -> Result<String, String> {
    name(text, 15, "-_.").ok_or_else(|| {
        format!("expected an interface name of at most 15 letters, digits, '-', '_' and '.', found \"{text}\"")
    })
}

/// `node`, `node:interface` or an address.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse() {
        return Ok(Target::Address(address));
    }
    match text.split_once(':') {
        Some((node, interface)) => Ok(Target::Interface(
            node_name(node)?,
            interface_name(interface)?,
        )),
        None => Ok(Target::Node(node_name(text)?)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(node) => f.write_str(node),
            Target::Interface(node, interface) => write!(f, "{node}:{interface}"),
            Target::Address(address) => write!(f, "{address}"),
        }
    }
}

fn name(text: &str, longest: usize, signs: &str) -> Option<String> {
    let ok = text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || signs.contains(c));
    ok.then(|| text.to_owned())
}

/// The MAC address of a station.
pub(crate) fn mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|e: vnet::ParseError| e.to_string())?;
    if !mac.is_station() {
        return Err(format!("expected a unicast MAC address, found {mac}"));
    }
    Ok(mac)
}
