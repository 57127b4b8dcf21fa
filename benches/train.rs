//! `train/<epoch_adam|epoch_sgd>/<batch>/densely`: one epoch of the tutorial's network over 60,000
//! random images, shuffled, with loss and accuracy tracked, in images a second.

mod common;

use common::data::{random, random_labels};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::MatRef;
use densely::nn::{Activation, Adam, Dense, Fit, Flatten, Optimizer, Sequential, Sgd};

const IMAGES: usize = 60_000;
const PIXELS: usize = 28 * 28;

fn benches(c: &mut Criterion) {
    let (images, labels) = (random(IMAGES * PIXELS), random_labels(IMAGES, 10));
    let x = MatRef::new(&images, IMAGES, PIXELS).expect("sizes fit");
    let optimizers = [("epoch_adam", Optimizer::from(Adam::default())), ("epoch_sgd", Sgd::default().into())];
    for (name, optimizer) in optimizers {
        let mut group = c.benchmark_group(format!("train/{name}"));
        group.throughput(Throughput::Elements(IMAGES as u64)).sample_size(10);
        for batch in [32, 128, 1024] {
            let mut model = Sequential::builder((28, 28))
                .layer(Flatten)
                .layer(Dense::new(128, Activation::Relu))
                .layer(Dense::new(10, Activation::Softmax))
                .build()
                .expect("a sound model");
            model.compile(optimizer).expect("sound hyperparameters");
            group.bench_function(format!("{batch}/densely"), |b| {
                b.iter(|| model.fit(x, &labels, Fit::default().batch_size(batch)).expect("sound data"));
            });
        }
        group.finish();
    }
}

criterion_group!(train_benches, benches);
criterion_main!(train_benches);
