//! Stochastic gradient descent, with and without momentum.

use crate::error::Result;
use crate::kernels::optimizer::{MomentumStep, SgdStep, WeightDecay};
use crate::nn::optimizers::update_rule::{Target, UpdateRule, check_number};

/// Gradient descent, with momentum if it is set: learning rate 0.01, momentum 0.
///
/// m = momentum * m - learning_rate * gradient; w = w + m; with Nesterov's momentum
/// w = w + momentum * m - learning_rate * gradient. m is 0 before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    pub(crate) learning_rate: f64,
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 0.01, momentum: 0.0, nesterov: false }
    }
}

impl Sgd {
    /// Sets the learning rate, at least 0.
    #[must_use]
    pub fn learning_rate(self, learning_rate: f64) -> Self {
        Self { learning_rate, ..self }
    }

    /// Sets the momentum, in 0..=1.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Chooses Nesterov's momentum.
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }
}

impl UpdateRule for Sgd {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self) -> Result<()> {
        check_number("momentum", self.momentum, "a number in 0..=1", |momentum| (0.0..=1.0).contains(&momentum))
    }

    fn slots(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    fn run(&self, step_size: f64, decay: WeightDecay, target: Target<'_>) {
        let learning_rate = step_size as f32;
        if self.momentum == 0.0 {
            return target.run(SgdStep { learning_rate, decay });
        }
        let (momentum, nesterov) = (self.momentum as f32, self.nesterov);
        target.run(MomentumStep { learning_rate, momentum, nesterov, decay });
    }

    #[cfg(feature = "safetensors")]
    fn describe(&self) -> Vec<(&'static str, String)> {
        vec![
            ("optimizer", "SGD".to_owned()),
            ("momentum", format!("{:?}", self.momentum)),
            ("nesterov", self.nesterov.to_string()),
        ]
    }
}
