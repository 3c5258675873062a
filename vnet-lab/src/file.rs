//! A TOML file, read key by key: what topologies are read with.
//!
//! | part | what it is |
//! |---|---|
//! | `source` | places in the file, and problems shown there |
//! | `table` | a table of the file |
//! | `units` | rates, times, percentages, sizes |
//! | `name` | names of nodes and interfaces |
//!
//! Reading never stops at the first problem: what is wrong is noted with its place, and left out.

pub(crate) mod name;
pub(crate) mod source;
pub(crate) mod table;
pub(crate) mod units;
