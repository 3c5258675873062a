//! Kinds of addresses, and the addresses of one vnet.
//!
//! Subnet-directed broadcasts are recognised by the prefixes of the vnet's own addresses; the
//! all-zeros form of old BSDs is not.

use std::net::IpAddr;

use ipnet::IpNet;

use super::family::Family;
use crate::base::id::IfId;
use crate::base::sorted::Sorted;
use crate::base::walked::Walked;

/// Whom a packet or a frame is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cast {
    /// One station.
    Unicast,
    /// One of several stations that have the address (RFC 4291 section 2.6).
    Anycast,
    /// Every station of a link.
    Broadcast,
    /// The members of a group.
    Multicast,
}

/// What an address is by itself, whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// All zeros: "this host", before it has an address.
    Unspecified,
    /// The rest of IPv4's 0.0.0.0/8, which nobody has.
    ThisNetwork,
    /// Never on a wire: 127.0.0.0/8, ::1.
    Loopback,
    /// Never forwarded: 169.254.0.0/16 (RFC 3927 section 2.7), fe80::/10.
    LinkLocal,
    /// A group: 224.0.0.0/4, ff00::/8.
    Multicast,
    /// IPv4's 240.0.0.0/4 without the broadcast address.
    Reserved,
    /// 255.255.255.255.
    Broadcast,
    /// Any other.
    Unicast,
}

/// True when a host may have `addr`, on a wire or on a loopback interface.
pub(crate) fn is_host<F: Family>(addr: F::Addr) -> bool {
    matches!(
        F::kind(addr),
        Kind::Unicast | Kind::LinkLocal | Kind::Loopback
    )
}

/// True when some station on a wire may have `addr`.
pub(crate) fn is_station<F: Family>(addr: F::Addr) -> bool {
    matches!(F::kind(addr), Kind::Unicast | Kind::LinkLocal)
}

/// What an address is to one vnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// An address of this interface.
    Address(IfId),
    /// The broadcast address of this interface's subnet.
    Broadcast(IfId),
    /// An anycast address on the link of this interface, which others have as well. Nothing is sent from it.
    Anycast(IfId),
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddr<F: Family> {
    /// The interface.
    pub ifid: IfId,
    /// The address, and how long its prefix is.
    pub net: F::Net,
}

impl<F: Family> LocalAddr<F> {
    /// The address without its prefix.
    pub(crate) fn addr(&self) -> F::Addr {
        F::addr(self.net)
    }

    /// The subnet's broadcast address, if it has one.
    pub(crate) fn broadcast(&self) -> Option<F::Addr> {
        F::broadcast(self.net)
    }
}

/// Why an address was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddrError {
    /// This vnet has the address already.
    #[error("address {0} exists already")]
    Exists(IpAddr),
    /// The interface does not have the address.
    #[error("no address {0}")]
    NotFound(IpAddr),
    /// Not an address a host can have: a group, or the network or broadcast address of its
    /// prefix.
    #[error("{0} is not an address of a host")]
    NotHost(IpNet),
}

/// The addresses of one vnet, in the order they were added. Empty, it holds no memory.
///
/// Hosts follow the weak model (RFC 1122 section 3.3.4.2): an address is ours on whatever
/// interface the packet came in.
#[derive(Clone, Debug)]
pub(crate) struct LocalAddrs<F: Family> {
    /// By when they were added.
    addrs: Sorted<u64, LocalAddr<F>>,
    /// The same of each interface.
    by_interface: Sorted<(IfId, u64), LocalAddr<F>>,
    /// What addresses are, as numbers; what [`LocalAddrs::find`] looks into. Where an address is
    /// something of ours for several reasons, the first counts.
    index: Sorted<(F::Bits, Rank), Ours>,
    /// What has been in the index, for the many addresses that are nothing of ours.
    known: Known,
    /// Anycast addresses, and when they were added. They are none of the others.
    anycast: Sorted<(IfId, F::Bits), (u64, F::Addr)>,
    /// How many were ever added.
    added: u64,
    pub(crate) walked: Walked,
}

/// A set of addresses that may take others for its own: a bit for each of 64 sorts. It does not forget; what was
/// removed costs a search in vain.
#[derive(Clone, Copy, Debug, Default)]
struct Known(u64);

impl Known {
    fn add<F: Family>(&mut self, addr: F::Addr) {
        self.0 |= 1 << (F::mix(addr) >> 26);
    }

    #[inline]
    fn may_have<F: Family>(self, addr: F::Addr) -> bool {
        self.0 >> (F::mix(addr) >> 26) & 1 == 1
    }
}

/// The place of a reason why an address is something of ours. Addresses stand before broadcasts, so that
/// an address that another prefix takes for its broadcast remains an address; of equal broadcasts the
/// first added counts.
type Rank = (IsBroadcast, u64);
type IsBroadcast = bool;

/// The first of all ranks.
const FIRST: Rank = (false, 0);

impl<F: Family> Default for LocalAddrs<F> {
    /// No addresses.
    fn default() -> LocalAddrs<F> {
        LocalAddrs {
            addrs: Sorted::default(),
            by_interface: Sorted::default(),
            index: Sorted::default(),
            known: Known::default(),
            anycast: Sorted::default(),
            added: 0,
            walked: Walked::default(),
        }
    }
}

impl<F: Family> LocalAddrs<F> {
    /// Adds the address `net.addr()` with its prefix to an interface.
    ///
    /// # Errors
    /// [`AddrError::Exists`] when any interface has it, [`AddrError::NotHost`] when no host can.
    pub(crate) fn add(&mut self, ifid: IfId, net: F::Net) -> Result<(), AddrError> {
        let entry = LocalAddr { ifid, net };
        let addr = entry.addr();
        // The first address of a prefix is nobody's, unless there are but two (RFC 3021, RFC 6164).
        let is_network = F::prefix_len(net) < F::BITS - 1 && addr == F::addr(F::trunc(net));
        if !is_host::<F>(addr) || is_network || entry.broadcast() == Some(addr) {
            return Err(AddrError::NotHost(net.into()));
        }
        if self.contains(addr) {
            return Err(AddrError::Exists(addr.into()));
        }
        let number = self.added;
        self.added += 1;
        for (claim, ours) in claims(&entry, number) {
            self.index.insert(claim, ours);
        }
        self.known.add::<F>(addr);
        if let Some(addr) = entry.broadcast() {
            self.known.add::<F>(addr);
        }
        self.addrs.insert(number, entry);
        self.by_interface.insert((ifid, number), entry);
        Ok(())
    }

    /// Takes an address from an interface and returns it with its prefix.
    ///
    /// # Errors
    /// [`AddrError::NotFound`] when the interface does not have it.
    pub(crate) fn remove(&mut self, ifid: IfId, addr: F::Addr) -> Result<LocalAddr<F>, AddrError> {
        let missing = AddrError::NotFound(addr.into());
        let Some(((_, number), Ours::Address(_))) = self.claim(addr) else {
            return Err(missing);
        };
        let removed = self.by_interface.remove(&(ifid, number)).ok_or(missing)?;
        self.forget(number, &removed);
        Ok(removed)
    }

    /// Gives an interface an anycast address. True when it did not have it.
    pub(crate) fn add_anycast(&mut self, ifid: IfId, addr: F::Addr) -> bool {
        if self.is_anycast_on(ifid, addr) {
            return false;
        }
        let (bits, number) = (F::bits(addr), self.added);
        self.added += 1;
        // As broadcasts, they stand behind what is an address.
        self.index
            .insert((bits, (true, number)), Ours::Anycast(ifid));
        self.known.add::<F>(addr);
        self.anycast.insert((ifid, bits), (number, addr));
        true
    }

    /// Takes an anycast address from an interface. True when it had it.
    pub(crate) fn remove_anycast(&mut self, ifid: IfId, addr: F::Addr) -> bool {
        let bits = F::bits(addr);
        let removed = self.anycast.remove(&(ifid, bits));
        if let Some((number, _)) = removed {
            self.index.remove(&(bits, (true, number)));
        }
        removed.is_some()
    }

    /// True when the interface has this anycast address.
    pub(crate) fn is_anycast_on(&self, ifid: IfId, addr: F::Addr) -> bool {
        let key = (ifid, F::bits(addr));
        let found = self.anycast.first_from(&key, |k| *k < key);
        found.is_some_and(|(found, _)| *found == key)
    }

    /// The anycast addresses of an interface.
    pub(crate) fn anycast_on(&self, ifid: IfId) -> impl Iterator<Item = F::Addr> {
        let from = self.anycast.from((ifid, F::bits(F::UNSPECIFIED)));
        let on = from.take_while(move |((on, _), _)| *on == ifid);
        on.map(|(_, (_, addr))| *addr)
    }

    /// Takes every address from an interface.
    pub(crate) fn remove_interface(&mut self, ifid: IfId) {
        let of_interface = self.numbered_on(ifid);
        let removed: Vec<(u64, LocalAddr<F>)> = of_interface.map(|(n, a)| (n, *a)).collect();
        for (number, entry) in &removed {
            self.by_interface.remove(&(ifid, *number));
            self.forget(*number, entry);
        }
        for addr in self.anycast_on(ifid).collect::<Vec<_>>() {
            self.remove_anycast(ifid, addr);
        }
    }

    fn forget(&mut self, number: u64, entry: &LocalAddr<F>) {
        self.addrs.remove(&number);
        for (claim, _) in claims(entry, number) {
            self.index.remove(&claim);
        }
    }

    /// What `addr` is to this vnet; `None` when it is nothing of ours.
    #[inline]
    pub(crate) fn find(&self, addr: F::Addr) -> Option<Ours> {
        self.claim(addr).map(|(_, ours)| ours)
    }

    /// The reason that counts why `addr` is something of ours.
    #[inline]
    fn claim(&self, addr: F::Addr) -> Option<(Rank, Ours)> {
        // Nearly all that is asked for is not.
        match self.known.may_have::<F>(addr) {
            true => self.claim_by_index(addr),
            false => None,
        }
    }

    #[inline(never)]
    fn claim_by_index(&self, addr: F::Addr) -> Option<(Rank, Ours)> {
        let bits = F::bits(addr);
        let (&(of, rank), &ours) = self
            .index
            .first_from(&(bits, FIRST), |(of, _)| *of < bits)?;
        (of == bits).then_some((rank, ours))
    }

    /// One of our addresses, with its prefix.
    pub(crate) fn own(&self, addr: F::Addr) -> Option<&LocalAddr<F>> {
        let ((_, number), ours) = self.claim(addr)?;
        let is_it = matches!(ours, Ours::Address(_));
        let found = self.addrs.first_from(&number, |n| *n < number);
        found.filter(|_| is_it).map(|(_, own)| own)
    }

    /// True when `addr` is an address of one of our interfaces.
    #[inline]
    pub(crate) fn contains(&self, addr: F::Addr) -> bool {
        matches!(self.find(addr), Some(Ours::Address(_)))
    }

    /// True when `addr` is the broadcast address of one of our subnets, or of every network.
    #[inline]
    pub(crate) fn is_broadcast(&self, addr: F::Addr) -> bool {
        F::BROADCAST == Some(addr) || matches!(self.find(addr), Some(Ours::Broadcast(_)))
    }

    /// Whom `addr` addresses, seen from this vnet.
    #[inline]
    pub(crate) fn cast(&self, addr: F::Addr) -> Cast {
        if F::kind(addr) == Kind::Multicast {
            Cast::Multicast
        } else if self.is_broadcast(addr) {
            Cast::Broadcast
        } else {
            Cast::Unicast
        }
    }

    /// True when the interface answers for `addr` on its link. One that has addresses answers for
    /// those; one that has none borrows those of the others (RFC 1812 section 2.2.7, unnumbered
    /// lines), as it does when it speaks ([`LocalAddrs::source_for`]).
    pub(crate) fn answers(&self, ifid: IfId, addr: F::Addr) -> bool {
        match self.find(addr) {
            Some(Ours::Address(on)) if on == ifid => true,
            Some(Ours::Address(_)) => {
                is_station::<F>(addr) && self.on_interface(ifid).next().is_none()
            }
            Some(Ours::Broadcast(_) | Ours::Anycast(_)) | None => false,
        }
    }

    /// True when `addr` is the broadcast address of a subnet of the interface, or of every network.
    pub(crate) fn is_broadcast_on(&self, ifid: IfId, addr: F::Addr) -> bool {
        F::BROADCAST == Some(addr) || self.on_interface(ifid).any(|a| a.broadcast() == Some(addr))
    }

    /// True when `addr` lies in a prefix of the interface.
    pub(crate) fn is_on_link(&self, ifid: IfId, addr: F::Addr) -> bool {
        self.on_interface(ifid).any(|a| F::contains(a.net, addr))
    }

    /// The source address for a packet to `dst` that leaves through `ifid` for `next_hop`
    /// (RFC 1122 section 3.3.4.3): `dst` itself when it is ours, else the interface's address
    /// whose prefix holds the next hop, else the interface's first, else the vnet's first that
    /// is not a loopback address. `None` when there is none at all.
    pub(crate) fn source_for(
        &self,
        dst: F::Addr,
        ifid: IfId,
        next_hop: F::Addr,
    ) -> Option<F::Addr> {
        if self.contains(dst) {
            return Some(dst);
        }
        let of_prefix = self
            .on_interface(ifid)
            .find(|a| F::contains(a.net, next_hop));
        of_prefix
            .or_else(|| self.on_interface(ifid).next())
            .or_else(|| self.iter().find(|a| F::kind(a.addr()) != Kind::Loopback))
            .map(LocalAddr::addr)
    }

    /// The addresses of one interface, in the order they were added.
    pub(crate) fn on_interface(&self, ifid: IfId) -> impl Iterator<Item = &LocalAddr<F>> {
        let of_interface = self.numbered_on(ifid);
        of_interface
            .map(|(_, addr)| addr)
            .inspect(|_| self.walked.step())
    }

    fn numbered_on(&self, ifid: IfId) -> impl Iterator<Item = (u64, &LocalAddr<F>)> {
        let from = self.by_interface.from((ifid, 0));
        let of_interface = from.take_while(move |((on, _), _)| *on == ifid);
        of_interface.map(|((_, number), addr)| (*number, addr))
    }

    /// Every address, in the order they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalAddr<F>> {
        self.addrs.values().inspect(|_| self.walked.step())
    }

    /// How many addresses there are.
    pub(crate) fn len(&self) -> usize {
        self.addrs.len()
    }

    /// True when there is none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.addrs.is_empty()
    }
}

/// What an address of ours makes of addresses.
fn claims<F: Family>(
    entry: &LocalAddr<F>,
    number: u64,
) -> impl Iterator<Item = ((F::Bits, Rank), Ours)> + use<F> {
    let own = (F::bits(entry.addr()), (false, number));
    let own = (own, Ours::Address(entry.ifid));
    let ifid = entry.ifid;
    let all = entry
        .broadcast()
        .map(|addr| ((F::bits(addr), (true, number)), Ours::Broadcast(ifid)));
    std::iter::once(own).chain(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::family::{V4, V6};

    use ipnet::{Ipv4Net, Ipv6Net};
    use slotmap::SlotMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn interfaces() -> [IfId; 2] {
        let mut table = SlotMap::<IfId, ()>::with_key();
        [table.insert(()), table.insert(())]
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a prefix")
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn kinds() {
        for (addr, expected) in [
            ("0.0.0.0", Kind::Unspecified),
            ("0.1.2.3", Kind::ThisNetwork),
            ("127.9.9.9", Kind::Loopback),
            ("169.254.0.1", Kind::LinkLocal),
            ("223.255.255.255", Kind::Unicast),
            ("224.0.0.1", Kind::Multicast),
            ("239.255.255.255", Kind::Multicast),
            ("240.0.0.0", Kind::Reserved),
            ("255.255.255.254", Kind::Reserved),
            ("255.255.255.255", Kind::Broadcast),
        ] {
            assert_eq!(V4::kind(ip(addr)), expected, "{addr}");
        }
    }

    #[test]
    fn an_interface_comes_and_goes_with_its_addresses() {
        let [a, b] = interfaces();
        let mut addrs = LocalAddrs::<V4>::default();
        assert_eq!(addrs.add(a, net("10.0.0.1/24")), Ok(()));
        assert_eq!(addrs.add(b, net("10.0.1.1/24")), Ok(()));
        assert_eq!(addrs.add(b, net("10.0.1.2/24")), Ok(()));
        assert_eq!(
            addrs.add(b, net("10.0.0.1/8")),
            Err(AddrError::Exists(ip("10.0.0.1").into()))
        );
        assert_eq!(addrs.find(ip("10.0.1.2")), Some(Ours::Address(b)));
        assert_eq!(addrs.find(ip("10.0.1.255")), Some(Ours::Broadcast(b)));
        assert_eq!(addrs.find(ip("10.0.2.255")), None);
        assert!(addrs.remove(a, ip("10.0.1.2")).is_err());
        // The subnet's broadcast stays as long as one of its addresses does.
        assert!(addrs.remove(b, ip("10.0.1.1")).is_ok());
        assert!(addrs.is_broadcast(ip("10.0.1.255")));
        addrs.remove_interface(b);
        assert!(!addrs.is_broadcast(ip("10.0.1.255")));
        assert_eq!(addrs.len(), 1);
    }

    #[test]
    fn addresses_no_host_can_have_are_refused() {
        let [a, _] = interfaces();
        let mut addrs = LocalAddrs::<V4>::default();
        for text in [
            "10.0.0.0/24",
            "10.0.0.255/24",
            "224.0.0.1/32",
            "0.0.0.0/0",
            "255.255.255.255/32",
        ] {
            assert_eq!(
                addrs.add(a, net(text)),
                Err(AddrError::NotHost(net(text).into())),
                "{text}"
            );
        }
        // RFC 3021: both addresses of a /31 are hosts.
        assert_eq!(addrs.add(a, net("10.0.0.0/31")), Ok(()));
        assert_eq!(addrs.add(a, net("10.0.0.3/32")), Ok(()));
        assert!(!addrs.is_broadcast(ip("10.0.0.1")) && !addrs.is_broadcast(ip("10.0.0.3")));
    }

    #[test]
    fn an_address_wins_over_another_prefix_that_takes_it_for_a_broadcast() {
        let [a, b] = interfaces();
        let mut addrs = LocalAddrs::<V4>::default();
        assert_eq!(addrs.add(a, net("10.0.0.1/24")), Ok(()));
        assert_eq!(addrs.add(b, net("10.0.0.255/16")), Ok(()));
        assert_eq!(addrs.find(ip("10.0.0.255")), Some(Ours::Address(b)));
    }

    #[test]
    fn the_source_fits_the_next_hop() {
        let [a, b] = interfaces();
        let mut addrs = LocalAddrs::<V4>::default();
        let far = ip("192.0.2.1");
        assert_eq!(addrs.source_for(far, a, far), None);
        assert_eq!(addrs.add(a, net("10.0.0.1/24")), Ok(()));
        assert_eq!(addrs.add(a, net("10.0.1.1/24")), Ok(()));
        let source = |hop: &str| addrs.source_for(far, a, ip(hop));
        assert_eq!(source("10.0.1.254"), Some(ip("10.0.1.1")));
        assert_eq!(source("10.7.7.7"), Some(ip("10.0.0.1")));
        // An interface without addresses borrows one; to ourselves we speak as the destination.
        assert_eq!(addrs.source_for(far, b, far), Some(ip("10.0.0.1")));
        let own = ip("10.0.1.1");
        assert_eq!(addrs.source_for(own, b, own), Some(own));
    }

    #[test]
    fn addresses_of_128_bits() {
        let [a, b] = interfaces();
        let ip = |text: &str| -> Ipv6Addr { text.parse().expect("an address") };
        let net = |text: &str| -> Ipv6Net { text.parse().expect("a prefix") };
        let mut addrs = LocalAddrs::<V6>::default();
        for text in ["2001:db8::/64", "ff02::1/128", "::/128"] {
            let refused = AddrError::NotHost(net(text).into());
            assert_eq!(addrs.add(a, net(text)), Err(refused), "{text}");
        }
        // RFC 6164: both addresses of a /127 are hosts, and nothing is a broadcast.
        assert_eq!(addrs.add(a, net("2001:db8::/127")), Ok(()));
        assert_eq!(addrs.add(b, net("2001:db8:0:1::1/64")), Ok(()));
        let last = ip("2001:db8:0:1:ffff:ffff:ffff:ffff");
        assert_eq!(addrs.add(b, net("2001:db8:0:1::ffff/64")), Ok(()));
        assert_eq!((addrs.find(last), addrs.cast(last)), (None, Cast::Unicast));
        assert_eq!(addrs.cast(ip("ff02::2")), Cast::Multicast);
        assert_eq!(addrs.find(ip("2001:db8::")), Some(Ours::Address(a)));
        assert!(addrs.is_on_link(b, last) && !addrs.is_on_link(a, last));
        assert_eq!(addrs.source_for(last, b, last), Some(ip("2001:db8:0:1::1")));
        addrs.remove_interface(b);
        assert_eq!(addrs.find(ip("2001:db8:0:1::1")), None);
    }
}
