//! Ends training before its last epoch: stop flags and early stopping.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use densely::nn::{BatchEnd, Callback, EarlyStopping, Ended, EpochEnd, Fit, History, Monitor, Sequential, Sgd};
use densely::{Backend, Error};
use densely_testkit::{assert_identical, row_major};

use crate::common::mlp;
use crate::small::{BATCH, CLASSES, INPUTS, SAMPLES, data, in_order, model};

/// Returns the parameters after the first steps of [`in_order`].
fn by_hand(steps: usize) -> Vec<f32> {
    let (x, labels) = data();
    let mut model = model();
    for (x, labels) in x.chunks(BATCH * INPUTS).zip(labels.chunks(BATCH)).cycle().take(steps) {
        model.train_on_batch(row_major(x, labels.len()), labels).unwrap();
    }
    model.parameters().to_vec()
}

/// Sets a stop flag after the given number of batches or epochs.
#[derive(Default)]
struct Setter {
    flag: AtomicBool,
    last_batch: Option<usize>,
    last_epoch: Option<usize>,
}

impl Callback for &Setter {
    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        if self.last_batch == Some(end.epoch * 3 + end.batch + 1) {
            self.flag.store(true, Ordering::Relaxed);
        }
        ControlFlow::Continue(())
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        if self.last_epoch == Some(end.epoch + 1) {
            self.flag.store(true, Ordering::Relaxed);
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn stop_flag_ends_training_and_keeps_the_parameters() {
    let (x, labels) = data();
    let set = AtomicBool::new(true);
    let mut fitted = model();
    let history = fitted.fit(row_major(&x, SAMPLES), &labels, in_order(9).stop(&set)).unwrap();
    assert_eq!((history.epochs().len(), history.ended(), fitted.iterations()), (0, Ended::Stopped, Some(1)));

    // After a batch; after the last batch of an epoch, which is completed then; after an epoch.
    for (last_batch, last_epoch, steps, epochs) in
        [(Some(4), None, 4, 1), (Some(5), None, 5, 1), (Some(6), None, 6, 2), (None, Some(2), 6, 2)]
    {
        let mut fitted = model();
        let setter = Setter { last_batch, last_epoch, ..Setter::default() };
        let options = in_order(9).stop(&setter.flag).validation_data(row_major(&x, SAMPLES), &labels);
        let mut callback = &setter;
        let history = fitted.fit(row_major(&x, SAMPLES), &labels, options.callback(&mut callback)).unwrap();
        assert_identical(fitted.parameters(), &by_hand(steps), "parameters");
        assert_eq!(fitted.iterations(), Some(steps as u64));
        assert_eq!((history.epochs().len(), history.ended()), (epochs, Ended::Stopped));
        let validation = history.epochs().last().unwrap().validation.unwrap();
        assert_eq!(validation == fitted.evaluate(row_major(&x, SAMPLES), &labels).unwrap(), steps == 3 * epochs);
    }
}

#[test]
fn unset_stop_flag_changes_nothing() {
    let (x, labels) = data();
    let unset = AtomicBool::new(false);
    let [mut stoppable, mut plain] = [(); 2].map(|()| model());
    let history = stoppable.fit(row_major(&x, SAMPLES), &labels, in_order(2).stop(&unset)).unwrap();
    assert_eq!(history, plain.fit(row_major(&x, SAMPLES), &labels, in_order(2)).unwrap());
    assert_eq!(history.ended(), Ended::Finished);
    assert_identical(stoppable.parameters(), plain.parameters(), "parameters");
}

/// Returns [`RATES`], and stops training after the given number of batches or epochs.
#[derive(Default)]
struct Script {
    last_batch: Option<usize>,
    last_epoch: Option<usize>,
}

/// With these learning rates three epochs improve the validation loss; the fourth makes it worse, the fifth
/// keeps it, and so on.
const RATES: [f64; 8] = [0.1, 0.1, 0.1, 5.0, 0.0, 5.0, 0.0, 0.0];
const BEST: usize = 2;

impl Callback for Script {
    fn learning_rate(&mut self, epoch: usize, _: f64) -> f64 {
        RATES[epoch]
    }

    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        let last = self.last_batch == Some(end.epoch * 3 + end.batch + 1);
        if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        let last = self.last_epoch == Some(end.epoch + 1);
        if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Trains with a [`Script`]; returns the model, too.
fn scripted(mut script: Script, epochs: usize, stopping: Option<EarlyStopping>) -> (History, Sequential) {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
    model.compile(Sgd::default().momentum(0.5)).unwrap();
    let mut options = in_order(epochs).validation_data(x, &labels).callback(&mut script);
    if let Some(stopping) = stopping {
        options = options.early_stopping(stopping);
    }
    let history = model.fit(x, &labels, options).unwrap();
    (history, model)
}

/// Returns the parameters after the first epochs of the script.
fn after(epochs: usize) -> Vec<f32> {
    scripted(Script::default(), epochs, None).1.parameters().to_vec()
}

fn stopping() -> EarlyStopping {
    EarlyStopping::new(Monitor::ValidationLoss)
}

#[test]
fn scripted_training_has_one_best_epoch() {
    let (history, _) = scripted(Script::default(), RATES.len(), None);
    let losses: Vec<f32> = history.epochs().iter().map(|end| end.validation.unwrap().loss).collect();
    assert!(losses[0] > losses[1] && losses[1] > losses[BEST], "{losses:?}");
    assert!(losses[BEST + 1..].iter().all(|&loss| loss > losses[0]), "{losses:?}");
    assert_eq!(history.best_epoch(), None);
}

#[test]
fn early_stopping_restores_the_best_epoch() {
    for patience in 1..=4 {
        let (history, model) = scripted(Script::default(), RATES.len(), Some(stopping().patience(patience)));
        let epochs = BEST + 1 + patience;
        assert_eq!((history.epochs().len(), history.ended()), (epochs, Ended::EarlyStopping));
        assert_eq!(history.best_epoch(), Some(BEST));
        assert_identical(model.parameters(), &after(BEST + 1), "parameters");
        assert_eq!(model.iterations(), Some(3 * epochs as u64), "the optimizer keeps the state of the last step");
        assert_eq!(model.learning_rate(), Some(RATES[epochs - 1]));
    }
}

#[test]
fn restore_best_false_keeps_the_last_parameters() {
    let stopping = stopping().patience(2).restore_best(false);
    let (history, model) = scripted(Script::default(), RATES.len(), Some(stopping));
    assert_eq!((history.epochs().len(), history.ended()), (BEST + 3, Ended::EarlyStopping));
    assert_eq!(history.best_epoch(), Some(BEST));
    assert_identical(model.parameters(), &after(BEST + 3), "parameters");
}

#[test]
fn best_epoch_is_restored_however_training_ends() {
    let in_epoch = Script { last_batch: Some(3 * 4 + 2), ..Script::default() };
    let at_end = Script { last_epoch: Some(5), ..Script::default() };
    for (script, epochs, ended, finished) in
        [(Script::default(), 5, Ended::Finished, 5), (in_epoch, 8, Ended::Callback, 4), (at_end, 8, Ended::Callback, 5)]
    {
        let (history, model) = scripted(script, epochs, Some(stopping().patience(9)));
        assert_eq!((history.epochs().len(), history.ended()), (finished, ended));
        assert_eq!(history.best_epoch(), Some(BEST));
        assert_identical(model.parameters(), &after(BEST + 1), "parameters");
    }
}

#[test]
fn best_epoch_is_restored_after_an_error() {
    struct WithoutRate(Script);
    impl Callback for WithoutRate {
        fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
            if epoch == 5 { f64::NAN } else { self.0.learning_rate(epoch, rate) }
        }
    }
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let fit = |callback: &mut dyn Callback, options: fn(Fit<'_>) -> Fit<'_>| {
        let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
        model.compile(Sgd::default().momentum(0.5)).unwrap();
        let fit = in_order(8).validation_data(x, &labels).early_stopping(stopping().patience(9));
        let error = model.fit(x, &labels, options(fit.callback(callback))).unwrap_err();
        (model, error)
    };
    let no_rate = fit(&mut WithoutRate(Script::default()), |fit| fit);
    assert!(matches!(no_rate.1, Error::Value { argument: "learning_rate", .. }), "{:?}", no_rate.1);
    let no_file = fit(&mut Script::default(), |fit| fit.checkpoint("/nowhere/checkpoint", 5));
    assert!(matches!(no_file.1, Error::File { .. }), "{:?}", no_file.1);
    for (model, _) in [no_rate, no_file] {
        assert_eq!(model.iterations(), Some(3 * 5));
        assert_identical(model.parameters(), &after(BEST + 1), "parameters");
    }
}

#[test]
fn last_parameters_stay_without_a_best_epoch() {
    let (history, model) = scripted(Script::default(), 5, Some(stopping().start_from_epoch(5)));
    assert_eq!((history.best_epoch(), history.ended()), (None, Ended::Finished));
    assert_identical(model.parameters(), &after(5), "parameters");
}

#[test]
fn early_stopping_takes_precedence_over_other_ends() {
    let script = Script { last_epoch: Some(BEST + 2), ..Script::default() };
    let (history, _) = scripted(script, BEST + 2, Some(stopping()));
    assert_eq!((history.epochs().len(), history.ended()), (BEST + 2, Ended::EarlyStopping));
}
