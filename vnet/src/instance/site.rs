//! Where in a program a call was made.

use std::panic::Location;

/// Where in a program a call was made.
pub(crate) type Site = &'static Location<'static>;

/// Where the caller of the calling function is.
#[track_caller]
pub(crate) fn here() -> Site {
    Location::caller()
}
