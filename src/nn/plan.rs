//! `Plan`: a network's nodes, their values in an arena, and the one forward and the one backward pass over them.
//!
//! An [`Arena`] has a row for each sample. In training, a row has these columns, so that whatever is computed stands to the
//! right of what it is computed from:
//!
//! ```text
//! node 0: saved, outputs | node 1: saved, outputs | ... | gradient of the last node | ... | gradient of node 0
//! ```
//!
//! A node's gradient is the one with respect to its outputs before their activation. The node above it writes it, its
//! activation's gradient (the gate) fused:
//!
//! ```text
//! dense     gradient below = gate'(saved) * (gradient wᵀ)
//! dropout   the same slot, in place: the gradient that the node above wrote, masked
//! ```

use std::ops::Range;

use crate::activation;
use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::Input;
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::layers::Node;
use crate::nn::layers::interface::{
    BackwardSlots, DropoutKey, ForwardSlots, Gate, NodeContext, NodeParameters, PackedParameters, ParameterCounts,
};
use crate::tuning::CACHE_LINE;
use crate::tuning::cost::FMAS_PER_NS;

/// The nodes of a network in their order, each with the range of its parameters in the flat slice of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    nodes: Vec<PlanNode>,
}

/// A node and the range of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct PlanNode {
    pub(crate) node: Node,
    pub(crate) parameters: Range<usize>,
}

/// The parameters of all nodes.
#[derive(Clone, Copy)]
pub(crate) enum Parameters<'a> {
    /// In one slice, as they are trained.
    Flat(&'a [f32]),
    /// Packed for inference, an element for each node.
    Packed(&'a [PackedParameters]),
}

impl Plan {
    /// Adds a node above the others; a dropout joins one right below it.
    pub(crate) fn push(&mut self, node: Node) {
        match (self.nodes.last_mut().map(|last| &mut last.node), node) {
            (Some(Node::Dropout(below)), Node::Dropout(above)) => below.append(above),
            (_, node) => {
                let first = self.parameters();
                let parameters = first..first + node.parameters().all;
                self.nodes.push(PlanNode { node, parameters });
            }
        }
    }

    pub(crate) fn nodes(&self) -> &[PlanNode] {
        &self.nodes
    }

    /// The plan without the nodes that compute nothing outside of training.
    pub(crate) fn for_inference(&self) -> Self {
        Self { nodes: self.nodes.iter().filter(|at| at.node.runs_in_inference()).cloned().collect() }
    }

    /// How many parameters all nodes have.
    pub(crate) fn parameters(&self) -> usize {
        self.nodes.last().map_or(0, |last| last.parameters.end)
    }

    /// Each node's parameters in numbers.
    pub(crate) fn parameter_counts(&self) -> impl Iterator<Item = ParameterCounts> {
        self.nodes.iter().map(|at| at.node.parameters())
    }

    /// Values per sample that the last node gives.
    pub(crate) fn outputs(&self) -> usize {
        self.nodes.last().map_or(0, |last| last.node.outputs())
    }

    /// The last node's activation.
    pub(crate) fn output_activation(&self) -> DenseActivation {
        self.nodes.last().map_or(Activation::Linear.into(), |last| last.node.activation())
    }

    /// Nanoseconds on one thread of some nodes' forward pass, or their backward pass, or their parameters' gradients.
    pub(crate) fn cost(&self, nodes: Range<usize>, samples: usize) -> usize {
        let work: usize = self.nodes[nodes].iter().map(|at| at.node.work()).sum();
        work.saturating_mul(samples) / FMAS_PER_NS
    }

    /// Elements of some nodes' kernels.
    pub(crate) fn kernel_elements(&self, nodes: Range<usize>) -> usize {
        self.nodes[nodes].iter().map(|at| at.node.parameters().kernel).sum()
    }

    /// The forward pass of some nodes, softmax left out.
    pub(crate) fn forward(
        &self,
        backend: &Backend,
        nodes: Range<usize>,
        parameters: Parameters<'_>,
        dropout: DropoutKey,
        values: &mut impl Values,
    ) -> Result<()> {
        for number in nodes {
            let PlanNode { node, parameters: range } = &self.nodes[number];
            let parameters = match parameters {
                Parameters::Flat(flat) => NodeParameters::Flat(&flat[range.clone()]),
                Parameters::Packed(packed) => NodeParameters::Packed(&packed[number]),
            };
            if let Some(slots) = values.forward_slots(number)? {
                node.forward(backend, NodeContext { parameters, dropout }, slots)?;
            }
        }
        Ok(())
    }

    /// The backward pass from the gradient with respect to the last node's outputs, softmax left out, which stands in that
    /// node's slot, down to the gradient of the first node that has a slot for one.
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
            let PlanNode { node, parameters: range } = &self.nodes[number];
            let parameters = NodeParameters::Flat(&parameters[range.clone()]);
            node.backward(backend, NodeContext { parameters, dropout }, slots)?;
        }
        Ok(())
    }
}

/// Where the values of some samples are during a forward pass.
pub(crate) trait Values {
    /// Views what a node reads and writes; none if the pass leaves it out.
    fn forward_slots(&mut self, node: usize) -> Result<Option<ForwardSlots<'_>>>;
}

/// Offsets of all nodes' values in a sample's row.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    slots: Vec<Slots>,
    /// Elements of a row.
    width: usize,
}

/// Columns of a row.
#[derive(Clone, Copy, Debug)]
struct Columns {
    first: usize,
    count: usize,
}

/// The columns of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Slots {
    /// The outputs of the node below; none if those are the samples.
    input: Option<Columns>,
    saved: Option<Columns>,
    /// None if the node is left out.
    output: Option<Columns>,
    /// None if nothing below has parameters.
    gradient: Option<Columns>,
    gate: Option<GateSlot>,
}

#[derive(Clone, Copy, Debug)]
struct GateSlot {
    activation: Activation,
    saved: Columns,
}

impl Arena {
    /// For both passes over all nodes.
    pub(crate) fn training(plan: &Plan) -> Self {
        let mut next = NextColumn(0);
        let mut slots: Vec<Slots> = Vec::with_capacity(plan.nodes.len());
        for PlanNode { node, .. } in &plan.nodes {
            let input = slots.last().and_then(|below| below.output);
            let counts = node.columns();
            let saved = next.take(counts.saved);
            slots.push(Slots { input, saved, output: next.take(counts.output), gradient: None, gate: None });
        }
        for (slots, PlanNode { node, .. }) in slots.iter_mut().zip(&plan.nodes).rev() {
            slots.gradient = next.take(node.columns().gradient);
        }
        for number in 0..slots.len() {
            let Slots { saved, output, gradient, .. } = slots[number];
            let (gradient, gate) = match (gradient, number.checked_sub(1)) {
                (Some(_), _) => {
                    let activation = plan.nodes[number].node.activation().elementwise();
                    (gradient, saved.or(output).map(|saved| GateSlot { activation, saved }))
                }
                (None, Some(below)) => (slots[below].gradient, slots[below].gate),
                (None, None) => (None, None),
            };
            (slots[number].gradient, slots[number].gate) = (gradient, gate);
        }
        Self { slots, width: next.row_width() }
    }

    /// For the forward pass outside of training.
    pub(crate) fn inference(plan: &Plan) -> Self {
        let mut next = NextColumn(0);
        let mut input = None;
        let slots = plan.nodes.iter().map(|PlanNode { node, .. }| {
            let output = next.take(if node.runs_in_inference() { node.outputs() } else { 0 });
            let slots = Slots { input, output, ..Slots::default() };
            input = output.or(input);
            slots
        });
        let slots = slots.collect();
        Self { slots, width: next.row_width() }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Views the rows of some samples at the beginning of a buffer.
    pub(crate) fn rows<'a>(&self, buffer: &'a mut [f32], samples: usize) -> Result<MatMut<'a>> {
        MatMut::new(&mut buffer[..samples * self.width], samples, self.width)
    }

    /// The inputs of a node.
    pub(crate) fn input<'a>(&self, node: usize, samples: MatRef<'a>, rows: MatRef<'a>) -> MatRef<'a> {
        self.slots[node].input.map_or(samples, |input| view(rows, input))
    }

    /// The gradient with respect to a node's outputs before their activation.
    pub(crate) fn gradient<'a>(&self, node: usize, rows: MatRef<'a>) -> MatRef<'a> {
        view(rows, self.slots[node].gradient.unwrap_or(NOTHING))
    }

    /// The last node's outputs.
    pub(crate) fn outputs<'a>(&self, rows: MatRef<'a>) -> MatRef<'a> {
        view(rows, self.last().and_then(|last| last.output).unwrap_or(NOTHING))
    }

    /// The last node's outputs, and the slot of its gradient.
    pub(crate) fn outputs_and_gradient<'a>(&self, rows: MatMut<'a>) -> (MatRef<'a>, MatMut<'a>) {
        let gradient = self.last().and_then(|last| last.gradient).unwrap_or(NOTHING);
        let (left, gradient) = split(rows, gradient);
        (self.outputs(left.into_ref()), gradient)
    }

    /// A node's views in the forward pass.
    pub(crate) fn forward_slots<'a>(
        &self,
        node: usize,
        samples: MatRef<'a>,
        rows: MatMut<'a>,
    ) -> Option<ForwardSlots<'a>> {
        let Slots { input, saved, output, .. } = self.slots[node];
        let (left, y) = split(rows, output?);
        let (left, saved) = match saved {
            Some(saved) => {
                let (left, saved) = split(left, saved);
                (left, Some(saved))
            }
            None => (left, None),
        };
        let x = input.map_or(samples, |input| view(left.into_ref(), input));
        Some(ForwardSlots { x, saved, y })
    }

    /// A node's views in the backward pass; none if nothing below it has parameters.
    fn backward_slots<'a>(&self, node: usize, rows: MatMut<'a>) -> Option<BackwardSlots<'a>> {
        let below = self.slots[node.checked_sub(1)?];
        let (own, dx, gate) = (self.slots[node].gradient?, below.gradient?, below.gate?);
        let in_place = own.first == dx.first;
        let (left, dx) = split(rows, dx);
        let left = left.into_ref();
        let dy = if in_place { Input::InPlace } else { Input::Matrix(view(left, own)) };
        Some(BackwardSlots { dy, gate: Gate { activation: gate.activation, saved: view(left, gate.saved) }, dx })
    }

    /// The last node's activation, unless it is linear, and the slot of its gradient.
    fn output_gate<'a>(&self, rows: MatMut<'a>) -> Option<(Gate<'a>, MatMut<'a>)> {
        let &Slots { gradient, gate, .. } = self.last()?;
        let GateSlot { activation, saved } = gate.filter(|gate| gate.activation != Activation::Linear)?;
        let (left, dy) = split(rows, gradient?);
        Some((Gate { activation, saved: view(left.into_ref(), saved) }, dy))
    }

    fn last(&self) -> Option<&Slots> {
        self.slots.last()
    }
}

/// Some samples and their rows of an arena.
pub(crate) struct ArenaValues<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) samples: MatRef<'a>,
    pub(crate) rows: MatMut<'a>,
}

impl Values for ArenaValues<'_> {
    fn forward_slots(&mut self, node: usize) -> Result<Option<ForwardSlots<'_>>> {
        Ok(self.arena.forward_slots(node, self.samples, self.rows.reborrow()))
    }
}

const NOTHING: Columns = Columns { first: 0, count: 0 };

fn view(rows: MatRef<'_>, Columns { first, count }: Columns) -> MatRef<'_> {
    rows.split_at_col(first).1.split_at_col(count).0
}

/// What is to the left of some columns, and those.
fn split(rows: MatMut<'_>, Columns { first, count }: Columns) -> (MatMut<'_>, MatMut<'_>) {
    let (left, right) = rows.split_at_col(first);
    (left, right.split_at_col(count).0)
}

/// The next free column.
struct NextColumn(usize);

impl NextColumn {
    /// Columns from the beginning of a cache line on; none if there are none to take.
    fn take(&mut self, count: usize) -> Option<Columns> {
        let first = self.0;
        self.0 = (first + count).next_multiple_of(CACHE_LINE);
        (count > 0).then_some(Columns { first, count })
    }

    /// The row stride: an odd number of cache lines, so that a column's elements spread over all sets of a cache.
    fn row_width(self) -> usize {
        self.0 | CACHE_LINE
    }
}
