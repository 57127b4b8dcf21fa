//! One pass through a network, forward and back, in buffers made beforehand.

use std::ops::Range;

use super::activation::Activation;
use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::{MatMut, MatRef};
use crate::targets::Labels;
use crate::{activation, dense, loss};

/// A dense layer's sizes, and where its parameters stand in the flat slice of all parameters.
#[derive(Clone, Debug)]
pub(super) struct DensePlan {
    pub(super) name: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) activation: Activation,
    /// Row-major, inputs x outputs.
    pub(super) kernel: Range<usize>,
    pub(super) bias: Option<Range<usize>>,
}

impl DensePlan {
    pub(super) fn kernel<'a>(&self, parameters: &'a [f32]) -> Result<MatRef<'a>> {
        MatRef::new(&parameters[self.kernel.clone()], self.inputs, self.outputs)
    }
}

/// The outputs of every dense layer, and their gradients, for up to `batch` samples.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    pub(super) batch: usize,
    outputs: Vec<Vec<f32>>,
    /// What activations were applied to, of layers whose activation needs that for the way back; else,
    /// and without a way back, empty.
    sums: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

impl Workspace {
    /// Buffers for a forward pass.
    pub(super) fn forward(plan: &[DensePlan], batch: usize) -> Self {
        let outputs = plan.iter().map(|layer| vec![0.0; batch * layer.outputs]).collect();
        Self { batch, outputs, sums: vec![Vec::new(); plan.len()], gradients: Vec::new() }
    }

    /// Buffers for both passes.
    pub(super) fn both(plan: &[DensePlan], batch: usize) -> Self {
        let forward = Self::forward(plan, batch);
        let keeps = |layer: &DensePlan| layer.activation.elementwise().keeps_input();
        let sums = plan.iter().map(|layer| vec![0.0; if keeps(layer) { batch * layer.outputs } else { 0 }]).collect();
        Self { gradients: forward.outputs.clone(), sums, ..forward }
    }

    /// Runs all layers on `x`, at most `batch` samples; gives the last one's outputs, softmax left out.
    pub(super) fn run_forward<'a>(
        &'a mut self,
        backend: &Backend,
        plan: &[DensePlan],
        parameters: &[f32],
        x: MatRef<'a>,
    ) -> Result<MatRef<'a>> {
        let rows = x.rows();
        let mut input = x;
        for ((layer, output), sums) in plan.iter().zip(&mut self.outputs).zip(&mut self.sums) {
            let output = &mut output[..rows * layer.outputs];
            let bias = layer.bias.clone().map(|bias| &parameters[bias]);
            let (kernel, function) = (layer.kernel(parameters)?, layer.activation.elementwise());
            let y = MatMut::new(output, rows, layer.outputs)?;
            if sums.is_empty() {
                dense::forward(backend, input, kernel, bias, function, y)?;
            } else {
                let sums = &mut sums[..rows * layer.outputs];
                let to = MatMut::new(sums, rows, layer.outputs)?;
                dense::forward(backend, input, kernel, bias, Default::default(), to)?;
                activation::forward(backend, function, MatRef::new(sums, rows, layer.outputs)?, y)?;
            }
            input = MatRef::new(output, rows, layer.outputs)?;
        }
        Ok(input)
    }

    /// The mean loss and the number of right answers for a batch, and the gradients of the mean
    /// loss by all parameters, in `gradients`.
    pub(super) fn run_both(
        &mut self,
        backend: &Backend,
        plan: &[DensePlan],
        parameters: &[f32],
        (x, labels): (MatRef<'_>, Labels<'_>),
        gradients: &mut [f32],
    ) -> Result<(f32, usize)> {
        let rows = x.rows();
        self.run_forward(backend, plan, parameters, x)?;
        let Some((last, output)) = plan.last().zip(self.outputs.last()) else { return Ok((0.0, 0)) };
        let logits = MatRef::new(&output[..rows * last.outputs], rows, last.outputs)?;
        let correct = correct(logits, labels);
        let mut loss = 0.0;
        for (i, layer) in plan.iter().enumerate().rev() {
            let (before, after) = self.gradients.split_at_mut(i);
            let dy = &mut after[0][..rows * layer.outputs];
            if i + 1 == plan.len() {
                loss = loss::cross_entropy(backend, logits, labels, MatMut::new(dy, rows, layer.outputs)?)?;
            }
            let dy = MatRef::new(dy, rows, layer.outputs)?;
            let input = match i.checked_sub(1) {
                Some(i) => MatRef::new(&self.outputs[i][..rows * layer.inputs], rows, layer.inputs)?,
                None => x,
            };
            let all = &mut gradients[layer.kernel.start..];
            let (dw, rest) = all.split_at_mut(layer.kernel.len());
            let db = layer.bias.as_ref().map(|bias| &mut rest[..bias.len()]);
            dense::backward_params(backend, input, dy, MatMut::new(dw, layer.inputs, layer.outputs)?, db)?;
            // The first layer's input is data: nothing needs its gradient.
            if let Some((before, previous)) = before.last_mut().zip(i.checked_sub(1).map(|i| &plan[i])) {
                let function = previous.activation.elementwise();
                let kept = if function.keeps_input() {
                    MatRef::new(&self.sums[i - 1][..rows * layer.inputs], rows, layer.inputs)?
                } else {
                    input
                };
                let gate = Some((function, kept));
                let dx = MatMut::new(&mut before[..rows * layer.inputs], rows, layer.inputs)?;
                dense::backward_input(backend, dy, layer.kernel(parameters)?, gate, dx)?;
            }
        }
        Ok((loss, correct))
    }
}

/// How many rows have their largest value at their label.
pub(super) fn correct(outputs: MatRef<'_>, labels: Labels<'_>) -> usize {
    let hit = |row: &usize| labels.get(*row).is_some_and(|label| outputs.row(*row).and_then(argmax) == Some(label));
    (0..outputs.rows()).filter(hit).count()
}

/// The first of the largest values' places; NaNs are passed over, and there is none among NaNs only.
pub(super) fn argmax(row: &[f32]) -> Option<usize> {
    let mut best = None;
    for (i, &value) in row.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, most)| value > most) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}
