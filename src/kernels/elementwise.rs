//! Kernels that treat every element alike, and sums over columns.

use super::tier::Tier;
use super::{CHUNK_ROWS, RowOp, load_row, store_row};
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;

/// What becomes of each element.
pub(crate) trait Elementwise<const INPUTS: usize>: Copy + Send {
    /// One vector of outputs. Must be `#[inline(always)]`, which a closure can't be.
    fn vector<S: Simd>(self, s: S, inputs: [S::F32; INPUTS]) -> S::F32;
}

/// Views without gaps are walked as one long row.
impl<Op: Elementwise<INPUTS>, const INPUTS: usize> RowOp<INPUTS> for Op {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; INPUTS], y: MatMut<'_>) {
        let s = tier.vector();
        let one_row = x.iter().all(|x| x.is_contiguous() && x.cols() == y.cols()) && y.is_contiguous();
        let (x, mut y) = if one_row { (x.map(MatRef::into_one_row), y.into_one_row()) } else { (x, y) };
        let rows = x.iter().fold(y.rows(), |rows, x| rows.min(x.rows()));
        let cols = x.iter().fold(y.cols(), |cols, x| cols.min(x.cols()));
        let (y_row, y_col, to) = (y.row_stride(), y.col_stride(), y.as_mut_ptr());
        for row in 0..rows {
            for col in (0..cols).step_by(T::Vector::LANES) {
                let n = T::Vector::LANES.min(cols - col);
                // SAFETY: row and col + n stay within what all views have.
                unsafe {
                    let mut v = [s.splat(0.0); INPUTS];
                    for (v, x) in v.iter_mut().zip(&x) {
                        let from = x.as_ptr().add(row * x.row_stride() + col * x.col_stride());
                        *v = load_row(s, from, x.col_stride(), n, s.splat(0.0));
                    }
                    store_row(s, to.add(row * y_row + col * y_col), y_col, n, self.vector(s, v));
                }
            }
        }
    }
}

/// y = 0 where x < 0, else x.
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Elementwise<1> for Relu {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        s.max(s.splat(0.0), x)
    }
}

/// dx = dy where y > 0, else 0; the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct ReluBackward;

impl Elementwise<2> for ReluBackward {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        let zero = s.splat(0.0);
        s.select(s.lt(zero, y), dy, zero)
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
pub(super) unsafe fn column_sums<S: Simd>(
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
                            *sum = s.add(*sum, load_row(s, from, col_stride, n, zero));
                        }
                    }
                }
                for (v, &sum) in chunk_sums.iter().enumerate() {
                    let n = S::LANES.min(cols.saturating_sub(col + v * S::LANES));
                    let to = sums.wrapping_add(col + v * S::LANES);
                    let sum = if first && chunk == 0 { sum } else { s.add(load_row(s, to, 1, n, zero), sum) };
                    store_row(s, to, 1, n, sum);
                }
            }
        }
    }
}
