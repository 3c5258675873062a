//! A segment arrives (RFC 9293, section 3.10.7, in its order).

use super::ack::Carries;
use super::timers::Cause;
use super::{Closed, Connection, Disposition, Env, Owner, Receiver, Turns};
use crate::base::time::{Duration, Instant};
use crate::packet::Payload;
use crate::packet::header::{TcpFlags, TcpHeader};
use crate::transport::error::SocketError;
use crate::transport::tcp::config::TcpConfig;
use crate::transport::tcp::congestion::{Congestion, Controller, Mark};
use crate::transport::tcp::ecn::{Ecn, EcnUse, Feedback, is_marked};
use crate::transport::tcp::marked::MarkedData;
use crate::transport::tcp::options::{negotiate, path_mss};
use crate::transport::tcp::recovery::SackUse;
use crate::transport::tcp::recv_queue::Ahead;
use crate::transport::tcp::segment::SegmentIn;
use crate::transport::tcp::seq::SeqNum;
use crate::transport::tcp::state::{Due, Sends, State, SynReceived, SynSent};

/// Segments that are acknowledged one by one after one was missed, or came twice. The sender's window is small then: each
/// acknowledgement that is lost may cost it a timeout, and it grows sooner with each that comes. Linux stops after 16, and
/// only does so after duplicates; over 40 ms with 1 % of loss its sender carries 1 % more with 250 than with those.
// RFC 5681 4.2: not more than one acknowledgement for each segment.
const QUICK_ACKS: u8 = 250;
/// So many where data is sent as well: it carries acknowledgements.
const QUICK_TURNS: u8 = 16;
/// How soon a SYN is repeated that a peer takes for an old one: when our time stamps have moved on.
const ASK_AGAIN: Duration = Duration::from_millis(2);

impl Turns {
    fn one_way(latest: TcpFlags) -> Turns {
        match latest.has(TcpFlags::PSH) {
            true => Turns::OneWayPushed,
            false => Turns::OneWay,
        }
    }
}

impl Receiver {
    /// Something was lost, or sent for nothing: the peer shall know at once what arrives.
    fn acknowledge_each(&mut self) {
        self.quick = QUICK_ACKS;
        self.turns = Turns::OneWay;
    }

    /// Data leaves, and with it an acknowledgement.
    #[inline]
    pub(super) fn on_data_sent(&mut self) {
        self.turns = Turns::Taken;
        self.quick = self.quick.min(QUICK_TURNS);
    }
}

impl Connection {
    /// Takes one segment. Whoever calls looks at the state afterwards.
    pub(in crate::transport::tcp) fn segment(
        &mut self,
        env: &mut Env<'_>,
        seg: SegmentIn<'_>,
    ) -> Disposition {
        self.counts
            .on_arrival(env.now, seg.payload.len(), seg.gso_segment);
        match self.state {
            State::SynSent(s) => self.segment_in_syn_sent(env, s, seg),
            State::Closed | State::TimeWait => Disposition::Answer,
            State::Established if self.is_predicted(env.now, &seg) => self.predicted(env, seg),
            _ => self.segment_synchronized(env, seg),
        }
    }

    /// Header prediction: the next segment in order, on a connection where nothing is the matter.
    #[inline]
    fn is_predicted(&self, now: Instant, seg: &SegmentIn<'_>) -> bool {
        let h = seg.header;
        let unusual = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::URG;
        let Some(ack) = h.ack else {
            return false;
        };
        let ack = SeqNum(ack);
        !h.flags.any(unusual)
            && SeqNum(h.seq) == self.rcv.nxt
            && ack.is_in(self.snd.una..=self.snd.nxt)
            && seg.payload.len() <= self.rcv.promised() as usize
            && !self.rcv.queue.has_gap()
            && self.rcv.fin.is_none()
            && self.owner != Owner::Nobody
            && match (self.negotiated.ts, h.options.timestamp) {
                (None, _) => true,
                (Some(ts), Some((tsval, _))) => !ts.is_old(now, tsval),
                (Some(_), None) => false,
            }
    }

    fn predicted(&mut self, env: &mut Env<'_>, seg: SegmentIn<'_>) -> Disposition {
        let h = seg.header;
        self.last_rx = env.now;
        self.update_timestamp(env.now, h);
        if self.negotiated.ecn.feedback != Feedback::None {
            self.hear_of_marks(env, &seg);
        }
        let carries = if seg.payload.is_empty() {
            Carries::Nothing
        } else {
            Carries::DataOrFin
        };
        if let Some(ack) = h.ack {
            self.on_ack(env, SeqNum(ack), h, carries);
        }
        if !seg.payload.is_empty() {
            self.accept_in_order(env, seg.header.flags, seg.payload, seg.gso_segment);
        }
        Disposition::Taken
    }

    /// Whether the connection asks for congestion notification. What cannot do without it does.
    pub(super) fn ecn_use(&self, config: &TcpConfig) -> EcnUse {
        match (config.ecn, self.options.congestion) {
            // RFC 8257 3: the share of marked packets has to be known.
            (EcnUse::Ask | EcnUse::Grant, Congestion::Dctcp) => EcnUse::Accurate,
            (chosen, _) => chosen,
        }
    }

    /// Marks of routers, and what the peer says of those it got (RFC 3168 6.1, RFC 9768 3.2).
    #[inline(never)]
    fn hear_of_marks(&mut self, env: &mut Env<'_>, seg: &SegmentIn<'_>) {
        let h = seg.header;
        let (flags, class, len) = (h.flags, seg.traffic_class, seg.payload.len() as u32);
        if len > 0 {
            env.stats.ecn_marks_in += u64::from(is_marked(class));
        }
        let packets = seg.gso_segment.map_or(1, |size| len.div_ceil(size.into()));
        let owes = self.rcv.unacked > 0;
        let ecn = &mut self.negotiated.ecn;
        if ecn.on_segment(flags, class, len > 0, packets, owes) {
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
        if let Some(counts) = &mut self.marked {
            counts.on_data(class, len);
        }
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let Some(ack) = h.ack.map(SeqNum).filter(|ack| ack.is_in(una..=nxt)) else {
            return;
        };
        // RFC 9768 3.2.2.2: what was overtaken says nothing.
        if let (Some(ts), Some((tsval, _))) = (self.negotiated.ts, h.options.timestamp)
            && SeqNum(ts.recent).is_newer_than(SeqNum(tsval))
        {
            return;
        }
        let (acked, mss) = (ack.since(una), self.data_mss());
        let ecn = &mut self.negotiated.ecn;
        let marked = match ecn.feedback {
            Feedback::Accurate => {
                let packets = ecn.on_count(flags, acked.div_ceil(mss));
                let guess = packets.saturating_mul(mss);
                match &mut self.marked {
                    Some(counts) => {
                        let news = counts.hear(h.options.marked.as_ref(), guess, acked);
                        if news.is_mangled {
                            ecn.on_mangled();
                        }
                        news.marked
                    }
                    None => guess,
                }
            }
            _ if flags.has(TcpFlags::ECE) => acked.max(1),
            _ => 0,
        };
        let bytes_marked = match ecn.feedback {
            Feedback::Accurate => marked,
            _ => marked.min(acked),
        };
        if bytes_marked > 0 {
            self.trouble.get_or_insert_default().bytes_marked += u64::from(bytes_marked);
        }
        let accurate = self.negotiated.ecn.feedback == Feedback::Accurate;
        match &mut self.cc {
            Controller::Dctcp(c) => c.on_feedback(acked, marked, ack, nxt),
            Controller::Bbr(c) if accurate => c.on_marked(marked),
            _ => {}
        }
        // During a recovery the window has been reduced already.
        if marked > 0
            && self.recovery.is_open()
            && una != nxt
            && self.negotiated.ecn.on_echo(una, nxt)
        {
            // A model has heard how many there are.
            env.stats.ecn_reductions += u64::from(!self.cc.has_model());
            let flight = self.tried();
            let mark = Mark {
                now: env.now,
                srtt: self.rtt.srtt_nanos(),
                less: env.config.abe,
            };
            self.cc.on_mark(flight, mss, mark);
        }
    }

    // RFC 9293 3.10.7.3
    fn segment_in_syn_sent(
        &mut self,
        env: &mut Env<'_>,
        s: SynSent,
        seg: SegmentIn<'_>,
    ) -> Disposition {
        let h = seg.header;
        let acceptable = h
            .ack
            .map(|ack| self.answers_syn(SeqNum(ack)) && s.sent_at.is_some());
        if acceptable == Some(false) {
            if h.flags.has(TcpFlags::RST) {
                return Disposition::Refused;
            }
            self.ask_again_soon(env);
            return Disposition::Answer;
        }
        if h.flags.has(TcpFlags::RST) {
            if acceptable.is_none() {
                return Disposition::Refused;
            }
            env.stats.failed_opens += 1;
            self.finish(env, Some(SocketError::ConnectionRefused));
            return Disposition::Reset;
        }
        if !h.flags.has(TcpFlags::SYN) {
            if acceptable.is_some() {
                // What it knows of the old connection may end just where this one begins.
                self.ask_again_soon(env);
            }
            return Disposition::Refused;
        }
        self.last_rx = env.now;
        let offered = self.rcv.promised();
        self.negotiated = negotiate(
            env.now,
            env.config,
            self.family,
            &h.options,
            self.rcv.buffer,
            self.ts_offset,
        );
        if h.ack.is_some() {
            let feedback = self.ecn_use(env.config).agreed(self.retries, h.flags);
            self.negotiated.ecn = Ecn::connected(feedback, h.flags, seg.traffic_class);
            if feedback == Feedback::Accurate {
                // RFC 9768 3.2.2.1: the acknowledgement of the answer leaves by itself.
                self.rcv.quick = self.rcv.quick.max(1);
                let marked = MarkedData::new(env.config.ecn_option, h.options.marked);
                self.marked = Some(Box::new(marked.connected()));
            }
        }
        self.start_receiving(SeqNum(h.seq), offered);
        // RFC 7323 2.2: the window field of a SYN is never scaled.
        self.snd.edge = self.snd.iss + 1 + u32::from(h.window);
        self.snd.max_wnd = u32::from(h.window);
        self.snd.wl1 = SeqNum(h.seq);
        let iw = if self.retries > 0 {
            // RFC 6928 2: a lost SYN means an initial window of one segment. A SYN-ACK as old as
            // that may be the second one.
            self.measure_by_echo(env, h, env.config.initial_rto);
            self.rtt.syn_was_lost(env.config);
            1
        } else {
            env.config.initial_cwnd_segments
        };
        self.cc = Controller::new(self.options.congestion, self.data_mss(), iw);
        if let Some(ack) = h.ack.map(SeqNum) {
            if let (Some(sent), 0) = (s.sent_at, self.retries) {
                self.rtt.sample(env.config, env.now.since(sent));
            }
            if self.early.is_some() {
                self.on_answered(h, ack);
            }
            self.establish(env, ack);
            let disposition = self.after_syn(env, seg);
            return self.taught(disposition);
        }
        // Simultaneous open. What else is in the segment comes again.
        self.snd.nxt = self.snd.iss + 1;
        self.state = State::SynReceived(SynReceived {
            syn_ack: Due::Now,
            sends: Sends::No,
        });
        Disposition::Taken
    }

    /// Takes what a SYN-ACK carries besides (RFC 9293 3.10.7.3: "other controls or text").
    fn after_syn(&mut self, env: &mut Env<'_>, seg: SegmentIn<'_>) -> Disposition {
        self.rcv.acks_due = 1;
        let (h, seq) = (seg.header, SeqNum(seg.header.seq) + 1);
        if seg.payload.is_empty() && !h.flags.has(TcpFlags::FIN) {
            return Disposition::Taken;
        }
        self.on_data(env, seq, h.flags, seg.payload, seg.gso_segment)
    }

    /// The peer remembers a connection of these addresses, and does not take our SYN for the beginning of
    /// another one: it may be in TIME-WAIT, where a SYN has to be later than what it remembers, or not
    /// have heard that we know nothing of the old connection any more. Our reset, or a later time stamp,
    /// settles that; so the SYN is repeated soon, the first time, and not after a whole timeout.
    // RFC 9293 3.5.1, RFC 6191 2.
    fn ask_again_soon(&mut self, env: &Env<'_>) {
        if self.retries == 0 {
            self.timers.retransmit = self.timers.retransmit.min(env.now + ASK_AGAIN);
        }
    }

    /// Our SYN is acknowledged, and what was sent with it up to `ack`. The rest of that leaves again, as if for the first
    /// time.
    fn establish(&mut self, env: &mut Env<'_>, ack: SeqNum) {
        self.counts.totals.bytes_acked += u64::from(ack.since(self.snd.iss + 1));
        self.snd.una = ack;
        self.snd.nxt = ack;
        self.snd.small_end = ack;
        self.snd.queue.release_to(ack);
        self.open(env, ack);
    }

    fn open(&mut self, env: &mut Env<'_>, ack: SeqNum) {
        self.hint.on_progress(env.now);
        self.snd.wl2 = ack;
        self.retries = 0;
        if let Some(trouble) = &mut self.trouble {
            trouble.soft_error = None;
        }
        self.timers.retransmit = Instant::MAX;
        self.disarm_user_timeout();
        self.state = State::Established;
        if self.snd.closed == Closed::Yes {
            self.state = self.state.on_close(self.snd.queue.end());
        }
        self.waiters.writers.wake(env.out);
        self.waiters.readers.wake(env.out);
    }

    // RFC 9293 3.10.7.4, with RFC 5961 and RFC 7323 5.3.
    fn segment_synchronized(&mut self, env: &mut Env<'_>, seg: SegmentIn<'_>) -> Disposition {
        let h = seg.header;
        let fin = u32::from(h.flags.has(TcpFlags::FIN));
        let syn = u32::from(h.flags.has(TcpFlags::SYN));
        let seg_len = seg.payload.len() as u32 + fin + syn;
        let seq = SeqNum(h.seq);

        if h.flags.has(TcpFlags::RST) {
            return self.on_reset(env, seq);
        }
        if self.is_too_old(env.now, h) {
            env.stats.paws_drops += 1;
            self.challenge(env);
            return Disposition::Refused;
        }
        // A repeated SYN-ACK, or the SYN of a simultaneous open: old, but the peer waits.
        if self.is_handshake_again(h) {
            if let State::SynReceived(s) = &mut self.state {
                if h.ack.is_none() {
                    s.syn_ack = Due::Now;
                    let asks = env.config.ecn.grants(h.flags);
                    return match self.on_early_syn_again(asks, seg.traffic_class) {
                        true => Disposition::Taken,
                        false => Disposition::AbortLate,
                    };
                }
            } else {
                self.rcv.acks_due = self.rcv.acks_due.max(1);
                return Disposition::Refused;
            }
        } else if !self.is_acceptable(seq, seg.payload.len() as u32, fin) {
            self.refuse_sequence(env, seq, seg_len, h);
            return Disposition::Refused;
        } else if syn == 1 {
            // RFC 5961 4.2: whatever its sequence number.
            self.challenge(env);
            return Disposition::Refused;
        }
        let Some(ack) = h.ack.map(SeqNum) else {
            return Disposition::Refused;
        };
        if let State::SynReceived(s) = self.state {
            if !self.answers_syn(ack) {
                return Disposition::Answer;
            }
            let shift = if syn == 1 {
                0
            } else {
                self.negotiated.snd_shift
            };
            let window = u32::from(h.window) << shift;
            self.snd.edge = ack + window;
            self.snd.max_wnd = window;
            self.snd.wl1 = seq;
            if self.retries > 0 {
                self.measure_by_echo(env, h, env.config.initial_rto);
                self.rtt.syn_was_lost(env.config);
            }
            match s.sends {
                Sends::No => self.establish(env, ack),
                Sends::Yes => {
                    let is_plain = seg.payload.is_empty() && h.options.sack.is_empty();
                    self.confirm(env, h, is_plain);
                    self.open(env, self.snd.una);
                    self.restart_retransmit(env, Cause::Sent);
                }
            }
            self.early = None;
            if syn == 1 {
                // The peer's SYN-ACK, crossing ours.
                self.last_rx = env.now;
                return self.after_syn(env, seg);
            }
        }
        // RFC 5961 5.2: nothing of a segment is believed before its acknowledgement is.
        if !ack.is_in(self.snd.una - self.snd.max_wnd..=self.snd.nxt) {
            self.challenge(env);
            return Disposition::Refused;
        }
        self.last_rx = env.now;
        self.update_timestamp(env.now, h);
        if self.negotiated.ecn.feedback != Feedback::None {
            self.hear_of_marks(env, &seg);
        }
        let carries = if seg_len > 0 {
            Carries::DataOrFin
        } else {
            Carries::Nothing
        };
        if ack.is_in(self.snd.una..=self.snd.nxt) {
            self.on_ack(env, ack, h, carries);
            if self.state.is_over() {
                return Disposition::Taken;
            }
        }
        // The urgent pointer is ignored: urgent data is data (RFC 6093).
        if seg_len == 0 {
            return Disposition::Taken;
        }
        self.on_data(env, seq, h.flags, seg.payload, seg.gso_segment)
    }

    /// True for a segment that PAWS refuses. A segment that lacks the timestamp its connection
    /// agreed on is let through: the sequence number decides.
    fn is_too_old(&self, now: Instant, h: &TcpHeader) -> bool {
        match (self.negotiated.ts, h.options.timestamp) {
            (Some(ts), Some((tsval, _))) => ts.is_old(now, tsval),
            _ => false,
        }
    }

    fn is_handshake_again(&self, h: &TcpHeader) -> bool {
        h.flags.has(TcpFlags::SYN)
            && SeqNum(h.seq) == self.rcv.irs
            && (h.ack.is_none_or(|ack| SeqNum(ack) == self.snd.iss + 1))
    }

    // RFC 9293 3.10.7.4, table 6, a little wider: a segment that covers the window and more is
    // cut to it, and a FIN needs no room. `len` is the text's, `fin` the FIN's (3.4: SEG.LEN
    // counts it).
    #[inline]
    fn is_acceptable(&self, seq: SeqNum, len: u32, fin: u32) -> bool {
        let (nxt, adv) = (self.rcv.nxt, self.rcv.advertised);
        let begins_in_window = match len {
            // The right edge itself is let in: that is where a peer stands that has filled the
            // window, and its acknowledgement counts.
            0 => seq.is_in(nxt..=adv),
            _ => seq.offset_in(nxt..adv).is_some(),
        };
        // Or before it, and reaches into it.
        begins_in_window || (seq != nxt && nxt.offset_in(seq..seq + len + fin).is_some())
    }

    /// A segment outside the window: it is acknowledged, and its acknowledgement is still heard
    /// when it is plausible (RFC 9293 3.10.7.4: a closed window does not stop ACKs).
    fn refuse_sequence(&mut self, env: &mut Env<'_>, seq: SeqNum, len: u32, h: &TcpHeader) {
        if len == 0 || h.flags.has(TcpFlags::SYN) {
            // Not data: could be one half of a loop of acknowledgements, so not without limit.
            self.challenge_quietly(env);
            return;
        }
        // It ends where the next one is expected, or before.
        let old = self.rcv.nxt.is_newer_than(seq);
        if old {
            env.stats.duplicates_in += 1;
            self.rcv.acknowledge_each();
            if self.negotiated.sack == SackUse::Yes {
                self.rcv.queue.note_duplicate((seq, seq + len));
            }
        }
        self.rcv.acks_due = self.rcv.acks_due.max(1);
        // Beyond the window nobody has reason to send; at its edge stands who probes it.
        if let Some(ack) = h.ack.map(SeqNum)
            && (old || seq == self.rcv.advertised)
            && self.state.is_synchronized()
            && ack.is_in(self.snd.una..=self.snd.nxt)
        {
            self.last_rx = env.now;
            // As in Linux and FreeBSD, the latest segment again is no older than the window: the
            // peer, whose timer went off, learns from the echo which of the two is answered.
            if seq + len == self.rcv.nxt {
                self.update_timestamp(env.now, h);
            }
            self.on_ack(env, ack, h, Carries::DataOrFin);
        }
    }

    // RFC 5961 3.2
    fn on_reset(&mut self, env: &mut Env<'_>, seq: SeqNum) -> Disposition {
        if seq != self.rcv.nxt {
            // The window's right edge is outside.
            if seq.offset_in(self.rcv.nxt..self.rcv.advertised).is_some() {
                self.challenge(env);
            }
            return Disposition::Refused;
        }
        env.stats.resets_in += 1;
        let error = match self.state {
            State::SynReceived(s) if s.sends == Sends::No => SocketError::ConnectionRefused,
            // RFC 9293 3.10.7.4: both sides have closed; nobody waits for an answer.
            State::Closing(_) | State::LastAck(_) => {
                self.finish(env, None);
                return Disposition::Reset;
            }
            State::CloseWait => SocketError::BrokenPipe,
            _ => SocketError::ConnectionReset,
        };
        self.finish(env, Some(error));
        Disposition::Reset
    }

    // RFC 7323 4.3, step 2.
    #[inline]
    fn update_timestamp(&mut self, now: Instant, h: &TcpHeader) {
        if let (Some(ts), Some((tsval, _))) = (&mut self.negotiated.ts, h.options.timestamp)
            // Of an acceptable segment: not behind what was acknowledged last.
            && (SeqNum(h.seq) == self.rcv.last_ack
                || !SeqNum(h.seq).is_in(self.rcv.last_ack..=self.rcv.advertised))
            && !SeqNum(ts.recent).is_newer_than(SeqNum(tsval))
        {
            ts.update(now, tsval);
        }
    }

    pub(super) fn on_data(
        &mut self,
        env: &mut Env<'_>,
        seq: SeqNum,
        flags: TcpFlags,
        mut payload: Payload,
        gso_segment: Option<u16>,
    ) -> Disposition {
        if !self.state.receives() {
            // After the peer's FIN nothing can follow; a repeated FIN is acknowledged again.
            self.rcv.acks_due = self.rcv.acks_due.max(1);
            return Disposition::Refused;
        }
        let nxt = self.rcv.nxt;
        let mut seq = seq;
        let mut fin = flags.has(TcpFlags::FIN);
        if !seq.is_in(nxt..=self.rcv.advertised) {
            // Acceptable all the same: it begins before the window.
            let old = nxt.since(seq).min(payload.len() as u32);
            if old > 0 {
                env.stats.duplicates_in += 1;
                self.rcv.acknowledge_each();
                if self.negotiated.sack == SackUse::Yes {
                    self.rcv.queue.note_duplicate((seq, seq + old));
                }
                self.rcv.acks_due = self.rcv.acks_due.max(1);
            }
            payload.advance(old as usize);
            seq += old;
            if seq != nxt {
                return Disposition::Taken;
            }
        }
        let room = self.rcv.advertised.since(seq) as usize;
        if payload.len() > room {
            payload.truncate(room);
            fin = false;
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
        if fin {
            let at = seq + payload.len() as u32;
            // A FIN that contradicts an earlier one is the peer's mistake; the first one counts.
            self.rcv.fin.get_or_insert(at);
        }
        if let Some(at) = self.rcv.fin {
            if nxt.precedes(at, seq) {
                return Disposition::Refused;
            }
            payload.truncate(payload.len().min(at.since(seq) as usize));
        }
        if !payload.is_empty() {
            if self.owner == Owner::Nobody {
                // RFC 9293 3.6.1 and RFC 2525 2.17: nobody will ever read it.
                return Disposition::AbortLate;
            }
            if seq == nxt {
                self.accept_in_order(env, flags, payload, gso_segment);
            } else if self.accept_ahead(env, seq, payload) == Ahead::NoRoom {
                return Disposition::NoRoom;
            }
        } else if fin && seq != nxt {
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
        self.take_fin(env);
        Disposition::Taken
    }

    /// Takes the FIN when everything before it is here.
    fn take_fin(&mut self, env: &mut Env<'_>) {
        if self.rcv.fin != Some(self.rcv.nxt) || !self.state.receives() {
            return;
        }
        self.rcv.advance(self.rcv.nxt + 1);
        self.rcv.queue.discard_ahead();
        self.rcv.acks_due = self.rcv.acks_due.max(1);
        self.state = self.state.on_fin();
        self.waiters.readers.wake(env.out);
    }

    #[inline]
    fn accept_in_order(
        &mut self,
        env: &mut Env<'_>,
        flags: TcpFlags,
        payload: Payload,
        gso: Option<u16>,
    ) {
        let len = payload.len() as u32;
        self.hint.on_progress(env.now);
        let rcv = &mut self.rcv;
        env.stats.bytes_in += u64::from(len);
        let had_gap = rcv.queue.has_gap();
        rcv.queue.push(payload);
        let mut nxt = rcv.nxt + len;
        if had_gap {
            nxt = rcv.queue.close_gap(rcv.nxt, nxt);
        }
        self.counts.totals.bytes_in += u64::from(nxt.since(rcv.nxt));
        rcv.advance(nxt);
        // RFC 9293 3.8.6.3: one acknowledgement for two full segments at least; RFC 5681 4.2: at
        // once when (part of) a gap was filled.
        let piece = gso.map_or(len, u32::from);
        if piece >= rcv.mss {
            rcv.mss = piece.min(u32::from(path_mss(self.path, self.family)));
        }
        if rcv.turns != Turns::Taken {
            rcv.turns = Turns::one_way(flags);
        }
        rcv.unacked += len;
        if had_gap || rcv.quick > 0 || rcv.unacked >= 2 * rcv.mss || self.options.quickack {
            rcv.quick = rcv.quick.saturating_sub(1);
            rcv.acks_due = rcv.acks_due.max(1);
        } else if self.timers.delayed_ack == Instant::MAX {
            self.timers.delayed_ack = env.now + env.config.delayed_ack;
        }
        self.waiters.readers.wake(env.out);
    }

    fn accept_ahead(&mut self, env: &mut Env<'_>, seq: SeqNum, payload: Payload) -> Ahead {
        env.stats.out_of_order += 1;
        self.rcv.acknowledge_each();
        // What the window promises, and as much for keeping it in pieces.
        let budget = self.rcv.buffer.saturating_mul(2);
        let nxt = self.rcv.nxt;
        let outcome = self.rcv.queue.insert_ahead(nxt, seq, payload, budget);
        if outcome == Ahead::Duplicate {
            env.stats.duplicates_in += 1;
        }
        // RFC 5681 4.2: an immediate duplicate acknowledgement for each.
        self.rcv.acks_due = self.rcv.acks_due.max(1);
        outcome
    }

    /// What is held is to be acknowledged again.
    pub(in crate::transport::tcp) fn acknowledge(&mut self) {
        if self.state.is_synchronized() {
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
    }

    /// Sends a challenge acknowledgement (RFC 5961), within the rate limit.
    fn challenge(&mut self, env: &mut Env<'_>) {
        if self.may_challenge(env) {
            env.stats.challenge_acks += 1;
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
    }

    /// Acknowledges a segment without data, within the same limit.
    fn challenge_quietly(&mut self, env: &mut Env<'_>) {
        if self.may_challenge(env) {
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
    }
}
