//! Loss on the wire, by one of the models of [`Loss`](config::Loss).

use super::config;
use crate::base::rng::Rng;

/// The loss stage.
#[derive(Debug)]
pub(crate) struct Loss {
    model: config::Loss,
    /// Gilbert-Elliott: in the bad state.
    bad: bool,
    /// Frames since a periodic model began.
    seen: u64,
    rng: Rng,
}

impl Loss {
    /// No loss, with the stage's own random stream.
    pub(crate) fn new(rng: Rng) -> Loss {
        Loss {
            model: config::Loss::None,
            bad: false,
            seen: 0,
            rng,
        }
    }

    /// Changes the model for frames to come. One that stays as it is goes on where it was.
    pub(crate) fn set(&mut self, model: config::Loss) {
        if model != self.model {
            self.model = model;
            self.bad = false;
            self.seen = 0;
        }
    }

    /// Decides about one frame.
    #[inline]
    pub(crate) fn loses(&mut self) -> bool {
        match &self.model {
            config::Loss::None => false,
            config::Loss::Random(p) => self.rng.chance(*p),
            config::Loss::GilbertElliott { p, r, h, k } => {
                let (loss, change) = if self.bad { (*k, *r) } else { (*h, *p) };
                let lost = self.rng.chance(loss);
                self.bad ^= self.rng.chance(change);
                lost
            }
            config::Loss::Every(n) => {
                self.seen += 1;
                self.seen.is_multiple_of(*n)
            }
            config::Loss::Trace(pattern) => {
                let at = (self.seen % pattern.len() as u64) as usize;
                self.seen += 1;
                pattern[at]
            }
        }
    }
}
