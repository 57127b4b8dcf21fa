//! Softmax, log-softmax and cross-entropy.
//!
//! The maximum is subtracted first, so no exponential overflows; a second subtraction takes the
//! logarithm of the sum away, which keeps small results exact (Blanchard, Higham and Higham, "Accurately
//! computing the log-sum-exp and softmax functions", 2021).
//!
//! Exponentials are 2^64 times as large as they are, so that none is subnormal; what is made of them is
//! rounded once. The sum of a row goes through 16 partial results, element j into partial j mod 16, and
//! then a fixed tree. Rows of at most [`ROW_PER_LANE_COLS`] elements, unless they are few, are worked on many at a time, one in each lane
//! ([`row_per_lane`]), others one after another ([`row_at_a_time`]); longer ones than [`ROW_PIECE`] in pieces, each with a maximum
//! and a sum of its own, so that memory is read once for both (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018).
//!
//! A row that holds NaN or +inf, and a row of nothing but -inf, comes out as NaN throughout.

mod cross_entropy;
mod exponentials;
mod row_at_a_time;
mod row_per_lane;
mod soft_targets;
mod split_row;

pub(crate) use cross_entropy::CrossEntropy;
use exponentials::{exponentials, write_exponentials};
use row_at_a_time::{Row, RowMut, Statistics, each_row};
use row_per_lane::{Columns, each_block};
pub(crate) use split_row::{RowSums, RowWrite};

use super::RowOp;
use super::elementwise::Elementwise;
use super::pairwise_sum::Combine;
use crate::contract::ROW_LANES;
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::tuning::rows::{EXP_BLOCK, ROW_PER_LANE_COLS};

/// An operation on rows in both ways. Everything must be `#[inline(always)]`.
pub(crate) trait Softmaxes<const INPUTS: usize>: Copy + Send {
    /// What is summed of a row that stands by itself.
    type Sums: Combine;

    /// Of rows in the lanes, `at` which and with so many columns, a number to keep for the steps that follow.
    fn keep<S: Simd>(self, s: S, inputs: &mut [Columns<S>; INPUTS], at: [usize; 2]) -> S::F32;

    /// Writes what is added up, one of each column.
    fn terms<S: Simd>(
        self,
        s: S,
        inputs: &mut [Columns<S>; INPUTS],
        at: [usize; 2],
        kept: S::F32,
        terms: &mut [S::F32],
    );

    /// What of the sums is needed to finish.
    fn of_sums<S: Simd>(self, s: S, sums: S::F32) -> S::F32;

    /// Writes the result's columns, in the place of the terms.
    fn finish<S: Simd>(
        self,
        s: S,
        inputs: &mut [Columns<S>; INPUTS],
        at: [usize; 2],
        kept_and_sums: [S::F32; 2],
        y: &mut [S::F32],
    );

    /// Of a row's piece, of at most [`ROW_PIECE`] elements, what is summed. May write exponentials to `keep`, where the
    /// row is of no other piece; that may be the last input.
    ///
    /// # Safety
    /// The rows have `cols` elements, which are neighbours if `UNIT`.
    unsafe fn sums<S: Simd, const UNIT: bool>(
        self,
        s: S,
        inputs: [Row; INPUTS],
        cols: usize,
        keep: Option<RowMut>,
    ) -> Self::Sums;

    /// Writes a row, or a part of it, by the sums of all of it; `kept` if these were taken with y to keep
    /// exponentials in.
    ///
    /// # Safety
    /// The rows have `cols` elements, which are neighbours if `UNIT`.
    unsafe fn write<S: Simd, const UNIT: bool>(
        self,
        s: S,
        sums: Self::Sums,
        kept: bool,
        inputs: [Row; INPUTS],
        y: RowMut,
        cols: usize,
    );
}

/// So many rows of few elements are done sooner one after another: all lanes but theirs would be idle.
const fn few_rows(cols: usize) -> usize {
    1 + cols / ROW_LANES
}

impl<Op: Softmaxes<INPUTS>, const INPUTS: usize> RowOp<INPUTS> for InRows<Op> {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; INPUTS], y: MatMut<'_>) {
        let cols = x.iter().fold(y.cols(), |cols, x| cols.min(x.cols()));
        let rows = x.iter().fold(y.rows(), |rows, x| rows.min(x.rows()));
        if rows == 0 || cols == 0 {
            return;
        }
        // SAFETY: so many rows and columns are within all views.
        unsafe {
            if cols <= ROW_PER_LANE_COLS && rows > few_rows(cols) {
                each_block(tier, self.0, x, y, [rows, cols]);
            } else {
                each_row(tier.vector(), self.0, x, y, [rows, cols]);
            }
        }
    }
}

/// An operation of this module as a kernel.
#[derive(Clone, Copy)]
pub(crate) struct InRows<Op>(pub Op);

/// y = exp(x - max) / sum(exp(x - max)), the division as a product with the reciprocal.
#[derive(Clone, Copy)]
pub(crate) struct Softmax;

impl Softmaxes<1> for Softmax {
    type Sums = Statistics;

    #[inline(always)]
    fn keep<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], [row, cols]: [usize; 2]) -> S::F32 {
        row_per_lane::max(s, &x.of_row(row)[..cols])
    }

    #[inline(always)]
    fn terms<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], [row, _]: [usize; 2], max: S::F32, terms: &mut [S::F32]) {
        exponentials(s, &x.of_row(row)[..terms.len()], max, terms);
    }

    #[inline(always)]
    fn of_sums<S: Simd>(self, s: S, sums: S::F32) -> S::F32 {
        s.div(s.splat(1.0), sums)
    }

    #[inline(always)]
    fn finish<S: Simd>(self, s: S, _: &mut [Columns<S>; 1], _: [usize; 2], [_, scale]: [S::F32; 2], y: &mut [S::F32]) {
        for y in y {
            *y = s.mul(*y, scale);
        }
    }

    #[inline(always)]
    unsafe fn sums<S: Simd, const UNIT: bool>(
        self,
        s: S,
        [x]: [Row; 1],
        cols: usize,
        keep: Option<RowMut>,
    ) -> Statistics {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::piece::<S, UNIT>(s, x, None, cols, keep) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const UNIT: bool>(
        self,
        s: S,
        Statistics { max, sum, .. }: Statistics,
        kept: bool,
        [x]: [Row; 1],
        y: RowMut,
        cols: usize,
    ) {
        let scale = 1.0 / sum;
        // SAFETY: the caller's.
        unsafe {
            if kept {
                row_at_a_time::map::<S, UNIT, 1>(s, Scaled(scale), [y.read()], y, cols);
            } else {
                for col in (0..cols).step_by(EXP_BLOCK) {
                    let (x, y, cols) = (x.from(col), y.from(col), EXP_BLOCK.min(cols - col));
                    write_exponentials::<S, UNIT>(s, x, max, y, cols);
                    row_at_a_time::map::<S, UNIT, 1>(s, Scaled(scale), [y.read()], y, cols);
                }
            }
        }
    }
}

/// e * scale.
#[derive(Clone, Copy)]
struct Scaled(f32);

impl Elementwise<1> for Scaled {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [e]: [S::F32; 1]) -> S::F32 {
        s.mul(e, s.splat(self.0))
    }
}

/// dx = y * (dy - sum(y * dy)); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct SoftmaxBackward;

impl Softmaxes<2> for SoftmaxBackward {
    type Sums = f32;

    #[inline(always)]
    fn keep<S: Simd>(self, s: S, _: &mut [Columns<S>; 2], _: [usize; 2]) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    fn terms<S: Simd>(
        self,
        s: S,
        [y, dy]: &mut [Columns<S>; 2],
        [row, _]: [usize; 2],
        _: S::F32,
        terms: &mut [S::F32],
    ) {
        for ((term, y), dy) in terms.iter_mut().zip(y.of_row(row)).zip(dy.of_row(row)) {
            *term = s.mul(*y, *dy);
        }
    }

    #[inline(always)]
    fn of_sums<S: Simd>(self, _: S, sums: S::F32) -> S::F32 {
        sums
    }

    #[inline(always)]
    fn finish<S: Simd>(
        self,
        s: S,
        [y, dy]: &mut [Columns<S>; 2],
        [row, _]: [usize; 2],
        [_, sum]: [S::F32; 2],
        dx: &mut [S::F32],
    ) {
        for ((dx, y), dy) in dx.iter_mut().zip(y.of_row(row)).zip(dy.of_row(row)) {
            *dx = s.mul(*y, s.sub(*dy, sum));
        }
    }

    #[inline(always)]
    unsafe fn sums<S: Simd, const UNIT: bool>(self, s: S, inputs: [Row; 2], cols: usize, _: Option<RowMut>) -> f32 {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::sum::<S, UNIT, 2>(s, Product, inputs, cols) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const UNIT: bool>(
        self,
        s: S,
        sum: f32,
        _: bool,
        inputs: [Row; 2],
        dx: RowMut,
        cols: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::map::<S, UNIT, 2>(s, Centred { sum }, inputs, dx, cols) };
    }
}

/// y * dy.
#[derive(Clone, Copy)]
struct Product;

impl Elementwise<2> for Product {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.mul(y, dy)
    }
}

/// y * (dy - sum).
#[derive(Clone, Copy)]
struct Centred {
    sum: f32,
}

impl Elementwise<2> for Centred {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.mul(y, s.sub(dy, s.splat(self.sum)))
    }
}

/// y = (x - max) - ln(sum(exp(x - max))).
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmax;

impl Softmaxes<1> for LogSoftmax {
    type Sums = Statistics;

    #[inline(always)]
    fn keep<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], [row, cols]: [usize; 2]) -> S::F32 {
        row_per_lane::max(s, &x.of_row(row)[..cols])
    }

    #[inline(always)]
    fn terms<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], [row, _]: [usize; 2], max: S::F32, terms: &mut [S::F32]) {
        exponentials(s, &x.of_row(row)[..terms.len()], max, terms);
    }

    #[inline(always)]
    fn of_sums<S: Simd>(self, s: S, sums: S::F32) -> S::F32 {
        math::ln(s, s.mul(sums, s.splat(UNSCALE)))
    }

    #[inline(always)]
    fn finish<S: Simd>(
        self,
        s: S,
        [x]: &mut [Columns<S>; 1],
        [row, _]: [usize; 2],
        [max, ln]: [S::F32; 2],
        y: &mut [S::F32],
    ) {
        for (y, x) in y.iter_mut().zip(x.of_row(row)) {
            *y = s.sub(s.sub(*x, max), ln);
        }
    }

    #[inline(always)]
    unsafe fn sums<S: Simd, const UNIT: bool>(self, s: S, [x]: [Row; 1], cols: usize, _: Option<RowMut>) -> Statistics {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::piece::<S, UNIT>(s, x, None, cols, None) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const UNIT: bool>(
        self,
        s: S,
        Statistics { max, sum, .. }: Statistics,
        _: bool,
        [x]: [Row; 1],
        y: RowMut,
        cols: usize,
    ) {
        let ln = row_at_a_time::ln(s, sum * UNSCALE);
        // SAFETY: the caller's.
        unsafe { row_at_a_time::map::<S, UNIT, 1>(s, Normalized { max, ln }, [x], y, cols) };
    }
}

/// (x - max) - ln.
#[derive(Clone, Copy)]
struct Normalized {
    max: f32,
    ln: f32,
}

impl Elementwise<1> for Normalized {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        s.sub(s.sub(x, s.splat(self.max)), s.splat(self.ln))
    }
}

/// dx = dy - exp(y) * sum(dy); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmaxBackward;

impl Softmaxes<2> for LogSoftmaxBackward {
    type Sums = f32;

    #[inline(always)]
    fn keep<S: Simd>(self, s: S, _: &mut [Columns<S>; 2], _: [usize; 2]) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    fn terms<S: Simd>(
        self,
        _: S,
        [_, dy]: &mut [Columns<S>; 2],
        [row, cols]: [usize; 2],
        _: S::F32,
        terms: &mut [S::F32],
    ) {
        terms.copy_from_slice(&dy.of_row(row)[..cols]);
    }

    #[inline(always)]
    fn of_sums<S: Simd>(self, s: S, sums: S::F32) -> S::F32 {
        s.sub(s.splat(-0.0), sums)
    }

    #[inline(always)]
    fn finish<S: Simd>(
        self,
        s: S,
        [y, dy]: &mut [Columns<S>; 2],
        [row, _]: [usize; 2],
        [_, minus_sum]: [S::F32; 2],
        dx: &mut [S::F32],
    ) {
        for ((dx, y), dy) in dx.iter_mut().zip(y.of_row(row)).zip(dy.of_row(row)) {
            *dx = s.fma(math::exp(s, *y), minus_sum, *dy);
        }
    }

    #[inline(always)]
    unsafe fn sums<S: Simd, const UNIT: bool>(self, s: S, [_, dy]: [Row; 2], cols: usize, _: Option<RowMut>) -> f32 {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::sum::<S, UNIT, 1>(s, Itself, [dy], cols) }
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const UNIT: bool>(
        self,
        s: S,
        sum: f32,
        _: bool,
        inputs: [Row; 2],
        dx: RowMut,
        cols: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { row_at_a_time::map::<S, UNIT, 2>(s, LessExp { minus_sum: -sum }, inputs, dx, cols) };
    }
}

/// dy.
#[derive(Clone, Copy)]
struct Itself;

impl Elementwise<1> for Itself {
    #[inline(always)]
    fn vector<S: Simd>(self, _: S, [dy]: [S::F32; 1]) -> S::F32 {
        dy
    }
}

/// dy - exp(y) * sum.
#[derive(Clone, Copy)]
struct LessExp {
    minus_sum: f32,
}

impl Elementwise<2> for LessExp {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.fma(math::exp(s, y), s.splat(self.minus_sum), dy)
    }
}
