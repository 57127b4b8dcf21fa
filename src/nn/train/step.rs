//! The training step: two phases, each split over threads, with a barrier behind each.
//!
//! ```text
//! forward_backward   by rows of the batch   gather the samples, or prefetch the next batch's
//!                                           forward pass, losses, backward pass
//! update             by shards              gradients with respect to a shard's parameters, the optimizer's step on these;
//!                                           column shards: forward pass of the next batch through the first layer
//! ```
//!
//! Column shards read samples that other threads have gathered, so the next batch is gathered in the phase before. Without
//! column shards a thread gathers some samples, passes them through the network while they are in its cache, and goes on
//! with the next.
//!
//! An optimizer that needs the norm of all gradients splits the update in three phases, and there are no column shards: the
//! gradients with respect to all parameters, their norm, the step.
//!
//! Which thread does what never changes a bit: no sum is split between threads but that of the losses, which is a tree.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::Backend;
use crate::error::Result;
use crate::loss;
use crate::matrix::{MatMut, MatRef};
use crate::nn::buffer::take_front;
use crate::nn::layers::interface::{DropoutKey, ForwardSlots, GradientInputs};
use crate::nn::losses::LossKind;
use crate::nn::losses::interface::LossGradients;
use crate::nn::optimizers::state::{Parameters, State, Update};
use crate::nn::plan::{self, Arena, ArenaValues, Plan};
use crate::nn::train::batches::{Batch, BatchSource, ShuffledGather};
use crate::nn::train::column_shards::ColumnShard;
use crate::nn::train::scratch::{Scratch, is_layerwise};
use crate::nn::train::shards::{Shard, even, take_parameters};
use crate::parallel::Threads;
use crate::tuning::train::{ROW_GRAIN, SAMPLES_BLOCK};

/// A network in a step.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) parameters: &'a [f32],
    pub(crate) loss: LossKind,
    pub(crate) dropout: DropoutKey,
}

/// A batch's mean loss and correct predictions, before its update.
pub(crate) struct BatchLoss {
    pub(crate) loss: f32,
    pub(crate) correct: usize,
}

/// Trains a network, from copying its parameters out to the column shards until they are copied back, when it is dropped.
pub(crate) struct Trainer<'a> {
    backend: &'a Backend,
    plan: &'a Plan,
    loss: LossKind,
    parameters: &'a mut [f32],
    state: &'a mut State,
    scratch: &'a mut Scratch,
    /// Of what dropouts drop.
    seed: u64,
}

/// What a [`Trainer`] borrows of a model.
pub(crate) struct TrainerParts<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) plan: &'a Plan,
    pub(crate) loss: LossKind,
    pub(crate) parameters: &'a mut [f32],
    pub(crate) state: &'a mut State,
    pub(crate) seed: u64,
}

impl<'a> Trainer<'a> {
    /// Copies parameters and moments out.
    pub(crate) fn new(parts: TrainerParts<'a>, scratch: &'a mut Scratch) -> Self {
        let TrainerParts { backend, plan, loss, parameters, state, seed } = parts;
        scratch.column_shards.copy_out([parameters, &state.first, &state.second]);
        Self { backend, plan, loss, parameters, state, scratch, seed }
    }

    /// Computes the first layer's outputs of the first batch, if it is sharded.
    pub(crate) fn forward_first_layer(&mut self, x: MatRef<'_>) -> Result<()> {
        self.scratch.forward_first_layer(self.backend, self.plan, x)
    }

    /// The first phase: passes a batch through the network and back.
    pub(crate) fn forward_backward(
        &mut self,
        batch: BatchSource<'_>,
        next: Option<ShuffledGather<'_>>,
    ) -> Result<BatchLoss> {
        let dropout = DropoutKey { seed: self.seed, step: self.state.steps, row: 0 };
        let network = Network { plan: self.plan, parameters: self.parameters, loss: self.loss, dropout };
        self.scratch.forward_backward(self.backend, network, batch, next)
    }

    /// The second phase: takes the optimizer's step, with the same samples `x`; `next` are those of the next batch.
    pub(crate) fn update(&mut self, x: MatRef<'_>, next: Option<MatRef<'_>>) -> Result<()> {
        if self.state.optimizer.needs_all_gradients() {
            self.scratch.gradients(self.backend, self.plan, x, &mut self.state.gradients)?;
            self.state.step(self.backend, self.plan.parameter_counts(), self.parameters);
            return Ok(());
        }
        let update = self.state.next_step();
        let parameters = [&mut *self.parameters, &mut self.state.first, &mut self.state.second];
        self.scratch.update(self.backend, self.plan, x, UpdateParameters { parameters, update }, next)
    }

    /// The learning rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.state.learning_rate()
    }
}

/// Copies parameters and moments back, in a panic too.
impl Drop for Trainer<'_> {
    fn drop(&mut self) {
        let State { first, second, .. } = &mut *self.state;
        self.scratch.column_shards.copy_back([self.parameters, first, second]);
    }
}

impl Scratch {
    fn forward_first_layer(&mut self, backend: &Backend, plan: &Plan, x: MatRef<'_>) -> Result<()> {
        let Self { arena, values, column_shards, .. } = self;
        let rows = arena.rows(&mut values[0], x.rows())?;
        let Some(mut slots) = arena.forward_slots(0, x, rows).filter(|_| !column_shards.is_empty()) else {
            return Ok(());
        };
        let parts = column_shards.iter_mut().map(|shard| (slots.take_cols(shard.width()), shard));
        let serial = backend.with_threads(Threads::One);
        backend.share(plan.cost(0..1, x.rows()), parts, |(slots, shard)| shard.forward(&serial, slots))
    }

    /// Passes a batch through the network and back, up to the gradient with respect to the first layer's outputs.
    pub(crate) fn forward_backward(
        &mut self,
        backend: &Backend,
        network: Network<'_>,
        samples: BatchSource<'_>,
        mut next: Option<ShuffledGather<'_>>,
    ) -> Result<BatchLoss> {
        let nodes = self.nodes_by_rows(network.plan);
        let Self { arena, values, losses, threads, .. } = self;
        let (batch, features) = (samples.len(), samples.features());
        let losses = &mut losses[..batch];
        let correct = AtomicUsize::new(0);
        let run = |backend: &Backend, rows: BatchRows<'_>| {
            correct.fetch_add(rows.run(backend, network, nodes.clone(), batch, arena)?, Ordering::Relaxed);
            Ok(())
        };
        let mut cost = samples.cost() + 2 * network.plan.cost(nodes.clone(), batch);
        let values = arena.rows(&mut values[0], batch)?;
        let mut rows = BatchRows { row: 0, source: samples, losses: &mut *losses, values };
        if is_layerwise(network.plan, nodes.clone(), *threads) {
            run(backend, rows.take_share(batch))?;
            cost = 0;
        }
        cost += next.as_ref().map_or(0, ShuffledGather::cost);
        let next_len = next.as_ref().map_or(0, ShuffledGather::len);
        let parts = even(batch, ROW_GRAIN, *threads).zip(even(next_len, 1, *threads)).map(|(share, next_share)| {
            let next = next.as_mut().map(|next| next.take_share(next_share.len()));
            (rows.take_share(share.len()), next)
        });
        let serial = backend.with_threads(Threads::One);
        // With column shards, the samples themselves are not read here.
        let block = if nodes.start > 0 { batch } else { (SAMPLES_BLOCK / features).max(ROW_GRAIN) };
        backend.share(cost, parts, |(mut rows, mut next)| {
            let count = rows.len().div_ceil(rows.len().div_ceil(block).max(1));
            loop {
                if let Some(next) = &mut next {
                    next.take_block(block).run(&serial)?;
                }
                if rows.len() > 0 {
                    run(&serial, rows.take_block(count))?;
                }
                if rows.len() == 0 && next.as_ref().is_none_or(|next| next.len() == 0) {
                    return Ok(());
                }
            }
        })?;
        let loss = (f64::from(loss::sum(&serial, losses)) / batch as f64) as f32;
        Ok(BatchLoss { loss, correct: correct.into_inner() })
    }

    /// Takes the optimizer's step on all parameters, after [`forward_backward`](Self::forward_backward); column shards then
    /// compute the first layer's outputs of the next batch.
    fn update(
        &mut self,
        backend: &Backend,
        plan: &Plan,
        x: MatRef<'_>,
        UpdateParameters { mut parameters, update }: UpdateParameters<'_>,
        next: Option<MatRef<'_>>,
    ) -> Result<()> {
        let sharded = self.is_sharded();
        let next = next.filter(|_| sharded);
        let Self { arena, values, column_shards, row_shards, .. } = self;
        let (values, other_values) = values.split_at_mut(1);
        let rows = arena.rows(&mut values[0], x.rows())?.into_ref();
        let mut next_slots = match (next, other_values) {
            (Some(next), [other]) => arena.forward_slots(0, next, arena.rows(other, next.rows())?),
            _ => None,
        };
        let columns = column_shards.iter_mut().map(|shard| {
            let next = next_slots.as_mut().map(|slots| slots.take_cols(shard.width()));
            UpdatePart::Columns { shard, next }
        });
        if sharded {
            take_parameters(&mut parameters, plan.nodes()[0].parameters.len());
        }
        let others = row_shards.iter_mut().map(|shard| {
            let parameters = take_parameters(&mut parameters, shard.block.len());
            UpdatePart::Rows { shard, parameters }
        });
        let cost = plan.cost(0..plan.nodes().len(), x.rows()) + next.map_or(0, |next| plan.cost(0..1, next.rows()));
        let serial = backend.with_threads(Threads::One);
        let inputs = |node| GradientInputs { x: arena.input(node, x, rows), dy: arena.gradient(node, rows) };
        backend.share(cost, columns.chain(others), |part| match part {
            UpdatePart::Columns { shard, next } => {
                shard.update(&serial, inputs(0), update)?;
                next.map_or(Ok(()), |slots| shard.forward(&serial, slots))
            }
            UpdatePart::Rows { shard, parameters } => {
                let node = &*plan.nodes()[shard.node].node;
                shard.update(&serial, node, inputs(shard.node), parameters, update)
            }
        })?;
        if sharded {
            self.values.swap(0, 1);
        }
        Ok(())
    }

    /// Writes the gradients with respect to all parameters, after [`forward_backward`](Self::forward_backward); there are no
    /// column shards.
    pub(crate) fn gradients(
        &mut self,
        backend: &Backend,
        plan: &Plan,
        x: MatRef<'_>,
        mut gradients: &mut [f32],
    ) -> Result<()> {
        let Self { arena, values, row_shards, .. } = self;
        let rows = arena.rows(&mut values[0], x.rows())?.into_ref();
        let parts = row_shards.iter().map(|shard| (shard, take_front(&mut gradients, shard.block.len())));
        let serial = backend.with_threads(Threads::One);
        backend.share(plan.cost(0..plan.nodes().len(), x.rows()), parts, |(shard, gradients)| {
            let inputs = GradientInputs { x: arena.input(shard.node, x, rows), dy: arena.gradient(shard.node, rows) };
            plan.nodes()[shard.node].node.gradients(&serial, &shard.block, inputs, gradients)
        })
    }
}

/// All parameters and moments, and the optimizer's step on them.
struct UpdateParameters<'a> {
    parameters: Parameters<'a>,
    update: Update,
}

/// A thread's part of an update.
enum UpdatePart<'a> {
    /// The next batch's outputs are computed if there are slots for them.
    Columns {
        shard: &'a mut ColumnShard,
        next: Option<ForwardSlots<'a>>,
    },
    Rows {
        shard: &'a mut Shard,
        parameters: Parameters<'a>,
    },
}

/// Some samples of a batch, with their rows of the arena.
struct BatchRows<'a> {
    /// The first one's number in the batch.
    row: usize,
    source: BatchSource<'a>,
    losses: &'a mut [f32],
    values: MatMut<'a>,
}

impl<'a> BatchRows<'a> {
    fn len(&self) -> usize {
        self.losses.len()
    }

    /// Splits off the first `count`, as a thread's share of the batch.
    fn take_share(&mut self, count: usize) -> Self {
        self.take(count, BatchSource::take_share)
    }

    /// Splits off the first `count`, after which the same thread takes the others.
    fn take_block(&mut self, count: usize) -> Self {
        self.take(count, BatchSource::take_block)
    }

    fn take(&mut self, count: usize, take: impl FnOnce(&mut BatchSource<'a>, usize) -> BatchSource<'a>) -> Self {
        let count = count.min(self.len());
        let row = self.row;
        self.row += count;
        let source = take(&mut self.source, count);
        Self { row, source, losses: take_front(&mut self.losses, count), values: self.values.take_rows(count) }
    }

    /// Passes them through some nodes, and back from their losses, each divided by the size of the batch. Gives the number
    /// of correct predictions.
    fn run(
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
        plan.forward(backend, nodes, plan::Parameters::Flat(parameters), dropout, &mut values)?;
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
