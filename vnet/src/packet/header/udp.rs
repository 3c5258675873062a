//! UDP headers.
