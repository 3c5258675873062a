//! The options that two ends negotiate in their SYNs (RFC 7323, RFC 2018, RFC 9293 3.7.1), and the options of sockets.

pub(crate) use crate::base::switch::Switch;
use crate::base::time::{Duration, Instant};
use crate::packet::header::TcpOptions;
use crate::packet::header::tcp::SackPermitted;

use super::config::{Feature, TcpConfig};
use super::congestion::Congestion;
use super::recovery::SackUse;
use super::seq::SeqNum;
use crate::transport::domain::Domain;

/// The route a connection's segments take, as far as TCP cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Largest IP packet, headers included, in bytes.
    pub ip_mtu: u32,
    /// Largest TCP payload that may go down as one packet, in bytes, to be cut below. Zero, or
    /// anything up to one segment, means that TCP cuts by itself.
    pub gso_max: u32,
}

/// What to do with unsent data when a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Linger {
    /// Send it in the background.
    #[default]
    Background,
    /// Send it in the background, and reset the connection when not all is acknowledged after this
    /// time; zero resets it at once.
    For(Duration),
}

/// Options of one socket. A listener's are inherited by the connections it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// `TCP_NODELAY`: small segments do not wait for each other.
    pub nodelay: Switch,
    /// `SO_KEEPALIVE`: an idle connection is probed.
    pub keepalive: Switch,
    /// `SO_LINGER`.
    pub linger: Linger,
    /// What addresses it speaks.
    pub domain: Domain,
    /// Time to live of outgoing packets; zero means the vnet's default.
    pub ttl: u8,
    /// Type of service of outgoing packets.
    pub tos: u8,
    /// Bytes of written data the socket holds.
    pub send_buffer: usize,
    /// Bytes of received data the socket holds.
    pub recv_buffer: usize,
    /// `TCP_CONGESTION`.
    pub congestion: Congestion,
}

impl SocketOptions {
    /// The defaults of a vnet.
    pub(crate) fn new(config: &TcpConfig, domain: Domain) -> SocketOptions {
        SocketOptions {
            domain,
            nodelay: Switch::Off,
            keepalive: Switch::Off,
            linger: Linger::Background,
            ttl: 0,
            tos: 0,
            send_buffer: config.send_buffer,
            recv_buffer: config.recv_buffer,
            congestion: config.congestion,
        }
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
