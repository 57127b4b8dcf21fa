//! Predictions and evaluation of a [`Sequential`], by its weights as they are: packing them would take longer
//! than a call on few samples.

use std::ops::Range;

use crate::activation;
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::arena::{Arena, ArenaValues};
use crate::nn::buffer::zeros;
use crate::nn::layers::interface::DropoutKey;
use crate::nn::losses::interface::argmax;
use crate::nn::metrics::{MetricSums, Metrics};
use crate::nn::plan::NetworkParameters;
use crate::nn::sequential::Sequential;
use crate::targets::Labels;
use crate::tuning::infer::SEQUENTIAL_BLOCK;

impl Sequential {
    /// The last layer's values for each sample, row-major, batch x [`outputs`](Self::outputs):
    /// probabilities if its activation is softmax. `x` is batch x [`inputs`](Self::inputs).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another number of columns, or there is no memory for the predictions or
    /// for the layers' values.
    pub fn predict(&self, x: MatRef<'_>) -> Result<Vec<f32>> {
        self.check_input(x)?;
        let (rows, outputs) = (x.rows(), self.outputs());
        let no_memory = || Error::shape("x", "samples whose outputs fit memory", format_args!("{rows} of {outputs}"));
        let mut y = rows.checked_mul(outputs).and_then(zeros).ok_or_else(no_memory)?;
        self.predict_into(x, MatMut::new(&mut y, rows, outputs)?)?;
        Ok(y)
    }

    /// [`predict`](Self::predict) into a matrix, batch x [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// [`Error::Shape`] if a shape does not fit, or there is no memory for the layers' values; `y` is
    /// untouched then.
    pub fn predict_into(&self, x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
        self.check_input(x)?;
        check_shape("y", [y.rows(), y.cols()], [x.rows(), self.outputs()])?;
        let is_softmax = self.plan.output_activation() == DenseActivation::Softmax;
        self.forward_blocks(x, |rows, outputs| {
            let mut y = y.reborrow().row_range(rows)?;
            if is_softmax {
                return activation::softmax(&self.backend, outputs, y);
            }
            for row in 0..outputs.rows() {
                for (col, &value) in outputs.row(row).unwrap_or_default().iter().enumerate() {
                    y.set(row, col, value);
                }
            }
            Ok(())
        })
    }

    /// The class of each sample: the index of the largest of its outputs, the first if several are equal,
    /// NaNs passed over; 0 if all of them are NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not have [`inputs`](Self::inputs) columns, or there is no memory for the
    /// layers' values.
    pub fn predict_classes(&self, x: MatRef<'_>) -> Result<Vec<usize>> {
        self.check_input(x)?;
        let mut classes = Vec::with_capacity(x.rows());
        self.forward_blocks(x, |_, outputs| {
            let class = |row| outputs.row(row).and_then(argmax).unwrap_or_default();
            classes.extend((0..outputs.rows()).map(class));
            Ok(())
        })?;
        Ok(classes)
    }

    /// The mean loss and the accuracy over all samples; the model is not trained on them.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Label`] or [`Error::Value`] if `x` and `labels` do not fit the model or
    /// each other, or are empty, or the last activation is one that the loss does not go with: it must be
    /// softmax or, for logits, linear. [`Error::Shape`] if there is no memory for the layers' values.
    pub fn evaluate<'a>(&self, x: MatRef<'_>, labels: impl Into<Labels<'a>>) -> Result<Metrics> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        let mut sums = MetricSums { samples: x.rows(), ..MetricSums::default() };
        self.forward_blocks(x, |rows, outputs| {
            let labels = labels.split_at(rows.start).1.split_at(rows.len()).0;
            sums.loss += f64::from(self.loss.sum(&self.backend, outputs, labels)?);
            sums.correct += self.loss.correct(outputs, labels);
            Ok(())
        })?;
        Ok(sums.means())
    }

    /// Passes the samples through the network in blocks, and hands over each block's rows and outputs, before
    /// softmax.
    fn forward_blocks(
        &self,
        x: MatRef<'_>,
        mut each: impl FnMut(Range<usize>, MatRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self { plan, parameters, backend, .. } = self;
        let arena = Arena::inference(plan.nodes());
        let (most, width) = (SEQUENTIAL_BLOCK.min(x.rows()), arena.width());
        let no_memory =
            || Error::shape("x", "samples whose values fit memory", format_args!("{most} of {width} at a time"));
        let mut buffer = most.checked_mul(width).and_then(zeros).ok_or_else(no_memory)?;
        let (nodes, parameters) = (plan.all(), NetworkParameters::Flat(parameters));
        for first in (0..x.rows()).step_by(SEQUENTIAL_BLOCK) {
            let range = first..x.rows().min(first + SEQUENTIAL_BLOCK);
            let mut rows = arena.rows(&mut buffer, range.len())?;
            let mut values = ArenaValues { arena: &arena, samples: x.row_range(range.clone())?, rows: rows.reborrow() };
            plan.forward(backend, nodes.clone(), parameters, DropoutKey::default(), &mut values)?;
            each(range, arena.outputs(rows.as_ref()))?;
        }
        Ok(())
    }
}
