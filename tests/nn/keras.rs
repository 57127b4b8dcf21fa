//! Compares training and summaries with those of Keras in tests/fixtures/keras.

use std::collections::BTreeMap;
use std::fs;

use densely::Backend;
use densely::nn::{
    Activation, Adam, AdamW, Clip, Dense, DenseActivation, Dropout, Fit, Flatten, Optimizer, Sequential, Sgd,
};
use densely_testkit::{Tolerance, assert_close, backends, fashion_mnist, row_major};
use safetensors::SafeTensors;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keras");
const PARAMETERS: [&str; 4] = ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"];
const BATCH: usize = 32;
const STEPS: usize = 5;

/// Bounds the rounding of f32 in parameters and gradients: where terms cancel, the error is that of the
/// largest.
///
/// The fixture's README has Keras' own figures. 1e-5 of a weight would hide AdamW's decay, which is 2e-5 of
/// it in five steps.
const ROUNDING: Tolerance = Tolerance { relative: 1e-6, of_largest: 1e-6 };
/// Of losses and probabilities.
const OF_LOSSES: Tolerance = Tolerance::relative(1e-5);

/// Reads the tensors of a fixture by name.
fn fixture(file: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(format!("{FOLDER}/{file}.safetensors")).unwrap();
    let floats = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, tensor)| (name, floats(tensor.data()))).collect()
}

fn model(backend: &Backend, keras: &BTreeMap<String, Vec<f32>>) -> Sequential {
    let mut model = Sequential::builder((28, 28))
        .layer(Flatten)
        .layer(Dense::new(16, Activation::Relu))
        .layer(Dense::new(10, Activation::Softmax))
        .backend(backend.clone())
        .build()
        .unwrap();
    let initial = PARAMETERS.map(|name| &keras[&format!("initial/{name}")][..]).concat();
    model.parameters_mut().copy_from_slice(&initial);
    model
}

/// Compares a flat slice of parameters or their gradients with the fixture's four tensors.
#[track_caller]
fn assert_parameters(mut flat: &[f32], keras: &BTreeMap<String, Vec<f32>>, prefix: &str) {
    for name in PARAMETERS {
        let name = format!("{prefix}/{name}");
        let (tensor, rest) = flat.split_at(keras[&name].len());
        assert_close(tensor, &keras[&name], ROUNDING, &name);
        flat = rest;
    }
    assert!(flat.is_empty());
}

#[test]
fn probabilities_and_gradients_match_keras() {
    let keras = fixture("tutorial");
    let (images, labels) = fashion_mnist(BATCH);
    let x = row_major(&images, BATCH);
    for backend in backends() {
        let mut model = model(&backend, &keras);
        assert_close(&model.predict(x).unwrap(), &keras["probabilities"], OF_LOSSES, backend.isa().name());
        let mut gradients = vec![f32::NAN; model.count_params()];
        let loss = model.gradients(x, &labels, &mut gradients).unwrap();
        assert_close(&[loss], &keras["adam/losses"][..1], OF_LOSSES, backend.isa().name());
        assert_parameters(&gradients, &keras, "gradient");
    }
}

/// Trains on every batch once; returns their losses.
fn trained(model: &mut Sequential, optimizer: Optimizer, images: &[f32], labels: &[u8]) -> Vec<f32> {
    model.compile(optimizer).unwrap();
    let batches = images.chunks(BATCH * 784).zip(labels.chunks(BATCH));
    batches.map(|(x, labels)| model.train_on_batch(row_major(x, BATCH), labels).unwrap().loss).collect()
}

#[test]
fn training_matches_keras() {
    let keras = fixture("tutorial");
    let (images, labels) = fashion_mnist(STEPS * BATCH);
    let optimizers: [(&str, Optimizer); 4] = [
        ("adam", Adam::default().into()),
        ("adamw", AdamW::default().into()),
        ("momentum", Sgd::default().momentum(0.9).into()),
        ("nesterov", Sgd::default().momentum(0.9).nesterov(true).into()),
    ];
    for backend in backends() {
        for (name, optimizer) in optimizers {
            let mut model = model(&backend, &keras);
            let losses = trained(&mut model, optimizer, &images, &labels);
            assert_close(&losses, &keras[&format!("{name}/losses")], OF_LOSSES, &format!("{name}/losses"));
            assert_parameters(model.parameters(), &keras, name);
        }
    }
}

#[test]
fn clipping_l2_and_weight_decay_match_keras() {
    let (initial, keras) = (fixture("tutorial"), fixture("options"));
    let (images, labels) = fashion_mnist(STEPS * BATCH);
    let sgd = Sgd::default().learning_rate(0.1);
    let momentum = Optimizer::from(sgd.momentum(0.9)).clip(Clip::GlobalNorm(1.0));
    let optimizers: [(&str, Optimizer); 4] = [
        ("clipvalue", Optimizer::from(sgd).clip(Clip::Value(0.02))),
        ("global_clipnorm", momentum),
        ("all", momentum.weight_decay(0.1).l2(0.01)),
        ("adam", Optimizer::from(Adam::default()).weight_decay(0.1)),
    ];
    for backend in backends() {
        for (name, optimizer) in optimizers {
            let mut model = model(&backend, &initial);
            trained(&mut model, optimizer, &images, &labels);
            assert_parameters(model.parameters(), &keras, name);
        }
    }
}

#[test]
fn class_and_sample_weights_match_keras() {
    let (initial, keras) = (fixture("tutorial"), fixture("weights"));
    let (images, labels) = fashion_mnist(STEPS * BATCH);
    let classes: Vec<f32> = (0..10u8).map(|label| 0.25 * f32::from(label % 4)).collect();
    let samples: Vec<f32> = (0..STEPS * BATCH).map(|sample| (sample % 7) as f32 / 4.0).collect();
    let options = || Fit::default().batch_size(BATCH).no_shuffle();
    for backend in backends() {
        let kinds = [
            ("class_weight", options().class_weights(&classes)),
            ("sample_weight", options().sample_weights(&samples)),
        ];
        for (name, options) in kinds {
            let mut model = model(&backend, &initial);
            model.compile(Sgd::default().momentum(0.9)).unwrap();
            let history = model.fit(row_major(&images, STEPS * BATCH), &labels, options).unwrap();
            let end = history.epochs()[0];
            assert_close(&[end.loss], &keras[&format!("{name}/loss")], OF_LOSSES, name);
            assert_close(&[end.accuracy], &keras[&format!("{name}/accuracy")], Tolerance::relative(1e-6), name);
            assert_parameters(model.parameters(), &keras, name);
        }
    }
}

#[test]
fn activation_names_match_keras() {
    let names = "linear relu leaky_relu elu sigmoid tanh softplus silu gelu softmax";
    assert_eq!(DenseActivation::all().map(DenseActivation::name).collect::<Vec<_>>().join(" "), names);
    for activation in DenseActivation::all() {
        assert_eq!(activation.to_string(), activation.name());
        assert_eq!(activation.name().parse::<DenseActivation>().unwrap(), activation);
    }
    let error = "maxout".parse::<DenseActivation>().unwrap_err().to_string();
    assert_eq!(error, format!("`activation`: expected one of {}, got `maxout`", names.replace(' ', ", ")));
}

#[test]
fn summaries_match_keras() {
    let dense = |units| Dense::new(units, Activation::Relu);
    let nets = [
        ("tutorial", Sequential::builder((28, 28)).layer(Flatten).layer(dense(128)).layer(dense(10))),
        (
            "colour",
            Sequential::builder((3, 28, 28)).layer(Flatten).layer(dense(512)).layer(dense(128)).layer(dense(10)),
        ),
        ("big", Sequential::builder(1000).layer(dense(4096)).layer(dense(3))),
        (
            "dropout",
            Sequential::builder((20, 3))
                .layer(Dropout::new(0.1))
                .layer(Flatten)
                .layer(dense(70))
                .layer(Dropout::new(0.5))
                .layer(dense(5)),
        ),
    ];
    for (name, net) in nets {
        let expected = fs::read_to_string(format!("{FOLDER}/summary_{name}.txt")).unwrap();
        assert_eq!(net.build().unwrap().summary(), expected, "{name}");
    }
}
