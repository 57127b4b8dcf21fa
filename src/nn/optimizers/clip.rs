//! What an optimizer does to gradients before its rule takes them: L2 and clipping.

use crate::backend::Backend;
use crate::contract::ROW_PIECE;
use crate::error::Result;
use crate::kernels::gradients::{Change, Gradients, Squares};
use crate::nn::layers::interface::ParameterCounts;
use crate::nn::optimizers::in_range;
use crate::tuning::cost;
use crate::tuning::parallel::PARAMETER_GRAIN;

/// How to keep gradients from being too large, by a number c that is finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Clip {
    /// Each gradient becomes what is nearest to it of -c..=c; NaN stays. Keras' `clipvalue`.
    Value(f64),
    /// All gradients are multiplied by c / n if their Euclidean norm n, taken over all parameters, is above c.
    /// Keras' `global_clipnorm`.
    ///
    /// If one is infinite or NaN, all become NaN, as in Keras: the loss tells of it from the next step on.
    /// The norm is taken in f64, so that finite gradients have a finite norm. A training step that
    /// needs it takes longer: no parameter can be updated before all gradients are there.
    /// Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).
    GlobalNorm(f64),
}

impl Clip {
    pub(crate) fn check(self) -> Result<()> {
        let (Self::Value(most) | Self::GlobalNorm(most)) = self;
        in_range("clip", most, "a number that is finite and above 0 as f32", |most| most as f32 > 0.0)
    }
}

/// L2 and clipping, of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adjust {
    /// 2 l2.
    pub(crate) l2: Option<f32>,
    pub(crate) clip: Option<Clip>,
}

impl Adjust {
    /// Whether gradients stay what they are.
    pub(crate) fn is_nothing(self) -> bool {
        self.l2.is_none() && self.clip.is_none()
    }

    /// Adjusts gradients that can be seen alone: all but by their norm. The first `kernel` of the parameters `w` are of
    /// a kernel, the others of a bias.
    pub(crate) fn each(self, backend: &Backend, kernel: usize, w: &[f32], dw: &mut [f32]) {
        if let Some(factor) = self.l2 {
            change(backend, &mut dw[..kernel], Change::AddWeights { w: &w[..kernel], factor });
        }
        if let Some(Clip::Value(most)) = self.clip {
            change(backend, dw, Change::Clamp { bound: most as f32 });
        }
    }

    /// Adjusts the gradients with respect to all parameters `w`, of nodes with these counts.
    pub(crate) fn all(
        self,
        backend: &Backend,
        nodes: impl Iterator<Item = ParameterCounts>,
        mut w: &[f32],
        dw: &mut [f32],
    ) {
        let mut rest = &mut *dw;
        for ParameterCounts { all, kernel, .. } in nodes {
            let (of_node, others) = w.split_at(all);
            let gradients = rest.split_off_mut(..all).unwrap_or_default();
            self.each(backend, kernel, of_node, gradients);
            w = others;
        }
        if let Some(Clip::GlobalNorm(most)) = self.clip {
            let norm = norm(backend, dw);
            if norm > most || norm.is_nan() {
                let factor = if norm.is_finite() { (most / norm) as f32 } else { f32::NAN };
                change(backend, dw, Change::Scale { factor });
            }
        }
    }
}

/// The Euclidean norm, whose bits [`reference::global_norm`](crate::reference::global_norm) tells.
fn norm(backend: &Backend, dw: &[f32]) -> f64 {
    backend.sum(cost::gradients(dw.len()), ROW_PIECE, Squares(dw)).sqrt()
}

fn change(backend: &Backend, dw: &mut [f32], change: Change<'_>) {
    backend.run(cost::gradients(dw.len()), PARAMETER_GRAIN, Gradients { dw, change });
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{Isa, Threads, reference};

    #[test]
    fn the_norm_has_the_bits_of_the_reference() {
        // Numbers of many magnitudes, so that another order has another sum.
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
