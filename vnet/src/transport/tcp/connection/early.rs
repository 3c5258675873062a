//! What a connection knows that is opened fast (RFC 7413); see `opening`.

use crate::packet::header::FastOpenCookie;
use crate::transport::tcp::ecn::Ecn;
use crate::transport::tcp::ids::ListenerId;

/// How a connection is to be opened that may be fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport::tcp) enum Opening {
    /// The peer has eaten such SYNs: as if the option were not set.
    Plain,
    /// A cookie is asked for.
    Asks,
    /// With data beside the cookie, for a peer that takes segments of so many bytes.
    Sends(FastOpenCookie, u16),
}

/// What a connection that is opened fast knows until it is open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Early {
    /// The SYN asks for a cookie.
    Asks,
    /// The SYN has a cookie, and data if there is some; of that, so many bytes have left.
    Sends {
        cookie: FastOpenCookie,
        mss: u16,
        sent: u32,
    },
    /// The SYN was answered.
    Answered(Learnt),
    /// The peer's SYN had data that was taken; our answer has this cookie, and these flags.
    Accepted {
        fresh: Option<FastOpenCookie>,
        ecn: Ecn,
        listener: ListenerId,
        /// The SYN came again, so which answer is acknowledged is not known.
        is_answered_twice: bool,
    },
}

/// How an attempt to open fast went.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::tcp) struct Learnt {
    pub(in crate::transport::tcp) cookie: Option<FastOpenCookie>,
    /// The segment size that the peer asked for.
    pub(in crate::transport::tcp) mss: u16,
    /// The SYN had to be sent without the option before there was an answer.
    pub(in crate::transport::tcp) was_lost: bool,
    /// The peer has taken data of the SYN.
    pub(in crate::transport::tcp) was_taken: bool,
}
