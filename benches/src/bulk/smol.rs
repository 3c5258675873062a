//! The peer: two raw smoltcp interfaces of `Medium::Ip`, joined by queues.
//!
//! Set up to be as fast as smoltcp can be: packets are written into buffers that are used again
//! and again, whole queues change hands at once, no checksum is computed or verified, there is
//! no Nagle delay and no clock to read, and acknowledgements are delayed as long as smoltcp
//! likes best. Both choices below were measured; the faster one stayed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::{Pair, SOCKET_BUFFER};
use crate::compare::SideError;

const PORT: u16 = 5001;
/// How far the pretended clock moves in a round.
const ROUND: Duration = Duration::from_micros(10);

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
    pub(super) fn connect(ip_mtu: u16) -> Result<Interfaces, SideError> {
        let free = Rc::new(RefCell::new(Vec::new()));
        let mut pair = Interfaces {
            sender: End::new([192, 0, 2, 1], ip_mtu, Rc::clone(&free)),
            receiver: End::new([192, 0, 2, 2], ip_mtu, free),
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
    fn new(address: [u8; 4], ip_mtu: u16, free: FreeList) -> End {
        let mut device = Queues {
            ip_mtu: ip_mtu.into(),
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
        socket.set_nagle_enabled(false);
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

/// A packet in a buffer that is as large as the MTU, and how much of it is used.
struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

/// One end of the wire.
struct Queues {
    ip_mtu: usize,
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
            ip_mtu: self.ip_mtu,
            outgoing: &mut self.outgoing,
            free: &self.free,
        };
        Some((received, sending))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending {
            ip_mtu: self.ip_mtu,
            outgoing: &mut self.outgoing,
            free: &self.free,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.ip_mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
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
    ip_mtu: usize,
    outgoing: &'a mut VecDeque<Buffer>,
    free: &'a RefCell<Vec<Buffer>>,
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = self.free.borrow_mut().pop().unwrap_or_else(|| Buffer {
            bytes: vec![0; self.ip_mtu].into_boxed_slice(),
            len: 0,
        });
        buffer.len = len;
        let result = f(&mut buffer.bytes[..len]);
        self.outgoing.push_back(buffer);
        result
    }
}
