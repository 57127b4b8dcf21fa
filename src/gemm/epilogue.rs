//! What is done to an element of C once its sum is complete.
//!
//! ReLU and its gradient cost one or two instructions per vector: micro-kernels apply them in registers, before C is stored.
//! Other activations would spill accumulators: they follow in a pass over the block of C while it is in cache.

use super::microtile::Store;
use crate::kernels::activation::{Activation, Finish, finish};
use crate::matrix::{MatPtr, MatRef};
use crate::simd::Simd;

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

impl<'a> Epilogue<'a> {
    /// The epilogue of a part of C, given the same part of the saved matrix.
    pub(super) fn map(self, part: impl FnOnce(MatRef<'a>) -> MatRef<'a>) -> Self {
        match self {
            Self::Gradient(activation, saved) => Self::Gradient(activation, part(saved)),
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

    /// Applies to a block of C what [`in_registers`](Self::in_registers) leaves; `row` and `col` are its corner.
    ///
    /// # Safety
    /// `block` is the block of C at this corner, with `rows` by `cols` elements that may be written.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(self, s: S, block: MatPtr, corner: Corner, rows: usize, cols: usize) {
        let (Self::Activation(activation) | Self::Gradient(activation, _)) = self else { return };
        if !matches!(activation, Activation::Linear | Activation::Relu) {
            // SAFETY: the block's elements may be written.
            unsafe { self.apply(s, block, corner, rows, cols) };
        }
    }

    /// Applies all of it to a block of C.
    ///
    /// # Safety
    /// As for [`finish`](Self::finish).
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(self, s: S, block: MatPtr, corner: Corner, rows: usize, cols: usize) {
        let (activation, kept) = match self {
            Self::None => return,
            Self::Activation(activation) => (activation, None),
            Self::Gradient(activation, saved) => (activation, Some(saved.as_mat_ptr().from(corner.row, corner.col))),
        };
        // SAFETY: the block's elements may be written, and the saved matrix has the shape of C.
        unsafe { finish(Finish { s, activation, kept, block, size: [rows, cols] }) };
    }
}

/// The row and column of C at which a block begins.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    pub row: usize,
    pub col: usize,
}
