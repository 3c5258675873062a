//! Multicast snooping (RFC 4541): who behind which member is in which group, as the bridge reads from what hosts
//! and routers say; and the bridge's own questions, where no router asks.
//!
//! What is kept has the group's address of either version of IP; reading messages is [`read`]'s, which knows
//! IGMP. A group in which somebody is known goes to the members behind which they are and to those that lead to
//! routers, any other group everywhere, or to routers only, as configured. Nothing is woken for what is too old:
//! it is as good as not there, and its memory is given back when another group is learned.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | how a bridge snoops |
//! | [`read`] | what a frame says |

pub(crate) mod config;
pub(crate) mod read;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::config::Snooping;
use self::read::{Heard, Says};
use super::fdb::Fid;
use crate::base::deadline::Armed;
use crate::base::id::IfId;
use crate::base::time::{Duration, Instant};
use crate::packet::header::igmp::Query;

/// How long hosts may take to answer a general question (RFC 9776 section 8.3).
const RESPONSE: Duration = Duration::from_secs(10);
/// How long they may take after somebody has left a group (section 8.8).
const LAST_MEMBER: Duration = Duration::from_secs(1);
/// How often is asked before the answer is believed to be that there is nobody (section 8.1).
const ROBUSTNESS: u32 = 2;
/// How long a router is believed that speaks PIM (RFC 7761 section 4.11).
const PIM_HOLD: Duration = Duration::from_secs(105);
/// No more often is memory looked for when there is no room.
const PRUNE_PERIOD: Duration = Duration::from_secs(1);

/// What a bridge asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// In which VLAN.
    pub(crate) vlan: Fid,
    /// By which member; by all, when none is named.
    pub(crate) to: Option<IfId>,
    /// From which address.
    pub(crate) src: Ipv4Addr,
    /// How often it asks everybody.
    pub(crate) interval: Duration,
    /// What.
    pub(crate) query: Query,
}

/// What a bridge did about groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnoopingCounters {
    /// Questions of others that members brought in.
    pub queries_in: u64,
    /// The bridge's own questions.
    pub queries_out: u64,
    /// Reports that somebody is in a group, or has left it.
    pub reports: u64,
    /// Messages that could not be read, which were dropped.
    pub malformed: u64,
    /// Reports of groups for which there was no room.
    pub groups_full: u64,
}

/// Its part in asking, in one VLAN.
#[derive(Clone, Copy, Debug)]
struct Querier {
    /// Until when another one asks.
    other_until: Instant,
    /// When it asks next.
    next: Instant,
    /// How often it still asks at the shorter interval (RFC 9776 section 8.7).
    startup: u32,
}

/// What a bridge knows of groups.
pub(crate) struct Snooper {
    config: Snooping,
    /// Behind which members somebody is in a group, and until when that holds.
    groups: BTreeMap<(Fid, IpAddr), BTreeMap<IfId, Instant>>,
    /// Which members lead to routers, and until when that holds.
    routers: BTreeMap<(Fid, IfId), Instant>,
    queriers: BTreeMap<Fid, Querier>,
    /// What is to be asked now.
    pending: VecDeque<Question>,
    /// What is to be asked once more, and when, the earliest first.
    again: VecDeque<(Instant, Question)>,
    /// Until when groups go everywhere, because stations may be elsewhere.
    flood_until: Instant,
    prune_at: Instant,
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
    /// To those who are in it.
    Members(IpAddr),
    /// To routers.
    Routers,
}

impl Snooper {
    /// One that knows nothing yet.
    pub(super) fn new(config: Snooping) -> Snooper {
        Snooper {
            config,
            groups: BTreeMap::new(),
            routers: BTreeMap::new(),
            queriers: BTreeMap::new(),
            pending: VecDeque::new(),
            again: VecDeque::new(),
            flood_until: Instant::ZERO,
            prune_at: Instant::ZERO,
            is_stale: false,
            armed: Armed::default(),
            is_listed: false,
            counters: SnoopingCounters::default(),
        }
    }

    /// Changes how it works. What it knows stays.
    pub(super) fn set_config(&mut self, config: Snooping) {
        if config.querier != self.config.querier {
            self.queriers = BTreeMap::new();
        }
        self.config = config;
    }

    /// The VLANs in which it asks, from now on. It begins with those that are new.
    pub(super) fn ask_in(&mut self, now: Instant, vlans: &[Fid]) {
        self.queriers.retain(|vlan, _| vlans.contains(vlan));
        if self.config.querier.is_none() {
            return;
        }
        for vlan in vlans {
            self.queriers.entry(*vlan).or_insert(Querier {
                other_until: Instant::ZERO,
                next: now,
                startup: ROBUSTNESS,
            });
        }
    }

    /// How long a report holds (RFC 9776 section 8.4).
    fn membership(&self) -> Duration {
        self.config.query_interval * ROBUSTNESS + RESPONSE
    }

    /// How long another querier is waited for (section 8.5).
    fn other_querier(&self) -> Duration {
        self.config.query_interval * ROBUSTNESS + RESPONSE / 2
    }

    /// Notes what a member has brought in.
    pub(super) fn heard(&mut self, now: Instant, vlan: Fid, from: IfId, heard: &Heard) {
        match &heard.says {
            Says::Query { group, response } => {
                self.counters.queries_in += 1;
                let Some(router) = heard.from else {
                    // RFC 4541 section 2.1.1 (1) b: it is a switch that has no address.
                    return;
                };
                let until = now + self.other_querier();
                self.note_router(vlan, from, until);
                self.elect(now, vlan, router);
                if let Some(group) = group {
                    // RFC 9776 section 6.6.1: somebody has left it, and who is still there says so.
                    let response = (*response).max(LAST_MEMBER);
                    self.lower((vlan, *group), None, now + response * ROBUSTNESS);
                }
            }
            Says::Hello => self.note_router(vlan, from, now + PIM_HOLD),
            Says::Memberships(records) => {
                self.counters.reports += 1;
                for (group, is_member) in records {
                    // RFC 4541 section 2.1.2 (2): they go everywhere.
                    if is_link_local(*group) {
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

    fn note_router(&mut self, vlan: Fid, member: IfId, until: Instant) {
        let known = self.routers.entry((vlan, member)).or_insert(until);
        *known = until.max(*known);
    }

    /// RFC 9776 section 6.6.2: the one with the least address asks.
    fn elect(&mut self, now: Instant, vlan: Fid, other: IpAddr) {
        let until = now + self.other_querier();
        if let (Some(own), IpAddr::V4(other)) = (self.config.querier, other)
            && other < own
            && let Some(querier) = self.queriers.get_mut(&vlan)
        {
            (querier.other_until, querier.next, querier.startup) = (until, until, 0);
        }
    }

    fn join(&mut self, now: Instant, group: (Fid, IpAddr), from: IfId) {
        let until = now + self.membership();
        if !self.groups.contains_key(&group) && !self.has_room(now) {
            self.counters.groups_full += 1;
            return;
        }
        self.groups.entry(group).or_default().insert(from, until);
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let most = self.config.max_groups as usize;
        if self.groups.len() >= most && now >= self.prune_at {
            self.prune_at = now + PRUNE_PERIOD;
            self.groups.retain(|_, members| {
                members.retain(|_, until| *until > now);
                !members.is_empty()
            });
            self.routers.retain(|_, until| *until > now);
        }
        self.groups.len() < most
    }

    fn leave(&mut self, now: Instant, group: (Fid, IpAddr), from: IfId) {
        let soon = now + LAST_MEMBER * ROBUSTNESS;
        let Some(until) = self.groups.get(&group).and_then(|m| m.get(&from)) else {
            return;
        };
        if self.config.fast_leave.is_on() {
            if let Some(members) = self.groups.get_mut(&group) {
                members.remove(&from);
            }
            return;
        }
        // Whoever leaves again and again is not asked more often.
        let asks = self
            .queriers
            .get(&group.0)
            .is_some_and(|q| q.other_until <= now);
        if let (true, true, Some(src), IpAddr::V4(address)) =
            (asks, *until > soon, self.config.querier, group.1)
        {
            self.lower(group, Some(from), soon);
            let query = Query {
                group: Some(address),
                max_response: LAST_MEMBER,
                is_whole: true,
            };
            let question = self.question(group.0, Some(from), src, query);
            self.pending.push_back(question);
            if self.again.len() < self.config.max_groups as usize {
                self.again.push_back((now + LAST_MEMBER, question));
            }
        }
    }

    fn question(&self, vlan: Fid, to: Option<IfId>, src: Ipv4Addr, query: Query) -> Question {
        let interval = self.config.query_interval;
        Question {
            vlan,
            to,
            src,
            interval,
            query,
        }
    }

    /// What is known of a group, behind one member or all, holds no longer than that.
    fn lower(&mut self, group: (Fid, IpAddr), member: Option<IfId>, soon: Instant) {
        for (ifid, until) in self.groups.get_mut(&group).into_iter().flatten() {
            if member.is_none_or(|member| member == *ifid) {
                *until = soon.min(*until);
            }
        }
    }

    /// Nobody is behind a member any more.
    pub(super) fn forget(&mut self, member: IfId) {
        self.groups.retain(|_, members| {
            members.remove(&member);
            !members.is_empty()
        });
        self.routers.retain(|(_, ifid), _| *ifid != member);
    }

    /// To whom packets to a group go.
    pub(super) fn audience(&self, now: Instant, vlan: Fid, group: IpAddr) -> Audience {
        if is_link_local(group) || now < self.flood_until {
            return Audience::All;
        }
        let members = self.groups.get(&(vlan, group)).into_iter().flatten();
        let is_known = members.into_iter().any(|(_, until)| *until > now);
        match (is_known, self.config.unknown.is_on()) {
            (true, _) => Audience::Members(group),
            (false, true) => Audience::All,
            (false, false) => Audience::Routers,
        }
    }

    /// True when somebody behind a member is in a group.
    pub(super) fn is_member(&self, now: Instant, vlan: Fid, group: IpAddr, member: IfId) -> bool {
        let members = self.groups.get(&(vlan, group));
        let until = members.and_then(|m| m.get(&member));
        until.is_some_and(|until| *until > now)
    }

    /// True when a member leads to a router.
    pub(super) fn is_router(&self, now: Instant, vlan: Fid, member: IfId) -> bool {
        let until = self.routers.get(&(vlan, member));
        until.is_some_and(|until| *until > now)
    }

    /// When [`Snooper::poll`] has something to ask.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let queriers = self.queriers.values().map(|q| q.next);
        let again = self.again.front().map(|(at, _)| *at);
        queriers.chain(again).min()
    }

    /// The next question.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Question> {
        if std::mem::take(&mut self.is_stale) {
            // RFC 4541 section 2.1.1 (4): until all have been asked and have answered.
            self.flood_until = now + self.config.query_interval + RESPONSE;
            for querier in self.queriers.values_mut().filter(|q| q.other_until <= now) {
                querier.next = now;
            }
        }
        if self.again.front().is_some_and(|(at, _)| *at <= now) {
            let again = self.again.pop_front();
            self.pending.extend(again.map(|(_, question)| question));
        }
        if self.pending.is_empty()
            && let Some(src) = self.config.querier
            && let Some((vlan, querier)) = self.queriers.iter_mut().find(|(_, q)| q.next <= now)
        {
            let interval = match querier.startup {
                0 => self.config.query_interval,
                _ => self.config.query_interval / 4,
            };
            querier.startup = querier.startup.saturating_sub(1);
            querier.next = now + interval;
            let vlan = *vlan;
            let query = Query {
                group: None,
                max_response: RESPONSE,
                is_whole: true,
            };
            let question = self.question(vlan, None, src, query);
            self.pending.push_back(question);
        }
        let question = self.pending.pop_front();
        self.counters.queries_out += u64::from(question.is_some());
        question
    }

    /// The groups in which somebody is, with the members behind which they are.
    pub(crate) fn groups(&self, now: Instant) -> impl Iterator<Item = (Fid, IpAddr, Vec<IfId>)> {
        self.groups
            .iter()
            .filter_map(move |((vlan, group), members)| {
                let alive = members.iter().filter(|(_, until)| **until > now);
                let alive: Vec<IfId> = alive.map(|(ifid, _)| *ifid).collect();
                (!alive.is_empty()).then_some((*vlan, *group, alive))
            })
    }

    /// The members that lead to routers, as far as they have said so.
    pub(crate) fn routers(&self, now: Instant) -> impl Iterator<Item = (Fid, IfId)> {
        let alive = self.routers.iter().filter(move |(_, until)| **until > now);
        alive.map(|(key, _)| *key)
    }

    /// True when it is the one that asks, in some VLAN.
    pub(crate) fn asks(&self, now: Instant) -> bool {
        self.queriers.values().any(|q| q.other_until <= now)
    }

    /// What it holds.
    pub(crate) fn len(&self) -> usize {
        let members = self.groups.values().map(BTreeMap::len);
        members.sum::<usize>() + self.routers.len()
    }
}

/// True for groups in which all are without saying so (RFC 4541 sections 2.1.2 (2) and 3).
fn is_link_local(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    }
}

#[cfg(test)]
mod tests;
