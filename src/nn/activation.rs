//! What a dense layer applies to its outputs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::kernels::activation::Activation;

/// What a [`Dense`](super::Dense) layer applies to its outputs: an [`Activation`], or softmax in the last
/// layer.
///
/// An [`Activation`] converts into it, and [`Activation::Softmax`] is one, so that both are given by the same
/// words:
///
/// ```
/// use densely::nn::{Activation, Dense, DenseActivation};
/// let layers = [Dense::new(128, Activation::Relu), Dense::new(10, Activation::Softmax)];
/// assert_eq!("softmax".parse::<DenseActivation>()?, DenseActivation::Softmax);
/// assert_eq!("relu".parse::<DenseActivation>()?, Activation::Relu);
/// # let _ = layers;
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq)]
pub enum DenseActivation {
    /// A function of each output.
    Elementwise(Activation),
    /// exp(x) / sum(exp(x)) over the units: K values that sum to 1. For the last layer.
    Softmax,
}

impl Activation {
    /// Softmax over the units, for the last layer; not a function of each output, hence the other type.
    #[allow(non_upper_case_globals, reason = "stands beside the activations")]
    pub const Softmax: DenseActivation = DenseActivation::Softmax;
}

impl DenseActivation {
    /// All [activations](Activation::ALL), then softmax.
    pub fn all() -> impl Iterator<Item = Self> {
        Activation::ALL.iter().copied().map(Self::from).chain([Self::Softmax])
    }

    /// The name in Keras.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Elementwise(activation) => activation.name(),
            Self::Softmax => "softmax",
        }
    }

    /// The part that a layer's kernel applies to each output: nothing for softmax, which is left to the loss
    /// or to `predict`.
    #[must_use]
    pub fn elementwise(self) -> Activation {
        match self {
            Self::Elementwise(activation) => activation,
            Self::Softmax => Activation::Linear,
        }
    }
}

impl From<Activation> for DenseActivation {
    fn from(activation: Activation) -> Self {
        Self::Elementwise(activation)
    }
}

impl PartialEq<Activation> for DenseActivation {
    fn eq(&self, other: &Activation) -> bool {
        *self == Self::Elementwise(*other)
    }
}

/// As the activation itself: checkpoints hold this text.
impl fmt::Debug for DenseActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elementwise(activation) => fmt::Debug::fmt(activation, f),
            Self::Softmax => f.write_str("Softmax"),
        }
    }
}

/// The name alone, without parameters.
impl fmt::Display for DenseActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DenseActivation {
    type Err = Error;

    /// Reads a name; parameters are those of [`Activation::ALL`].
    ///
    /// # Errors
    /// [`Error::Value`] if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::all().find(|activation| activation.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            Error::value("activation", format_args!("one of {}", names.join(", ")), format_args!("`{name}`"))
        })
    }
}
