//! The storm limit: how many frames for everybody, for groups and for stations that nobody knows a member may
//! bring in, each by a token bucket.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Flood;
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
    /// Frames to groups, whether or not it is known who is in them.
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
    pub(super) fn admits(&mut self, now: Instant, why: Flood) -> bool {
        match why {
            Flood::Broadcast => self.broadcast.admits(now, FRAME),
            Flood::Multicast | Flood::Members(_) | Flood::Routers => {
                self.multicast.admits(now, FRAME)
            }
            Flood::Unknown => self.unknown.admits(now, FRAME),
            Flood::Any => true,
        }
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
        assert_eq!(passed(Flood::Broadcast, 0), 10);
        assert_eq!(passed(Flood::Unknown, 0), 3);
        assert_eq!(passed(Flood::Multicast, 0), 100);
        assert_eq!(passed(Flood::Any, 0), 100);
        // What was dropped has cost nothing.
        assert_eq!(passed(Flood::Broadcast, 99), 0);
        assert_eq!(passed(Flood::Broadcast, 100), 1);
        assert_eq!(passed(Flood::Broadcast, 10_000), 10);
    }
}
