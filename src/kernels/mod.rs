//! The kernels: each stands once, generic over `Simd`, and works through its views on one thread.
//!
//! A kernel is a struct of its arguments. [`Kernel::run`] computes it, in whatever tier it is
//! given; [`Split::split`] makes two kernels of it, for two threads, that together write the same bits.
//!
//! A kernel takes its sizes as the smallest that its views have in common. Callers have checked
//! that the views agree; should they not, a kernel does less, and never leaves a view.

#![allow(unsafe_code)]

pub(crate) mod activation;
pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod gather;
pub(crate) mod gradients;
pub(crate) mod optimizer;
pub(crate) mod pairwise_sum;
pub(crate) mod softmax;

use crate::matrix::{MatMut, MatRef};
use crate::simd::tier::Tier;

/// A piece of work on views.
pub(crate) trait Kernel: Send + Sized {
    /// What is given back besides what is written.
    type Output: Send;

    /// Does the work on this thread. Must be `#[inline(always)]`, as everything below it: the
    /// instruction set's features are those of the function that `dispatch` calls this from.
    fn run<T: Tier>(self, tier: T) -> Self::Output;
}

/// A piece of work that several threads can share.
pub(crate) trait Split: Kernel {
    /// The length of the axis along which the work can be split.
    fn len(&self) -> usize;

    /// The work on the first `at` of that axis, and on the others.
    fn split(self, at: usize) -> (Self, Self);
}

/// An operation on matrices in which rows do not depend on each other. An input may be the output
/// itself: what is read of an element is read before it is written.
pub(crate) trait RowOp<const INPUTS: usize>: Copy + Send {
    /// Writes the output's rows. Must be `#[inline(always)]`, see [`Kernel::run`].
    fn apply<T: Tier>(self, tier: T, inputs: [MatRef<'_>; INPUTS], output: MatMut<'_>);
}

/// An input of a [`RowOp`].
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    Matrix(MatRef<'a>),
    /// What stands in the output before the call: the operation is done in place.
    InPlace,
}

impl Input<'_> {
    pub(crate) fn split_at_row(self, at: usize) -> (Self, Self) {
        match self {
            Self::Matrix(matrix) => {
                let (first, rest) = matrix.split_at_row(at);
                (Self::Matrix(first), Self::Matrix(rest))
            }
            Self::InPlace => (Self::InPlace, Self::InPlace),
        }
    }

    fn split_at_col(self, at: usize) -> (Self, Self) {
        match self {
            Self::Matrix(matrix) => {
                let (first, rest) = matrix.split_at_col(at);
                (Self::Matrix(first), Self::Matrix(rest))
            }
            Self::InPlace => (Self::InPlace, Self::InPlace),
        }
    }
}

/// A [`RowOp`] with its matrices.
pub(crate) struct RowKernel<'a, Op, const INPUTS: usize> {
    pub op: Op,
    pub inputs: [Input<'a>; INPUTS],
    pub output: MatMut<'a>,
}

impl<Op: RowOp<INPUTS>, const INPUTS: usize> Kernel for RowKernel<'_, Op, INPUTS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let inputs = self.inputs.map(|input| match input {
            Input::Matrix(matrix) => matrix,
            // SAFETY: operations go by addresses, and read what they need of a row before they write it.
            Input::InPlace => unsafe { self.output.alias() },
        });
        self.op.apply(tier, inputs, self.output);
    }
}

impl<Op: RowOp<INPUTS>, const INPUTS: usize> Split for RowKernel<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.output.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.output.split_at_row(at);
        (
            Self { output: first, inputs: self.inputs.map(|input| input.split_at_row(at).0), op: self.op },
            Self { output: rest, inputs: self.inputs.map(|input| input.split_at_row(at).1), op: self.op },
        )
    }
}
