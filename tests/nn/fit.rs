//! Tests what `fit`, `train_on_batch`, `evaluate` and `predict` do with samples, labels, callbacks and the
//! optimizer.

use std::ops::ControlFlow;

use densely::nn::{
    Activation, Adam, BatchEnd, Callback, Dense, EarlyStopping, Ended, EpochEnd, Fit, Initializer, Metrics, Monitor,
    Sequential, Sgd,
};
use densely::{Backend, MatMut, MatRef};
use densely_testkit::{
    Layout, Matrix, Strides, assert_identical, backends, exactly, random_labels, random_values, row_major,
};

use crate::common::mlp;
use crate::small::{BATCH, CLASSES, INPUTS, SAMPLES, data, in_order, model};

/// Takes the first steps of [`in_order`] one by one; returns their metrics and batch sizes.
fn train_by_hand(model: &mut Sequential, steps: usize) -> Vec<(Metrics, usize)> {
    let (x, labels) = data();
    let batches = x.chunks(BATCH * INPUTS).zip(labels.chunks(BATCH)).cycle().take(steps);
    let step = |(x, labels): (&[f32], &[u8])| {
        (model.train_on_batch(row_major(x, labels.len()), labels).unwrap(), labels.len())
    };
    batches.map(step).collect()
}

/// Builds a model whose first layer is trained in column shards on two threads.
fn model_with_shards() -> Sequential {
    let mut model = mlp(&Backend::new().unwrap().with_threads(exactly(2)), INPUTS, &[32, CLASSES]);
    model.compile(Adam::default()).unwrap();
    model
}

/// Records what it is called with, and stops after the given number of batches or epochs.
#[derive(Default)]
struct Recorder {
    batches: Vec<BatchEnd>,
    epochs: Vec<EpochEnd>,
    last_batch: Option<usize>,
    last_epoch: Option<usize>,
}

fn stop_if(stop: bool) -> ControlFlow<()> {
    if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

impl Callback for Recorder {
    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        self.batches.push(*end);
        stop_if(self.last_batch == Some(self.batches.len()))
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        self.epochs.push(*end);
        stop_if(self.last_epoch == Some(self.epochs.len()))
    }
}

#[test]
fn unshuffled_epochs_are_steps_on_consecutive_batches() {
    let (x, labels) = data();
    let (mut fitted, mut by_hand) = (model(), model());
    fitted.fit(row_major(&x, SAMPLES), &labels, in_order(3)).unwrap();
    train_by_hand(&mut by_hand, 9);
    assert_identical(fitted.parameters(), by_hand.parameters(), "parameters");
}

#[test]
fn callbacks_and_history_report_every_batch_and_epoch() {
    let (x, labels) = data();
    let mut recorder = Recorder::default();
    let mut fitted = model();
    let history = fitted.fit(row_major(&x, SAMPLES), &labels, in_order(2).callback(&mut recorder)).unwrap();
    assert_eq!(history.epochs(), recorder.epochs);
    assert_eq!(history.epochs().len(), 2);

    let steps = train_by_hand(&mut model(), 6);
    assert_eq!(recorder.batches.len(), 6);
    for (epoch, (ends, steps)) in recorder.batches.chunks(3).zip(steps.chunks(3)).enumerate() {
        let (mut samples, mut loss, mut hits) = (0, 0.0, 0.0);
        for (batch, (end, (metrics, size))) in ends.iter().zip(steps).enumerate() {
            samples += size;
            loss += f64::from(metrics.loss) * *size as f64;
            hits += (f64::from(metrics.accuracy) * *size as f64).round();
            assert_eq!((end.epoch, end.batch, end.batches, end.samples), (epoch, batch, 3, samples));
            assert_eq!(end.loss, (loss / samples as f64) as f32);
            assert_eq!(end.accuracy, (hits / samples as f64) as f32);
        }
        let (end, last) = (history.epochs()[epoch], ends[2]);
        assert_eq!((end.epoch, end.loss, end.accuracy, end.validation), (epoch, last.loss, last.accuracy, None));
    }
}

#[test]
fn callback_can_stop_training_and_keeps_the_parameters() {
    let (x, labels) = data();
    // Stopped after the first batch of the second epoch, and after that epoch.
    let stops = [
        (Recorder { last_batch: Some(4), ..Recorder::default() }, 4, 1),
        (Recorder { last_epoch: Some(2), ..Recorder::default() }, 6, 2),
    ];
    for (mut recorder, steps, epochs) in stops {
        let (mut fitted, mut by_hand) = (model(), model());
        let history = fitted.fit(row_major(&x, SAMPLES), &labels, in_order(9).callback(&mut recorder)).unwrap();
        train_by_hand(&mut by_hand, steps);
        assert_identical(fitted.parameters(), by_hand.parameters(), "parameters");
        assert_eq!((recorder.batches.len(), history.epochs().len()), (steps, epochs));
        assert_eq!(history.ended(), Ended::Callback);
    }
}

/// Returns the order in which `fit` takes the samples 0..count in each epoch.
///
/// The learning rate is 0, and the loss of sample i, alone in its batch, is ln(1 + exp(i)), which tells i.
fn orders(count: usize, epochs: usize, fit: impl Fn(Fit<'_>) -> Fit<'_>) -> Vec<Vec<usize>> {
    let builder = Sequential::builder(1).layer(Dense::new(2, Activation::Linear).use_bias(false));
    let mut model = builder.build().unwrap();
    model.parameters_mut().copy_from_slice(&[1.0, 0.0]);
    model.compile(Sgd::default().learning_rate(0.0)).unwrap();
    let x: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let mut recorder = Recorder::default();
    let options = fit(Fit::default().epochs(epochs).batch_size(1)).callback(&mut recorder);
    model.fit(row_major(&x, count), &vec![1u8; count], options).unwrap();
    let epoch = |ends: &[BatchEnd]| {
        let totals: Vec<f32> = ends.iter().map(|end| end.loss * end.samples as f32).collect();
        let losses = totals.iter().enumerate().map(|(i, total)| if i == 0 { *total } else { total - totals[i - 1] });
        losses.map(|loss| loss.exp_m1().ln().round() as usize).collect()
    };
    recorder.batches.chunks(count).map(epoch).collect()
}

#[test]
fn each_epoch_and_seed_shuffles_differently() {
    let shuffled = orders(12, 3, |fit| fit.shuffle(1));
    for order in &shuffled {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, Vec::from_iter(0..12), "every sample once");
    }
    assert_ne!(shuffled[0], shuffled[1]);
    assert_ne!(shuffled[1], shuffled[2]);
    assert_eq!(shuffled, orders(12, 3, |fit| fit.shuffle(1)));
    assert_ne!(shuffled, orders(12, 3, |fit| fit.shuffle(2)));
    assert_eq!(orders(12, 2, |fit| fit), orders(12, 2, |fit| fit.shuffle(0)), "shuffled unless told otherwise");
    assert_eq!(orders(12, 2, |fit| fit.no_shuffle()), vec![Vec::from_iter(0..12); 2]);
}

#[test]
fn seeds_mean_the_same_on_every_machine() {
    let expected = [[9, 2, 10, 8, 6, 3, 4, 11, 0, 5, 7, 1], [4, 0, 6, 11, 7, 9, 2, 3, 8, 10, 5, 1]];
    assert_eq!(orders(12, 2, |fit| fit.shuffle(1)), expected);
    let model = Sequential::builder(5).layer(Dense::new(1, Activation::Softmax)).seed(1).build().unwrap();
    let expected = [0.09875643, -0.19502878, 0.9691942, -0.8392327, -0.57791066, 0.0];
    assert_identical(model.parameters(), &expected, "Glorot's weights and a bias");
}

#[test]
fn validation_split_holds_out_the_last_samples() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let train = 17; // floor(25 * 0.7)
    let [first, last] = [0..train, train..SAMPLES].map(|rows| x.row_range(rows).unwrap());
    let options = || Fit::default().epochs(3).batch_size(BATCH).shuffle(4);
    let (mut split, mut apart) = (model(), model());
    let history = split.fit(x, &labels, options().validation_split(0.3)).unwrap();
    let expected = apart.fit(first, &labels[..train], options().validation_data(last, &labels[train..])).unwrap();
    assert_identical(split.parameters(), apart.parameters(), "parameters");
    assert_eq!(history, expected);
    let validation = history.epochs()[2].validation.unwrap();
    assert_eq!(validation, split.evaluate(last, &labels[train..]).unwrap());
}

#[test]
fn batch_size_beyond_the_data_takes_all_samples() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let (mut fitted, mut by_hand) = (model(), model());
    fitted.fit(x, &labels, Fit::default().batch_size(usize::MAX).no_shuffle()).unwrap();
    by_hand.train_on_batch(x, &labels).unwrap();
    assert_identical(fitted.parameters(), by_hand.parameters(), "parameters");
}

#[test]
fn batch_sizes_leave_no_state_behind() {
    let (x, labels) = data();
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
    model.compile(Sgd::default()).unwrap();
    for size in [5, 25, 1, 10, 25] {
        let mut fresh = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
        fresh.parameters_mut().copy_from_slice(model.parameters());
        fresh.compile(Sgd::default()).unwrap();
        for model in [&mut model, &mut fresh] {
            model.train_on_batch(row_major(&x[..size * INPUTS], size), &labels[..size]).unwrap();
        }
        assert_identical(model.parameters(), fresh.parameters(), "parameters");
    }
}

#[test]
fn written_parameters_are_trained_on() {
    let (x, labels) = data();
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[11, CLASSES]);
    model.compile(Sgd::default()).unwrap();
    let initial = model.parameters().to_vec();
    let mut fit = || {
        model.parameters_mut().copy_from_slice(&initial);
        model.fit(row_major(&x, SAMPLES), &labels, in_order(2)).unwrap();
        model.parameters().to_vec()
    };
    assert_identical(&fit(), &fit(), "parameters");
}

#[test]
fn zero_epochs_change_nothing() {
    let (x, labels) = data();
    let mut fitted = model();
    let history = fitted.fit(row_major(&x, SAMPLES), &labels, in_order(0)).unwrap();
    assert!(history.epochs().is_empty());
    assert_eq!(history.ended(), Ended::Finished);
    assert_identical(fitted.parameters(), model().parameters(), "parameters");
}

#[test]
fn second_fit_continues_the_optimizer_state() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let [mut once, mut twice, mut recompiled] = [model(), model(), model()];
    once.fit(x, &labels, in_order(2)).unwrap();
    twice.fit(x, &labels, in_order(1)).unwrap();
    twice.fit(x, &labels, in_order(1)).unwrap();
    recompiled.fit(x, &labels, in_order(1)).unwrap();
    recompiled.compile(Adam::default().learning_rate(0.01)).unwrap();
    recompiled.fit(x, &labels, in_order(1)).unwrap();
    assert_identical(twice.parameters(), once.parameters(), "parameters");
    assert_ne!(recompiled.parameters(), once.parameters());
}

/// A clone has no buffers of earlier calls.
#[test]
fn cached_buffers_change_no_result() {
    let (values, labels) = data();
    let x = row_major(&values, SAMPLES);
    let weights: Vec<f32> = random_values(3, SAMPLES).iter().map(|weight| weight.abs()).collect();
    let mut reused = model_with_shards();
    let mut fresh = reused.clone();
    let batches = |size| Fit::default().batch_size(size);
    let calls: [&dyn Fn(&mut Sequential); 8] = [
        &|model| drop(model.fit(x, &labels, batches(10)).unwrap()),
        &|model| drop(model.fit(x, &labels, batches(10).sample_weights(&weights)).unwrap()),
        &|model| {
            assert!(model.train_on_batch(row_major(&values[..8 * INPUTS], 8), &labels[..8]).unwrap().loss.is_finite())
        },
        &|model| assert!(model.train_on_batch(x, &labels).unwrap().loss.is_finite()),
        &|model| drop(model.fit(x, &labels, batches(4).no_shuffle()).unwrap()),
        &|model| drop(model.fit(x, &labels, batches(25)).unwrap()),
        &|model| drop(model.fit(row_major(&random_values(4, 9 * INPUTS), 9), &labels[..9], batches(10)).unwrap()),
        &|model| drop(model.fit(x, &labels, batches(10)).unwrap()),
    ];
    for (number, call) in calls.iter().enumerate() {
        call(&mut reused);
        fresh = fresh.clone();
        call(&mut fresh);
        assert_identical(reused.parameters(), fresh.parameters(), &format!("parameters after call {number}"));
    }
}

#[test]
fn iterations_count_steps_of_any_kind_since_compile() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    assert_eq!(mlp(&Backend::new().unwrap(), INPUTS, &[CLASSES]).iterations(), None);
    let mut model = model();
    assert_eq!(model.iterations(), Some(0));
    model.fit(x, &labels, in_order(2)).unwrap();
    assert_eq!(model.iterations(), Some(6));
    model.train_on_batch(x, &labels).unwrap();
    model.step(&vec![0.0; model.count_params()]).unwrap();
    assert_eq!(model.iterations(), Some(8));
    model.evaluate(x, &labels).unwrap();
    assert_eq!(model.iterations(), Some(8));
    model.compile(Sgd::default()).unwrap();
    assert_eq!(model.iterations(), Some(0));
    model.train_on_batch(x, &labels).unwrap();
    assert_eq!(model.iterations(), Some(1));
}

#[test]
fn set_learning_rate_keeps_the_moments() {
    let [mut changed, mut back, mut plain] = [model(), model(), model()];
    for model in [&mut changed, &mut back, &mut plain] {
        train_by_hand(model, 3);
    }
    changed.set_learning_rate(0.02).unwrap();
    assert_eq!(changed.learning_rate(), Some(0.02));
    back.set_learning_rate(0.02).unwrap();
    back.set_learning_rate(0.01).unwrap();
    let before = plain.parameters().to_vec();
    for model in [&mut changed, &mut back, &mut plain] {
        train_by_hand(model, 1);
    }
    assert_identical(back.parameters(), plain.parameters(), "parameters");
    // Adam's step is the learning rate times a function of the moments.
    for ((before, plain), changed) in before.iter().zip(plain.parameters()).zip(changed.parameters()) {
        assert!((2.0 * (plain - before) - (changed - before)).abs() < 1e-6);
    }
}

#[test]
fn separable_problem_is_learned() {
    let labels = random_labels::<u8>(3, 90, 3);
    let noise = random_values(4, 90 * 3);
    let corner = |(i, noise): (usize, &f32)| f32::from(usize::from(labels[i / 3]) == i % 3) + 0.4 * noise;
    let x: Vec<f32> = noise.iter().enumerate().map(corner).collect();
    let x = row_major(&x, 90);
    let mut model = mlp(&Backend::new().unwrap(), 3, &[8, 3]);
    model.compile(Adam::default().learning_rate(0.05)).unwrap();
    let history = model.fit(x, &labels, Fit::default().epochs(30)).unwrap();
    assert_eq!(history.epochs()[29].accuracy, 1.0);
    assert!(history.epochs()[29].loss < 0.1 * history.epochs()[0].loss);
    assert_eq!(model.evaluate(x, &labels).unwrap().accuracy, 1.0);
    let classes: Vec<usize> = labels.iter().map(|&label| label.into()).collect();
    assert_eq!(model.predict_classes(x).unwrap(), classes);
}

#[test]
fn non_finite_samples_give_a_nan_loss() {
    let (mut x, labels) = data();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        x[12] = value;
        let mut model = model();
        let history = model.fit(row_major(&x, SAMPLES), &labels, in_order(2)).unwrap();
        assert!(history.epochs()[1].loss.is_nan(), "{value}: {history:?}");
        assert_eq!(model.predict_classes(row_major(&x, SAMPLES)).unwrap().len(), SAMPLES);
    }
}

#[test]
fn nan_outputs_count_as_wrong_predictions() {
    let (x, _) = data();
    let mut model = model();
    model.parameters_mut().fill(f32::NAN);
    assert_eq!(model.evaluate(row_major(&x, SAMPLES), &[0u8; SAMPLES]).unwrap().accuracy, 0.0);
    assert_eq!(model.predict_classes(row_major(&x, SAMPLES)).unwrap(), [0; SAMPLES]);
}

#[test]
fn ties_go_to_the_first_class() {
    let (x, _) = data();
    let mut model = model();
    model.parameters_mut().fill(0.0);
    assert_eq!(model.evaluate(row_major(&x, SAMPLES), &[0u8; SAMPLES]).unwrap().accuracy, 1.0);
    assert_eq!(model.predict_classes(row_major(&x, SAMPLES)).unwrap(), [0; SAMPLES]);
}

#[test]
fn initializers_fill_kernels_and_biases_start_at_zero() {
    for (initializer, bound) in [
        (Initializer::GlorotUniform, (6.0f32 / (300.0 + 200.0)).sqrt()),
        (Initializer::HeUniform, (6.0f32 / 300.0).sqrt()),
        (Initializer::Zeros, 0.0),
    ] {
        let dense = Dense::new(200, Activation::Relu).kernel_initializer(initializer);
        let model = Sequential::builder(300).layer(dense).build().unwrap();
        let (kernel, bias) = model.layer("dense").unwrap();
        let largest = kernel.to_vec().iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
        assert!((0.999 * bound..=bound).contains(&largest), "{initializer:?}: {largest} of {bound}");
        assert!(bias.unwrap().iter().all(|&weight| weight == 0.0), "{initializer:?}");
    }
}

#[test]
fn fit_options_debug_shows_what_was_set() {
    let text = format!("{:?}", Fit::default().epochs(7).batch_size(321).no_shuffle().validation_split(0.25));
    for part in ["epochs: Some(7)", "321", "0.25"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn labels_of_every_type_give_the_same_bits() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let wide: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let native: Vec<usize> = labels.iter().map(|&label| label.into()).collect();
    let [mut bytes, mut wides, mut natives] = [model(), model(), model()];
    let history = bytes.fit(x, &labels, in_order(2)).unwrap();
    assert_eq!(wides.fit(x, &wide, in_order(2)).unwrap(), history);
    assert_eq!(natives.fit(x, &native, in_order(2)).unwrap(), history);
    assert_identical(wides.parameters(), bytes.parameters(), "u32");
    assert_identical(natives.parameters(), bytes.parameters(), "usize");
}

/// Returns every result that a model gives for these samples.
fn everything(x: MatRef<'_>, labels: &[u8]) -> Vec<f32> {
    let mut model = model();
    let mut all = model.predict(x).unwrap();
    let mut gradients = vec![0.0; model.count_params()];
    all.push(model.gradients(x, labels, &mut gradients).unwrap());
    all.append(&mut gradients);
    let Metrics { loss, accuracy, .. } = model.evaluate(x, labels).unwrap();
    all.extend([loss, accuracy]);
    all.push(model.train_on_batch(x, labels).unwrap().loss);
    model.fit(x, labels, Fit::default().batch_size(BATCH)).unwrap();
    all.extend(model.parameters());
    all
}

#[test]
fn samples_in_any_strides_give_the_same_bits() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let expected = everything(x, &labels);
    let strides = [(INPUTS + 3, 1), (1, SAMPLES + 2), (3 * INPUTS, 3)].map(|(row, col)| Strides { row, col });
    for layout in Layout::ALL.into_iter().chain(strides.map(Layout::Strided)) {
        // NaN lies in the gaps.
        let x = Matrix::from_fn([SAMPLES, INPUTS], layout, |row, col| x.get(row, col).unwrap());
        assert_identical(&everything(x.view(), &labels), &expected, &format!("{layout:?}"));
    }
}

#[test]
fn predictions_are_written_to_any_strides() {
    let (x, _) = data();
    let x = row_major(&x, SAMPLES);
    let expected = model().predict(x).unwrap();
    let mut columns = vec![f32::NAN; SAMPLES * CLASSES];
    model().predict_into(x, MatMut::new(&mut columns, CLASSES, SAMPLES).unwrap().t()).unwrap();
    assert_identical(&row_major(&columns, CLASSES).t().to_vec(), &expected, "transposed");
}

#[test]
fn many_samples_are_predicted_and_evaluated_as_single_ones() {
    let samples = 2500; // more than two of the blocks in which inference takes samples
    let (x, labels) = (random_values(5, samples * INPUTS), random_labels::<u8>(6, samples, CLASSES));
    let x = row_major(&x, samples);
    for backend in backends() {
        let model = mlp(&backend, INPUTS, &[11, CLASSES]);
        let all = model.predict(x).unwrap();
        let single = |row| model.predict(x.row_range(row..row + 1).unwrap()).unwrap();
        let singles: Vec<f32> = (0..samples).flat_map(single).collect();
        assert_identical(&all, &singles, backend.isa().name());

        let p = |row: usize| f64::from(all[row * CLASSES + usize::from(labels[row])]);
        let loss = (0..samples).map(|row| -p(row).ln()).sum::<f64>() / samples as f64;
        let classes = model.predict_classes(x).unwrap();
        let correct = classes.iter().zip(&labels).filter(|&(&class, &label)| class == usize::from(label)).count();
        let metrics = model.evaluate(x, &labels).unwrap();
        assert!((f64::from(metrics.loss) - loss).abs() < 1e-6 * loss, "{} {loss}", metrics.loss);
        assert_eq!(metrics.accuracy, (correct as f64 / samples as f64) as f32);
    }
}

#[test]
fn many_threads_can_share_one_model() {
    fn assert_send_sync<T: Send + Sync>(_: &T) {}
    let model = &model();
    assert_send_sync(model);
    // Each thread has samples of its own, and predicts a thousand times, so that calls overlap.
    let samples = (0..8).map(|seed| random_values(seed, SAMPLES * INPUTS));
    let predicted = samples.map(|x| (model.predict(row_major(&x, SAMPLES)).unwrap(), x)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for (expected, x) in &predicted {
            scope.spawn(move || {
                for _ in 0..1000 {
                    assert_identical(&model.predict(row_major(x, SAMPLES)).unwrap(), expected, "concurrent");
                }
            });
        }
    });
}

/// Fits a model of its own after every batch.
struct Nested;

impl Callback for Nested {
    fn on_batch_end(&mut self, _: &BatchEnd) -> ControlFlow<()> {
        let (x, labels) = data();
        model().fit(row_major(&x, SAMPLES), &labels, in_order(1)).unwrap();
        ControlFlow::Continue(())
    }
}

#[test]
fn concurrent_fits_on_one_pool_give_the_same_bits() {
    let fit = || {
        let (x, labels) = data();
        let mut model = model();
        model.fit(row_major(&x, SAMPLES), &labels, in_order(2).callback(&mut Nested)).unwrap();
        model.parameters().to_vec()
    };
    let expected = fit();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let fits = || {
        let ((a, b), (c, d)) = rayon::join(|| rayon::join(fit, fit), || rayon::join(fit, fit));
        [a, b, c, d]
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.install(fits))).collect();
        let found = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        found.for_each(|found| assert_identical(&found, &expected, "parameters"));
    });
}

#[test]
fn panicking_callback_ends_fit_and_keeps_the_model() {
    /// Panics after this number of steps, in one of three methods.
    struct Panics(usize);
    fn panic_if(panics: bool) -> ControlFlow<()> {
        if panics { std::panic::resume_unwind(Box::new("the callback's")) } else { stop_if(false) }
    }
    impl Callback for Panics {
        fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
            let _ = panic_if(self.0 == 6 && epoch == 2);
            rate
        }
        fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
            panic_if(self.0 == 2 && end.batch == 1)
        }
        fn on_epoch_end(&mut self, _: &EpochEnd) -> ControlFlow<()> {
            panic_if(self.0 == 3)
        }
    }
    let (x, labels) = data();
    // The second model's column shards hold the parameters and moments of its first layer when the callback
    // panics.
    for (mut fitted, steps) in
        [model(), model_with_shards()].into_iter().flat_map(|model| [2, 3, 6].map(|steps| (model.clone(), steps)))
    {
        let mut by_hand = fitted.clone();
        let stopping = EarlyStopping::new(Monitor::Loss);
        let mut callback = Panics(steps);
        let fit = in_order(3).callback(&mut callback).early_stopping(stopping.patience(9));
        let fit = || fitted.fit(row_major(&x, SAMPLES), &labels, fit);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fit)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the callback's"));
        train_by_hand(&mut by_hand, steps);
        assert_identical(fitted.parameters(), by_hand.parameters(), "parameters");
        for model in [&mut fitted, &mut by_hand] {
            model.fit(row_major(&x, SAMPLES), &labels, in_order(1)).unwrap();
        }
        assert_identical(fitted.parameters(), by_hand.parameters(), "parameters of the next fit");
    }
}
