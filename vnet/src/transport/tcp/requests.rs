//! Answered connection requests, by age: lists linked through the records, so that one can be removed from anywhere in
//! constant time.

use super::ids::HalfId;
use super::listener::HalfOpen;
use crate::base::slab::Slab;

type Records = Slab<HalfId, Box<HalfOpen>>;

/// The neighbours of a record in one list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    older: Option<HalfId>,
    newer: Option<HalfId>,
}

/// Whose requests a list holds; the place of its links in a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    OneListener = 0,
    TheVnet = 1,
}

/// A list of requests.
#[derive(Debug)]
pub(super) struct Requests {
    of: Of,
    oldest: Option<HalfId>,
    newest: Option<HalfId>,
    len: usize,
}

impl Requests {
    pub(super) const fn new(of: Of) -> Requests {
        Requests {
            of,
            oldest: None,
            newest: None,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<HalfId> {
        self.oldest
    }

    /// Appends a record, which is in `records` and in no list of this kind.
    pub(super) fn push(&mut self, records: &mut Records, id: HalfId) {
        let links = Links {
            older: self.newest,
            newer: None,
        };
        self.set(records, Some(id), |l| *l = links);
        self.set(records, self.newest, |l| l.newer = Some(id));
        self.oldest.get_or_insert(id);
        self.newest = Some(id);
        self.len += 1;
    }

    /// Takes a record out that has just left `records`.
    pub(super) fn unlink(&mut self, records: &mut Records, record: &HalfOpen) {
        let Links { older, newer } = record.links[self.of as usize];
        self.set(records, older, |l| l.newer = newer);
        self.set(records, newer, |l| l.older = older);
        if older.is_none() {
            self.oldest = newer;
        }
        if newer.is_none() {
            self.newest = older;
        }
        self.len -= 1;
    }

    fn set(&self, records: &mut Records, id: Option<HalfId>, change: impl FnOnce(&mut Links)) {
        if let Some(record) = id.and_then(|id| records.get_mut(id)) {
            change(&mut record.links[self.of as usize]);
        }
    }
}
