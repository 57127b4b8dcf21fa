//! Preprocessing of gradients before the update rule: L2 regularisation and clipping.

use std::ops::Range;

use crate::backend::Backend;
use crate::contract::ROW_PIECE;
use crate::error::Result;
use crate::kernels::gradients::{AdjustGradients, Adjustment, SumOfSquares};
use crate::nn::optimizers::update_rule::check_number;
use crate::tuning::cost;
use crate::tuning::parallel::PARAMETER_GRAIN;

/// Clips gradients by a bound c, which is finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Clip {
    /// Each gradient is clamped to -c..=c; NaN stays. Keras' `clipvalue`.
    Value(f64),
    /// All gradients are multiplied by c / n if their Euclidean norm n, over all parameters, is above c.
    /// Keras' `global_clipnorm`.
    ///
    /// If one is infinite or NaN, all become NaN, as in Keras: the loss shows it from the next step on. The
    /// norm is computed in f64, so that finite gradients have a finite norm. A training step takes longer
    /// with it, since no parameter can be updated before all gradients are known. Source: Pascanu, Mikolov
    /// and Bengio, "On the difficulty of training recurrent neural networks" (2013).
    GlobalNorm(f64),
}

impl Clip {
    pub(crate) fn check(self) -> Result<()> {
        let (Self::Value(bound) | Self::GlobalNorm(bound)) = self;
        check_number("clip", bound, "a number that is finite and above 0 as f32", |bound| bound as f32 > 0.0)
    }
}

/// L2 regularisation and clipping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preprocessing {
    l2: f64,
    clip: Option<Clip>,
}

impl Preprocessing {
    pub(crate) fn new(l2: f64, clip: Option<Clip>) -> Self {
        Self { l2, clip }
    }

    /// Tells whether gradients stay as they are.
    pub(crate) fn is_identity(self) -> bool {
        self.l2 == 0.0 && self.clip.is_none()
    }

    /// Changes the gradients `dw` of the parameters `w`, of which those in the ranges of `kernels` are
    /// subject to L2.
    ///
    /// A norm is that of `dw`: with [`Clip::GlobalNorm`], these must be the gradients of all parameters.
    pub(crate) fn apply(
        self,
        backend: &Backend,
        kernels: impl IntoIterator<Item = Range<usize>>,
        w: &[f32],
        dw: &mut [f32],
    ) {
        if self.l2 != 0.0 {
            let factor = (2.0 * self.l2) as f32;
            for kernel in kernels {
                let w = &w[kernel.clone()];
                adjust(backend, &mut dw[kernel], Adjustment::AddWeights { w, factor });
            }
        }
        match self.clip {
            None => {}
            Some(Clip::Value(bound)) => adjust(backend, dw, Adjustment::Clamp { bound: bound as f32 }),
            Some(Clip::GlobalNorm(bound)) => {
                let norm = norm(backend, dw);
                if norm > bound || norm.is_nan() {
                    let factor = if norm.is_finite() { (bound / norm) as f32 } else { f32::NAN };
                    adjust(backend, dw, Adjustment::Scale { factor });
                }
            }
        }
    }
}

/// Computes the Euclidean norm, with the bits of [`reference::global_norm`](crate::reference::global_norm).
fn norm(backend: &Backend, dw: &[f32]) -> f64 {
    backend.sum(cost::gradients(dw.len()), ROW_PIECE, SumOfSquares(dw)).sqrt()
}

fn adjust(backend: &Backend, dw: &mut [f32], adjustment: Adjustment<'_>) {
    backend.run(cost::gradients(dw.len()), PARAMETER_GRAIN, AdjustGradients { dw, adjustment });
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{Isa, Threads, reference};

    #[test]
    fn the_norm_has_the_bits_of_the_reference() {
        // Magnitudes differ so much that another order of additions has another sum.
        let values: Vec<f32> = (0..10 * ROW_PIECE as u32 + 7)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 2f32.powi((i % 29) as i32 - 40))
            .collect();
        for isa in Isa::available() {
            for threads in [1, 2, 3, 5, 7] {
                let threads = Threads::Exactly(NonZeroUsize::new(threads).unwrap());
                let backend = Backend::with_isa(isa).unwrap().with_threads(threads);
                for len in [0, 1, 15, 16, 17, ROW_PIECE, ROW_PIECE + 1, 3 * ROW_PIECE - 5, values.len()] {
                    let expected = reference::global_norm(&values[..len]);
                    assert_eq!(norm(&backend, &values[..len]).to_bits(), expected.to_bits(), "{len} on {backend:?}");
                }
            }
        }
    }
}
