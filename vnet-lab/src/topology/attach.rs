//! What is attached from outside: `[[attach]]`. A TAP, or an emulator's socket, is a port of a switch of its
//! own, and a link leads from there to the node that it is attached to. So everything that ends of links
//! and directions can be said of it, and packets find their way as over any other link.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;
use vnet::LinkConfig;
use vnet_tap::Xdp;

use super::end::{self, EndSpec};
use super::{Node, NodeKind, SpanningTree, Switch, link as parameters};
use crate::file::name::node_name;
use crate::file::source::{Problems, Span};
use crate::file::table::{Table, Value, as_string, checked};

/// Something outside that is attached to a node.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The switch between it and the node.
    pub node: Spanned<String>,
    /// What it is.
    pub door: Door,
    /// Where its name or place is in the file.
    pub(crate) place: Span,
}

/// A way to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// A TAP of the host's.
    Tap(HostTap),
    /// A network card of the host's.
    Nic(HostNic),
    /// A socket at which emulators find the network.
    Socket {
        /// How they speak there.
        emulator: Emulator,
        /// A path, or `ADDRESS:PORT`.
        place: String,
        /// How many guests there may be at a time, where they connect.
        guests: usize,
    },
}

/// A TAP, and what is done with the host's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTap {
    /// The name of the host's interface, in which `%d` becomes the first free number.
    pub name: String,
    /// The network namespace that it is made in.
    pub netns: Option<PathBuf>,
    /// The host's bridge that it joins.
    pub bridge: Option<String>,
    /// Whether it is set up; `None` leaves it as it is.
    pub up: Option<bool>,
    /// How many queues it has.
    pub queues: NonZeroU16,
}

/// A network card of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNic {
    /// Its name.
    pub name: String,
    /// How many sockets share what comes in.
    pub queues: NonZeroU16,
    /// Whether they are of AF_XDP.
    pub xdp: Xdp,
}

/// How emulators speak over their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// QEMU's `-netdev stream`, passt's protocol, socket_vmnet, libkrun's `unixstream`.
    Qemu,
    /// QEMU's `-netdev dgram`.
    QemuDgram,
    /// vfkit, and libkrun's `unixgram`.
    Vfkit,
    /// hyperkit.
    Hyperkit,
    /// User Mode Linux' `bess`.
    Bess,
    /// QEMU's `-netdev vhost-user`, cloud-hypervisor, crosvm.
    VhostUser,
}

const EMULATORS: [Emulator; 6] = [
    Emulator::Qemu,
    Emulator::QemuDgram,
    Emulator::Vfkit,
    Emulator::Hyperkit,
    Emulator::Bess,
    Emulator::VhostUser,
];

/// Of each way to the outside, the key.
pub const DOORS: [&str; 8] = [
    "tap",
    "nic",
    "qemu",
    "qemu-dgram",
    "vfkit",
    "hyperkit",
    "bess",
    "vhost-user",
];

impl Emulator {
    /// The key under which it is in a topology.
    pub fn as_str(self) -> &'static str {
        match self {
            Emulator::Qemu => "qemu",
            Emulator::QemuDgram => "qemu-dgram",
            Emulator::Vfkit => "vfkit",
            Emulator::Hyperkit => "hyperkit",
            Emulator::Bess => "bess",
            Emulator::VhostUser => "vhost-user",
        }
    }

    /// Whether guests connect, so that there can be several.
    fn connects(self) -> bool {
        !matches!(self, Emulator::QemuDgram | Emulator::Vfkit)
    }
}

/// What one table `[[attach]]` comes to.
pub(super) struct AttachSpec {
    pub(super) attach: Attach,
    /// The end at the node, and that at the switch.
    pub(super) ends: [EndSpec; 2],
    pub(super) forward: LinkConfig,
    pub(super) backward: LinkConfig,
}

impl AttachSpec {
    /// The switch between the outside and the node. It passes what is said by protocols of bridges,
    /// and says nothing itself.
    pub(super) fn node(&self) -> Node {
        Node {
            name: self.attach.node.clone(),
            kind: NodeKind::Switch,
            stp: Some(Spanned::new(self.attach.node.span(), SpanningTree::Off)),
            stp_priority: None,
            lldp: Some(false),
            switch: Switch::default(),
            sysctl: Vec::new(),
            address_policy: None,
            dns: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// Reads the table of that number, from 1.
pub(super) fn read(
    value: Value<'_>,
    number: usize,
    problems: &mut Problems<'_>,
) -> Option<AttachSpec> {
    let mut table = Table::of("attach", value, problems)?;
    let place = table.span();
    let to = table.value("to");
    let name = table.read("name", node_name, problems);
    let guests = table.integer("guests", 1..=4096, problems);
    let door = table.only_one(&DOORS, " for what is attached", problems);
    let both = parameters::read(&mut table, &LinkConfig::default(), problems);
    let forward = parameters::direction(&mut table, "forward", &both, problems);
    let backward = parameters::direction(&mut table, "backward", &both, problems);
    if to.is_none() {
        table.missing(
            "to",
            "the node to attach it to, as an end of a link",
            problems,
        );
    }
    table.finish(problems);
    let at = door.map_or(place.clone(), |(_, value)| value.span());
    let door = door.and_then(|(key, value)| door_of(key, value, guests, problems));
    let near = end::read(to?, problems)?;
    let node = name.unwrap_or_else(|| Spanned::new(place, format!("outside{number}")));
    let far = EndSpec::of_switch(node.clone(), near.ip_mtu);
    Some(AttachSpec {
        attach: Attach {
            node,
            door: door?,
            place: at,
        },
        ends: [near, far],
        forward,
        backward,
    })
}

fn door_of(
    key: &str,
    value: Value<'_>,
    guests: Option<Spanned<u64>>,
    problems: &mut Problems<'_>,
) -> Option<Door> {
    let several = |what: &str, problems: &mut Problems<'_>| {
        if let Some(guests) = &guests {
            let message = format!("{what} has one guest at a time: expected no `guests`");
            problems.push(guests.span(), message);
        }
    };
    let mut emulators = EMULATORS.into_iter();
    let Some(emulator) = emulators.find(|emulator| emulator.as_str() == key) else {
        if key == "nic" {
            several("a card", problems);
            return nic(value, problems).map(Door::Nic);
        }
        several("a TAP", problems);
        return tap(value, problems).map(Door::Tap);
    };
    if !emulator.connects() {
        several(key, problems);
    }
    let place = as_string(value, &format!("`{key}`"), problems)?;
    let takes_paths_only = matches!(emulator, Emulator::Bess | Emulator::VhostUser);
    let place = checked(place, |text| socket_place(text, takes_paths_only), problems)?;
    Some(Door::Socket {
        emulator,
        place: place.into_inner(),
        guests: guests.map_or(1, |guests| guests.into_inner() as usize),
    })
}

/// `NAME`, or a table.
fn tap(value: Value<'_>, problems: &mut Problems<'_>) -> Option<HostTap> {
    if let DeValue::String(_) = value.get_ref() {
        let name = as_string(value, "`tap`", problems)?;
        return Some(HostTap {
            name: checked(name, host_name, problems)?.into_inner(),
            netns: None,
            bridge: None,
            up: None,
            queues: NonZeroU16::MIN,
        });
    }
    let mut table = Table::of("`tap`", value, problems)?;
    let name = table.read("name", host_name, problems);
    let netns = table.string("netns", problems);
    let bridge = table.read("bridge", bridge_name, problems);
    let up = table.boolean("up", problems);
    let queues = queues(&mut table, problems);
    if table.key_span("name").is_none() {
        table.missing("name", "the name of the host's interface", problems);
    }
    table.finish(problems);
    Some(HostTap {
        name: name?.into_inner(),
        netns: netns.map(|netns| netns.into_inner().into()),
        bridge: bridge.map(Spanned::into_inner),
        up,
        queues,
    })
}

/// `NAME`, or a table.
fn nic(value: Value<'_>, problems: &mut Problems<'_>) -> Option<HostNic> {
    if let DeValue::String(_) = value.get_ref() {
        let name = as_string(value, "`nic`", problems)?;
        return Some(HostNic {
            name: checked(name, card_name, problems)?.into_inner(),
            queues: NonZeroU16::MIN,
            xdp: Xdp::default(),
        });
    }
    let mut table = Table::of("`nic`", value, problems)?;
    let name = table.read("name", card_name, problems);
    let queues = queues(&mut table, problems);
    let xdp = table.read("xdp", when_by_xdp, problems);
    if table.key_span("name").is_none() {
        table.missing("name", "the name of the host's interface", problems);
    }
    table.finish(problems);
    Some(HostNic {
        name: name?.into_inner(),
        queues,
        xdp: xdp.map(Spanned::into_inner).unwrap_or_default(),
    })
}

/// When a card is used by AF_XDP.
fn when_by_xdp(text: &str) -> Result<Xdp, String> {
    match text {
        "never" => Ok(Xdp::Never),
        "where-possible" => Ok(Xdp::WherePossible),
        "always" => Ok(Xdp::Always),
        _ => Err(format!(
            "expected \"never\", \"where-possible\" or \"always\", found \"{text}\""
        )),
    }
}

/// One, unless the file says otherwise. What is wrong there is a problem already.
fn queues(table: &mut Table<'_>, problems: &mut Problems<'_>) -> NonZeroU16 {
    let queues = table.integer("queues", 1..=256, problems);
    let queues = queues.and_then(|queues| u16::try_from(queues.into_inner()).ok());
    queues.and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}

fn host_name(text: &str) -> Result<String, String> {
    match vnet_tap::check_host_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "expected a name for an interface of this machine, such as \"vnet0\" or \"vnet%d\", found \"{text}\""
        )),
    }
}

/// The name of a card that is there.
fn card_name(text: &str) -> Result<String, String> {
    match text.contains('%') || vnet_tap::check_host_name(text).is_err() {
        false => Ok(text.to_owned()),
        true => Err(format!(
            "expected the name of an interface of this machine, such as \"eth1\", found \"{text}\""
        )),
    }
}

/// The name of a bridge that is there: nothing in it stands for a number.
fn bridge_name(text: &str) -> Result<String, String> {
    match text.contains('%') || vnet_tap::check_host_name(text).is_err() {
        false => Ok(text.to_owned()),
        true => Err(format!(
            "expected the name of a bridge of this machine, such as \"br0\", found \"{text}\""
        )),
    }
}

fn socket_place(text: &str, takes_paths_only: bool) -> Result<String, String> {
    let looks_like_address = text.contains(':') && !text.contains('/');
    if looks_like_address && (takes_paths_only || text.parse::<SocketAddr>().is_err()) {
        let what = match takes_paths_only {
            true => "a path",
            false => "a path, or ADDRESS:PORT with a numeric address",
        };
        return Err(format!(
            "expected {what}, found \"{text}\": a file of that name is \"./{text}\""
        ));
    }
    // `sun_path` has 108 bytes, with a zero at the end.
    match (1..108).contains(&text.len()) && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err("expected a path of at most 107 bytes, or ADDRESS:PORT".to_owned()),
    }
}

/// Where the attachment of a node is in the file.
pub(crate) fn place_of(attach: &[Attach], node: &str) -> Option<Span> {
    let found = attach.iter().find(|a| a.node.get_ref() == node);
    found.map(|attach| attach.node.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_emulator_has_a_door() {
        let emulators = EMULATORS.into_iter().map(Emulator::as_str);
        let doors: Vec<&str> = ["tap", "nic"].into_iter().chain(emulators).collect();
        assert_eq!(doors, DOORS);
    }
}
