//! Host TAP devices as ports of a vnet.
