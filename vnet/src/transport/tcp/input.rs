//! Which connection, record or listener a segment is for (RFC 9293, section 3.10.7).

use std::net::SocketAddr;
use std::sync::Arc;

use slotmap::Key;

use super::challenge::Challenge;
use super::connection::{Connection, Disposition, Env};
use super::ecn::Ecn;
use super::fast_open::Grant;
use super::ids::{ConnId, FourTuple, HalfId, ListenerId, Slot, TimeWaitId};
use super::listener::{Deferral, HalfOpen, Listener};
use super::options::{answer, negotiate, path_mss};
use super::segment::{IcmpKind, SegmentIn, SegmentOut, Verdict};
use super::seq::SeqNum;
use super::{Tcp, connection, cookies, list, reply, time_wait};
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::stats::DropReason;
use crate::base::time::{Duration, Instant};
use crate::packet::header::{TcpFlags, TcpHeader, TcpOptions};
use crate::packet::{Cx, Payload};

impl Tcp {
    /// Takes a segment. What it causes to be sent waits in [`Tcp::poll_transmit`].
    #[inline]
    pub(crate) fn input(&mut self, cx: &mut Cx<'_>, seg: SegmentIn<'_>) -> Verdict {
        self.stats.segments_in += 1;
        let key = FourTuple::new(seg.dst, seg.src);
        match self.holder(&key) {
            Some(Slot::Connection(id)) => self.input_connection(cx, id, seg),
            Some(Slot::HalfOpen(id)) => self.input_half_open(cx, id, seg),
            Some(Slot::TimeWait(id)) => self.input_time_wait(cx, id, seg),
            None => self.input_listener(cx, key, seg),
        }
    }

    /// As [`Tcp::input`], where there is no room for what would have to be kept: text and FIN are taken
    /// out, and the rest is taken, since it may make room. What is held is acknowledged again, with the
    /// window as it is: silence would look like a path that is broken.
    // RFC 9293 3.10.7.4: what is not acceptable is acknowledged.
    #[cold]
    pub(crate) fn input_without_room(&mut self, cx: &mut Cx<'_>, seg: SegmentIn<'_>) -> Verdict {
        let header = TcpHeader {
            flags: seg.header.flags.without(TcpFlags::FIN),
            ..*seg.header
        };
        let key = FourTuple::new(seg.dst, seg.src);
        let rest = SegmentIn {
            header: &header,
            payload: Payload::new(),
            ..seg
        };
        let verdict = self.input(cx, rest);
        if let Some(Slot::Connection(id)) = self.holder(&key) {
            if let Some(c) = self.connections.get_mut(id) {
                c.acknowledge();
            }
            self.settle(cx, id);
        }
        match verdict {
            Verdict::Delivered => Verdict::Drop(DropReason::SocketBufferFull),
            refused => refused,
        }
    }

    /// Hears of an ICMP error about a segment of ours from `local` to `remote` that carried the
    /// sequence number `seq`. It is believed only when such a segment is on its way (RFC 5927).
    pub(crate) fn on_icmp_error(
        &mut self,
        cx: &mut Cx<'_>,
        local: SocketAddr,
        remote: SocketAddr,
        seq: u32,
        what: IcmpKind,
    ) -> Verdict {
        let key = FourTuple::new(local, remote);
        let Some(Slot::Connection(id)) = self.holder(&key) else {
            return Verdict::Drop(DropReason::IcmpIgnored);
        };
        let Some(c) = self.connections.get_mut(id) else {
            return Verdict::Drop(DropReason::IcmpIgnored);
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        let believed = c.on_icmp(&mut env, seq, what);
        self.settle(cx, id);
        if believed {
            Verdict::Delivered
        } else {
            Verdict::Drop(DropReason::IcmpIgnored)
        }
    }

    #[inline]
    fn input_connection(&mut self, cx: &mut Cx<'_>, id: ConnId, seg: SegmentIn<'_>) -> Verdict {
        let Some((c, ready)) = self.connections.with_ready(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        let (header, src, dst) = (seg.header, seg.src, seg.dst);
        let len = seg.payload.len() as u32;
        let by = c.options.interface;
        let disposition = c.segment(&mut env, seg);
        if let Some(ack) = c.quick_ack(&mut env) {
            reply(&mut self.replies, ack);
        }
        let verdict = match disposition {
            Disposition::Taken => {
                if list(c, ready, &mut self.deadlines, id) {
                    self.conclude(cx, id);
                }
                return Verdict::Delivered;
            }
            Disposition::Reset => {
                self.note_reset(cx.now, id);
                Verdict::Delivered
            }
            Disposition::Opened => {
                self.learn(cx.now, id);
                Verdict::Delivered
            }
            Disposition::Refused => Verdict::Drop(DropReason::TcpUnacceptable),
            Disposition::NoRoom => Verdict::Drop(DropReason::SocketBufferFull),
            Disposition::AbortLate => {
                let reset = c.reset(env.now);
                c.finish(&mut env, None);
                self.stats.resets_out += 1;
                reply(&mut self.replies, reset);
                Verdict::Drop(DropReason::NoSocket)
            }
            Disposition::Answer => {
                self.refuse(header, len, src, dst, by);
                Verdict::Drop(DropReason::TcpUnacceptable)
            }
        };
        self.settle(cx, id);
        verdict
    }

    /// A passive SYN-RECEIVED (RFC 9293 3.10.7.4).
    fn input_half_open(&mut self, cx: &mut Cx<'_>, id: HalfId, seg: SegmentIn<'_>) -> Verdict {
        let Some(h) = self.half_open.get_mut(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let refused = Verdict::Drop(DropReason::TcpUnacceptable);
        let header = seg.header;
        let seq = SeqNum(header.seq);
        let rcv_nxt = h.irs + 1;
        let edge = rcv_nxt + u32::from(h.window);
        // RFC 5961 3.2: believed at RCV.NXT, challenged in the window, ignored elsewhere.
        let reset = header.flags.has(TcpFlags::RST);
        if reset && seq == rcv_nxt {
            self.stats.failed_opens += 1;
            self.remove_half_open(id);
            return Verdict::Delivered;
        }
        if reset && seq.offset_in(rcv_nxt..edge).is_none() {
            return refused;
        }
        if header.flags.has(TcpFlags::SYN) && header.ack.is_none() && seq == h.irs {
            // The SYN again: our answer was lost, or is late. RFC 6298 3: which of the two the
            // next acknowledgement is for cannot be told.
            h.is_answered_twice = true;
            let asks = self.config.ecn.grants(header.flags);
            if !h.negotiated.ecn.on_syn_again(asks, seg.traffic_class) {
                self.stats.failed_opens += 1;
                let (len, by) = (seg.payload.len() as u32, h.by);
                self.remove_half_open(id);
                self.refuse(header, len, seg.src, seg.dst, by);
                return refused;
            }
            h.sent_at = cx.now;
            // RFC 7323 4.3: the answer echoes what it answers.
            if let (Some(ts), Some((tsval, _))) = (&mut h.negotiated.ts, header.options.timestamp)
                && !ts.is_old(cx.now, tsval)
            {
                ts.update(cx.now, tsval);
            }
            let segment = h.syn_ack(cx.now);
            reply(&mut self.replies, segment);
            return Verdict::Delivered;
        }
        let in_window = seq.is_in(rcv_nxt..=edge);
        let old = match (h.negotiated.ts, header.options.timestamp) {
            (Some(ts), Some((tsval, _))) => ts.is_old(cx.now, tsval),
            _ => false,
        };
        let syn = header.flags.has(TcpFlags::SYN);
        if reset || old || !in_window || syn {
            let (config, stats) = (&self.config, &mut self.stats);
            if h.challenge.may_send(cx.now, config, stats) {
                // RFC 5961 3.2 and 4.2; the others are plain acknowledgements (RFC 9293 3.10.7.4).
                stats.challenge_acks += u64::from(reset || (syn && in_window));
                let segment = h.plain_ack(cx.now);
                reply(&mut self.replies, segment);
            }
            return refused;
        }
        match header.ack {
            None => refused,
            Some(ack) if SeqNum(ack) != h.iss + 1 => {
                let (len, by) = (seg.payload.len() as u32, h.by);
                self.refuse(header, len, seg.src, seg.dst, by);
                refused
            }
            Some(_) if self.defers(cx, id, &seg) => Verdict::Delivered,
            Some(_) => self.promote(cx, id, seg),
        }
    }

    /// Whether a request whose handshake is complete still waits, for its first data.
    fn defers(&mut self, cx: &mut Cx<'_>, id: HalfId, seg: &SegmentIn<'_>) -> bool {
        let Some(h) = self.half_open.get_mut(id) else {
            return false;
        };
        let wait = self.listeners.get(h.listener);
        let Some(wait) = wait.and_then(|l| l.options.defer_accept) else {
            return false;
        };
        if !seg.payload.is_empty() || seg.header.flags.has(TcpFlags::FIN) {
            return false;
        }
        match h.deferral {
            Deferral::None => {
                h.deferral = Deferral::Waits(cx.now.since(h.sent_at));
                h.resend_at = cx.now + wait;
                let until = h.resend_at;
                self.deadlines.arm(&mut h.armed, Slot::HalfOpen(id), until);
                true
            }
            Deferral::Waits(_) => true,
            Deferral::Over(_) => false,
        }
    }

    /// The handshake is complete: the record becomes a connection.
    fn promote(&mut self, cx: &mut Cx<'_>, id: HalfId, seg: SegmentIn<'_>) -> Verdict {
        let full = match self.half_open.get(id) {
            Some(h) => self.listeners.get(h.listener).is_some_and(|l| l.is_full()),
            None => false,
        };
        if full {
            // The request stays, and is answered again when its timer goes off.
            self.stats.backlog_full += 1;
            return Verdict::Drop(DropReason::TcpBacklogFull);
        }
        let Some(h) = self.take_half_open(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let Some(l) = self.listeners.get_mut(h.listener) else {
            self.forget_tuple(&h.key(), h.local, Slot::HalfOpen(id));
            return Verdict::Drop(DropReason::NoSocket);
        };
        let mut env = Env::new(&self.config, &mut self.stats, cx);
        let connection = Connection::accepted(&mut env, &h, Arc::clone(&l.options), &seg);
        let conn = self.connections.insert(connection);
        let key = h.key();
        self.by_tuple.remove(&key, Slot::HalfOpen(id));
        self.by_tuple.insert(&key, Slot::Connection(conn));
        l.ready.push_back(conn);
        l.waiters.readers.wake(cx.out);
        self.stats.passive_opens += 1;
        self.input_connection(cx, conn, seg)
    }

    fn input_time_wait(&mut self, cx: &mut Cx<'_>, id: TimeWaitId, seg: SegmentIn<'_>) -> Verdict {
        let Some(t) = self.time_wait.get_mut(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let (config, stats) = (&self.config, &mut self.stats);
        let mut disposition = t.segment(cx.now, config, stats, &seg);
        if disposition == time_wait::Disposition::Reincarnate {
            if let Some(listener) = self.listener_for(seg.src, seg.dst, seg.on) {
                return self.reincarnate(cx, id, listener, seg);
            }
            // Nobody listens: it is a segment as any other.
            let Some(t) = self.time_wait.get_mut(id) else {
                return Verdict::Drop(DropReason::NoSocket);
            };
            disposition = t.refuse(cx.now, &self.config, &mut self.stats);
        }
        let Some(t) = self.time_wait.get_mut(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        match disposition {
            time_wait::Disposition::Ignore => Verdict::Delivered,
            time_wait::Disposition::Acknowledge => {
                reply(&mut self.replies, t.ack(cx.now));
                Verdict::Delivered
            }
            time_wait::Disposition::Challenge => {
                reply(&mut self.replies, t.ack(cx.now));
                Verdict::Drop(DropReason::TcpUnacceptable)
            }
            time_wait::Disposition::Refuse | time_wait::Disposition::Reincarnate => {
                Verdict::Drop(DropReason::TcpUnacceptable)
            }
        }
    }

    /// A new connection takes the place of one in TIME-WAIT; unless the listener has no room, for
    /// then the record stays.
    fn reincarnate(
        &mut self,
        cx: &mut Cx<'_>,
        id: TimeWaitId,
        listener: ListenerId,
        seg: SegmentIn<'_>,
    ) -> Verdict {
        if !self.make_room(listener) {
            return Verdict::Drop(DropReason::TcpBacklogFull);
        }
        let Some(t) = self.remove_time_wait(id) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        // RFC 9293 3.6.1: our initial number must be beyond the last one used.
        let floor = t.snd_nxt + 0x1_0000;
        self.open_passively(cx, t.key(), seg, listener, Some(floor))
    }

    /// No connection: a listener, or nobody (RFC 9293 3.10.7.1 and 3.10.7.2).
    fn input_listener(&mut self, cx: &mut Cx<'_>, key: FourTuple, seg: SegmentIn<'_>) -> Verdict {
        let h = seg.header;
        let listener = self.listener_for(seg.src, seg.dst, seg.on);
        if h.flags.has(TcpFlags::RST) {
            return Verdict::Drop(match listener {
                Some(_) => DropReason::TcpUnacceptable,
                None => DropReason::NoSocket,
            });
        }
        let Some(listener) = listener else {
            self.refuse_for(None, &seg);
            return Verdict::Drop(DropReason::NoSocket);
        };
        if h.ack.is_some() {
            if self.takes_cookies(cx.now) && !h.flags.has(TcpFlags::SYN) {
                return self.take_cookie(cx, key, seg, listener);
            }
            self.refuse_for(Some(listener), &seg);
            return Verdict::Drop(DropReason::TcpUnacceptable);
        }
        // RFC 9293 3.5: SYN alone opens a connection; with FIN it is somebody's probe. A source
        // port of zero cannot be answered.
        if !h.flags.has(TcpFlags::SYN) || h.flags.has(TcpFlags::FIN) || h.src_port == 0 {
            return Verdict::Drop(DropReason::TcpUnacceptable);
        }
        if self.needs_cookie(listener) {
            return self.answer_with_cookie(cx, key, &seg, listener);
        }
        if !self.make_room(listener) {
            return Verdict::Drop(DropReason::TcpBacklogFull);
        }
        self.open_passively(cx, key, seg, listener, None)
    }

    /// Whether a request is to be answered and forgotten: so many are incomplete that another would have to make room.
    fn needs_cookie(&self, listener: ListenerId) -> bool {
        let too_many =
            |l: &Listener| l.requests.len() >= self.config.max_half_open.max(1) && !l.is_full();
        self.config.syn_cookies.is_on() && self.listeners.get(listener).is_some_and(|l| too_many(l))
    }

    /// Answers a request of which nothing is kept.
    // RFC 4987 3.6
    #[cold]
    fn answer_with_cookie(
        &mut self,
        cx: &mut Cx<'_>,
        key: FourTuple,
        seg: &SegmentIn<'_>,
        listener: ListenerId,
    ) -> Verdict {
        let theirs = seg.header.options;
        let Some(mut half) = self.half_open(cx.now, key, seg, &theirs, listener) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        let mss = half.negotiated.peer_mss;
        half.iss = cookies::make(&self.secret, &key, half.irs, mss, cx.now);
        // Nothing in it says who agreed on marks.
        half.negotiated.ecn = Ecn::default();
        let mut segment = half.syn_ack(cx.now);
        let options = &mut segment.header.options;
        match &half.negotiated.ts {
            Some(ts) => options.timestamp = Some((cookies::stamp(ts, cx.now, &theirs), ts.recent)),
            // There is nothing to remember it by.
            None => (options.window_scale, options.sack_permitted) = (None, None),
        }
        self.cookies_until = cx.now + cookies::LIFETIME;
        self.stats.cookies_sent += 1;
        reply(&mut self.replies, segment);
        Verdict::Delivered
    }

    /// An acknowledgement that belongs to no connection, while cookies are out: it may bring one back.
    #[cold]
    fn take_cookie(
        &mut self,
        cx: &mut Cx<'_>,
        key: FourTuple,
        mut seg: SegmentIn<'_>,
        listener: ListenerId,
    ) -> Verdict {
        let h = seg.header;
        let (irs, iss) = (SeqNum(h.seq) - 1, SeqNum(h.ack.unwrap_or(0)) - 1);
        let Some(mss) = cookies::take(&self.secret, &key, irs, iss, cx.now) else {
            self.stats.cookies_refused += 1;
            self.refuse_for(Some(listener), &seg);
            return Verdict::Drop(DropReason::TcpUnacceptable);
        };
        if self.listeners.get(listener).is_none_or(|l| l.is_full()) || !self.has_room() {
            self.stats.backlog_full += 1;
            return Verdict::Drop(DropReason::TcpBacklogFull);
        }
        let theirs = cookies::offered(mss, h.options.timestamp);
        let payload = std::mem::take(&mut seg.payload);
        let half = self.half_open(cx.now, key, &seg, &theirs, listener);
        seg.payload = payload;
        let Some(mut half) = half else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        (half.irs, half.iss) = (irs, iss);
        // When the answer left is not known.
        half.deferral = Deferral::Over(Duration::MAX);
        self.stats.cookies_taken += 1;
        let id = self.keep_half_open(half);
        self.promote(cx, id, seg)
    }

    /// Who listens where `src` wants to connect to.
    pub(super) fn listener_for(
        &self,
        src: SocketAddr,
        dst: SocketAddr,
        on: Option<IfId>,
    ) -> Option<ListenerId> {
        let key = FourTuple::new(dst, src);
        let listens = |id| {
            let l = self.listeners.get(id);
            l.is_some_and(|l| {
                l.listens() && l.options.interface.is_none_or(|only| on == Some(only))
            })
        };
        let weight = |id: ListenerId| self.secret.weight(&key, id.data().as_ffi());
        self.ports.choose(dst, listens, weight)
    }

    /// Whether a listener can answer one more connection request. If not, the oldest one that is
    /// not complete makes room: among those of this listener, or of the whole vnet.
    fn make_room(&mut self, listener: ListenerId) -> bool {
        let Some(l) = self.listeners.get(listener) else {
            return false;
        };
        let too_many = l.requests.len() >= self.config.max_half_open.max(1);
        let oldest = l.requests.oldest();
        if l.is_full() || (too_many && !self.give_up(oldest)) {
            self.stats.backlog_full += 1;
            return false;
        }
        let has_room = self.has_room();
        if !has_room {
            self.stats.backlog_full += 1;
        }
        has_room
    }

    /// Whether the vnet may have one more connection or listener. Requests that nobody completes
    /// keep nobody from it: the oldest one makes room.
    pub(super) fn has_room(&mut self) -> bool {
        !self.is_full() || self.give_up(self.requests.oldest())
    }

    /// Forgets a request, if there is one, for the sake of another.
    fn give_up(&mut self, oldest: Option<HalfId>) -> bool {
        let given_up = oldest.and_then(|id| self.remove_half_open(id)).is_some();
        if given_up {
            self.stats.failed_opens += 1;
            self.stats.half_open_given_up += 1;
        }
        given_up
    }

    fn open_passively(
        &mut self,
        cx: &mut Cx<'_>,
        key: FourTuple,
        mut seg: SegmentIn<'_>,
        listener: ListenerId,
        isn_floor: Option<SeqNum>,
    ) -> Verdict {
        let theirs = seg.header.options;
        let Some(mut half) = self.half_open(cx.now, key, &seg, &theirs, listener) else {
            return Verdict::Drop(DropReason::NoSocket);
        };
        if let Some(floor) = isn_floor
            && !half.iss.is_newer_than(floor)
        {
            half.iss = floor;
        }
        match self.grant(cx.now, &key, theirs.fast_open, listener) {
            Grant::Data(fresh) => {
                let payload = std::mem::take(&mut seg.payload);
                return self.open_early(cx, &half, fresh, payload);
            }
            Grant::Cookie(cookie) => half.syn_ack.fast_open = cookie,
        }
        reply(&mut self.replies, half.syn_ack(cx.now));
        self.keep_half_open(half);
        Verdict::Delivered
    }

    /// What is to be known of a request until its handshake is complete.
    fn half_open(
        &self,
        now: Instant,
        key: FourTuple,
        seg: &SegmentIn<'_>,
        theirs: &TcpOptions,
        listener: ListenerId,
    ) -> Option<HalfOpen> {
        let l = self.listeners.get(listener)?;
        let path = seg.path;
        let family = connection::family(seg.dst);
        let mss = path_mss(l.options.narrow(path, family), family);
        let mut negotiated = negotiate(
            now,
            &self.config,
            family,
            theirs,
            l.options.recv_buffer(&self.config),
            self.secret.timestamp_offset(&key),
        );
        let flags = seg.header.flags;
        if flags.has(TcpFlags::SYN) {
            negotiated.ecn = Ecn::granted(
                self.config.ecn.grants(flags),
                seg.traffic_class,
                self.config.ecn_syn_ack,
            );
        }
        let window = l.options.recv_buffer(&self.config);
        Some(HalfOpen {
            listener,
            local: seg.dst,
            remote: seg.src,
            iss: self.secret.isn(now, &key),
            irs: SeqNum(seg.header.seq),
            peer_window: u32::from(seg.header.window),
            negotiated,
            syn_ack: answer(&negotiated, mss, now),
            says_marked: self.config.ecn_option,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            path,
            ttl: l.options.ttl,
            tos: l.options.tos,
            by: l.options.interface,
            sent_at: now,
            retries: 0,
            is_answered_twice: false,
            deferral: Deferral::None,
            resend_at: now + self.config.initial_rto,
            armed: Armed::default(),
            challenge: Challenge::new(),
            links: Default::default(),
        })
    }

    /// Keeps a request until its handshake is complete.
    fn keep_half_open(&mut self, half: HalfOpen) -> HalfId {
        let (key, local, resend_at) = (half.key(), half.local, half.resend_at);
        let listener = half.listener;
        let slot = self.half_open.insert(Box::new(half));
        if let Some(l) = self.listeners.get_mut(listener) {
            l.requests.push(&mut self.half_open, slot);
        }
        self.requests.push(&mut self.half_open, slot);
        self.enter_tuple(&key, local, Slot::HalfOpen(slot));
        if let Some(h) = self.half_open.get_mut(slot) {
            self.deadlines
                .arm(&mut h.armed, Slot::HalfOpen(slot), resend_at);
        }
        slot
    }

    /// Answers a segment with a reset, in the name of a listener or of nobody.
    fn refuse_for(&mut self, listener: Option<ListenerId>, seg: &SegmentIn<'_>) {
        let listener = listener.and_then(|id| self.listeners.get(id));
        let by = listener.and_then(|l| l.options.interface);
        self.refuse(seg.header, seg.payload.len() as u32, seg.src, seg.dst, by);
    }

    /// Answers a segment that belongs to no connection with a reset.
    // RFC 9293 3.10.7.1
    fn refuse(
        &mut self,
        h: &TcpHeader,
        payload: u32,
        src: SocketAddr,
        dst: SocketAddr,
        by: Option<IfId>,
    ) {
        if h.flags.has(TcpFlags::RST) || h.src_port == 0 {
            return;
        }
        let syn = u32::from(h.flags.has(TcpFlags::SYN));
        let fin = u32::from(h.flags.has(TcpFlags::FIN));
        let (seq, ack) = match h.ack {
            Some(ack) => (ack, None),
            None => (0, Some(h.seq.wrapping_add(payload + syn + fin))),
        };
        let header = TcpHeader {
            seq,
            ack,
            flags: TcpFlags::RST,
            ..TcpHeader::default()
        };
        let segment = SegmentOut {
            by,
            ..SegmentOut::new(dst, src, 0, 0, header)
        };
        self.stats.resets_out += 1;
        reply(&mut self.replies, segment);
    }
}
