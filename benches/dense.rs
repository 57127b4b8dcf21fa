//! `dense/OPERATION/<batch>x<inputs>x<outputs>/<densely|gemm|matrixmultiply>`
//! in FLOP/s, inside the rayon pool and on all of its threads (`RAYON_NUM_THREADS`); the same on one thread
//! under `dense_1_thread`. `peak/fma` of each is the limit on as many threads, fused multiply-adds and
//! nothing else; `peak/read`, in bytes/s, is that of layers which do not fit into caches.
//!
//! Everyone gives the same answer, or nothing is measured.
//!
//! matrixmultiply has one number of threads for the whole of a process, here the pool's, so it is
//! missing under `dense_1_thread`: with `RAYON_NUM_THREADS=1` the first group is that comparison.

mod common;

use std::time::Duration;

use common::iter_in_pool;
use common::layer::{Contestant, Layer, Operation, Peer, SHAPES};
use common::peak::Limits;
use common::sgemm::{Gemm, Matrixmultiply};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densely::{Backend, Isa, Threads};
use densely_testkit::{Tolerance, assert_close};

const OPERATIONS: [Operation; 3] = [Operation::ForwardRelu, Operation::BackwardInput, Operation::BackwardParams];

/// The limits of so many threads. They are measured as rates, of which an iteration is a billion.
fn limits(c: &mut Criterion, name: &str, isa: Isa, threads: usize) {
    const BILLION: u64 = 1_000_000_000;
    let limits = Limits::new(isa, threads);
    let time = |times, rate| Duration::from_secs_f64((times * BILLION) as f64 / rate);
    let mut group = c.benchmark_group(format!("{name}/peak"));
    group.throughput(Throughput::Elements(BILLION));
    group.bench_function("fma", |b| b.iter_custom(|times| time(times, limits.fma())));
    group.throughput(Throughput::BytesDecimal(BILLION));
    group.bench_function("read", |b| b.iter_custom(|times| time(times, limits.read())));
    group.finish();
}

/// All shapes and operations by all contestants.
fn compare(c: &mut Criterion, name: &str, contestants: &[(&str, &dyn Contestant)]) {
    for shape @ [batch, inputs, outputs] in SHAPES {
        let layer = Layer::new(shape);
        for operation in OPERATIONS {
            let mut group = c.benchmark_group(format!("{name}/{}", operation.name()));
            group.throughput(Throughput::Elements((2 * batch * inputs * outputs) as u64));
            let len = operation.len(shape);
            let (mut first, mut out) = (vec![0.0; len], vec![0.0; len]);
            contestants[0].1.work(operation, &layer, &mut first);
            for &(who, contestant) in contestants {
                let id = format!("{batch}x{inputs}x{outputs}/{who}");
                out.fill(f32::NAN);
                contestant.work(operation, &layer, &mut out);
                assert_close(&out, &first, Tolerance::REORDERED, &format!("{name}/{}/{id}", operation.name()));
                group.bench_function(id, |b| iter_in_pool(b, || contestant.work(operation, &layer, &mut out)));
            }
            group.finish();
        }
    }
}

fn benches(c: &mut Criterion) {
    let backend = Backend::new().expect("DENSELY_ISA names an instruction set of this processor");
    let threads = rayon::current_num_threads();
    limits(c, "dense", backend.isa(), threads);
    let (gemm, matrixmultiply) = (Peer(Gemm(threads)), Peer(Matrixmultiply::new(threads)));
    compare(c, "dense", &[("densely", &backend), ("gemm", &gemm), ("matrixmultiply", &matrixmultiply)]);
    limits(c, "dense_1_thread", backend.isa(), 1);
    compare(c, "dense_1_thread", &[("densely", &backend.with_threads(Threads::One)), ("gemm", &Peer(Gemm(1)))]);
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
