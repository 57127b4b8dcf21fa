//! The kernels: each stands once, generic over [`Simd`](crate::simd::Simd), and runs on one thread.
//!
//! A kernel is a struct of its arguments. [`Kernel::run`] computes it with the instruction set that it is
//! given; [`Split::split`] makes two kernels of it, for two threads, that together write the same bits.
//!
//! A kernel takes the smallest sizes that its views have in common. The kernel API checks that views agree;
//! should they not, a kernel computes less, and never leaves a view.
//!
//! - [`activation`], [`activation_formulas`]: the activations' names; their formulas and gradients, also as
//!   an epilogue
//! - [`elementwise`]: one pass over all elements; column sums
//! - [`softmax`]: softmax, log-softmax, cross-entropy
//! - [`dropout`], [`gather`]: random masks; shuffled rows
//! - [`optimizer`], [`gradients`]: update rules; clipping and norms
//! - [`pairwise_sum`]: sums whose bits do not depend on the number of threads

#![allow(unsafe_code)]

pub(crate) mod activation;
pub(crate) mod activation_formulas;
pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod gather;
pub(crate) mod gradients;
pub(crate) mod optimizer;
pub(crate) mod pairwise_sum;
pub(crate) mod softmax;

use crate::matrix::{MatMut, MatRef};
use crate::simd::tier::Tier;
use crate::split_at::{Axis, SplitAt, split_fields};

/// A computation on views.
pub(crate) trait Kernel: Send + Sized {
    /// The result, besides what is written to views.
    type Output: Send;

    /// Computes on this thread. Must be `#[inline(always)]`, as everything below it: the instruction set's
    /// features are those of the function that `dispatch` calls this from.
    fn run<T: Tier>(self, tier: T) -> Self::Output;
}

/// A kernel that several threads can share.
pub(crate) trait Split: Kernel {
    /// The length of the axis along which the kernel can be split.
    fn len(&self) -> usize;

    /// The kernels of the first `at` along that axis, and of the others.
    fn split(self, at: usize) -> (Self, Self);
}

/// An operation on matrices in which rows do not depend on each other. An input may be the output itself:
/// each element is read before it is written.
pub(crate) trait RowOp<const INPUTS: usize>: Copy + Send {
    /// Writes the output's rows. Must be `#[inline(always)]`, see [`Kernel::run`].
    fn apply<T: Tier>(self, tier: T, inputs: [MatRef<'_>; INPUTS], output: MatMut<'_>);
}

/// An input of a kernel.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    Matrix(MatRef<'a>),
    /// The output before the call: the kernel works in place.
    InPlace,
}

impl<'a> Input<'a> {
    /// The matrix to read: the output's elements if the kernel works in place.
    ///
    /// # Safety
    /// Both are accessed by pointers, and an element of the input is read before the output's is written.
    #[inline(always)]
    pub(crate) unsafe fn resolve(self, output: &MatMut<'a>) -> MatRef<'a> {
        match self {
            Self::Matrix(matrix) => matrix,
            // SAFETY: no element is read while it is written.
            Self::InPlace => unsafe { output.alias() },
        }
    }
}

impl SplitAt for Input<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match self {
            Self::Matrix(matrix) => {
                let (first, rest) = matrix.split_along(axis, at);
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
        // SAFETY: operations access elements by pointers, and read what they need of a row before they write
        // it.
        let inputs = self.inputs.map(|input| unsafe { input.resolve(&self.output) });
        self.op.apply(tier, inputs, self.output);
    }
}

impl<Op: RowOp<INPUTS>, const INPUTS: usize> Split for RowKernel<'_, Op, INPUTS> {
    fn len(&self) -> usize {
        self.output.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Rows, at, [inputs, output])
    }
}
