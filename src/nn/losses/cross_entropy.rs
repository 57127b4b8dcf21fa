//! Sparse categorical cross-entropy: of softmax(logits) against class labels.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::loss::{CrossEntropy, Reduction};
use crate::matrix::MatRef;
use crate::nn::activation::DenseActivation;
use crate::nn::losses::interface::{Loss, LossGradients, argmax};
use crate::targets::Labels;

/// -log_softmax(outputs)\[label\], in nats; softmax is fused into it.
pub(crate) struct SparseCategoricalCrossEntropy;

impl Loss for SparseCategoricalCrossEntropy {
    fn check_activation(&self, activation: DenseActivation) -> Result<()> {
        match activation {
            DenseActivation::Elementwise(Activation::Linear) | DenseActivation::Softmax => Ok(()),
            other => Err(Error::value("activation", "softmax or linear in the last layer, for the loss", other)),
        }
    }

    fn check_targets(&self, rows: usize, outputs: usize, targets: Labels<'_>) -> Result<()> {
        targets.check(rows, outputs, None)
    }

    fn rows(
        &self,
        backend: &Backend,
        divisor: f64,
        outputs: MatRef<'_>,
        targets: Labels<'_>,
        LossGradients { losses, doutputs }: LossGradients<'_>,
    ) -> Result<()> {
        CrossEntropy::new().rows(backend, divisor, (outputs, targets), losses, doutputs)
    }

    fn sum(&self, backend: &Backend, outputs: MatRef<'_>, targets: Labels<'_>) -> Result<f32> {
        CrossEntropy::new().reduction(Reduction::Sum).forward(backend, outputs, targets, None)
    }

    fn correct(&self, outputs: MatRef<'_>, targets: Labels<'_>) -> usize {
        let hit = |&row: &usize| targets.get(row).is_some_and(|label| outputs.row(row).and_then(argmax) == Some(label));
        (0..outputs.rows()).filter(hit).count()
    }
}
