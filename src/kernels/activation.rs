//! `Activation`: the functions that layers apply to each element, by their names.
//!
//! Their vector code stands in [`activation_formulas`](crate::kernels::activation_formulas).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A function that is applied to each element.
///
/// | | f(x) | f'(x) | saved for backward | cost |
/// |---|---|---|---|---|
/// | `Linear` | x | 1 | nothing | 0.8 |
/// | `Relu` | 0 where x < 0, else x | 1 where x > 0, else 0 | the output y | 1 |
/// | `LeakyRelu` | slope x where x < 0, else x | 1 where x > 0, else slope | y | 0.8 |
/// | `Elu` | alpha (exp(x) - 1) where x < 0, else x | 1 where x > 0, else y + alpha | y | 2.5 |
/// | `Sigmoid` | 1 / (1 + exp(-x)) | y (1 - y) | y | 6.6 |
/// | `Tanh` | tanh(x) | 1 - y² | y | 6.1 |
/// | `Softplus` | ln(1 + exp(x)) | 1 - exp(-y) | y | 8.8 |
/// | `Silu` | x s with s = sigmoid(x) | s (1 + x (1 - s)) | the input x | 6.8 |
/// | `Gelu` | x g with g = sigmoid(u), u = 2 √(2/π) (x + 0.044715 x³) | g + x g (1 - g) u' | x | 10 |
///
/// The cost is the time relative to ReLU's of 128 x 512 elements in the L2 cache with AVX2, from
/// `benches/record/2026-11-26-peers-rows-2-threads-avx2.txt`, where they are in a dense layer and in memory
/// as well.
///
/// Each parses from its name in Keras, with Keras' parameters, but GELU is always the approximate form:
///
/// ```
/// use densely::Activation;
/// assert_eq!("leaky_relu".parse::<Activation>()?, Activation::LeakyRelu { slope: 0.2 });
/// assert_eq!(Activation::Elu { alpha: 0.5 }.name(), "elu");
/// assert!("maxout".parse::<Activation>().is_err());
/// # Ok::<(), densely::Error>(())
/// ```
///
/// NaN stays NaN everywhere, and -0 stays -0 but for `Sigmoid` and `Softplus`. At -inf, `Silu` and
/// `Gelu` are -0, the value that they tend to. Error bounds are in [`math`](crate::math).
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The value itself.
    #[default]
    Linear,
    /// `0` where the value is below 0, else the value.
    Relu,
    /// ReLU with a slope below 0, so that every unit has a gradient (Maas, Hannun and Ng,
    /// "Rectifier nonlinearities improve neural network acoustic models", 2013).
    LeakyRelu {
        /// Factor of values below 0: finite, at least 0. Keras' `leaky_relu` has 0.2, PyTorch 0.01.
        slope: f32,
    },
    /// The exponential linear unit (Clevert, Unterthiner and Hochreiter, 2015).
    Elu {
        /// Minus the value at -inf: finite, at least 0. Keras and PyTorch have 1.
        alpha: f32,
    },
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// A smooth ReLU, whose derivative is the sigmoid.
    Softplus,
    /// The sigmoid linear unit, also called swish.
    Silu,
    /// The Gaussian error linear unit, in the form without the error function, by way of tanh (Hendrycks and
    /// Gimpel, 2016): `gelu(approximate=True)` of Keras, `"tanh"` of PyTorch. By default, both have the other
    /// form.
    Gelu,
}

/// The name alone, without parameters.
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// Reads a name; parameters are those of [`ALL`](Self::ALL).
    ///
    /// # Errors
    /// [`Error::Value`] if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|activation| activation.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|activation| activation.name()).collect();
            Error::value("activation", format_args!("one of {}", names.join(", ")), format_args!("`{name}`"))
        })
    }
}

impl Activation {
    /// All activations, with Keras' parameters.
    pub const ALL: &'static [Self] = &[
        Self::Linear,
        Self::Relu,
        Self::LeakyRelu { slope: 0.2 },
        Self::Elu { alpha: 1.0 },
        Self::Sigmoid,
        Self::Tanh,
        Self::Softplus,
        Self::Silu,
        Self::Gelu,
    ];

    /// The name in Keras.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu { .. } => "elu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
        }
    }

    /// Whether the activation's input is saved for the backward pass; otherwise its output is.
    #[must_use]
    pub fn saves_input(self) -> bool {
        matches!(self, Self::Silu | Self::Gelu)
    }

    pub(crate) fn check(self) -> Result<()> {
        let (what, value) = match self {
            Self::LeakyRelu { slope } => ("a finite slope of at least 0", slope),
            Self::Elu { alpha } => ("a finite alpha of at least 0", alpha),
            _ => return Ok(()),
        };
        if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Error::value("activation", what, value)) }
    }
}
