//! Losses, fused with their gradients.
//!
//! [`cross_entropy`] is the usual case: the mean over the batch, against class labels. [`CrossEntropy`] adds
//! class weights, label smoothing, an ignored label, targets that are probabilities, sums, and the loss of
//! each row. Both take logits, not probabilities: softmax is part of the loss. The gradient is the `dy` of
//! the last [`dense`](crate::dense) layer's backward pass.

use crate::backend::Backend;
use crate::contract::LOSS_ROWS;
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::kernels::Input;
use crate::kernels::pairwise_sum::Losses;
use crate::kernels::softmax::cross_entropy::CrossEntropy as CrossEntropyKernel;
use crate::kernels::softmax::row_targets::LossTargets;
use crate::matrix::{MatMut, MatRef};
use crate::targets::{Labels, Targets};
use crate::tuning::cost;

/// Computes the mean cross-entropy of softmax(logits) against class labels, and its gradient.
///
/// `logits` and `dlogits` are batch x classes, `labels` has one class per row as `u8`, `u32` or `usize`.
/// Returns the mean over the batch of -log_softmax(logits)\[label\], in nats, and writes dlogits =
/// (softmax(logits) - one_hot(label)) / batch. [`CrossEntropy`] has further options.
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
/// [`Error::Shape`] if the shapes do not match, [`Error::Value`] if the batch is empty,
/// [`Error::Label`] if a label is not below the number of classes. `dlogits` is left unchanged then.
pub fn cross_entropy<'a>(
    backend: &Backend,
    logits: MatRef<'_>,
    labels: impl Into<Labels<'a>>,
    dlogits: MatMut<'_>,
) -> Result<f32> {
    CrossEntropy::new().forward_backward(backend, logits, labels.into(), None, dlogits)
}

/// How the losses of the rows are reduced to one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reduction {
    /// The weighted mean: the sum of the losses divided by the sum of the class weights of the rows' labels,
    /// without ignored rows. Each row has weight 1 if there are no class weights or the targets are
    /// probabilities. If all weights are 0, the mean and its gradient are 0.
    #[default]
    Mean,
    /// The sum. Its gradient with respect to a row of logits is that of the row's own loss, so it also suits
    /// callers that want each row's loss, in `losses`.
    Sum,
}

/// Cross-entropy of softmax(logits) against labels or probabilities, with or without its gradient.
///
/// For K classes with targets t (one-hot if labels are given), class weights w and label smoothing s, the
/// loss of a row is
///
/// -sum over the classes c of w_c ((1 - s) t_c + s / K) log_softmax(logits)_c
///
/// in nats, as in PyTorch's `CrossEntropyLoss`. A class whose factor is 0 contributes 0, even if its
/// logarithm is -inf. The gradient is that of the reduced loss. `losses`, if given, receives the loss of each
/// row before the reduction. Label smoothing: Szegedy et al., "Rethinking the Inception architecture for
/// computer vision" (2016).
///
/// With labels, a row is ignored if its label is the [ignored one](Self::ignored_label), or if the class
/// weights make all its factors 0: its loss and gradient are 0 whatever its logits are, NaN included. With
/// probabilities no row is ignored.
///
/// ```
/// use densely::loss::{CrossEntropy, Reduction};
/// use densely::{Backend, MatMut, MatRef};
/// let backend = Backend::new()?;
/// let mut logits = [2.0, 0.0, f32::NAN, 1.0, -1.0, 1.0];
/// let loss = CrossEntropy::new().label_smoothing(0.1).ignored_label(255).reduction(Reduction::Sum);
/// let mut losses = [0.0; 3];
/// let sum = loss.forward_backward_in_place(
///     &backend,
///     &[0u8, 255, 1],
///     Some(&mut losses),
///     MatMut::new(&mut logits, 3, 2)?,
/// )?;
/// assert_eq!((losses[1], logits[2], logits[3]), (0.0, 0.0, 0.0));
/// assert_eq!(sum, losses[0] + losses[2]);
///
/// let (logits, targets) = ([0.0, 0.0], [0.25, 0.75]);
/// let targets = MatRef::new(&targets, 1, 2)?;
/// let loss = CrossEntropy::new().forward(&backend, MatRef::new(&logits, 1, 2)?, targets, None)?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy<'a> {
    pub(crate) reduction: Reduction,
    pub(crate) smoothing: f32,
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) ignored: Option<usize>,
}

impl<'a> CrossEntropy<'a> {
    /// The mean without label smoothing, class weights or an ignored label.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the losses of the rows are reduced to one number. The default is the mean.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Sets the fraction of the targets, 0 to 1, that is distributed evenly over all classes. Default: 0.
    #[must_use]
    pub fn label_smoothing(self, smoothing: f32) -> Self {
        Self { smoothing, ..self }
    }

    /// Sets a weight for each class, finite and at least 0. The default is 1.
    #[must_use]
    pub fn class_weights(self, weights: &'a [f32]) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// Sets the label whose rows are ignored; it need not be a class. Has no effect on probabilities.
    #[must_use]
    pub fn ignored_label(self, label: usize) -> Self {
        Self { ignored: Some(label), ..self }
    }

    /// Computes the loss alone. `logits` is batch x classes, `losses` has one element per row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes or the number of labels, weights or losses do not match,
    /// [`Error::Label`] if a label is neither below the number of classes nor the ignored one,
    /// [`Error::Value`] if there is no class, no row to take the mean over, or the label smoothing or a
    /// weight is out of range. Nothing is written then.
    pub fn forward<'t>(
        &self,
        backend: &Backend,
        logits: MatRef<'_>,
        targets: impl Into<Targets<'t>>,
        losses: Option<&mut [f32]>,
    ) -> Result<f32> {
        let targets = targets.into();
        self.check([logits.rows(), logits.cols()], targets, losses.as_deref())?;
        Ok(self.run(backend, Input::Matrix(logits), [logits.rows(), logits.cols()], targets, losses, None))
    }

    /// Computes the loss, and writes its gradient to `dlogits`, batch x classes.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`Error::Shape`] if `dlogits` and `logits` differ in shape.
    pub fn forward_backward<'t>(
        &self,
        backend: &Backend,
        logits: MatRef<'_>,
        targets: impl Into<Targets<'t>>,
        losses: Option<&mut [f32]>,
        dlogits: MatMut<'_>,
    ) -> Result<f32> {
        let targets = targets.into();
        let shape = [logits.rows(), logits.cols()];
        self.check(shape, targets, losses.as_deref())?;
        check_shape("dlogits", [dlogits.rows(), dlogits.cols()], shape)?;
        Ok(self.run(backend, Input::Matrix(logits), shape, targets, losses, Some(dlogits)))
    }

    /// Computes the loss, and overwrites the logits, batch x classes, with its gradient.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_backward_in_place<'t>(
        &self,
        backend: &Backend,
        targets: impl Into<Targets<'t>>,
        losses: Option<&mut [f32]>,
        logits: MatMut<'_>,
    ) -> Result<f32> {
        let targets = targets.into();
        let shape = [logits.rows(), logits.cols()];
        self.check(shape, targets, losses.as_deref())?;
        Ok(self.run(backend, Input::InPlace, shape, targets, losses, Some(logits)))
    }

    pub(crate) fn check(&self, [rows, cols]: [usize; 2], targets: Targets<'_>, losses: Option<&[f32]>) -> Result<()> {
        if rows == 0 && self.reduction == Reduction::Mean {
            return Err(Error::value("logits", "at least one row to take the mean over", "0 rows"));
        }
        match targets {
            Targets::Labels(labels) => labels.check(rows, cols, self.ignored)?,
            Targets::Probabilities(t) => check_shape("targets", [t.rows(), t.cols()], [rows, cols])?,
        }
        if cols == 0 {
            return Err(Error::value("logits", "at least one class", "0 columns"));
        }
        if let Some(weights) = self.weights {
            if weights.len() != cols {
                return Err(Error::shape("class_weights", format_args!("{cols} weights, one a class"), weights.len()));
            }
            if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
                return Err(Error::value("class_weights", "finite weights of at least 0", weight));
            }
        }
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(Error::value("label_smoothing", "a number in 0..=1", self.smoothing));
        }
        match losses {
            Some(losses) if losses.len() != rows => {
                Err(Error::shape("losses", format_args!("{rows} elements, one a row"), losses.len()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number by which the sum of the losses is divided: the weight of all rows, or 1 for a sum.
    fn divisor(&self, rows: usize, targets: Targets<'_>) -> f64 {
        match (self.reduction, targets) {
            (Reduction::Sum, _) => 1.0,
            (Reduction::Mean, Targets::Labels(labels)) if self.weights.is_some() || self.ignored.is_some() => {
                let counted = (0..rows).filter_map(|row| labels.get(row)).filter(|label| Some(*label) != self.ignored);
                let weight = |label: usize| self.weights.map_or(1.0, |w| w.get(label).copied().map_or(0.0, f64::from));
                counted.map(weight).sum()
            }
            (Reduction::Mean, _) => rows as f64,
        }
    }

    fn run(
        &self,
        backend: &Backend,
        logits: Input<'_>,
        [rows, cols]: [usize; 2],
        targets: Targets<'_>,
        losses: Option<&mut [f32]>,
        dlogits: Option<MatMut<'_>>,
    ) -> f32 {
        let divisor = self.divisor(rows, targets);
        let kernel = self.kernel(divisor, logits, cols, targets, losses, dlogits);
        let sum = backend.sum(cost::cross_entropy(rows, cols), LOSS_ROWS, kernel);
        if divisor > 0.0 { (f64::from(sum) / divisor) as f32 } else { 0.0 }
    }

    fn kernel<'k>(
        &'k self,
        divisor: f64,
        logits: Input<'k>,
        cols: usize,
        targets: Targets<'k>,
        losses: Option<&'k mut [f32]>,
        dx: Option<MatMut<'k>>,
    ) -> CrossEntropyKernel<'k> {
        // A batch without weight has no gradient, not even where the label's own class weighs nothing.
        let scale = if divisor > 0.0 { (1.0 / divisor).min(f32::MAX.into()) } else { 0.0 };
        let targets = LossTargets {
            targets,
            weights: self.weights,
            ignored: self.ignored,
            keep: 1.0 - self.smoothing,
            base: self.smoothing / cols as f32,
        };
        CrossEntropyKernel { logits, targets, scale: scale as f32, losses, dx }
    }

    /// Computes the losses of some rows of a batch, and the gradient of the batch's loss with respect to
    /// them.
    ///
    /// `divisor` is the weight of the whole batch. [`sum`] adds the losses of all its rows.
    ///
    /// # Errors
    /// As [`forward_backward`](Self::forward_backward).
    pub(crate) fn rows<'t>(
        &self,
        backend: &Backend,
        divisor: f64,
        (logits, targets): (MatRef<'_>, impl Into<Targets<'t>>),
        losses: &mut [f32],
        dlogits: MatMut<'_>,
    ) -> Result<()> {
        let targets = targets.into();
        let shape = [logits.rows(), logits.cols()];
        self.check(shape, targets, Some(losses))?;
        check_shape("dlogits", [dlogits.rows(), dlogits.cols()], shape)?;
        let kernel = self.kernel(divisor, Input::Matrix(logits), shape[1], targets, Some(losses), Some(dlogits));
        backend.sum(cost::cross_entropy(shape[0], shape[1]), LOSS_ROWS, kernel);
        Ok(())
    }
}

/// Adds the losses of a batch's rows, in the order of a call on the whole batch.
pub(crate) fn sum(backend: &Backend, losses: &[f32]) -> f32 {
    backend.sum(cost::sum(losses.len()), LOSS_ROWS, Losses(losses))
}
