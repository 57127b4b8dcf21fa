//! Dropout in networks: where it may stand, when it drops, and what seeds change. Its bits are those of `nn_bits`.

mod nn_common;

use densely::nn::{Activation, Adam, Dense, Dropout, Fit, Flatten, Predictor, Sequential, Sgd};
use densely::{Error, MatMut, MatRef, Threads};
use nn_common::{assert_bits, matrix, random, random_labels};

/// Samples of 20 x 3 values, of 5 classes.
const SAMPLES: usize = 70;

fn samples() -> (Vec<f32>, Vec<u8>) {
    (random(1, SAMPLES * 60), random_labels(2, SAMPLES, 5))
}

/// Dropouts at the input and behind a hidden layer, or none where a rate is missing.
fn model(seed: u64, [first, second]: [Option<f64>; 2], activation: Activation) -> Sequential {
    let mut builder = Sequential::builder((20, 3)).seed(seed);
    if let Some(rate) = first {
        builder = builder.layer(Dropout::new(rate));
    }
    builder = builder.layer(Flatten).layer(Dense::new(70, activation));
    if let Some(rate) = second {
        builder = builder.layer(Dropout::new(rate));
    }
    let mut model = builder.layer(Dense::new(5, Activation::Softmax)).build().unwrap();
    model.compile(Adam::default()).unwrap();
    model
}

fn fit(mut model: Sequential) -> Sequential {
    let (x, labels) = samples();
    model.fit(matrix(&x, SAMPLES), &labels, Fit::default().epochs(3)).unwrap();
    model
}

const RATES: [Option<f64>; 2] = [Some(0.1), Some(0.5)];

#[test]
fn a_rate_of_0_changes_nothing_and_another_does() {
    let without = fit(model(1, [None, None], Activation::Relu));
    let with = |rates| fit(model(1, rates, Activation::Relu));
    assert_bits(with([Some(0.0); 2]).parameters(), without.parameters(), "rate 0");
    for rates in [RATES, [None, Some(0.5)], [Some(0.1), None]] {
        assert_ne!(with(rates).parameters(), without.parameters(), "{rates:?}");
    }
}

#[test]
fn a_seed_drops_the_same_again_and_another_seed_other_values() {
    let set = |mut model: Sequential| {
        // The same initial weights for both seeds.
        let weights = random(3, model.count_params());
        model.parameters_mut().copy_from_slice(&weights);
        fit(model).parameters().to_vec()
    };
    let train = |seed| set(model(seed, RATES, Activation::Tanh));
    assert_bits(&train(1), &train(1), "again");
    assert_ne!(train(1), train(2));
}

#[test]
fn nothing_is_dropped_but_in_training() {
    let (x, labels) = samples();
    let x = matrix(&x, SAMPLES);
    let (with, mut without) = (fit(model(1, RATES, Activation::Relu)), model(1, [None, None], Activation::Relu));
    without.parameters_mut().copy_from_slice(with.parameters());
    let expected = without.predict(x).unwrap();
    assert_bits(&with.predict(x).unwrap(), &expected, "predict");
    assert_eq!(with.evaluate(x, &labels).unwrap(), without.evaluate(x, &labels).unwrap());
    let mut found = vec![0.0; SAMPLES * 5];
    Predictor::new(&with).predict_into(x, MatMut::new(&mut found, SAMPLES, 5).unwrap()).unwrap();
    assert_bits(&found, &expected, "Predictor");
}

#[test]
fn a_custom_loop_drops_what_training_on_a_batch_drops() {
    let (x, labels) = samples();
    let x = matrix(&x, SAMPLES);
    // The last one's gradients need what it was applied to.
    for activation in [Activation::Relu, Activation::Sigmoid, Activation::Gelu] {
        let (mut trained, mut custom) = (model(1, RATES, activation), model(1, RATES, activation));
        let mut gradients = vec![0.0; custom.count_params()];
        for _ in 0..4 {
            let metrics = trained.train_on_batch(x, &labels).unwrap();
            assert_eq!(custom.gradients(x, &labels, &mut gradients).unwrap(), metrics.loss);
            custom.step(&gradients).unwrap();
        }
        assert_bits(custom.parameters(), trained.parameters(), &format!("{activation:?}"));
    }
}

#[test]
fn gradients_of_a_custom_loss_are_those_of_what_is_left() {
    // One unit without a bias, the sum as its loss: each gradient is its input times 2, or 0 where that was dropped.
    let mut model = Sequential::builder(200)
        .layer(Dropout::new(0.5))
        .layer(Dense::new(1, Activation::Linear).use_bias(false))
        .build()
        .unwrap();
    model.compile(Sgd::default().learning_rate(0.0)).unwrap();
    let x = random(5, 200);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut gradients = vec![f32::NAN; 200];
        let ones = |_: MatRef<'_>, mut dy: MatMut<'_>| {
            dy.set(0, 0, 1.0);
            Ok(())
        };
        model.gradients_with(matrix(&x, 1), ones, &mut gradients).unwrap();
        for (gradient, x) in gradients.iter().zip(&x) {
            assert!(*gradient == 0.0 || *gradient == 2.0 * x);
        }
        kept.push(gradients.iter().filter(|gradient| **gradient != 0.0).count());
        model.step(&gradients).unwrap();
    }
    let total: usize = kept.iter().sum();
    assert!((1850..2150).contains(&total), "{total} of 4000 were kept, of which 2000 are the mean");
    assert!(kept.iter().any(|count| *count != kept[0]), "each step drops the same");
}

#[test]
fn networks_that_go_layer_by_layer_drop_the_same() {
    // 2^20 weights and more.
    let train = |threads| {
        let mut model = Sequential::builder(1024)
            .layer(Dropout::new(0.2))
            .layer(Dense::new(1024, Activation::Relu))
            .layer(Dropout::new(0.5))
            .layer(Dense::new(20, Activation::Softmax))
            .backend(densely::Backend::new().unwrap().with_threads(threads))
            .build()
            .unwrap();
        model.compile(Sgd::default()).unwrap();
        let (x, labels) = (random(1, 48 * 1024), random_labels(2, 48, 20));
        model.fit(matrix(&x, 48), &labels, Fit::default().batch_size(48).epochs(2)).unwrap();
        model.parameters().to_vec()
    };
    assert_bits(&train(nn_common::exactly(3)), &train(Threads::One), "3 threads");
}

#[test]
fn summary_lists_it() {
    let summary = model(1, RATES, Activation::Relu).summary();
    assert!(
        summary.contains("│ dropout (Dropout)               │ (None, 20, 3)          │             0 │"),
        "{summary}"
    );
    assert!(
        summary.contains("│ dropout_1 (Dropout)             │ (None, 70)             │             0 │"),
        "{summary}"
    );
}

#[test]
fn rates_out_of_range_and_dropouts_behind_the_last_dense_layer_are_refused() {
    for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        let result = Sequential::builder(3).layer(Dropout::new(rate)).layer(Dense::new(2, Activation::Softmax)).build();
        assert!(matches!(result, Err(Error::Value { argument: "rate", .. })), "{rate}");
    }
    let result = Sequential::builder(3).layer(Dense::new(2, Activation::Softmax)).layer(Dropout::new(0.5)).build();
    let message = result.unwrap_err().to_string();
    assert_eq!(message, "`layers`: expected a Dense behind each Dropout, got none behind the last Dropout");
}
