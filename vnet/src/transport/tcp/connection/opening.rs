//! One connection that is opened fast (RFC 7413): data in its SYN, and before its SYN-ACK is acknowledged.

use std::sync::Arc;

use super::early::{Early, Learnt, Opening};
use super::{Connection, Disposition, Env, OpenParams, Owner};
use crate::base::time::{Duration, Instant};
use crate::packet::Payload;
use crate::packet::header::{FastOpenCookie, TcpFlags, TcpHeader, TcpOptions};
use crate::transport::tcp::config::TcpConfig;
use crate::transport::tcp::congestion::Controller;
use crate::transport::tcp::ecn::Feedback;
use crate::transport::tcp::ids::ListenerId;
use crate::transport::tcp::listener::HalfOpen;
use crate::transport::tcp::marked;
use crate::transport::tcp::options::{Options, path_mss};
use crate::transport::tcp::seq::SeqNum;
use crate::transport::tcp::state::{Due, Sends, State, SynReceived};

/// How long a SYN waits for data to carry.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

impl Connection {
    /// A connection that this side opens begins like this. With a cookie, its SYN waits for something to be written.
    pub(in crate::transport::tcp) fn open_as(&mut self, now: Instant, opening: Opening) {
        let early = match opening {
            Opening::Plain => return,
            Opening::Asks => Early::Asks,
            Opening::Sends(cookie, mss) => Early::Sends {
                cookie,
                mss,
                sent: 0,
            },
        };
        if let (Early::Sends { .. }, State::SynSent(s)) = (early, &mut self.state) {
            s.syn = Due::Later;
            self.timers.retransmit = now + LONGEST_WAIT;
        }
        self.early = Some(Box::new(early));
    }

    /// A connection that begins with the data of a SYN.
    pub(in crate::transport::tcp) fn early(
        env: &Env<'_>,
        half: &HalfOpen,
        options: Arc<Options>,
        fresh: Option<FastOpenCookie>,
    ) -> Connection {
        let params = OpenParams::of(half, options);
        let state = State::SynReceived(SynReceived {
            syn_ack: Due::Now,
            sends: Sends::Yes,
        });
        let owner = Owner::Listener(half.listener);
        let mut c = Connection::new(env, params, state, owner, half.negotiated);
        c.snd.nxt = half.iss + 1;
        c.snd.edge = half.iss + 1 + half.peer_window;
        c.snd.max_wnd = half.peer_window;
        c.snd.wl1 = half.irs;
        c.start_receiving(half.irs, u32::from(half.window));
        let ecn = half.negotiated.ecn;
        c.negotiated.ecn = ecn.answered_plainly().accepted(0, false);
        c.early = Some(Box::new(Early::Accepted {
            fresh,
            ecn: ecn.answered_plainly(),
            listener: half.listener,
            is_answered_twice: false,
        }));
        c
    }

    /// Takes the data of the SYN.
    pub(in crate::transport::tcp) fn take_early(&mut self, env: &mut Env<'_>, payload: Payload) {
        if !payload.is_empty() {
            let seq = self.rcv.nxt;
            self.on_data(env, seq, TcpFlags::NONE, payload, None);
        }
    }

    /// Whether the handshake is not complete and data goes both ways all the same, with the side that was connected to.
    pub(in crate::transport::tcp) fn is_early(&self) -> bool {
        matches!(self.state, State::SynReceived(s) if s.sends == Sends::Yes)
    }

    /// Whether what is written has a place before the handshake is complete.
    pub(super) fn takes_writes_early(&self) -> bool {
        let has_cookie = |early: &Early| !matches!(early, Early::Asks);
        self.early.as_deref().is_some_and(has_cookie)
            && matches!(self.state, State::SynSent(_) | State::SynReceived(_))
    }

    /// The SYN waits no longer for data. True when it did.
    #[inline]
    pub(in crate::transport::tcp) fn release_syn(&mut self) -> bool {
        match &mut self.state {
            State::SynSent(s) if s.syn == Due::Later => {
                s.syn = Due::Now;
                self.timers.retransmit = Instant::MAX;
                true
            }
            _ => false,
        }
    }

    /// Adds to a SYN what it carries of this. One that is sent again is as any other.
    // RFC 7413 4.2.1, and 4.1.3.1 for those that are lost.
    #[cold]
    pub(super) fn fill_syn(&mut self, env: &mut Env<'_>, options: &mut TcpOptions) -> Payload {
        let mtu = path_mss(self.path, self.family);
        let (retries, first) = (self.retries, self.snd.iss + 1);
        let queue = &mut self.snd.queue;
        let Some(early) = self.early.as_deref_mut().filter(|_| retries == 0) else {
            return Payload::new();
        };
        match early {
            Early::Asks => options.fast_open = Some(FastOpenCookie::REQUEST),
            Early::Sends { cookie, mss, sent } => {
                options.fast_open = Some(*cookie);
                let room = usize::from((*mss).min(mtu)).saturating_sub(options.len());
                let len = queue.len().min(room);
                *sent = len as u32;
                env.stats.bytes_out += len as u64;
                if len > 0 {
                    return queue.slice(first, len);
                }
            }
            Early::Answered(_) | Early::Accepted { .. } => {}
        }
        Payload::new()
    }

    /// Adds to the answer to a SYN with data what it has of this.
    #[cold]
    pub(super) fn fill_syn_ack(
        &mut self,
        config: &TcpConfig,
        options: &mut TcpOptions,
    ) -> TcpFlags {
        let Some(Early::Accepted {
            fresh,
            ecn,
            is_answered_twice,
            ..
        }) = self.early.as_deref()
        else {
            return TcpFlags::SYN;
        };
        options.fast_open = *fresh;
        // RFC 9768 3.2.3.2.2
        if ecn.feedback == Feedback::Accurate
            && config.ecn_option.is_on()
            && self.retries == 0
            && !is_answered_twice
        {
            options.marked = marked::initial(options);
        }
        let flags = ecn.answer(self.retries);
        // What the answer promises begins behind the data.
        let window = u32::from(self.syn_window());
        self.rcv.advertised = self.rcv.nxt + window.max(self.rcv.promised());
        self.rcv.unacked = 0;
        self.timers.delayed_ack = Instant::MAX;
        flags
    }

    /// Whether `ack` acknowledges the SYN, and nothing that was not sent with it or after it.
    pub(super) fn answers_syn(&self, ack: SeqNum) -> bool {
        let first = self.snd.iss + 1;
        let last = match self.early.as_deref() {
            Some(Early::Sends { sent, .. }) => first + *sent,
            Some(Early::Accepted { .. }) => self.snd.nxt,
            _ => first,
        };
        ack.is_in(first..=last)
    }

    /// The answer to the SYN has arrived, and acknowledges up to `ack`.
    #[cold]
    pub(super) fn on_answered(&mut self, h: &TcpHeader, ack: SeqNum) {
        let Some(early) = self.early.as_deref_mut() else {
            return;
        };
        let was_taken = ack != self.snd.iss + 1;
        // RFC 7413 4.1.3: a cookie that nobody asked for is none.
        let cookie = h.options.fast_open.filter(|c| !c.is_request());
        *early = Early::Answered(Learnt {
            cookie,
            mss: self.negotiated.peer_mss,
            was_lost: self.retries > 0 && cookie.is_none() && !was_taken,
            was_taken,
        });
    }

    /// How the attempt to open fast went, once.
    pub(in crate::transport::tcp) fn learnt(&mut self) -> Option<Learnt> {
        match self.early.take().as_deref() {
            Some(Early::Answered(learnt)) => Some(*learnt),
            _ => None,
        }
    }

    /// Whether there is something to learn.
    pub(super) fn taught(&self, otherwise: Disposition) -> Disposition {
        match self.early.as_deref() {
            Some(Early::Answered(_)) => Disposition::Opened,
            _ => otherwise,
        }
    }

    /// The listener whose connection this is, while the answer to a SYN with data is not acknowledged.
    pub(in crate::transport::tcp) fn accepted_early(&self) -> Option<ListenerId> {
        match self.early.as_deref() {
            Some(Early::Accepted { listener, .. }) => Some(*listener),
            _ => None,
        }
    }

    /// The SYN again. False when it contradicts the one before.
    pub(super) fn on_early_syn_again(&mut self, asks: Feedback, class: u8) -> bool {
        match self.early.as_deref_mut() {
            Some(Early::Accepted {
                ecn,
                is_answered_twice,
                ..
            }) => {
                *is_answered_twice = true;
                ecn.on_syn_again(asks, class)
            }
            _ => true,
        }
    }

    /// The answer to the SYN is acknowledged, whose data was taken. What was sent since is on its way; unless the answer
    /// was lost, for then the peer has refused all of it.
    // RFC 7413 4.2.2
    #[cold]
    pub(super) fn confirm(&mut self, env: &mut Env<'_>, h: &TcpHeader, is_plain: bool) {
        let Some(Early::Accepted {
            ecn,
            is_answered_twice,
            ..
        }) = self.early.take().map(|early| *early)
        else {
            return;
        };
        let first = self.snd.iss + 1;
        self.negotiated.ecn = ecn.accepted(self.retries, is_plain);
        self.begin_marked(env, h);
        self.snd.una = first;
        self.snd.small_end = self.snd.iss.later(self.snd.small_end, first);
        if self.retries > 0 {
            // RFC 6928 2
            let (nxt, mss) = (self.snd.nxt, self.data_mss());
            self.cc = Controller::new(self.options.congestion, mss, 1);
            self.recovery.resend_all(&mut self.cc, first, nxt, mss);
        } else if !is_answered_twice {
            let age = env.now.since(self.snd.timed_out);
            self.rtt.sample(env.config, age);
        }
    }
}
