//! Why deep networks have ReLU and not sigmoid: how large the gradient still is when it has gone back through the layers
//! of a network of ten, and what the network then learns.
//!
//! `cargo run --release --example vanishing_gradients [PICTURE]` writes a table, and an SVG picture to PICTURE or
//! `target/vanishing_gradients.svg`. A layer multiplies the gradient by its activation's slope: of sigmoid that is
//! at most 1/4, of tanh at most 1, of ReLU 1 wherever the unit is active. Source: Glorot and Bengio, "Understanding
//! the difficulty of training deep feedforward neural networks" (2010).

#[path = "../fashion_mnist/data.rs"]
#[allow(dead_code, reason = "of what is shared, this example needs the samples only")]
mod data;
#[path = "../fashion_mnist/idx.rs"]
mod idx;
mod picture;

use std::error::Error;
use std::path::PathBuf;

use densely::nn::{Activation, Adam, Dense, Fit, Flatten, Sequential};

use data::{Samples, Source};
use idx::{CLASSES, PIXELS, SIDE};

/// Dense layers, the last of which has softmax.
const LAYERS: usize = 10;
/// Units of each but the last.
const UNITS: usize = 128;
/// Images for the gradients.
const BATCH: usize = 1000;
const EPOCHS: usize = 3;

const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

/// What came out for an activation.
pub struct Outcome {
    activation: Activation,
    /// Of each layer, the root mean square of the gradient by its weights, before anything is learnt.
    gradients: Vec<f64>,
    /// On the test images, after [`EPOCHS`].
    accuracy: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let picture = std::env::args_os().nth(1).map_or("target/vanishing_gradients.svg".into(), PathBuf::from);
    let source = Source::find(None);
    let (train, test) = (source.train()?, source.test()?);
    println!(
        "Data: {source}. Networks: {LAYERS} dense layers, of {UNITS} units but for the last, with Keras' initial weights."
    );
    println!(
        "\nRoot mean square of the gradient by the weights of each layer, over {BATCH} images, before training:\n"
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

/// The gradients by each layer's weights; they stand before those by its biases.
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

    /// The tutorial's argument, as figures.
    #[test]
    #[cfg_attr(
        target_arch = "aarch64",
        ignore = "trains for twenty minutes under emulation; other tests hold the bits"
    )]
    fn sigmoid_loses_the_gradient_and_relu_keeps_it() {
        let (train, test) = (Source::Embedded.train().unwrap(), Source::Embedded.test().unwrap());
        let [sigmoid, tanh, relu] = ACTIVATIONS.map(|activation| outcome(activation, &train, &test).unwrap());
        let kept = |outcome: &Outcome| outcome.gradients[0] / outcome.gradients[LAYERS - 1];
        assert!(kept(&sigmoid) < 1e-4 && kept(&tanh) > 1e-2 && kept(&relu) > 1e-2);
        assert!(sigmoid.accuracy < 0.3 && relu.accuracy > 0.7);
    }
}
