//! `train/<epoch_adam|epoch_sgd>/<batch>/densely`: one epoch of the tutorial's network over 60,000 random
//! images, shuffled, with loss and accuracy tracked, in images a second; behind each with Adam, the same on
//! one thread under `train_1_thread`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::nn::{Activation, Adam, Dense, Fit, Flatten, Optimizer, Sequential, Sgd};
use densely::{Backend, MatRef, Threads};
use densely_testkit::{random_labels, random_values};

const IMAGES: usize = 60_000;
const PIXELS: usize = 28 * 28;

fn benches(c: &mut Criterion) {
    let (images, labels) = (random_values(1, IMAGES * PIXELS), random_labels::<u32>(2, IMAGES, 10));
    let x = MatRef::new(&images, IMAGES, PIXELS).expect("sizes fit");
    let both = [("train", Threads::Auto), ("train_1_thread", Threads::One)];
    let sgd = Optimizer::from(Sgd::default());
    let optimizers = [("epoch_adam", Adam::default().into(), &both[..]), ("epoch_sgd", sgd, &both[..1])];
    for (name, optimizer, threads) in optimizers {
        for batch in [32, 128, 1024] {
            for &(group, threads) in threads {
                let mut model = Sequential::builder((28, 28))
                    .layer(Flatten)
                    .layer(Dense::new(128, Activation::Relu))
                    .layer(Dense::new(10, Activation::Softmax))
                    .backend(Backend::new().expect("a known instruction set").with_threads(threads))
                    .build()
                    .expect("a sound model");
                model.compile(optimizer).expect("sound hyperparameters");
                let mut group = c.benchmark_group(format!("{group}/{name}"));
                group.throughput(Throughput::Elements(IMAGES as u64)).sample_size(10);
                group.bench_function(format!("{batch}/densely"), |b| {
                    b.iter(|| model.fit(x, &labels, Fit::default().batch_size(batch)).expect("sound data"));
                });
                group.finish();
            }
        }
    }
}

criterion_group!(train_benches, benches);
criterion_main!(train_benches);
