//! Everything a stack holds, counted: what a teardown must bring to zero.

use std::fmt;

use super::Stack;
use crate::packet::Cx;

/// What a stack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Sockets of users.
    pub sockets: u64,
    /// TCP connections in any state.
    pub connections: u64,
    /// Interfaces.
    pub interfaces: u64,
    /// Addresses.
    pub addresses: u64,
    /// Routes.
    pub routes: u64,
    /// Neighbours.
    pub neighbours: u64,
    /// Entries in the forwarding databases of bridges.
    pub stations: u64,
    /// Packets held anywhere.
    pub packets: u64,
    /// Bytes in the buffers of sockets.
    pub buffered_bytes: u64,
    /// Pending deadlines.
    pub deadlines: u64,
    /// Values of virtualized variables, which are the instance's and not the stack's.
    pub locals: u64,
}

impl Census {
    fn fields(&self) -> [(u64, &'static str); 11] {
        let Census {
            sockets,
            connections,
            interfaces,
            addresses,
            routes,
            neighbours,
            stations,
            packets,
            buffered_bytes,
            deadlines,
            locals,
        } = *self;
        [
            (sockets, "sockets"),
            (connections, "connections"),
            (interfaces, "interfaces"),
            (addresses, "addresses"),
            (routes, "routes"),
            (neighbours, "neighbours"),
            (stations, "stations"),
            (packets, "packets"),
            (buffered_bytes, "bytes"),
            (deadlines, "deadlines"),
            (locals, "locals"),
        ]
    }

    fn zip(&self, other: &Census, f: impl Fn(u64, u64) -> u64) -> Census {
        Census {
            sockets: f(self.sockets, other.sockets),
            connections: f(self.connections, other.connections),
            interfaces: f(self.interfaces, other.interfaces),
            addresses: f(self.addresses, other.addresses),
            routes: f(self.routes, other.routes),
            neighbours: f(self.neighbours, other.neighbours),
            stations: f(self.stations, other.stations),
            packets: f(self.packets, other.packets),
            buffered_bytes: f(self.buffered_bytes, other.buffered_bytes),
            deadlines: f(self.deadlines, other.deadlines),
            locals: f(self.locals, other.locals),
        }
    }

    /// What is here and not in `other`.
    pub(crate) fn less(&self, other: &Census) -> Census {
        self.zip(other, u64::saturating_sub)
    }

    /// Adds `other` to this.
    pub(crate) fn add(&mut self, other: &Census) {
        *self = self.zip(other, |a, b| a + b);
    }

    /// True when there is nothing.
    pub(crate) fn is_zero(&self) -> bool {
        *self == Census::default()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        for (count, what) in self.fields() {
            if count > 0 {
                write!(f, "{separator}{count} {what}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl Stack {
    /// Counts everything.
    pub(crate) fn census(&self) -> Census {
        let tcp = self.tcp.counts();
        let datagrams = &*self.datagrams;
        let queued = datagrams.udp.sockets.queued()
            + datagrams.raw.sockets.queued()
            + datagrams.echo.sockets.queued();
        Census {
            sockets: (self.tcp.held_by_sockets() + tcp.listeners) as u64
                + self.datagram_sockets() as u64,
            connections: (tcp.connections + tcp.half_open + tcp.time_wait) as u64,
            interfaces: self.ifs.len() as u64,
            addresses: self.ip.addresses() as u64,
            routes: self.ip.route_count() as u64,
            neighbours: (self.neigh.len() + self.lldp.len()) as u64,
            stations: self.bridges.stations() as u64,
            packets: self.neigh.held().packets as u64
                + self.ip.fragments() as u64
                + self.ifs.held_frames() as u64
                + queued as u64,
            buffered_bytes: self.tcp.buffered_bytes() as u64,
            deadlines: self.tcp.deadlines() as u64
                + self.neigh.deadlines()
                + self.ip.in_time() as u64
                + self.bridges.armed() as u64
                + u64::from(self.lldp.is_on()),
            locals: 0,
        }
    }

    /// Received packets that are neither delivered, forwarded nor dropped yet.
    pub(crate) fn pending(&self) -> u64 {
        (self.neigh.held().received + self.ip.fragments()) as u64
    }

    pub(crate) fn uninit_tcp(&mut self, cx: &mut Cx) {
        #[cfg(test)]
        self.pass(super::failure::Place::Teardown);
        self.tcp.teardown(cx);
    }

    pub(crate) fn uninit_udp(&mut self, cx: &mut Cx) {
        if let Some(datagrams) = self.datagrams.made() {
            datagrams.udp.teardown(cx.out);
        }
    }

    pub(crate) fn uninit_raw(&mut self, cx: &mut Cx) {
        if let Some(datagrams) = self.datagrams.made() {
            datagrams.raw.teardown(cx.out);
            datagrams.echo.teardown(cx.out);
        }
    }

    pub(crate) fn uninit_ip(&mut self, cx: &mut Cx) {
        for ifid in self.ifs.ids() {
            self.routes_no_more(cx, ifid);
        }
        self.ip.teardown(cx.stats);
    }

    pub(crate) fn uninit_neigh(&mut self, cx: &mut Cx) {
        if let Some(neigh) = self.neigh.made() {
            neigh.teardown(cx.stats);
        }
    }
}
