//! Parts of a vnet that many vnets never use. A process may hold a hundred thousand vnets, so such a part is made when it is
//! changed for the first time. Until then whoever reads it sees one that is as good as new, and that all vnets share.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What can be made when it is needed. A shared reference must not allow to change anything in it: the one that nobody
/// uses is everybody's.
pub(crate) trait Part: Sized + 'static {
    /// A new one. Its randomness follows from the seed.
    fn seeded(seed: u64) -> Self;

    /// One that nobody has used, and nobody ever will.
    fn unused() -> &'static Self;
}

/// A part that is there from its first change on. To take a mutable reference is to change it: where there is nothing
/// to do on one that is not there, ask [`OnUse::made`] first.
pub(crate) struct OnUse<T: Part> {
    made: Option<Box<T>>,
    unused: &'static T,
    seed: u64,
}

impl<T: Part> OnUse<T> {
    /// One that is made from this seed, once it is used.
    pub(crate) fn new(seed: u64) -> OnUse<T> {
        OnUse {
            made: None,
            unused: T::unused(),
            seed,
        }
    }

    /// The part, if it was ever used.
    #[inline]
    pub(crate) fn made(&mut self) -> Option<&mut T> {
        self.made.as_deref_mut()
    }

    #[cold]
    fn make(&mut self) -> Box<T> {
        Box::new(T::seeded(self.seed))
    }
}

impl<T: Part> Deref for OnUse<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.made.as_deref().unwrap_or(self.unused)
    }
}

impl<T: Part> DerefMut for OnUse<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        if self.made.is_none() {
            self.made = Some(self.make());
        }
        self.made
            .as_deref_mut()
            .expect("it was made, if it was not there")
    }
}

impl<T: Part + fmt::Debug> fmt::Debug for OnUse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Dice(u64);

    impl Part for Dice {
        fn seeded(seed: u64) -> Dice {
            Dice(seed)
        }

        fn unused() -> &'static Dice {
            &Dice(0)
        }
    }

    #[test]
    fn it_is_made_with_the_first_change() {
        let mut dice = OnUse::<Dice>::new(6);
        assert_eq!(dice.made(), None);
        assert_eq!(*dice, Dice(0));
        dice.0 += 1;
        assert_eq!(dice.made(), Some(&mut Dice(7)));
        assert_eq!(*dice, Dice(7));
    }
}
