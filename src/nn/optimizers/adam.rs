//! Adam, and AdamW: Adam with weight decay.

use crate::error::Result;
use crate::kernels::optimizer::{AdamStep, WeightDecay};
use crate::nn::optimizers::update_rule::{Target, UpdateRule, check_number};

/// Adam: learning rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7.
///
/// m = m + (gradient - m) (1 - beta_1); v = v + (gradient² - v) (1 - beta_2); w = w - m alpha / (sqrt(v) +
/// epsilon), alpha = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t). t is the number of the step, from 1
/// on; m and v are 0 before the first. Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization"
/// (2015), with epsilon where Keras has it ("epsilon hat" in the paper).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    pub(crate) learning_rate: f64,
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 0.001, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }
}

impl Adam {
    /// Sets the learning rate, at least 0.
    #[must_use]
    pub fn learning_rate(self, learning_rate: f64) -> Self {
        Self { learning_rate, ..self }
    }

    /// Sets the decay rates of the first and second moment, each in 0..1.
    #[must_use]
    pub fn betas(self, beta_1: f64, beta_2: f64) -> Self {
        Self { beta_1, beta_2, ..self }
    }

    /// Sets epsilon, above 0.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }
}

impl UpdateRule for Adam {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn check(&self) -> Result<()> {
        let beta = |beta: f64| (0.0..1.0).contains(&beta);
        check_number("beta_1", self.beta_1, "a number in 0..1", beta)?;
        check_number("beta_2", self.beta_2, "a number in 0..1", beta)?;
        // Positive as f32 too: 0 would update a weight without gradients by 0 / 0.
        let expected = "a number that is finite and above 0 as f32";
        check_number("epsilon", self.epsilon, expected, |epsilon| epsilon as f32 > 0.0)
    }

    fn slots(&self) -> usize {
        2
    }

    /// Multiplies the powers beta_1^t and beta_2^t up step by step, since `powi` may differ between machines.
    fn step_size(&self, learning_rate: f64, powers: &mut [f64; 2]) -> f64 {
        powers[0] *= self.beta_1;
        powers[1] *= self.beta_2;
        learning_rate * (1.0 - powers[1]).sqrt() / (1.0 - powers[0])
    }

    fn run(&self, step_size: f64, decay: WeightDecay, target: Target<'_>) {
        target.run(AdamStep {
            alpha: step_size as f32,
            rate_1: (1.0 - self.beta_1) as f32,
            rate_2: (1.0 - self.beta_2) as f32,
            epsilon: self.epsilon as f32,
            decay,
        });
    }

    #[cfg(feature = "safetensors")]
    fn describe(&self) -> Vec<(&'static str, String)> {
        vec![
            ("optimizer", "Adam".to_owned()),
            ("beta_1", format!("{:?}", self.beta_1)),
            ("beta_2", format!("{:?}", self.beta_2)),
            ("epsilon", format!("{:?}", self.epsilon)),
        ]
    }
}

/// [`Adam`] with a [weight decay](crate::nn::Optimizer::weight_decay) of 0.004 unless another is set.
///
/// Nothing else differs: any optimizer can have a weight decay.
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub(crate) adam: Adam,
    pub(crate) weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { adam: Adam::default(), weight_decay: 0.004 }
    }
}

impl AdamW {
    /// Sets the learning rate, at least 0.
    #[must_use]
    pub fn learning_rate(self, learning_rate: f64) -> Self {
        Self { adam: self.adam.learning_rate(learning_rate), ..self }
    }

    /// Sets the decay rates of the first and second moment, each in 0..1.
    #[must_use]
    pub fn betas(self, beta_1: f64, beta_2: f64) -> Self {
        Self { adam: self.adam.betas(beta_1, beta_2), ..self }
    }

    /// Sets epsilon, above 0.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { adam: self.adam.epsilon(epsilon), ..self }
    }

    /// Sets the weight decay, at least 0.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}
