//! Loss recovery: in which phase a connection is, what is sent again, and how much may leave meanwhile.
//!
//! Where the peer reports selective acknowledgements, [`rack`](super::rack) says what is lost (RFC 8985). Where it does
//! not, three duplicate acknowledgements say that the first segment is (RFC 6582, NewReno), and each stands for a
//! segment that arrived somewhere above it. RFC 3042 (limited transmit) follows from the accounting. During fast
//! recovery [`prr`](super::prr) says how much leaves. What turns out to have been lost only in appearance is undone
//! (RFC 3522, 4015, 5682, and duplicate reports).

mod resting;

use super::congestion::{Ack, Congestion, Controller, Limited};
use super::prr::{Prr, Safe};
use super::rack::{Rack, View};
use super::sent::{Delivered, Sent};
use super::seq::SeqNum;
use crate::base::time::{Duration, Instant};

pub(super) use resting::{Past, QuietRecovery};

/// RFC 5681 3.2: duplicate acknowledgements that say that a segment is lost, without SACK.
const DUP_THRESHOLD: u16 = 3;

#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) sent: Sent,
    /// Made with the first sign of trouble.
    rack: Option<Box<Rack>>,
    phase: Phase,
    /// Duplicate acknowledgements, each standing for a segment that arrived (no SACK only).
    dup_acks: u16,
    /// How many segments were on their way when the first of them came, or when there was progress since: what left later
    /// cannot have caused them. A peer that repeats an acknowledgement for ever lets no more leave than so many (RFC 5681
    /// 3.2, step 4).
    dup_room: u16,
    /// Where the last episode ended; NewReno does not begin another below it (RFC 6582 4).
    recover: Option<SeqNum>,
    tail: Tail,
    /// The last episode, and what there is to return to should it turn out to be a mistake.
    episode: Option<Box<Episode>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is taken for lost.
    Open,
    /// Fast recovery, until `point` is acknowledged.
    Fast { point: SeqNum },
    /// The path turned out to be narrower: everything is sent again, without blame.
    Resend { point: SeqNum },
    /// After a timeout, until `point` is acknowledged.
    Loss { point: SeqNum, frto: Frto },
}

/// F-RTO (RFC 5682 2.1): whether a timeout was spurious, for peers without timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frto {
    Off,
    /// The first segment was sent again; its acknowledgement is waited for.
    First,
    /// New data is sent, and no holes; the second acknowledgement decides.
    Second,
}

/// The tail loss probe (RFC 8985 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    None,
    Due,
    /// It ended at `end`, with so many bytes on their way; `again` when it was a retransmission.
    Sent {
        end: SeqNum,
        again: bool,
        flight: u32,
    },
}

/// From a loss until it is repaired, and it is known that it was one.
#[derive(Clone, Debug)]
struct Episode {
    /// How much leaves, in fast recovery.
    prr: Prr,
    /// Congestion control before it.
    cc: Controller,
    /// The first byte that was outstanding.
    una: SeqNum,
    /// When something was sent again for the first time.
    stamp: Option<Instant>,
    /// What was sent again and was not reported as a duplicate.
    again: Again,
    /// Bytes that a timeout has left room for in the window, because they may still arrive; none in other phases.
    spared: u32,
    /// The episode is over; reports of duplicates come until this is acknowledged.
    until: Option<SeqNum>,
}

/// What was sent again in an episode, until it is reported as a duplicate; once for each time.
#[derive(Clone, Debug, Default)]
struct Again {
    ranges: Vec<(SeqNum, SeqNum)>,
    /// There was more than is remembered.
    more: bool,
}

impl Again {
    /// An episode in which more than so many ranges are sent again is not taken for a mistake by reports.
    const MOST: usize = 32;

    fn add(&mut self, start: SeqNum, end: SeqNum) {
        let room = self.ranges.len() < Again::MOST;
        match self.ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ if room => self.ranges.push((start, end)),
            _ => self.more = true,
        }
    }

    /// Takes off what `start..end`, seen from `una`, has of it.
    fn prove(&mut self, una: SeqNum, start: SeqNum, end: SeqNum) {
        let overlaps = |r: &(SeqNum, SeqNum)| una.precedes(start, r.1) && una.precedes(r.0, end);
        let Some(i) = self.ranges.iter().position(overlaps) else {
            return;
        };
        let (from, to) = self.ranges.remove(i);
        if una.precedes(from, start) {
            self.ranges.push((from, start));
        }
        if una.precedes(end, to) {
            self.ranges.push((end, to));
        }
        // What the report has besides may be of others.
        if una.precedes(start, from) {
            self.prove(una, start, from);
        }
        if una.precedes(to, end) {
            self.prove(una, to, end);
        }
    }

    fn is_proven(&self) -> bool {
        self.ranges.is_empty() && !self.more
    }
}

/// What an acknowledgement says, for recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// `snd_una` before it.
    pub(super) before: SeqNum,
    pub(super) delivered: Delivered,
    /// It is a duplicate (RFC 5681 2), which counts without SACK only.
    pub(super) is_duplicate: bool,
    /// A range that the peer got twice (RFC 2883).
    pub(super) dsack: Option<(SeqNum, SeqNum)>,
    /// When the segment that it answers had left at the latest, by the echo of our timestamp.
    pub(super) echoed: Option<Instant>,
    pub(super) sack: SackUse,
    pub(super) min_rtt: Duration,
    /// There is a segment of new data that could be sent.
    pub(super) has_unsent: bool,
    /// The window that the path was tried with.
    pub(super) tried: u32,
    pub(super) cc: Ack,
}

/// What an acknowledgement led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Fast recovery began.
    pub(super) entered: bool,
    /// An episode was undone.
    pub(super) undone: bool,
    /// A probe of the path's MTU was lost, and nothing else.
    pub(super) probe_lost: bool,
    /// When more may have to be taken for lost.
    pub(super) wait: Option<Instant>,
}

impl Recovery {
    pub(super) fn new() -> Recovery {
        Recovery {
            sent: Sent::default(),
            rack: None,
            phase: Phase::Open,
            dup_acks: 0,
            dup_room: 0,
            recover: None,
            tail: Tail::None,
            episode: None,
        }
    }

    /// How often something was overtaken, or only late.
    pub(super) fn reorderings(&self) -> u64 {
        self.rack
            .as_ref()
            .map_or(0, |rack| rack.reorderings().into())
    }

    fn rack(&mut self) -> &mut Rack {
        self.rack.get_or_insert_with(|| Box::new(Rack::new()))
    }

    /// A segment leaves that is larger than what the path is known to carry; or none is on its way any more.
    pub(super) fn on_mtu_probe(&mut self, probe: Option<(SeqNum, SeqNum)>) {
        if self.rack.is_some() || probe.is_some() {
            self.rack().mtu_probe = probe;
        }
    }

    /// How many bytes the first segment on its way has: a probe has more than others.
    fn first_len(&self, una: SeqNum, mss: u32) -> u32 {
        match self.rack.as_ref().and_then(|rack| rack.mtu_probe) {
            Some((start, end)) if start == una => end.since(start),
            _ => mss,
        }
    }

    /// Something was lost. If it was a probe, and nothing else, it is sent again without blame.
    // RFC 8899 3, point 7; RFC 4821 7.6
    fn forgives(&mut self, nxt: SeqNum) -> bool {
        let Some((start, end)) = self.rack().mtu_probe.take() else {
            return false;
        };
        let alone =
            self.sent.lost() == end.since(start) && self.sent.next_lost() == Some((start, end));
        if alone {
            self.phase = Phase::Resend { point: nxt };
        }
        alone
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether there may be something to send again, or a probe.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        !self.is_open() || self.tail == Tail::Due
    }

    /// Whether nothing is lost, reported, probed for or in doubt: what there is to send is new, and as much of it may be
    /// on its way as the window says.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.is_open()
            & (self.tail == Tail::None)
            & self.episode.is_none()
            & ((self.sent.sacked() | u32::from(self.dup_acks)) == 0)
    }

    /// Hears an acknowledgement that was found to lie within what was sent; `sent` knows of it already.
    pub(super) fn on_ack(&mut self, cc: &mut Controller, heard: &Heard) -> Outcome {
        let quiet = self.is_calm()
            && !heard.delivered.again
            && !heard.delivered.overtaken
            && heard.dsack.is_none()
            && !heard.is_duplicate;
        if !quiet {
            return self.on_noteworthy_ack(cc, heard);
        }
        if heard.cc.una != heard.before && cc.wants(heard.cc.limited) {
            cc.on_ack(&heard.cc);
        }
        Outcome::default()
    }

    fn on_noteworthy_ack(&mut self, cc: &mut Controller, heard: &Heard) -> Outcome {
        let mut outcome = Outcome::default();
        let (una, before) = (heard.cc.una, heard.before);
        let progressed = una != before;
        let view = self.view(heard);
        let rack = self.rack();
        // What arrives above a hole is not echoed (RFC 7323 4.3).
        let echoed = heard.echoed.filter(|_| progressed);
        rack.on_delivered(&view, &heard.delivered, echoed);
        if let Some(range) = heard.dsack {
            rack.on_duplicate(una, heard.cc.nxt);
            self.prove(range, heard.cc.nxt);
        }
        let reduced = self.hear_of_tail(cc, heard);
        if self.is_mistaken(heard) {
            self.undo(cc);
            outcome.undone = true;
        }
        let over = |e: &Episode| e.until.is_some_and(|end| !end.is_in(una..=heard.cc.nxt));
        // Reports of what was sent again may go on coming with what is acknowledged next.
        if self.episode.as_deref().is_some_and(over) && heard.dsack.is_none() {
            self.episode = None;
        }
        let heard = &Heard {
            is_duplicate: self.count_duplicates(heard),
            ..*heard
        };
        match self.phase {
            Phase::Open => {
                outcome.wait = self.detect(heard);
                if self.sent.lost() > 0 {
                    outcome.probe_lost = self.forgives(heard.cc.nxt);
                    if !outcome.probe_lost {
                        self.enter(cc, heard, reduced);
                        outcome.entered = true;
                    }
                } else if progressed {
                    cc.on_ack(&heard.cc);
                }
            }
            Phase::Fast { point } => {
                if progressed && !before.precedes(una, point) {
                    self.leave(point, heard.cc.nxt);
                    // What left since may be lost as well.
                    outcome.wait = self.detect(heard);
                    if self.sent.lost() > 0 {
                        self.enter(cc, heard, Reduced::No);
                        outcome.entered = true;
                    }
                } else {
                    outcome.wait = self.go_on(cc, heard);
                }
            }
            Phase::Resend { point } => {
                outcome.wait = self.detect(heard);
                if progressed {
                    cc.on_ack(&heard.cc);
                    if !before.precedes(una, point) {
                        self.leave(point, heard.cc.nxt);
                    }
                }
            }
            Phase::Loss { point, frto } => {
                outcome.wait = self.detect_after_timeout(cc, heard);
                self.after_timeout(cc, heard, point, frto);
            }
        }
        outcome
    }

    /// Another acknowledgement during fast recovery.
    fn go_on(&mut self, cc: &Controller, heard: &Heard) -> Option<Instant> {
        let ack = &heard.cc;
        let lost = self.sent.lost();
        if heard.sack == SackUse::No && ack.una != heard.before {
            // RFC 6582 3.2, partial acknowledgement: the next hole begins here.
            self.sent.lose_first(ack.mss);
        }
        let wait = self.detect(heard);
        let safe = match ack.una != heard.before && self.sent.lost() <= lost {
            true => Safe::Yes,
            false => Safe::No,
        };
        let pipe = self.pipe(ack.una, ack.nxt, ack.mss);
        let delivered = self.delivered(heard);
        if let Some(episode) = &mut self.episode {
            let prr = &mut episode.prr;
            prr.on_ack(delivered, pipe, cc.ssthresh(), ack.mss, safe);
        }
        wait
    }

    /// Bytes that arrived, by what the acknowledgement says.
    fn delivered(&self, heard: &Heard) -> u32 {
        match heard.sack {
            SackUse::Yes => heard.delivered.bytes,
            // RFC 9937 6.2: a segment for each duplicate; those that they stood for are not counted twice.
            SackUse::No if heard.is_duplicate => heard.cc.mss,
            SackUse::No => heard.delivered.bytes.min(heard.cc.mss),
        }
    }

    fn after_timeout(&mut self, cc: &mut Controller, heard: &Heard, point: SeqNum, frto: Frto) {
        let ack = &heard.cc;
        if ack.una == heard.before {
            // RFC 5682 2.1, steps 2a and 3a.
            let frto = Frto::Off;
            self.phase = Phase::Loss { point, frto };
            return;
        }
        // RFC 3465 2.3: after a timeout an acknowledgement may cover much that arrived long before, which says nothing
        // about the path now. It counts for a segment.
        cc.on_ack(&Ack {
            acked: ack.acked.min(ack.mss),
            limited: Limited::ByCwnd,
            ..*ack
        });
        if !heard.before.precedes(ack.una, point) {
            self.take_back(cc, u32::MAX, cc.ssthresh());
            self.leave(point, heard.cc.nxt);
            return;
        }
        // RFC 5682 2.1, step 2b. Step 3b is in `is_mistaken`.
        let frto = match frto {
            Frto::First if heard.has_unsent => Frto::Second,
            _ => Frto::Off,
        };
        self.phase = Phase::Loss { point, frto };
    }

    /// Looks for losses, perhaps after a timeout: for what that has spared and is lost, the window has no room any more.
    // What was sent again and is lost again is not told from it: at worst the window is a little small for a slow start.
    fn detect_after_timeout(&mut self, cc: &mut Controller, heard: &Heard) -> Option<Instant> {
        let before = self.sent.lost();
        let wait = self.detect(heard);
        let lost = self.sent.lost().saturating_sub(before);
        self.take_back(cc, lost, heard.cc.mss);
        wait
    }

    /// Takes back room that a timeout has left, for so many bytes at most.
    fn take_back(&mut self, cc: &mut Controller, bytes: u32, least: u32) {
        if let Some(episode) = &mut self.episode {
            let bytes = bytes.min(episode.spared);
            episode.spared -= bytes;
            cc.take_back(bytes, least);
        }
    }

    /// True when the acknowledgement is a duplicate that stands for a segment.
    fn count_duplicates(&mut self, heard: &Heard) -> bool {
        let ack = &heard.cc;
        if heard.sack == SackUse::Yes {
            return heard.is_duplicate;
        }
        let in_flight = ack.nxt.since(ack.una) / ack.mss;
        let in_flight = u16::try_from(in_flight).unwrap_or(u16::MAX);
        if heard.is_duplicate {
            if self.dup_acks == 0 {
                self.dup_room = in_flight;
            }
            let counts = self.dup_acks < self.dup_room;
            self.dup_acks += u16::from(counts);
            let repeated = self.recover.is_some_and(|r| r.is_in(ack.una..=ack.nxt));
            if self.is_open() && self.dup_acks >= DUP_THRESHOLD && !repeated {
                let len = self.first_len(ack.una, ack.mss);
                self.sent.lose_first(len);
            }
            return counts;
        }
        if ack.una != heard.before {
            // Of the segments that the duplicates stood for, those just acknowledged are no longer above the hole.
            let segments = ack.acked.div_ceil(ack.mss).saturating_sub(1);
            let segments = u16::try_from(segments).unwrap_or(u16::MAX);
            self.dup_acks = match self.phase {
                Phase::Fast { .. } => self.dup_acks.saturating_sub(segments),
                _ => 0,
            };
            self.dup_room = in_flight;
        }
        false
    }

    fn detect(&mut self, heard: &Heard) -> Option<Instant> {
        if heard.sack == SackUse::No {
            return None;
        }
        let view = self.view(heard);
        self.rack.as_ref()?.detect(&mut self.sent, &view)
    }

    fn view(&self, heard: &Heard) -> View {
        let ack = &heard.cc;
        View {
            min_rtt: heard.min_rtt,
            now: ack.now,
            mss: ack.mss,
            srtt: Duration::from_nanos(ack.srtt),
            recovering: !self.is_open(),
        }
    }

    /// The time that RACK waited for is over.
    pub(super) fn on_reorder_timeout(&mut self, cc: &mut Controller, heard: &Heard) -> Outcome {
        let mut outcome = Outcome {
            wait: self.detect_after_timeout(cc, heard),
            ..Outcome::default()
        };
        if self.is_open() && self.sent.lost() > 0 {
            outcome.probe_lost = self.forgives(heard.cc.nxt);
            if !outcome.probe_lost {
                self.enter(cc, heard, Reduced::No);
                outcome.entered = true;
            }
        }
        outcome
    }

    fn enter(&mut self, cc: &mut Controller, heard: &Heard, reduced: Reduced) {
        let ack = &heard.cc;
        let saved = cc.saved();
        let flight = ack.nxt.since(ack.una);
        if reduced == Reduced::No {
            // What exceeds the window was sent for what arrived: limited transmit.
            cc.on_loss(heard.tried, ack.mss);
        }
        self.tail = Tail::None;
        // RFC 9937 6.1: RecoverFS.
        let delivered = self.delivered(heard);
        let mut prr = Prr::new(flight - self.sent.sacked().min(flight) + delivered);
        let pipe = self.pipe(ack.una, ack.nxt, ack.mss);
        prr.on_ack(delivered, pipe, cc.ssthresh(), ack.mss, Safe::No);
        self.remember(saved, ack.una, prr);
        self.phase = Phase::Fast { point: ack.nxt };
    }

    fn leave(&mut self, point: SeqNum, nxt: SeqNum) {
        self.phase = Phase::Open;
        self.recover = Some(point);
        self.dup_acks = 0;
        if let Some(rack) = &mut self.rack {
            rack.on_recovered();
        }
        if let Some(episode) = &mut self.episode {
            episode.until = Some(nxt);
        }
    }

    fn remember(&mut self, cc: Controller, una: SeqNum, prr: Prr) {
        self.episode = Some(Box::new(Episode {
            prr,
            cc,
            una,
            stamp: None,
            again: Again::default(),
            spared: 0,
            until: None,
        }));
    }

    /// The peer got `range` twice. What of it was sent again was sent for nothing; the rest was doubled on the way.
    fn prove(&mut self, range: (SeqNum, SeqNum), nxt: SeqNum) {
        if let Some(episode) = &mut self.episode
            && range.0.is_in(episode.una..=nxt)
        {
            episode.again.prove(episode.una, range.0, range.1);
        }
    }

    /// Whether the acknowledgement shows that nothing was lost in this episode.
    fn is_mistaken(&mut self, heard: &Heard) -> bool {
        let Some(episode) = &self.episode else {
            return false;
        };
        let Some(stamp) = episode.stamp else {
            return false;
        };
        // All that was sent again was a duplicate (RFC 3708 in spirit).
        if episode.again.is_proven() {
            return true;
        }
        if heard.cc.una == heard.before {
            return false;
        }
        // RFC 3522 3.2: what is acknowledged left before anything was sent again.
        if !self.is_open() && heard.echoed.is_some_and(|echoed| echoed < stamp) {
            return true;
        }
        // RFC 5682 2.1, step 3b: what was sent once, before the timeout, arrived.
        matches!(
            self.phase,
            Phase::Loss {
                frto: Frto::Second,
                ..
            }
        ) && heard.delivered.once
    }

    /// Returns to the time before the episode (RFC 4015).
    fn undo(&mut self, cc: &mut Controller) {
        if let Some(episode) = self.episode.take() {
            cc.restore(episode.cc);
        }
        // RFC 8985 6.2, step 3: something was overtaken. A timeout that was a mistake says that all was late.
        let overtaken = matches!(self.phase, Phase::Open | Phase::Fast { .. });
        if !self.is_open() {
            self.sent.find_again();
            self.phase = Phase::Open;
            self.dup_acks = 0;
        }
        if let Some(rack) = &mut self.rack
            && overtaken
        {
            rack.on_late();
        }
    }

    /// Goes on with another algorithm, also should the episode turn out to be a mistake.
    pub(super) fn change(&mut self, algorithm: Congestion) {
        if let Some(episode) = &mut self.episode {
            episode.cc.change(algorithm);
        }
    }

    /// The path turned out to be narrower: everything on its way is sent again, without blame.
    pub(super) fn resend_all(&mut self, cc: &mut Controller, una: SeqNum, nxt: SeqNum, mss: u32) {
        if una != nxt {
            self.sent.lose_all();
            self.take_back(cc, u32::MAX, mss);
            if self.is_open() {
                self.phase = Phase::Resend { point: nxt };
            }
        }
    }

    /// The retransmission timer went off. `echoes` is whether the peer echoes timestamps.
    pub(super) fn on_timeout(&mut self, cc: &mut Controller, heard: &Heard, echoes: Echoes) {
        let Ack { una, nxt, mss, .. } = heard.cc;
        let repeated = matches!(self.phase, Phase::Loss { .. });
        // RFC 2018 8: the receiver may have thrown away what it reported. So it has when it waits for something that
        // it had reported.
        if repeated || self.sent.is_reneged() {
            self.sent.forget_sacks();
        }
        // RFC 5682 2.1: only a timeout that nothing came before; what was lost before stays lost.
        let frto = match (self.phase, echoes) {
            (Phase::Open | Phase::Resend { .. }, Echoes::No) => Frto::First,
            _ => Frto::Off,
        };
        match heard.sack {
            SackUse::Yes => {
                let (view, len) = (self.view(heard), self.first_len(una, mss));
                self.rack();
                if let Some(rack) = &self.rack {
                    rack.on_timeout(&mut self.sent, &view, len);
                }
            }
            // RFC 5681 3.1
            SackUse::No => self.sent.lose_all(),
        }
        // As in Linux: what still counts as on its way does not hold back what is sent again.
        let pipe = self.pipe(una, nxt, mss);
        match self.phase {
            // The window was reduced for this flight already.
            Phase::Loss { .. } | Phase::Fast { .. } => cc.on_repeated_timeout(mss, pipe),
            Phase::Open | Phase::Resend { .. } => {
                let saved = cc.saved();
                cc.on_timeout(nxt.since(una).min(cc.cwnd()), mss, pipe);
                self.remember(saved, una, Prr::new(0));
            }
        }
        if let Some(episode) = &mut self.episode {
            episode.spared = pipe;
        }
        self.phase = Phase::Loss { point: nxt, frto };
        self.dup_acks = 0;
        self.tail = Tail::None;
    }

    /// Bytes believed to be on their way.
    // RFC 6675 4, SetPipe.
    #[inline]
    pub(super) fn pipe(&self, una: SeqNum, nxt: SeqNum, mss: u32) -> u32 {
        let gone = self.sent.sacked() + self.sent.lost() + u32::from(self.dup_acks) * mss;
        nxt.since(una).saturating_sub(gone)
    }

    /// What may leave now, where that does not follow from the window.
    pub(super) fn room(&self) -> Option<u32> {
        match self.phase {
            Phase::Fast { .. } => self.episode.as_ref().map(|e| e.prr.room()),
            _ => None,
        }
    }

    /// The next range to send again, if any.
    #[inline]
    pub(super) fn next_hole(&mut self) -> Option<(SeqNum, SeqNum)> {
        match self.phase {
            Phase::Open => None,
            Phase::Loss {
                frto: Frto::Second, ..
            } => None,
            _ => self.sent.next_lost(),
        }
    }

    /// `start..end` left for the first time, which makes `flight` bytes on their way.
    #[inline]
    pub(super) fn on_sent(&mut self, start: SeqNum, end: SeqNum, now: Instant, flight: u32) {
        self.sent.push(start, end, now);
        if let (Phase::Fast { .. }, Some(episode)) = (self.phase, &mut self.episode) {
            episode.prr.on_sent(end.since(start));
        }
        if self.tail == Tail::Due {
            let again = false;
            self.tail = Tail::Sent { end, again, flight };
        }
    }

    /// `start..end` left again, of `flight` bytes on their way.
    pub(super) fn on_retransmit(&mut self, start: SeqNum, end: SeqNum, now: Instant, flight: u32) {
        self.sent.again(start, end, now);
        if let (Phase::Fast { .. }, Some(episode)) = (self.phase, &mut self.episode) {
            episode.prr.on_sent(end.since(start));
        }
        if self.tail == Tail::Due {
            let again = true;
            self.tail = Tail::Sent { end, again, flight };
        } else if let Some(episode) = &mut self.episode {
            episode.stamp.get_or_insert(now);
            episode.again.add(start, end);
        }
    }

    /// Whether a tail loss probe may be scheduled: one at a time, and only where nothing else tells of a loss.
    // RFC 8985 7.2
    #[inline]
    pub(super) fn may_probe(&self) -> bool {
        self.is_open() && self.tail == Tail::None && self.sent.sacked() == 0
    }

    /// The probe's time has come.
    pub(super) fn probe(&mut self) {
        if self.may_probe() {
            self.tail = Tail::Due;
        }
    }

    /// Whether a probe left, or leaves, that was not answered yet.
    #[inline]
    pub(super) fn is_probing(&self) -> bool {
        self.tail != Tail::None
    }

    #[inline]
    pub(super) fn is_probe_due(&self) -> bool {
        self.tail == Tail::Due
    }

    /// The probe could not be sent, or is no longer needed.
    pub(super) fn forget_probe(&mut self) {
        self.tail = Tail::None;
    }

    // RFC 8985 7.4.2
    fn hear_of_tail(&mut self, cc: &mut Controller, heard: &Heard) -> Reduced {
        let Tail::Sent { end, again, flight } = self.tail else {
            return Reduced::No;
        };
        let ack = &heard.cc;
        // Seen from before the acknowledgement, which lies within what was sent.
        let reached = !heard.before.precedes(ack.una, end);
        if !again {
            if reached {
                self.tail = Tail::None;
            }
        } else if heard.dsack.is_some_and(|(_, to)| to == end) {
            // Both copies arrived: nothing was lost.
            self.tail = Tail::None;
        } else if reached && ack.una != end {
            // The probe repaired a loss, of which nothing else tells.
            cc.on_loss(flight.min(cc.cwnd()), ack.mss);
            self.tail = Tail::None;
            return Reduced::Yes;
        } else if ack.una == end && heard.is_duplicate {
            self.tail = Tail::None;
        }
        Reduced::No
    }
}

/// Whether the window was reduced for an acknowledgement already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduced {
    Yes,
    No,
}

/// Whether the connection negotiated selective acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SackUse {
    Yes,
    No,
}

/// Whether the peer echoes our timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echoes {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
