//! `Labels`: class numbers as they come, in bytes, `u32` or `usize`.

use crate::error::{Error, Result};

/// One class number a sample, borrowed in the type that the data has.
///
/// ```
/// use densely::Labels;
/// let bytes = [3u8, 1, 4];
/// let labels = Labels::from(&bytes);
/// assert_eq!(labels.get(2), Some(4));
/// ```
#[derive(Clone, Copy, Debug)]
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
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(labels) => labels.len(),
            Self::U32(labels) => labels.len(),
            Self::Usize(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of sample `index`, or `None` past the end.
    pub fn get(&self, index: usize) -> Option<usize> {
        match self {
            Self::U8(labels) => labels.get(index).map(|&label| usize::from(label)),
            // A label that does not fit usize is no class either.
            Self::U32(labels) => labels.get(index).map(|&label| usize::try_from(label).unwrap_or(usize::MAX)),
            Self::Usize(labels) => labels.get(index).copied(),
        }
    }

    /// The first `index` labels and the others; all go to the first if there are fewer.
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

    /// Checks that there are `count` labels, each below `classes`.
    pub(crate) fn check(&self, count: usize, classes: usize) -> Result<()> {
        if self.len() != count {
            return Err(Error::shape("labels", format_args!("{count} labels, one a row"), self.len()));
        }
        let bad = |&(_, label): &(usize, usize)| label >= classes;
        match (0..count).filter_map(|index| Some((index, self.get(index)?))).find(bad) {
            Some((index, label)) => Err(Error::Label { argument: "labels", index, label, classes }),
            None => Ok(()),
        }
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
