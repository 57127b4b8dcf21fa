//! Passes bad input to the network API: errors that name the argument and leave the model unchanged.

use std::fmt::Debug;

use densely::nn::{
    Activation, Adam, AdamW, Builder, Clip, Dense, EarlyStopping, Fit, Flatten, Initializer, Monitor, Optimizer,
    Schedule, Sequential, Sgd,
};
use densely::{Backend, Error, MatMut, MatRef, Result};
use densely_testkit::{assert_identical, random_values, row_major};

use crate::common::mlp;

/// Returns an error's variant and the argument that it names.
fn name(error: &Error) -> String {
    match error {
        Error::Shape { argument, .. } => format!("Shape {argument}"),
        Error::Value { argument, .. } => format!("Value {argument}"),
        Error::Label { index, .. } => format!("Label at {index}"),
        Error::NotCompiled => "NotCompiled".to_owned(),
        other => panic!("{other:?}"),
    }
}

const SAMPLES: usize = 6;
const INPUTS: usize = 4;
const CLASSES: usize = 3;
const LABELS: [u8; SAMPLES] = [0, 1, 2, 0, 1, 2];

/// Returns SAMPLES x INPUTS values.
fn samples() -> Vec<f32> {
    random_values(1, SAMPLES * INPUTS)
}

fn uncompiled() -> Sequential {
    mlp(&Backend::new().unwrap(), INPUTS, &[5, CLASSES])
}

/// Builds a model that was trained for a step.
fn model() -> Sequential {
    let mut model = uncompiled();
    model.compile(Adam::default()).unwrap();
    model.train_on_batch(row_major(&samples(), SAMPLES), &LABELS).unwrap();
    model
}

/// Asserts that a call fails and leaves the model unchanged; returns the error.
///
/// The next step must have the bits that it has without the call.
#[track_caller]
fn refused<T: Debug>(model: &mut Sequential, call: impl FnOnce(&mut Sequential) -> Result<T>) -> String {
    let mut untouched = model.clone();
    let error = call(model).unwrap_err();
    assert_identical(model.parameters(), untouched.parameters(), "parameters after a refused call");
    assert_eq!(model.learning_rate(), untouched.learning_rate());
    if model.learning_rate().is_some() {
        for model in [&mut *model, &mut untouched] {
            model.train_on_batch(row_major(&samples(), SAMPLES), &LABELS).unwrap();
        }
        assert_identical(model.parameters(), untouched.parameters(), "parameters a step after a refused call");
    }
    name(&error)
}

fn dense(units: usize) -> Dense {
    Dense::new(units, Activation::Relu)
}

fn softmax(units: usize) -> Dense {
    Dense::new(units, Activation::Softmax)
}

#[test]
fn builder_refuses_bad_networks() {
    #[track_caller]
    fn refused(builder: Builder) -> String {
        name(&builder.build().unwrap_err())
    }
    assert_eq!(refused(Sequential::builder(4)), "Shape layers");
    assert_eq!(refused(Sequential::builder((2, 2)).layer(Flatten)), "Shape layers");
    assert_eq!(refused(Sequential::builder(4).layer(dense(0))), "Shape units");
    assert_eq!(refused(Sequential::builder(4).layer(dense(3)).layer(dense(0))), "Shape units");
    assert_eq!(refused(Sequential::builder(0).layer(dense(3))), "Shape input");
    assert_eq!(refused(Sequential::builder((3, 0, 4)).layer(Flatten).layer(dense(3))), "Shape input");
    assert_eq!(refused(Sequential::builder((usize::MAX, 2)).layer(Flatten).layer(dense(3))), "Shape input");
    assert_eq!(refused(Sequential::builder((2, 2)).layer(dense(3))), "Shape layer");
    assert_eq!(refused(Sequential::builder([0; 0]).layer(dense(3))), "Shape layer");
    assert_eq!(refused(Sequential::builder(4).layer(softmax(3)).layer(dense(3))), "Value layer");
    assert_eq!(refused(Sequential::builder(4).layer(softmax(3)).layer(Flatten).layer(softmax(3))), "Value layer");

    let leaky = |slope| Dense::new(3, Activation::LeakyRelu { slope });
    assert_eq!(refused(Sequential::builder(4).layer(leaky(f32::NAN)).layer(softmax(3))), "Value activation");
    assert_eq!(refused(Sequential::builder(4).layer(leaky(-1.0)).layer(softmax(3))), "Value activation");

    // Products and sums that overflow, and a size beyond any memory.
    assert_eq!(refused(Sequential::builder(2).layer(dense(usize::MAX))), "Shape units");
    assert_eq!(refused(Sequential::builder(1).layer(dense(usize::MAX))), "Shape units");
    assert_eq!(refused(Sequential::builder(usize::MAX).layer(dense(1))), "Shape units");
    let half = isize::MAX as usize / 8;
    let zeros = |units| dense(units).use_bias(false).kernel_initializer(Initializer::Zeros);
    assert_eq!(refused(Sequential::builder(half).layer(zeros(1)).layer(zeros(half + 2))), "Shape units");
    assert_eq!(refused(Sequential::builder(half / 2).layer(zeros(1))), "Shape layers");
}

#[test]
fn compile_refuses_bad_hyperparameters() {
    let sgd: [(Sgd, &str); 6] = [
        (Sgd::default().learning_rate(f64::NAN), "Value learning_rate"),
        (Sgd::default().learning_rate(-1e-9), "Value learning_rate"),
        (Sgd::default().learning_rate(f64::INFINITY), "Value learning_rate"),
        (Sgd::default().momentum(f64::NAN), "Value momentum"),
        (Sgd::default().momentum(-0.1), "Value momentum"),
        (Sgd::default().momentum(1.1), "Value momentum"),
    ];
    let adam: [(Adam, &str); 12] = [
        (Adam::default().learning_rate(f64::NAN), "Value learning_rate"),
        (Adam::default().learning_rate(-0.1), "Value learning_rate"),
        (Adam::default().learning_rate(1e39), "Value learning_rate"), // infinite as f32
        (Adam::default().betas(1.0, 0.999), "Value beta_1"),
        (Adam::default().betas(-0.1, 0.999), "Value beta_1"),
        (Adam::default().betas(0.9, 1.0), "Value beta_2"),
        (Adam::default().betas(0.9, f64::NAN), "Value beta_2"),
        (Adam::default().epsilon(f64::NAN), "Value epsilon"),
        (Adam::default().epsilon(-1e-7), "Value epsilon"),
        (Adam::default().epsilon(0.0), "Value epsilon"),
        // 0 as f32.
        (Adam::default().epsilon(1e-50), "Value epsilon"),
        (Adam::default().epsilon(f64::INFINITY), "Value epsilon"),
    ];
    let adamw: [(AdamW, &str); 7] = [
        (AdamW::default().learning_rate(f64::NEG_INFINITY), "Value learning_rate"),
        (AdamW::default().betas(f64::NAN, 0.999), "Value beta_1"),
        (AdamW::default().betas(0.9, 2.0), "Value beta_2"),
        (AdamW::default().epsilon(f64::NAN), "Value epsilon"),
        (AdamW::default().weight_decay(f64::NAN), "Value weight_decay"),
        (AdamW::default().weight_decay(-0.004), "Value weight_decay"),
        (AdamW::default().weight_decay(f64::INFINITY), "Value weight_decay"),
    ];
    let sgd = sgd.map(|(sgd, expected)| (Optimizer::from(sgd), expected));
    let adam = adam.map(|(adam, expected)| (Optimizer::from(adam), expected));
    let adamw = adamw.map(|(adamw, expected)| (Optimizer::from(adamw), expected));
    let plain = Optimizer::from(Sgd::default());
    let options = [
        (plain.weight_decay(f64::NAN), "Value weight_decay"),
        (plain.weight_decay(-0.1), "Value weight_decay"),
        (plain.l2(f64::NAN), "Value l2"),
        (plain.l2(-1e-4), "Value l2"),
        (plain.l2(3e38), "Value l2"), // twice that is infinite as f32
        (plain.clip(Clip::Value(0.0)), "Value clip"),
        (plain.clip(Clip::Value(f64::NAN)), "Value clip"),
        (plain.clip(Clip::Value(f64::INFINITY)), "Value clip"),
        (plain.clip(Clip::GlobalNorm(-1.0)), "Value clip"),
        (plain.clip(Clip::GlobalNorm(1e-50)), "Value clip"), // 0 as f32
        (plain.clip(Clip::GlobalNorm(f64::NAN)), "Value clip"),
        (plain.schedule(Schedule::step(0, 0.5)), "Value every"),
        (plain.schedule(Schedule::step(1, -0.1)), "Value factor"),
        (plain.schedule(Schedule::step(1, 1.1)), "Value factor"),
        (plain.schedule(Schedule::step(1, f64::NAN).warm_up(3)), "Value factor"),
        (plain.schedule(Schedule::cosine(0)), "Value steps"),
        (plain.schedule(Schedule::cosine(1).to(1.1)), "Value to"),
        (plain.schedule(Schedule::step(1, 0.5).to(-0.1)), "Value to"),
        (plain.schedule(Schedule::constant().to(f64::NAN)), "Value to"),
    ];
    for (optimizer, expected) in [&sgd[..], &adam, &adamw, &options].concat() {
        assert_eq!(refused(&mut model(), |model| model.compile(optimizer)), expected, "{optimizer:?}");
        assert_eq!(refused(&mut uncompiled(), |model| model.compile(optimizer)), expected, "{optimizer:?}");
    }
}

#[test]
fn set_learning_rate_refuses_bad_rates() {
    assert_eq!(refused(&mut uncompiled(), |model| model.set_learning_rate(0.1)), "NotCompiled");
    for rate in [f64::NAN, f64::INFINITY, -0.1, 1e39] {
        assert_eq!(refused(&mut model(), |model| model.set_learning_rate(rate)), "Value learning_rate", "{rate}");
    }
}

#[test]
fn training_refuses_a_last_layer_without_a_loss() {
    let mut model = Sequential::builder(INPUTS).layer(dense(CLASSES)).build().unwrap();
    let x = samples();
    let x = row_major(&x, SAMPLES);
    let mut gradients = vec![7.0; model.count_params()];
    assert_eq!(refused(&mut model, |model| model.evaluate(x, &LABELS)), "Value activation");
    assert_eq!(refused(&mut model, |model| model.gradients(x, &LABELS, &mut gradients)), "Value activation");
    assert!(gradients.iter().all(|&gradient| gradient == 7.0));
    assert!(model.predict(x).is_ok());

    // A custom loss can train it.
    model.compile(Adam::default()).unwrap();
    let before = model.parameters().to_vec();
    assert_eq!(name(&model.train_on_batch(x, &LABELS).unwrap_err()), "Value activation");
    assert_eq!(name(&model.fit(x, &LABELS, Fit::default()).unwrap_err()), "Value activation");
    assert_identical(model.parameters(), &before, "parameters");
}

#[test]
fn training_requires_compile() {
    let x = samples();
    let x = row_major(&x, SAMPLES);
    assert_eq!(refused(&mut uncompiled(), |model| model.fit(x, &LABELS, Fit::default())), "NotCompiled");
    assert_eq!(refused(&mut uncompiled(), |model| model.train_on_batch(x, &LABELS)), "NotCompiled");
    let gradients = vec![1.0; uncompiled().count_params()];
    assert_eq!(refused(&mut uncompiled(), |model| model.step(&gradients)), "NotCompiled");
}

#[test]
fn fit_refuses_bad_options() {
    let x = samples();
    let x = row_major(&x, SAMPLES);
    let fit = |options: Fit<'_>| refused(&mut model(), |model| model.fit(x, &LABELS, options));
    assert_eq!(fit(Fit::default().batch_size(0)), "Value batch_size");
    #[cfg(target_pointer_width = "64")]
    assert_eq!(fit(Fit::default().epochs(1 << 32)), "Value epochs");
    // The last two leave no sample to validate, and none to train on: floor(6 (1 - split)) is 6 and 0.
    for split in [0.0, 1.0, -0.5, 1.5, f64::NAN, f64::INFINITY, 1e-300, 0.9] {
        assert_eq!(fit(Fit::default().validation_split(split)), "Value validation_split", "{split}");
    }

    assert_eq!(fit(Fit::default().checkpoint("no/such/folder", 0)), "Value every");
    for min_delta in [-0.1, f64::NAN, f64::INFINITY] {
        let stopping = EarlyStopping::new(Monitor::Loss).min_delta(min_delta);
        assert_eq!(fit(Fit::default().early_stopping(stopping)), "Value min_delta", "{min_delta}");
    }
    for monitor in [Monitor::ValidationLoss, Monitor::ValidationAccuracy] {
        assert_eq!(fit(Fit::default().early_stopping(EarlyStopping::new(monitor))), "Value monitor");
    }

    let narrow = random_values(2, SAMPLES * (INPUTS - 1));
    let empty = MatRef::new(&[], 0, INPUTS).unwrap();
    let data = |x, labels: &[u8]| fit(Fit::default().validation_data(x, labels));
    assert_eq!(data(row_major(&narrow, SAMPLES), &LABELS), "Shape validation x");
    assert_eq!(data(empty, &[]), "Value validation x");
    assert_eq!(data(x, &LABELS[1..]), "Shape validation labels");
    assert_eq!(data(x, &[0, 1, 2, 0, 1, 3]), "Label at 5");
}

/// Asserts what every call with samples and labels must refuse.
fn check_samples(call: impl Fn(&mut Sequential, MatRef<'_>, &[u8]) -> Result<()>) {
    let x = samples();
    let refused = |x: MatRef<'_>, labels: &[u8]| refused(&mut model(), |model| call(model, x, labels));
    assert_eq!(refused(row_major(&x, 8), &LABELS), "Shape x"); // 3 columns
    assert_eq!(refused(row_major(&x, 4), &LABELS), "Shape x"); // 6 columns
    assert_eq!(refused(row_major(&x, SAMPLES).t(), &LABELS), "Shape x");
    assert_eq!(refused(MatRef::new(&[], SAMPLES, 0).unwrap(), &LABELS), "Shape x");
    assert_eq!(refused(MatRef::new(&[], 0, INPUTS).unwrap(), &[]), "Value x");
    assert_eq!(refused(row_major(&x, SAMPLES), &LABELS[1..]), "Shape labels");
    assert_eq!(refused(row_major(&x, SAMPLES), &[&LABELS[..], &[0]].concat()), "Shape labels");
    assert_eq!(refused(row_major(&x, SAMPLES), &[]), "Shape labels");
    assert_eq!(refused(row_major(&x, SAMPLES), &[0, 1, 3, 0, 255, 2]), "Label at 2");
}

#[test]
fn bad_samples_and_labels_are_refused() {
    check_samples(|model, x, labels| model.fit(x, labels, Fit::default()).map(drop));
    check_samples(|model, x, labels| model.fit(x, labels, Fit::default().validation_split(0.5)).map(drop));
    check_samples(|model, x, labels| model.train_on_batch(x, labels).map(drop));
    check_samples(|model, x, labels| model.evaluate(x, labels).map(drop));
    check_samples(|model, x, labels| {
        let mut gradients = vec![7.0; model.count_params()];
        let result = model.gradients(x, labels, &mut gradients).map(drop);
        assert!(gradients.iter().all(|&gradient| gradient == 7.0));
        result
    });
}

#[test]
fn gradients_with_refuses_bad_samples() {
    let x = samples();
    for (x, expected) in [
        (row_major(&x, 8), "Shape x"),
        (row_major(&x, SAMPLES).t(), "Shape x"),
        (MatRef::new(&[], 0, INPUTS).unwrap(), "Value x"),
    ] {
        let mut gradients = vec![7.0; model().count_params()];
        let loss = |_: MatRef<'_>, _: MatMut<'_>| -> Result<()> { panic!("there are no outputs") };
        assert_eq!(refused(&mut model(), |model| model.gradients_with(x, loss, &mut gradients)), expected);
        assert!(gradients.iter().all(|&gradient| gradient == 7.0));
    }
}

#[test]
fn wide_labels_are_not_truncated() {
    let x = samples();
    let x = row_major(&x, SAMPLES);
    let wide = [0u32, 1, 2, 1 << 8, 1, 2];
    assert_eq!(refused(&mut model(), |model| model.fit(x, &wide, Fit::default())), "Label at 3");
    let wider = [0usize, 1, 2, 0, 1 << (usize::BITS / 2), 2];
    assert_eq!(refused(&mut model(), |model| model.train_on_batch(x, &wider)), "Label at 4");
}

#[test]
fn bad_output_buffers_are_refused() {
    let x = samples();
    let [x, narrow] = [row_major(&x, SAMPLES), row_major(&x, 8)];
    let mut model = model();
    assert_eq!(refused(&mut model, |model| model.predict(narrow)), "Shape x");
    assert_eq!(refused(&mut model, |model| model.predict_classes(narrow)), "Shape x");

    let mut y = [7.0; SAMPLES * CLASSES];
    let mut into = |x, rows, cols| {
        let y = MatMut::new(&mut y[..rows * cols], rows, cols).unwrap();
        refused(&mut model, |model| model.predict_into(x, y))
    };
    assert_eq!(into(narrow, SAMPLES, CLASSES), "Shape x");
    assert_eq!(into(x, SAMPLES - 1, CLASSES), "Shape y");
    assert_eq!(into(x, SAMPLES, CLASSES - 1), "Shape y");
    assert_eq!(into(x, CLASSES, SAMPLES), "Shape y");
    assert!(y.iter().all(|&value| value == 7.0));

    let count = model.count_params();
    let mut gradients = vec![7.0; count + 1];
    for len in [0, count - 1, count + 1] {
        let gradients = &mut gradients[..len];
        assert_eq!(refused(&mut model, |model| model.gradients(x, &LABELS, gradients)), "Shape gradients");
        let loss = |_: MatRef<'_>, _: MatMut<'_>| -> Result<()> { panic!("there is no room for its gradients") };
        assert_eq!(refused(&mut model, |model| model.gradients_with(x, loss, gradients)), "Shape gradients");
        assert_eq!(refused(&mut model, |model| model.step(gradients)), "Shape gradients");
    }
    assert!(gradients.iter().all(|&gradient| gradient == 7.0));
}

#[test]
fn predict_accepts_an_empty_batch() {
    let none = MatRef::new(&[], 0, INPUTS).unwrap();
    assert!(model().predict(none).unwrap().is_empty());
    assert!(model().predict_classes(none).unwrap().is_empty());
}

#[test]
fn messages_say_what_was_expected_and_found() {
    let x = samples();
    let x = row_major(&x, SAMPLES);
    let mut model = model();
    let unflattened = Sequential::builder((28, 28)).layer(softmax(10)).build().unwrap_err();
    let hidden = Sequential::builder(4).layer(softmax(3)).layer(dense(3)).build().unwrap_err();
    let messages = [
        (unflattened, "`layer`: expected flat input for Dense: put Flatten before it, got (None, 28, 28)"),
        (hidden, "`layer`: expected softmax in the last layer only, got a layer behind `dense`"),
        (model.predict(x.t()).unwrap_err(), "`x`: expected 4 x 4, got 4 x 6"),
        (model.evaluate(x, &LABELS[1..]).unwrap_err(), "`labels`: expected 6 labels, one a row, got 5"),
        (model.evaluate(x, &[0u8, 1, 2, 0, 1, 9]).unwrap_err(), "`labels`: expected classes 0..3, got 9 at index 5"),
        (model.compile(Adam::default().betas(0.9, 1.0)).unwrap_err(), "`beta_2`: expected a number in 0..1, got 1"),
        (
            model.fit(x, &LABELS, Fit::default().validation_data(x, &[0u8, 1, 2, 0, 1, 9])).unwrap_err(),
            "`validation labels`: expected classes 0..3, got 9 at index 5",
        ),
        (
            model.set_learning_rate(1e39).unwrap_err(),
            "`learning_rate`: expected a number that is finite as f32, at least 0, got 1000000000000000000000000000000000000000",
        ),
        (
            model.fit(x, &LABELS, Fit::default().validation_split(0.0)).unwrap_err(),
            "`validation_split`: expected a part of 6 samples that leaves some for training and for validation, got 0",
        ),
        (
            model
                .fit(x, &LABELS, Fit::default().early_stopping(EarlyStopping::new(Monitor::ValidationLoss)))
                .unwrap_err(),
            "`monitor`: expected one of training, since there is no validation, got ValidationLoss",
        ),
        (
            uncompiled().train_on_batch(x, &LABELS).unwrap_err(),
            "the model has no optimizer: call `compile` before training it",
        ),
    ];
    for (error, expected) in messages {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn predictions_beyond_memory_are_refused() {
    // 256 TiB, beyond the address space of most processors.
    let (samples, outputs) = (1 << 24, 1 << 22);
    let model = Sequential::builder(1).layer(Dense::new(outputs, Activation::Relu)).build().unwrap();
    let x = vec![0.0; samples];
    let error = model.predict(row_major(&x, samples)).unwrap_err();
    assert_eq!(error.to_string(), "`x`: expected samples whose outputs fit memory, got 16777216 of 4194304");
}
