//! Compares bits on any number of threads, inside and outside of rayon pools.

use std::sync::LazyLock;

use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads, activation, dense, loss};
use densely_testkit::bits::canonical;
use densely_testkit::operations::{Written, run_all};
use densely_testkit::{
    EMULATED, Layout, Matrix, Values, exact_backends, exactly, first_if_emulated, serial_backends, within_a_minute,
};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// What an instruction set writes on the calling thread alone.
struct Serial {
    backend: Backend,
    written: Vec<Written>,
}

static SERIAL: LazyLock<Vec<Serial>> = LazyLock::new(|| {
    let serial = serial_backends().into_iter().map(|backend| Serial { written: run_all(&backend), backend });
    serial.collect()
});

impl Serial {
    /// Asserts that other threads write the same; `place` says where.
    fn assert_same(&self, threads: Threads, place: &str) {
        for (found, expected) in run_all(&self.backend.with_threads(threads)).iter().zip(&self.written) {
            // Not assert_eq, which would print a million bits.
            let same = found.bits == expected.bits;
            assert!(same, "{} on {} with {threads:?} {place}", found.name, self.backend.isa());
        }
    }
}

fn assert_all_same(threads: Threads, place: &str) {
    SERIAL.iter().for_each(|serial| serial.assert_same(threads, place));
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn instruction_sets_give_the_same_bits() {
    let exact: Vec<_> = SERIAL.iter().filter(|serial| serial.backend.isa() != Isa::Portable).collect();
    for pair in exact.windows(2) {
        for [one, other] in pair[0].written.iter().zip(&pair[1].written).map(<[_; 2]>::from) {
            let isas = [pair[0], pair[1]].map(|serial| serial.backend.isa());
            assert!(one.bits == other.bits, "{} on {isas:?}", one.name);
        }
    }
}

#[test]
fn bits_are_the_same_inside_a_pool() {
    for &threads in first_if_emulated(&[3, 1, 2, 7], 1) {
        pool(threads).install(|| assert_all_same(Threads::Auto, &format!("in a pool of {threads}")));
    }
}

#[test]
fn bits_are_the_same_for_any_parts_and_pool_size() {
    for threads in [1, 2, 3, 7] {
        let serial = &SERIAL[threads % SERIAL.len()];
        pool(threads).install(|| serial.assert_same(exactly(9 - threads), &format!("in a pool of {threads}")));
    }
}

#[test]
fn bits_are_the_same_outside_a_pool() {
    for threads in [Threads::Auto, exactly(1), exactly(2), exactly(3), exactly(7)] {
        assert_all_same(threads, "outside of a pool");
    }
}

#[test]
fn bits_are_the_same_nested_in_a_parallel_iterator() {
    let calls = [Threads::Auto, Threads::One, exactly(2), exactly(7)].into_par_iter().enumerate();
    pool(3).install(|| {
        calls.for_each(|(call, threads)| SERIAL[call % SERIAL.len()].assert_same(threads, "in par_iter"));
    });
}

#[test]
fn bits_are_the_same_for_eight_concurrent_callers() {
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let threads = if caller % 2 == 0 { Threads::Auto } else { exactly(caller) };
            let serial = &SERIAL[caller % SERIAL.len()];
            scope.spawn(move || serial.assert_same(threads, "from eight threads at once"));
        }
    });
}

/// The bits of a layer, log-softmax and cross-entropy: calls of a few microseconds.
fn small_calls(backend: &Backend, [x, w]: &[Matrix; 2], labels: &[u8], bits: &mut Vec<u32>) {
    let (rows, cols) = (x.shape()[0], w.shape()[1]);
    let [mut y, mut z] = [[0.0; 16 * 24]; 2];
    let to = MatMut::new(&mut y, rows, cols).unwrap();
    dense::forward(backend, x.view(), w.view(), None, Activation::Relu, to).unwrap();
    let logits = MatRef::new(&y, rows, cols).unwrap();
    activation::log_softmax(backend, logits, MatMut::new(&mut z, rows, cols).unwrap()).unwrap();
    bits.clear();
    bits.extend(z.iter().copied().map(canonical));
    let loss = loss::cross_entropy(backend, logits, labels, MatMut::new(&mut z, rows, cols).unwrap()).unwrap();
    bits.extend(z.iter().chain([&loss]).copied().map(canonical));
}

#[test]
fn bits_are_the_same_for_64_callers_of_10000_calls_each() {
    let matrix = |shape, seed| Matrix::random(shape, Layout::RowMajor, Values::Normal, seed);
    let operands = [matrix([16, 40], 1), matrix([40, 24], 2)];
    let labels: Vec<u8> = (0..16).collect();
    let serial = |backend: Backend| {
        let mut bits = Vec::new();
        small_calls(&backend.with_threads(Threads::One), &operands, &labels, &mut bits);
        (backend, bits)
    };
    let serial: Vec<(Backend, Vec<u32>)> = exact_backends().into_iter().map(serial).collect();
    let rounds = if EMULATED { 30 } else { 10_000 / 3 + 1 }; // of three calls
    within_a_minute("64 callers", || {
        std::thread::scope(|scope| {
            for caller in 0..64 {
                let (operands, labels) = (&operands, &labels);
                let threads = [Threads::Auto, exactly(2), Threads::One, exactly(3)][caller % 4];
                let (backend, expected) = &serial[caller / 4 % serial.len()];
                scope.spawn(move || {
                    let (backend, mut bits) = (backend.with_threads(threads), Vec::new());
                    for _ in 0..rounds {
                        small_calls(&backend, operands, labels, &mut bits);
                        assert!(bits == *expected, "{backend:?} among 64 callers");
                    }
                });
            }
        });
    });
}
