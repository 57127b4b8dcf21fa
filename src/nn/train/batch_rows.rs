//! `BatchRows`: some samples of a batch, their forward and backward pass.

use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::MatMut;
use crate::nn::arena::{Arena, ArenaValues};
use crate::nn::buffer::take_front;
use crate::nn::layers::interface::DropoutKey;
use crate::nn::losses::LossKind;
use crate::nn::losses::interface::LossGradients;
use crate::nn::plan::{NetworkParameters, Plan};
use crate::nn::train::batches::{Batch, BatchSource};

/// A network in a step.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) parameters: &'a [f32],
    pub(crate) loss: LossKind,
    pub(crate) dropout: DropoutKey,
}

/// Some samples of a batch, with their rows of the arena.
pub(crate) struct BatchRows<'a> {
    /// The first one's number in the batch.
    pub(crate) row: usize,
    pub(crate) source: BatchSource<'a>,
    pub(crate) losses: &'a mut [f32],
    pub(crate) values: MatMut<'a>,
}

impl<'a> BatchRows<'a> {
    pub(crate) fn len(&self) -> usize {
        self.losses.len()
    }

    /// Splits off the first `count`, as a thread's share of the batch.
    pub(crate) fn take_share(&mut self, count: usize) -> Self {
        self.take(count, BatchSource::take_share)
    }

    /// Splits off the first `count`, after which the same thread takes the others.
    pub(crate) fn take_block(&mut self, count: usize) -> Self {
        self.take(count, BatchSource::take_block)
    }

    fn take(&mut self, count: usize, take: impl FnOnce(&mut BatchSource<'a>, usize) -> BatchSource<'a>) -> Self {
        let count = count.min(self.len());
        let row = self.row;
        self.row += count;
        let source = take(&mut self.source, count);
        Self { row, source, losses: take_front(&mut self.losses, count), values: self.values.take_rows(count) }
    }

    /// Passes them through some nodes, and back from their losses, each divided by the size of the batch.
    /// Gives the number of correct predictions.
    pub(crate) fn run(
        self,
        backend: &Backend,
        Network { plan, parameters, loss, dropout }: Network<'_>,
        nodes: Range<usize>,
        batch: usize,
        arena: &Arena,
    ) -> Result<usize> {
        let Self { row, source, losses, values: mut rows } = self;
        let dropout = DropoutKey { row, ..dropout };
        let Batch { x, labels, weights } = source.get(backend)?;
        let mut values = ArenaValues { arena, samples: x, rows: rows.reborrow() };
        plan.forward(backend, nodes, NetworkParameters::Flat(parameters), dropout, &mut values)?;
        let (outputs, mut doutputs) = arena.outputs_and_gradient(rows.reborrow());
        let gradients = LossGradients { losses: &mut *losses, doutputs: doutputs.reborrow() };
        loss.rows(backend, batch as f64, outputs, labels, gradients)?;
        weigh(weights, losses, doutputs);
        let correct = loss.correct(outputs, labels);
        plan.backward(backend, parameters, dropout, arena, rows)?;
        Ok(correct)
    }
}

/// Multiplies losses, and the rows of their gradients, by the samples' weights, if there are any.
fn weigh(weights: &[f32], losses: &mut [f32], mut doutputs: MatMut<'_>) {
    for (row, (weight, loss)) in weights.iter().zip(losses).enumerate() {
        *loss *= weight;
        for col in 0..doutputs.cols() {
            let gradient = doutputs.as_ref().get(row, col).unwrap_or_default();
            doutputs.set(row, col, gradient * weight);
        }
    }
}
