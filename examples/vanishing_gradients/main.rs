//! Shows why deep networks use ReLU and not sigmoid: how the gradient shrinks on the backward pass through
//! ten layers, and how well the network then trains.
//!
//! `cargo run --release --example vanishing_gradients [PICTURE]` prints a table and saves an SVG picture to
//! PICTURE or `target/vanishing_gradients.svg`. Each layer multiplies the gradient by the slope of its
//! activation: at most 1/4 for sigmoid, at most 1 for tanh, and 1 for ReLU wherever the unit is active.
//! Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks"
//! (2010).

#[path = "../fashion_mnist/data.rs"]
#[allow(dead_code, reason = "this example uses only the samples of the shared module")]
mod data;
#[path = "../fashion_mnist/idx.rs"]
mod idx;
mod picture;

use std::error::Error;
use std::path::PathBuf;

use densely::nn::{Activation, Adam, Dense, Fit, Flatten, Sequential};

use data::{Samples, Source};
use idx::{CLASSES, PIXELS, SIDE};

/// Dense layers; the last one has softmax.
const LAYERS: usize = 10;
/// Units of each layer but the last.
const UNITS: usize = 128;
/// Images over which the gradients are computed.
const BATCH: usize = 1000;
const EPOCHS: usize = 3;

const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

/// The results for an activation.
pub struct Outcome {
    activation: Activation,
    /// Root mean square of the gradient with respect to each layer's weights, before training.
    gradients: Vec<f64>,
    /// Accuracy on the test images after [`EPOCHS`].
    accuracy: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let picture = std::env::args_os().nth(1).map_or("target/vanishing_gradients.svg".into(), PathBuf::from);
    let source = Source::find(None);
    let (train, test) = (source.train()?, source.test()?);
    println!(
        "Data: {source}. Networks: {LAYERS} dense layers of {UNITS} units (the last: {CLASSES}), Keras' initial weights."
    );
    println!(
        "\nRoot mean square of the gradient with respect to each layer's weights, {BATCH} images, before training:\n"
    );
    let outcomes: Vec<Outcome> =
        ACTIVATIONS.into_iter().map(|activation| outcome(activation, &train, &test)).collect::<Result<_, _>>()?;
    write_table(&outcomes);
    picture::save(&outcomes, &picture)?;
    println!("\nPicture: {}", picture.display());
    Ok(())
}

fn outcome(activation: Activation, train: &Samples, test: &Samples) -> Result<Outcome, Box<dyn Error>> {
    let mut network = Sequential::builder((SIDE, SIDE)).layer(Flatten);
    for _ in 1..LAYERS {
        network = network.layer(Dense::new(UNITS, activation));
    }
    let mut model = network.layer(Dense::new(CLASSES, Activation::Softmax)).build()?;
    let mut gradients = vec![0.0; model.count_params()];
    let batch = BATCH.min(train.len());
    model.gradients(train.x()?.row_range(0..batch)?, &train.labels[..batch], &mut gradients)?;
    let gradients = by_layer(&gradients).map(root_mean_square).collect();

    model.compile(Adam::default())?;
    model.fit(train.x()?, &train.labels, Fit::default().epochs(EPOCHS).shuffle(0))?;
    let accuracy = model.evaluate(test.x()?, &test.labels)?.accuracy;
    Ok(Outcome { activation, gradients, accuracy })
}

/// Splits off the gradients with respect to each layer's weights, which those of its biases follow.
fn by_layer(mut gradients: &[f32]) -> impl Iterator<Item = &[f32]> {
    (0..LAYERS).map(move |layer| {
        let inputs = if layer == 0 { PIXELS } else { UNITS };
        let outputs = if layer + 1 == LAYERS { CLASSES } else { UNITS };
        let (weights, rest) = gradients.split_at(inputs * outputs);
        gradients = &rest[outputs..];
        weights
    })
}

fn root_mean_square(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
}

fn write_table(outcomes: &[Outcome]) {
    let row = |name: &str, cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        println!("{name:<24}{}", cells.join(""));
    };
    row("layer", outcomes.iter().map(|outcome| outcome.activation.to_string()).collect());
    for layer in 0..LAYERS {
        let cells = outcomes.iter().map(|outcome| format!("{:.1e}", outcome.gradients[layer]));
        row(&(layer + 1).to_string(), cells.collect());
    }
    let ratios = outcomes.iter().map(|outcome| format!("{:.1e}", outcome.gradients[0] / outcome.gradients[LAYERS - 1]));
    row("first / last", ratios.collect());
    let accuracies = outcomes.iter().map(|outcome| format!("{:.3}", outcome.accuracy));
    row(&format!("accuracy, {EPOCHS} epochs"), accuracies.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tutorial's argument, in numbers.
    #[test]
    #[cfg_attr(
        target_arch = "aarch64",
        ignore = "trains for twenty minutes under emulation; other tests compare the bits"
    )]
    fn sigmoid_loses_the_gradient_and_relu_does_not() {
        let (train, test) = (Source::Embedded.train().unwrap(), Source::Embedded.test().unwrap());
        let [sigmoid, tanh, relu] = ACTIVATIONS.map(|activation| outcome(activation, &train, &test).unwrap());
        let ratio = |outcome: &Outcome| outcome.gradients[0] / outcome.gradients[LAYERS - 1];
        assert!(ratio(&sigmoid) < 1e-4 && ratio(&tanh) > 1e-2 && ratio(&relu) > 1e-2);
        assert!(sigmoid.accuracy < 0.3 && relu.accuracy > 0.7);
    }
}
