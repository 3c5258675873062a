//! The Internet checksum (RFC 1071) over a packet's pieces.
