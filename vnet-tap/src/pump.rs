//! The thread that carries frames between a TAP and a port.
//!
//! One thread serves both directions: a request from the host, its service by the vnet and the
//! reply back to the device can then happen without a thread switch. It sleeps in `poll(2)` on the
//! device and on a bell, with a timeout only while a frame is on an emulated link towards the host.
//! The port rings the bell when the vnet has sent a frame; [`Pump::stop`] rings it to end the
//! thread.
//!
//! ```text
//!        TAP ── read ──► Port::send ──► vnet
//!         ▲                              │
//!         └─── writev ◄── Port::recv ◄───┘ (rings the bell while the pump sleeps)
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use bytes::{Buf, Bytes};
use vnet::packet::Packet;
use vnet::{Port, PortError, System};

use crate::sys::{Bell, Device, HEADER_LEN, Interest, Written, wait};
use crate::tap::PumpEnd;

/// Frames carried in one direction before the other gets its turn.
const BATCH: usize = 64;

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
    /// Set while the thread sleeps or is about to: only then is the bell worth a system call.
    asleep: AtomicBool,
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
        let shared = Arc::new(Shared {
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let ringer = Arc::clone(&shared);
        port.on_ready(Arc::new(move || ringer.wake()));
        let worker = Worker {
            shared: Arc::clone(&shared),
            device,
            port,
            system,
            buf: Vec::new(),
            unwritten: None,
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
    /// Called by the port, from any thread.
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
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

struct Worker {
    shared: Arc<Shared>,
    device: Device,
    port: Port,
    system: System,
    /// Memory for the next frame from the host.
    buf: Vec<u8>,
    /// A frame for the host that did not fit into the device's queue.
    unwritten: Option<Packet>,
}

impl Worker {
    fn run(mut self) -> PumpEnd {
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
            // What comes after the flag is set rings the bell; what came before it, a frame or
            // the end of the interface, is found by this look.
            self.shared.asleep.store(true, Ordering::SeqCst);
            self.unwritten = self.port.recv();
            if self.unwritten.is_some() || self.port.is_gone() {
                self.shared.asleep.store(false, Ordering::SeqCst);
                return Ok(());
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
            let Some(bytes) = self.device.read(&mut self.buf)? else {
                return Ok(Progress::Idle);
            };
            counters.frames_in.fetch_add(1, Ordering::Relaxed);
            if self.receive(bytes).is_err() {
                counters.refused_by_vnet.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Progress::More)
    }

    /// Gives the vnet what was read.
    fn receive(&self, bytes: Vec<u8>) -> Result<(), PortError> {
        if !self.device.has_headers() {
            return self.port.send(bytes);
        }
        let mut frame = Bytes::from(bytes);
        let Some((header, _)) = frame.split_first_chunk::<HEADER_LEN>() else {
            return Err(PortError::BadHeader);
        };
        let header = *header;
        frame.advance(HEADER_LEN);
        self.port.send_virtio(&header, frame)
    }

    /// Gives the host a frame of the vnet's.
    fn transmit(&self, packet: &mut Packet) -> io::Result<Written> {
        if !self.device.has_headers() {
            return self.device.write(&[], packet);
        }
        match packet.virtio_header() {
            Some(header) => self.device.write(&header, packet),
            None => Ok(Written::Refused),
        }
    }

    /// From the vnet to the host.
    fn carry_out(&mut self) -> io::Result<Progress> {
        let counters = &self.shared.counters;
        for _ in 0..BATCH {
            let Some(mut packet) = self.unwritten.take().or_else(|| self.port.recv()) else {
                return Ok(Progress::Idle);
            };
            match self.transmit(&mut packet)? {
                Written::Yes => {
                    counters.frames_out.fetch_add(1, Ordering::Relaxed);
                }
                Written::Refused => {
                    counters.refused_by_host.fetch_add(1, Ordering::Relaxed);
                }
                Written::Later => {
                    self.unwritten = Some(packet);
                    return Ok(Progress::Full);
                }
            }
        }
        Ok(Progress::More)
    }
}
