//! Tests learning-rate schedules, and callbacks that set the learning rate.

use std::ops::ControlFlow;

use densely::nn::{Adam, AdamW, BatchEnd, Callback, Clip, EpochEnd, Fit, Optimizer, Schedule, Sequential, Sgd};
use densely::{Backend, Error, Result, reference};
use densely_testkit::{assert_identical, exact_backends, exactly, random_labels, random_values, row_major};

use crate::common::mlp;

const SAMPLES: usize = 40;
const INPUTS: usize = 30;
const CLASSES: usize = 7;
const BATCH: usize = 15; // batches of 15, 15 and 10
const BATCHES: usize = 3;
const EPOCHS: usize = 3;
const RATE: f64 = 0.05;

/// Schedules whose warm-up, decay and final value all lie within the nine steps.
fn schedules() -> [Schedule; 4] {
    let step = Schedule::step(2, 0.3);
    [step, step.to(0.2).warm_up(3), Schedule::cosine(5).to(0.1).warm_up(2), Schedule::constant().warm_up(4)]
}

fn data() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * INPUTS), random_labels(2, SAMPLES, CLASSES))
}

fn model(backend: &Backend, optimizer: Optimizer) -> Sequential {
    let mut model = mlp(backend, INPUTS, &[130, CLASSES]);
    model.compile(optimizer).unwrap();
    model
}

fn options<'a>() -> Fit<'a> {
    Fit::default().epochs(EPOCHS).batch_size(BATCH).no_shuffle()
}

fn batches<'a>(x: &'a [f32], labels: &'a [u8]) -> impl Iterator<Item = (&'a [f32], &'a [u8])> {
    x.chunks(BATCH * INPUTS).zip(labels.chunks(BATCH)).cycle().take(EPOCHS * BATCHES)
}

/// Asserts the factors at steps within 2 epsilon, since Keras rounds in another order.
#[track_caller]
fn assert_factors(schedule: Schedule, expected: &[(u64, f64)]) {
    for &(step, expected) in expected {
        let found = schedule.factor(step);
        assert!((found - expected).abs() <= 2.0 * f64::EPSILON, "step {step}: {found}, expected {expected}");
    }
}

#[test]
fn schedules_have_documented_factors() {
    let exactly = |schedule: Schedule, expected: &[(u64, f64)]| {
        for &(step, expected) in expected {
            assert_eq!(schedule.factor(step), expected, "step {step} of {schedule:?}");
        }
    };
    exactly(Schedule::constant(), &[(0, 1.0), (u64::MAX, 1.0)]);
    exactly(Schedule::constant().to(0.3), &[(0, 1.0), (u64::MAX, 1.0)]);
    exactly(Schedule::constant().warm_up(4), &[(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (5, 1.0), (u64::MAX, 1.0)]);
    let halves = [(0, 1.0), (2, 1.0), (3, 0.5), (5, 0.5), (6, 0.25), (9, 0.125), (15, 1.0 / 32.0), (u64::MAX, 0.0)];
    exactly(Schedule::step(3, 0.5), &halves);
    exactly(Schedule::step(1, 1.0), &[(0, 1.0), (u64::MAX, 1.0)]);
    exactly(Schedule::step(2, 0.0), &[(0, 1.0), (1, 1.0), (2, 0.0), (u64::MAX, 0.0)]);
    exactly(Schedule::step(3, 0.5).to(0.5), &[(0, 1.0), (3, 0.75), (6, 0.625), (u64::MAX, 0.5)]);
    exactly(Schedule::step(3, 0.5).warm_up(2), &[(0, 0.0), (1, 0.5), (2, 1.0), (4, 1.0), (5, 0.5)]);
    exactly(Schedule::cosine(8), &[(0, 1.0), (8, 0.0), (9, 0.0), (u64::MAX, 0.0)]);
    exactly(Schedule::cosine(8).to(0.25), &[(0, 1.0), (8, 0.25), (u64::MAX, 0.25)]);
    exactly(Schedule::cosine(1).warm_up(2), &[(0, 0.0), (1, 0.5), (2, 1.0), (3, 0.0)]);
    exactly(Schedule::cosine(u64::MAX), &[(0, 1.0), (u64::MAX, 0.0)]);
    assert_factors(Schedule::cosine(8), &[(2, 0.5 + 0.125f64.sqrt()), (4, 0.5), (6, 0.5 - 0.125f64.sqrt())]);
}

/// Expects the factors of Keras 3.15.1 on TensorFlow in f64, with `f = numpy.float64`.
#[test]
fn schedules_match_keras() {
    // CosineDecay(f(1), 100, alpha=f(0.1))
    let expected = [
        (0, 1.0),
        (1, 0.9997779521645792),
        (33, 0.779068637087667),
        (50, 0.55),
        (99, 0.10022204783542078),
        (100, 0.1),
        (1000, 0.1),
    ];
    assert_factors(Schedule::cosine(100).to(0.1), &expected);
    // CosineDecay(f(0), 30, warmup_target=f(1), warmup_steps=7)
    let expected = [
        (0, 0.0),
        (1, 0.14285714285714285),
        (6, 0.8571428571428571),
        (7, 1.0),
        (8, 0.9972609476841366),
        (22, 0.5),
        (36, 0.002739052315863355),
        (37, 0.0),
        (38, 0.0),
    ];
    assert_factors(Schedule::cosine(30).warm_up(7), &expected);
    // ExponentialDecay(f(1), 5, f(0.3), staircase=True)
    let expected =
        [(4, 1.0), (5, 0.3), (9, 0.3), (10, 0.09), (34, 0.0007289999999999998), (35, 0.00021869999999999995)];
    assert_factors(Schedule::step(5, 0.3), &expected);
}

/// At these steps the cosines of glibc have other bits.
#[test]
fn cosines_are_the_same_on_every_machine() {
    let bits =
        [(11, 14), (6, 19), (16, 21), (7, 23)].map(|(step, steps)| Schedule::cosine(steps).factor(step).to_bits());
    let expected: [u64; 4] =
        [0x3fbb_ecf2_2be8_86d8, 0x3fe8_c04c_b63b_e465, 0x3fc1_15ad_9a0e_093c, 0x3fe9_3a15_253b_ae7d];
    assert_eq!(bits, expected);
}

/// Update rules with [`RATE`].
fn rules() -> [Optimizer; 4] {
    let (sgd, adam) = (Sgd::default().learning_rate(RATE), Adam::default().learning_rate(RATE));
    [sgd.into(), sgd.momentum(0.9).nesterov(true).into(), adam.into(), AdamW::default().learning_rate(RATE).into()]
}

#[test]
fn scheduled_fit_equals_rates_set_by_hand() {
    let (x, labels) = data();
    let backend = Backend::new().unwrap();
    for rule in rules() {
        for schedule in schedules() {
            let mut fitted = model(&backend, rule.schedule(schedule));
            let mut by_hand = model(&backend, rule);
            fitted.fit(row_major(&x, SAMPLES), &labels, options()).unwrap();
            for (step, (x, labels)) in batches(&x, &labels).enumerate() {
                by_hand.set_learning_rate(RATE * schedule.factor(step as u64)).unwrap();
                by_hand.train_on_batch(row_major(x, labels.len()), labels).unwrap();
            }
            assert_identical(fitted.parameters(), by_hand.parameters(), &format!("{rule:?}, {schedule:?}"));
        }
    }
}

#[test]
fn scheduled_fit_matches_reference() {
    let (x, labels) = data();
    for schedule in schedules() {
        for rule in rules() {
            for clip in [None, Some(Clip::GlobalNorm(0.5))] {
                let optimizer = rule.schedule(schedule);
                let optimizer = clip.map_or(optimizer, |clip| optimizer.clip(clip));
                for backend in exact_backends() {
                    let mut gives_gradients = model(&backend, optimizer);
                    let mut expected = gives_gradients.parameters().to_vec();
                    let [mut dw, mut m, mut v] = [0.0; 3].map(|zero| vec![zero; expected.len()]);
                    for (t, (x, labels)) in (1..).zip(batches(&x, &labels)) {
                        gives_gradients.parameters_mut().copy_from_slice(&expected);
                        gives_gradients.gradients(row_major(x, labels.len()), labels, &mut dw).unwrap();
                        clip.iter().for_each(|&clip| reference::clip(clip, &mut dw).unwrap());
                        reference::update(optimizer, t, &mut expected, &dw, &mut m, &mut v).unwrap();
                    }
                    for threads in [1, 2, 3, 5] {
                        let backend = backend.with_threads(exactly(threads));
                        let mut fitted = model(&backend, optimizer);
                        fitted.fit(row_major(&x, SAMPLES), &labels, options()).unwrap();
                        assert_identical(fitted.parameters(), &expected, &format!("{optimizer:?}, {backend:?}"));
                    }
                }
            }
        }
    }
}

/// Records the learning rates that it is called with, and returns the given ones.
#[derive(Default)]
struct Rates {
    /// The rate of each epoch; none where it is missing.
    given: Vec<f64>,
    /// The epochs and rates that `learning_rate` was called with.
    called: Vec<(usize, f64)>,
    batches: Vec<f64>,
    epochs: Vec<f64>,
}

impl Callback for Rates {
    fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
        self.called.push((epoch, rate));
        self.given.get(epoch).copied().unwrap_or(rate)
    }

    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        self.batches.push(end.learning_rate);
        ControlFlow::Continue(())
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        self.epochs.push(end.learning_rate);
        ControlFlow::Continue(())
    }
}

fn fit(model: &mut Sequential, rates: &mut Rates) -> Result<()> {
    let (x, labels) = data();
    model.fit(row_major(&x, SAMPLES), &labels, options().callback(rates)).map(drop)
}

#[test]
fn callbacks_report_the_learning_rates() {
    let schedule = Schedule::step(1, 0.5);
    let optimizer = Optimizer::from(Sgd::default().learning_rate(1.0)).schedule(schedule);
    let mut model = model(&Backend::new().unwrap(), optimizer);
    for first in [0, 9] {
        let mut rates = Rates::default();
        fit(&mut model, &mut rates).unwrap();
        let expected: Vec<f64> = (first..first + 9).map(|step| schedule.factor(step)).collect();
        assert_eq!(rates.batches, expected);
        assert_eq!(rates.epochs, [expected[2], expected[5], expected[8]]);
        assert_eq!(rates.called, [(0, 1.0), (1, 1.0), (2, 1.0)], "the rate before the schedule");
    }
    assert_eq!(model.learning_rate(), Some(1.0));
}

#[test]
fn callback_changes_the_learning_rate() {
    let backend = Backend::new().unwrap();
    let (x, labels) = data();
    let optimizer = Optimizer::from(Adam::default().learning_rate(0.5)).schedule(Schedule::constant().warm_up(4));
    let [mut fitted, mut by_hand] = [(); 2].map(|()| model(&backend, optimizer));
    let mut rates = Rates { given: vec![0.25, 0.75], ..Rates::default() };
    fit(&mut fitted, &mut rates).unwrap();
    assert_eq!(rates.called, [(0, 0.5), (1, 0.25), (2, 0.75)]);
    assert_eq!(rates.batches, [0.0, 0.0625, 0.125, 0.5625, 0.75, 0.75, 0.75, 0.75, 0.75]);
    assert_eq!(fitted.learning_rate(), Some(0.75));
    for (step, (x, labels)) in batches(&x, &labels).enumerate() {
        by_hand.set_learning_rate([0.25, 0.75, 0.75][step / BATCHES]).unwrap();
        by_hand.train_on_batch(row_major(x, labels.len()), labels).unwrap();
    }
    assert_identical(fitted.parameters(), by_hand.parameters(), "parameters");
}

#[test]
fn invalid_rate_of_a_callback_ends_fit() {
    for bad in [f64::NAN, f64::INFINITY, -0.1, 1e39] {
        let backend = Backend::new().unwrap();
        let [mut fitted, mut expected] = [(); 2].map(|()| model(&backend, Sgd::default().into()));
        let error = fit(&mut fitted, &mut Rates { given: vec![0.25, bad], ..Rates::default() }).unwrap_err();
        assert!(matches!(error, Error::Value { argument: "learning_rate", .. }), "{error}");
        assert_eq!(fitted.learning_rate(), Some(0.25), "{bad}");
        let (x, labels) = data();
        expected.set_learning_rate(0.25).unwrap();
        expected.fit(row_major(&x, SAMPLES), &labels, options().epochs(1)).unwrap();
        assert_identical(fitted.parameters(), expected.parameters(), "parameters after the first epoch");
    }
}
