//! ARP headers.
