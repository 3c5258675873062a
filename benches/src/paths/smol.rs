//! The same transfer between two smoltcp hosts: each is behind a port of a vnet that bridges it to its end of the link.
//!
//! They have CUBIC, which is what smoltcp takes by itself where it is built in, buffers as large as ours may grow, and
//! everything else by default. The system is driven by hand: its clock is moved to whatever is due next in the vnets or in
//! smoltcp, whose own has microseconds.

use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use std::net::Ipv4Addr;
use vnet::time::Instant;
use vnet::{LinkConfig, OwnedVnet, Port, System};

use super::{BUFFER, CHUNK, Carried, PORT, RECEIVER, WIRE, sender_address, text};
use crate::card::Card;
use crate::compare::SideError;

/// Runs one transfer over a link with these ends, of the data and of the acknowledgements, and returns what it carried.
pub(super) fn goodput(
    seed: u64,
    [data, acks]: [LinkConfig; 2],
    time: Duration,
) -> Result<Carried, SideError> {
    let system = System::manual(seed);
    let vnets = [
        system.create("sender").map_err(text)?,
        system.create("receiver").map_err(text)?,
    ];
    vnets[0].epair(WIRE, &vnets[1], WIRE).map_err(text)?;
    let mut from = End::new(&vnets[0], sender_address(0), data, seed)?;
    let mut to = End::new(&vnets[1], RECEIVER, acks, seed + 1)?;
    to.socket().listen(PORT).map_err(text)?;
    let End {
        interface,
        sockets,
        handle,
        ..
    } = &mut from;
    sockets
        .get_mut::<tcp::Socket>(*handle)
        .connect(
            interface.context(),
            (IpAddress::from(RECEIVER), PORT),
            49152,
        )
        .map_err(text)?;
    let (chunk, mut buf) = (vec![7; CHUNK], vec![0; CHUNK]);
    let (mut received, mut half) = (0u64, None);
    let mut now = Instant::ZERO;
    while now < Instant::ZERO + time {
        if half.is_none() && now >= Instant::ZERO + time / 2 {
            half = Some(received);
        }
        let vnets_next = system.poll(now);
        let mut moved = from.exchange(now)? | to.exchange(now)?;
        while from.socket().can_send() {
            moved |= from.socket().send_slice(&chunk).map_err(text)? > 0;
        }
        while to.socket().can_recv() {
            received += to.socket().recv_slice(&mut buf).map_err(text)? as u64;
            moved = true;
        }
        if moved {
            continue;
        }
        // What is overdue and has not happened needs a later time, in smoltcp's unit.
        let soon = now + Duration::from_micros(1);
        now = [vnets_next, from.next(now), to.next(now)]
            .into_iter()
            .flatten()
            .min()
            .ok_or_else(|| SideError::new("smoltcp: nothing is left to happen"))?
            .max(soon);
    }
    let rate = |bytes: u64, time: Duration| bytes as f64 * 8.0 / time.as_secs_f64() / 1e6;
    Ok(Carried {
        late: rate(received - half.unwrap_or(received), time / 2),
        whole: rate(received, time),
    })
}

struct End {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    card: Card,
    port: Port,
}

impl End {
    fn new(
        vnet: &OwnedVnet,
        address: Ipv4Addr,
        link: LinkConfig,
        seed: u64,
    ) -> Result<End, SideError> {
        vnet.bridge("bridge0").map_err(text)?;
        let port = vnet.port("host", None).map_err(text)?;
        vnet.add_member("bridge0", "host").map_err(text)?;
        vnet.add_member("bridge0", WIRE).map_err(text)?;
        vnet.set_link(WIRE, link).map_err(text)?;
        let mut card = Card::default();
        let mac = EthernetAddress([2, 0, 0, 0, 0x99, address.octets()[3]]);
        let mut config = Config::new(mac.into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(address.into(), 24))
                .expect("the interface has no address yet");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER as usize]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Ok(End {
            interface,
            sockets,
            handle,
            card,
            port,
        })
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Takes what has arrived, works, and sends. Whether there was anything.
    fn exchange(&mut self, now: Instant) -> Result<bool, SideError> {
        while let Some(packet) = self.port.recv() {
            self.card.incoming.push_back(packet.to_vec());
        }
        let mut any = !self.card.incoming.is_empty();
        self.interface
            .poll(micros(now), &mut self.card, &mut self.sockets);
        for frame in self.card.outgoing.drain(..) {
            any = true;
            self.port.send(frame).map_err(text)?;
        }
        Ok(any)
    }

    fn next(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(micros(now), &self.sockets)?;
        Some(Instant::from_nanos(at.total_micros() as u64 * 1000))
    }
}

fn micros(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}
