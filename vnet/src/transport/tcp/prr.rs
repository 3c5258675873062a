//! Proportional rate reduction (RFC 9937): how much leaves during fast recovery, so that the window has shrunk evenly
//! to the new threshold by its end.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prr {
    /// RecoverFS: what was on its way at the beginning.
    flight: u32,
    delivered: u32,
    out: u32,
    /// What may leave now.
    room: u32,
}

impl Prr {
    pub(super) fn new(flight: u32) -> Prr {
        Prr {
            flight: flight.max(1),
            delivered: 0,
            out: 0,
            room: 0,
        }
    }

    /// An acknowledgement arrived. `safe` is whether it brought progress and no further losses.
    // RFC 9937 6.2
    pub(super) fn on_ack(
        &mut self,
        delivered: u32,
        pipe: u32,
        ssthresh: u32,
        mss: u32,
        safe: Safe,
    ) {
        self.delivered = self.delivered.saturating_add(delivered);
        self.room = if pipe > ssthresh {
            let share = u64::from(self.delivered) * u64::from(ssthresh);
            let share = u32::try_from(share.div_ceil(u64::from(self.flight))).unwrap_or(u32::MAX);
            share.saturating_sub(self.out)
        } else {
            let mut room = self.delivered.saturating_sub(self.out).max(delivered);
            if safe == Safe::Yes {
                room = room.saturating_add(mss);
            }
            room.min(ssthresh - pipe)
        };
        // The fast retransmission itself.
        if self.out == 0 {
            self.room = self.room.max(mss);
        }
    }

    pub(super) fn on_sent(&mut self, bytes: u32) {
        self.out = self.out.saturating_add(bytes);
        self.room = self.room.saturating_sub(bytes);
    }

    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.room
    }
}

/// RFC 9937 6.1, SafeACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safe {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    // The window falls from 20 segments to 14 evenly: seven segments leave for ten that arrive.
    #[test]
    fn the_window_shrinks_in_proportion() {
        let mut prr = Prr::new(20 * MSS);
        let (mut pipe, mut left) = (19 * MSS, 0);
        for _ in 0..18 {
            pipe -= MSS;
            prr.on_ack(MSS, pipe, 14 * MSS, MSS, Safe::No);
            while prr.room() >= MSS {
                prr.on_sent(MSS);
                pipe += MSS;
                left += 1;
            }
        }
        assert_eq!(left, 13);
        assert!(pipe.abs_diff(14 * MSS) <= MSS, "{pipe}");
    }

    // RFC 9937 6.2: below the threshold it grows as in slow start, and does not exceed it.
    #[test]
    fn below_the_threshold_it_is_filled_up_carefully() {
        let mut prr = Prr::new(20 * MSS);
        prr.on_sent(MSS);
        prr.on_ack(MSS, 5 * MSS, 10 * MSS, MSS, Safe::No);
        assert_eq!(prr.room(), MSS);
        prr.on_ack(MSS, 5 * MSS, 10 * MSS, MSS, Safe::Yes);
        assert_eq!(prr.room(), 2 * MSS);
        prr.on_ack(9 * MSS, 9 * MSS, 10 * MSS, MSS, Safe::Yes);
        assert_eq!(prr.room(), MSS);
    }

    #[test]
    fn the_first_retransmission_leaves_whatever_the_proportion() {
        let mut prr = Prr::new(20 * MSS);
        prr.on_ack(0, 19 * MSS, 10 * MSS, MSS, Safe::No);
        assert_eq!(prr.room(), MSS);
    }
}
