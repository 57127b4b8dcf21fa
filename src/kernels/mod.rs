//! The kernels: each stands once, generic over `Simd`, and works through its views on one thread.
//!
//! A kernel is a struct of its arguments. [`Kernel::run`] computes it, in whatever tier it is
//! given; [`Split::split`] makes two kernels of it, for two threads, that together write the same bits.
//!
//! A kernel takes its sizes as the smallest that its views have in common. Callers have checked
//! that the views agree; should they not, a kernel does less, and never leaves a view.

#![allow(unsafe_code)]

pub(crate) mod activation;
pub(crate) mod descent;
pub(crate) mod dropout;
pub(crate) mod elementwise;
mod flat;
pub(crate) mod gather;
pub(crate) mod gemm;
pub(crate) mod gradients;
pub(crate) mod optimizer;
mod pack;
pub(crate) mod portable_gemm;
pub(crate) mod sample;
pub(crate) mod softmax;
pub(crate) mod tier;
mod tile;
pub(crate) mod tree;
mod workspace;

use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use tier::Tier;

/// Rows of the batch whose contributions to a weight or bias gradient are added up on their own
/// before the sums of these chunks are added in ascending order.
///
/// Part of the [numeric contract](crate::reference). 256 rows keep the chunk's share of x in cache and cost the
/// weights one addition for 256 fused multiply-adds.
pub const CHUNK_ROWS: usize = 256;

/// Rows whose losses are added one after another, before the sums of such groups are added in a
/// binary tree, whose first part has the largest power of 2 groups that leaves some. Part of the
/// [numeric contract](crate::reference).
pub const LOSS_ROWS: usize = 16;

/// Widest vector of any tier, in elements: the size of buffers that strided rows pass through.
const MAX_LANES: usize = 16;

/// From which size on large work is cut, or done another way. Fuzz targets are built with `--cfg small_blocks`, which has that
/// at sizes that the reference computes in a moment. None of them changes a bit.
pub(crate) const fn threshold(size: usize, small: usize) -> usize {
    if cfg!(small_blocks) { small } else { size }
}

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
    Output,
}

impl Input<'_> {
    pub(crate) fn split_at_row(self, at: usize) -> (Self, Self) {
        match self {
            Self::Matrix(matrix) => {
                let (first, rest) = matrix.split_at_row(at);
                (Self::Matrix(first), Self::Matrix(rest))
            }
            Self::Output => (Self::Output, Self::Output),
        }
    }

    fn split_at_col(self, at: usize) -> (Self, Self) {
        match self {
            Self::Matrix(matrix) => {
                let (first, rest) = matrix.split_at_col(at);
                (Self::Matrix(first), Self::Matrix(rest))
            }
            Self::Output => (Self::Output, Self::Output),
        }
    }
}

/// A [`RowOp`] with its matrices.
pub(crate) struct Rows<'a, Op, const INPUTS: usize> {
    pub op: Op,
    pub inputs: [Input<'a>; INPUTS],
    pub output: MatMut<'a>,
}

impl<Op: RowOp<INPUTS>, const INPUTS: usize> Kernel for Rows<'_, Op, INPUTS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let inputs = self.inputs.map(|input| match input {
            Input::Matrix(matrix) => matrix,
            // SAFETY: operations go by addresses, and read what they need of a row before they write it.
            Input::Output => unsafe { self.output.alias() },
        });
        self.op.apply(tier, inputs, self.output);
    }
}

impl<Op: RowOp<INPUTS>, const INPUTS: usize> Split for Rows<'_, Op, INPUTS> {
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

/// `n` neighbours (at most `LANES`) of a row whose elements stand `stride` apart; other lanes are
/// taken from `rest`.
///
/// # Safety
/// The `n` elements can be read.
#[inline(always)]
unsafe fn load_row<S: Simd>(s: S, p: *const f32, stride: usize, n: usize, rest: S::F32) -> S::F32 {
    // SAFETY: the caller's.
    unsafe {
        if stride != 1 {
            let mut lanes = [0.0f32; MAX_LANES];
            for (lane, value) in lanes.iter_mut().enumerate().take(n) {
                *value = *p.add(lane * stride);
            }
            s.load_first(lanes.as_ptr(), n, rest)
        } else if n == S::LANES {
            s.load(p)
        } else {
            s.load_first(p, n, rest)
        }
    }
}

/// Stores the first `n` lanes (at most `LANES`) to neighbours of a row, `stride` apart.
///
/// # Safety
/// The `n` elements can be written.
#[inline(always)]
unsafe fn store_row<S: Simd>(s: S, p: *mut f32, stride: usize, n: usize, v: S::F32) {
    // SAFETY: the caller's.
    unsafe {
        if stride != 1 {
            let mut lanes = [0.0f32; MAX_LANES];
            s.store(lanes.as_mut_ptr(), v);
            for (lane, value) in lanes.iter().enumerate().take(n) {
                *p.add(lane * stride) = *value;
            }
        } else if n == S::LANES {
            s.store(p, v);
        } else {
            s.store_first(p, n, v);
        }
    }
}
