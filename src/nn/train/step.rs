//! The training step: two phases, each split over threads, with a barrier behind each.
//!
//! ```text
//! forward_backward   by rows of the batch   gather the samples, or prefetch the next batch's
//!                                           forward pass, losses, backward pass
//! update             by shards              gradients with respect to a shard's parameters
//!                                           the optimizer's step on them
//!                                           column shards: first layer's outputs of the next batch
//! ```
//!
//! Column shards read samples that other threads have gathered, so the next batch is gathered in the phase
//! before. Without column shards a thread gathers some samples, passes them through the network while they
//! are in its cache, and goes on with the next.
//!
//! An optimizer that needs the norm of all gradients splits the update in three phases, and there are no
//! column shards: the gradients with respect to all parameters, their norm, the step.
//!
//! Which thread does what never changes a bit: no sum is split between threads but that of the losses, which
//! is a tree.

use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::MatRef;
use crate::nn::layers::interface::DropoutKey;
use crate::nn::losses::LossKind;
use crate::nn::optimizers::state::OptimizerState;
use crate::nn::plan::Plan;
use crate::nn::train::batch_rows::Network;
use crate::nn::train::batches::{BatchSource, ShuffledGather};
use crate::nn::train::phases::BatchLoss;
use crate::nn::train::scratch::Scratch;

/// What a step reads and writes of a model.
pub(crate) struct ModelParts<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) plan: &'a Plan,
    pub(crate) loss: LossKind,
    pub(crate) parameters: &'a mut [f32],
    pub(crate) state: &'a mut OptimizerState,
    /// Of what dropouts drop.
    pub(crate) seed: u64,
}

/// Trains a model, step after step: copies its parameters out to the column shards, and back when it is
/// dropped.
pub(crate) struct Trainer<'a> {
    model: ModelParts<'a>,
    scratch: &'a mut Scratch,
}

impl<'a> Trainer<'a> {
    /// Copies parameters and moments out.
    pub(crate) fn new(model: ModelParts<'a>, scratch: &'a mut Scratch) -> Self {
        scratch.column_shards.copy_out(model.state.parameters(model.parameters));
        Self { model, scratch }
    }

    /// Computes the first layer's outputs of the first batch, if it is sharded.
    pub(crate) fn forward_first_layer(&mut self, x: MatRef<'_>) -> Result<()> {
        self.scratch.forward_first_layer(self.model.backend, self.model.plan, x)
    }

    /// The first phase: passes a batch through the network and back, and prefetches the next batch.
    pub(crate) fn forward_backward(
        &mut self,
        batch: BatchSource<'_>,
        next: Option<ShuffledGather<'_>>,
    ) -> Result<BatchLoss> {
        let ModelParts { backend, plan, loss, ref parameters, ref state, seed } = self.model;
        let dropout = DropoutKey { seed, step: state.steps, row: 0 };
        self.scratch.forward_backward(backend, Network { plan, parameters, loss, dropout }, batch, next)
    }

    /// The second phase: takes the optimizer's step, with the same samples `x`; `next` are those of the next
    /// batch.
    pub(crate) fn update(&mut self, x: MatRef<'_>, next: Option<MatRef<'_>>) -> Result<()> {
        let ModelParts { backend, plan, parameters, state, .. } = &mut self.model;
        if state.optimizer.needs_all_gradients() {
            self.scratch.gradients(backend, plan, x, &mut state.gradients)?;
            state.step(backend, plan.kernels(), parameters);
            return Ok(());
        }
        let update = state.next_step();
        self.scratch.update(backend, plan, x, state.parameters(parameters), update, next)
    }

    /// The learning rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.model.state.next_learning_rate()
    }
}

/// Copies parameters and moments back, in a panic too.
impl Drop for Trainer<'_> {
    fn drop(&mut self) {
        let ModelParts { parameters, state, .. } = &mut self.model;
        self.scratch.column_shards.copy_back(state.parameters(parameters));
    }
}
