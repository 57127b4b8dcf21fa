//! What every loss offers.

use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::targets::Labels;

/// Computes a loss of a network's outputs and its gradient.
///
/// Outputs are the last layer's, softmax left out: a loss that goes with softmax takes the logits.
pub(crate) trait Loss {
    /// Checks the last layer's activation.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) that says which activations the loss goes with.
    fn check_activation(&self, activation: DenseActivation) -> Result<()>;

    /// Checks the targets of `rows` samples against the number of outputs.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) or [`Error::Label`](crate::Error::Label).
    fn check_targets(&self, rows: usize, outputs: usize, targets: Labels<'_>) -> Result<()>;

    /// Computes the losses of some rows of a batch, and the gradient with respect to their outputs of the
    /// batch's loss: the sum of all its rows' losses, divided by `divisor`.
    ///
    /// # Errors
    /// As the checks.
    fn rows(
        &self,
        backend: &Backend,
        divisor: f64,
        outputs: MatRef<'_>,
        targets: Labels<'_>,
        gradients: LossGradients<'_>,
    ) -> Result<()>;

    /// Computes the sum of the losses alone.
    ///
    /// # Errors
    /// As the checks.
    fn sum(&self, backend: &Backend, outputs: MatRef<'_>, targets: Labels<'_>) -> Result<f32>;

    /// Counts the correct predictions.
    fn correct(&self, outputs: MatRef<'_>, targets: Labels<'_>) -> usize;
}

/// Where a loss writes, a row for each sample.
pub(crate) struct LossGradients<'a> {
    pub losses: &'a mut [f32],
    /// The gradient with respect to the outputs.
    pub doutputs: MatMut<'a>,
}

/// Gives the index of the first of the largest values; NaNs are passed over, and there is none among NaNs
/// only.
pub(crate) fn argmax(row: &[f32]) -> Option<usize> {
    let mut best = None;
    for (i, &value) in row.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, most)| value > most) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}
