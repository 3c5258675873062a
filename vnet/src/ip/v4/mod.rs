//! What IPv4 alone does: its header (RFC 791), and what follows from it.
//!
//! | part | what it is |
//! |---|---|
//! | [`input`] | from the link: for us, for another, or for nobody |
//! | [`output`] | the header of our own packets; whole, in fragments, or too big |
//! | [`options`] | options that record where a packet has passed |
//! | [`fragment`] | cutting a packet into fragments |

pub(crate) mod fragment;
pub(crate) mod input;
pub(crate) mod link_local;
pub(crate) mod options;
pub(crate) mod output;
