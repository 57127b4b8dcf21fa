//! One long row, which threads share by its columns: first what is summed, then what is written.

use super::Softmaxes;
use super::row_at_a_time::{Row, RowMut, in_pieces};
use crate::kernels::{Input, Kernel, Split};
use crate::matrix::{MatMut, MatRef};
use crate::simd::tier::Tier;

/// What an operation sums of the first row of its inputs. To be split at multiples of
/// [`ROW_PIECE`](super::ROW_PIECE).
pub(crate) struct RowSums<'a, Op, const INPUTS: usize> {
    pub op: Op,
    pub inputs: [MatRef<'a>; INPUTS],
}

impl<Op: Softmaxes<INPUTS>, const INPUTS: usize> Kernel for RowSums<'_, Op, INPUTS> {
    type Output = Op::Sums;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> Op::Sums {
        let has_row = self.inputs.iter().all(|x| x.rows() > 0);
        let cols = if has_row { self.len() } else { 0 };
        let unit = self.inputs.iter().all(|x| x.col_stride() == 1);
        let x = self.inputs.map(|x| Row { p: x.as_ptr(), stride: x.col_stride() });
        // SAFETY: all inputs have a row of so many columns.
        unsafe {
            if unit {
                in_pieces::<T::Vector, Op, true, INPUTS>(tier.vector(), self.op, x, cols)
            } else {
                in_pieces::<T::Vector, Op, false, INPUTS>(tier.vector(), self.op, x, cols)
            }
        }
    }
}

impl<Op: Softmaxes<INPUTS>, const INPUTS: usize> Split for RowSums<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.inputs.iter().map(MatRef::cols).min().unwrap_or(0)
    }

    fn split(self, at: usize) -> (Self, Self) {
        let Self { op, inputs } = self;
        (
            Self { op, inputs: inputs.map(|x| x.split_at_col(at).0) },
            Self { op, inputs: inputs.map(|x| x.split_at_col(at).1) },
        )
    }
}

/// Writes the first row of the output, of whose inputs the sums are known.
pub(crate) struct RowWrite<'a, Op: Softmaxes<INPUTS>, const INPUTS: usize> {
    pub op: Op,
    pub sums: Op::Sums,
    pub inputs: [Input<'a>; INPUTS],
    pub output: MatMut<'a>,
}

impl<Op: Softmaxes<INPUTS>, const INPUTS: usize> Kernel for RowWrite<'_, Op, INPUTS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        let inputs = self.inputs.map(|input| match input {
            Input::Matrix(matrix) => matrix,
            // SAFETY: operations go by addresses, and read what they need of an element before they write it.
            Input::InPlace => unsafe { self.output.alias() },
        });
        let has_row = self.output.rows() > 0 && inputs.iter().all(|x| x.rows() > 0);
        let cols = inputs.iter().fold(self.output.cols(), |cols, x| cols.min(x.cols()));
        let cols = if has_row { cols } else { 0 };
        let y = RowMut { p: self.output.as_mut_ptr(), stride: self.output.col_stride() };
        let unit = y.stride == 1 && inputs.iter().all(|x| x.col_stride() == 1);
        let x = inputs.map(|x| Row { p: x.as_ptr(), stride: x.col_stride() });
        // SAFETY: all matrices have a row of so many columns.
        unsafe {
            if unit {
                self.op.write::<T::Vector, true>(tier.vector(), self.sums, false, x, y, cols);
            } else {
                self.op.write::<T::Vector, false>(tier.vector(), self.sums, false, x, y, cols);
            }
        }
    }
}

impl<Op: Softmaxes<INPUTS>, const INPUTS: usize> Split for RowWrite<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.output.cols()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let Self { op, sums, inputs, output } = self;
        let (first, rest) = output.split_at_col(at);
        (
            Self { op, sums, inputs: inputs.map(|input| input.split_at_col(at).0), output: first },
            Self { op, sums, inputs: inputs.map(|input| input.split_at_col(at).1), output: rest },
        )
    }
}
