//! What few connections use: data that waits for more to be written (`TCP_CORK`, `MSG_MORE`), records that share no
//! segment (`MSG_EOR`), and the limit on how long something may go unacknowledged (`TCP_USER_TIMEOUT`).

use super::held::Held;
use super::{Connection, Env};
use crate::base::time::{Duration, Instant};
use crate::transport::tcp::segment::SendFlags;
use crate::transport::tcp::seq::SeqNum;

/// How long less than a segment waits for more, as on Linux.
const LONGEST_HOLD: Duration = Duration::from_millis(200);

impl Connection {
    /// What the next write is followed by.
    pub(in crate::transport::tcp) fn flag_write(&mut self, flags: SendFlags) {
        self.snd.held.get_or_insert_default().next = flags;
    }

    /// Something was written.
    #[cold]
    pub(super) fn on_written(&mut self) {
        let end = self.snd.queue.end();
        let held = self.snd.held.get_or_insert_default();
        let flags = std::mem::take(&mut held.next);
        held.more = flags.more;
        if flags.end_of_record && held.records.back() != Some(&end) {
            held.records.push_back(end);
        }
    }

    /// The end of the record that `from` is in, or of what was written.
    #[inline]
    pub(super) fn record_end(&self, from: SeqNum, end: SeqNum) -> SeqNum {
        match &self.snd.held {
            None => end,
            Some(held) => self.record_end_after(held, from, end),
        }
    }

    #[cold]
    fn record_end_after(&self, held: &Held, from: SeqNum, end: SeqNum) -> SeqNum {
        let una = self.snd.una;
        let mut ends = held.records.iter().copied();
        ends.find(|record| una.precedes(from, *record))
            .unwrap_or(end)
    }

    /// Whether less than a segment at the end waits for more to be written.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        let end = self.snd.queue.end();
        let held = self.snd.held.as_deref();
        held.is_some_and(|held| (self.options.cork || held.more) && held.released != Some(end))
    }

    /// Less than a segment stays back: not for ever, if it is for more to be written.
    #[inline]
    pub(super) fn arm_release(&mut self, now: Instant) {
        let is_held = self.is_held();
        if let Some(held) = self.snd.held.as_mut().filter(|_| is_held)
            && held.release_at == Instant::MAX
        {
            held.release_at = now + LONGEST_HOLD;
            self.timers.held = held.next_due();
        }
    }

    /// Something left: what stays back waits from now on.
    #[cold]
    pub(super) fn disarm_release(&mut self) {
        let held = self.snd.held.get_or_insert_default();
        held.release_at = Instant::MAX;
        self.timers.held = held.next_due();
    }

    /// What is written from now on waits for more, or no longer does.
    pub(super) fn cork_changed(&mut self) {
        self.snd.held.get_or_insert_default().more = false;
        self.disarm_release();
    }

    /// Whether the time decides when to give up, and not the number of attempts.
    pub(super) fn held_to_timeout(&self) -> bool {
        let held = self.snd.held.as_deref();
        held.is_some_and(|held| held.fail_at != Instant::MAX)
    }

    /// Something waits for an acknowledgement.
    // RFC 5482 1: "the maximum amount of time that transmitted data may remain unacknowledged".
    #[inline]
    pub(super) fn arm_user_timeout(&mut self, now: Instant) {
        if let Some(timeout) = self.options.user_timeout {
            self.arm_failure(now + timeout);
        }
    }

    #[cold]
    fn arm_failure(&mut self, at: Instant) {
        let held = self.snd.held.get_or_insert_default();
        if held.fail_at == Instant::MAX {
            held.fail_at = at;
            self.timers.held = held.next_due();
        }
    }

    /// Nothing waits any more, or from now on.
    pub(super) fn disarm_user_timeout(&mut self) {
        if let Some(held) = &mut self.snd.held {
            held.fail_at = Instant::MAX;
            self.timers.held = held.next_due();
        }
    }

    /// There is another limit from now on.
    pub(super) fn user_timeout_changed(&mut self, env: &Env<'_>) {
        self.disarm_user_timeout();
        // What was not acknowledged when the connection ended never will be.
        if self.snd.una != self.write_end() && !self.state.is_over() {
            self.arm_user_timeout(env.now);
        }
    }

    /// Everything from `before` up to `ack` was acknowledged.
    #[cold]
    pub(super) fn on_held_progress(&mut self, now: Instant, before: SeqNum, ack: SeqNum) {
        self.on_search_progress(now, before, ack);
        let records = self.snd.held.as_mut().map(|held| &mut held.records);
        let Some(records) = records else { return };
        while records.front().is_some_and(|end| end.is_in(before..=ack)) {
            records.pop_front();
        }
        self.disarm_user_timeout();
    }

    /// Something of this is due.
    #[cold]
    pub(super) fn on_held(&mut self, env: &mut Env<'_>) {
        let Some(held) = &mut self.snd.held else {
            return;
        };
        if held.release_at <= env.now {
            held.release_at = Instant::MAX;
            held.released = Some(self.snd.queue.end());
        }
        self.timers.held = held.next_due();
        if held.fail_at <= env.now {
            self.time_out(env);
        }
    }
}
