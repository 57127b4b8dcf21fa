//! `Sequential`: a model, what it holds, and how it is read and compiled.

use std::fmt;

use crate::backend::Backend;
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::nn::layers::Layer;
use crate::nn::layers::interface::ParameterTensor;
use crate::nn::losses::LossKind;
use crate::nn::optimizers::optimizer::Optimizer;
use crate::nn::optimizers::state::OptimizerState;
use crate::nn::plan::Plan;
use crate::nn::shape::Shape;
use crate::nn::train::scratch::CachedScratch;
use crate::targets::Labels;

/// A stack of layers, its parameters and its optimizer.
#[derive(Clone)]
pub struct Sequential {
    pub(crate) input: Shape,
    pub(crate) layers: Vec<NamedLayer>,
    /// What the layers compute.
    pub(crate) plan: Plan,
    pub(crate) loss: LossKind,
    /// In the order of the layers, of each its tensors.
    pub(crate) parameters: Vec<f32>,
    pub(crate) backend: Backend,
    /// None before `compile`.
    pub(crate) state: Option<OptimizerState>,
    /// Of the initial weights and of what dropouts drop.
    pub(crate) seed: u64,
    pub(crate) cached: CachedScratch,
}

/// A layer of a model.
#[derive(Clone, Debug)]
pub(crate) struct NamedLayer {
    pub(crate) name: String,
    pub(crate) layer: Layer,
    /// The shape of its outputs.
    pub(crate) output: Shape,
    /// Its parameters; ranges are those of the model's.
    pub(crate) tensors: Vec<ParameterTensor>,
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<_> = self.layers.iter().map(|layer| (&layer.name, layer.layer, &layer.output)).collect();
        write!(f, "Sequential({} parameters, {:?} -> {layers:?})", self.parameters.len(), self.input)
    }
}

impl Sequential {
    /// Sets the optimizer, whose moments and steps begin at 0; the parameters stay.
    ///
    /// # Errors
    /// [`Error::Value`] if a hyperparameter is NaN or out of range; [`Error::Shape`] if there is no memory
    /// for the optimizer's state. The optimizer before stays then.
    pub fn compile(&mut self, optimizer: impl Into<Optimizer>) -> Result<()> {
        let optimizer = optimizer.into();
        optimizer.check()?;
        let parameters = self.parameters.len();
        let no_memory =
            || Error::shape("optimizer", "moments that fit memory", format_args!("those of {parameters} parameters"));
        self.state = Some(OptimizerState::new(optimizer, parameters).ok_or_else(no_memory)?);
        Ok(())
    }

    /// The optimizer's learning rate, before its schedule changes it; none before [`compile`](Self::compile).
    #[must_use]
    pub fn learning_rate(&self) -> Option<f64> {
        self.state.as_ref().map(|state| state.learning_rate)
    }

    /// Changes the learning rate from the next step on; the optimizer's state stays, and so does its
    /// schedule, which changes this rate then.
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Value`] if the rate is negative, or not finite as `f32`. The rate
    /// before stays then.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        let state = self.state.as_mut().ok_or(Error::NotCompiled)?;
        state.set_learning_rate(learning_rate)
    }

    /// How many steps the optimizer has done since [`compile`](Self::compile); none before that.
    #[must_use]
    pub fn iterations(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.steps)
    }

    /// All parameters in one slice: for each dense layer its kernel (inputs x outputs, row-major), then its
    /// bias.
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// All parameters, to be written; see [`parameters`](Self::parameters).
    #[must_use]
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The number of parameters: weights and biases.
    #[must_use]
    pub fn count_params(&self) -> usize {
        self.parameters.len()
    }

    /// The kernel (inputs x outputs) and bias of the dense layer with this name: `dense`, `dense_1` and so
    /// on, as [`summary`](Self::summary) has them.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<(MatRef<'_>, Option<&[f32]>)> {
        let layer = self.layers.iter().find(|layer| layer.name == name)?;
        let tensor = |name| layer.tensors.iter().find(|tensor| tensor.name == name);
        let values = |tensor: &ParameterTensor| &self.parameters[tensor.range.clone()];
        let kernel = tensor("kernel")?;
        let &[inputs, outputs] = &kernel.shape[..] else { return None };
        Some((MatRef::new(values(kernel), inputs, outputs).ok()?, tensor("bias").map(values)))
    }

    /// The shape of a sample.
    #[must_use]
    pub fn input_shape(&self) -> &Shape {
        &self.input
    }

    /// The number of values in a sample.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.input.features().unwrap_or(0)
    }

    /// The number of values that the last layer gives for a sample: the classes.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.plan.outputs()
    }

    /// The instruction set and threads in use.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn check_input(&self, x: MatRef<'_>) -> Result<()> {
        check_shape("x", [x.rows(), x.cols()], [x.rows(), self.inputs()])
    }

    /// Checks samples of which there must be one.
    pub(crate) fn check_batch(&self, x: MatRef<'_>) -> Result<()> {
        self.check_input(x)?;
        if x.rows() == 0 { Err(Error::value("x", "at least one sample", "0 rows")) } else { Ok(()) }
    }

    /// Checks samples and labels against the model, its loss and each other.
    pub(crate) fn check_samples(&self, x: MatRef<'_>, labels: Labels<'_>) -> Result<()> {
        self.loss.check_activation(self.plan.output_activation())?;
        self.check_batch(x)?;
        self.loss.check_targets(x.rows(), self.outputs(), labels)
    }
}
