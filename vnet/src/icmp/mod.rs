//! ICMP: answering echoes, telling senders what went wrong, and hearing it.
//!
//! | part | what it is |
//! |---|---|
//! | [`v4`] | the messages of IPv4 (RFC 792) |
//! | [`limit`] | how many errors a second |

pub(crate) mod limit;
pub(crate) mod v4;

pub(crate) use v4::{Icmp, Message, Quoted, Verdict, error, input, message};
