//! What a host tells routers of its groups, and when (RFC 3376 section 5, RFC 3810 section 6), to those of older
//! versions as well (RFC 3376 section 7.2, RFC 3810 section 8.2).
//!
//! Changes are told at once, and again as often as is said for the case that a message is lost. Questions are
//! answered after a random time. What is told is the state at that moment, which is asked of the table of groups.

use std::collections::{BTreeMap, BTreeSet};

use super::filter::{Filter, Mode};
use super::{Groups, MAX_JOINED, MAX_SOURCES};
use crate::base::id::IfId;
use crate::base::rng::Rng;
use crate::base::time::{Duration, Instant};
use crate::ip::family::Family;
pub(crate) use crate::packet::header::mld::RecordKind;

/// What routers of a version understand. The newest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    /// Groups and sources: IGMPv3, MLDv2.
    #[default]
    Sources,
    /// Groups, and that somebody has left one: IGMPv2, MLDv1.
    Groups,
    /// Groups alone: IGMPv1.
    Members,
}

/// A question that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query<F: Family> {
    /// Which group it asks about; any, when there is none.
    pub group: Option<F::Addr>,
    /// Of which sources; any, when there are none.
    pub sources: Vec<F::Addr>,
    /// How long an answer may take.
    pub max_response: Duration,
    /// What the router understands.
    pub dialect: Dialect,
    /// How many messages of a kind it takes for one to arrive; zero if that is not said.
    pub robustness: u8,
    /// How often it asks; zero if that is not said.
    pub interval: Duration,
}

/// What is told of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<F: Family> {
    /// What the sources are.
    pub kind: RecordKind,
    /// The group.
    pub group: F::Addr,
    /// They, in order.
    pub sources: Vec<F::Addr>,
}

/// What is to be sent by one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said<F: Family> {
    /// Records; [`packed`] makes messages of them.
    Records(Vec<Record<F>>),
    /// Somebody is in the group, to a router of this version.
    Member(F::Addr, Dialect),
    /// Nobody is any more.
    Left(F::Addr),
}

/// RFC 3376 section 8.1, RFC 3810 section 9.1: of so many messages one arrives.
const ROBUSTNESS: u8 = 2;
/// RFC 3376 section 8.2, RFC 3810 section 9.2: how often a router asks that does not say so.
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// RFC 3376 section 8.11, RFC 3810 section 9.11: within this, a change is told again.
const AGAIN: Duration = Duration::from_secs(1);
/// RFC 2236 section 8.10, RFC 2710 section 7.10: the same to routers of older versions.
const AGAIN_OLDER: Duration = Duration::from_secs(10);

/// What routers are told by one vnet.
#[derive(Debug)]
pub(crate) struct Host<F: Family> {
    links: BTreeMap<IfId, Link<F>>,
    /// When a link has something to say.
    due: BTreeSet<(Instant, IfId)>,
    rng: Rng,
}

#[derive(Debug)]
struct Link<F: Family> {
    /// Until when there are routers of the older versions.
    older: [Option<Instant>; 2],
    /// Somebody has asked.
    was_asked: bool,
    robustness: u8,
    /// When all groups are told.
    general: Option<Instant>,
    /// Groups that were asked about.
    asked: BTreeMap<F::Addr, Asked<F>>,
    /// The same in the order of their times.
    asked_at: BTreeSet<(Instant, F::Addr)>,
    changes: BTreeMap<F::Addr, Change<F>>,
    /// When the changes are told next.
    change_at: Instant,
    /// Where it stands among those that are due.
    at: Option<Instant>,
}

#[derive(Debug)]
struct Asked<F: Family> {
    at: Instant,
    /// None for all.
    sources: BTreeSet<F::Addr>,
}

/// What has changed of a group, with how often that is still to be told.
#[derive(Debug)]
struct Change<F: Family> {
    mode: u8,
    sources: BTreeMap<F::Addr, u8>,
}

impl<F: Family> Default for Link<F> {
    fn default() -> Link<F> {
        Link {
            older: [None; 2],
            was_asked: false,
            robustness: ROBUSTNESS,
            general: None,
            asked: BTreeMap::new(),
            asked_at: BTreeSet::new(),
            changes: BTreeMap::new(),
            change_at: Instant::ZERO,
            at: None,
        }
    }
}

impl<F: Family> Link<F> {
    /// The version of the oldest router on the link (RFC 3376 section 7.2.1, RFC 3810 section 8.2.1).
    fn dialect(&self, now: Instant) -> Dialect {
        let is_there = |until: Option<Instant>| until.is_some_and(|until| until > now);
        match self.older {
            [_, oldest] if is_there(oldest) => Dialect::Members,
            [older, _] if is_there(older) => Dialect::Groups,
            _ => Dialect::Sources,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let changes = (!self.changes.is_empty()).then_some(self.change_at);
        let asked = self.asked_at.first().map(|(at, _)| *at);
        asked.into_iter().chain(self.general).chain(changes).min()
    }

    /// RFC 3376 section 5.1, RFC 3810 section 6.1.
    fn changed(&mut self, group: F::Addr, before: &Filter<F>, after: &Filter<F>) {
        let robustness = self.robustness;
        // Of more than that, only how it is in the end is told.
        if self.changes.len() >= MAX_JOINED && !self.changes.contains_key(&group) {
            self.general = Some(Instant::ZERO);
            return;
        }
        let change = self.changes.entry(group).or_insert_with(|| Change {
            mode: 0,
            sources: BTreeMap::new(),
        });
        if before.mode != after.mode {
            change.mode = robustness;
        } else {
            let differ = before.sources.symmetric_difference(&after.sources);
            change.sources.extend(differ.map(|one| (*one, robustness)));
        }
        self.change_at = Instant::ZERO;
    }

    /// RFC 3376 section 5.2, RFC 3810 section 6.2.
    fn asked(&mut self, at: Instant, group: F::Addr, sources: &[F::Addr]) {
        // Rule 1: all is told before.
        if self.general.is_some_and(|general| general <= at) {
            return;
        }
        let is_whole = sources.is_empty() || sources.len() > MAX_SOURCES;
        let sources = match is_whole {
            true => BTreeSet::new(),
            false => sources.iter().copied().collect(),
        };
        match self.asked.get_mut(&group) {
            None => {
                self.asked.insert(group, Asked { at, sources });
                self.asked_at.insert((at, group));
            }
            Some(asked) => {
                if at < asked.at {
                    self.asked_at.remove(&(asked.at, group));
                    self.asked_at.insert((at, group));
                    asked.at = at;
                }
                // Rule 4: where the whole group was asked about, it still is.
                if !asked.sources.is_empty() {
                    asked.sources.extend(sources);
                    if is_whole || asked.sources.len() > MAX_SOURCES {
                        asked.sources.clear();
                    }
                }
            }
        }
    }

    /// Forgets that somebody has asked about a group.
    fn is_answered(&mut self, group: F::Addr) -> Option<Asked<F>> {
        let asked = self.asked.remove(&group)?;
        self.asked_at.remove(&(asked.at, group));
        Some(asked)
    }

    /// What has changed, told once more.
    fn tell_changes(&mut self, wanted: impl Fn(F::Addr) -> Filter<F>) -> Vec<Record<F>> {
        let mut records = Vec::new();
        let mut left = BTreeMap::new();
        for (group, mut change) in std::mem::take(&mut self.changes) {
            let wanted = wanted(group);
            if change.mode > 0 {
                change.mode -= 1;
                records.push(Record {
                    kind: match wanted.mode {
                        Mode::Include => RecordKind::ToInclude,
                        Mode::Exclude => RecordKind::ToExclude,
                    },
                    group,
                    sources: wanted.sources.into_iter().collect(),
                });
            } else {
                let sources = change.sources.keys().copied();
                let (allowed, blocked) = sources.partition::<Vec<_>, _>(|one| wanted.passes(*one));
                for (kind, sources) in [(RecordKind::Allow, allowed), (RecordKind::Block, blocked)]
                {
                    if !sources.is_empty() {
                        records.push(Record {
                            kind,
                            group,
                            sources,
                        });
                    }
                }
            }
            change.sources.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
            if change.mode > 0 || !change.sources.is_empty() {
                left.insert(group, change);
            }
        }
        self.changes = left;
        records
    }

    /// The same to routers that know no sources.
    fn tell_changes_older(
        &mut self,
        dialect: Dialect,
        wanted: impl Fn(F::Addr) -> Filter<F>,
        said: &mut Vec<Said<F>>,
    ) {
        self.changes.retain(|group, change| {
            if wanted(*group).is_none() {
                if dialect == Dialect::Groups {
                    said.push(Said::Left(*group));
                }
                return false;
            }
            said.push(Said::Member(*group, dialect));
            let sources = change.sources.values().copied();
            change.mode = sources.fold(change.mode, u8::max).saturating_sub(1);
            change.sources.clear();
            change.mode > 0
        });
    }
}

/// What is told of a group when somebody asks (RFC 3376 section 5.2, RFC 3810 section 6.2): of these sources, or
/// of all when there are none.
fn answer<F: Family>(
    group: F::Addr,
    wanted: &Filter<F>,
    asked: &BTreeSet<F::Addr>,
) -> Option<Record<F>> {
    if wanted.is_none() {
        return None;
    }
    if asked.is_empty() {
        let kind = match wanted.mode {
            Mode::Include => RecordKind::IsInclude,
            Mode::Exclude => RecordKind::IsExclude,
        };
        let sources = wanted.sources.iter().copied().collect();
        return Some(Record {
            kind,
            group,
            sources,
        });
    }
    let heard = asked.iter().copied().filter(|one| wanted.passes(*one));
    let sources: Vec<_> = heard.collect();
    (!sources.is_empty()).then_some(Record {
        kind: RecordKind::IsInclude,
        group,
        sources,
    })
}

impl<F: Family> Host<F> {
    /// Nothing is to be told. Times are drawn from `rng`.
    pub(crate) fn new(rng: Rng) -> Host<F> {
        Host {
            links: BTreeMap::new(),
            due: BTreeSet::new(),
            rng,
        }
    }

    /// What is wanted of a group has changed.
    pub(super) fn changed(
        &mut self,
        ifid: IfId,
        group: F::Addr,
        before: &Filter<F>,
        after: &Filter<F>,
    ) {
        let link = self.links.entry(ifid).or_default();
        link.changed(group, before, after);
        self.note(ifid);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn was_asked(&self, ifid: IfId) -> bool {
        self.links.get(&ifid).is_some_and(|link| link.was_asked)
    }

    /// Forgets what is to be told of an interface.
    pub(super) fn begin_again(&mut self, ifid: IfId) {
        let was_asked = self.was_asked(ifid);
        self.remove_interface(ifid);
        self.links.entry(ifid).or_default().was_asked = was_asked;
    }

    pub(super) fn remove_interface(&mut self, ifid: IfId) {
        if let Some(link) = self.links.remove(&ifid)
            && let Some(at) = link.at
        {
            self.due.remove(&(at, ifid));
        }
    }

    /// Puts a link where it belongs among those that are due.
    fn note(&mut self, ifid: IfId) {
        let Some(link) = self.links.get_mut(&ifid) else {
            return;
        };
        let at = link.deadline();
        let was = std::mem::replace(&mut link.at, at);
        if was != at {
            was.map(|was| self.due.remove(&(was, ifid)));
            self.due.extend(at.map(|at| (at, ifid)));
        }
    }

    /// A random time of up to `within`.
    fn within(&mut self, within: Duration) -> Duration {
        let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX - 1);
        Duration::from_millis(self.rng.below(millis.saturating_add(1)).into())
    }
}

impl<F: Family> Groups<F> {
    /// A question was heard on an interface.
    pub(crate) fn asked(&mut self, now: Instant, ifid: IfId, query: &Query<F>) {
        let groups: Vec<F::Addr> = match query.group {
            Some(group) if self.is_joined(group, ifid) => vec![group],
            Some(_) => return,
            // To routers that know sources, all of them are told at once.
            None if query.dialect == Dialect::Sources && !self.speaks_older(now, ifid) => {
                self.reported(ifid).take(1).collect()
            }
            None => self.reported(ifid).collect(),
        };
        let host = self.host();
        let link = host.links.entry(ifid).or_default();
        link.was_asked = true;
        if query.robustness > 0 {
            link.robustness = query.robustness;
        }
        if query.group.is_none() && query.dialect != Dialect::Sources {
            let interval = match query.interval {
                Duration::ZERO => QUERY_INTERVAL,
                interval => interval,
            };
            let was = link.dialect(now);
            let until = interval.saturating_mul(link.robustness.into()) + query.max_response;
            link.older[usize::from(query.dialect == Dialect::Members)] = Some(now + until);
            // RFC 3376 section 7.2.1, RFC 3810 section 8.2.1: what is pending is in another language.
            if link.dialect(now) > was {
                link.general = None;
                link.asked.clear();
                link.asked_at.clear();
                link.changes.clear();
            }
        }
        if groups.is_empty() {
            return host.note(ifid);
        }
        let dialect = link.dialect(now);
        let at = now + host.within(query.max_response);
        let link = host.links.entry(ifid).or_default();
        match (query.group, dialect) {
            (Some(group), _) => link.asked(at, group, &query.sources),
            (None, Dialect::Sources) => {
                // Rules 1 and 2.
                if link.general.is_none_or(|general| at < general) {
                    link.general = Some(at);
                }
            }
            // Each group has a time of its own.
            (None, Dialect::Groups | Dialect::Members) => {
                for group in groups {
                    let at = now + host.within(query.max_response);
                    let link = host.links.entry(ifid).or_default();
                    link.asked(at, group, &[]);
                }
            }
        }
        host.note(ifid);
    }

    fn speaks_older(&self, now: Instant, ifid: IfId) -> bool {
        let link = self.host.as_ref().and_then(|host| host.links.get(&ifid));
        link.is_some_and(|link| link.dialect(now) != Dialect::Sources)
    }

    /// Another station has said that somebody is in a group: with routers that do not ask for all, that will do
    /// (RFC 2236 section 3, RFC 2710 section 4).
    pub(crate) fn heard_member(&mut self, now: Instant, ifid: IfId, group: F::Addr) {
        if let Some(host) = &mut self.host
            && let Some(link) = host.links.get_mut(&ifid)
            && link.dialect(now) != Dialect::Sources
        {
            link.is_answered(group);
            host.note(ifid);
        }
    }

    /// What is to be sent now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(IfId, Vec<Said<F>>)> {
        let mut all = Vec::new();
        let Some(mut host) = self.host.take() else {
            return all;
        };
        while let Some(&(at, ifid)) = host.due.first()
            && at <= now
        {
            let again = host.within(AGAIN);
            let again_older = host.within(AGAIN_OLDER);
            if let Some(link) = host.links.get_mut(&ifid) {
                let said = self.say(now, ifid, link, [again, again_older]);
                all.push((ifid, said));
            }
            host.note(ifid);
        }
        self.host = Some(host);
        all
    }

    fn say(
        &self,
        now: Instant,
        ifid: IfId,
        link: &mut Link<F>,
        [again, again_older]: [Duration; 2],
    ) -> Vec<Said<F>> {
        // At least a little later, so that time goes on.
        let later = |after: Duration| now + after.max(Duration::from_millis(1));
        let dialect = link.dialect(now);
        let mut answers = Vec::new();
        if link.general.is_some_and(|at| at <= now) {
            link.general = None;
            for group in self.reported(ifid) {
                answers.extend(answer(group, &self.wanted(group, ifid), &BTreeSet::new()));
            }
        }
        while let Some(&(at, group)) = link.asked_at.first()
            && at <= now
        {
            if let Some(asked) = link.is_answered(group) {
                answers.extend(answer(group, &self.wanted(group, ifid), &asked.sources));
            }
        }
        let tells = !link.changes.is_empty() && link.change_at <= now;
        let wanted = |group| self.wanted(group, ifid);
        let mut said = Vec::new();
        if dialect == Dialect::Sources {
            if tells {
                link.change_at = later(again);
                let changes = link.tell_changes(wanted);
                if !changes.is_empty() {
                    said.push(Said::Records(changes));
                }
            }
            if !answers.is_empty() {
                said.push(Said::Records(answers));
            }
            return said;
        }
        if tells {
            link.change_at = later(again_older);
            link.tell_changes_older(dialect, wanted, &mut said);
        }
        let answers = answers.into_iter();
        said.extend(answers.map(|record| Said::Member(record.group, dialect)));
        said
    }
}

/// Makes messages of records, of which each has room for so many bytes of them. Of sources that are to be left
/// out, those that no message has room for are let in (RFC 3376 section 4.2.16, RFC 3810 section 5.2.15); others
/// are told in several records.
pub(crate) fn packed<F: Family>(records: Vec<Record<F>>, room: usize) -> Vec<Vec<Record<F>>> {
    let addr_len = usize::from(F::BITS / 8);
    let most = (room.saturating_sub(4 + addr_len) / addr_len).max(1);
    let mut messages: Vec<Vec<Record<F>>> = Vec::new();
    let mut left = 0;
    let mut put = |record: Record<F>| {
        let len = 4 + addr_len * (1 + record.sources.len());
        match messages.last_mut() {
            Some(last) if len <= left => last.push(record),
            _ => {
                messages.push(vec![record]);
                left = room;
            }
        }
        left = left.saturating_sub(len);
    };
    for mut record in records {
        match record.kind {
            RecordKind::IsExclude | RecordKind::ToExclude => {
                record.sources.truncate(most);
                put(record);
            }
            _ if record.sources.len() <= most => put(record),
            _ => {
                for sources in record.sources.chunks(most) {
                    let sources = sources.to_vec();
                    put(Record { sources, ..record });
                }
            }
        }
    }
    messages
}
