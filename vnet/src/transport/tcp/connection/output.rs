//! Which segment goes next, if any: handshake, retransmission, new data, FIN, probe, bare
//! acknowledgement, in that order.

use super::ack::Carries;
use super::timers::{Cause, Pending};
use super::{Connection, Env, Probe};
use crate::base::time::Instant;
use crate::packet::Payload;
use crate::packet::header::{SackBlocks, TcpFlags, TcpHeader, TcpOptions};
use crate::transport::tcp::config::TcpConfig;
use crate::transport::tcp::congestion::{LARGE, Limited, quantum};
use crate::transport::tcp::ecn::Feedback;
use crate::transport::tcp::options::{answer, offer, path_mss};
use crate::transport::tcp::recovery::SackUse;
use crate::transport::tcp::segment::SegmentOut;
use crate::transport::tcp::seq::SeqNum;
use crate::transport::tcp::state::{Due, Sends, State, SynSent};

/// Room for options in a header.
const OPTION_SPACE: usize = 40;
/// Paths with a least round trip below this are not worth spreading a window over, in nanoseconds: what a path carries
/// in a millisecond may leave at once.
const SPREAD_RTT: u64 = 1_000_000;

/// One segment to be built.
struct Plan {
    seq: SeqNum,
    /// Payload bytes.
    len: u32,
    flags: TcpFlags,
    options: TcpOptions,
    /// Payload bytes of one piece.
    piece: u32,
    /// The ECN bits of its packet.
    ect: u8,
}

impl Connection {
    /// The next segment, or `None` when there is nothing (more) to send now.
    pub(in crate::transport::tcp) fn transmit(&mut self, env: &mut Env<'_>) -> Option<SegmentOut> {
        match self.state {
            State::SynSent(s) => self.syn(env, s),
            State::SynReceived(s) if s.syn_ack == Due::Now => Some(self.syn_ack(env)),
            State::SynReceived(s) if s.sends == Sends::Yes => self.transmit_synchronized(env),
            State::SynReceived(_) if self.rcv.acks_due > 0 => Some(self.bare(env, self.snd.nxt)),
            State::SynReceived(_) => None,
            State::Closed | State::TimeWait => None,
            _ => self.transmit_synchronized(env),
        }
    }

    fn transmit_synchronized(&mut self, env: &mut Env<'_>) -> Option<SegmentOut> {
        if self.recovery.is_busy() {
            if self.recovery.is_probe_due() {
                if let Some(segment) = self.tail_probe(env) {
                    return Some(segment);
                }
            } else if let Some(hole) = self.recovery.next_hole()
                && let Some(segment) = self.retransmit(env, hole)
            {
                return Some(segment);
            }
        }
        if self.snd.nxt != self.write_end()
            && let Some(segment) = self.new_data(env)
        {
            return Some(segment);
        }
        if self.snd.probe != Probe::None {
            return Some(self.probe(env));
        }
        if self.rcv.acks_due > 0 {
            let more = self.rcv.acks_due - 1;
            let ack = self.bare(env, self.snd.nxt);
            self.rcv.acks_due = more;
            return Some(ack);
        }
        // RFC 6298 5.1: whatever happened, what is outstanding has a timer.
        if self.timers.retransmit == Instant::MAX && self.flight() > 0 {
            self.restart_retransmit(env, Cause::Sent);
        }
        if self.snd.nxt != self.write_end() {
            let limit = self.limit();
            self.counts.limits.turn(env.now, limit);
        }
        None
    }

    /// The acknowledgement that is due, while segments are acknowledged one by one. It is for the
    /// segment just taken and is not shared with what arrives in the same moment.
    #[inline]
    pub(in crate::transport::tcp) fn quick_ack(&mut self, env: &mut Env<'_>) -> Option<SegmentOut> {
        let due = self.rcv.quick > 0 && self.rcv.acks_due > 0 && self.state.is_synchronized();
        due.then(|| self.bare(env, self.snd.nxt))
    }

    fn syn(&mut self, env: &mut Env<'_>, s: SynSent) -> Option<SegmentOut> {
        if s.syn != Due::Now {
            return None;
        }
        let sent_at = s.sent_at.or(Some(env.now));
        self.state = State::SynSent(SynSent {
            syn: Due::Sent,
            sent_at,
        });
        let mss = path_mss(self.path, self.family);
        let tsval = self.clock(env.now);
        let mut options = offer(env.config, mss, self.rcv.buffer, tsval);
        let payload = match self.early {
            None => Payload::new(),
            Some(_) => self.fill_syn(env, &mut options),
        };
        let window = self.syn_window();
        // Remembered as the edge of a window that begins at zero, until the peer's sequence
        // number is known.
        self.rcv.advertised = self.rcv.nxt + u32::from(window);
        self.snd.nxt = self.snd.iss + 1;
        self.timers.retransmit = env.now + self.rtt.rto();
        self.arm_user_timeout(env.now);
        let flags = self.ecn_use(env.config).syn(self.retries);
        self.counts.on_departure(payload.len() as u32, None);
        Some(SegmentOut {
            payload,
            ..self.handshake(flags, None, options, window)
        })
    }

    /// The SYN-ACK of a simultaneous open, or to a SYN with data that was taken.
    fn syn_ack(&mut self, env: &mut Env<'_>) -> SegmentOut {
        if let State::SynReceived(s) = &mut self.state {
            s.syn_ack = Due::Sent;
        }
        self.rcv.acks_due = 0;
        let mss = path_mss(self.path, self.family);
        let mut options = answer(&self.negotiated, mss, env.now);
        let flags = match self.early {
            None => TcpFlags::SYN,
            Some(_) => self.fill_syn_ack(env.config, &mut options),
        };
        let window = self.syn_window();
        self.timers.retransmit = env.now + self.rtt.rto();
        self.counts.on_departure(0, None);
        self.handshake(flags, Some(self.rcv.nxt.0), options, window)
    }

    pub(super) fn syn_window(&self) -> u16 {
        let free = self.rcv.buffer.saturating_sub(self.rcv.queue.len());
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    fn handshake(
        &self,
        flags: TcpFlags,
        ack: Option<u32>,
        options: TcpOptions,
        window: u16,
    ) -> SegmentOut {
        let header = TcpHeader {
            seq: self.snd.iss.0,
            ack,
            flags,
            window,
            options,
            ..TcpHeader::default()
        };
        self.out(header, Payload::new(), None)
    }

    /// New data, as much as one packet can carry and everything permits; then the FIN.
    fn new_data(&mut self, env: &mut Env<'_>) -> Option<SegmentOut> {
        let nxt = self.snd.nxt;
        let end = self.snd.queue.end();
        if nxt == end {
            // A FIN takes no room in the peer's buffer, so its window does not hold it back.
            let mut plan = self.plan(env.now, nxt, Carries::Nothing);
            return Some(self.send_new(env, &mut plan));
        }
        let available = self.record_end(nxt, end).since(nxt);
        if self.is_held_back(env) {
            return None;
        }
        // A window that shrank may end before what was sent.
        let window = self.snd.edge.since(self.snd.una);
        let window = window.saturating_sub(self.flight());
        let mut plan = self.plan(env.now, nxt, Carries::DataOrFin);
        let mut probe = None;
        if self.snd.held.is_some() {
            probe = self.probe_by(env.now, available.min(window), plan.piece);
            plan.piece += probe.unwrap_or(0);
        }
        let piece = plan.piece;
        let mut len = available.min(window);
        if len < piece && len < available && !self.is_window_worth_it(len) {
            if self.flight() == 0 {
                self.arm_persist(env);
            }
            return None;
        }
        if self.flight() == 0 && env.now.since(self.snd.last_sent) > self.rtt.rto() {
            let mss = self.data_mss();
            self.cc.on_idle(mss, env.config.initial_cwnd_segments);
        }
        let room = self.room(piece);
        if room < len.min(piece) {
            return None;
        }
        let most = match probe {
            None => self.at_once(env, piece),
            Some(_) => piece,
        };
        len = len.min(room).min(most);
        let tail = len % piece;
        if tail > 0 && !self.may_send_tail(nxt, len, available, piece) {
            len -= tail;
            self.arm_release(env.now);
        }
        if len == 0 {
            return None;
        }
        plan.len = len;
        if let Some(by) = probe {
            self.on_probe_sent(nxt, nxt + len, by);
        }
        Some(self.send_new(env, &mut plan))
    }

    /// How many bytes congestion control lets leave now.
    #[inline]
    fn room(&self, piece: u32) -> u32 {
        if self.recovery.is_calm() {
            let flight = self.flight();
            let room = self.cc.cwnd().saturating_sub(flight);
            return if flight == 0 { room.max(piece) } else { room };
        }
        self.room_in_trouble(piece)
    }

    #[inline(never)]
    fn room_in_trouble(&self, piece: u32) -> u32 {
        let pipe = self.pipe();
        // Where a model says how much may be on its way, it does so in recovery, too.
        let room = match self.recovery.room().filter(|_| !self.cc.has_model()) {
            Some(room) => room,
            None => self.cc.cwnd().saturating_sub(pipe),
        };
        // RFC 8985 7.3: a probe leaves whatever the window says. So does the first segment when nothing is on its way.
        if pipe == 0 || self.recovery.is_probe_due() {
            return room.max(piece);
        }
        room
    }

    /// A tail loss probe: new data, or the last segment again.
    // RFC 8985 7.3
    #[cold]
    fn tail_probe(&mut self, env: &mut Env<'_>) -> Option<SegmentOut> {
        let nxt = self.snd.nxt;
        let mut segment = None;
        if nxt != self.write_end() {
            segment = self.new_data(env);
        }
        if segment.is_none() && self.flight() > 0 && self.recovery.sent.sacked() == 0 {
            // Blocks that are owed to the peer take room.
            let piece = self.plan(env.now, nxt, Carries::DataOrFin).piece;
            let start = nxt - piece.min(self.flight());
            segment = self.retransmit(env, (start, nxt));
        }
        match segment {
            Some(_) => {
                env.stats.tail_probes += 1;
                self.restart_retransmit(env, Cause::Sent);
            }
            None => self.recovery.forget_probe(),
        }
        segment
    }

    // RFC 9293 3.8.6.2.1: a window too small to be worth a segment, unless it is as large as the
    // peer's windows get, or has not grown for the time of the persist timer.
    fn is_window_worth_it(&self, usable: u32) -> bool {
        usable > 0 && (usable >= self.snd.max_wnd / 2 || self.snd.probe == Probe::Window)
    }

    // RFC 9293 3.7.4 (Nagle), in Minshall's form: a partial segment waits only for another
    // partial one, so that the end of a large write does not wait for its beginning.
    fn may_send_tail(&self, nxt: SeqNum, len: u32, available: u32, piece: u32) -> bool {
        if len < available {
            // Cut by a window, not by the end of the data: only when there is no full piece.
            return len < piece;
        }
        if self.state.fin().is_some() || self.snd.probe == Probe::Window {
            return true;
        }
        if self.is_held() {
            // A record that is complete waits for nothing.
            return nxt + len != self.snd.queue.end();
        }
        self.options.nodelay
            || self.snd.small_end == self.snd.una
            || nxt + len != self.snd.queue.end()
    }

    fn send_new(&mut self, env: &mut Env<'_>, plan: &mut Plan) -> SegmentOut {
        let end = plan.seq + plan.len;
        let mut nxt = end;
        if end == self.snd.queue.end() {
            if plan.len > 0 {
                plan.flags = plan.flags | TcpFlags::PSH;
            }
            if self.state.fin() == Some(end) {
                plan.flags = plan.flags | TcpFlags::FIN;
                nxt += 1;
            }
        }
        if !plan.len.is_multiple_of(plan.piece) {
            self.snd.small_end = nxt;
        }
        if self.negotiated.ecn.feedback != Feedback::None && plan.len > 0 {
            self.mark(env, plan);
        }
        self.snd.nxt = nxt;
        self.snd.probe = Probe::None;
        self.rcv.on_data_sent();
        self.timers.persist = Instant::MAX;
        if self.timers.held != Instant::MAX {
            self.disarm_release();
        }
        self.counts.on_new_data(env.now, nxt);
        let (flight, mss) = (self.flight(), self.data_mss());
        self.snd.flew = flight;
        self.snd.limited = Limited::if_by_cwnd(flight + mss > self.cc.cwnd());
        self.recovery.on_sent(plan.seq, nxt, env.now, flight);
        self.pace(env, plan.len);
        self.wake_writers(env);
        // RFC 8985 7.2: what follows a single segment can be probed for sooner.
        let before = flight - nxt.since(plan.seq);
        let grew = before <= mss && flight > mss && self.pending != Pending::Reordering;
        if self.timers.retransmit == Instant::MAX || grew {
            self.restart_retransmit(env, Cause::Sent);
        }
        self.build(env, plan)
    }

    /// New data of a connection that agreed on congestion notification.
    #[inline(never)]
    fn mark(&mut self, env: &Env<'_>, plan: &mut Plan) {
        let (flags, ect) = self.negotiated.ecn.on_data_sent(env.config.ect1);
        plan.flags = plan.flags | flags;
        if self.cc.heeds_marks(self.negotiated.ecn.feedback) {
            plan.ect = ect;
        }
    }

    /// Sends (part of) a hole again, if the congestion window has room.
    fn retransmit(
        &mut self,
        env: &mut Env<'_>,
        (start, end): (SeqNum, SeqNum),
    ) -> Option<SegmentOut> {
        if self.is_held_back(env) {
            return None;
        }
        if let Some(marked) = &mut self.marked {
            marked.on_sent_again(start);
        }
        let mut plan = self.plan(env.now, start, Carries::DataOrFin);
        let room = self.room(plan.piece);
        let data_end = self.snd.queue.end();
        let mut upto = start;
        if start != data_end {
            let record_end = self.record_end(start, data_end);
            let mut len = end.since(start).min(record_end.since(start));
            if room < len.min(plan.piece) {
                return None;
            }
            len = len.min(room).min(self.at_once(env, plan.piece));
            if len > plan.piece {
                len -= len % plan.piece;
            }
            plan.len = len;
            upto += len;
        } else if room == 0 {
            return None;
        }
        if upto == data_end {
            if plan.len > 0 {
                plan.flags = plan.flags | TcpFlags::PSH;
            }
            if self.state.fin() == Some(upto) && end != upto {
                plan.flags = plan.flags | TcpFlags::FIN;
                upto += 1;
            }
        }
        self.recovery
            .on_retransmit(start, upto, env.now, self.flight());
        self.pace(env, plan.len);
        if self.timers.retransmit == Instant::MAX {
            self.restart_retransmit(env, Cause::Sent);
        }
        env.stats.retransmits += 1;
        env.stats.retransmitted_bytes += u64::from(plan.len);
        let trouble = self.trouble.get_or_insert_default();
        trouble.segments_again += u64::from(plan.len.div_ceil(plan.piece).max(1));
        trouble.bytes_again += u64::from(plan.len);
        Some(self.build(env, &mut plan))
    }

    /// Whether the next segment has to wait for its turn. A probe need not.
    #[inline]
    fn is_held_back(&mut self, env: &Env<'_>) -> bool {
        if self.paced_until <= env.now || self.recovery.is_probe_due() {
            self.note_lateness(env.now);
            return false;
        }
        self.timers.pace = self.paced_until;
        // What could be made up for has been.
        self.lateness = 0;
        true
    }

    /// The rate at which to send, in bytes per second, where segments are spread over time.
    #[inline]
    pub(super) fn pacing(&self, config: &TcpConfig) -> Option<u64> {
        match self.is_spread(config) {
            true => self.cc.pacing(self.rtt.srtt_nanos()),
            false => None,
        }
    }

    /// Whether segments are spread over time.
    #[inline]
    fn is_spread(&self, config: &TcpConfig) -> bool {
        self.cc.has_model() || (self.cc.cwnd() > LARGE && self.may_spread(config))
    }

    /// Whether a window of more than a large packet is spread over time.
    #[inline]
    pub(super) fn may_spread(&self, config: &TcpConfig) -> bool {
        self.rtt.least_nanos() >= SPREAD_RTT && config.pacing.is_on()
    }

    /// How many bytes may leave as one.
    #[inline]
    fn at_once(&self, env: &Env<'_>, piece: u32) -> u32 {
        let most = match self.negotiated.ecn.may_be_large() {
            true => self.path.gso_max.max(piece),
            false => piece,
        };
        match self.pacing(env.config) {
            Some(rate) => most.min(quantum(rate, piece)),
            None => most,
        }
    }

    /// So many bytes leave: from when on others may.
    #[inline]
    fn pace(&mut self, env: &Env<'_>, len: u32) {
        if let Some(rate) = self.pacing(env.config) {
            self.pace_at(env.now, rate, len);
        }
    }

    #[inline(never)]
    fn pace_at(&mut self, now: Instant, rate: u64, len: u32) {
        let pause = u64::from(len) * 1_000_000_000 / rate.max(1);
        // As much as leaves at once may be made up for; and whatever could not leave because a deadline was met late, as
        // it always is in real time, or the rate would be less than that of the window. More than a round trip is not
        // made up for.
        let lateness = self.lateness.min(self.rtt.srtt_nanos());
        let late = now.as_nanos().saturating_sub(pause + lateness);
        let from = self.paced_until.as_nanos().max(late);
        self.paced_until = Instant::from_nanos(from.saturating_add(pause));
        let (pipe, nxt) = (self.pipe(), self.snd.nxt);
        let starved = nxt == self.write_end() && pipe < self.cc.cwnd();
        if let Some(model) = self.cc.model() {
            model.on_sent(now, len, pipe, nxt);
            if starved {
                model.on_starved(pipe);
            }
        }
    }

    /// A segment that asks for an acknowledgement: it lies before what the peer expects.
    fn probe(&mut self, env: &mut Env<'_>) -> SegmentOut {
        match self.snd.probe {
            Probe::Window => env.stats.window_probes += 1,
            Probe::Keepalive | Probe::None => env.stats.keepalive_probes += 1,
        }
        self.snd.probe = Probe::None;
        self.bare(env, self.snd.una - 1)
    }

    /// A segment without payload.
    fn bare(&mut self, env: &mut Env<'_>, seq: SeqNum) -> SegmentOut {
        let mut plan = self.plan(env.now, seq, Carries::Nothing);
        self.build(env, &mut plan)
    }

    #[inline]
    fn plan(&mut self, now: Instant, seq: SeqNum, carries: Carries) -> Plan {
        let mut options = TcpOptions::default();
        if let Some(ts) = &self.negotiated.ts {
            options.timestamp = Some((ts.value(now), ts.recent));
        }
        let blocks = self.sack_count();
        if let Some(marked) = &self.marked {
            let data = (carries == Carries::DataOrFin).then_some(seq);
            options.marked = marked.option(&options, blocks, data);
        }
        let mut used = options.len();
        if blocks > 0 {
            let fits = (OPTION_SPACE - used - 4) / 8;
            used += 4 + 8 * blocks.min(fits);
        }
        Plan {
            seq,
            len: 0,
            flags: TcpFlags::NONE,
            options,
            piece: u32::from(self.segment_room())
                .saturating_sub(used as u32)
                .max(8),
            ect: 0,
        }
    }

    /// Builds the planned segment. It carries an acknowledgement, so none is due afterwards.
    #[inline]
    fn build(&mut self, env: &mut Env<'_>, plan: &mut Plan) -> SegmentOut {
        plan.flags = plan.flags | self.negotiated.ecn.next_flags();
        if self.sack_count() > 0 {
            plan.options.sack = self.sack_blocks(&plan.options);
        }
        if let Some(marked) = &mut self.marked {
            if plan.options.marked.is_some() {
                marked.on_said((plan.len > 0).then_some(plan.seq));
            }
            if plan.len > 0 {
                marked.on_sent(plan.len, plan.piece);
            }
        }
        let window = self.offer_window();
        self.rcv.last_ack = self.rcv.nxt;
        self.rcv.acks_due = 0;
        self.rcv.unacked = 0;
        self.timers.delayed_ack = Instant::MAX;
        let header = TcpHeader {
            seq: plan.seq.0,
            ack: Some(self.rcv.nxt.0),
            flags: plan.flags,
            window,
            options: plan.options,
            ..TcpHeader::default()
        };
        let confirms = self.hint.take();
        let gso = (plan.len > plan.piece).then_some(plan.piece as u16);
        self.counts.on_departure(plan.len, gso);
        let mut payload = Payload::new();
        if plan.len > 0 {
            self.snd.last_sent = env.now;
            env.stats.bytes_out += u64::from(plan.len);
            payload = self.snd.queue.slice(plan.seq, plan.len as usize);
        }
        // Made where it is returned: it is some hundred bytes.
        let mut out = self.out(header, payload, gso);
        out.confirms = confirms;
        out.tos |= plan.ect;
        out
    }

    /// How many blocks a selective acknowledgement would have.
    #[inline]
    fn sack_count(&self) -> usize {
        match self.negotiated.sack {
            SackUse::Yes => self.rcv.queue.sack_count(),
            SackUse::No => 0,
        }
    }

    fn sack_blocks(&mut self, options: &TcpOptions) -> SackBlocks {
        let fits = (OPTION_SPACE - options.len() - 4) / 8;
        self.rcv.queue.sack_blocks(fits)
    }

    /// The window field of a segment sent now; what it promises is remembered.
    #[inline]
    fn offer_window(&mut self) -> u16 {
        let shift = self.negotiated.rcv_shift;
        let promised = self.rcv.promised();
        let window = self.window_to_offer().min(65_535 << shift);
        let mut field = window >> shift;
        // RFC 7323 2.4: rounding down should not take back what was promised. Rounding up must not promise what there
        // is no room for: then the field is rounded down all the same, and the edge stays where it was.
        if field << shift < promised && field < 65_535 {
            let up = promised.div_ceil(1 << shift).min(65_535);
            let free = self.rcv.buffer;
            if (up << shift) as usize <= free.saturating_sub(self.rcv.queue.len()) {
                field = up;
            }
        }
        self.rcv.advertised = self.rcv.nxt + promised.max(field << shift);
        field as u16
    }

    /// The window there is room for, in bytes; not below what was promised.
    // RFC 9293 3.8.6.2.2: the right edge moves by a segment, or half the buffer, or not at all.
    #[inline]
    pub(super) fn window_to_offer(&self) -> u32 {
        let buffer = self.rcv.buffer;
        let free = buffer.saturating_sub(self.rcv.queue.len()).min(1 << 30) as u32;
        let promised = self.rcv.promised();
        let step = self.rcv.mss.min((buffer / 2) as u32);
        if free >= promised.saturating_add(step) {
            free
        } else {
            promised
        }
    }

    /// The reset that aborts this connection (RFC 9293 3.10.5).
    pub(in crate::transport::tcp) fn reset(&self, now: Instant) -> SegmentOut {
        let header = TcpHeader {
            seq: self.snd.nxt.0,
            ack: Some(self.rcv.nxt.0),
            flags: TcpFlags::RST,
            options: TcpOptions {
                timestamp: self.negotiated.ts.map(|ts| (ts.value(now), ts.recent)),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        self.out(header, Payload::new(), None)
    }

    fn clock(&self, now: Instant) -> u32 {
        ((now.as_nanos() / 1_000_000) as u32).wrapping_add(self.ts_offset)
    }

    #[inline]
    fn out(&self, header: TcpHeader, payload: Payload, gso: Option<u16>) -> SegmentOut {
        let (local, remote) = (self.local, self.remote);
        let (ttl, tos) = (self.options.ttl, self.options.tos);
        let mut out = SegmentOut::carrying(local, remote, ttl, tos, header, payload);
        out.gso = gso;
        out.by = self.options.interface;
        out
    }
}
