//! SGD, Adam and AdamW with Keras' defaults and formulation, and what optimizers have in common.
//!
//! Hyperparameters are `f64`: 1 - 0.999 taken in `f32` would be off by 5e-5.

pub(crate) mod clip;
pub(crate) mod schedule;
pub(crate) mod state;

use crate::error::{Error, Result};
use crate::nn::optimizers::clip::Clip;
use crate::nn::optimizers::schedule::Schedule;

/// Gradient descent, with momentum if asked for: learning rate 0.01, momentum 0.
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

/// Adam: learning rate 0.001, beta_1 0.9, beta_2 0.999, epsilon 1e-7.
///
/// m = m + (gradient - m) (1 - beta_1); v = v + (gradient² - v) (1 - beta_2);
/// w = w - m alpha / (sqrt(v) + epsilon), alpha = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t). t is the step's
/// number, from 1 on; m and v are 0 before the first.
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

/// [`Adam`] with a [weight decay](Optimizer::weight_decay) of 0.004 unless set. That is all that is different:
/// any optimizer can have a decay.
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

/// A rule by which weights are updated, [`Sgd`], [`Adam`] or [`AdamW`], and what any rule can have besides.
///
/// A step takes the gradients g of the batch's mean loss. Where it is asked for, it
///
/// 1. adds [L2](Self::l2) to the gradients by kernels: g = g + 2 l2 w;
/// 2. [clips](Self::clip) the gradients;
/// 3. lets all weights [decay](Self::weight_decay): w = w - w weight_decay learning_rate;
/// 4. and updates the weights by the rule.
///
/// The learning rate of a step is the rule's times what a [schedule](Self::schedule) says. A moment (m or v) whose
/// magnitude falls below 2^-100 becomes 0, where it would in the end become subnormal and slow.
///
/// Numbers that are out of range are refused by [`Sequential::compile`](super::Sequential::compile).
///
/// ```
/// use densely::nn::{Adam, AdamW, Clip, Dense, Activation, Optimizer, Sequential};
/// let mut model = Sequential::builder(4).layer(Dense::new(2, Activation::Softmax)).build()?;
/// model.compile(Adam::default())?;
/// model.compile(Optimizer::from(Adam::default()).l2(1e-4).clip(Clip::GlobalNorm(1.0)))?;
/// assert_eq!(Optimizer::from(AdamW::default()), Optimizer::from(Adam::default()).weight_decay(0.004));
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    pub(crate) rule: Rule,
    pub(crate) weight_decay: f64,
    pub(crate) l2: f64,
    pub(crate) clip: Option<Clip>,
    pub(crate) schedule: Schedule,
}

/// What updates a weight by its gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

impl From<Rule> for Optimizer {
    fn from(rule: Rule) -> Self {
        Self { rule, weight_decay: 0.0, l2: 0.0, clip: None, schedule: Schedule::constant() }
    }
}
impl From<Sgd> for Optimizer {
    fn from(rule: Sgd) -> Self {
        Rule::Sgd(rule).into()
    }
}
impl From<Adam> for Optimizer {
    fn from(rule: Adam) -> Self {
        Rule::Adam(rule).into()
    }
}
impl From<AdamW> for Optimizer {
    fn from(AdamW { adam, weight_decay }: AdamW) -> Self {
        Self::from(adam).weight_decay(weight_decay)
    }
}

impl Optimizer {
    /// Sets the decoupled weight decay: w = w - w weight_decay learning_rate before each update, for kernels
    /// and biases alike. At least 0, and 0 unless set, but for [`AdamW`].
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Sets L2 regularization, at least 0, and 0 unless set: 2 l2 w is added to the gradient by each weight of a
    /// kernel, not of a bias, before clipping. The loss then has l2 times the sum of their squares for a penalty, as
    /// with Keras' `kernel_regularizer=L2(l2)` in each layer; the loss that is reported is without it.
    #[must_use]
    pub fn l2(self, l2: f64) -> Self {
        Self { l2, ..self }
    }

    /// Keeps the gradients from being too large, L2's part included.
    #[must_use]
    pub fn clip(self, clip: Clip) -> Self {
        Self { clip: Some(clip), ..self }
    }

    /// Multiplies the learning rate by a factor that changes from step to step, weight decay's included.
    #[must_use]
    pub fn schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// The learning rate, before a [schedule](Self::schedule) changes it.
    #[must_use]
    pub fn rate(&self) -> f64 {
        match self.rule {
            Rule::Sgd(sgd) => sgd.learning_rate,
            Rule::Adam(adam) => adam.learning_rate,
        }
    }

    /// This with the learning rate that its schedule has for the step after so many.
    pub(crate) fn at(self, steps: u64) -> Self {
        self.with_rate(self.rate() * self.schedule.factor(steps))
    }

    pub(crate) fn with_rate(self, rate: f64) -> Self {
        let rule = match self.rule {
            Rule::Sgd(sgd) => Rule::Sgd(sgd.learning_rate(rate)),
            Rule::Adam(adam) => Rule::Adam(adam.learning_rate(rate)),
        };
        Self { rule, ..self }
    }

    /// Whether a step needs the gradients by all parameters before it can update one.
    pub(crate) fn needs_all_gradients(&self) -> bool {
        matches!(self.clip, Some(Clip::GlobalNorm(_)))
    }

    /// Checks every hyperparameter.
    pub(crate) fn check(&self) -> Result<()> {
        in_range("learning_rate", self.rate(), AT_LEAST_0, |rate| rate >= 0.0)?;
        match self.rule {
            Rule::Sgd(sgd) => in_range("momentum", sgd.momentum, "a number in 0..=1", |m| (0.0..=1.0).contains(&m)),
            Rule::Adam(adam) => adam.check(),
        }?;
        in_range("weight_decay", self.weight_decay, AT_LEAST_0, |decay| decay >= 0.0)?;
        in_range("l2", self.l2, "a number whose double is finite as f32, at least 0", |l2| {
            l2 >= 0.0 && (2.0 * l2 as f32).is_finite()
        })?;
        self.clip.map_or(Ok(()), Clip::check)?;
        self.schedule.check()
    }

    /// learning_rate * weight_decay as the kernels see it, if there is a decay.
    pub(crate) fn decay(&self) -> Option<f32> {
        (self.weight_decay != 0.0).then_some((self.weight_decay * self.rate()) as f32)
    }
}

/// What a learning rate must be, and a weight decay.
const AT_LEAST_0: &str = "a number that is finite as f32, at least 0";

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
pub(crate) fn in_range(
    argument: &'static str,
    found: f64,
    expected: &str,
    accepts: impl Fn(f64) -> bool,
) -> Result<()> {
    let fits = (found as f32).is_finite() && accepts(found);
    if fits { Ok(()) } else { Err(Error::value(argument, expected, found)) }
}
