//! Resumes from checkpoints that do not fit or are damaged, and writes where nothing can be written: errors
//! that lose nothing.

use std::fs;
use std::path::Path;

use densely::nn::{
    Activation, Adam, AdamW, Clip, Dense, Dropout, EarlyStopping, Fit, Flatten, History, Layer, Monitor, Optimizer,
    Schedule, Sequential, Sgd,
};
use densely::{Backend, Error, Result};
use densely_testkit::{Folder, assert_identical, random_labels, random_values, row_major};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use crate::common::{path_on_full_disk, run_on_full_disk};

const SAMPLES: usize = 20;
const INPUTS: usize = 4;
const CLASSES: usize = 3;

/// A training with every option.
#[derive(Clone)]
struct Task {
    layers: Vec<Layer>,
    seed: u64,
    class_weights: Option<[f32; CLASSES]>,
    optimizer: Optimizer,
    samples: usize,
    batch_size: usize,
    shuffle: Option<u64>,
    validation: Option<f64>,
    early_stopping: Option<EarlyStopping>,
    epochs: usize,
}

fn stopping() -> EarlyStopping {
    EarlyStopping::new(Monitor::Loss).patience(7).min_delta(0.125)
}

impl Task {
    fn new() -> Self {
        let adam = Optimizer::from(Adam::default().learning_rate(0.01));
        Self {
            layers: vec![
                Dense::new(5, Activation::LeakyRelu { slope: 0.25 }).into(),
                Dense::new(CLASSES, Activation::Softmax).into(),
            ],
            seed: 1,
            class_weights: None,
            optimizer: adam.l2(0.01).clip(Clip::Value(0.5)).schedule(Schedule::cosine(30)),
            samples: SAMPLES,
            batch_size: 6,
            shuffle: Some(5),
            validation: Some(0.25),
            early_stopping: Some(stopping()),
            epochs: 3,
        }
    }

    /// Builds a model that was trained for a step.
    fn model(&self) -> Sequential {
        let builder = Sequential::builder(INPUTS).backend(Backend::new().unwrap()).seed(self.seed);
        let mut model = self.layers.iter().fold(builder, |builder, &layer| builder.layer(layer)).build().unwrap();
        model.compile(self.optimizer).unwrap();
        step(&mut model);
        model
    }

    fn fit(&self, model: &mut Sequential, options: impl FnOnce(Fit<'_>) -> Fit<'_>) -> Result<History> {
        let (x, labels) = (random_values(1, self.samples * INPUTS), random_labels::<u8>(2, self.samples, CLASSES));
        let mut fit = options(Fit::default()).epochs(self.epochs).batch_size(self.batch_size);
        fit = if let Some(seed) = self.shuffle { fit.shuffle(seed) } else { fit.no_shuffle() };
        if let Some(weights) = &self.class_weights {
            fit = fit.class_weights(weights);
        }
        if let Some(part) = self.validation {
            fit = fit.validation_split(part);
        }
        if let Some(stopping) = self.early_stopping {
            fit = fit.early_stopping(stopping);
        }
        model.fit(row_major(&x, self.samples), &labels, fit)
    }

    /// Trains for 2 epochs and writes a checkpoint.
    fn checkpoint(&self, file: &Path) {
        let task = Self { epochs: 2, ..self.clone() };
        task.fit(&mut task.model(), |fit| fit.checkpoint(file, 1)).unwrap();
    }

    /// Asserts that resuming from a file fails and leaves the model unchanged; returns the error.
    #[track_caller]
    fn refused(&self, file: &Path) -> Error {
        let mut model = self.model();
        let mut untouched = model.clone();
        let error = self.fit(&mut model, |fit| fit.resume(file)).unwrap_err();
        assert_identical(model.parameters(), untouched.parameters(), "parameters after a refused checkpoint");
        assert_eq!(model.iterations(), untouched.iterations());
        assert_eq!(model.learning_rate(), untouched.learning_rate());
        for model in [&mut model, &mut untouched] {
            step(model);
        }
        assert_identical(model.parameters(), untouched.parameters(), "parameters a step after a refused checkpoint");
        error
    }

    /// Returns what a file was expected to be and was found to be.
    #[track_caller]
    fn mismatch(&self, file: &Path) -> [String; 2] {
        match self.refused(file) {
            Error::Format { path, expected, found } => {
                assert_eq!(path, file);
                [expected, found]
            }
            other => panic!("{other:?}"),
        }
    }
}

fn step(model: &mut Sequential) {
    let x = random_values(3, SAMPLES * INPUTS);
    model.train_on_batch(row_major(&x, SAMPLES), &random_labels::<u8>(4, SAMPLES, CLASSES)).unwrap();
}

#[test]
fn resume_names_the_setting_that_differs() {
    let folder = Folder::new("mismatch");
    let file = folder.file("checkpoint");
    let task = Task::new();
    task.checkpoint(&file);
    task.fit(&mut task.model(), |fit| fit.resume(&file)).unwrap();

    let with = |layers: &[Layer]| Task { layers: layers.to_vec(), ..task.clone() };
    let with_layers = |first: Dense| with(&[first.into(), task.layers[1]]);
    let leaky = Activation::LeakyRelu { slope: 0.25 };
    let adam = Adam::default().learning_rate(0.01);
    let with_rule = |rule: Optimizer| Task {
        optimizer: rule.l2(0.01).clip(Clip::Value(0.5)).schedule(Schedule::cosine(30)),
        ..task.clone()
    };
    let with_optimizer = |optimizer| Task { optimizer, ..task.clone() };
    let with_stopping = |stopping| Task { early_stopping: Some(stopping), ..task.clone() };
    let optimizer = task.optimizer;
    for (other, differs) in [
        (with_layers(Dense::new(6, leaky)), "layers"),
        (with_layers(Dense::new(5, Activation::LeakyRelu { slope: 0.2 })), "layers"),
        (with_layers(Dense::new(5, Activation::Relu)), "layers"),
        (with_layers(Dense::new(5, leaky).use_bias(false)), "layers"),
        (with(&[task.layers[0], task.layers[0], task.layers[1]]), "layers"),
        (with(&[Flatten.into(), task.layers[0], task.layers[1]]), "layers"),
        (with(&[task.layers[0], Dropout::new(0.5).into(), task.layers[1]]), "layers"),
        (with_rule(Sgd::default().into()), "optimizer"),
        (with_rule(adam.betas(0.8, 0.999).into()), "beta_1"),
        (with_rule(adam.betas(0.9, 0.99).into()), "beta_2"),
        (with_rule(adam.epsilon(1e-8).into()), "epsilon"),
        (with_rule(AdamW::default().into()), "weight_decay"),
        (with_optimizer(optimizer.l2(0.0)), "l2"),
        (with_optimizer(optimizer.clip(Clip::Value(0.25))), "clip"),
        (with_optimizer(optimizer.clip(Clip::GlobalNorm(0.5))), "clip"),
        (with_optimizer(optimizer.schedule(Schedule::cosine(30).to(0.5))), "schedule"),
        (with_optimizer(optimizer.schedule(Schedule::constant())), "schedule"),
        (Task { samples: SAMPLES + 4, ..task.clone() }, "samples"),
        (Task { validation: Some(0.1), ..task.clone() }, "samples"),
        (Task { class_weights: Some([1.0; CLASSES]), ..task.clone() }, "sample weights"),
        (Task { validation: None, samples: 15, ..task.clone() }, "validation samples"),
        (Task { batch_size: 7, ..task.clone() }, "batch_size"),
        (Task { shuffle: Some(6), ..task.clone() }, "shuffle"),
        (Task { shuffle: None, ..task.clone() }, "shuffle"),
        (Task { early_stopping: None, ..task.clone() }, "early_stopping"),
        (with_stopping(stopping().patience(6)), "early_stopping"),
        (with_stopping(stopping().min_delta(0.0)), "early_stopping"),
        (with_stopping(stopping().restore_best(false)), "early_stopping"),
        (with_stopping(stopping().start_from_epoch(1)), "early_stopping"),
        (with_stopping(EarlyStopping::new(Monitor::ValidationLoss).patience(7).min_delta(0.125)), "early_stopping"),
    ] {
        let [expected, found] = other.mismatch(&file);
        assert!(expected.starts_with(&format!("a checkpoint with {differs}: ")), "{expected}");
        assert!(found.starts_with(&format!("{differs}: ")), "{found}");
    }

    let sgd = with_rule(Sgd::default().momentum(0.5).into());
    sgd.checkpoint(&file);
    for (other, differs) in [
        (with_rule(Sgd::default().momentum(0.25).into()), "momentum"),
        (with_rule(Sgd::default().momentum(0.5).nesterov(true).into()), "nesterov"),
    ] {
        assert!(other.mismatch(&file)[0].starts_with(&format!("a checkpoint with {differs}: ")));
    }
    assert_eq!(
        with_rule(Sgd::default().into()).mismatch(&file),
        ["a checkpoint with momentum: 0.0", "momentum: 0.5"].map(str::to_owned)
    );
    // The seed matters to dropout alone.
    let other_seed = Task { seed: 2, ..sgd.clone() };
    other_seed.fit(&mut other_seed.model(), |fit| fit.resume(&file)).unwrap();
    let dropout = |rate| with(&[task.layers[0], Dropout::new(rate).into(), task.layers[1]]);
    let of_dropout = folder.file("dropout");
    dropout(0.5).checkpoint(&of_dropout);
    let other_seed = Task { seed: 2, ..dropout(0.5) };
    assert_eq!(other_seed.mismatch(&of_dropout), ["a checkpoint with seed: 2", "seed: 1"].map(str::to_owned));
    assert!(dropout(0.25).mismatch(&of_dropout)[0].starts_with("a checkpoint with layers: "));

    let short = Task { epochs: 1, ..sgd.clone() };
    assert_eq!(short.mismatch(&file), ["a checkpoint of at most 1 epochs", "one of 2"].map(str::to_owned));
    // The learning rate comes from the checkpoint.
    let other_rate = with_rule(Sgd::default().momentum(0.5).learning_rate(0.5).into());
    let mut model = other_rate.model();
    other_rate.fit(&mut model, |fit| fit.resume(&file)).unwrap();
    assert_eq!(model.learning_rate(), Some(0.01));
}

#[test]
fn truncated_checkpoints_are_refused() {
    let folder = Folder::new("checkpoint-cut");
    let task = Task::new();
    task.checkpoint(&folder.file("whole"));
    let bytes = fs::read(folder.file("whole")).unwrap();
    for len in 0..bytes.len() {
        // A new file each time: truncating and rewriting one takes milliseconds on ext4.
        let file = folder.file(&format!("cut-{len}"));
        fs::write(&file, &bytes[..len]).unwrap();
        task.mismatch(&file);
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn flipped_bits_of_header_and_settings_are_detected() {
    let folder = Folder::new("checkpoint-flipped");
    let task = Task::new();
    task.checkpoint(&folder.file("whole"));
    let bytes = fs::read(folder.file("whole")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = header + bytes[header..].windows(10).position(|window| window == b"checkpoint").unwrap();
    let end = text + SafeTensors::deserialize(&bytes).unwrap().tensor("checkpoint").unwrap().data().len();
    for bit in (0..8 * header).chain(8 * text..8 * end) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let file = folder.file(&format!("flipped-{bit}"));
        fs::write(&file, flipped).unwrap();
        task.mismatch(&file);
        fs::remove_file(&file).unwrap();
    }
}

/// Returns a file's bytes with one tensor replaced, or removed.
fn changed(file: &Path, name: &str, tensor: Option<(Dtype, Vec<usize>, &[u8])>) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let old = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = old.tensors().into_iter().filter(|(other, _)| other != name).collect();
    if let Some((dtype, shape, data)) = tensor {
        tensors.push((name.to_owned(), TensorView::new(dtype, shape, data).unwrap()));
    }
    serialize(tensors, None).unwrap()
}

#[test]
fn mismatched_tensors_are_refused_by_name() {
    let folder = Folder::new("checkpoint-tensors");
    let whole = folder.file("whole");
    let task = Task::new();
    task.checkpoint(&whole);
    let names: Vec<String> = {
        let bytes = fs::read(&whole).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(names.len(), 13);
    let refused = |name: &str, tensor: Option<(Dtype, Vec<usize>, &[u8])>| {
        let file = folder.file("changed");
        let _ = fs::remove_file(&file);
        fs::write(&file, changed(&whole, name, tensor)).unwrap();
        let [expected, found] = task.mismatch(&file);
        format!("{expected} / {found}")
    };
    for name in &names {
        // Without `history.loss` the length of the history is unknown, which has another message.
        let missing = refused(name, None);
        assert!(missing.contains("no such tensor") || name == "history.loss", "{missing}");
        for (dtype, shape, len) in [(Dtype::F32, vec![3], 12), (Dtype::F16, vec![2], 4), (Dtype::F32, vec![1, 1], 4)] {
            let message = refused(name, Some((dtype, shape, &[0; 12][..len])));
            assert!(message.contains(name.as_str()) || name == "history.loss", "{name}: {message}");
        }
    }
    assert!(refused("more", Some((Dtype::F32, vec![1], &[0; 4]))).ends_with("`more` too"));
    for bad in [f64::NAN, -0.5, 1e39] {
        let message = refused("learning_rate", Some((Dtype::F64, vec![1], &bad.to_le_bytes())));
        assert!(message.starts_with("a learning rate that is finite as f32, at least 0 / "), "{message}");
    }
    for bad in [f64::NAN, -0.5, 1.5] {
        let powers = [0.5, bad].map(f64::to_le_bytes).concat();
        let message = refused("powers", Some((Dtype::F64, vec![2], &powers)));
        assert!(message.starts_with("`powers` of betas, 0 to 1 / "), "{message}");
    }

    let weights = folder.file("weights");
    task.model().save_weights(&weights).unwrap();
    assert!(task.mismatch(&weights)[1].ends_with(" too"));
}

#[test]
fn step_counter_at_its_maximum_does_not_overflow() {
    let folder = Folder::new("checkpoint-steps");
    let (whole, file) = (folder.file("whole"), folder.file("changed"));
    let task = Task::new();
    task.checkpoint(&whole);
    fs::write(&file, changed(&whole, "steps", Some((Dtype::U64, vec![1], &u64::MAX.to_le_bytes())))).unwrap();
    let mut model = task.model();
    task.fit(&mut model, |fit| fit.resume(&file)).unwrap();
    assert_eq!(model.iterations(), Some(u64::MAX));
}

#[test]
fn unreadable_checkpoints_are_named() {
    let folder = Folder::new("checkpoint-missing");
    for file in [folder.file("missing"), folder.path().to_owned()] {
        let error = Task::new().refused(&file);
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", file.display())), "{error}");
    }
}

#[test]
fn unwritable_checkpoint_ends_fit_and_keeps_the_parameters() {
    let folder = Folder::new("checkpoint-unwritable");
    let file = folder.file("no/such/folder");
    let task = Task { early_stopping: None, ..Task::new() };
    let (mut model, mut expected) = (task.model(), task.model());
    let error = task.fit(&mut model, |fit| fit.checkpoint(&file, 2)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", file.display())), "{error}");
    Task { epochs: 2, ..task }.fit(&mut expected, |fit| fit).unwrap();
    assert_identical(model.parameters(), expected.parameters(), "parameters after two epochs");
    assert_eq!(model.iterations(), expected.iterations());
    assert!(folder.names().is_empty());
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn failed_write_keeps_the_old_checkpoint() {
    let task = Task::new();
    if let Some(path) = path_on_full_disk() {
        let error = task.fit(&mut task.model(), |fit| fit.checkpoint(&path, 1)).unwrap_err();
        return assert!(matches!(error, Error::File { action: "write", .. }), "{error}");
    }
    let folder = Folder::new("checkpoint-full-disk");
    let path = folder.file("checkpoint");
    task.checkpoint(&path);
    run_on_full_disk("checkpoint_errors::failed_write_keeps_the_old_checkpoint", &path);
    task.fit(&mut task.model(), |fit| fit.resume(&path)).unwrap();
}
