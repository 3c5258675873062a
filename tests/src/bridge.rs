//! A vnet with a bridge over ports to the outside.

use std::collections::BTreeMap;

use vnet::{BridgeConfig, DropReason, MacAddr, OwnedVnet, Port, StationOrigin, System};

use crate::accounts::assert_conserved;
use crate::frames::ethernet;
use crate::topology::vnet;

/// An EtherType that nobody speaks (IEEE 802 local experimental).
pub const OTHER: u16 = 0x88b5;
/// The broadcast address.
pub const EVERYONE: [u8; 6] = [0xff; 6];

/// By no port: an empty array by itself has no type where others than numbers are compared with numbers.
pub const NOWHERE: [usize; 0] = [];

/// A vnet with a bridge over ports to the outside, under the manual driver.
pub struct Bench {
    /// The system.
    pub system: System,
    /// The vnet, whose bridge is `bridge0`.
    pub vnet: OwnedVnet,
    /// The outside ends of its members `p0`, `p1`, ...
    pub ports: Vec<Port>,
}

impl Bench {
    /// A bridge with that many members.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn new(ports: usize) -> Bench {
        let system = System::manual(1);
        let v = vnet(&system, "v");
        v.bridge("bridge0").unwrap();
        let mut bench = Bench {
            system,
            vnet: v,
            ports: Vec::new(),
        };
        for _ in 0..ports {
            bench.add_port();
        }
        bench
    }

    /// Adds a member.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn add_port(&mut self) {
        let name = format!("p{}", self.ports.len());
        self.ports.push(self.vnet.port(&name, None).unwrap());
        self.vnet.add_member("bridge0", &name).unwrap();
    }

    /// Sends a frame in by one port and returns by which it came out.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn send(&self, from: usize, dst: [u8; 6], src: [u8; 6]) -> Vec<usize> {
        self.send_frame(from, ethernet(dst, src, OTHER, b"payload"))
    }

    /// Sends a frame in by one port and returns by which it came out, unchanged.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn send_frame(&self, from: usize, frame: Vec<u8>) -> Vec<usize> {
        self.ports[from].send(frame.clone()).unwrap();
        self.system.poll(self.system.now());
        assert_conserved(&self.vnet);
        let mut out = Vec::new();
        for (n, port) in self.ports.iter().enumerate() {
            while let Some(seen) = port.recv() {
                assert_eq!(seen.to_vec(), frame, "unchanged");
                out.push(n);
            }
        }
        out
    }

    /// Received frames dropped for `reason`.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.vnet.stats().unwrap().rx_drops(reason)
    }

    /// Changes how the bridge works.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn config(&self, change: impl FnOnce(&mut BridgeConfig)) {
        let mut config = self.vnet.bridge_info("bridge0").unwrap().config;
        change(&mut config);
        self.vnet.set_bridge("bridge0", config).unwrap();
    }

    /// Learned stations and the members they are behind.
    ///
    /// # Panics
    /// When the library refuses.
    pub fn learned(&self) -> BTreeMap<MacAddr, String> {
        let known = self.vnet.stations("bridge0").unwrap();
        let learned = known
            .into_iter()
            .filter(|s| s.origin == StationOrigin::Learned);
        learned.map(|s| (s.mac, s.interface)).collect()
    }
}

/// The address of station number `n`.
pub fn station(n: u8) -> [u8; 6] {
    [2, 0xaa, 0, 0, 0, n]
}
