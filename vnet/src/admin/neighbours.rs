//! Neighbours set by hand.

use std::net::IpAddr;

use super::record::{IfOp, Op};
use crate::base::id::IfId;
use crate::instance::limits::Resource;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::ip::versions::is_station;
use crate::neigh::state::StateName;
use crate::netif::AdminError;
use crate::packet::MacAddr;
use crate::stack::Stack;

/// The interface of that name, which is one by which others on its link are reached.
pub(super) fn with_neighbours(stack: &Stack, interface: &str) -> Result<IfId, AdminError> {
    let netif = stack.ifs.by_name(interface)?;
    match netif.can().needs_neighbours {
        true => Ok(netif.id),
        false => Err(AdminError::Unsupported {
            kind: netif.kind.name(),
            what: "has no neighbours",
        }),
    }
}

impl Vnet {
    /// Sets the Ethernet address of a neighbour permanently: no requests for it are sent, no message changes it, and it
    /// stays until it is removed, or the interface is removed or moves (`arp -s`, `ip neigh replace ... nud permanent`). Packets that wait for the address are sent. A link-local address may be given
    /// without its zone, which is the interface.
    ///
    /// ```
    /// # use vnet::{MacAddr, System};
    /// let system = System::virtual_time(1);
    /// let host = system.create("host")?;
    /// let _far_end = host.port("eth0", None)?;
    /// host.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// let station = MacAddr([2, 0, 0, 0, 0, 7]);
    /// host.add_neighbour("eth0", "192.0.2.7".parse()?, station)?;
    /// assert_eq!(host.neighbours()?[0].mac, Some(station));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No interface of that name; one whose kind has no neighbours, as loopback; an IP address that is not a
    /// single host's, or is the vnet's own; an Ethernet address that is not a station's; a table that is full of
    /// such neighbours.
    pub fn add_neighbour(
        &self,
        interface: &str,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if !mac.is_station() {
            return Err(AdminError::BadMac(mac));
        }
        if !is_station(address) {
            return Err(AdminError::BadAddress(address.into()));
        }
        self.configure(|stack, cx| {
            let id = with_neighbours(stack, interface)?;
            let at = stack.addr_on_link(id, address);
            if stack.ip.contains(at) || stack.ip.dad.holds(at) {
                return Err(AdminError::AddressInUse(address));
            }
            let set = stack.set_neighbour(cx, id, at, mac);
            set.map_err(|_| AdminError::Limit(Resource::Neighbours.as_str()))?;
            let op = IfOp::AddNeighbour { address, mac };
            Ok(Op::Interface(interface.to_owned(), op))
        })
    }

    /// Forgets a neighbour, one set by hand or a learned one (`arp -d`). Packets that wait for its address
    /// are dropped.
    ///
    /// # Errors
    /// No interface of that name, or no such neighbour on it.
    pub fn remove_neighbour(&self, interface: &str, address: IpAddr) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        self.configure(|stack, cx| {
            let id = stack.ifs.id_of(interface)?;
            let at = stack.addr_on_link(id, address);
            let state = stack.neigh.remove(cx, id, at);
            let state = state.ok_or(AdminError::NoSuchNeighbour(address))?;
            // What was learned is no configuration.
            let op = IfOp::RemoveNeighbour { address };
            let is_noted = state == StateName::Permanent;
            Ok(is_noted.then_some(Op::Interface(interface.to_owned(), op)))
        })
    }
}
