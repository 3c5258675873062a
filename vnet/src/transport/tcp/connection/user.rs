//! What the socket asks of its connection.

use std::net::Shutdown;

use bytes::Bytes;

use super::{Closed, Connection, Env, Owner, Turns};
use crate::base::time::{Duration, Instant};
use crate::packet::payload::Taker;
use crate::transport::edge::{ReadMode, Readiness};
use crate::transport::error::SocketError;
use crate::transport::tcp::challenge::Challenge;
use crate::transport::tcp::config::TcpConfig;
use crate::transport::tcp::info::TcpInfo;
use crate::transport::tcp::options::{Options, Path};
use crate::transport::tcp::segment::IcmpKind;
use crate::transport::tcp::send_queue::SMALL_WRITE;
use crate::transport::tcp::state::{State, TcpState};
use crate::transport::tcp::time_wait::TimeWait;

/// Half of the largest window that a SYN can offer.
const FIRST_WINDOW: u32 = 32_768;

/// What is left to do after a socket let go of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport::tcp) enum CloseAction {
    /// It goes on by itself, to the end.
    GoesOn,
    /// The peer is to be told with a reset.
    Abort,
    /// There is nothing left.
    Over,
}

impl Connection {
    /// Bytes the application may write now.
    ///
    /// # Errors
    /// The pending error, which is thereby reported; [`SocketError::BrokenPipe`] when this side
    /// is closed, [`SocketError::NotConnected`] when the connection never came to be.
    pub(in crate::transport::tcp) fn send_space(&mut self) -> Result<usize, SocketError> {
        if let Some(error) = self.error.take() {
            return Err(*error);
        }
        match self.state {
            State::Closed if self.was_never_open() => Err(SocketError::NotConnected),
            _ if self.snd.closed == Closed::Yes => Err(SocketError::BrokenPipe),
            State::SynSent(_) | State::SynReceived(_) if !self.takes_writes_early() => Ok(0),
            State::SynSent(_) | State::SynReceived(_) => Ok(self.write_space()),
            state if state.sends() => Ok(self.write_space()),
            _ => Err(SocketError::BrokenPipe),
        }
    }

    pub(in crate::transport::tcp) fn send_bytes(&mut self, data: Bytes) -> Result<(), SocketError> {
        self.snd.reserved = self.snd.reserved.saturating_sub(data.len());
        if let Some(error) = self.error.take() {
            return Err(*error);
        }
        let early = self.snd.closed == Closed::No && self.takes_writes_early();
        if !self.state.sends() && !early {
            return Err(SocketError::BrokenPipe);
        }
        self.release_syn();
        // A caller that reserved no space cannot make a window of more than 2^31 bytes.
        if self.snd.queue.len() + data.len() > 1 << 30 {
            return Err(SocketError::WouldBlock);
        }
        if data.len() <= SMALL_WRITE / 16 {
            self.snd.queue.push_copy(&data);
        } else {
            self.snd.queue.push(data);
        }
        if self.snd.held.is_some() {
            self.on_written();
        }
        Ok(())
    }

    pub(in crate::transport::tcp) fn send_copy(
        &mut self,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        let space = self.send_space()?;
        if space == 0 && !data.is_empty() {
            return Err(SocketError::WouldBlock);
        }
        let data = &data[..data.len().min(space)];
        for part in data.chunks(SMALL_WRITE) {
            self.snd.queue.push_copy(part);
        }
        self.release_syn();
        if self.snd.held.is_some() {
            self.on_written();
        }
        Ok(data.len())
    }

    /// Hands out received bytes; zero means that the peer has closed.
    pub(in crate::transport::tcp) fn recv(
        &mut self,
        env: &Env<'_>,
        max: usize,
        into: &mut impl Taker,
        mode: ReadMode,
    ) -> Result<usize, SocketError> {
        let n = self.rcv.queue.read(max, into, mode);
        if n > 0 {
            if mode == ReadMode::Consume {
                self.size_recv_buffer(env.now, env.config, n);
                self.after_read();
            }
            return Ok(n);
        }
        if max == 0 {
            return Ok(0);
        }
        if let Some(error) = self.error.take() {
            return Err(*error);
        }
        match self.state {
            State::Closed if self.was_never_open() => Err(SocketError::NotConnected),
            _ if self.is_read_over() => Ok(0),
            _ => Err(SocketError::WouldBlock),
        }
    }

    /// True when no byte can arrive any more.
    fn is_read_over(&self) -> bool {
        match self.state {
            State::SynSent(_) | State::SynReceived(_) => false,
            state => self.rcv.closed == Closed::Yes || !state.receives(),
        }
    }

    fn was_never_open(&self) -> bool {
        self.snd.una == self.snd.iss
    }

    /// Tells the peer of the space a read has made, when it is worth a segment.
    fn after_read(&mut self) {
        if !self.state.receives() {
            return;
        }
        // As in Linux for segments with PSH: the peer may wait for it, and nothing of ours will carry it.
        let rcv = &mut self.rcv;
        if rcv.turns == Turns::OneWayPushed && rcv.unacked > 0 && rcv.queue.len() == 0 {
            rcv.acks_due = rcv.acks_due.max(1);
            return;
        }
        let promised = self.rcv.promised();
        let gain = self.window_to_offer().saturating_sub(promised);
        if gain == 0 {
            return;
        }
        // What a SYN can offer is small beside the buffer. The first acknowledgement says so;
        // a short exchange does not need a segment of its own for it.
        if promised >= FIRST_WINDOW && self.rcv.nxt.since(self.rcv.irs) < FIRST_WINDOW {
            return;
        }
        let buffer = self.rcv.buffer.min(1 << 30) as u32;
        // A quarter of the buffer at a time; sooner when the peer is running out of window.
        let nearly_closed = promised <= buffer / 8 && gain >= (2 * self.rcv.mss).min(buffer / 4);
        if gain >= buffer / 4 || nearly_closed {
            self.rcv.acks_due = self.rcv.acks_due.max(1);
        }
    }

    pub(in crate::transport::tcp) fn shutdown(
        &mut self,
        env: &mut Env<'_>,
        how: Shutdown,
    ) -> Result<(), SocketError> {
        if self.state.is_over() {
            return Err(SocketError::NotConnected);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.rcv.closed = Closed::Yes;
            self.waiters.readers.wake(env.out);
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.close_write(env);
        }
        Ok(())
    }

    fn close_write(&mut self, env: &mut Env<'_>) {
        if self.snd.closed == Closed::Yes {
            return;
        }
        self.snd.closed = Closed::Yes;
        self.release_syn();
        if self.state.is_synchronized() {
            self.state = self.state.on_close(self.snd.queue.end());
        }
        self.waiters.writers.wake(env.out);
    }

    /// The socket lets go.
    pub(in crate::transport::tcp) fn close(&mut self, env: &mut Env<'_>) -> CloseAction {
        self.waiters.wake_all(env.out);
        self.owner = Owner::Nobody;
        self.snd.reserved = 0;
        // RFC 2525 2.17 and RFC 9293 3.6.1: what was received and not read is lost, and the
        // peer must not believe otherwise.
        let received = self.state.is_synchronized() || self.is_early();
        let unread = self.rcv.queue.len() > 0 && received;
        let at_once = self.options.linger == Some(Duration::ZERO);
        match self.state {
            State::Closed | State::TimeWait => return CloseAction::Over,
            // What was written to go with the SYN is still delivered.
            State::SynSent(_) if self.snd.queue.len() == 0 || at_once => return CloseAction::Over,
            _ if unread || at_once => return CloseAction::Abort,
            _ => {}
        }
        self.rcv.closed = Closed::Yes;
        self.close_write(env);
        match self.options.linger {
            Some(time) if self.state != State::FinWait2 => {
                self.timers.orphan = env.now + time;
            }
            _ => self.arm_orphan(env),
        }
        CloseAction::GoesOn
    }

    /// A connection that nobody owns does not wait for the peer's FIN for ever.
    pub(in crate::transport::tcp) fn arm_orphan(&mut self, env: &Env<'_>) {
        if self.owner == Owner::Nobody
            && self.state == State::FinWait2
            && self.timers.orphan == Instant::MAX
        {
            let patience = self.options.fin_wait2.unwrap_or(env.config.fin_wait2);
            self.timers.orphan = env.now + patience;
        }
    }

    /// Ends a connection that the peer does not know of, or that is over anyway.
    pub(in crate::transport::tcp) fn end_quietly(&mut self, env: &mut Env<'_>) {
        // TIME-WAIT goes on as a record of its own.
        if self.state != State::TimeWait {
            self.finish(env, None);
        }
    }

    /// True when the peer has state that a reset would clear.
    pub(in crate::transport::tcp) fn is_known_to_peer(&self) -> bool {
        self.state.is_synchronized() || matches!(self.state, State::SynReceived(_))
    }

    pub(in crate::transport::tcp) fn readiness(&self) -> Readiness {
        let failed = self.error.is_some();
        let read_closed = self.is_read_over();
        let connecting = matches!(self.state, State::SynSent(_) | State::SynReceived(_))
            && !self.takes_writes_early();
        let sends = self.state.sends() || self.takes_writes_early();
        let write_closed = !connecting && (!sends || self.snd.closed == Closed::Yes);
        Readiness {
            readable: failed || read_closed || self.rcv.queue.len() > 0,
            writable: failed || write_closed || (!connecting && self.is_writable()),
            read_closed,
            write_closed,
            connecting,
            error: self.error.as_deref().copied(),
        }
    }

    /// The options were changed from `before`: what waited for company leaves, probes begin or end.
    pub(in crate::transport::tcp) fn options_changed(
        &mut self,
        env: &mut Env<'_>,
        before: &Options,
    ) {
        let options = *self.options;
        self.snd.buffer = options.send_buffer.unwrap_or(self.snd.buffer);
        self.rcv.buffer = options.recv_buffer.unwrap_or(self.rcv.buffer);
        self.fit_recv_buffer();
        if options.congestion != before.congestion {
            self.change_congestion();
        }
        let times = |o: &Options| (o.keepalive, o.keepalive_idle, o.keepalive_interval);
        if times(&options) != times(before) {
            self.timers.keepalive = match options.keepalive {
                true => env.now.max(self.last_rx) + options.idle(env.config),
                false => Instant::MAX,
            };
            if options.keepalive != before.keepalive {
                self.last_rx = env.now;
            }
        }
        if options.quickack && self.rcv.unacked > 0 {
            self.acknowledge();
        }
        if options.max_segment != before.max_segment {
            self.path = options.narrow(self.path, self.family);
        }
        if options.user_timeout != before.user_timeout {
            self.user_timeout_changed(env);
        }
        if options.cork != before.cork {
            self.cork_changed();
        }
        if self.state.is_synchronized() {
            self.after_read();
        }
        self.wake_writers(env);
    }

    pub(super) fn set_path(&mut self, path: Path) {
        let narrower = path.ip_mtu < self.path.ip_mtu;
        self.path = path;
        if narrower && self.state.is_synchronized() {
            let (una, nxt, mss) = (self.snd.una, self.snd.nxt, self.data_mss());
            self.recovery.resend_all(&mut self.cc, una, nxt, mss);
        }
    }

    /// An ICMP error about a segment of ours that carried `seq`. True when it was believed.
    pub(in crate::transport::tcp) fn on_icmp(
        &mut self,
        env: &mut Env<'_>,
        seq: u32,
        what: IcmpKind,
    ) -> bool {
        // RFC 5927 4.1: only about something that is on its way.
        let seq = crate::transport::tcp::seq::SeqNum(seq);
        if seq.offset_in(self.snd.una..self.snd.nxt).is_none() {
            return false;
        }
        let error = match what {
            IcmpKind::FragmentationNeeded { ip_mtu } => {
                // RFC 1191 3, and RFC 791 for the least MTU; 552 is what hosts accept in practice.
                let ip_mtu = ip_mtu.max(552);
                let is_narrower = ip_mtu < self.path.ip_mtu;
                if is_narrower {
                    // Whatever is on its way is sent again in smaller pieces, which prove nothing of larger ones.
                    self.forget_probe(env.now);
                    let path = Path {
                        ip_mtu,
                        gso_max: self.path.gso_max,
                    };
                    self.set_path(path);
                }
                self.bound_search(env.now, ip_mtu);
                return is_narrower;
            }
            IcmpKind::Unreachable(error) => error,
            IcmpKind::TimeExceeded => SocketError::HostUnreachable,
        };
        match self.state {
            // RFC 5461 4.1: a connection attempt may be given up, so that others can be tried.
            State::SynSent(_) if matches!(what, IcmpKind::Unreachable(_)) => {
                env.stats.failed_opens += 1;
                self.finish(env, Some(error));
            }
            // RFC 5461 3 (and RFC 9293 3.9.2.2): soft, whatever the code says.
            _ => self.trouble.get_or_insert_default().soft_error = Some(error),
        }
        true
    }

    /// Whether something that came has not been acknowledged.
    pub(in crate::transport::tcp) fn owes_ack(&self) -> bool {
        self.rcv.acks_due > 0
    }

    /// The record that stands for this connection from now on.
    pub(in crate::transport::tcp) fn time_wait(&mut self, until: Instant) -> TimeWait {
        TimeWait {
            local: self.local,
            remote: self.remote,
            snd_nxt: self.snd.nxt,
            rcv_nxt: self.rcv.nxt,
            window: self
                .rcv
                .promised()
                .checked_shr(u32::from(self.negotiated.rcv_shift))
                .map_or(0, |w| w.min(65_535) as u16),
            flags: self.negotiated.ecn.flags(),
            ts: self.negotiated.ts,
            ttl: self.options.ttl,
            tos: self.options.tos,
            by: self.options.interface,
            until,
            armed: crate::base::deadline::Armed::default(),
            challenge: Challenge::new(),
        }
    }

    pub(in crate::transport::tcp) fn info(&self, now: Instant, config: &TcpConfig) -> TcpInfo {
        let counts = &self.counts;
        let [busy_time, window_limited_time, buffer_limited_time] = counts.limits.times(now);
        let trouble = self.trouble.as_deref();
        let trouble = trouble.map(|t| [t.segments_again, t.bytes_again, t.bytes_marked]);
        let [again, bytes_again, bytes_marked] = trouble.unwrap_or_default();
        let ago = |count: u64, at: Instant| (count > 0).then(|| now.since(at));
        TcpInfo {
            state: self.reported_state(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.variation(),
            min_rtt: self.rtt.least(),
            rto: self.rtt.rto(),
            cwnd: self.cc.cwnd(),
            ssthresh: self.cc.ssthresh(),
            mss: self.data_mss(),
            peer_mss: self.rcv.mss,
            path_mtu: self.path.ip_mtu,
            in_flight: self.flight(),
            // Nothing, when the connection ended with its FIN on the way.
            unsent: (self.write_end().since(self.snd.una)).saturating_sub(self.flight()),
            unread: self.rcv.queue.len(),
            send_buffer: self.snd.buffer,
            recv_buffer: self.rcv.buffer,
            window: self.rcv.promised(),
            retries: self.retries,
            peer_window: self.snd.edge.since(self.snd.una),
            segments_out: counts.totals.segments_out,
            segments_in: counts.totals.segments_in,
            data_segments_out: counts.totals.data_out,
            data_segments_in: counts.totals.data_in,
            retransmits: again,
            bytes_sent: counts.totals.bytes_out,
            bytes_retransmitted: bytes_again,
            bytes_acked: counts.totals.bytes_acked,
            bytes_delivered: counts.totals.bytes_acked + u64::from(self.recovery.sent.sacked()),
            bytes_marked,
            bytes_received: counts.totals.bytes_in,
            reorderings: self.recovery.reorderings(),
            delivery_rate: counts.round.rate(),
            is_app_limited: counts.round.is_limited(),
            pacing_rate: self.pacing(config),
            busy_time,
            window_limited_time,
            buffer_limited_time,
            since_data_sent: ago(counts.totals.data_out, self.snd.last_sent),
            since_data_received: ago(counts.totals.data_in, counts.last_data_in),
            since_ack_received: now.since(self.last_rx),
        }
    }

    /// Bytes that the peer has acknowledged selectively.
    #[cfg(test)]
    pub(in crate::transport::tcp) fn sacked(&self) -> u32 {
        self.recovery.sent.sacked()
    }

    pub(in crate::transport::tcp) fn reported_state(&self) -> TcpState {
        self.state.report()
    }
}
