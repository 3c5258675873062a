//! Who waits for a socket. A waiter is a [`Waker`], whether it is a future or a blocked thread.
//!
//! A waker does not tell when its waiter is gone, such as a dropped future or a thread whose timeout has expired. Its
//! registration would stay until the next event, which may never come. So a queue has limited room, and when it is full,
//! all its wakers are woken as if there were an event. Waiters that are still there register again; the others are
//! forgotten. If many register again, the queue gets more room. So its size stays within a constant factor of the number
//! of live waiters, and registering costs the same however many are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use crate::base::callback;
use crate::packet::Out;

/// Waiters that are looked through one by one.
const FEW: usize = 8;
/// Waiters for which every queue has room.
const ROOM: usize = 1024;
/// There is more room when one in so many comes back of those who were woken to make room.
const MANY: usize = 16;

/// Waiters for one condition of one socket, woken in the order in which they came. Mostly there is one at most.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// Not there when there are no others, either.
    first: Option<Waker>,
    /// Made with the second.
    others: Option<Box<Others>>,
}

/// Those who came after the first.
#[derive(Debug, Default)]
struct Others {
    waiters: Vec<Waker>,
    crowd: Option<Crowd>,
}

/// What a queue knows of its waiters when they are many.
#[derive(Debug)]
struct Crowd {
    /// Who is in the queue. For looking up only: addresses have no order that means anything.
    known: BTreeSet<Address>,
    /// Who was woken to make room, the last time; they stay alive, so that nobody else has their
    /// address.
    asked: BTreeMap<Address, Waker>,
    /// How many of those came back.
    returned: usize,
    room: usize,
}

/// Two wakers with the same one wake the same.
type Address = (usize, usize);

fn address(waker: &Waker) -> Address {
    (
        waker.data().addr(),
        std::ptr::from_ref(waker.vtable()).addr(),
    )
}

impl WaitQueue {
    /// Adds a waiter, unless it waits here already. Others may be woken for nothing.
    #[inline]
    pub(crate) fn register(&mut self, out: &mut Out, waker: &Waker) {
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) => self.register_behind(out, waker),
        }
    }

    /// Adds one that is not the first.
    fn register_behind(&mut self, out: &mut Out, waker: &Waker) {
        let others = self.others.get_or_insert_default();
        if 1 + others.waiters.len() >= FEW {
            self.register_in_crowd(out, waker);
        } else if !others.waiters.iter().any(|w| w.will_wake(waker)) {
            others.waiters.push(waker.clone());
        }
    }

    fn register_in_crowd(&mut self, out: &mut Out, waker: &Waker) {
        let Others { waiters, crowd } = &mut **self.others.get_or_insert_default();
        let crowd = crowd.get_or_insert_with(Crowd::new);
        let here = 1 + waiters.len();
        if crowd.known.len() != here {
            let all = self.first.iter().chain(waiters.iter());
            crowd.known.extend(all.map(address));
        }
        let address = address(waker);
        if !crowd.known.insert(address) {
            return;
        }
        if crowd.asked.remove(&address).is_some() {
            crowd.returned += 1;
        }
        if here >= crowd.room {
            crowd.ask(self.first.take().into_iter().chain(waiters.drain(..)), out);
            crowd.known.insert(address);
        }
        match self.first {
            None => self.first = Some(waker.clone()),
            Some(_) => waiters.push(waker.clone()),
        }
    }

    /// Wakes everyone, once the vnet's lock is released.
    #[inline]
    pub(crate) fn wake(&mut self, out: &mut Out) {
        out.wakes.extend(self.first.take());
        if let Some(others) = &mut self.others {
            others.wake(out);
        }
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Others {
    fn wake(&mut self, out: &mut Out) {
        out.wakes.append(&mut self.waiters);
        if let Some(crowd) = &mut self.crowd {
            crowd.known.clear();
            crowd.let_go(out);
        }
    }
}

impl Crowd {
    fn new() -> Crowd {
        Crowd {
            known: BTreeSet::new(),
            asked: BTreeMap::new(),
            returned: 0,
            room: ROOM,
        }
    }

    /// Wakes `waiters` to make room for others, and gives more room when there were many among
    /// those of the last time who came back, or less.
    fn ask(&mut self, waiters: impl Iterator<Item = Waker>, out: &mut Out) {
        let asked = self.asked.len() + self.returned;
        self.room = match self.returned {
            0 if asked > 0 => ROOM,
            returned if returned * MANY >= asked && asked > 0 => self.room * 2,
            _ => self.room,
        };
        self.known.clear();
        self.let_go(out);
        for waker in waiters {
            self.asked.insert(address(&waker), waker.clone());
            out.wakes.push(waker);
        }
    }

    /// Lets those go who were asked: where no lock is held, by being woken once more.
    fn let_go(&mut self, out: &mut Out) {
        out.wakes
            .extend(std::mem::take(&mut self.asked).into_values());
        self.returned = 0;
    }
}

impl Drop for WaitQueue {
    /// Nobody waits for ever for a socket that is no more. A socket that is closed, or torn down,
    /// has woken everyone; one that goes with a stack that has failed does it here, without the
    /// vnet's lock.
    fn drop(&mut self) {
        let others = self.others.take().map(|others| *others);
        let Others { waiters, crowd } = others.unwrap_or_default();
        let asked = crowd.map(|crowd| crowd.asked).unwrap_or_default();
        let first = self.first.take().into_iter();
        for waker in first.chain(waiters).chain(asked.into_values()) {
            callback::contained("a waker", || waker.wake());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiter() -> (Arc<Counts>, Waker) {
        let counts = Arc::new(Counts::default());
        (Arc::clone(&counts), Waker::from(counts))
    }

    fn wake_all(out: &mut Out) {
        out.wakes.drain(..).for_each(Waker::wake);
    }

    fn waiting(queue: &WaitQueue) -> impl Iterator<Item = &Waker> {
        let others = queue.others.iter().flat_map(|others| &others.waiters);
        queue.first.iter().chain(others)
    }

    fn held(queue: &WaitQueue) -> usize {
        let crowd = queue.others.as_ref().and_then(|o| o.crowd.as_ref());
        waiting(queue).count() + crowd.map_or(0, |crowd| crowd.asked.len())
    }

    #[test]
    fn who_registers_again_is_there_once() {
        let (mut queue, mut out) = (WaitQueue::default(), Out::default());
        let waiters: Vec<_> = (0..3 * FEW).map(|_| waiter()).collect();
        for _ in 0..100 {
            for (_, waker) in &waiters {
                queue.register(&mut out, waker);
            }
        }
        assert_eq!((held(&queue), out.wakes.len()), (waiters.len(), 0));
        queue.wake(&mut out);
        let order: Vec<bool> = out
            .wakes
            .iter()
            .zip(&waiters)
            .map(|(w, (_, waiter))| w.will_wake(waiter))
            .collect();
        assert_eq!(order, vec![true; waiters.len()]);
        wake_all(&mut out);
        assert!(
            waiters
                .iter()
                .all(|(n, _)| n.0.load(Ordering::Relaxed) == 1)
        );
        assert!(queue.is_empty());
    }

    /// Whoever is gone is forgotten, and one who waits beside them is not.
    #[test]
    fn waiters_that_are_gone_are_forgotten() {
        let (mut queue, mut out) = (WaitQueue::default(), Out::default());
        let (woken, lasting) = waiter();
        let mut seen = 0;
        queue.register(&mut out, &lasting);
        for _ in 0..100_000 {
            queue.register(&mut out, &waiter().1);
            wake_all(&mut out);
            let now = woken.0.load(Ordering::Relaxed);
            if now > std::mem::replace(&mut seen, now) {
                queue.register(&mut out, &lasting);
            }
            assert!(held(&queue) <= 2 * ROOM, "{}", held(&queue));
        }
        assert!(seen > 0);
        let here = |w: &Waker| w.will_wake(&lasting);
        assert_eq!(waiting(&queue).filter(|w| here(w)).count(), 1);
        queue.wake(&mut out);
        assert!(out.wakes.iter().any(here));
    }

    /// More waiters than there is room for at first get as much as they need.
    #[test]
    fn those_who_come_back_get_room() {
        let (mut queue, mut out) = (WaitQueue::default(), Out::default());
        let waiters: Vec<_> = (0..ROOM + ROOM / 2).map(|_| waiter()).collect();
        let mut seen = vec![0; waiters.len()];
        let mut ready: VecDeque<usize> = (0..waiters.len()).collect();
        let mut registrations = 0;
        while !ready.is_empty() {
            while let Some(n) = ready.pop_front() {
                registrations += 1;
                queue.register(&mut out, &waiters[n].1);
            }
            wake_all(&mut out);
            for (n, (woken, _)) in waiters.iter().enumerate() {
                let now = woken.0.load(Ordering::Relaxed);
                if now > std::mem::replace(&mut seen[n], now) {
                    ready.push_back(n);
                }
            }
        }
        assert_eq!(waiting(&queue).count(), waiters.len());
        assert!(registrations < 10 * ROOM, "{registrations}");
    }
}
