//! What VLANs and bridges cost: bulk over a VLAN against the same without, through a bridge that tells
//! VLANs apart against one that does not, and frames through a bridge that knows many stations against one
//! that knows few. Both sides are vnets.

use std::time::{Duration, Instant};

use vnet::{
    BridgeConfig, BridgeVlans, MacAddr, MemberConfig, MemberVlans, OwnedVnet, Port, Switchable,
    System, VlanConfig,
};

use crate::bulk::{Bulk, Vnets};
use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::rr::{CLIENT, SERVER};

const VID: u16 = 10;
/// Stations that the bridge knows in the large case, and in the small one.
const MANY: u32 = 100_000;
const FEW: u32 = 10;
/// Frames that are sent before the bridge's vnet is driven.
const BURST: u32 = 64;
/// Bursts between two looks at the clock.
const BURSTS: u32 = 32;

/// TCP over a VLAN interface at both ends of an epair, against the epair alone.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn over_an_epair(options: &Options) -> Result<Contest, SideError> {
    let name = "the epair without a VLAN";
    contest(options, epair(Some(VID)), epair(None), name)
}

/// TCP through a bridge that tells VLANs apart, by two access ports, against one that does not.
///
/// # Errors
/// As [`over_an_epair`].
pub fn through_a_bridge(options: &Options) -> Result<Contest, SideError> {
    let access = || Some(MemberVlans::access(VID));
    let ours = bridge([access(), access()], None);
    contest(options, ours, bridge([None, None], None), "a plain bridge")
}

/// TCP through a bridge that tells VLANs apart, from a trunk on which the sender has a VLAN interface to an
/// access port, against a plain bridge.
///
/// # Errors
/// As [`over_an_epair`].
pub fn from_a_trunk(options: &Options) -> Result<Contest, SideError> {
    let trunk = MemberVlans::trunk([VID].into_iter().collect());
    let members = [Some(trunk), Some(MemberVlans::access(VID))];
    let ours = bridge(members, Some(VID));
    contest(options, ours, bridge([None, None], None), "a plain bridge")
}

type Wired = Result<(System, Vec<OwnedVnet>), SideError>;

fn contest(
    options: &Options,
    ours: Wired,
    peer: Wired,
    peer_name: &str,
) -> Result<Contest, SideError> {
    let side = |(system, vnets)| -> Result<Box<dyn Side>, SideError> {
        let pair = Vnets::over(system, vnets, SERVER.into())?;
        Ok(Box::new(Bulk::new(pair, options)?))
    };
    Ok(Contest {
        unit: Unit::GbitPerSecond,
        ours: side(ours?)?,
        peer: side(peer?)?,
        peer_name: peer_name.to_owned(),
    })
}

fn fail(error: impl std::fmt::Display) -> SideError {
    SideError::new(error.to_string())
}

/// Client and server, with their addresses on `eth0` or on a VLAN of it, and whatever else.
fn hosts(system: &System) -> Result<Vec<OwnedVnet>, SideError> {
    let names = ["client", "server"].into_iter();
    names
        .map(|name| system.create(name).map_err(fail))
        .collect()
}

fn address(vnets: &[OwnedVnet], vids: [Option<u16>; 2]) -> Result<(), SideError> {
    for ((vnet, address), vid) in vnets.iter().zip([CLIENT, SERVER]).zip(vids) {
        let interface = match vid {
            None => "eth0",
            Some(vid) => {
                let made = vnet.vlan("eth0", "vlan", VlanConfig::dot1q(vid));
                made.map_err(fail)?;
                "vlan"
            }
        };
        let net = ipnet::Ipv4Net::new(address, 24).map_err(fail)?;
        vnet.add_address(interface, net.into()).map_err(fail)?;
    }
    Ok(())
}

fn epair(vid: Option<u16>) -> Wired {
    let system = System::manual(1);
    let vnets = hosts(&system)?;
    vnets[0].epair("eth0", &vnets[1], "eth0").map_err(fail)?;
    address(&vnets, [vid, vid])?;
    Ok((system, vnets))
}

/// Client and server behind a bridge, whose members are in these VLANs if it tells them apart.
fn bridge(members: [Option<MemberVlans>; 2], client: Option<u16>) -> Wired {
    let system = System::manual(1);
    let mut vnets = hosts(&system)?;
    let switch = system.create("switch").map_err(fail)?;
    let is_aware = members.iter().any(Option::is_some);
    make_bridge(&switch, is_aware, 2000)?;
    for ((host, name), vlans) in vnets.iter().zip(["client", "server"]).zip(members) {
        host.epair("eth0", &switch, name).map_err(fail)?;
        join(&switch, name, vlans)?;
    }
    address(&vnets, [client, None])?;
    vnets.push(switch);
    Ok((system, vnets))
}

fn make_bridge(switch: &OwnedVnet, is_aware: bool, max_stations: usize) -> Result<(), SideError> {
    let config = BridgeConfig {
        host_port: Switchable::Off,
        max_stations,
        max_age: Duration::ZERO,
        vlans: is_aware.then(BridgeVlans::default),
        ..BridgeConfig::default()
    };
    switch.bridge("bridge0").map_err(fail)?;
    switch.set_bridge("bridge0", config).map_err(fail)
}

fn join(switch: &OwnedVnet, name: &str, vlans: Option<MemberVlans>) -> Result<(), SideError> {
    switch.add_member("bridge0", name).map_err(fail)?;
    let Some(vlans) = vlans else { return Ok(()) };
    let config = MemberConfig {
        vlans,
        ..MemberConfig::default()
    };
    switch.set_member("bridge0", name, config).map_err(fail)
}

/// A frame between two of 100 000 stations that a bridge has learned, against one between two of 10.
/// Both addresses are looked up, in an order in which caches help little. Pushing the frame in and taking
/// it out is part of the cost at both sides.
///
/// # Errors
/// When a frame does not arrive where its station is.
pub fn many_stations(options: &Options) -> Result<Contest, SideError> {
    stations(options, false)
}

/// The same in a VLAN of a bridge that tells them apart.
///
/// # Errors
/// As [`many_stations`].
pub fn many_stations_of_a_vlan(options: &Options) -> Result<Contest, SideError> {
    stations(options, true)
}

fn stations(options: &Options, is_aware: bool) -> Result<Contest, SideError> {
    let side = |stations| -> Result<Box<dyn Side>, SideError> {
        Ok(Box::new(Stations::new(options.time, stations, is_aware)?))
    };
    Ok(Contest {
        unit: Unit::NanosPerOperation,
        ours: side(MANY)?,
        peer: side(FEW)?,
        peer_name: format!("{FEW} stations"),
    })
}

/// A bridge with two members, and half of the stations behind each.
struct Stations {
    time: Duration,
    system: System,
    ports: [Port; 2],
    stations: u32,
    /// How many frames were sent.
    sent: u32,
    _switch: OwnedVnet,
}

impl Stations {
    fn new(time: Duration, stations: u32, is_aware: bool) -> Result<Stations, SideError> {
        let system = System::manual(1);
        let switch = system.create("switch").map_err(fail)?;
        make_bridge(&switch, is_aware, stations as usize)?;
        let mut ports = Vec::new();
        for name in ["p0", "p1"] {
            ports.push(switch.port(name, None).map_err(fail)?);
            join(&switch, name, is_aware.then(|| MemberVlans::access(VID)))?;
        }
        let ports = ports.try_into().map_err(|_| fail("two ports were made"))?;
        let mut side = Stations {
            time,
            system,
            ports,
            stations,
            sent: 0,
            _switch: switch,
        };
        // Each station speaks once, to one that nobody knows.
        for n in 0..stations {
            side.send(n, u32::MAX)?;
            side.drive()?;
        }
        Ok(side)
    }

    /// Which member a station is behind.
    fn side_of(n: u32) -> usize {
        (n % 2) as usize
    }

    fn send(&self, from: u32, to: u32) -> Result<(), SideError> {
        let mac = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            MacAddr([2, 0xaa, a, b, c, d])
        };
        let mut frame = [0u8; 60];
        frame[..6].copy_from_slice(&mac(to).0);
        frame[6..12].copy_from_slice(&mac(from).0);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        let port = &self.ports[Stations::side_of(from)];
        port.send(frame.to_vec()).map_err(fail)
    }

    /// Lets the bridge work, and returns how many frames came out by each member.
    fn drive(&mut self) -> Result<[u32; 2], SideError> {
        self.system.poll(vnet::time::Instant::ZERO);
        let count = |port: &Port| std::iter::from_fn(|| port.recv()).count() as u32;
        Ok(self.ports.each_ref().map(count))
    }

    fn burst(&mut self) -> Result<(), SideError> {
        let half = self.stations / 2;
        for _ in 0..BURST {
            // Multiplied by a prime, so that neighbours in time are none in memory.
            let [from, to] = [7_919u32, 104_729].map(|step| self.sent.wrapping_mul(step) % half);
            self.sent = self.sent.wrapping_add(1);
            self.send(2 * from, 2 * to + 1)?;
        }
        match self.drive()? {
            [0, BURST] => Ok(()),
            other => Err(fail(format!("of {BURST} frames, {other:?} came out"))),
        }
    }
}

impl Side for Stations {
    fn measure(&mut self) -> Result<f64, SideError> {
        let start = Instant::now();
        let mut done = 0u64;
        loop {
            for _ in 0..BURSTS {
                self.burst()?;
            }
            done += u64::from(BURSTS * BURST);
            let took = start.elapsed();
            if took >= self.time {
                return Ok(took.as_nanos() as f64 / done as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_measures_what_it_says() {
        let options = Options {
            time: Duration::from_millis(1),
            bytes: Some(4 << 20),
        };
        for case in &crate::case::VLAN_CASES[..3] {
            let outcome = (case.prepare)(&options).unwrap().run(1).unwrap();
            assert!(outcome.ours.min > 0.0 && outcome.peer.min > 0.0);
        }
        for is_aware in [false, true] {
            let mut side = Stations::new(options.time, 1000, is_aware).unwrap();
            assert!(side.measure().unwrap() > 0.0);
            let known = side._switch.stations("bridge0").unwrap();
            let learned = known
                .iter()
                .filter(|s| s.origin == vnet::StationOrigin::Learned);
            let in_vlan = learned.clone().filter(|s| s.vid.is_some()).count();
            assert_eq!(learned.count(), 1000);
            assert_eq!(in_vlan, if is_aware { 1000 } else { 0 });
        }
    }
}
