//! What every kind of layer offers: [`LayerConfig`] for the user's type, [`NodeKind`] for the node of the
//! plan.

use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::gemm::packed::PackedWeights;
use crate::kernels::Input;
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::shape::Shape;

/// Describes a layer as the user configured it.
pub(crate) trait LayerConfig {
    /// The class in Keras, as `summary` prints it; in lower case, the layer's name begins with it.
    fn kind(&self) -> &'static str;

    /// All options in one line: checkpoints of two models fit each other only if these are equal.
    #[cfg_attr(not(feature = "safetensors"), allow(dead_code, reason = "checkpoints hold it"))]
    fn config(&self) -> String;

    /// The shape of its outputs for samples of the shape `input`.
    fn output_shape(&self, input: &Shape) -> Shape;
}

/// A layer's position in a model.
#[derive(Clone, Copy)]
pub(crate) struct Position<'a> {
    /// The shape of its inputs.
    pub input: &'a Shape,
    /// How many layers of its kind are below it.
    pub number: usize,
    /// How many parameters all layers below have.
    pub parameters_below: usize,
    /// The name of the layer below whose activation is softmax.
    pub softmax_below: Option<&'a str>,
}

/// Computes a layer: a node of the plan. It sees its own parameters only, kernel first.
pub(crate) trait NodeKind {
    /// Values per sample that it computes.
    fn outputs(&self) -> usize;

    /// Columns of the arena that it needs in training.
    fn columns(&self) -> ColumnCounts;

    /// Whether it computes anything outside of training; else inference leaves it out.
    fn runs_in_inference(&self) -> bool {
        true
    }

    /// What it applies to its outputs; [elementwise](DenseActivation::elementwise) in the forward pass,
    /// softmax not.
    fn activation(&self) -> DenseActivation {
        Activation::Linear.into()
    }

    /// Its parameters' names and shapes, in their order.
    fn tensors(&self) -> Vec<ParameterTensor> {
        Vec::new()
    }

    /// How many parameters it has.
    fn parameters(&self) -> ParameterCounts {
        ParameterCounts::default()
    }

    /// Writes its initial parameters over zeros.
    fn initialize(&self, _seed: u64, _parameters: &mut [f32]) {}

    /// Packs its parameters for many forward passes.
    fn pack(&self, parameters: &[f32]) -> PackedParameters {
        PackedParameters { kernel: None, others: parameters.to_vec() }
    }

    /// Multiply-adds per sample of one pass, or what takes as long.
    fn work(&self) -> usize;

    /// Computes its outputs, and what is saved for backward if there are columns for it.
    fn forward(&self, backend: &Backend, context: NodeContext<'_>, slots: ForwardSlots<'_>) -> Result<()>;

    /// Computes the gradient with respect to its input, then that with respect to what the gate was applied
    /// to.
    fn backward(&self, backend: &Backend, context: NodeContext<'_>, slots: BackwardSlots<'_>) -> Result<()>;

    /// Computes the gradients with respect to a block of its parameters, row after row.
    fn gradients(&self, _: &Backend, _: &ParameterBlock, _: GradientInputs<'_>, _dw: &mut [f32]) -> Result<()> {
        Ok(())
    }

    /// Gives matrices whose product xᵀ dy is the gradient with respect to a block of the kernel, if it is
    /// such a product.
    fn kernel_gradient_factors<'a>(&self, _: &ParameterBlock, _: GradientInputs<'a>) -> Option<GradientInputs<'a>> {
        None
    }
}

/// Columns that a node's values take in a sample's row of the arena.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ColumnCounts {
    /// Saved for backward beside the outputs.
    pub saved: usize,
    pub output: usize,
    /// 0 if the backward pass works in place, on the gradient of the node below.
    pub gradient: usize,
}

/// A node's parameters in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ParameterCounts {
    /// All of them.
    pub all: usize,
    /// The first of them, which L2 regularization applies to: the kernel, not the bias.
    pub kernel: usize,
    /// Rows of equal length, along which their update can be split; the kernel's, since a bias goes with the
    /// last.
    pub rows: usize,
}

/// A parameter tensor as files know it.
#[derive(Clone, Debug)]
pub(crate) struct ParameterTensor {
    pub name: &'static str,
    pub shape: Vec<usize>,
    /// Its elements among the node's parameters; in a built model, among all.
    pub range: Range<usize>,
}

/// A node's parameters, packed for forward passes.
#[derive(Clone, Debug)]
pub(crate) struct PackedParameters {
    pub kernel: Option<PackedWeights>,
    /// Those behind the kernel, or all.
    pub others: Vec<f32>,
}

/// What a node computes with besides its inputs.
#[derive(Clone, Copy)]
pub(crate) struct NodeContext<'a> {
    pub parameters: NodeParameters<'a>,
    pub dropout: DropoutKey,
}

/// One node's parameters.
#[derive(Clone, Copy)]
pub(crate) enum NodeParameters<'a> {
    /// As they are trained.
    Flat(&'a [f32]),
    /// For inference.
    Packed(&'a PackedParameters),
}

/// What decides which values a step drops in some rows of its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DropoutKey {
    /// The model's.
    pub seed: u64,
    /// How many steps were done before.
    pub step: u64,
    /// The first row's number in the batch.
    pub row: usize,
}

/// A node's views of some samples in the forward pass.
pub(crate) struct ForwardSlots<'a> {
    pub x: MatRef<'a>,
    /// For the values beside `y` that are saved for backward; none in inference.
    pub saved: Option<MatMut<'a>>,
    pub y: MatMut<'a>,
}

impl ForwardSlots<'_> {
    /// Splits off the first columns of the outputs, and of what is saved with them.
    pub(crate) fn take_cols(&mut self, count: usize) -> Self {
        let saved = self.saved.as_mut().map(|saved| saved.take_cols(count));
        Self { x: self.x, saved, y: self.y.take_cols(count) }
    }
}

/// A node's views of some samples in the backward pass.
pub(crate) struct BackwardSlots<'a> {
    /// The gradient with respect to its outputs, before their activation.
    pub dy: Input<'a>,
    /// The activation of the node below.
    pub gate: Gate<'a>,
    /// For the gradient with respect to the outputs of the node below, before their activation.
    pub dx: MatMut<'a>,
}

/// An activation that is fused into the backward pass of the node above: its gradient multiplies that node's
/// dx.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub activation: Activation,
    /// The activation's output, or its input where it [saves that](Activation::saves_input).
    pub saved: MatRef<'a>,
}

/// What the gradients with respect to parameters are computed from: the whole batch.
#[derive(Clone, Copy)]
pub(crate) struct GradientInputs<'a> {
    pub x: MatRef<'a>,
    /// The gradient with respect to the outputs, before their activation.
    pub dy: MatRef<'a>,
}

/// Some rows and columns of a node's kernel, and of the bias behind it if `has_bias`.
#[derive(Clone, Debug)]
pub(crate) struct ParameterBlock {
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub has_bias: bool,
}

impl ParameterBlock {
    /// Rows of the block; the bias counts as one.
    pub(crate) fn height(&self) -> usize {
        self.rows.len() + usize::from(self.has_bias)
    }

    pub(crate) fn width(&self) -> usize {
        self.cols.len()
    }

    /// How many parameters it has.
    pub(crate) fn len(&self) -> usize {
        self.height() * self.width()
    }
}
