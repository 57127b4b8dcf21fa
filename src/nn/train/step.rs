//! The training step, shared out so that threads meet twice a step and parameters stay where they are.
//!
//! ```text
//! through   by rows of the batch    the samples are gathered; the layers' values, the losses, the gradients by values
//! update    by pieces of layers     the gradients by a piece's parameters, and the optimizer's step on them;
//!                                   owners then take the next batch through their columns of the first layer
//! ```
//!
//! A network's first layer mostly has most of its parameters. If threads met only to split the batch, each would read all of
//! those, of which the others have just written their share: every step would carry them from core to core. So its columns
//! have owners: a piece's weights and moments are a panel of their own, which no other thread touches from the begin of an
//! epoch to its end, and which the same thread is offered first in each step. A thread reads the whole batch in turn, and
//! writes its columns of the outputs. The other layers are shared out by rows of the batch on the way, and by rows of
//! their kernels for the update.
//!
//! Owners read samples that others have gathered: so the next batch is, in the phase before. Where rows of a batch stay with a
//! thread, it gathers some, takes them through the network while they are in its cache, and goes on with the next.
//!
//! Batches so large that weights are the smaller part of what moves have no owners: [`owners`] has the model of the cost.
//!
//! In the update, the optimizer's step on some weights is taken while the sums of the next ones' gradients are: see
//! [`descent`](crate::gemm::fused_update). Where that is not to be had, a block of gradients is written and then used.
//!
//! Where the optimizer needs the norm of all gradients, nothing has owners, and the update is three phases: the gradients
//! by all parameters, their norm, and the step.
//!
//! Which thread does what never changes a bit: a value's sum is one thread's, whatever part it is of.

use crate::nn::train::batches::{Gather, Room, Source};
use crate::nn::train::workspace::Workspace;

use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::MatRef;
use crate::nn::layers::dropout::Masks;
use crate::nn::optimizers::state::OptimizerState;
use crate::nn::train::pass::DensePlan;

/// What steps worked in, for the next ones: a clone starts without.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) workspace: Option<Workspace>,
    pub(crate) room: Room,
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Trains until it is dropped; meanwhile, parameters and moments that have owners are only with those.
pub(crate) struct Engine<'a> {
    backend: &'a Backend,
    plan: &'a [DensePlan],
    parameters: &'a mut [f32],
    state: &'a mut OptimizerState,
    workspace: &'a mut Workspace,
    /// Of dropouts.
    seed: u64,
}

impl<'a> Engine<'a> {
    /// Hands parameters and moments to their owners.
    pub(crate) fn begin(
        backend: &'a Backend,
        plan: &'a [DensePlan],
        parameters: &'a mut [f32],
        state: &'a mut OptimizerState,
        workspace: &'a mut Workspace,
        seed: u64,
    ) -> Self {
        workspace.hand_out(&plan[0], state.parameters(parameters));
        Self { backend, plan, parameters, state, workspace, seed }
    }

    /// Takes the first batch through the layer that has owners, if one has.
    pub(crate) fn first_layer(&mut self, x: MatRef<'_>) -> Result<()> {
        self.workspace.first_layer(self.backend, self.plan, x)
    }

    /// Takes a batch through the network and back, and gathers it before, or the next one. Gives the mean loss and the
    /// number of right answers.
    pub(crate) fn through(&mut self, batch: Source<'_>, next: Option<Gather<'_>>) -> Result<(f32, usize)> {
        let masks = Masks { seed: self.seed, step: self.state.steps, row: 0 };
        self.workspace.through(self.backend, (self.plan, self.parameters, masks), batch, next)
    }

    /// The learning rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.state.next_learning_rate()
    }

    /// The optimizer's step, after [`through`](Self::through) with the same samples; then what
    /// [`first_layer`](Self::first_layer) does, for the next ones.
    pub(crate) fn update(&mut self, x: MatRef<'_>, next: Option<MatRef<'_>>) -> Result<()> {
        if self.state.optimizer.needs_all_gradients() {
            self.workspace.gradients(self.backend, self.plan, x, &mut self.state.gradients)?;
            let kernels = self.plan.iter().map(|layer| layer.kernel.clone());
            self.state.step(self.backend, kernels, self.parameters);
            return Ok(());
        }
        let update = self.state.next_step();
        let parameters = self.state.parameters(self.parameters);
        self.workspace.update(self.backend, self.plan, x, (parameters, update), next)
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.workspace.hand_back(&self.plan[0], self.state.parameters(self.parameters));
    }
}
