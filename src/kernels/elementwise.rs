//! Kernels that treat every element alike, and sums over columns.

use super::RowOp;
use crate::contract::CHUNK_ROWS;
use crate::math;
use crate::matrix::{MatMut, MatPtr, MatRef};
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;

/// What becomes of each element.
pub(crate) trait Elementwise<const INPUTS: usize>: Copy + Send {
    /// One vector of outputs. Must be `#[inline(always)]`, which a closure can't be.
    fn vector<S: Simd>(self, s: S, inputs: [S::F32; INPUTS]) -> S::F32;
}

/// Views without gaps are walked as one long row.
impl<Op: Elementwise<INPUTS>, const INPUTS: usize> RowOp<INPUTS> for Op {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; INPUTS], y: MatMut<'_>) {
        let one_row = x.iter().all(|x| x.is_contiguous() && x.cols() == y.cols()) && y.is_contiguous();
        let (x, mut y) = if one_row { (x.map(MatRef::into_one_row), y.into_one_row()) } else { (x, y) };
        let rows = x.iter().fold(y.rows(), |rows, x| rows.min(x.rows()));
        let cols = x.iter().fold(y.cols(), |cols, x| cols.min(x.cols()));
        let to = y.as_mat_ptr();
        // SAFETY: so many rows and columns are within all views.
        unsafe { map(tier.vector(), self, x.map(|x| x.as_mat_ptr()), to, [rows, cols]) };
    }
}

/// Writes what becomes of each element; an input may be the output itself.
///
/// # Safety
/// The inputs can be read and the output be written, in the given size.
#[inline(always)]
pub(crate) unsafe fn map<S: Simd, Op: Elementwise<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [MatPtr; INPUTS],
    y: MatPtr,
    [rows, cols]: [usize; 2],
) {
    // Neighbours are wanted along a row.
    let lying = y.col_stride != 1 && y.row_stride == 1;
    let (x, y, rows, cols) = if lying { (x.map(MatPtr::t), y.t(), cols, rows) } else { (x, y, rows, cols) };
    let dense = y.col_stride == 1 && x.iter().all(|x| x.col_stride == 1);
    let whole = if dense { cols - cols % S::LANES } else { 0 };
    let zero = s.splat(0.0);
    for row in 0..rows {
        // SAFETY: row and col + n stay within the size.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                let mut v = [zero; INPUTS];
                for (v, x) in v.iter_mut().zip(&x) {
                    *v = s.load(x.at(row, 0).wrapping_add(col));
                }
                s.store(y.at(row, 0).wrapping_add(col), op.vector(s, v));
            }
            for col in (whole..cols).step_by(S::LANES) {
                let n = S::LANES.min(cols - col);
                let mut v = [zero; INPUTS];
                for (v, x) in v.iter_mut().zip(&x) {
                    *v = load_strided(s, x.at(row, col), x.col_stride, n, zero);
                }
                store_strided(s, y.at(row, col), y.col_stride, n, op.vector(s, v));
            }
        }
    }
}

/// y = exp(x).
#[derive(Clone, Copy)]
pub(crate) struct Exp;

impl Elementwise<1> for Exp {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        math::exp(s, x)
    }
}

/// y = ln(x).
#[derive(Clone, Copy)]
pub(crate) struct Ln;

impl Elementwise<1> for Ln {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        math::ln(s, x)
    }
}

/// Adds `rows` rows of a matrix, of which those of earlier calls, whole chunks of [`CHUNK_ROWS`], are
/// in `sums` already unless this is the `first`.
///
/// # Safety
/// The rows and columns can be read, and so many sums be written.
#[inline(always)]
pub(crate) unsafe fn column_sums<S: Simd>(
    s: S,
    x: *const f32,
    [row_stride, col_stride]: [usize; 2],
    [rows, cols]: [usize; 2],
    first: bool,
    sums: *mut f32,
) {
    const VECTORS: usize = 4;
    let zero = s.splat(0.0);
    for col in (0..cols).step_by(VECTORS * S::LANES) {
        for chunk in (0..rows.max(1)).step_by(CHUNK_ROWS) {
            let x = x.wrapping_add(chunk * row_stride + col * col_stride);
            let chunk_rows = CHUNK_ROWS.min(rows - chunk);
            let mut chunk_sums = [zero; VECTORS];
            // SAFETY: the caller's; what is left of the columns limits each load and store.
            unsafe {
                if col + VECTORS * S::LANES <= cols && col_stride == 1 {
                    for row in 0..chunk_rows {
                        for (v, sum) in chunk_sums.iter_mut().enumerate() {
                            *sum = s.add(*sum, s.load(x.wrapping_add(row * row_stride + v * S::LANES)));
                        }
                    }
                } else {
                    for row in 0..chunk_rows {
                        for (v, sum) in chunk_sums.iter_mut().enumerate() {
                            let n = S::LANES.min(cols.saturating_sub(col + v * S::LANES));
                            let from =
                                x.wrapping_add(row * row_stride).wrapping_add((v * S::LANES).wrapping_mul(col_stride));
                            *sum = s.add(*sum, load_strided(s, from, col_stride, n, zero));
                        }
                    }
                }
                for (v, &sum) in chunk_sums.iter().enumerate() {
                    let n = S::LANES.min(cols.saturating_sub(col + v * S::LANES));
                    let to = sums.wrapping_add(col + v * S::LANES);
                    let sum = if first && chunk == 0 { sum } else { s.add(load_strided(s, to, 1, n, zero), sum) };
                    store_strided(s, to, 1, n, sum);
                }
            }
        }
    }
}
