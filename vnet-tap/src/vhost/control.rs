//! What an emulator asks over its vhost-user socket: which features there are, where the guest's memory
//! and its rings are, and when they start and stop.
//!
//! The protocol itself is the crate `vhost`'s. Memory has to be a file that cannot become smaller: whoever
//! shares it could otherwise take pages away that are being written, which would end this process.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstatfs};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::line::Agreed;

use super::device::{Device, PAIRS, feature, offload};
use super::ring::{Memory, Ring};

/// Ends the device when nobody answers any more, however that came about.
struct Answering<'a>(&'a Device);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0
            .end(io::Error::other("nobody answers requests any more"));
    }
}

/// Answers what is asked over the socket until it is closed or something makes no sense.
pub(super) fn answer(socket: UnixStream, device: &Arc<Device>, agreed: Agreed) {
    let _answering = Answering(device);
    let control = Control {
        device: Arc::clone(device),
        agreed,
        memory: Vec::new(),
    };
    let control = Arc::new(Mutex::new(control));
    let early = socket.try_clone();
    let mut requests = BackendReqHandler::from_stream(socket, Arc::clone(&control));
    let mut answer = || {
        if let (Ok(socket), 0) = (&early, device.features.load(Ordering::Relaxed))
            && enable_early(socket, device)?
        {
            return Ok(());
        }
        requests.handle_request()
    };
    let error = loop {
        if let Err(error) = answer() {
            break error;
        }
    };
    device.end(match error {
        Error::Disconnected | Error::SocketBroken(_) | Error::PartialMessage => {
            io::ErrorKind::UnexpectedEof.into()
        }
        Error::ReqHandlerError(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    });
}

/// The header of a request, `VHOST_USER_SET_VRING_ENABLE` here, of version 1 and with 8 bytes behind it.
const ENABLE: [u8; 12] = [18, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0];

/// Enables a ring, or disables it, before the guest has agreed to anything: QEMU asks for that when a device
/// is reset, and `vhost` takes it for a mistake. False when something else is asked.
fn enable_early(socket: &UnixStream, device: &Device) -> Result<bool> {
    let mut request = [0; ENABLE.len() + 8];
    let failed = |errno: Errno| Error::SocketError(errno.into());
    // Less than all of it is no reason to wait here.
    let (there, _) = recv(socket, &mut request[..], RecvFlags::PEEK).map_err(failed)?;
    if there < request.len() || request[..ENABLE.len()] != ENABLE {
        return Ok(false);
    }
    recv(socket, &mut request[..], RecvFlags::empty()).map_err(failed)?;
    let [.., a, _, _, _, enable, 0, 0, 0] = request else {
        return Err(Error::InvalidParam);
    };
    let ring = device.ring(a.into()).ok_or(Error::InvalidParam)?;
    ring.lock().enable(enable == 1);
    Ok(true)
}

/// A piece of the guest's memory, as the emulator has it.
struct Piece {
    /// Where the emulator has it.
    theirs: u64,
    len: u64,
    /// Where the guest has it.
    guest: u64,
    region: Arc<GuestRegionMmap<()>>,
}

struct Control {
    device: Arc<Device>,
    agreed: Agreed,
    memory: Vec<Piece>,
}

const NOT_OFFERED: Error = Error::InvalidOperation("it is not offered");

fn refused(error: io::Error) -> Error {
    Error::ReqHandlerError(error)
}

impl Control {
    /// The ring of that number.
    fn ring<R>(&self, number: u32, f: impl FnOnce(&mut Ring) -> io::Result<R>) -> Result<R> {
        let ring = self.device.ring(number as usize);
        let ring = ring.ok_or(Error::InvalidParam)?;
        f(&mut ring.lock()).map_err(refused)
    }

    /// The same for all.
    fn rings(&self, mut f: impl FnMut(&mut Ring) -> io::Result<()>) -> Result<()> {
        let mut rings = self.device.rings.iter();
        rings
            .try_for_each(|ring| f(&mut ring.lock()))
            .map_err(refused)
    }

    fn agree(&self, features: u64) -> Result<()> {
        let has = |bit: u64| features & bit != 0;
        self.rings(|ring| {
            ring.agree(
                has(feature::VERSION_1),
                has(feature::MRG_RXBUF),
                has(feature::EVENT_IDX),
            );
            // Without the protocol's features, nothing enables rings.
            if !has(feature::PROTOCOL) {
                ring.enable(true);
            }
            Ok(())
        })?;
        self.device.features.store(features, Ordering::Relaxed);
        (self.agreed)(offload(features));
        Ok(())
    }

    /// Where the guest has what the emulator has there.
    fn guest_address(&self, theirs: u64) -> Result<u64> {
        let mut pieces = self.memory.iter();
        let found = pieces.find_map(|piece| {
            let offset = theirs.checked_sub(piece.theirs)?;
            (offset < piece.len).then(|| piece.guest.checked_add(offset))?
        });
        found.ok_or(Error::InvalidParam)
    }

    /// The guest's memory is now what these pieces are.
    fn set_memory(&mut self, pieces: Vec<Piece>) -> Result<()> {
        let regions = pieces.iter().map(|piece| Arc::clone(&piece.region));
        let memory = match pieces.is_empty() {
            true => None,
            false => {
                let mut regions: Vec<_> = regions.collect();
                regions.sort_by_key(|region| vm_memory::GuestMemoryRegion::start_addr(&**region));
                let memory = Memory::from_arc_regions(regions);
                let memory = memory.map_err(|e| refused(io::Error::other(e)))?;
                Some(Arc::new(memory))
            }
        };
        let all = pieces
            .iter()
            .try_fold(0u64, |all, piece| all.checked_add(piece.len));
        if all.is_none_or(|all| all > MAX_MEMORY) {
            return Err(Error::InvalidParam);
        }
        self.memory = pieces;
        self.rings(|ring| ring.set_memory(memory.clone()))
    }
}

/// The most memory of one guest, in bytes: more than any has, and less than what leaves this process no addresses.
const MAX_MEMORY: u64 = 1 << 42;
/// `f_type` of files of huge pages (statfs(2)).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Maps a piece of the guest's memory.
fn map(region: &VhostUserMemoryRegion, file: File) -> Result<Piece> {
    keep_its_size(&file).map_err(refused)?;
    let VhostUserMemoryRegion {
        guest_phys_addr: guest,
        memory_size: len,
        user_addr: theirs,
        mmap_offset: offset,
        ..
    } = *region;
    if len > MAX_MEMORY {
        return Err(Error::InvalidParam);
    }
    // It does not become shorter any more. What is behind its end could not be touched.
    let there = file.metadata().map_err(refused)?.len();
    if offset.checked_add(len).is_none_or(|end| end > there) {
        return Err(Error::InvalidParam);
    }
    let mapped = region.mmap_region(file)?;
    let region = GuestRegionMmap::new(mapped, GuestAddress(guest));
    Ok(Piece {
        theirs,
        len,
        guest,
        region: Arc::new(region.ok_or(Error::InvalidParam)?),
    })
}

/// Sees to it that a file does not become smaller, and that each of its pages can be had.
fn keep_its_size(file: impl AsFd) -> io::Result<()> {
    if fstatfs(&file)?.f_type as u64 == HUGETLBFS_MAGIC {
        // There may be none for what nobody has written to yet, and it would be found out by a signal.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the guest's memory is of huge pages (QEMU: hugetlb=off)",
        ));
    }
    let needed = SealFlags::SHRINK;
    let is_sealed = || fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(needed));
    if is_sealed() || (fcntl_add_seals(&file, needed).is_ok() && is_sealed()) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the guest's memory is not in a memfd that can be sealed (QEMU: -object memory-backend-memfd,share=on)",
    ))
}

impl VhostUserBackendReqHandlerMut for Control {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        let device = Arc::clone(&self.device);
        self.rings(|ring| {
            ring.stop(&device.events);
            ring.enable(false);
            Ok(())
        })
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(feature::OFFERED)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        match features & !feature::OFFERED {
            0 => self.agree(features),
            _ => Err(Error::InvalidParam),
        }
    }

    fn set_mem_table(
        &mut self,
        table: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let pieces = table.iter().zip(files);
        let pieces: Result<_> = pieces.map(|(region, file)| map(region, file)).collect();
        self.set_memory(pieces?)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.ring(index, |ring| ring.set_size(size))
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let places = [
            self.guest_address(descriptor)?,
            self.guest_address(available)?,
            self.guest_address(used)?,
        ];
        self.ring(index, |ring| ring.set_places(places))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let next = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.ring(index, |ring| {
            ring.set_next(next);
            Ok(())
        })
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let next = self.ring(index, |ring| Ok(ring.stop(&self.device.events)))?;
        // What waits for room there is given up, and not kept for the next driver.
        self.device.bell.ring();
        Ok(VhostUserVringState::new(index, next.into()))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        self.ring(index.into(), |ring| ring.start(kick, &self.device.events))?;
        // What was made available before is not kicked for.
        self.device.bell.ring();
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        self.ring(index.into(), |ring| ring.set_call(call))
    }

    fn set_vring_err(&mut self, index: u8, _error: Option<File>) -> Result<()> {
        self.ring(index.into(), |_| Ok(()))
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(PAIRS as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index, |ring| {
            ring.enable(enable);
            Ok(())
        })?;
        self.device.bell.ring();
        Ok(())
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_SLOTS as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        if self.memory.len() >= MAX_SLOTS {
            return Err(Error::InvalidParam);
        }
        let piece = map(region, file)?;
        let mut pieces = std::mem::take(&mut self.memory);
        pieces.push(piece);
        self.set_memory(pieces)?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let mut pieces = std::mem::take(&mut self.memory);
        let (guest, theirs) = (region.guest_phys_addr, region.user_addr);
        pieces.retain(|piece| (piece.guest, piece.theirs) != (guest, theirs));
        self.set_memory(pieces)
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(NOT_OFFERED)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}

/// Pieces that a guest's memory may be in, as many as KVM has.
const MAX_SLOTS: usize = 509;
