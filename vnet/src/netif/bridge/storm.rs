//! The storm limit: how many frames for everybody, for groups and for stations that nobody knows a member may
//! bring in, each by a token bucket.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::base::time::Instant;
use crate::link::bucket::Bucket;

/// How many frames a second that go to many a member may bring in, by kind; others are dropped as
/// `rate-limited`. No limit by default. Those of a second may come at once. A large segment counts as one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StormLimits {
    /// Broadcasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<NonZeroU32>,
    /// Frames to groups, whether or not their members are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast: Option<NonZeroU32>,
    /// Frames to stations that the bridge does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<NonZeroU32>,
}

impl StormLimits {
    /// True when there is no limit.
    pub(crate) fn is_default(&self) -> bool {
        *self == StormLimits::default()
    }
}

/// Of which kind a frame is that goes to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StormKind {
    /// It is for everybody.
    Broadcast,
    /// It is for a group.
    Multicast,
    /// Nobody knows where its station is.
    Unknown,
}

/// The buckets of a member.
#[derive(Debug, Default)]
pub(super) struct Storm {
    broadcast: Bucket,
    multicast: Bucket,
    unknown: Bucket,
}

/// Of one frame, in the unit of buckets that count bytes.
const FRAME: usize = 1;

impl Storm {
    /// Sets the limits for frames to come.
    pub(super) fn set(&mut self, limits: &StormLimits) {
        let StormLimits {
            broadcast,
            multicast,
            unknown,
        } = limits;
        for (bucket, limit) in [
            (&mut self.broadcast, broadcast),
            (&mut self.multicast, multicast),
            (&mut self.unknown, unknown),
        ] {
            let frames = limit.map(|n| u64::from(n.get()));
            bucket.set(frames.map(|n| (8 * n, n)));
        }
    }

    /// Whether a frame that goes to many may come in.
    pub(super) fn admits(&mut self, now: Instant, kind: StormKind) -> bool {
        let bucket = match kind {
            StormKind::Broadcast => &mut self.broadcast,
            StormKind::Multicast => &mut self.multicast,
            StormKind::Unknown => &mut self.unknown,
        };
        bucket.admits(now, FRAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;

    #[test]
    fn each_kind_has_its_own_limit() {
        let mut storm = Storm::default();
        storm.set(&StormLimits {
            broadcast: NonZeroU32::new(10),
            unknown: NonZeroU32::new(3),
            ..StormLimits::default()
        });
        let mut passed = |why, at: u64| {
            let now = Instant::ZERO + Duration::from_millis(at);
            (0..100).filter(|_| storm.admits(now, why)).count()
        };
        assert_eq!(passed(StormKind::Broadcast, 0), 10);
        assert_eq!(passed(StormKind::Unknown, 0), 3);
        assert_eq!(passed(StormKind::Multicast, 0), 100);
        // What was dropped has cost nothing.
        assert_eq!(passed(StormKind::Broadcast, 99), 0);
        assert_eq!(passed(StormKind::Broadcast, 100), 1);
        assert_eq!(passed(StormKind::Broadcast, 10_000), 10);
    }
}
