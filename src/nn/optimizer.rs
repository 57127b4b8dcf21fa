//! SGD, Adam and AdamW with Keras' defaults and formulation.
//!
//! Hyperparameters are `f64`: 1 - 0.999 taken in `f32` would be off by 5e-5. A moment (m or v below)
//! whose magnitude falls below 2^-100 becomes 0, where it would in the end become subnormal and slow.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernels::optimizer as kernels;

/// Gradient descent, with momentum if asked for: learning rate 0.01, momentum 0.
///
/// m = momentum * m - learning_rate * gradient; w = w + m; with Nesterov's momentum
/// w = w + momentum * m - learning_rate * gradient.
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
    /// Sets the learning rate.
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

/// Adam: learning rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7.
///
/// m = m + (gradient - m) (1 - beta_1); v = v + (gradient² - v) (1 - beta_2);
/// w = w - m alpha / (sqrt(v) + epsilon), alpha = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t).
/// Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), with epsilon where
/// Keras has it ("epsilon hat" in the paper).
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
    /// Sets the learning rate.
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

/// Adam with decoupled weight decay, 0.004 unless set: w = w - w weight_decay learning_rate before
/// each of [`Adam`]'s updates, for kernels and biases alike.
///
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
    /// Sets the learning rate.
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

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

/// Any optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// See [`Sgd`].
    Sgd(Sgd),
    /// See [`Adam`].
    Adam(Adam),
    /// See [`AdamW`].
    AdamW(AdamW),
}

impl From<Sgd> for Optimizer {
    fn from(optimizer: Sgd) -> Self {
        Self::Sgd(optimizer)
    }
}
impl From<Adam> for Optimizer {
    fn from(optimizer: Adam) -> Self {
        Self::Adam(optimizer)
    }
}
impl From<AdamW> for Optimizer {
    fn from(optimizer: AdamW) -> Self {
        Self::AdamW(optimizer)
    }
}

impl Optimizer {
    /// The learning rate.
    pub fn rate(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate,
            Self::Adam(adam) | Self::AdamW(AdamW { adam, .. }) => adam.learning_rate,
        }
    }

    pub(super) fn with_rate(self, rate: f64) -> Self {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate(rate).into(),
            Self::Adam(adam) => adam.learning_rate(rate).into(),
            Self::AdamW(adamw) => adamw.learning_rate(rate).into(),
        }
    }

    /// Checks every hyperparameter.
    pub(crate) fn check(&self) -> Result<()> {
        in_range("learning_rate", self.rate(), "a number that is finite as f32, at least 0", |rate| rate >= 0.0)?;
        match self {
            Self::Sgd(sgd) => in_range("momentum", sgd.momentum, "a number in 0..=1", |m| (0.0..=1.0).contains(&m)),
            Self::Adam(adam) => adam.check(),
            Self::AdamW(AdamW { adam, weight_decay }) => {
                adam.check()?;
                in_range("weight_decay", *weight_decay, "a number that is finite as f32, at least 0", |decay| {
                    decay >= 0.0
                })
            }
        }
    }
}

impl Adam {
    fn check(&self) -> Result<()> {
        let beta = |beta: f64| (0.0..1.0).contains(&beta);
        in_range("beta_1", self.beta_1, "a number in 0..1", beta)?;
        in_range("beta_2", self.beta_2, "a number in 0..1", beta)?;
        // As the kernels see it: 0 would make 0 / 0 of a weight without gradients.
        in_range("epsilon", self.epsilon, "a number that is finite and above 0 as f32", |epsilon| epsilon as f32 > 0.0)
    }
}

/// Checks a number as the `f32` that the kernels will see.
fn in_range(argument: &'static str, found: f64, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<()> {
    let fits = (found as f32).is_finite() && accepts(found);
    if fits { Ok(()) } else { Err(Error::value(argument, expected, found)) }
}

/// An optimizer and what it remembers between steps.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) optimizer: Optimizer,
    /// Momentum, or the first moment; empty for plain descent.
    pub(super) first: Vec<f32>,
    /// The second moment; empty for SGD.
    pub(super) second: Vec<f32>,
    /// beta_1^t and beta_2^t after t steps, by repeated products: `powi` may differ between machines.
    powers: [f64; 2],
}

impl State {
    pub(super) fn new(optimizer: Optimizer, parameters: usize) -> Self {
        let (first, second) = match optimizer {
            Optimizer::Sgd(sgd) => (if sgd.momentum == 0.0 { 0 } else { parameters }, 0),
            Optimizer::Adam(_) | Optimizer::AdamW(_) => (parameters, parameters),
        };
        Self { optimizer, first: vec![0.0; first], second: vec![0.0; second], powers: [1.0; 2] }
    }

    /// Begins the next step: what it does to each parameter.
    pub(super) fn next_step(&mut self) -> Update {
        let (adam, weight_decay) = match self.optimizer {
            Optimizer::Sgd(sgd) => {
                return Update::Sgd(kernels::SgdStep {
                    learning_rate: sgd.learning_rate as f32,
                    momentum: sgd.momentum as f32,
                    nesterov: sgd.nesterov,
                });
            }
            Optimizer::Adam(adam) => (adam, None),
            Optimizer::AdamW(AdamW { adam, weight_decay }) => (adam, Some(weight_decay)),
        };
        self.powers[0] *= adam.beta_1;
        self.powers[1] *= adam.beta_2;
        let [power_1, power_2] = self.powers;
        Update::Adam(kernels::AdamStep {
            alpha: (adam.learning_rate * (1.0 - power_2).sqrt() / (1.0 - power_1)) as f32,
            rate_1: (1.0 - adam.beta_1) as f32,
            rate_2: (1.0 - adam.beta_2) as f32,
            epsilon: adam.epsilon as f32,
            decay: weight_decay.map(|decay| (decay * adam.learning_rate) as f32),
        })
    }
}

/// One step of an optimizer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Update {
    Sgd(kernels::SgdStep),
    Adam(kernels::AdamStep),
}

impl Update {
    /// Updates parameters `w` by their gradients `dw`. Their moments `m` and `v` are as long, or empty where the
    /// optimizer has none.
    pub(super) fn run(self, backend: &Backend, w: &mut [f32], dw: &[f32], m: &mut [f32], v: &mut [f32]) {
        match self {
            Self::Sgd(step) => backend.run(w.len() / SGD_SPEED, UNIT, kernels::Sgd { step, w, dw, m }),
            Self::Adam(step) => backend.run(w.len() / ADAM_SPEED, UNIT, kernels::Adam { step, w, dw, m, v }),
        }
    }
}

/// Parameters a nanosecond, about, of plain descent.
const SGD_SPEED: usize = 8;
/// Parameters a nanosecond, about, of Adam.
const ADAM_SPEED: usize = 3;
/// Parameters that a thread takes at a time: a page, so that no cache line is shared.
const UNIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::{Isa, Threads};

    /// Deterministic values of many magnitudes, below the least moment too.
    fn values(seed: u32) -> Vec<f32> {
        let value = |i: u32| {
            let bits = (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8;
            (bits as f32 / 8_388_608.0 - 1.0) * 10f32.powi(-((i % 40) as i32))
        };
        (0..1000).map(value).collect()
    }

    #[test]
    fn updates_have_the_bits_of_the_reference() {
        let adam = Adam::default().learning_rate(0.03).betas(0.7, 0.99).epsilon(1e-4);
        let sgd = Sgd::default().learning_rate(0.03);
        let optimizers: [Optimizer; 5] = [
            sgd.into(),
            sgd.momentum(0.8).into(),
            sgd.momentum(0.8).nesterov(true).into(),
            adam.into(),
            AdamW { adam, weight_decay: 0.3 }.into(),
        ];
        for optimizer in optimizers {
            for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
                let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
                let (mut w, mut m, mut v) = (values(1), values(2), values(3));
                v.iter_mut().for_each(|v| *v = v.abs());
                let mut state = State::new(optimizer, w.len());
                let (remembered, squares) = (!state.first.is_empty(), !state.second.is_empty());
                if remembered {
                    state.first.copy_from_slice(&m);
                }
                if squares {
                    state.second.copy_from_slice(&v);
                }
                let mut found = w.clone();
                for t in 1..=4 {
                    // Every third weight gets no gradient.
                    let mut dw = values(3 + t);
                    dw.iter_mut().step_by(3).for_each(|dw| *dw = 0.0);
                    let update = state.next_step();
                    update.run(&backend, &mut found, &dw, &mut state.first, &mut state.second);
                    reference::update(optimizer, t, &mut w, &dw, &mut m, &mut v).unwrap();
                }
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&w), "{isa} {optimizer:?}");
                assert!(!remembered || bits(&state.first) == bits(&m), "{isa} {optimizer:?}");
                assert!(!squares || bits(&state.second) == bits(&v), "{isa} {optimizer:?}");
                assert!(!remembered || m.iter().all(|m| *m == 0.0 || m.abs() >= 7.8e-31));
            }
        }
    }
}
