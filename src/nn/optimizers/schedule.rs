//! Learning-rate schedules.

use std::f64::consts::PI;

use crate::error::{Error, Result};
use crate::nn::optimizers::update_rule::check_number;

/// Changes the learning rate from step to step: multiplies the optimizer's by [`factor`](Self::factor).
///
/// Factors have the same bits on every machine. [`Sequential::compile`](crate::nn::Sequential::compile)
/// refuses numbers that are out of range.
///
/// ```
/// use densely::nn::{Adam, Optimizer, Schedule};
/// // From 0 to 0.01 in 100 steps, then down to 0.001 in 1000.
/// let schedule = Schedule::cosine(1000).to(0.1).warm_up(100);
/// let optimizer = Optimizer::from(Adam::default().learning_rate(0.01)).schedule(schedule);
/// let factors = [0, 50, 100, 600, 1100, 9999].map(|step| schedule.factor(step));
/// assert_eq!(factors, [0.0, 0.5, 1.0, 0.55, 0.1, 0.1]);
/// # let _ = optimizer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    decay: Curve,
    to: f64,
    warm_up: u64,
}

/// The curve along which the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Curve {
    None,
    Step { every: u64, factor: f64 },
    Cosine { steps: u64 },
}

impl Schedule {
    /// Keeps the learning rate.
    #[must_use]
    pub fn constant() -> Self {
        Self::new(Curve::None)
    }

    /// Multiplies the learning rate by `factor`, in 0..=1, after each `every` steps, at least 1: Keras'
    /// `ExponentialDecay` with `staircase=True`.
    #[must_use]
    pub fn step(every: u64, factor: f64) -> Self {
        Self::new(Curve::Step { every, factor })
    }

    /// Lowers the learning rate along half a wave of a cosine in `steps` steps, at least 1, and then keeps
    /// it: Keras' `CosineDecay`. Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
    /// Restarts" (2017).
    #[must_use]
    pub fn cosine(steps: u64) -> Self {
        Self::new(Curve::Cosine { steps })
    }

    fn new(decay: Curve) -> Self {
        Self { decay, to: 0.0, warm_up: 0 }
    }

    /// Sets the fraction of the learning rate that is left in the end, in 0..=1, 0 unless set: Keras'
    /// `alpha`.
    #[must_use]
    pub fn to(self, fraction: f64) -> Self {
        Self { to: fraction, ..self }
    }

    /// Raises the learning rate linearly in the first `steps` steps; decay begins after them.
    ///
    /// As in Keras, the first step has the rate 0, and the step after `steps` steps is the first with the
    /// full rate.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        Self { warm_up: steps, ..self }
    }

    /// Returns the factor of the learning rate, in 0..=1, for the step after `steps` steps.
    ///
    /// During a warm-up of w steps it is `steps` / w. Then, n steps after its end, it is p + (1 - p) d, where
    /// p is the fraction of [`to`](Self::to), and d is 1, factor^floor(n / every), or (1 + cos(pi min(n,
    /// steps) / steps)) / 2.
    #[must_use]
    pub fn factor(&self, steps: u64) -> f64 {
        let Some(step) = steps.checked_sub(self.warm_up) else { return steps as f64 / self.warm_up as f64 };
        let decay = match self.decay {
            Curve::None => 1.0,
            Curve::Step { every, factor } => power(factor, step / every.max(1)),
            // The last bit of std's cosine differs between machines.
            Curve::Cosine { steps } => 0.5 * (1.0 + libm::cos(PI * (step.min(steps) as f64 / steps.max(1) as f64))),
        };
        (1.0 - self.to) * decay + self.to
    }

    pub(crate) fn check(&self) -> Result<()> {
        let check_fraction = |argument, found| {
            check_number(argument, found, "a number in 0..=1", |fraction| (0.0..=1.0).contains(&fraction))
        };
        check_fraction("to", self.to)?;
        match self.decay {
            Curve::None => Ok(()),
            Curve::Step { every: 0, .. } => Err(Error::value("every", "at least 1 step", 0)),
            Curve::Step { factor, .. } => check_fraction("factor", factor),
            Curve::Cosine { steps: 0 } => Err(Error::value("steps", "at least 1 step", 0)),
            Curve::Cosine { .. } => Ok(()),
        }
    }
}

/// Raises to a power by repeated squaring, from the exponent's lowest bit on. `powi` may differ between
/// machines.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            power *= base;
        }
        base *= base;
        exponent /= 2;
    }
    power
}
