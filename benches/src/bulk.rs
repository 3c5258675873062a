//! Bytes through one TCP connection.
//!
//! One thread plays both ends: it writes from a buffer of its own at one end, lets both stacks
//! work, and reads into another buffer at the other end, so each byte is copied in and copied
//! out on either side of the comparison. Both sides have 1 MiB socket buffers and no checksums to
//! compute; Nagle is on where that is faster.
//!
//! The first bytes of a connection carry a pattern that is checked at the far end before
//! anything is measured; afterwards bytes are counted.

mod ours;
mod smol;

use std::time::{Duration, Instant};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};
use crate::rr::{IPV4, IPV6};
pub(crate) use ours::Vnets;
use smol::Offload;

/// Socket buffers, each direction, both stacks.
const SOCKET_BUFFER: usize = 1 << 20;
/// What the application hands over and takes at a time.
const APPLICATION_BUFFER: usize = 128 * 1024;
/// Bytes whose content is checked before measuring.
const CHECKED: usize = 8 << 20;
/// Rounds without a byte moved after which a connection counts as stuck.
const STUCK_ROUNDS: u32 = 100_000;
/// Bytes between two looks at the clock.
const CLOCK_EVERY: u64 = 32 << 20;

/// IP MTU 65535 at both ends.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_64k(options: &Options) -> Result<Contest, SideError> {
    contest(options, 65_535, Path::Whole, Offload::None)
}

/// IP MTU 1500 at both ends. Our segments stay whole inside the process, as on a host with
/// segmentation offload; smoltcp's are of 1500 bytes.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_1500(options: &Options) -> Result<Contest, SideError> {
    contest(options, 1500, Path::Whole, Offload::None)
}

/// IP MTU 1500 at both ends, and packets of 1500 bytes travel on both sides.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_1500_cut(options: &Options) -> Result<Contest, SideError> {
    contest(options, 1500, Path::Cut, Offload::None)
}

/// IP MTU 1500 at both ends, and segments stay whole on both sides: smoltcp's device claims to
/// offload their segmentation.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_1500_tso(options: &Options) -> Result<Contest, SideError> {
    contest(options, 1500, Path::Whole, Offload::Segmentation)
}

/// IP MTU 65535 in IPv6, against the same in IPv4.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_64k_v6(options: &Options) -> Result<Contest, SideError> {
    versions(options, 65_535, Path::Whole)
}

/// IP MTU 1500 in IPv6 with whole segments, against the same in IPv4.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_1500_v6(options: &Options) -> Result<Contest, SideError> {
    versions(options, 1500, Path::Whole)
}

/// IP MTU 1500 in IPv6 with packets of 1500 bytes, against the same in IPv4.
///
/// # Errors
/// When a side does not connect or garbles the pattern.
pub fn mtu_1500_cut_v6(options: &Options) -> Result<Contest, SideError> {
    versions(options, 1500, Path::Cut)
}

/// Two vnets in IPv6 against two in IPv4.
fn versions(options: &Options, ip_mtu: u16, path: Path) -> Result<Contest, SideError> {
    let side = |addresses| -> Result<Box<dyn Side>, SideError> {
        let pair = ours::Vnets::connect(addresses, ip_mtu, path)?;
        Ok(Box::new(Bulk::new(pair, options)?))
    };
    Ok(Contest {
        unit: Unit::GbitPerSecond,
        ours: side(IPV6)?,
        peer: side(IPV4)?,
        peer_name: "vnet in IPv4".to_owned(),
    })
}

/// What the path between our two vnets does with large segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Carries them as they are.
    Whole,
    /// Cuts them to the MTU.
    Cut,
}

/// A connected pair of sockets, played by one thread.
pub(crate) trait Pair {
    /// Writes what fits and returns how much that was.
    fn write(&mut self, data: &[u8]) -> Result<usize, SideError>;
    /// Lets both stacks do what there is to do.
    fn work(&mut self);
    /// Reads what is there and returns how much that was.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, SideError>;
}

fn contest(
    options: &Options,
    ip_mtu: u16,
    path: Path,
    offload: Offload,
) -> Result<Contest, SideError> {
    let offloading = match offload {
        Offload::None => "",
        Offload::Segmentation => ", segmentation offload",
    };
    Ok(Contest {
        unit: Unit::GbitPerSecond,
        ours: Box::new(Bulk::new(
            ours::Vnets::connect(IPV4, ip_mtu, path)?,
            options,
        )?),
        peer: Box::new(Bulk::new(
            smol::Interfaces::connect(ip_mtu, offload)?,
            options,
        )?),
        peer_name: format!("smoltcp, IP MTU {ip_mtu}{offloading}"),
    })
}

pub(crate) struct Bulk<P> {
    pair: P,
    time: Duration,
    bytes: Option<u64>,
    source: Vec<u8>,
    target: Vec<u8>,
    /// Bytes written and not yet read.
    under_way: u64,
}

impl<P: Pair> Bulk<P> {
    pub(crate) fn new(mut pair: P, options: &Options) -> Result<Bulk<P>, SideError> {
        check(&mut pair)?;
        Ok(Bulk {
            pair,
            time: options.time,
            bytes: options.bytes,
            source: (0..APPLICATION_BUFFER).map(pattern).collect(),
            target: vec![0; APPLICATION_BUFFER],
            under_way: 0,
        })
    }

    /// Writes, works and reads until `amount` more bytes have been read.
    fn transfer(&mut self, amount: u64) -> Result<(), SideError> {
        let mut done = 0;
        let mut idle_rounds = 0;
        while done < amount {
            let written = self.pair.write(&self.source)? as u64;
            self.pair.work();
            let read = drain(&mut self.pair, &mut self.target)?;
            self.under_way = (self.under_way + written)
                .checked_sub(read)
                .ok_or_else(|| SideError::new("more bytes were read than written"))?;
            done += read;
            idle_rounds = if written + read == 0 {
                idle_rounds + 1
            } else {
                0
            };
            if idle_rounds == STUCK_ROUNDS {
                return Err(SideError::new("the connection is stuck"));
            }
        }
        Ok(())
    }
}

impl<P: Pair> Side for Bulk<P> {
    fn measure(&mut self) -> Result<f64, SideError> {
        let start = Instant::now();
        let mut done = 0;
        loop {
            let step = self.bytes.unwrap_or(CLOCK_EVERY);
            self.transfer(step)?;
            done += step;
            let took = start.elapsed();
            if self.bytes.is_some() || took >= self.time {
                return Ok(done as f64 * 8.0 / took.as_nanos() as f64);
            }
        }
    }
}

/// Reads until nothing is left and returns how much that was.
fn drain(pair: &mut impl Pair, buf: &mut [u8]) -> Result<u64, SideError> {
    let mut all = 0;
    loop {
        let n = pair.read(buf)?;
        if n == 0 {
            return Ok(all);
        }
        all += n as u64;
    }
}

/// A byte that depends on its position and has no short period.
fn pattern(position: usize) -> u8 {
    ((position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Sends the pattern through and looks at every byte that arrives.
fn check(pair: &mut impl Pair) -> Result<(), SideError> {
    let data: Vec<u8> = (0..CHECKED).map(pattern).collect();
    let mut buf = vec![0; APPLICATION_BUFFER];
    let (mut written, mut read, mut idle_rounds) = (0, 0, 0);
    while read < data.len() {
        let end = data.len().min(written + APPLICATION_BUFFER);
        let wrote = pair.write(&data[written..end])?;
        written += wrote;
        pair.work();
        let got = pair.read(&mut buf)?;
        if buf[..got] != data[read..(read + got).min(data.len())] {
            return Err(SideError::new(format!(
                "wrong content within {got} bytes from offset {read}"
            )));
        }
        read += got;
        idle_rounds = if wrote + got == 0 { idle_rounds + 1 } else { 0 };
        if idle_rounds == STUCK_ROUNDS {
            return Err(SideError::new(format!(
                "stuck after {read} of {} bytes",
                data.len()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoltcp_moves_the_bytes_it_is_measured_for() {
        let cases = [
            (1500, Offload::None),
            (65_535, Offload::None),
            (1500, Offload::Segmentation),
        ];
        for (ip_mtu, offload) in cases {
            let pair = smol::Interfaces::connect(ip_mtu, offload).unwrap();
            let options = Options {
                time: Duration::from_millis(1),
                bytes: Some(4 << 20),
            };
            let mut bulk = Bulk::new(pair, &options).unwrap();
            assert!(bulk.measure().unwrap() > 0.0);
        }
    }

    #[test]
    fn vnet_moves_the_bytes_it_is_measured_for_in_frames_of_the_size_it_claims() {
        let cases = [
            (65_535, Path::Whole, 20_000..65_550),
            (1500, Path::Whole, 20_000..65_550),
            (1500, Path::Cut, 1000..1515),
        ];
        let cases = cases
            .into_iter()
            .flat_map(|case| [(IPV4, case.clone()), (IPV6, case)]);
        for (addresses, (ip_mtu, path, frame_len)) in cases {
            let pair = ours::Vnets::connect(addresses, ip_mtu, path).unwrap();
            let options = Options {
                time: Duration::from_millis(1),
                bytes: Some(4 << 20),
            };
            let mut bulk = Bulk::new(pair, &options).unwrap();
            assert!(bulk.measure().unwrap() > 0.0);
            let mean = bulk.pair.mean_frame_len();
            assert!(
                frame_len.contains(&mean),
                "{addresses:?} {ip_mtu} {path:?}: {mean}"
            );
        }
    }

    /// A pair that swaps two bytes once: the check must notice.
    struct Garbler(Vec<u8>);

    impl Pair for Garbler {
        fn write(&mut self, data: &[u8]) -> Result<usize, SideError> {
            self.0.extend_from_slice(data);
            Ok(data.len())
        }
        fn work(&mut self) {
            if self.0.len() > 1000 {
                self.0.swap(500, 501);
            }
        }
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, SideError> {
            let n = buf.len().min(self.0.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    #[test]
    fn a_garbled_byte_is_noticed() {
        let error = check(&mut Garbler(Vec::new())).unwrap_err().to_string();
        assert!(error.contains("wrong content"), "{error}");
    }
}
