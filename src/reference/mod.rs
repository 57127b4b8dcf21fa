//! The definition of every operation, in naive scalar loops: the numeric contract.
//!
//! The kernels of every instruction set with fused multiply-add (AVX-512, AVX2 with FMA, NEON)
//! give these bits, on any number of threads; all NaNs count as equal. The rules:
//!
//! - A sum over the depth of a product has one accumulator, which takes its terms in ascending
//!   order with `f32::mul_add`. Weight and bias gradients take the batch in chunks of
//!   [`CHUNK_ROWS`](crate::CHUNK_ROWS) and add the chunks' sums in ascending order.
//! - A sum over a row has 16 partial results, element j in partial j mod 16; then partial i
//!   meets partial i + 8, then i + 4, i + 2 and i + 1. Rows longer than [`ROW_PIECE`](crate::ROW_PIECE)
//!   are added up in pieces of that length, and these in a binary tree, in which the first part has the
//!   largest power of 2 pieces that leaves some. Exponentials are added up 2^64 times too large, each piece below its own
//!   maximum; two neighbours are brought to the larger maximum and added.
//! - The squares of gradients, for their norm, are added as a row that is as long, in f64.
//! - The loss is added over [`LOSS_ROWS`](crate::LOSS_ROWS) rows in ascending order; these sums are added in a binary
//!   tree of the same kind. Weights of samples multiply the rows' losses before that.
//! - Rounding is to nearest-even, and subnormals are kept, as Rust takes for granted. On a thread
//!   that another library has put in flush-to-zero mode the promise does not hold.
//!
//! The portable instruction set promises no fused multiply-add: its own code has it only in a build
//! for processors with it, `matrixmultiply` where it finds it. So it may round twice where the
//! definition rounds once. A product of depth k then differs from the exact one by at most
//! `(k + 2) * (2^-23 * (|bias| + sum(|x| |w|)) + 2^-149)`, `exp` and `ln` stay within
//! [`PORTABLE_ULP`](crate::math::PORTABLE_ULP), and the bits are the same on any number of threads,
//! but not on every processor.
//!
//! The functions have the arguments, but for the backend, the checks and the errors of their namesakes; see there for
//! shapes. Those of [`dense`](crate::dense) are called `dense_*` here, [`forward`](crate::activation::forward) and
//! [`backward`](crate::activation::backward) of activations `activation_*`. [`cross_entropy`] is every call of
//! [`CrossEntropy`](crate::loss::CrossEntropy) in one. What training does besides has no namesake.

mod activation;
mod dense;
mod dropout;
mod gradients;
mod math;
mod optimizer;
mod rows;

pub(crate) use self::math::exp_summand;
pub use activation::*;
use activation::{gradient, value};
pub use dense::*;
pub use dropout::*;
pub use gradients::*;
pub use math::*;
pub use optimizer::*;
pub use rows::*;

use std::ops::Range;

use crate::matrix::{MatMut, MatRef};

/// The element at (`row`, `col`); callers stay inside, as the checks before them ensure.
fn at(x: MatRef<'_>, row: usize, col: usize) -> f32 {
    x.get(row, col).unwrap_or(f32::NAN)
}

/// The rows of a matrix that hold something: a view may have more rows of nothing than can be counted.
fn rows(y: &MatMut<'_>) -> Range<usize> {
    0..if y.cols() == 0 { 0 } else { y.rows() }
}

fn map<const INPUTS: usize>(x: [MatRef<'_>; INPUTS], y: &mut MatMut<'_>, f: impl Fn([f32; INPUTS]) -> f32) {
    for row in rows(y) {
        for col in 0..y.cols() {
            y.set(row, col, f(x.map(|x| at(x, row, col))));
        }
    }
}

/// As [`map`], of one input, for a function of the place.
fn map_places(x: MatRef<'_>, y: &mut MatMut<'_>, f: impl Fn(usize, usize, f32) -> f32) {
    for row in rows(y) {
        for col in 0..y.cols() {
            y.set(row, col, f(row, col, at(x, row, col)));
        }
    }
}
