//! One long row, split over threads by its columns: first the sum, then the outputs.

use super::row_at_a_time::{ShiftedSum, Terms};
use super::row_ptr::RowPtr;
use super::row_reduction::RowReduction;
use super::terms::ReductionRow;
use crate::kernels::{Input, Kernel, Split};
use crate::matrix::{MatMut, MatRef, common_size};
use crate::simd::tier::Tier;
use crate::split_at::{Axis, split_fields};

/// Sums the first row of the inputs. Must be split at multiples of [`ROW_PIECE`](crate::contract::ROW_PIECE).
pub(crate) struct RowSum<'a, Op, const INPUTS: usize> {
    pub op: Op,
    pub inputs: [MatRef<'a>; INPUTS],
}

impl<Op: RowReduction<INPUTS>, const INPUTS: usize> Kernel for RowSum<'_, Op, INPUTS> {
    type Output = ShiftedSum;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> ShiftedSum {
        let has_row = self.inputs.iter().all(|x| x.rows() > 0);
        let cols = if has_row { self.len() } else { 0 };
        let (s, x) = (tier.vector(), self.inputs.map(|x| x.as_mat_ptr()));
        // SAFETY: all inputs have a row of `cols` elements, contiguous in the first case.
        unsafe {
            if x.iter().all(|x| x.col_stride == 1) {
                ReductionRow::<_, _, true, INPUTS>::new(s, self.op, x, 0, cols).sum()
            } else {
                ReductionRow::<_, _, false, INPUTS>::new(s, self.op, x, 0, cols).sum()
            }
        }
    }
}

impl<Op: RowReduction<INPUTS>, const INPUTS: usize> Split for RowSum<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.inputs.iter().map(MatRef::cols).min().unwrap_or(0)
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Columns, at, [inputs])
    }
}

/// Writes the first row of the output from the sum over the whole row.
pub(crate) struct FinishRow<'a, Op, const INPUTS: usize> {
    pub op: Op,
    pub sum: ShiftedSum,
    pub inputs: [Input<'a>; INPUTS],
    pub output: MatMut<'a>,
}

impl<Op: RowReduction<INPUTS>, const INPUTS: usize> Kernel for FinishRow<'_, Op, INPUTS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let Self { op, sum, inputs, mut output } = self;
        // SAFETY: elements are accessed by pointers, and an input's is read before the output's is written.
        let inputs = inputs.map(|input| unsafe { input.resolve(&output) });
        let size = common_size(&inputs, &output);
        let cols = if size.rows > 0 { size.cols } else { 0 };
        let (s, x, y) = (tier.vector(), inputs.map(|x| x.as_mat_ptr()), output.as_mat_ptr());
        // SAFETY: all matrices have a row of `cols` elements, contiguous in the first case.
        unsafe {
            if y.col_stride == 1 && x.iter().all(|x| x.col_stride == 1) {
                let row = ReductionRow::<_, _, true, INPUTS>::new(s, op, x, 0, cols);
                row.finish(sum, Terms::Missing, RowPtr::new(y, 0));
            } else {
                let row = ReductionRow::<_, _, false, INPUTS>::new(s, op, x, 0, cols);
                row.finish(sum, Terms::Missing, RowPtr::new(y, 0));
            }
        }
    }
}

impl<Op: RowReduction<INPUTS>, const INPUTS: usize> Split for FinishRow<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.output.cols()
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Columns, at, [inputs, output])
    }
}
