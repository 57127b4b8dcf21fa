//! Gradients before the optimizer's step: L2 regularisation, clipping, and the sum of squares for their norm.
//!
//! `the_norm_has_the_bits_of_the_reference` in `nn/optimizers/clip.rs` covers the sum;
//! `tests/nn/optimizer.rs` covers the adjustments.

use super::optimizer::{load, vectors};
use super::pairwise_sum::PairwiseSum;
use super::{Kernel, Split};
use crate::contract::{ROW_LANES, ROW_PIECE};
use crate::simd::Simd;
use crate::simd::strided::store_strided;
use crate::simd::tier::Tier;

/// What replaces each gradient g.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Adjustment<'a> {
    /// g + factor * w, with as many weights as gradients: the gradient of an L2 penalty.
    AddWeights { w: &'a [f32], factor: f32 },
    /// g clamped to -bound..=bound; NaN stays.
    Clamp { bound: f32 },
    /// g * factor.
    Scale { factor: f32 },
}

/// Adjusts gradients in place.
pub(crate) struct AdjustGradients<'a> {
    pub dw: &'a mut [f32],
    pub adjustment: Adjustment<'a>,
}

impl Kernel for AdjustGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let (s, adjustment) = (tier.vector(), self.adjustment);
        let len = match adjustment {
            Adjustment::AddWeights { w, .. } => self.dw.len().min(w.len()),
            _ => self.dw.len(),
        };
        let dw = self.dw.as_mut_ptr();
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, at most the gradients and, where they are read, the weights; n <= LANES.
            unsafe {
                let g = load(s, dw.add(i), n);
                let new = match adjustment {
                    Adjustment::AddWeights { w, factor } => s.fma(load(s, w.as_ptr().add(i), n), s.splat(factor), g),
                    Adjustment::Clamp { bound } => s.min(s.splat(bound), s.max(s.splat(-bound), g)),
                    Adjustment::Scale { factor } => s.mul(g, s.splat(factor)),
                };
                store_strided(s, dw.add(i), 1, n, new);
            }
        }
    }
}

impl Split for AdjustGradients<'_> {
    fn len(&self) -> usize {
        self.dw.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (dw, dw_rest) = self.dw.split_at_mut(at.min(self.dw.len()));
        let (adjustment, rest) = match self.adjustment {
            Adjustment::AddWeights { w, factor } => {
                let (w, w_rest) = w.split_at(at.min(w.len()));
                (Adjustment::AddWeights { w, factor }, Adjustment::AddWeights { w: w_rest, factor })
            }
            other => (other, other),
        };
        (Self { dw, adjustment }, Self { dw: dw_rest, adjustment: rest })
    }
}

/// Sums squares in f64, where the square of an f32 is exact and none overflows.
///
/// The order is that of a long row: pieces of [`ROW_PIECE`] in 16 partial results, and these in a
/// [`PairwiseSum`].
pub(crate) struct SumOfSquares<'a>(pub &'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> f64 {
        let mut sum = PairwiseSum::new();
        for piece in self.0.chunks(ROW_PIECE) {
            sum.push(tier.vector(), of_piece(piece));
        }
        sum.total(tier.vector())
    }
}

/// Sums the squares of a piece: element j goes into partial result j mod 16, and these are added by halves.
#[inline(always)]
fn of_piece(piece: &[f32]) -> f64 {
    let mut partials = [0.0; ROW_LANES];
    let (groups, rest) = piece.as_chunks::<ROW_LANES>();
    for group in groups {
        add_squares(&mut partials, group);
    }
    add_squares(&mut partials, rest);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] += partials[i + half];
        }
    }
    partials[0]
}

#[inline(always)]
fn add_squares(partials: &mut [f64; ROW_LANES], values: &[f32]) {
    for (partial, &value) in partials.iter_mut().zip(values) {
        *partial += f64::from(value) * f64::from(value);
    }
}

impl Split for SumOfSquares<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.0.split_at(at.min(self.0.len()));
        (Self(first), Self(rest))
    }
}
