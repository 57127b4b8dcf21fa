//! Rows of few elements: one in each lane, so that nothing is summed across lanes. What is done once a row, a
//! logarithm or a division, is done for many at a time, which hides how long it takes.

use std::mem::MaybeUninit;

use super::Softmaxes;
use crate::contract::ROW_LANES;
use crate::matrix::{MatMut, MatPtr, MatRef};
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// The most rows that are worked on at a time.
pub(super) const MAX_ROWS: usize = 64;

/// Vectors of the least lanes that hold an element of so many rows as the partial sums are.
const MAX_VECTORS: usize = 4;

/// Rows of so many elements, at most [`ROW_PER_LANE_COLS`], that are worked on at a time.
pub(super) fn rows_at_once(cols: usize) -> usize {
    ROW_PER_LANE_COLS / whole_sums(cols) * ROW_LANES
}

/// As many columns as whole groups for [`sum`].
fn whole_sums(cols: usize) -> usize {
    cols.clamp(1, ROW_PER_LANE_COLS).next_multiple_of(ROW_LANES)
}

/// Columns that [`Simd::load_4_columns`] takes at a time.
const GROUP: usize = 4;

/// A number for each of the rows that are worked on.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct PerRow(pub(super) [f32; MAX_ROWS]);

impl PerRow {
    /// Those of rows from `row` on.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, s: S, row: usize) -> S::F32 {
        let rows = &self.0[row..row + S::LANES];
        // SAFETY: the slice has so many.
        unsafe { s.load(rows.as_ptr()) }
    }

    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, s: S, row: usize, v: S::F32) {
        let rows = &mut self.0[row..row + S::LANES];
        // SAFETY: as above.
        unsafe { s.store(rows.as_mut_ptr(), v) };
    }
}

/// Room for the columns of the rows that are worked on.
#[derive(Clone, Copy)]
pub(crate) struct Columns<S: Simd> {
    vectors: [MaybeUninit<S::F32>; MAX_VECTORS * ROW_PER_LANE_COLS],
    /// How many of these are written.
    written: usize,
    /// As many columns as whole groups for [`sum`].
    cols: usize,
}

impl<S: Simd> Columns<S> {
    /// No room yet.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { vectors: [MaybeUninit::uninit(); MAX_VECTORS * ROW_PER_LANE_COLS], written: 0, cols: 0 }
    }

    /// Makes room for so many rows, at most [`rows_at_once`]; all elements are 0.
    #[inline(always)]
    pub(super) fn zero(&mut self, s: S, [rows, cols]: [usize; 2]) {
        self.cols = whole_sums(cols);
        self.written = rows.div_ceil(S::LANES) * self.cols;
        self.vectors[..self.written].fill(MaybeUninit::new(s.splat(0.0)));
    }

    /// The columns of the rows from `row` on, one in each lane, and as many more as make whole groups for [`sum`].
    #[inline(always)]
    pub(super) fn of_row(&mut self, row: usize) -> &mut [S::F32] {
        let written = &mut self.vectors[..self.written];
        // SAFETY: they are.
        let written = unsafe { &mut *(std::ptr::from_mut(written) as *mut [S::F32]) };
        &mut written[row / S::LANES * self.cols..][..self.cols]
    }
}

/// Reads so many columns of so many rows, 1 to `LANES`; what is past them stays as it is.
///
/// # Safety
/// There are so many rows and columns to read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, x: MatPtr, [rows, cols]: [usize; 2], columns: &mut [S::F32]) {
    // SAFETY: the caller's.
    unsafe {
        // Where the number of rows is known to the compiler, no row is looked at on its own.
        if rows == S::LANES {
            load_rows(s, x, [S::LANES, cols], columns);
        } else {
            load_rows(s, x, [rows, cols], columns);
        }
    }
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn load_rows<S: Simd>(
    s: S,
    MatPtr { p, row_stride, col_stride }: MatPtr,
    [rows, cols]: [usize; 2],
    columns: &mut [S::F32],
) {
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                // The last group may hold columns of the one before.
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

/// Writes columns to so many rows, 1 to `LANES`.
///
/// # Safety
/// There are so many rows and columns to write.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, y: MatPtr, rows: usize, columns: &[S::F32]) {
    // SAFETY: the caller's.
    unsafe {
        if rows == S::LANES {
            store_rows(s, y, S::LANES, columns);
        } else {
            store_rows(s, y, rows, columns);
        }
    }
}

/// # Safety
/// As for [`store`].
#[inline(always)]
unsafe fn store_rows<S: Simd>(s: S, MatPtr { p, row_stride, col_stride }: MatPtr, rows: usize, columns: &[S::F32]) {
    let cols = columns.len();
    // SAFETY: the caller's.
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

/// Works on all rows.
///
/// # Safety
/// The views have so many rows and columns, 1 to [`ROW_PER_LANE_COLS`] of these.
#[inline(always)]
pub(super) unsafe fn each_block<T: Tier, Op: Softmaxes<INPUTS>, const INPUTS: usize>(
    tier: T,
    op: Op,
    x: [MatRef<'_>; INPUTS],
    mut y: MatMut<'_>,
    [rows, cols]: [usize; 2],
) {
    let (s, r, lanes) = (tier.vector(), tier.row(), T::Vector::LANES);
    let at_once = rows_at_once(cols).min(rows);
    let (mut blocks, mut terms) = ([Columns::<T::Vector>::new(); INPUTS], Columns::new());
    for columns in &mut blocks {
        columns.zero(s, [at_once, cols]);
    }
    terms.zero(s, [at_once, cols]);
    let y = y.as_mat_ptr();
    let x = x.map(|x| x.as_mat_ptr());
    for first in (0..rows).step_by(at_once) {
        let (x, y) = (x.map(|x| x.from(first, 0)), y.from(first, 0));
        let rows = at_once.min(rows - first);
        let [mut kept, mut sums] = [PerRow([0.0; MAX_ROWS]); 2];
        // Each step for all rows before the next: within a row each waits for the one before.
        for row in (0..rows).step_by(lanes) {
            for (block, x) in blocks.iter_mut().zip(x) {
                // SAFETY: the views have these rows.
                unsafe { load(s, x.from(row, 0), [lanes.min(rows - row), cols], block.of_row(row)) };
            }
            kept.store(s, row, op.keep(s, &mut blocks, [row, cols]));
        }
        for row in (0..rows).step_by(lanes) {
            op.terms(s, &mut blocks, [row, cols], kept.load(s, row), &mut terms.of_row(row)[..cols]);
        }
        for row in (0..rows).step_by(lanes) {
            sums.store(s, row, sum(s, terms.of_row(row)));
        }
        for row in (0..rows).step_by(ROW_LANES) {
            let of_these = op.of_sums(r, sums.load(r, row));
            sums.store(r, row, of_these);
        }
        for row in (0..rows).step_by(lanes) {
            let columns = &mut terms.of_row(row)[..cols];
            op.finish(s, &mut blocks, [row, cols], [kept.load(s, row), sums.load(s, row)], columns);
            // SAFETY: as above.
            unsafe { store(s, y.from(row, 0), lanes.min(rows - row), columns) };
        }
    }
}

/// Each row's maximum, NaNs left out; no less than the least finite number.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &[S::F32]) -> S::F32 {
    let mut max = s.splat(f32::MIN);
    for &x in x {
        max = s.max(x, max);
    }
    max
}

/// The sum of the columns, whose number is a multiple of the partial sums', by way of those.
#[inline(always)]
pub(super) fn sum<S: Simd>(s: S, columns: &[S::F32]) -> S::F32 {
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
    // Sums begin with 0, which makes one of -0.
    s.add(partials[0], zero)
}
