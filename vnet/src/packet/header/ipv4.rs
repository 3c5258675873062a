//! IPv4 headers.
