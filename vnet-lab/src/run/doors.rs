//! What is attached from outside while a topology runs: TAPs of the host's, and sockets of emulators.

use vnet::{AdminError, Vnet};
use vnet_tap::{
    Framing, Guest, Guests, HostState, Nic, NicConfig, PumpEnd, PumpReport, SocketFile, SocketKind,
    Tap, TapConfig, serve,
};

use super::error::{AttachError, RunError};
use super::jobs::{Event, Watcher};
use super::network::bridge_name;
use crate::plan::{Plan, PlannedVnet};
use crate::report::AttachReport;
use crate::topology::{Door, Emulator, HostNic, HostTap};

/// What is attached. Dropping it detaches everything.
pub(super) struct Doors(Vec<Open>);

struct Open {
    node: String,
    what: String,
    way: Way,
    /// The server's socket, as long as it is there.
    _file: Option<SocketFile>,
}

enum Way {
    Tap(Tap),
    Nic(Nic),
    Guest(Guest),
    Guests(Guests),
}

impl Doors {
    /// Attaches everything of a plan to its vnets.
    pub(super) fn open(plan: &Plan, vnets: &[Vnet], watcher: &Watcher) -> Result<Doors, RunError> {
        let mut doors = Vec::new();
        for attach in &plan.attach {
            let switch = Switch::of(&plan.vnets[attach.vnet], vnets[attach.vnet].clone());
            let opened = match &attach.door {
                Door::Tap(tap) => switch.tap(tap),
                Door::Nic(nic) => switch.nic(nic),
                Door::Socket {
                    emulator,
                    place,
                    guests,
                } => switch.socket(*emulator, place, *guests),
            };
            let open = opened.map_err(|source| RunError::Attach {
                what: what(&attach.door),
                node: plan.vnets[attach.vnet].name.clone(),
                source,
            })?;
            watcher(Event::Attached(&open.what));
            doors.push(open);
        }
        Ok(Doors(doors))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything can still come in.
    pub(super) fn keep_it_up(&self) -> bool {
        self.0.iter().any(|open| match &open.way {
            Way::Tap(tap) => tap.is_running(),
            Way::Nic(nic) => nic.is_running(),
            Way::Guest(guest) => guest.is_running(),
            Way::Guests(_) => true,
        })
    }

    /// Detaches everything, and says what came of it.
    pub(super) fn close(self) -> Vec<AttachReport> {
        self.0.into_iter().map(Open::close).collect()
    }
}

impl Open {
    fn close(self) -> AttachReport {
        let (report, guests) = match self.way {
            Way::Tap(tap) => (tap.detach(), None),
            Way::Nic(nic) => (nic.detach(), None),
            Way::Guest(guest) => (guest.detach(), None),
            Way::Guests(guests) => {
                let accepted = guests.counts().accepted;
                (guests.detach(), Some(accepted))
            }
        };
        let PumpReport {
            frames_in,
            frames_out,
            drops,
            end,
            ..
        } = report;
        let failure = match end {
            Some(PumpEnd::Device(error)) => Some(error.to_string()),
            // A guest that leaves, and a network that is taken down, are no failures.
            _ => None,
        };
        AttachReport {
            node: self.node,
            what: self.what,
            frames_in,
            frames_out,
            drops,
            guests,
            failure,
        }
    }
}

/// The switch whose ports lead outside.
#[derive(Clone)]
struct Switch {
    vnet: Vnet,
    bridge: String,
    /// The largest IP packet, where the file says so.
    ip_mtu: Option<u16>,
}

impl Switch {
    fn of(planned: &PlannedVnet, vnet: Vnet) -> Switch {
        Switch {
            vnet,
            bridge: bridge_name(planned),
            ip_mtu: planned.interfaces.first().and_then(|i| i.ip_mtu),
        }
    }

    fn tap(&self, tap: &HostTap) -> Result<Open, AttachError> {
        let config = TapConfig {
            host_name: Some(tap.name.clone()),
            netns: tap.netns.clone(),
            host_ip_mtu: self.ip_mtu,
            host_bridge: tap.bridge.clone(),
            queues: tap.queues,
            host_state: match tap.up {
                None => HostState::AsItIs,
                Some(true) => HostState::Up,
                Some(false) => HostState::Down,
            },
            ..TapConfig::default()
        };
        let tap = Tap::attach(&self.vnet, "port0", config)?;
        self.join("port0")?;
        let what = format!("tap {}", tap.host_name());
        Ok(self.opened(what, Way::Tap(tap), None))
    }

    fn nic(&self, nic: &HostNic) -> Result<Open, AttachError> {
        let config = NicConfig {
            queues: nic.queues,
            xdp: nic.xdp,
            ..NicConfig::from(nic.name.as_str())
        };
        let nic = Nic::attach(&self.vnet, "port0", config)?;
        self.join("port0")?;
        let how = match nic.is_by_xdp() {
            true => " (AF_XDP)",
            false => "",
        };
        let what = format!("nic {}{how}", nic.host_name());
        Ok(self.opened(what, Way::Nic(nic), None))
    }

    fn socket(&self, emulator: Emulator, place: &str, guests: usize) -> Result<Open, AttachError> {
        let (kind, framing) = how(emulator);
        let (socket, file) = serve(place, kind)?;
        let way = match kind {
            SocketKind::Datagrams => {
                let guest = Guest::attach(&self.vnet, "port0", socket, framing)?;
                self.join("port0")?;
                Way::Guest(guest)
            }
            SocketKind::Stream | SocketKind::Packets => {
                let switch = self.clone();
                Way::Guests(Guests::listen(socket, guests, move |number, socket| {
                    let port = format!("port{number}");
                    let guest = Guest::attach(&switch.vnet, &port, socket, framing)?;
                    switch.join(&port)?;
                    Ok(guest)
                })?)
            }
        };
        let what = format!("{} {place}", emulator.as_str());
        Ok(self.opened(what, way, Some(file)))
    }

    fn opened(&self, what: String, way: Way, file: Option<SocketFile>) -> Open {
        Open {
            node: self.vnet.name().to_owned(),
            what,
            way,
            _file: file,
        }
    }

    /// Makes a port a member of the bridge, unless it is one: of a guest that was there before.
    fn join(&self, port: &str) -> Result<(), AdminError> {
        if let Some(ip_mtu) = self.ip_mtu {
            self.vnet.set_ip_mtu(port, ip_mtu)?;
        }
        let members = self.vnet.bridge_info(&self.bridge)?.members;
        match members.iter().any(|member| member.name == port) {
            true => Ok(()),
            false => self.vnet.add_member(&self.bridge, port),
        }
    }
}

/// The socket that an emulator looks for, and how frames follow each other in it.
fn how(emulator: Emulator) -> (SocketKind, Framing) {
    match emulator {
        Emulator::Qemu => (SocketKind::Stream, Framing::Length32),
        Emulator::Hyperkit => (SocketKind::Stream, Framing::Length16),
        Emulator::QemuDgram | Emulator::Vfkit => (SocketKind::Datagrams, Framing::Datagrams),
        Emulator::Bess => (SocketKind::Packets, Framing::Datagrams),
        Emulator::VhostUser => (SocketKind::Stream, Framing::VhostUser),
    }
}

fn what(door: &Door) -> String {
    match door {
        Door::Tap(HostTap { name, .. }) => format!("tap {name}"),
        Door::Nic(HostNic { name, .. }) => format!("nic {name}"),
        Door::Socket {
            emulator, place, ..
        } => format!("{} {place}", emulator.as_str()),
    }
}
