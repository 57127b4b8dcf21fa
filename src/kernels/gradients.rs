//! What happens to gradients before an optimizer takes them: L2, clipping, and the norm.

use super::optimizer::{halves, load, vectors};
use super::pairwise_sum::PairwiseSum;
use super::{Kernel, Split};
use crate::contract::{ROW_LANES, ROW_PIECE};
use crate::simd::Simd;
use crate::simd::strided::store_strided;
use crate::simd::tier::Tier;

/// What is made of each gradient g.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// g + factor * w.
    AddWeights { w: &'a [f32], factor: f32 },
    /// g, or what is nearest to it of -bound..=bound; NaN stays.
    Clamp { bound: f32 },
    /// g * factor.
    Scale { factor: f32 },
}

/// Changes gradients. Weights are as many.
pub(crate) struct Gradients<'a> {
    pub dw: &'a mut [f32],
    pub change: Change<'a>,
}

impl Kernel for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let (s, change) = (tier.vector(), self.change);
        let len = match change {
            Change::AddWeights { w, .. } => self.dw.len().min(w.len()),
            _ => self.dw.len(),
        };
        let dw = self.dw.as_mut_ptr();
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, which all slices in use have.
            unsafe {
                let g = load(s, dw.add(i), n);
                let new = match change {
                    Change::AddWeights { w, factor } => s.fma(load(s, w.as_ptr().add(i), n), s.splat(factor), g),
                    Change::Clamp { bound } => s.min(s.splat(bound), s.max(s.splat(-bound), g)),
                    Change::Scale { factor } => s.mul(g, s.splat(factor)),
                };
                store_strided(s, dw.add(i), 1, n, new);
            }
        }
    }
}

impl Split for Gradients<'_> {
    fn len(&self) -> usize {
        self.dw.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = halves(self.dw, at);
        let changes = match self.change {
            Change::AddWeights { w, factor } => {
                let (w, others) = w.split_at(at.min(w.len()));
                [Change::AddWeights { w, factor }, Change::AddWeights { w: others, factor }]
            }
            other => [other; 2],
        };
        (Self { dw: first, change: changes[0] }, Self { dw: rest, change: changes[1] })
    }
}

/// The sum of squares in f64, where the square of an f32 is exact and none overflows; added as a row is: pieces of
/// [`ROW_PIECE`] in 16 partial results, and these in a [`PairwiseSum`].
pub(crate) struct Squares<'a>(pub &'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> f64 {
        let mut tree = PairwiseSum::new();
        for piece in self.0.chunks(ROW_PIECE) {
            tree.push(tier.vector(), of_piece(piece));
        }
        tree.total(tier.vector())
    }
}

/// Element j goes into partial j mod 16.
#[inline(always)]
fn of_piece(piece: &[f32]) -> f64 {
    let mut partials = [0.0; ROW_LANES];
    let (groups, rest) = piece.as_chunks::<ROW_LANES>();
    for group in groups {
        add(&mut partials, group);
    }
    add(&mut partials, rest);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] += partials[i + half];
        }
    }
    partials[0]
}

#[inline(always)]
fn add(partials: &mut [f64; ROW_LANES], values: &[f32]) {
    for (partial, &value) in partials.iter_mut().zip(values) {
        *partial += f64::from(value) * f64::from(value);
    }
}

impl Split for Squares<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.0.split_at(at.min(self.0.len()));
        (Self(first), Self(rest))
    }
}
