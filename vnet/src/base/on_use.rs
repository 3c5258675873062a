//! Parts of a vnet that many vnets never use. A process may hold a hundred thousand vnets, so such a part is made when it is
//! changed for the first time. Until then whoever reads it sees one that is as good as new, and that all vnets share.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What can be made when it is needed. A shared reference must not allow to change anything in it: the one that nobody
/// uses is everybody's.
pub(crate) trait Part: Sized + 'static {
    /// What its randomness follows from: a number that was drawn when the vnet was made, or nothing.
    type Seed: Copy;

    /// A new one.
    fn seeded(seed: Self::Seed) -> Self;

    /// One that nobody has used, and nobody ever will.
    fn unused() -> &'static Self;
}

/// Makes a [`Part`] of a type without randomness, of which each new one is this: a `const`, or made when it is needed.
macro_rules! part {
    ($part:ty, const $new:expr) => {
        $crate::base::on_use::part!(@ $part, $new, $part, $new);
    };
    ($part:ty, $new:expr) => {
        $crate::base::on_use::part!(@ $part, $new, std::sync::LazyLock<$part>, std::sync::LazyLock::new(|| $new));
    };
    (@ $part:ty, $new:expr, $kept:ty, $unused:expr) => {
        impl $crate::base::on_use::Part for $part {
            type Seed = ();

            fn seeded((): ()) -> $part {
                $new
            }

            fn unused() -> &'static $part {
                static UNUSED: $kept = $unused;
                &UNUSED
            }
        }
    };
}

pub(crate) use part;

/// A part that is there from its first change on. To take a mutable reference is to change it: where there is nothing
/// to do on one that is not there, ask [`OnUse::made`] first.
pub(crate) struct OnUse<T: Part> {
    made: Option<Box<T>>,
    seed: T::Seed,
}

impl<T: Part> OnUse<T> {
    /// One that is made from this seed, once it is used.
    pub(crate) const fn new(seed: T::Seed) -> OnUse<T> {
        OnUse { made: None, seed }
    }

    /// The part, if it was ever used.
    #[inline]
    pub(crate) fn made(&mut self) -> Option<&mut T> {
        self.made.as_deref_mut()
    }

    /// The part to be looked at, if it was ever used. Where one that nobody has used has nothing to say, this takes less
    /// than to look at that one.
    #[inline]
    pub(crate) fn used(&self) -> Option<&T> {
        self.made.as_deref()
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
        match &self.made {
            Some(made) => made,
            None => T::unused(),
        }
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

impl<T: Part<Seed = ()>> Default for OnUse<T> {
    fn default() -> OnUse<T> {
        OnUse::new(())
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
        type Seed = u64;

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
        assert_eq!(dice.used(), None);
        assert_eq!(*dice, Dice(0));
        dice.0 += 1;
        assert_eq!(dice.made(), Some(&mut Dice(7)));
        assert_eq!(*dice, Dice(7));
    }
}
