//! `Builder`: checks layers one after another, and makes a model of them.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::nn::activation::DenseActivation;
use crate::nn::buffer::zeros;
use crate::nn::layers::interface::Position;
use crate::nn::layers::{Layer, Node};
use crate::nn::losses::LossKind;
use crate::nn::plan::Plan;
use crate::nn::sequential::{NamedLayer, Sequential};
use crate::nn::shape::Shape;
use crate::nn::train::scratch::CachedScratch;

/// Collects what a [`Sequential`] is built from.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    input: Shape,
    layers: Vec<Layer>,
    seed: u64,
    backend: Option<Backend>,
}

impl Sequential {
    /// Begins a model for samples of a shape, such as `(28, 28)` or `(3, 28, 28)`.
    pub fn builder(input: impl Into<Shape>) -> Builder {
        Builder { input: input.into(), layers: Vec::new(), seed: 0, backend: None }
    }
}

impl Builder {
    /// Adds a layer on top of the others.
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
    /// [`Error::Shape`] if there is no dense layer, a dense layer's input is not flat, a size is 0 or
    /// overflows; [`Error::Value`] if softmax is before the last layer, a dropout after it, or a
    /// dropout's rate or a parameter of an activation is out of range; [`Error::Isa`] from [`Backend::new`].
    pub fn build(self) -> Result<Sequential> {
        let Self { input, layers, seed, backend } = self;
        let backend = backend.map_or_else(Backend::new, Ok)?;
        let (layers, plan) = plan_layers(&input, layers)?;
        let count = plan.parameters();
        let no_memory = || Error::shape("layers", "parameters that fit memory", format_args!("{count} of them"));
        let mut parameters = zeros(count).ok_or_else(no_memory)?;
        for (number, node) in plan.nodes().iter().enumerate() {
            node.initialize(seed, &mut parameters[plan.range(number)]);
        }
        let (loss, state, cached) = (LossKind::default(), None, CachedScratch::default());
        Ok(Sequential { input, layers, plan, loss, parameters, backend, state, seed, cached })
    }
}

/// Names the layers, and makes the plan of what they compute.
fn plan_layers(input: &Shape, layers: Vec<Layer>) -> Result<(Vec<NamedLayer>, Plan)> {
    if input.features().is_none_or(|features| features == 0) {
        return Err(Error::shape("input", "axes of at least 1 whose product fits usize", input));
    }
    let (mut named, mut plan) = (Vec::<NamedLayer>::with_capacity(layers.len()), Plan::default());
    let mut counts = HashMap::new();
    let mut softmax = None;
    for layer in layers {
        let config = layer.as_config();
        let count = counts.entry(config.kind()).or_insert(0);
        let name = numbered(config.kind(), *count);
        let input = named.last().map_or(input, |below| &below.output);
        let output = config.output_shape(input);
        let first = plan.parameters();
        let softmax_below = softmax.map(|below: usize| &named[below].name[..]);
        let node = layer.plan(&Position { input, number: *count, parameters_below: first, softmax_below })?;
        *count += 1;
        let mut tensors = node.as_ref().map_or(Vec::new(), |node| node.tensors());
        for tensor in &mut tensors {
            tensor.range = first + tensor.range.start..first + tensor.range.end;
        }
        if let Some(node) = node {
            softmax = if node.activation() == DenseActivation::Softmax { Some(named.len()) } else { softmax };
            plan.push(node);
        }
        named.push(NamedLayer { name, layer, output, tensors });
    }
    if !plan.nodes().iter().any(|node| matches!(node, Node::Dense(_))) {
        return Err(Error::shape("layers", "at least one Dense", "none"));
    }
    if plan.nodes().last().is_some_and(|last| !last.runs_in_inference()) {
        return Err(Error::value("layers", "a Dense behind each Dropout", "none behind the last Dropout"));
    }
    Ok((named, plan))
}

/// Keras' names: `dense`, `dense_1`, `dense_2`.
fn numbered(kind: &str, number: usize) -> String {
    let kind = kind.to_lowercase();
    if number == 0 { kind } else { format!("{kind}_{number}") }
}
