//! The phases of a training step, each split over threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::optimizer::Parameters;
use crate::loss;
use crate::matrix::MatRef;
use crate::nn::buffer::take_front;
use crate::nn::layers::interface::{ForwardSlots, GradientInputs};
use crate::nn::optimizers::state::Update;
use crate::nn::plan::Plan;
use crate::nn::train::batch_rows::{BatchRows, Network};
use crate::nn::train::batches::{BatchSource, ShuffledGather};
use crate::nn::train::column_shards::ColumnShard;
use crate::nn::train::scratch::{Scratch, is_layerwise};
use crate::nn::train::shards::{Shard, even};
use crate::parallel::threads::Threads;
use crate::tuning::train::{ROW_GRAIN, SAMPLES_BLOCK};

/// A batch's mean loss and correct predictions, before its update.
pub(crate) struct BatchLoss {
    pub(crate) loss: f32,
    pub(crate) correct: usize,
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

impl Scratch {
    /// Computes the first layer's outputs of a batch by its column shards, if there are any.
    pub(crate) fn forward_first_layer(&mut self, backend: &Backend, plan: &Plan, x: MatRef<'_>) -> Result<()> {
        let Self { arena, values, column_shards, .. } = self;
        let rows = arena.rows(&mut values[0], x.rows())?;
        let Some(mut slots) = arena.forward_slots(0, x, rows).filter(|_| !column_shards.is_empty()) else {
            return Ok(());
        };
        let parts = column_shards.iter_mut().map(|shard| (slots.take_cols(shard.width()), shard));
        let serial = backend.with_threads(Threads::One);
        backend.share(plan.cost(0..1, x.rows()), parts, |(slots, shard)| shard.forward(&serial, slots))
    }

    /// Passes a batch through the network and back, up to the gradient with respect to the first layer's
    /// outputs.
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

    /// Takes the optimizer's step on all parameters, after [`forward_backward`](Self::forward_backward);
    /// column shards then compute the first layer's outputs of the next batch.
    pub(crate) fn update(
        &mut self,
        backend: &Backend,
        plan: &Plan,
        x: MatRef<'_>,
        mut parameters: Parameters<'_>,
        update: Update,
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
            parameters.take(plan.range(0).len());
        }
        let others = row_shards.iter_mut().map(|shard| {
            let parameters = parameters.take(shard.block.len());
            UpdatePart::Rows { shard, parameters }
        });
        let cost = plan.cost(plan.all(), x.rows()) + next.map_or(0, |next| plan.cost(0..1, next.rows()));
        let serial = backend.with_threads(Threads::One);
        let inputs = |node| GradientInputs { x: arena.input(node, x, rows), dy: arena.gradient(node, rows) };
        backend.share(cost, columns.chain(others), |part| match part {
            UpdatePart::Columns { shard, next } => {
                shard.update(&serial, inputs(0), update)?;
                next.map_or(Ok(()), |slots| shard.forward(&serial, slots))
            }
            UpdatePart::Rows { shard, parameters } => {
                let node = &*plan.nodes()[shard.node];
                shard.update(&serial, node, inputs(shard.node), parameters, update)
            }
        })?;
        if sharded {
            self.values.swap(0, 1);
        }
        Ok(())
    }

    /// Writes the gradients with respect to all parameters, after
    /// [`forward_backward`](Self::forward_backward); there are no column shards.
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
        backend.share(plan.cost(plan.all(), x.rows()), parts, |(shard, gradients)| {
            let inputs = GradientInputs { x: arena.input(shard.node, x, rows), dy: arena.gradient(shard.node, rows) };
            plan.nodes()[shard.node].gradients(&serial, &shard.block, inputs, gradients)
        })
    }
}
