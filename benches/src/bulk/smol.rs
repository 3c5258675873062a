//! The peer: two raw smoltcp interfaces of `Medium::Ip`, joined by queues.
//!
//! Set up to be as fast as smoltcp can be: packets are written into buffers that are used again
//! and again, whole queues change hands at once, no checksum is computed or verified, and there
//! is no clock to read. What could be chosen was measured, and the faster choice stayed: Nagle on
//! (without it each write of the application ends in a small segment), acknowledgements delayed
//! as by default, no congestion control, work after each write rather than after filling the
//! whole socket buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::num::NonZeroUsize;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::{Pair, SOCKET_BUFFER};
use crate::compare::SideError;

const PORT: u16 = 5001;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// How far the pretended clock moves in a round.
const ROUND: Duration = Duration::from_micros(10);

/// What the device between the interfaces does for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offload {
    /// Nothing: packets are no larger than the MTU.
    None,
    /// Takes and delivers TCP segments of up to 64 KiB, whatever the MTU.
    Segmentation,
}

/// Both ends of a connection.
pub(super) struct Interfaces {
    sender: End,
    receiver: End,
    now: Instant,
}

struct End {
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Interfaces {
    pub(super) fn connect(ip_mtu: u16, offload: Offload) -> Result<Interfaces, SideError> {
        let free = Rc::new(RefCell::new(Vec::new()));
        let mut pair = Interfaces {
            sender: End::new([192, 0, 2, 1], ip_mtu, offload, Rc::clone(&free)),
            receiver: End::new([192, 0, 2, 2], ip_mtu, offload, free),
            now: Instant::ZERO,
        };
        pair.receiver
            .socket()
            .listen(PORT)
            .map_err(|e| SideError::new(e.to_string()))?;
        let End {
            interface,
            sockets,
            handle,
            ..
        } = &mut pair.sender;
        sockets
            .get_mut::<tcp::Socket>(*handle)
            .connect(
                interface.context(),
                (IpAddress::v4(192, 0, 2, 2), PORT),
                49152,
            )
            .map_err(|e| SideError::new(e.to_string()))?;
        for _ in 0..10 {
            pair.work();
        }
        if pair.sender.socket().may_send() && pair.receiver.socket().may_recv() {
            Ok(pair)
        } else {
            Err(SideError::new("the handshake did not complete"))
        }
    }
}

impl Pair for Interfaces {
    fn write(&mut self, data: &[u8]) -> Result<usize, SideError> {
        self.sender
            .socket()
            .send_slice(data)
            .map_err(|e| SideError::new(e.to_string()))
    }

    fn work(&mut self) {
        self.now += ROUND;
        self.sender.poll(self.now);
        self.sender.device.hand_over(&mut self.receiver.device);
        self.receiver.poll(self.now);
        self.receiver.device.hand_over(&mut self.sender.device);
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, SideError> {
        self.receiver
            .socket()
            .recv_slice(buf)
            .map_err(|e| SideError::new(e.to_string()))
    }
}

impl End {
    fn new(address: [u8; 4], ip_mtu: u16, offload: Offload, free: FreeList) -> End {
        let mut device = Queues {
            ip_mtu: ip_mtu.into(),
            offload,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            free,
        };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let [a, b, c, d] = address;
            addresses
                .push(IpCidr::new(IpAddress::v4(a, b, c, d), 24))
                .expect("the interface has no address yet");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; SOCKET_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::None);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        End {
            interface,
            device,
            sockets,
            handle,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn poll(&mut self, now: Instant) {
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
    }
}

type FreeList = Rc<RefCell<Vec<Buffer>>>;

/// A packet in a buffer that any packet fits in, and how much of it is used.
struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

/// One end of the wire.
struct Queues {
    ip_mtu: usize,
    offload: Offload,
    incoming: VecDeque<Buffer>,
    outgoing: VecDeque<Buffer>,
    free: FreeList,
}

impl Queues {
    /// Moves all outgoing packets to the other end, whose queue is normally empty.
    fn hand_over(&mut self, to: &mut Queues) {
        if to.incoming.is_empty() {
            mem::swap(&mut self.outgoing, &mut to.incoming);
        } else {
            to.incoming.append(&mut self.outgoing);
        }
    }
}

impl Queues {
    fn buffer_size(&self) -> usize {
        match self.offload {
            Offload::None => self.ip_mtu,
            Offload::Segmentation => MAX_PACKET,
        }
    }
}

impl Device for Queues {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let buffer = self.incoming.pop_front()?;
        let received = Received {
            buffer,
            free: &self.free,
        };
        let sending = Sending {
            size: self.buffer_size(),
            outgoing: &mut self.outgoing,
            free: &self.free,
        };
        Some((received, sending))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending {
            size: self.buffer_size(),
            outgoing: &mut self.outgoing,
            free: &self.free,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.ip_mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
        if self.offload == Offload::Segmentation {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_PACKET);
        }
        capabilities
    }
}

struct Received<'a> {
    buffer: Buffer,
    free: &'a RefCell<Vec<Buffer>>,
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.buffer.bytes[..self.buffer.len]);
        self.free.borrow_mut().push(self.buffer);
        result
    }
}

struct Sending<'a> {
    size: usize,
    outgoing: &'a mut VecDeque<Buffer>,
    free: &'a RefCell<Vec<Buffer>>,
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = self.free.borrow_mut().pop().unwrap_or_else(|| Buffer {
            bytes: vec![0; self.size].into_boxed_slice(),
            len: 0,
        });
        buffer.len = len;
        let result = f(&mut buffer.bytes[..len]);
        self.outgoing.push_back(buffer);
        result
    }
}
