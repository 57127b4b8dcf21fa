//! Learning-rate schedules.

use std::f64::consts::PI;

use crate::error::{Error, Result};

/// How the learning rate changes from step to step: it is the optimizer's, times [`factor`](Self::factor).
///
/// Factors are the same bits on every machine. Numbers that are out of range are refused by
/// [`Sequential::compile`](super::Sequential::compile).
///
/// ```
/// use densely::nn::{Adam, Optimizer, Schedule};
/// // From 0 to 0.01 in 100 steps, then down to 0.001 in 1000.
/// let schedule = Schedule::cosine(1000).to(0.1).warm_up(100);
/// let optimizer = Optimizer::from(Adam::default().learning_rate(0.01)).schedule(schedule);
/// assert_eq!([0, 50, 100, 600, 1100, 9999].map(|step| schedule.factor(step)), [0.0, 0.5, 1.0, 0.55, 0.1, 0.1]);
/// # let _ = optimizer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    decay: Decay,
    to: f64,
    warm_up: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Decay {
    None,
    Step { every: u64, factor: f64 },
    Cosine { steps: u64 },
}

impl Schedule {
    /// The learning rate stays.
    #[must_use]
    pub fn constant() -> Self {
        Self::new(Decay::None)
    }

    /// The learning rate is multiplied by `factor`, in 0..=1, after every so many steps, at least 1: Keras'
    /// `ExponentialDecay` with `staircase=True`.
    #[must_use]
    pub fn step(every: u64, factor: f64) -> Self {
        Self::new(Decay::Step { every, factor })
    }

    /// The learning rate falls by half a wave of a cosine in so many steps, at least 1, and stays there: Keras'
    /// `CosineDecay`. Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient FusedUpdate with Warm Restarts" (2017).
    #[must_use]
    pub fn cosine(steps: u64) -> Self {
        Self::new(Decay::Cosine { steps })
    }

    fn new(decay: Decay) -> Self {
        Self { decay, to: 0.0, warm_up: 0 }
    }

    /// Keeps this part of the learning rate, in 0..=1, from decay: it is what is left in the end. 0 unless set; Keras'
    /// `alpha`.
    #[must_use]
    pub fn to(self, part: f64) -> Self {
        Self { to: part, ..self }
    }

    /// Lets the learning rate rise by a straight line in the first so many steps; decay begins behind them. As in
    /// Keras, the first step has the rate 0, and the one after `steps` steps is the first with the whole of it.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        Self { warm_up: steps, ..self }
    }

    /// What the learning rate is multiplied by for the step after so many steps, in 0..=1.
    ///
    /// With n steps behind the warm-up of w: n / w before its end; then p + (1 - p) d, where p is what
    /// [`to`](Self::to) keeps, and d is 1, factor^floor(n / every), or (1 + cos(pi min(n, steps) / steps)) / 2.
    #[must_use]
    pub fn factor(&self, steps: u64) -> f64 {
        let Some(step) = steps.checked_sub(self.warm_up) else { return steps as f64 / self.warm_up as f64 };
        let decay = match self.decay {
            Decay::None => 1.0,
            Decay::Step { every, factor } => power(factor, step / every.max(1)),
            // Not std's cosine, whose last bit differs between machines.
            Decay::Cosine { steps } => 0.5 * (1.0 + libm::cos(PI * (step.min(steps) as f64 / steps.max(1) as f64))),
        };
        (1.0 - self.to) * decay + self.to
    }

    pub(crate) fn check(&self) -> Result<()> {
        let part = |argument, found: f64| {
            if (0.0..=1.0).contains(&found) { Ok(()) } else { Err(Error::value(argument, "a number in 0..=1", found)) }
        };
        part("to", self.to)?;
        match self.decay {
            Decay::None => Ok(()),
            Decay::Step { every: 0, .. } => Err(Error::value("every", "at least 1 step", 0)),
            Decay::Step { factor, .. } => part("factor", factor),
            Decay::Cosine { steps: 0 } => Err(Error::value("steps", "at least 1 step", 0)),
            Decay::Cosine { .. } => Ok(()),
        }
    }
}

/// By squares, lowest bit of the exponent first. Not `powi`, whose last bit may differ between machines.
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
