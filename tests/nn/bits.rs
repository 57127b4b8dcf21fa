//! Compares the bits of training with the scalar reference, and across threads and instruction sets.

use densely::nn::{Activation, Adam, AdamW, Clip, Fit, Optimizer, Sequential, Sgd};
use densely::{Backend, CHUNK_ROWS, Isa, Threads};
use densely_testkit::network::{Epochs, Layer, Network, Samples, Trained};
use densely_testkit::{
    Tolerance, assert_close, assert_identical, backends, exact_backends, exactly, fashion_mnist, first_if_emulated,
    random_labels, random_values,
};

/// Samples, their weights, and how to go through them.
struct Task {
    x: Vec<f32>,
    labels: Vec<u8>,
    weights: Option<Weights>,
    epochs: Epochs,
}

/// By which losses are multiplied.
#[derive(Clone)]
struct Weights {
    classes: Vec<f32>,
    samples: Vec<f32>,
}

impl Task {
    fn random(samples: usize, inputs: usize, classes: usize, epochs: Epochs) -> Self {
        let (x, labels) = (random_values(1, samples * inputs), random_labels(2, samples, classes));
        Self { x, labels, weights: None, epochs }
    }

    fn images() -> Self {
        let (x, labels) = fashion_mnist(170);
        Self { x, labels, weights: None, epochs: Epochs { epochs: 3, batch_size: 50 } }
    }

    fn options(&self) -> Fit<'_> {
        let options = Fit::default().epochs(self.epochs.epochs).batch_size(self.epochs.batch_size);
        match &self.weights {
            Some(Weights { classes, samples }) => options.class_weights(classes).sample_weights(samples),
            None => options,
        }
    }

    /// The product of each sample's weight and that of its class.
    fn weights(&self) -> Option<Vec<f32>> {
        let Weights { classes, samples } = self.weights.as_ref()?;
        Some(self.labels.iter().zip(samples).map(|(&label, weight)| classes[usize::from(label)] * weight).collect())
    }

    fn samples<'a>(&'a self, weights: Option<&'a [f32]>) -> Samples<'a> {
        Samples { x: &self.x, labels: &self.labels, weights }
    }
}

const THREE_EPOCHS: Epochs = Epochs { epochs: 3, batch_size: 32 };

/// ReLU layers between these sizes, the last with softmax.
fn network(sizes: &[usize]) -> Network {
    let layer = |pair: &[usize]| Layer::new(pair[0], pair[1], Activation::Relu);
    let mut layers: Vec<Layer> = sizes.windows(2).map(layer).collect();
    layers.last_mut().unwrap().activation = Activation::Softmax;
    Network { layers, seed: 7 }
}

/// [`network`] with dropouts of these rates before each layer.
fn network_with_dropouts(sizes: &[usize], rates: &[&[f64]]) -> Network {
    let mut network = network(sizes);
    network.layers.iter_mut().zip(rates).for_each(|(layer, rates)| layer.dropouts = rates.to_vec());
    network
}

fn model(backend: &Backend, network: &Network, optimizer: Optimizer) -> Sequential {
    let mut model = network.build(backend);
    model.compile(optimizer).unwrap();
    model
}

/// The update rules, spelled once more for one parameter. Hyperparameters are no defaults, so that none
/// passes for another.
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

    /// Update number `t`, from 1 on.
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

/// What changes gradients before the update rule takes them.
#[derive(Clone, Copy, Debug, Default)]
struct Regularization {
    l2: f64,
    clip: Option<Clip>,
}

impl Regularization {
    fn optimizer(self, rule: Rule) -> Optimizer {
        let optimizer = rule.optimizer().l2(self.l2);
        self.clip.map_or(optimizer, |clip| optimizer.clip(clip))
    }
}

/// Trains the reference network.
fn reference_fit(
    network: &Network,
    rule: Rule,
    Regularization { l2, clip }: Regularization,
    parameters: Vec<f32>,
    task: &Task,
) -> Trained {
    let [mut m, mut v] = [(); 2].map(|()| vec![0.0; parameters.len()]);
    let weights = task.weights();
    network.fit(parameters, task.samples(weights.as_deref()), task.epochs, |step, w, mut dw| {
        network.regularize(l2, clip, w, &mut dw);
        (0..w.len()).for_each(|i| rule.step(step as usize, &mut w[i], dw[i], &mut m[i], &mut v[i]));
    })
}

/// Asserts that `fit` has the bits of the reference on every instruction set with fused multiply-add.
#[track_caller]
fn assert_fit_is_reference(network: &Network, rule: Rule, task: &Task, threads: &[Threads]) {
    assert_regularized_fit_is_reference(network, rule, Regularization::default(), task, threads);
}

#[track_caller]
fn assert_regularized_fit_is_reference(
    network: &Network,
    rule: Rule,
    regularization: Regularization,
    task: &Task,
    threads: &[Threads],
) {
    let optimizer = regularization.optimizer(rule);
    let initial = model(&Backend::new().unwrap(), network, optimizer).parameters().to_vec();
    let expected = reference_fit(network, rule, regularization, initial, task);
    for backend in exact_backends() {
        for &threads in threads {
            let backend = backend.with_threads(threads);
            let mut model = model(&backend, network, optimizer);
            let history = model.fit(task.samples(None).x(), &task.labels, task.options().no_shuffle()).unwrap();
            let losses: Vec<f32> = history.epochs().iter().map(|end| end.loss).collect();
            let what = format!("{rule:?}, {regularization:?}, {:?}, {backend:?}", task.epochs);
            assert_identical(model.parameters(), &expected.parameters, &what);
            assert_identical(&losses, &expected.losses, &what);
        }
    }
}

/// Sizes that fill no vector and no micro-tile, and a layer without bias.
///
/// There are more classes than a vector has lanes.
fn odd_sizes() -> Network {
    let mut network = network(&[21, 35, 13, 19]);
    network.layers[1].use_bias = false;
    network
}

/// A first layer that is trained in column shards where no norm is needed; 8820 parameters, whose norm is a
/// sum of three parts.
fn sharded() -> Network {
    let mut network = network(&[45, 130, 21, 5]);
    network.layers[1].use_bias = false;
    network
}

const ADAM: Rule = Rule::Adam { weight_decay: None };

#[test]
fn every_optimizer_matches_reference() {
    let task = Task::random(103, 21, 19, THREE_EPOCHS); // 4 batches an epoch, the last one of 7
    for rule in Rule::ALL {
        assert_fit_is_reference(&odd_sizes(), rule, &task, &[Threads::One, exactly(3)]);
    }
}

#[test]
fn column_shards_match_reference() {
    // A shard has at least 16 columns: eleven threads get eight shards, the last without a whole cache line.
    let task = Task::random(103, 45, 5, THREE_EPOCHS);
    for rule in Rule::ALL {
        assert_fit_is_reference(&sharded(), rule, &task, &[1, 2, 3, 5, 7, 11].map(exactly));
    }
    let mut without_bias = network(&[45, 130, 5]);
    without_bias.layers[0].use_bias = false;
    assert_fit_is_reference(&without_bias, ADAM, &task, &[exactly(5)]);
}

#[test]
fn l2_and_clipping_match_reference() {
    let task = Task::random(103, 45, 5, THREE_EPOCHS);
    // Some gradients are above the limits, others below.
    for clip in [None, Some(Clip::Value(0.02)), Some(Clip::GlobalNorm(0.75))] {
        for l2 in [0.0, 0.01] {
            for rule in Rule::ALL {
                let threads = [3, 1, 2, 5, 7].map(exactly);
                let threads = first_if_emulated(&threads, 1);
                assert_regularized_fit_is_reference(&sharded(), rule, Regularization { l2, clip }, &task, threads);
            }
        }
    }
}

#[test]
fn dropout_matches_reference() {
    let task = Task::random(103, 45, 5, THREE_EPOCHS);
    // Column shards with and without dropped inputs; two dropouts in a row; and clipping, which needs all
    // gradients first.
    let rates: [&[&[f64]]; 3] = [&[&[], &[0.5]], &[&[0.2]], &[&[0.2], &[0.5], &[0.1, 0.3]]];
    for rates in rates {
        let mut network = network_with_dropouts(&[45, 130, 21, 5], rates);
        network.layers[1].use_bias = false;
        for clip in [None, Some(Clip::GlobalNorm(0.75))] {
            let regularization = Regularization { clip, ..Regularization::default() };
            let threads = [1, 2, 3, 5, 7].map(exactly);
            assert_regularized_fit_is_reference(&network, ADAM, regularization, &task, &threads);
        }
    }
}

/// Weights of five classes, one of them 0, and of samples.
fn weights(samples: Vec<f32>) -> Option<Weights> {
    Some(Weights { classes: vec![0.5, 1.0, 3.0, 0.0, 0.3], samples })
}

#[test]
fn class_and_sample_weights_match_reference() {
    let samples = random_values(8, 103).iter().map(|weight| (weight + 1.0).max(0.5) - 0.5).collect();
    let weights = weights(samples);
    for batch_size in [32, 103] {
        let epochs = Epochs { epochs: 3, batch_size };
        let task = Task { weights: weights.clone(), ..Task::random(103, 45, 5, epochs) };
        assert_fit_is_reference(&sharded(), ADAM, &task, &[1, 2, 3, 5, 7].map(exactly));
    }
}

#[test]
fn batches_of_several_chunks_match_reference() {
    for (samples, batch_size, epochs) in [(750, 300, 4), (700, 600, 6)] {
        assert!(batch_size > CHUNK_ROWS);
        let task = Task::random(samples, 21, 5, Epochs { epochs, batch_size });
        assert_fit_is_reference(&network(&[21, 17, 5]), ADAM, &task, &[Threads::One, exactly(2), exactly(7)]);
    }
}

#[test]
fn products_with_large_k_match_reference() {
    // Depths above KC in the forward and in the backward pass.
    let task = Task::random(40, 1100, 5, Epochs { epochs: 4, batch_size: 16 });
    assert_fit_is_reference(&network(&[1100, 20, 270, 5]), ADAM, &task, &[Threads::One, exactly(3)]);
}

#[test]
fn wide_samples_taken_in_blocks_match_reference() {
    // A thread takes at most 16 samples this wide at once.
    let samples = random_values(8, 60).iter().map(|weight| weight + 1.0).collect();
    let task = Task { weights: weights(samples), ..Task::random(60, 4000, 5, Epochs { epochs: 3, batch_size: 50 }) };
    let network = network_with_dropouts(&[4000, 20, 5], &[&[], &[0.5]]);
    assert_fit_is_reference(&network, ADAM, &task, &[1, 2, 3].map(exactly));
}

#[test]
fn training_on_images_matches_reference() {
    assert_fit_is_reference(&network(&[784, 32, 10]), ADAM, &Task::images(), &[Threads::One, Threads::Auto]);
}

/// Trains in a pool of `threads` threads.
fn fit_in_pool(threads: usize, backend: &Backend, network: &Network, task: &Task) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut model = model(backend, network, Sgd::default().momentum(0.9).into());
    pool.install(|| model.fit(task.samples(None).x(), &task.labels, task.options().shuffle(5))).unwrap();
    model.parameters().to_vec()
}

/// Asserts that neither pool nor threads change a bit on any instruction set.
///
/// The instruction sets must agree, too: the portable one closely, the others bit for bit.
#[track_caller]
fn assert_same_on_all(network: &Network, task: &Task, threads: &[Threads]) {
    let mut agreed: Option<Vec<f32>> = None;
    for backend in backends() {
        let alone = fit_in_pool(1, &backend.with_threads(Threads::One), network, task);
        for &threads in threads {
            let backend = backend.with_threads(threads);
            for pool in [1, 2, 3, 7] {
                let found = fit_in_pool(pool, &backend, network, task);
                assert_identical(&found, &alone, &format!("{backend:?}, pool of {pool}"));
            }
        }
        match &agreed {
            None => agreed = Some(alone),
            Some(agreed) if backend.isa() == Isa::Portable => {
                // Without fused multiply-add a sum of k terms is off by up to k 2^-23 of them; twelve steps
                // of a small rate carry less than that into the weights.
                assert_close(&alone, agreed, Tolerance { relative: 1e-5, of_largest: 1e-6 }, "portable");
            }
            Some(agreed) => assert_identical(&alone, agreed, backend.isa().name()),
        }
    }
}

#[test]
fn no_number_of_threads_changes_a_bit() {
    let threads = [Threads::One, Threads::Auto, exactly(2), exactly(3), exactly(7)];
    let one_epoch = |batch_size| Epochs { epochs: 1, batch_size };
    assert_same_on_all(&odd_sizes(), &Task::random(103, 21, 19, THREE_EPOCHS), &threads);
    assert_same_on_all(&odd_sizes(), &Task::random(750, 21, 19, one_epoch(300)), &threads);
    assert_same_on_all(&odd_sizes(), &Task::random(700, 21, 19, one_epoch(600)), &threads);
    // One thread takes 16 samples this wide at once, each of seven takes 8.
    let weights = weights(random_values(8, 60).iter().map(|weight| weight + 1.0).collect());
    let wide = Task { weights, ..Task::random(60, 4000, 5, Epochs { epochs: 2, batch_size: 50 }) };
    assert_same_on_all(&network(&[4000, 20, 5]), &wide, &threads);
}

#[test]
fn no_number_of_threads_changes_a_bit_on_images() {
    // Enough work for `Auto` to split.
    assert_same_on_all(&network(&[784, 64, 10]), &Task::images(), &[Threads::Auto]);
}
