//! `loss/<log_softmax|cross_entropy>/<batch>x<classes>/<densely|scalar>` in elements a second, inside
//! the rayon pool; `scalar` is the naive reference. Answers are checked first, bit for bit.
//!
//! `elementwise/<rows>x<cols>/<activation>` likewise; `linear` is a copy of memory. `benches/peers` has more
//! to compare with.

mod common;

use std::hint::black_box;

use common::iter_in_pool;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::loss::{self, CrossEntropy};
use densely::{Activation, Backend, Isa, MatMut, MatRef, activation, reference};
use densely_testkit::{random_labels, random_values};

const SHAPES: [[usize; 2]; 6] = [[128, 10], [4096, 10], [128, 1000], [1024, 1000], [64, 32_000], [8, 128_256]];

/// Of the L1 cache, of L2, and more than any cache.
const MATRICES: [[usize; 2]; 3] = [[32, 128], [128, 512], [4096, 4096]];

fn elementwise(c: &mut Criterion) {
    let backend = Backend::new().expect("DENSELY_ISA names an instruction set of this processor");
    for [rows, cols] in MATRICES {
        let x = random_values(1, rows * cols);
        let x = MatRef::new(&x, rows, cols).expect("sizes fit");
        let (mut y, mut expected) = (vec![0.0; rows * cols], vec![0.0; rows * cols]);
        let mut group = c.benchmark_group(format!("elementwise/{rows}x{cols}"));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        for &activation in Activation::ALL {
            let name = activation.name();
            let to = MatMut::new(&mut expected, rows, cols).expect("sizes fit");
            reference::activation_forward(activation, x, to).expect("shapes fit");
            let ours = |y: &mut [f32]| {
                let y = MatMut::new(y, rows, cols).expect("sizes fit");
                activation::forward(&backend, activation, x, y).expect("shapes fit");
            };
            ours(&mut y);
            assert!(backend.isa() == Isa::Portable || y == expected, "{name} gives another answer");
            group.bench_function(name, |b| iter_in_pool(b, || ours(&mut y)));
        }
        group.finish();
    }
}

fn benches(c: &mut Criterion) {
    let backend = Backend::new().expect("DENSELY_ISA names an instruction set of this processor");
    for [batch, classes] in SHAPES {
        let name = format!("{batch}x{classes}");
        let (x, labels) = (random_values(1, batch * classes), random_labels::<u32>(2, batch, classes));
        let x = MatRef::new(&x, batch, classes).expect("sizes fit");
        let (mut y, mut expected) = (vec![0.0; batch * classes], vec![0.0; batch * classes]);

        let mut group = c.benchmark_group("loss/log_softmax");
        group.throughput(Throughput::Elements((batch * classes) as u64));
        let ours = |y: &mut [f32]| {
            let y = MatMut::new(y, batch, classes).expect("sizes fit");
            activation::log_softmax(&backend, x, y).expect("shapes fit");
        };
        let scalar = |y: &mut [f32]| {
            reference::log_softmax(x, MatMut::new(y, batch, classes).expect("sizes fit")).expect("shapes fit");
        };
        ours(&mut y);
        scalar(&mut expected);
        assert!(backend.isa() == Isa::Portable || y == expected, "log_softmax gives another answer");
        group.bench_function(format!("{name}/densely"), |b| iter_in_pool(b, || ours(&mut y)));
        group.bench_function(format!("{name}/scalar"), |b| b.iter(|| scalar(&mut expected)));
        group.finish();

        let mut group = c.benchmark_group("loss/cross_entropy");
        group.throughput(Throughput::Elements((batch * classes) as u64));
        let ours = |dx: &mut [f32]| {
            let dx = MatMut::new(dx, batch, classes).expect("sizes fit");
            loss::cross_entropy(&backend, x, &labels, dx).expect("shapes fit")
        };
        let scalar = |dx: &mut [f32]| {
            let dx = MatMut::new(dx, batch, classes).expect("sizes fit");
            reference::cross_entropy(&CrossEntropy::new(), x, &labels, None, Some(dx)).expect("shapes fit")
        };
        let same_loss = ours(&mut y) == scalar(&mut expected);
        assert!(backend.isa() == Isa::Portable || (same_loss && y == expected), "cross_entropy gives another answer");
        group.bench_function(format!("{name}/densely"), |b| {
            iter_in_pool(b, || {
                black_box(ours(&mut y));
            })
        });
        group.bench_function(format!("{name}/scalar"), |b| b.iter(|| scalar(&mut expected)));
        group.finish();
    }
}

criterion_group!(loss_benches, benches, elementwise);
criterion_main!(loss_benches);
