//! `MatRef` and `MatMut`: two-dimensional views over `f32` slices, checked once, when they are made.
//!
//! Element (row, col) is at `row * row_stride + col * col_stride` of the slice, strides in elements. A view
//! never holds the same element twice and never reaches past its slice, so kernels need no other check.
//! Transposing a view swaps the two axes and moves nothing.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use crate::error::{Error, Result};

/// Rows, columns and strides of a view.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Layout {
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl Layout {
    /// Checks this layout against the length of its slice.
    fn check(self, len: usize) -> Result<Self> {
        let layout @ Self { rows, cols, row_stride, col_stride } = self;
        if rows == 0 || cols == 0 {
            // Strides are never stepped here and may be any number: 0 keeps computations with them from
            // overflowing.
            return Ok(Self { row_stride: 0, col_stride: 0, ..layout });
        }
        let overflow = || Error::shape("data", "a matrix whose last index fits usize", layout);
        let row_extent = (rows - 1).checked_mul(row_stride).ok_or_else(overflow)?;
        let col_extent = (cols - 1).checked_mul(col_stride).ok_or_else(overflow)?;
        let last = row_extent.checked_add(col_extent).ok_or_else(overflow)?;
        if last >= len {
            return Err(Error::shape("data", format_args!("at least {} elements for {layout}", last as u128 + 1), len));
        }
        // One axis must step over the whole extent of the other; an axis of one step can't overlap.
        let apart = match (rows, cols) {
            (1, 1) => true,
            (1, _) => col_stride > 0,
            (_, 1) => row_stride > 0,
            _ => (col_stride > 0 && row_stride > col_extent) || (row_stride > 0 && col_stride > row_extent),
        };
        if !apart {
            return Err(Error::shape(
                "row_stride, col_stride",
                "strides under which no two elements share a place",
                layout,
            ));
        }
        Ok(layout)
    }

    /// Makes a contiguous row-major layout over a slice of exactly that length.
    fn dense(len: usize, rows: usize, cols: usize) -> Result<Self> {
        let layout = Self { rows, cols, row_stride: cols, col_stride: 1 };
        if rows.checked_mul(cols) != Some(len) {
            let expected = format_args!("{rows} x {cols} = {} elements", rows as u128 * cols as u128);
            return Err(Error::shape("data", expected, len));
        }
        Ok(layout)
    }

    fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// The layout of some of the rows, and the offset of their first element.
    fn row_range(self, range: &Range<usize>) -> Result<(usize, Self)> {
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

    fn offset(self, row: usize, col: usize) -> Option<usize> {
        (row < self.rows && col < self.cols).then(|| row * self.row_stride + col * self.col_stride)
    }

    /// Flattens a contiguous layout to one long row.
    fn one_row(self) -> Self {
        let cols = self.rows * self.cols;
        Self { rows: 1, cols, row_stride: cols, col_stride: 1 }
    }

    /// Whether all elements are contiguous in row-major order.
    fn is_contiguous(self) -> bool {
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

/// A read-only matrix view over a slice of `f32`.
///
/// Element (row, col) is at `row * row_stride + col * col_stride` of the slice, strides in elements. That all
/// elements are inside of the slice, each at a place of its own, is checked once, when the view is made.
///
/// ```
/// use densely::MatRef;
/// let data = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let x = MatRef::new(&data, 2, 3)?;
/// assert_eq!(x.get(1, 0), Some(4.0));
/// assert_eq!(x.t().get(0, 1), Some(4.0));
/// assert!(MatRef::new(&data, 2, 4).is_err());
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    ptr: *const f32,
    layout: Layout,
    data: PhantomData<&'a [f32]>,
}

/// A writable matrix view over a slice of `f32`, laid out like a [`MatRef`].
///
/// Calls take it by value; [`reborrow`](Self::reborrow) lends it to a call.
///
/// ```
/// use densely::MatMut;
/// let mut data = vec![0.0; 6];
/// let mut y = MatMut::new(&mut data, 2, 3)?;
/// assert!(y.set(1, 2, 7.0));
/// assert_eq!(data[5], 7.0);
/// # Ok::<(), densely::Error>(())
/// ```
pub struct MatMut<'a> {
    ptr: *mut f32,
    layout: Layout,
    data: PhantomData<&'a mut [f32]>,
}

// SAFETY: a MatRef is a shared borrow of f32s, which threads may share.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}
// SAFETY: a MatMut is the only borrow of its elements, and f32 may move between threads.
unsafe impl Send for MatMut<'_> {}
// SAFETY: through a shared MatMut elements can only be read.
unsafe impl Sync for MatMut<'_> {}

/// Rows and columns of a matrix, or of a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub rows: usize,
    pub cols: usize,
}

/// The largest size that all views have.
#[inline(always)]
pub(crate) fn common_size(inputs: &[MatRef<'_>], output: &MatMut<'_>) -> Size {
    let size = Size { rows: output.rows(), cols: output.cols() };
    inputs.iter().fold(size, |size, x| Size { rows: size.rows.min(x.rows()), cols: size.cols.min(x.cols()) })
}

/// Address and strides of a matrix, for kernels that check their bounds beforehand.
#[derive(Clone, Copy)]
pub(crate) struct MatPtr {
    pub p: *mut f32,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl MatPtr {
    /// The address of an element; the caller keeps it within the matrix before reading or writing there.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, col: usize) -> *mut f32 {
        self.p.wrapping_add(row.wrapping_mul(self.row_stride)).wrapping_add(col.wrapping_mul(self.col_stride))
    }

    /// The submatrix that begins at this element.
    #[inline(always)]
    pub(crate) fn from(self, row: usize, col: usize) -> Self {
        Self { p: self.at(row, col), ..self }
    }

    /// The transposed matrix.
    #[inline(always)]
    pub(crate) fn t(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// The read-only methods, the same for both kinds of view.
macro_rules! view_methods {
    () => {
        /// Number of rows.
        #[must_use]
        pub fn rows(&self) -> usize {
            self.layout.rows
        }

        /// Number of columns.
        #[must_use]
        pub fn cols(&self) -> usize {
            self.layout.cols
        }

        /// Distance between neighbours in a column, in elements.
        #[must_use]
        pub fn row_stride(&self) -> usize {
            self.layout.row_stride
        }

        /// Distance between neighbours in a row, in elements.
        #[must_use]
        pub fn col_stride(&self) -> usize {
            self.layout.col_stride
        }

        /// Whether all elements are contiguous in row-major order.
        #[must_use]
        pub fn is_contiguous(&self) -> bool {
            self.layout.is_contiguous()
        }

        /// The element at (`row`, `col`), or `None` outside the matrix.
        #[must_use]
        pub fn get(&self, row: usize, col: usize) -> Option<f32> {
            // SAFETY: the layout was checked against the slice, and the offset is inside the layout.
            self.layout.offset(row, col).map(|offset| unsafe { *self.ptr.add(offset) })
        }

        /// All elements in row-major order.
        #[must_use]
        pub fn to_vec(&self) -> Vec<f32> {
            let rows = if self.cols() == 0 { 0 } else { self.rows() };
            let indices = (0..rows).flat_map(|row| (0..self.cols()).map(move |col| (row, col)));
            indices.filter_map(|(row, col)| self.get(row, col)).collect()
        }
    };
}

impl<'a> MatRef<'a> {
    /// A row-major matrix over a slice of exactly `rows * cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length is another.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Result<Self> {
        Ok(Self::over(data, Layout::dense(data.len(), rows, cols)?))
    }

    /// A matrix of any strides (in elements) over a slice, which may be longer. Without elements, its strides
    /// become 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if an element would lie past the slice, or if two elements could share a place: one
    /// stride must step over the whole extent of the other axis. So a stride of 0 that would repeat a row or
    /// a column is refused.
    pub fn with_strides(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self> {
        Ok(Self::over(data, Layout { rows, cols, row_stride, col_stride }.check(data.len())?))
    }

    fn over(data: &'a [f32], layout: Layout) -> Self {
        Self { ptr: data.as_ptr(), layout, data: PhantomData }
    }

    view_methods!();

    /// The transposed view; nothing is moved.
    #[must_use]
    pub fn t(self) -> Self {
        Self { layout: self.layout.t(), ..self }
    }

    /// The rows of `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range leaves the matrix.
    pub fn row_range(self, range: Range<usize>) -> Result<Self> {
        let (offset, layout) = self.layout.row_range(&range)?;
        // SAFETY: the offset is that of an element of this view, or 0.
        Ok(Self { ptr: unsafe { self.ptr.add(offset) }, layout, ..self })
    }

    /// Row `row` as a slice, if the matrix has that row and its elements are contiguous.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&'a [f32]> {
        let contiguous = self.cols() <= 1 || self.col_stride() == 1;
        if row >= self.rows() || !contiguous {
            return None;
        }
        if self.cols() == 0 {
            return Some(&[]);
        }
        // SAFETY: the row exists and its `cols` elements are contiguous inside the checked slice.
        Some(unsafe { std::slice::from_raw_parts(self.ptr.add(row * self.row_stride()), self.cols()) })
    }

    /// The top `row` rows and the others; all go to the top if there are fewer.
    pub(crate) fn split_at_row(self, row: usize) -> (Self, Self) {
        let row = row.min(self.rows());
        let part = |range| self.layout.row_range(&range).unwrap_or((0, self.layout));
        let ((start, top), (offset, bottom)) = (part(0..row), part(row..self.rows()));
        // SAFETY: both offsets are those of elements of this view, or 0.
        unsafe {
            (
                Self { ptr: self.ptr.add(start), layout: top, ..self },
                Self { ptr: self.ptr.add(offset), layout: bottom, ..self },
            )
        }
    }

    /// Flattens a contiguous view to one long row.
    pub(crate) fn into_one_row(self) -> Self {
        debug_assert!(self.is_contiguous());
        Self { layout: self.layout.one_row(), ..self }
    }

    /// The left `col` columns and the others; all go to the left if there are fewer.
    pub(crate) fn split_at_col(self, col: usize) -> (Self, Self) {
        let (left, right) = self.t().split_at_row(col);
        (left.t(), right.t())
    }

    /// The first element's address, for kernels.
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.ptr
    }

    /// Address and strides, for kernels, which only read through them.
    #[inline(always)]
    pub(crate) fn as_mat_ptr(&self) -> MatPtr {
        MatPtr { p: self.ptr.cast_mut(), row_stride: self.layout.row_stride, col_stride: self.layout.col_stride }
    }
}

impl<'a> MatMut<'a> {
    /// A row-major matrix over a slice of exactly `rows * cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length is another.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self> {
        let layout = Layout::dense(data.len(), rows, cols)?;
        Ok(Self::over(data, layout))
    }

    /// A matrix of any strides (in elements) over a slice, which may be longer. Without elements, its strides
    /// become 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if an element would lie past the slice, or if two elements could share a place: one
    /// stride must step over the whole extent of the other axis. So a stride of 0 that would repeat a row or
    /// a column is refused.
    pub fn with_strides(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Result<Self> {
        let layout = Layout { rows, cols, row_stride, col_stride }.check(data.len())?;
        Ok(Self::over(data, layout))
    }

    fn over(data: &'a mut [f32], layout: Layout) -> Self {
        Self { ptr: data.as_mut_ptr(), layout, data: PhantomData }
    }

    view_methods!();

    /// Writes one element; `false`, and nothing is written, outside the matrix.
    pub fn set(&mut self, row: usize, col: usize, value: f32) -> bool {
        let Some(offset) = self.layout.offset(row, col) else { return false };
        // SAFETY: the layout was checked against the slice, and the offset is inside the layout.
        unsafe { *self.ptr.add(offset) = value };
        true
    }

    /// The transposed view; nothing is moved.
    #[must_use]
    pub fn t(self) -> Self {
        Self { layout: self.layout.t(), ..self }
    }

    /// The rows of `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range leaves the matrix.
    pub fn row_range(self, range: Range<usize>) -> Result<Self> {
        let (offset, layout) = self.layout.row_range(&range)?;
        // SAFETY: the offset is that of an element of this view, or 0.
        Ok(Self { ptr: unsafe { self.ptr.add(offset) }, layout, ..self })
    }

    /// Aliases the elements for reading, for kernels that work in place.
    ///
    /// # Safety
    /// Elements are accessed by pointers only, and none is read while it is written.
    pub(crate) unsafe fn alias(&self) -> MatRef<'a> {
        MatRef { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// The same elements, to be read from now on.
    pub(crate) fn into_ref(self) -> MatRef<'a> {
        MatRef { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// The top `count` rows; the others stay here.
    pub(crate) fn take_rows(&mut self, count: usize) -> Self {
        let (top, bottom) = Self { ..*self }.split_at_row(count);
        *self = bottom;
        top
    }

    /// The left `count` columns; the others stay here.
    pub(crate) fn take_cols(&mut self, count: usize) -> Self {
        let (left, right) = Self { ..*self }.split_at_col(count);
        *self = right;
        left
    }

    /// A shorter borrow of the same view.
    #[must_use]
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// The same elements, to read.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_> {
        MatRef { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// The top `row` rows and the others, to be written at the same time; all go to the top if
    /// there are fewer.
    #[must_use]
    pub fn split_at_row(self, row: usize) -> (Self, Self) {
        let (top, bottom) = self.as_ref().split_at_row(row);
        // No element belongs to both halves, since no two elements of a view share a place; that
        // makes it right for both to be writable.
        (
            Self { ptr: top.ptr.cast_mut(), layout: top.layout, data: PhantomData },
            Self { ptr: bottom.ptr.cast_mut(), layout: bottom.layout, data: PhantomData },
        )
    }

    /// Flattens a contiguous view to one long row.
    pub(crate) fn into_one_row(self) -> Self {
        debug_assert!(self.is_contiguous());
        Self { layout: self.layout.one_row(), ..self }
    }

    /// The left `col` columns and the others; all go to the left if there are fewer.
    pub(crate) fn split_at_col(self, col: usize) -> (Self, Self) {
        let (left, right) = self.t().split_at_row(col);
        (left.t(), right.t())
    }

    /// The first element's address, for kernels.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.ptr
    }

    /// Address and strides, for kernels.
    #[inline(always)]
    pub(crate) fn as_mat_ptr(&mut self) -> MatPtr {
        MatPtr { p: self.ptr, row_stride: self.layout.row_stride, col_stride: self.layout.col_stride }
    }
}

impl fmt::Debug for MatRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatRef({})", self.layout)
    }
}

impl fmt::Debug for MatMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatMut({})", self.layout)
    }
}

/// Flattens a batch of images, or of anything else, to a matrix with one sample a row.
///
/// `shape` is the batch size followed by the shape of a sample: (N, 28, 28) gives N x 784, and
/// colour images (N, 3, 28, 28) give N x 2352. The last axis is the innermost, as in Keras'
/// `Flatten`. A batch of numbers, (N), gives N x 1. Nothing is moved.
///
/// ```
/// let images = vec![0.0; 5 * 3 * 28 * 28];
/// let x = densely::flatten(&images, &[5, 3, 28, 28])?;
/// assert_eq!((x.rows(), x.cols()), (5, 2352));
/// # Ok::<(), densely::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if `shape` is empty, its product overflows, or the product is not `data.len()`.
pub fn flatten<'a>(data: &'a [f32], shape: &[usize]) -> Result<MatRef<'a>> {
    let Some((&batch, sample)) = shape.split_first() else {
        return Err(Error::shape("shape", "the batch size, then the shape of a sample", "no axes"));
    };
    let features = sample.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis));
    let features =
        features.ok_or_else(|| Error::shape("shape", "a product that fits usize", format_args!("{shape:?}")))?;
    MatRef::new(data, batch, features)
}
