//! Rows of many elements, one row at a time: the lanes hold contiguous elements.

use super::row_ptr::{RowPtr, first_lane};
use super::row_reduction::{RowReduction, Shift};
use super::terms::ReductionRow;
use crate::contract::ROW_PIECE;
use crate::kernels::pairwise_sum::{Combine, PairwiseSum};
use crate::math::{self, UNSCALE};
use crate::matrix::{MatPtr, Size};
use crate::simd::Simd;
use crate::tuning::rows::{EXP_BLOCK, WRITE_PREFETCH};

/// The sum of a row's terms, and the shift that these have.
#[derive(Clone, Copy)]
pub(crate) struct ShiftedSum {
    pub(super) shift: f32,
    pub(super) sum: f32,
}

impl Combine for ShiftedSum {
    const IDENTITY: Self = Self { shift: f32::MIN, sum: 0.0 };

    /// Rescales both sums to the larger maximum. Where nothing is shifted, both factors are exactly 1.
    #[inline(always)]
    fn combine<S: Simd>(s: S, left: Self, right: Self) -> Self {
        let shift = if left.shift > right.shift { left.shift } else { right.shift };
        let sum = left.sum * exp_of_nonpositive(s, left.shift - shift);
        Self { shift, sum: sum + right.sum * exp_of_nonpositive(s, right.shift - shift) }
    }
}

/// exp of one number of at most 0.
#[inline(always)]
fn exp_of_nonpositive<S: Simd>(s: S, x: f32) -> f32 {
    first_lane(s, math::exp_summand(s, s.splat(x))) * UNSCALE
}

/// Whether a row's terms are stored in its output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    Saved,
    Missing,
}

/// Applies a reduction to rows of any length: inputs and y are rows x cols.
///
/// # Safety
/// Inputs can be read and y be written in the given size; an input may be y.
#[inline(always)]
pub(super) unsafe fn reduce_rows<S: Simd, Op: RowReduction<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    inputs: [MatPtr; INPUTS],
    y: MatPtr,
    size: Size,
) {
    let unit = y.col_stride == 1 && inputs.iter().all(|x| x.col_stride == 1);
    for row in 0..size.rows {
        // SAFETY: the views have this row of `cols` elements, contiguous with `unit`.
        unsafe {
            if unit {
                ReductionRow::<S, Op, true, INPUTS>::new(s, op, inputs, row, size.cols).reduce(RowPtr::new(y, row));
            } else {
                ReductionRow::<S, Op, false, INPUTS>::new(s, op, inputs, row, size.cols).reduce(RowPtr::new(y, row));
            }
        }
    }
}

impl<S: Simd, Op: RowReduction<INPUTS>, const UNIT: bool, const INPUTS: usize> ReductionRow<S, Op, UNIT, INPUTS> {
    /// Reduces the row and writes y. Terms of a row of one piece are saved, so that none is computed twice.
    ///
    /// # Safety
    /// All rows have `cols` elements; an input may be y.
    #[inline(always)]
    unsafe fn reduce(self, y: RowPtr<UNIT>) {
        // SAFETY: all rows have `cols` elements.
        unsafe {
            if Op::FINISHES_TERM && self.cols <= ROW_PIECE {
                self.finish(self.sum_piece(Some(y)), Terms::Saved, y);
            } else {
                self.finish(self.sum(), Terms::Missing, y);
            }
        }
    }

    /// Sums the row piece by piece, the pieces pairwise.
    ///
    /// # Safety
    /// The rows have `cols` elements.
    #[inline(always)]
    pub(super) unsafe fn sum(self) -> ShiftedSum {
        // SAFETY: each piece ends at or before `cols`.
        unsafe {
            if self.cols <= ROW_PIECE {
                return self.sum_piece(None);
            }
            let mut sum = PairwiseSum::new();
            for col in (0..self.cols).step_by(ROW_PIECE) {
                sum.push(self.s, self.part(col, ROW_PIECE).sum_piece(None));
            }
            sum.total(self.s)
        }
    }

    /// Sums a piece's terms, relative to its own maximum if that is the shift; stores them to `save`.
    ///
    /// # Safety
    /// All rows have `cols` elements; `save` may be an input.
    #[inline(always)]
    unsafe fn sum_piece(self, save: Option<RowPtr<UNIT>>) -> ShiftedSum {
        // SAFETY: all rows have `cols` elements.
        unsafe {
            let shift = match Op::SHIFT {
                Shift::Max => max_of_row(self.s, self.inputs[0], self.cols),
                Shift::None => 0.0,
            };
            ShiftedSum { shift, sum: self.sum_terms(shift, save) }
        }
    }

    /// Writes the row, or a part of it, from the sum over all of it.
    ///
    /// Missing terms are computed anew, [`EXP_BLOCK`] at a time, so that they are still in L1 when they are
    /// finished.
    ///
    /// # Safety
    /// All rows have `cols` elements; an input may be y.
    #[inline(always)]
    pub(super) unsafe fn finish(self, ShiftedSum { shift, sum }: ShiftedSum, terms: Terms, y: RowPtr<UNIT>) {
        let s = self.s;
        let scalars = RowScalars { shift: s.splat(shift), scale: self.op.scale(s, s.splat(sum)) };
        // SAFETY: blocks end at or before `cols`.
        unsafe {
            if Op::FINISHES_TERM && terms == Terms::Missing {
                for col in (0..self.cols).step_by(EXP_BLOCK) {
                    let (block, y) = (self.part(col, EXP_BLOCK), y.from(col));
                    block.sum_terms(shift, Some(y));
                    block.finish_elements(scalars, y);
                }
            } else {
                self.finish_elements(scalars, y);
            }
        }
    }

    /// Writes each element; its term, if it is needed, is read from y.
    ///
    /// # Safety
    /// All rows have `cols` elements; an input may be y.
    #[inline(always)]
    unsafe fn finish_elements(self, scalars: RowScalars<S>, y: RowPtr<UNIT>) {
        let whole = self.cols - self.cols % S::LANES;
        // SAFETY: vectors end at or before `cols`.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                self.s.prefetch(y.at(0).wrapping_add(col + WRITE_PREFETCH));
                self.finish_vector(scalars, y, col, S::LANES);
            }
            if whole < self.cols {
                self.finish_vector(scalars, y, whole, self.cols - whole);
            }
        }
    }

    /// # Safety
    /// All rows have elements `col..col + n`, and `n <= LANES`.
    #[inline(always)]
    unsafe fn finish_vector(self, RowScalars { shift, scale }: RowScalars<S>, y: RowPtr<UNIT>, col: usize, n: usize) {
        let s = self.s;
        let zero = s.splat(0.0);
        // SAFETY: all rows have these elements.
        unsafe {
            let term = if Op::FINISHES_TERM { y.load(s, col, n, zero) } else { zero };
            y.store(s, col, n, self.op.finish(s, self.load(col, n, zero), term, shift, scale));
        }
    }
}

/// A row's shift and scale, in all lanes.
#[derive(Clone, Copy)]
struct RowScalars<S: Simd> {
    shift: S::F32,
    scale: S::F32,
}

/// A row's maximum, NaNs left out; no less than the least finite number.
///
/// # Safety
/// The row has `cols` elements.
#[inline(always)]
pub(super) unsafe fn max_of_row<S: Simd, const UNIT: bool>(s: S, x: RowPtr<UNIT>, cols: usize) -> f32 {
    /// Independent maxima, which hide the latency of one.
    const CHAINS: usize = 4;
    let lowest = s.splat(f32::MIN);
    let mut maxes = [lowest; CHAINS];
    let mut col = 0;
    // SAFETY: vectors end at or before `cols`.
    unsafe {
        while col + CHAINS * S::LANES <= cols {
            for (i, max) in maxes.iter_mut().enumerate() {
                *max = s.max(x.load(s, col + i * S::LANES, S::LANES, lowest), *max);
            }
            col += CHAINS * S::LANES;
        }
        while col < cols {
            maxes[0] = s.max(x.load(s, col, S::LANES.min(cols - col), lowest), maxes[0]);
            col += S::LANES;
        }
    }
    s.reduce_max(s.max(s.max(maxes[0], maxes[1]), s.max(maxes[2], maxes[3])))
}
