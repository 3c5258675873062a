//! What the library logs through `tracing`, and where a vnet keeps its messages.
//!
//! | target | what is logged |
//! |---|---|
//! | [`LIFECYCLE`] | instances created and destroyed; failures |
//! | [`CONFIG`] | each change of configuration, at level DEBUG |
//! | [`SERVICE`] | a span around each service of a vnet, at level TRACE |
//!
//! Events and spans that are about one vnet have a field `vnet` with its full name. An event above
//! DEBUG, and every event about configuration, is emitted without any lock being held.
//!
//! [`MessageBuffer`] keeps lines; [`MessageLayer`](crate::MessageLayer), which knows which vnet is
//! current, puts them there.

mod buffer;

pub(crate) use buffer::Line;
pub(crate) use buffer::{Message, MessageBuffer, Messages};

/// Instances are created and destroyed.
pub(crate) const LIFECYCLE: &str = "vnet::lifecycle";
/// The configuration of an instance changes.
pub(crate) const CONFIG: &str = "vnet::config";
/// An instance processes what is due.
pub(crate) const SERVICE: &str = "vnet::service";
