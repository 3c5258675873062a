//! Writing captures in the pcapng format.
