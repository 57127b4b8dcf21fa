//! `Arena`: where a network's values are, a row for each sample.
//!
//! In training, a row has these columns, so that every value is to the right of those that it is
//! computed from:
//!
//! ```text
//! node 0: saved, outputs | node 1: saved, outputs | ... | gradient of the last node | ... | of node 0
//! ```
//!
//! A node without a gradient of its own works in place, on that of the node below.

use crate::error::Result;
use crate::kernels::Input;
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};
use crate::nn::layers::Node;
use crate::nn::layers::interface::{BackwardSlots, ForwardSlots, Gate};
use crate::tuning::CACHE_LINE;

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
    pub(crate) fn training(nodes: &[Node]) -> Self {
        let mut next = NextColumn(0);
        let mut slots: Vec<Slots> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let (input, counts) = (slots.last().and_then(|below| below.output), node.columns());
            let (saved, output) = (next.take(counts.saved), next.take(counts.output));
            slots.push(Slots { input, saved, output, ..Slots::default() });
        }
        for (slots, node) in slots.iter_mut().zip(nodes).rev() {
            slots.gradient = next.take(node.columns().gradient);
            let activation = node.activation().elementwise();
            let saved = if activation.saves_input() { slots.saved } else { slots.output };
            slots.gate = saved.map(|saved| GateSlot { activation, saved });
        }
        // Nodes that work in place pass on what is below them.
        let mut below = Slots::default();
        for slots in &mut slots {
            if slots.gradient.is_none() {
                (slots.gradient, slots.gate) = (below.gradient, below.gate);
            }
            below = *slots;
        }
        Self { slots, width: next.row_width() }
    }

    /// For the forward pass outside of training.
    pub(crate) fn inference(nodes: &[Node]) -> Self {
        let mut next = NextColumn(0);
        let mut input = None;
        let slots = nodes.iter().map(|node| {
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
    pub(crate) fn backward_slots<'a>(&self, node: usize, rows: MatMut<'a>) -> Option<BackwardSlots<'a>> {
        let below = self.slots[node.checked_sub(1)?];
        let (own, dx, gate) = (self.slots[node].gradient?, below.gradient?, below.gate?);
        let in_place = own.first == dx.first;
        let (left, dx) = split(rows, dx);
        let left = left.into_ref();
        let dy = if in_place { Input::InPlace } else { Input::Matrix(view(left, own)) };
        Some(BackwardSlots { dy, gate: Gate { activation: gate.activation, saved: view(left, gate.saved) }, dx })
    }

    /// The last node's activation, unless it is linear, and the slot of its gradient.
    pub(crate) fn output_gate<'a>(&self, rows: MatMut<'a>) -> Option<(Gate<'a>, MatMut<'a>)> {
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

    /// The row stride: an odd number of cache lines, so that a column's elements spread over all sets of a
    /// cache.
    fn row_width(self) -> usize {
        self.0 | CACHE_LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Dense, Dropout, Sequential};

    fn model() -> Sequential {
        let builder = Sequential::builder(3).layer(Dense::new(40, Activation::Gelu)).layer(Dropout::new(0.5));
        builder.layer(Dense::new(2, Activation::Softmax)).build().unwrap()
    }

    fn first(columns: Option<Columns>) -> Option<usize> {
        columns.map(|columns| columns.first)
    }

    #[test]
    fn columns_follow_each_other_and_dropout_shares_a_gradient() {
        let Arena { slots, width } = Arena::training(model().plan.nodes());
        let [dense, dropout, last] = slots[..] else { panic!("{slots:?}") };
        let taken = [dense.saved, dense.output, dropout.output, last.output, last.gradient, dense.gradient];
        assert_eq!(taken.map(first), [0, 48, 96, 144, 160, 176].map(Some));
        assert_eq!(first(dropout.gradient), first(dense.gradient));
        assert_eq!([dense.input, dropout.input, last.input].map(first), [None, Some(48), Some(96)]);
        let gates = [dense.gate, dropout.gate, last.gate].map(|gate| gate.map(|gate| gate.saved.first));
        assert_eq!(gates, [0, 0, 144].map(Some));
        assert_eq!(width, 240); // an odd number of lines
    }

    #[test]
    fn inference_leaves_dropout_out() {
        let Arena { slots, .. } = Arena::inference(model().plan.nodes());
        assert_eq!(slots.iter().map(|slots| first(slots.output)).collect::<Vec<_>>(), [Some(0), None, Some(48)]);
        assert_eq!(first(slots[2].input), Some(0));
    }
}
