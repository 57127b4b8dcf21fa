//! `dense/<forward_relu|backward_input|backward_params>/<batch>x<inputs>x<outputs>/<densely|matrixmultiply>`
//! in FLOP/s, each inside the rayon pool and doing the whole of a layer's work: product, bias and
//! ReLU; product; product and bias gradient. Every answer is checked first.

mod common;

use common::data::{assert_close, random};
use common::iter_in_pool;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use densely::{Activation, Backend, MatMut, MatRef, dense};

/// (batch, inputs, outputs) of the bars in the record.
const SHAPES: [[usize; 3]; 8] = [
    [1, 784, 128],
    [32, 784, 128],
    [128, 784, 128],
    [128, 128, 10],
    [64, 2352, 512],
    [256, 1024, 1024],
    [1024, 1024, 4096],
    [4096, 784, 128],
];

/// A row-major operand for `matrixmultiply`, or with `t` its transpose: data and strides.
struct Operand<'a>(&'a [f32], isize, isize);

impl<'a> Operand<'a> {
    fn new(data: &'a [f32], cols: usize) -> Self {
        Self(data, cols as isize, 1)
    }

    fn t(self) -> Self {
        Self(self.0, self.2, self.1)
    }
}

/// c = a b + beta c by `matrixmultiply`, row-major c.
fn sgemm([m, k, n]: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]) {
    assert!(a.0.len() == m * k && b.0.len() == k * n && c.len() == m * n);
    // SAFETY: the operands have the sizes that are passed on, as just checked.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.0.as_ptr(),
            a.1,
            a.2,
            b.0.as_ptr(),
            b.1,
            b.2,
            beta,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

/// Times two ways of filling `out`, after checking that they agree.
fn compare(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    len: usize,
    mut ours: impl FnMut(&mut [f32]) + Send,
    mut peer: impl FnMut(&mut [f32]) + Send,
) {
    let (mut found, mut expected) = (vec![0.0; len], vec![0.0; len]);
    ours(&mut found);
    peer(&mut expected);
    assert_close(name, &found, &expected);
    group.bench_function(format!("{name}/densely"), |b| iter_in_pool(b, || ours(&mut found)));
    group.bench_function(format!("{name}/matrixmultiply"), |b| iter_in_pool(b, || peer(&mut expected)));
}

fn benches(c: &mut Criterion) {
    let backend = Backend::new().expect("DENSELY_ISA names an instruction set of this processor");
    for [batch, inputs, outputs] in SHAPES {
        let name = format!("{batch}x{inputs}x{outputs}");
        let (x, w, bias) = (random(batch * inputs), random(inputs * outputs), random(outputs));
        let dy = random(batch * outputs);
        let view = |data, rows, cols| MatRef::new(data, rows, cols).expect("sizes fit");
        let (x_view, w_view, dy_view) = (view(&x, batch, inputs), view(&w, inputs, outputs), view(&dy, batch, outputs));
        let flops = Throughput::Elements((2 * batch * inputs * outputs) as u64);

        let mut group = c.benchmark_group("dense/forward_relu");
        group.throughput(flops.clone());
        let ours = |y: &mut [f32]| {
            let y = MatMut::new(y, batch, outputs).expect("sizes fit");
            dense::forward(&backend, x_view, w_view, Some(&bias), Activation::Relu, y).expect("shapes fit");
        };
        let peer = |y: &mut [f32]| {
            y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(&bias));
            sgemm([batch, inputs, outputs], Operand::new(&x, inputs), Operand::new(&w, outputs), 1.0, y);
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        };
        compare(&mut group, &name, batch * outputs, ours, peer);
        group.finish();

        let mut group = c.benchmark_group("dense/backward_input");
        group.throughput(flops.clone());
        let ours = |dx: &mut [f32]| {
            let dx = MatMut::new(dx, batch, inputs).expect("sizes fit");
            dense::backward_input(&backend, dy_view, w_view, None, dx).expect("shapes fit");
        };
        let peer = |dx: &mut [f32]| {
            sgemm([batch, outputs, inputs], Operand::new(&dy, outputs), Operand::new(&w, outputs).t(), 0.0, dx);
        };
        compare(&mut group, &name, batch * inputs, ours, peer);
        group.finish();

        let mut group = c.benchmark_group("dense/backward_params");
        group.throughput(flops);
        let ours = |d: &mut [f32]| {
            let (dw, db) = d.split_at_mut(inputs * outputs);
            let dw = MatMut::new(dw, inputs, outputs).expect("sizes fit");
            dense::backward_params(&backend, x_view, dy_view, dw, Some(db)).expect("shapes fit");
        };
        let peer = |d: &mut [f32]| {
            let (dw, db) = d.split_at_mut(inputs * outputs);
            sgemm([inputs, batch, outputs], Operand::new(&x, inputs).t(), Operand::new(&dy, outputs), 0.0, dw);
            db.fill(0.0);
            for row in dy.chunks_exact(outputs) {
                db.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
            }
        };
        compare(&mut group, &name, (inputs + 1) * outputs, ours, peer);
        group.finish();
    }
}

criterion_group!(dense_benches, benches);
criterion_main!(dense_benches);
