//! Element-wise operations, and sums over columns.

use super::RowOp;
use crate::contract::CHUNK_ROWS;
use crate::math;
use crate::matrix::{MatMut, MatPtr, MatRef, Size, common_size};
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;

/// An operation on each element by itself.
pub(crate) trait Elementwise<const INPUTS: usize>: Copy + Send {
    /// Computes a vector of outputs. Must be `#[inline(always)]`, which a closure can't be.
    fn vector<S: Simd>(self, s: S, inputs: [S::F32; INPUTS]) -> S::F32;
}

/// Contiguous views are taken as one long row, so that only one vector is partly filled.
impl<Op: Elementwise<INPUTS>, const INPUTS: usize> RowOp<INPUTS> for Op {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; INPUTS], y: MatMut<'_>) {
        let one_row = x.iter().all(|x| x.is_contiguous() && x.cols() == y.cols()) && y.is_contiguous();
        let (x, mut y) = if one_row { (x.map(MatRef::into_one_row), y.into_one_row()) } else { (x, y) };
        let size = common_size(&x, &y);
        let to = y.as_mat_ptr();
        // SAFETY: all views have at least this size, and the output is borrowed mutably.
        unsafe { map(tier.vector(), self, x.map(|x| x.as_mat_ptr()), to, size) };
    }
}

/// Applies an operation to each element: inputs and y are rows x cols.
///
/// # Safety
/// Inputs can be read and y be written in the given size; an input may be y.
#[inline(always)]
pub(crate) unsafe fn map<S: Simd, Op: Elementwise<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [MatPtr; INPUTS],
    y: MatPtr,
    Size { rows, cols }: Size,
) {
    // Vectors go along the contiguous axis: a column-major output is written transposed.
    let transposed = y.col_stride != 1 && y.row_stride == 1;
    let (x, y, rows, cols) = if transposed { (x.map(MatPtr::t), y.t(), cols, rows) } else { (x, y, rows, cols) };
    let unit = y.col_stride == 1 && x.iter().all(|x| x.col_stride == 1);
    let whole = if unit { cols - cols % S::LANES } else { 0 };
    let zero = s.splat(0.0);
    for row in 0..rows {
        // SAFETY: each vector ends at or before `cols`.
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

/// Adds the rows of x (rows x cols) to `sums` (cols): chunks of [`CHUNK_ROWS`] are summed apart, then added
/// in order.
///
/// The `first` call overwrites `sums`; later ones continue them, and all but the last have whole chunks.
///
/// # Safety
/// x can be read in the given size, and `cols` sums be written.
#[inline(always)]
pub(crate) unsafe fn column_sums<S: Simd>(s: S, x: MatPtr, Size { rows, cols }: Size, first: bool, sums: *mut f32) {
    const VECTORS: usize = 4;
    let zero = s.splat(0.0);
    for col in (0..cols).step_by(VECTORS * S::LANES) {
        for chunk in (0..rows.max(1)).step_by(CHUNK_ROWS) {
            let x = x.from(chunk, col);
            let chunk_rows = CHUNK_ROWS.min(rows - chunk);
            let mut chunk_sums = [zero; VECTORS];
            // SAFETY: what is left of the columns limits each load and store.
            unsafe {
                if col + VECTORS * S::LANES <= cols && x.col_stride == 1 {
                    for row in 0..chunk_rows {
                        for (v, sum) in chunk_sums.iter_mut().enumerate() {
                            *sum = s.add(*sum, s.load(x.at(row, 0).wrapping_add(v * S::LANES)));
                        }
                    }
                } else {
                    for row in 0..chunk_rows {
                        for (v, sum) in chunk_sums.iter_mut().enumerate() {
                            let n = S::LANES.min(cols.saturating_sub(col + v * S::LANES));
                            let v = load_strided(s, x.at(row, v * S::LANES), x.col_stride, n, zero);
                            *sum = s.add(*sum, v);
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

// `tests/kernels/rows.rs` covers `Exp`, `Ln` and all activations; `tests/kernels/dense.rs` the sums, as bias
// gradients.
