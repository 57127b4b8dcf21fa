//! Defines every operation bit for bit, in naive scalar loops: the numeric contract.
//!
//! The kernels of every instruction set with fused multiply-add (AVX-512, AVX2 with FMA, NEON)
//! give these bits, on any number of threads; all NaNs count as equal. The rules:
//!
//! - A sum over the depth of a product has one accumulator, which takes its terms in ascending
//!   order with `f32::mul_add`. Weight and bias gradients take the batch in chunks of
//!   [`CHUNK_ROWS`](crate::CHUNK_ROWS) and add the chunks' sums in ascending order.
//! - A sum over a row has 16 partial results, element j in partial j mod 16; then partial i is added to
//!   partial i + 8, then i + 4, i + 2 and i + 1. Rows longer than [`ROW_PIECE`](crate::ROW_PIECE) are summed
//!   in pieces of that length, and the pieces' sums pairwise: in a binary tree whose left subtree has the
//!   largest power of two below the number of pieces. Exponentials are scaled by 2^64 and relative to the max
//!   of their piece; two sums are rescaled to the larger max and added.
//! - The squares of gradients, for their norm, are summed as a row of that length, in f64.
//! - Losses are summed over [`LOSS_ROWS`](crate::LOSS_ROWS) rows in ascending order, and these sums pairwise,
//!   as above. Sample weights multiply the rows' losses before that.
//! - Rounding is to nearest-even, and subnormals are kept: the floating-point mode that Rust assumes. On a
//!   thread that another library has set to flush-to-zero, the contract does not hold.
//!
//! The portable instruction set does not guarantee fused multiply-add: its own code has it only in a build
//! for processors with it, `matrixmultiply` where it detects it. So it may round twice where the
//! definition rounds once. A product of depth k then differs from the exact one by at most
//! `(k + 2) * (2^-23 * (|bias| + sum(|x| |w|)) + 2^-149)`, `exp` and `ln` stay within
//! [`PORTABLE_ULP`](crate::math::PORTABLE_ULP), and the bits are the same on any number of threads,
//! but not on every processor.
//!
//! The functions have the arguments (without the backend), checks and errors of the kernel API; see there for
//! shapes. Those of [`dense`](crate::dense) are called `dense_*` here,
//! [`forward`](crate::activation::forward) and [`backward`](crate::activation::backward) of activations
//! `activation_*`; [`cross_entropy`] is all methods of [`CrossEntropy`](crate::loss::CrossEntropy) in one.
//! The other functions define what training does besides.

mod activation;
mod dense;
mod dropout;
mod gradients;
mod math;
mod optimizer;
mod rows;

#[cfg(test)]
pub(crate) use self::math::exp_summand;
pub use activation::*;
pub use dense::*;
pub use dropout::*;
pub use gradients::*;
pub use math::*;
pub use optimizer::*;
pub use rows::*;

use std::ops::Range;

use crate::matrix::{MatMut, MatRef};

/// Reads the element at (`row`, `col`), which is inside, since shapes were checked.
fn at(x: MatRef<'_>, row: usize, col: usize) -> f32 {
    x.get(row, col).unwrap_or(f32::NAN)
}

/// The rows of a matrix, none if it has no columns: such a view may have usize::MAX rows.
fn rows(y: &MatMut<'_>) -> Range<usize> {
    0..if y.cols() == 0 { 0 } else { y.rows() }
}

/// Writes f of the inputs' elements to each element of y.
fn map<const INPUTS: usize>(x: [MatRef<'_>; INPUTS], y: &mut MatMut<'_>, f: impl Fn([f32; INPUTS]) -> f32) {
    for row in rows(y) {
        for col in 0..y.cols() {
            y.set(row, col, f(x.map(|x| at(x, row, col))));
        }
    }
}

/// [`map`] for a function of row, column and one input.
fn map_indexed(x: MatRef<'_>, y: &mut MatMut<'_>, f: impl Fn(usize, usize, f32) -> f32) {
    for row in rows(y) {
        for col in 0..y.cols() {
            y.set(row, col, f(row, col, at(x, row, col)));
        }
    }
}
