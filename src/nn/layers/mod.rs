//! What a model is made of: shapes, `Flatten`, `Dense`, `Dropout`.

pub(crate) mod dropout;

use std::fmt;

use crate::error::{Error, Result};
use crate::nn::activation::DenseActivation;
use crate::nn::initializer::Initializer;

/// The shape of one sample, without the batch: from a number, a tuple, an array or a slice.
///
/// ```
/// use densely::nn::Shape;
/// assert_eq!(Shape::from((3, 28, 28)).features(), Some(2352));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Lengths of the axes.
    #[must_use]
    pub fn axes(&self) -> &[usize] {
        &self.0
    }

    /// The number of values in a sample, or `None` if that overflows.
    #[must_use]
    pub fn features(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis))
    }
}

/// As Keras prints it, for a batch of any size: `(None, 28, 28)`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(None")?;
        self.0.iter().try_for_each(|axis| write!(f, ", {axis}"))?;
        f.write_str(")")
    }
}

impl From<usize> for Shape {
    fn from(features: usize) -> Self {
        Self(vec![features])
    }
}
impl From<(usize, usize)> for Shape {
    fn from((rows, cols): (usize, usize)) -> Self {
        Self(vec![rows, cols])
    }
}
impl From<(usize, usize, usize)> for Shape {
    fn from((channels, rows, cols): (usize, usize, usize)) -> Self {
        Self(vec![channels, rows, cols])
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(axes: [usize; N]) -> Self {
        Self(axes.to_vec())
    }
}
impl From<&[usize]> for Shape {
    fn from(axes: &[usize]) -> Self {
        Self(axes.to_vec())
    }
}

/// Makes one row of each sample, whatever its shape; the last axis is the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

/// A fully connected layer: activation(x kernel + bias), where x is batch x inputs, the kernel inputs x units.
///
/// A sample must have one axis by then: one of several goes through [`Flatten`] before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) activation: DenseActivation,
    pub(crate) use_bias: bool,
    pub(crate) kernel_initializer: Initializer,
}

impl Dense {
    /// A layer with so many units (outputs), with a bias and a Glorot-uniform kernel.
    #[must_use]
    pub fn new(units: usize, activation: impl Into<DenseActivation>) -> Self {
        Self { units, activation: activation.into(), use_bias: true, kernel_initializer: Initializer::default() }
    }

    /// Sets whether a bias is added, true unless set.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        Self { use_bias, ..self }
    }

    /// Sets how the kernel begins.
    #[must_use]
    pub fn kernel_initializer(self, kernel_initializer: Initializer) -> Self {
        Self { kernel_initializer, ..self }
    }
}

/// In training, drops each value with a probability, and multiplies the others by 1 / (1 - rate), so that their mean
/// stays; elsewhere it does nothing.
///
/// It may stand anywhere before the last [`Dense`]. What is dropped in a step follows from the model's
/// [`seed`](super::Builder::seed), the number of [steps](super::Sequential::iterations) done before, which dropout it is, and the
/// value's place in the batch: [`reference::dropout`](crate::reference::dropout) tells how.
///
/// Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// Drops this part of the values, at least 0 and below 1.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// The part of the values that is dropped.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub(crate) fn check(&self) -> Result<()> {
        if (0.0..1.0).contains(&self.rate) { Ok(()) } else { Err(Error::value("rate", "a number in 0..1", self.rate)) }
    }

    /// Random words below the first drop a value, the others are multiplied by the second.
    pub(crate) fn threshold_and_scale(&self) -> (u32, f32) {
        ((self.rate * 2f64.powi(32)) as u32, (1.0 / (1.0 - self.rate)) as f32)
    }
}

/// Any layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// See [`Flatten`].
    Flatten(Flatten),
    /// See [`Dense`].
    Dense(Dense),
    /// See [`Dropout`].
    Dropout(Dropout),
}

impl From<Flatten> for Layer {
    fn from(layer: Flatten) -> Self {
        Self::Flatten(layer)
    }
}
impl From<Dense> for Layer {
    fn from(layer: Dense) -> Self {
        Self::Dense(layer)
    }
}
impl From<Dropout> for Layer {
    fn from(layer: Dropout) -> Self {
        Self::Dropout(layer)
    }
}
