//! An optimizer at work: what it remembers, and its steps.

use crate::backend::Backend;
use crate::gemm::fused_update::{self, FusedUpdate};
use crate::kernels::optimizer as kernels;
use crate::matrix::MatRef;
use crate::nn::buffer::zeros;
use crate::nn::layers::interface::ParameterCounts;
use crate::nn::optimizers::clip::Adjust;
use crate::nn::optimizers::{Optimizer, Rule};
use crate::tuning::cost;
use crate::tuning::parallel::PARAMETER_GRAIN;

/// An optimizer and what it remembers between steps.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) optimizer: Optimizer,
    /// Momentum, or the first moment; empty for plain descent.
    pub(crate) first: Vec<f32>,
    /// The second moment; empty for SGD.
    pub(crate) second: Vec<f32>,
    /// Room for the gradients by all parameters; empty if each can be taken as it is.
    pub(crate) gradients: Vec<f32>,
    /// Steps done.
    pub(crate) steps: u64,
    /// beta_1^t and beta_2^t after t steps, by repeated products: `powi` may differ between machines.
    pub(crate) powers: [f64; 2],
}

impl State {
    /// An optimizer that has not been at work, if there is memory for what it will remember.
    pub(crate) fn new(optimizer: Optimizer, parameters: usize) -> Option<Self> {
        let (first, second) = match optimizer.rule {
            Rule::Sgd(sgd) => (if sgd.momentum == 0.0 { 0 } else { parameters }, 0),
            Rule::Adam(_) => (parameters, parameters),
        };
        let gradients = if adjust(optimizer).is_nothing() { 0 } else { parameters };
        let (first, second, gradients) = (zeros(first)?, zeros(second)?, zeros(gradients)?);
        Some(Self { optimizer, first, second, gradients, steps: 0, powers: [1.0; 2] })
    }

    /// The learning rate of the next step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.optimizer.at(self.steps).rate()
    }

    /// Begins the next step: what it does to each parameter.
    pub(crate) fn next_step(&mut self) -> Update {
        let optimizer = self.optimizer.at(self.steps);
        let (adjust, decay) = (adjust(optimizer), optimizer.decay());
        self.steps = self.steps.saturating_add(1);
        let decay = kernels::WeightDecay(decay);
        let step = match optimizer.rule {
            Rule::Sgd(sgd) if sgd.momentum == 0.0 => {
                Step::Plain(kernels::SgdStep { learning_rate: sgd.learning_rate as f32, decay })
            }
            Rule::Sgd(sgd) => Step::Momentum(kernels::MomentumStep {
                learning_rate: sgd.learning_rate as f32,
                momentum: sgd.momentum as f32,
                nesterov: sgd.nesterov,
                decay,
            }),
            Rule::Adam(adam) => {
                self.powers[0] *= adam.beta_1;
                self.powers[1] *= adam.beta_2;
                let [power_1, power_2] = self.powers;
                Step::Adam(kernels::AdamStep {
                    alpha: (adam.learning_rate * (1.0 - power_2).sqrt() / (1.0 - power_1)) as f32,
                    rate_1: (1.0 - adam.beta_1) as f32,
                    rate_2: (1.0 - adam.beta_2) as f32,
                    epsilon: adam.epsilon as f32,
                    decay,
                })
            }
        };
        Update { adjust, step }
    }

    /// A step on all parameters `w` by [`gradients`](Self::gradients), which it changes.
    pub(crate) fn step(&mut self, backend: &Backend, nodes: impl Iterator<Item = ParameterCounts>, w: &mut [f32]) {
        let Update { adjust, step } = self.next_step();
        adjust.all(backend, nodes, w, &mut self.gradients);
        step.run(backend, &self.gradients, [w, &mut self.first, &mut self.second]);
    }

    /// A step on all parameters `w` by these gradients.
    pub(crate) fn step_by(
        &mut self,
        backend: &Backend,
        nodes: impl Iterator<Item = ParameterCounts>,
        w: &mut [f32],
        gradients: &[f32],
    ) {
        if self.gradients.is_empty() {
            let Update { step, .. } = self.next_step();
            return step.run(backend, gradients, [w, &mut self.first, &mut self.second]);
        }
        self.gradients.copy_from_slice(gradients);
        self.step(backend, nodes, w);
    }
}

fn adjust(Optimizer { l2, clip, .. }: Optimizer) -> Adjust {
    Adjust { l2: (l2 != 0.0).then_some((2.0 * l2) as f32), clip }
}

/// Parameters, and their first and second moments, of one length, or empty where the optimizer keeps none.
pub(crate) type Parameters<'a> = [&'a mut [f32]; 3];

/// One step of an optimizer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    adjust: Adjust,
    step: Step,
}

impl Update {
    /// Updates parameters by their gradients `dw`, which it changes, if not all gradients are needed first. The
    /// first `kernel` of the parameters are of a kernel, the others of a bias.
    pub(crate) fn run(self, backend: &Backend, kernel: usize, dw: &mut [f32], parameters: Parameters<'_>) {
        self.adjust.each(backend, kernel, parameters[0], dw);
        self.step.run(backend, dw, parameters);
    }

    /// Updates a kernel by its layer's input and the gradients by its outputs, before their activation, without
    /// its own gradients being written down. Whether it did: not all shapes and optimizers are done so.
    pub(crate) fn descend(self, backend: &Backend, x: MatRef<'_>, dy: MatRef<'_>, kernel: &mut Parameters<'_>) -> bool {
        let takes = self.adjust.is_nothing() && backend.has_fma() && fused_update::supports(x, dy);
        if takes {
            let parameters = kernel.each_mut().map(|slice| &mut **slice);
            match self.step {
                Step::Plain(rule) => backend.run_alone(FusedUpdate { rule, x, dy, parameters }),
                Step::Momentum(rule) => backend.run_alone(FusedUpdate { rule, x, dy, parameters }),
                Step::Adam(rule) => backend.run_alone(FusedUpdate { rule, x, dy, parameters }),
            }
        }
        takes
    }
}

/// One step of a rule.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(kernels::SgdStep),
    Momentum(kernels::MomentumStep),
    Adam(kernels::AdamStep),
}

impl Step {
    /// Updates parameters by their gradients `dw`.
    fn run(self, backend: &Backend, dw: &[f32], parameters: Parameters<'_>) {
        match self {
            Self::Plain(rule) => {
                backend.run(cost::sgd(dw.len()), PARAMETER_GRAIN, kernels::Update { rule, dw, parameters })
            }
            Self::Momentum(rule) => {
                backend.run(cost::sgd(dw.len()), PARAMETER_GRAIN, kernels::Update { rule, dw, parameters })
            }
            Self::Adam(rule) => {
                backend.run(cost::adam(dw.len()), PARAMETER_GRAIN, kernels::Update { rule, dw, parameters })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Adam, AdamW, Sgd};
    use crate::reference;
    use crate::{Isa, Threads};

    /// Deterministic values of many magnitudes, below the least moment too.
    fn values(seed: u32) -> Vec<f32> {
        let value = |i: u32| {
            let bits = (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8;
            (bits as f32 / 8_388_608.0 - 1.0) * 10f32.powi(-((i % 40) as i32))
        };
        (0..1000).map(value).collect()
    }

    #[test]
    fn moments_that_no_memory_holds_are_none() {
        assert!(State::new(Adam::default().into(), usize::MAX / 16).is_none());
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
                let mut state = State::new(optimizer, w.len()).unwrap();
                let (remembered, squares) = (!state.first.is_empty(), !state.second.is_empty());
                if remembered {
                    state.first.copy_from_slice(&m);
                }
                if squares {
                    state.second.copy_from_slice(&v);
                }
                let mut found = w.clone();
                for t in 1..=4 {
                    // Every third weight gets no gradient.
                    let mut dw = values(3 + t);
                    dw.iter_mut().step_by(3).for_each(|dw| *dw = 0.0);
                    let update = state.next_step();
                    update.step.run(&backend, &dw, [&mut found, &mut state.first, &mut state.second]);
                    reference::update(optimizer, t, &mut w, &dw, &mut m, &mut v).unwrap();
                }
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&w), "{isa} {optimizer:?}");
                assert!(!remembered || bits(&state.first) == bits(&m), "{isa} {optimizer:?}");
                assert!(!squares || bits(&state.second) == bits(&v), "{isa} {optimizer:?}");
                assert!(!remembered || m.iter().all(|m| *m == 0.0 || m.abs() >= 7.8e-31));
            }
        }
    }
}
