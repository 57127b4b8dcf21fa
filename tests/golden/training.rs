//! Digests of trained parameters: the tutorial's network on the embedded images, and every update rule.

use densely::nn::{Activation, Adam, AdamW, Clip, Dense, Dropout, Fit, Flatten, Optimizer, Schedule, Sequential, Sgd};
use densely::{Backend, MatRef, Threads};
use densely_testkit::images::{PIXELS, fashion_mnist};
use densely_testkit::{EMULATED, Folder, exact_backends, exactly, first_if_emulated};

use crate::{Golden, assert_golden, digest};

/// The tutorial's parameters after two epochs on 12,000 images.
const TUTORIAL: &str = "856a0446532bfbc47e7d059c9bb3848d27778351dadbbed8b162941458e89f87";

const RULES: [Golden; 6] = [
    ("sgd", "03aeb13994490a6858bcc8ecd16e8730818ae6fa6002ef6c068cfdc9865c0ae5"),
    ("momentum", "89b14ec5c11d71b9b63110055709d44d9889c1f6a6795a1676a3abf481dc2447"),
    ("nesterov", "a1cccb7632242f57552ed65e336d5c064e0255d80235378e2a72155962af7d68"),
    ("adam", "20d9f06632f1b6f2234398dbbc4090947fb42b5171824c6b08972d58a078096c"),
    ("adamw", "5aa1860ad96374306d98e2f7802982e50f0671578bbf0a24cb057a4744aa7176"),
    ("adam with l2", "7bb008c8eb7dc14f5e6435725b730147106229f9c61a2c3d2bde4b107377ac9d"),
];

const IMAGES: usize = 12_000;
const EPOCHS: usize = 2;

/// `Sequential([Flatten(28, 28), Dense(128, relu), Dense(10, softmax)])`.
fn tutorial(backend: &Backend) -> Sequential {
    let builder = Sequential::builder((28, 28)).backend(backend.clone()).layer(Flatten);
    let builder = builder.layer(Dense::new(128, Activation::Relu)).layer(Dense::new(10, Activation::Softmax));
    let mut model = builder.build().unwrap();
    model.compile(Adam::default()).unwrap();
    model
}

fn digest_of(model: &Sequential) -> String {
    digest(model.parameters().iter().copied())
}

#[track_caller]
fn assert_tutorial(backend: &Backend) {
    let (images, labels) = fashion_mnist(IMAGES);
    let x = MatRef::new(&images, IMAGES, PIXELS).unwrap();
    let mut model = tutorial(backend);
    model.fit(x, &labels, Fit::default().epochs(EPOCHS)).unwrap();
    assert_eq!(digest_of(&model), TUTORIAL, "{backend:?}");
}

#[test]
fn tutorial_has_golden_bits_on_every_instruction_set() {
    for backend in exact_backends() {
        assert_tutorial(&backend);
        if !EMULATED {
            assert_tutorial(&backend.with_threads(Threads::One));
        }
    }
}

#[test]
#[cfg_attr(target_arch = "aarch64", ignore = "takes most of a minute under emulation; the test above is one of them")]
fn tutorial_has_golden_bits_for_every_number_of_threads() {
    let backend = &exact_backends()[0];
    for threads in [2, 3, 5, 7] {
        assert_tutorial(&backend.with_threads(exactly(threads)));
    }
}

#[test]
fn resumed_tutorial_has_golden_bits() {
    let folder = Folder::new("golden");
    let checkpoint = folder.file("checkpoint");
    let (images, labels) = fashion_mnist(IMAGES);
    let x = MatRef::new(&images, IMAGES, PIXELS).unwrap();
    let backends = exact_backends();
    // Resumed on another instruction set, where there are two, and another number of threads.
    let [first, last] = [&backends[0], &backends[backends.len() - 1]];
    tutorial(first).fit(x, &labels, Fit::default().epochs(1).checkpoint(&checkpoint, 1)).unwrap();
    let mut model = tutorial(&last.with_threads(exactly(3)));
    model.fit(x, &labels, Fit::default().epochs(EPOCHS).resume(&checkpoint)).unwrap();
    assert_eq!(digest_of(&model), TUTORIAL, "{}, then {}", first.isa(), last.isa());
}

/// Every update rule, with every option of networks and training.
fn rules(backend: &Backend) -> Vec<(String, String)> {
    let sgd = Sgd::default().learning_rate(0.05);
    let rules: [(&str, Optimizer); 6] = [
        ("sgd", sgd.into()),
        ("momentum", Optimizer::from(sgd.momentum(0.9)).l2(1e-3).clip(Clip::Value(0.05))),
        ("nesterov", Optimizer::from(sgd.momentum(0.9).nesterov(true)).weight_decay(1e-2)),
        ("adam", Optimizer::from(Adam::default()).clip(Clip::GlobalNorm(0.5)).schedule(Schedule::cosine(30))),
        ("adamw", Optimizer::from(AdamW::default()).schedule(Schedule::cosine(40).warm_up(5))),
        ("adam with l2", Optimizer::from(Adam::default()).l2(1e-3)),
    ];
    let samples = 500;
    let (images, labels) = fashion_mnist(samples);
    let x = MatRef::new(&images, samples, PIXELS).unwrap();
    let class_weights: Vec<f32> = (1..=10).map(|class| class as f32 / 5.0).collect();
    let trained = |(name, optimizer): (&str, Optimizer)| {
        let builder = Sequential::builder((28, 28)).backend(backend.clone()).seed(3);
        let builder = builder.layer(Flatten).layer(Dropout::new(0.1)).layer(Dense::new(50, Activation::Gelu));
        let builder = builder.layer(Dropout::new(0.4)).layer(Dense::new(21, Activation::Tanh).use_bias(false));
        let mut model = builder.layer(Dense::new(10, Activation::Softmax)).build().unwrap();
        model.compile(optimizer).unwrap();
        let options = Fit::default().epochs(2).batch_size(27).shuffle(5).class_weights(&class_weights);
        model.fit(x, &labels, options).unwrap();
        (name.to_owned(), digest_of(&model))
    };
    rules.map(trained).into()
}

#[test]
fn every_update_rule_has_golden_bits() {
    for backend in exact_backends() {
        for &threads in first_if_emulated(&[2, 1, 7], 1) {
            let backend = backend.with_threads(exactly(threads));
            assert_golden(&rules(&backend), &RULES, &format!("{backend:?}"));
        }
    }
}
