//! Operations that sum over a row and then write each of its elements: softmax, log-softmax and their
//! gradients.
//!
//! ```text
//! shift = max(x) or 0;  sum = sum of term(x_j, shift);  scale = scale(sum);  y_j = finish(x_j, shift, scale)
//! ```
//!
//! Each formula stands once and works on a vector of elements, whatever the lanes hold: contiguous elements
//! of one row, with the row's shift and scale in all lanes, or one column of many rows, with a shift and a
//! scale per lane.

use crate::math::{self, UNSCALE};
use crate::simd::Simd;

/// What is subtracted from the first input before a term is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shift {
    /// Nothing: the shift is 0.
    None,
    /// The row's maximum, NaNs left out and no less than the least finite number.
    ///
    /// Terms are exponentials then, chains of dependent operations that are worth computing [in two
    /// passes](super::terms).
    Max,
}

/// A reduction over each row and the outputs that follow from it. Everything must be `#[inline(always)]`.
pub(crate) trait RowReduction<const INPUTS: usize>: Copy + Send {
    const SHIFT: Shift;

    /// Whether [`finish`](Self::finish) reads the term, which then is stored where the output goes.
    const FINISHES_TERM: bool;

    /// The first half of a term.
    fn prepare<S: Simd>(self, s: S, inputs: [S::F32; INPUTS], shift: S::F32) -> [S::F32; 2];

    /// The second half: a summand of the row. 0 where inputs are -inf with [`Shift::Max`], else where all are
    /// 0.
    fn term<S: Simd>(self, s: S, prepared: [S::F32; 2]) -> S::F32;

    /// What outputs need of the row's sum. It is computed once per row.
    fn scale<S: Simd>(self, s: S, sum: S::F32) -> S::F32;

    /// The output. `term` is only set if [`FINISHES_TERM`](Self::FINISHES_TERM).
    fn finish<S: Simd>(self, s: S, inputs: [S::F32; INPUTS], term: S::F32, shift: S::F32, scale: S::F32) -> S::F32;
}

/// y = exp(x - max) / sum(exp(x - max)), the division as a product with the reciprocal.
#[derive(Clone, Copy)]
pub(crate) struct Softmax;

impl RowReduction<1> for Softmax {
    const SHIFT: Shift = Shift::Max;
    const FINISHES_TERM: bool = true;

    #[inline(always)]
    fn prepare<S: Simd>(self, s: S, [x]: [S::F32; 1], max: S::F32) -> [S::F32; 2] {
        math::reduce_summand(s, s.sub(x, max))
    }
    #[inline(always)]
    fn term<S: Simd>(self, s: S, prepared: [S::F32; 2]) -> S::F32 {
        math::summand_of(s, prepared)
    }
    #[inline(always)]
    fn scale<S: Simd>(self, s: S, sum: S::F32) -> S::F32 {
        s.div(s.splat(1.0), sum)
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, _: [S::F32; 1], e: S::F32, _: S::F32, reciprocal: S::F32) -> S::F32 {
        s.mul(e, reciprocal)
    }
}

/// y = (x - max) - ln(sum(exp(x - max))).
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmax;

impl RowReduction<1> for LogSoftmax {
    const SHIFT: Shift = Shift::Max;
    const FINISHES_TERM: bool = false;

    #[inline(always)]
    fn prepare<S: Simd>(self, s: S, x: [S::F32; 1], max: S::F32) -> [S::F32; 2] {
        Softmax.prepare(s, x, max)
    }
    #[inline(always)]
    fn term<S: Simd>(self, s: S, prepared: [S::F32; 2]) -> S::F32 {
        Softmax.term(s, prepared)
    }
    #[inline(always)]
    fn scale<S: Simd>(self, s: S, sum: S::F32) -> S::F32 {
        math::ln(s, s.mul(sum, s.splat(UNSCALE)))
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, [x]: [S::F32; 1], _: S::F32, max: S::F32, ln: S::F32) -> S::F32 {
        s.sub(s.sub(x, max), ln)
    }
}

/// dx = y * (dy - sum(y * dy)); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct SoftmaxBackward;

impl RowReduction<2> for SoftmaxBackward {
    const SHIFT: Shift = Shift::None;
    const FINISHES_TERM: bool = false;

    #[inline(always)]
    fn prepare<S: Simd>(self, _: S, y_dy: [S::F32; 2], _: S::F32) -> [S::F32; 2] {
        y_dy
    }
    #[inline(always)]
    fn term<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.mul(y, dy)
    }
    #[inline(always)]
    fn scale<S: Simd>(self, _: S, sum: S::F32) -> S::F32 {
        sum
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, [y, dy]: [S::F32; 2], _: S::F32, _: S::F32, sum: S::F32) -> S::F32 {
        s.mul(y, s.sub(dy, sum))
    }
}

/// dx = dy - exp(y) * sum(dy); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmaxBackward;

impl RowReduction<2> for LogSoftmaxBackward {
    const SHIFT: Shift = Shift::None;
    const FINISHES_TERM: bool = false;

    #[inline(always)]
    fn prepare<S: Simd>(self, _: S, y_dy: [S::F32; 2], _: S::F32) -> [S::F32; 2] {
        y_dy
    }
    #[inline(always)]
    fn term<S: Simd>(self, _: S, [_, dy]: [S::F32; 2]) -> S::F32 {
        dy
    }
    #[inline(always)]
    fn scale<S: Simd>(self, s: S, sum: S::F32) -> S::F32 {
        s.sub(s.splat(-0.0), sum)
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, [y, dy]: [S::F32; 2], _: S::F32, _: S::F32, minus_sum: S::F32) -> S::F32 {
        s.fma(math::exp(s, y), minus_sum, dy)
    }
}
