//! `Scratch`: the memory of training steps, and how their work is split between threads; made before the
//! first step.

use std::ops::Range;

use crate::backend::Backend;
use crate::nn::arena::Arena;
use crate::nn::buffer::Buffer;
use crate::nn::layers::Node;
use crate::nn::layers::interface::ParameterBlock;
use crate::nn::plan::Plan;
use crate::nn::train::batches::BatchBuffers;
use crate::nn::train::column_shards::ColumnShards;
use crate::nn::train::shard_model;
use crate::nn::train::shards::{Shard, even};
use crate::parallel::threads::Threads;
use crate::tuning::train::{LAYERWISE_WEIGHTS, ROW_GRAIN, SERIAL_STEP, UPDATE_GRAIN};

/// Memory of a step on up to `batch` samples.
#[derive(Debug)]
pub(crate) struct Scratch {
    batch: usize,
    /// Between how many threads a batch is split.
    pub(crate) threads: usize,
    pub(crate) arena: Arena,
    /// An arena of the batch, a row for each sample. With column shards there are two: the first layer's
    /// outputs of the next batch are written while the values of this one are still read.
    pub(crate) values: Vec<Buffer>,
    /// The loss of each sample.
    pub(crate) losses: Vec<f32>,
    pub(crate) column_shards: ColumnShards,
    /// Of all other parameters, in their order.
    pub(crate) row_shards: Vec<Shard>,
}

/// Whether the first layer may have [`ColumnShards`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharding {
    /// Where the cost model says that it pays. There is then more than one step between copying out and
    /// copying back, and a step needs no gradients but a shard's own.
    IfItPays,
    Never,
}

/// Between how many threads steps are split, and into how many column shards the first layer.
#[derive(PartialEq, Eq)]
struct Partition {
    threads: usize,
    column_shards: usize,
}

impl Partition {
    fn new(backend: &Backend, plan: &Plan, batch: usize, sharding: Sharding) -> Self {
        let cost = 3 * plan.cost(plan.all(), batch);
        let threads = if cost < SERIAL_STEP && backend.threads() == Threads::Auto { 1 } else { backend.width() };
        let column_shards = match plan.nodes().first() {
            Some(Node::Dense(layer)) if sharding == Sharding::IfItPays => shard_model::count(layer, batch, threads),
            _ => 0,
        };
        Self { threads, column_shards }
    }
}

impl Scratch {
    /// Allocates the memory of steps on up to `batch` samples.
    pub(crate) fn new(backend: &Backend, plan: &Plan, batch: usize, sharding: Sharding) -> Self {
        let Partition { threads, column_shards } = Partition::new(backend, plan, batch, sharding);
        let column_shards = match plan.nodes().first() {
            Some(Node::Dense(layer)) if column_shards > 0 => ColumnShards::new(layer, column_shards),
            _ => ColumnShards::default(),
        };
        let first = usize::from(!column_shards.is_empty());
        let row_shards = (first..plan.all().end).flat_map(|node| row_shards(plan, node, batch, threads)).collect();
        let arena = Arena::training(plan.nodes());
        let values = (0..first + 1).map(|_| Buffer::new(batch * arena.width())).collect();
        Self { batch, threads, arena, values, losses: vec![0.0; batch], column_shards, row_shards }
    }

    /// Takes the scratch that is there if it is just what [`new`](Self::new) would give, else a new one.
    pub(crate) fn reuse(there: Option<Self>, backend: &Backend, plan: &Plan, batch: usize, sharding: Sharding) -> Self {
        let wanted = Partition::new(backend, plan, batch, sharding);
        let fits = |there: &Self| {
            let partition = Partition { threads: there.threads, column_shards: there.column_shards.len() };
            there.batch == batch && partition == wanted
        };
        there.filter(fits).unwrap_or_else(|| Self::new(backend, plan, batch, sharding))
    }

    /// Takes the scratch that is there if it is large enough and not sharded, else a new one.
    pub(crate) fn reuse_unsharded<'a>(
        there: &'a mut Option<Self>,
        backend: &Backend,
        plan: &Plan,
        batch: usize,
    ) -> &'a mut Self {
        there.take_if(|there| there.batch < batch || there.is_sharded());
        there.get_or_insert_with(|| Self::new(backend, plan, batch, Sharding::Never))
    }

    /// Whether the first layer has column shards. Its nodes are then computed by these, a batch ahead of the
    /// others.
    pub(crate) fn is_sharded(&self) -> bool {
        !self.column_shards.is_empty()
    }

    /// The nodes that a batch passes by its rows.
    pub(crate) fn nodes_by_rows(&self, plan: &Plan) -> Range<usize> {
        usize::from(self.is_sharded())..plan.all().end
    }
}

/// Splits a node's parameters by rows, into no more shards than its update pays for.
fn row_shards(plan: &Plan, node: usize, batch: usize, threads: usize) -> impl Iterator<Item = Shard> {
    let parameters = plan.nodes()[node].parameters();
    let count = plan.cost(node..node + 1, batch) / UPDATE_GRAIN;
    let count = count.min(parameters.rows.div_ceil(ROW_GRAIN)).clamp(1, threads);
    let width = parameters.kernel.checked_div(parameters.rows).unwrap_or(0);
    let has_bias = parameters.all > parameters.kernel;
    even(parameters.rows, ROW_GRAIN, if width > 0 { count } else { 0 }).map(move |rows| {
        let has_bias = has_bias && rows.end == parameters.rows;
        Shard::new(node, ParameterBlock { rows, cols: 0..width, has_bias })
    })
}

/// Whether a batch passes some nodes one by one, each split over all threads, so that no thread reads all
/// weights.
pub(crate) fn is_layerwise(plan: &Plan, nodes: Range<usize>, threads: usize) -> bool {
    threads > 1 && plan.kernel_elements(nodes) >= LAYERWISE_WEIGHTS
}

/// What a model keeps between calls, so that they allocate nothing; a clone of the model starts without.
#[derive(Debug, Default)]
pub(crate) struct CachedScratch {
    pub(crate) scratch: Option<Scratch>,
    pub(crate) batches: BatchBuffers,
}

impl Clone for CachedScratch {
    fn clone(&self) -> Self {
        Self::default()
    }
}
