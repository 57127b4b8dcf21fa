//! `Plan`: what a network computes, node by node: the one forward and the one backward pass.
//!
//! In the backward pass, a node's gradient is the one with respect to its outputs before their activation.
//! The node above writes it, the activation's gradient (the gate) fused:
//!
//! ```text
//! dense     gradient below = gate'(saved) * (gradient wᵀ)
//! dropout   in place: the gradient that the node above wrote, masked
//! ```

use std::ops::Range;

use crate::activation;
use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::activation::Activation;
use crate::matrix::MatMut;
use crate::nn::activation::DenseActivation;
use crate::nn::arena::{Arena, Values};
use crate::nn::layers::Node;
use crate::nn::layers::interface::{DropoutKey, Gate, NodeContext, NodeParameters, PackedParameters};
use crate::tuning::cost::FMAS_PER_NS;

/// The nodes of a network in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    nodes: Vec<Node>,
    /// Of each node, the range of its parameters in the flat slice of all.
    ranges: Vec<Range<usize>>,
}

/// The parameters of all nodes.
#[derive(Clone, Copy)]
pub(crate) enum NetworkParameters<'a> {
    /// In one slice, as they are trained.
    Flat(&'a [f32]),
    /// Packed for inference, an element for each node.
    Packed(&'a [PackedParameters]),
}

impl Plan {
    /// Adds a node above the others; a dropout joins one right below it.
    pub(crate) fn push(&mut self, node: Node) {
        match (self.nodes.last_mut(), node) {
            (Some(Node::Dropout(below)), Node::Dropout(above)) => below.append(above),
            (_, node) => {
                let first = self.parameters();
                self.ranges.push(first..first + node.parameters().all);
                self.nodes.push(node);
            }
        }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The numbers of all nodes.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.nodes.len()
    }

    /// The range of a node's parameters in the flat slice of all.
    pub(crate) fn range(&self, node: usize) -> Range<usize> {
        self.ranges[node].clone()
    }

    /// How many parameters all nodes have.
    pub(crate) fn parameters(&self) -> usize {
        self.ranges.last().map_or(0, |last| last.end)
    }

    /// The ranges of the kernels among all parameters: what L2 regularization applies to.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = Range<usize>> {
        let kernel = |(node, range): (&Node, &Range<usize>)| range.start..range.start + node.parameters().kernel;
        self.nodes.iter().zip(&self.ranges).map(kernel)
    }

    /// Values per sample that the last node gives.
    pub(crate) fn outputs(&self) -> usize {
        self.nodes.last().map_or(0, |last| last.outputs())
    }

    /// The last node's activation.
    pub(crate) fn output_activation(&self) -> DenseActivation {
        self.nodes.last().map_or(Activation::Linear.into(), |last| last.activation())
    }

    /// Nanoseconds on one thread of some nodes' forward pass, or their backward pass, or their parameters'
    /// gradients.
    pub(crate) fn cost(&self, nodes: Range<usize>, samples: usize) -> usize {
        let work: usize = self.nodes[nodes].iter().map(|node| node.work()).sum();
        work.saturating_mul(samples) / FMAS_PER_NS
    }

    /// Elements of some nodes' kernels.
    pub(crate) fn kernel_elements(&self, nodes: Range<usize>) -> usize {
        self.nodes[nodes].iter().map(|node| node.parameters().kernel).sum()
    }

    /// The forward pass of some nodes, softmax left out.
    pub(crate) fn forward(
        &self,
        backend: &Backend,
        nodes: Range<usize>,
        parameters: NetworkParameters<'_>,
        dropout: DropoutKey,
        values: &mut impl Values,
    ) -> Result<()> {
        for number in nodes {
            let parameters = match parameters {
                NetworkParameters::Flat(flat) => NodeParameters::Flat(&flat[self.range(number)]),
                NetworkParameters::Packed(packed) => NodeParameters::Packed(&packed[number]),
            };
            if let Some(slots) = values.forward_slots(number)? {
                self.nodes[number].forward(backend, NodeContext { parameters, dropout }, slots)?;
            }
        }
        Ok(())
    }

    /// The backward pass from the gradient with respect to the last node's outputs, softmax left out, which
    /// is in that node's slot, down to the gradient of the first node that has a slot for one.
    pub(crate) fn backward(
        &self,
        backend: &Backend,
        parameters: &[f32],
        dropout: DropoutKey,
        arena: &Arena,
        mut rows: MatMut<'_>,
    ) -> Result<()> {
        if let Some((Gate { activation, saved }, dy)) = arena.output_gate(rows.reborrow()) {
            activation::backward_in_place(backend, activation, saved, dy)?;
        }
        for number in (1..self.nodes.len()).rev() {
            let Some(slots) = arena.backward_slots(number, rows.reborrow()) else { break };
            let parameters = NodeParameters::Flat(&parameters[self.range(number)]);
            self.nodes[number].backward(backend, NodeContext { parameters, dropout }, slots)?;
        }
        Ok(())
    }
}
