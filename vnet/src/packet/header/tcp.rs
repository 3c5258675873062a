//! TCP headers.
