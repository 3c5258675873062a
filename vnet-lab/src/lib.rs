//! Topologies from files.
