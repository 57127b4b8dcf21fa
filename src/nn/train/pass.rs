//! Through the layers and back, for some rows of a batch.

use std::ops::Range;

use crate::activation;
use crate::backend::Backend;
use crate::dense;
use crate::error::Result;
use crate::kernels::Input;
use crate::loss::CrossEntropy;
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::layers::dropout::{Masks, Numbered};
use crate::nn::train::batches::Batch;
use crate::targets::Labels;
use crate::tuning::CACHE_LINE;

/// A dense layer's sizes, and where its parameters stand in the flat slice of all parameters.
#[derive(Clone, Debug)]
pub(crate) struct DensePlan {
    pub(crate) name: String,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) activation: DenseActivation,
    /// What its inputs go through in training.
    pub(crate) dropouts: Vec<Numbered>,
    /// Row-major, inputs x outputs.
    pub(crate) kernel: Range<usize>,
    /// Behind the kernel.
    pub(crate) bias: Option<Range<usize>>,
}

impl DensePlan {
    /// How many parameters it has.
    pub(crate) fn parameters(&self) -> usize {
        self.kernel.len() + self.bias.as_ref().map_or(0, Range::len)
    }

    pub(crate) fn kernel<'a>(&self, parameters: &'a [f32]) -> Result<MatRef<'a>> {
        MatRef::new(&parameters[self.kernel.clone()], self.inputs, self.outputs)
    }

    /// y = activation(x kernel + bias); `sums` gets what the activation is applied to, if that is kept.
    pub(crate) fn forward(
        &self,
        backend: &Backend,
        x: MatRef<'_>,
        (kernel, bias): (MatRef<'_>, Option<&[f32]>),
        sums: Option<MatMut<'_>>,
        y: MatMut<'_>,
    ) -> Result<()> {
        let function = self.activation.elementwise();
        let Some(mut sums) = sums else { return dense::forward(backend, x, kernel, bias, function, y) };
        dense::forward(backend, x, kernel, bias, Default::default(), sums.reborrow())?;
        activation::forward(backend, function, sums.as_ref(), y)
    }
}

/// Where a sample's values stand in its row of a workspace. What is computed from others stands to the right of them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    layers: Vec<Place>,
    /// The length of a row.
    pub(crate) width: usize,
}

/// First columns of a layer's values.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// What dropouts leave of its inputs, if there are any.
    input: Option<usize>,
    /// What the activation was applied to, where the way back needs that.
    sums: Option<usize>,
    output: usize,
    /// Unless there is no way back.
    gradient: Option<usize>,
}

impl Places {
    /// For the way there, without dropouts.
    pub(crate) fn forward(plan: &[DensePlan]) -> Self {
        let mut next = Next(0);
        let layers = plan.iter().map(|layer| Place {
            input: None,
            sums: None,
            output: next.take(layer.outputs),
            gradient: None,
        });
        let layers = layers.collect();
        Self { layers, width: next.width() }
    }

    /// For both ways.
    pub(crate) fn both(plan: &[DensePlan]) -> Self {
        let mut next = Next(0);
        let keeps = |layer: &DensePlan| layer.activation.elementwise().saves_input();
        let place = |layer: &DensePlan| Place {
            input: (!layer.dropouts.is_empty()).then(|| next.take(layer.inputs)),
            sums: keeps(layer).then(|| next.take(layer.outputs)),
            output: next.take(layer.outputs),
            gradient: None,
        };
        let mut layers: Vec<Place> = plan.iter().map(place).collect();
        for (place, layer) in layers.iter_mut().zip(plan).rev() {
            place.gradient = Some(next.take(layer.outputs));
        }
        Self { layers, width: next.width() }
    }

    /// A layer's outputs in some rows of a workspace.
    pub(crate) fn output<'a>(&self, plan: &[DensePlan], layer: usize, rows: MatRef<'a>) -> MatRef<'a> {
        columns(rows, self.layers[layer].output, plan[layer].outputs)
    }

    /// A layer's inputs, where `x` are those of the first.
    pub(crate) fn input<'a>(&self, plan: &[DensePlan], layer: usize, x: MatRef<'a>, rows: MatRef<'a>) -> MatRef<'a> {
        match self.layers[layer].input {
            Some(first) => columns(rows, first, plan[layer].inputs),
            None => self.before(plan, layer, x, rows),
        }
    }

    /// The values before a layer and its dropouts, where `x` are those before the first.
    fn before<'a>(&self, plan: &[DensePlan], layer: usize, x: MatRef<'a>, rows: MatRef<'a>) -> MatRef<'a> {
        layer.checked_sub(1).map_or(x, |before| self.output(plan, before, rows))
    }

    /// The gradients by what a layer's activation was applied to.
    pub(crate) fn gradient<'a>(&self, plan: &[DensePlan], layer: usize, rows: MatRef<'a>) -> MatRef<'a> {
        columns(rows, self.layers[layer].gradient.unwrap_or_default(), plan[layer].outputs)
    }

    /// Where the forward pass writes a layer's values: what is to the left of them, the sums if those are kept, and
    /// the outputs.
    pub(crate) fn to_write<'a>(
        &self,
        plan: &[DensePlan],
        layer: usize,
        rows: MatMut<'a>,
    ) -> (MatMut<'a>, Option<MatMut<'a>>, MatMut<'a>) {
        let (place, outputs) = (self.layers[layer], plan[layer].outputs);
        let (left, right) = rows.split_at_col(place.sums.unwrap_or(place.output));
        let Some(sums) = place.sums else { return (left, None, right.split_at_col(outputs).0) };
        let (sums, right) = right.split_at_col(place.output - sums);
        (left, Some(sums.split_at_col(outputs).0), right.split_at_col(outputs).0)
    }
}

/// The next free column.
struct Next(usize);

impl Next {
    fn take(&mut self, columns: usize) -> usize {
        let start = self.0;
        self.0 = (start + columns).next_multiple_of(CACHE_LINE);
        start
    }

    /// Rows are no multiple of two lines apart, so that a column's elements spread over all sets of a cache.
    fn width(self) -> usize {
        self.0 | CACHE_LINE
    }
}

fn columns(matrix: MatRef<'_>, first: usize, count: usize) -> MatRef<'_> {
    matrix.split_at_col(first).1.split_at_col(count).0
}

/// A network and where its values stand.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) plan: &'a [DensePlan],
    pub(crate) places: &'a Places,
    pub(crate) parameters: &'a [f32],
    /// Of no meaning where there is no place for what dropouts leave.
    pub(crate) masks: Masks,
}

impl Pass<'_> {
    /// The same, for rows of the batch from `row` on.
    pub(crate) fn at_row(self, row: usize) -> Self {
        Self { masks: Masks { row, ..self.masks }, ..self }
    }

    /// Runs the layers from `first` on, softmax left out, on samples `x`, each with its row of the workspace.
    pub(crate) fn forward(self, backend: &Backend, first: usize, x: MatRef<'_>, mut rows: MatMut<'_>) -> Result<()> {
        let Self { plan, places, parameters, masks } = self;
        for (i, layer) in plan.iter().enumerate().skip(first) {
            if let Some(first) = places.layers[i].input {
                let (left, right) = rows.reborrow().split_at_col(first);
                let (before, input) = (places.before(plan, i, x, left.as_ref()), right.split_at_col(layer.inputs).0);
                masks.run(backend, &layer.dropouts, Input::Matrix(before), input);
            }
            let (left, sums, y) = places.to_write(plan, i, rows.reborrow());
            let input = places.input(plan, i, x, left.as_ref());
            let bias = layer.bias.clone().map(|bias| &parameters[bias]);
            layer.forward(backend, input, (layer.kernel(parameters)?, bias), sums, y)?;
        }
        Ok(())
    }

    /// The losses of samples that have gone forward, and the gradients of the batch's mean loss by what each layer's
    /// activation was applied to, the first one's included; `batch` is the size of the batch of which these are rows.
    /// Gives the number of right answers, too.
    pub(crate) fn backward(
        self,
        backend: &Backend,
        batch: usize,
        Batch { labels, weights, .. }: Batch<'_>,
        losses: &mut [f32],
        mut rows: MatMut<'_>,
    ) -> Result<usize> {
        let Self { plan, places, .. } = self;
        let last = plan.len() - 1;
        let (left, mut dlogits) = places.to_write_gradient(plan, last, rows.reborrow());
        let logits = places.output(plan, last, left.as_ref());
        CrossEntropy::new().rows(backend, batch as f64, (logits, labels), losses, dlogits.reborrow())?;
        weigh(weights, losses, dlogits);
        let correct = correct(logits, labels);
        self.backward_layers(backend, rows)?;
        Ok(correct)
    }

    /// From the gradients by the last layer's outputs, which stand where [`backward`](Self::backward) writes its
    /// first, to those by what each layer's activation was applied to; softmax left out.
    pub(crate) fn backward_outputs(self, backend: &Backend, mut rows: MatMut<'_>) -> Result<()> {
        let Self { plan, places, .. } = self;
        let last = plan.len() - 1;
        let (left, dy) = places.to_write_gradient(plan, last, rows.reborrow());
        let kept = places.kept(plan, last, left.as_ref());
        activation::backward_in_place(backend, plan[last].activation.elementwise(), kept, dy)?;
        self.backward_layers(backend, rows)
    }

    /// The gradients at all layers but the last, by those at the last.
    fn backward_layers(self, backend: &Backend, mut rows: MatMut<'_>) -> Result<()> {
        let Self { plan, places, parameters, masks } = self;
        for (i, layer) in plan.iter().enumerate().skip(1).rev() {
            let before = i - 1;
            let (left, mut dx) = places.to_write_gradient(plan, before, rows.reborrow());
            let gate = Some((plan[before].activation.elementwise(), places.kept(plan, before, left.as_ref())));
            let dy = places.gradient(plan, i, left.as_ref());
            dense::backward_input(backend, dy, layer.kernel(parameters)?, gate, dx.reborrow())?;
            masks.run(backend, &layer.dropouts, Input::InPlace, dx);
        }
        Ok(())
    }
}

impl Places {
    /// What a layer's activation needs on the way back: its outputs, or what it was applied to.
    fn kept<'a>(&self, plan: &[DensePlan], layer: usize, rows: MatRef<'a>) -> MatRef<'a> {
        let place = self.layers[layer];
        columns(rows, place.sums.unwrap_or(place.output), plan[layer].outputs)
    }

    /// Where the way back writes the gradients at a layer, and what is to the left of that.
    pub(crate) fn to_write_gradient<'a>(
        &self,
        plan: &[DensePlan],
        layer: usize,
        rows: MatMut<'a>,
    ) -> (MatMut<'a>, MatMut<'a>) {
        let (left, right) = rows.split_at_col(self.layers[layer].gradient.unwrap_or(self.width));
        (left, right.split_at_col(plan[layer].outputs).0)
    }
}

/// Multiplies losses, and the gradients by their rows, by weights, if there are any.
fn weigh(weights: &[f32], losses: &mut [f32], mut gradients: MatMut<'_>) {
    for (row, (weight, loss)) in weights.iter().zip(losses).enumerate() {
        *loss *= weight;
        for col in 0..gradients.cols() {
            let gradient = gradients.as_ref().get(row, col).unwrap_or_default();
            gradients.set(row, col, gradient * weight);
        }
    }
}

/// How many rows have their largest value at their label.
pub(crate) fn correct(outputs: MatRef<'_>, labels: Labels<'_>) -> usize {
    let hit = |row: &usize| labels.get(*row).is_some_and(|label| outputs.row(*row).and_then(argmax) == Some(label));
    (0..outputs.rows()).filter(hit).count()
}

/// The first of the largest values' places; NaNs are passed over, and there is none among NaNs only.
pub(crate) fn argmax(row: &[f32]) -> Option<usize> {
    let mut best = None;
    for (i, &value) in row.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, most)| value > most) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}
