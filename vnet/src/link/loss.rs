//! Loss on the wire.
//!
//! A model is a variant of `Model`: what it must remember between frames is in the variant.
//! Gilbert-Elliott, which loses in bursts, will be the second.

use crate::base::rng::Rng;

/// The loss stage.
#[derive(Debug)]
pub struct Loss {
    model: Model,
    rng: Rng,
}

/// How frames are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    /// Each frame by itself, with one probability.
    Bernoulli { probability: f64 },
}

impl Loss {
    /// No loss, with the stage's own random stream.
    pub fn new(rng: Rng) -> Loss {
        Loss {
            model: Model::Bernoulli { probability: 0.0 },
            rng,
        }
    }

    /// Changes the probability for frames to come.
    pub fn set(&mut self, probability: f64) {
        self.model = Model::Bernoulli { probability };
    }

    /// Decides about one frame.
    #[inline]
    pub fn loses(&mut self) -> bool {
        match self.model {
            Model::Bernoulli { probability } => self.rng.chance(probability),
        }
    }
}
