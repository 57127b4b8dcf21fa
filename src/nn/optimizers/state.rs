//! An optimizer between steps: its slots of state, and the next step.

use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::gemm::fused_update;
use crate::kernels::optimizer::{MAX_SLOTS, Parameters, WeightDecay};
use crate::matrix::MatRef;
use crate::nn::buffer::zeros;
use crate::nn::optimizers::clip::Preprocessing;
use crate::nn::optimizers::optimizer::{Optimizer, Rule, check_learning_rate};
use crate::nn::optimizers::update_rule::{Gradients, Target};

/// An optimizer and its state.
#[derive(Clone, Debug)]
pub(crate) struct OptimizerState {
    pub(crate) optimizer: Optimizer,
    /// Without the factor of the schedule. It begins as the optimizer's; a callback may change it.
    pub(crate) learning_rate: f64,
    /// Momentum, or first and second moment, of each parameter; slots that the rule does not keep are empty.
    pub(crate) slots: [Vec<f32>; MAX_SLOTS],
    /// Scratch for the gradients of all parameters; empty if the optimizer does not preprocess them.
    pub(crate) gradients: Vec<f32>,
    /// Completed steps.
    pub(crate) steps: u64,
    /// What the rule multiplies up from step to step, 1 at first: beta_1^t and beta_2^t for Adam.
    pub(crate) powers: [f64; 2],
}

impl OptimizerState {
    /// Makes the state before the first step, if there is memory for it.
    pub(crate) fn new(optimizer: Optimizer, parameters: usize) -> Option<Self> {
        let slots = optimizer.rule.get().slots();
        let slot = |number| zeros(if number < slots { parameters } else { 0 });
        let is_identity = Preprocessing::new(optimizer.l2, optimizer.clip).is_identity();
        Some(Self {
            optimizer,
            learning_rate: optimizer.rate(),
            slots: [slot(0)?, slot(1)?],
            gradients: zeros(if is_identity { 0 } else { parameters })?,
            steps: 0,
            powers: [1.0; 2],
        })
    }

    /// Sets the learning rate, before the schedule, of the following steps.
    pub(crate) fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        check_learning_rate(learning_rate)?;
        self.learning_rate = learning_rate;
        Ok(())
    }

    /// Returns the learning rate of the next step, after the schedule.
    pub(crate) fn next_learning_rate(&self) -> f64 {
        self.learning_rate * self.optimizer.schedule.factor(self.steps)
    }

    /// Puts the slots beside the weights that they belong to.
    pub(crate) fn parameters<'a>(&'a mut self, weights: &'a mut [f32]) -> Parameters<'a> {
        with_slots(weights, &mut self.slots)
    }

    /// Begins the next step: computes its constants.
    pub(crate) fn next_step(&mut self) -> Update {
        let learning_rate = self.next_learning_rate();
        let Optimizer { rule, l2, clip, .. } = self.optimizer;
        self.steps = self.steps.saturating_add(1);
        Update {
            rule,
            step_size: rule.get().step_size(learning_rate, &mut self.powers),
            decay: WeightDecay(self.optimizer.decay(learning_rate)),
            preprocessing: Preprocessing::new(l2, clip),
        }
    }

    /// Updates all parameters by [`gradients`](Self::gradients), which it changes; L2 is for `kernels`.
    pub(crate) fn step(
        &mut self,
        backend: &Backend,
        kernels: impl IntoIterator<Item = Range<usize>>,
        weights: &mut [f32],
    ) {
        let update = self.next_step();
        update.run(backend, kernels, &mut self.gradients, with_slots(weights, &mut self.slots));
    }

    /// Updates all parameters by these gradients; L2 is for `kernels`.
    pub(crate) fn step_by(
        &mut self,
        backend: &Backend,
        kernels: impl IntoIterator<Item = Range<usize>>,
        weights: &mut [f32],
        gradients: &[f32],
    ) {
        if self.gradients.is_empty() {
            return self.next_step().run_rule(backend, Gradients::Given(gradients), self.parameters(weights));
        }
        self.gradients.copy_from_slice(gradients);
        self.step(backend, kernels, weights);
    }
}

fn with_slots<'a>(weights: &'a mut [f32], slots: &'a mut [Vec<f32>; MAX_SLOTS]) -> Parameters<'a> {
    Parameters { weights, slots: slots.each_mut().map(Vec::as_mut_slice) }
}

/// One step of an optimizer, with its constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    rule: Rule,
    /// The learning rate, with the schedule and the rule's bias corrections.
    step_size: f64,
    decay: WeightDecay,
    preprocessing: Preprocessing,
}

impl Update {
    /// Updates parameters by their gradients `dw`, which it changes; L2 is for `kernels`.
    ///
    /// If the optimizer [needs all gradients](Optimizer::needs_all_gradients), these must be all.
    pub(crate) fn run(
        &self,
        backend: &Backend,
        kernels: impl IntoIterator<Item = Range<usize>>,
        dw: &mut [f32],
        parameters: Parameters<'_>,
    ) {
        self.preprocessing.apply(backend, kernels, parameters.weights, dw);
        self.run_rule(backend, Gradients::Given(dw), parameters);
    }

    /// Computes the gradient x^T dy of a kernel and updates it in one pass, and tells whether it did.
    ///
    /// It needs fused multiply-add, gradients without preprocessing, and [supported](fused_update::supports)
    /// operands.
    pub(crate) fn run_fused(&self, backend: &Backend, x: MatRef<'_>, dy: MatRef<'_>, kernel: Parameters<'_>) -> bool {
        let fits = self.preprocessing.is_identity() && backend.has_fma() && fused_update::supports(x, dy);
        if fits {
            self.run_rule(backend, Gradients::Product { x, dy }, kernel);
        }
        fits
    }

    fn run_rule(&self, backend: &Backend, gradients: Gradients<'_>, parameters: Parameters<'_>) {
        self.rule.get().run(self.step_size, self.decay, Target { backend, gradients, parameters });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::optimizers::adam::{Adam, AdamW};
    use crate::nn::optimizers::sgd::Sgd;
    use crate::reference;
    use crate::{Isa, Threads};

    /// Deterministic values of many magnitudes, some below that of the smallest moment.
    fn values(seed: u32) -> Vec<f32> {
        let value = |i: u32| {
            let bits = (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8;
            (bits as f32 / 8_388_608.0 - 1.0) * 10f32.powi(-((i % 40) as i32))
        };
        (0..1000).map(value).collect()
    }

    #[test]
    fn moments_that_no_memory_holds_are_none() {
        assert!(OptimizerState::new(Adam::default().into(), usize::MAX / 16).is_none());
    }

    #[test]
    fn updates_have_the_bits_of_the_reference() {
        let adam = Adam::default().learning_rate(0.03).betas(0.7, 0.99).epsilon(1e-4);
        let sgd = Sgd::default().learning_rate(0.03);
        let optimizers: [Optimizer; 7] = [
            sgd.into(),
            sgd.momentum(0.8).into(),
            sgd.momentum(0.8).nesterov(true).into(),
            adam.into(),
            AdamW { adam, weight_decay: 0.3 }.into(),
            Optimizer::from(sgd).weight_decay(0.3),
            Optimizer::from(sgd.momentum(0.8).nesterov(true)).weight_decay(0.3),
        ];
        for optimizer in optimizers {
            for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
                let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
                let (mut w, mut m, mut v) = (values(1), values(2), values(3));
                v.iter_mut().for_each(|v| *v = v.abs());
                let mut state = OptimizerState::new(optimizer, w.len()).unwrap();
                let slots = optimizer.rule.get().slots();
                for (slot, values) in state.slots.iter_mut().zip([&m, &v]).take(slots) {
                    slot.copy_from_slice(values);
                }
                let mut found = w.clone();
                for t in 1..=4 {
                    // Every third weight gets no gradient.
                    let mut dw = values(3 + t);
                    dw.iter_mut().step_by(3).for_each(|dw| *dw = 0.0);
                    state.step_by(&backend, [], &mut found, &dw);
                    reference::update(optimizer, t, &mut w, &dw, &mut m, &mut v).unwrap();
                }
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&w), "{isa} {optimizer:?}");
                for (slot, values) in state.slots.iter().zip([&m, &v]).take(slots) {
                    assert_eq!(bits(slot), bits(values), "{isa} {optimizer:?}");
                }
                assert!(slots == 0 || m.iter().all(|m| *m == 0.0 || m.abs() >= 7.8e-31));
            }
        }
    }
}
