//! One connection, from SYN-SENT (or the end of the handshake, for an accepted one) until it is
//! over or only a TIME-WAIT record is left.
//!
//! | part | what it is |
//! |---|---|
//! | [`input`] | a segment arrives: acceptability, resets, data, FIN |
//! | [`ack`] | what an acknowledgement says: progress, window, SACK, losses |
//! | [`buffers`] | how large the buffers are, and when a writer is woken |
//! | [`early`], [`opening`] | data in the SYN |
//! | [`held`], [`holding`] | what waits for more to be written, records, and how long something may go unacknowledged |
//! | [`output`] | which segment goes next |
//! | [`search`], [`probing`] | the largest packet that a path carries, where no router says it |
//! | [`resting`] | what is left of one that is quiet |
//! | [`timers`] | what is due when |
//! | [`trouble`] | what is known of losses, marks and errors |
//! | [`user`] | what the socket asks for |

mod ack;
mod buffers;
mod early;
mod held;
mod holding;
mod input;
mod opening;
mod output;
mod probing;
mod resting;
mod search;
mod timers;
mod trouble;
mod user;

use std::net::SocketAddr;
use std::sync::Arc;

use super::config::{Feature, TcpConfig};
use super::congestion::{Controller, Limited};
use super::counts::{Counts, Limit};
use super::ecn::{Ecn, Feedback};
use super::hint::Hint;
use super::ids::{FourTuple, ListenerId};
use super::listener::{Deferral, HalfOpen};
use super::marked::MarkedData;
use super::options::{Family, Negotiated, Options, Path, path_mss};
use super::recovery::{Recovery, SackUse};
use super::recv_queue::RecvQueue;
use super::rtt::Rtt;
use super::segment::SegmentIn;
use super::send_queue::SendQueue;
use super::seq::SeqNum;
use super::state::{Due, Sends, State, SynSent};
use super::stats::TcpStats;
use crate::base::deadline::Armed;
use crate::base::time::Instant;
use crate::packet::header::TcpHeader;
use crate::packet::{Cx, Out};
use crate::transport::edge::Waiters;
use crate::transport::error::SocketError;

use early::Early;
pub(super) use early::{Learnt, Opening};
use held::Held;
pub(super) use resting::Rest;
use timers::Pending;
pub(super) use timers::Timers;
use trouble::Trouble;
pub(super) use user::CloseAction;

/// The smallest receive buffer, in steps of the window field.
const LEAST_STEPS: usize = 4;

/// What a connection needs from its vnet for one event.
pub(super) struct Env<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a TcpConfig,
    pub(super) stats: &'a mut TcpStats,
    pub(super) out: &'a mut Out,
}

impl<'a> Env<'a> {
    #[inline]
    pub(super) fn new(
        config: &'a TcpConfig,
        stats: &'a mut TcpStats,
        cx: &'a mut Cx<'_>,
    ) -> Env<'a> {
        Env {
            now: cx.now,
            config,
            stats,
            out: cx.out,
        }
    }
}

/// Who refers to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A socket.
    Socket,
    /// Nobody yet: it waits to be accepted.
    Listener(ListenerId),
    /// Nobody any more: the socket is closed, the rest goes on by itself.
    Nobody,
}

/// Whether a connection is on the list of those that may have something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Yes,
    /// It is; and when its turn is over, it may rest.
    Last,
    No,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: State,
    pub(super) owner: Owner,
    pub(super) listed: Listed,
    /// It counts as one that has lost its socket and goes on by itself.
    pub(super) is_orphan: bool,
    pub(super) armed: Armed,
    pub(super) timers: Timers,
    /// What the retransmission timer is for.
    pending: Pending,
    /// When the timeout is, while the timer is for what was overtaken.
    timeout_at: Instant,
    /// Shared with the listener and its other connections until one changes them.
    pub(super) options: Arc<Options>,
    pub(super) error: Option<Box<SocketError>>,
    trouble: Option<Box<Trouble>>,
    pub(super) snd: Sender,
    pub(super) rcv: Receiver,
    pub(super) negotiated: Negotiated,
    /// Where the peer gives accurate feedback.
    marked: Option<Box<MarkedData>>,
    early: Option<Box<Early>>,
    ts_offset: u32,
    family: Family,
    path: Path,
    recovery: Recovery,
    pub(super) cc: Controller,
    pub(super) rtt: Rtt,
    /// When the next segment may leave, where they are spread over time.
    paced_until: Instant,
    /// How late the last deadline for that was met, in nanoseconds.
    lateness: u64,
    retries: u8,
    /// When a segment of the peer last arrived.
    last_rx: Instant,
    hint: Hint,
    counts: Counts,
    pub(super) waiters: Waiters,
}

/// The send sequence space (RFC 9293 3.3.1) and what fills it.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) iss: SeqNum,
    pub(super) una: SeqNum,
    pub(super) nxt: SeqNum,
    /// The right edge of the peer's window; never behind `una`.
    edge: SeqNum,
    wl1: SeqNum,
    wl2: SeqNum,
    /// The largest window the peer has offered.
    max_wnd: u32,
    /// Sequence numbers outstanding when new data last left.
    flew: u32,
    /// What limited the sender then.
    limited: Limited,
    pub(super) queue: SendQueue,
    /// Space promised to writers who are still copying.
    pub(super) reserved: usize,
    /// The size of the buffer, in bytes.
    pub(super) buffer: usize,
    pub(super) held: Option<Box<Held>>,
    /// The application has closed its side (before the handshake ended, this is all there is).
    closed: Closed,
    /// The end of the last segment sent that was not full (Minshall's form of Nagle), or `una`.
    small_end: SeqNum,
    /// When the retransmission timer last went off. An echo from before that is no measure of
    /// the path: the acknowledgement that carried it first may have been lost.
    timed_out: Instant,
    last_sent: Instant,
    probe: Probe,
    /// Zero-window probes since the window was last open.
    probes: u8,
}

/// The receive sequence space and what fills it.
#[derive(Debug)]
pub(super) struct Receiver {
    irs: SeqNum,
    pub(super) nxt: SeqNum,
    /// The right edge of the window as promised; never behind `nxt`.
    pub(super) advertised: SeqNum,
    pub(super) queue: RecvQueue,
    /// The size of the buffer, in bytes.
    pub(super) buffer: usize,
    /// Last.ACK.sent (RFC 7323 4.3)
    last_ack: SeqNum,
    /// Acknowledgements to be sent at once.
    acks_due: u8,
    /// Bytes received since the last acknowledgement.
    unacked: u32,
    /// Segments in order that are still acknowledged one by one, since something was lost.
    quick: u8,
    turns: Turns,
    /// The size of full segments, as observed.
    mss: u32,
    /// The peer's FIN, which may be ahead of a gap.
    fin: Option<SeqNum>,
    /// The application reads no more.
    closed: Closed,
    /// What the application has read since the last look at the rate, and when that was.
    read: u32,
    read_since: Instant,
}

impl Receiver {
    /// How much may arrive: the window as promised.
    #[inline]
    fn promised(&self) -> u32 {
        self.advertised.since(self.nxt)
    }

    /// Everything up to `nxt` has arrived.
    #[inline]
    fn advance(&mut self, nxt: SeqNum) {
        self.advertised = self.nxt.later(self.advertised, nxt);
        self.nxt = nxt;
    }
}

/// Whether data of ours can be expected that carries the next acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// As far as is known.
    Taken,
    /// No: an acknowledgement has waited for it in vain, or something was lost, and nothing was sent since.
    OneWay,
    /// Neither that, nor more of the peer's: the latest segment in order had PSH.
    OneWayPushed,
}

/// Whether one direction was closed by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Yes,
    No,
}

/// A segment to be sent although there is nothing new to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// Is the window still closed?
    Window,
    /// Is the peer still there?
    Keepalive,
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It was taken, or answered.
    Taken,
    /// It was refused; an answer may be due all the same.
    Refused,
    /// The connection was reset by it, or because of it.
    Reset,
    /// It came after the socket was closed, so the peer is told with a reset (RFC 9293 3.6.1).
    AbortLate,
    /// Storing it would cost more than the buffer may hold.
    NoRoom,
    /// It answers a SYN that was to open fast.
    Opened,
    /// It belongs to no connection here: reset the sender, leave the connection alone.
    Answer,
}

/// What a connection begins with.
pub(super) struct OpenParams {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) path: Path,
    pub(super) options: Arc<Options>,
    pub(super) iss: SeqNum,
    pub(super) ts_offset: u32,
}

impl OpenParams {
    /// What a connection takes over from the half-open one before it.
    fn of(half: &HalfOpen, options: Arc<Options>) -> OpenParams {
        OpenParams {
            local: half.local,
            remote: half.remote,
            path: half.path,
            options,
            iss: half.iss,
            ts_offset: half.negotiated.ts.map_or(0, |ts| ts.offset),
        }
    }
}

impl Connection {
    /// Its four-tuple.
    #[inline]
    pub(super) fn key(&self) -> FourTuple {
        FourTuple::new(self.local, self.remote)
    }

    /// A connection that this side opens.
    pub(super) fn connecting(env: &Env<'_>, params: OpenParams) -> Connection {
        let negotiated = Negotiated {
            peer_mss: u16::MAX,
            scaling: Feature::Off,
            snd_shift: 0,
            rcv_shift: 0,
            sack: SackUse::No,
            ts: None,
            ecn: Ecn::default(),
        };
        let state = State::SynSent(SynSent {
            syn: Due::Now,
            sent_at: None,
        });
        Connection::new(env, params, state, Owner::Socket, negotiated)
    }

    /// A connection whose handshake a listener has completed, but for the segment that completes it.
    pub(super) fn accepted(
        env: &mut Env<'_>,
        half: &HalfOpen,
        options: Arc<Options>,
        seg: &SegmentIn<'_>,
    ) -> Connection {
        let params = OpenParams::of(half, options);
        let owner = Owner::Listener(half.listener);
        let mut c = Connection::new(env, params, State::Established, owner, half.negotiated);
        c.snd.una = half.iss + 1;
        c.snd.nxt = half.iss + 1;
        c.snd.edge = half.iss + 1 + half.peer_window;
        c.snd.max_wnd = half.peer_window;
        c.snd.wl1 = half.irs;
        c.snd.wl2 = half.iss;
        c.snd.small_end = half.iss + 1;
        c.start_receiving(half.irs, u32::from(half.window));
        let is_plain = seg.payload.is_empty() && seg.header.options.sack.is_empty();
        c.negotiated.ecn = half.negotiated.ecn.accepted(half.retries, is_plain);
        c.begin_marked(env, seg.header);
        // When the acknowledgement was lost, data or another SYN-ACK comes instead, once the timer
        // for it has gone off: the peer's, or ours. What waited for less has waited for neither.
        let honest = if seg.payload.is_empty() {
            env.config.initial_rto
        } else {
            env.config.min_rto
        };
        if half.retries == 0 && !half.is_answered_twice {
            let age = match half.deferral {
                Deferral::None => env.now.since(half.sent_at),
                Deferral::Waits(age) | Deferral::Over(age) => age,
            };
            if age < honest {
                c.rtt.sample(env.config, age);
            }
        } else {
            // RFC 6928 2: a lost SYN-ACK means an initial window of one segment.
            c.snd.timed_out = half.sent_at;
            c.measure_by_echo(env, seg.header, honest);
            c.rtt.syn_was_lost(env.config);
            c.cc = Controller::new(c.options.congestion, c.data_mss(), 1);
        }
        let ecn = &half.negotiated.ecn;
        if ecn.answer_was_marked(half.retries, seg.header.flags) {
            // RFC 5562 3.2
            c.negotiated.ecn.on_marked_answer(half.iss + 1);
            c.cc = Controller::new(c.options.congestion, c.data_mss(), 1);
            env.stats.ecn_reductions += 1;
        }
        c
    }

    fn new(
        env: &Env<'_>,
        params: OpenParams,
        state: State,
        owner: Owner,
        negotiated: Negotiated,
    ) -> Connection {
        let OpenParams {
            local,
            remote,
            path,
            options,
            iss,
            ts_offset,
        } = params;
        let path = options.narrow(path, family(local));
        let mut c = Connection {
            local,
            remote,
            state,
            owner,
            listed: Listed::No,
            is_orphan: false,
            armed: Armed::default(),
            timers: Timers::default(),
            pending: Pending::Timeout,
            timeout_at: Instant::MAX,
            cc: Controller::new(options.congestion, 1, 1),
            error: None,
            trouble: None,
            snd: Sender {
                iss,
                una: iss,
                nxt: iss,
                edge: iss,
                wl1: SeqNum(0),
                wl2: iss,
                max_wnd: 0,
                flew: 0,
                limited: Limited::Elsewhere,
                queue: SendQueue::new(iss + 1),
                reserved: 0,
                buffer: options.send_buffer.unwrap_or(env.config.send_buffer),
                held: options.cork.then(Box::default),
                closed: Closed::No,
                small_end: iss,
                timed_out: env.now,
                last_sent: env.now,
                probe: Probe::None,
                probes: 0,
            },
            rcv: Receiver {
                irs: SeqNum(0),
                nxt: SeqNum(0),
                advertised: SeqNum(0),
                queue: RecvQueue::default(),
                buffer: options.recv_buffer(env.config),
                last_ack: SeqNum(0),
                acks_due: 0,
                unacked: 0,
                quick: 0,
                turns: Turns::Taken,
                mss: 536,
                fin: None,
                closed: Closed::No,
                read: 0,
                read_since: env.now,
            },
            negotiated,
            marked: None,
            early: None,
            ts_offset,
            family: family(local),
            path,
            recovery: Recovery::new(),
            rtt: Rtt::new(env.config),
            paced_until: Instant::ZERO,
            lateness: 0,
            retries: 0,
            last_rx: env.now,
            hint: Hint::new(),
            counts: Counts::new(env.now),
            waiters: Waiters::default(),
            options,
        };
        let segments = env.config.initial_cwnd_segments;
        c.cc = Controller::new(c.options.congestion, c.data_mss(), segments);
        if c.options.keepalive {
            c.timers.keepalive = env.now + c.options.idle(env.config);
        }
        c
    }

    /// The handshake is complete with this segment. Where feedback is accurate, bytes are counted from now on.
    #[inline]
    fn begin_marked(&mut self, env: &Env<'_>, h: &TcpHeader) {
        if self.negotiated.ecn.feedback == Feedback::Accurate {
            let marked = MarkedData::new(env.config.ecn_option, h.options.marked);
            self.marked = Some(Box::new(marked));
        }
    }

    /// The peer's initial sequence number is known; `window` is what our SYN offered.
    fn start_receiving(&mut self, irs: SeqNum, window: u32) {
        let mss = u32::from(path_mss(self.path, self.family));
        let rcv = &mut self.rcv;
        rcv.irs = irs;
        rcv.nxt = irs + 1;
        rcv.last_ack = irs + 1;
        rcv.advertised = irs + 1 + window;
        rcv.mss = mss.min(536);
        self.fit_recv_buffer();
    }

    /// Has the receive buffer hold what the window field can say: with a large shift (RFC 7323, section 2.3), a small
    /// buffer would be a window of zero for ever.
    fn fit_recv_buffer(&mut self) {
        let least = LEAST_STEPS << self.negotiated.rcv_shift;
        self.rcv.buffer = self.rcv.buffer.max(least);
    }

    /// Payload bytes in a full segment without extra options.
    #[inline]
    fn data_mss(&self) -> u32 {
        let ts = if self.negotiated.ts.is_some() { 12 } else { 0 };
        u32::from(self.segment_room()) - ts
    }

    /// Payload plus options in a full segment.
    #[inline]
    fn segment_room(&self) -> u16 {
        self.negotiated
            .peer_mss
            .min(path_mss(self.path, self.family))
    }

    /// Bytes on their way, as recovery sees it.
    #[inline]
    fn pipe(&self) -> u32 {
        self.recovery
            .pipe(self.snd.una, self.snd.nxt, self.data_mss())
    }

    /// Sequence numbers outstanding.
    #[inline]
    pub(super) fn flight(&self) -> u32 {
        self.snd.nxt.since(self.snd.una)
    }

    /// What was outstanding when the last new data left, which is what the path was tried with. When many acknowledgements
    /// arrive at once, what they cover is no longer outstanding by the time that one of them reports a loss, and nothing has
    /// left for it yet: that is no reason to shrink the window more than for one that arrives by itself.
    // RFC 5681 3.1 and RFC 9438 4.6 have what is outstanding when the loss is found.
    #[inline]
    fn flew(&self) -> u32 {
        self.snd.flew.max(self.flight())
    }

    /// The window that the path was tried with, of which a loss or a mark takes its share.
    // RFC 7661 4.2 and 4.4.1: all of it if half of it was in use, and otherwise what was. RFC 9438 4.6 lets implementations
    // take the window in place of what is on its way, if it does not grow without being used.
    #[inline]
    fn tried(&self) -> u32 {
        let (cwnd, flew) = (self.cc.cwnd(), self.flew());
        match cwnd <= flew.saturating_mul(2) {
            true => cwnd,
            false => flew,
        }
    }

    /// Goes on with another congestion control.
    pub(super) fn change_congestion(&mut self) {
        self.cc.change(self.options.congestion);
        self.recovery.change(self.options.congestion);
    }

    /// Whether a call of `transmit` may return something.
    #[inline]
    pub(super) fn may_transmit(&self) -> bool {
        match self.state {
            State::SynSent(s) => s.syn == Due::Now,
            State::SynReceived(s) if s.sends == Sends::No => {
                s.syn_ack == Due::Now || self.rcv.acks_due > 0
            }
            State::SynReceived(s) if s.syn_ack == Due::Now => true,
            State::Closed | State::TimeWait => false,
            _ => {
                self.rcv.acks_due > 0
                    || self.snd.nxt != self.write_end()
                    || self.snd.probe != Probe::None
                    || self.recovery.is_busy()
            }
        }
    }

    /// The sequence number behind everything there is to send, a FIN included.
    #[inline]
    fn write_end(&self) -> SeqNum {
        let end = self.snd.queue.end();
        match self.state.fin() {
            Some(fin) => fin + 1,
            // The FIN, once acknowledged, stays behind the queue's end.
            None if self.snd.una == end + 1 => self.snd.una,
            None => end,
        }
    }

    /// What the connection waits for.
    #[inline]
    fn limit(&self) -> Limit {
        let flight = self.flight();
        if self.snd.nxt == self.write_end() {
            return match flight {
                0 => Limit::Idle,
                _ if self.waiters.writers.is_empty() || !self.has_room(flight) => Limit::Network,
                _ => Limit::Buffer,
            };
        }
        let offered = self.snd.edge.since(self.snd.una);
        match offered < flight + self.data_mss() && self.has_room(flight) {
            true => Limit::Window,
            false => Limit::Network,
        }
    }

    /// Whether the congestion window has room for another segment.
    fn has_room(&self, flight: u32) -> bool {
        flight + self.data_mss() <= self.cc.cwnd()
    }

    /// Ends the connection and tells whoever waits.
    pub(super) fn finish(&mut self, env: &mut Env<'_>, error: Option<SocketError>) {
        if self.error.is_none() {
            self.error = error.map(Box::new);
        }
        self.state = State::Closed;
        self.timers = Timers::default();
        self.rcv.acks_due = 0;
        self.snd.probe = Probe::None;
        self.snd.queue = SendQueue::new(self.snd.queue.end());
        self.counts.limits.turn(env.now, Limit::Idle);
        self.waiters.wake_all(env.out);
    }

    /// Whether one more challenge acknowledgement may be sent now.
    fn may_challenge(&mut self, env: &mut Env<'_>) -> bool {
        let trouble = self.trouble.get_or_insert_default();
        trouble.challenge.may_send(env.now, env.config, env.stats)
    }
}

pub(super) fn family(addr: SocketAddr) -> Family {
    if addr.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}
