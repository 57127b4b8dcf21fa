//! Rows of few elements, one row per lane, so that nothing is summed across lanes.
//!
//! A division or a logarithm per row, 10 to 30 cycles of latency, is computed for 16 rows at a time.

use std::mem::MaybeUninit;

use super::row_reduction::{RowReduction, Shift};
use super::terms::{column_of_all, terms_of_columns};
use crate::contract::ROW_LANES;
use crate::matrix::{MatPtr, Size};
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// Rows in a block at most.
pub(super) const MAX_ROWS: usize = 64;

/// Vectors of the narrowest instruction set that hold an element of [`ROW_LANES`] rows.
const MAX_VECTORS: usize = 4;

/// Columns that [`Simd::load_4_columns`] transposes at a time.
const GROUP: usize = 4;

/// Rows in a block; its columns fill at most [`ROW_PER_LANE_COLS`] x [`ROW_LANES`] floats, 4 KiB.
pub(super) fn block_rows(cols: usize) -> usize {
    ROW_PER_LANE_COLS / padded(cols) * ROW_LANES
}

/// Columns, rounded up to whole groups of partial sums.
fn padded(cols: usize) -> usize {
    cols.clamp(1, ROW_PER_LANE_COLS).next_multiple_of(ROW_LANES)
}

/// One number for each row of a block.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct PerRow(pub(super) [f32; MAX_ROWS]);

impl PerRow {
    #[inline(always)]
    pub(super) fn splat(value: f32) -> Self {
        Self([value; MAX_ROWS])
    }

    /// Loads the numbers of `LANES` rows from `row` on.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, s: S, row: usize) -> S::F32 {
        let rows = &self.0[row..row + S::LANES];
        // SAFETY: the slice has `LANES` elements.
        unsafe { s.load(rows.as_ptr()) }
    }

    /// Stores the numbers of `LANES` rows from `row` on.
    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, s: S, row: usize, v: S::F32) {
        let rows = &mut self.0[row..row + S::LANES];
        // SAFETY: the slice has `LANES` elements.
        unsafe { s.store(rows.as_mut_ptr(), v) };
    }
}

/// The columns of a block: for each vector of rows, one vector per column.
#[derive(Clone, Copy)]
pub(super) struct ColumnBuffer<S: Simd> {
    vectors: [MaybeUninit<S::F32>; MAX_VECTORS * ROW_PER_LANE_COLS],
    /// Vectors at the front that are initialised.
    initialised: usize,
    /// Columns, rounded up to whole groups of partial sums; those past the row's own are 0.
    cols: usize,
}

impl<S: Simd> ColumnBuffer<S> {
    /// An empty buffer; [`zero`](Self::zero) sets its size.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { vectors: [MaybeUninit::uninit(); MAX_VECTORS * ROW_PER_LANE_COLS], initialised: 0, cols: 0 }
    }

    /// Sets all elements of a block, of at most [`block_rows`], to 0.
    #[inline(always)]
    pub(super) fn zero(&mut self, s: S, size: Size) {
        self.cols = padded(size.cols);
        self.initialised = size.rows.div_ceil(S::LANES) * self.cols;
        self.vectors[..self.initialised].fill(MaybeUninit::new(s.splat(0.0)));
    }

    /// The columns of `LANES` rows from `row` on, padding included.
    #[inline(always)]
    pub(super) fn of_rows(&mut self, row: usize) -> &mut [S::F32] {
        let vectors = &mut self.vectors[..self.initialised];
        // SAFETY: `zero` has initialised these vectors.
        let vectors = unsafe { &mut *(std::ptr::from_mut(vectors) as *mut [S::F32]) };
        &mut vectors[row / S::LANES * self.cols..][..self.cols]
    }
}

/// Applies a reduction to rows of 1 to [`ROW_PER_LANE_COLS`] columns: inputs and y are rows x cols.
///
/// ```text
/// for each block of up to 64 rows, each step for all vectors of rows before the next:
///     load the columns; shift = the maximum over the columns, if it is subtracted
///     term of each column
///     sum over the columns, by 16 partial sums
///     scale, 16 rows at a time
///     finish each column; store
/// ```
///
/// Within a row each step waits for the one before; those of other rows fill the time.
///
/// # Safety
/// Inputs can be read and y be written in the given size; an input may be y.
#[inline(always)]
pub(super) unsafe fn reduce_rows<T: Tier, Op: RowReduction<INPUTS>, const INPUTS: usize>(
    tier: T,
    op: Op,
    inputs: [MatPtr; INPUTS],
    y: MatPtr,
    size: Size,
) {
    let (s, r, lanes, cols) = (tier.vector(), tier.row(), T::Vector::LANES, size.cols);
    let block = Size { rows: block_rows(cols).min(size.rows), cols };
    let (mut columns, mut terms) = ([ColumnBuffer::<T::Vector>::new(); INPUTS], ColumnBuffer::new());
    for columns in &mut columns {
        columns.zero(s, block);
    }
    terms.zero(s, block);
    for first in (0..size.rows).step_by(block.rows) {
        let rows = block.rows.min(size.rows - first);
        let [mut shifts, mut sums] = [PerRow::splat(0.0); 2];
        for row in (0..rows).step_by(lanes) {
            for (columns, x) in columns.iter_mut().zip(inputs) {
                let size = Size { rows: lanes.min(rows - row), cols };
                // SAFETY: the views have these rows and columns.
                unsafe { load_columns(s, x.from(first + row, 0), size, columns.of_rows(row)) };
            }
            if Op::SHIFT == Shift::Max {
                shifts.store(s, row, max_of_columns(s, &columns[0].of_rows(row)[..cols]));
            }
        }
        for row in (0..rows).step_by(lanes) {
            let terms = &mut terms.of_rows(row)[..cols];
            terms_of_columns(s, op, columns_of_all(&mut columns, row), shifts.load(s, row), terms);
        }
        for row in (0..rows).step_by(lanes) {
            sums.store(s, row, sum_of_columns(s, terms.of_rows(row)));
        }
        for row in (0..rows).step_by(ROW_LANES) {
            let scale = op.scale(r, sums.load(r, row));
            sums.store(r, row, scale);
        }
        for row in (0..rows).step_by(lanes) {
            let (shift, scale) = (shifts.load(s, row), sums.load(s, row));
            let (inputs, outputs) = (columns_of_all(&mut columns, row), &mut terms.of_rows(row)[..cols]);
            for (col, output) in outputs.iter_mut().enumerate() {
                // SAFETY: all buffers have the same number of columns, at least `cols`.
                let v = unsafe { column_of_all(s, inputs, col) };
                *output = op.finish(s, v, *output, shift, scale);
            }
            // SAFETY: y has these rows and columns.
            unsafe { store_columns(s, y.from(first + row, 0), lanes.min(rows - row), outputs) };
        }
    }
}

/// The columns of `LANES` rows from `row` on, of all inputs.
#[inline(always)]
fn columns_of_all<S: Simd, const INPUTS: usize>(
    buffers: &mut [ColumnBuffer<S>; INPUTS],
    row: usize,
) -> [&[S::F32]; INPUTS] {
    let mut columns: [&[S::F32]; INPUTS] = [&[]; INPUTS];
    for (columns, buffer) in columns.iter_mut().zip(buffers) {
        *columns = buffer.of_rows(row);
    }
    columns
}

/// Loads the columns of 1 to `LANES` rows; vectors past `size.cols` stay as they are.
///
/// # Safety
/// `x` points to rows and columns of that size, which can be read; `columns` has `size.cols` vectors or more.
#[inline(always)]
pub(super) unsafe fn load_columns<S: Simd>(s: S, x: MatPtr, size: Size, columns: &mut [S::F32]) {
    // A constant number of rows spares the checks whether each row exists.
    // SAFETY: `x` has rows and columns of that size.
    unsafe {
        if size.rows == S::LANES {
            load_columns_of(s, x, Size { rows: S::LANES, ..size }, columns);
        } else {
            load_columns_of(s, x, size, columns);
        }
    }
}

/// # Safety
/// As for [`load_columns`].
#[inline(always)]
unsafe fn load_columns_of<S: Simd>(s: S, x: MatPtr, Size { rows, cols }: Size, columns: &mut [S::F32]) {
    let MatPtr { p, row_stride, col_stride } = x;
    // SAFETY: each group ends at or before `cols`, and the last one of `GROUP` columns may overlap the one
    // before.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                let col = col.min(cols - GROUP);
                let group = s.load_4_columns(p.wrapping_add(col), row_stride, rows);
                columns[col..col + GROUP].copy_from_slice(&group);
            }
        } else {
            for (col, v) in columns[..cols].iter_mut().enumerate() {
                *v = load_strided(s, p.wrapping_add(col * col_stride), row_stride, rows, s.splat(0.0));
            }
        }
    }
}

/// Stores columns to 1 to `LANES` rows.
///
/// # Safety
/// `y` points to `rows` rows of as many columns as there are vectors, which can be written.
#[inline(always)]
pub(super) unsafe fn store_columns<S: Simd>(s: S, y: MatPtr, rows: usize, columns: &[S::F32]) {
    // SAFETY: `y` has these rows and columns.
    unsafe {
        if rows == S::LANES {
            store_columns_of(s, y, S::LANES, columns);
        } else {
            store_columns_of(s, y, rows, columns);
        }
    }
}

/// # Safety
/// As for [`store_columns`].
#[inline(always)]
unsafe fn store_columns_of<S: Simd>(s: S, y: MatPtr, rows: usize, columns: &[S::F32]) {
    let (MatPtr { p, row_stride, col_stride }, cols) = (y, columns.len());
    // SAFETY: as in `load_columns_of`.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                let col = col.min(cols - GROUP);
                let group = [columns[col], columns[col + 1], columns[col + 2], columns[col + 3]];
                s.store_4_columns(p.wrapping_add(col), row_stride, rows, group);
            }
        } else {
            for (col, &v) in columns.iter().enumerate() {
                store_strided(s, p.wrapping_add(col * col_stride), row_stride, rows, v);
            }
        }
    }
}

/// Each row's maximum, NaNs left out; no less than the least finite number.
#[inline(always)]
pub(super) fn max_of_columns<S: Simd>(s: S, columns: &[S::F32]) -> S::F32 {
    let mut max = s.splat(f32::MIN);
    for &x in columns {
        max = s.max(x, max);
    }
    max
}

/// Each row's sum, in the order of the contract; the number of columns is a multiple of [`ROW_LANES`].
#[inline(always)]
pub(super) fn sum_of_columns<S: Simd>(s: S, columns: &[S::F32]) -> S::F32 {
    let zero = s.splat(0.0);
    let mut partials = [zero; ROW_LANES];
    partials.copy_from_slice(&columns[..ROW_LANES]);
    for columns in columns[ROW_LANES..].chunks_exact(ROW_LANES) {
        for (partial, &column) in partials.iter_mut().zip(columns) {
            *partial = s.add(column, *partial);
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] = s.add(partials[i], partials[i + half]);
        }
    }
    // Sums start at 0, which turns one of -0 to 0.
    s.add(partials[0], zero)
}
