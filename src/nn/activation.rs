//! The activations of layers, by Keras' names.

use std::fmt;
use std::str::FromStr;

use crate::Activation as Elementwise;
use crate::error::{Error, Result};

/// What a [`Dense`](super::Dense) layer applies to its outputs.
///
/// All but softmax are those of [`densely::Activation`](crate::Activation), which tells their formulas.
/// Each can be had by its name in Keras, with Keras' parameters, but that GELU is always the approximate form:
///
/// ```
/// use densely::nn::Activation;
/// assert_eq!("leaky_relu".parse::<Activation>()?, Activation::LeakyRelu { slope: 0.2 });
/// assert_eq!(Activation::Elu { alpha: 0.5 }.name(), "elu");
/// assert!("maxout".parse::<Activation>().is_err());
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Linear,
    /// `x < 0 → 0, else x`.
    Relu,
    /// `x < 0 → slope x, else x`.
    LeakyRelu {
        /// Finite, at least 0.
        slope: f32,
    },
    /// `x < 0 → alpha (exp(x) - 1), else x`.
    Elu {
        /// Finite, at least 0.
        alpha: f32,
    },
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// tanh(x).
    Tanh,
    /// ln(1 + exp(x)).
    Softplus,
    /// x sigmoid(x).
    Silu,
    /// `gelu(x, approximate=True)` of Keras, whose default is the other form.
    Gelu,
    /// exp(x) / sum(exp(x)) over the units; for the last layer.
    Softmax,
}

impl Activation {
    /// Each by its name, with Keras' parameters.
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
        Self::Softmax,
    ];

    /// Its name in Keras.
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
            Self::Softmax => "softmax",
        }
    }

    /// What the kernels apply in the same pass; softmax is left to the loss or to `predict`.
    pub(super) fn elementwise(self) -> Elementwise {
        match self {
            Self::Linear | Self::Softmax => Elementwise::Linear,
            Self::Relu => Elementwise::Relu,
            Self::LeakyRelu { slope } => Elementwise::LeakyRelu { slope },
            Self::Elu { alpha } => Elementwise::Elu { alpha },
            Self::Sigmoid => Elementwise::Sigmoid,
            Self::Tanh => Elementwise::Tanh,
            Self::Softplus => Elementwise::Softplus,
            Self::Silu => Elementwise::Silu,
            Self::Gelu => Elementwise::Gelu,
        }
    }
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
