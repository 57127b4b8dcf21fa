//! Tests class and sample weights in `fit`. Module `bits` compares them with the reference, `keras` with
//! Keras.

use densely::nn::{Activation, Adam, Dense, Fit, History, Sequential, Sgd};
use densely::{Backend, Error, MatMut, reference};
use densely_testkit::{assert_identical, random_labels, random_values, row_major};

use crate::common::mlp;

const SAMPLES: usize = 90;

fn data() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * 20), random_labels(2, SAMPLES, 5))
}

/// Trains on the first samples, shuffled, with momentum; returns the parameters, too.
fn train(samples: usize, options: Fit<'_>) -> (Vec<f32>, History) {
    let (x, labels) = data();
    let mut model = mlp(&Backend::new().unwrap(), 20, &[40, 5]);
    model.compile(Sgd::default().momentum(0.9)).unwrap();
    let history = model.fit(row_major(&x[..samples * 20], samples), &labels[..samples], options.epochs(2)).unwrap();
    (model.parameters().to_vec(), history)
}

#[test]
fn unit_weights_change_nothing() {
    let without = train(SAMPLES, Fit::default());
    let (ones, classes) = ([1.0; SAMPLES], [1.0; 5]);
    for options in [Fit::default().sample_weights(&ones), Fit::default().class_weights(&classes)] {
        let with = train(SAMPLES, options);
        assert_identical(&with.0, &without.0, "weights of 1");
        assert_eq!(with.1, without.1);
    }
}

#[test]
fn weights_follow_their_samples_through_shuffling() {
    // The same numbers as sample weights and as class weights.
    let classes = [0.5, 1.0, 3.0, 0.0, 0.3];
    let samples: Vec<f32> = data().1.iter().map(|&label| classes[usize::from(label)]).collect();
    for seed in [0, 1] {
        let of_samples = train(SAMPLES, Fit::default().shuffle(seed).sample_weights(&samples));
        let of_classes = train(SAMPLES, Fit::default().shuffle(seed).class_weights(&classes));
        assert_identical(&of_samples.0, &of_classes.0, "weights of classes");
        assert_eq!(of_samples.1, of_classes.1);
        assert_ne!(of_samples.0, train(SAMPLES, Fit::default().shuffle(seed)).0);
    }
}

#[test]
fn zero_weight_samples_have_no_influence() {
    let (mut x, labels) = data();
    let weights: Vec<f32> = (0..SAMPLES).map(|sample| if sample % 3 == 1 { 0.0 } else { 1.5 }).collect();
    let mut train = |noise: f32| {
        // Replaces the samples of weight 0.
        for (x, other) in x.chunks_mut(20).skip(1).step_by(3).zip(random_values(7, SAMPLES)) {
            x.fill(noise * other);
        }
        let mut model = mlp(&Backend::new().unwrap(), 20, &[40, 5]);
        model.compile(Adam::default()).unwrap();
        let options = Fit::default().epochs(2).sample_weights(&weights);
        let history = model.fit(row_major(&x, SAMPLES), &labels, options).unwrap();
        (model.parameters().to_vec(), history.epochs().iter().map(|end| end.loss).collect::<Vec<_>>())
    };
    let (first, second) = (train(1.0), train(-5.0));
    assert_identical(&first.0, &second.0, "parameters");
    assert_identical(&first.1, &second.1, "losses");
}

#[test]
fn reference_weigh_refuses_bad_arguments() {
    let refused = |weights: &[f32], mut losses: Vec<f32>, rows| {
        let mut dlogits = vec![7.0; rows * 3];
        let to = MatMut::new(&mut dlogits, rows, 3).unwrap();
        let error = reference::weigh(weights, &mut losses, to).unwrap_err();
        assert!(dlogits.iter().chain(&losses).all(|&value| value == 7.0));
        error.to_string()
    };
    assert_eq!(refused(&[2.0; 3], vec![7.0; 4], 4), "`weights`: expected 4 elements, one a row, got 3");
    assert_eq!(refused(&[2.0; 4], vec![7.0; 5], 4), "`losses`: expected 4 elements, one a row, got 5");
    let none = refused(&[], vec![], 0);
    assert_eq!(none, "`dlogits`: expected at least one row to take the mean over, got 0 rows");
}

#[test]
fn validation_split_trains_weighted_and_validates_unweighted() {
    let weights: Vec<f32> = random_values(3, SAMPLES).iter().map(|weight| weight + 1.0).collect();
    let (split, history) = train(SAMPLES, Fit::default().validation_split(0.2).sample_weights(&weights));
    let (alone, _) = train(72, Fit::default().sample_weights(&weights[..72]));
    assert_identical(&split, &alone, "the first 72");

    let (x, labels) = data();
    let mut model = mlp(&Backend::new().unwrap(), 20, &[40, 5]);
    model.parameters_mut().copy_from_slice(&split);
    let expected = model.evaluate(row_major(&x[72 * 20..], 18), &labels[72..]).unwrap();
    assert_eq!(history.epochs()[1].validation, Some(expected));
}

#[test]
fn loss_is_weighted_and_accuracy_is_not() {
    let (x, labels) = data();
    let mut model = mlp(&Backend::new().unwrap(), 20, &[40, 5]);
    model.compile(Sgd::default().learning_rate(0.0)).unwrap();
    let plain = model.evaluate(row_major(&x, SAMPLES), &labels).unwrap();
    let twice = [2.0; SAMPLES];
    let options = Fit::default().batch_size(SAMPLES).no_shuffle().sample_weights(&twice);
    let history = model.fit(row_major(&x, SAMPLES), &labels, options).unwrap();
    let end = history.epochs()[0];
    assert!((end.loss - 2.0 * plain.loss).abs() <= 1e-6 * plain.loss, "{} and {}", end.loss, plain.loss);
    assert_eq!(end.accuracy, plain.accuracy);
}

#[test]
fn bad_weights_are_refused_and_the_model_is_unchanged() {
    let (x, labels) = data();
    let mut model = Sequential::builder(20).layer(Dense::new(5, Activation::Softmax)).build().unwrap();
    model.compile(Adam::default()).unwrap();
    let before = model.parameters().to_vec();
    let with = |at: usize, weight: f32| {
        let mut weights = vec![1.0; SAMPLES];
        weights[at] = weight;
        weights
    };
    let mut message = |options: Fit<'_>| match model.fit(row_major(&x, SAMPLES), &labels, options) {
        Err(error @ (Error::Shape { .. } | Error::Value { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let few = message(Fit::default().sample_weights(&[1.0; SAMPLES - 1]));
    assert_eq!(few, "`sample_weights`: expected 90 weights, one a sample, got 89");
    let few = message(Fit::default().class_weights(&[1.0; 4]));
    assert_eq!(few, "`class_weights`: expected 5 weights, one a class, got 4");
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let value = message(Fit::default().sample_weights(&with(89, bad)));
        assert_eq!(value, format!("`sample_weights`: expected finite weights of at least 0, got {bad}"));
        let value = message(Fit::default().class_weights(&[1.0, 1.0, 1.0, 1.0, bad]));
        assert_eq!(value, format!("`class_weights`: expected finite weights of at least 0, got {bad}"));
    }
    let large = message(Fit::default().sample_weights(&with(0, 3e38)).class_weights(&[10.0; 5]));
    assert_eq!(large, "`sample_weights`: expected finite products with class_weights, got inf");
    assert_identical(model.parameters(), &before, "what was there before");
}
