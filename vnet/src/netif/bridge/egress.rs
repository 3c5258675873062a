//! How frames leave a bridge: by one member, or by all that take them.

use super::introduce::Introduction;
use super::snooping::Snooper;
use super::vlan::{Behind, Form};
use super::{Bridge, BridgeConfig, Flood, Ingress, Switchable, Treatment, kept_back};
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::switch::Switch;
use crate::base::time::Instant;
use crate::netif::IfTable;
use crate::netif::bridge::fdb::Fid;
use crate::packet::header::ether::{self, ETHER_LEN};
use crate::packet::tag::{TAG_LEN, Tag, UNCOUNTED_TAGS};
use crate::packet::{Packet, gso};

impl Bridge {
    /// Readies a frame for one member; `from` is where it came from, unless it is the vnet's own.
    ///
    /// # Errors
    /// Why it does not go there; it is counted here, but not in the vnet's counters.
    pub(crate) fn forward(
        &mut self,
        ifs: &IfTable,
        now: Instant,
        from: Option<Ingress>,
        to: IfId,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let place = self.place(packet);
        let frame = FrameSize::of(packet)?;
        match self.admit(ifs, now, from, to, Flood::Any, place, frame) {
            Ok(form) => {
                leave(packet, form);
                self.counters.forwarded += 1;
                Ok(())
            }
            Err(reason) => {
                match reason {
                    DropReason::BridgeFiltered => self.counters.filtered += 1,
                    DropReason::VlanFiltered => self.counters.vlan_filtered += 1,
                    _ => {}
                }
                Err(reason)
            }
        }
    }

    /// Begins to hand a frame to every member but the one that it came from.
    ///
    /// # Errors
    /// A frame whose headers cannot be read.
    pub(crate) fn flood(
        &self,
        now: Instant,
        from: Option<Ingress>,
        why: Flood,
        packet: &mut Packet,
    ) -> Result<Flooding, DropReason> {
        Ok(Flooding {
            now,
            from,
            why,
            place: self.place(packet),
            frame: FrameSize::of(packet)?,
            next: 0,
            outcome: Err(DropReason::BridgeFiltered),
        })
    }

    /// The next member that is to have a copy, and how.
    pub(crate) fn next_member(
        &mut self,
        ifs: &IfTable,
        flooding: &mut Flooding,
    ) -> Option<(IfId, Form)> {
        while let Some(to) = self.members.get(flooding.next).copied() {
            flooding.next += 1;
            let Flooding {
                now,
                from,
                why,
                place,
                frame,
                ..
            } = *flooding;
            match self.admit(ifs, now, from, to, why, place, frame) {
                Ok(form) => {
                    flooding.outcome = Ok(());
                    return Some((to, form));
                }
                // A size that does not fit says more than that there was nobody.
                Err(DropReason::TooBig) if flooding.outcome.is_err() => {
                    flooding.outcome = Err(DropReason::TooBig);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Ends it.
    ///
    /// # Errors
    /// Why the frame went to none; it is counted here, but not in the vnet's counters.
    pub(crate) fn flooded(&mut self, flooding: &Flooding) -> Result<(), DropReason> {
        match flooding.outcome {
            Ok(()) => self.counters.flooded += 1,
            Err(DropReason::BridgeFiltered) => self.counters.filtered += 1,
            Err(_) => {}
        }
        flooding.outcome
    }

    /// The copy of a frame that members are sent which only watch.
    pub(crate) fn watched(&self, packet: &Packet) -> Option<Packet> {
        let mut copy = packet.clone();
        copy.meta.rcvif = None;
        copy.meta.bridges.cross();
        (packet.meta.bridges.count() < BridgeConfig::MAX_BRIDGES).then_some(copy)
    }

    /// Whether a member that only watches can be sent such a copy.
    pub(crate) fn shows(&mut self, ifs: &IfTable, to: IfId, copy: &mut Packet) -> bool {
        let Some(netif) = ifs.get(to).filter(|i| i.is_running()) else {
            self.counters.member_down += 1;
            return false;
        };
        let frame = FrameSize::of(copy);
        let fits = frame.is_ok_and(|frame| frame.fits(netif.ip_mtu, Form::Tagged));
        self.counters.too_big += u64::from(!fits);
        fits
    }

    /// Makes a frame that is inside the bridge what the vnet itself receives.
    pub(crate) fn to_host(&self, packet: &mut Packet) {
        if let Some(vlans) = &self.vlans
            && vlans.host_form(vlans.place(packet)) == Some(Form::Untagged)
            && let Some(tag) = packet.pop_tag()
        {
            packet.meta.tags.set_priority(tag.priority());
        }
    }

    /// The outer tag that a frame inside the bridge has for the vnet itself; `None` when it has none, or does
    /// not go there.
    pub(crate) fn tag_for_host(&self, packet: &Packet) -> Option<Tag> {
        let form = match &self.vlans {
            _ if self.config.host_port == Switchable::Off => None,
            None => Some(Form::Tagged),
            Some(vlans) => vlans.host_form(vlans.place(packet)),
        };
        match form? {
            Form::Tagged => packet.meta.tags.outer(),
            Form::Untagged => packet.meta.tags.inner(),
        }
    }

    /// Makes a frame that introduces a station one that the station has sent to everybody, and that leaves by a
    /// member; false when it does not leave there.
    pub(crate) fn introduce(
        &mut self,
        ifs: &IfTable,
        now: Instant,
        who: Introduction,
        packet: &mut Packet,
    ) -> bool {
        let is_up = ifs.get(self.ifid).is_some_and(|i| i.is_running());
        let station = self.fdb.lookup(now, who.fid, who.mac);
        let Some(station) = station.filter(|_| is_up) else {
            return false;
        };
        if let Some(vlans) = &self.vlans {
            // Without a tag, a frame of one VLAN would be one of another.
            let seen_in = station.fid.vid().or(station.seen_in.vid());
            let Some(vid) = seen_in.or_else(|| vlans.pvid(station.ifid)) else {
                return false;
            };
            packet.push_tag(vlans.tag(vid));
        }
        let member = ifs.get(station.ifid).and_then(|i| i.on_bridge());
        let from = member.map(|member| Ingress {
            ifid: station.ifid,
            config: member.config,
            state: member.state,
        });
        self.lets_out(ifs, now, from, who.by, Flood::Broadcast, packet)
    }

    /// Makes a frame of the bridge's own, which is inside it, one that leaves by a member; false when it does not
    /// leave there.
    pub(crate) fn lets_out(
        &mut self,
        ifs: &IfTable,
        now: Instant,
        from: Option<Ingress>,
        to: IfId,
        why: Flood,
        packet: &mut Packet,
    ) -> bool {
        let place = self.place(packet);
        let Ok(frame) = FrameSize::of(packet) else {
            return false;
        };
        let form = self.admit(ifs, now, from, to, why, place, frame);
        form.map(|form| leave(packet, form)).is_ok()
    }

    /// Makes a frame of the bridge's own one that is inside it, in a VLAN.
    pub(crate) fn put_in_vlan(&self, vlan: Fid, packet: &mut Packet) {
        if let (Some(vlans), Some(vid)) = (&self.vlans, vlan.vid()) {
            packet.push_tag(vlans.tag(vid));
        }
    }

    /// The VLAN of a frame that is inside the bridge, and what is behind its tag.
    #[inline]
    fn place(&self, packet: &Packet) -> (Fid, Behind) {
        match &self.vlans {
            None => (Fid::ALL, Behind::NoVlan),
            Some(vlans) => vlans.place(packet),
        }
    }

    /// Whether a member is to have a frame that is only for some.
    #[inline(never)]
    fn wants(&self, now: Instant, why: Flood, vlan: Fid, to: IfId, config: Treatment) -> Switch {
        let leads = |s: &Snooper| match why {
            Flood::Members(group) => s.wants(now, vlan, group, to),
            _ => s.is_router(now, vlan, to),
        };
        match config.router.is_on() || self.snooper.as_deref().is_some_and(leads) {
            true => config.multicast,
            false => Switch::Off,
        }
    }

    /// Whether a member takes a frame, and how.
    #[allow(clippy::too_many_arguments)]
    fn admit(
        &mut self,
        ifs: &IfTable,
        now: Instant,
        from: Option<Ingress>,
        to: IfId,
        why: Flood,
        place: (Fid, Behind),
        frame: FrameSize,
    ) -> Result<Form, DropReason> {
        let netif = ifs.get(to).ok_or(DropReason::InterfaceDown)?;
        let member = netif.on_bridge().ok_or(DropReason::BridgeFiltered)?;
        let config = member.config;
        let is_private = |c: Treatment| c.private == Switch::On;
        let comes_back = from.is_some_and(|f| f.ifid == to);
        let wants = match why {
            Flood::Any => Switch::On,
            Flood::Broadcast => config.broadcast,
            Flood::Multicast => config.multicast,
            Flood::Members(_) | Flood::Routers => self.wants(now, why, place.0, to, config),
            Flood::Unknown => config.discover,
        };
        let between_private = is_private(config) && from.is_some_and(|f| is_private(f.config));
        if comes_back || !wants.is_on() || between_private || config.span.is_on() {
            return Err(DropReason::BridgeFiltered);
        }
        let form = match &self.vlans {
            None => Form::Tagged,
            Some(vlans) => vlans.form(to, place).ok_or(DropReason::VlanFiltered)?,
        };
        if let Some(reason) = kept_back(member.state) {
            return Err(reason);
        }
        if !netif.is_running() {
            self.counters.member_down += 1;
            return Err(DropReason::InterfaceDown);
        }
        if !frame.fits(netif.ip_mtu, form) {
            self.counters.too_big += 1;
            return Err(DropReason::TooBig);
        }
        Ok(form)
    }
}

/// A frame that is being handed to members one after the other.
pub(crate) struct Flooding {
    now: Instant,
    from: Option<Ingress>,
    why: Flood,
    place: (Fid, Behind),
    frame: FrameSize,
    next: usize,
    outcome: Result<(), DropReason>,
}

impl Flooding {
    /// A copy for one of them, which costs no more than its headers.
    pub(crate) fn copy(&self, packet: &Packet, form: Form) -> Packet {
        let mut copy = packet.clone();
        leave(&mut copy, form);
        copy
    }
}

/// Makes a frame that is inside the bridge one that goes out.
fn leave(packet: &mut Packet, form: Form) {
    packet.meta.rcvif = None;
    packet.meta.bridges.cross();
    if form == Form::Untagged
        && let Some(tag) = packet.pop_tag()
    {
        packet.meta.tags.set_priority(tag.priority());
    }
}

/// How long a frame is.
#[derive(Clone, Copy)]
struct FrameSize {
    /// Bytes behind its headers.
    longest: usize,
    /// Its tags, in its bytes or not.
    tags: usize,
}

impl FrameSize {
    fn of(packet: &mut Packet) -> Result<FrameSize, DropReason> {
        let headers = ether::network_offset(packet);
        let longest = gso::longest_frame(packet, headers).map_err(|_| DropReason::Malformed)?;
        let tags = headers - ETHER_LEN + packet.meta.tags.wire_len();
        Ok(FrameSize {
            longest: longest.saturating_sub(headers),
            tags: tags / TAG_LEN,
        })
    }

    /// Whether it can leave in this form by a member with this MTU.
    fn fits(self, ip_mtu: u16, form: Form) -> bool {
        let tags = self.tags - usize::from(form == Form::Untagged);
        // IEEE 802.3, clause 3.2.7: a frame may be longer by its tags; but there is not room for any number.
        let counted = tags.saturating_sub(UNCOUNTED_TAGS) * TAG_LEN;
        self.longest + counted <= usize::from(ip_mtu)
    }
}
