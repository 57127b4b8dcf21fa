//! What ends a training before all its epochs are done.

mod nn_common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use densely::Backend;
use densely::nn::{Adam, BatchEnd, Callback, Ended, EpochEnd, Fit, Sequential};
use nn_common::{assert_bits, matrix, mlp, random, random_labels};

const SAMPLES: usize = 25;
const INPUTS: usize = 7;
const CLASSES: usize = 3;
const BATCH: usize = 10; // batches of 10, 10 and 5

fn data() -> (Vec<f32>, Vec<u8>) {
    (random(1, SAMPLES * INPUTS), random_labels(2, SAMPLES, CLASSES))
}

fn model() -> Sequential {
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
    model.compile(Adam::default().learning_rate(0.01)).unwrap();
    model
}

fn in_order<'a>(epochs: usize) -> Fit<'a> {
    Fit::default().epochs(epochs).batch_size(BATCH).no_shuffle()
}

/// The parameters after the first steps of [`in_order`].
fn by_hand(steps: usize) -> Vec<f32> {
    let (x, labels) = data();
    let mut model = model();
    for (x, labels) in x.chunks(BATCH * INPUTS).zip(labels.chunks(BATCH)).cycle().take(steps) {
        model.train_on_batch(matrix(x, labels.len()), labels).unwrap();
    }
    model.parameters().to_vec()
}

/// Sets a flag behind so many batches or epochs in all.
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
fn a_flag_can_stop_and_keeps_what_was_learnt() {
    let (x, labels) = data();
    let set = AtomicBool::new(true);
    let mut fitted = model();
    let history = fitted.fit(matrix(&x, SAMPLES), &labels, in_order(9).stop(&set)).unwrap();
    assert_eq!((history.epochs().len(), history.ended(), fitted.iterations()), (0, Ended::Stopped, Some(1)));

    // Behind a batch, behind the last one of an epoch, which is completed then, and behind an epoch.
    for (last_batch, last_epoch, steps, epochs) in
        [(Some(4), None, 4, 1), (Some(5), None, 5, 1), (Some(6), None, 6, 2), (None, Some(2), 6, 2)]
    {
        let mut fitted = model();
        let setter = Setter { last_batch, last_epoch, ..Setter::default() };
        let options = in_order(9).stop(&setter.flag).validation_data(matrix(&x, SAMPLES), &labels);
        let mut callback = &setter;
        let history = fitted.fit(matrix(&x, SAMPLES), &labels, options.callback(&mut callback)).unwrap();
        assert_bits(fitted.parameters(), &by_hand(steps), "parameters");
        assert_eq!(fitted.iterations(), Some(steps as u64));
        assert_eq!((history.epochs().len(), history.ended()), (epochs, Ended::Stopped));
        let validation = history.epochs().last().unwrap().validation.unwrap();
        assert_eq!(validation == fitted.evaluate(matrix(&x, SAMPLES), &labels).unwrap(), steps == 3 * epochs);
    }
}

#[test]
fn a_flag_that_is_not_set_stops_nothing() {
    let (x, labels) = data();
    let unset = AtomicBool::new(false);
    let [mut stoppable, mut plain] = [(); 2].map(|()| model());
    let history = stoppable.fit(matrix(&x, SAMPLES), &labels, in_order(2).stop(&unset)).unwrap();
    assert_eq!(history, plain.fit(matrix(&x, SAMPLES), &labels, in_order(2)).unwrap());
    assert_eq!(history.ended(), Ended::Finished);
    assert_bits(stoppable.parameters(), plain.parameters(), "parameters");
}
