//! Rows of few elements: one in each lane, so that nothing is summed across lanes, and a logarithm or
//! a division serves as many rows as there are lanes.

use super::Softmaxes;
use crate::kernels::{load_row, store_row};
use crate::matrix::{MatMut, MatRef};
use crate::simd::{ROW_LANES, Simd};

/// The most elements.
pub(super) const SHORT: usize = 64;

/// The columns of as many rows as there are lanes.
pub(super) type Columns<S> = [<S as Simd>::F32; SHORT];

/// Columns that [`Simd::load_columns`] takes at a time.
const GROUP: usize = 4;

/// Works on all rows.
///
/// # Safety
/// The views have so many rows and columns, 1 to [`SHORT`] of these.
#[inline(always)]
pub(super) unsafe fn each_block<S: Simd, Op: Softmaxes<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [MatRef<'_>; INPUTS],
    mut y: MatMut<'_>,
    [rows, cols]: [usize; 2],
) {
    let mut blocks = [[s.splat(0.0); SHORT]; INPUTS];
    let to = y.as_mut_ptr();
    let strides = [y.row_stride(), y.col_stride()];
    for row in (0..rows).step_by(S::LANES) {
        let n = S::LANES.min(rows - row);
        // SAFETY: rows up to row + n are the views'.
        unsafe {
            for (block, x) in blocks.iter_mut().zip(&x) {
                let from = x.as_ptr().wrapping_add(row * x.row_stride());
                load(s, from, [x.row_stride(), x.col_stride()], [n, cols], block);
            }
            op.block(s, &mut blocks, cols);
            store(s, to.wrapping_add(row * strides[0]), strides, [n, cols], &blocks[INPUTS - 1]);
        }
    }
}

/// # Safety
/// There are so many rows, 1 to `LANES`, and columns to read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(
    s: S,
    p: *const f32,
    [row_stride, col_stride]: [usize; 2],
    [rows, cols]: [usize; 2],
    block: &mut Columns<S>,
) {
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                // The last group may hold columns of the one before.
                let col = col.min(cols - GROUP);
                let group = s.load_columns(p.wrapping_add(col), row_stride, rows);
                block[col..col + GROUP].copy_from_slice(&group);
            }
        } else {
            for (col, v) in block[..cols].iter_mut().enumerate() {
                *v = load_row(s, p.wrapping_add(col * col_stride), row_stride, rows, s.splat(0.0));
            }
        }
    }
}

/// # Safety
/// There are so many rows, 1 to `LANES`, and columns to write.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(
    s: S,
    p: *mut f32,
    [row_stride, col_stride]: [usize; 2],
    [rows, cols]: [usize; 2],
    block: &Columns<S>,
) {
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                let col = col.min(cols - GROUP);
                let group = [block[col], block[col + 1], block[col + 2], block[col + 3]];
                s.store_columns(p.wrapping_add(col), row_stride, rows, group);
            }
        } else {
            for (col, &v) in block[..cols].iter().enumerate() {
                store_row(s, p.wrapping_add(col * col_stride), row_stride, rows, v);
            }
        }
    }
}

/// Each row's maximum, NaNs left out; no less than the least finite number.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &Columns<S>, cols: usize) -> S::F32 {
    let mut max = s.splat(f32::MIN);
    for &x in &x[..cols] {
        max = s.max(x, max);
    }
    max
}

/// The partial sums of rows.
pub(super) struct Partials<S: Simd>([S::F32; ROW_LANES]);

impl<S: Simd> Partials<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self([s.splat(0.0); ROW_LANES])
    }

    /// Adds the rows' elements of a column.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, col: usize, v: S::F32) {
        let partial = &mut self.0[col % ROW_LANES];
        *partial = s.add(v, *partial);
    }

    /// The sums of so many columns. Partials without a column are 0: they are left out.
    #[inline(always)]
    pub(super) fn total(mut self, s: S, cols: usize) -> S::F32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                if i + half < cols {
                    self.0[i] = s.add(self.0[i], self.0[i + half]);
                }
            }
        }
        self.0[0]
    }
}
