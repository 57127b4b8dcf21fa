//! Compares gradients of whole networks with finite differences of a naive network in f64.

use densely::nn::{Activation, Dense, DenseActivation, Flatten, Sequential, Shape};
use densely_testkit::{Tolerance, assert_close, backends, random_labels, random_values, row_major};

/// How far a parameter is moved to either side.
///
/// The differences are then off by about 1e-10: the square of this, plus the rounding of f64 divided by it.
const STEP: f64 = 1e-5;

/// Bounds the rounding of f32 by 60 * 2^-24 of the largest gradient.
///
/// The gradient with respect to a parameter adds products along every path from it to the loss: fewer than 60
/// terms in these networks, each rounded to 2^-24. Where terms cancel, the error stays.
const ROUNDING: f32 = 60.0 / (1 << 24) as f32;

/// Dense layers with logits at the end, computed in f64, and a batch.
struct Net {
    sizes: Vec<usize>,
    bias: bool,
    /// Of every layer but the last.
    activation: Activation,
    x: Vec<f32>,
    labels: Vec<u8>,
}

/// Computes an activation in f64.
fn apply(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { slope } => {
            if x < 0.0 {
                x * f64::from(slope)
            } else {
                x
            }
        }
        Activation::Elu { alpha } => {
            if x < 0.0 {
                x.exp_m1() * f64::from(alpha)
            } else {
                x
            }
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => x.exp().ln_1p(),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        other => panic!("{other} has no formula here"),
    }
}

impl Net {
    /// Computes the mean cross-entropy, and which pre-activations are above 0: some activations have a kink
    /// there.
    fn loss(&self, parameters: &[f64]) -> (f64, Vec<bool>) {
        let (mut total, mut open) = (0.0, Vec::new());
        for (sample, &label) in self.x.chunks(self.sizes[0]).zip(&self.labels) {
            let mut values: Vec<f64> = sample.iter().map(|&value| value.into()).collect();
            let mut rest = parameters;
            for (layer, &outputs) in self.sizes[1..].iter().enumerate() {
                let (kernel, after) = rest.split_at(values.len() * outputs);
                let (bias, after) = after.split_at(if self.bias { outputs } else { 0 });
                let products = |o: usize| values.iter().zip(kernel.iter().skip(o).step_by(outputs)).map(|(x, w)| x * w);
                let output = |o| bias.get(o).unwrap_or(&0.0) + products(o).sum::<f64>();
                values = (0..outputs).map(output).collect();
                rest = after;
                if layer + 2 < self.sizes.len() {
                    open.extend(values.iter().map(|&value| value > 0.0));
                    values.iter_mut().for_each(|value| *value = apply(self.activation, *value));
                }
            }
            total += values.iter().map(|logit| logit.exp()).sum::<f64>().ln() - values[usize::from(label)];
        }
        (total / self.labels.len() as f64, open)
    }

    /// Computes the gradient with respect to every parameter by central differences.
    fn gradients(&self, parameters: &[f64]) -> Vec<f32> {
        let (_, open) = self.loss(parameters);
        assert_eq!(open.contains(&true), open.contains(&false), "pre-activations on both sides of 0");
        let difference = |i: usize| {
            let [above, below] = [STEP, -STEP].map(|step| {
                let mut moved = parameters.to_vec();
                moved[i] += step;
                let (loss, still_open) = self.loss(&moved);
                assert_eq!(still_open, open, "parameter {i} is at a kink: choose another seed");
                loss
            });
            ((above - below) / (2.0 * STEP)) as f32
        };
        (0..parameters.len()).map(difference).collect()
    }
}

/// Compares the gradients of dense layers of these units on every instruction set. `each` is the activation
/// of every layer but the last.
#[track_caller]
fn check(
    input: impl Into<Shape>,
    units: &[usize],
    bias: bool,
    (each, last): (Activation, DenseActivation),
    batch: usize,
) {
    let input = input.into();
    let inputs = input.features().unwrap();
    let (&classes, hidden) = units.split_last().unwrap();
    let dense = |units, activation: DenseActivation| Dense::new(units, activation).use_bias(bias);
    let builder = Sequential::builder(input.axes()).layer(Flatten);
    let builder = hidden.iter().fold(builder, |builder, &units| builder.layer(dense(units, each.into())));
    let builder = builder.layer(dense(classes, last));

    let sizes = [&[inputs], units].concat();
    let (x, labels) = (random_values(1, batch * inputs), random_labels(2, batch, classes));
    let net = Net { sizes, bias, activation: each, x, labels };
    let parameters = random_values(3, builder.clone().build().unwrap().count_params());
    let in_f64: Vec<f64> = parameters.iter().map(|&parameter| parameter.into()).collect();
    let (expected_loss, expected) = (net.loss(&in_f64).0 as f32, net.gradients(&in_f64));

    for backend in backends() {
        let isa = backend.isa();
        let mut model = builder.clone().backend(backend).build().unwrap();
        model.parameters_mut().copy_from_slice(&parameters);
        let mut gradients = vec![f32::NAN; parameters.len()];
        let loss = model.gradients(row_major(&net.x, batch), &net.labels, &mut gradients).unwrap();
        assert_close(&[loss], &[expected_loss], Tolerance::relative(ROUNDING), &format!("{isa}: loss"));
        assert_close(&gradients, &expected, Tolerance::of_largest(ROUNDING), &format!("{isa}: gradients"));
    }
}

const CLASSIFIER: (Activation, DenseActivation) = (Activation::Relu, Activation::Softmax);

#[test]
fn gradients_match_finite_differences_for_three_layers() {
    check(6, &[5, 4, 3], true, CLASSIFIER, 7);
}

#[test]
fn gradients_match_finite_differences_for_one_layer() {
    check(6, &[3], true, CLASSIFIER, 7);
}

#[test]
fn gradients_match_finite_differences_for_one_sample() {
    check(4, &[8, 2], true, CLASSIFIER, 1);
}

#[test]
fn gradients_match_finite_differences_for_colour_images() {
    check((3, 4, 4), &[9, 17], true, CLASSIFIER, 5);
}

#[test]
fn gradients_match_finite_differences_without_biases() {
    check(6, &[5, 4, 3], false, CLASSIFIER, 7);
}

#[test]
fn gradients_match_finite_differences_for_a_linear_output() {
    check(6, &[5, 4, 3], true, (Activation::Relu, Activation::Linear.into()), 7);
}

#[test]
fn gradients_match_finite_differences_for_every_activation() {
    for &each in Activation::ALL {
        check(6, &[5, 4, 3], true, (each, Activation::Softmax), 7);
    }
}
