//! `Shape`: the axes of one sample.

use std::fmt;

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
