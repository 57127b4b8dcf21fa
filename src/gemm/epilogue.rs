//! What is done to an element of C once its sum is complete.
//!
//! ReLU and its gradient cost one or two instructions per vector: micro-kernels apply them in registers,
//! before C is stored. Other activations would spill accumulators: they follow in a pass over the block of C
//! while it is in cache.

use super::microtile::Store;
use crate::kernels::activation::Activation;
use crate::kernels::activation_formulas::ActivationBlock;
use crate::matrix::{MatPtr, MatRef, Size};
use crate::simd::Simd;
use crate::split_at::{Axis, SplitAt};

/// What is done to a finished element of C.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    None,
    /// An activation.
    Activation(Activation),
    /// An activation's gradient, with the same element of what it saved for backward.
    Gradient(Activation, MatRef<'a>),
}

impl Epilogue<'_> {
    /// The epilogue of the transposed product.
    pub(super) fn t(self) -> Self {
        match self {
            Self::Gradient(activation, saved) => Self::Gradient(activation, saved.t()),
            same => same,
        }
    }

    /// What a kernel applies in registers; [`finish`](Self::finish) does the rest.
    #[inline(always)]
    pub(super) fn in_registers(self) -> Store {
        match self {
            Self::Activation(Activation::Relu) => Store::Relu,
            Self::Gradient(Activation::Relu, saved) => Store::Gate(saved.as_mat_ptr()),
            _ => Store::Plain,
        }
    }

    /// How results are stored, if that is all there is to do and takes no other matrix.
    pub(super) fn as_store(self) -> Option<Store> {
        match self {
            Self::None | Self::Activation(Activation::Linear) => Some(Store::Plain),
            Self::Activation(Activation::Relu) => Some(Store::Relu),
            _ => None,
        }
    }

    /// Applies to a block of C what [`in_registers`](Self::in_registers) leaves.
    ///
    /// # Safety
    /// `block` is the block of C at this corner, whose `size` may be written.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(self, s: S, block: MatPtr, corner: Corner, size: Size) {
        let (Self::Activation(activation) | Self::Gradient(activation, _)) = self else { return };
        if !matches!(activation, Activation::Linear | Activation::Relu) {
            // SAFETY: the block's elements may be written.
            unsafe { self.apply(s, block, corner, size) };
        }
    }

    /// Applies all of it to a block of C.
    ///
    /// # Safety
    /// As for [`finish`](Self::finish).
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(self, s: S, block: MatPtr, corner: Corner, size: Size) {
        let (activation, saved) = match self {
            Self::None => return,
            Self::Activation(activation) => (activation, None),
            Self::Gradient(activation, saved) => (activation, Some(saved.as_mat_ptr().from(corner.row, corner.col))),
        };
        // SAFETY: the block's elements may be written, and the saved matrix has the shape of C.
        unsafe { ActivationBlock { s, activation, saved, block, size }.apply() };
    }
}

impl SplitAt for Epilogue<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match self {
            Self::Gradient(activation, saved) => {
                let (first, rest) = saved.split_along(axis, at);
                (Self::Gradient(activation, first), Self::Gradient(activation, rest))
            }
            same => (same, same),
        }
    }
}

/// The row and column of C at which a block begins.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    pub row: usize,
    pub col: usize,
}
