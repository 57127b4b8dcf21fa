//! Resumes interrupted training from checkpoints: the result must be that of training without interruption.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use densely::nn::{
    Activation, Adam, AdamW, Callback, Clip, Dense, Dropout, EarlyStopping, Ended, EpochEnd, Fit, History, Monitor,
    Optimizer, Schedule, Sequential, Sgd,
};
use densely::{Backend, Isa, Result};
use densely_testkit::{Folder, assert_identical, backends, exactly, random_labels, random_values, row_major};
use safetensors::SafeTensors;

const SAMPLES: usize = 40;
const INPUTS: usize = 7;
const CLASSES: usize = 3;
const EPOCHS: usize = 6;

fn data() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * INPUTS), random_labels(2, SAMPLES, CLASSES))
}

fn model(backend: &Backend, optimizer: impl Into<Optimizer>) -> Sequential {
    Task::new(optimizer).model(backend)
}

/// Multiplies the learning rate by a factor before each epoch, and stops training after an epoch.
#[derive(Clone, Copy, Default)]
struct Trainer {
    factor: Option<fn(usize) -> f64>,
    /// Counts from 1.
    last_epoch: Option<usize>,
}

impl Callback for Trainer {
    fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
        self.factor.map_or(rate, |factor| rate * factor(epoch))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        if self.last_epoch == Some(end.epoch + 1) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A training without its number of epochs.
#[derive(Clone, Copy)]
struct Task {
    optimizer: Optimizer,
    trainer: Trainer,
    validation: bool,
    early_stopping: Option<EarlyStopping>,
    shuffled: bool,
    dropout: bool,
    weights: bool,
}

impl Task {
    fn new(optimizer: impl Into<Optimizer>) -> Self {
        let (optimizer, trainer) = (optimizer.into(), Trainer::default());
        Self {
            optimizer,
            trainer,
            validation: false,
            early_stopping: None,
            shuffled: true,
            dropout: false,
            weights: false,
        }
    }

    /// Builds a network whose first layer is trained in column shards on three threads.
    fn model(&self, backend: &Backend) -> Sequential {
        let mut builder = Sequential::builder(INPUTS).backend(backend.clone()).layer(Dense::new(50, Activation::Relu));
        if self.dropout {
            builder = builder.layer(Dropout::new(0.25));
        }
        let mut model = builder.layer(Dense::new(CLASSES, Activation::Softmax)).build().unwrap();
        model.compile(self.optimizer).unwrap();
        model
    }

    /// Trains a model; `options` sets the rest.
    fn fit(&self, model: &mut Sequential, options: impl FnOnce(Fit<'_>) -> Fit<'_>) -> Result<History> {
        let (x, labels) = data();
        let mut trainer = self.trainer;
        let mut options = options(Fit::default()).batch_size(15).callback(&mut trainer);
        options = if self.shuffled { options.shuffle(5) } else { options.no_shuffle() };
        let class_weights = [1.0, 0.5, 2.0];
        let sample_weights: Vec<f32> = random_values(3, SAMPLES).into_iter().map(f32::abs).collect();
        if self.weights {
            options = options.class_weights(&class_weights).sample_weights(&sample_weights);
        }
        if self.validation {
            options = options.validation_split(0.2);
        }
        if let Some(stopping) = self.early_stopping {
            options = options.early_stopping(stopping);
        }
        model.fit(row_major(&x, SAMPLES), &labels, options)
    }
}

/// Asserts that two trainings have the same history and state, and the same bits a step later.
#[track_caller]
fn assert_same(found: &(History, Sequential), expected: &(History, Sequential), what: &str) {
    assert_eq!(found.0, expected.0, "{what}");
    let [mut found, mut expected] = [found, expected].map(|(_, model)| model.clone());
    assert_identical(found.parameters(), expected.parameters(), what);
    assert_eq!(found.iterations(), expected.iterations(), "{what}");
    assert_eq!(found.learning_rate(), expected.learning_rate(), "{what}");
    let (x, labels) = data();
    for model in [&mut found, &mut expected] {
        model.train_on_batch(row_major(&x, SAMPLES), &labels).unwrap();
    }
    assert_identical(found.parameters(), expected.parameters(), &format!("{what}: one step later"));
}

/// Asserts that training interrupted after any epoch and resumed equals training without interruption.
#[track_caller]
fn assert_resumes(task: Task, name: &str) {
    let folder = Folder::new(&format!("resume-{name}"));
    let file = folder.file("checkpoint");
    for backend in backends() {
        // The resumed part runs on other threads, and on another instruction set with the same bits.
        let other = backends().into_iter().find(|other| other.isa() != backend.isa() && other.isa() != Isa::Portable);
        let other = other.filter(|_| backend.isa() != Isa::Portable).unwrap_or(backend.clone());
        let [mut whole, mut first] = [2, 1].map(|threads| task.model(&backend.with_threads(exactly(threads))));
        let history = task.fit(&mut whole, |fit| fit.epochs(EPOCHS)).unwrap();
        let whole = (history, whole);
        let initial = first.clone();
        for epochs in 1..=EPOCHS {
            first.clone_from(&initial);
            task.fit(&mut first, |fit| fit.epochs(epochs).checkpoint(&file, epochs)).unwrap();
            let mut resumed = task.model(&other.with_threads(exactly(3)));
            resumed.parameters_mut().fill(f32::NAN);
            let history = task.fit(&mut resumed, |fit| fit.epochs(EPOCHS).resume(&file)).unwrap();
            assert_same(&(history, resumed), &whole, &format!("{name}, {epochs} epochs before, on {backend:?}"));
        }
    }
}

#[test]
fn sgd_and_momentum_resume() {
    let sgd = Sgd::default().learning_rate(0.1);
    assert_resumes(Task { shuffled: false, ..Task::new(sgd) }, "plain");
    assert_resumes(Task::new(sgd.momentum(0.9).nesterov(true)), "momentum");
}

#[test]
fn adam_with_clipping_and_schedule_resumes() {
    let adam = Optimizer::from(Adam::default().learning_rate(0.02)).l2(0.01).clip(Clip::GlobalNorm(0.3));
    assert_resumes(Task::new(adam.schedule(Schedule::cosine(12).to(0.1).warm_up(4))), "schedule");
    assert_resumes(Task::new(adam.schedule(Schedule::step(2, 0.7))), "steps");
}

#[test]
fn learning_rate_of_a_callback_resumes() {
    let trainer = Trainer { factor: Some(|_| 0.7), ..Trainer::default() };
    assert_resumes(Task { trainer, ..Task::new(AdamW::default().learning_rate(0.05)) }, "callback");
}

#[test]
fn dropout_and_sample_weights_resume() {
    let adam = Adam::default().learning_rate(0.02);
    assert_resumes(Task { dropout: true, ..Task::new(adam) }, "dropout");
    assert_resumes(Task { weights: true, ..Task::new(adam) }, "weights");
}

/// Three epochs improve, then a large learning rate makes the others worse.
fn with_early_stopping(stopping: EarlyStopping) -> Task {
    let trainer = Trainer { factor: Some(|epoch| if epoch == 3 { 50.0 } else { 1.0 }), ..Trainer::default() };
    let sgd = Sgd::default().learning_rate(0.1).momentum(0.5);
    Task { trainer, validation: true, early_stopping: Some(stopping), ..Task::new(sgd) }
}

#[test]
fn early_stopping_resumes() {
    for (name, start, patience, restore_best, ended, epochs, best) in [
        ("never", 0, 9, true, Ended::Finished, 6, Some(2)),
        ("none-was-best", 9, 9, true, Ended::Finished, 6, None),
        ("stopped", 0, 2, true, Ended::EarlyStopping, 5, Some(2)),
        ("not-restored", 0, 2, false, Ended::EarlyStopping, 5, Some(2)),
    ] {
        let stopping = EarlyStopping::new(Monitor::ValidationLoss).patience(patience).start_from_epoch(start);
        let task = with_early_stopping(stopping.restore_best(restore_best));
        let mut whole = model(&Backend::new().unwrap(), task.optimizer);
        let history = task.fit(&mut whole, |fit| fit.epochs(EPOCHS)).unwrap();
        assert_eq!((history.ended(), history.epochs().len(), history.best_epoch()), (ended, epochs, best));
        // Also from a checkpoint of the last epoch.
        assert_resumes(task, name);
    }
}

/// Returns the number of epochs in a checkpoint; `None` if there is no file.
fn epochs_of(file: &Path) -> Option<usize> {
    let bytes = fs::read(file).ok()?;
    Some(SafeTensors::deserialize(&bytes).unwrap().tensor("history.loss").unwrap().shape()[0])
}

/// Records the number of epochs in the checkpoint after each epoch, and ends training.
struct Observer<'a> {
    file: &'a Path,
    seen: Vec<Option<usize>>,
    flag: &'a AtomicBool,
    end: End,
}

/// How training ends; epochs count from 0.
#[derive(Clone, Copy, PartialEq)]
enum End {
    AfterAllEpochs,
    /// The stop flag is set after a batch of this epoch.
    StoppedIn(usize),
    /// The stop flag is set after this epoch.
    StoppedAfter(usize),
    /// The callback breaks after this epoch.
    BrokenAfter(usize),
}

impl Callback for Observer<'_> {
    fn on_batch_end(&mut self, end: &densely::nn::BatchEnd) -> ControlFlow<()> {
        self.flag.fetch_or(self.end == End::StoppedIn(end.epoch), Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        self.seen.push(epochs_of(self.file));
        self.flag.fetch_or(self.end == End::StoppedAfter(end.epoch), Ordering::Relaxed);
        if self.end == End::BrokenAfter(end.epoch) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn checkpoints_are_written_every_n_epochs_and_at_the_end() {
    let folder = Folder::new("when");
    let file = folder.file("checkpoint");
    let (x, labels) = data();
    let check = |every, end, seen: &[Option<usize>], last| {
        let _ = fs::remove_file(&file);
        let flag = AtomicBool::new(false);
        let mut observer = Observer { file: &file, seen: Vec::new(), flag: &flag, end };
        let options = Fit::default().epochs(5).batch_size(15).checkpoint(&file, every).stop(&flag);
        let mut model = model(&Backend::new().unwrap(), Sgd::default());
        model.fit(row_major(&x, SAMPLES), &labels, options.callback(&mut observer)).unwrap();
        assert_eq!((&observer.seen[..], epochs_of(&file)), (seen, last), "every {every}");
    };
    check(1, End::AfterAllEpochs, &[None, Some(1), Some(2), Some(3), Some(4)], Some(5));
    check(2, End::AfterAllEpochs, &[None, None, Some(2), Some(2), Some(4)], Some(5));
    check(usize::MAX, End::AfterAllEpochs, &[None; 5], Some(5));
    check(9, End::StoppedAfter(2), &[None; 3], Some(3));
    check(9, End::BrokenAfter(2), &[None; 3], Some(3));
    check(2, End::StoppedIn(3), &[None, None, Some(2)], Some(2));
    check(9, End::StoppedIn(3), &[None; 3], None);
    assert!(folder.names().is_empty());
}

#[test]
fn same_training_writes_the_same_bytes() {
    let folder = Folder::new("same-bytes");
    let task = with_early_stopping(EarlyStopping::new(Monitor::ValidationLoss).patience(9));
    let bytes = ["first", "second"].map(|name| {
        let mut model = model(&Backend::new().unwrap(), task.optimizer);
        task.fit(&mut model, |fit| fit.epochs(2).checkpoint(folder.file(name), 1)).unwrap();
        fs::read(folder.file(name)).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(folder.names(), ["first", "second"]);
}
