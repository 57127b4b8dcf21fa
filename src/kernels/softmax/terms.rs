//! The terms of a [`RowReduction`], exponentials in two passes.
//!
//! An exponential is a chain of some 12 dependent operations. All arguments of a batch are reduced before the
//! first polynomial begins: of chains half as long, an out-of-order core has twice as many in flight.

use std::mem::MaybeUninit;

use super::row_ptr::{PartialSums, RowPtr};
use super::row_reduction::{RowReduction, Shift};
use crate::contract::ROW_LANES;
use crate::matrix::MatPtr;
use crate::simd::Simd;
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// Vectors per batch: 2 x 2 KiB of reduced arguments with AVX2, which L1 holds.
const BATCH: usize = ROW_PER_LANE_COLS;

/// Computes the terms of rows in the lanes, at most [`BATCH`] columns.
#[inline(always)]
pub(super) fn terms_of_columns<S: Simd, Op: RowReduction<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    inputs: [&[S::F32]; INPUTS],
    shift: S::F32,
    terms: &mut [S::F32],
) {
    let cols = inputs.iter().fold(terms.len(), |cols, input| cols.min(input.len()));
    let terms = &mut terms[..cols];
    if Op::SHIFT == Shift::None {
        for (col, term) in terms.iter_mut().enumerate() {
            // SAFETY: `col < cols`, which no input is shorter than.
            let v = unsafe { column_of_all(s, inputs, col) };
            *term = op.term(s, op.prepare(s, v, shift));
        }
        return;
    }
    let mut seconds = [MaybeUninit::uninit(); BATCH];
    for (col, (term, second)) in terms.iter_mut().zip(&mut seconds).enumerate() {
        // SAFETY: `col < cols`, which no input is shorter than.
        let v = unsafe { column_of_all(s, inputs, col) };
        let prepared = op.prepare(s, v, shift);
        (*term, *second) = (prepared[0], MaybeUninit::new(prepared[1]));
    }
    for (term, second) in terms.iter_mut().zip(&seconds) {
        // SAFETY: the loop above has written one for each term.
        *term = op.term(s, [*term, unsafe { second.assume_init() }]);
    }
}

/// The same column of all inputs.
///
/// # Safety
/// Each input has more than `col` columns.
#[inline(always)]
pub(super) unsafe fn column_of_all<S: Simd, const INPUTS: usize>(
    s: S,
    inputs: [&[S::F32]; INPUTS],
    col: usize,
) -> [S::F32; INPUTS] {
    let mut v = [s.splat(0.0); INPUTS];
    for (v, input) in v.iter_mut().zip(inputs) {
        debug_assert!(col < input.len());
        // SAFETY: the input has this column; an unchecked access keeps the loops over columns free of
        // branches.
        *v = unsafe { *input.get_unchecked(col) };
    }
    v
}

/// A row of each input, and the reduction that applies to it.
#[derive(Clone, Copy)]
pub(super) struct ReductionRow<S, Op, const UNIT: bool, const INPUTS: usize> {
    pub(super) s: S,
    pub(super) op: Op,
    pub(super) inputs: [RowPtr<UNIT>; INPUTS],
    pub(super) cols: usize,
}

impl<S: Simd, Op: RowReduction<INPUTS>, const UNIT: bool, const INPUTS: usize> ReductionRow<S, Op, UNIT, INPUTS> {
    /// A row of matrices whose column strides are 1 if `UNIT`.
    #[inline(always)]
    pub(super) fn new(s: S, op: Op, inputs: [MatPtr; INPUTS], row: usize, cols: usize) -> Self {
        Self { s, op, inputs: inputs.map(|x| RowPtr::new(x, row)), cols }
    }

    /// The part of the row from `col` on, of at most `cols` elements.
    #[inline(always)]
    pub(super) fn part(self, col: usize, cols: usize) -> Self {
        Self { inputs: self.inputs.map(|x| x.from(col)), cols: cols.min(self.cols - col), ..self }
    }

    /// Loads `n` elements of each input; the other lanes are those of `fill`.
    ///
    /// # Safety
    /// The rows have elements `col..col + n`, and `n <= LANES`.
    #[inline(always)]
    pub(super) unsafe fn load(self, col: usize, n: usize, fill: S::F32) -> [S::F32; INPUTS] {
        let mut v = [fill; INPUTS];
        for (v, x) in v.iter_mut().zip(self.inputs) {
            // SAFETY: each row has these elements.
            *v = unsafe { x.load(self.s, col, n, fill) };
        }
        v
    }

    /// Computes the terms, stores them to `save`, and sums them, element j in partial sum j mod
    /// [`ROW_LANES`].
    ///
    /// # Safety
    /// All rows have `cols` elements; `save` may be an input.
    #[inline(always)]
    pub(super) unsafe fn sum_terms(self, shift: f32, save: Option<RowPtr<UNIT>>) -> f32 {
        let Self { s, op, cols, .. } = self;
        let shift = s.splat(shift);
        let whole = cols - cols % ROW_LANES;
        // A missing element adds a term of 0.
        let fill = s.splat(if Op::SHIFT == Shift::Max { f32::NEG_INFINITY } else { 0.0 });
        let mut sums = PartialSums::new(s);
        // SAFETY: `whole <= cols`, and what is left of the columns limits the last vectors.
        unsafe {
            if Op::SHIFT == Shift::Max {
                self.sum_in_batches(whole, shift, save, &mut sums);
            } else {
                for col in (0..whole).step_by(ROW_LANES) {
                    for i in 0..PartialSums::<S>::VECTORS {
                        let v = self.load(col + i * S::LANES, S::LANES, fill);
                        sums.add(s, i, op.term(s, op.prepare(s, v, shift)));
                    }
                }
            }
            for i in 0..PartialSums::<S>::VECTORS {
                let col = whole + i * S::LANES;
                if col < cols {
                    let n = S::LANES.min(cols - col);
                    let term = op.term(s, op.prepare(s, self.load(col, n, fill), shift));
                    if let Some(save) = save {
                        save.store(s, col, n, term);
                    }
                    sums.add(s, i, term);
                }
            }
        }
        sums.total(s)
    }

    /// Adds the terms of the first `whole` elements, a multiple of [`ROW_LANES`], in two passes per batch.
    ///
    /// # Safety
    /// All rows have `whole` elements or more; `save` may be an input.
    #[inline(always)]
    unsafe fn sum_in_batches(self, whole: usize, shift: S::F32, save: Option<RowPtr<UNIT>>, sums: &mut PartialSums<S>) {
        let Self { s, op, inputs, .. } = self;
        let vectors = PartialSums::<S>::VECTORS;
        let mut prepared = [[MaybeUninit::uninit(); 2]; BATCH];
        for first in (0..whole).step_by(BATCH * S::LANES) {
            let prepared = &mut prepared[..BATCH.min((whole - first) / S::LANES)];
            for (i, prepared) in prepared.iter_mut().enumerate() {
                let col = first + i * S::LANES;
                // The search for the maximum has read this row: what follows it in memory is prefetched.
                s.prefetch(inputs[0].at(0).wrapping_add(whole + col));
                // SAFETY: `col + LANES <= whole`.
                let v = unsafe { self.load(col, S::LANES, shift) };
                *prepared = op.prepare(s, v, shift).map(MaybeUninit::new);
            }
            for (i, prepared) in prepared.chunks_exact(vectors).enumerate() {
                for (j, prepared) in prepared.iter().enumerate() {
                    // SAFETY: the loop above has written both halves; the column is below `whole`.
                    unsafe {
                        let term = op.term(s, [prepared[0].assume_init(), prepared[1].assume_init()]);
                        if let Some(save) = save {
                            save.store(s, first + (i * vectors + j) * S::LANES, S::LANES, term);
                        }
                        sums.add(s, j, term);
                    }
                }
            }
        }
    }
}
