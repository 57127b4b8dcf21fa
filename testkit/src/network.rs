//! Provides the reference network, which training and inference are compared with.
//!
//! It computes dense layers with cross-entropy on their logits by the functions of [`densely::reference`]
//! alone, one layer after another on the calling thread. Nothing is fused, split, packed or cached.

use std::ops::Range;

use densely::loss::CrossEntropy;
use densely::nn::{Clip, Dense, DenseActivation, Dropout, Sequential};
use densely::{Activation, Backend, MatRef, reference};

use crate::matrix::{row_major, row_major_mut};

/// A dense layer, and the dropouts before it.
#[derive(Clone, Debug)]
pub struct Layer {
    pub inputs: usize,
    pub units: usize,
    pub use_bias: bool,
    pub activation: DenseActivation,
    /// Rates, in order.
    pub dropouts: Vec<f64>,
}

impl Layer {
    /// Makes a layer with a bias, without dropout.
    pub fn new(inputs: usize, units: usize, activation: impl Into<DenseActivation>) -> Self {
        Self { inputs, units, use_bias: true, activation: activation.into(), dropouts: Vec::new() }
    }

    pub fn use_bias(self, use_bias: bool) -> Self {
        Self { use_bias, ..self }
    }

    pub fn dropouts(self, rates: &[f64]) -> Self {
        Self { dropouts: rates.to_vec(), ..self }
    }

    fn parameters(&self) -> usize {
        self.inputs * self.units + if self.use_bias { self.units } else { 0 }
    }
}

/// Dense layers, the last of which gives logits.
#[derive(Clone, Debug)]
pub struct Network {
    pub layers: Vec<Layer>,
    /// The seed of dropout, and of the initial weights of [`build`](Self::build).
    pub seed: u64,
}

/// Samples, or a batch of them.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Row-major, a sample a row.
    pub x: &'a [f32],
    pub labels: &'a [u8],
    /// By which each sample's loss is multiplied.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Samples<'a> {
    pub fn x(self) -> MatRef<'a> {
        row_major(self.x, self.labels.len())
    }

    /// Splits samples into consecutive batches of this size; the last may be smaller.
    pub fn batches(self, size: usize) -> impl Iterator<Item = Self> {
        let features = self.x.len() / self.labels.len();
        (0..self.labels.len()).step_by(size).map(move |first| {
            let rows = first..self.labels.len().min(first + size);
            Self {
                x: &self.x[rows.start * features..rows.end * features],
                labels: &self.labels[rows.clone()],
                weights: self.weights.map(|weights| &weights[rows]),
            }
        })
    }
}

/// The length of a training, which takes its samples in order.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    pub epochs: usize,
    pub batch_size: usize,
}

/// The result of a training.
pub struct Trained {
    pub parameters: Vec<f32>,
    /// The mean loss of each epoch.
    pub losses: Vec<f32>,
}

/// What a layer saves for the backward pass.
struct Saved {
    /// After dropout.
    inputs: Vec<f32>,
    pre_activations: Vec<f32>,
    outputs: Vec<f32>,
}

impl Network {
    /// Builds densely's network of the same layers, not compiled.
    pub fn build(&self, backend: &Backend) -> Sequential {
        let mut builder = Sequential::builder(self.layers[0].inputs).backend(backend.clone()).seed(self.seed);
        for layer in &self.layers {
            for &rate in &layer.dropouts {
                builder = builder.layer(Dropout::new(rate));
            }
            builder = builder.layer(Dense::new(layer.units, layer.activation).use_bias(layer.use_bias));
        }
        builder.build().expect("a valid network")
    }

    /// Returns each layer, and where its parameters lie in the flat slice of all.
    fn places(&self) -> impl Iterator<Item = (&Layer, Range<usize>)> {
        self.layers.iter().scan(0, |end, layer| {
            let start = *end;
            *end += layer.parameters();
            Some((layer, start..*end))
        })
    }

    /// Applies the dropouts before a layer, to values or to their gradients, after `steps` steps.
    fn apply_dropouts(&self, layer: usize, steps: u64, rows: usize, mut x: Vec<f32>) -> Vec<f32> {
        let before = self.layers[..layer].iter().map(|layer| layer.dropouts.len()).sum::<usize>() as u64;
        for (number, &rate) in (before..).zip(&self.layers[layer].dropouts) {
            let mut y = vec![0.0; x.len()];
            let key = [self.seed, number, steps];
            reference::dropout(Dropout::new(rate), key, row_major(&x, rows), row_major_mut(&mut y, rows)).unwrap();
            x = y;
        }
        x
    }

    /// Runs the forward pass of `rows` samples: of training after `steps` steps, or of inference.
    fn forward(&self, parameters: &[f32], x: &[f32], rows: usize, steps: Option<u64>) -> Vec<Saved> {
        let mut saved: Vec<Saved> = Vec::new();
        for (number, (layer, place)) in self.places().enumerate() {
            let inputs = saved.last().map_or(x, |before| &before.outputs).to_vec();
            let inputs =
                if let Some(steps) = steps { self.apply_dropouts(number, steps, rows, inputs) } else { inputs };
            let (kernel, bias) = parameters[place].split_at(layer.inputs * layer.units);
            let [mut pre_activations, mut outputs] = [(); 2].map(|()| vec![0.0; rows * layer.units]);
            reference::dense_forward(
                row_major(&inputs, rows),
                row_major(kernel, layer.inputs),
                layer.use_bias.then_some(bias),
                Activation::Linear,
                row_major_mut(&mut pre_activations, rows),
            )
            .unwrap();
            let (from, to) = (row_major(&pre_activations, rows), row_major_mut(&mut outputs, rows));
            reference::activation_forward(layer.activation.elementwise(), from, to).unwrap();
            saved.push(Saved { inputs, pre_activations, outputs });
        }
        saved
    }

    /// Computes the logits of samples, row-major.
    pub fn logits(&self, parameters: &[f32], x: MatRef<'_>) -> Vec<f32> {
        self.forward(parameters, &x.to_vec(), x.rows(), None).pop().expect("a layer").outputs
    }

    /// Computes the mean loss of a batch and its gradients after `steps` steps.
    pub fn gradients(&self, parameters: &[f32], batch: Samples<'_>, steps: u64) -> (f32, Vec<f32>) {
        let rows = batch.labels.len();
        let saved = self.forward(parameters, batch.x, rows, Some(steps));
        let logits = &saved[self.layers.len() - 1].outputs;
        let (mut dy, mut losses) = (vec![0.0; logits.len()], vec![0.0; rows]);
        let (logits, dlogits) = (row_major(logits, rows), Some(row_major_mut(&mut dy, rows)));
        let mut loss =
            reference::cross_entropy(&CrossEntropy::new(), logits, batch.labels, Some(&mut losses), dlogits).unwrap();
        if let Some(weights) = batch.weights {
            loss = reference::weigh(weights, &mut losses, row_major_mut(&mut dy, rows)).unwrap();
        }

        let mut gradients = vec![0.0; parameters.len()];
        let places: Vec<_> = self.places().collect();
        for (number, (layer, place)) in places.into_iter().enumerate().rev() {
            let kernel = layer.inputs * layer.units;
            let (dw, db) = gradients[place.clone()].split_at_mut(kernel);
            reference::dense_backward_params(
                row_major(&saved[number].inputs, rows),
                row_major(&dy, rows),
                row_major_mut(dw, layer.inputs),
                layer.use_bias.then_some(db),
            )
            .unwrap();
            // The gradient with respect to the samples is not needed.
            if number == 0 {
                break;
            }
            let before = &saved[number - 1];
            let activation = self.layers[number - 1].activation.elementwise();
            let gate = if activation.saves_input() { &before.pre_activations } else { &before.outputs };
            let kernel = row_major(&parameters[place][..kernel], layer.inputs);
            let mut dx = vec![0.0; rows * layer.inputs];
            let (gate, to) = (Some((activation, row_major(gate, rows))), row_major_mut(&mut dx, rows));
            reference::dense_backward_input(row_major(&dy, rows), kernel, gate, to).unwrap();
            dy = self.apply_dropouts(number, steps, rows, dx);
        }
        (loss, gradients)
    }

    /// Adds the L2 penalty of kernels to the gradients, then clips them.
    pub fn regularize(&self, l2: f64, clip: Option<Clip>, parameters: &[f32], gradients: &mut [f32]) {
        for (layer, place) in self.places() {
            let kernel = place.start..place.start + layer.inputs * layer.units;
            reference::add_l2(l2, &parameters[kernel.clone()], &mut gradients[kernel]).unwrap();
        }
        if let Some(clip) = clip {
            reference::clip(clip, gradients).unwrap();
        }
    }

    /// Trains from these parameters.
    ///
    /// `update` gets the number of the step, from 1 on, the parameters and the gradients with respect to
    /// them.
    pub fn fit(
        &self,
        mut parameters: Vec<f32>,
        samples: Samples<'_>,
        Epochs { epochs, batch_size }: Epochs,
        mut update: impl FnMut(u32, &mut [f32], Vec<f32>),
    ) -> Trained {
        let (mut steps, mut losses) = (0, Vec::new());
        for _ in 0..epochs {
            let mut total = 0.0;
            for batch in samples.batches(batch_size) {
                let (loss, gradients) = self.gradients(&parameters, batch, u64::from(steps));
                total += f64::from(loss) * batch.labels.len() as f64;
                steps += 1;
                update(steps, &mut parameters, gradients);
            }
            losses.push((total / samples.labels.len() as f64) as f32);
        }
        Trained { parameters, losses }
    }
}
