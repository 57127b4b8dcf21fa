//! `Optimizer`: an update rule with the options that any rule can have, and the list of rules.
//!
//! Hyperparameters are `f64`: 1 - 0.999 taken in `f32` would be off by 5e-5.

use crate::error::Result;
use crate::nn::optimizers::adam::{Adam, AdamW};
use crate::nn::optimizers::clip::Clip;
use crate::nn::optimizers::schedule::Schedule;
use crate::nn::optimizers::sgd::Sgd;
use crate::nn::optimizers::update_rule::{UpdateRule, check_number};

/// Lists the update rules: a line each makes a variant of [`Rule`], which any user's type turns into.
macro_rules! rules {
    ($($rule:ident,)*) => {
        /// Any update rule.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Rule {
            $($rule($rule),)*
        }

        impl Rule {
            /// Returns the rule of the variant.
            pub(crate) fn get(&self) -> &dyn UpdateRule {
                match self {
                    $(Self::$rule(rule) => rule,)*
                }
            }
        }

        $(impl From<$rule> for Optimizer {
            fn from(rule: $rule) -> Self {
                Rule::$rule(rule).into()
            }
        })*
    };
}

rules! {
    Sgd,
    Adam,
}

/// An update rule, [`Sgd`], [`Adam`] or [`AdamW`], and the options that any rule can have.
///
/// A step takes the gradients g of the batch's mean loss and, as far as these options are set,
///
/// 1. adds [L2](Self::l2) to the gradients with respect to kernels: g = g + 2 l2 w;
/// 2. [clips](Self::clip) the gradients;
/// 3. lets all weights [decay](Self::weight_decay): w = w - w weight_decay learning_rate;
/// 4. updates the weights by the rule.
///
/// The learning rate of a step is the rule's times the factor of the [schedule](Self::schedule). A moment (m
/// or v) whose magnitude falls below 2^-100 is set to 0, since it would in the end become subnormal and slow.
///
/// [`Sequential::compile`](crate::nn::Sequential::compile) refuses numbers that are out of range.
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

impl From<Rule> for Optimizer {
    fn from(rule: Rule) -> Self {
        Self { rule, weight_decay: 0.0, l2: 0.0, clip: None, schedule: Schedule::constant() }
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

    /// Sets L2 regularisation, at least 0, and 0 unless set.
    ///
    /// 2 l2 w is added to the gradient with respect to each weight w of a kernel, not of a bias, before
    /// clipping. The loss then has l2 times the sum of their squares as a penalty, as with Keras'
    /// `kernel_regularizer=L2(l2)` in each layer; reported losses are without it.
    #[must_use]
    pub fn l2(self, l2: f64) -> Self {
        Self { l2, ..self }
    }

    /// Clips the gradients, with the gradient of the L2 penalty.
    #[must_use]
    pub fn clip(self, clip: Clip) -> Self {
        Self { clip: Some(clip), ..self }
    }

    /// Multiplies the learning rate, that of weight decay too, by a factor that changes from step to step.
    #[must_use]
    pub fn schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// Returns the learning rate, without the factor of the [schedule](Self::schedule).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rule.get().learning_rate()
    }

    /// Returns w's factor in a step with this learning rate, weight_decay * learning_rate, if weights decay.
    pub(crate) fn decay(&self, learning_rate: f64) -> Option<f32> {
        (self.weight_decay != 0.0).then_some((self.weight_decay * learning_rate) as f32)
    }

    /// Tells whether a step needs all gradients before it can update a parameter.
    pub(crate) fn needs_all_gradients(&self) -> bool {
        matches!(self.clip, Some(Clip::GlobalNorm(_)))
    }

    /// Checks every hyperparameter.
    pub(crate) fn check(&self) -> Result<()> {
        check_learning_rate(self.rate())?;
        self.rule.get().check()?;
        check_number("weight_decay", self.weight_decay, AT_LEAST_0, |decay| decay >= 0.0)?;
        check_number("l2", self.l2, "a number whose double is finite as f32, at least 0", |l2| {
            l2 >= 0.0 && (2.0 * l2 as f32).is_finite()
        })?;
        self.clip.map_or(Ok(()), Clip::check)?;
        self.schedule.check()
    }
}

/// The range of a learning rate, and of a weight decay.
const AT_LEAST_0: &str = "a number that is finite as f32, at least 0";

/// Checks a learning rate.
pub(crate) fn check_learning_rate(learning_rate: f64) -> Result<()> {
    check_number("learning_rate", learning_rate, AT_LEAST_0, |rate| rate >= 0.0)
}
