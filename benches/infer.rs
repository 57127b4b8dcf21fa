//! `infer/<784-128-10|6-64-8-4|3072-512-512-100>/<batch>/densely`: logarithms of probabilities through a
//! `Predictor`, in samples a second, inside the rayon pool. Answers are checked first, against the model's.

mod common;

use common::iter_in_pool;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::nn::{Activation, Dense, Predictor, Sequential};
use densely::{MatMut, MatRef};
use densely_testkit::{Tolerance, assert_close, random_values};

const NETS: [&[usize]; 3] = [&[784, 128, 10], &[6, 64, 8, 4], &[3072, 512, 512, 100]];
const BATCHES: [usize; 4] = [1, 32, 256, 10_000];

fn benches(c: &mut Criterion) {
    for net in NETS {
        let name = net.iter().map(usize::to_string).collect::<Vec<_>>().join("-");
        let (inputs, outputs) = (net[0], net[net.len() - 1]);
        let mut builder = Sequential::builder(inputs);
        for (layer, &units) in net.iter().enumerate().skip(1) {
            let activation = if layer + 1 < net.len() { Activation::Relu.into() } else { Activation::Softmax };
            builder = builder.layer(Dense::new(units, activation));
        }
        let model = builder.build().expect("a sound model");
        let predictor = Predictor::new(&model);
        let mut group = c.benchmark_group(format!("infer/{name}"));
        for batch in BATCHES {
            let (x, mut y) = (random_values(1, batch * inputs), vec![0.0; batch * outputs]);
            let x = MatRef::new(&x, batch, inputs).expect("sizes fit");
            let to = MatMut::new(&mut y, batch, outputs).expect("sizes fit");
            predictor.log_probabilities_into(x, to).expect("shapes fit");
            let probabilities: Vec<f32> = y.iter().map(|y| y.exp()).collect();
            assert_close(&probabilities, &model.predict(x).expect("shapes fit"), Tolerance::REORDERED, &name);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(format!("{batch}/densely"), |b| {
                iter_in_pool(b, || {
                    let y = MatMut::new(&mut y, batch, outputs).expect("sizes fit");
                    predictor.log_probabilities_into(x, y).expect("shapes fit");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(infer_benches, benches);
criterion_main!(infer_benches);
