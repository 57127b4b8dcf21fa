//! Tests dropout in networks: where it is allowed, when it drops values, and what seeds change. Module `bits`
//! compares training.

use densely::nn::{Activation, Adam, Dense, Dropout, Fit, Flatten, Predictor, Sequential, Sgd};
use densely::{Backend, Error, MatMut, MatRef, Threads, reference};
use densely_testkit::network::{Layer, Network, Samples};
use densely_testkit::{assert_identical, backends, exact_backends, exactly, random_labels, random_values, row_major};

/// Samples have 20 x 3 values and one of 5 classes.
const SAMPLES: usize = 70;

fn samples() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * 60), random_labels(2, SAMPLES, 5))
}

/// Builds a network with dropouts before and after its hidden layer, but for missing rates.
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
    model.fit(row_major(&x, SAMPLES), &labels, Fit::default().epochs(3)).unwrap();
    model
}

const RATES: [Option<f64>; 2] = [Some(0.1), Some(0.5)];

#[test]
fn only_a_rate_above_zero_changes_training() {
    let without = fit(model(1, [None, None], Activation::Relu));
    let with = |rates| fit(model(1, rates, Activation::Relu));
    assert_identical(with([Some(0.0); 2]).parameters(), without.parameters(), "rate 0");
    for rates in [RATES, [None, Some(0.5)], [Some(0.1), None]] {
        assert_ne!(with(rates).parameters(), without.parameters(), "{rates:?}");
    }
}

#[test]
fn equal_seeds_drop_the_same_values() {
    let set = |mut model: Sequential| {
        // The same initial weights for both seeds.
        let weights = random_values(3, model.count_params());
        model.parameters_mut().copy_from_slice(&weights);
        fit(model).parameters().to_vec()
    };
    let train = |seed| set(model(seed, RATES, Activation::Tanh));
    assert_identical(&train(1), &train(1), "again");
    assert_ne!(train(1), train(2));
}

#[test]
fn inference_drops_nothing() {
    let (x, labels) = samples();
    let x = row_major(&x, SAMPLES);
    let (with, mut without) = (fit(model(1, RATES, Activation::Relu)), model(1, [None, None], Activation::Relu));
    without.parameters_mut().copy_from_slice(with.parameters());
    let expected = without.predict(x).unwrap();
    assert_identical(&with.predict(x).unwrap(), &expected, "predict");
    assert_eq!(with.evaluate(x, &labels).unwrap(), without.evaluate(x, &labels).unwrap());
    let mut found = vec![0.0; SAMPLES * 5];
    Predictor::new(&with).predict_into(x, MatMut::new(&mut found, SAMPLES, 5).unwrap()).unwrap();
    assert_identical(&found, &expected, "Predictor");
}

#[test]
fn custom_loop_drops_what_train_on_batch_drops() {
    let (x, labels) = samples();
    let x = row_major(&x, SAMPLES);
    // GELU saves its input for backward, the others their output.
    for activation in [Activation::Relu, Activation::Sigmoid, Activation::Gelu] {
        let (mut trained, mut custom) = (model(1, RATES, activation), model(1, RATES, activation));
        let mut gradients = vec![0.0; custom.count_params()];
        for _ in 0..4 {
            let metrics = trained.train_on_batch(x, &labels).unwrap();
            assert_eq!(custom.gradients(x, &labels, &mut gradients).unwrap(), metrics.loss);
            custom.step(&gradients).unwrap();
        }
        assert_identical(custom.parameters(), trained.parameters(), &format!("{activation:?}"));
    }
}

#[test]
fn backward_pass_through_dropout_matches_reference() {
    let (x, labels) = samples();
    let x = row_major(&x, SAMPLES);
    // The first two save their output for backward, the others their input.
    for activation in [Activation::Tanh, Activation::Sigmoid, Activation::Silu, Activation::Gelu] {
        let layers = vec![Layer::new(60, 70, activation), Layer::new(70, 5, Activation::Softmax).dropouts(&[0.5])];
        let network = Network { layers, seed: 3 };
        for backend in exact_backends() {
            let mut model = network.build(&backend.with_threads(exactly(3)));
            let mut gradients = vec![f32::NAN; model.count_params()];
            let metrics = model.gradients(x, &labels, &mut gradients).unwrap();
            let samples = Samples { x: &x.to_vec(), labels: &labels, weights: None };
            let (loss, expected) = network.gradients(model.parameters(), samples, 0);
            let what = format!("{activation} on {}", backend.isa());
            assert_identical(&[metrics], &[loss], &what);
            assert_identical(&gradients, &expected, &what);
        }
    }
}

#[test]
fn random_words_match_published_test_vectors() {
    // kat_vectors of Random123: the words of key 0 and counter 0 are those of columns 0, 16, 32 and 48.
    let words = [0x6627_e8d5u32, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
    let x = [1.0; 64];
    for (i, word) in words.into_iter().enumerate() {
        // A value is dropped if its word is below rate times 2^32.
        for (above, is_kept) in [(0.0, true), (1.0, false)] {
            let dropout = Dropout::new((f64::from(word) + above) / 2f64.powi(32));
            let mut y = [f32::NAN; 64];
            reference::dropout(dropout, [0; 3], row_major(&x, 1), MatMut::new(&mut y, 1, 64).unwrap()).unwrap();
            assert_eq!(y[16 * i] != 0.0, is_kept, "word {i} of the reference");

            for backend in backends() {
                let last = Dense::new(1, Activation::Linear).use_bias(false);
                let builder = Sequential::builder(64).layer(dropout).layer(last);
                let mut model = builder.seed(0).backend(backend).build().unwrap();
                let mut gradients = [f32::NAN; 64];
                let ones = |_: MatRef<'_>, mut dy: MatMut<'_>| {
                    dy.set(0, 0, 1.0);
                    Ok(())
                };
                model.gradients_with(row_major(&x, 1), ones, &mut gradients).unwrap();
                assert_identical(&gradients, &y, "gradients");
            }
        }
    }
}

#[test]
fn custom_loss_gradients_are_zero_where_inputs_are_dropped() {
    // One unit without bias, its output as the loss: each gradient is its input times 2, or 0 where that was
    // dropped.
    let mut model = Sequential::builder(200)
        .layer(Dropout::new(0.5))
        .layer(Dense::new(1, Activation::Linear).use_bias(false))
        .build()
        .unwrap();
    model.compile(Sgd::default().learning_rate(0.0)).unwrap();
    let x = random_values(5, 200);
    let mut kept_counts = Vec::new();
    for _ in 0..20 {
        let mut gradients = vec![f32::NAN; 200];
        let ones = |_: MatRef<'_>, mut dy: MatMut<'_>| {
            dy.set(0, 0, 1.0);
            Ok(())
        };
        model.gradients_with(row_major(&x, 1), ones, &mut gradients).unwrap();
        for (gradient, x) in gradients.iter().zip(&x) {
            assert!(*gradient == 0.0 || *gradient == 2.0 * x);
        }
        kept_counts.push(gradients.iter().filter(|gradient| **gradient != 0.0).count());
        model.step(&gradients).unwrap();
    }
    let total: usize = kept_counts.iter().sum();
    assert!((1850..2150).contains(&total), "{total} of 4000 were kept; the mean is 2000");
    assert!(kept_counts.iter().any(|count| *count != kept_counts[0]), "each step drops as many");
}

#[test]
fn custom_loss_gradients_are_the_same_on_any_threads() {
    let gradients = |threads| {
        let mut model = Sequential::builder(60)
            .layer(Dropout::new(0.2))
            .layer(Dense::new(70, Activation::Relu))
            .layer(Dropout::new(0.5))
            .layer(Dense::new(5, Activation::Linear))
            .backend(Backend::new().unwrap().with_threads(threads))
            .build()
            .unwrap();
        let mut gradients = vec![f32::NAN; model.count_params()];
        let halves_of_squares = |y: MatRef<'_>, mut dy: MatMut<'_>| {
            let indices = (0..y.rows()).flat_map(|row| (0..y.cols()).map(move |col| (row, col)));
            indices.for_each(|(row, col)| _ = dy.set(row, col, y.get(row, col).unwrap()));
            Ok(())
        };
        model.gradients_with(row_major(&samples().0, SAMPLES), halves_of_squares, &mut gradients).unwrap();
        gradients
    };
    let expected = gradients(Threads::One);
    for threads in [2, 3, 7] {
        assert_identical(&gradients(exactly(threads)), &expected, &format!("{threads} threads"));
    }
}

#[test]
fn large_networks_drop_the_same_on_any_threads() {
    // More than 2^20 weights: each layer is a parallel section of its own.
    let train = |threads| {
        let mut model = Sequential::builder(1024)
            .layer(Dropout::new(0.2))
            .layer(Dense::new(1024, Activation::Relu))
            .layer(Dropout::new(0.5))
            .layer(Dense::new(20, Activation::Softmax))
            .backend(Backend::new().unwrap().with_threads(threads))
            .build()
            .unwrap();
        model.compile(Sgd::default()).unwrap();
        let (x, labels) = (random_values(1, 48 * 1024), random_labels::<u8>(2, 48, 20));
        model.fit(row_major(&x, 48), &labels, Fit::default().batch_size(48).epochs(2)).unwrap();
        model.parameters().to_vec()
    };
    assert_identical(&train(exactly(3)), &train(Threads::One), "3 threads");
}

#[test]
fn bad_rates_and_dropouts_after_the_last_dense_are_refused() {
    for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        let result = Sequential::builder(3).layer(Dropout::new(rate)).layer(Dense::new(2, Activation::Softmax)).build();
        assert!(matches!(result, Err(Error::Value { argument: "rate", .. })), "{rate}");
    }
    let result = Sequential::builder(3).layer(Dense::new(2, Activation::Softmax)).layer(Dropout::new(0.5)).build();
    let message = result.unwrap_err().to_string();
    assert_eq!(message, "`layers`: expected a Dense behind each Dropout, got none behind the last Dropout");
}

#[test]
fn reference_dropout_refuses_bad_arguments() {
    let mut y = [7.0; 6];
    let mut refused = |rate, cols| {
        let to = MatMut::new(&mut y[..2 * cols], 2, cols).unwrap();
        reference::dropout(Dropout::new(rate), [0; 3], row_major(&[1.0; 4], 2), to).unwrap_err().to_string()
    };
    assert_eq!(refused(1.0, 2), "`rate`: expected a number in 0..1, got 1");
    assert_eq!(refused(0.5, 3), "`y`: expected 2 x 2, got 2 x 3");
    assert_eq!(y, [7.0; 6]);
}
