//! Parts of a vnet that most entries leave as they are. Taken to be changed, a part is marked; so the end of an entry need
//! not look at one that is not, and nobody who changes one has to say so.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// A part with its mark.
pub(crate) struct Marked<T> {
    part: T,
    is_marked: bool,
}

impl<T> Marked<T> {
    /// One that is not marked.
    pub(crate) const fn new(part: T) -> Marked<T> {
        Marked {
            part,
            is_marked: false,
        }
    }

    /// The part, for those who change it with nearly every packet, but nothing in it that the end of an entry looks at.
    #[inline]
    pub(crate) fn quietly(&mut self) -> &mut T {
        &mut self.part
    }

    /// True when it was taken to be changed since [`Marked::clear`].
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// It was looked at.
    pub(crate) fn clear(&mut self) {
        self.is_marked = false;
    }
}

impl<T> Deref for Marked<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.part
    }
}

impl<T> DerefMut for Marked<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_marked = true;
        &mut self.part
    }
}

impl<T: fmt::Debug> fmt::Debug for Marked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_it_to_be_changed_marks_it() {
        let mut list = Marked::new(vec![1]);
        assert_eq!(list.len(), 1);
        list.quietly().push(2);
        assert!(!list.is_marked());
        list.push(3);
        assert!(list.is_marked());
        list.clear();
        assert!(!list.is_marked() && *list == [1, 2, 3]);
    }
}
