//! How large the buffers of a connection are, and when a writer is woken.
//!
//! Buffers begin with the sizes of the tunables and grow with what the path carries, up to `max_buffer`. They do not
//! shrink: what they hold does.

use super::{Connection, Env};
use crate::base::time::Instant;
use crate::transport::tcp::config::TcpConfig;

/// A writer that has nothing waiting to be sent is woken for this part of the buffer.
const PART_WHEN_DRAINED: usize = 64;
/// How much larger the receive buffer is than what is read in a round trip.
const GROWTH: usize = 8;

impl Connection {
    /// Bytes that the send buffer has room for.
    #[inline]
    pub(super) fn write_space(&self) -> usize {
        let taken = self.snd.queue.len() + self.snd.reserved;
        let space = self.snd.buffer.saturating_sub(taken);
        match self.options.unsent_low_water {
            None => space,
            Some(most) => space.min(most.saturating_sub(self.unsent())),
        }
    }

    /// Bytes written, or promised to a writer, and not sent.
    fn unsent(&self) -> usize {
        self.snd.queue.end().since(self.snd.nxt) as usize + self.snd.reserved
    }

    /// Whether everything written is on its way, but for what waits to become a segment (Nagle).
    #[inline]
    fn is_drained(&self) -> bool {
        self.snd.queue.end().since(self.snd.nxt) < self.data_mss()
    }

    /// Whether a waiting writer is woken: enough room that it does not wake for crumbs. What is on its way takes room as
    /// well, so a writer must not wait for much of it to arrive when nothing else is left to send.
    #[inline]
    pub(super) fn is_writable(&self) -> bool {
        let buffer = self.snd.buffer;
        let enough = match self.is_drained() {
            true => buffer / PART_WHEN_DRAINED,
            false => buffer / 3,
        };
        // Half of the mark, so that a tail that is held back does not keep its writer asleep.
        let low = self.options.unsent_low_water.map(|low| low.div_ceil(2));
        self.write_space() >= enough.max(1).min(low.unwrap_or(usize::MAX))
            && low.is_none_or(|low| self.unsent() < low)
    }

    /// Wakes the writers if there is room for them.
    #[inline]
    pub(super) fn wake_writers(&mut self, env: &mut Env<'_>) {
        if !self.waiters.writers.is_empty() && self.is_writable() {
            self.waiters.writers.wake(env.out);
        }
    }

    /// Lets the send buffer grow when it is what limits the sender: all of it is on its way, and the congestion window
    /// has room for more, or may have in a round trip.
    #[inline]
    pub(super) fn size_send_buffer(&mut self, config: &TcpConfig) {
        let buffer = self.snd.buffer;
        let limits = self.snd.queue.len() > buffer / 2 && self.is_drained();
        if limits && config.send_buffer_auto.is_on() && self.options.send_buffer.is_none() {
            // What slow start could send in the next round trip.
            let want = (self.cc.cwnd() as usize).saturating_mul(2);
            self.snd.buffer = buffer.max(want.min(config.max_buffer));
        }
    }

    /// Lets the receive buffer grow with what the application reads in a round trip: twice that, so that it does not
    /// limit the sender, and four times that again, since a sender in slow start doubles it until the next measurement, and
    /// once more until what the window lets it send then has arrived.
    pub(super) fn size_recv_buffer(&mut self, now: Instant, config: &TcpConfig, read: usize) {
        let rcv = &mut self.rcv;
        rcv.read = rcv.read.saturating_add(read as u32);
        let rtt = self.rtt.least_nanos();
        let elapsed = now.as_nanos() - rcv.read_since.as_nanos();
        // The largest value stands for no measurement.
        if elapsed < rtt || elapsed == 0 {
            return;
        }
        let read = std::mem::take(&mut rcv.read) as usize;
        rcv.read_since = now;
        let is_fixed = self.options.recv_buffer.is_some() || !config.recv_buffer_auto.is_on();
        let buffer = &mut rcv.buffer;
        // What was read in a round trip is no more than that.
        if read.saturating_mul(GROWTH) <= *buffer || is_fixed {
            return;
        }
        let in_rtt = read as u128 * u128::from(rtt) / u128::from(elapsed);
        let want = usize::try_from(in_rtt * GROWTH as u128).unwrap_or(usize::MAX);
        *buffer = (*buffer).max(want.min(config.max_buffer));
    }
}
