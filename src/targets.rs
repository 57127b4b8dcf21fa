//! `Targets`: the ground truth, as class numbers (`Labels`) or as probabilities.

use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::split_at::{Axis, SplitAt};

/// The ground truth that a loss compares outputs with: [`Labels`], or a matrix of probabilities.
///
/// Both convert into it, and so does whatever converts into [`Labels`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Targets<'a> {
    /// The class of each row.
    Labels(Labels<'a>),
    /// A probability for each class, batch x classes. They are not normalised: rows need not sum to 1.
    Probabilities(MatRef<'a>),
}

impl Targets<'_> {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Labels(labels) => labels.len(),
            Self::Probabilities(probabilities) => probabilities.rows(),
        }
    }
}

impl SplitAt for Targets<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match self {
            Self::Labels(labels) => {
                let (first, rest) = labels.split_at(at);
                (Self::Labels(first), Self::Labels(rest))
            }
            Self::Probabilities(probabilities) => {
                let (first, rest) = probabilities.split_along(axis, at);
                (Self::Probabilities(first), Self::Probabilities(rest))
            }
        }
    }
}

impl<'a, T: Into<Labels<'a>>> From<T> for Targets<'a> {
    fn from(labels: T) -> Self {
        Self::Labels(labels.into())
    }
}

impl<'a> From<MatRef<'a>> for Targets<'a> {
    fn from(probabilities: MatRef<'a>) -> Self {
        Self::Probabilities(probabilities)
    }
}

/// One class number a sample, from 0 on, borrowed in the type of the data.
///
/// References to slices, arrays and vectors convert into it.
///
/// ```
/// use densely::Labels;
/// let bytes = [3u8, 1, 4];
/// let labels = Labels::from(&bytes);
/// assert_eq!(labels.get(2), Some(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Labels<'a> {
    /// Bytes, as data sets such as MNIST store them.
    U8(&'a [u8]),
    /// 32-bit integers.
    U32(&'a [u32]),
    /// Native integers.
    Usize(&'a [usize]),
}

impl<'a> Labels<'a> {
    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(labels) => labels.len(),
            Self::U32(labels) => labels.len(),
            Self::Usize(labels) => labels.len(),
        }
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of sample `index`, or `None` past the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<usize> {
        match self {
            Self::U8(labels) => labels.get(index).map(|&label| usize::from(label)),
            // A label that does not fit usize is above all classes.
            Self::U32(labels) => labels.get(index).map(|&label| usize::try_from(label).unwrap_or(usize::MAX)),
            Self::Usize(labels) => labels.get(index).copied(),
        }
    }

    /// Copies the labels from `first` on to `to`; where there are fewer, the rest of `to` is unchanged.
    pub(crate) fn copy_to(&self, first: usize, to: &mut [usize]) {
        match self {
            Self::U8(labels) => copy(labels.get(first..).unwrap_or_default(), to, usize::from),
            Self::U32(labels) => copy(labels.get(first..).unwrap_or_default(), to, |label| label as usize),
            Self::Usize(labels) => copy(labels.get(first..).unwrap_or_default(), to, |label| label),
        }
    }

    /// Splits into the first `index` labels and the others; all are in the first if there are fewer.
    pub(crate) fn split_at(self, index: usize) -> (Self, Self) {
        let index = index.min(self.len());
        match self {
            Self::U8(labels) => {
                let (first, rest) = labels.split_at(index);
                (Self::U8(first), Self::U8(rest))
            }
            Self::U32(labels) => {
                let (first, rest) = labels.split_at(index);
                (Self::U32(first), Self::U32(rest))
            }
            Self::Usize(labels) => {
                let (first, rest) = labels.split_at(index);
                (Self::Usize(first), Self::Usize(rest))
            }
        }
    }

    /// Checks that there are `count` labels, each below `classes` or equal to the ignored one.
    pub(crate) fn check(&self, count: usize, classes: usize, ignored: Option<usize>) -> Result<()> {
        if self.len() != count {
            return Err(Error::shape("labels", format_args!("{count} labels, one a row"), self.len()));
        }
        let all_below = match self {
            Self::U8(labels) => all_below(labels, classes),
            Self::U32(labels) => all_below(labels, classes),
            Self::Usize(labels) => all_below(labels, classes),
        };
        if all_below {
            return Ok(());
        }
        let bad = |&(_, label): &(usize, usize)| label >= classes && Some(label) != ignored;
        match (0..count).filter_map(|index| Some((index, self.get(index)?))).find(bad) {
            Some((index, label)) => Err(Error::Label { argument: "labels", index, label, classes }),
            None => Ok(()),
        }
    }
}

fn copy<T: Copy>(labels: &[T], to: &mut [usize], convert: impl Fn(T) -> usize) {
    for (to, &label) in to.iter_mut().zip(labels) {
        *to = convert(label);
    }
}

/// Whether each label is below `classes`. It never ends early, so that the compiler vectorises it.
fn all_below<T: Copy + PartialOrd + TryFrom<usize>>(labels: &[T], classes: usize) -> bool {
    match T::try_from(classes) {
        Ok(classes) => labels.iter().fold(true, |all, &label| all & (label < classes)),
        // A number that does not fit T is above all labels.
        Err(_) => true,
    }
}

/// `From` for slices, arrays and vectors of one integer type.
macro_rules! labels_from {
    ($integer:ty, $variant:ident) => {
        impl<'a> From<&'a [$integer]> for Labels<'a> {
            fn from(labels: &'a [$integer]) -> Self {
                Self::$variant(labels)
            }
        }
        impl<'a> From<&'a Vec<$integer>> for Labels<'a> {
            fn from(labels: &'a Vec<$integer>) -> Self {
                Self::$variant(labels)
            }
        }
        impl<'a, const N: usize> From<&'a [$integer; N]> for Labels<'a> {
            fn from(labels: &'a [$integer; N]) -> Self {
                Self::$variant(labels)
            }
        }
    };
}

labels_from!(u8, U8);
labels_from!(u32, U32);
labels_from!(usize, Usize);
