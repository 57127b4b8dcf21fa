//! `dense/<forward_relu|backward_input|backward_params>/<batch>x<inputs>x<outputs>/<densely|gemm|matrixmultiply>`
//! in FLOP/s, inside the rayon pool and on all of its threads (`RAYON_NUM_THREADS`); the same on one thread
//! under `dense_1_thread`. `peak/fma` of each is the limit: fused multiply-adds and nothing else, on as many threads.
//!
//! Everyone does the whole of a layer's work: product, bias and ReLU; product; product and bias gradient.
//! Everyone gives the same answer, or nothing is measured.
//!
//! matrixmultiply has one number of threads for the whole of a process, here the pool's, so it is
//! missing under `dense_1_thread`: with `RAYON_NUM_THREADS=1` the first group is that comparison.

mod common;

use std::time::{Duration, Instant};

use common::data::{assert_close, random};
use common::iter_in_pool;
use common::peak::Peak;
use common::sgemm::{Operand, Product};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::{Activation, Backend, MatMut, MatRef, Threads, dense};
use rayon::prelude::*;

/// (batch, inputs, outputs), as in `benches/peers`.
const SHAPES: [[usize; 3]; 13] = [
    [1, 784, 128],
    [8, 784, 128],
    [32, 784, 128],
    [128, 784, 128],
    [128, 128, 10],
    [64, 2352, 512],
    [256, 1024, 1024],
    [1024, 1024, 4096],
    [4096, 784, 128],
    [1, 4096, 4096],
    [17, 301, 77],
    [33, 785, 127],
    [50, 3072, 100],
];

/// What a layer's calls read.
struct Layer {
    shape: [usize; 3],
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Layer {
    fn new(shape @ [batch, inputs, outputs]: [usize; 3]) -> Self {
        let (x, w, dy) = (random(batch * inputs), random(inputs * outputs), random(batch * outputs));
        Self { shape, x, w, bias: random(outputs), dy }
    }
}

/// Who does a layer's work.
trait Contestant: Sync {
    fn forward_relu(&self, layer: &Layer, y: &mut [f32]);
    fn backward_input(&self, layer: &Layer, dx: &mut [f32]);
    /// `d` holds dw, then db.
    fn backward_params(&self, layer: &Layer, d: &mut [f32]);
}

impl Contestant for Backend {
    fn forward_relu(&self, Layer { shape: [batch, inputs, outputs], x, w, bias, .. }: &Layer, y: &mut [f32]) {
        let y = MatMut::new(y, *batch, *outputs).expect("sizes fit");
        let (x, w) = (view(x, *batch, *inputs), view(w, *inputs, *outputs));
        dense::forward(self, x, w, Some(bias), Activation::Relu, y).expect("shapes fit");
    }

    fn backward_input(&self, Layer { shape: [batch, inputs, outputs], w, dy, .. }: &Layer, dx: &mut [f32]) {
        let dx = MatMut::new(dx, *batch, *inputs).expect("sizes fit");
        let (dy, w) = (view(dy, *batch, *outputs), view(w, *inputs, *outputs));
        dense::backward_input(self, dy, w, None, dx).expect("shapes fit");
    }

    fn backward_params(&self, Layer { shape: [batch, inputs, outputs], x, dy, .. }: &Layer, d: &mut [f32]) {
        let (dw, db) = d.split_at_mut(inputs * outputs);
        let dw = MatMut::new(dw, *inputs, *outputs).expect("sizes fit");
        let (x, dy) = (view(x, *batch, *inputs), view(dy, *batch, *outputs));
        dense::backward_params(self, x, dy, dw, Some(db)).expect("shapes fit");
    }
}

fn view(data: &[f32], rows: usize, cols: usize) -> MatRef<'_> {
    MatRef::new(data, rows, cols).expect("sizes fit")
}

/// A product on so many threads, and plain loops around it.
struct Peer(Product, usize);

impl Contestant for Peer {
    fn forward_relu(&self, Layer { shape, x, w, bias, .. }: &Layer, y: &mut [f32]) {
        let &Self(product, threads) = self;
        let [_, inputs, outputs] = *shape;
        let size = y.len();
        in_parts(threads, size, y, outputs, |_, y| {
            y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
        product.sgemm(threads, *shape, Operand::new(x, inputs), Operand::new(w, outputs), 1.0, y);
        in_parts(threads, size, y, outputs, |_, y| y.iter_mut().for_each(|y| *y = y.max(0.0)));
    }

    fn backward_input(&self, &Layer { shape: [batch, inputs, outputs], ref w, ref dy, .. }: &Layer, dx: &mut [f32]) {
        let (dy, w) = (Operand::new(dy, outputs), Operand::new(w, outputs));
        self.0.sgemm(self.1, [batch, outputs, inputs], dy, w.t(), 0.0, dx);
    }

    fn backward_params(&self, &Layer { shape: [batch, inputs, outputs], ref x, ref dy, .. }: &Layer, d: &mut [f32]) {
        let &Self(product, threads) = self;
        let (dw, db) = d.split_at_mut(inputs * outputs);
        let x = Operand::new(x, inputs);
        product.sgemm(threads, [inputs, batch, outputs], x.t(), Operand::new(dy, outputs), 0.0, dw);
        in_parts(threads, dy.len(), db, 1, |first, db| {
            db.fill(0.0);
            for row in dy.chunks_exact(outputs) {
                db.iter_mut().zip(&row[first..]).for_each(|(sum, dy)| *sum += dy);
            }
        });
    }
}

/// Works on `out`, in one part a thread where work on so many elements pays for that. A part begins
/// at a multiple of `unit`.
fn in_parts(threads: usize, elements: usize, out: &mut [f32], unit: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if threads == 1 || elements < 1 << 17 {
        return work(0, out);
    }
    let part = (out.len() / unit).div_ceil(threads) * unit;
    out.par_chunks_mut(part).enumerate().for_each(|(i, out)| work(i * part, out));
}

type Work = fn(&dyn Contestant, &Layer, &mut [f32]);
/// How much is written.
type Len = fn([usize; 3]) -> usize;

const OPERATIONS: [(&str, Work, Len); 3] = [
    ("forward_relu", |who, layer, y| who.forward_relu(layer, y), |[batch, _, outputs]| batch * outputs),
    ("backward_input", |who, layer, dx| who.backward_input(layer, dx), |[batch, inputs, _]| batch * inputs),
    ("backward_params", |who, layer, d| who.backward_params(layer, d), |[_, inputs, outputs]| (inputs + 1) * outputs),
];

/// All shapes and operations by all contestants, beside the peak of so many threads.
fn compare(c: &mut Criterion, name: &str, threads: usize, contestants: &[(&str, &dyn Contestant)]) {
    let peak = Peak::detect();
    let mut group = c.benchmark_group(format!("{name}/peak"));
    group.throughput(Throughput::Elements((threads * peak.flops()) as u64));
    group.bench_function("fma", |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            match threads {
                1 => (0..times).for_each(|_| peak.run()),
                _ => drop(rayon::broadcast(|_| (0..times).for_each(|_| peak.run()))),
            }
            start.elapsed()
        });
    });
    group.finish();
    for shape @ [batch, inputs, outputs] in SHAPES {
        let layer = Layer::new(shape);
        for (operation, work, len) in OPERATIONS {
            let mut group = c.benchmark_group(format!("{name}/{operation}"));
            group.throughput(Throughput::Elements((2 * batch * inputs * outputs) as u64));
            let (mut first, mut out) = (vec![0.0; len(shape)], vec![0.0; len(shape)]);
            work(contestants[0].1, &layer, &mut first);
            for &(who, contestant) in contestants {
                let id = format!("{batch}x{inputs}x{outputs}/{who}");
                out.fill(f32::NAN);
                work(contestant, &layer, &mut out);
                assert_close(&format!("{name}/{operation}/{id}"), &out, &first);
                group.bench_function(id, |b| iter_in_pool(b, || work(contestant, &layer, &mut out)));
            }
            group.finish();
        }
    }
}

fn benches(c: &mut Criterion) {
    let backend = Backend::new().expect("DENSELY_ISA names an instruction set of this processor");
    let threads = rayon::current_num_threads();
    Product::set_matrixmultiply_threads(threads);
    let (gemm, matrixmultiply) = (Peer(Product::Gemm, threads), Peer(Product::Matrixmultiply, threads));
    let all: [(&str, &dyn Contestant); 3] =
        [("densely", &backend), ("gemm", &gemm), ("matrixmultiply", &matrixmultiply)];
    compare(c, "dense", threads, &all);
    let (backend, gemm) = (backend.with_threads(Threads::One), Peer(Product::Gemm, 1));
    compare(c, "dense_1_thread", 1, &[("densely", &backend), ("gemm", &gemm)]);
}

criterion_group! {
    name = dense_benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = benches
}
criterion_main!(dense_benches);
