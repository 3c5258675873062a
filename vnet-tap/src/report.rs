//! What a pump has carried, and how it ended.

use std::fmt;
use std::io;

/// How a pump ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum PumpEnd {
    /// It was stopped.
    Detached,
    /// The vnet, or the interface in it, was destroyed.
    PortGone,
    /// The other end of the socket was closed.
    Closed,
    /// The device failed, most often because the host's interface was deleted; or the socket failed, or
    /// a guest sent what no guest sends ([`io::ErrorKind::InvalidData`]).
    Device(io::Error),
}

/// What a TAP or a guest's socket carried. Of a TUN, the frames about the link that the vnet sends, such as ARP, and the
/// answers that it gets to them count as well, though the host sees neither.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PumpReport {
    /// Frames read from the host or the guest.
    pub frames_in: u64,
    /// Frames written to the host or the guest. Datagrams that were joined are one frame, here and in `drops`.
    pub frames_out: u64,
    /// Frames that one side sent and the other refused: too short or too long, there was no room in the
    /// queue towards the host or the guest, the vnet was gone, or the host's interface was down or out
    /// of memory. At the end, also those that were still in the queue. A frame for which the vnet's own queue
    /// has no room is counted there, not here.
    pub drops: u64,
    /// How often the pump was woken. It does not increase while nothing is sent, but for a card by AF_XDP, which is looked
    /// at twice a second.
    pub wakeups: u64,
    /// Queues by which frames came in so far: of a line that has several, those that are in use.
    pub queues_in: u32,
    /// Queues that frames went out to so far.
    pub queues_out: u32,
    /// How the pump ended; `None` in a report from while it runs.
    pub end: Option<PumpEnd>,
}

impl PumpReport {
    /// Adds what another pump carried. Of several that failed, the first says why.
    pub(crate) fn add(&mut self, other: PumpReport) {
        let PumpReport {
            frames_in,
            frames_out,
            drops,
            wakeups,
            queues_in,
            queues_out,
            end,
        } = other;
        if self.end.is_none() && matches!(end, Some(PumpEnd::Device(_))) {
            self.end = end;
        }
        self.frames_in += frames_in;
        self.frames_out += frames_out;
        self.drops += drops;
        self.wakeups += wakeups;
        self.queues_in += queues_in;
        self.queues_out += queues_out;
    }
}

impl fmt::Display for PumpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames in, {} out, {} dropped",
            self.frames_in, self.frames_out, self.drops
        )?;
        match &self.end {
            None | Some(PumpEnd::Detached) => Ok(()),
            Some(PumpEnd::PortGone) => f.write_str("; the vnet's end went away"),
            Some(PumpEnd::Closed) => f.write_str("; the other end was closed"),
            Some(PumpEnd::Device(e)) => write!(f, "; the device failed: {e}"),
        }
    }
}
