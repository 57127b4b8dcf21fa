//! The bits of training: the same on any number of threads and any instruction set with fused
//! multiply-add, and those of the scalar reference.

use crate::common::{assert_identical, assert_close, backends, exactly, fashion_mnist, matrix, random, random_labels, some};
use densely::loss::CrossEntropy;
use densely::nn::{Activation, Adam, AdamW, Clip, Dense, Dropout, Fit, Optimizer, Sequential, Sgd};
use densely::{Activation as Elementwise, Backend, CHUNK_ROWS, Isa, MatMut, MatRef, Threads, reference};

/// Samples, labels, and how to go through them.
struct Task {
    x: Vec<f32>,
    labels: Vec<u8>,
    /// One a class, and one a sample.
    weights: Option<(Vec<f32>, Vec<f32>)>,
    batch_size: usize,
    epochs: usize,
}

impl Task {
    fn random_values(samples: usize, inputs: usize, classes: usize, batch_size: usize, epochs: usize) -> Self {
        let labels = random_labels(2, samples, classes);
        Self { x: random_values(1, samples * inputs), labels, weights: None, batch_size, epochs }
    }

    fn x(&self) -> MatRef<'_> {
        row_major(&self.x, self.labels.len())
    }

    fn options(&self) -> Fit<'_> {
        let options = Fit::default().epochs(self.epochs).batch_size(self.batch_size);
        match &self.weights {
            Some((classes, samples)) => options.class_weights(classes).sample_weights(samples),
            None => options,
        }
    }

    /// By which a sample's loss is multiplied.
    fn weight(&self, sample: usize) -> f32 {
        self.weights.as_ref().map_or(1.0, |(classes, samples)| classes[self.labels[sample] as usize] * samples[sample])
    }

    fn batches(&self) -> impl Iterator<Item = Batch<'_>> {
        let inputs = self.x.len() / self.labels.len();
        let batches = self.x.chunks(self.batch_size * inputs).zip(self.labels.chunks(self.batch_size));
        batches.enumerate().map(|(number, (x, labels))| {
            let first = number * self.batch_size;
            Batch { x, labels, weights: (first..first + labels.len()).map(|sample| self.weight(sample)).collect() }
        })
    }
}

struct Batch<'a> {
    x: &'a [f32],
    labels: &'a [u8],
    weights: Vec<f32>,
}

/// Inputs, outputs, and whether there is a bias.
#[derive(Clone, Copy)]
struct Layer(usize, usize, bool);

impl Layer {
    fn parameters(self) -> usize {
        self.0 * self.1 + if self.2 { self.1 } else { 0 }
    }
}

/// What a network has besides layers: dropouts, each before the dense layer with its number.
type Dropouts = &'static [(usize, f64)];
const SEED: u64 = 7;

fn model(backend: &Backend, layers: &[Layer], dropouts: Dropouts, optimizer: Optimizer) -> Sequential {
    let mut builder = Sequential::builder(layers[0].0).backend(backend.clone()).seed(SEED);
    for (i, layer) in layers.iter().enumerate() {
        for &(_, rate) in dropouts.iter().filter(|dropout| dropout.0 == i) {
            builder = builder.layer(Dropout::new(rate));
        }
        let activation = if i + 1 < layers.len() { Activation::Relu.into() } else { Activation::Softmax };
        builder = builder.layer(Dense::new(layer.1, activation).use_bias(layer.2));
    }
    let mut model = builder.build().unwrap();
    model.compile(optimizer).unwrap();
    model
}

/// What dropouts before a layer leave in the step behind `steps` others.
fn reference_dropouts(dropouts: Dropouts, layer: usize, steps: u64, rows: usize, mut x: Vec<f32>) -> Vec<f32> {
    for (number, &(_, rate)) in dropouts.iter().enumerate().filter(|(_, dropout)| dropout.0 == layer) {
        let mut y = vec![0.0; x.len()];
        let to = MatMut::new(&mut y, rows, x.len() / rows).unwrap();
        reference::dropout(Dropout::new(rate), [SEED, number as u64, steps], row_major(&x, rows), to).unwrap();
        x = y;
    }
    x
}

/// The mean loss and the gradients, with the functions of `reference` alone.
fn reference_gradients(
    layers: &[Layer],
    (dropouts, steps): (Dropouts, u64),
    w: &[f32],
    Batch { x, labels, weights }: &Batch<'_>,
) -> densely::Result<(f32, Vec<f32>)> {
    let batch = labels.len();
    let drop = |layer, x| reference_dropouts(dropouts, layer, steps, batch, x);
    let start = |layer: usize| layers[..layer].iter().map(|layer| layer.parameters()).sum::<usize>();
    let kernel = |i: usize| MatRef::new(&w[start(i)..][..layers[i].0 * layers[i].1], layers[i].0, layers[i].1);

    let (mut values, mut dropped) = (vec![x.to_vec()], Vec::new());
    for (i, &Layer(inputs, outputs, bias)) in layers.iter().enumerate() {
        let mut y = vec![0.0; batch * outputs];
        let bias = bias.then(|| &w[start(i) + inputs * outputs..start(i + 1)]);
        let activation = if i + 1 < layers.len() { Elementwise::Relu } else { Elementwise::Linear };
        let to = MatMut::new(&mut y, batch, outputs)?;
        dropped.push(drop(i, values[i].clone()));
        reference::dense_forward(row_major(&dropped[i], batch), kernel(i)?, bias, activation, to)?;
        values.push(y);
    }

    let logits = &values[layers.len()];
    let mut dy = vec![0.0; logits.len()];
    let classes = logits.len() / batch;
    let (mut losses, mut to) = (vec![0.0; batch], MatMut::new(&mut dy, batch, classes)?);
    let cross_entropy = CrossEntropy::new();
    let of_all = Some(to.reborrow());
    reference::cross_entropy(&cross_entropy, row_major(logits, batch), *labels, Some(&mut losses), of_all)?;
    let loss = reference::weigh(weights, &mut losses, to)?;
    let mut gradients = vec![0.0; w.len()];
    for (i, &Layer(inputs, outputs, bias)) in layers.iter().enumerate().rev() {
        let x = row_major(&dropped[i], batch);
        let (dw, db) = gradients[start(i)..start(i + 1)].split_at_mut(inputs * outputs);
        let dw = MatMut::new(dw, inputs, outputs)?;
        reference::dense_backward_params(x, row_major(&dy, batch), dw, bias.then_some(db))?;
        if i > 0 {
            let mut dx = vec![0.0; batch * inputs];
            let to = MatMut::new(&mut dx, batch, inputs)?;
            let gate = Some((Elementwise::Relu, row_major(&values[i], batch)));
            reference::dense_backward_input(row_major(&dy, batch), kernel(i)?, gate, to)?;
            dy = drop(i, dx);
        }
    }
    Ok((loss, gradients))
}

/// The update rules of src/kernels/optimizer.rs, one parameter after another. The numbers are not
/// the defaults, so that none can stand in for another.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Sgd { momentum: f64, nesterov: bool },
    Adam { weight_decay: Option<f64> },
}

impl Rule {
    const ALL: [Self; 5] = [
        Self::Sgd { momentum: 0.0, nesterov: false },
        Self::Sgd { momentum: 0.8, nesterov: false },
        Self::Sgd { momentum: 0.8, nesterov: true },
        Self::Adam { weight_decay: None },
        Self::Adam { weight_decay: Some(0.3) },
    ];
    const RATE: f64 = 0.03;
    const BETAS: [f64; 2] = [0.7, 0.99];
    const EPSILON: f64 = 1e-4;

    fn optimizer(self) -> Optimizer {
        let [beta_1, beta_2] = Self::BETAS;
        let adam = Adam::default().learning_rate(Self::RATE).betas(beta_1, beta_2).epsilon(Self::EPSILON);
        let adamw = AdamW::default().learning_rate(Self::RATE).betas(beta_1, beta_2).epsilon(Self::EPSILON);
        match self {
            Self::Sgd { momentum, nesterov } => {
                Sgd::default().learning_rate(Self::RATE).momentum(momentum).nesterov(nesterov).into()
            }
            Self::Adam { weight_decay: None } => adam.into(),
            Self::Adam { weight_decay: Some(decay) } => adamw.weight_decay(decay).into(),
        }
    }

    /// The update number `t`, from 1 on.
    fn step(self, t: usize, w: &mut f32, dw: f32, m: &mut f32, v: &mut f32) {
        match self {
            Self::Sgd { momentum: 0.0, .. } => *w = dw.mul_add(-(Self::RATE as f32), *w),
            Self::Sgd { momentum, nesterov } => {
                let change = dw * -(Self::RATE as f32);
                *m = m.mul_add(momentum as f32, change);
                *w += if nesterov { m.mul_add(momentum as f32, change) } else { *m };
            }
            Self::Adam { weight_decay } => {
                let rates = Self::BETAS.map(|beta| (1.0 - beta) as f32);
                let [power_1, power_2] = Self::BETAS.map(|beta| (0..t).fold(1.0, |power, _| power * beta));
                let alpha = (Self::RATE * (1.0 - power_2).sqrt() / (1.0 - power_1)) as f32;
                *m = (dw - *m).mul_add(rates[0], *m);
                *v = (dw * dw - *v).mul_add(rates[1], *v);
                if let Some(decay) = weight_decay {
                    *w = w.mul_add(-((decay * Self::RATE) as f32), *w);
                }
                *w -= (*m * alpha) / (v.sqrt() + Self::EPSILON as f32);
            }
        }
    }
}

/// What a training has besides layers and a rule: what happens to gradients before the rule takes them, and dropouts.
#[derive(Clone, Copy, Debug, Default)]
struct Extras {
    l2: f64,
    clip: Option<Clip>,
    dropouts: Dropouts,
}

impl Extras {
    fn optimizer(self, rule: Rule) -> Optimizer {
        let optimizer = rule.optimizer().l2(self.l2);
        self.clip.map_or(optimizer, |clip| optimizer.clip(clip))
    }

    fn adjust(self, layers: &[Layer], w: &[f32], dw: &mut [f32]) {
        let mut start = 0;
        for layer in layers {
            let kernel = start..start + layer.0 * layer.1;
            reference::add_l2(self.l2, &w[kernel.clone()], &mut dw[kernel]).unwrap();
            start += layer.parameters();
        }
        if let Some(clip) = self.clip {
            reference::clip(clip, dw).unwrap();
        }
    }
}

/// The parameters that the reference learns, and the mean loss of each epoch.
fn reference_fit(layers: &[Layer], rule: Rule, extras: Extras, mut w: Vec<f32>, task: &Task) -> (Vec<f32>, Vec<f32>) {
    let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    let (mut t, mut losses) = (0, Vec::new());
    for _ in 0..task.epochs {
        let mut total = 0.0;
        for batch in task.batches() {
            let drop = (extras.dropouts, t as u64);
            let (loss, mut dw) = reference_gradients(layers, drop, &w, &batch).unwrap();
            extras.adjust(layers, &w, &mut dw);
            total += f64::from(loss) * batch.labels.len() as f64;
            t += 1;
            (0..w.len()).for_each(|i| rule.step(t, &mut w[i], dw[i], &mut m[i], &mut v[i]));
        }
        losses.push((total / task.labels.len() as f64) as f32);
    }
    (w, losses)
}

/// Asserts that `fit` learns what the reference does, on every instruction set with fused
/// multiply-add.
#[track_caller]
fn assert_fit_is_reference(layers: &[Layer], rule: Rule, task: &Task, threads: &[Threads]) {
    assert_fit_with_is_reference(layers, rule, Extras::default(), task, threads);
}

/// The same, with extras.
#[track_caller]
fn assert_fit_with_is_reference(layers: &[Layer], rule: Rule, extras: Extras, task: &Task, threads: &[Threads]) {
    let (optimizer, dropouts) = (extras.optimizer(rule), extras.dropouts);
    let initial = model(&Backend::new().unwrap(), layers, dropouts, optimizer).parameters().to_vec();
    let (expected, expected_losses) = reference_fit(layers, rule, extras, initial, task);
    for backend in exact_backends() {
        for &threads in threads {
            let backend = backend.with_threads(threads);
            let mut model = model(&backend, layers, dropouts, optimizer);
            let history = model.fit(task.x(), &task.labels, task.options().no_shuffle()).unwrap();
            let losses: Vec<f32> = history.epochs().iter().map(|end| end.loss).collect();
            let what = format!("{rule:?}, {extras:?}, batches of {}, {backend:?}", task.batch_size);
            assert_identical(model.parameters(), &expected, &what);
            assert_identical(&losses, &expected_losses, &what);
        }
    }
}

/// Sizes that fill no vector and no tile, more classes than a vector has lanes, a layer without bias.
const ODD: [Layer; 3] = [Layer(21, 35, true), Layer(35, 13, false), Layer(13, 19, true)];

#[test]
fn every_optimizer_matches_reference() {
    let task = Task::random(103, 21, 19, 32, 3); // 4 batches an epoch, the last one of 7
    for rule in Rule::ALL {
        assert_fit_is_reference(&ODD, rule, &task, &[Threads::One, exactly(3)]);
    }
}

#[test]
fn column_shards_match_reference() {
    // Owners have at least 16 columns each, so that eleven threads have but eight; the last one's are no whole line.
    let layers = [Layer(45, 130, true), Layer(130, 21, false), Layer(21, 5, true)];
    let task = Task::random(103, 45, 5, 32, 3);
    for rule in Rule::ALL {
        assert_fit_is_reference(&layers, rule, &task, &[1, 2, 3, 5, 7, 11].map(exactly));
    }
    let without_bias = [Layer(45, 130, false), Layer(130, 5, true)];
    assert_fit_is_reference(&without_bias, Rule::Adam { weight_decay: None }, &task, &[exactly(5)]);
}

#[test]
fn l2_and_clipping_match_reference() {
    // Owners where no norm is asked for; 8820 parameters, three pieces of the norm's sum.
    let layers = [Layer(45, 130, true), Layer(130, 21, false), Layer(21, 5, true)];
    let task = Task::random(103, 45, 5, 32, 3);
    // Some gradients are above, others below.
    for clip in [None, Some(Clip::Value(0.02)), Some(Clip::GlobalNorm(0.75))] {
        for l2 in [0.0, 0.01] {
            for rule in Rule::ALL {
                let extras = Extras { l2, clip, ..Extras::default() };
                assert_fit_with_is_reference(&layers, rule, extras, &task, first_if_emulated(&[3, 1, 2, 5, 7].map(exactly), 1));
            }
        }
    }
}

#[test]
fn dropout_matches_reference() {
    let layers = [Layer(45, 130, true), Layer(130, 21, false), Layer(21, 5, true)];
    let task = Task::random(103, 45, 5, 32, 3);
    let rule = Rule::Adam { weight_decay: None };
    // Owners without and none with dropped inputs; two in a row; and gradients that are all needed first.
    for dropouts in [&[(1, 0.5)][..], &[(0, 0.2)], &[(0, 0.2), (1, 0.5), (2, 0.1), (2, 0.3)]] {
        for clip in [None, Some(Clip::GlobalNorm(0.75))] {
            let extras = Extras { dropouts, clip, ..Extras::default() };
            assert_fit_with_is_reference(&layers, rule, extras, &task, &[1, 2, 3, 5, 7].map(exactly));
        }
    }
}

#[test]
fn class_and_sample_weights_match_reference() {
    let layers = [Layer(45, 130, true), Layer(130, 21, false), Layer(21, 5, true)];
    let samples = random_values(8, 103).iter().map(|weight| (weight + 1.0).max(0.5) - 0.5).collect(); // many are 0
    let weights = Some((vec![0.5, 1.0, 3.0, 0.0, 0.3], samples));
    let rule = Rule::Adam { weight_decay: None };
    for batch_size in [32, 103] {
        let task = Task { weights: weights.clone(), ..Task::random(103, 45, 5, batch_size, 3) };
        assert_fit_is_reference(&layers, rule, &task, &[1, 2, 3, 5, 7].map(exactly));
    }
}

#[test]
fn batches_of_several_chunks_match_reference() {
    let layers = [Layer(21, 17, true), Layer(17, 5, true)];
    for (samples, batch_size, epochs) in [(750, 300, 4), (700, 600, 6)] {
        assert!(batch_size > CHUNK_ROWS);
        let task = Task::random(samples, 21, 5, batch_size, epochs);
        let rule = Rule::Adam { weight_decay: None };
        assert_fit_is_reference(&layers, rule, &task, &[Threads::One, exactly(2), exactly(7)]);
    }
}

#[test]
fn products_with_large_k_match_reference() {
    // Deeper than the blocks that products go through memory in, forward and back.
    let layers = [Layer(1100, 20, true), Layer(20, 270, true), Layer(270, 5, true)];
    let task = Task::random(40, 1100, 5, 16, 4);
    assert_fit_is_reference(&layers, Rule::Adam { weight_decay: None }, &task, &[Threads::One, exactly(3)]);
}

#[test]
fn wide_samples_taken_in_blocks_match_reference() {
    // Of such wide samples 16 or fewer at once.
    let layers = [Layer(4000, 20, true), Layer(20, 5, true)];
    let samples = random_values(8, 60).iter().map(|weight| weight + 1.0).collect();
    let task = Task { weights: Some((vec![0.5, 1.0, 3.0, 0.0, 0.3], samples)), ..Task::random(60, 4000, 5, 50, 3) };
    let extras = Extras { dropouts: &[(1, 0.5)], ..Extras::default() };
    assert_fit_with_is_reference(&layers, Rule::Adam { weight_decay: None }, extras, &task, &[1, 2, 3].map(exactly));
}

#[test]
fn training_on_images_matches_reference() {
    let (x, labels) = fashion_mnist(170);
    let task = Task { x, labels, weights: None, batch_size: 50, epochs: 3 };
    let layers = [Layer(784, 32, true), Layer(32, 10, true)];
    assert_fit_is_reference(&layers, Rule::Adam { weight_decay: None }, &task, &[Threads::One, Threads::Auto]);
}

/// Trains in a pool of so many threads.
fn fit_in_pool(pool: usize, backend: &Backend, layers: &[Layer], task: &Task) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(pool).build().unwrap();
    let mut model = model(backend, layers, &[], Sgd::default().momentum(0.9).into());
    pool.install(|| model.fit(task.x(), &task.labels, task.options().shuffle(5))).unwrap();
    model.parameters().to_vec()
}

/// Asserts that neither pool nor threads change a bit, on any instruction set, and that the
/// instruction sets agree: portable closely, the others bit for bit.
#[track_caller]
fn assert_same_on_all(layers: &[Layer], task: &Task, threads: &[Threads]) {
    let mut agreed: Option<Vec<f32>> = None;
    for backend in backends() {
        let alone = fit_in_pool(1, &backend.with_threads(Threads::One), layers, task);
        for &threads in threads {
            let backend = backend.with_threads(threads);
            for pool in [1, 2, 3, 7] {
                let found = fit_in_pool(pool, &backend, layers, task);
                assert_identical(&found, &alone, &format!("{backend:?}, pool of {pool}"));
            }
        }
        match &agreed {
            None => agreed = Some(alone),
            // Without fused multiply-add a sum of k terms is off by up to k 2^-23 of them; twelve
            // steps of a small rate carry less than that into the weights.
            Some(agreed) if backend.isa() == Isa::Portable => assert_close(&alone, agreed, 1e-5, 1e-6, "portable"),
            Some(agreed) => assert_identical(&alone, agreed, backend.isa().name()),
        }
    }
}

#[test]
fn no_number_of_threads_changes_a_bit() {
    let threads = [Threads::One, Threads::Auto, exactly(2), exactly(3), exactly(7)];
    assert_same_on_all(&ODD, &Task::random(103, 21, 19, 32, 3), &threads);
    assert_same_on_all(&ODD, &Task::random(750, 21, 19, 300, 1), &threads);
    assert_same_on_all(&ODD, &Task::random(700, 21, 19, 600, 1), &threads);
    // One thread takes 16 such samples at once, seven have 8 each.
    let weights = Some((vec![0.5, 1.0, 3.0, 0.0, 0.3], random_values(8, 60).iter().map(|weight| weight + 1.0).collect()));
    let wide = Task { weights, ..Task::random(60, 4000, 5, 50, 2) };
    assert_same_on_all(&[Layer(4000, 20, true), Layer(20, 5, true)], &wide, &threads);
}

#[test]
fn no_number_of_threads_changes_a_bit_on_images() {
    let (x, labels) = fashion_mnist(170);
    let task = Task { x, labels, weights: None, batch_size: 50, epochs: 3 };
    // Enough work for `Auto` to split.
    assert_same_on_all(&[Layer(784, 64, true), Layer(64, 10, true)], &task, &[Threads::Auto]);
}
