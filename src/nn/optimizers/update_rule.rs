//! What an update rule provides.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gemm::fused_update::FusedUpdate;
use crate::kernels::optimizer::{Parameters, UpdateKernel, VectorStep, WeightDecay};
use crate::matrix::MatRef;
use crate::tuning::parallel::PARAMETER_GRAIN;

/// An update rule: the hyperparameters that a user sets, and the step that follows from them.
pub(crate) trait UpdateRule {
    /// Returns the learning rate that the user has set.
    fn learning_rate(&self) -> f64;

    /// Checks all hyperparameters but the learning rate.
    fn check(&self) -> Result<()>;

    /// Counts the slots of state that the rule keeps for each parameter, at most
    /// [`MAX_SLOTS`](crate::kernels::optimizer::MAX_SLOTS).
    fn slots(&self) -> usize;

    /// Begins a step: returns its learning rate, bias corrections included.
    ///
    /// `powers` are the rule's to keep: 1 before the first step, in 0..=1 after each.
    fn step_size(&self, learning_rate: f64, powers: &mut [f64; 2]) -> f64 {
        let _ = powers;
        learning_rate
    }

    /// Runs the rule's vector code on the target.
    fn run(&self, step_size: f64, decay: WeightDecay, target: Target<'_>);

    /// Lists name and hyperparameters, without the learning rate, for the fingerprint of a training run.
    #[cfg(feature = "safetensors")]
    fn describe(&self) -> Vec<(&'static str, String)>;
}

/// The parameters that a step updates, and their gradients.
pub(crate) struct Target<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) gradients: Gradients<'a>,
    pub(crate) parameters: Parameters<'a>,
}

/// The gradients of a step.
#[derive(Clone, Copy)]
pub(crate) enum Gradients<'a> {
    /// One for each parameter.
    Given(&'a [f32]),
    /// x^T dy, computed in the same pass: see [`FusedUpdate`].
    Product { x: MatRef<'a>, dy: MatRef<'a> },
}

impl Target<'_> {
    /// Updates the parameters by a rule's vector code.
    pub(crate) fn run<V: VectorStep>(self, step: V) {
        let Self { backend, gradients, parameters } = self;
        match gradients {
            Gradients::Given(dw) => {
                backend.run(V::cost(dw.len()), PARAMETER_GRAIN, UpdateKernel { step, dw, parameters });
            }
            Gradients::Product { x, dy } => backend.run_alone(FusedUpdate { step, x, dy, parameters }),
        }
    }
}

/// Checks a hyperparameter, which kernels will see as `f32`.
pub(crate) fn check_number(
    argument: &'static str,
    found: f64,
    expected: &str,
    accepts: impl Fn(f64) -> bool,
) -> Result<()> {
    let fits = (found as f32).is_finite() && accepts(found);
    if fits { Ok(()) } else { Err(Error::value(argument, expected, found)) }
}
