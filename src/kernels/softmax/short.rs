//! Rows of few elements: one in each lane, so that nothing is summed across lanes. What is done once a row, a
//! logarithm or a division, is done for many at a time, which hides how long it takes.

use std::mem::MaybeUninit;

use super::Softmaxes;
use crate::kernels::elementwise::Operand;
use crate::kernels::tier::Tier;
use crate::kernels::{load_row, store_row};
use crate::matrix::{MatMut, MatRef};
use crate::simd::{ROW_LANES, Simd};

/// The most elements.
pub(super) const SHORT: usize = 64;

/// The most rows that are worked on at a time.
pub(super) const MAX_ROWS: usize = 64;

/// Vectors of the least lanes that hold an element of so many rows as the partial sums are.
const MAX_VECTORS: usize = 4;

/// Rows of so many elements, at most [`SHORT`], that are worked on at a time.
pub(super) fn rows_at_once(cols: usize) -> usize {
    MAX_ROWS / (whole_sums(cols) / ROW_LANES)
}

/// As many columns as whole groups for [`sum`].
fn whole_sums(cols: usize) -> usize {
    cols.clamp(1, SHORT).next_multiple_of(ROW_LANES)
}

/// Columns that [`Simd::load_columns`] takes at a time.
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
pub(super) struct Columns<S: Simd>([MaybeUninit<S::F32>; MAX_VECTORS * SHORT]);

impl<S: Simd> Columns<S> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([MaybeUninit::uninit(); MAX_VECTORS * SHORT])
    }

    /// Makes room for so many rows, at most [`rows_at_once`]; all elements are 0.
    #[inline(always)]
    pub(super) fn zero(&mut self, s: S, [rows, cols]: [usize; 2]) {
        self.0[..rows.div_ceil(S::LANES) * whole_sums(cols)].fill(MaybeUninit::new(s.splat(0.0)));
    }

    /// The columns of a vector's rows, and as many more as make whole groups for [`sum`].
    ///
    /// # Safety
    /// There was [made room](Self::zero) for the row, and as many columns.
    #[inline(always)]
    pub(super) unsafe fn of_row(&mut self, row: usize, cols: usize) -> &mut [S::F32] {
        let whole = whole_sums(cols);
        let columns = &mut self.0[row / S::LANES * whole..][..whole];
        // SAFETY: they have been written.
        unsafe { &mut *(std::ptr::from_mut(columns) as *mut [S::F32]) }
    }
}

/// Reads so many columns of so many rows, 1 to `LANES`; what is past them stays as it is.
///
/// # Safety
/// There are so many rows and columns to read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, x: Operand, [rows, cols]: [usize; 2], columns: &mut [S::F32]) {
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
    Operand { p, strides: [row_stride, col_stride] }: Operand,
    [rows, cols]: [usize; 2],
    columns: &mut [S::F32],
) {
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                // The last group may hold columns of the one before.
                let col = col.min(cols - GROUP);
                let group = s.load_columns(p.wrapping_add(col), row_stride, rows);
                columns[col..col + GROUP].copy_from_slice(&group);
            }
        } else {
            for (col, v) in columns[..cols].iter_mut().enumerate() {
                *v = load_row(s, p.wrapping_add(col * col_stride), row_stride, rows, s.splat(0.0));
            }
        }
    }
}

/// Writes columns to so many rows, 1 to `LANES`.
///
/// # Safety
/// There are so many rows and columns to write.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, y: Operand, rows: usize, columns: &[S::F32]) {
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
unsafe fn store_rows<S: Simd>(
    s: S,
    Operand { p, strides: [row_stride, col_stride] }: Operand,
    rows: usize,
    columns: &[S::F32],
) {
    let cols = columns.len();
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                let col = col.min(cols - GROUP);
                let group = [columns[col], columns[col + 1], columns[col + 2], columns[col + 3]];
                s.store_columns(p.wrapping_add(col), row_stride, rows, group);
            }
        } else {
            for (col, &v) in columns.iter().enumerate() {
                store_row(s, p.wrapping_add(col * col_stride), row_stride, rows, v);
            }
        }
    }
}

/// Works on all rows.
///
/// # Safety
/// The views have so many rows and columns, 1 to [`SHORT`] of these.
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
    let mut blocks = [Columns::<T::Vector>::new(); INPUTS];
    for columns in &mut blocks {
        columns.zero(s, [at_once, cols]);
    }
    let mut room = Columns::new();
    room.zero(s, [1, cols]);
    let y = Operand { p: y.as_mut_ptr(), strides: [y.row_stride(), y.col_stride()] };
    let x = x.map(Operand::of);
    for first in (0..rows).step_by(at_once) {
        let (x, y) = (x.map(|x| x.from(first, 0)), y.from(first, 0));
        let rows = at_once.min(rows - first);
        let mut of_rows = [PerRow([0.0; MAX_ROWS]); 2];
        for row in (0..rows).step_by(lanes) {
            // SAFETY: there is room for these.
            let (mut columns, room) =
                unsafe { (blocks.each_mut().map(|block| block.of_row(row, cols)), room.of_row(0, cols)) };
            for (columns, x) in columns.iter_mut().zip(x) {
                // SAFETY: the views have these rows.
                unsafe { load(s, x.from(row, 0), [lanes.min(rows - row), cols], columns) };
            }
            let of_these = op.reduce(s, columns, room, cols);
            for (of_rows, of_these) in of_rows.iter_mut().zip(of_these) {
                of_rows.store(s, row, of_these);
            }
        }
        for row in (0..rows).step_by(ROW_LANES) {
            let sums = op.of_sums(r, of_rows[1].load(r, row));
            of_rows[1].store(r, row, sums);
        }
        for row in (0..rows).step_by(lanes) {
            // SAFETY: as above.
            let mut columns = unsafe { blocks.each_mut().map(|block| &mut block.of_row(row, cols)[..cols]) };
            op.finish(s, &mut columns, [of_rows[0].load(s, row), of_rows[1].load(s, row)]);
            // SAFETY: as above.
            unsafe { store(s, y.from(row, 0), lanes.min(rows - row), columns[INPUTS - 1]) };
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
