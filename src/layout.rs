//! `Layout`: the sizes and strides of a matrix view, checked against the slice that they index.

use std::fmt;
use std::ops::Range;

use crate::error::{Error, Result};

/// Sizes and strides of a view, in elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl Layout {
    /// Checks sizes and strides against the length of the slice that they index.
    ///
    /// # Errors
    /// [`Error::Shape`] if an element lies past the slice, or two elements may share an index.
    pub(crate) fn check(self, len: usize) -> Result<Self> {
        let Self { rows, cols, row_stride, col_stride } = self;
        if rows == 0 || cols == 0 {
            // Strides that index nothing may have any value: 0 cannot overflow.
            return Ok(Self { rows, cols, row_stride: 0, col_stride: 0 });
        }
        let overflow = || Error::shape("data", "a matrix whose last index fits usize", self);
        let row_extent = (rows - 1).checked_mul(row_stride).ok_or_else(overflow)?;
        let col_extent = (cols - 1).checked_mul(col_stride).ok_or_else(overflow)?;
        let last = row_extent.checked_add(col_extent).ok_or_else(overflow)?;
        if last >= len {
            return Err(Error::shape("data", format_args!("at least {} elements for {self}", last as u128 + 1), len));
        }
        // The stride of one axis exceeds the extent of the other; an axis of one element cannot overlap.
        let disjoint = match (rows, cols) {
            (1, 1) => true,
            (1, _) => col_stride > 0,
            (_, 1) => row_stride > 0,
            _ => (col_stride > 0 && row_stride > col_extent) || (row_stride > 0 && col_stride > row_extent),
        };
        if !disjoint {
            return Err(Error::shape(
                "row_stride, col_stride",
                "strides under which no two elements share a place",
                self,
            ));
        }
        Ok(self)
    }

    /// Checks a contiguous row-major layout against the length of the slice, which must be equal.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not.
    pub(crate) fn contiguous(len: usize, rows: usize, cols: usize) -> Result<Self> {
        let layout = Self { rows, cols, row_stride: cols, col_stride: 1 };
        if rows.checked_mul(cols) != Some(len) {
            let expected = format_args!("{rows} x {cols} = {} elements", rows as u128 * cols as u128);
            return Err(Error::shape("data", expected, len));
        }
        Ok(layout)
    }

    /// Swaps the axes.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// Gives the layout of the rows in `range`, and the offset of their first element.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range leaves the matrix.
    pub(crate) fn row_range(self, range: &Range<usize>) -> Result<(usize, Self)> {
        if range.start > range.end || range.end > self.rows {
            return Err(Error::shape(
                "range",
                format_args!("a range within 0..{}", self.rows),
                format_args!("{range:?}"),
            ));
        }
        let layout = Self { rows: range.len(), ..self };
        // An empty view has no first element: its offset must not leave the slice.
        let offset = if layout.rows == 0 || self.cols == 0 { 0 } else { range.start * self.row_stride };
        Ok((offset, layout))
    }

    /// Gives the index of an element, or `None` outside the matrix.
    pub(crate) fn offset(self, row: usize, col: usize) -> Option<usize> {
        (row < self.rows && col < self.cols).then(|| row * self.row_stride + col * self.col_stride)
    }

    /// Reshapes a contiguous layout to a single row.
    pub(crate) fn one_row(self) -> Self {
        let cols = self.rows * self.cols;
        Self { rows: 1, cols, row_stride: cols, col_stride: 1 }
    }

    /// Whether all elements are contiguous in row-major order.
    pub(crate) fn is_contiguous(self) -> bool {
        let empty = self.rows == 0 || self.cols == 0;
        empty || ((self.cols == 1 || self.col_stride == 1) && (self.rows == 1 || self.row_stride == self.cols))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, row_stride, col_stride } = self;
        write!(f, "{rows} x {cols} with strides ({row_stride}, {col_stride})")
    }
}
