//! Provides a small model and its data, whose epochs are three batches.

use densely::Backend;
use densely::nn::{Adam, Fit, Sequential};
use densely_testkit::{random_labels, random_values};

use crate::common::mlp;

pub const SAMPLES: usize = 25;
pub const INPUTS: usize = 7;
pub const CLASSES: usize = 3;
pub const BATCH: usize = 10; // batches of 10, 10 and 5

pub fn data() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * INPUTS), random_labels(2, SAMPLES, CLASSES))
}

pub fn model() -> Sequential {
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
    model.compile(Adam::default().learning_rate(0.01)).unwrap();
    model
}

pub fn in_order<'a>(epochs: usize) -> Fit<'a> {
    Fit::default().epochs(epochs).batch_size(BATCH).no_shuffle()
}
