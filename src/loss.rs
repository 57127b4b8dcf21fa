//! Losses, fused with their gradients.

use crate::backend::Backend;
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::kernels::softmax::CrossEntropy;
use crate::labels::Labels;
use crate::matrix::{MatMut, MatRef};

/// Mean cross-entropy of softmax(logits) against class labels, and its gradient, in one call.
///
/// `logits` is batch x classes, `labels` one class a row in `u8`, `u32` or `usize`, `dlogits` batch
/// x classes. Gives the mean over the batch of -log_softmax(logits)\[label\], in nats, and writes
/// dlogits = (softmax(logits) - one_hot(label)) / batch.
///
/// ```
/// use densely::{Backend, MatMut, MatRef, loss};
/// let logits = [0.0, 0.0, 0.0, 9.0];
/// let mut dlogits = [0.0; 4];
/// let loss = loss::cross_entropy(
///     &Backend::new()?,
///     MatRef::new(&logits, 2, 2)?,
///     &[0u8, 1],
///     MatMut::new(&mut dlogits, 2, 2)?,
/// )?;
/// assert!((loss - 0.5 * 2f32.ln()).abs() < 1e-3);
/// assert_eq!(dlogits[..2], [-0.25, 0.25]);
/// # Ok::<(), densely::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit, [`Error::Value`] if the batch is empty,
/// [`Error::Label`] if a label is not below the number of classes; `dlogits` is untouched then.
pub fn cross_entropy<'a>(
    backend: &Backend,
    logits: MatRef<'_>,
    labels: impl Into<Labels<'a>>,
    dlogits: MatMut<'_>,
) -> Result<f32> {
    let labels = labels.into();
    check_cross_entropy(logits, labels, &dlogits)?;
    let batch = logits.rows() as f32;
    // About one element a nanosecond, and twenty for a row.
    let cost = logits.rows().saturating_mul(logits.cols().saturating_add(20));
    let kernel = CrossEntropy { x: logits, labels, scale: 1.0 / batch, dx: dlogits };
    Ok(backend.sum(cost, kernel) / batch)
}

pub(crate) fn check_cross_entropy(logits: MatRef<'_>, labels: Labels<'_>, dlogits: &MatMut<'_>) -> Result<()> {
    if logits.rows() == 0 {
        return Err(Error::value("logits", "at least one row to take the mean over", "0 rows"));
    }
    check_shape("dlogits", [dlogits.rows(), dlogits.cols()], [logits.rows(), logits.cols()])?;
    labels.check(logits.rows(), logits.cols())
}
