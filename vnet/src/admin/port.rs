//! The outside end of a port interface: where an emulator's NIC, a TAP device or a test is
//! connected to a vnet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::record::{IfOp, Op};
use crate::base::callback;
use crate::base::lock::{Condvar, Mutex, Rank};
use crate::base::time::{Duration, Instant};
use crate::instance::attendance::Line;
use crate::instance::cores::VnetCore;
use crate::instance::driver::TimerKey;
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::netif::inbox::{Batch, News};
use crate::netif::wire::{End, WireEnd};
use crate::netif::{AdminError, Doorbell, Inbox, Item, Kind, Plug, Wire};
use crate::packet::cx::{Carrier, Pushed, Sink};
use crate::packet::header::ether::{self, ETHER_LEN};
use crate::packet::tag::TAG_LEN;
use crate::packet::{GsoKind, MacAddr, Packet, Payload, gso, virtio};

/// Largest frame that a port takes: the largest IP packet behind an Ethernet header with two tags.
pub(crate) const MAX_FRAME_LEN: usize = 65_535 + ETHER_LEN + 2 * TAG_LEN;

/// Why a port cannot send or receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The interface, or its vnet, is gone.
    #[error("the port's interface is gone")]
    Gone,
    /// No frame arrived in time.
    #[error("no frame arrived in time")]
    TimedOut,
    /// The frame has fewer bytes than an Ethernet header, or more than fit in an IP packet.
    #[error("a frame of {0} bytes is out of range (14 to 65557)")]
    BadLength(usize),
    /// The virtio-net header does not describe the frame, or asks for something other than TCP to be
    /// cut.
    #[error("the virtio-net header does not describe the frame")]
    BadHeader,
}

/// The outside end of a port interface. Frames sent here are received by the interface; frames that
/// the vnet sends through the interface are received here.
///
/// Dropping it leaves the interface in place, with its carrier down.
///
/// ```
/// use vnet::System;
///
/// let system = System::virtual_time(1);
/// let a = system.create("a")?;
/// let port = a.port("eth0", None)?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// // The address is announced at once: a gratuitous ARP request, 42 bytes.
/// assert_eq!(port.recv().unwrap().len(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Port {
    core: Arc<VnetCore>,
    mac: MacAddr,
    wire: Arc<Wire>,
    to_vnet: Arc<WireEnd>,
    from_vnet: Arc<Inbox>,
    /// Frames that nobody received in time, noticed while receiving others.
    overflowed: AtomicU64,
    bell: Arc<Bell>,
}

type OnReady = Arc<dyn Fn() + Send + Sync>;

/// Wakes whoever waits for frames from the vnet.
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    on_ready: Option<OnReady>,
    /// Who polled last, and is to be woken.
    waiter: Option<Waker>,
    /// Wakes it when a frame arrives that is on its way.
    alarm: Option<TimerKey>,
    rings: u64,
    carrier: Carrier,
    /// The number of the news that it comes from.
    heard: u64,
}

impl Doorbell for Bell {
    fn ring(self: Arc<Bell>, _at: Instant) {
        let (on_ready, waiter) = {
            let mut state = self.state.lock();
            state.rings += 1;
            (state.on_ready.clone(), state.waiter.take())
        };
        self.rung.notify_all();
        if let Some(waiter) = waiter {
            callback::contained("a waker", || waiter.wake());
        }
        if let Some(on_ready) = on_ready {
            on_ready();
        }
    }
}

impl Vnet {
    /// Creates an interface whose other end is outside, with the given MAC address or one of the
    /// system's, up, with an IP MTU of 1500.
    ///
    /// Frames leave it complete: cut to the MTU, with every checksum filled in. For an outside end
    /// that can do both by itself, see [`Vnet::set_offload`].
    ///
    /// # Errors
    /// The name is invalid or taken, or the MAC address is not a unicast address.
    pub fn port(&self, name: &str, mac: Option<MacAddr>) -> Result<Port, AdminError> {
        let wire = Wire::new();
        let (outside, _) = Outside::plugged_into(&wire);
        let mac = self.attach(name, Kind::Port, mac, &wire, End::A, port_op(name, mac))?;
        Ok(outside.into_port(&self.core, mac, wire))
    }

    /// Makes an interface as [`Vnet::port`] does, with nothing plugged in outside.
    pub(super) fn loose_port(&self, name: &str, mac: Option<MacAddr>) -> Result<(), AdminError> {
        let op = port_op(name, mac);
        self.attach(name, Kind::Port, mac, &Wire::new(), End::A, op)?;
        Ok(())
    }

    /// The outside end of a port that has none: one made by a [replay](crate::System::replay), or
    /// whose [`Port`] was dropped. The interface's carrier comes up.
    ///
    /// # Errors
    /// There is no interface of that name, it is not a port, or it already has an outside end.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let port = a.port("eth0", None)?;
    /// let b = system.replay(&a.record()?, "b")?;
    /// let twin = b.plug_port("eth0")?;
    /// assert!(b.plug_port("eth0").is_err());
    /// assert_ne!(port.mac(), twin.mac());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plug_port(&self, name: &str) -> Result<Port, AdminError> {
        self.require(Privilege::InterfaceCreate)?;
        self.core.with(|stack, cx| {
            let netif = stack.ifs.by_name(name)?;
            let Kind::Port(end) = &netif.kind else {
                return Err(AdminError::Unsupported {
                    kind: netif.kind.name(),
                    what: "has no outside end",
                });
            };
            let wire = Arc::clone(end.near().0);
            if wire.is_plugged(End::B) {
                return Err(AdminError::PluggedIn(name.to_owned()));
            }
            let (id, mac) = (netif.id, netif.mac);
            let (outside, news) = Outside::plugged_into(&wire);
            stack.hear(cx, id, news);
            Ok(outside.into_port(&self.core, mac, wire))
        })?
    }
}

fn port_op(name: &str, mac: Option<MacAddr>) -> Op {
    Op::Interface(name.to_owned(), IfOp::Port { mac })
}

/// The outside end of a wire, which is to be a port's.
struct Outside {
    from_vnet: Arc<Inbox>,
    bell: Arc<Bell>,
}

impl Outside {
    /// Also returns what the interface is to know of it.
    fn plugged_into(wire: &Wire) -> (Outside, News) {
        let bell = Arc::new(Bell {
            state: Mutex::new(Rank::Driver, BellState::default()),
            rung: Condvar::new(),
        });
        let from_vnet = Arc::new(Inbox::new());
        let weak = Arc::downgrade(&bell);
        from_vnet.set_doorbell(weak, false);
        let news = wire.plug_in(
            End::B,
            Plug {
                inbox: Arc::clone(&from_vnet),
                ifid: None,
            },
        );
        (Outside { from_vnet, bell }, news)
    }

    fn into_port(self, core: &Arc<VnetCore>, mac: MacAddr, wire: Arc<Wire>) -> Port {
        Port {
            core: Arc::clone(core),
            mac,
            to_vnet: wire.sender(End::B),
            wire,
            from_vnet: self.from_vnet,
            overflowed: AtomicU64::new(0),
            bell: self.bell,
        }
    }
}

impl Port {
    /// Sends an Ethernet frame into the vnet, which trusts none of its checksums. A frame that finds no
    /// room in the vnet's queue is dropped and counted there, like one from any other neighbour.
    ///
    /// # Errors
    /// The length is out of range, or the interface is gone.
    pub fn send(&self, frame: impl Into<Payload>) -> Result<(), PortError> {
        self.forward(Packet::incoming(frame))
    }

    /// Sends a frame that comes with a virtio-net header (virtio 1.2, section 5.1.6; little-endian),
    /// from a device or a guest that leaves checksums and the cutting of TCP segments to others. A
    /// checksum that the header says has been verified is not looked at again.
    ///
    /// Of the ways to segment, TCP is understood, over IPv4 and IPv6, with or without ECN, and UDP: at most 128
    /// datagrams, each of which becomes a frame of its own here.
    ///
    /// # Errors
    /// As [`Port::send`]; [`PortError::BadHeader`] when the header does not describe the frame.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let port = a.port("eth0", None)?;
    /// // No checksum is left undone, and the frame stands for itself.
    /// port.send_virtio(&[0; 12], vec![0xff; 60])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_virtio(
        &self,
        header: &[u8; 12],
        frame: impl Into<Payload>,
    ) -> Result<(), PortError> {
        let mut packet = Packet::incoming(frame);
        virtio::read(header, &mut packet).map_err(|_| PortError::BadHeader)?;
        self.forward(packet)
    }

    /// Sends frames at once, each with its virtio-net header or without one: as [`Port::send_virtio`] and
    /// [`Port::send`] do, but the vnet is called once for all of them. Returns how many were refused.
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let port = a.port("eth0", None)?;
    /// let frames = [(None, vec![0xff; 60]), (Some([0; 12]), vec![0xff; 60]), (None, vec![0xff; 3])];
    /// assert_eq!(port.send_all(frames), 1, "that of 3 bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_all<P: Into<Payload>>(
        &self,
        frames: impl IntoIterator<Item = (Option<[u8; 12]>, P)>,
    ) -> usize {
        let now = self.core.driver.now();
        let mut refused = 0;
        let mut to_ring = None;
        for (header, frame) in frames {
            let mut packet = Packet::incoming(frame);
            let is_good = header.is_none_or(|header| virtio::read(&header, &mut packet).is_ok());
            match is_good.then(|| self.queue(now, packet)) {
                Some(Ok(Pushed::Queued(bell))) => to_ring = Some(Pushed::Queued(bell)),
                Some(Ok(_)) => {}
                _ => refused += 1,
            }
        }
        if let Some(pushed) = to_ring {
            pushed.ring(now);
        }
        self.core.driver.dispatch();
        refused
    }

    /// Frames sent here that the vnet has not taken yet. Whoever sends more while there are many takes room
    /// from others.
    pub fn backlog(&self) -> usize {
        self.to_vnet.waiting().frames
    }

    /// The bytes of these frames, with what it costs to hold them.
    pub fn backlog_bytes(&self) -> usize {
        self.to_vnet.waiting().bytes
    }

    /// Queues a frame for the vnet, which is to be told of it.
    fn queue(&self, now: Instant, packet: Packet) -> Result<Pushed, PortError> {
        let len = packet.len();
        if !(ETHER_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err(PortError::BadLength(len));
        }
        if self.is_gone() {
            return Err(PortError::Gone);
        }
        let pushed = match packet.meta.gso {
            Some(gso) if gso.kind == GsoKind::Udp => self.queue_datagrams(now, packet)?,
            _ => self.to_vnet.push(now, packet),
        };
        match pushed {
            Pushed::Unplugged { .. } => Err(PortError::Gone),
            pushed => Ok(pushed),
        }
    }

    /// Queues each datagram of a frame that holds several. What becomes of the last counts for all, but that the
    /// vnet is told if any of them is in its queue.
    #[cold]
    fn queue_datagrams(&self, now: Instant, mut packet: Packet) -> Result<Pushed, PortError> {
        let network = ether::network_offset(&mut packet);
        let mut outcome = Pushed::Refused;
        let done = gso::segment(packet, network, &mut |datagram| match self
            .to_vnet
            .push(now, datagram)
        {
            Pushed::Refused => {}
            pushed => outcome = pushed,
        });
        done.map_err(|_| PortError::BadHeader)?;
        Ok(outcome)
    }

    fn forward(&self, packet: Packet) -> Result<(), PortError> {
        let now = self.core.driver.now();
        self.queue(now, packet)?.ring(now);
        self.core.driver.dispatch();
        Ok(())
    }

    /// The next frame that the vnet has sent, if one has arrived by now.
    pub fn recv(&self) -> Option<Packet> {
        self.core.driver.called();
        let mut due = Batch::default();
        loop {
            let now = self.core.driver.now();
            let taken = self.from_vnet.take_due(now, 1, &mut due);
            self.overflowed
                .fetch_add(taken.overflowed, Ordering::Relaxed);
            match due.drain().next()? {
                Item::Frame(packet) | Item::Leaving(packet) => return Some(packet),
                Item::Carrier(_, news) => self.hear(news),
            }
        }
    }

    /// Waits for the next frame, for at most `timeout` of the wall clock. For pumps that run
    /// beside the [threads](crate::System::threads) driver.
    ///
    /// # Errors
    /// [`PortError::TimedOut`], or [`PortError::Gone`] once the interface is gone and every frame
    /// it sent has been received.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Packet, PortError> {
        let give_up = self.core.driver.wall() + timeout;
        loop {
            let rings = self.bell.state.lock().rings;
            if let Some(packet) = self.recv() {
                return Ok(packet);
            }
            if self.is_gone() && self.from_vnet.is_empty() {
                return Err(PortError::Gone);
            }
            let mut left = give_up - self.core.driver.wall();
            if left.is_zero() {
                return Err(PortError::TimedOut);
            }
            if let Some(next) = self.from_vnet.next() {
                left = left.min(next - self.core.driver.now());
            }
            let mut state = self.bell.state.lock();
            if state.rings == rings {
                self.bell.rung.wait_for(&mut state, left);
            }
        }
    }

    /// Polls until [`Port::recv`] has a frame, or the interface is gone, for futures and event loops. It may be ready for
    /// nothing, when all there is to receive is news of the carrier. The task that polled last is woken.
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let port = a.port("eth0", None)?;
    /// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
    /// let frame = system.block_on(async {
    ///     loop {
    ///         poll_fn(|task| port.poll_ready(task)).await;
    ///         if let Some(frame) = port.recv() {
    ///             break frame;
    ///         }
    ///     }
    /// })?;
    /// assert_eq!(frame.len(), 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_ready(&self, task: &mut Context<'_>) -> Poll<()> {
        let driver = &self.core.driver;
        driver.called();
        // It is registered before anything is looked at, so that it hears of what comes in between.
        let waiter = Some(task.waker().clone());
        let before = std::mem::replace(&mut self.bell.state.lock().waiter, waiter);
        drop(before);
        let alarm = match self.from_vnet.next() {
            Some(at) if at > driver.now() => Some(driver.set_timer(at, task.waker().clone())),
            None if !self.is_gone() => None,
            _ => return Poll::Ready(()),
        };
        self.set_alarm(alarm);
        Poll::Pending
    }

    fn set_alarm(&self, alarm: Option<TimerKey>) {
        let before = std::mem::replace(&mut self.bell.state.lock().alarm, alarm);
        if let Some(before) = before {
            self.core.driver.cancel_timer(before);
        }
    }

    /// When the next frame arrives here; the time may already have passed.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.from_vnet.next()
    }

    /// Sets how many bytes of frames wait here to be received, what it costs to hold them included;
    /// initially, and at most, some 400 MB. A frame that finds no room is dropped and counted in
    /// [`Port::take_overflowed`]. Where a limit is less than a frame, none is taken.
    pub fn set_queue_limit(&self, bytes: usize) {
        self.from_vnet.set_max_bytes_of_one(bytes);
    }

    /// Takes no more frames from the vnet, and drops those that have not been received, also those that an emulated link
    /// still delays. Says how many these are, with those that [`Port::take_overflowed`] would count.
    pub fn close(&self) -> u64 {
        let closed = self.from_vnet.close();
        let noticed = self.overflowed.swap(0, Ordering::Relaxed);
        closed.frames + closed.overflowed + noticed
    }

    /// The number of frames dropped since the last call because they were not received.
    pub fn take_overflowed(&self) -> u64 {
        self.overflowed.swap(0, Ordering::Relaxed) + self.from_vnet.take_overflowed()
    }

    /// Calls `f` whenever the vnet has sent something, on the thread that caused it. It is called
    /// outside all locks, and must not block, because everything that this thread has made ready
    /// waits for it.
    pub fn on_ready(&self, f: Arc<dyn Fn() + Send + Sync>) {
        self.bell.state.lock().on_ready = Some(f);
    }

    /// Has threads that wait for something in the port's vnet attend to what carries frames between the port and the
    /// outside, as long as that is there.
    #[doc(hidden)]
    pub fn attended_through(&self, line: Weak<dyn Line>) {
        self.core.lines.add(line);
    }

    /// True when the interface or its vnet is gone: nothing more will come.
    pub fn is_gone(&self) -> bool {
        !self.wire.is_plugged(End::A)
    }

    /// The interface's MAC address when it was made.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    fn hear(&self, news: News) {
        let mut state = self.bell.state.lock();
        if news.number > state.heard {
            (state.heard, state.carrier) = (news.number, news.carrier);
        }
    }

    /// Whether the interface is up, as far as frames received so far tell.
    pub fn carrier(&self) -> Carrier {
        self.bell.state.lock().carrier
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.wire.pull(End::B, self.core.driver.now());
        self.from_vnet.close();
        self.set_alarm(None);
        let waiter = self.bell.state.lock().waiter.take();
        drop(waiter);
        self.core.driver.dispatch();
    }
}
