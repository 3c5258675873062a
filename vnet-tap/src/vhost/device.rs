//! A guest's virtio-net device, as the pump, those who send to the guest and the emulator's requests share it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::event::epoll;
use vnet::Offload;
use vnet::packet::Packet;

use super::ring::Ring;
use crate::flow::flow;
use crate::sys::Bell;

/// Pairs of queues that a guest may use.
pub(super) const PAIRS: usize = 8;
/// Buffers that are given back before the guest is told. It may be waiting for them.
pub(super) const TOLD_AFTER: u32 = 16;

/// Features of virtio-net and its rings, by the number of their bit (virtio 1.2, sections 5.1.3 and 6).
pub(super) mod feature {
    pub(in crate::vhost) const CSUM: u64 = 1 << 0;
    pub(in crate::vhost) const GUEST_CSUM: u64 = 1 << 1;
    pub(in crate::vhost) const GUEST_TSO4: u64 = 1 << 7;
    pub(in crate::vhost) const GUEST_TSO6: u64 = 1 << 8;
    pub(in crate::vhost) const GUEST_ECN: u64 = 1 << 9;
    pub(in crate::vhost) const HOST_TSO4: u64 = 1 << 11;
    pub(in crate::vhost) const HOST_TSO6: u64 = 1 << 12;
    pub(in crate::vhost) const HOST_ECN: u64 = 1 << 13;
    pub(in crate::vhost) const MRG_RXBUF: u64 = 1 << 15;
    pub(in crate::vhost) const STATUS: u64 = 1 << 16;
    pub(in crate::vhost) const CTRL_VQ: u64 = 1 << 17;
    pub(in crate::vhost) const CTRL_RX: u64 = 1 << 18;
    pub(in crate::vhost) const MQ: u64 = 1 << 22;
    pub(in crate::vhost) const INDIRECT_DESC: u64 = 1 << 28;
    pub(in crate::vhost) const EVENT_IDX: u64 = 1 << 29;
    /// Not the guest's: that the emulator may ask which features its protocol has.
    pub(in crate::vhost) const PROTOCOL: u64 = 1 << 30;
    pub(in crate::vhost) const VERSION_1: u64 = 1 << 32;
    /// Over IPv4 and over IPv6: datagrams are joined for a guest that takes both.
    pub(in crate::vhost) const GUEST_USO: u64 = 1 << 54 | 1 << 55;
    pub(in crate::vhost) const HOST_USO: u64 = 1 << 56;

    /// What is offered. The emulator serves the control queue itself.
    pub(in crate::vhost) const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | GUEST_USO
        | HOST_USO
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | CTRL_RX
        | MQ
        | INDIRECT_DESC
        | EVENT_IDX
        | PROTOCOL
        | VERSION_1;
}

/// What may be left undone in frames for a guest that has agreed to these features.
pub(super) fn offload(features: u64) -> Offload {
    let segments = feature::GUEST_TSO4 | feature::GUEST_TSO6 | feature::GUEST_ECN;
    if features & feature::GUEST_CSUM == 0 {
        Offload::None
    } else if features & segments != segments {
        Offload::Checksum
    } else {
        Offload::Full
    }
}

/// The device, as the pump, those who send to the guest and the emulator's requests share it.
pub(super) struct Device {
    /// Two to a pair: what the guest receives, and what it sends.
    pub(super) rings: Vec<Mutex<Ring>>,
    /// What the guest has agreed to.
    pub(super) features: AtomicU64,
    /// Of kicks, and of the end.
    pub(super) events: OwnedFd,
    /// Something was carried since it was looked for more in vain, twice.
    pub(super) is_fresh: AtomicBool,
    /// Set, and rung, when the emulator's requests have ended.
    pub(super) has_ended: AtomicBool,
    pub(super) end: Mutex<Option<io::Error>>,
    pub(super) bell: Bell,
}

impl Device {
    pub(super) fn new() -> io::Result<Device> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = Bell::new()?;
        let whatever = epoll::EventData::new_u64(0);
        // Each ring of it counts once, without being heard.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&events, &bell, whatever, flags)?;
        let rings: Result<_, _> = (0..2 * PAIRS)
            .map(|_| Ring::new().map(Mutex::new))
            .collect();
        Ok(Device {
            rings: rings?,
            features: AtomicU64::new(0),
            events,
            is_fresh: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            end: Mutex::new(None),
            bell,
        })
    }

    /// The ring with this number, if there is one.
    pub(super) fn ring(&self, number: usize) -> Option<&Mutex<Ring>> {
        self.rings.get(number)
    }

    /// Those in which the guest receives.
    pub(super) fn received_by_guest(&self) -> impl Iterator<Item = &Mutex<Ring>> {
        self.rings.iter().step_by(2)
    }

    /// Those in which it sends.
    pub(super) fn sent_by_guest(&self) -> impl Iterator<Item = &Mutex<Ring>> {
        self.rings.iter().skip(1).step_by(2)
    }

    /// Nothing more is asked. The first reason counts.
    pub(super) fn end(&self, why: io::Error) {
        if !self.has_ended.load(Ordering::SeqCst) {
            *self.end.lock() = Some(why);
            self.has_ended.store(true, Ordering::SeqCst);
            self.bell.ring();
        }
    }

    /// The pair for a frame to the guest: one flow stays in one.
    pub(super) fn pair_for(&self, packet: &Packet) -> Option<usize> {
        if self.features.load(Ordering::Relaxed) & feature::MQ == 0 {
            return Some(0);
        }
        let running = || {
            let rings = self.received_by_guest().enumerate();
            let running = rings.filter(|(_, ring)| ring.lock().is_running());
            running.map(|(pair, _)| pair)
        };
        let several = running().count();
        match several {
            0 | 1 => running().next(),
            several => running().nth(flow(packet) as usize % several),
        }
    }
}
