//! `Sequential`: building a model, and everything it does but fitting.

use std::{fmt, mem};

use crate::activation;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::loss::{CrossEntropy, Reduction};
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::buffer::zeros;
use crate::nn::layers::dropout::{Masks, Numbered};
use crate::nn::layers::{Layer, Shape};
use crate::nn::optimizers::optimizer::Optimizer;
use crate::nn::optimizers::state::OptimizerState;
use crate::nn::train::batches::{Batch, Source};
use crate::nn::train::pass::{DensePlan, Pass, Places, argmax, correct};
use crate::nn::train::step::{Engine, Kept};
use crate::nn::train::workspace::Workspace;
use crate::targets::Labels;
use crate::tuning::infer::SEQUENTIAL_BLOCK;

/// A stack of layers, its parameters and its optimizer.
#[derive(Clone)]
pub struct Sequential {
    pub(crate) input: Shape,
    pub(crate) layers: Vec<(String, Layer, Shape)>,
    pub(crate) plan: Vec<DensePlan>,
    pub(crate) parameters: Vec<f32>,
    pub(crate) backend: Backend,
    pub(crate) state: Option<OptimizerState>,
    /// Of the initial weights and the dropouts.
    pub(crate) seed: u64,
    pub(crate) kept: Kept,
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential({} parameters, {:?} -> {:?})", self.parameters.len(), self.input, self.layers)
    }
}

/// A mean loss and the part of right answers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Mean sparse categorical cross-entropy, in nats.
    pub loss: f32,
    /// Right answers divided by samples.
    pub accuracy: f32,
}

/// Gathers what a [`Sequential`] is built from.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    input: Shape,
    layers: Vec<Layer>,
    seed: u64,
    backend: Option<Backend>,
}

impl Builder {
    /// Adds a layer behind those there are.
    pub fn layer(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// Sets the seed of the initial weights, and of what [dropouts](super::Dropout) drop; 0 if not set.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the instruction set and the threads to use, [`Backend::new`] if not set.
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend: Some(backend), ..self }
    }

    /// Makes the model, with initial weights.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no dense layer, a dense layer's input is not flat, a size is
    /// 0 or overflows; [`Error::Value`] if softmax stands before the last layer, a dropout behind it, or a dropout's rate
    /// or a parameter of an activation is out of range; [`Error::Isa`] from [`Backend::new`].
    pub fn build(self) -> Result<Sequential> {
        let backend = self.backend.map_or_else(Backend::new, Ok)?;
        if self.input.features().is_none_or(|features| features == 0) {
            return Err(Error::shape("input", "axes of at least 1 whose product fits usize", &self.input));
        }
        let mut shape = self.input.clone();
        let (mut layers, mut plan) = (Vec::new(), Vec::<DensePlan>::new());
        let (mut parameters, mut flattens, mut dropouts) = (0usize, 0, 0);
        let mut before_next = Vec::new();
        for layer in self.layers {
            let name = match layer {
                Layer::Flatten(_) => {
                    shape = Shape::from(shape.features().unwrap_or_default());
                    flattens += 1;
                    numbered("flatten", flattens - 1)
                }
                Layer::Dropout(dropout) => {
                    dropout.check()?;
                    before_next.push(Numbered { dropout, number: dropouts });
                    dropouts += 1;
                    numbered("dropout", dropouts as usize - 1)
                }
                Layer::Dense(dense) => {
                    let &[inputs] = shape.axes() else {
                        return Err(Error::shape("layer", "flat input for Dense: put Flatten before it", &shape));
                    };
                    if let Some(before) = plan.last().filter(|layer| layer.activation == DenseActivation::Softmax) {
                        let found = format_args!("a layer behind `{}`", before.name);
                        return Err(Error::value("layer", "softmax in the last layer only", found));
                    }
                    let too_large = || Error::shape("units", "a number of parameters that fits memory", dense.units);
                    dense.activation.elementwise().check()?;
                    if dense.units == 0 {
                        return Err(Error::shape("units", "at least 1", 0));
                    }
                    let bias_len = if dense.use_bias { dense.units } else { 0 };
                    let bias_start = inputs
                        .checked_mul(dense.units)
                        .and_then(|kernel| kernel.checked_add(parameters))
                        .ok_or_else(too_large)?;
                    let end = bias_start.checked_add(bias_len).filter(|&end| end <= MOST_PARAMETERS);
                    let end = end.ok_or_else(too_large)?;
                    let name = numbered("dense", plan.len());
                    plan.push(DensePlan {
                        name: name.clone(),
                        inputs,
                        outputs: dense.units,
                        activation: dense.activation,
                        dropouts: mem::take(&mut before_next),
                        kernel: parameters..bias_start,
                        bias: dense.use_bias.then_some(bias_start..end),
                    });
                    parameters = end;
                    shape = Shape::from(dense.units);
                    name
                }
            };
            layers.push((name, layer, shape.clone()));
        }
        if plan.is_empty() {
            return Err(Error::shape("layers", "at least one Dense", "none"));
        }
        if !before_next.is_empty() {
            return Err(Error::value("layers", "a Dense behind each Dropout", "none behind the last Dropout"));
        }
        let no_room = || Error::shape("layers", "parameters that fit memory", format_args!("{parameters} of them"));
        let mut values = zeros(parameters).ok_or_else(no_room)?;
        let dense =
            layers.iter().filter_map(|(_, layer, _)| if let Layer::Dense(dense) = layer { Some(dense) } else { None });
        for (number, (layer, dense)) in plan.iter().zip(dense).enumerate() {
            let kernel = &mut values[layer.kernel.clone()];
            dense.kernel_initializer.fill(kernel, [layer.inputs, layer.outputs], self.seed, number as u32);
        }
        Ok(Sequential {
            input: self.input,
            layers,
            plan,
            parameters: values,
            backend,
            state: None,
            seed: self.seed,
            kept: Kept::default(),
        })
    }
}

/// What a slice of floats can hold at most.
const MOST_PARAMETERS: usize = isize::MAX as usize / size_of::<f32>();

/// Keras' names: `dense`, `dense_1`, `dense_2`.
fn numbered(kind: &str, number: usize) -> String {
    if number == 0 { kind.to_owned() } else { format!("{kind}_{number}") }
}

impl Sequential {
    /// Begins a model for samples of a shape, such as `(28, 28)` or `(3, 28, 28)`.
    pub fn builder(input: impl Into<Shape>) -> Builder {
        Builder { input: input.into(), layers: Vec::new(), seed: 0, backend: None }
    }

    /// Sets the optimizer, which begins anew; the parameters stay.
    ///
    /// # Errors
    /// [`Error::Value`] if a hyperparameter is NaN or out of range; [`Error::Shape`] if there is no memory for what the
    /// optimizer remembers. The optimizer before stays then.
    pub fn compile(&mut self, optimizer: impl Into<Optimizer>) -> Result<()> {
        let optimizer = optimizer.into();
        optimizer.check()?;
        let parameters = self.parameters.len();
        let no_room =
            || Error::shape("optimizer", "moments that fit memory", format_args!("those of {parameters} parameters"));
        self.state = Some(OptimizerState::new(optimizer, parameters).ok_or_else(no_room)?);
        Ok(())
    }

    /// The optimizer's learning rate, before its schedule changes it; none before [`compile`](Self::compile).
    #[must_use]
    pub fn learning_rate(&self) -> Option<f64> {
        self.state.as_ref().map(|state| state.learning_rate)
    }

    /// Changes the learning rate from the next step on; what the optimizer remembers stays, and so does its schedule,
    /// which changes this rate then.
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Value`] if the rate is negative, or not finite as `f32`. The rate before stays
    /// then.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        let state = self.state.as_mut().ok_or(Error::NotCompiled)?;
        state.set_learning_rate(learning_rate)
    }

    /// How many steps the optimizer has done since [`compile`](Self::compile); none before that.
    #[must_use]
    pub fn iterations(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.steps)
    }

    /// All parameters in one slice: for each dense layer its kernel (inputs x outputs, row-major),
    /// then its bias.
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

    /// The kernel (inputs x outputs) and bias of the dense layer with this name: `dense`, `dense_1` and so on, as
    /// [`summary`](Self::summary) has them.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<(MatRef<'_>, Option<&[f32]>)> {
        let layer = self.plan.iter().find(|layer| layer.name == name)?;
        self.parameters_of(layer).ok()
    }

    fn parameters_of(&self, layer: &DensePlan) -> Result<(MatRef<'_>, Option<&[f32]>)> {
        Ok((layer.kernel(&self.parameters)?, layer.bias.clone().map(|bias| &self.parameters[bias])))
    }

    /// Activation, kernel (inputs x outputs) and bias of each dense layer.
    pub(crate) fn dense_layers(&self) -> impl Iterator<Item = (DenseActivation, MatRef<'_>, Option<&[f32]>)> {
        self.plan.iter().filter_map(|layer| {
            let (kernel, bias) = self.parameters_of(layer).ok()?;
            Some((layer.activation, kernel, bias))
        })
    }

    /// The shape of a sample.
    #[must_use]
    pub fn input_shape(&self) -> &Shape {
        &self.input
    }

    /// The number of values in a sample.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.plan.first().map_or(0, |layer| layer.inputs)
    }

    /// The number of values that the last layer gives for a sample: the classes.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.plan.last().map_or(0, |layer| layer.outputs)
    }

    /// The instruction set and threads in use.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The last layer's values for each sample, row-major, batch x [`outputs`](Self::outputs):
    /// probabilities if its activation is softmax. `x` is batch x [`inputs`](Self::inputs).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another number of columns, or there is no memory for what it gives and what stands
    /// between the layers.
    pub fn predict(&self, x: MatRef<'_>) -> Result<Vec<f32>> {
        self.check_input(x)?;
        let [rows, outputs] = [x.rows(), self.outputs()];
        let no_room = || Error::shape("x", "samples whose outputs fit memory", format_args!("{rows} of {outputs}"));
        let mut y = rows.checked_mul(outputs).and_then(zeros).ok_or_else(no_room)?;
        self.predict_into(x, MatMut::new(&mut y, x.rows(), self.outputs())?)?;
        Ok(y)
    }

    /// [`predict`](Self::predict) into a matrix, batch x [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// [`Error::Shape`] if a shape does not fit, or there is no memory for what stands between the layers; `y` is
    /// untouched then.
    pub fn predict_into(&self, x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
        self.check_input(x)?;
        crate::dense::check_shape("y", [y.rows(), y.cols()], [x.rows(), self.outputs()])?;
        let softmax = self.plan.last().is_some_and(|last| last.activation == DenseActivation::Softmax);
        self.for_blocks(x, |rows, outputs| {
            let mut y = y.reborrow().row_range(rows)?;
            if softmax {
                return activation::softmax(&self.backend, outputs, y);
            }
            for row in 0..outputs.rows() {
                for (col, &value) in outputs.row(row).unwrap_or_default().iter().enumerate() {
                    y.set(row, col, value);
                }
            }
            Ok(())
        })
    }

    /// The class of each sample: the first place of the largest of its outputs, NaNs passed over; 0
    /// if all of them are NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not have [`inputs`](Self::inputs) columns, or there is no memory for what stands
    /// between the layers.
    pub fn predict_classes(&self, x: MatRef<'_>) -> Result<Vec<usize>> {
        self.check_input(x)?;
        let mut classes = Vec::with_capacity(x.rows());
        self.for_blocks(x, |_, outputs| {
            let class = |row| outputs.row(row).and_then(argmax).unwrap_or_default();
            classes.extend((0..outputs.rows()).map(class));
            Ok(())
        })?;
        Ok(classes)
    }

    /// The mean loss and the accuracy over all samples; nothing is learnt.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Label`] or [`Error::Value`] if `x` and `labels` do not fit the
    /// model or each other, or are empty, or the last activation is one that the loss can't go back
    /// through: it must be softmax or, for logits, linear. [`Error::Shape`] if there is no memory for what stands between
    /// the layers.
    pub fn evaluate<'a>(&self, x: MatRef<'_>, labels: impl Into<Labels<'a>>) -> Result<Metrics> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        let (mut total, mut hits) = (0.0, 0);
        let loss = CrossEntropy::new().reduction(Reduction::Sum);
        self.for_blocks(x, |rows, outputs| {
            let labels = labels.split_at(rows.start).1.split_at(rows.len()).0;
            total += f64::from(loss.forward(&self.backend, outputs, labels, None)?);
            hits += correct(outputs, labels);
            Ok(())
        })?;
        let samples = x.rows() as f64;
        Ok(Metrics { loss: (total / samples) as f32, accuracy: (hits as f64 / samples) as f32 })
    }

    /// One step of the optimizer on a batch; the metrics are those before the step.
    ///
    /// # Errors
    /// [`Error::NotCompiled`], and as [`evaluate`](Self::evaluate) of samples and labels; nothing is learnt then.
    pub fn train_on_batch<'a>(&mut self, x: MatRef<'_>, labels: impl Into<Labels<'a>>) -> Result<Metrics> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        let Self { plan, parameters, backend, state, seed, kept, .. } = self;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        let workspace = Workspace::without_owners(&mut kept.workspace, backend, plan, x.rows());
        let mut engine = Engine::begin(backend, plan, parameters, state, workspace, *seed);
        let (loss, correct) = engine.through(Source::Ready(Batch { x, labels, weights: &[] }), None)?;
        engine.update(x, None)?;
        Ok(Metrics { loss, accuracy: correct as f32 / x.rows() as f32 })
    }

    /// Takes the samples through the network in blocks, and hands over each block's rows and
    /// outputs, before softmax.
    fn for_blocks(
        &self,
        x: MatRef<'_>,
        mut each: impl FnMut(std::ops::Range<usize>, MatRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self { plan, parameters, backend, .. } = self;
        let places = Places::forward(plan);
        let pass = Pass { plan, places: &places, parameters, masks: Masks::default() };
        let (most, width) = (SEQUENTIAL_BLOCK.min(x.rows()), places.width);
        let no_room =
            || Error::shape("x", "samples whose values fit memory", format_args!("{most} of {width} at a time"));
        let mut values = most.checked_mul(width).and_then(zeros).ok_or_else(no_room)?;
        for first in (0..x.rows()).step_by(SEQUENTIAL_BLOCK) {
            let rows = first..x.rows().min(first + SEQUENTIAL_BLOCK);
            let mut values = MatMut::new(&mut values[..rows.len() * places.width], rows.len(), places.width)?;
            pass.forward(backend, 0, x.row_range(rows.clone())?, values.reborrow())?;
            each(rows, places.output(plan, plan.len() - 1, values.as_ref()))?;
        }
        Ok(())
    }

    /// Checks samples of which there must be one.
    pub(crate) fn check_batch(&self, x: MatRef<'_>) -> Result<()> {
        self.check_input(x)?;
        if x.rows() == 0 { Err(Error::value("x", "at least one sample", "0 rows")) } else { Ok(()) }
    }

    pub(crate) fn check_input(&self, x: MatRef<'_>) -> Result<()> {
        crate::dense::check_shape("x", [x.rows(), x.cols()], [x.rows(), self.inputs()])
    }

    /// Checks samples and labels against the model, its loss and each other.
    pub(crate) fn check_samples(&self, x: MatRef<'_>, labels: Labels<'_>) -> Result<()> {
        self.check_loss()?;
        self.check_batch(x)?;
        labels.check(x.rows(), self.outputs(), None)
    }

    fn check_loss(&self) -> Result<()> {
        match self.plan.last().map(|last| last.activation) {
            None | Some(DenseActivation::Elementwise(Activation::Linear) | DenseActivation::Softmax) => Ok(()),
            Some(other) => Err(Error::value("activation", "softmax or linear in the last layer, for the loss", other)),
        }
    }
}
