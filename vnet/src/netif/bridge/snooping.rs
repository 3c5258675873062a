//! Multicast snooping (RFC 4541): who behind which member is in which group, as the bridge reads from what hosts
//! and routers say; and the bridge's own questions, where no router asks.
//!
//! What is kept has the group's address, of either version of IP; reading and writing messages is [`read`]'s, which
//! knows IGMP and MLD. A group in which somebody is known goes to the members behind which they are and to those that
//! lead to routers, any other group everywhere, or to routers only, as configured. In a VLAN in which nobody asks, hosts
//! do not say in which groups they are, so all groups of that version of IP go everywhere. Nothing is woken for what is
//! too old: it is as good as not there, and its memory is given back when another group is learned.
//!
//! | part | what it is |
//! |---|---|
//! | [`asking`] | when everybody is asked, and in which VLANs |
//! | [`config`] | how a bridge snoops |
//! | [`read`] | what a frame says, and what a question looks like |

pub(crate) mod asking;
pub(crate) mod config;
pub(crate) mod read;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use self::asking::{Asking, RESPONSE, ROBUSTNESS, Version};
use self::config::Snooping;
use self::read::{Heard, Question, Says};
use super::fdb::Fid;
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::link::Account;

/// How long they may take after somebody has left a group (section 8.8, and section 9.8).
const LAST_MEMBER: Duration = Duration::from_secs(1);
/// When there is no room, how long it takes until memory is looked for again.
const PRUNE_PERIOD: Duration = Duration::from_secs(1);
/// How long it takes until the same member is greeted again.
const GREETING_PERIOD: Duration = Duration::from_secs(1);

/// A snooping bridge's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnoopingCounters {
    /// Queries of others that members received.
    pub queries_in: u64,
    /// The bridge's own queries that were sent to some member.
    pub queries_out: u64,
    /// Reports of joined and left groups.
    pub reports: u64,
    /// Messages that could not be read, which were dropped.
    pub malformed: u64,
    /// Reports for which there was no room.
    pub groups_full: u64,
}

/// A group in a VLAN.
type Group = (Fid, IpAddr);

/// What is known of a group behind one member.
#[derive(Clone, Copy, Debug)]
struct Membership {
    /// Until when somebody is in it.
    until: Instant,
    /// It is being asked whether somebody still is.
    doubt: Option<Doubt>,
}

/// A question about a group that is asked behind one member.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// How often it is still asked.
    left: u32,
    /// When that is, or when the answer is known.
    at: Instant,
    /// Somebody else has left since: it is asked anew.
    anew: bool,
}

/// A member about which nothing is known yet.
#[derive(Debug)]
struct Newcomer {
    /// When it was asked, or will be.
    greeted: Instant,
    /// Where it is, in ascending order. It is sent all groups there until it may have answered.
    places: Vec<(Fid, Version)>,
    /// Until when it is sent all groups elsewhere, where it may be another one's turn to ask.
    elsewhere: Instant,
}

/// Entries on the vnet's account, which are given back.
struct Share {
    account: Arc<Account>,
    held: u64,
}

impl Share {
    /// True when there is room for one more, which is taken.
    fn take(&mut self) -> bool {
        let admits = self.account.admits(1);
        if admits {
            self.settle(self.held + 1);
        }
        admits
    }

    /// Holds so many.
    fn settle(&mut self, held: u64) {
        self.account.change(self.held, held);
        self.held = held;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// What a bridge knows of groups.
pub(crate) struct Snooper {
    config: Snooping,
    /// Behind which members somebody is in a group.
    groups: BTreeMap<Group, BTreeMap<IfId, Membership>>,
    /// Which members lead to routers, and until when that holds.
    routers: BTreeMap<(Fid, IfId), Instant>,
    share: Share,
    asking: Asking,
    /// What is to be asked now.
    pending: VecDeque<Question>,
    /// The groups that are doubted, by when that goes on.
    doubts: BTreeSet<(Instant, Group, IfId)>,
    newcomers: BTreeMap<IfId, Newcomer>,
    /// When they are asked.
    greetings: BTreeSet<(Instant, IfId)>,
    /// Members that are down.
    absent: BTreeSet<IfId>,
    /// Until when groups go everywhere, because stations may be elsewhere.
    flood_until: Instant,
    prune_at: Instant,
    /// The bridge is down.
    is_down: bool,
    /// The network has another shape.
    pub(super) is_stale: bool,
    /// When it is looked at next.
    pub(super) armed: Armed,
    /// It is in the list of those that may have something to send.
    pub(super) is_listed: bool,
    pub(crate) counters: SnoopingCounters,
}

/// To whom a packet to a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// To everybody.
    All,
    /// To those who are in it, of whom there may be none, and to routers.
    Members(IpAddr),
}

impl Snooper {
    /// One that knows nothing yet. What it learns is on the account.
    pub(super) fn new(config: Snooping, account: Arc<Account>) -> Snooper {
        Snooper {
            config,
            groups: BTreeMap::new(),
            routers: BTreeMap::new(),
            share: Share { account, held: 0 },
            asking: Asking::nowhere(),
            pending: VecDeque::new(),
            doubts: BTreeSet::new(),
            newcomers: BTreeMap::new(),
            greetings: BTreeSet::new(),
            absent: BTreeSet::new(),
            flood_until: Instant::ZERO,
            prune_at: Instant::ZERO,
            is_down: false,
            is_stale: false,
            armed: Armed::default(),
            is_listed: false,
            counters: SnoopingCounters::default(),
        }
    }

    /// Changes how it works. What it knows stays.
    pub(super) fn set_config(&mut self, now: Instant, config: Snooping) {
        for version in Version::ALL {
            if config.own(version) != self.config.own(version) {
                self.asking.forget(version);
            }
        }
        self.config = config;
        self.asking.hasten(now, &config);
    }

    /// The VLANs in which it asks, from now on. It begins with those that are new.
    pub(super) fn ask_in(&mut self, now: Instant, vlans: &BTreeSet<Fid>) {
        self.asking.set_vlans(now, vlans, &self.config);
    }

    /// How long a report holds (RFC 9776 section 8.4, RFC 3810 section 9.4).
    fn membership(&self) -> Duration {
        self.config.query_interval * ROBUSTNESS + RESPONSE
    }

    /// Notes what a member has brought in.
    pub(super) fn heard(&mut self, now: Instant, vlan: Fid, from: IfId, heard: &Heard) {
        match &heard.says {
            Says::Query { group, response } => {
                self.counters.queries_in += 1;
                let until = now + self.config.other_querier();
                let all = group.is_none().then_some(*response);
                self.asking.heard(now, (vlan, heard.version), all, until);
                let Some(router) = heard.from else {
                    // RFC 4541 section 2.1.1 (1) b: it is a switch that has no address.
                    return;
                };
                self.note_router(now, vlan, from, until);
                self.elect(now, vlan, router);
                if let Some(group) = group {
                    // RFC 9776 section 6.6.1: somebody has left it, and who is still there says so.
                    let response = (*response).max(LAST_MEMBER);
                    self.lower((vlan, *group), now + response * ROBUSTNESS);
                }
            }
            Says::Hello(hold) => self.note_router(now, vlan, from, now + *hold),
            Says::Memberships(records) => {
                self.counters.reports += 1;
                for (group, is_member) in records {
                    // RFC 4541 section 2.1.2 (2): they go everywhere.
                    if is_for_all(*group) {
                        continue;
                    }
                    match is_member {
                        true => self.join(now, (vlan, *group), from),
                        false => self.leave(now, (vlan, *group), from),
                    }
                }
            }
        }
    }

    fn note_router(&mut self, now: Instant, vlan: Fid, member: IfId, until: Instant) {
        let key = (vlan, member);
        let is_known = self.routers.contains_key(&key);
        if until <= now {
            // RFC 7761 section 4.9.2: a router that says goodbye is none at once.
            self.routers.remove(&key);
            self.share.settle(self.share.held - u64::from(is_known));
        } else if is_known || self.takes_one_more(now) {
            let known = self.routers.entry(key).or_insert(until);
            *known = until.max(*known);
        }
    }

    /// The one with the least address asks (RFC 9776 section 6.6.2, RFC 3810 section 7.6.2).
    fn elect(&mut self, now: Instant, vlan: Fid, other: IpAddr) {
        let version = Version::of(other);
        if self.config.own(version).is_some_and(|own| other < own) {
            let until = now + self.config.other_querier();
            self.asking.give_way(vlan, version, until);
        }
    }

    fn join(&mut self, now: Instant, group: Group, from: IfId) {
        let until = now + self.membership();
        if let Some(known) = self.groups.get_mut(&group).and_then(|m| m.get_mut(&from)) {
            known.until = until;
            return;
        }
        let is_known = self.groups.contains_key(&group);
        if !is_known && !self.has_room(now) || !self.takes_one_more(now) {
            self.counters.groups_full += 1;
            return;
        }
        let doubt = None;
        let members = self.groups.entry(group).or_default();
        members.insert(from, Membership { until, doubt });
    }

    /// Whether one more group may be remembered.
    fn has_room(&mut self, now: Instant) -> bool {
        let most = self.config.max_groups as usize;
        if self.groups.len() >= most {
            self.prune(now);
        }
        self.groups.len() < most
    }

    /// Whether the vnet may remember one thing more.
    fn takes_one_more(&mut self, now: Instant) -> bool {
        self.share.take() || {
            self.prune(now);
            self.share.take()
        }
    }

    fn prune(&mut self, now: Instant) {
        if now >= self.prune_at {
            self.prune_at = now + PRUNE_PERIOD;
            self.retain(|_, _, until| until > now);
        }
    }

    /// Keeps what is known of groups and routers as far as that says.
    fn retain(&mut self, keeps: impl Fn(Fid, IfId, Instant) -> bool) {
        self.groups.retain(|(vlan, _), members| {
            members.retain(|member, known| keeps(*vlan, *member, known.until));
            !members.is_empty()
        });
        self.routers
            .retain(|(vlan, member), until| keeps(*vlan, *member, *until));
        self.share.settle(self.len() as u64);
    }

    fn leave(&mut self, now: Instant, group: Group, from: IfId) {
        let (vlan, address) = group;
        let asks = self.asking.asks(now, vlan, Version::of(address));
        let Some(members) = self.groups.get_mut(&group) else {
            return;
        };
        let Some(known) = members.get_mut(&from) else {
            return;
        };
        if self.config.fast_leave.is_on() {
            members.remove(&from);
            if members.is_empty() {
                self.groups.remove(&group);
            }
            self.share.settle(self.share.held - 1);
            return;
        }
        if let Some(doubt) = &mut known.doubt {
            // One question at a time, whoever leaves again and again.
            doubt.anew = true;
        } else if asks && known.until > now + LAST_MEMBER * ROBUSTNESS {
            self.doubt(now, group, from);
        }
    }

    /// Begins to ask whether somebody behind a member is still in a group.
    fn doubt(&mut self, now: Instant, group: Group, member: IfId) {
        let members = self.groups.get_mut(&group);
        if let Some(known) = members.and_then(|m| m.get_mut(&member)) {
            known.until = known.until.min(now + LAST_MEMBER * ROBUSTNESS);
            known.doubt = Some(Doubt {
                left: ROBUSTNESS,
                at: now,
                anew: false,
            });
            self.doubts.insert((now, group, member));
        }
    }

    /// Goes on with a question that is due. True when it is to be asked.
    fn go_on(&mut self, now: Instant, group: Group, member: IfId, at: Instant) -> bool {
        let members = self.groups.get_mut(&group);
        let Some(known) = members.and_then(|m| m.get_mut(&member)) else {
            return false;
        };
        // What was forgotten, and learned again, may be doubted anew.
        let Some(doubt) = known.doubt.as_mut().filter(|doubt| doubt.at == at) else {
            return false;
        };
        if doubt.left > 0 {
            (doubt.left, doubt.at) = (doubt.left - 1, now + LAST_MEMBER);
            self.doubts.insert((doubt.at, group, member));
            return true;
        }
        let anew = doubt.anew && known.until > now;
        known.doubt = None;
        if anew {
            self.doubt(now, group, member);
        }
        false
    }

    /// What is known of a group holds no longer than that.
    fn lower(&mut self, group: Group, soon: Instant) {
        for known in self
            .groups
            .get_mut(&group)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            known.until = soon.min(known.until);
        }
    }

    /// Nobody is behind a member any more: it has gone, or leads elsewhere.
    pub(super) fn forget(&mut self, member: IfId) {
        self.retain(|_, ifid, _| ifid != member);
    }

    /// The VLANs are others.
    pub(super) fn forget_all(&mut self) {
        self.retain(|_, _, _| false);
        self.asking = Asking::nowhere();
    }

    /// A member is down. When it is back, routers behind it are to hear at once who is in a group, so they stay known.
    pub(super) fn absent(&mut self, member: IfId) {
        self.groups.retain(|_, members| {
            members.remove(&member);
            !members.is_empty()
        });
        self.share.settle(self.len() as u64);
        self.absent.insert(member);
    }

    /// The bridge is up, or is not. When it is again, it does not know what was said meanwhile.
    pub(super) fn runs(&mut self, now: Instant, is_up: bool) {
        let was_down = std::mem::replace(&mut self.is_down, !is_up);
        if was_down && is_up {
            self.asking.begin_anew(now);
        }
    }

    /// A member is none any more.
    pub(super) fn remove(&mut self, member: IfId) {
        self.forget(member);
        self.absent.remove(&member);
        if let Some(newcomer) = self.newcomers.remove(&member) {
            self.greetings.remove(&(newcomer.greeted, member));
        }
    }

    /// A member runs. If it did not before, it is asked who is behind it.
    pub(super) fn is_back(&mut self, now: Instant, member: IfId, is_in: impl Fn(Fid) -> bool) {
        if self.absent.remove(&member) {
            self.greet(now, member, is_in);
        }
    }

    /// Hosts do not say again by themselves in which groups they are, so a member behind which nobody is known is
    /// asked, and sent all groups until they may have answered whoever asks.
    pub(super) fn greet(&mut self, now: Instant, member: IfId, is_in: impl Fn(Fid) -> bool) {
        let places = self.asking.places(now).filter(|(vlan, _)| is_in(*vlan));
        let places: Vec<(Fid, Version)> = places.collect();
        let at = match self.newcomers.get(&member).map(|n| n.greeted) {
            None => now,
            Some(greeted) if greeted > now => greeted,
            Some(greeted) => now.max(greeted + GREETING_PERIOD),
        };
        self.newcomers.retain(|_, n| now < n.elsewhere);
        let newcomer = Newcomer {
            greeted: at,
            places,
            elsewhere: at + self.config.query_interval + RESPONSE,
        };
        self.newcomers.insert(member, newcomer);
        self.greetings.insert((at, member));
    }

    /// True while it is not known who is behind a member.
    fn is_new(&self, now: Instant, member: IfId, place: (Fid, Version)) -> bool {
        let until = |n: &Newcomer| match n.places.binary_search(&place) {
            Ok(_) => n.greeted + RESPONSE,
            Err(_) => n.elsewhere,
        };
        self.newcomers.get(&member).is_some_and(|n| now < until(n))
    }

    /// True where those who ask are told who is in a group, and nobody else. Where nobody asks, everybody is told: there
    /// may be one who only listens.
    pub(super) fn is_for_routers(&self, now: Instant, vlan: Fid, report: &Heard) -> bool {
        self.asking.is_asked(now, (vlan, report.version))
    }

    /// To whom packets to a group go.
    pub(super) fn audience(&self, now: Instant, vlan: Fid, group: IpAddr) -> Audience {
        let is_answered = self.asking.is_answered(now, (vlan, Version::of(group)));
        if is_for_all(group) || now < self.flood_until || !is_answered {
            return Audience::All;
        }
        let members = self.groups.get(&(vlan, group)).into_iter().flatten();
        let is_known = members.into_iter().any(|(_, known)| known.until > now);
        match is_known || !self.config.unknown.is_on() {
            true => Audience::Members(group),
            false => Audience::All,
        }
    }

    /// True when a member is sent packets to a group of which that is known.
    pub(super) fn wants(&self, now: Instant, vlan: Fid, group: IpAddr, member: IfId) -> bool {
        self.is_member(now, vlan, group, member)
            || self.is_router(now, vlan, member)
            || self.is_new(now, member, (vlan, Version::of(group)))
    }

    /// True when somebody behind a member is in a group.
    fn is_member(&self, now: Instant, vlan: Fid, group: IpAddr, member: IfId) -> bool {
        let members = self.groups.get(&(vlan, group));
        let known = members.and_then(|m| m.get(&member));
        known.is_some_and(|known| known.until > now)
    }

    /// True when a member leads to a router.
    pub(super) fn is_router(&self, now: Instant, vlan: Fid, member: IfId) -> bool {
        let until = self.routers.get(&(vlan, member));
        until.is_some_and(|until| *until > now)
    }

    /// When [`Snooper::poll`] has something to ask.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let doubt = self.doubts.first().map(|(at, ..)| *at);
        let greeting = self.greetings.first().map(|(at, _)| *at);
        let all = [self.asking.next_deadline(), doubt, greeting];
        all.into_iter().flatten().min()
    }

    /// The next question.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Question> {
        if std::mem::take(&mut self.is_stale) {
            // RFC 4541 section 2.1.1 (4): until all have been asked and have answered.
            self.flood_until = now + self.config.query_interval + RESPONSE;
            self.asking.ask_all(now);
        }
        for (vlan, version) in self.asking.due(now, &self.config) {
            self.ask(vlan, version, None, None);
        }
        while let Some(&(at, member)) = self.greetings.first()
            && at <= now
        {
            self.greetings.pop_first();
            let newcomer = self.newcomers.get(&member);
            for (vlan, version) in newcomer.map(|n| n.places.clone()).into_iter().flatten() {
                if self.asking.asks(now, vlan, version) {
                    self.ask(vlan, version, Some(member), None);
                }
            }
        }
        while let Some(&(at, group, member)) = self.doubts.first()
            && at <= now
        {
            self.doubts.pop_first();
            let version = Version::of(group.1);
            // Meanwhile it may be another one's to ask.
            if self.go_on(now, group, member, at) && self.asking.asks(now, group.0, version) {
                self.ask(group.0, version, Some(member), Some(group.1));
            }
        }
        self.pending.pop_front()
    }

    fn ask(&mut self, vlan: Fid, version: Version, to: Option<IfId>, group: Option<IpAddr>) {
        if let Some(src) = self.config.own(version) {
            self.pending.push_back(Question {
                vlan,
                to,
                src,
                interval: self.config.query_interval,
                group,
                response: match group {
                    None => RESPONSE,
                    Some(_) => LAST_MEMBER,
                },
            });
        }
    }

    /// The groups in which somebody is, with the members behind which they are.
    pub(crate) fn groups(&self, now: Instant) -> impl Iterator<Item = (Fid, IpAddr, Vec<IfId>)> {
        self.groups
            .iter()
            .filter_map(move |((vlan, group), members)| {
                let alive = members.iter().filter(|(_, known)| known.until > now);
                let alive: Vec<IfId> = alive.map(|(ifid, _)| *ifid).collect();
                (!alive.is_empty()).then_some((*vlan, *group, alive))
            })
    }

    /// The members that lead to routers, as far as they have said so.
    pub(crate) fn routers(&self, now: Instant) -> impl Iterator<Item = IfId> {
        let alive = self.routers.iter().filter(move |(_, until)| **until > now);
        alive.map(|((_, member), _)| *member)
    }

    /// True when it is the one that asks, in some VLAN.
    pub(crate) fn asks(&self, now: Instant) -> bool {
        self.asking.places(now).next().is_some()
    }

    /// What it holds.
    pub(crate) fn len(&self) -> usize {
        let members = self.groups.values().map(BTreeMap::len);
        members.sum::<usize>() + self.routers.len()
    }
}

/// True for groups in which hosts may be without saying so (RFC 4541 sections 2.1.2 (2) and 3). Of IPv6, these are
/// all groups of one link (RFC 4291 section 2.7): neighbours are discovered by them, and not all hosts report those.
fn is_for_all(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group.octets()[1] & 0xf == 2,
    }
}

#[cfg(test)]
mod tests;
