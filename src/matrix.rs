//! `MatRef` and `MatMut`: two-dimensional views over `f32` slices, checked once, when they are made.
//!
//! Element (row, col) has the index `row * row_stride + col * col_stride` in the slice, strides in elements.
//! No two elements of a view have the same index, and none leaves the slice: kernels rely on the view alone.
//! Transposing swaps the axes and copies nothing.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::layout::Layout;

/// A read-only matrix view over a slice of `f32`.
///
/// Element (row, col) has the index `row * row_stride + col * col_stride` in the slice, strides in elements.
/// That all indices are inside the slice, and all different, is checked once, when the view is made.
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

/// A writable matrix view over a slice of `f32`, with the layout of a [`MatRef`].
///
/// Calls take it by value; [`reborrow`](Self::reborrow) gives them a shorter borrow.
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

// SAFETY: a MatRef is a shared borrow of floats, which are Sync.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}
// SAFETY: a MatMut is the only borrow of its elements, and floats are Send.
unsafe impl Send for MatMut<'_> {}
// SAFETY: through a shared reference to a MatMut its elements are only read.
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

/// Address and strides of a matrix, for kernels, which have checked their bounds.
#[derive(Clone, Copy)]
pub(crate) struct MatPtr {
    pub p: *mut f32,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl MatPtr {
    /// The address of an element; it may be read or written only inside the matrix.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, col: usize) -> *mut f32 {
        self.p.wrapping_add(row.wrapping_mul(self.row_stride)).wrapping_add(col.wrapping_mul(self.col_stride))
    }

    /// The submatrix from this element on.
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

/// The methods that are the same for both kinds of view.
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

        /// Distance from one row to the next, in elements.
        #[must_use]
        pub fn row_stride(&self) -> usize {
            self.layout.row_stride
        }

        /// Distance from one column to the next, in elements.
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
            // SAFETY: the layout was checked against the slice, and the offset is that of one of its
            // elements.
            self.layout.offset(row, col).map(|offset| unsafe { *self.ptr.add(offset) })
        }

        /// All elements in row-major order.
        #[must_use]
        pub fn to_vec(&self) -> Vec<f32> {
            let rows = if self.cols() == 0 { 0 } else { self.rows() };
            let indices = (0..rows).flat_map(|row| (0..self.cols()).map(move |col| (row, col)));
            indices.filter_map(|(row, col)| self.get(row, col)).collect()
        }

        /// The transposed view; nothing is copied.
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

        /// The left `col` columns and the others; all are left if there are fewer.
        pub(crate) fn split_at_col(self, col: usize) -> (Self, Self) {
            let (left, right) = self.t().split_at_row(col);
            (left.t(), right.t())
        }

        /// Reshapes a contiguous view to a single row.
        pub(crate) fn into_one_row(self) -> Self {
            debug_assert!(self.is_contiguous());
            Self { layout: self.layout.one_row(), ..self }
        }
    };
}

impl<'a> MatRef<'a> {
    /// A row-major matrix over a slice of exactly `rows * cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length is another.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Result<Self> {
        Ok(Self::over(data, Layout::contiguous(data.len(), rows, cols)?))
    }

    /// A matrix of any strides (in elements) over a slice, which may be longer. Without elements, its strides
    /// become 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if an element would lie past the slice, or if two elements could share an index: one
    /// stride must exceed the extent of the other axis. A stride of 0, which would repeat a row or a column,
    /// is refused.
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
        // SAFETY: the row exists, and its `cols` elements are contiguous inside the checked slice.
        Some(unsafe { std::slice::from_raw_parts(self.ptr.add(row * self.row_stride()), self.cols()) })
    }

    /// The top `row` rows and the others; all are in the first if there are fewer.
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

    /// The address of the first element.
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.ptr
    }

    /// Address and strides; kernels only read through them.
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
        let layout = Layout::contiguous(data.len(), rows, cols)?;
        Ok(Self::over(data, layout))
    }

    /// A matrix of any strides (in elements) over a slice, which may be longer. Without elements, its strides
    /// become 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if an element would lie past the slice, or if two elements could share an index: one
    /// stride must exceed the extent of the other axis. A stride of 0, which would repeat a row or a column,
    /// is refused.
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
        // SAFETY: the layout was checked against the slice, and the offset is that of one of its elements.
        unsafe { *self.ptr.add(offset) = value };
        true
    }

    /// The same elements to read, for kernels that overwrite their input.
    ///
    /// # Safety
    /// No element is read through the alias while it is written, and none is assumed to stay the same.
    pub(crate) unsafe fn alias(&self) -> MatRef<'a> {
        MatRef { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// The same elements, read-only from now on.
    pub(crate) fn into_ref(self) -> MatRef<'a> {
        MatRef { ptr: self.ptr, layout: self.layout, data: PhantomData }
    }

    /// Takes the top `count` rows; the others stay in `self`.
    pub(crate) fn take_rows(&mut self, count: usize) -> Self {
        let (top, bottom) = Self { ..*self }.split_at_row(count);
        *self = bottom;
        top
    }

    /// Takes the left `count` columns; the others stay in `self`.
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

    /// The top `row` rows and the others, to be written at the same time; all are in the first if there are
    /// fewer.
    #[must_use]
    pub fn split_at_row(self, row: usize) -> (Self, Self) {
        let (top, bottom) = self.as_ref().split_at_row(row);
        // Both may be writable: no two elements of a view have the same index, so the halves are disjoint.
        (
            Self { ptr: top.ptr.cast_mut(), layout: top.layout, data: PhantomData },
            Self { ptr: bottom.ptr.cast_mut(), layout: bottom.layout, data: PhantomData },
        )
    }
    /// Address and strides.
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

/// Flattens a batch of samples of any shape to a matrix with one sample a row.
///
/// `shape` is the batch size followed by the shape of a sample: (N, 28, 28) gives N x 784, and
/// colour images (N, 3, 28, 28) give N x 2352. The last axis is the innermost, as in Keras'
/// `Flatten`. A batch of numbers, (N), gives N x 1. Nothing is copied.
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
