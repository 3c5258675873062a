//! The thread that carries frames between a TAP and a port.
//!
//! One thread serves both directions: a request from the host, its service by the vnet and the
//! reply back to the device can then happen without a thread switch. It sleeps in `poll(2)` on the
//! device and on a bell, with a timeout only while a frame is on an emulated link towards the host.
//! [`Pump::stop`] rings the bell to end the thread.
//!
//! The port says when the vnet has sent a frame, on the thread that sent it. While the pump sleeps, that
//! thread writes what is small itself ([`Shared::sent`]): for a reply, two thread switches are most of
//! the time that it takes. Anything more is left to the pump, so that the sender goes on meanwhile.
//!
//! ```text
//!        TAP ── read ──► Port::send ──► vnet
//!         ▲                              │
//!         └─── writev ◄── Port::recv ◄───┘ (by the sender, or by the pump, which is woken)
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use vnet::packet::Packet;
use vnet::{Port, PortError, System};

use crate::buffers::Buffers;
use crate::sys::{Bell, Device, HEADER_LEN, Interest, Written, wait};
use crate::tap::PumpEnd;

/// Frames carried in one direction before the other gets its turn.
const BATCH: usize = 64;
/// Frames that a sender writes itself before it leaves the rest to the pump.
const BATCH_OF_SENDER: usize = 4;
/// Bytes in a frame from which on it is left to the pump.
const LARGE: usize = 4096;

/// A running pump.
#[derive(Debug)]
pub(crate) struct Pump {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<PumpEnd>>,
}

/// What the pump's thread shares with those who talk to it.
pub(crate) struct Shared {
    bell: Bell,
    stop: AtomicBool,
    /// Set while the thread sleeps or is about to: only then is there anything to do for a sender.
    asleep: AtomicBool,
    /// The way to the host, for one thread at a time: frames keep their order. `None` once the pump
    /// has ended.
    outward: Mutex<Option<Outward>>,
    pub(crate) counters: Counters,
}

/// Frames by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    pub(crate) refused_by_vnet: AtomicU64,
    pub(crate) refused_by_host: AtomicU64,
    pub(crate) wakeups: AtomicU64,
}

impl Pump {
    /// Starts the thread.
    pub(crate) fn start(device: Device, port: Port, system: System) -> io::Result<Pump> {
        let (device, port) = (Arc::new(device), Arc::new(port));
        let shared = Arc::new(Shared {
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            outward: Mutex::new(Some(Outward {
                device: Arc::clone(&device),
                port: Arc::clone(&port),
                unwritten: None,
            })),
            counters: Counters::default(),
        });
        let told = Arc::clone(&shared);
        port.on_ready(Arc::new(move || told.sent()));
        let worker = Worker {
            shared: Arc::clone(&shared),
            device,
            port,
            system,
            buffers: Buffers::new(),
        };
        let thread = Builder::new()
            .name("vnet-tap".into())
            .spawn(move || worker.run())?;
        Ok(Pump {
            shared,
            thread: Some(thread),
        })
    }

    /// The counters, live.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// True while frames are carried.
    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Stops the thread, which takes the device and the port with it, and says how it ended.
    /// `None` when it has been stopped before.
    pub(crate) fn stop(&mut self) -> Option<PumpEnd> {
        let thread = self.thread.take()?;
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.bell.ring();
        match thread.join() {
            Ok(end) => Some(end),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.store(true, Ordering::SeqCst);
            self.shared.bell.ring();
            // A panic in the pump has been printed by its own thread; a second one while
            // dropping would abort the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The vnet has sent something: called by the port, from any thread.
    fn sent(&self) {
        if !self.asleep.load(Ordering::SeqCst) {
            // It looks once more before it sleeps.
            return;
        }
        // Whoever has the lock is not the pump, and may have looked before this frame came.
        let all_written = self.outward.try_lock().is_some_and(|mut outward| {
            outward
                .as_mut()
                .is_some_and(|outward| outward.carry_small(&self.counters))
        });
        if !all_written && self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("stop", &self.stop)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Whether there may be more to carry in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// A batch was carried, and more may be waiting.
    More,
    /// Nothing is waiting.
    Idle,
    /// Something is waiting, but the device cannot take it now.
    Full,
}

/// From the vnet to the host.
struct Outward {
    device: Arc<Device>,
    port: Arc<Port>,
    /// A frame that is next: it did not fit into the device's queue, or it was left to the pump.
    unwritten: Option<Packet>,
}

impl Outward {
    /// The next frame.
    fn next(&mut self) -> Option<Packet> {
        self.unwritten.take().or_else(|| self.port.recv())
    }

    /// Carries a batch.
    fn carry(&mut self, counters: &Counters) -> io::Result<Progress> {
        for _ in 0..BATCH {
            let Some(packet) = self.next() else {
                return Ok(Progress::Idle);
            };
            if !self.write(packet, counters)? {
                return Ok(Progress::Full);
            }
        }
        Ok(Progress::More)
    }

    /// Carries what is small, for the thread that has sent it. False when something is left, be it now
    /// or later.
    fn carry_small(&mut self, counters: &Counters) -> bool {
        for _ in 0..BATCH_OF_SENDER {
            let Some(packet) = self.next() else {
                return self.port.next_arrival().is_none() && !self.port.is_gone();
            };
            if packet.len() >= LARGE {
                self.unwritten = Some(packet);
                return false;
            }
            // The pump meets an error of the device by itself.
            if !self.write(packet, counters).unwrap_or(false) {
                return false;
            }
        }
        false
    }

    /// Hands the host a frame. False when the device has no room, and the frame is kept.
    fn write(&mut self, mut packet: Packet, counters: &Counters) -> io::Result<bool> {
        let written = if self.device.has_headers() {
            match packet.virtio_header() {
                Some(header) => self.device.write(&header, &packet)?,
                None => Written::Refused,
            }
        } else {
            self.device.write(&[], &packet)?
        };
        match written {
            Written::Yes => counters.frames_out.fetch_add(1, Ordering::Relaxed),
            Written::Refused => counters.refused_by_host.fetch_add(1, Ordering::Relaxed),
            Written::Later => {
                self.unwritten = Some(packet);
                return Ok(false);
            }
        };
        Ok(true)
    }
}

struct Worker {
    shared: Arc<Shared>,
    device: Arc<Device>,
    port: Arc<Port>,
    system: System,
    buffers: Buffers,
}

impl Worker {
    fn run(mut self) -> PumpEnd {
        let end = self.carry_until_the_end();
        // The port knows `shared`, which must not keep the port.
        self.shared.outward.lock().take();
        end
    }

    fn carry_until_the_end(&mut self) -> PumpEnd {
        loop {
            if self.shared.stop.load(Ordering::SeqCst) {
                return PumpEnd::Detached;
            }
            if self.port.is_gone() {
                return PumpEnd::PortGone;
            }
            if let Err(e) = self.turn() {
                return PumpEnd::Device(e);
            }
        }
    }

    /// Carries a batch each way, then sleeps if there was nothing more to carry.
    fn turn(&mut self) -> io::Result<()> {
        let inward = self.carry_in()?;
        let outward = self.carry_out()?;
        if inward == Progress::More || outward == Progress::More {
            return Ok(());
        }
        let interest = if outward == Progress::Full {
            Interest::ReadWrite
        } else {
            // What comes after the flag is set wakes the pump, or is written by who sent it; what came
            // before it, a frame or the end of the interface, is found by this look.
            self.shared.asleep.store(true, Ordering::SeqCst);
            let last = self.carry_out();
            if !matches!(last, Ok(Progress::Idle)) || self.port.is_gone() {
                self.shared.asleep.store(false, Ordering::SeqCst);
                return last.map(drop);
            }
            Interest::Read
        };
        let timeout = self
            .port
            .next_arrival()
            .filter(|_| interest == Interest::Read)
            .map(|at| at.since(self.system.now()));
        let woken = wait(&self.device, &self.shared.bell, interest, timeout);
        self.shared.asleep.store(false, Ordering::SeqCst);
        self.shared.counters.wakeups.fetch_add(1, Ordering::Relaxed);
        woken
    }

    /// From the host into the vnet.
    fn carry_in(&mut self) -> io::Result<Progress> {
        let counters = &self.shared.counters;
        for _ in 0..BATCH {
            let Some(frame) = self.buffers.read(&self.device)? else {
                return Ok(Progress::Idle);
            };
            counters.frames_in.fetch_add(1, Ordering::Relaxed);
            if self.receive(frame).is_err() {
                counters.refused_by_vnet.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Progress::More)
    }

    /// Gives the vnet what was read.
    fn receive(&self, mut frame: Bytes) -> Result<(), PortError> {
        if !self.device.has_headers() {
            return self.port.send(frame);
        }
        let Some((header, _)) = frame.split_first_chunk::<HEADER_LEN>() else {
            return Err(PortError::BadHeader);
        };
        let header = *header;
        frame.advance(HEADER_LEN);
        self.port.send_virtio(&header, frame)
    }

    /// From the vnet to the host.
    fn carry_out(&mut self) -> io::Result<Progress> {
        match self.shared.outward.lock().as_mut() {
            Some(outward) => outward.carry(&self.shared.counters),
            None => Ok(Progress::Idle),
        }
    }
}
