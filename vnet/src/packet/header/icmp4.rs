//! ICMPv4 headers.
