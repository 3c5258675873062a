//! The options that two ends negotiate in their SYNs (RFC 7323, RFC 2018, RFC 9293 3.7.1), and the options of sockets.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::packet::header::TcpOptions;
use crate::packet::header::tcp::SackPermitted;

use super::config::{Feature, TcpConfig};
use super::congestion::Congestion;
use super::ecn::Ecn;
use super::recovery::SackUse;
use super::seq::SeqNum;
use crate::transport::domain::Domain;
use crate::transport::error::SocketError;

/// What TCP needs to know of the route that a connection's segments take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Largest IP packet, headers included, in bytes.
    pub ip_mtu: u32,
    /// Largest TCP payload that may go down as one packet, in bytes, to be cut below. Zero, or
    /// anything up to one segment, means that TCP cuts by itself.
    pub gso_max: u32,
}

/// The options of one TCP socket, to be read, changed and set as a whole. What is `None` is left to the vnet's tunables.
/// A listener's options are inherited by the connections that it accepts.
///
/// ```
/// use std::time::Duration;
/// use vnet::System;
/// use vnet::net::{SocketOptions, TcpListener, TcpStream};
///
/// let system = System::virtual_time(1);
/// let a = system.create("a")?;
/// let _current = a.enter();
/// let listener = TcpListener::bind("127.0.0.1:80")?;
/// let stream = TcpStream::connect("127.0.0.1:80")?;
/// let patient = SocketOptions {
///     keepalive: true,
///     keepalive_idle: Some(Duration::from_secs(10)),
///     user_timeout: Some(Duration::from_secs(30)),
///     ..stream.options()?
/// };
/// stream.set_options(&patient)?;
/// assert_eq!(stream.options()?.user_timeout, Some(Duration::from_secs(30)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Small segments do not wait for each other (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Only full segments leave, until this is off again, the connection is shut down, or 200 ms have passed
    /// (`TCP_CORK`, `TCP_NOPUSH`).
    pub cork: bool,
    /// Each segment is acknowledged at once (`TCP_QUICKACK`). Unlike on Linux, it stays so until this is off again.
    pub quickack: bool,
    /// An idle connection is probed (`SO_KEEPALIVE`).
    pub keepalive: bool,
    /// Silence after which it is probed (`TCP_KEEPIDLE`).
    pub keepalive_idle: Option<Duration>,
    /// Time between two probes (`TCP_KEEPINTVL`).
    pub keepalive_interval: Option<Duration>,
    /// Probes without an answer before the connection fails (`TCP_KEEPCNT`).
    pub keepalive_probes: Option<u8>,
    /// How long something sent may go unacknowledged, or something written unsent because the peer's window is closed,
    /// before the connection fails (`TCP_USER_TIMEOUT`; RFC 5482, without its option in segments). It takes the place of
    /// the limit on retransmissions and, once an idle connection is probed, of that on probes.
    pub user_timeout: Option<Duration>,
    /// The largest segment to send and to ask the peer for, in bytes of payload and options (`TCP_MAXSEG`), if the path
    /// does not allow for less. On a connection it can only become smaller, and the peer is not told.
    pub max_segment: Option<u16>,
    /// Bytes written and not sent, above which no more are taken (`TCP_NOTSENT_LOWAT`). Writers are woken when there are
    /// fewer than half as many.
    pub unsent_low_water: Option<usize>,
    /// How long written data is still delivered after the last handle is gone (`SO_LINGER`); then the connection is reset,
    /// with zero at once. Without a limit, TCP retries as often as its tunables say.
    pub linger: Option<Duration>,
    /// How long a connection without a socket waits for the peer's end of the stream (`TCP_LINGER2`).
    pub fin_wait2: Option<Duration>,
    /// A connection is accepted when its first data has arrived, or this long after the handshake (`TCP_DEFER_ACCEPT`).
    /// Only listeners look at it. Under a flood, when requests are answered with cookies, nothing is kept that could wait:
    /// a connection is accepted at once.
    pub defer_accept: Option<Duration>,
    /// Data in SYNs (RFC 7413). A listener takes it from whom it has given a cookie to (`TCP_FASTOPEN`). Set before
    /// connecting (`TCP_FASTOPEN_CONNECT`): without a cookie of the server, one is asked for; with one, connecting
    /// succeeds at once, and the SYN waits for the first write and carries it. It leaves without data when something is
    /// read before, and after 200 ms. An error of connecting is then one of writing or reading. A server may see such
    /// data twice, if the network duplicates the SYN.
    pub fast_open: bool,
    /// Bytes of written data that the socket holds (`SO_SNDBUF`). `None` lets the buffer grow with what the path carries.
    pub send_buffer: Option<usize>,
    /// Bytes of received data that the socket holds (`SO_RCVBUF`). `None` lets the buffer grow with what is read.
    pub recv_buffer: Option<usize>,
    /// Congestion control (`TCP_CONGESTION`).
    pub congestion: Congestion,
    /// Type of service or traffic class of outgoing packets (`IP_TOS`, `IPV6_TCLASS`). The two lowest bits are TCP's, and
    /// are ignored.
    pub tos: u8,
}

/// The options of a socket, with what is set by other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What addresses it speaks.
    pub domain: Domain,
    /// Time to live of outgoing packets; zero means the vnet's default.
    pub ttl: u8,
    /// The interface by which it is reached and by which it sends (`SO_BINDTODEVICE`).
    pub interface: Option<IfId>,
    set: SocketOptions,
}

impl Deref for Options {
    type Target = SocketOptions;

    #[inline]
    fn deref(&self) -> &SocketOptions {
        &self.set
    }
}

impl DerefMut for Options {
    fn deref_mut(&mut self) -> &mut SocketOptions {
        &mut self.set
    }
}

/// Least value of [`SocketOptions::max_segment`], as on Linux.
const MIN_MAX_SEGMENT: u16 = 88;
/// Least size of a buffer that a program chooses, in bytes.
const MIN_BUFFER: usize = 2048;
/// The two lowest bits of the traffic class (RFC 3168 5).
const ECN_BITS: u8 = 3;

impl Options {
    /// The defaults of a vnet.
    pub(crate) fn new(config: &TcpConfig, domain: Domain) -> Options {
        let set = SocketOptions {
            nodelay: false,
            cork: false,
            quickack: false,
            keepalive: false,
            keepalive_idle: None,
            keepalive_interval: None,
            keepalive_probes: None,
            user_timeout: None,
            max_segment: None,
            unsent_low_water: None,
            linger: None,
            fin_wait2: None,
            defer_accept: None,
            fast_open: false,
            send_buffer: None,
            recv_buffer: None,
            congestion: config.congestion,
            tos: 0,
        };
        Options {
            domain,
            ttl: 0,
            interface: None,
            set,
        }
    }

    /// What a program has set, with what only the library sets as it is here.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for what cannot be.
    pub(crate) fn adopt(
        self,
        config: &TcpConfig,
        theirs: &SocketOptions,
    ) -> Result<Options, SocketError> {
        let zero = Some(Duration::ZERO);
        let is_zero = |time: Option<Duration>| time == zero;
        if is_zero(theirs.keepalive_idle)
            || is_zero(theirs.keepalive_interval)
            || is_zero(theirs.user_timeout)
            || theirs.keepalive_probes == Some(0)
            || theirs.unsent_low_water == Some(0)
            || theirs.max_segment.is_some_and(|mss| mss < MIN_MAX_SEGMENT)
        {
            return Err(SocketError::InvalidInput);
        }
        let largest = config.max_buffer.max(MIN_BUFFER);
        let size = |chosen: Option<usize>| chosen.map(|size| size.clamp(MIN_BUFFER, largest));
        let set = SocketOptions {
            tos: theirs.tos & !ECN_BITS,
            send_buffer: size(theirs.send_buffer),
            recv_buffer: size(theirs.recv_buffer),
            ..*theirs
        };
        Ok(Options { set, ..self })
    }

    /// A path as the segments of the socket may use it.
    pub(super) fn narrow(&self, path: Path, family: Family) -> Path {
        let limit = self
            .max_segment
            .map_or(u32::MAX, |mss| u32::from(mss) + family.header_len());
        Path {
            ip_mtu: path.ip_mtu.min(limit),
            ..path
        }
    }

    /// The receive buffer that a connection begins with, in bytes.
    pub(super) fn recv_buffer(&self, config: &TcpConfig) -> usize {
        self.recv_buffer.unwrap_or(config.recv_buffer)
    }

    /// Silence after which a peer is probed.
    pub(super) fn idle(&self, config: &TcpConfig) -> Duration {
        self.keepalive_idle.unwrap_or(config.keepalive_idle)
    }
}

/// Options that connections and listeners of a vnet were given lately: most of them are given the same, and share them.
#[derive(Debug, Default)]
pub(super) struct Shared(Vec<Arc<Options>>);

impl Shared {
    /// As many are remembered.
    const MOST: usize = 4;

    /// These options, in the place where others have them if some do.
    pub(super) fn share(&mut self, options: Options) -> Arc<Options> {
        if let Some(known) = self.0.iter().find(|known| ***known == options) {
            return Arc::clone(known);
        }
        let options = Arc::new(options);
        if self.0.len() == Shared::MOST {
            self.0.remove(0);
        }
        self.0.push(Arc::clone(&options));
        options
    }
}

/// IP and TCP headers without options, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn header_len(self) -> u32 {
        match self {
            Family::V4 => 40,
            Family::V6 => 60,
        }
    }

    // RFC 9293 3.7.1 (SHLD-5, MUST-15): what holds when the peer does not say.
    const fn default_mss(self) -> u16 {
        match self {
            Family::V4 => 536,
            Family::V6 => 1220,
        }
    }
}

/// Least segment size that is believed. A peer that asks for one-byte segments is a nuisance, and
/// options must leave room for data.
const MIN_MSS: u16 = 64;
/// RFC 7323 2.3: the largest shift.
const MAX_SHIFT: u8 = 14;
/// RFC 7323 5.5: a timestamp that old says nothing.
const TS_MAX_AGE: Duration = Duration::from_secs(24 * 24 * 3600);

/// The segment size that fits a path.
pub(super) fn path_mss(path: Path, family: Family) -> u16 {
    let room = path.ip_mtu.saturating_sub(family.header_len());
    // RFC 9293 3.7.1: 65535 means "infinity" to some (RFC 2675 5); stay below.
    room.clamp(u32::from(MIN_MSS), 65_495) as u16
}

/// The shift with which a window of `buffer` bytes fits 16 bits.
pub(super) fn shift_for(buffer: usize) -> u8 {
    let mut shift = 0;
    while shift < MAX_SHIFT && (buffer >> shift) > 65_535 {
        shift += 1;
    }
    shift
}

/// What is in force on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated {
    /// The peer's limit on payload plus options.
    pub(super) peer_mss: u16,
    /// Whether windows are scaled; the shifts are zero when they are not.
    pub(super) scaling: Feature,
    /// Shift of windows that arrive.
    pub(super) snd_shift: u8,
    /// Shift of windows that are sent.
    pub(super) rcv_shift: u8,
    pub(super) sack: SackUse,
    pub(super) ts: Option<Timestamps>,
    pub(super) ecn: Ecn,
}

/// The timestamp state (RFC 7323 4.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamps {
    /// TS.Recent
    pub(super) recent: u32,
    /// When it was taken.
    pub(super) recent_at: Instant,
    /// Added to the clock.
    pub(super) offset: u32,
}

impl Timestamps {
    /// TSval of a segment sent now. A tick is a millisecond.
    #[inline]
    pub(super) fn value(&self, now: Instant) -> u32 {
        ((now.as_nanos() / 1_000_000) as u32).wrapping_add(self.offset)
    }

    /// True when `tsval` is older than what was seen (PAWS, RFC 7323 5.3 R1).
    #[inline]
    pub(super) fn is_old(&self, now: Instant, tsval: u32) -> bool {
        SeqNum(self.recent).is_newer_than(SeqNum(tsval)) && now.since(self.recent_at) < TS_MAX_AGE
    }

    /// Takes `tsval` over.
    #[inline]
    pub(super) fn update(&mut self, now: Instant, tsval: u32) {
        self.recent = tsval;
        self.recent_at = now;
    }
}

/// What we put into a SYN.
pub(super) fn offer(config: &TcpConfig, mss: u16, recv_buffer: usize, tsval: u32) -> TcpOptions {
    TcpOptions {
        mss: Some(mss),
        window_scale: config
            .window_scaling
            .is_on()
            .then(|| shift_for(recv_buffer.max(config.max_buffer))),
        sack_permitted: config.sack.is_on().then_some(SackPermitted),
        timestamp: config.timestamps.is_on().then_some((tsval, 0)),
        ..TcpOptions::default()
    }
}

/// What holds after both SYNs: what both have offered.
pub(super) fn negotiate(
    now: Instant,
    config: &TcpConfig,
    family: Family,
    theirs: &TcpOptions,
    recv_buffer: usize,
    ts_offset: u32,
) -> Negotiated {
    let scaling = match theirs.window_scale {
        Some(_) => config.window_scaling,
        None => Feature::Off,
    };
    Negotiated {
        peer_mss: theirs.mss.unwrap_or(family.default_mss()).max(MIN_MSS),
        scaling,
        snd_shift: if scaling.is_on() {
            theirs.window_scale.unwrap_or(0).min(MAX_SHIFT)
        } else {
            0
        },
        rcv_shift: if scaling.is_on() {
            shift_for(recv_buffer.max(config.max_buffer))
        } else {
            0
        },
        sack: if config.sack.is_on() && theirs.sack_permitted.is_some() {
            SackUse::Yes
        } else {
            SackUse::No
        },
        ts: match theirs.timestamp {
            Some((tsval, _)) if config.timestamps.is_on() => Some(Timestamps {
                recent: tsval,
                recent_at: now,
                offset: ts_offset,
            }),
            _ => None,
        },
        ecn: Ecn::default(),
    }
}

/// The options of the SYN-ACK that answers a SYN with `negotiated`: nothing that the SYN did not have
/// (RFC 7323 2.2 and 3.2, RFC 2018 2), but for the segment size.
pub(super) fn answer(negotiated: &Negotiated, mss: u16, now: Instant) -> TcpOptions {
    TcpOptions {
        mss: Some(mss),
        // A shift of zero is an answer too.
        window_scale: negotiated.scaling.is_on().then_some(negotiated.rcv_shift),
        sack_permitted: (negotiated.sack == SackUse::Yes).then_some(SackPermitted),
        timestamp: negotiated.ts.map(|ts| (ts.value(now), ts.recent)),
        ..TcpOptions::default()
    }
}
