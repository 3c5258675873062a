//! The connections of a vnet. One of which nothing is on its way, waits, or is due keeps only what it cannot do without
//! ([`Rest`]): a process may hold a million that are quiet most of the time.

use std::collections::VecDeque;
use std::ops::Deref;

use super::connection::{Connection, Listed, Owner, Rest};
use super::ids::{ConnId, FourTuple};
use super::options::Options;
use crate::base::slab::Slab;

/// Connections by identifier. To take a mutable reference to one that rests is to wake it; it has a turn then, and rests
/// again if it is still quiet.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Slab<ConnId, Place>,
    /// Those that may have something to send, in turn.
    ready: VecDeque<ConnId>,
}

#[derive(Debug)]
enum Place {
    Awake(Box<Connection>),
    Resting(Box<Rest>),
}

/// A connection to be looked at; of one that rests, a copy, which nobody waits for.
pub(super) enum Seen<'a> {
    Awake(&'a Connection),
    Copy(Box<Connection>),
}

impl Deref for Seen<'_> {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        match self {
            Seen::Awake(c) => c,
            Seen::Copy(c) => c,
        }
    }
}

impl Place {
    /// The connection, if it is awake.
    #[inline]
    fn awake(&self) -> Option<&Connection> {
        match self {
            Place::Awake(c) => Some(c),
            Place::Resting(_) => None,
        }
    }

    #[cold]
    fn woken(&mut self) -> Option<&mut Connection> {
        if let Place::Resting(rest) = self {
            let mut c = Box::new(rest.wake());
            c.listed = Listed::Last;
            *self = Place::Awake(c);
        }
        match self {
            Place::Awake(c) => Some(c),
            Place::Resting(_) => None,
        }
    }

    fn into_awake(self) -> Box<Connection> {
        match self {
            Place::Awake(c) => c,
            Place::Resting(mut rest) => Box::new(rest.wake()),
        }
    }

    #[inline]
    fn seen(&self) -> Seen<'_> {
        match self {
            Place::Awake(c) => Seen::Awake(c),
            Place::Resting(rest) => Seen::Copy(Box::new(rest.copy())),
        }
    }
}

impl Connections {
    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        self.places.insert(Place::Awake(Box::new(connection)))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        match self.places.get_mut(id)? {
            Place::Awake(c) => Some(c),
            resting => {
                self.ready.push_back(id);
                resting.woken()
            }
        }
    }

    /// One, with what notes whose turn it is.
    #[inline]
    pub(super) fn with_ready(
        &mut self,
        id: ConnId,
    ) -> Option<(&mut Connection, &mut VecDeque<ConnId>)> {
        match self.places.get_mut(id)? {
            Place::Awake(c) => Some((c, &mut self.ready)),
            resting => {
                self.ready.push_back(id);
                Some((resting.woken()?, &mut self.ready))
            }
        }
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    #[inline]
    pub(super) fn get(&self, id: ConnId) -> Option<Seen<'_>> {
        Some(self.places.get(id)?.seen())
    }

    /// Whether one has these ends.
    #[inline]
    pub(super) fn is_of(&self, id: ConnId, key: &FourTuple) -> bool {
        match self.places.get(id) {
            Some(Place::Awake(c)) => key.is_of(c.local, c.remote),
            Some(Place::Resting(rest)) => rest.is_of(key),
            None => false,
        }
    }

    /// The options of one.
    pub(super) fn options(&self, id: ConnId) -> Option<&Options> {
        Some(match self.places.get(id)? {
            Place::Awake(c) => &c.options,
            Place::Resting(rest) => rest.options(),
        })
    }

    /// One may rest, if it is quiet; or after its turn, if that is due.
    #[inline(never)]
    pub(super) fn rest(&mut self, id: ConnId) {
        let Some(place) = self.places.get_mut(id) else {
            return;
        };
        let Place::Awake(c) = place else {
            return;
        };
        if c.listed == Listed::Yes {
            c.listed = Listed::Last;
        }
        if !c.settle_to_rest() {
            return;
        }
        if cfg!(debug_assertions) {
            let before = format!("{c:?}");
            **c = c.rest().wake();
            assert_eq!(before, format!("{c:?}"), "rest changes nothing");
        }
        let rest = c.rest();
        *place = Place::Resting(Box::new(rest));
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        self.places.remove(id).map(Place::into_awake)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, Seen<'_>)> {
        self.places.iter().map(|(id, place)| (id, place.seen()))
    }

    /// Their identifiers.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.places.iter().map(|(id, _)| id)
    }

    /// Those that do not rest, which are all that hold data.
    pub(super) fn awake(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().filter_map(|(_, place)| place.awake())
    }

    /// How many a socket holds; all that rest are such.
    pub(super) fn held_by_sockets(&self) -> usize {
        let others = self.awake().filter(|c| c.owner != Owner::Socket).count();
        self.len() - others
    }

    /// Removes all.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Connection>> {
        self.ready = VecDeque::new();
        self.places.drain().map(|(_, place)| place.into_awake())
    }

    /// The room for turns.
    #[cfg(test)]
    pub(super) fn ready_room(&self) -> usize {
        self.ready.capacity()
    }

    /// How many rest.
    #[cfg(test)]
    pub(super) fn resting(&self) -> usize {
        self.len() - self.awake().count()
    }
}
